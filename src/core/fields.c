/* Field sets of lines and timers. */
#include "core/fields.h"

#include "core/irq.h"
#include "loop/clock.h"

static const struct field irq_list[] = {
    FIELD(struct irq, pin, FIELD_HOST),
    FIELD(struct irq, level, FIELD_DERIVED), /* the pin counts it */
    FIELD(struct irq, driven, FIELD_GUEST),
};

static int irq_loaded(void *obj, struct err *err)
{
    irq_restore(obj);
    return 0;
}

FIELD_SET_SHARED(irq_fields, "irq", struct irq, irq_list, 1, .loaded = irq_loaded);

static const struct field timer_list[] = {
    FIELD(struct timer, clock, FIELD_HOST),  FIELD(struct timer, fn, FIELD_HOST),
    FIELD(struct timer, opaque, FIELD_HOST), FIELD(struct timer, deadline, FIELD_DERIVED),
    FIELD(struct timer, due, FIELD_GUEST),   FIELD(struct timer, slot, FIELD_HOST),
};

static int timer_loaded(void *obj, struct err *err)
{
    timer_rearm(obj);
    return 0;
}

FIELD_SET_SHARED(timer_fields, "timer", struct timer, timer_list, 1, .loaded = timer_loaded);
