/*
 * The picture: what mode it is, how large, the way of the addresses, and what of it has changed.
 *
 * A refresh copies the registers and draws each line from memory, which the guest may be writing;
 * a line that differs from the surface's goes there and is dirty from the first to the last dot
 * that differs. So no write has to be followed, whoever makes it, and palettes, panning, blinking
 * need no care. Dots are as on the monitor: low resolutions come out with each dot drawn twice.
 */
#include "dev/display/vga_draw.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "core/mem.h"
#include "loop/clock.h"

enum {
    SEQ_CLOCKING = 1,
    SEQ_8_DOTS = 0x01,
    SEQ_CLOCK_HALF = 0x08,
    SEQ_SCREEN_OFF = 0x20,
    CRTC_PRESET_ROW = 0x08,
    CRTC_MAX_SCAN = 0x09,
    CRTC_START_HIGH = 0x0c,
    CRTC_START_LOW = 0x0d,
    CRTC_OFFSET = 0x13,
    CRTC_UNDERLINE = 0x14,
    CRTC_UNDERLINE_DWORD = 0x40,
    CRTC_MODE = 0x17,
    CRTC_MODE_ROW_0 = 0x01, /* not: bit 13 of the address is bit 0 of the row */
    CRTC_MODE_ROW_1 = 0x02,
    CRTC_MODE_LINES_TWICE = 0x04,
    CRTC_MODE_WRAP = 0x20,
    CRTC_MODE_BYTE = 0x40,
    CRTC_MODE_RUN = 0x80,
    CRTC_OVERFLOW = 0x07,
    CRTC_LINE_COMPARE = 0x18,
    GR_MODE = 5,
    GR_MODE_PAIRS = 0x20,
    GR_MODE_256 = 0x40,
    GR_MISC = 6,
    GR_MISC_GRAPHICS = 1,
    ATTR_MODE = 0x10,
    ATTR_MODE_SPLIT_PAN = 0x20,
    ATTR_MODE_P54 = 0x80,
    ATTR_PLANES = 0x12,
    ATTR_PANNING = 0x13,
    ATTR_SELECT = 0x14,
    ATTR_PAS = 0x20,
    FIRST_WIDTH = 720, /* before any mode is set */
    FIRST_HEIGHT = 400,
};

#define FRAME_NS 14286000ull /* 70 a second: what blinking counts */

/* ---- Addresses ---- */

static unsigned line_compare(const struct vga_regs *r)
{
    unsigned v = r->crtc[CRTC_LINE_COMPARE] | (r->crtc[CRTC_OVERFLOW] & 0x10u) << 4 |
                 (r->crtc[CRTC_MAX_SCAN] & 0x40u) << 3;
    return r->crtc[CRTC_MODE] & CRTC_MODE_LINES_TWICE ? 2 * v : v;
}

struct vga_row vga_row_at(const struct vga_regs *r, unsigned y)
{
    const uint8_t *crtc = r->crtc;
    unsigned split = line_compare(r), height = (crtc[CRTC_MAX_SCAN] & 0x1fu) + 1;
    struct vga_row row = {.below_split = y > split};
    uint32_t start = 0;
    unsigned twice = (crtc[CRTC_MAX_SCAN] & 0x80) != 0;
    if (row.below_split) {
        y = (y - split - 1) >> twice;
    } else {
        start = crtc[CRTC_START_HIGH] << 8 | crtc[CRTC_START_LOW];
        start += crtc[CRTC_PRESET_ROW] >> 5 & 3;
        y = (y >> twice) + (crtc[CRTC_PRESET_ROW] & 0x1f);
    }
    row.address = start + y / height * crtc[CRTC_OFFSET] * 2u;
    row.scan = y % height;
    return row;
}

uint32_t vga_crtc_address(const struct vga_regs *r, uint32_t count, unsigned scan)
{
    unsigned mode = r->crtc[CRTC_MODE];
    uint32_t a = count;
    if (r->crtc[CRTC_UNDERLINE] & CRTC_UNDERLINE_DWORD) {
        a = count << 2 | (count >> 14 & 3);
    } else if (!(mode & CRTC_MODE_BYTE)) {
        a = count << 1 | (count >> (mode & CRTC_MODE_WRAP ? 15 : 13) & 1);
    }
    if (!(mode & CRTC_MODE_ROW_0)) {
        a = (a & ~0x2000u) | (scan & 1) << 13;
    }
    if (!(mode & CRTC_MODE_ROW_1)) {
        a = (a & ~0x4000u) | (scan & 2) << 13;
    }
    return a & (VGA_PLANE_SIZE - 1);
}

/* ---- Colours ---- */

static uint32_t dac_colour(const struct vga_regs *r, unsigned n)
{
    const uint8_t *c = r->dac[n & r->dac_mask];
    uint32_t v = 0;
    for (unsigned i = 0; i < 3; i++) {
        uint8_t b =
            r->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC ? c[i] : (uint8_t)(c[i] << 2 | (c[i] >> 4 & 3));
        v = v << 8 | b;
    }
    return v;
}

