/*
 * Text: a character's code in plane 0, its attribute in plane 1, its picture in plane 2. IBM PS/2
 * Hardware Interface Technical Reference, "Alphanumeric modes"; cursor, underline, ninth dot.
 *
 * Does not do: cursor skew.
 */
#include "dev/display/vga_draw.h"

enum {
    SEQ_CLOCKING = 1,
    SEQ_8_DOTS = 0x01,
    SEQ_FONT = 3,
    CRTC_CURSOR_START = 0x0a,
    CRTC_CURSOR_OFF = 0x20,
    CRTC_CURSOR_END = 0x0b,
    CRTC_CURSOR_HIGH = 0x0e,
    CRTC_CURSOR_LOW = 0x0f,
    CRTC_UNDERLINE = 0x14,
    ATTR_MODE = 0x10,
    ATTR_MODE_LINE_GRAPHICS = 0x04,
    ATTR_MODE_BLINK = 0x08,
    ATTRIBUTE_BLINK = 0x80,
    ATTRIBUTE_FONT = 0x08,
    LINE_FIRST = 0xc0, /* characters that are joined at the right */
    LINE_LAST = 0xdf,
    FONT_ROWS = 32,
};

/* Offset of the font of characters with and without attribute bit 3. */
static uint32_t font_offset(const struct vga_regs *r, unsigned attribute)
{
    unsigned v = r->seq[SEQ_FONT];
    unsigned n = attribute & ATTRIBUTE_FONT ? (v >> 3 & 4) | (v >> 2 & 3) : (v >> 2 & 4) | (v & 3);
    return (n & 3) * 0x4000 + (n >> 2) * 0x2000;
}

static unsigned shape(const struct vga_draw *d, unsigned code, unsigned attribute, unsigned scan)
{
    uint32_t at = font_offset(&d->r, attribute) + code * FONT_ROWS + scan;
    bool line =
        d->r.attr[ATTR_MODE] & ATTR_MODE_LINE_GRAPHICS && code >= LINE_FIRST && code <= LINE_LAST;
    unsigned v = d->vram[(at & (VGA_PLANE_SIZE - 1)) * 4 + 2];
    if ((attribute & 7) == 1 && scan == (d->r.crtc[CRTC_UNDERLINE] & 0x1f)) {
        return 0x1ff;
    }
    return v << 1 | (line ? v & 1 : 0);
}

static bool in_cursor(const struct vga_draw *d, uint32_t count, unsigned scan)
{
    const uint8_t *crtc = d->r.crtc;
    uint32_t at = crtc[CRTC_CURSOR_HIGH] << 8 | crtc[CRTC_CURSOR_LOW];
    unsigned start = crtc[CRTC_CURSOR_START];
    return (count & 0xffff) == at && d->cursor_on && !(start & CRTC_CURSOR_OFF) &&
           scan >= (start & 0x1f) && scan <= (crtc[CRTC_CURSOR_END] & 0x1f);
}

static void draw_cell(const struct vga_draw *d, uint32_t *to, uint32_t count, unsigned scan,
                      unsigned wide)
{
    const uint8_t *cell = d->vram + vga_crtc_address(&d->r, count, scan) * 4;
    unsigned code = cell[0], attribute = cell[1], back = attribute >> 4;
    unsigned dots = shape(d, code, attribute, scan);
    if (d->r.attr[ATTR_MODE] & ATTR_MODE_BLINK) {
        back &= 7;
        if (attribute & ATTRIBUTE_BLINK && !d->blink_on) {
            dots = 0;
        }
    }
    if (in_cursor(d, count, scan)) {
        dots = 0x1ff;
    }
    uint32_t ink = d->ink[attribute & 15], paper = d->ink[back];
    for (unsigned x = 0; x < wide; x++) {
        to[x] = dots >> (8 - x) & 1 ? ink : paper;
    }
}

void vga_line_text(struct vga_draw *d, unsigned y)
{
    struct vga_row row = vga_row_at(&d->r, y);
    unsigned wide = d->r.seq[SEQ_CLOCKING] & SEQ_8_DOTS ? 8 : 9, n = vga_characters(&d->r);
    for (unsigned i = 0; i < n + (d->pan != 0); i++) {
        draw_cell(d, d->dots + i * wide, row.address + i, row.scan, wide);
    }
}
