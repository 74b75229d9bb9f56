/* The VGA by its registers and memory, and its pictures dot by dot. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/unit_test.h"
#include "dev/display/edid.h"
#include "dev/display/vga.h"
#include "display/screendump.h"
#include "loop/clock.h"

enum { RAM_SIZE = 1 << 20 };

struct rig {
    struct clock *clock;
    struct display *display;
    struct ram_set rams;
    struct vga vga;
};

static int set_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;
    r->clock = clock_new_virtual();
    r->display = display_new(r->clock);
    vga_init(&r->vga, ram_set_add(&r->rams, "vram", RAM_SIZE, &err), r->clock, r->display);
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    vga_fini(&r->vga);
    display_free(r->display);
    clock_free(r->clock);
    ram_set_free(&r->rams);
    free(r);
    return 0;
}

static void out(struct rig *r, unsigned port, unsigned val)
{
    assert_int_equal(vga_ports.write(&r->vga, port - VGA_PORT_BASE, 1, val), MEM_OK);
}

static unsigned in(struct rig *r, unsigned port)
{
    uint64_t v = 0;
    assert_int_equal(vga_ports.read(&r->vga, port - VGA_PORT_BASE, 1, &v), MEM_OK);
    return (unsigned)v;
}

static void put(struct rig *r, unsigned index_port, unsigned reg, unsigned val)
{
    out(r, index_port, reg);
    out(r, index_port + 1, val);
}

static void put_attr(struct rig *r, unsigned reg, unsigned val)
{
    in(r, 0x3da);
    out(r, 0x3c0, reg);
    out(r, 0x3c0, val);
}

static void poke(struct rig *r, uint32_t at, unsigned val)
{
    assert_int_equal(vga_memory.write(&r->vga, at - VGA_WINDOW, 1, val), MEM_OK);
}

static unsigned peek(struct rig *r, uint32_t at)
{
    uint64_t v = 0;
    assert_int_equal(vga_memory.read(&r->vga, at - VGA_WINDOW, 1, &v), MEM_OK);
    return (unsigned)v;
}

static void dispi(struct rig *r, unsigned reg, unsigned val)
{
    assert_int_equal(vga_mmio_dispi.write(&r->vga, reg * 2, 2, val), MEM_OK);
}

static unsigned dispi_get(struct rig *r, unsigned reg)
{
    uint64_t v = 0;
    vga_mmio_dispi.read(&r->vga, reg * 2, 2, &v);
    return (unsigned)v;
}

/* ---- Modes, as IBM's tables have them ---- */

struct mode {
    uint8_t misc, seq[5], crtc[0x19], gr[9], attr_mode;
};

/* 40 x 25 would do as well; cells are 9 x 16. */
static const struct mode text_80 = {0x67,
                                    {3, 0, 3, 0, 2},
                                    {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0,
                                     0x4f, 0x0d, 0x0e, 0,    0,    0,    0,    0x9c, 0x8e,
                                     0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff},
                                    {0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff},
                                    0x0c};
static const struct mode planar_640 = {0xe3,
                                       {3, 1, 15, 0, 6},
                                       {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0,
                                        0x40, 0,    0,    0,    0,    0,    0,    0xea, 0x8c,
                                        0xdf, 0x28, 0,    0xe7, 4,    0xe3, 0xff},
                                       {0, 0, 0, 0, 0, 0, 5, 15, 0xff},
                                       0x01};
static const struct mode mode_13h = {0x63,
                                     {3, 1, 15, 0, 14},
                                     {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0,
                                      0x41, 0,    0,    0,    0,    0,    0,    0x9c, 0x8e,
                                      0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff},
                                     {0, 0, 0, 0, 0, 0x40, 5, 15, 0xff},
                                     0x41};
static const struct mode cga_4 = {0x63,
                                  {3, 9, 3, 0, 2},
                                  {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0,
                                   0xc1, 0,    0,    0,    0,    0,    0,    0x9c, 0x8e,
                                   0x8f, 0x14, 0,    0x96, 0xb9, 0xa2, 0xff},
                                  {0, 0, 0, 0, 0, 0x30, 15, 0, 0xff},
                                  0x01};

