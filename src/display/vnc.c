/*
 * VNC: the server's two sides. The machine's loop has the listening sockets, the viewer and the
 * input; a thread with a loop of its own has the clients, because sending waits for who is slow: a
 * client that reads nothing holds up the other clients until the library gives up on it, but never
 * the machine. The picture is copied from one side to the other, when the lock is free; what
 * changes while it is not is copied later.
 *
 * Does not do: TLS and SASL, sound, clipboards, several screens.
 */
#include "display/vnc.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/keyval.h"
#include "display/vnc_internal.h"
#include "loop/loop.h"

enum { LET_IN_NS = 50000000 }; /* the longest that the thread waits for the main loop */

/* ---- The picture, on the machine's loop ---- */

static void thread_work(void *opaque)
{
    struct vnc *v = opaque;
    atomic_store(&v->work_posted, false);
    vnc_lock(v);
    vnc_rfb_work(v);
    pthread_mutex_unlock(&v->lock);
}

static void vnc_post_work(struct vnc *v)
{
    if (!atomic_exchange(&v->work_posted, true)) {
        loop_post(v->loop, thread_work, v);
    }
}

static void viewer_resized(struct viewer *viewer, const struct surface *s)
{
    struct vnc *v = container_of(viewer, struct vnc, viewer);
    v->surface = s;
    v->missed_size = true;
    v->missed = (struct rect){0, 0, s->width, s->height};
}

static void viewer_changed(struct viewer *viewer, const struct surface *s, const struct rect *r)
{
    struct vnc *v = container_of(viewer, struct vnc, viewer);
    v->surface = s;
    if (!v->missed.width && !pthread_mutex_trylock(&v->lock)) {
        vnc_rfb_copy(v, s, r);
        pthread_mutex_unlock(&v->lock);
        vnc_post_work(v);
        return;
    }
    rect_join(&v->missed, r);
}

/* The lock is held. */
static void copy_missed(struct vnc *v)
{
    const struct surface *s = v->surface;
    if (!v->missed_size || vnc_rfb_resize(v, s->width, s->height)) {
        vnc_rfb_copy(v, s, &v->missed);
        v->missed_size = false;
        v->missed.width = 0;
    }
}

static void viewer_refreshed(struct viewer *viewer)
{
    struct vnc *v = container_of(viewer, struct vnc, viewer);
    if (!v->surface || !v->missed.width) {
        return;
    }
    if (pthread_mutex_trylock(&v->lock)) {
        atomic_store(&v->copy_wanted, true);
        return;
    }
    copy_missed(v);
    pthread_mutex_unlock(&v->lock);
    vnc_post_work(v);
}

/* The thread waits for this, without the lock. */
static void let_in(void *opaque)
{
    struct vnc *v = opaque;
    if (pthread_mutex_trylock(&v->lock)) {
        return; /* it has waited long enough */
    }
    if (v->clients && v->surface && v->missed.width) {
        copy_missed(v);
    }
    pthread_mutex_unlock(&v->lock);
    AUTO_LOCK(&v->events_lock);
    atomic_store(&v->copy_wanted, false);
    pthread_cond_signal(&v->copied);
}

static void wait_for_copy(struct vnc *v)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LET_IN_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    loop_post(v->main, let_in, v);
    AUTO_LOCK(&v->events_lock);
    while (atomic_load(&v->copy_wanted) &&
           pthread_cond_timedwait(&v->copied, &v->events_lock, &until) != ETIMEDOUT) {
    }
}

void vnc_lock(struct vnc *v)
{
    if (atomic_load(&v->copy_wanted)) {
        wait_for_copy(v);
    }
    pthread_mutex_lock(&v->lock);
}

/* ---- Clients ---- */

struct vnc_hello {
    struct vnc *v;
    int fd;
};

static void thread_connect(void *opaque)
{
    struct vnc_hello *h = opaque;
    vnc_lock(h->v);
    vnc_rfb_connect(h->v, h->fd);
    pthread_mutex_unlock(&h->v->lock);
    free(h);
}

static bool remember_fd(struct vnc *v, int old, int new)
{
    AUTO_LOCK(&v->events_lock);
    for (unsigned i = 0; i < VNC_MAX_CLIENTS; i++) {
        if (v->client_fd[i] == old) {
            v->client_fd[i] = new;
            return true;
        }
    }
    return false;
}

void vnc_accept(void *opaque, int listen_fd, unsigned events)
{
    struct vnc *v = opaque;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if (v->clients >= VNC_MAX_CLIENTS || !remember_fd(v, -1, fd)) {
        close(fd);
        return;
    }
    if (!v->clients++) {
        display_add_viewer(v->display, &v->viewer); /* so that it finds the right size */
    }
    struct vnc_hello *h = alloc_zero(sizeof(*h));
    *h = (struct vnc_hello){v, fd};
    loop_post(v->loop, thread_connect, h);
}

/* ---- Input, on the machine's loop ---- */

/* A mouse that only knows steps is moved by what the pointer has moved. */
static void pointer_event(struct vnc *v, const struct vnc_event *e)
{
    if (input_wants_place(v->display)) {
        unsigned w = e->width > 1 ? e->width - 1 : 1, h = e->height > 1 ? e->height - 1 : 1;
        input_place(v->display, e->x * INPUT_ABS_MAX / w, e->y * INPUT_ABS_MAX / h);
    } else if (v->placed && ((int)e->x != v->last_x || (int)e->y != v->last_y)) {
        input_move(v->display, (int)e->x - v->last_x, (int)e->y - v->last_y);
    }
    v->last_x = (int)e->x;
    v->last_y = (int)e->y;
    v->placed = true;
    if (v->held != e->code) {
        v->held = e->code;
        input_buttons(v->display, e->code);
    }
}

