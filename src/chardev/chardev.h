/*
 * Character devices: byte streams between a device model (the user) and something on the host.
 * Host side callbacks run on the loop's thread without a lock held; chardev_write() may be
 * called from any thread, also with the user's lock held, and never calls back.
 */
#ifndef CHARDEV_CHARDEV_H
#define CHARDEV_CHARDEV_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct chardev;
struct chardev_keys;
struct err;
struct keyval;
struct loop;

enum chardev_event {
    CHARDEV_OPENED,
    CHARDEV_CLOSED,
    CHARDEV_BREAK,
    CHARDEV_FOCUS, /* of several users, this one now gets what is typed */
    CHARDEV_UNFOCUS,
};

/* The device's side. Any member may be NULL. */
struct chardev_user {
    size_t (*room)(void *opaque); /* how many bytes rx() may be given now */
    void (*rx)(void *opaque, const uint8_t *buf, size_t len);
    void (*writable)(void *opaque); /* after a write that took less than asked */
    void (*event)(void *opaque, enum chardev_event event);
};

struct chardev_type {
    const char *name, *summary;
    size_t size;
    int (*open)(struct chardev *, const struct keyval *args, struct err *);
    /* How many bytes were taken, 0 to len; less than len: later, writable() follows. */
    size_t (*write)(struct chardev *, const uint8_t *buf, size_t len);
    void (*set_rx)(struct chardev *, bool on); /* whether to read the host side */
    void (*close)(struct chardev *);
};

struct chardev {
    const struct chardev_type *type;
    char *id;
    char *filename; /* as shown: "unix:/path,server=on"; NULL: the type's name */
    struct loop *loop;
    const struct chardev_user *user;
    void *user_opaque;
    bool rx_on;
    bool closed;               /* nobody is at the host side; loop thread */
    struct chardev_keys *keys; /* between host side and users, or NULL */
    int log_fd;                /* logfile=: a copy of what is written; -1: none */
};

/* `args` has "backend" (the type) and its options; NULL with a sentence. */
struct chardev *chardev_new(struct loop *loop, const struct keyval *args, struct err *err);
/* "stdio", "file:PATH", "null", "pty", "unix:PATH,server=on", "tcp:HOST:PORT": as in -serial. */
struct chardev *chardev_new_legacy(struct loop *loop, const char *spec, struct err *err);
void chardev_free(void *chardev);
void chardev_help(FILE *out);

void chardev_attach(struct chardev *c, const struct chardev_user *user, void *opaque);
size_t chardev_write(struct chardev *c, const uint8_t *buf, size_t len);
/* The user has room again. Any thread. */
void chardev_rx_ready(struct chardev *c);

/* For back ends: bytes and events from the host side, on the loop's thread. */
size_t chardev_room(struct chardev *c);
void chardev_rx(struct chardev *c, const uint8_t *buf, size_t len);
void chardev_tell(struct chardev *c, enum chardev_event event);
void chardev_can_write(struct chardev *c);

/*
 * Puts the Ctrl-A keys in front of the user: x quits, h help, b break, c to the next user. Further
 * users take ports: character devices of their own on the same host side, freed before it.
 * Everybody writes; what is typed goes to one of them, at first to the one that attached to `c`
 * itself.
 */
void chardev_add_mux(struct chardev *c, void (*quit)(void *), void *opaque);
bool chardev_is_mux(const struct chardev *c);
bool chardev_is_port(const struct chardev *c);
struct chardev *chardev_mux_port(struct chardev *c, struct err *err);

/* What a "ringbuf" holds, oldest first, at most `len` bytes, which it forgets; and more for it.
 * -ENOTSUP: it is of another kind. */
long chardev_ringbuf_read(struct chardev *c, uint8_t *buf, size_t len);
long chardev_ringbuf_write(struct chardev *c, const uint8_t *buf, size_t len);

extern const struct chardev_type chardev_null, chardev_vc, chardev_stdio, chardev_file,
    chardev_pipe, chardev_pty, chardev_socket, chardev_udp, chardev_ringbuf;

/* Puts the terminal back; safe in a signal handler and when nothing was changed. */
void chardev_restore_terminal(void);

#endif
