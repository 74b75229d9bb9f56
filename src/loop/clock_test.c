#include "loop/clock.h"

#include "base/err.h"
#include "base/unit_test.h"
#include "loop/loop.h"

struct ring {
    struct timer timer;
    uint64_t at[8], period;
    unsigned count;
};

static void ring(void *opaque)
{
    struct ring *r = opaque;
    r->at[r->count++] = clock_ns(r->timer.clock);
    if (r->period) {
        timer_set(&r->timer, r->timer.deadline + r->period);
    }
}

static void virtual_timers_fire_in_order_at_their_time(void **state)
{
    struct clock *c = clock_new_virtual();
    uint64_t t0 = clock_ns(c);
    struct ring a = {.period = 100}, b = {0};
    timer_init(&a.timer, c, ring, &a);
    timer_init(&b.timer, c, ring, &b);
    timer_set(&b.timer, t0 + 250);
    timer_set(&a.timer, t0 + 100);
    clock_advance(c, 350);
    assert_int_equal(a.count, 3);
    assert_int_equal(a.at[2], t0 + 300);
    assert_int_equal(b.at[0], t0 + 250);
    timer_unset(&a.timer);
    clock_advance(c, 1000);
    assert_int_equal(a.count, 3);
    clock_free(c);
}

static void many_timers_keep_the_heap_sorted(void **state)
{
    enum { N = 200 };
    struct clock *c = clock_new_virtual();
    uint64_t t0 = clock_ns(c), last = 0;
    static struct ring r[N];
    for (unsigned i = 0; i < N; i++) {
        r[i] = (struct ring){0};
        timer_init(&r[i].timer, c, ring, &r[i]);
        timer_set(&r[i].timer, t0 + (i * 7919) % 1000);
    }
    for (unsigned i = 0; i < N; i += 3) {
        timer_set(&r[i].timer, t0 + (i * 31) % 500);
    }
    clock_advance(c, 1000);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(r[i].count, 1);
        assert_int_equal(r[i].at[0], r[i].timer.deadline);
    }
    (void)last;
    clock_free(c);
}

struct stopper {
    struct timer timer;
    struct loop *loop;
};

static void stop(void *opaque)
{
    loop_stop(((struct stopper *)opaque)->loop);
}

static void host_timer_ends_the_loop(void **state)
{
    struct err err;
    struct clock *c = clock_new_host();
    struct stopper s = {.loop = loop_new(&err)};
    assert_int_equal(loop_add_clock(s.loop, c), 0);
    timer_init(&s.timer, c, stop, &s);
    uint64_t at = clock_now_ns() + 2000000;
    timer_set(&s.timer, at);
    loop_run(s.loop);
    assert_true(clock_now_ns() >= at);
    loop_free(s.loop);
    clock_free(c);
}

struct storm {
    struct timer timer;
    unsigned times;
};

static void again_at_once(void *opaque)
{
    struct storm *s = opaque;
    assert_true(++s->times < 1000000);
    timer_set(&s->timer, s->times < 3 ? 0 : clock_ns(s->timer.clock) + 1);
}

/* A timer that is due again as soon as it has run, as a guest may set one up, must not keep the
 * loop from everything else. */
static void a_storm_lets_the_loop_go_on(void **state)
{
    struct clock *c = clock_new_host();
    struct storm s = {0};
    timer_init(&s.timer, c, again_at_once, &s);
    timer_set(&s.timer, clock_ns(c));
    clock_run(c);
    unsigned first = s.times;
    assert_in_range(first, 3, 4);
    clock_run(c);
    assert_true(s.times > first);
    timer_unset(&s.timer);
    clock_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(virtual_timers_fire_in_order_at_their_time),
        cmocka_unit_test(many_timers_keep_the_heap_sorted),
        cmocka_unit_test(host_timer_ends_the_loop),
        cmocka_unit_test(a_storm_lets_the_loop_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
