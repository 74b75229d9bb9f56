/*
 * VGA registers: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem" (1992), and
 * FreeVGA's register descriptions. Sequencer, CRT controller, graphics and attribute controllers,
 * the palette DAC, miscellaneous output and status.
 *
 * Does not do: the vertical retrace interrupt (PCs have it off), light pens, monitor sensing,
 * palette registers that refuse writes while the picture is on (software counts on neither way).
 */
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "dev/display/vga.h"
#include "loop/clock.h"
#include "state/field.h"

/* Ports, from 3B0h. */
enum {
    P_CRTC_INDEX_MONO = 0x04,
    P_CRTC_DATA_MONO = 0x05,
    P_STATUS_1_MONO = 0x0a,
    P_ATTR = 0x10,
    P_ATTR_READ = 0x11,
    P_MISC = 0x12, /* reads: input status 0 */
    P_ENABLE = 0x13,
    P_SEQ_INDEX = 0x14,
    P_SEQ_DATA = 0x15,
    P_DAC_MASK = 0x16,
    P_DAC_READ_INDEX = 0x17, /* reads: state */
    P_DAC_WRITE_INDEX = 0x18,
    P_DAC_DATA = 0x19,
    P_FEATURE_READ = 0x1a,
    P_MISC_READ = 0x1c,
    P_GR_INDEX = 0x1e,
    P_GR_DATA = 0x1f,
    P_CRTC_INDEX = 0x24,
    P_CRTC_DATA = 0x25,
    P_STATUS_1 = 0x2a,
};

enum {
    MISC_COLOUR = 0x01, /* CRTC at 3D4h, not 3B4h */
    MISC_CLOCK_28 = 0x04,
    SEQ_CLOCKING = 1,
    SEQ_CLOCK_HALF = 0x08,
    SEQ_8_DOTS = 0x01,
    CRTC_TOTAL = 0x00,
    CRTC_DISPLAY_END = 0x01,
    CRTC_V_TOTAL = 0x06,
    CRTC_OVERFLOW = 0x07,
    CRTC_V_SYNC_START = 0x10,
    CRTC_V_SYNC_END = 0x11,
    CRTC_V_DISPLAY_END = 0x12,
    CRTC_MODE = 0x17,
    CRTC_PROTECT = 0x80,
    CRTC_LINES_TWICE = 0x04,
    DAC_STATE_WRITE = 0,
    DAC_STATE_READ = 3,
    STATUS_DISABLED = 0x01,
    STATUS_RETRACE = 0x08,
};

static const uint8_t seq_bits[VGA_SEQ_COUNT] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const uint8_t gr_bits[VGA_GR_COUNT] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
static const uint8_t attr_bits[VGA_ATTR_COUNT] = {0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
                                                  0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
                                                  0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f};

/* ---- Time on the screen ---- */

unsigned vga_characters(const struct vga_regs *r)
{
    return r->crtc[CRTC_DISPLAY_END] + 1u;
}

/* A vertical register with its bits 8 and 9 in the overflow register. */
static unsigned vertical(const struct vga_regs *r, unsigned reg, unsigned bit8, unsigned bit9)
{
    unsigned over = r->crtc[CRTC_OVERFLOW];
    unsigned v = r->crtc[reg] | (over >> bit8 & 1) << 8 | (over >> bit9 & 1) << 9;
    return r->crtc[CRTC_MODE] & CRTC_LINES_TWICE ? 2 * v : v;
}

unsigned vga_lines(const struct vga_regs *r)
{
    unsigned n = vertical(r, CRTC_V_DISPLAY_END, 1, 6);
    return n + (r->crtc[CRTC_MODE] & CRTC_LINES_TWICE ? 2 : 1);
}

static uint8_t status_at(const struct vga_regs *r, uint64_t ns)
{
    unsigned wide = r->seq[SEQ_CLOCKING] & SEQ_8_DOTS ? 8 : 9;
    uint64_t hz = r->misc & MISC_CLOCK_28 ? 28322000 : 25175000;
    uint64_t columns = r->crtc[CRTC_TOTAL] + 5u, lines = vertical(r, CRTC_V_TOTAL, 0, 5) + 2;
    hz = r->seq[SEQ_CLOCKING] & SEQ_CLOCK_HALF ? hz / 2 : hz;
    uint64_t at = muldiv64(ns, hz, NS_PER_SEC) / wide % (columns * lines);
    unsigned line = (unsigned)(at / columns), column = (unsigned)(at % columns);
    unsigned sync = vertical(r, CRTC_V_SYNC_START, 2, 7);
    unsigned length = (r->crtc[CRTC_V_SYNC_END] - r->crtc[CRTC_V_SYNC_START]) & 15;
    bool shown = line < vga_lines(r) && column < vga_characters(r);
    bool retrace = line >= sync && line < sync + (length ? length : 16);
    return (uint8_t)((shown ? 0 : STATUS_DISABLED) | (retrace ? STATUS_RETRACE : 0));
}

