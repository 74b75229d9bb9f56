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

/* The shortest counts of both periodic modes must not keep the host busy. */
static void shortest_period_is_bounded(void **state)
{
    struct rig *r = *state;
    struct pit *pit = pit_new(r->clock);
    irq_connect(pit_irq(pit), &r->pin);
    pit_map(pit, r->io);
    for (unsigned mode = 2; mode < 4; mode++) {
        out8(r, 0x43, 0x30 | mode << 1);
        out8(r, 0x40, 2);
        out8(r, 0x40, 0);
        r->edges = 0;
        clock_advance(r->clock, 10000000);
        assert_in_range(r->edges, 100, 502);
    }
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

/* Modes 0 and 4 stand while the gate is low, and go on from there. */
static void gate_holds_the_count(void **state)
{
    struct rig *r = *state;
    struct pit *pit = pit_new(r->clock);
    pit_map(pit, r->io);
    out8(r, 0x61, 0xff);
    assert_int_equal(in8(r, 0x61) & 0xcf, 0xf); /* no checks failed */
    out8(r, 0x43, 0xb0);
    out8(r, 0x42, 0xde);
    out8(r, 0x42, 0x2e); /* 11998: 10.06 ms */
    clock_advance(r->clock, 5000000);
    out8(r, 0x61, 0);
    clock_advance(r->clock, 50000000);
    out8(r, 0x43, 0x80);
    unsigned held = in8(r, 0x42) | in8(r, 0x42) << 8;
    assert_in_range(held, 6030, 6034);
    assert_int_equal(in8(r, 0x61) & 0x20, 0);
    out8(r, 0x61, 1);
    clock_advance(r->clock, 5000000);
    assert_int_equal(in8(r, 0x61) & 0x20, 0);
    clock_advance(r->clock, 100000);
    assert_int_equal(in8(r, 0x61) & 0x20, 0x20);
    out8(r, 0x61, 0); /* a count written with the gate low starts with it */
    out8(r, 0x42, 0xde);
    out8(r, 0x42, 0x2e);
    clock_advance(r->clock, 20000000);
    assert_int_equal(in8(r, 0x61) & 0x20, 0);
    out8(r, 0x61, 1);
    clock_advance(r->clock, 10100000);
    assert_int_equal(in8(r, 0x61) & 0x20, 0x20);
    pit_free(pit);
}

static void refresh_toggles(void **state)
{
    struct rig *r = *state;
    struct pit *pit = pit_new(r->clock);
    pit_map(pit, r->io);
    unsigned first = in8(r, 0x61) & 0x10;
    clock_advance(r->clock, 15085);
    assert_int_equal(in8(r, 0x61) & 0x10, first ^ 0x10);
    clock_advance(r->clock, 15085);
    assert_int_equal(in8(r, 0x61) & 0x10, first);
    pit_free(pit);
}

static void counts_in_decimal(void **state)
{
    struct rig *r = *state;
    struct pit *pit = pit_new(r->clock);
    pit_map(pit, r->io);
    out8(r, 0x61, 1);
    out8(r, 0x43, 0xb1);
    out8(r, 0x42, 0x00);
    out8(r, 0x42, 0x20); /* 2000 */
    clock_advance(r->clock, 500 * NS_PER_SEC / PIT_HZ + 1);
    out8(r, 0x43, 0x80);
    assert_int_equal(in8(r, 0x42), 0x00);
    assert_int_equal(in8(r, 0x42), 0x15);
    clock_advance(r->clock, 1501 * NS_PER_SEC / PIT_HZ + 1);
    out8(r, 0x43, 0x80);
    assert_int_equal(in8(r, 0x42), 0x99); /* below 0: 9999 */
    assert_int_equal(in8(r, 0x42), 0x99);
    pit_free(pit);
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
        cmocka_unit_test_setup_teardown(shortest_period_is_bounded, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(gated_counter_measures_time, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(gate_holds_the_count, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(refresh_toggles, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(counts_in_decimal, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(rtc_shows_and_takes_the_time, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(rtc_interrupts_only_on_demand, rig_up, rig_down),
        cmocka_unit_test(rtc_refuses_bad_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
