/* The options: one row each. */
#ifndef VMM_OPTION_TABLE_H
#define VMM_OPTION_TABLE_H

#include "vmm/options.h"

struct option_row {
    const char *name;
    const char *arg; /* NULL: takes none; else as shown by -help */
    int (*take)(struct options *o, const char *arg, struct err *err);
    const char *help; /* NULL: not listed */
};

extern const struct option_row option_rows[]; /* ends with a NULL name */

void options_print_help(const char *program);
void options_print_version(void);

#endif
