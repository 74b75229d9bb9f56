/*
 * The gdb stub: the "GDB Remote Serial Protocol" appendix of the gdb manual. Bytes in, bytes out;
 * what carries them is the caller's. Everything runs on the loop's thread.
 */
#ifndef GDB_GDB_H
#define GDB_GDB_H

#include <stddef.h>
#include <stdint.h>

struct gdb;
struct machine;

/* Sends all of it, or drops it when nobody is there. */
typedef void gdb_write_fn(void *opaque, const void *buf, size_t len);

/* The machine's vcpus exist and are parked. */
struct gdb *gdb_new(struct machine *m, gdb_write_fn *write, void *opaque);
void gdb_free(struct gdb *g); /* the vcpus are gone or parked for good */

void gdb_rx(struct gdb *g, const uint8_t *buf, size_t len); /* the first packet stops the machine */
void gdb_closed(struct gdb *g);                             /* the machine goes on */
void gdb_exited(struct gdb *g, int status);                 /* tells the debugger */

#endif
