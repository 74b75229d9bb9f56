/* Inside of character devices. */
#ifndef CHARDEV_INTERNAL_H
#define CHARDEV_INTERNAL_H

#include "chardev/chardev.h"

#define CHARDEV_USERS 4 /* of one host side */

struct chardev_port;

/* One user behind the keys. What is typed is taken at once and handed on as there is room: much
 * more than a person types while a guest hangs, so that Ctrl-A x is always read. */
struct chardev_keys_user {
    const struct chardev_user *user;
    void *opaque;
    uint8_t held[2048];
    size_t count;
};

struct chardev_keys {
    struct chardev_keys_user users[CHARDEV_USERS]; /* the first: of the host side's own struct */
    unsigned count, focus;
    bool escape; /* the last byte was Ctrl-A */
    void (*quit)(void *);
    void *quit_opaque;
};

void chardev_keys_attach(struct chardev *c, unsigned n, const struct chardev_user *user,
                         void *opaque);
void chardev_keys_flush(struct chardev *c, unsigned n);

/* A user has room again; the loop's thread. */
void chardev_rx_again(void *chardev);

/* Reads from a host descriptor into the user while there is room; false at the end of file. */
bool chardev_pump(struct chardev *c, int fd);
/* write() that takes what the descriptor takes now; -1 on an error. */
long chardev_put(int fd, const uint8_t *buf, size_t len);

/* Shared by back ends on one descriptor that is read and written. */
struct fd_chardev {
    struct chardev c;
    int in, out;
    bool own;       /* close them */
    bool datagrams; /* an empty one is no end */
    bool ended;
};

void chardev_fd_set_rx(struct chardev *c, bool on);
size_t chardev_fd_write(struct chardev *c, const uint8_t *buf, size_t len);
void chardev_fd_close(struct chardev *c);

#endif
