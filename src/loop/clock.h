/*
 * Clocks and timers.
 *
 * Guest time runs on a `struct clock`: the host's monotonic clock, or a virtual one that only
 * moves when told to, which makes tests exact. A timer belongs to one clock; its function runs
 * on the thread that runs the clock (the event loop, or whoever advances the virtual clock),
 * without any lock of this module held.
 *
 * The guest's TSC is the host's plus an offset per vcpu; with a virtual clock it is derived
 * from that clock.
 */
#ifndef LOOP_CLOCK_H
#define LOOP_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define NS_PER_SEC 1000000000ull

uint64_t clock_now_ns(void); /* host, CLOCK_MONOTONIC */

/* a * b / c without overflow in between; the result is cut to 64 bits. */
static inline uint64_t muldiv64(uint64_t a, uint64_t b, uint64_t c)
{
    return (uint64_t)((unsigned __int128)a * b / c);
}

struct clock;

struct clock *clock_new_host(void);
struct clock *clock_new_virtual(void);
void clock_free(struct clock *clock); /* every timer must be gone or unset */
uint64_t clock_ns(const struct clock *clock);
/* Virtual only: moves on, running each timer that falls due at its own time. */
void clock_advance(struct clock *clock, uint64_t ns);

/* Frequency of the time-stamp counter, in Hz. Host: from CPUID if it says, else measured once. */
uint64_t clock_tsc_hz(const struct clock *clock);
/* The counter itself, before any guest's offset. */
uint64_t clock_tsc(const struct clock *clock);

/* For the loop that runs a host clock: a timerfd that is readable when timers are due. */
int clock_fd(const struct clock *clock);
void clock_run(struct clock *clock); /* runs what is due */

struct timer {
    struct clock *clock;
    void (*fn)(void *opaque);
    void *opaque;
    uint64_t deadline; /* ns, valid while armed */
    unsigned slot;     /* place in the clock's heap plus one; 0 while not armed */
};

void timer_init(struct timer *timer, struct clock *clock, void (*fn)(void *), void *opaque);
/* Any thread. A timer in the past fires at once, on the clock's thread. Re-arms if armed. */
void timer_set(struct timer *timer, uint64_t deadline_ns);
/* After this it does not fire, but a call that had begun may still be running. */
void timer_unset(struct timer *timer);

#endif
