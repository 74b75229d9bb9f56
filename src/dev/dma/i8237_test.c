/* The DMA controllers, programmed as a PC's software does. */
#include "dev/dma/i8237.h"

#include <string.h>

#include "base/err.h"
#include "base/unit_test.h"
#include "core/test_touch.h"

enum { RAM_SIZE = 0x100000 };

struct rig {
    struct ram_set rams;
    struct mem_map *mem, *io;
    struct i8237_pair *dma;
    unsigned ready;
};

static void out8(struct rig *r, unsigned port, unsigned val)
{
    mem_write(r->io, port, 1, val);
}

static unsigned in8(struct rig *r, unsigned port)
{
    uint64_t v;
    mem_read(r->io, port, 1, &v);
    return (unsigned)v;
}

static int rig_up(void **state)
{
    static struct rig rig;
    struct err err;
    memset(&rig, 0, sizeof(rig));
    rig.mem = mem_map_new("mem", 0);
    rig.io = mem_map_new("io", 0x10000);
    mem_map_add_ram(rig.mem, 0, ram_set_add(&rig.rams, "ram", RAM_SIZE, &err), 0, RAM_SIZE);
    rig.dma = i8237_new(rig.mem);
    i8237_map(rig.dma, rig.io);
    *state = &rig;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    i8237_free(r->dma);
    mem_map_free(r->mem);
    mem_map_free(r->io);
    ram_set_free(&r->rams);
    return 0;
}

/* Channel 2: mode, page and address, count less one. */
static void program(struct rig *r, unsigned mode, unsigned addr, unsigned count)
{
    out8(r, 0x0a, 6);
    out8(r, 0x0c, 0);
    out8(r, 0x0b, mode | 2);
    out8(r, 0x04, addr & 0xff);
    out8(r, 0x04, addr >> 8 & 0xff);
    out8(r, 0x81, addr >> 16);
    out8(r, 0x05, count & 0xff);
    out8(r, 0x05, count >> 8);
    out8(r, 0x0a, 2);
}

static unsigned peek(struct rig *r, unsigned at)
{
    uint8_t b = 0;
    gmem_read(r->mem, at, &b, 1);
    return b;
}

static void to_memory_until_terminal_count(void **state)
{
    struct rig *r = *state;
    uint8_t buf[16] = "0123456789abcdef";
    bool tc;
    program(r, 0x44, 0x12345, 23);
    assert_int_equal(i8237_to_memory(r->dma, 2, buf, 16, &tc), 16);
    assert_false(tc);
    out8(r, 0x0c, 0);
    assert_int_equal(in8(r, 0x04), 0x55);
    assert_int_equal(in8(r, 0x04), 0x23);
    assert_int_equal(in8(r, 0x05), 7);
    assert_int_equal(in8(r, 0x05), 0);
    assert_int_equal(i8237_to_memory(r->dma, 2, buf, 16, &tc), 8);
    assert_true(tc);
    assert_int_equal(peek(r, 0x12345), '0');
    assert_int_equal(peek(r, 0x12355), '0');
    assert_int_equal(peek(r, 0x1235c), '7');
    assert_int_equal(peek(r, 0x1235d), 0);
    assert_int_equal(in8(r, 0x08) & 0xf, 4);
    assert_int_equal(in8(r, 0x08) & 0xf, 0);
    assert_int_equal(in8(r, 0x0f) & 0xf, 0xf); /* masked by its end */
    assert_int_equal(i8237_to_memory(r->dma, 2, buf, 16, &tc), 0);
}

static void wraps_within_its_page(void **state)
{
    struct rig *r = *state;
    bool tc;
    program(r, 0x44, 0x1fffe, 3);
    assert_int_equal(i8237_to_memory(r->dma, 2, "abcd", 4, &tc), 4);
    assert_true(tc);
    assert_int_equal(peek(r, 0x1ffff), 'b');
    assert_int_equal(peek(r, 0x10000), 'c');
    assert_int_equal(peek(r, 0x20000), 0);
    program(r, 0x64, 0x30002, 3); /* downwards */
    assert_int_equal(i8237_to_memory(r->dma, 2, "wxyz", 4, &tc), 4);
    assert_int_equal(peek(r, 0x30002), 'w');
    assert_int_equal(peek(r, 0x30000), 'y');
    assert_int_equal(peek(r, 0x3ffff), 'z');
}

