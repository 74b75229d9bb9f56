/*
 * The VGA on PCI, 1234:1111: QEMU's "standard VGA" specification. BAR 0 is its memory, BAR 2 has
 * the EDID and the registers; "VGA" answers at the legacy addresses as well, as its command
 * register allows. "bochs-display" and "secondary-vga" have no legacy addresses and no ROM.
 */
#include "dev/display/vga_pci.h"

#include <errno.h>

#include "base/bits.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/display/edid.h"
#include "dev/display/vga.h"
#include "dev/display/vga_bus.h"
#include "dev/pci/pci.h"
#include "state/field.h"

enum {
    MMIO_SIZE = 0x1000,
    MMIO_EDID = 0,
    MMIO_EDID_SIZE = 0x400,
    VRAM_BAR = 0,
    MMIO_BAR = 2,
    REVISION = 2, /* has the extended registers */
    CLASS_VGA = 0x030000,
    CLASS_OTHER = 0x038000,
    MONITOR_MIN = 64,
    MONITOR_MAX = 4095,
};

#define MEMORY_MIN (1ull << 20)
#define MEMORY_MAX (512ull << 20)

struct vga_pci {
    struct dev dev;
    struct pci_func func;
    struct vga vga;
    struct vga_legacy legacy;
    uint8_t edid[EDID_SIZE];

    /* Options. */
    uint32_t megs, width, height;
    uint64_t bytes; /* of bochs-display, in place of `megs` */
    char *rom;
    bool has_edid, has_mmio;
};

/* ---- BAR 2 ---- */

static enum mem_result edid_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    const struct vga_pci *p = opaque;
    *val = 0;
    for (unsigned i = 0; i < size; i++) {
        uint64_t b = p->has_edid && off + i < EDID_SIZE ? p->edid[off + i] : 0;
        *val |= b << 8 * i;
    }
    return MEM_OK;
}

static enum mem_result edid_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    return MEM_READONLY;
}

static const struct mmio edid_ops = {edid_read, edid_write, 1, 4};

static void vga_pci_add_mmio(struct vga_pci *p, bool ports)
{
    pci_bar_add(&p->func, MMIO_BAR, PCI_BAR_MEM32, MMIO_SIZE);
    pci_bar_put_mmio(&p->func, MMIO_BAR, MMIO_EDID, MMIO_EDID_SIZE, &edid_ops, p);
    vga_bar_add_registers(&p->func, MMIO_BAR, &p->vga, ports);
}

static void vga_pci_written(struct pci_func *f, unsigned off, unsigned len)
{
    if (off <= PCI_COMMAND && off + len > PCI_COMMAND) {
        vga_legacy_update(&container_of(f, struct vga_pci, func)->legacy, f);
    }
}

/* ---- Life ---- */

/* What was asked for, rounded up to a power of 2, as a BAR has it. */
static uint64_t memory_size(const struct vga_pci *p)
{
    uint64_t want = p->megs ? (uint64_t)p->megs << 20 : p->bytes, size = MEMORY_MIN;
    while (size < want && size <= MEMORY_MAX) {
        size *= 2;
    }
    return want < MEMORY_MIN ? 0 : size;
}

static int check_options(const struct vga_pci *p, struct err *err)
{
    const char *name = p->dev.type->name;
    uint64_t size = memory_size(p);
    if (size < MEMORY_MIN || size > MEMORY_MAX) {
        return err_set(err, EINVAL, "%s: its memory goes from 1 MiB to 512 MiB", name);
    }
    if (p->width < MONITOR_MIN || p->width > MONITOR_MAX || p->height < MONITOR_MIN ||
        p->height > MONITOR_MAX) {
        return err_set(err, EINVAL, "%s: xres and yres go from %u to %u", name, MONITOR_MIN,
                       MONITOR_MAX);
    }
    return 0;
}

static int vga_pci_start(struct vga_pci *p, uint32_t class_code, struct err *err)
{
    const struct pci_ids ids = {
        .vendor = 0x1234, .device = 0x1111, .class_code = class_code, .revision = REVISION};
    struct machine *m = p->dev.machine;
    int ret = check_options(p, err);
    ret = ret ? ret : pci_func_init(&p->func, &p->dev, &ids, err);
    struct ram *ram = ret ? NULL : ram_set_add(&m->ram, p->dev.type->name, memory_size(p), err);
    if (!ram) {
        return ret ? ret : -ENOMEM;
    }
    edid_make(p->edid, p->width, p->height);
    vga_init(&p->vga, ram, m->clock, m->display);
    pci_bar_add(&p->func, VRAM_BAR, PCI_BAR_MEM32 | PCI_BAR_PREFETCH, ram->size);
    pci_bar_put_ram(&p->func, VRAM_BAR, 0, ram);
    return 0;
}

static int vga_pci_init(struct dev *dev, struct err *err)
{
    struct vga_pci *p = container_of(dev, struct vga_pci, dev);
    int ret = vga_pci_start(p, CLASS_VGA, err);
    if (!ret) {
        if (p->has_mmio) {
            vga_pci_add_mmio(p, true);
        }
        vga_legacy_add(&p->legacy, &p->func, &p->vga);
        p->func.written = vga_pci_written;
        ret = vga_rom_add(&p->func, p->rom, err);
    }
    return ret;
}

