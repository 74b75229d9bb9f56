/* Buses: slots, the way from an address to a function, and the host bridge's two access methods:
 * ports CF8h and CFCh (PCI Local Bus 3.0 3.2.2.3.2), and memory (PCI Express Base 2.0 7.2.2). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/pci/pci.h"
#include "state/field.h"

/* The reset control register of Intel's bridges, CF9h, lies amid CONFIG_ADDRESS. */
enum { CONFIG_ENABLE = 1u << 31, SECONDARY_BUS = 0x19, RESET_CONTROL = 1, RST_CPU = 4 };

static int pci_attach(struct bus *bus, struct dev *dev, struct err *err)
{
    return 0; /* pci_func_init() takes the slot */
}

const struct bus_type pci_bus_type = {"PCI", pci_attach};

void pci_root_init(struct pci_root *r, struct machine *m, const char *id, bool express)
{
    struct pci_bus *b = &r->bus0;
    pthread_mutex_init(&r->lock, NULL);
    snprintf(b->id, sizeof(b->id), "%s", id);
    b->bus = (struct bus){.type = &pci_bus_type, .id = b->id, .owner = b};
    b->machine = m;
    b->root = r;
    b->express = express;
    bus_add(m, &b->bus);
}

void pci_root_fini(struct pci_root *r)
{
    if (r->bus0.machine) {
        pthread_mutex_destroy(&r->lock);
    }
}

/* ---- Slots ---- */

static int pci_parse_addr(const struct pci_func *f, unsigned *devfn, struct err *err)
{
    unsigned slot = 0, fn = 0;
    int n = 0, end = 0;
    n = sscanf(f->addr, "%x%n.%x%n", &slot, &end, &fn, &end);
    if (n < 1 || f->addr[end] || slot > 31 || fn > 7) {
        return err_set(err, EINVAL,
                       "%s: addr=%s is no PCI address: it is SLOT or SLOT.FUNCTION in hexadecimal, "
                       "slots to 1f, functions to 7",
                       f->dev->type->name, f->addr);
    }
    *devfn = slot << 3 | fn;
    return 0;
}

static int pci_pick_slot(const struct pci_func *f, const struct pci_bus *bus, unsigned *devfn,
                         struct err *err)
{
    for (unsigned slot = 0; slot < (bus->one_slot ? 1 : 32); slot++) {
        bool used = false;
        for (unsigned fn = 0; fn < 8; fn++) {
            used |= bus->func[slot << 3 | fn] != NULL;
        }
        if (!used) {
            *devfn = slot << 3;
            return 0;
        }
    }
    return err_set(err, EBUSY, "%s: no slot of bus '%s' is free", f->dev->type->name, bus->id);
}

static int pci_take_slot(const struct pci_func *f, const struct pci_bus *bus, unsigned devfn,
                         struct err *err)
{
    if (bus->one_slot && devfn >> 3) {
        return err_set(err, EINVAL, "%s: bus '%s' has slot 0 only, not %x", f->dev->type->name,
                       bus->id, devfn >> 3);
    }
    const struct pci_func *there = bus->func[devfn], *first = bus->func[devfn & ~7u];
    if (there) {
        return err_set(err, EBUSY, "%s: slot %x.%x of bus '%s' is taken by %s", f->dev->type->name,
                       devfn >> 3, devfn & 7, bus->id,
                       there->dev ? there->dev->type->name : "the board");
    }
    if (devfn & 7 && first && !(first->config[PCI_HEADER_TYPE] & PCI_HEADER_MULTI)) {
        return err_set(err, EBUSY,
                       "%s: slot %x of bus '%s' has one function only; add multifunction=on to it",
                       f->dev->type->name, devfn >> 3, bus->id);
    }
    return 0;
}

int pci_func_init(struct pci_func *f, struct dev *dev, const struct pci_ids *ids, struct err *err)
{
    struct pci_bus *bus = dev->bus->owner;
    unsigned devfn = 0;
    f->dev = dev;
    int ret = f->addr ? pci_parse_addr(f, &devfn, err) : pci_pick_slot(f, bus, &devfn, err);
    ret = ret ? ret : pci_take_slot(f, bus, devfn, err);
    if (!ret) {
        pci_func_place(f, bus, (uint8_t)devfn, ids);
        f->config[PCI_HEADER_TYPE] |= f->multifunction ? PCI_HEADER_MULTI : 0;
    }
    return ret;
}

