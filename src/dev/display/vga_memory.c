/*
 * The VGA's memory as the processor sees it from A0000h to BFFFFh: four planes behind latches, read
 * modes 0 and 1, write modes 0 to 3, and the ways in which low address bits choose planes
 * (odd/even, chain-4). IBM PS/2 Hardware Interface Technical Reference, FreeVGA "Accessing the VGA
 * Display Memory". In packed modes of the Bochs extensions it is a window of 64 KiB on linear
 * memory.
 *
 * The byte at offset `a` of plane `p` is byte 4 * a + p of the device's memory.
 */
#include "base/bits.h"
#include "base/cleanup.h"
#include "dev/display/vga.h"

enum {
    SEQ_MAP_MASK = 2,
    SEQ_MODE = 4,
    SEQ_PLAIN = 0x04, /* not odd/even */
    SEQ_CHAIN_4 = 0x08,
    GR_SET_RESET = 0,
    GR_ENABLE_SET_RESET = 1,
    GR_COMPARE = 2,
    GR_ROTATE = 3,
    GR_READ_MAP = 4,
    GR_MODE = 5,
    GR_MODE_READ_1 = 0x08,
    GR_MODE_ODD_EVEN = 0x10,
    GR_MISC = 6,
    GR_DONT_CARE = 7,
    GR_BIT_MASK = 8,
    MISC_RAM = 0x02,
    PLANE_SIZE = 0x10000,
    BANK_SIZE = 0x10000,
};

void vga_wrote(struct vga *vga, uint64_t off, uint64_t len)
{
    const struct gmem_span span = {vga->ram->host + off, len, vga->ram, off};
    gmem_wrote(&span);
}

/* Memory map select: what of the 128 KiB is ours. */
static bool window_offset(const struct vga_regs *r, uint32_t off, uint32_t *at)
{
    static const struct {
        uint32_t start, len;
    } maps[4] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};
    unsigned n = r->gr[GR_MISC] >> 2 & 3;
    *at = off - maps[n].start;
    return r->misc & MISC_RAM && off >= maps[n].start && *at < maps[n].len;
}

static bool is_linear(const struct vga_regs *r)
{
    return vga_dispi_on(r) && r->dispi[DISPI_BPP] != 4;
}

static bool linear_offset(const struct vga *vga, uint32_t off, uint64_t *at)
{
    *at = (uint64_t)vga->r.dispi[DISPI_BANK] * BANK_SIZE + off;
    return off < BANK_SIZE && *at < vga->ram->size;
}

/* Offset of the first plane's byte in memory. */
static uint64_t plane_byte(const struct vga *vga, uint32_t a)
{
    if (vga_dispi_on(&vga->r)) {
        a += vga->r.dispi[DISPI_BANK] * (uint32_t)BANK_SIZE;
        return (uint64_t)a * 4 & (vga->ram->size - 1);
    }
    return (a & (PLANE_SIZE - 1)) * 4;
}

static uint32_t pair_address(const struct vga_regs *r, uint32_t a)
{
    bool all = !(r->gr[GR_MISC] & 0x0c); /* of 128 KiB, the upper half fills the odd bytes */
    return (a & 0xfffe) | (all ? a >> 16 & 1 : 0);
}

/* ---- Reads ---- */

static uint8_t compare(const struct vga *vga)
{
    const uint8_t *gr = vga->r.gr;
    uint8_t differ = 0;
    for (unsigned p = 0; p < 4; p++) {
        uint8_t want = gr[GR_COMPARE] >> p & 1 ? 0xff : 0;
        differ |= gr[GR_DONT_CARE] >> p & 1 ? vga->latch[p] ^ want : 0;
    }
    return (uint8_t)~differ;
}

static uint8_t planes_read(struct vga *vga, uint32_t a)
{
    const struct vga_regs *r = &vga->r;
    unsigned plane = r->gr[GR_READ_MAP] & 3;
    if (r->seq[SEQ_MODE] & SEQ_CHAIN_4) {
        plane = a & 3;
        a &= ~3u;
    } else if (r->gr[GR_MODE] & GR_MODE_ODD_EVEN) {
        plane = (plane & 2) | (a & 1);
        a = pair_address(r, a);
    }
    const uint8_t *from = vga->ram->host + plane_byte(vga, a);
    for (unsigned p = 0; p < 4; p++) {
        vga->latch[p] = from[p];
    }
    return r->gr[GR_MODE] & GR_MODE_READ_1 ? compare(vga) : vga->latch[plane];
}