static void set_mode(struct rig *r, const struct mode *m)
{
    out(r, 0x3c2, m->misc);
    for (unsigned i = 0; i < 5; i++) {
        put(r, 0x3c4, i, m->seq[i]);
    }
    put(r, 0x3d4, 0x11, 0);
    for (unsigned i = 0; i < 0x19; i++) {
        put(r, 0x3d4, i, m->crtc[i]);
    }
    for (unsigned i = 0; i < 9; i++) {
        put(r, 0x3ce, i, m->gr[i]);
    }
    for (unsigned i = 0; i < 16; i++) {
        put_attr(r, i, i);
    }
    put_attr(r, 0x10, m->attr_mode);
    put_attr(r, 0x12, 15);
    put_attr(r, 0x13, m == &text_80 ? 8 : 0);
    out(r, 0x3c0, 0x20);
    out(r, 0x3c8, 0);
    for (unsigned i = 0; i < 256 * 3; i++) { /* colour n is (n / 3, n % 3 ...) in six bits */
        out(r, 0x3c9, i / 3 & 0x3f);
    }
}

static uint32_t grey(unsigned n) /* what set_mode() makes of colour n */
{
    n &= 0x3f;
    return (n << 2 | n >> 4) * 0x010101u;
}

/* ---- Pictures ---- */

static void look_keep(void *opaque, const struct surface *s)
{
    *(struct surface *)opaque = *s;
}

static struct surface look(struct rig *r)
{
    struct surface s;
    display_look(r->display, look_keep, &s);
    return s;
}

static uint32_t dot(const struct surface *s, unsigned x, unsigned y)
{
    return s->pixels[y * s->stride + x];
}

static void test_text(void **state)
{
    struct rig *r = *state;
    set_mode(r, &text_80);
    /* The picture of character C1h: dots 0 and 7 in line 0, all in line 15. Plane 2, plain. */
    put(r, 0x3c4, 2, 4);
    put(r, 0x3c4, 4, 6);
    put(r, 0x3ce, 5, 0);
    put(r, 0x3ce, 6, 4);
    poke(r, 0xa0000 + 0xc1 * 32, 0x81);
    poke(r, 0xa0000 + 0xc1 * 32 + 15, 0xff);
    set_mode(r, &text_80);
    put(r, 0x3d4, 0x0f, 2); /* the cursor: third cell, lines 13 and 14 */
    poke(r, 0xb8000, 0xc1);
    poke(r, 0xb8001, 0x1e);
    poke(r, 0xb8002 + 160, 0xc1);
    poke(r, 0xb8003 + 160, 0x97); /* blinks */
    poke(r, 0xb8005, 0x07);
    struct surface s = look(r);
    assert_int_equal(s.width, 720);
    assert_int_equal(s.height, 400);
    static const char first[] = "#......##";
    for (unsigned x = 0; x < 9; x++) {
        assert_int_equal(dot(&s, x, 0), first[x] == '#' ? grey(14) : grey(1));
        assert_int_equal(dot(&s, x, 1), grey(1));
        assert_int_equal(dot(&s, x, 15), grey(14));
        assert_int_equal(dot(&s, 9 + x, 16), first[x] == '#' ? grey(7) : grey(1));
        assert_int_equal(dot(&s, 18 + x, 12), 0);
        assert_int_equal(dot(&s, 18 + x, 13), grey(7));
        assert_int_equal(dot(&s, 18 + x, 14), grey(7));
        assert_int_equal(dot(&s, 18 + x, 15), 0);
    }
    clock_advance(r->clock, 24 * 14286000ull);
    s = look(r);
    assert_int_equal(dot(&s, 9, 16), grey(1));
    assert_int_equal(dot(&s, 18, 13), 0);
    put_attr(r, 0x10, 0x04); /* no blinking: a bright background; the picture is off till 20h */
    out(r, 0x3c0, 0x20);
    s = look(r);
    assert_int_equal(dot(&s, 9, 16), grey(7));
    assert_int_equal(dot(&s, 10, 16), grey(9));
    assert_int_equal(peek(r, 0xb8001), 0x1e);
}

