/*
 * Programmable interval timer: Intel 8254 data sheet; port 61h of the PC/AT (gate and output of
 * counter 2, speaker data, refresh toggle, the check enables as they were written).
 *
 * A counter is not stepped: its value and output follow from the clock and the time it was
 * loaded. Only counter 0 drives a line, so only it has a timer.
 *
 * Does not do: the speaker's sound, gates of counters 0 and 1 (tied high), the half-cycle delays of
 * a load, the parity and channel checks themselves (port 61h, bits 7:6).
 */
#include "dev/timer/pit8254.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "core/fields.h"
#include "loop/clock.h"
#include "state/field.h"

struct counter {
    uint8_t mode, access; /* access: 1 low, 2 high, 3 low then high */
    bool write_high, read_high;
    uint8_t write_low;
    bool loaded; /* a count was written since the mode was */
    bool null_count;
    uint32_t count;    /* 1 to 65536 */
    uint64_t start_ns; /* when counting began */
    bool gate, running;
    bool bcd;            /* counts in decimal */
    bool paused;         /* modes 0 and 4: the gate is low */
    uint64_t paused_for; /* ticks that had gone then */
    uint8_t latched;     /* bytes left of a latched count */
    uint16_t latch;
    bool status_latched;
    uint8_t status;
};

struct pit {
    pthread_mutex_t lock;
    struct clock *clock;
    struct counter counter[3];
    struct timer timer;
    struct irq irq;
    bool unwanted;   /* nobody hears counter 0 */
    uint8_t speaker; /* bits 3:0 of port 61h */
};

static uint64_t counter_ticks(const struct pit *pit, const struct counter *c)
{
    return c->paused ? c->paused_for
                     : muldiv64(clock_ns(pit->clock) - c->start_ns, PIT_HZ, NS_PER_SEC);
}

/* ---- Decimal counting ---- */

static uint16_t bcd_encode(unsigned v)
{
    return (uint16_t)(v / 1000 % 10 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10);
}

static unsigned bcd_decode(uint16_t v)
{
    return (v >> 12) * 1000u + (v >> 8 & 15) * 100u + (v >> 4 & 15) * 10u + (v & 15);
}

/* What the counting element shows: counters wrap at 2^16 or 10^4. */
static uint16_t counter_shows(const struct counter *c, uint64_t left)
{
    return c->bcd ? bcd_encode((unsigned)(left % 10000)) : (uint16_t)left;
}

/* ---- Counting ---- */

/* Faster than this the line does not change again and again; larger counts never do. */
enum { SHORTEST_NS = 20000, SHORTEST_COUNT = 48 };

static uint16_t counter_value(const struct pit *pit, const struct counter *c)
{
    if (!c->running) {
        return counter_shows(c, c->count);
    }
    uint64_t t = counter_ticks(pit, c), turns = c->bcd ? 10000 : 0x10000;
    switch (c->mode) {
    case 2: return counter_shows(c, c->count - t % c->count);
    case 3: /* counts down by two */ return counter_shows(c, (c->count - 2 * t % c->count) & ~1ull);
    default: return counter_shows(c, c->count + turns - t % turns);
    }
}

static bool counter_out(const struct pit *pit, const struct counter *c)
{
    if (!c->running) {
        return c->mode != 0;
    }
    uint64_t t = counter_ticks(pit, c);
    switch (c->mode) {
    case 0:
    case 1: return t >= c->count;
    case 2: return t % c->count != c->count - 1;
    case 3: return t % c->count < (c->count + 1) / 2;
    default: /* strobes */ return t != c->count;
    }
}

/* In ticks after the start: when OUT of the running counter changes next; 0: never. */
static uint64_t counter_next(const struct pit *pit, const struct counter *c)
{
    uint64_t t = counter_ticks(pit, c), turn = t - t % c->count, in = t % c->count;
    switch (c->mode) {
    case 0:
    case 1: return t < c->count ? c->count : 0;
    case 2: /* the rising edge at the end of the one-tick pulse */ return turn + c->count;
    case 3: return in < (c->count + 1) / 2 ? turn + (c->count + 1) / 2 : turn + c->count;
    default: return t < c->count ? c->count : t == c->count ? t + 1 : 0;
    }
}

