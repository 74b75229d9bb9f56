/* The event loop on epoll. See loop.h for the contract. */
#include "loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "loop/clock.h"
#include "loop/internal.h"

/* How often coroutines go first before descriptors are looked at. */
enum { TURNS = 32 };

struct loop_fd {
    int fd;
    bool gone; /* unwatched; freed when the loop is between events */
    loop_fd_fn *fn;
    void *opaque;
    struct loop_fd *next;
};

struct loop_job {
    void (*fn)(void *);
    void *opaque;
    struct loop_job *next;
};

struct loop_poll {
    bool (*fn)(void *);
    void *opaque;
    struct loop_poll *next;
};

struct loop {
    int epoll, wake;
    unsigned turns; /* without a look at the descriptors */
    struct co_sched sched;
    struct loop_poll *polls;
    atomic_bool stop;
    pthread_mutex_t lock; /* fds, jobs */
    struct loop_fd *fds;
    struct loop_job *jobs, **jobs_end;
    bool any_gone;
};

static void loop_woken(void *opaque, int fd, unsigned events)
{
    uint64_t n;
    while (read(fd, &n, sizeof(n)) > 0) {
    }
}

struct loop *loop_new(struct err *err)
{
    struct loop *loop = alloc_zero(sizeof(*loop));
    pthread_mutex_init(&loop->lock, NULL);
    pthread_mutex_init(&loop->sched.lock, NULL);
    loop->jobs_end = &loop->jobs;
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll < 0 || loop->wake < 0 ||
        loop_watch(loop, loop->wake, LOOP_IN, loop_woken, loop)) {
        err_set(err, errno, "cannot make the event loop: %s", strerror(errno));
        loop_free(loop);
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop) {
        return;
    }
    co_sched_free(&loop->sched);
    while (loop->polls) {
        struct loop_poll *p = loop->polls;
        loop->polls = p->next;
        free(p);
    }
    while (loop->jobs) {
        struct loop_job *job = loop->jobs;
        loop->jobs = job->next;
        free(job);
    }
    while (loop->fds) {
        struct loop_fd *f = loop->fds;
        loop->fds = f->next;
        free(f);
    }
    cleanup_close(&loop->epoll);
    cleanup_close(&loop->wake);
    pthread_mutex_destroy(&loop->lock);
    pthread_mutex_destroy(&loop->sched.lock);
    free(loop);
}

static struct loop_fd *loop_find(struct loop *loop, int fd)
{
    struct loop_fd *f = loop->fds;
    while (f && (f->fd != fd || f->gone)) {
        f = f->next;
    }
    return f;
}

int loop_watch(struct loop *loop, int fd, unsigned events, loop_fd_fn *fn, void *opaque)
{
    AUTO_LOCK(&loop->lock);
    struct loop_fd *f = loop_find(loop, fd);
    int op = EPOLL_CTL_MOD;
    if (!f) {
        op = EPOLL_CTL_ADD;
        f = alloc_zero(sizeof(*f));
        f->fd = fd;
        f->next = loop->fds;
        loop->fds = f;
    }
    f->fn = fn;
    f->opaque = opaque;
    struct epoll_event ev = {.data.ptr = f};
    ev.events = (events & LOOP_IN ? EPOLLIN : 0) | (events & LOOP_OUT ? EPOLLOUT : 0);
    if (epoll_ctl(loop->epoll, op, fd, &ev)) {
        int ret = -errno;
        f->gone = true;
        loop->any_gone = true;
        return ret; /* EPERM: a plain file, always ready */
    }
    return 0;
}

void loop_unwatch(struct loop *loop, int fd)
{
    AUTO_LOCK(&loop->lock);
    struct loop_fd *f = loop_find(loop, fd);
    if (f) {
        epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL);
        f->gone = true;
        loop->any_gone = true;
    }
}

static void loop_wake(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t n = write(loop->wake, &one, sizeof(one));
    (void)n; /* full means it is awake already */
}

