/*
 * The keys of the terminal multiplexer: Ctrl-A, then x (quit), h or ? (help), b (break),
 * c (to the next user: from a serial port to the monitor and back), s, t (ignored), Ctrl-A (a
 * Ctrl-A). Input is taken whenever it comes, so that Ctrl-A x works while the guest takes none.
 *
 * Users beyond the first attach to ports. A port is a character device whose host side is the
 * multiplexed one's; the loop's thread is that of both.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "chardev/internal.h"
#include "loop/loop.h"

#define KEY_ESCAPE 1

struct chardev_port {
    struct chardev c;
    struct chardev *base;
    unsigned n;
};

static const char keys_help[] = "\r\n"
                                "Ctrl-A h    print this help\r\n"
                                "Ctrl-A x    quit\r\n"
                                "Ctrl-A b    send a break\r\n"
                                "Ctrl-A c    switch between console and monitor\r\n"
                                "Ctrl-A Ctrl-A  send Ctrl-A\r\n";

void chardev_keys_flush(struct chardev *c, unsigned n)
{
    struct chardev_keys_user *u = &c->keys->users[n];
    if (!u->user || !u->user->rx) {
        u->count = 0;
        return;
    }
    /* Until all is gone or there is no room: the user calls back only after it said "no room". */
    while (u->count && u->user) {
        size_t room = u->user->room ? u->user->room(u->opaque) : 0;
        size_t take = u->count < room ? u->count : room;
        if (!take) {
            return;
        }
        uint8_t piece[sizeof(u->held)];
        memcpy(piece, u->held, take); /* more may be typed, or the user go, meanwhile */
        u->count -= take;
        memmove(u->held, u->held + take, u->count);
        u->user->rx(u->opaque, piece, take);
    }
}

static void keys_tell(struct chardev_keys_user *u, enum chardev_event event)
{
    if (u->user && u->user->event) {
        u->user->event(u->opaque, event);
    }
}

static void keys_focus(struct chardev_keys *k, unsigned n)
{
    if (n != k->focus) {
        keys_tell(&k->users[k->focus], CHARDEV_UNFOCUS);
        k->focus = n;
        keys_tell(&k->users[n], CHARDEV_FOCUS);
    }
}

static void keys_next(struct chardev_keys *k)
{
    for (unsigned i = 1; i < k->count; i++) {
        unsigned n = (k->focus + i) % k->count;
        if (k->users[n].user) {
            keys_focus(k, n);
            return;
        }
    }
}

static void keys_hold(struct chardev_keys *k, uint8_t byte)
{
    struct chardev_keys_user *u = &k->users[k->focus];
    if (u->count < sizeof(u->held)) {
        u->held[u->count++] = byte;
    }
}

static void keys_command(struct chardev *c, uint8_t key)
{
    struct chardev_keys *k = c->keys;
    switch (key) {
    case 'x': k->quit(k->quit_opaque); break;
    case 'h':
    case '?': chardev_write(c, (const uint8_t *)keys_help, sizeof(keys_help) - 1); break;
    case 'b': keys_tell(&k->users[k->focus], CHARDEV_BREAK); break;
    case 'c':
        chardev_keys_flush(c, k->focus);
        keys_next(k);
        break;
    case KEY_ESCAPE: keys_hold(k, KEY_ESCAPE); break;
    }
}

static size_t keys_room(void *opaque)
{
    const struct chardev_keys *k = ((struct chardev *)opaque)->keys;
    const struct chardev_keys_user *u = &k->users[k->focus];
    return sizeof(u->held) - u->count;
}

static void keys_rx(void *opaque, const uint8_t *buf, size_t len)
{
    struct chardev *c = opaque;
    struct chardev_keys *k = c->keys;
    for (size_t i = 0; i < len; i++) {
        if (k->escape) {
            k->escape = false;
            keys_command(c, buf[i]);
        } else if (buf[i] == KEY_ESCAPE) {
            k->escape = true;
        } else {
            keys_hold(k, buf[i]);
        }
    }
    chardev_keys_flush(c, k->focus);
}

