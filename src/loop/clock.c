/* Clocks and timers: one binary heap of deadlines per clock, and a timerfd for the host's. */
#include "loop/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "loop/tsc.h"

/* Shorter gaps between looks are the guest's own; longer ones that the host was away. */
#define SMOOTH_TIGHT_NS 20000
#define SMOOTH_GAP_NS 4000 /* a look takes a microsecond; Linux minds one ten times as long */
#define SMOOTH_MAX_GAP_NS 200000000
#define SMOOTH_POLLS 4 /* tight looks in a row that make it polling */
#define SMOOTH_OTHER 3 /* looks at the clock without one at the device: polling has ended */

/* Written by the polling thread only, but for `forbidden`. */
struct smooth {
    _Atomic bool on, forbidden;
    pthread_t thread;
    uint64_t last;      /* host TSC at the last look */
    uint64_t ns0, tsc0; /* guest time and guest TSC when it began */
    unsigned polls, other;
};

struct clock {
    bool virtual;
    _Atomic uint64_t virtual_ns;
    _Atomic uint64_t hidden_ns, hidden_tsc; /* left out of guest time */
    struct smooth smooth;
    int fd;
    pthread_mutex_t lock; /* all below */
    uint64_t armed;       /* deadline in the timerfd; UINT64_MAX: none */
    struct timer **heap;
    unsigned count, room;
};

uint64_t clock_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static struct clock *clock_new(bool virtual)
{
    struct clock *clock = alloc_zero(sizeof(*clock));
    clock->virtual = virtual;
    clock->fd = -1;
    clock->armed = UINT64_MAX;
    pthread_mutex_init(&clock->lock, NULL);
    return clock;
}

struct clock *clock_new_host(void)
{
    struct clock *clock = clock_new(false);
    clock->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (clock->fd < 0) {
        abort();
    }
    return clock;
}

struct clock *clock_new_virtual(void)
{
    struct clock *clock = clock_new(true);
    clock->virtual_ns = NS_PER_SEC; /* not zero: finds code that takes zero for "never" */
    return clock;
}

void clock_free(struct clock *clock)
{
    if (!clock) {
        return;
    }
    cleanup_close(&clock->fd);
    pthread_mutex_destroy(&clock->lock);
    free(clock->heap);
    free(clock);
}

static uint64_t smooth_tsc_of(uint64_t ns)
{
    return muldiv64(ns, tsc_host_hz(), NS_PER_SEC);
}

static bool smooth_mine(const struct clock *c)
{
    return atomic_load_explicit(&c->smooth.on, memory_order_acquire) &&
           pthread_equal(c->smooth.thread, pthread_self());
}

/* Leaves out what the polling thread lost since its last look. Returns the guest's TSC. */
static uint64_t smooth_look(struct clock *c)
{
    uint64_t now = tsc_host_read(), gap = now - c->smooth.last;
    c->smooth.last = now;
    if (++c->smooth.other > SMOOTH_OTHER) {
        clock_polled_end(c);
        return now - c->hidden_tsc;
    }
    if (gap > smooth_tsc_of(SMOOTH_GAP_NS) && gap < smooth_tsc_of(SMOOTH_MAX_GAP_NS) &&
        !c->smooth.forbidden) {
        c->hidden_tsc += gap;
        c->hidden_ns += muldiv64(gap, NS_PER_SEC, tsc_host_hz());
    }
    return now - c->hidden_tsc;
}

/* Nanoseconds by the same reading of the TSC: the thread may be away between two readings. */
static uint64_t smooth_ns(struct clock *c)
{
    uint64_t gone = smooth_look(c) - c->smooth.tsc0;
    return c->smooth.ns0 + muldiv64(gone, NS_PER_SEC, tsc_host_hz());
}

static void smooth_start(struct clock *c)
{
    struct smooth *s = &c->smooth;
    uint64_t before, tight = smooth_tsc_of(SMOOTH_GAP_NS / 4);
    for (int tries = 0; tries < 8; tries++) {
        before = tsc_host_read();
        s->ns0 = clock_now_ns() - c->hidden_ns;
        s->last = tsc_host_read();
        if (s->last - before < tight) {
            break;
        }
    }
    s->tsc0 = s->last - c->hidden_tsc;
    s->thread = pthread_self();
    s->other = 0;
    atomic_store_explicit(&s->on, true, memory_order_release);
}

void clock_polled(struct clock *c)
{
    struct smooth *s = &c->smooth;
    if (c->virtual || s->forbidden) {
        return;
    }
    if (smooth_mine(c)) {
        s->other = 0;
        return;
    }
    uint64_t now = tsc_host_read();
    s->polls = now - s->last < smooth_tsc_of(SMOOTH_TIGHT_NS) ? s->polls + 1 : 0;
    s->last = now;
    if (s->polls >= SMOOTH_POLLS) {
        smooth_start(c);
    }
}

void clock_polled_begin(struct clock *c)
{
    if (!c->virtual && !c->smooth.forbidden && !smooth_mine(c)) {
        smooth_start(c);
    }
}

void clock_polled_end(struct clock *c)
{
    c->smooth.polls = 0;
    atomic_store(&c->smooth.on, false);
}

void clock_forbid_smooth(struct clock *c)
{
    atomic_store(&c->smooth.forbidden, true);
    atomic_store(&c->smooth.on, false);
}

