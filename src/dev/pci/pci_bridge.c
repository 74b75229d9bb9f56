/*
 * PCI-to-PCI bridges (PCI-to-PCI Bridge 1.2, 3.2) and PCI Express root ports (Express Base 2.0,
 * 7.8): bus numbers lead configuration accesses to the bus behind. What is behind decodes its BARs
 * while every bridge above has the command bit for the space set.
 *
 * Does not do: the windows (kept, but all of memory is forwarded), secondary bus reset, power
 * management, hot plug, error reporting.
 */
#include "dev/pci/pci_bridge.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/pci/pci.h"
#include "state/field.h"

/* Header type 1. */
enum {
    PRIMARY_BUS = 0x18,
    SUBORDINATE_BUS = 0x1a,
    IO_BASE = 0x1c,
    SECONDARY_STATUS = 0x1e,
    MEMORY_BASE = 0x20,
    PREFETCH_BASE = 0x24,
    PREFETCH_UPPER = 0x28, /* base, then limit: 4 bytes each */
    IO_UPPER = 0x30,
    BRIDGE_ROM = 0x38,
    BRIDGE_CONTROL = 0x3e,
    BRIDGE_HEADER = 1,
    PREFETCH_64 = 1,
    CAP_SUBSYSTEM = 0x0d,
    EXPRESS_BYTES = 0x3c,
    ROOT_PORT = 0x142, /* version 2, root port, a slot */
    LINK = 0x11,       /* 2.5 GT/s, one lane */
    SLOT_PRESENT = 0x40,
    MAX_SLOT = 0x1fff,
};

struct pci_bridge {
    struct dev dev;
    struct pci_func pci;
    struct pci_bus behind;
    /* Options. */
    uint32_t chassis, slot, port;
    bool shpc, hotplug;
};

#define BRIDGE_PROPS(chassis_name)                                                                 \
    PCI_PROPS(struct pci_bridge, pci),                                                             \
    {                                                                                              \
        chassis_name, PROP_U32, offsetof(struct pci_bridge, chassis), "0", "number of the chassis" \
    }

static const struct prop port_props[] = {
    BRIDGE_PROPS("chassis"),
    {"slot", PROP_U32, offsetof(struct pci_bridge, slot), "0", "number of its slot"},
    {"port", PROP_U32, offsetof(struct pci_bridge, port), "0", "number of its link"},
    {"hotplug", PROP_BOOL, offsetof(struct pci_bridge, hotplug), "off", "taken: there is none"},
    {0},
};

static const struct prop bridge_props[] = {
    BRIDGE_PROPS("chassis_nr"),
    {"shpc", PROP_BOOL, offsetof(struct pci_bridge, shpc), "off", "taken: there is none"},
    {0},
};

/* ---- Registers ---- */

static void bridge_update_bars(const struct pci_bus *bus)
{
    const struct pci_root *r = bus->root;
    for (unsigned i = 0; i < ARRAY_LEN(bus->func); i++) {
        if (bus->func[i]) {
            pci_bars_update(bus->func[i]);
        }
    }
    for (unsigned i = 0; i < r->behind_count; i++) {
        if (r->behind[i]->bridge->bus == bus) {
            bridge_update_bars(r->behind[i]);
        }
    }
}

static void bridge_written(struct pci_func *f, unsigned off, unsigned len)
{
    struct pci_bridge *b = container_of(f, struct pci_bridge, pci);
    if (off < PCI_COMMAND + 2 && off + len > PCI_COMMAND) {
        bridge_update_bars(&b->behind);
    }
}

/* Those that a function of type 0 has elsewhere are undone first. */
static void bridge_header(struct pci_func *f)
{
    uint8_t *w = f->writable, *c = f->config;
    memset(c + PCI_SUBSYSTEM_VENDOR_ID, 0, 4);
    c[PCI_HEADER_TYPE] |= BRIDGE_HEADER;
    memset(w + PRIMARY_BUS, 0xff, 4); /* with the secondary latency timer */
    w[IO_BASE] = w[IO_BASE + 1] = 0xf0;
    store_le16(f->clearable + SECONDARY_STATUS, 0xf900);
    for (unsigned i = 0; i < 4; i++) { /* memory base and limit, prefetchable base and limit */
        store_le16(w + MEMORY_BASE + 2 * i, 0xfff0);
    }
    memset(w + PREFETCH_UPPER, 0xff, 8);
    store_le16(w + BRIDGE_CONTROL, 0x0fff & ~0x0440u);
}