static void draw_colours(struct vga_draw *d)
{
    const uint8_t *attr = d->r.attr;
    for (unsigned i = 0; i < 256; i++) {
        d->colour[i] = dac_colour(&d->r, i);
    }
    for (unsigned i = 0; i < 16; i++) {
        unsigned v = attr[i & attr[ATTR_PLANES]];
        if (attr[ATTR_MODE] & ATTR_MODE_P54) {
            v = (v & 0x0f) | (attr[ATTR_SELECT] & 3u) << 4;
        }
        d->ink[i] = d->colour[(v & 0x3f) | (attr[ATTR_SELECT] & 0x0cu) << 4];
    }
}

/* ---- Modes ---- */

static bool is_off(const struct vga_regs *r)
{
    return !(r->attr_index & ATTR_PAS) || r->seq[SEQ_CLOCKING] & SEQ_SCREEN_OFF ||
           !(r->crtc[CRTC_MODE] & CRTC_MODE_RUN);
}

/* Dots to skip at the left. With nine dots, 8 stands for none. */
static unsigned panning(const struct vga_regs *r, bool nine)
{
    unsigned v = r->attr[ATTR_PANNING] & 15;
    if (nine) {
        return v >= 8 ? 0 : v + 1;
    }
    return v & 7;
}

static void choose_legacy(struct vga_draw *d)
{
    const struct vga_regs *r = &d->r;
    bool graphics = r->gr[GR_MISC] & GR_MISC_GRAPHICS;
    bool nine = !graphics && !(r->seq[SEQ_CLOCKING] & SEQ_8_DOTS);
    d->twice = r->seq[SEQ_CLOCKING] & SEQ_CLOCK_HALF;
    d->width = vga_characters(r) * (nine ? 9 : 8) * (d->twice ? 2 : 1);
    d->height = vga_lines(r);
    d->pan = panning(r, nine);
    if (!graphics) {
        d->line = vga_line_text;
    } else if (r->gr[GR_MODE] & GR_MODE_256) {
        d->line = vga_line_256;
    } else {
        d->line = r->gr[GR_MODE] & GR_MODE_PAIRS ? vga_line_pairs : vga_line_planar;
    }
}

static void draw_prepare(struct vga *vga, struct vga_draw *d)
{
    uint64_t frame = clock_ns(vga->clock) / FRAME_NS;
    pthread_mutex_lock(&vga->lock);
    d->r = vga->r;
    pthread_mutex_unlock(&vga->lock);
    d->vram = vga->ram->host;
    d->vram_size = vga->ram->size;
    d->cursor_on = !(frame & 8);
    d->blink_on = !(frame & 16);
    d->line = NULL;
    d->pan = 0;
    d->twice = false;
    draw_colours(d);
    if (vga_dispi_on(&d->r)) {
        vga_choose_dispi(d);
    } else if (!is_off(&d->r)) {
        choose_legacy(d);
    }
}

/* ---- A refresh ---- */

static const uint32_t *draw_line(struct vga_draw *d, unsigned y)
{
    bool split = d->r.attr[ATTR_MODE] & ATTR_MODE_SPLIT_PAN && y > line_compare(&d->r);
    if (!d->line) {
        return memset(d->dots, 0, d->width * sizeof(*d->dots));
    }
    d->line(d, y);
    const uint32_t *from = d->dots + (split ? 0 : d->pan);
    if (!d->twice) {
        return from;
    }
    for (unsigned x = 0; x < d->width; x++) {
        d->wide[x] = from[x / 2];
    }
    return d->wide;
}

/* While the screen is off it keeps its size: modes are set with it off. */
static bool draw_resize(struct vga_draw *d, struct display_source *s)
{
    const struct surface *is = &s->surface;
    if (!d->line) {
        d->width = is->pixels ? is->width : FIRST_WIDTH;
        d->height = is->pixels ? is->height : FIRST_HEIGHT;
    }
    return (is->pixels && d->width == is->width && d->height == is->height) ||
           display_resize(s, d->width, d->height);
}

void vga_draw_surface(struct vga *vga, struct display_source *s, bool all)
{
    struct vga_draw *d = vga->draw;
    draw_prepare(vga, d);
    if (!draw_resize(d, s)) {
        return;
    }
    for (unsigned y = 0; y < d->height; y++) {
        display_put_line(s, draw_line(d, y), y);
    }
    if (all) {
        display_dirty(s, 0, 0, d->width, d->height);
    }
}

static void vga_update(void *opaque, bool all)
{
    struct vga *vga = opaque;
    vga_draw_surface(vga, &vga->source, all);
}

static const struct display_source_type vga_source = {.update = vga_update};

/* ---- Life ---- */

void vga_init(struct vga *vga, struct ram *ram, struct clock *clock, struct display *display)
{
    pthread_mutex_init(&vga->lock, NULL);
    vga->ram = ram;
    vga->clock = clock;
    vga->display = display;
    vga->draw = alloc_zero(sizeof(*vga->draw));
    vga_reset(vga);
    if (display) {
        display_add_source(display, &vga->source, &vga_source, vga);
    }
}

void vga_fini(struct vga *vga)
{
    if (!vga->draw) {
        return;
    }
    if (vga->display) {
        display_remove_source(vga->display, &vga->source);
    }
    free(vga->draw);
    vga->draw = NULL;
    pthread_mutex_destroy(&vga->lock);
}
