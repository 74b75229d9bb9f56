/* Character devices: types, users, and the keys of the multiplexer. */
#include "chardev/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/keyval.h"
#include "base/near.h"
#include "chardev/internal.h"
#include "loop/loop.h"

static const struct chardev_type *const chardev_types[] = {
    &chardev_null,   &chardev_stdio, &chardev_file,    &chardev_pipe, &chardev_pty,
    &chardev_socket, &chardev_udp,   &chardev_ringbuf, &chardev_vc,
};

static const struct chardev_type *chardev_find_type(const char *name, struct err *err)
{
    const char *names[ARRAY_LEN(chardev_types)];
    for (size_t i = 0; i < ARRAY_LEN(chardev_types); i++) {
        names[i] = chardev_types[i]->name;
        if (!strcmp(names[i], name)) {
            return chardev_types[i];
        }
    }
    err_set(err, EINVAL, "'%s' is no kind of character device; the nearest is '%s'", name,
            near_pick(name, names, ARRAY_LEN(names)));
    return NULL;
}

/* logfile=FILE[,logappend=on] */
static int chardev_open_log(struct chardev *c, const struct keyval *args, struct err *err)
{
    const char *path = keyval_get(args, "logfile"), *text = keyval_get(args, "logappend");
    bool append = false;
    if (text && value_bool("-chardev: logappend", text, &append, err)) {
        return -EINVAL;
    }
    if (!path) {
        return 0;
    }
    c->log_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), 0666);
    return c->log_fd >= 0 ? 0
                          : err_set(err, errno, "cannot open '%s' for the character device: %s",
                                    path, strerror(errno));
}

struct chardev *chardev_new(struct loop *loop, const struct keyval *args, struct err *err)
{
    const char *name = keyval_get(args, "backend");
    const struct chardev_type *type = chardev_find_type(name ? name : "", err);
    if (!type) {
        return NULL;
    }
    struct chardev *c = alloc_zero(type->size);
    c->type = type;
    c->loop = loop;
    c->id = alloc_text(keyval_get(args, "id"));
    c->log_fd = -1;
    if (type->open(c, args, err) || chardev_open_log(c, args, err)) {
        chardev_free(c);
        return NULL;
    }
    return c;
}

/* "unix:PATH,opts" and "tcp:HOST:PORT,opts" */
static int legacy_socket(struct keyval *kv, const char *kind, const char *rest, struct err *err)
{
    keyval_add(kv, "backend", "socket");
    if (!strcmp(kind, "telnet")) {
        keyval_add(kv, "telnet", "on");
    }
    if (!strcmp(kind, "unix")) {
        return keyval_parse(kv, rest, "path", err);
    }
    int ret = keyval_parse(kv, rest, "host", err);
    const char *host = keyval_get(kv, "host");
    const char *colon = host ? strrchr(host, ':') : NULL;
    if (ret || !colon) {
        return ret ? ret : err_set(err, EINVAL, "'%s:%s' has no port", kind, rest);
    }
    char *name = alloc_printf("%.*s", (int)(colon - host), host);
    keyval_add(kv, "port", colon + 1);
    keyval_add(kv, "host", name);
    free(name);
    return 0;
}

/* "udp:[HOST]:PORT[@[LOCAL]:LOCALPORT]" */
static int legacy_udp(struct keyval *kv, const char *rest, struct err *err)
{
    static const char *const keys[2][2] = {{"host", "port"}, {"localaddr", "localport"}};
    AUTO_FREE char *text = alloc_text(rest);
    char *at = strchr(text, '@');
    char *ends[2] = {text, at ? at + 1 : NULL};
    if (at) {
        *at = 0;
    }
    keyval_add(kv, "backend", "udp");
    for (unsigned i = 0; i < 2 && ends[i]; i++) {
        char *colon = strrchr(ends[i], ':');
        if (!colon) {
            return err_set(err, EINVAL, "'udp:%s' has no port", rest);
        }
        *colon = 0;
        keyval_add(kv, keys[i][0], ends[i]);
        keyval_add(kv, keys[i][1], colon + 1);
    }
    return 0;
}