static void test_write_modes(void **state)
{
    struct rig *r = *state;
    static const uint8_t planes[4] = {0x12, 0x34, 0x56, 0x78};
    set_mode(r, &planar_640);
    for (unsigned p = 0; p < 4; p++) {
        put(r, 0x3c4, 2, 1u << p);
        poke(r, 0xa0000, planes[p]);
    }
    put(r, 0x3c4, 2, 15);
    for (unsigned p = 0; p < 4; p++) {
        put(r, 0x3ce, 4, p);
        assert_int_equal(peek(r, 0xa0000), planes[p]);
    }
    /* Mode 1 copies the latches. */
    put(r, 0x3ce, 5, 1);
    poke(r, 0xa0001, 0xff);
    put(r, 0x3ce, 5, 0);
    assert_int_equal(load_le32(r->vga.ram->host + 4), 0x78563412);
    /* Mode 0: rotated by 4, xor, under a mask, set/reset of plane 3. */
    put(r, 0x3ce, 0, 8);
    put(r, 0x3ce, 1, 8);
    put(r, 0x3ce, 3, 0x18 | 4);
    put(r, 0x3ce, 8, 0xf0);
    peek(r, 0xa0000);
    poke(r, 0xa0002, 0x0f);
    assert_int_equal(load_le32(r->vga.ram->host + 8), 0x88a6c4e2);
    /* Mode 2: a colour under a mask. */
    put(r, 0x3ce, 3, 0);
    put(r, 0x3ce, 5, 2);
    put(r, 0x3ce, 8, 0x0f);
    peek(r, 0xa0000);
    poke(r, 0xa0003, 5);
    assert_int_equal(load_le32(r->vga.ram->host + 12), 0x705f301f);
    /* Mode 3: the byte is the mask, set/reset the colour. */
    put(r, 0x3ce, 5, 3);
    put(r, 0x3ce, 8, 0xff);
    put(r, 0x3ce, 0, 2);
    peek(r, 0xa0000);
    poke(r, 0xa0004, 0x81);
    assert_int_equal(load_le32(r->vga.ram->host + 16), 0x7856b512);
    /* Read mode 1: where planes 0 and 1 are 0 and 1. */
    put(r, 0x3ce, 5, 8);
    put(r, 0x3ce, 2, 2);
    put(r, 0x3ce, 7, 3);
    assert_int_equal(peek(r, 0xa0000), 0x34 & ~0x12);
}

static void test_planar(void **state)
{
    struct rig *r = *state;
    set_mode(r, &planar_640);
    put(r, 0x3ce, 5, 2);
    put(r, 0x3ce, 8, 0x20);
    poke(r, 0xa0000 + 80 * 3 + 5, 11);
    struct surface s = look(r);
    assert_int_equal(s.width, 640);
    assert_int_equal(s.height, 480);
    assert_int_equal(dot(&s, 5 * 8 + 2, 3), grey(11));
    assert_int_equal(dot(&s, 5 * 8 + 3, 3), 0);
    put_attr(r, 0x13, 3);
    out(r, 0x3c0, 0x20);
    put(r, 0x3d4, 0x0d, 80);
    s = look(r);
    assert_int_equal(dot(&s, 5 * 8 - 1, 2), grey(11));
    put(r, 0x3d4, 0x07, 0x2e); /* split after line 9: from address 0, line 3 of it at line 13 */
    put(r, 0x3d4, 0x09, 0x00);
    put(r, 0x3d4, 0x18, 9);
    s = look(r);
    assert_int_equal(dot(&s, 5 * 8 - 1, 13), grey(11));
}

static void test_mode_13h(void **state)
{
    struct rig *r = *state;
    set_mode(r, &mode_13h);
    poke(r, 0xa0000 + 320 * 7 + 10, 0x2a);
    poke(r, 0xa0000 + 63999, 0x15);
    assert_int_equal(peek(r, 0xa0000 + 320 * 7 + 10), 0x2a);
    struct surface s = look(r);
    assert_int_equal(s.width, 640);
    assert_int_equal(s.height, 400);
    assert_int_equal(dot(&s, 20, 14), grey(0x2a));
    assert_int_equal(dot(&s, 21, 15), grey(0x2a));
    assert_int_equal(dot(&s, 22, 14), 0);
    assert_int_equal(dot(&s, 639, 399), grey(0x15));
    out(r, 0x3c6, 0x0f); /* the DAC's mask */
    s = look(r);
    assert_int_equal(dot(&s, 20, 14), grey(0x0a));
}

