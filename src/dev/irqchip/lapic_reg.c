/* Local APIC registers: Intel SDM Vol. 3A 11.4.1 (memory) and 11.12.1.2 (x2APIC MSRs). */
#include "base/bits.h"
#include "base/cleanup.h"
#include "dev/irqchip/lapic_internal.h"

enum lapic_reg {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR_LOW = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT = 0x32,
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
};

#define MSR_X2APIC 0x800
#define MSR_TSC_DEADLINE 0x6e0

bool lapic_reg_read(struct lapic *l, unsigned reg, uint64_t *val)
{
    switch (reg) {
    case REG_ID: *val = l->id; return true;
    case REG_VERSION: /* integrated, six LVT entries, EOI broadcast suppression */
        *val = 0x14 | (LVT_COUNT - 1) << 16 | 1 << 24;
        return true;
    case REG_TPR: *val = l->tpr; return true;
    case REG_APR: *val = 0; return true;
    case REG_PPR: *val = l->ppr; return true;
    case REG_LDR: *val = l->ldr; return true;
    case REG_DFR: *val = l->dfr; return true;
    case REG_SVR: *val = l->svr; return true;
    case REG_ISR ... REG_ISR + 7: *val = l->isr[reg - REG_ISR]; return true;
    case REG_TMR ... REG_TMR + 7: *val = l->tmr[reg - REG_TMR]; return true;
    case REG_IRR ... REG_IRR + 7: *val = l->irr[reg - REG_IRR]; return true;
    case REG_ESR: *val = l->esr; return true;
    case REG_ICR_LOW: *val = lapic_x2(l) ? l->icr : (uint32_t)l->icr; return true;
    case REG_ICR_HIGH: *val = l->icr >> 32; return true;
    case REG_LVT ... REG_LVT + LVT_COUNT - 1: *val = l->lvt[reg - REG_LVT]; return true;
    case REG_INITIAL: *val = l->initial; return true;
    case REG_CURRENT: *val = lapic_timer_current(l); return true;
    case REG_DIVIDE: *val = l->divide; return true;
    default: *val = 0; return reg == REG_EOI;
    }
}

