/* The frame buffer in guest memory: what firmware writes is what is shown, if it may be. */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/err.h"
#include "base/unit_test.h"
#include "core/device.h"
#include "core/machine.h"
#include "dev/display/ramfb.h"
#include "dev/firmware/fw_cfg.h"
#include "display/display.h"
#include "loop/clock.h"
#include "loop/loop.h"

enum {
    RAM = 0x100000,
    DESCRIPTOR = 0x100, /* of DMA */
    CONFIG = 0x200,
    PICTURE = 0x10000,
    DMA_PORT = 0x514,
    WRITE = 16,
    SELECT = 8,
};

#define XR24 0x34325258u
#define XB24 0x34324258u

struct rig {
    struct machine *m;
    struct fw_cfg *f;
    uint8_t *ram;
    char dir[32];
    unsigned key;
    unsigned width, height;
    uint32_t corner[2]; /* the first and the last pixel */
};

static int board_init(struct machine *m, struct err *err)
{
    struct ram *ram = ram_set_add(&m->ram, "ram", RAM, err);
    mem_map_add_ram(m->mem, 0, ram, 0, RAM);
    return 0;
}

static void put_rom(struct rig *r)
{
    char path[64];
    snprintf(r->dir, sizeof(r->dir), "/tmp/ramfb-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(path, sizeof(path), "%s/vgabios-ramfb.bin", r->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("rom", f);
    fclose(f);
}

/* The key of "etc/ramfb", by the directory in the way that firmware reads it. */
static unsigned file_key(struct rig *r)
{
    uint64_t byte;
    uint8_t e[64];
    mem_write(r->m->io, 0x510, 2, FW_CFG_FILE_DIR);
    for (unsigned i = 0; i < 4; i++) {
        mem_read(r->m->io, 0x511, 1, &byte);
    }
    for (unsigned n = 0; n < byte; n++) {
        for (unsigned i = 0; i < 64; i++) {
            uint64_t b;
            mem_read(r->m->io, 0x511, 1, &b);
            e[i] = (uint8_t)b;
        }
        if (!strcmp((char *)e + 8, "etc/ramfb")) {
            assert_int_equal(load_be32(e), 28);
            return load_be16(e + 4);
        }
    }
    fail();
    return 0;
}

static int rig_up(void **state)
{
    static const struct prop no_props[] = {{0}};
    static const struct board_type board = {
        .name = "test", .max_vcpus = 1, .pci = true, .props = no_props, .init = board_init};
    struct machine_config config = {.board = &board, .ram_size = RAM, .vcpus = 1};
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;
    put_rom(r);
    config.firmware_dir = r->dir;
    r->m = machine_new(&config, loop_new(&err), clock_new_virtual(), NULL);
    assert_int_equal(machine_build(r->m, &err), 0);
    r->m->display = display_new(r->m->clock);
    r->ram = r->m->ram.first->host;
    r->f = fw_cfg_new(r->m->mem);
    fw_cfg_map(r->f, r->m->io);
    assert_non_null(dev_new(r->m, &ramfb_type, NULL, &err));
    assert_null(dev_new(r->m, &ramfb_type, NULL, &err));
    if (ramfb_add_files(r->m, r->f, &err)) {
        fail_msg("%s", err.text);
    }
    r->key = file_key(r);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    char path[64];
    struct loop *loop = r->m->loop;
    struct clock *clock = r->m->clock;
    struct display *display = r->m->display;
    machine_free(r->m);
    fw_cfg_free(r->f);
    display_free(display);
    loop_free(loop);
    clock_free(clock);
    snprintf(path, sizeof(path), "%s/vgabios-ramfb.bin", r->dir);
    unlink(path);
    rmdir(r->dir);
    free(r);
    return 0;
}

static void write_config(struct rig *r, unsigned len)
{
    uint8_t *d = r->ram + DESCRIPTOR;
    store_be32(d, r->key << 16 | SELECT | WRITE);
    store_be32(d + 4, len);
    store_be64(d + 8, CONFIG);
    mem_write(r->m->io, DMA_PORT, 4, 0);
    mem_write(r->m->io, DMA_PORT + 4, 4, __builtin_bswap32(DESCRIPTOR));
    assert_int_equal(load_be32(d), 0);
}

static void configure(struct rig *r, uint64_t addr, uint32_t code, uint32_t width, uint32_t height,
                      uint32_t stride)
{
    uint8_t *c = r->ram + CONFIG;
    store_be64(c, addr);
    store_be32(c + 8, code);
    store_be32(c + 12, 0);
    store_be32(c + 16, width);
    store_be32(c + 20, height);
    store_be32(c + 24, stride);
    write_config(r, 28);
}

static void use(void *opaque, const struct surface *s)
{
    struct rig *r = opaque;
    assert_non_null(s);
    r->width = s->width;
    r->height = s->height;
    r->corner[0] = s->pixels[0];
    r->corner[1] = s->pixels[(s->height - 1) * s->stride + s->width - 1];
}

static void look(struct rig *r)
{
    display_look(r->m->display, use, r);
}

static void picture_is_shown(void **state)
{
    struct rig *r = *state;
    look(r);
    assert_int_equal(r->width, 640);
    store_le32(r->ram + PICTURE, 0xff112233);
    store_le32(r->ram + PICTURE + 47 * 400 + 63 * 4, 0x00445566);
    configure(r, PICTURE, XR24, 64, 48, 400);
    look(r);
    assert_int_equal(r->width, 64);
    assert_int_equal(r->height, 48);
    assert_int_equal(r->corner[0], 0x112233);
    assert_int_equal(r->corner[1], 0x445566);
    store_le32(r->ram + PICTURE, 0x778899); /* writes need no telling */
    look(r);
    assert_int_equal(r->corner[0], 0x778899);
    configure(r, PICTURE, XB24, 64, 48, 0);
    look(r);
    assert_int_equal(r->corner[0], 0x998877);
    dev_reset_all(r->m, DEV_RESET_POWER);
    look(r);
    assert_int_equal(r->corner[0], 0);
}

static void nonsense_is_black(void **state)
{
    static const struct {
        uint64_t addr;
        uint32_t code, width, height, stride;
    } bad[] = {
        {PICTURE, 0x36314752, 64, 48, 0},
        {PICTURE, XR24, 0, 48, 0},
        {PICTURE, XR24, 64, 0, 0},
        {PICTURE, XR24, 8193, 48, 0},
        {PICTURE, XR24, 0xffffffff, 0xffffffff, 0xffffffff},
        {PICTURE, XR24, 64, 48, 255},
        {UINT64_MAX - 100, XR24, 64, 48, 0},
        {0, 0, 0, 0, 0},
    };
    struct rig *r = *state;
    memset(r->ram + PICTURE, 0x55, 0x10000);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        configure(r, PICTURE, XR24, 64, 48, 0);
        look(r);
        assert_int_equal(r->corner[0], 0x555555);
        configure(r, bad[i].addr, bad[i].code, bad[i].width, bad[i].height, bad[i].stride);
        look(r);
        assert_int_equal(r->width, 64);
        assert_int_equal(r->corner[0], 0);
    }
}

static void what_is_no_ram_is_black(void **state)
{
    struct rig *r = *state;
    memset(r->ram + RAM - 0x1000, 0x55, 0x1000);
    configure(r, RAM - 64 * 4, XR24, 64, 48, 0); /* one line of it is RAM */
    look(r);
    assert_int_equal(r->corner[0], 0x555555);
    assert_int_equal(r->corner[1], 0);
    configure(r, RAM - 4, XR24, 64, 1, 0);
    look(r);
    assert_int_equal(r->corner[0], 0);
    configure(r, 1ull << 40, XR24, 8192, 8192, 0xffffffff);
    look(r);
    assert_int_equal(r->width, 8192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(picture_is_shown, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(nonsense_is_black, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(what_is_no_ram_is_black, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
