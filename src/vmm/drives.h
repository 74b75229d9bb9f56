/* -drive, -blockdev: images opened as backends. */
#ifndef VMM_DRIVES_H
#define VMM_DRIVES_H

#include "vmm/options.h"

/* Also starts the thread that does their I/O, if there are any. */
int drives_add(struct machine *m, const struct options *o, struct err *err);

#endif
