/*
 * High precision event timers: IA-PC HPET specification 1.0a (Intel, 2004). A counter of 64 bits at
 * 100 MHz, three timers, all periodic or one shot, edge or level; legacy replacement.
 *
 * The counter is not stepped: its value follows from the clock. A periodic timer gives at most one
 * interrupt in 20 us; those between are lost, as they are with a processor that is too slow.
 *
 * Does not do: interrupts by FSB (messages), which it says it cannot.
 */
#include "dev/timer/hpet.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "core/fields.h"
#include "loop/clock.h"

enum {
    R_CAP = 0x00,
    R_CONFIG = 0x10,
    R_STATUS = 0x20,
    R_COUNTER = 0xf0,
    R_TIMERS = 0x100,
    R_TIMER_SIZE = 0x20,
    R_TIMER_CONFIG = 0x00,
    R_TIMER_COMPARATOR = 0x08,
    ENABLE_CNF = 1,
    LEG_RT_CNF = 2,
    TN_LEVEL = 1 << 1,
    TN_ENABLE = 1 << 2,
    TN_PERIODIC = 1 << 3,
    TN_PER_CAP = 1 << 4,
    TN_SIZE_CAP = 1 << 5,
    TN_VAL_SET = 1 << 6,
    TN_32MODE = 1 << 8,
    TN_ROUTE_SHIFT = 9,
    TN_ROUTE = 0x1f << TN_ROUTE_SHIFT,
    TN_WRITABLE = TN_LEVEL | TN_ENABLE | TN_PERIODIC | TN_VAL_SET | TN_32MODE | TN_ROUTE,
    TICK_NS = 10,
    LINES = 24,
    RTC_LINE = 8,
    SHORTEST_NS = 20000,
};

#define PERIOD_FS (TICK_NS * 1000000ull)
#define FAR (1ull << 58) /* ticks: 91 years */

struct hpet_timer {
    struct hpet *hpet;
    unsigned n;
    uint64_t config, comparator, period;
    struct timer timer;
    struct irq irq;
};

/* The gate of a line that legacy replacement takes from its owner. */
struct hpet_gate {
    struct hpet *hpet;
    struct irq_pin pin; /* from the owner; its lock guards `out` */
    struct irq out;
};

struct hpet {
    pthread_mutex_t lock; /* above the PIT's, gates' and pins' */
    struct clock *clock;
    struct irq_pin *gsi;
    uint32_t routes;
    uint64_t config, status;
    uint64_t counter; /* while it stands; else what it was at start_ns */
    uint64_t start_ns;
    struct hpet_timer timer[HPET_TIMERS];
    struct hpet_gate gate[2];
    _Atomic bool legacy; /* config's LEG_RT_CNF */
    void (*open)(void *opaque, bool on);
    void *open_opaque;
};

/* ---- Time ---- */

static uint64_t hpet_counter(const struct hpet *h)
{
    bool runs = h->config & ENABLE_CNF;
    return runs ? h->counter + (clock_ns(h->clock) - h->start_ns) / TICK_NS : h->counter;
}

static uint64_t timer_mask(const struct hpet_timer *t)
{
    return t->config & TN_32MODE ? UINT32_MAX : UINT64_MAX;
}

/* Ticks from now until the counter is at the comparator, which it is not now. */
static uint64_t timer_left(const struct hpet_timer *t)
{
    uint64_t mask = timer_mask(t), left = (t->comparator - hpet_counter(t->hpet)) & mask;
    return left ? left : mask;
}

/* The comparator of a periodic timer moves on by as many periods as have gone. */
static void timer_catch_up(struct hpet_timer *t)
{
    uint64_t mask = timer_mask(t), period = t->period & mask;
    uint64_t late = (hpet_counter(t->hpet) - t->comparator) & mask;
    if (t->config & TN_PERIODIC && period && late <= mask >> 1) {
        t->comparator = (t->comparator + (late / period + 1) * period) & mask;
    }
}

/* Nobody sees an edge that is switched off: the host is not woken for it. */
static void timer_arm(struct hpet_timer *t)
{
    struct hpet *h = t->hpet;
    bool on = h->config & ENABLE_CNF && t->config & (TN_ENABLE | TN_LEVEL);
    if (on) {
        timer_catch_up(t);
    }
    uint64_t left = timer_left(t);
    if (!on || left > FAR) {
        timer_unset(&t->timer);
        return;
    }
    uint64_t now = clock_ns(h->clock), part = (now - h->start_ns) % TICK_NS;
    uint64_t ns = left * TICK_NS - part;
    bool periodic = t->config & TN_PERIODIC;
    timer_set(&t->timer, now + (periodic && ns < SHORTEST_NS ? SHORTEST_NS : ns));
}

