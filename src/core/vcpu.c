/* Events and sleep of a vCPU: what any accelerator needs. */
#include "core/vcpu.h"

#include <stdatomic.h>
#include <time.h>

#include "ir/rt.h"

#define NAP_MAX_NS 2000000

void vcpu_init(struct vcpu *v, unsigned index)
{
    v->index = index;
    pthread_mutex_init(&v->sleep_lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&v->sleep_cond, &attr);
    pthread_condattr_destroy(&attr);
}

void vcpu_fini(struct vcpu *v)
{
    pthread_cond_destroy(&v->sleep_cond);
    pthread_mutex_destroy(&v->sleep_lock);
}

void vcpu_post(struct vcpu *v, unsigned events, unsigned arg)
{
    if (events & VCPU_EV_SIPI) {
        v->sipi_vector = arg;
    }
    atomic_fetch_or(&v->events, events);
    atomic_store(&v->env->exit, 1);
    pthread_mutex_lock(&v->sleep_lock);
    bool wake = v->sleeping;
    pthread_mutex_unlock(&v->sleep_lock);
    if (wake) { /* without the lock, which the sleeper wants first of all */
        pthread_cond_signal(&v->sleep_cond);
    }
}

static void nap_end(const struct vcpu *v, struct timespec *end)
{
    clock_gettime(CLOCK_MONOTONIC, end);
    uint64_t ns = (uint64_t)end->tv_nsec + v->nap_ns;
    end->tv_sec += (time_t)(ns / 1000000000u);
    end->tv_nsec = (long)(ns % 1000000000u);
}

void vcpu_sleep(struct vcpu *v)
{
    pthread_mutex_lock(&v->sleep_lock);
    v->sleeping = true;
    struct timespec end;
    nap_end(v, &end);
    int late = 0;
    while (!atomic_load(&v->env->exit) && !late) {
        late = v->nap_ns ? pthread_cond_timedwait(&v->sleep_cond, &v->sleep_lock, &end)
                         : pthread_cond_wait(&v->sleep_cond, &v->sleep_lock);
    }
    if (late && v->nap_ns < NAP_MAX_NS) {
        v->nap_ns *= 2;
    }
    v->sleeping = false;
    pthread_mutex_unlock(&v->sleep_lock);
}
