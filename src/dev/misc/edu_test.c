/* edu: registers, interrupts, transfers, and transfers that are refused. */
#include "base/endian.h"
#include "base/unit_test.h"
#include "dev/misc/misc_devices.h"
#include "dev/misc/test_pc.h"

enum { R = TEST_PC_BAR, BUF = 0x40000, GUEST = 0x1000 };

static int rig_up(void **state)
{
    struct err err;
    struct test_pc *t = test_pc_new();
    assert_non_null(test_pc_add(t, &edu_type, "", &err));
    test_pc_enable(t);
    *state = t;
    return 0;
}

static int rig_down(void **state)
{
    test_pc_free(*state);
    return 0;
}

static void transfer(struct test_pc *t, uint64_t src, uint64_t dst, uint64_t len, uint64_t cmd)
{
    test_pc_write(t, R + 0x80, 8, src);
    test_pc_write(t, R + 0x88, 8, dst);
    test_pc_write(t, R + 0x90, 8, len);
    test_pc_write(t, R + 0x98, 8, cmd);
    assert_int_equal(test_pc_read(t, R + 0x98, 4) & 1, 0);
}

static void registers(void **state)
{
    struct test_pc *t = *state;
    assert_int_equal(test_pc_config_read(t, 0, 4), 0x11e81234);
    assert_int_equal(test_pc_read(t, R, 4), 0x010000ed);
    test_pc_write(t, R + 4, 4, 0x12345678);
    assert_int_equal(test_pc_read(t, R + 4, 4), 0xedcba987);
    assert_int_equal(mem_write(t->m->mem, R + 4, 2, 0), MEM_REFUSED);
    assert_int_equal(mem_write(t->m->mem, R, 8, 0), MEM_REFUSED);
    assert_int_equal(test_pc_read(t, R + 4, 4), 0xedcba987);
}

static void factorials(void **state)
{
    struct test_pc *t = *state;
    static const uint32_t known[][2] = {{0, 1},           {1, 1},  {5, 120},       {12, 479001600},
                                        {33, 0x80000000}, {34, 0}, {0xffffffff, 0}};
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        test_pc_write(t, R + 8, 4, known[i][0]);
        assert_int_equal(test_pc_read(t, R + 8, 4), known[i][1]);
    }
    assert_false(t->level);
    test_pc_write(t, R + 0x20, 4, 0x80);
    test_pc_write(t, R + 8, 4, 3);
    assert_true(t->level);
    assert_int_equal(test_pc_read(t, R + 0x24, 4), 1);
    test_pc_write(t, R + 0x64, 4, 1);
    assert_false(t->level);
}

static void interrupts_by_line_and_message(void **state)
{
    struct test_pc *t = *state;
    test_pc_write(t, R + 0x60, 4, 0x30);
    assert_true(t->level);
    test_pc_write(t, R + 0x64, 4, 0x10);
    assert_true(t->level);
    test_pc_write(t, R + 0x64, 4, 0x20);
    assert_false(t->level);
    unsigned cap = test_pc_config_read(t, 0x34, 1);
    assert_int_equal(test_pc_config_read(t, cap, 1), 5);
    test_pc_config(t, cap + 4, 4, 0xfee00000);
    test_pc_config(t, cap + 12, 2, 0x41);
    test_pc_config(t, cap + 2, 2, 1);
    test_pc_write(t, R + 0x60, 4, 4);
    assert_false(t->level);
    assert_int_equal(t->messages, 1);
    assert_int_equal(t->message, 0x41);
}

static void dma_both_ways(void **state)
{
    struct test_pc *t = *state;
    gmem_write(t->m->mem, GUEST, "transferred", 11);
    transfer(t, GUEST, BUF + 100, 11, 1);
    assert_false(t->level);
    transfer(t, BUF + 100, GUEST + 0x100, 11, 7);
    char text[11];
    gmem_read(t->m->mem, GUEST + 0x100, text, 11);
    assert_memory_equal(text, "transferred", 11);
    assert_int_equal(test_pc_read(t, R + 0x24, 4), 0x100);
    assert_true(t->level);
}

/* A device whose DMA could write to its own registers could start the next transfer from within the
 * first one, and so on. */
static void dma_to_its_own_bar_is_refused(void **state)
{
    struct test_pc *t = *state;
    test_pc_free(t);
    struct err err;
    *state = t = test_pc_new();
    assert_non_null(test_pc_add(t, &edu_type, "dma_mask=0xffffffffffffffff", &err));
    test_pc_enable(t);
    uint64_t cmd = 3;
    gmem_write(t->m->mem, GUEST, &cmd, 8);
    transfer(t, GUEST, BUF, 8, 1);        /* what would start it again ... */
    transfer(t, BUF, R + 0x98, 8, 3 | 4); /* ... to the command register */
    assert_int_equal(test_pc_read(t, R + 0x98, 4), 2 | 4);
    assert_int_equal(test_pc_read(t, R + 0x24, 4), 0x100); /* once, and then it was over */
    transfer(t, R, BUF, 8, 1);
    transfer(t, BUF, GUEST, 8, 3);
    gmem_read(t->m->mem, GUEST, &cmd, 8);
    assert_int_equal(cmd, 3); /* the buffer as it was */
}

static void dma_out_of_bounds_is_refused(void **state)
{
    static const uint64_t bad[][4] = {
        {GUEST, BUF + 4090, 7, 1}, {GUEST, BUF - 1, 1, 1},       {GUEST, 0, 4, 1},
        {GUEST, BUF, 4097, 1},     {GUEST, BUF, ~0ull, 1},       {GUEST, ~0ull, 4, 1},
        {BUF, 0x0ffffffc, 8, 3},   {BUF, TEST_PC_RAM - 4, 8, 3}, {GUEST, BUF + 4097, 0, 1},
    };
    struct test_pc *t = *state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        transfer(t, bad[i][0], bad[i][1], bad[i][2], bad[i][3]);
    }
    gmem_fill(t->m->mem, GUEST, 0x55, 16);
    transfer(t, BUF, GUEST, 16, 3);
    assert_int_equal(test_pc_read(t, GUEST, 4), 0);
    test_pc_config(t, PCI_COMMAND, 2, 3); /* not a bus master */
    gmem_fill(t->m->mem, GUEST, 0x55, 16);
    transfer(t, BUF, GUEST, 16, 3);
    assert_int_equal(test_pc_read(t, GUEST, 4), 0x55555555);
}

/* 28 bits of the address are what there is, unless asked for. */
static void dma_mask(void **state)
{
    struct test_pc *t = *state;
    gmem_write(t->m->mem, GUEST, "mask", 4);
    transfer(t, 0xf0000000ull + GUEST, BUF, 4, 1);
    transfer(t, BUF, GUEST + 8, 4, 3);
    char text[4];
    gmem_read(t->m->mem, GUEST + 8, text, 4);
    assert_memory_equal(text, "mask", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(registers, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(factorials, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(interrupts_by_line_and_message, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(dma_both_ways, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(dma_to_its_own_bar_is_refused, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(dma_out_of_bounds_is_refused, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(dma_mask, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
