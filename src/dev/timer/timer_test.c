/* The PIT and the real-time clock on virtual time. */
#include <string.h>

#include "base/err.h"
#include "base/keyval.h"
#include "base/unit_test.h"
#include "dev/timer/cmos_rtc.h"
#include "dev/timer/pit8254.h"
#include "loop/clock.h"

struct rig {
    struct clock *clock;
    struct mem_map *io;
    struct irq_pin pin;
    unsigned edges;
};

static void see(void *opaque, unsigned n, bool level)
{
    ((struct rig *)opaque)->edges += level;
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
    rig.clock = clock_new_virtual();
    rig.io = mem_map_new("io", 0x10000);
    rig.edges = 0;
    irq_pin_init(&rig.pin);
    irq_pin_add(&rig.pin, see, &rig, 0);
    *state = &rig;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    mem_map_free(r->io);
    irq_pin_fini(&r->pin);
    clock_free(r->clock);
    return 0;
}

static void rate_generator_ticks(void **state)
{
    struct rig *r = *state;
    struct pit *pit = pit_new(r->clock);
    irq_connect(pit_irq(pit), &r->pin);
    pit_map(pit, r->io);
    out8(r, 0x43, 0x34);
    out8(r, 0x40, 0xa9); /* 1193: about 1 kHz */
    out8(r, 0x40, 0x04);
    clock_advance(r->clock, NS_PER_SEC);
    assert_in_range(r->edges, 999, 1001);
    out8(r, 0x43, 0x30); /* mode 0: stops, then one edge */
    r->edges = 0;
    out8(r, 0x40, 0x10);
    out8(r, 0x40, 0x00);
    clock_advance(r->clock, NS_PER_SEC);
    assert_int_equal(r->edges, 1);
    pit_free(pit);
}

/* As kernels calibrate: counter 2 in mode 0, gated by port 61h, until its output rises. */
static void gated_counter_measures_time(void **state)
{
    struct rig *r = *state;
    struct pit *pit = pit_new(r->clock);
    pit_map(pit, r->io);
    out8(r, 0x61, 1);
    out8(r, 0x43, 0xb0);
    out8(r, 0x42, 11932 & 255); /* 10 ms */
    out8(r, 0x42, 11932 >> 8);
    assert_int_equal(in8(r, 0x61) & 0x20, 0);
    clock_advance(r->clock, 9990000);
    assert_int_equal(in8(r, 0x61) & 0x20, 0);
    clock_advance(r->clock, 20000);
    assert_int_equal(in8(r, 0x61) & 0x20, 0x20);
    out8(r, 0x43, 0x80); /* latch */
    unsigned low = in8(r, 0x42), high = in8(r, 0x42);
    assert_in_range((uint16_t)(low | high << 8), 65536 - 40, 65535);
    pit_free(pit);
}

static unsigned cmos(struct rig *r, unsigned n)
{
    out8(r, 0x70, n);
    return in8(r, 0x71);
}

static void cmos_set(struct rig *r, unsigned n, unsigned val)
{
    out8(r, 0x70, n);
    out8(r, 0x71, val);
}

static void rtc_shows_and_takes_the_time(void **state)
{
    struct rig *r = *state;
    struct keyval args = {0};
    struct err err;
    int64_t base;
    keyval_add(&args, "base", "2024-02-28T23:59:58");
    assert_int_equal(rtc_base_from_args(&args, &base, &err), 0);
    keyval_free(&args);
    struct rtc *rtc = rtc_new(r->clock, base);
    rtc_map(rtc, r->io);
    assert_int_equal(cmos(r, 0), 0x58);
    clock_advance(r->clock, 2 * NS_PER_SEC);
    assert_int_equal(cmos(r, 0), 0);
    assert_int_equal(cmos(r, 4), 0);
    assert_int_equal(cmos(r, 7), 0x29);
    assert_int_equal(cmos(r, 9), 0x24);
    assert_int_equal(cmos(r, 0x32), 0x20);
    cmos_set(r, 11, 0x84); /* SET, binary, 12 h */
    cmos_set(r, 4, 0x81);
    cmos_set(r, 11, 0x04);
    assert_int_equal(cmos(r, 4), 0x81);
    cmos_set(r, 11, 0x06); /* binary, 24 h */
    assert_int_equal(cmos(r, 4), 13);
    rtc_free(rtc);
}

static void rtc_interrupts_only_on_demand(void **state)
{
    struct rig *r = *state;
    struct rtc *rtc = rtc_new(r->clock, 1000000);
    irq_connect(rtc_irq(rtc), &r->pin);
    rtc_map(rtc, r->io);
    clock_advance(r->clock, 5 * NS_PER_SEC);
    assert_int_equal(r->edges, 0);
    cmos_set(r, 11, 0x42); /* periodic, 1024 Hz */
    for (int i = 0; i < 64; i++) {
        clock_advance(r->clock, NS_PER_SEC / 1024 + 1);
        assert_int_equal(cmos(r, 12) & 0xc0, 0xc0);
    }
    assert_int_equal(r->edges, 64);
    cmos_set(r, 11, 0x12); /* update ended */
    r->edges = 0;
    clock_advance(r->clock, NS_PER_SEC);
    assert_int_equal(cmos(r, 12) & 0x90, 0x90);
    assert_int_equal(r->edges, 1);
    rtc_free(rtc);
}

static void rtc_refuses_bad_dates(void **state)
{
    struct err err;
    int64_t base;
    struct keyval args = {0};
    keyval_add(&args, "base", "yesterday");
    assert_true(rtc_base_from_args(&args, &base, &err) < 0);
    assert_non_null(strstr(err.text, "yesterday"));
    keyval_free(&args);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rate_generator_ticks, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(gated_counter_measures_time, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(rtc_shows_and_takes_the_time, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(rtc_interrupts_only_on_demand, rig_up, rig_down),
        cmocka_unit_test(rtc_refuses_bad_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
