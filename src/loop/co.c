/*
 * Coroutines. Each has a stack of its own with a page below it that nobody may touch; stacks of
 * ended ones are used again. Switching is the host's (co_switch.h).
 */
#include "loop/co.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "loop/co_asan.h"
#include "loop/internal.h"
#include "loop/loop.h"

enum { STACK_BYTES = 512 << 10, GUARD_BYTES = 64 << 10, MAX_SPARES = 64 };

static _Thread_local struct co *co_current;

/* A coroutine can go on on another thread than before: the address is asked for each time. */
__attribute__((noinline)) struct co *co_self(void)
{
    __asm__ volatile("");
    return co_current;
}

static __attribute__((noinline)) void co_set_self(struct co *co)
{
    __asm__ volatile("");
    co_current = co;
}

static void queue_add(struct co_queue *q, struct co *co)
{
    co->next = NULL;
    if (q->last) {
        q->last->next = co;
    } else {
        q->first = co;
    }
    q->last = co;
}

static struct co *queue_take(struct co_queue *q)
{
    struct co *co = q->first;
    if (co) {
        q->first = co->next;
        q->last = q->first ? q->last : NULL;
    }
    return co;
}

/* ---- Switching ---- */

static void co_leave(struct co *co)
{
    co_asan_start(co->ended ? NULL : &co->asan_own, co->caller_base, co->caller_size);
    co_stack_switch(&co->stack, &co->caller);
    co_asan_finish(co->asan_own, &co->caller_base, &co->caller_size);
}

static void co_entry(void)
{
    struct co *co = co_self();
    co_asan_finish(NULL, &co->caller_base, &co->caller_size);
    for (;;) { /* co_leave() comes back when it is used again */
        co->fn(co->opaque);
        co->ended = true;
        co_leave(co);
    }
}

/* Runs it until it waits or has ended. */
static void co_enter(struct co *co)
{
    struct co *outer = co_self();
    co_set_self(co);
    co_asan_start(&co->asan_caller, co->base, STACK_BYTES);
    co_stack_switch(&co->caller, &co->stack);
    co_asan_finish(co->asan_caller, NULL, NULL);
    co_set_self(outer);
}

static struct co *co_make(struct co_sched *s)
{
    struct co *co = s->spare;
    if (co) {
        s->spare = co->next;
        s->spares--;
        return co;
    }
    co = alloc_zero(sizeof(*co));
    char *at = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (at == MAP_FAILED) {
        abort(); /* as every small allocation */
    }
    mprotect(at, GUARD_BYTES, PROT_NONE);
    co->base = at + GUARD_BYTES;
    co_asan_keep(co->base, STACK_BYTES);
    co_stack_init(&co->stack, co->base, STACK_BYTES, co_entry);
    return co;
}

static void co_unmake(struct co *co)
{
    co_asan_drop(co->base, STACK_BYTES);
    munmap((char *)co->base - GUARD_BYTES, STACK_BYTES + GUARD_BYTES);
    free(co->stack.context);
    free(co->caller.context);
    free(co);
}

static void co_go_on(struct co_sched *s, struct co *co)
{
    co_enter(co);
    if (!co->ended) {
        return;
    }
    if (s->spares < MAX_SPARES) {
        co->next = s->spare;
        s->spare = co;
        s->spares++;
    } else {
        co_unmake(co);
    }
}

void co_start(struct loop *loop, co_fn *fn, void *opaque)
{
    struct co_sched *s = loop_sched(loop);
    struct co *co = co_make(s);
    co->loop = loop;
    co->fn = fn;
    co->opaque = opaque;
    co->ended = false;
    co->asan_own = NULL;
    co_go_on(s, co);
}

/* ---- Waiting and waking ---- */

void co_wait(void)
{
    struct co *co = co_self();
    assert(co);
    co_leave(co);
}

void co_wake(struct co *co)
{
    queue_add(&loop_sched(co->loop)->ready, co);
}

void co_wake_from(struct co *co)
{
    struct co_sched *s = loop_sched(co->loop);
    struct loop *loop = co->loop; /* it may have ended a moment after the lock is free */
    pthread_mutex_lock(&s->lock);
    bool first = !s->done.first;
    queue_add(&s->done, co);
    __atomic_store_n(&s->done_any, true, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&s->lock);
    if (first) {
        loop_nudge(loop);
    }
}

void co_yield (void)
{
    co_wake(co_self());
    co_wait();
}

static void co_take_done(struct co_sched *s)
{
    if (!__atomic_load_n(&s->done_any, __ATOMIC_RELAXED)) {
        return;
    }
    AUTO_LOCK(&s->lock);
    struct co *co;
    while ((co = queue_take(&s->done))) {
        queue_add(&s->ready, co);
    }
    __atomic_store_n(&s->done_any, false, __ATOMIC_RELAXED);
}

bool co_run_ready(struct co_sched *s)
{
    co_take_done(s);
    struct co_queue now = s->ready;
    s->ready = (struct co_queue){0};
    bool any = now.first;
    struct co *co;
    while ((co = queue_take(&now))) {
        co_go_on(s, co);
    }
    return any;
}

void co_sched_free(struct co_sched *s)
{
    workers_free(s->workers);
    while (s->spare) {
        struct co *co = s->spare;
        s->spare = co->next;
        co_unmake(co);
    }
}

struct co_call {
    co_fn *fn;
    void *opaque;
    bool done;
};

static void co_called(void *opaque)
{
    struct co_call *c = opaque;
    c->fn(c->opaque);
    c->done = true;
}

void co_run(struct loop *loop, co_fn *fn, void *opaque)
{
    if (co_self()) {
        fn(opaque);
        return;
    }
    struct co_call call = {fn, opaque, false};
    co_start(loop, co_called, &call);
    while (!call.done) {
        loop_step(loop, true);
    }
}

/* ---- Queues and locks ---- */

void co_queue_wait(struct co_queue *q)
{
    queue_add(q, co_self());
    co_wait();
}

bool co_queue_next(struct co_queue *q)
{
    struct co *co = queue_take(q);
    if (co) {
        co_wake(co);
    }
    return co;
}

void co_queue_all(struct co_queue *q)
{
    while (co_queue_next(q)) {
    }
}

/* The lock is handed on: whoever is woken has it. */
void co_lock(struct co_lock *l)
{
    if (l->held) {
        co_queue_wait(&l->waiting);
        return;
    }
    l->held = true;
}

void co_unlock(struct co_lock *l)
{
    assert(l->held);
    if (!co_queue_next(&l->waiting)) {
        l->held = false;
    }
}

/* ---- Descriptors and time ---- */

struct co_fd_wait {
    struct co *co;
    unsigned events;
};

static void co_fd_ready(void *opaque, int fd, unsigned events)
{
    struct co_fd_wait *w = opaque;
    loop_unwatch(w->co->loop, fd);
    w->events = events;
    co_wake(w->co);
}

unsigned co_wait_fd(int fd, unsigned events)
{
    struct co_fd_wait w = {.co = co_self()};
    if (loop_watch(w.co->loop, fd, events, co_fd_ready, &w)) {
        return events; /* a plain file: always ready */
    }
    co_wait();
    return w.events;
}

void co_sleep_ns(long long ns)
{
    AUTO_CLOSE int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec t = {.it_value = {ns / 1000000000, ns % 1000000000}};
    if (ns > 0 && fd >= 0 && !timerfd_settime(fd, 0, &t, NULL)) {
        co_wait_fd(fd, LOOP_IN);
    }
}
