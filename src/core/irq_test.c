#include "core/irq.h"

#include "base/unit_test.h"

struct seen {
    unsigned calls;
    bool level;
};

static void see(void *opaque, unsigned n, bool level)
{
    struct seen *s = opaque;
    s->calls++;
    s->level = level;
}

static void shared_line_is_the_or_of_its_sources(void **state)
{
    struct irq_pin pin;
    struct irq a, b;
    struct seen s = {0};
    irq_pin_init(&pin);
    irq_pin_add(&pin, see, &s, 3);
    irq_connect(&a, &pin);
    irq_connect(&b, &pin);
    irq_set(&a, true);
    irq_set(&b, true);
    irq_set(&a, true);
    assert_int_equal(s.calls, 1);
    irq_set(&a, false);
    assert_true(s.level);
    irq_set(&b, false);
    assert_false(s.level);
    assert_int_equal(s.calls, 2);
    irq_pulse(&b);
    assert_int_equal(s.calls, 4);
    irq_pin_fini(&pin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shared_line_is_the_or_of_its_sources)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
