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

/* option_boot.c */
int option_hda(struct options *o, const char *arg, struct err *err);
int option_hdb(struct options *o, const char *arg, struct err *err);
int option_hdc(struct options *o, const char *arg, struct err *err);
int option_hdd(struct options *o, const char *arg, struct err *err);
int option_fda(struct options *o, const char *arg, struct err *err);
int option_fdb(struct options *o, const char *arg, struct err *err);
int option_no_hpet(struct options *o, const char *arg, struct err *err);
int option_cdrom(struct options *o, const char *arg, struct err *err);
int option_pflash(struct options *o, const char *arg, struct err *err);
int option_fw_cfg(struct options *o, const char *arg, struct err *err);
int option_debugcon(struct options *o, const char *arg, struct err *err);
int option_no_acpi(struct options *o, const char *arg, struct err *err);
int option_boot(struct options *o, const char *arg, struct err *err);

/* option_global.c */
int option_global(struct options *o, const char *arg, struct err *err);
void options_warn_globals(const struct options *o); /* of names that nothing has */

/* option_action.c */
int option_watchdog_action(struct options *o, const char *arg, struct err *err);
int option_action(struct options *o, const char *arg, struct err *err);

/* option_cpus.c */
int option_smp(struct options *o, const char *arg, struct err *err);
int option_numa(struct options *o, const char *arg, struct err *err);
bool option_is_memory(const char *arg); /* of -object */
int option_memory_object(struct options *o, const char *arg, struct err *err);
int options_finish_cpus(struct options *o, struct err *err); /* board and memory are known */
void options_free_cpus(struct options *o);

/* option_monitor.c */
int option_monitor(struct options *o, const char *arg, struct err *err);
int option_mon(struct options *o, const char *arg, struct err *err);
int option_parallel(struct options *o, const char *arg, struct err *err);

/* Parses `arg` and adds it; `first_key` as in keyval_parse(). */
int option_list_push(struct option_list *list, const char *arg, const char *first_key,
                     const char *what, struct err *err);

/* Why a published option is not supported; NULL: it is, or it is none (option_absent.c). */
const char *option_absent(const char *name);

#endif
