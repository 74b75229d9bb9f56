/*
 * Coroutines: straight-line code that waits. A coroutine belongs to the loop it was started on and
 * runs on the thread inside that loop's loop_step() or loop_run(), until it waits or ends. Nothing
 * else runs on that thread meanwhile, so that data of one loop needs no locks, only care at waits.
 */
#ifndef LOOP_CO_H
#define LOOP_CO_H

#include <stdbool.h>
#include <stddef.h>

struct co;
struct loop;

typedef void co_fn(void *opaque);

/* Starts fn(opaque) and returns when it first waits or has ended. The loop's thread. */
void co_start(struct loop *loop, co_fn *fn, void *opaque);

struct co *co_self(void); /* NULL: not in a coroutine */

/* Sleeps until somebody calls co_wake(); there must be somebody who will, once. */
void co_wait(void);

/* Makes it runnable, in the order of the calls; it runs when the loop is next at it. The loop's
 * thread only; from others loop_post() something that calls it. */
void co_wake(struct co *co);

/* Lets everything else that is runnable go first. */
void co_yield (void);

/* Runs fn(opaque) in a coroutine and the loop until it has ended; in a coroutine: just calls it.
 * So whoever may be either writes one kind of code. */
void co_run(struct loop *loop, co_fn *fn, void *opaque);

/* Runs fn(arg) on a worker thread, other coroutines go on; returns its result. In no coroutine:
 * just calls it. */
int co_offload(int (*fn)(void *), void *arg);

/* The same for what computes rather than waits: no more of them at a time than the process may use
 * processors, as more would only take each other's caches. */
int co_compute(int (*fn)(void *), void *arg);

/* ---- Waiting for each other; all zero is a good start ---- */

struct co_queue { /* first come, first served */
    struct co *first, *last;
};

void co_queue_wait(struct co_queue *q);
bool co_queue_next(struct co_queue *q); /* wakes one; false: there was none */
void co_queue_all(struct co_queue *q);

/* Not recursive. In no coroutine it must be free: taking a held lock there is our bug. */
struct co_lock {
    bool held;
    struct co_queue waiting;
};

void co_lock(struct co_lock *l);
void co_unlock(struct co_lock *l);

/* Waits until the descriptor can be read or written (LOOP_IN, LOOP_OUT); returns the events. Only
 * one coroutine at a time for each descriptor. */
unsigned co_wait_fd(int fd, unsigned events);

/* Sleeps; host time. */
void co_sleep_ns(long long ns);

#endif