/* At a tick after the start of counting. */
static void pit_arm(struct pit *pit, const struct counter *c, uint64_t tick)
{
    uint64_t at = c->start_ns + muldiv64(tick, NS_PER_SEC, PIT_HZ) + 1;
    uint64_t least = clock_ns(pit->clock) + SHORTEST_NS;
    bool again = (c->mode == 2 || c->mode == 3) && c->count < SHORTEST_COUNT;
    timer_set(&pit->timer, again && at < least ? least : at);
}

/* Brings the line up to date and arms the timer for its next change. */
static void pit_update(struct pit *pit)
{
    struct counter *c = &pit->counter[0];
    irq_set(&pit->irq, counter_out(pit, c) && c->loaded && c->mode != 2);
    uint64_t next = c->running && pit->irq.pin && !pit->unwanted ? counter_next(pit, c) : 0;
    if (!next) {
        timer_unset(&pit->timer);
        return;
    }
    pit_arm(pit, c, next);
}

/* A rate generator's pulse is shorter than the host's timers: give its edge at once. */
static void pit_due(void *opaque)
{
    struct pit *pit = opaque;
    AUTO_LOCK(&pit->lock);
    struct counter *c = &pit->counter[0];
    if (pit->unwanted) {
        return;
    }
    if (c->mode == 2 && c->running) {
        irq_set(&pit->irq, false);
        irq_set(&pit->irq, true);
        uint64_t t = counter_ticks(pit, c);
        uint64_t next = t - t % c->count + c->count;
        pit_arm(pit, c, next);
        return;
    }
    if (c->mode == 3 && c->running && counter_out(pit, c)) {
        irq_set(&pit->irq, false); /* a late half period must not lose the edge */
    }
    pit_update(pit);
}

static void counter_start(struct pit *pit, struct counter *c)
{
    c->start_ns = clock_ns(pit->clock);
    c->running = true;
    c->paused = false;
    c->null_count = false;
}

static void counter_load(struct pit *pit, struct counter *c, uint16_t count)
{
    c->count = c->bcd ? (count ? bcd_decode(count) : 10000) : count ? count : 0x10000;
    c->count = c->count ? c->count : 1; /* no decimal digits */
    if ((c->mode == 2 || c->mode == 3) && c->count == 1) {
        c->count = 2; /* 1 is illegal in these modes */
    }
    c->loaded = true;
    c->null_count = true;
    bool by_gate = c->mode == 1 || c->mode == 5; /* these wait for a rising gate */
    if (!by_gate && c->gate) {
        counter_start(pit, c);
    } else if (c->mode == 0 || c->mode == 4) { /* starts with the gate */
        c->running = c->paused = false;
    }
}

static void counter_write(struct pit *pit, struct counter *c, uint8_t val)
{
    switch (c->access) {
    case 1: counter_load(pit, c, val); break;
    case 2: counter_load(pit, c, (uint16_t)(val << 8)); break;
    default:
        if (c->write_high) {
            counter_load(pit, c, (uint16_t)(val << 8 | c->write_low));
        } else {
            c->write_low = val;
            c->running = c->running && c->mode != 0;
        }
        c->write_high = !c->write_high;
    }
}

static void counter_latch(const struct pit *pit, struct counter *c)
{
    if (!c->latched) {
        c->latch = counter_value(pit, c);
        c->latched = c->access == 3 ? 2 : 1;
    }
}

static uint8_t counter_read(const struct pit *pit, struct counter *c)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    uint16_t value = c->latched ? c->latch : counter_value(pit, c);
    bool high = c->access == 2;
    if (c->latched) {
        high = high || (c->access == 3 && c->latched == 1);
        c->latched--;
    } else if (c->access == 3) {
        high = c->read_high;
        c->read_high = !c->read_high;
    }
    return (uint8_t)(high ? value >> 8 : value);
}

