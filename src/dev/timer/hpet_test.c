/* The HPET on virtual time. */
#include "dev/timer/hpet.h"

#include <string.h>

#include "base/unit_test.h"
#include "dev/timer/pit8254.h"
#include "loop/clock.h"

enum { LINES = 24, ENABLE = 1, LEGACY = 2 };
enum { LEVEL = 2, ON = 4, PERIODIC = 8, VAL_SET = 0x40, MODE32 = 0x100, ROUTE_SHIFT = 9 };

struct rig {
    struct clock *clock;
    struct mem_map *mem, *io;
    struct irq_pin gsi[LINES];
    struct hpet *hpet;
    unsigned edges[LINES];
    bool level[LINES];
};

static void see(void *opaque, unsigned n, bool level)
{
    struct rig *r = opaque;
    r->edges[n] += level;
    r->level[n] = level;
}

static int rig_up(void **state)
{
    static struct rig rig;
    memset(&rig, 0, sizeof(rig));
    rig.clock = clock_new_virtual();
    rig.mem = mem_map_new("mem", 0);
    rig.io = mem_map_new("io", 0x10000);
    for (unsigned i = 0; i < LINES; i++) {
        irq_pin_init(&rig.gsi[i]);
        irq_pin_add(&rig.gsi[i], see, &rig, i);
    }
    rig.hpet = hpet_new(rig.clock, rig.gsi, 0xff0104);
    hpet_map(rig.hpet, rig.mem);
    *state = &rig;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    hpet_free(r->hpet);
    for (unsigned i = 0; i < LINES; i++) {
        irq_pin_fini(&r->gsi[i]);
    }
    mem_map_free(r->mem);
    mem_map_free(r->io);
    clock_free(r->clock);
    return 0;
}

static void put(struct rig *r, unsigned off, unsigned size, uint64_t val)
{
    mem_write(r->mem, HPET_BASE + off, size, val);
}

static uint64_t get(struct rig *r, unsigned off, unsigned size)
{
    uint64_t v;
    mem_read(r->mem, HPET_BASE + off, size, &v);
    return v;
}

static void says_what_it_is(void **state)
{
    struct rig *r = *state;
    assert_int_equal(get(r, 0, 8), 10000000ull << 32 | 0x8086a201);
    assert_int_equal(get(r, 4, 4), 10000000);
    assert_int_equal(get(r, 0x100, 8), 0xff0104ull << 32 | 0x30);
    put(r, 0x100, 8, UINT64_MAX);
    assert_int_equal(get(r, 0x100, 4) & 0xc000, 0); /* no messages */
    assert_int_equal(get(r, 0x160, 8), 0);          /* no fourth timer */
    assert_int_equal(get(r, 0x3f8, 8), 0);
}

static void counter_runs_and_stands(void **state)
{
    struct rig *r = *state;
    clock_advance(r->clock, 1000);
    assert_int_equal(get(r, 0xf0, 8), 0);
    put(r, 0xf0, 8, 0x1fffffff0);
    put(r, 0x10, 4, ENABLE);
    clock_advance(r->clock, 200);
    assert_int_equal(get(r, 0xf0, 8), 0x200000004);
    assert_int_equal(get(r, 0xf0, 4), 4);
    assert_int_equal(get(r, 0xf4, 4), 2);
    put(r, 0x10, 4, 0);
    clock_advance(r->clock, 200);
    assert_int_equal(get(r, 0xf0, 8), 0x200000004);
    put(r, 0xf4, 4, 7); /* the half */
    assert_int_equal(get(r, 0xf0, 8), 0x700000004);
}

static void one_shot(void **state)
{
    struct rig *r = *state;
    put(r, 0x10, 4, ENABLE);
    put(r, 0x140, 4, ON | 20 << ROUTE_SHIFT);
    put(r, 0x148, 8, 1000);
    clock_advance(r->clock, 9999);
    assert_int_equal(r->edges[20], 0);
    clock_advance(r->clock, 2);
    assert_int_equal(r->edges[20], 1);
    clock_advance(r->clock, 100 * NS_PER_SEC);
    assert_int_equal(r->edges[20], 1);
}

/* In 32-bit mode it comes again when the counter has gone round. */
static void one_shot_of_32_bits(void **state)
{
    struct rig *r = *state;
    put(r, 0xf0, 8, 0x3fffffff0);
    put(r, 0x10, 4, ENABLE);
    put(r, 0x140, 4, ON | MODE32 | 20 << ROUTE_SHIFT);
    put(r, 0x148, 4, 16);
    clock_advance(r->clock, 330);
    assert_int_equal(r->edges[20], 1);
    clock_advance(r->clock, (10ull << 32) + 10);
    assert_int_equal(r->edges[20], 2);
}