static bool byte_read(struct vga *vga, uint32_t off, uint8_t *val)
{
    uint32_t a;
    uint64_t at;
    if (is_linear(&vga->r)) {
        if (!linear_offset(vga, off, &at)) {
            return false;
        }
        *val = vga->ram->host[at];
        return true;
    }
    if (!window_offset(&vga->r, off, &a)) {
        return false;
    }
    *val = planes_read(vga, a);
    return true;
}

/* ---- Writes ---- */

static uint8_t rotate(uint8_t v, unsigned n)
{
    return (uint8_t)(v >> n | v << (8 - n));
}

static uint8_t all_or_none(unsigned bits, unsigned plane)
{
    return bits >> plane & 1 ? 0xff : 0;
}

static uint8_t combine(unsigned function, uint8_t v, uint8_t latch)
{
    switch (function & 3) {
    case 1: return v & latch;
    case 2: return v | latch;
    case 3: return v ^ latch;
    default: return v;
    }
}

/* What the graphics controller makes of a byte, for one plane. */
static uint8_t make_byte(const struct vga *vga, unsigned plane, uint8_t val)
{
    const uint8_t *gr = vga->r.gr;
    uint8_t latch = vga->latch[plane], mask = gr[GR_BIT_MASK], v;
    uint8_t turned = rotate(val, gr[GR_ROTATE] & 7);
    switch (gr[GR_MODE] & 3) {
    case 0:
        v = gr[GR_ENABLE_SET_RESET] >> plane & 1 ? all_or_none(gr[GR_SET_RESET], plane) : turned;
        break;
    case 1: return latch;
    case 2: v = all_or_none(val, plane); break;
    default:
        mask &= turned;
        v = all_or_none(gr[GR_SET_RESET], plane);
        return (uint8_t)((v & mask) | (latch & ~mask));
    }
    v = combine(gr[GR_ROTATE] >> 3, v, latch);
    return (uint8_t)((v & mask) | (latch & ~mask));
}

static void planes_write(struct vga *vga, uint32_t a, uint8_t val)
{
    const struct vga_regs *r = &vga->r;
    unsigned planes = r->seq[SEQ_MAP_MASK];
    if (r->seq[SEQ_MODE] & SEQ_CHAIN_4) {
        planes &= 1u << (a & 3);
        a &= ~3u;
    } else if (!(r->seq[SEQ_MODE] & SEQ_PLAIN)) {
        planes &= a & 1 ? 0x0a : 0x05;
        a = pair_address(r, a);
    }
    uint64_t at = plane_byte(vga, a);
    for (unsigned p = 0; p < 4; p++) {
        if (planes >> p & 1) {
            vga->ram->host[at + p] = make_byte(vga, p, val);
        }
    }
    vga_wrote(vga, at, 4);
}

static bool byte_write(struct vga *vga, uint32_t off, uint8_t val)
{
    uint32_t a;
    uint64_t at;
    if (is_linear(&vga->r)) {
        if (!linear_offset(vga, off, &at)) {
            return false;
        }
        vga->ram->host[at] = val;
        vga_wrote(vga, at, 1);
        return true;
    }
    if (!window_offset(&vga->r, off, &a)) {
        return false;
    }
    planes_write(vga, a, val);
    return true;
}

/* ---- Accesses ---- */

static enum mem_result memory_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct vga *vga = opaque;
    AUTO_LOCK(&vga->lock);
    *val = 0;
    for (unsigned i = 0; i < size; i++) {
        uint8_t b;
        if (!byte_read(vga, (uint32_t)off + i, &b)) {
            return MEM_NONE;
        }
        *val |= (uint64_t)b << 8 * i;
    }
    return MEM_OK;
}

static enum mem_result memory_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct vga *vga = opaque;
    AUTO_LOCK(&vga->lock);
    for (unsigned i = 0; i < size; i++) {
        if (!byte_write(vga, (uint32_t)off + i, val >> 8 * i & 0xff)) {
            return MEM_NONE;
        }
    }
    return MEM_OK;
}

const struct mmio vga_memory = {memory_read, memory_write, 1, 8};