static int legacy_parse(struct keyval *kv, const char *spec, struct err *err)
{
    const char *colon = strchr(spec, ':');
    if (!colon) {
        return keyval_parse(kv, spec, "backend", err);
    }
    char kind[16];
    snprintf(kind, sizeof(kind), "%.*s", (int)(colon - spec), spec);
    if (!strcmp(kind, "file") || !strcmp(kind, "pipe")) {
        keyval_add(kv, "backend", kind);
        return keyval_parse(kv, colon + 1, "path", err);
    }
    if (!strcmp(kind, "udp")) {
        return legacy_udp(kv, colon + 1, err);
    }
    if (!strcmp(kind, "vc")) {
        keyval_add(kv, "backend", "vc");
        return 0;
    }
    if (!strcmp(kind, "unix") || !strcmp(kind, "tcp") || !strcmp(kind, "telnet")) {
        return legacy_socket(kv, kind, colon + 1, err);
    }
    static const char *const kinds[] = {
        "stdio", "null", "pty",     "file:", "pipe:",    "unix:", "tcp:",
        "udp:",  "vc",   "telnet:", "mon:",  "chardev:", "none"};
    return err_set(err, EINVAL, "'%s' is no kind of character device; the nearest is '%s'", spec,
                   near_pick(kind, kinds, ARRAY_LEN(kinds)));
}

struct chardev *chardev_new_legacy(struct loop *loop, const char *spec, struct err *err)
{
    struct keyval kv = {0};
    struct chardev *c = NULL;
    if (!legacy_parse(&kv, spec, err)) {
        c = chardev_new(loop, &kv, err);
    }
    keyval_free(&kv);
    return c;
}

void chardev_free(void *chardev)
{
    struct chardev *c = chardev;
    if (!c) {
        return;
    }
    if (c->type->close) {
        c->type->close(c);
    }
    cleanup_close(&c->log_fd);
    free(c->keys);
    free(c->id);
    free(c->filename);
    free(c);
}

void chardev_help(FILE *out)
{
    fprintf(out, "Character devices:\n");
    for (size_t i = 0; i < ARRAY_LEN(chardev_types); i++) {
        fprintf(out, "  %-8s %s\n", chardev_types[i]->name, chardev_types[i]->summary);
    }
}

void chardev_attach(struct chardev *c, const struct chardev_user *user, void *opaque)
{
    if (c->keys) {
        chardev_keys_attach(c, 0, user, opaque);
    } else {
        c->user = user;
        c->user_opaque = opaque;
    }
    c->rx_on = c->keys || user != NULL;
    if (c->type->set_rx) {
        c->type->set_rx(c, c->rx_on);
    }
}

size_t chardev_write(struct chardev *c, const uint8_t *buf, size_t len)
{
    size_t n = c->type->write ? c->type->write(c, buf, len) : len;
    if (c->log_fd >= 0) {
        chardev_put(c->log_fd, buf, n); /* a full disk loses the copy, not the original */
    }
    return n;
}

void chardev_rx_again(void *opaque)
{
    struct chardev *c = opaque;
    if (c->keys) {
        chardev_keys_flush(c, 0);
    }
    if (!c->rx_on && chardev_room(c)) {
        c->rx_on = true;
        if (c->type->set_rx) {
            c->type->set_rx(c, true);
        }
    }
}

void chardev_rx_ready(struct chardev *c)
{
    loop_post(c->loop, chardev_rx_again, c);
}

size_t chardev_room(struct chardev *c)
{
    return c->user && c->user->room ? c->user->room(c->user_opaque) : 0;
}

void chardev_rx(struct chardev *c, const uint8_t *buf, size_t len)
{
    if (c->user && c->user->rx) {
        c->user->rx(c->user_opaque, buf, len);
    }
}

void chardev_tell(struct chardev *c, enum chardev_event event)
{
    c->closed = event == CHARDEV_CLOSED || (c->closed && event != CHARDEV_OPENED);
    if (c->user && c->user->event) {
        c->user->event(c->user_opaque, event);
    }
}

void chardev_can_write(struct chardev *c)
{
    if (c->user && c->user->writable) {
        c->user->writable(c->user_opaque);
    }
}
