/* The thread that does the I/O of all disks. */
#ifndef VMM_DRIVE_THREAD_H
#define VMM_DRIVE_THREAD_H

struct block_graph;
struct drive_thread;
struct err;
struct machine;

struct drive_thread *drive_thread_new(struct machine *m, struct err *err);
struct block_graph *drive_thread_graph(struct drive_thread *t);
int drive_thread_start(struct drive_thread *t, struct machine *m, struct err *err);

#endif