static void clients_gone(struct vnc *v, unsigned n)
{
    v->clients -= n;
    if (n && !v->clients) {
        display_remove_viewer(v->display, &v->viewer);
        v->placed = false;
    }
}

static void take_events(void *opaque)
{
    struct vnc *v = opaque;
    struct vnc_event events[VNC_MAX_EVENTS];
    pthread_mutex_lock(&v->events_lock);
    unsigned n = v->event_count, gone = v->gone;
    memcpy(events, v->events, n * sizeof(*events));
    v->event_count = v->gone = 0;
    v->events_posted = false;
    pthread_mutex_unlock(&v->events_lock);
    for (unsigned i = 0; i < n; i++) {
        const struct vnc_event *e = &events[i];
        switch (e->kind) {
        case VNC_KEY: input_key(v->display, e->code, e->down); break;
        case VNC_POINTER: pointer_event(v, e); break;
        case VNC_SIZE: display_want_size(v->display, e->width, e->height); break;
        }
    }
    clients_gone(v, gone);
}

/* The events' lock is held. */
static void post_events(struct vnc *v)
{
    if (!v->events_posted) {
        v->events_posted = true;
        loop_post(v->main, take_events, v);
    }
}

void vnc_event(struct vnc *v, const struct vnc_event *e)
{
    AUTO_LOCK(&v->events_lock);
    struct vnc_event *last = v->event_count ? &v->events[v->event_count - 1] : NULL;
    if (last && e->kind == VNC_POINTER && last->kind == VNC_POINTER && last->code == e->code) {
        *last = *e; /* only where it is now counts */
    } else if (v->event_count < VNC_MAX_EVENTS) {
        v->events[v->event_count++] = *e;
    }
    post_events(v);
}

void vnc_client_gone(struct vnc *v, int fd)
{
    remember_fd(v, fd, -1);
    AUTO_LOCK(&v->events_lock);
    v->gone++;
    post_events(v);
}

/* ---- Life ---- */

static void *vnc_thread(void *opaque)
{
    struct vnc *v = opaque;
    loop_run(v->loop);
    return NULL;
}

static int vnc_start(struct vnc *v, const char *name, const struct keyval *options, struct err *err)
{
    v->loop = loop_new(err);
    int ret = v->loop ? vnc_rfb_new(v, name, options, err) : -ENOMEM;
    ret = ret ? ret : vnc_listen(v, options, err);
    if (ret) {
        return ret;
    }
    ret = -pthread_create(&v->thread, NULL, vnc_thread, v);
    v->running = !ret;
    return ret ? err_set(err, -ret, "-vnc: cannot make a thread: %s", strerror(-ret)) : 0;
}

struct vnc *vnc_new(struct display *d, struct loop *loop, const char *name,
                    const struct keymap *keymap, const struct keyval *options, struct err *err)
{
    struct vnc *v = alloc_zero(sizeof(*v));
    v->display = d;
    v->main = loop;
    v->keymap = keymap;
    v->viewer = (struct viewer){
        .resized = viewer_resized, .changed = viewer_changed, .refreshed = viewer_refreshed};
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->copied, NULL);
    pthread_mutex_init(&v->events_lock, NULL);
    for (unsigned i = 0; i < VNC_MAX_CLIENTS; i++) {
        v->client_fd[i] = -1;
    }
    if (vnc_start(v, name, options, err)) {
        vnc_free(v);
        return NULL;
    }
    return v;
}

/* Whoever the thread waits for is cut off first; over UNIX sockets it notices after some time. */
static void vnc_stop(struct vnc *v)
{
    pthread_mutex_lock(&v->events_lock);
    for (unsigned i = 0; i < VNC_MAX_CLIENTS; i++) {
        if (v->client_fd[i] >= 0) {
            shutdown(v->client_fd[i], SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&v->events_lock);
    loop_stop(v->loop);
    pthread_join(v->thread, NULL);
}

void vnc_leave(struct vnc *v)
{
    if (v && v->unix_path) {
        unlink(v->unix_path);
    }
}

void vnc_free(struct vnc *v)
{
    if (!v) {
        return;
    }
    for (unsigned i = 0; i < v->listen_count; i++) {
        loop_unwatch(v->main, v->listen_fd[i]);
        close(v->listen_fd[i]);
    }
    vnc_leave(v);
    free(v->unix_path);
    if (v->clients) {
        display_remove_viewer(v->display, &v->viewer);
    }
    if (v->running) {
        vnc_stop(v);
    }
    vnc_rfb_free(v);
    loop_free(v->loop);
    pthread_cond_destroy(&v->copied);
    pthread_mutex_destroy(&v->lock);
    pthread_mutex_destroy(&v->events_lock);
    free(v);
}

static int check_asks(const struct vnc *v, struct err *err)
{
    return vnc_rfb_asks_password(v)
               ? 0
               : err_set(err, EINVAL, "vnc: it asks for no password; start it with password=on");
}

int vnc_set_password(struct vnc *v, const char *password, struct err *err)
{
    if (password && strlen(password) > VNC_PASSWORD_MAX) {
        return err_set(err, EINVAL, "vnc: a password has at most %d characters", VNC_PASSWORD_MAX);
    }
    AUTO_LOCK(&v->events_lock); /* not `lock`: the thread may have it for seconds */
    int ret = check_asks(v, err);
    if (!ret) {
        vnc_rfb_password(v, password);
    }
    return ret;
}

int vnc_expire_password(struct vnc *v, int64_t when, struct err *err)
{
    AUTO_LOCK(&v->events_lock);
    int ret = check_asks(v, err);
    if (!ret) {
        vnc_rfb_expire(v, when);
    }
    return ret;
}