static struct pci_bus *pci_find_bus(struct pci_root *r, unsigned number)
{
    if (!number) {
        return &r->bus0;
    }
    for (unsigned i = 0; i < r->behind_count; i++) {
        if (r->behind[i]->bridge->config[SECONDARY_BUS] == number) {
            return r->behind[i];
        }
    }
    return NULL;
}

struct pci_func *pci_find(struct pci_root *r, unsigned bus, unsigned devfn)
{
    struct pci_bus *b = pci_find_bus(r, bus);
    return b ? b->func[devfn & 0xff] : NULL;
}

/* ---- Access ---- */

static uint32_t pci_root_read(struct pci_root *r, unsigned bus, unsigned devfn, unsigned off,
                              unsigned size)
{
    pthread_mutex_lock(&r->lock);
    struct pci_func *f = pci_find(r, bus, devfn);
    uint32_t v = f ? pci_config_read(f, off, size) : ~0u;
    pthread_mutex_unlock(&r->lock);
    return v;
}

static void pci_root_write(struct pci_root *r, unsigned bus, unsigned devfn, unsigned off,
                           unsigned size, uint32_t val)
{
    pthread_mutex_lock(&r->lock);
    struct pci_func *f = pci_find(r, bus, devfn);
    if (f) {
        pci_config_write(f, off, size, val);
    }
    pthread_mutex_unlock(&r->lock);
}

static uint32_t pci_address(struct pci_root *r)
{
    pthread_mutex_lock(&r->lock);
    uint32_t a = r->address;
    pthread_mutex_unlock(&r->lock);
    return a;
}

static enum mem_result pci_ports_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct pci_root *r = opaque;
    uint32_t a = pci_address(r);
    if (off < 4) {
        if (off || size != 4) {
            return MEM_NONE;
        }
        *val = a;
        return MEM_OK;
    }
    if (!(a & CONFIG_ENABLE)) {
        return MEM_NONE;
    }
    *val = pci_root_read(r, a >> 16 & 0xff, a >> 8 & 0xff, (a & 0xfc) | (off & 3), size);
    return MEM_OK;
}

static enum mem_result pci_ports_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct pci_root *r = opaque;
    if (off == RESET_CONTROL && size == 1) {
        if (val & RST_CPU) {
            machine_ask(r->bus0.machine, MACHINE_REQ_RESET, 0);
        }
        return MEM_OK;
    }
    if (off < 4) { /* only whole */
        if (off || size != 4) {
            return MEM_NONE;
        }
        pthread_mutex_lock(&r->lock);
        r->address = (uint32_t)val & (CONFIG_ENABLE | 0xfffffc);
        pthread_mutex_unlock(&r->lock);
        return MEM_OK;
    }
    uint32_t a = pci_address(r);
    if (!(a & CONFIG_ENABLE)) {
        return MEM_NONE;
    }
    pci_root_write(r, a >> 16 & 0xff, a >> 8 & 0xff, (a & 0xfc) | (off & 3), size, (uint32_t)val);
    return MEM_OK;
}

const struct mmio pci_host_ports = {pci_ports_read, pci_ports_write, 1, 4};

static enum mem_result pci_ecam_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    *val = pci_root_read(opaque, off >> 20 & 0xff, off >> 12 & 0xff, off & 0xfff, size);
    return MEM_OK;
}

static enum mem_result pci_ecam_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    pci_root_write(opaque, off >> 20 & 0xff, off >> 12 & 0xff, off & 0xfff, size, (uint32_t)val);
    return MEM_OK;
}

const struct mmio pci_ecam = {pci_ecam_read, pci_ecam_write, 1, 4};

/* ---- State ---- */

static const struct field pci_root_list[] = {
    FIELD(struct pci_root, lock, FIELD_HOST),
    FIELD(struct pci_root, bus0, FIELD_HOST),
    FIELD(struct pci_root, behind, FIELD_HOST),
    FIELD(struct pci_root, behind_count, FIELD_CONFIG),
    FIELD(struct pci_root, mem, FIELD_HOST),
    FIELD(struct pci_root, io, FIELD_HOST),
    FIELD(struct pci_root, route, FIELD_HOST),
    FIELD(struct pci_root, opaque, FIELD_HOST),
    FIELD(struct pci_root, msi, FIELD_HOST),
    FIELD(struct pci_root, msi_opaque, FIELD_HOST),
    FIELD(struct pci_root, address, FIELD_GUEST),
};

FIELD_SET_SHARED(pci_root_fields, "pci-root", struct pci_root, pci_root_list, 1);
