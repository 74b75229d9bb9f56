/* Texts of -help and -version. */
#include <stdio.h>
#include <string.h>

#include "vmm/option_table.h"

void options_print_version(void)
{
    printf("Lodge machine emulator version %s (options compatible with QEMU)\n", LODGE_VERSION);
}

void options_print_help(const char *program)
{
    const char *slash = strrchr(program, '/');
    printf("Usage: %s [options] -kernel FILE\n\n", slash ? slash + 1 : program);
    printf("Options may begin with one or two dashes. Lists are 'a,key=value,...'; a comma inside\n"
           "a value is written twice. 'help' as a value lists what is possible.\n\n");
    for (const struct option_row *r = option_rows; r->name; r++) {
        if (!r->help) {
            continue;
        }
        printf("-%s%s%s\n", r->name, r->arg ? " " : "", r->arg ? r->arg : "");
        printf("        %s\n", r->help);
    }
    printf(
        "\nKeys with -nographic or -serial mon:stdio: Ctrl-A x quits, Ctrl-A h lists the keys.\n");
}
