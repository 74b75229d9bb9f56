/*
 * Bochs VBE extensions, "DISPI": VBE DISPI interface of the Bochs project, version B0C5h, and
 * QEMU's "standard VGA" specification for where the registers are. Modes of 4 (planar), 8, 15, 16,
 * 24 and 32 bits a pixel; the frame buffer is linear, also through the window of 64 KiB at A0000h.
 *
 * A mode is sanitised when it is enabled and whenever a register changes, so that the rest of the
 * VGA finds only pictures that lie in memory.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "dev/display/vga.h"
#include "state/field.h"

enum { DISPI_ID_FIRST = 0xb0c0, DISPI_ID_LAST = 0xb0c5, DISPI_BPP_MAX = 32, BANK_SIZE = 0x10000 };

void vga_dispi_reset(struct vga_regs *r)
{
    memset(r->dispi, 0, sizeof(r->dispi));
    r->dispi[DISPI_ID] = DISPI_ID_LAST;
    r->dispi[DISPI_BPP] = 8;
    r->dispi_index = 0;
}

static uint32_t pitch(const struct vga_regs *r, uint32_t width)
{
    unsigned bpp = r->dispi[DISPI_BPP];
    return bpp == 4 ? (width + 7) / 8 : width * ((bpp + 7) / 8);
}

uint32_t vga_dispi_pitch(const struct vga_regs *r)
{
    return pitch(r, r->dispi[DISPI_VIRT_WIDTH]);
}

/* Bytes that a picture has, of one plane if it is planar. */
static uint32_t dispi_memory(const struct vga *vga)
{
    return (uint32_t)(vga->r.dispi[DISPI_BPP] == 4 ? vga->ram->size / 4 : vga->ram->size);
}

static uint16_t at_most(uint32_t v, uint32_t max)
{
    return (uint16_t)(v > max ? max : v);
}

/* Width first, then as many lines as there is memory for. */
static void dispi_bound(struct vga *vga)
{
    uint16_t *d = vga->r.dispi;
    uint32_t memory = dispi_memory(vga);
    d[DISPI_XRES] = at_most(d[DISPI_XRES] & ~7u, DISPLAY_MAX_WIDTH);
    d[DISPI_XRES] = d[DISPI_XRES] ? d[DISPI_XRES] : 8;
    d[DISPI_VIRT_WIDTH] = at_most(d[DISPI_VIRT_WIDTH] & ~7u, 2 * DISPLAY_MAX_WIDTH);
    if (d[DISPI_VIRT_WIDTH] < d[DISPI_XRES]) {
        d[DISPI_VIRT_WIDTH] = d[DISPI_XRES];
    }
    uint32_t lines = memory / vga_dispi_pitch(&vga->r);
    d[DISPI_YRES] = at_most(d[DISPI_YRES], lines > DISPLAY_MAX_HEIGHT ? DISPLAY_MAX_HEIGHT : lines);
    d[DISPI_YRES] = d[DISPI_YRES] ? d[DISPI_YRES] : 1;
    d[DISPI_VIRT_HEIGHT] = at_most(lines, 0xffff);
    d[DISPI_X_OFFSET] = at_most(d[DISPI_X_OFFSET], d[DISPI_VIRT_WIDTH] - d[DISPI_XRES]);
    d[DISPI_Y_OFFSET] = at_most(d[DISPI_Y_OFFSET], d[DISPI_VIRT_HEIGHT] - d[DISPI_YRES]);
}

static void dispi_enable(struct vga *vga, uint16_t val)
{
    uint16_t *d = vga->r.dispi;
    bool was = d[DISPI_ENABLE] & DISPI_ENABLED;
    d[DISPI_ENABLE] = val & (DISPI_ENABLED | DISPI_GETCAPS | DISPI_8BIT_DAC | DISPI_LFB_ENABLED |
                             DISPI_NOCLEARMEM);
    if (!(val & DISPI_ENABLED)) {
        d[DISPI_BANK] = 0;
        return;
    }
    if (was) {
        return;
    }
    d[DISPI_VIRT_WIDTH] = d[DISPI_X_OFFSET] = d[DISPI_Y_OFFSET] = 0;
    dispi_bound(vga);
    if (!(val & DISPI_NOCLEARMEM)) {
        uint64_t n = (uint64_t)vga_dispi_pitch(&vga->r) * d[DISPI_YRES];
        n = d[DISPI_BPP] == 4 ? n * 4 : n;
        memset(vga->ram->host, 0, n);
        vga_wrote(vga, 0, n);
    }
}

