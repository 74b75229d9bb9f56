/* -gdb: the stub on a character device. Sockets listen, as a debugger expects. */
#include "vmm/gdb_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "chardev/chardev.h"
#include "core/machine.h"
#include "gdb/gdb.h"

struct gdb_link {
    struct machine *m;
    struct chardev *c; /* NULL: nowhere now */
    bool own;          /* else it is a -chardev */
    struct gdb *gdb;
};

static size_t link_room(void *opaque)
{
    return 4096;
}

static void link_rx(void *opaque, const uint8_t *buf, size_t len)
{
    gdb_rx(((struct gdb_link *)opaque)->gdb, buf, len);
}

static void link_event(void *opaque, enum chardev_event event)
{
    if (event == CHARDEV_CLOSED) {
        gdb_closed(((struct gdb_link *)opaque)->gdb);
    }
}

static void link_write(void *opaque, const void *buf, size_t len)
{
    struct gdb_link *l = opaque;
    if (l->c) {
        chardev_write(l->c, buf, len);
    }
}

static struct chardev *link_take(struct machine *m, const char *id, struct err *err)
{
    struct backend *b = machine_find_backend(m, "chardev", id);
    if (!b || b->taken) {
        err_set(err, ENOENT, "-gdb chardev:%s: %s", id,
                b ? "it is in use" : "there is no such -chardev");
        return NULL;
    }
    b->taken = true;
    return b->obj;
}

static struct chardev *link_open(struct machine *m, const char *spec, struct err *err)
{
    bool socket = !strncmp(spec, "tcp:", 4) || !strncmp(spec, "unix:", 5);
    const char *tail = socket && !strstr(spec, ",server") ? ",server=on"
                       : !strcmp(spec, "stdio")           ? ",signal=off"
                                                          : "";
    char *full = alloc_printf("%s%s", spec, tail);
    struct chardev *c = chardev_new_legacy(m->loop, full, err);
    free(full);
    if (!c) {
        err_prefix(err, -EINVAL, "-gdb");
    }
    return c;
}

static const struct chardev_user link_user = {
    .room = link_room, .rx = link_rx, .event = link_event};

static void link_close(struct gdb_link *l)
{
    if (l->c && l->own) {
        chardev_free(l->c);
    } else if (l->c) {
        chardev_attach(l->c, NULL, NULL);
    }
    l->c = NULL;
}

int gdb_link_move(struct gdb_link *l, const char *spec, struct err *err)
{
    bool own = strncmp(spec, "chardev:", 8) != 0;
    gdb_closed(l->gdb);
    link_close(l);
    if (!strcmp(spec, "none")) {
        return 0;
    }
    l->c = own ? link_open(l->m, spec, err) : link_take(l->m, spec + 8, err);
    l->own = own;
    if (!l->c) {
        return -EINVAL;
    }
    chardev_attach(l->c, &link_user, l);
    return 0;
}

struct gdb_link *gdb_link_new(struct machine *m, const char *spec, struct err *err)
{
    bool own = strncmp(spec, "chardev:", 8) != 0;
    struct chardev *c = own ? link_open(m, spec, err) : link_take(m, spec + 8, err);
    if (!c) {
        return NULL;
    }
    struct gdb_link *l = alloc_zero(sizeof(*l));
    l->m = m;
    l->c = c;
    l->own = own;
    l->gdb = gdb_new(m, link_write, l);
    chardev_attach(c, &link_user, l);
    return l;
}

void gdb_link_exited(struct gdb_link *l, int status)
{
    if (l) {
        gdb_exited(l->gdb, status);
    }
}

void gdb_link_free(struct gdb_link *l)
{
    if (!l) {
        return;
    }
    if (l->own) {
        link_close(l);
    }
    gdb_free(l->gdb);
    free(l);
}