static void bridge_reset_header(struct pci_func *f)
{
    uint8_t *c = f->config;
    memset(c + PRIMARY_BUS, 0, SECONDARY_STATUS - PRIMARY_BUS);
    memset(c + MEMORY_BASE, 0, IO_UPPER - MEMORY_BASE);
    c[PREFETCH_BASE] = c[PREFETCH_BASE + 2] = PREFETCH_64;
    store_le16(c + BRIDGE_CONTROL, 0);
}

/* Express Base 2.0 7.8 */
static void bridge_add_express(struct pci_bridge *b)
{
    struct pci_func *f = &b->pci;
    unsigned at = pci_cap_add(f, PCI_CAP_EXPRESS, EXPRESS_BYTES);
    store_le16(f->config + at + 2, ROOT_PORT);
    store_le32(f->config + at + 4, 1u << 15); /* role-based error reporting */
    store_le16(f->writable + at + 8, 0x000f | 0x7000 | 0x00e0);
    store_le32(f->config + at + 12, LINK | (b->port & 0xff) << 24);
    store_le16(f->writable + at + 16, 0x00c3);
    store_le16(f->config + at + 18, LINK);
    store_le32(f->config + at + 20, b->slot << 19);
    store_le16(f->config + at + 26, SLOT_PRESENT);
    store_le16(f->writable + at + 28, 0x000f); /* root control */
    store_le16(f->config + at + 48, 1);        /* target link speed */
}

static void bridge_add_subsystem(struct pci_func *f, const struct pci_ids *ids)
{
    unsigned at = pci_cap_add(f, CAP_SUBSYSTEM, 8);
    store_le16(f->config + at + 4, ids->vendor);
    store_le16(f->config + at + 6, 0);
}

/* ---- Life ---- */

static int bridge_add_bus(struct pci_bridge *b, bool express, struct err *err)
{
    struct pci_bus *bus = &b->behind;
    struct pci_root *r = b->pci.bus->root;
    struct machine *m = b->dev.machine;
    if (r->behind_count == ARRAY_LEN(r->behind)) {
        return err_set(err, EBUSY, "%s: there are at most %zu bridges", b->dev.type->name,
                       ARRAY_LEN(r->behind));
    }
    unsigned n = 0;
    do {
        n++;
        snprintf(bus->id, sizeof(bus->id), "pci.%u", n);
    } while (bus_find(m, bus->id));
    if (b->dev.id) {
        snprintf(bus->id, sizeof(bus->id), "%s", b->dev.id);
    }
    bus->bus = (struct bus){.type = &pci_bus_type, .id = bus->id, .owner = bus};
    bus->machine = m;
    bus->root = r;
    bus->bridge = &b->pci;
    bus->express = express;
    bus->one_slot = express;
    pthread_mutex_lock(&r->lock);
    r->behind[r->behind_count++] = bus;
    pthread_mutex_unlock(&r->lock);
    bus_add(m, &bus->bus);
    return 0;
}

static int bridge_init(struct pci_bridge *b, const struct pci_ids *ids, bool express,
                       struct err *err)
{
    const struct pci_bus *on = b->dev.bus->owner;
    const char *name = b->dev.type->name;
    if (b->slot > MAX_SLOT) {
        return err_set(err, EINVAL, "%s: slot is at most %u, not %u", name, MAX_SLOT, b->slot);
    }
    if (b->dev.id && strlen(b->dev.id) >= sizeof(b->behind.id)) {
        return err_set(err, EINVAL,
                       "%s: id=%s is too long; its bus is called that, at most %zu "
                       "characters",
                       name, b->dev.id, sizeof(b->behind.id) - 1);
    }
    if (express && (!on->express || on->bridge)) {
        return err_set(err, EINVAL, "%s: goes on bus 'pcie.0' of board q35, not on '%s'", name,
                       on->id);
    }
    int ret = pci_func_init(&b->pci, &b->dev, ids, err);
    if (ret) {
        return ret;
    }
    b->pci.written = bridge_written;
    bridge_header(&b->pci);
    bridge_reset_header(&b->pci);
    bridge_add_subsystem(&b->pci, ids);
    pci_msi_add(&b->pci, 1);
    if (express) {
        bridge_add_express(b);
    }
    return bridge_add_bus(b, express, err);
}

