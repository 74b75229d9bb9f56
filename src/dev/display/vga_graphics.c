/*
 * Graphics: sixteen colours in planes, four colours in pairs of bits, 256 colours in bytes (IBM
 * PS/2 Hardware Interface Technical Reference, "All-points-addressable modes"), and the modes of
 * the Bochs extensions. In each character clock the CRT controller fetches one byte of each plane.
 */
#include "base/endian.h"
#include "dev/display/vga_draw.h"

/* ---- Legacy ---- */

static void planar_8(const struct vga_draw *d, const uint8_t *from, uint32_t *to)
{
    for (unsigned x = 0; x < 8; x++) {
        unsigned bit = 7 - x;
        unsigned v = (from[0] >> bit & 1) | (from[1] >> bit & 1) << 1 | (from[2] >> bit & 1) << 2 |
                     (from[3] >> bit & 1) << 3;
        to[x] = d->ink[v];
    }
}

/* Planes 0 and 2 have the first four pixels, 1 and 3 the others. */
static void pairs_8(const struct vga_draw *d, const uint8_t *from, uint32_t *to)
{
    for (unsigned x = 0; x < 8; x++) {
        unsigned odd = x >> 2, shift = 6 - 2 * (x & 3);
        to[x] = d->ink[(from[odd] >> shift & 3) | (from[odd + 2] >> shift & 3) << 2];
    }
}

static void bytes_8(const struct vga_draw *d, const uint8_t *from, uint32_t *to)
{
    for (unsigned x = 0; x < 8; x++) {
        to[x] = d->colour[from[x / 2]];
    }
}

static void legacy_line(struct vga_draw *d, unsigned y,
                        void (*put)(const struct vga_draw *, const uint8_t *, uint32_t *))
{
    struct vga_row row = vga_row_at(&d->r, y);
    unsigned n = vga_characters(&d->r) + (d->pan != 0);
    for (unsigned i = 0; i < n; i++) {
        uint32_t at = vga_crtc_address(&d->r, row.address + i, row.scan);
        put(d, d->vram + at * 4, d->dots + i * 8);
    }
}

void vga_line_planar(struct vga_draw *d, unsigned y)
{
    legacy_line(d, y, planar_8);
}

void vga_line_pairs(struct vga_draw *d, unsigned y)
{
    legacy_line(d, y, pairs_8);
}

void vga_line_256(struct vga_draw *d, unsigned y)
{
    legacy_line(d, y, bytes_8);
}

/* ---- Bochs extensions ---- */

/* The line's bytes, of which there are `len`; NULL outside of memory. */
static const uint8_t *dispi_line(const struct vga_draw *d, unsigned y, unsigned pixel)
{
    const uint16_t *reg = d->r.dispi;
    uint64_t at = (uint64_t)(reg[DISPI_Y_OFFSET] + y) * vga_dispi_pitch(&d->r) +
                  (uint64_t)reg[DISPI_X_OFFSET] * pixel;
    uint64_t len = (uint64_t)d->width * pixel;
    return at <= d->vram_size && len <= d->vram_size - at ? d->vram + at : NULL;
}

static void dispi_black(struct vga_draw *d)
{
    memset(d->dots, 0, d->width * sizeof(*d->dots));
}

static void dispi_line_4(struct vga_draw *d, unsigned y)
{
    const uint16_t *reg = d->r.dispi;
    uint64_t at =
        (uint64_t)(reg[DISPI_Y_OFFSET] + y) * vga_dispi_pitch(&d->r) + reg[DISPI_X_OFFSET] / 8;
    uint64_t len = d->width / 8, all = d->vram_size / 4;
    if (at > all || len > all - at) {
        dispi_black(d);
        return;
    }
    for (unsigned i = 0; i < len; i++) {
        planar_8(d, d->vram + (at + i) * 4, d->dots + i * 8);
    }
}

static void dispi_line_8(struct vga_draw *d, unsigned y)
{
    const uint8_t *from = dispi_line(d, y, 1);
    for (unsigned x = 0; from && x < d->width; x++) {
        d->dots[x] = d->colour[from[x]];
    }
    if (!from) {
        dispi_black(d);
    }
}

static uint32_t wide_5(unsigned v) /* five bits to eight */
{
    v &= 31;
    return v << 3 | v >> 2;
}

static void dispi_line_15(struct vga_draw *d, unsigned y)
{
    const uint8_t *from = dispi_line(d, y, 2);
    for (unsigned x = 0; from && x < d->width; x++) {
        unsigned v = load_le16(from + 2 * x);
        d->dots[x] = wide_5(v >> 10) << 16 | wide_5(v >> 5) << 8 | wide_5(v);
    }
    if (!from) {
        dispi_black(d);
    }
}

static void dispi_line_16(struct vga_draw *d, unsigned y)
{
    const uint8_t *from = dispi_line(d, y, 2);
    for (unsigned x = 0; from && x < d->width; x++) {
        unsigned v = load_le16(from + 2 * x), green = v >> 5 & 63;
        d->dots[x] = wide_5(v >> 11) << 16 | (green << 2 | green >> 4) << 8 | wide_5(v);
    }
    if (!from) {
        dispi_black(d);
    }
}

static void dispi_line_24(struct vga_draw *d, unsigned y)
{
    const uint8_t *from = dispi_line(d, y, 3);
    for (unsigned x = 0; from && x < d->width; x++, from += 3) {
        d->dots[x] = from[0] | from[1] << 8 | from[2] << 16;
    }
    if (!from) {
        dispi_black(d);
    }
}

static void dispi_line_32(struct vga_draw *d, unsigned y)
{
    const uint8_t *from = dispi_line(d, y, 4);
    for (unsigned x = 0; from && x < d->width; x++) {
        d->dots[x] = load_le32(from + 4 * x) & 0xffffff;
    }
    if (!from) {
        dispi_black(d);
    }
}

void vga_choose_dispi(struct vga_draw *d)
{
    static const struct {
        unsigned bpp;
        void (*line)(struct vga_draw *, unsigned);
    } modes[] = {{4, dispi_line_4},   {8, dispi_line_8},   {15, dispi_line_15},
                 {16, dispi_line_16}, {24, dispi_line_24}, {32, dispi_line_32}};
    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (modes[i].bpp == d->r.dispi[DISPI_BPP]) {
            d->line = modes[i].line;
        }
    }
    d->width = d->r.dispi[DISPI_XRES];
    d->height = d->r.dispi[DISPI_YRES];
}
