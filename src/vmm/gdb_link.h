/* -gdb: the stub on a character device. */
#ifndef VMM_GDB_LINK_H
#define VMM_GDB_LINK_H

struct err;
struct gdb_link;
struct machine;

/* "tcp:[HOST]:PORT", "unix:PATH", "stdio", "chardev:ID"; the vcpus exist. NULL with a sentence. */
struct gdb_link *gdb_link_new(struct machine *m, const char *spec, struct err *err);
void gdb_link_exited(struct gdb_link *l, int status); /* NULL is fine */
/* To another place; the debugger that was there is gone, and the machine goes on. "none": nowhere.
 */
int gdb_link_move(struct gdb_link *l, const char *spec, struct err *err);
void gdb_link_free(struct gdb_link *l);

#endif
