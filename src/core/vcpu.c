/* Events and sleep of a vCPU: what any accelerator needs. */
#include "core/vcpu.h"

#include <stdatomic.h>

#include "ir/rt.h"

void vcpu_init(struct vcpu *v, unsigned index)
{
    v->index = index;
    pthread_mutex_init(&v->sleep_lock, NULL);
    pthread_cond_init(&v->sleep_cond, NULL);
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
    if (v->sleeping) {
        pthread_cond_signal(&v->sleep_cond);
    }
    pthread_mutex_unlock(&v->sleep_lock);
}

void vcpu_sleep(struct vcpu *v)
{
    pthread_mutex_lock(&v->sleep_lock);
    v->sleeping = true;
    while (!atomic_load(&v->env->exit)) {
        pthread_cond_wait(&v->sleep_cond, &v->sleep_lock);
    }
    v->sleeping = false;
    pthread_mutex_unlock(&v->sleep_lock);
}
