/*
 * The monitor for people: commands typed on a character device, by the names and in the shapes
 * published for QEMU. Everything runs on the machine's loop; what it cannot do with the machine's
 * own interfaces it asks of the program by a table.
 */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include <stdbool.h>

struct block_graph;
struct chardev;
struct err;
struct machine;
struct monitor;
struct vnc;

/* The program's side. NULL members: not there. */
struct monitor_control {
    const char *product, *version, *prompt;
    int (*gdbserver)(void *opaque, const char *spec, struct err *err); /* "none" ends it */
    /* The graph of the machine's images, made if there is none. */
    struct block_graph *(*graph)(void *opaque, struct err *err);
    /* `b` belongs to the machine from now on and is closed with it. */
    void (*keep_medium)(void *opaque, void *b);
    struct vnc *(*vnc)(void *opaque); /* the server, or NULL */
};

/* `own`: the character device is freed with it. Says hello. */
struct monitor *monitor_new(struct machine *m, struct chardev *c, bool own,
                            const struct monitor_control *control, void *opaque);
void monitor_free(struct monitor *mon); /* NULL is fine */

#endif
