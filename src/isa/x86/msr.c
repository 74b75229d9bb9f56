/* Model-specific registers (Intel SDM Vol. 4; AMD APM Vol. 2 appendix A). Unknown ones give #GP. */
#include <stdatomic.h>

#include "core/irq_ctrl.h"
#include "core/machine.h"
#include "isa/x86/model.h"
#include "isa/x86/sys.h"
#include "loop/clock.h"

enum {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1b,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_MTRRCAP = 0xfe,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP,
    MSR_SYSENTER_EIP,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS,
    MSR_MCG_CTL,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_MTRR_PHYS = 0x200,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF = 0x2ff,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_X2APIC = 0x800,
    MSR_X2APIC_LAST = 0x8ff,
};
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u

uint64_t x86_tsc(const struct x86_cpu *c)
{
    return clock_tsc(c->rt.vcpu->machine->clock) + (uint64_t)c->tsc_offset;
}

/* Registers that are just a 64-bit variable; `canonical` ones refuse other addresses. */
struct plain {
    uint32_t msr;
    uint32_t off;
    bool canonical;
};
#define FIELD(name) offsetof(struct x86_cpu, name)

static const struct plain plain[] = {
    {MSR_SYSENTER_CS, FIELD(sysenter_cs), false},
    {MSR_SYSENTER_ESP, FIELD(sysenter_esp), true},
    {MSR_SYSENTER_EIP, FIELD(sysenter_eip), true},
    {MSR_MISC_ENABLE, FIELD(misc_enable), false},
    {MSR_MTRR_DEF, FIELD(mtrr_def_type), false},
    {MSR_SPEC_CTRL, FIELD(spec_ctrl), false},
    {MSR_STAR, FIELD(star), false},
    {MSR_LSTAR, FIELD(lstar), true},
    {MSR_CSTAR, FIELD(cstar), true},
    {MSR_SFMASK, FIELD(sfmask), false},
    {MSR_FS_BASE, FIELD(seg_base) + 8 * SEG_FS, true},
    {MSR_GS_BASE, FIELD(seg_base) + 8 * SEG_GS, true},
    {MSR_KERNEL_GS, FIELD(kernel_gs), true},
    {MSR_TSC_AUX, FIELD(tsc_aux), false},
};

