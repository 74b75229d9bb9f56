/*
 * The contract between a vcpu and its interrupt controller (on x86: its local APIC, and behind
 * it the I/O APIC and the PIC).
 *
 * The vcpu side: the functions here, all on the vcpu's own thread except where said.
 * The controller side: vcpu_post(), from any thread. VCPU_EV_INTR says "ask irq_ctrl_pending()
 * again"; it is posted whenever the answer may have become true, never when it becomes false.
 */
#ifndef CORE_IRQ_CTRL_H
#define CORE_IRQ_CTRL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/vcpu_event.h"

struct irq_ctrl;

struct irq_ctrl_type {
    const char *name;
    bool (*pending)(struct irq_ctrl *ic);
    int (*ack)(struct irq_ctrl *ic);
    uint8_t (*get_tpr)(struct irq_ctrl *ic);
    void (*set_tpr)(struct irq_ctrl *ic, uint8_t tpr);
    uint64_t (*get_base)(struct irq_ctrl *ic);
    bool (*set_base)(struct irq_ctrl *ic, uint64_t base);
    bool (*msr_read)(struct irq_ctrl *ic, uint32_t msr, uint64_t *val);
    bool (*msr_write)(struct irq_ctrl *ic, uint32_t msr, uint64_t val);
    void (*reset)(struct irq_ctrl *ic, bool init);
    uint32_t (*id)(struct irq_ctrl *ic);
    void (*set_tsc_offset)(struct irq_ctrl *ic, int64_t offset);
};

struct irq_ctrl {
    const struct irq_ctrl_type *type;
};

/* An interrupt the vcpu should take now if its IF allows: priority checks included. Lock free;
 * may be called from any thread. */
static inline bool irq_ctrl_pending(struct irq_ctrl *ic)
{
    return ic->type->pending(ic);
}

/* Interrupt acknowledge: the vector to deliver (the PIC's for ExtINT), or -1: none after all. */
static inline int irq_ctrl_ack(struct irq_ctrl *ic)
{
    return ic->type->ack(ic);
}

/* CR8 is bits 7:4 of the TPR; these take and give the whole TPR byte. */
static inline uint8_t irq_ctrl_get_tpr(struct irq_ctrl *ic)
{
    return ic->type->get_tpr(ic);
}

static inline void irq_ctrl_set_tpr(struct irq_ctrl *ic, uint8_t tpr)
{
    ic->type->set_tpr(ic, tpr);
}

/* IA32_APIC_BASE (MSR 0x1b). False means #GP. */
static inline uint64_t irq_ctrl_get_base(struct irq_ctrl *ic)
{
    return ic->type->get_base(ic);
}

static inline bool irq_ctrl_set_base(struct irq_ctrl *ic, uint64_t base)
{
    return ic->type->set_base(ic, base);
}

/* The x2APIC MSRs (0x800 to 0x8ff) and IA32_TSC_DEADLINE (0x6e0). False means #GP. */
static inline bool irq_ctrl_msr_read(struct irq_ctrl *ic, uint32_t msr, uint64_t *val)
{
    return ic->type->msr_read(ic, msr, val);
}

static inline bool irq_ctrl_msr_write(struct irq_ctrl *ic, uint32_t msr, uint64_t val)
{
    return ic->type->msr_write(ic, msr, val);
}

/* With the processor's: power-up/RESET, or INIT (`init`), which keeps the APIC's ID and base. */
static inline void irq_ctrl_reset(struct irq_ctrl *ic, bool init)
{
    ic->type->reset(ic, init);
}

/* The initial APIC ID (CPUID leaves 1 and 0xb). */
static inline uint32_t irq_ctrl_id(struct irq_ctrl *ic)
{
    return ic->type->id(ic);
}

/*
 * The vcpu's TSC is clock_tsc(clock) + offset; told at every change (IA32_TSC,
 * IA32_TSC_ADJUST), so that TSC deadlines fall due at the right time.
 */
static inline void irq_ctrl_set_tsc_offset(struct irq_ctrl *ic, int64_t offset)
{
    ic->type->set_tsc_offset(ic, offset);
}

/*
 * Registers of the local APIC lie at one address for all vcpus: which one is meant follows from
 * the thread. A vcpu's thread says once, before it runs guest code, whose it is.
 */
void irq_ctrl_enter(struct irq_ctrl *ic);
struct irq_ctrl *irq_ctrl_current(void); /* NULL on other threads */

#endif
