/* info qtree, info mtree: devices on their buses, and what lies at which address. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/device.h"
#include "core/machine.h"
#include "monitor/internal.h"

enum { EXTENTS_MAX = 4096 }; /* a guest may cut its map into many */

/* ---- Devices ---- */

static void show_prop(struct monitor *mon, const struct prop *p, const struct dev *d)
{
    const void *at = (const char *)d + p->offset;
    const char *text;
    switch (p->kind) {
    case PROP_TEXT:
        text = *(char *const *)at;
        monitor_put(mon, "    %s = \"%s\"\n", p->name, text ? text : "");
        break;
    case PROP_BOOL:
        monitor_put(mon, "    %s = %s\n", p->name, *(const bool *)at ? "true" : "false");
        break;
    case PROP_U32:
        monitor_put(mon, "    %s = %" PRIu32 " (0x%" PRIx32 ")\n", p->name, *(const uint32_t *)at,
                    *(const uint32_t *)at);
        break;
    case PROP_U64:
    case PROP_SIZE:
        monitor_put(mon, "    %s = %" PRIu64 " (0x%" PRIx64 ")\n", p->name, *(const uint64_t *)at,
                    *(const uint64_t *)at);
        break;
    }
}

static void show_devices(struct monitor *mon, const struct bus *bus)
{
    for (const struct dev *d = mon->machine->devs; d; d = d->next) {
        if (d->bus != bus) {
            continue;
        }
        monitor_put(mon, "  dev: %s, id \"%s\"\n", d->type->name, d->id ? d->id : "");
        for (const struct prop *p = d->type->props; p && p->name; p++) {
            show_prop(mon, p, d);
        }
    }
}

int info_qtree(struct monitor *mon, struct command_args *a, struct err *err)
{
    monitor_put(mon, "bus: main-system-bus\n  type System\n");
    show_devices(mon, NULL);
    for (const struct bus *b = mon->machine->buses; b; b = b->next) {
        monitor_put(mon, "bus: %s\n  type %s\n", b->id, b->type->name);
        show_devices(mon, b);
    }
    return 0;
}

/* ---- Addresses ---- */

static void show_extent(struct monitor *mon, const struct mem_hit *h)
{
    static const char *const kinds[] = {
        [MEM_KIND_RAM] = "ram", [MEM_KIND_ROM] = "rom", [MEM_KIND_MMIO] = "i/o"};
    monitor_put(mon, "  %016" PRIx64 "-%016" PRIx64 " (prio 0, %s):", (uint64_t)h->start,
                (uint64_t)h->last, kinds[h->kind]);
    uint64_t off = h->ram ? h->off - h->ram->base : h->dev_off;
    if (h->kind == MEM_KIND_MMIO) {
        monitor_put(mon, " device");
    } else {
        monitor_put(mon, " %s", h->ram->name);
    }
    if (off) {
        monitor_put(mon, " @%016" PRIx64, off);
    }
    monitor_put(mon, "\n");
}

static void show_map(struct monitor *mon, struct mem_map *map, unsigned n, const char *name,
                     uint64_t end)
{
    uint64_t at = 0;
    monitor_put(mon, "FlatView #%u\n AS \"%s\", root: %s\n Root memory region: %s\n", n, name, name,
                name);
    for (unsigned i = 0; i < EXTENTS_MAX; i++) {
        struct mem_hit hit = {0};
        if (mem_lookup(map, at, &hit)) {
            show_extent(mon, &hit);
        }
        if (hit.last >= end) {
            break;
        }
        at = hit.last + 1;
    }
    monitor_put(mon, "\n");
}

/* With or without -f: the tree is only a means to build the flat view. */
int info_mtree(struct monitor *mon, struct command_args *a, struct err *err)
{
    args_flag(a, "-f");
    show_map(mon, mon->machine->mem, 0, "memory", UINT64_MAX);
    show_map(mon, mon->machine->io, 1, "I/O", 0xffff);
    return 0;
}