static bool dispi_depth_ok(unsigned bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

static void dispi_write(struct vga *vga, unsigned n, uint16_t val)
{
    uint16_t *d = vga->r.dispi;
    switch (n) {
    case DISPI_ID:
        if (val >= DISPI_ID_FIRST && val <= DISPI_ID_LAST) {
            d[n] = val;
        }
        return;
    case DISPI_BPP:
        if (!val || dispi_depth_ok(val)) {
            d[n] = val ? val : 8;
        }
        break;
    case DISPI_ENABLE: dispi_enable(vga, val); return;
    case DISPI_BANK: d[n] = (uint16_t)(val & (vga->ram->size / BANK_SIZE - 1)); return;
    case DISPI_XRES:
    case DISPI_YRES:
    case DISPI_VIRT_WIDTH:
    case DISPI_X_OFFSET:
    case DISPI_Y_OFFSET: d[n] = val; break;
    default: return;
    }
    if (vga_dispi_on(&vga->r)) {
        dispi_bound(vga);
    }
}

static uint16_t dispi_read(const struct vga *vga, unsigned n)
{
    const uint16_t *d = vga->r.dispi;
    if (d[DISPI_ENABLE] & DISPI_GETCAPS) {
        switch (n) {
        case DISPI_XRES: return DISPLAY_MAX_WIDTH;
        case DISPI_YRES: return DISPLAY_MAX_HEIGHT;
        case DISPI_BPP: return DISPI_BPP_MAX;
        }
    }
    return n < VGA_DISPI_COUNT ? d[n] : 0;
}

/* ---- Ports: the index at 1CEh; data at 1CFh and 1D0h ---- */

/* A word at the odd port arrives as two bytes; they are put together here. */
static enum mem_result ports_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct vga *vga = opaque;
    AUTO_LOCK(&vga->lock);
    if (!off) {
        *val = vga->r.dispi_index;
        return MEM_OK;
    }
    uint16_t v = dispi_read(vga, vga->r.dispi_index);
    *val = off == 2 && size == 1 ? v >> 8 : v;
    return MEM_OK;
}

static enum mem_result ports_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct vga *vga = opaque;
    AUTO_LOCK(&vga->lock);
    if (!off) {
        vga->r.dispi_index = (uint16_t)val;
    } else if (off == 1) {
        vga->r.dispi_low = (uint8_t)val;
    } else if (off == 2) {
        uint16_t v = (uint16_t)(size == 1 ? vga->r.dispi_low | val << 8 : val);
        dispi_write(vga, vga->r.dispi_index, v);
    }
    return MEM_OK;
}

const struct mmio vga_dispi_ports = {ports_read, ports_write, 1, 2};

static enum mem_result flat_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct vga *vga = opaque;
    AUTO_LOCK(&vga->lock);
    *val = dispi_read(vga, (unsigned)off / 2);
    return MEM_OK;
}

static enum mem_result flat_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct vga *vga = opaque;
    AUTO_LOCK(&vga->lock);
    dispi_write(vga, (unsigned)off / 2, (uint16_t)val);
    return MEM_OK;
}

const struct mmio vga_mmio_dispi = {flat_read, flat_write, 2, 2};

/* ---- State ---- */

static const struct field vga_list[] = {
    FIELD(struct vga, lock, FIELD_HOST),
    FIELD(struct vga, r, FIELD_GUEST, .sub = &vga_regs_fields),
    FIELD_ARRAY(struct vga, latch, FIELD_GUEST),
    FIELD(struct vga, ram, FIELD_HOST),
    FIELD(struct vga, clock, FIELD_HOST),
    FIELD(struct vga, display, FIELD_HOST),
    FIELD(struct vga, source, FIELD_HOST),
    FIELD(struct vga, draw, FIELD_HOST),
};

static int vga_loaded(void *obj, struct err *err)
{
    struct vga *vga = obj;
    AUTO_LOCK(&vga->lock);
    uint16_t *d = vga->r.dispi;
    if (!dispi_depth_ok(d[DISPI_BPP])) {
        return err_set(err, EINVAL, "state of vga: %u bits a pixel", d[DISPI_BPP]);
    }
    d[DISPI_BANK] &= (uint16_t)(vga->ram->size / BANK_SIZE - 1);
    if (vga_dispi_on(&vga->r)) {
        dispi_bound(vga);
    }
    return 0;
}

FIELD_SET_SHARED(vga_fields, "vga", struct vga, vga_list, 1, .loaded = vga_loaded);
