/* What others tell a vcpu. Posting is safe from any thread, wakes a halted vcpu and never
 * calls back. Events are sticky until the vcpu takes them. */
#ifndef CORE_VCPU_EVENT_H
#define CORE_VCPU_EVENT_H

struct vcpu;

enum vcpu_event {
    VCPU_EV_INTR = 1 << 0, /* ask irq_ctrl_pending() again */
    VCPU_EV_NMI = 1 << 1,
    VCPU_EV_SMI = 1 << 2,
    VCPU_EV_INIT = 1 << 3,
    VCPU_EV_SIPI = 1 << 4, /* arg: the start vector (page number) */
};

/* One or more events; `arg` goes with VCPU_EV_SIPI. */
void vcpu_post(struct vcpu *vcpu, unsigned events, unsigned arg);

#endif