uint64_t clock_ns(struct clock *c)
{
    if (c->virtual) {
        return atomic_load(&c->virtual_ns);
    }
    if (smooth_mine(c)) {
        return smooth_ns(c);
    }
    return clock_now_ns() - atomic_load_explicit(&c->hidden_ns, memory_order_relaxed);
}

uint64_t clock_tsc_hz(const struct clock *clock)
{
    return clock->virtual ? 2 * NS_PER_SEC : tsc_host_hz();
}

uint64_t clock_tsc(struct clock *c)
{
    if (c->virtual) {
        return clock_ns(c) * 2;
    }
    if (smooth_mine(c)) {
        return smooth_look(c);
    }
    return tsc_host_read() - atomic_load_explicit(&c->hidden_tsc, memory_order_relaxed);
}

int clock_fd(const struct clock *clock)
{
    return clock->fd;
}

/* ---- Heap, under the lock; slots count from 1 ---- */

static void heap_put(struct clock *c, unsigned slot, struct timer *t)
{
    c->heap[slot] = t;
    t->slot = slot;
}

static void heap_up(struct clock *c, unsigned slot, struct timer *t)
{
    while (slot > 1 && c->heap[slot / 2]->deadline > t->deadline) {
        heap_put(c, slot, c->heap[slot / 2]);
        slot /= 2;
    }
    heap_put(c, slot, t);
}

static void heap_down(struct clock *c, unsigned slot, struct timer *t)
{
    for (;;) {
        unsigned kid = slot * 2;
        if (kid > c->count) {
            break;
        }
        if (kid < c->count && c->heap[kid + 1]->deadline < c->heap[kid]->deadline) {
            kid++;
        }
        if (c->heap[kid]->deadline >= t->deadline) {
            break;
        }
        heap_put(c, slot, c->heap[kid]);
        slot = kid;
    }
    heap_put(c, slot, t);
}

static void heap_remove(struct clock *c, struct timer *t)
{
    unsigned slot = t->slot;
    struct timer *last = c->heap[c->count--];
    t->slot = 0;
    if (last == t) {
        return;
    }
    if (slot > 1 && c->heap[slot / 2]->deadline > last->deadline) {
        heap_up(c, slot, last);
    } else {
        heap_down(c, slot, last);
    }
}

static void heap_insert(struct clock *c, struct timer *t)
{
    if (c->count + 2 > c->room) {
        c->room = c->room ? c->room * 2 : 16;
        c->heap = alloc_resize(c->heap, c->room, sizeof(*c->heap));
    }
    heap_up(c, ++c->count, t);
}

/* Only an earlier first deadline reaches the kernel; a later one is found when it fires. */
static void clock_arm(struct clock *c)
{
    if (c->virtual || !c->count || c->heap[1]->deadline >= c->armed) {
        return;
    }
    c->armed = c->heap[1]->deadline;
    uint64_t at = c->armed + atomic_load(&c->hidden_ns);
    at = at ? at : 1;
    struct itimerspec its = {.it_value = {(time_t)(at / NS_PER_SEC), (long)(at % NS_PER_SEC)}};
    timerfd_settime(c->fd, TFD_TIMER_ABSTIME, &its, NULL);
}

void timer_init(struct timer *timer, struct clock *clock, void (*fn)(void *), void *opaque)
{
    *timer = (struct timer){.clock = clock, .fn = fn, .opaque = opaque, .due = TIMER_NEVER};
}

void timer_set(struct timer *timer, uint64_t deadline_ns)
{
    struct clock *c = timer->clock;
    AUTO_LOCK(&c->lock);
    if (timer->slot) {
        heap_remove(c, timer);
    }
    timer->deadline = deadline_ns < TIMER_NEVER ? deadline_ns : TIMER_NEVER - 1;
    timer->due = timer->deadline;
    heap_insert(c, timer);
    clock_arm(c);
}

void timer_unset(struct timer *timer)
{
    if (!timer->clock) {
        return;
    }
    AUTO_LOCK(&timer->clock->lock);
    timer->due = TIMER_NEVER;
    if (timer->slot) {
        heap_remove(timer->clock, timer);
    }
}

void timer_rearm(struct timer *timer)
{
    if (timer->due == TIMER_NEVER) {
        timer_unset(timer);
    } else if (timer->clock) {
        timer_set(timer, timer->due);
    }
}

/* Takes the first timer off if it is due at `now`. */
static struct timer *clock_take_due(struct clock *c, uint64_t now)
{
    AUTO_LOCK(&c->lock);
    if (!c->count || c->heap[1]->deadline > now) {
        return NULL;
    }
    struct timer *t = c->heap[1];
    heap_remove(c, t);
    t->due = TIMER_NEVER;
    return t;
}

void clock_run(struct clock *c)
{
    uint64_t n;
    struct timer *t;
    ssize_t got = read(c->fd, &n, sizeof(n));
    (void)got;
    uint64_t now = clock_ns(c); /* what falls due meanwhile waits until the loop has been round */
    while ((t = clock_take_due(c, now))) {
        t->fn(t->opaque);
    }
    AUTO_LOCK(&c->lock);
    c->armed = UINT64_MAX;
    clock_arm(c);
}

void clock_advance(struct clock *c, uint64_t ns)
{
    uint64_t end = atomic_load(&c->virtual_ns) + ns;
    struct timer *t;
    while ((t = clock_take_due(c, end))) {
        if (t->deadline > atomic_load(&c->virtual_ns)) {
            atomic_store(&c->virtual_ns, t->deadline);
        }
        t->fn(t->opaque);
    }
    atomic_store(&c->virtual_ns, end);
}
