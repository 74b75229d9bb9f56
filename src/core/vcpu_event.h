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
    /* From whoever runs the vcpus, not from the interrupt controller: */
    VCPU_EV_RESET = 1 << 5,
    VCPU_EV_STOP = 1 << 6,  /* leave the run loop for good */
    VCPU_EV_PAUSE = 1 << 7, /* park at the next safepoint until resumed */
    VCPU_EV_WORK = 1 << 8,  /* the accelerator's mailbox has work */
};

/* One or more events; `arg` goes with VCPU_EV_SIPI. */
void vcpu_post(struct vcpu *vcpu, unsigned events, unsigned arg);

#endif
