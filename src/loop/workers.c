/*
 * Threads for what would keep a loop waiting: made when there is work and no idle one, up to a
 * limit; they end when the loop does. What computes waits in a queue of its own, from which no more
 * is taken at a time than there are processors; who has done one takes the next without asking the
 * loop.
 */
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
    bool computes;
    struct work *next;
};

struct work_list {
    struct work *first, **end;
    unsigned count;
};

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct work_list waits, computes;
    pthread_t threads[MAX_WORKERS];
    unsigned count, idle, computing, processors;
    bool stop;
};

static void list_add(struct work_list *l, struct work *job)
{
    job->next = NULL;
    *(l->first ? l->end : &l->first) = job;
    l->end = &job->next;
    l->count++;
}

static struct work *list_take(struct work_list *l)
{
    struct work *job = l->first;
    if (job) {
        l->first = job->next;
        l->count--;
    }
    return job;
}

/* Of the jobs that compute: how many could begin now. */
static unsigned workers_could_compute(const struct workers *w)
{
    unsigned room = w->processors - w->computing;
    return w->computes.count < room ? w->computes.count : room;
}

static struct work *workers_take(struct workers *w)
{
    struct work *job = list_take(&w->waits);
    return job || !workers_could_compute(w) ? job : list_take(&w->computes);
}

static void *worker_main(void *opaque)
{
    struct workers *w = opaque;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        struct work *job = workers_take(w);
        if (!job && w->stop) {
            break;
        }
        if (!job) {
            w->idle++;
            pthread_cond_wait(&w->more, &w->lock);
            w->idle--;
            continue;
        }
        bool computes = job->computes;
        w->computing += computes;
        pthread_mutex_unlock(&w->lock);
        job->ret = job->fn(job->arg);
        co_wake_from(job->co); /* after this the job is gone */
        pthread_mutex_lock(&w->lock);
        w->computing -= computes;
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static unsigned processors(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int n = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
    return n > 0 ? (unsigned)n : 1;
}

struct workers *workers_new(void)
{
    struct workers *w = alloc_zero(sizeof(*w));
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    w->processors = processors();
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
    list_add(job->computes ? &w->computes : &w->waits, job);
    unsigned wanted = w->waits.count + workers_could_compute(w);
    if (wanted > w->idle && w->count < MAX_WORKERS && !workers_add(w) && !w->count) {
        list_take(job->computes ? &w->computes : &w->waits); /* no thread: it is the only one */
        return false;
    }
    if (wanted) {
        pthread_cond_signal(&w->more);
    }
    return true;
}

static int workers_run(int (*fn)(void *), void *arg, bool computes)
{
    struct co *co = co_self();
    if (!co) {
        return fn(arg);
    }
    struct co_sched *s = loop_sched(co->loop);
    if (!s->workers) {
        s->workers = workers_new();
    }
    struct work job = {.fn = fn, .arg = arg, .co = co, .computes = computes};
    if (!workers_queue(s->workers, &job)) {
        return fn(arg);
    }
    co_wait();
    return job.ret;
}

int co_offload(int (*fn)(void *), void *arg)
{
    return workers_run(fn, arg, false);
}

int co_compute(int (*fn)(void *), void *arg)
{
    return workers_run(fn, arg, true);
}