static void test_mode_x(void **state)
{
    struct rig *r = *state;
    set_mode(r, &mode_13h);
    put(r, 0x3c4, 4, 6);
    put(r, 0x3d4, 0x14, 0);
    put(r, 0x3d4, 0x17, 0xe3);
    put(r, 0x3c4, 2, 4); /* x = 4 * 3 + 2, y = 5 */
    poke(r, 0xa0000 + 80 * 5 + 3, 0x33);
    struct surface s = look(r);
    assert_int_equal(dot(&s, 2 * 14, 10), grey(0x33));
    assert_int_equal(dot(&s, 2 * 15, 10), 0);
}

static void test_cga(void **state)
{
    struct rig *r = *state;
    set_mode(r, &cga_4);
    poke(r, 0xb8000 + 81, 0x1b); /* pixels 4 to 7 of line 2: 0 1 2 3 */
    poke(r, 0xba000, 0xc0);      /* pixel 0 of line 1: 3 */
    struct surface s = look(r);
    assert_int_equal(s.width, 640);
    assert_int_equal(s.height, 400);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(dot(&s, 8 + 2 * i, 4), grey(i));
    }
    assert_int_equal(dot(&s, 0, 2), grey(3));
    assert_int_equal(dot(&s, 1, 3), grey(3));
    assert_int_equal(dot(&s, 2, 2), 0);
}

static void test_dispi(void **state)
{
    struct rig *r = *state;
    uint8_t *m = r->vga.ram->host;
    assert_int_equal(dispi_get(r, DISPI_ID), 0xb0c5);
    assert_int_equal(dispi_get(r, DISPI_VIDEO_MEMORY_64K), RAM_SIZE >> 16);
    memset(m, 0xff, RAM_SIZE);
    dispi(r, DISPI_XRES, 320);
    dispi(r, DISPI_YRES, 200);
    dispi(r, DISPI_BPP, 32);
    dispi(r, DISPI_ENABLE, DISPI_ENABLED | DISPI_LFB_ENABLED);
    dispi(r, DISPI_VIRT_WIDTH, 400);
    assert_int_equal(dispi_get(r, DISPI_VIRT_HEIGHT), RAM_SIZE / 1600);
    store_le32(m + 1600 * 10 + 4 * 30, 0xff123456);
    struct surface s = look(r);
    assert_int_equal(s.width, 320);
    assert_int_equal(s.height, 200);
    assert_int_equal(dot(&s, 30, 10), 0x123456);
    assert_int_equal(dot(&s, 0, 0), 0); /* it was cleared */
    dispi(r, DISPI_X_OFFSET, 25);
    dispi(r, DISPI_Y_OFFSET, 8);
    s = look(r);
    assert_int_equal(dot(&s, 5, 2), 0x123456);
    dispi(r, DISPI_Y_OFFSET, 0xffff); /* cut, so that the picture stays in memory */
    assert_int_equal(dispi_get(r, DISPI_Y_OFFSET), RAM_SIZE / 1600 - 200);
    s = look(r);
    /* The window at A0000h, second bank. */
    dispi(r, DISPI_BANK, 1);
    poke(r, 0xa0004, 0x77);
    assert_int_equal(m[0x10004], 0x77);
    dispi(r, DISPI_ENABLE, DISPI_GETCAPS);
    assert_int_equal(dispi_get(r, DISPI_BPP), 32);
}

static void test_dispi_depths(void **state)
{
    struct rig *r = *state;
    static const struct {
        unsigned bpp;
        uint32_t bytes, colour;
    } cases[] = {{15, 0x7c1f, 0xff00ff}, {16, 0x07e0, 0x00ff00}, {24, 0x123456, 0x123456}};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        dispi(r, DISPI_ENABLE, 0);
        dispi(r, DISPI_XRES, 64);
        dispi(r, DISPI_YRES, 8);
        dispi(r, DISPI_BPP, cases[i].bpp);
        dispi(r, DISPI_ENABLE, DISPI_ENABLED);
        store_le32(r->vga.ram->host + (cases[i].bpp + 7) / 8 * 65, cases[i].bytes);
        struct surface s = look(r);
        assert_int_equal(dot(&s, 1, 1), cases[i].colour);
        assert_int_equal(dot(&s, 2, 1), 0);
    }
}

