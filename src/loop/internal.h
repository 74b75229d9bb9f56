/* The loop, inside: what it has of coroutines. */
#ifndef LOOP_INTERNAL_H
#define LOOP_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "loop/co.h"
#include "loop/co_switch.h"

struct workers;

struct co {
    struct loop *loop;
    co_fn *fn;
    void *opaque;
    struct co_stack stack, caller;
    void *base, *asan_own, *asan_caller;
    const void *caller_base;
    size_t caller_size;
    struct co *next; /* in the one list or queue it is in */
    bool ended;
};

/* All of one loop's; the loop's thread, but for `done`. */
struct co_sched {
    struct co_queue ready;
    struct co *spare; /* ended ones, whose stacks are kept */
    unsigned spares;
    struct workers *workers; /* made when first asked for */
    pthread_mutex_t lock;
    struct co_queue done; /* by lock: made runnable by other threads */
    bool done_any;        /* atomic: a hint */
};

struct co_sched *loop_sched(struct loop *loop);
void loop_nudge(struct loop *loop); /* out of its sleep; any thread */

/* Runs what is runnable now; whether there was anything. */
bool co_run_ready(struct co_sched *s);
void co_sched_free(struct co_sched *s);

/* co_wake() for other threads; the coroutine waits or is just about to. */
void co_wake_from(struct co *co);

struct workers *workers_new(void);
void workers_free(struct workers *w);

#endif
