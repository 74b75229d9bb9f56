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
uint64_t clock_ns(struct clock *clock);
/* Virtual only: moves on, running each timer that falls due at its own time. */
void clock_advance(struct clock *clock, uint64_t ns);

/* Frequency of the time-stamp counter, in Hz. Host: from CPUID if it says, else measured once. */
uint64_t clock_tsc_hz(const struct clock *clock);
/* The counter itself, before any guest's offset. */
uint64_t clock_tsc(struct clock *clock);

/*
 * Smooth time. A guest that measures one time source by polling another (Linux: the TSC by the
 * PIT) fails when the host takes the processor away in the middle. So a device that is polled
 * says so, and while it is, time the polling thread has lost between two looks at the clock is
 * left out of guest time altogether: of clock_ns() and clock_tsc() alike. A guest with one
 * running vcpu cannot tell; with several it is forbidden.
 */
void clock_polled_begin(struct clock *clock);  /* the guest has set up what it will poll */
void clock_polled(struct clock *clock);        /* a look at a register that follows the clock */
void clock_polled_end(struct clock *clock);    /* the guest does something else with it */
void clock_forbid_smooth(struct clock *clock); /* for good: another vcpu is about to run */

/* For the loop that runs a host clock: a timerfd that is readable when timers are due. */
int clock_fd(const struct clock *clock);
/* Runs what is due as it is called; it ends, whatever the timers set anew. */
void clock_run(struct clock *clock);

struct timer {
    struct clock *clock;
    void (*fn)(void *opaque);
    void *opaque;
    uint64_t deadline; /* ns, valid while armed */
    uint64_t due;      /* the same, or TIMER_NEVER: what is saved of a timer */
    unsigned slot;     /* place in the clock's heap plus one; 0 while not armed */
};

#define TIMER_NEVER UINT64_MAX

void timer_init(struct timer *timer, struct clock *clock, void (*fn)(void *), void *opaque);
/* Any thread. A timer in the past fires at once, on the clock's thread. Re-arms if armed. */
void timer_set(struct timer *timer, uint64_t deadline_ns);
/* After this it does not fire, but a call that had begun may still be running. */
void timer_unset(struct timer *timer);
/* `due` was loaded: as it says. */
void timer_rearm(struct timer *timer);

#endif
