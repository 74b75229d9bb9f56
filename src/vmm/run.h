/* From options to a running machine, and what happens while it runs. */
#ifndef VMM_RUN_H
#define VMM_RUN_H

struct err;
struct options;

/* Returns the process's exit status, or -errno with a sentence. */
int run_machine(struct options *o, struct err *err);

#endif
