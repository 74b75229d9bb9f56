/* A function's configuration space and what its BARs decode. PCI Local Bus 3.0 6.1 and 6.2. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/fields.h"
#include "core/machine.h"
#include "dev/pci/pci.h"

enum { CONFIG_SIZE = 256, CONFIG_SIZE_EXPRESS = 4096, ROM_ENABLE = 1, FIRST_CAP = 0x40 };
#define PCI_SPACE_END (1ull << 52)

static unsigned bar_offset(unsigned n)
{
    return n == PCI_BAR_ROM ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4 * n;
}

/* ---- Making ---- */

/* INTx# through the bridges above: each turns the pins by its slot (PCI-to-PCI Bridge 1.2 9.1). */
static void pci_connect_line(struct pci_func *f, unsigned pin)
{
    const struct pci_bus *bus = f->bus;
    unsigned slot = f->devfn >> 3;
    while (bus->bridge) {
        pin = (pin + slot) & 3;
        slot = bus->bridge->devfn >> 3;
        bus = bus->bridge->bus;
    }
    irq_connect(&f->intx, bus->root->route(bus->root->opaque, slot, pin));
}

static void pci_set_ids(struct pci_func *f, const struct pci_ids *ids)
{
    uint8_t *c = f->config;
    store_le16(c + PCI_VENDOR_ID, ids->vendor);
    store_le16(c + PCI_DEVICE_ID, ids->device);
    c[PCI_REVISION_ID] = ids->revision;
    c[PCI_CLASS_PROG] = ids->class_code & 0xff;
    store_le16(c + PCI_CLASS_PROG + 1, ids->class_code >> 8 & 0xffff);
    store_le16(c + PCI_SUBSYSTEM_VENDOR_ID, ids->subvendor ? ids->subvendor : 0x1af4);
    store_le16(c + PCI_SUBSYSTEM_ID, ids->subvendor ? ids->subdevice : 0x1100);
    c[PCI_INTERRUPT_PIN] = ids->interrupt_pin;
}

void pci_func_place(struct pci_func *f, struct pci_bus *bus, uint8_t devfn,
                    const struct pci_ids *ids)
{
    assert(!bus->func[devfn]);
    f->bus = bus;
    f->devfn = devfn;
    f->config_size = bus->express ? CONFIG_SIZE_EXPRESS : CONFIG_SIZE;
    f->config = alloc_zero(f->config_size);
    f->writable = alloc_zero(f->config_size);
    f->clearable = alloc_zero(f->config_size);
    f->next_cap = FIRST_CAP;
    f->next_ext_cap = CONFIG_SIZE;
    pthread_mutex_init(&f->lock, NULL);
    pci_set_ids(f, ids);
    store_le16(f->writable + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
                                              PCI_COMMAND_INTX_DISABLE | 0x140);
    store_le16(f->clearable + PCI_STATUS, 0xf900);
    f->writable[PCI_INTERRUPT_LINE] = 0xff;
    f->writable[PCI_CACHE_LINE_SIZE] = 0xff;
    if (ids->interrupt_pin) {
        pci_connect_line(f, ids->interrupt_pin - 1u);
    }
    bus->func[devfn] = f;
}

void pci_func_fini(struct pci_func *f)
{
    if (!f->bus) {
        return;
    }
    f->bus->func[f->devfn] = NULL;
    pci_cap_fini(f);
    free(f->config);
    free(f->writable);
    free(f->clearable);
    pthread_mutex_destroy(&f->lock);
    f->bus = NULL;
}

void pci_func_reset(struct pci_func *f)
{
    pthread_mutex_lock(&f->bus->root->lock);
    store_le16(f->config + PCI_COMMAND, 0);
    f->config[PCI_INTERRUPT_LINE] = 0;
    f->config[PCI_CACHE_LINE_SIZE] = 0;
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        if (f->bar[i].node) {
            bool wide = i != PCI_BAR_ROM && f->bar[i].kind & PCI_BAR_MEM64;
            store_le32(f->config + bar_offset(i), i == PCI_BAR_ROM ? 0 : f->bar[i].kind);
            if (wide) {
                store_le32(f->config + bar_offset(i) + 4, 0);
            }
        }
    }
    pci_bars_update(f);
    pci_cap_reset(f);
    pthread_mutex_unlock(&f->bus->root->lock);
    pci_irq_set(f, false);
}

/* ---- BARs ---- */