/* Writable bits: vector, mode, polarity, trigger, mask; the timer has its mode instead. */
static void lapic_write_lvt(struct lapic *l, enum lapic_lvt n, uint32_t val)
{
    static const uint32_t writable[LVT_COUNT] = {
        [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
        [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
    };
    val &= writable[n];
    if (!(l->svr & SVR_ENABLE)) {
        val |= LVT_MASKED; /* Intel SDM Vol. 3A 11.4.7.2 */
    }
    if (n == LVT_TIMER) {
        lapic_timer_set_lvt(l, val);
        return;
    }
    l->lvt[n] = val;
    if (n == LVT_LINT0 && l->lint0 && l->vcpu) {
        vcpu_post(l->vcpu, VCPU_EV_INTR, 0);
    }
}

static void lapic_write_svr(struct lapic *l, uint32_t val)
{
    l->svr = val & 0x11ff;
    if (!(val & SVR_ENABLE)) {
        for (unsigned i = 0; i < LVT_COUNT; i++) {
            lapic_write_lvt(l, i, l->lvt[i] | LVT_MASKED);
        }
    } else if (l->vcpu) {
        vcpu_post(l->vcpu, VCPU_EV_INTR, 0);
    }
}

bool lapic_reg_write(struct lapic *l, unsigned reg, uint64_t val)
{
    uint32_t v = (uint32_t)val;
    switch (reg) {
    case REG_ID: /* read only since Pentium 4, and in x2APIC mode */ return !lapic_x2(l);
    case REG_TPR: irq_ctrl_set_tpr(&l->ic, (uint8_t)v); return true;
    case REG_EOI: lapic_eoi(l); return true;
    case REG_LDR:
        if (!lapic_x2(l)) {
            l->ldr = v & 0xff000000;
        }
        return !lapic_x2(l);
    case REG_DFR: l->dfr = v | 0x0fffffff; return true;
    case REG_SVR: lapic_write_svr(l, v); return true;
    case REG_ESR: /* a write latches what was collected */
        l->esr = l->esr_seen;
        l->esr_seen = 0;
        return true;
    case REG_ICR_LOW:
        l->icr = lapic_x2(l) ? val : (l->icr & ~0xffffffffull) | v;
        l->icr &= ~(1ull << 12);
        lapic_send_icr(l, l->icr);
        return true;
    case REG_ICR_HIGH: l->icr = (uint32_t)l->icr | (uint64_t)v << 32; return true;
    case REG_LVT ... REG_LVT + LVT_COUNT - 1: lapic_write_lvt(l, reg - REG_LVT, v); return true;
    case REG_INITIAL: lapic_timer_set_initial(l, v); return true;
    case REG_DIVIDE: lapic_timer_set_divide(l, v & 0xb); return true;
    default: return false;
    }
}

/* ---- Memory ---- */

/* Registers are 16 bytes apart and 32 bits wide; other bytes read as zero. */
static enum mem_result lapic_mmio_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct irq_ctrl *ic = irq_ctrl_current();
    struct lapic *l = container_of(ic, struct lapic, ic);
    if (!ic || lapic_x2(l) || !(l->base & BASE_ENABLE)) {
        return MEM_NONE;
    }
    *val = 0;
    if (!(off & 15) && !lapic_reg_read(l, (unsigned)(off >> 4), val)) {
        lapic_error(l, ESR_ILLEGAL_REG);
    }
    return MEM_OK;
}

static enum mem_result lapic_mmio_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct irq_ctrl *ic = irq_ctrl_current();
    if (!ic) { /* not a processor: a message from a device */
        lapic_bus_msi(dev, LAPIC_BASE + off, (uint32_t)val);
        return MEM_OK;
    }
    struct lapic *l = container_of(ic, struct lapic, ic);
    if (lapic_x2(l) || !(l->base & BASE_ENABLE)) {
        return MEM_NONE;
    }
    if (!(off & 15) && !lapic_reg_write(l, (unsigned)(off >> 4), val)) {
        lapic_error(l, ESR_ILLEGAL_REG);
    }
    return MEM_OK;
}

const struct mmio lapic_mmio = {lapic_mmio_read, lapic_mmio_write, 4, 4};

/* ---- MSRs ---- */

bool lapic_msr_read(struct irq_ctrl *ic, uint32_t msr, uint64_t *val)
{
    struct lapic *l = container_of(ic, struct lapic, ic);
    unsigned reg = msr - MSR_X2APIC;
    if (msr == MSR_TSC_DEADLINE) {
        *val = lapic_timer_get_deadline(l);
        return true;
    }
    if (!lapic_x2(l) || reg > 0xff) {
        return false;
    }
    if (reg == REG_ICR_HIGH || reg == REG_DFR || reg == REG_EOI || reg == REG_APR) {
        return false;
    }
    return lapic_reg_read(l, reg, val);
}

bool lapic_msr_write(struct irq_ctrl *ic, uint32_t msr, uint64_t val)
{
    struct lapic *l = container_of(ic, struct lapic, ic);
    unsigned reg = msr - MSR_X2APIC;
    if (msr == MSR_TSC_DEADLINE) {
        lapic_timer_set_deadline(l, val);
        return true;
    }
    if (!lapic_x2(l) || reg > 0xff) {
        return false;
    }
    if (reg == REG_SELF_IPI) {
        if (val >> 8) {
            return false;
        }
        lapic_send_icr(l, (val & 0xff) | 1 << 18 | 1 << 14);
        return true;
    }
    if (reg == REG_ICR_HIGH || reg == REG_DFR || (reg != REG_ICR_LOW && val >> 32)) {
        return false;
    }
    if ((reg == REG_EOI || reg == REG_ESR) && val) {
        return false;
    }
    return lapic_reg_write(l, reg, val);
}
