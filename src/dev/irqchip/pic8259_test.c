#include "dev/irqchip/pic8259.h"

#include "base/unit_test.h"

struct rig {
    struct pic *pic;
    struct mem_map *io;
    bool out;
};

static void see_out(void *opaque, unsigned n, bool level)
{
    ((struct rig *)opaque)->out = level;
}

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
    rig.out = false;
    rig.io = mem_map_new("io", 0x10000);
    rig.pic = pic_new(see_out, &rig);
    pic_map(rig.pic, rig.io);
    out8(&rig, 0x20, 0x11);
    out8(&rig, 0x21, 0x30);
    out8(&rig, 0x21, 4);
    out8(&rig, 0x21, 1);
    out8(&rig, 0xa0, 0x11);
    out8(&rig, 0xa1, 0x38);
    out8(&rig, 0xa1, 2);
    out8(&rig, 0xa1, 1);
    out8(&rig, 0x21, 0);
    out8(&rig, 0xa1, 0);
    *state = &rig;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    pic_free(r->pic);
    mem_map_free(r->io);
    return 0;
}

static void edge_is_taken_once(void **state)
{
    struct rig *r = *state;
    pic_set_pin(r->pic, 4, true);
    assert_true(r->out);
    assert_int_equal(pic_inta(r->pic), 0x34);
    assert_false(r->out);
    out8(r, 0x20, 0x20);
    assert_false(r->out);
    pic_set_pin(r->pic, 4, false);
    pic_set_pin(r->pic, 4, true);
    assert_true(r->out);
}

static void slave_goes_through_the_cascade(void **state)
{
    struct rig *r = *state;
    pic_set_pin(r->pic, 8, true);
    assert_true(r->out);
    assert_int_equal(pic_inta(r->pic), 0x38);
    pic_set_pin(r->pic, 1, true); /* higher than the cascade */
    assert_int_equal(pic_inta(r->pic), 0x31);
    pic_set_pin(r->pic, 5, true);
    assert_false(r->out);
    out8(r, 0x20, 0x20);
    out8(r, 0xa0, 0x20);
    out8(r, 0x20, 0x20);
    assert_true(r->out);
    assert_int_equal(pic_inta(r->pic), 0x35);
}

static void line_that_went_away_is_spurious(void **state)
{
    struct rig *r = *state;
    pic_set_pin(r->pic, 3, true);
    pic_set_pin(r->pic, 3, false);
    assert_int_equal(pic_inta(r->pic), 0x37);
    out8(r, 0x20, 0x0b);
    assert_int_equal(in8(r, 0x20), 0);
}

static void level_mode_repeats(void **state)
{
    struct rig *r = *state;
    out8(r, 0x4d1, 0x02); /* line 9 */
    pic_set_pin(r->pic, 9, true);
    assert_int_equal(pic_inta(r->pic), 0x39);
    out8(r, 0xa0, 0x20);
    out8(r, 0x20, 0x20);
    assert_true(r->out);
    pic_set_pin(r->pic, 9, false);
    assert_false(r->out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(edge_is_taken_once, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(slave_goes_through_the_cascade, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(line_that_went_away_is_spurious, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(level_mode_repeats, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