static void periodic_with_its_phase(void **state)
{
    struct rig *r = *state;
    put(r, 0x10, 4, ENABLE | LEGACY);
    put(r, 0x100, 4, ON | PERIODIC | VAL_SET | MODE32);
    put(r, 0x108, 4, 500000); /* 5 ms */
    assert_int_equal(get(r, 0x100, 4) & VAL_SET, 0);
    put(r, 0x108, 4, 100000); /* each 1 ms */
    clock_advance(r->clock, 4999999);
    assert_int_equal(r->edges[0], 0);
    clock_advance(r->clock, 10000010);
    assert_int_equal(r->edges[0], 11);
    assert_int_equal(get(r, 0x108, 4), 1600000);
    put(r, 0x100, 4, PERIODIC | MODE32); /* off */
    clock_advance(r->clock, 10000000);
    assert_int_equal(r->edges[0], 11);
    put(r, 0x100, 4, ON | PERIODIC | MODE32); /* and on: the phase is kept */
    clock_advance(r->clock, 1000000);
    assert_int_equal(r->edges[0], 12);
}

/* A period of one tick must not keep the host busy. */
static void shortest_period_is_bounded(void **state)
{
    struct rig *r = *state;
    put(r, 0x10, 4, ENABLE);
    put(r, 0x140, 4, ON | PERIODIC | VAL_SET | 20 << ROUTE_SHIFT);
    put(r, 0x148, 8, 1);
    clock_advance(r->clock, 1000000);
    assert_in_range(r->edges[20], 40, 51);
}

static void level_until_it_is_cleared(void **state)
{
    struct rig *r = *state;
    put(r, 0x10, 4, ENABLE);
    put(r, 0x140, 4, ON | LEVEL | 16 << ROUTE_SHIFT);
    put(r, 0x148, 8, 100);
    clock_advance(r->clock, 2000);
    assert_true(r->level[16]);
    assert_int_equal(get(r, 0x20, 8), 4);
    put(r, 0x20, 8, 3);
    assert_true(r->level[16]);
    put(r, 0x140, 4, ON | LEVEL | 17 << ROUTE_SHIFT); /* moves */
    assert_false(r->level[16]);
    assert_true(r->level[17]);
    put(r, 0x20, 8, 4);
    assert_false(r->level[17]);
}

static void line_that_no_timer_may_have(void **state)
{
    struct rig *r = *state;
    put(r, 0x10, 4, ENABLE);
    put(r, 0x140, 4, ON | LEVEL | 5 << ROUTE_SHIFT);
    put(r, 0x148, 8, 100);
    clock_advance(r->clock, 2000);
    put(r, 0x140, 4, ON | LEVEL | 31 << ROUTE_SHIFT);
    for (unsigned i = 0; i < LINES; i++) {
        assert_int_equal(r->edges[i], 0);
    }
}

static void pit_line(void *opaque, bool open)
{
    pit_want_line(opaque, open);
}

static void legacy_replacement_takes_the_lines(void **state)
{
    struct rig *r = *state;
    struct pit *pit = pit_new(r->clock);
    struct irq rtc = {0};
    irq_connect(pit_irq(pit), hpet_legacy_pin(r->hpet, HPET_LEGACY_PIT));
    irq_connect(&rtc, hpet_legacy_pin(r->hpet, HPET_LEGACY_RTC));
    hpet_on_legacy(r->hpet, pit_line, pit);
    pit_map(pit, r->io);
    mem_write(r->io, 0x43, 1, 0x34);
    mem_write(r->io, 0x40, 1, 0xa9); /* 1193: about 1 ms */
    mem_write(r->io, 0x40, 1, 0x04);
    clock_advance(r->clock, 10500000);
    assert_int_equal(r->edges[0], 10);
    put(r, 0x10, 4, ENABLE | LEGACY);
    irq_set(&rtc, true);
    put(r, 0x120, 4, ON);
    put(r, 0x128, 8, get(r, 0xf0, 8) + 1000);
    clock_advance(r->clock, 10500000);
    assert_int_equal(r->edges[0], 10);
    assert_int_equal(r->edges[8], 1); /* timer 1's */
    assert_false(r->level[8]);
    put(r, 0x10, 4, ENABLE);
    assert_true(r->level[8]);
    clock_advance(r->clock, 10500000);
    assert_in_range(r->edges[0], 19, 22);
    hpet_reset(r->hpet);
    pit_free(pit);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)
    const struct CMUnitTest tests[] = {
        T(says_what_it_is),
        T(counter_runs_and_stands),
        T(one_shot),
        T(one_shot_of_32_bits),
        T(periodic_with_its_phase),
        T(shortest_period_is_bounded),
        T(level_until_it_is_cleared),
        T(line_that_no_timer_may_have),
        T(legacy_replacement_takes_the_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
