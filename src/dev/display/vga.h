/* The VGA as devices with a bus use it: registers, memory, picture. */
#ifndef DEV_DISPLAY_VGA_H
#define DEV_DISPLAY_VGA_H

#include <pthread.h>

#include "core/mem.h"
#include "display/display.h"

struct clock;

enum {
    VGA_SEQ_COUNT = 8,
    VGA_CRTC_COUNT = 0x19,
    VGA_GR_COUNT = 9,
    VGA_ATTR_COUNT = 0x15,
    VGA_DISPI_COUNT = 11,
    VGA_PORT_BASE = 0x3b0,
    VGA_PORT_COUNT = 0x30,
    VGA_WINDOW = 0xa0000,
    VGA_WINDOW_SIZE = 0x20000,
    VGA_DISPI_PORT = 0x1ce,
    VGA_DISPI_PORT_COUNT = 4,
};

/* What decides the picture besides memory: copied for each drawing. */
struct vga_regs {
    uint8_t misc, feature, enable;
    uint8_t seq_index, seq[VGA_SEQ_COUNT];
    uint8_t crtc_index, crtc[VGA_CRTC_COUNT];
    uint8_t gr_index, gr[VGA_GR_COUNT];
    uint8_t attr_index, attr[VGA_ATTR_COUNT]; /* index with PAS in bit 5 */
    bool attr_data;                           /* the next write of port 3C0h is data */
    uint8_t dac[256][3], dac_mask;
    uint8_t dac_write, dac_read, dac_part, dac_state, dac_new[2];
    uint16_t dispi_index, dispi[VGA_DISPI_COUNT];
    uint8_t dispi_low; /* the first half of a word at the odd port 1CFh */
};

struct vga_draw;

struct vga {
    pthread_mutex_t lock; /* registers and latches */
    struct vga_regs r;
    uint8_t latch[4];
    struct ram *ram; /* bytes of the four planes side by side */
    struct clock *clock;

    struct display *display; /* NULL: nobody looks */
    struct display_source source;
    struct vga_draw *draw; /* by the display's lock */
};

/* `ram` is a power of two, at least 256 KiB. `display` may be NULL. */
void vga_init(struct vga *vga, struct ram *ram, struct clock *clock, struct display *display);
void vga_fini(struct vga *vga); /* also of zeroes */
void vga_reset(struct vga *vga);
/* For a device whose screen shows the VGA at times, with its own source: as the source's update().
 * Such a VGA was initialised without a display. */
void vga_draw_surface(struct vga *vga, struct display_source *s, bool all);

/* `dev` of all of them is the struct vga. */
extern const struct mmio vga_ports;       /* 3B0h to 3DFh */
extern const struct mmio vga_memory;      /* A0000h to BFFFFh */
extern const struct mmio vga_dispi_ports; /* 1CEh to 1D1h */
extern const struct mmio vga_mmio_ports;  /* 3C0h to 3DFh, from 0 */
extern const struct mmio vga_mmio_dispi;  /* all registers side by side */

/* ---- Between the files of this folder ---- */

enum {
    DISPI_ID = 0,
    DISPI_XRES,
    DISPI_YRES,
    DISPI_BPP,
    DISPI_ENABLE,
    DISPI_BANK,
    DISPI_VIRT_WIDTH,
    DISPI_VIRT_HEIGHT,
    DISPI_X_OFFSET,
    DISPI_Y_OFFSET,
    DISPI_VIDEO_MEMORY_64K,

    DISPI_ENABLED = 0x01,
    DISPI_GETCAPS = 0x02,
    DISPI_8BIT_DAC = 0x20,
    DISPI_LFB_ENABLED = 0x40,
    DISPI_NOCLEARMEM = 0x80,
};

static inline bool vga_dispi_on(const struct vga_regs *r)
{
    return r->dispi[DISPI_ENABLE] & DISPI_ENABLED;
}

/* The guest's translated code may lie here. */
void vga_wrote(struct vga *vga, uint64_t off, uint64_t len);
uint8_t vga_status_1(const struct vga *vga); /* by time: retrace and blanking */
void vga_dispi_reset(struct vga_regs *r);
/* Bytes from one line to the next in memory; of one plane with 4 bits a pixel. */
uint32_t vga_dispi_pitch(const struct vga_regs *r);

/* The screen's timing from the CRTC. */
unsigned vga_lines(const struct vga_regs *r);      /* shown */
unsigned vga_characters(const struct vga_regs *r); /* shown in a line */

extern const struct field_set vga_regs_fields; /* struct vga_regs */

extern const struct field_set vga_fields; /* struct vga */

#endif
