/* -global: an option of every device of a name. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/keyval.h"
#include "board/boards.h"
#include "vmm/option_table.h"

/* "driver=D,property=P,value=V", or "D.P=V", in which only the value may have commas. */
int option_global(struct options *o, const char *arg, struct err *err)
{
    const char *dot = strchr(arg, '.'), *is = strchr(arg, '=');
    if (dot && is && dot < is) {
        char *text = alloc_printf("driver=%.*s,property=%.*s", (int)(dot - arg), arg,
                                  (int)(is - dot - 1), dot + 1);
        int ret = option_list_push(&o->globals, text, NULL, "-global", err);
        free(text);
        if (!ret) {
            keyval_add(&o->globals.items[o->globals.count - 1], "value", is + 1);
        }
        return ret;
    }
    int ret = option_list_push(&o->globals, arg, NULL, "-global", err);
    const struct keyval *kv = ret ? NULL : &o->globals.items[o->globals.count - 1];
    if (kv && (!keyval_get(kv, "driver") || !keyval_get(kv, "property") ||
               !keyval_get(kv, "value") || kv->count != 3)) {
        return err_set(err, EINVAL,
                       "-global: '%s' is neither NAME.OPTION=VALUE nor "
                       "driver=NAME,property=OPTION,value=VALUE",
                       arg);
    }
    return ret;
}

/* Chips of boards that -device does not make. What other accelerators have is no mistake, and has
 * no effect. */
static bool is_built_in(const char *name)
{
    static const char *const names[] = {"ICH9-LPC", "PIIX4_PM", "cfi.pflash01", "kvm-pit"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(names[i], name)) {
            return true;
        }
    }
    return false;
}

void options_warn_globals(const struct options *o)
{
    for (size_t i = 0; i < o->globals.count; i++) {
        const char *driver = keyval_get(&o->globals.items[i], "driver");
        if (!dev_type_find(driver) && !is_built_in(driver)) {
            fprintf(stderr, "%s: warning: -global: there is no device '%s'\n", o->program, driver);
        }
    }
}