static void test_dispi_ports(void **state)
{
    struct rig *r = *state;
    struct mem_map *io = mem_map_new("io", 0x10000);
    uint64_t v = 0;
    mem_map_add_mmio(io, VGA_DISPI_PORT, VGA_DISPI_PORT_COUNT, &vga_dispi_ports, &r->vga);
    mem_write(io, 0x1ce, 2, DISPI_XRES);
    mem_write(io, 0x1cf, 2, 0x1238);
    mem_read(io, 0x1cf, 2, &v);
    assert_int_equal(v, 0x1238);
    mem_write(io, 0x1d0, 2, 0x0320);
    mem_read(io, 0x1d0, 2, &v);
    assert_int_equal(v, 0x0320);
    mem_map_free(io);
}

static void test_retrace(void **state)
{
    struct rig *r = *state;
    unsigned frames = 0, was = 0;
    set_mode(r, &text_80);
    for (unsigned us = 0; us < 1000000; us += 50) {
        unsigned now = in(r, 0x3da) & 8;
        frames += now && !was;
        was = now;
        clock_advance(r->clock, 50000);
    }
    assert_in_range(frames, 69, 71);
}

static void test_edid(void **state)
{
    uint8_t e[EDID_SIZE], sum = 0;
    edid_make(e, 1280, 800);
    for (unsigned i = 0; i < EDID_SIZE; i++) {
        sum += e[i];
    }
    assert_int_equal(sum, 0);
    assert_int_equal(e[56] | (e[58] & 0xf0) << 4, 1280);
    assert_int_equal(e[59] | (e[61] & 0xf0) << 4, 800);
}

/* ---- Viewers ---- */

struct eye {
    struct viewer v;
    unsigned resized, changed, lines;
};

static void eye_resized(struct viewer *v, const struct surface *s)
{
    container_of(v, struct eye, v)->resized++;
}

static void eye_changed(struct viewer *v, const struct surface *s, const struct rect *rect)
{
    struct eye *e = container_of(v, struct eye, v);
    e->changed++;
    e->lines += rect->height;
}

static void test_changes(void **state)
{
    struct rig *r = *state;
    struct eye e = {.v = {.resized = eye_resized, .changed = eye_changed}};
    set_mode(r, &mode_13h);
    display_add_viewer(r->display, &e.v);
    assert_int_equal(e.resized, 1);
    assert_int_equal(e.lines, 400);
    clock_advance(r->clock, 100000000);
    assert_int_equal(e.changed, 1);
    poke(r, 0xa0000 + 320 * 10, 1);
    poke(r, 0xa0000 + 320 * 100, 1);
    clock_advance(r->clock, 100000000);
    assert_int_equal(e.changed, 3);
    assert_int_equal(e.lines, 404);
    display_remove_viewer(r->display, &e.v);
    poke(r, 0xa0000, 1);
    clock_advance(r->clock, 100000000);
    assert_int_equal(e.changed, 3);
}

static void test_screendump(void **state)
{
    struct rig *r = *state;
    char path[] = "/tmp/vga-test-XXXXXX", head[32] = "";
    struct err err;
    close(mkstemp(path));
    set_mode(r, &mode_13h);
    assert_int_equal(display_screendump(r->display, path, SCREENDUMP_PPM, &err), 0);
    FILE *f = fopen(path, "r");
    assert_int_equal(fread(head, 1, 15, f), 15);
    assert_string_equal(head, "P6\n640 400\n255\n");
    fclose(f);
    assert_int_equal(display_screendump(r->display, path, SCREENDUMP_PNG, &err), 0);
    f = fopen(path, "r");
    assert_int_equal(fread(head, 1, 24, f), 24);
    assert_memory_equal(head, "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x02\x80\0\0\x01\x90", 24);
    fclose(f);
    unlink(path);
}