static int secondary_init(struct dev *dev, struct err *err)
{
    struct vga_pci *p = container_of(dev, struct vga_pci, dev);
    int ret = vga_pci_start(p, CLASS_OTHER, err);
    if (!ret) {
        vga_pci_add_mmio(p, true);
    }
    return ret;
}

static int bochs_init(struct dev *dev, struct err *err)
{
    struct vga_pci *p = container_of(dev, struct vga_pci, dev);
    int ret = vga_pci_start(p, CLASS_OTHER, err);
    if (!ret) {
        vga_pci_add_mmio(p, false);
    }
    return ret;
}

static void vga_pci_reset(struct dev *dev, enum dev_reset how)
{
    struct vga_pci *p = container_of(dev, struct vga_pci, dev);
    pci_func_reset(&p->func);
    if (p->func.written) {
        vga_legacy_update(&p->legacy, &p->func);
    }
    vga_reset(&p->vga);
}

static void vga_pci_fini(struct dev *dev)
{
    struct vga_pci *p = container_of(dev, struct vga_pci, dev);
    vga_fini(&p->vga);
    pci_func_fini(&p->func);
}

#define MONITOR_PROPS                                                                              \
    PCI_PROPS(struct vga_pci, func),                                                               \
        {"edid", PROP_BOOL, offsetof(struct vga_pci, has_edid), "on",                              \
         "the monitor says its size"},                                                             \
        {"xres", PROP_U32, offsetof(struct vga_pci, width), "1280", "preferred width"},            \
    {                                                                                              \
        "yres", PROP_U32, offsetof(struct vga_pci, height), "800", "preferred height"              \
    }

static const struct prop vga_props[] = {
    MONITOR_PROPS,
    {"vgamem_mb", PROP_U32, offsetof(struct vga_pci, megs), "16", "memory in MiB"},
    {"mmio", PROP_BOOL, offsetof(struct vga_pci, has_mmio), "on", "registers in a BAR as well"},
    {"romfile", PROP_TEXT, offsetof(struct vga_pci, rom), "vgabios-stdvga.bin", "its firmware"},
    {0},
};

static const struct prop secondary_props[] = {
    MONITOR_PROPS,
    {"vgamem_mb", PROP_U32, offsetof(struct vga_pci, megs), "16", "memory in MiB"},
    {0},
};

static const struct prop bochs_props[] = {
    MONITOR_PROPS,
    {"vgamem", PROP_SIZE, offsetof(struct vga_pci, bytes), "16M", "memory"},
    {0},
};

/* ---- State ---- */

static const struct field vga_pci_list[] = {
    FIELD(struct vga_pci, dev, FIELD_HOST),
    FIELD(struct vga_pci, func, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct vga_pci, vga, FIELD_GUEST, .sub = &vga_fields),
    FIELD(struct vga_pci, legacy, FIELD_HOST),
    FIELD(struct vga_pci, edid, FIELD_HOST),
    FIELD(struct vga_pci, megs, FIELD_CONFIG),
    FIELD(struct vga_pci, width, FIELD_CONFIG),
    FIELD(struct vga_pci, height, FIELD_CONFIG),
    FIELD(struct vga_pci, bytes, FIELD_CONFIG),
    FIELD(struct vga_pci, rom, FIELD_HOST),
    FIELD(struct vga_pci, has_edid, FIELD_CONFIG),
    FIELD(struct vga_pci, has_mmio, FIELD_CONFIG),
};

FIELD_SET(vga_pci_fields, "vga-pci", struct vga_pci, vga_pci_list, 1);

const struct dev_type vga_pci_type = {
    .name = "VGA",
    .summary = "VGA with Bochs VBE extensions",
    .spec = "VGA",
    .bus = "PCI",
    .size = sizeof(struct vga_pci),
    .state = &vga_pci_fields,
    .props = vga_props,
    .init = vga_pci_init,
    .reset = vga_pci_reset,
    .fini = vga_pci_fini,
};

const struct dev_type vga_pci_secondary_type = {
    .name = "secondary-vga",
    .summary = "VGA with Bochs VBE extensions, without legacy addresses",
    .spec = "VGA",
    .bus = "PCI",
    .size = sizeof(struct vga_pci),
    .state = &vga_pci_fields,
    .props = secondary_props,
    .init = secondary_init,
    .reset = vga_pci_reset,
    .fini = vga_pci_fini,
};

const struct dev_type bochs_display_type = {
    .name = "bochs-display",
    .summary = "frame buffer with Bochs VBE extensions only",
    .spec = "VGA",
    .bus = "PCI",
    .size = sizeof(struct vga_pci),
    .state = &vga_pci_fields,
    .props = bochs_props,
    .init = bochs_init,
    .reset = vga_pci_reset,
    .fini = vga_pci_fini,
};
