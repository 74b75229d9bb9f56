/* -drive, -blockdev: images opened as backends. */
#ifndef VMM_DRIVES_H
#define VMM_DRIVES_H

#include "vmm/options.h"

struct block_graph;

/* Also starts the thread that does their I/O, if there are any. */
int drives_add(struct machine *m, const struct options *o, struct err *err);

/* For media that come later, on the loop's thread: the images' graph, made if there is none, and
 * what is closed when the machine is freed. */
struct block_graph *drives_graph(struct machine *m, struct err *err);
void drives_keep(struct machine *m, void *block);

#endif