/* ---- A driver that means no good ---- */

/* In every mode: the start address, the pitch and the split line at and around their ends, with
 * every size of cell. The picture is drawn from video memory and ends. */
static void test_start_and_pitch_at_the_end(void **state)
{
    struct rig *r = *state;
    static const struct mode *const modes[] = {&text_80, &planar_640, &mode_13h, &cga_4};
    static const unsigned starts[] = {0, 0x7fff, 0xfff0, 0xfffe, 0xffff};
    for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
        set_mode(r, modes[m]);
        for (unsigned i = 0; i < ARRAY_LEN(starts) * 4; i++) {
            put(r, 0x3d4, 0x0c, starts[i / 4] >> 8);
            put(r, 0x3d4, 0x0d, starts[i / 4] & 0xff);
            put(r, 0x3d4, 0x13, i & 1 ? 0xff : 0);
            put(r, 0x3d4, 0x18, i & 2 ? 0 : 0xff); /* split */
            put(r, 0x3d4, 0x09, i & 2 ? 0x1f : 0x80);
            put(r, 0x3d4, 0x0e, 0xff); /* the cursor far away */
            put_attr(r, 0x13, i & 15);
            put(r, 0x3d4, 0x08, 0x7f);
            look(r);
        }
        for (unsigned reg = 0; reg < 0x19; reg++) { /* the largest picture, the smallest */
            put(r, 0x3d4, 0x11, 0);
            put(r, 0x3d4, reg, reg & 1 ? 0xff : 0);
            look(r);
        }
    }
}

static const unsigned hostile_sizes[] = {0, 1, 7, 8, 0x7fff, 0x8000, 0xfff8, 0xffff};

/* Bochs VBE: each register at its ends, in each order, with all depths. What is shown and what is
 * cleared stays in video memory. */
static void test_dispi_at_the_end(void **state)
{
    struct rig *r = *state;
    static const uint8_t depths[] = {4, 8, 15, 16, 24, 32};
    static const uint8_t regs[] = {DISPI_XRES, DISPI_YRES, DISPI_VIRT_WIDTH, DISPI_X_OFFSET,
                                   DISPI_Y_OFFSET};
    for (unsigned i = 0; i < ARRAY_LEN(depths) * ARRAY_LEN(hostile_sizes); i++) {
        unsigned size = hostile_sizes[i % ARRAY_LEN(hostile_sizes)];
        dispi(r, DISPI_ENABLE, 0);
        dispi(r, DISPI_BPP, depths[i / ARRAY_LEN(hostile_sizes)]);
        dispi(r, DISPI_XRES, size);
        dispi(r, DISPI_YRES, ~size & 0xffff);
        dispi(r, DISPI_ENABLE, DISPI_ENABLED);
        look(r);
        for (unsigned k = 0; k < ARRAY_LEN(regs) * ARRAY_LEN(hostile_sizes); k++) {
            dispi(r, regs[k % ARRAY_LEN(regs)], hostile_sizes[k / ARRAY_LEN(regs)]);
            uint64_t pitch = (uint64_t)dispi_get(r, DISPI_VIRT_WIDTH) *
                             ((depths[i / ARRAY_LEN(hostile_sizes)] + 7u) / 8);
            uint64_t last = dispi_get(r, DISPI_Y_OFFSET) + dispi_get(r, DISPI_YRES);
            assert_true(depths[i / ARRAY_LEN(hostile_sizes)] == 4 || last * pitch <= RAM_SIZE);
        }
        dispi(r, DISPI_BPP, 32); /* the depth changes with the mode on */
        look(r);
        dispi(r, DISPI_BANK, 0xffff);
        poke(r, 0xaffff, 1);
        peek(r, 0xaffff);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_text),
        T(test_write_modes),
        T(test_planar),
        T(test_mode_13h),
        T(test_mode_x),
        T(test_cga),
        T(test_dispi),
        T(test_dispi_depths),
        T(test_dispi_ports),
        T(test_retrace),
        T(test_edid),
        T(test_changes),
        T(test_screendump),
        T(test_start_and_pitch_at_the_end),
        T(test_dispi_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