void loop_post(struct loop *loop, void (*fn)(void *), void *opaque)
{
    struct loop_job *job = alloc_zero(sizeof(*job));
    job->fn = fn;
    job->opaque = opaque;
    AUTO_LOCK(&loop->lock);
    *loop->jobs_end = job;
    loop->jobs_end = &job->next;
    loop_wake(loop);
}

static void loop_clock_due(void *opaque, int fd, unsigned events)
{
    clock_run(opaque);
}

int loop_add_clock(struct loop *loop, struct clock *clock)
{
    return loop_watch(loop, clock_fd(clock), LOOP_IN, loop_clock_due, clock);
}

/* Runs what was posted before this call. */
static void loop_run_jobs(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    struct loop_job *job = loop->jobs;
    loop->jobs = NULL;
    loop->jobs_end = &loop->jobs;
    pthread_mutex_unlock(&loop->lock);
    while (job) {
        struct loop_job *next = job->next;
        job->fn(job->opaque);
        free(job);
        job = next;
    }
}

static void loop_drop_gone(struct loop *loop)
{
    AUTO_LOCK(&loop->lock);
    if (!loop->any_gone) {
        return;
    }
    for (struct loop_fd **at = &loop->fds; *at;) {
        struct loop_fd *f = *at;
        if (f->gone) {
            *at = f->next;
            free(f);
        } else {
            at = &f->next;
        }
    }
    loop->any_gone = false;
}

static unsigned loop_events_of(uint32_t got)
{
    return (got & EPOLLIN ? LOOP_IN : 0) | (got & EPOLLOUT ? LOOP_OUT : 0) |
           (got & (EPOLLHUP | EPOLLERR) ? LOOP_HUP : 0);
}

static void loop_events(struct loop *loop, int timeout)
{
    struct epoll_event got[16];
    int n = epoll_wait(loop->epoll, got, 16, timeout);
    for (int i = 0; i < n; i++) {
        struct loop_fd *f = got[i].data.ptr;
        if (!f->gone) {
            f->fn(f->opaque, f->fd, loop_events_of(got[i].events));
        }
    }
    loop_run_jobs(loop);
    loop_drop_gone(loop);
    loop->turns = 0;
}

static bool loop_poll(struct loop *loop)
{
    bool any = false;
    for (struct loop_poll *p = loop->polls; p; p = p->next) {
        any |= p->fn(p->opaque);
    }
    return any;
}

void loop_step(struct loop *loop, bool wait)
{
    bool any = co_run_ready(&loop->sched);
    any |= loop_poll(loop);
    if (any && ++loop->turns < TURNS) {
        return;
    }
    loop_events(loop, any || !wait ? 0 : -1);
}

void loop_add_poll(struct loop *loop, bool (*fn)(void *), void *opaque)
{
    struct loop_poll *p = alloc_zero(sizeof(*p));
    *p = (struct loop_poll){fn, opaque, loop->polls};
    loop->polls = p;
}

void loop_remove_poll(struct loop *loop, void *opaque)
{
    struct loop_poll **at = &loop->polls;
    while (*at && (*at)->opaque != opaque) {
        at = &(*at)->next;
    }
    struct loop_poll *p = *at;
    if (p) {
        *at = p->next;
        free(p);
    }
}

struct co_sched *loop_sched(struct loop *loop)
{
    return &loop->sched;
}

void loop_nudge(struct loop *loop)
{
    loop_wake(loop);
}

void loop_run(struct loop *loop)
{
    do { /* once in any case: whoever stops it all the time must not starve the rest */
        loop_step(loop, true);
    } while (!atomic_load(&loop->stop));
    atomic_store(&loop->stop, false);
}

/* Linux 6.12 lets a thread with a shorter slice in front of one whose slice is not over; before,
 * and in sandboxes that forbid the call, everything stays as it was. 100 us is the least there is.
 */
void loop_prompt(void)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = 0};
    if (!syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) && attr.policy == SCHED_OTHER) {
        attr.runtime = 100000;
        syscall(SYS_sched_setattr, 0, &attr, 0);
    }
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stop, true);
    loop_wake(loop);
}