static uint64_t *plain_slot(struct x86_cpu *c, uint32_t msr, bool *canonical)
{
    static const uint32_t fixed[11] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                       0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
    *canonical = false;
    for (unsigned i = 0; i < ARRAY_LEN(plain); i++) {
        if (plain[i].msr == msr) {
            *canonical = plain[i].canonical;
            return (uint64_t *)(void *)((char *)c + plain[i].off);
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(fixed); i++) {
        if (fixed[i] == msr) {
            return &c->mtrr_fixed[i];
        }
    }
    if (msr >= MSR_MTRR_PHYS && msr < MSR_MTRR_PHYS + 16) {
        unsigned i = (msr - MSR_MTRR_PHYS) / 2;
        return msr & 1 ? &c->mtrr_mask[i] : &c->mtrr_base[i];
    }
    return NULL;
}

/* Read as zero, writes vanish: machine checks, microcode, AMD system registers Linux looks at. */
static bool reads_zero(uint32_t msr)
{
    static const uint32_t list[] = {0x8b /* microcode level */,
                                    0x17,
                                    0x2a,
                                    0xcd,
                                    0xce,
                                    0x140,
                                    MSR_MCG_CAP,
                                    MSR_MCG_STATUS,
                                    MSR_MCG_CTL,
                                    MSR_DEBUGCTL,
                                    0x1db,
                                    0x1dc,
                                    0x1dd,
                                    0x1de,
                                    0x34,
                                    0x611,
                                    0x606,
                                    0x639,
                                    0xc0010010,
                                    0xc0010015 /* HWCR */,
                                    0xc001001f,
                                    0xc0010055,
                                    0xc0010058,
                                    0xc0010140,
                                    0xc0010141,
                                    0xc0011020,
                                    0xc0011021,
                                    0xc0011022,
                                    0xc0011023,
                                    0xc0011029,
                                    0xc001102a,
                                    0x1b0};
    for (unsigned i = 0; i < ARRAY_LEN(list); i++) {
        if (list[i] == msr) {
            return true;
        }
    }
    return msr >= 0x400 && msr < 0x480;
}

static bool to_irq_ctrl(uint32_t msr)
{
    return msr == MSR_TSC_DEADLINE || (msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST);
}

bool x86_rdmsr(struct x86_cpu *c, uint32_t msr, uint64_t *v)
{
    struct irq_ctrl *ic = c->rt.vcpu->ic;
    bool canonical;
    uint64_t *slot = plain_slot(c, msr, &canonical);
    if (slot) {
        *v = *slot;
        return true;
    }
    switch (msr) {
    case MSR_TSC: *v = x86_tsc(c); return true;
    case MSR_TSC_ADJUST: *v = (uint64_t)c->tsc_adjust; return true;
    case MSR_APIC_BASE: *v = ic ? irq_ctrl_get_base(ic) : 0; return true;
    case MSR_EFER: *v = c->efer; return true;
    case MSR_PAT: *v = c->pat; return true;
    case MSR_MTRRCAP: *v = 0x508; return true; /* eight variable ranges, fixed ones, WC */
    default: break;
    }
    if (to_irq_ctrl(msr)) {
        return ic && irq_ctrl_msr_read(ic, msr, v);
    }
    *v = 0;
    return reads_zero(msr);
}

static bool memory_type(unsigned t)
{
    return t <= 1 || (t >= 4 && t <= 6);
}

/* Reserved bits and values of registers that are otherwise just kept (Vol. 3A 11.11.2). */
static bool acceptable(uint32_t msr, uint64_t v)
{
    if (msr == MSR_TSC_AUX) {
        return !(v >> 32);
    }
    if (msr == MSR_MTRR_DEF) {
        return !(v & ~0xcffull) && memory_type(v & 0xff);
    }
    if (msr < MSR_MTRR_PHYS || msr >= MSR_MTRR_PHYS + 16) {
        return true;
    }
    return !(v >> X86_PHYS_BITS) &&
           (msr & 1 ? !(v & 0x7ff) : !(v & 0xf00) && memory_type(v & 0xff));
}

static bool write_efer(struct x86_cpu *c, uint64_t v)
{
    uint64_t known = EFER_SCE | EFER_LME | EFER_NXE | EFER_LMA;
    if ((v & ~known) || (((v ^ c->efer) & EFER_LME) && (c->cr0 & CR0_PG))) {
        return false;
    }
    uint64_t changed = (v ^ c->efer) & EFER_NXE;
    c->efer = (v & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);
    if (changed) {
        tlb_flush(c->rt.vcpu);
    }
    x86_mode_changed(c);
    return true;
}

static bool write_pat(struct x86_cpu *c, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned t = v >> 8 * i & 0xff;
        if (t > 7 || t == 2 || t == 3) {
            return false;
        }
    }
    c->pat = v;
    return true;
}

static bool write_tsc(struct x86_cpu *c, int64_t offset, int64_t adjust)
{
    c->tsc_offset = offset;
    c->tsc_adjust = adjust;
    if (c->rt.vcpu->ic) {
        irq_ctrl_set_tsc_offset(c->rt.vcpu->ic, offset);
    }
    return true;
}

bool x86_wrmsr(struct x86_cpu *c, uint32_t msr, uint64_t v)
{
    struct irq_ctrl *ic = c->rt.vcpu->ic;
    bool canonical;
    uint64_t *slot = plain_slot(c, msr, &canonical);
    if (slot) {
        if ((canonical && !x86_canonical_reg(c, v)) || !acceptable(msr, v)) {
            return false;
        }
        *slot = v;
        return true;
    }
    switch (msr) {
    case MSR_TSC: {
        int64_t delta = (int64_t)(v - x86_tsc(c));
        return write_tsc(c, c->tsc_offset + delta, c->tsc_adjust + delta);
    }
    case MSR_TSC_ADJUST:
        return write_tsc(c, c->tsc_offset + (int64_t)v - c->tsc_adjust, (int64_t)v);
    case MSR_APIC_BASE: return ic && irq_ctrl_set_base(ic, v);
    case MSR_EFER: return write_efer(c, v);
    case MSR_PAT: return write_pat(c, v);
    case 0x49:
    case 0x10b: return true; /* prediction barriers: nothing is shared */
    default: break;
    }
    if (to_irq_ctrl(msr)) {
        bool ok = ic && irq_ctrl_msr_write(ic, msr, v);
        atomic_store(&c->rt.exit, 1);
        return ok;
    }
    return reads_zero(msr) || msr == 0x79 /* microcode update */;
}