/* Modes 0 and 4: the count stands while the gate is low. */
static void counter_pause(struct pit *pit, struct counter *c, bool gate, bool rise)
{
    if (rise && c->paused) {
        c->paused = false;
        c->start_ns = clock_ns(pit->clock) - muldiv64(c->paused_for, NS_PER_SEC, PIT_HZ);
    } else if (rise && !c->running) {
        counter_start(pit, c);
    } else if (!gate && c->running && !c->paused) {
        c->paused_for = counter_ticks(pit, c);
        c->paused = true;
    }
}

static void counter_set_gate(struct pit *pit, struct counter *c, bool gate)
{
    bool rise = gate && !c->gate;
    c->gate = gate;
    if (!c->loaded) {
        return;
    }
    switch (c->mode) {
    case 1:
    case 5:
    case 2:
    case 3:
        if (rise) {
            counter_start(pit, c);
        } else if (!gate && (c->mode == 2 || c->mode == 3)) {
            c->running = false;
        }
        break;
    default: counter_pause(pit, c, gate, rise);
    }
}

static void pit_read_back(struct pit *pit, uint8_t val)
{
    for (unsigned i = 0; i < 3; i++) {
        struct counter *c = &pit->counter[i];
        if (!(val >> (i + 1) & 1)) {
            continue;
        }
        if (!(val & 0x20)) {
            counter_latch(pit, c);
        }
        if (!(val & 0x10) && !c->status_latched) {
            c->status_latched = true;
            c->status = (uint8_t)(counter_out(pit, c) << 7 | c->null_count << 6 | c->access << 4 |
                                  c->mode << 1 | c->bcd);
        }
    }
}

static void pit_control(struct pit *pit, uint8_t val)
{
    if (val >> 6 == 3) {
        pit_read_back(pit, val);
        return;
    }
    struct counter *c = &pit->counter[val >> 6];
    unsigned access = val >> 4 & 3;
    if (!access) {
        counter_latch(pit, c);
        return;
    }
    c->access = (uint8_t)access;
    c->mode = val >> 1 & 7;
    c->bcd = val & 1;
    if (c->mode > 5) {
        c->mode &= 3; /* 6 and 7 are 2 and 3 */
    }
    c->write_high = c->read_high = false;
    c->latched = 0;
    c->status_latched = false;
    c->loaded = c->running = c->paused = false;
    c->null_count = true;
}

static enum mem_result pit_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct pit *pit = dev;
    AUTO_LOCK(&pit->lock);
    clock_polled_end(pit->clock);
    if (off == 3) {
        pit_control(pit, (uint8_t)val);
    } else {
        counter_write(pit, &pit->counter[off], (uint8_t)val);
        if (off == 2 && pit->counter[2].running && pit->counter[2].mode == 0) {
            clock_polled_begin(pit->clock); /* kernels measure the TSC that way */
        }
    }
    if (off == 0 || off == 3) {
        pit_update(pit);
    }
    return MEM_OK;
}

static enum mem_result pit_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct pit *pit = dev;
    AUTO_LOCK(&pit->lock);
    clock_polled(pit->clock);
    *val = off == 3 ? 0xff : counter_read(pit, &pit->counter[off]);
    return MEM_OK;
}

static enum mem_result speaker_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct pit *pit = dev;
    AUTO_LOCK(&pit->lock);
    clock_polled(pit->clock);
    uint64_t refresh = clock_ns(pit->clock) / 15085 & 1; /* toggles every 15.085 us */
    *val = pit->speaker | refresh << 4 | (uint64_t)counter_out(pit, &pit->counter[2]) << 5;
    return MEM_OK;
}

static enum mem_result speaker_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct pit *pit = dev;
    AUTO_LOCK(&pit->lock);
    clock_polled_end(pit->clock);
    pit->speaker = val & 0xf;
    counter_set_gate(pit, &pit->counter[2], val & 1);
    return MEM_OK;
}

static const struct mmio pit_ports = {pit_read, pit_write, 1, 1};
static const struct mmio speaker_ports = {speaker_read, speaker_write, 1, 1};

void pit_map(struct pit *pit, struct mem_map *io)
{
    mem_map_add_mmio(io, 0x40, 4, &pit_ports, pit);
    mem_map_add_mmio(io, 0x61, 1, &speaker_ports, pit);
}