uint8_t vga_status_1(const struct vga *vga)
{
    return status_at(&vga->r, clock_ns(vga->clock));
}

/* ---- Reads ---- */

static uint8_t dac_read(struct vga_regs *r)
{
    uint8_t v = r->dac[r->dac_read][r->dac_part];
    if (++r->dac_part == 3) {
        r->dac_part = 0;
        r->dac_read++;
    }
    return v;
}

static uint8_t attr_read(const struct vga_regs *r)
{
    unsigned n = r->attr_index & 0x1f;
    return n < VGA_ATTR_COUNT ? r->attr[n] : 0;
}

/* The CRTC and what is beside it answer at one of two addresses. */
static bool port_there(const struct vga_regs *r, unsigned port)
{
    bool colour = r->misc & MISC_COLOUR;
    return (port < P_ATTR && !colour) || (port >= P_ATTR && port < P_ATTR + 16) ||
           (port >= P_ATTR + 16 && colour);
}

static unsigned port_plain(unsigned port) /* mono to colour */
{
    return port < P_ATTR ? port + 0x20 : port;
}

static bool port_read(struct vga *vga, unsigned port, uint8_t *val)
{
    struct vga_regs *r = &vga->r;
    switch (port) {
    case P_ATTR: *val = r->attr_index; return true;
    case P_ATTR_READ: *val = attr_read(r); return true;
    case P_MISC: *val = 0; return true;
    case P_ENABLE: *val = r->enable; return true;
    case P_SEQ_INDEX: *val = r->seq_index; return true;
    case P_SEQ_DATA: *val = r->seq[r->seq_index]; return true;
    case P_DAC_MASK: *val = r->dac_mask; return true;
    case P_DAC_READ_INDEX: *val = r->dac_state; return true;
    case P_DAC_WRITE_INDEX: *val = r->dac_write; return true;
    case P_DAC_DATA: *val = dac_read(r); return true;
    case P_FEATURE_READ: *val = r->feature; return true;
    case P_MISC_READ: *val = r->misc; return true;
    case P_GR_INDEX: *val = r->gr_index; return true;
    case P_GR_DATA: *val = r->gr_index < VGA_GR_COUNT ? r->gr[r->gr_index] : 0; return true;
    case P_CRTC_INDEX: *val = r->crtc_index; return true;
    case P_CRTC_DATA:
        *val = r->crtc_index < VGA_CRTC_COUNT ? r->crtc[r->crtc_index] : 0;
        return true;
    case P_STATUS_1:
        r->attr_data = false;
        *val = vga_status_1(vga);
        return true;
    default: return false;
    }
}

static enum mem_result vga_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct vga *vga = opaque;
    uint8_t v;
    AUTO_LOCK(&vga->lock);
    if (!port_there(&vga->r, (unsigned)off) || !port_read(vga, port_plain((unsigned)off), &v)) {
        return MEM_NONE;
    }
    *val = v;
    return MEM_OK;
}

/* ---- Writes ---- */

static void attr_write(struct vga_regs *r, uint8_t val)
{
    unsigned n = r->attr_index & 0x1f;
    if (!r->attr_data) {
        r->attr_index = val & 0x3f;
    } else if (n < VGA_ATTR_COUNT) {
        r->attr[n] = val & attr_bits[n];
    }
    r->attr_data = !r->attr_data;
}

static void crtc_write(struct vga_regs *r, uint8_t val)
{
    unsigned n = r->crtc_index;
    if (n >= VGA_CRTC_COUNT) {
        return;
    }
    if (n <= CRTC_OVERFLOW && r->crtc[CRTC_V_SYNC_END] & CRTC_PROTECT) {
        if (n == CRTC_OVERFLOW) { /* bit 8 of the line compare is free */
            r->crtc[n] = (uint8_t)((r->crtc[n] & ~0x10) | (val & 0x10));
        }
        return;
    }
    r->crtc[n] = val;
}

/* The colour is set when all of it is there. */
static void dac_write(struct vga_regs *r, uint8_t val)
{
    bool wide = r->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC;
    val &= wide ? 0xff : 0x3f;
    if (r->dac_part < 2) {
        r->dac_new[r->dac_part++] = val;
        return;
    }
    uint8_t *to = r->dac[r->dac_write++];
    to[0] = r->dac_new[0];
    to[1] = r->dac_new[1];
    to[2] = val;
    r->dac_part = 0;
}

static bool port_write_dac(struct vga_regs *r, unsigned port, uint8_t val)
{
    switch (port) {
    case P_DAC_MASK: r->dac_mask = val; return true;
    case P_DAC_READ_INDEX:
        r->dac_read = val;
        r->dac_part = 0;
        r->dac_state = DAC_STATE_READ;
        return true;
    case P_DAC_WRITE_INDEX:
        r->dac_write = val;
        r->dac_part = 0;
        r->dac_state = DAC_STATE_WRITE;
        return true;
    case P_DAC_DATA: dac_write(r, val); return true;
    default: return false;
    }
}

