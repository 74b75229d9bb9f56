/*
 * Local APIC timer: Intel SDM Vol. 3A 11.5.4. One-shot and periodic modes count at
 * LAPIC_TIMER_HZ over the divider; TSC-deadline mode follows the vcpu's TSC.
 * Registers are by l->lock: the vcpu's thread writes them, the loop's thread fires.
 */
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "dev/irqchip/lapic_internal.h"

/* Periods below this keep the host busy and give the guest nothing. */
enum { SHORTEST_NS = 20000 };

static enum lapic_timer_mode timer_mode(const struct lapic *l)
{
    return (l->lvt[LVT_TIMER] >> 17) & 3;
}

/* Divider bits 3,1,0: 2^(n+1), 7 means 1 */
static unsigned timer_shift(const struct lapic *l)
{
    unsigned n = (l->divide >> 1 & 4) | (l->divide & 3);
    return (n + 1) & 7;
}

static uint64_t ticks_to_ns(const struct lapic *l, uint64_t ticks)
{
    return muldiv64(ticks << timer_shift(l), NS_PER_SEC, LAPIC_TIMER_HZ);
}

static uint64_t guest_tsc(const struct lapic *l)
{
    return clock_tsc(l->bus->clock) + (uint64_t)l->tsc_offset;
}

static void timer_interrupt(struct lapic *l)
{
    uint32_t lvt = l->lvt[LVT_TIMER];
    if (!(lvt & LVT_MASKED)) {
        lapic_raise(l, (uint8_t)lvt, false);
    }
}

static void timer_disarm(struct lapic *l)
{
    l->armed = false;
    timer_unset(&l->timer);
}

static void timer_arm_deadline(struct lapic *l)
{
    uint64_t now = guest_tsc(l);
    uint64_t left = l->deadline > now ? l->deadline - now : 0, at;
    uint64_t ns = muldiv64(left, NS_PER_SEC, clock_tsc_hz(l->bus->clock));
    l->armed = true;
    timer_set(&l->timer, add_ok(clock_ns(l->bus->clock), ns, &at) ? at : UINT64_MAX);
}

static void timer_arm_count(struct lapic *l)
{
    if (!l->initial) {
        timer_disarm(l);
        return;
    }
    l->armed = true;
    timer_set(&l->timer, l->start_ns + ticks_to_ns(l, l->initial));
}

static void timer_deadline_due(struct lapic *l)
{
    if (l->deadline > guest_tsc(l)) {
        timer_arm_deadline(l); /* rounding, or the offset moved */
        return;
    }
    l->deadline = 0;
    l->armed = false;
    timer_interrupt(l);
}

/* Periods that the host missed become one interrupt. */
static void timer_periodic_due(struct lapic *l)
{
    uint64_t period = ticks_to_ns(l, l->initial), now = clock_ns(l->bus->clock);
    if (!period) {
        period = 1;
    }
    uint64_t late = now > l->start_ns ? (now - l->start_ns) / period : 0;
    l->start_ns += period * (late ? late : 1);
    uint64_t next = l->start_ns + period;
    timer_set(&l->timer, next < now + SHORTEST_NS ? now + SHORTEST_NS : next);
    timer_interrupt(l);
}

void lapic_timer_due(void *opaque)
{
    struct lapic *l = opaque;
    AUTO_LOCK(&l->lock);
    if (!l->armed) {
        return;
    }
    log_put(LOG_TIMER, "lapic %u: timer due\n", l->initial_id);
    switch (timer_mode(l)) {
    case TIMER_DEADLINE: timer_deadline_due(l); break;
    case TIMER_PERIODIC: timer_periodic_due(l); break;
    default: l->armed = false; timer_interrupt(l);
    }
}

void lapic_timer_reset(struct lapic *l)
{
    AUTO_LOCK(&l->lock);
    timer_disarm(l);
    l->initial = l->divide = 0;
    l->deadline = 0;
}

void lapic_timer_loaded(struct lapic *l)
{
    AUTO_LOCK(&l->lock);
    if (!l->armed) {
        timer_disarm(l);
    } else if (timer_mode(l) == TIMER_DEADLINE) {
        timer_arm_deadline(l);
    } else {
        timer_arm_count(l);
    }
}

/* A change between deadline and counting disarms (11.5.4.1). */
void lapic_timer_set_lvt(struct lapic *l, uint32_t val)
{
    AUTO_LOCK(&l->lock);
    bool was = timer_mode(l) == TIMER_DEADLINE;
    l->lvt[LVT_TIMER] = val;
    bool is = timer_mode(l) == TIMER_DEADLINE;
    if (was != is) {
        timer_disarm(l);
        l->initial = 0;
        l->deadline = 0;
    }
}

void lapic_timer_set_initial(struct lapic *l, uint32_t val)
{
    AUTO_LOCK(&l->lock);
    if (timer_mode(l) == TIMER_DEADLINE) {
        return;
    }
    l->initial = val;
    l->start_ns = clock_ns(l->bus->clock);
    timer_arm_count(l);
}

static uint32_t timer_current(const struct lapic *l)
{
    uint64_t gone = clock_ns(l->bus->clock) - l->start_ns;
    uint64_t ticks = muldiv64(gone, LAPIC_TIMER_HZ, NS_PER_SEC) >> timer_shift(l);
    if (!l->initial || timer_mode(l) == TIMER_DEADLINE) {
        return 0;
    }
    if (timer_mode(l) == TIMER_PERIODIC) {
        return l->initial - (uint32_t)(ticks % l->initial);
    }
    return ticks >= l->initial ? 0 : l->initial - (uint32_t)ticks;
}

uint32_t lapic_timer_current(struct lapic *l)
{
    AUTO_LOCK(&l->lock);
    return timer_current(l);
}

/* What is left of the count goes on at the new speed. */
void lapic_timer_set_divide(struct lapic *l, uint32_t val)
{
    AUTO_LOCK(&l->lock);
    uint32_t left = timer_current(l);
    l->divide = val;
    if (l->armed && timer_mode(l) != TIMER_DEADLINE) {
        l->start_ns = clock_ns(l->bus->clock) - ticks_to_ns(l, l->initial - left);
        timer_arm_count(l);
    }
}

uint64_t lapic_timer_get_deadline(struct lapic *l)
{
    AUTO_LOCK(&l->lock);
    return timer_mode(l) == TIMER_DEADLINE ? l->deadline : 0;
}

void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc)
{
    AUTO_LOCK(&l->lock);
    if (timer_mode(l) != TIMER_DEADLINE) {
        return;
    }
    l->deadline = tsc;
    if (!tsc) {
        timer_disarm(l);
    } else if (tsc <= guest_tsc(l)) {
        timer_disarm(l);
        l->deadline = 0;
        timer_interrupt(l);
    } else {
        timer_arm_deadline(l);
    }
}

void lapic_timer_set_offset(struct irq_ctrl *ic, int64_t offset)
{
    struct lapic *l = container_of(ic, struct lapic, ic);
    AUTO_LOCK(&l->lock);
    l->tsc_offset = offset;
    if (l->armed && l->deadline && timer_mode(l) == TIMER_DEADLINE) {
        timer_arm_deadline(l);
    }
}