struct mem_node *pci_bar_add(struct pci_func *f, unsigned n, unsigned kind, uint64_t size)
{
    struct machine *m = f->bus->machine;
    struct pci_bar *bar = &f->bar[n];
    bool io = kind & PCI_BAR_IO;
    assert(!bar->node && size >= (io ? 4 : 2048) && !(size & (size - 1)));
    bar->kind = (uint8_t)kind;
    bar->size = size;
    bar->node = mem_map_add_container(io ? m->io : m->mem, 0, size);
    mem_node_enable(bar->node, false);
    mem_node_place(bar->node, io ? f->bus->root->io : f->bus->root->mem, 0, 1);
    uint64_t mask = ~(size - 1);
    store_le32(f->writable + bar_offset(n), (uint32_t)mask | (n == PCI_BAR_ROM ? ROM_ENABLE : 0));
    if (n != PCI_BAR_ROM) {
        store_le32(f->config + bar_offset(n), kind);
        if (kind & PCI_BAR_MEM64) {
            store_le32(f->writable + bar_offset(n) + 4, (uint32_t)(mask >> 32));
        }
    }
    return bar->node;
}

struct mem_node *pci_bar_put_mmio(struct pci_func *f, unsigned n, uint64_t off, uint64_t len,
                                  const struct mmio *ops, void *opaque)
{
    struct machine *m = f->bus->machine;
    struct mem_map *map = f->bar[n].kind & PCI_BAR_IO ? m->io : m->mem;
    mem_map_begin(map);
    struct mem_node *node = mem_map_add_mmio(map, 0, len, ops, opaque);
    mem_node_place(node, f->bar[n].node, off, 0);
    mem_map_commit(map);
    return node;
}

struct mem_node *pci_bar_put_ram(struct pci_func *f, unsigned n, uint64_t off, struct ram *ram)
{
    struct mem_map *map = f->bus->machine->mem;
    mem_map_begin(map);
    struct mem_node *node = mem_map_add_ram(map, 0, ram, 0, ram->size);
    mem_node_place(node, f->bar[n].node, off, 0);
    mem_map_commit(map);
    return node;
}

void pci_bar_add_mmio(struct pci_func *f, unsigned n, unsigned kind, uint64_t size,
                      const struct mmio *ops, void *opaque)
{
    pci_bar_add(f, n, kind, size);
    pci_bar_put_mmio(f, n, 0, size, ops, opaque);
}

int pci_rom_add(struct pci_func *f, const void *image, size_t len, struct err *err)
{
    uint64_t size = 2048;
    while (size < len && size < 16 << 20) {
        size *= 2;
    }
    if (!len || len > size) {
        return err_set(err, EINVAL, "an expansion ROM has at most 16 MiB, this one %zu bytes", len);
    }
    struct machine *m = f->bus->machine;
    f->rom = ram_set_add(&m->ram, "rom", size, err);
    if (!f->rom) {
        return -ENOMEM;
    }
    memcpy(f->rom->host, image, len);
    size = size < 4096 ? 4096 : size;
    pci_bar_add(f, PCI_BAR_ROM, PCI_BAR_MEM32, size);
    mem_map_begin(m->mem);
    struct mem_node *node = mem_map_add_rom(m->mem, 0, f->rom, 0, f->rom->size);
    mem_node_place(node, f->bar[PCI_BAR_ROM].node, 0, 0);
    mem_map_commit(m->mem);
    return 0;
}

/* The bridges above forward; else nothing behind them answers. */
static bool pci_forwarded(const struct pci_func *f, unsigned command)
{
    for (const struct pci_func *b = f->bus->bridge; b; b = b->bus->bridge) {
        if (!(load_le16(b->config + PCI_COMMAND) & command)) {
            return false;
        }
    }
    return true;
}

static bool pci_bar_address(const struct pci_func *f, unsigned n, uint64_t *at)
{
    const struct pci_bar *b = &f->bar[n];
    unsigned need = b->kind & PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    uint32_t low = load_le32(f->config + bar_offset(n));
    *at = low & ~(b->kind & PCI_BAR_IO ? 3u : 15u);
    if (n == PCI_BAR_ROM) {
        *at = low & ~0x7ffu;
    } else if (b->kind & PCI_BAR_MEM64) {
        *at |= (uint64_t)load_le32(f->config + bar_offset(n) + 4) << 32;
    }
    uint64_t end = b->kind & PCI_BAR_IO ? 0x10000 : PCI_SPACE_END;
    return load_le16(f->config + PCI_COMMAND) & need && pci_forwarded(f, need) && *at &&
           *at < end && b->size <= end - *at && (n != PCI_BAR_ROM || low & ROM_ENABLE);
}

void pci_bars_update(struct pci_func *f)
{
    struct machine *m = f->bus->machine;
    mem_map_begin(m->mem);
    mem_map_begin(m->io);
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        uint64_t at;
        if (!f->bar[i].node) {
            continue;
        }
        bool on = pci_bar_address(f, i, &at);
        if (on) {
            mem_node_move(f->bar[i].node, at);
        }
        mem_node_enable(f->bar[i].node, on);
    }
    mem_map_commit(m->io);
    mem_map_commit(m->mem);
}

/* ---- Access; the root's lock is held ---- */

uint32_t pci_config_read(struct pci_func *f, unsigned off, unsigned size)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < size; i++) {
        v |= (off + i < f->config_size ? f->config[off + i] : 0xffu) << 8 * i;
    }
    return v;
}