static void keys_writable(void *opaque)
{
    struct chardev_keys *k = ((struct chardev *)opaque)->keys;
    for (unsigned i = 0; i < k->count; i++) {
        struct chardev_keys_user *u = &k->users[i];
        if (u->user && u->user->writable) {
            u->user->writable(u->opaque);
        }
    }
}

static void keys_event(void *opaque, enum chardev_event event)
{
    struct chardev_keys *k = ((struct chardev *)opaque)->keys;
    for (unsigned i = 0; i < k->count; i++) {
        keys_tell(&k->users[i], event);
    }
}

static const struct chardev_user keys_user = {keys_room, keys_rx, keys_writable, keys_event};

void chardev_add_mux(struct chardev *c, void (*quit)(void *), void *opaque)
{
    if (c->keys) {
        return;
    }
    c->keys = alloc_zero(sizeof(*c->keys));
    c->keys->quit = quit;
    c->keys->quit_opaque = opaque;
    c->keys->count = 1;
    c->keys->users[0].user = c->user;
    c->keys->users[0].opaque = c->user_opaque;
    c->user = &keys_user;
    c->user_opaque = c;
    c->rx_on = true;
    if (c->type->set_rx) {
        c->type->set_rx(c, true);
    }
}

bool chardev_is_mux(const struct chardev *c)
{
    return c->keys != NULL;
}

/* A user that nobody is before, or who is the host side's first, gets the focus. */
void chardev_keys_attach(struct chardev *c, unsigned n, const struct chardev_user *user,
                         void *opaque)
{
    struct chardev_keys *k = c->keys;
    k->users[n].user = user;
    k->users[n].opaque = opaque;
    k->users[n].count = 0;
    if (user && (!n || !k->users[k->focus].user)) {
        keys_focus(k, n);
    } else if (!user && k->focus == n) {
        keys_next(k);
    }
}

/* ---- Ports ---- */

static size_t port_write(struct chardev *c, const uint8_t *buf, size_t len)
{
    return chardev_write(container_of(c, struct chardev_port, c)->base, buf, len);
}

/* chardev_attach() and chardev_rx_ready() of the port end here, on the loop's thread. */
static void port_set_rx(struct chardev *c, bool on)
{
    struct chardev_port *p = container_of(c, struct chardev_port, c);
    const struct chardev_keys_user *u = &p->base->keys->users[p->n];
    if (u->user != c->user || u->opaque != c->user_opaque) {
        chardev_keys_attach(p->base, p->n, c->user, c->user_opaque);
    }
    chardev_keys_flush(p->base, p->n);
    c->rx_on = false; /* so that it is called again */
    chardev_rx_again(p->base);
}

static void port_close(struct chardev *c)
{
    struct chardev_port *p = container_of(c, struct chardev_port, c);
    chardev_keys_attach(p->base, p->n, NULL, NULL);
}

static const struct chardev_type chardev_port = {.name = "mux",
                                                 .summary = "one of several users",
                                                 .size = sizeof(struct chardev_port),
                                                 .write = port_write,
                                                 .set_rx = port_set_rx,
                                                 .close = port_close};

bool chardev_is_port(const struct chardev *c)
{
    return c->type == &chardev_port;
}

struct chardev *chardev_mux_port(struct chardev *base, struct err *err)
{
    if (base->keys->count == CHARDEV_USERS) {
        err_set(err, EBUSY, "character device '%s' has %u users, which is the most",
                base->id ? base->id : "", CHARDEV_USERS);
        return NULL;
    }
    struct chardev_port *p = alloc_zero(sizeof(*p));
    p->c.type = &chardev_port;
    p->c.loop = base->loop;
    p->c.log_fd = -1;
    p->c.id = alloc_text(base->id);
    p->base = base;
    p->n = base->keys->count++;
    return &p->c;
}
