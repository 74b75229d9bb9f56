/* Posting events to a vcpu, and its sleep. */
#include "core/vcpu.h"

#include <stdatomic.h>
#include <string.h>

#include "base/cleanup.h"
#include "ir/rt.h"

void vcpu_init(struct vcpu *vcpu, unsigned index)
{
    memset(vcpu, 0, sizeof(*vcpu));
    vcpu->index = index;
    vcpu->state = index ? VCPU_WAIT_SIPI : VCPU_RUNNING;
    pthread_mutex_init(&vcpu->sleep_lock, NULL);
    pthread_cond_init(&vcpu->sleep_cond, NULL);
}

void vcpu_fini(struct vcpu *vcpu)
{
    pthread_cond_destroy(&vcpu->sleep_cond);
    pthread_mutex_destroy(&vcpu->sleep_lock);
}

/*
 * Order: the argument, the event, the exit word, then the wake-up; the owner goes the other way
 * round, so that an event is never seen without what belongs to it and never slept through.
 */
void vcpu_post(struct vcpu *vcpu, unsigned events, unsigned arg)
{
    if (events & VCPU_EV_SIPI) {
        vcpu->sipi_vector = arg;
    }
    atomic_fetch_or(&vcpu->events, events);
    if (vcpu->env) {
        atomic_store(&vcpu->env->exit, 1);
    }
    AUTO_LOCK(&vcpu->sleep_lock);
    if (vcpu->sleeping) {
        pthread_cond_signal(&vcpu->sleep_cond);
    }
}

void vcpu_sleep(struct vcpu *vcpu)
{
    AUTO_LOCK(&vcpu->sleep_lock);
    vcpu->sleeping = true;
    while (!atomic_load(&vcpu->events)) {
        pthread_cond_wait(&vcpu->sleep_cond, &vcpu->sleep_lock);
    }
    vcpu->sleeping = false;
}