static bool overlaps(unsigned off, unsigned len, unsigned start, unsigned size)
{
    return off < start + size && start < off + len;
}

static void pci_func_written(struct pci_func *f, unsigned off, unsigned len)
{
    if (overlaps(off, len, PCI_COMMAND, 2)) {
        pthread_mutex_lock(&f->lock);
        bool level = f->level;
        pthread_mutex_unlock(&f->lock);
        pci_irq_set(f, level); /* INTX_DISABLE may have changed */
    }
    if (overlaps(off, len, PCI_COMMAND, 1) || overlaps(off, len, PCI_BASE_ADDRESS_0, 24) ||
        overlaps(off, len, PCI_ROM_ADDRESS, 4)) {
        pci_bars_update(f);
    }
    pci_cap_written(f, off, len);
    if (f->written) {
        f->written(f, off, len);
    }
}

void pci_config_write(struct pci_func *f, unsigned off, unsigned size, uint32_t val)
{
    for (unsigned i = 0; i < size && off + i < f->config_size; i++) {
        uint8_t b = val >> 8 * i & 0xff, w = f->writable[off + i];
        uint8_t *c = &f->config[off + i], clear = f->clearable[off + i];
        if (w | clear) { /* what is left is the device's: PCI_STATUS_INTERRUPT changes meanwhile */
            *c = (uint8_t)(((*c & ~w) | (b & w)) & ~(b & clear));
        }
    }
    pci_func_written(f, off, size);
}

struct mem_map *pci_dma(struct pci_func *f)
{
    /* One byte that the guest changes at any time: no lock would make it truer. */
    uint8_t command = __atomic_load_n(&f->config[PCI_COMMAND], __ATOMIC_RELAXED);
    return command & PCI_COMMAND_MASTER ? f->bus->machine->mem : NULL;
}

/* ---- State ---- */

static const struct field pci_bar_list[] = {
    FIELD(struct pci_bar, node, FIELD_HOST),
    FIELD(struct pci_bar, size, FIELD_CONFIG),
    FIELD(struct pci_bar, kind, FIELD_CONFIG),
};

FIELD_SET(pci_bar_fields, "pci-bar", struct pci_bar, pci_bar_list, 1);

static const struct field pci_func_list[] = {
    FIELD(struct pci_func, dev, FIELD_HOST),
    FIELD(struct pci_func, bus, FIELD_HOST),
    FIELD(struct pci_func, devfn, FIELD_CONFIG),
    FIELD(struct pci_func, config_size, FIELD_CONFIG),
    FIELD_AT(struct pci_func, config, config_size, FIELD_GUEST),
    FIELD(struct pci_func, writable, FIELD_HOST),
    FIELD(struct pci_func, clearable, FIELD_HOST),
    FIELD_ARRAY(struct pci_func, bar, FIELD_GUEST, .sub = &pci_bar_fields),
    FIELD(struct pci_func, next_cap, FIELD_CONFIG),
    FIELD(struct pci_func, next_ext_cap, FIELD_CONFIG),
    FIELD(struct pci_func, lock, FIELD_HOST),
    FIELD(struct pci_func, intx, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct pci_func, level, FIELD_GUEST),
    FIELD(struct pci_func, msi, FIELD_CONFIG),
    FIELD(struct pci_func, msix, FIELD_GUEST, .sub = &pci_msix_fields),
    FIELD(struct pci_func, written, FIELD_HOST),
    FIELD(struct pci_func, addr, FIELD_HOST),
    FIELD(struct pci_func, multifunction, FIELD_CONFIG),
    FIELD(struct pci_func, rom, FIELD_HOST),
};

/* A guest cannot place a BAR at another address than a multiple of its size. */
static int pci_bar_check(const struct pci_func *f, unsigned n, struct err *err)
{
    uint64_t at;
    if (f->bar[n].node && pci_bar_address(f, n, &at) && at & (f->bar[n].size - 1)) {
        return err_set(err, EINVAL, "state of pci-function: BAR %u is not aligned", n);
    }
    return 0;
}

/* What is writable follows from what is locked, which `written` sees to. */
static int pci_func_loaded(void *obj, struct err *err)
{
    struct pci_func *f = obj;
    int ret = 0;
    if (!f->bus) {
        return 0;
    }
    pthread_mutex_lock(&f->bus->root->lock);
    for (unsigned i = 0; i < PCI_BAR_COUNT && !ret; i++) {
        ret = pci_bar_check(f, i, err);
    }
    if (!ret) {
        pci_func_written(f, 0, f->config_size);
    }
    pthread_mutex_unlock(&f->bus->root->lock);
    return ret;
}

FIELD_SET_SHARED(pci_func_fields, "pci-function", struct pci_func, pci_func_list, 1,
                 .loaded = pci_func_loaded);