struct pit *pit_new(struct clock *clock)
{
    struct pit *pit = alloc_zero(sizeof(*pit));
    pthread_mutex_init(&pit->lock, NULL);
    pit->clock = clock;
    timer_init(&pit->timer, clock, pit_due, pit);
    pit_reset(pit);
    return pit;
}

void pit_free(struct pit *pit)
{
    if (pit) {
        timer_unset(&pit->timer);
        pthread_mutex_destroy(&pit->lock);
        free(pit);
    }
}

/* The chip's state is undefined at power-up; counters are still until programmed. */
void pit_reset(struct pit *pit)
{
    AUTO_LOCK(&pit->lock);
    memset(pit->counter, 0, sizeof(pit->counter));
    for (unsigned i = 0; i < 3; i++) {
        pit->counter[i].mode = 3;
        pit->counter[i].access = 3;
        pit->counter[i].count = 0x10000;
        pit->counter[i].gate = i != 2;
    }
    pit->speaker = 0;
    pit_update(pit);
}

void pit_want_line(struct pit *pit, bool wanted)
{
    AUTO_LOCK(&pit->lock);
    pit->unwanted = !wanted;
    pit_update(pit);
}

struct irq *pit_irq(struct pit *pit)
{
    return &pit->irq;
}

/* ---- State ---- */

static const struct field counter_list[] = {
    FIELD(struct counter, mode, FIELD_GUEST, .max = 5),
    FIELD(struct counter, access, FIELD_GUEST, .min = 1, .max = 3),
    FIELD(struct counter, write_high, FIELD_GUEST),
    FIELD(struct counter, read_high, FIELD_GUEST),
    FIELD(struct counter, write_low, FIELD_GUEST),
    FIELD(struct counter, loaded, FIELD_GUEST),
    FIELD(struct counter, null_count, FIELD_GUEST),
    FIELD(struct counter, count, FIELD_GUEST, .min = 1, .max = 0x10000),
    FIELD(struct counter, start_ns, FIELD_GUEST),
    FIELD(struct counter, gate, FIELD_GUEST),
    FIELD(struct counter, running, FIELD_GUEST),
    FIELD(struct counter, bcd, FIELD_GUEST),
    FIELD(struct counter, paused, FIELD_GUEST),
    FIELD(struct counter, paused_for, FIELD_GUEST),
    FIELD(struct counter, latched, FIELD_GUEST, .max = 2),
    FIELD(struct counter, latch, FIELD_GUEST),
    FIELD(struct counter, status_latched, FIELD_GUEST),
    FIELD(struct counter, status, FIELD_GUEST),
};

FIELD_SET(counter_fields, "i8254-counter", struct counter, counter_list, 1);

static const struct field pit_list[] = {
    FIELD(struct pit, lock, FIELD_HOST),
    FIELD(struct pit, clock, FIELD_HOST),
    FIELD_ARRAY(struct pit, counter, FIELD_GUEST, .sub = &counter_fields),
    FIELD(struct pit, timer, FIELD_GUEST, .sub = &timer_fields),
    FIELD(struct pit, irq, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct pit, unwanted, FIELD_GUEST),
    FIELD(struct pit, speaker, FIELD_GUEST, .max = 15),
};

/* Nothing has begun in the future; what has no gate is not held by it. */
static bool counter_possible(const struct pit *pit, const struct counter *c)
{
    uint64_t now = clock_ns(pit->clock);
    bool gated = c == &pit->counter[2], periodic = c->mode == 2 || c->mode == 3;
    return c->start_ns <= now && c->paused_for <= muldiv64(now, PIT_HZ, NS_PER_SEC) &&
           (gated || (c->gate && !c->paused)) && (!periodic || !c->loaded || c->count >= 2);
}

static int pit_loaded(void *obj, struct err *err)
{
    const struct pit *pit = obj;
    for (unsigned i = 0; i < 3; i++) {
        if (!counter_possible(pit, &pit->counter[i])) {
            return err_set(err, EINVAL, "state of i8254: counter %u cannot be so", i);
        }
    }
    return 0;
}

FIELD_SET_SHARED(pit_fields, "i8254", struct pit, pit_list, 1, .loaded = pit_loaded);
