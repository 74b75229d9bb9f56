/*
 * Monitors on character devices. Where the first serial port is multiplexed (-serial mon:..., or by
 * default with -nographic), there is one behind Ctrl-A c even if nobody asked.
 */
#include "vmm/monitor_link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "chardev/chardev.h"
#include "core/machine.h"
#include "monitor/monitor.h"
#include "vmm/drive_thread.h"
#include "vmm/drives.h"
#include "vmm/options.h"

enum { LINKS_MAX = 16 };

struct monitor_links {
    struct machine *machine;
    struct monitor_hooks hooks;
    struct monitor_control control;
    struct monitor *mon[LINKS_MAX];
    unsigned count;
};

/* ---- What monitors ask for ---- */

static int link_gdbserver(void *opaque, const char *spec, struct err *err)
{
    struct monitor_links *l = opaque;
    return l->hooks.gdbserver(l->hooks.opaque, spec, err);
}

static struct block_graph *link_graph(void *opaque, struct err *err)
{
    struct monitor_links *l = opaque;
    return drives_graph(l->machine, err);
}

static void link_keep_medium(void *opaque, void *b)
{
    struct monitor_links *l = opaque;
    drives_keep(l->machine, b);
}

static struct vnc *link_vnc(void *opaque)
{
    struct monitor_links *l = opaque;
    return l->hooks.vnc(l->hooks.opaque);
}

/* ---- Making them ---- */

static int link_add(struct monitor_links *l, struct chardev *c, bool own, struct err *err)
{
    if (!c) {
        return -EINVAL;
    }
    if (l->count == LINKS_MAX) {
        if (own) {
            chardev_free(c);
        }
        return err_set(err, EINVAL, "there can be %u monitors at most", LINKS_MAX);
    }
    l->mon[l->count++] = monitor_new(l->machine, c, own, &l->control, l);
    return 0;
}

/* A -chardev: all of it, or a port if it is multiplexed. */
static int link_add_id(struct monitor_links *l, const char *id, struct err *err)
{
    struct backend *b = machine_find_backend(l->machine, "chardev", id);
    if (!b) {
        return err_set(err, ENOENT, "there is no -chardev with the id '%s'", id);
    }
    if (chardev_is_mux(b->obj)) {
        return link_add(l, chardev_mux_port(b->obj, err), true, err);
    }
    if (b->taken) {
        return err_set(err, EBUSY, "the character device '%s' is in use", id);
    }
    b->taken = true;
    return link_add(l, b->obj, false, err);
}

static int link_add_spec(struct monitor_links *l, const char *spec, struct err *err)
{
    if (!strncmp(spec, "chardev:", 8)) {
        return link_add_id(l, spec + 8, err);
    }
    bool mux = !strncmp(spec, "mon:", 4);
    spec += mux ? 4 : 0;
    char *full = alloc_printf("%s%s", spec, mux && !strcmp(spec, "stdio") ? ",signal=off" : "");
    struct chardev *c = chardev_new_legacy(l->machine->loop, full, err);
    free(full);
    if (c && mux) {
        chardev_add_mux(c, l->hooks.quit, l->machine);
    }
    if (!c) {
        return -EINVAL;
    }
    char id[32];
    snprintf(id, sizeof(id), "compat_monitor%u", l->count);
    machine_add_backend(l->machine, "chardev", id, c, chardev_free)->taken = true;
    return link_add(l, c, false, err);
}

/* Does a serial port or gdb have the terminal? */
static bool uses_terminal(const struct options *o)
{
    bool used = o->gdb && strstr(o->gdb, "stdio");
    for (size_t i = 0; i < o->serials.count; i++) {
        used |= strstr(o->serials.items[i], "stdio") != NULL;
    }
    for (size_t i = 0; i < o->chardevs.count; i++) {
        const char *kind = keyval_get(&o->chardevs.items[i], "backend");
        used |= kind && !strcmp(kind, "stdio");
    }
    return used;
}

/* The monitor nobody asked for. */
static int link_add_default(struct monitor_links *l, const struct options *o, struct err *err)
{
    for (unsigned n = 0; n < 4; n++) {
        char id[16];
        snprintf(id, sizeof(id), "serial%u", n);
        const struct backend *b = machine_find_backend(l->machine, "chardev", id);
        const char *spec = n < o->serials.count ? o->serials.items[n] : "mon:";
        if (b && !strncmp(spec, "mon:", 4) && chardev_is_mux(b->obj)) {
            return link_add_id(l, id, err);
        }
    }
    return o->nographic && !o->nodefaults && !o->monitor_given && !uses_terminal(o)
               ? link_add_spec(l, "stdio", err)
               : 0;
}

static void link_fill_control(struct monitor_links *l, const struct options *o)
{
    bool published = !strncmp(o->program, "qemu", 4);
    l->control = (struct monitor_control){
        .product = published ? "QEMU" : "Lodge",
        .version = LODGE_VERSION,
        .prompt = published ? "(qemu) " : "(lodge) ",
        .gdbserver = link_gdbserver,
        .graph = link_graph,
        .keep_medium = link_keep_medium,
        .vnc = link_vnc,
    };
}

struct monitor_links *monitor_links_new(struct machine *m, const struct options *o,
                                        const struct monitor_hooks *hooks, struct err *err)
{
    struct monitor_links *l = alloc_zero(sizeof(*l));
    l->machine = m;
    l->hooks = *hooks;
    link_fill_control(l, o);
    int ret = 0;
    for (size_t i = 0; !ret && i < o->monitors.count; i++) {
        ret = link_add_spec(l, o->monitors.items[i], err);
    }
    for (size_t i = 0; !ret && i < o->mons.count; i++) {
        ret = link_add_id(l, keyval_get(&o->mons.items[i], "chardev"), err);
    }
    ret = ret ? err_prefix(err, ret, "-monitor") : link_add_default(l, o, err);
    if (ret) {
        monitor_links_free(l);
        return NULL;
    }
    return l;
}

void monitor_links_free(struct monitor_links *l)
{
    if (!l) {
        return;
    }
    while (l->count) {
        monitor_free(l->mon[--l->count]);
    }
    free(l);
}
