/*
 * The VGA by a guest that means no good: ports, the memory window, DISPI registers at their ports
 * and flat, and drawing in between. Modes of a real PC are set as starting points, so that drawing
 * gets past "the screen is off". Input: a program of accesses.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "dev/display/vga.h"
#include "loop/clock.h"
#include "tests/fuzz/fuzz.h"

enum { RAM_SIZE = 256 << 10, DRAW_MAX = 3, STEPS_MAX = 400 };

struct fuzz {
    struct fuzz_in in;
    struct clock *clock;
    struct display *display;
    struct ram_set rams;
    struct vga vga;
    unsigned drawn;
};

static const struct {
    const struct mmio *ops;
    uint32_t len;
} blocks[] = {
    {&vga_ports, VGA_PORT_COUNT},
    {&vga_memory, VGA_WINDOW_SIZE},
    {&vga_dispi_ports, VGA_DISPI_PORT_COUNT},
    {&vga_mmio_ports, 0x20},
    {&vga_mmio_dispi, 0x16},
};

static void access_block(struct fuzz *f, unsigned n)
{
    const struct mmio *ops = blocks[n].ops;
    unsigned how = fuzz_u8(&f->in), size = 1u << (how >> 1 & 3);
    uint64_t off = fuzz_u32(&f->in) % blocks[n].len, v;
    size = size > ops->max ? ops->max : size < ops->min ? ops->min : size;
    off &= ~(uint64_t)(size - 1);
    if (off + size > blocks[n].len) {
        return;
    }
    if (how & 1) {
        ops->write(&f->vga, off, size, fuzz_u32(&f->in));
    } else {
        ops->read(&f->vga, off, size, &v);
    }
}

static void put(struct fuzz *f, unsigned port, unsigned val)
{
    vga_ports.write(&f->vga, port - VGA_PORT_BASE, 1, val);
}

/* An indexed register: which of four sets, its number, its value. */
static void put_register(struct fuzz *f)
{
    static const uint16_t ports[] = {0x3c4, 0x3ce, 0x3d4, 0x3c0};
    unsigned set = fuzz_u8(&f->in) & 3, reg = fuzz_u8(&f->in), val = fuzz_u8(&f->in);
    uint64_t v;
    if (set == 3) {
        vga_ports.read(&f->vga, 0x3da - VGA_PORT_BASE, 1, &v);
        put(f, 0x3c0, reg);
        put(f, 0x3c0, val);
    } else {
        put(f, ports[set], reg);
        put(f, ports[set] + 1u, val);
    }
}

static void put_dispi(struct fuzz *f)
{
    unsigned reg = fuzz_u8(&f->in) % VGA_DISPI_COUNT;
    vga_mmio_dispi.write(&f->vga, reg * 2, 2, fuzz_u16(&f->in));
}

/* Colour, 32 KiB or 64 KiB in graphics, all running. */
static void start_picture(struct fuzz *f)
{
    unsigned how = fuzz_u8(&f->in);
    put(f, 0x3c2, 0x63);
    put(f, 0x3d4, 0x11);
    put(f, 0x3d5, 0);
    for (unsigned i = 0; i < 0x19; i++) {
        unsigned mask = how & 2 ? 0xff : i == 1 ? 0x1f : i == 7 ? 0x9d : 0xff; /* mostly small */
        put(f, 0x3d4, i);
        put(f, 0x3d5, fuzz_u8(&f->in) & mask);
    }
    put(f, 0x3d4, 0x17);
    put(f, 0x3d5, 0x80 | (how & ~4u));
    put(f, 0x3ce, 6);
    put(f, 0x3cf, how >> 3);
    put(f, 0x3c4, 1);
    put(f, 0x3c5, how & 0x1d);
    put(f, 0x3c0, 0x20);
    put(f, 0x3c0, 0x20);
}

static void use(void *opaque, const struct surface *s)
{
    unsigned sum = 0;
    for (unsigned y = 0; s && y < s->height; y++) {
        sum += s->pixels[y * s->stride] + s->pixels[y * s->stride + s->width - 1];
    }
    *(unsigned *)opaque += sum;
}

static void draw(struct fuzz *f)
{
    unsigned sum = 0;
    if (f->drawn++ < DRAW_MAX) {
        display_look(f->display, use, &sum);
    }
}

static void step(struct fuzz *f)
{
    unsigned what = fuzz_u8(&f->in) % 12;
    switch (what) {
    case 11: draw(f); break;
    case 10: clock_advance(f->clock, fuzz_u32(&f->in)); break;
    case 9: start_picture(f); break;
    case 8:
    case 7: put_dispi(f); break;
    case 6:
    case 5: put_register(f); break;
    default: access_block(f, what);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz *f = calloc(1, sizeof(*f));
    struct err err;
    f->in = (struct fuzz_in){data, data + size};
    f->clock = clock_new_virtual();
    f->display = display_new(f->clock);
    vga_init(&f->vga, ram_set_add(&f->rams, "vram", RAM_SIZE, &err), f->clock, f->display);
    for (unsigned n = 0; f->in.p < f->in.end && n < STEPS_MAX; n++) {
        step(f);
    }
    draw(f);
    vga_fini(&f->vga);
    display_free(f->display);
    clock_free(f->clock);
    ram_set_free(&f->rams);
    free(f);
    return 0;
}