static void directions_auto_init_and_verify(void **state)
{
    struct rig *r = *state;
    uint8_t buf[8];
    bool tc;
    gmem_write(r->mem, 0x5000, "lodge", 5);
    program(r, 0x58, 0x5000, 4); /* read, auto-initialize */
    assert_int_equal(i8237_to_memory(r->dma, 2, buf, 5, &tc), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(i8237_from_memory(r->dma, 2, buf, 8, &tc), 5);
        assert_true(tc);
        assert_memory_equal(buf, "lodge", 5);
    }
    program(r, 0x40, 0x5000, 4); /* verify */
    assert_int_equal(i8237_to_memory(r->dma, 2, "xxxxx", 5, &tc), 5);
    assert_true(tc);
    assert_int_equal(peek(r, 0x5000), 'l');
}

static void words_on_the_second_controller(void **state)
{
    struct rig *r = *state;
    bool tc;
    out8(r, 0xd8, 0);
    out8(r, 0xd6, 0x45); /* channel 5, write */
    out8(r, 0xc4, 0x00);
    out8(r, 0xc4, 0x80);
    out8(r, 0x8b, 0x05); /* bit 0 is not used */
    out8(r, 0xc6, 1);
    out8(r, 0xc6, 0);
    out8(r, 0xd4, 1);
    assert_int_equal(i8237_to_memory(r->dma, 5, "abcd", 4, &tc), 4);
    assert_true(tc);
    assert_int_equal(peek(r, 0x50000), 'a');
    assert_int_equal(peek(r, 0x50003), 'd');
}

static void see_ready(void *opaque)
{
    ((struct rig *)opaque)->ready++;
}

static void a_waiting_device_is_told(void **state)
{
    struct rig *r = *state;
    bool tc;
    assert_true(i8237_connect(r->dma, 2, see_ready, r));
    assert_false(i8237_connect(r->dma, 2, see_ready, r));
    assert_false(i8237_connect(r->dma, 4, see_ready, r));
    assert_false(i8237_connect(r->dma, 8, see_ready, r));
    out8(r, 0x0a, 2);
    assert_int_equal(r->ready, 0);
    out8(r, 0x0a, 6);
    i8237_request(r->dma, 2, true);
    assert_int_equal(in8(r, 0x08) >> 4, 4);
    assert_int_equal(r->ready, 0);
    out8(r, 0x0a, 2);
    assert_int_equal(r->ready, 1);
    out8(r, 0x08, 4); /* controller off */
    assert_int_equal(i8237_to_memory(r->dma, 2, "a", 1, &tc), 0);
    out8(r, 0x0d, 0);
    assert_int_equal(in8(r, 0x0f) & 0xf, 0xf);
    i8237_connect(r->dma, 2, NULL, NULL);
    out8(r, 0x0e, 0);
}

/* Where there is no RAM, the transfer goes on without it. */
static void memory_that_is_none(void **state)
{
    struct rig *r = *state;
    uint8_t buf[4] = {0};
    bool tc;
    program(r, 0x44, 0xff0000, 3);
    assert_int_equal(i8237_to_memory(r->dma, 2, "abcd", 4, &tc), 4);
    assert_true(tc);
    program(r, 0x48, 0xff0000, 3);
    assert_int_equal(i8237_from_memory(r->dma, 2, buf, 4, &tc), 4);
    assert_int_equal(buf[3], 0xff);
}

/* A device's registers are no memory either: the device that asked for the transfer could be that
 * one. */
static void memory_that_is_a_device(void **state)
{
    struct rig *r = *state;
    uint8_t buf[0x2000] = {0};
    unsigned touched = 0;
    bool tc;
    mem_map_add_mmio(r->mem, 0x51000, 0x1000, &test_touch, &touched);
    program(r, 0x44, 0x50000, 0x1fff);
    assert_int_equal(i8237_to_memory(r->dma, 2, buf, 0x2000, &tc), 0x2000);
    assert_true(tc);
    program(r, 0x48, 0x50000, 0x1fff);
    assert_int_equal(i8237_from_memory(r->dma, 2, buf, 0x2000, &tc), 0x2000);
    assert_int_equal(touched, 0);
    assert_int_equal(buf[0x1800], 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(to_memory_until_terminal_count, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(wraps_within_its_page, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(directions_auto_init_and_verify, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(words_on_the_second_controller, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(a_waiting_device_is_told, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(memory_that_is_none, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(memory_that_is_a_device, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
