/* Inside of character devices. */
#ifndef CHARDEV_INTERNAL_H
#define CHARDEV_INTERNAL_H

#include "chardev/chardev.h"

/* The keys in front of a user: takes all input at once, hands it on as there is room. */
struct chardev_keys {
    const struct chardev_user *user;
    void *opaque;
    bool escape; /* the last byte was Ctrl-A */
    uint8_t held[4096];
    size_t count;
    void (*quit)(void *);
    void *quit_opaque;
};

void chardev_keys_flush(struct chardev *c);

/* Reads from a host descriptor into the user while there is room; false at the end of file. */
bool chardev_pump(struct chardev *c, int fd);
/* write() that takes what the descriptor takes now; -1 on an error. */
long chardev_put(int fd, const uint8_t *buf, size_t len);

#endif
