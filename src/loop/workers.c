/* Threads for what would keep a loop waiting: made when there is work and no idle one, up to a
 * limit; they end when the loop does. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "loop/internal.h"

enum { MAX_WORKERS = 16 };

struct work {
    int (*fn)(void *);
    void *arg;
    int ret;
    struct co *co;
    struct work *next;
};

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct work *first, **end;
    pthread_t threads[MAX_WORKERS];
    unsigned count, idle, queued;
    bool stop;
};

static void *worker_main(void *opaque)
{
    struct workers *w = opaque;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->first && !w->stop) {
            w->idle++;
            pthread_cond_wait(&w->more, &w->lock);
            w->idle--;
        }
        struct work *job = w->first;
        if (!job) {
            break;
        }
        w->first = job->next;
        w->end = w->first ? w->end : &w->first;
        w->queued--;
        pthread_mutex_unlock(&w->lock);
        job->ret = job->fn(job->arg);
        co_wake_from(job->co); /* after this the job is gone */
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

struct workers *workers_new(void)
{
    struct workers *w = alloc_zero(sizeof(*w));
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    w->end = &w->first;
    return w;
}

void workers_free(struct workers *w)
{
    if (!w) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->count; i++) {
        pthread_join(w->threads[i], NULL);
    }
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

/* Signals are for the thread that runs the program. */
static bool workers_add(struct workers *w)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = !pthread_create(&w->threads[w->count], NULL, worker_main, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    w->count += ok;
    return ok;
}

/* False: there is no thread and none can be had. */
static bool workers_queue(struct workers *w, struct work *job)
{
    AUTO_LOCK(&w->lock);
    if (w->queued >= w->idle && w->count < MAX_WORKERS && !workers_add(w) && !w->count) {
        return false;
    }
    *w->end = job;
    w->end = &job->next;
    w->queued++;
    pthread_cond_signal(&w->more);
    return true;
}

int co_offload(int (*fn)(void *), void *arg)
{
    struct co *co = co_self();
    if (!co) {
        return fn(arg);
    }
    struct co_sched *s = loop_sched(co->loop);
    if (!s->workers) {
        s->workers = workers_new();
    }
    struct work job = {.fn = fn, .arg = arg, .co = co};
    if (!workers_queue(s->workers, &job)) {
        return fn(arg);
    }
    co_wait();
    return job.ret;
}

static unsigned processors(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int n = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
    return n > 0 ? (unsigned)n : 1;
}

int co_compute(int (*fn)(void *), void *arg)
{
    struct co *co = co_self();
    if (!co) {
        return fn(arg);
    }
    struct co_sched *s = loop_sched(co->loop);
    s->processors = s->processors ? s->processors : processors();
    while (s->computing >= s->processors) {
        co_queue_wait(&s->to_compute);
    }
    s->computing++;
    int ret = co_offload(fn, arg);
    s->computing--;
    co_queue_next(&s->to_compute);
    return ret;
}