static int port_init(struct dev *dev, struct err *err)
{
    static const struct pci_ids ids = {
        .vendor = 0x1b36, .device = 0x000c, .class_code = 0x060400, .interrupt_pin = 1};
    return bridge_init(container_of(dev, struct pci_bridge, dev), &ids, true, err);
}

static int ioh3420_init(struct dev *dev, struct err *err)
{
    static const struct pci_ids ids = {.vendor = 0x8086,
                                       .device = 0x3420,
                                       .class_code = 0x060400,
                                       .revision = 2,
                                       .interrupt_pin = 1};
    return bridge_init(container_of(dev, struct pci_bridge, dev), &ids, true, err);
}

static int pci_bridge_init(struct dev *dev, struct err *err)
{
    static const struct pci_ids ids = {
        .vendor = 0x1b36, .device = 0x0001, .class_code = 0x060400, .interrupt_pin = 1};
    return bridge_init(container_of(dev, struct pci_bridge, dev), &ids, false, err);
}

static void bridge_reset(struct dev *dev, enum dev_reset how)
{
    struct pci_bridge *b = container_of(dev, struct pci_bridge, dev);
    struct pci_root *r = b->behind.root;
    pci_func_reset(&b->pci);
    pthread_mutex_lock(&r->lock);
    bridge_reset_header(&b->pci);
    bridge_update_bars(&b->behind);
    pthread_mutex_unlock(&r->lock);
}

/* What was behind it is gone. */
static void bridge_fini(struct dev *dev)
{
    struct pci_bridge *b = container_of(dev, struct pci_bridge, dev);
    struct pci_root *r = b->behind.root;
    for (unsigned i = 0; r && i < r->behind_count; i++) {
        if (r->behind[i] == &b->behind) {
            r->behind[i] = r->behind[--r->behind_count];
        }
    }
    pci_func_fini(&b->pci);
}

/* ---- State ---- */

static const struct field pci_bridge_list[] = {
    FIELD(struct pci_bridge, dev, FIELD_HOST),
    FIELD(struct pci_bridge, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct pci_bridge, behind, FIELD_HOST),
    FIELD(struct pci_bridge, chassis, FIELD_CONFIG),
    FIELD(struct pci_bridge, slot, FIELD_CONFIG),
    FIELD(struct pci_bridge, port, FIELD_CONFIG),
    FIELD(struct pci_bridge, shpc, FIELD_CONFIG),
    FIELD(struct pci_bridge, hotplug, FIELD_CONFIG),
};

FIELD_SET(pci_bridge_fields, "pci-bridge", struct pci_bridge, pci_bridge_list, 1);

#define BRIDGE(symbol, type, what, options, make)                                                  \
    const struct dev_type symbol = {.name = type,                                                  \
                                    .summary = what,                                               \
                                    .spec = "PCI-to-PCI Bridge 1.2",                               \
                                    .bus = "PCI",                                                  \
                                    .size = sizeof(struct pci_bridge),                             \
                                    .state = &pci_bridge_fields,                                   \
                                    .props = options,                                              \
                                    .init = make,                                                  \
                                    .reset = bridge_reset,                                         \
                                    .fini = bridge_fini}

BRIDGE(pcie_root_port_type, "pcie-root-port", "PCI Express root port", port_props, port_init);
BRIDGE(ioh3420_type, "ioh3420", "PCI Express root port of Intel's X58", port_props, ioh3420_init);
BRIDGE(pci_bridge_type, "pci-bridge", "PCI bridge", bridge_props, pci_bridge_init);
