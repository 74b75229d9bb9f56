/*
 * The keys of the terminal multiplexer: Ctrl-A, then x (quit), h or ? (help), b (break),
 * c (switch to the monitor: none yet, ignored), s, t (ignored), Ctrl-A (a Ctrl-A).
 * Input is taken whenever it comes, so that Ctrl-A x works while the guest takes none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "chardev/internal.h"

#define KEY_ESCAPE 1

static const char keys_help[] = "\r\n"
                                "Ctrl-A h    print this help\r\n"
                                "Ctrl-A x    quit\r\n"
                                "Ctrl-A b    send a break\r\n"
                                "Ctrl-A c    switch to the monitor (there is none yet)\r\n"
                                "Ctrl-A Ctrl-A  send Ctrl-A\r\n";

void chardev_keys_flush(struct chardev *c)
{
    struct chardev_keys *k = c->keys;
    if (!k->user || !k->user->rx) {
        k->count = 0;
        return;
    }
    /* Until all is gone or there is no room: the user calls back only after it said "no room". */
    while (k->count) {
        size_t room = k->user->room ? k->user->room(k->opaque) : 0;
        size_t n = k->count < room ? k->count : room;
        if (!n) {
            return;
        }
        k->user->rx(k->opaque, k->held, n);
        k->count -= n;
        memmove(k->held, k->held + n, k->count);
    }
}

static void keys_command(struct chardev *c, uint8_t key)
{
    struct chardev_keys *k = c->keys;
    switch (key) {
    case 'x': k->quit(k->quit_opaque); break;
    case 'h':
    case '?': chardev_write(c, (const uint8_t *)keys_help, sizeof(keys_help) - 1); break;
    case 'b':
        if (k->user && k->user->event) {
            k->user->event(k->opaque, CHARDEV_BREAK);
        }
        break;
    case KEY_ESCAPE:
        if (k->count < sizeof(k->held)) {
            k->held[k->count++] = KEY_ESCAPE;
        }
        break;
    }
}

/* Much more than a person types while a guest hangs, so that Ctrl-A x is always read. */
static size_t keys_room(void *opaque)
{
    const struct chardev_keys *k = ((struct chardev *)opaque)->keys;
    return sizeof(k->held) - k->count;
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
        } else if (k->count < sizeof(k->held)) {
            k->held[k->count++] = buf[i];
        }
    }
    chardev_keys_flush(c);
}

static void keys_writable(void *opaque)
{
    struct chardev_keys *k = ((struct chardev *)opaque)->keys;
    if (k->user && k->user->writable) {
        k->user->writable(k->opaque);
    }
}

static void keys_event(void *opaque, enum chardev_event event)
{
    struct chardev_keys *k = ((struct chardev *)opaque)->keys;
    if (k->user && k->user->event) {
        k->user->event(k->opaque, event);
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
    c->keys->user = c->user;
    c->keys->opaque = c->user_opaque;
    c->user = &keys_user;
    c->user_opaque = c;
    c->rx_on = true;
    if (c->type->set_rx) {
        c->type->set_rx(c, true);
    }
}
