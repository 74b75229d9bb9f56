/*
 * One virtual CPU as everybody but its ISA and its accelerator sees it.
 *
 * A vCPU's thread owns its state (env). Other threads only post events: they set a bit in
 * `events`, then the exit word, then wake the thread if it sleeps.
 */
#ifndef CORE_VCPU_H
#define CORE_VCPU_H

#include <pthread.h>

#include "base/types.h"
#include "core/debug.h"
#include "core/vcpu_event.h"

struct rt_env;
struct isa;
struct machine;
struct irq_ctrl;
struct mem_map;

enum vcpu_state { VCPU_RUNNING, VCPU_HALTED, VCPU_WAIT_SIPI };

struct vcpu {
    unsigned index; /* 0 is the boot processor */
    const struct isa *isa;
    struct machine *machine;
    struct mem_map *mem, *io;
    struct irq_ctrl *ic;     /* its local interrupt controller, or NULL */
    struct rt_env *env;      /* isa->env_size bytes, guest state */
    void *accel;             /* the accelerator's own */
    enum vcpu_state state;   /* owner */
    bool smm;                /* owner; sees machine->smram[]. Flushes when it changes */
    _Atomic unsigned events; /* enum vcpu_event; set by any thread, cleared by the owner */
    unsigned sipi_vector;    /* written before VCPU_EV_SIPI is posted */
    pthread_t thread;
    bool thread_started;
    pthread_mutex_t sleep_lock;
    pthread_cond_t sleep_cond;
    bool sleeping;   /* under sleep_lock */
    uint64_t nap_ns; /* owner; how long to sleep at most, 0: no limit */
    struct vcpu_debug debug;
};

/* Owner: sleeps until an event is posted, or for nap_ns, which then grows. */
void vcpu_sleep(struct vcpu *);
void vcpu_init(struct vcpu *, unsigned index);
void vcpu_fini(struct vcpu *);

#endif
