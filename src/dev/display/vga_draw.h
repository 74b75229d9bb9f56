/* Between the files that draw: the registers of one moment, and a line to draw into. */
#ifndef DEV_DISPLAY_VGA_DRAW_H
#define DEV_DISPLAY_VGA_DRAW_H

#include "dev/display/vga.h"

enum {
    VGA_LEGACY_WIDTH = 256 * 9 * 2, /* the most characters, nine dots, each twice */
    VGA_PLANE_SIZE = 0x10000,
    VGA_DOTS = DISPLAY_MAX_WIDTH + 64,
};
_Static_assert(VGA_LEGACY_WIDTH + 64 <= VGA_DOTS, "a line with what panning takes");

struct vga_draw {
    struct vga_regs r;
    const uint8_t *vram;
    uint64_t vram_size;
    bool cursor_on, blink_on; /* phases: the cursor shows; blinking characters show */
    uint32_t colour[256];     /* DAC entries, by pixel */
    uint32_t ink[16];         /* attributes 0 to 15 through the palette */
    unsigned width, height;
    /* Fills `dots` with line `y` and what is left of it by `pan` dots; NULL: a black screen. */
    void (*line)(struct vga_draw *d, unsigned y);
    unsigned pan;
    bool twice; /* the dot clock is halved: each dot is two wide */
    uint32_t dots[VGA_DOTS], wide[VGA_DOTS];
};

/* Where the CRT controller is in line `y`. */
struct vga_row {
    uint32_t address; /* of the first character, before the modes' shifts */
    unsigned scan;    /* line in the character */
    bool below_split; /* after the line compare */
};

struct vga_row vga_row_at(const struct vga_regs *r, unsigned y);
/* Offset in a plane. */
uint32_t vga_crtc_address(const struct vga_regs *r, uint32_t count, unsigned scan);

void vga_line_text(struct vga_draw *d, unsigned y);
void vga_line_planar(struct vga_draw *d, unsigned y);
void vga_line_pairs(struct vga_draw *d, unsigned y); /* two bits a pixel, as on the CGA */
void vga_line_256(struct vga_draw *d, unsigned y);
/* Of the Bochs extensions; also 4 bits. */
void vga_choose_dispi(struct vga_draw *d);

#endif
