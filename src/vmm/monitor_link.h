/* The monitors that the options ask for, and what they need of the program. */
#ifndef VMM_MONITOR_LINK_H
#define VMM_MONITOR_LINK_H

#include <stdbool.h>

struct chardev;
struct err;
struct machine;
struct monitor_links;
struct options;
struct vnc;

/* What differs between programs: `gdb` changes the debugger's place ("none": ends it). */
struct monitor_hooks {
    int (*gdbserver)(void *opaque, const char *spec, struct err *err);
    void (*quit)(void *machine); /* Ctrl-A x */
    struct vnc *(*vnc)(void *opaque);
    void *opaque;
};

/* Devices exist. NULL with a sentence. */
struct monitor_links *monitor_links_new(struct machine *m, const struct options *o,
                                        const struct monitor_hooks *hooks, struct err *err);
void monitor_links_free(struct monitor_links *l);

#endif
