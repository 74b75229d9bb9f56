/* Between vnc.c (viewer, threads), vnc_rfb.c (the library) and vnc_listen.c (sockets). */
#ifndef DISPLAY_VNC_INTERNAL_H
#define DISPLAY_VNC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "display/display.h"
#include "display/vnc.h"

enum { VNC_MAX_CLIENTS = 16, VNC_MAX_EVENTS = 256, VNC_MAX_LISTEN = 8, VNC_PASSWORD_MAX = 8 };

enum vnc_event_kind { VNC_KEY, VNC_POINTER, VNC_SIZE };

struct vnc_event {
    enum vnc_event_kind kind;
    unsigned code; /* key; buttons as enum input_button */
    bool down;
    unsigned x, y;          /* pointer */
    unsigned width, height; /* of the screen it points at; that the client has room for */
};

struct vnc_rfb;

struct vnc {
    struct display *display;
    struct loop *main, *loop; /* ours runs on `thread` */
    pthread_t thread;
    bool running;
    const struct keymap *keymap; /* or NULL */

    /* The main loop's. */
    struct viewer viewer;
    unsigned clients;
    const struct surface *surface;
    struct rect missed; /* changed while the thread was busy; width 0: none */
    bool missed_size;
    int listen_fd[VNC_MAX_LISTEN];
    unsigned listen_count;
    char *unix_path;
    unsigned held; /* buttons */
    int last_x, last_y;
    bool placed; /* last_x and last_y are there */

    pthread_mutex_t lock; /* of `rfb`: the thread has it while it works, also while it waits for a
                             client to take what it is sent */
    struct vnc_rfb *rfb;
    atomic_bool work_posted;
    atomic_bool copy_wanted; /* the main loop found the lock taken: the thread lets it in */
    pthread_cond_t copied;

    pthread_mutex_t events_lock; /* a leaf; also of the password, which is set while the thread may
                                    have `lock`, and of `copied` */
    struct vnc_event events[VNC_MAX_EVENTS];
    unsigned event_count;
    unsigned gone; /* clients that went */
    bool events_posted;
    int client_fd[VNC_MAX_CLIENTS]; /* to shut down at the end; -1: none */
};

/* For the thread: takes the lock, but what the picture has missed comes first. A client that asks
 * for the next picture as soon as it has one would otherwise keep the main loop out for ever. */
void vnc_lock(struct vnc *v);

/* ---- vnc_rfb.c: `v->lock` is held unless it says otherwise ---- */

int vnc_rfb_new(struct vnc *v, const char *name, const struct keyval *options, struct err *err);
void vnc_rfb_free(struct vnc *v);
bool vnc_rfb_resize(struct vnc *v, unsigned width, unsigned height);
void vnc_rfb_copy(struct vnc *v, const struct surface *s, const struct rect *r);
void vnc_rfb_connect(struct vnc *v, int fd); /* takes the socket */
void vnc_rfb_work(struct vnc *v);
bool vnc_rfb_asks_password(const struct vnc *v);
/* The events' lock is held. */
void vnc_rfb_password(struct vnc *v, const char *password);
void vnc_rfb_expire(struct vnc *v, int64_t when);

/* ---- vnc.c ---- */

/* Any thread. What does not fit is lost. */
void vnc_event(struct vnc *v, const struct vnc_event *e);
void vnc_client_gone(struct vnc *v, int fd);
/* The main loop: a connection. */
void vnc_accept(void *opaque, int fd, unsigned events);

/* ---- vnc_listen.c ---- */

int vnc_listen(struct vnc *v, const struct keyval *options, struct err *err);

#endif