/* ---- Interrupts ---- */

static bool timer_legacy(const struct hpet_timer *t)
{
    return t->n < 2 && t->hpet->config & LEG_RT_CNF;
}

static struct irq_pin *timer_pin(const struct hpet_timer *t)
{
    const struct hpet *h = t->hpet;
    unsigned line = (t->config & TN_ROUTE) >> TN_ROUTE_SHIFT;
    if (timer_legacy(t)) {
        return &h->gsi[t->n ? RTC_LINE : 0];
    }
    if (line >= LINES || !(h->routes >> line & 1)) {
        return NULL;
    }
    return &h->gsi[line == 2 ? 0 : line];
}

static bool timer_level(const struct hpet_timer *t)
{
    return t->config & TN_LEVEL && t->config & TN_ENABLE && t->hpet->status >> t->n & 1;
}

/* Brings the line up to date: where it goes, and its level. */
static void timer_update_line(struct hpet_timer *t)
{
    struct irq_pin *pin = timer_pin(t);
    if (t->irq.pin != pin) {
        irq_set(&t->irq, false);
        irq_connect(&t->irq, pin);
    }
    irq_set(&t->irq, timer_level(t));
}

static void timer_interrupt(struct hpet_timer *t)
{
    if (t->config & TN_LEVEL) {
        t->hpet->status |= 1ull << t->n;
        timer_update_line(t);
    } else if (t->config & TN_ENABLE) {
        irq_pulse(&t->irq);
    }
}

static void timer_due(void *opaque)
{
    struct hpet_timer *t = opaque;
    struct hpet *h = t->hpet;
    AUTO_LOCK(&h->lock);
    /* An alarm that was meant for what was set before. */
    bool early = ((hpet_counter(h) - t->comparator) & timer_mask(t)) > timer_mask(t) >> 1;
    if (h->config & ENABLE_CNF && !early) {
        timer_interrupt(t);
    }
    timer_arm(t);
}

/* ---- Legacy replacement ---- */

static void gate_changed(void *opaque, unsigned n, bool level)
{
    struct hpet_gate *g = opaque;
    irq_set(&g->out, level && !atomic_load(&g->hpet->legacy));
}

static void hpet_set_legacy(struct hpet *h, bool on)
{
    atomic_store(&h->legacy, on);
    for (unsigned i = 0; i < 2; i++) {
        struct hpet_gate *g = &h->gate[i];
        pthread_mutex_lock(&g->pin.lock); /* no change meanwhile */
        irq_set(&g->out, g->pin.high && !on);
        pthread_mutex_unlock(&g->pin.lock);
    }
    if (h->open) {
        h->open(h->open_opaque, !on);
    }
}

struct irq_pin *hpet_legacy_pin(struct hpet *h, unsigned which)
{
    return &h->gate[which & 1].pin;
}

void hpet_on_legacy(struct hpet *h, void (*open)(void *opaque, bool on), void *opaque)
{
    h->open = open;
    h->open_opaque = opaque;
}

/* ---- Registers ---- */

static void hpet_write_config(struct hpet *h, uint64_t val)
{
    uint64_t old = h->config, counter = hpet_counter(h);
    h->config = val & (ENABLE_CNF | LEG_RT_CNF);
    if ((old ^ h->config) & ENABLE_CNF) {
        h->counter = counter;
        h->start_ns = clock_ns(h->clock);
    }
    if ((old ^ h->config) & LEG_RT_CNF) {
        hpet_set_legacy(h, h->config & LEG_RT_CNF);
    }
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        timer_update_line(&h->timer[i]);
        timer_arm(&h->timer[i]);
    }
}

/* Bits written as one go. */
static void hpet_write_status(struct hpet *h, uint64_t val)
{
    h->status &= ~val;
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        timer_update_line(&h->timer[i]);
    }
}

static void hpet_write_counter(struct hpet *h, uint64_t val)
{
    h->counter = val;
    h->start_ns = clock_ns(h->clock);
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        timer_arm(&h->timer[i]);
    }
}