static bool port_write(struct vga_regs *r, unsigned port, uint8_t val)
{
    switch (port) {
    case P_ATTR: attr_write(r, val); return true;
    case P_MISC: r->misc = val & 0xef; return true;
    case P_ENABLE: r->enable = val & 1; return true;
    case P_SEQ_INDEX: r->seq_index = val & (VGA_SEQ_COUNT - 1); return true;
    case P_SEQ_DATA: r->seq[r->seq_index] = val & seq_bits[r->seq_index]; return true;
    case P_GR_INDEX: r->gr_index = val & 15; return true;
    case P_GR_DATA:
        if (r->gr_index < VGA_GR_COUNT) {
            r->gr[r->gr_index] = val & gr_bits[r->gr_index];
        }
        return true;
    case P_CRTC_INDEX: r->crtc_index = val & 0x3f; return true;
    case P_CRTC_DATA: crtc_write(r, val); return true;
    case P_STATUS_1: r->feature = val & 0x10; return true;
    default: return port_write_dac(r, port, val);
    }
}

static enum mem_result vga_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct vga *vga = opaque;
    AUTO_LOCK(&vga->lock);
    if (!port_there(&vga->r, (unsigned)off) ||
        !port_write(&vga->r, port_plain((unsigned)off), (uint8_t)val)) {
        return MEM_NONE;
    }
    return MEM_OK;
}

const struct mmio vga_ports = {vga_read, vga_write, 1, 1};

static enum mem_result vga_mmio_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    return vga_read(opaque, off + P_ATTR, size, val);
}

static enum mem_result vga_mmio_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    return vga_write(opaque, off + P_ATTR, size, val);
}

const struct mmio vga_mmio_ports = {vga_mmio_read, vga_mmio_write, 1, 1};

/* Nothing is shown until firmware has set a mode. */
void vga_reset(struct vga *vga)
{
    AUTO_LOCK(&vga->lock);
    struct vga_regs *r = &vga->r;
    memset(r, 0, sizeof(*r));
    memset(vga->latch, 0, sizeof(vga->latch));
    r->misc = MISC_COLOUR;
    r->enable = 1;
    r->dac_mask = 0xff;
    vga_dispi_reset(r);
    r->dispi[DISPI_VIDEO_MEMORY_64K] = (uint16_t)(vga->ram->size >> 16);
}

/* ---- State ---- */

static const struct field vga_regs_list[] = {
    FIELD(struct vga_regs, misc, FIELD_GUEST),
    FIELD(struct vga_regs, feature, FIELD_GUEST),
    FIELD(struct vga_regs, enable, FIELD_GUEST),
    FIELD(struct vga_regs, seq_index, FIELD_GUEST, .max = VGA_SEQ_COUNT - 1),
    FIELD_ARRAY(struct vga_regs, seq, FIELD_GUEST),
    FIELD(struct vga_regs, crtc_index, FIELD_GUEST, .max = 0x3f),
    FIELD_ARRAY(struct vga_regs, crtc, FIELD_GUEST),
    FIELD(struct vga_regs, gr_index, FIELD_GUEST, .max = 15),
    FIELD_ARRAY(struct vga_regs, gr, FIELD_GUEST),
    FIELD(struct vga_regs, attr_index, FIELD_GUEST, .max = 0x3f),
    FIELD_ARRAY(struct vga_regs, attr, FIELD_GUEST),
    FIELD(struct vga_regs, attr_data, FIELD_GUEST),
    FIELD_ROWS(struct vga_regs, dac, FIELD_GUEST),
    FIELD(struct vga_regs, dac_mask, FIELD_GUEST),
    FIELD(struct vga_regs, dac_write, FIELD_GUEST),
    FIELD(struct vga_regs, dac_read, FIELD_GUEST),
    FIELD(struct vga_regs, dac_part, FIELD_GUEST, .max = 2),
    FIELD(struct vga_regs, dac_state, FIELD_GUEST),
    FIELD_ARRAY(struct vga_regs, dac_new, FIELD_GUEST),
    FIELD(struct vga_regs, dispi_index, FIELD_GUEST),
    FIELD_ARRAY(struct vga_regs, dispi, FIELD_GUEST),
    FIELD(struct vga_regs, dispi_low, FIELD_GUEST),
};

/* Bits that there are not stay away, as when the guest writes them. */
static int vga_regs_loaded(void *obj, struct err *err)
{
    struct vga_regs *r = obj;
    for (unsigned i = 0; i < VGA_SEQ_COUNT; i++) {
        r->seq[i] &= seq_bits[i];
    }
    for (unsigned i = 0; i < VGA_GR_COUNT; i++) {
        r->gr[i] &= gr_bits[i];
    }
    for (unsigned i = 0; i < VGA_ATTR_COUNT; i++) {
        r->attr[i] &= attr_bits[i];
    }
    return 0;
}

FIELD_SET_SHARED(vga_regs_fields, "vga-registers", struct vga_regs, vga_regs_list, 1,
                 .loaded = vga_regs_loaded);
