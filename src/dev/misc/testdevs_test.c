/* pci-testdev, pc-testdev and vmgenid. */
#include "base/unit_test.h"
#include "dev/misc/misc_devices.h"
#include "dev/misc/test_pc.h"
#include "dev/misc/vmgenid.h"

static int rig_up(void **state)
{
    *state = test_pc_new();
    return 0;
}

static int rig_down(void **state)
{
    test_pc_free(*state);
    return 0;
}

static uint32_t in(struct test_pc *t, unsigned port, unsigned size)
{
    uint64_t v = 0;
    mem_read(t->m->io, port, size, &v);
    return (uint32_t)v;
}

static void out(struct test_pc *t, unsigned port, unsigned size, uint32_t v)
{
    mem_write(t->m->io, port, size, v);
}

/* As the published client does: number, width, offset, data, sixteen writes, the count. */
static unsigned count_tests(struct test_pc *t, struct mem_map *map, gpa_t at)
{
    unsigned n = 0;
    for (;; n++) {
        uint64_t width, off, data, count;
        mem_write(map, at, 1, n);
        mem_read(map, at + 1, 1, &width);
        if (width != 1 && width != 2 && width != 4) {
            return n;
        }
        mem_read(map, at + 12, 4, &count);
        assert_int_equal(count, 0);
        mem_read(map, at + 4, 4, &off);
        mem_read(map, at + 8, 4, &data);
        for (unsigned i = 0; i < 16; i++) {
            mem_write(map, at + off, (unsigned)width, data);
        }
        mem_read(map, at + 12, 4, &count);
        assert_int_equal(count, 16);
        uint64_t first;
        mem_read(map, at + 16, 1, &first);
        assert_true(first >= 'a' && first <= 'z');
    }
}

static void pci_testdev_counts(void **state)
{
    struct test_pc *t = *state;
    struct err err;
    assert_null(test_pc_add(t, &pci_testdev_type, "membar=5000", &err));
    assert_non_null(test_pc_add(t, &pci_testdev_type, "membar=64k", &err));
    test_pc_enable(t);
    assert_int_equal(test_pc_config_read(t, 0, 4), 0x00051b36);
    assert_int_equal(count_tests(t, t->m->mem, TEST_PC_BAR), 6);
    assert_int_equal(count_tests(t, t->m->io, TEST_PC_PORTS), 6);
    test_pc_config(t, 0x18, 4, 0xffffffff);
    assert_int_equal(test_pc_config_read(t, 0x18, 4), 0xffff000c);
}

static void pc_testdev_keeps_and_raises(void **state)
{
    struct test_pc *t = *state;
    struct err err;
    assert_non_null(test_pc_add(t, &pc_testdev_type, "", &err));
    out(t, 0xe0, 4, 0x12345678);
    assert_int_equal(in(t, 0xe0, 4), 0x12345678);
    assert_int_equal(in(t, 0xe2, 1), 0x34);
    assert_int_equal(in(t, 0xe8, 4), 0x12345678);
    out(t, 0xe9, 1, 0xaa);
    assert_int_equal(in(t, 0xe0, 2), 0xaa78);
    out(t, 0xe4, 4, 0x1000);
    out(t, 0x2005, 1, 1);
    assert_true(t->line[5]);
    out(t, 0x2005, 1, 0);
    assert_false(t->line[5]);
    out(t, 0x2002, 1, 1); /* there is no such line */
    test_pc_write(t, 0xff00fff8, 8, 0x1122334455667788);
    assert_int_equal(test_pc_read(t, 0xff00fffc, 4), 0x11223344);
    assert_null(test_pc_add(t, &pc_testdev_type, "", &err));
}

static void vmgenid_is_kept_little_endian(void **state)
{
    static const uint8_t want[] = {0xaf, 0x6e, 0x4e, 0x32, 0xd1, 0xd1, 0xf6, 0x4b,
                                   0xbf, 0x41, 0xb9, 0xbb, 0x6c, 0x91, 0xfb, 0x87};
    struct test_pc *t = *state;
    struct err err;
    char text[VMGENID_TEXT];
    assert_false(vmgenid_text(t->m, text));
    assert_null(vmgenid_bytes(t->m));
    static const char *const bad[] = {
        "guid=", "guid=1", "guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb8g",
        "guid=324e6eafxd1d1-4bf6-bf41-b9bb6c91fb87", "guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb870"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(test_pc_add(t, &vmgenid_type, bad[i], &err));
    }
    assert_non_null(
        test_pc_add(t, &vmgenid_type, "guid=324E6EAF-d1d1-4bf6-bf41-b9bb6c91fb87", &err));
    assert_memory_equal(vmgenid_bytes(t->m), want, sizeof(want));
    assert_true(vmgenid_text(t->m, text));
    assert_string_equal(text, "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87");
    assert_null(test_pc_add(t, &vmgenid_type, "", &err));
}

static void vmgenid_auto(void **state)
{
    struct test_pc *t = *state;
    struct err err;
    char text[VMGENID_TEXT];
    assert_non_null(test_pc_add(t, &vmgenid_type, "", &err));
    assert_true(vmgenid_text(t->m, text));
    assert_int_equal(text[14], '4');
    assert_non_null(strchr("89ab", text[19]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pci_testdev_counts, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(pc_testdev_keeps_and_raises, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(vmgenid_is_kept_little_endian, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(vmgenid_auto, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