static void timer_write_config(struct hpet_timer *t, uint64_t val)
{
    t->config = (t->config & ~(uint64_t)TN_WRITABLE) | (val & TN_WRITABLE);
    t->comparator &= timer_mask(t);
    t->period &= timer_mask(t);
    if (!(t->config & TN_LEVEL)) {
        t->hpet->status &= ~(1ull << t->n);
    }
    timer_update_line(t);
    timer_arm(t);
}

/* 2.3.9.2.2: in periodic mode it sets the period, and the comparator only after VAL_SET. */
static void timer_write_comparator(struct hpet_timer *t, uint64_t val, uint64_t keep)
{
    uint64_t mask = timer_mask(t);
    bool periodic = t->config & TN_PERIODIC;
    if (!periodic || t->config & TN_VAL_SET) {
        t->comparator = ((t->comparator & keep) | val) & mask;
    }
    if (periodic) {
        t->period = ((t->period & keep) | val) & mask;
    }
    t->config &= ~(uint64_t)TN_VAL_SET;
    timer_arm(t);
}

static uint64_t hpet_get(const struct hpet *h, uint64_t reg)
{
    if (reg >= R_TIMERS) {
        uint64_t n = (reg - R_TIMERS) / R_TIMER_SIZE;
        const struct hpet_timer *t = n < HPET_TIMERS ? &h->timer[n] : NULL;
        switch (t ? reg % R_TIMER_SIZE : R_TIMER_SIZE) {
        case R_TIMER_CONFIG: return t->config | (uint64_t)h->routes << 32;
        case R_TIMER_COMPARATOR: return t->comparator;
        default: return 0;
        }
    }
    switch (reg) {
    case R_CAP: return PERIOD_FS << 32 | HPET_ID;
    case R_CONFIG: return h->config;
    case R_STATUS: return h->status;
    case R_COUNTER: return hpet_counter(h);
    default: return 0;
    }
}

/* `val` lies where it is in the register; `keep` are the bits that are not written. */
static void hpet_put(struct hpet *h, uint64_t reg, uint64_t val, uint64_t keep)
{
    uint64_t whole = (hpet_get(h, reg) & keep) | val;
    if (reg >= R_TIMERS) {
        uint64_t n = (reg - R_TIMERS) / R_TIMER_SIZE;
        struct hpet_timer *t = n < HPET_TIMERS ? &h->timer[n] : NULL;
        if (t && reg % R_TIMER_SIZE == R_TIMER_CONFIG) {
            timer_write_config(t, whole);
        } else if (t && reg % R_TIMER_SIZE == R_TIMER_COMPARATOR) {
            timer_write_comparator(t, val, keep);
        }
        return;
    }
    switch (reg) {
    case R_CONFIG: hpet_write_config(h, whole); break;
    case R_STATUS: hpet_write_status(h, val); break;
    case R_COUNTER: hpet_write_counter(h, whole); break;
    }
}

static enum mem_result hpet_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct hpet *h = opaque;
    AUTO_LOCK(&h->lock);
    if ((off & ~7ull) == R_COUNTER) {
        clock_polled(h->clock);
    }
    *val = hpet_get(h, off & ~7ull) >> 8 * (off & 4);
    *val &= size == 8 ? UINT64_MAX : UINT32_MAX;
    return MEM_OK;
}

static enum mem_result hpet_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct hpet *h = opaque;
    unsigned shift = 8 * (off & 4);
    uint64_t bits = size == 8 ? UINT64_MAX : (uint64_t)UINT32_MAX << shift;
    AUTO_LOCK(&h->lock);
    hpet_put(h, off & ~7ull, val << shift & bits, ~bits);
    return MEM_OK;
}

static const struct mmio hpet_mmio = {hpet_read, hpet_write, 4, 8};

void hpet_map(struct hpet *h, struct mem_map *mem)
{
    mem_map_add_mmio(mem, HPET_BASE, HPET_SIZE, &hpet_mmio, h);
}

/* ---- Life ---- */

struct hpet *hpet_new(struct clock *clock, struct irq_pin *gsi, uint32_t routes)
{
    struct hpet *h = alloc_zero(sizeof(*h));
    pthread_mutex_init(&h->lock, NULL);
    h->clock = clock;
    h->gsi = gsi;
    h->routes = routes;
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        struct hpet_timer *t = &h->timer[i];
        t->hpet = h;
        t->n = i;
        timer_init(&t->timer, clock, timer_due, t);
    }
    for (unsigned i = 0; i < 2; i++) {
        struct hpet_gate *g = &h->gate[i];
        g->hpet = h;
        irq_pin_init(&g->pin);
        irq_pin_add(&g->pin, gate_changed, g, 0);
        irq_connect(&g->out, &gsi[i ? RTC_LINE : 0]);
    }
    hpet_reset(h);
    return h;
}

void hpet_free(struct hpet *h)
{
    if (!h) {
        return;
    }
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        timer_unset(&h->timer[i].timer);
    }
    for (unsigned i = 0; i < 2; i++) {
        irq_pin_fini(&h->gate[i].pin);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void hpet_reset(struct hpet *h)
{
    AUTO_LOCK(&h->lock);
    h->counter = h->status = 0;
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        h->timer[i].config = TN_PER_CAP | TN_SIZE_CAP;
        h->timer[i].comparator = UINT64_MAX;
        h->timer[i].period = 0;
    }
    hpet_write_config(h, 0);
    h->counter = 0;
}

/* ---- State ---- */

static const struct field hpet_timer_list[] = {
    FIELD(struct hpet_timer, hpet, FIELD_HOST),
    FIELD(struct hpet_timer, n, FIELD_CONFIG),
    FIELD(struct hpet_timer, config, FIELD_GUEST),
    FIELD(struct hpet_timer, comparator, FIELD_GUEST),
    FIELD(struct hpet_timer, period, FIELD_GUEST),
    FIELD(struct hpet_timer, timer, FIELD_GUEST, .sub = &timer_fields),
    FIELD(struct hpet_timer, irq, FIELD_DERIVED),
};

FIELD_SET(hpet_timer_fields, "hpet-timer", struct hpet_timer, hpet_timer_list, 1);

static const struct field hpet_gate_list[] = {
    FIELD(struct hpet_gate, hpet, FIELD_HOST),
    FIELD(struct hpet_gate, pin, FIELD_DERIVED),
    FIELD(struct hpet_gate, out, FIELD_GUEST, .sub = &irq_fields),
};

FIELD_SET(hpet_gate_fields, "hpet-gate", struct hpet_gate, hpet_gate_list, 1);

static const struct field hpet_list[] = {
    FIELD(struct hpet, lock, FIELD_HOST),
    FIELD(struct hpet, clock, FIELD_HOST),
    FIELD(struct hpet, gsi, FIELD_HOST),
    FIELD(struct hpet, routes, FIELD_CONFIG),
    FIELD(struct hpet, config, FIELD_GUEST, .max = ENABLE_CNF | LEG_RT_CNF),
    FIELD(struct hpet, status, FIELD_GUEST, .max = (1 << HPET_TIMERS) - 1),
    FIELD(struct hpet, counter, FIELD_GUEST),
    FIELD(struct hpet, start_ns, FIELD_GUEST),
    FIELD_ARRAY(struct hpet, timer, FIELD_GUEST, .sub = &hpet_timer_fields),
    FIELD_ARRAY(struct hpet, gate, FIELD_GUEST, .sub = &hpet_gate_fields),
    FIELD(struct hpet, legacy, FIELD_GUEST),
    FIELD(struct hpet, open, FIELD_HOST),
    FIELD(struct hpet, open_opaque, FIELD_HOST),
};

static void timer_restore_line(struct hpet_timer *t)
{
    irq_set(&t->irq, false);
    irq_connect(&t->irq, timer_pin(t));
    t->irq.driven = timer_level(t);
    irq_restore(&t->irq);
}

static int hpet_loaded(void *obj, struct err *err)
{
    struct hpet *h = obj;
    AUTO_LOCK(&h->lock);
    if (h->start_ns > clock_ns(h->clock)) {
        return err_set(err, EINVAL, "state of hpet: it begins in the future");
    }
    if (h->legacy != !!(h->config & LEG_RT_CNF)) {
        return err_set(err, EINVAL, "state of hpet: legacy replacement on and off");
    }
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        timer_restore_line(&h->timer[i]);
    }
    return 0;
}

FIELD_SET_SHARED(hpet_fields, "hpet", struct hpet, hpet_list, 1, .loaded = hpet_loaded);
