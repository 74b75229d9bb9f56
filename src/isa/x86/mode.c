/* RFLAGS, the mode word, and what changes of mode mean for translations. */
#include <stdatomic.h>

#include "core/irq_ctrl.h"
#include "core/tlb_ops.h"
#include "isa/x86/sys.h"

uint64_t x86_rflags(const struct x86_cpu *c)
{
    return RF_ONE | c->sys_flags | rt_flags_unpack(c->rt.flags);
}

void x86_set_rflags(struct x86_cpu *c, uint64_t v, uint64_t mask)
{
    if (mask & FLAG_ALL) {
        uint64_t arith = (rt_flags_unpack(c->rt.flags) & ~mask) | (v & mask & FLAG_ALL);
        c->rt.flags = rt_flags_pack((uint32_t)arith);
    }
    uint64_t old = c->sys_flags;
    mask &= RF_SYS_ALL;
    c->sys_flags = (old & ~mask) | (v & mask);
    uint64_t changed = old ^ c->sys_flags;
    if (changed & (RF_TF | RF_AC | RF_VM | RF_IOPL)) {
        x86_mode_changed(c);
    }
    struct irq_ctrl *ic = c->rt.vcpu->ic;
    if ((changed & c->sys_flags & RF_IF) && ic && irq_ctrl_pending(ic)) {
        atomic_store(&c->rt.exit, 1); /* a held-off interrupt is due (engine rule 7) */
    }
}

void x86_set_mxcsr(struct x86_cpu *c, uint32_t v)
{
    uint64_t changed = c->mxcsr ^ v;
    c->mxcsr = v;
    if (changed & MXCSR_MASKS) {
        x86_mode_changed(c);
    }
}

void x86_set_x87_cw(struct x86_cpu *c, uint16_t v)
{
    unsigned changed = c->x87_cw ^ v;
    c->x87_cw = v;
    if (changed & FP_ALL) {
        x86_mode_changed(c);
    }
}

static bool flat(const struct x86_cpu *c)
{
    static const uint8_t regs[4] = {SEG_ES, SEG_SS, SEG_DS, SEG_CS};
    for (unsigned i = 0; i < 4; i++) {
        const struct x86_segment *s = &c->seg[regs[i]];
        if (c->seg_base[regs[i]] || s->limit != 0xffffffffu || !(s->ar & AR_P)) {
            return false;
        }
        bool writable = (s->ar & (AR_CODE | AR_E | AR_W)) == AR_W;
        if (regs[i] != SEG_CS && !writable) {
            return false;
        }
    }
    return true;
}

uint32_t x86_mode(const struct vcpu *v)
{
    const struct x86_cpu *c = x86_cpu(v);
    uint32_t m = x86_mmu_idx(c) | (uint32_t)c->cpl << MODE_CPL_SHIFT;
    if ((c->efer & EFER_LMA) && (c->seg[SEG_CS].ar & AR_L)) {
        m |= MODE_CS64 | MODE_FLAT;
    } else {
        m |= c->seg[SEG_CS].ar & AR_DB ? MODE_CS32 : 0;
        m |= c->seg[SEG_SS].ar & AR_DB ? MODE_SS32 : 0;
        m |= (c->cr0 & CR0_PE) && !(c->sys_flags & RF_VM) && flat(c) ? MODE_FLAT : 0;
        uint32_t end = c->seg[SEG_CS].ar & AR_DB ? 0xffffffff : 0xffff;
        m |= c->seg[SEG_CS].limit != end ? MODE_CS_LIMIT : 0;
    }
    m |= c->sys_flags & RF_TF ? MODE_STEP : 0;
    m |= c->cr0 & CR0_PE ? MODE_PE : 0;
    m |= c->sys_flags & RF_VM ? MODE_VM : 0;
    m |= c->cr0 & (CR0_EM | CR0_TS) ? MODE_NM_FPU : 0;
    m |= (c->cr4 & CR4_OSFXSR) && !(c->cr0 & CR0_EM) ? MODE_SSE : 0;
    m |= c->cr0 & CR0_TS ? MODE_TS : 0;
    m |= (c->cr4 & CR4_OSXSAVE) && (c->xcr0 & 6) == 6 ? MODE_AVX : 0;
    m |= c->cpl <= (c->sys_flags >> 12 & 3) ? MODE_IO : 0;
    m |= c->cr4 & CR4_FSGSBASE ? MODE_FSGSBASE : 0;
    m |= c->cr4 & CR4_UMIP ? MODE_UMIP : 0;
    m |= c->efer & EFER_LMA ? MODE_LMA : 0;
    m |= c->cr4 & CR4_TSD ? MODE_TSD : 0;
    m |= x86_aligned(c) ? MODE_AC : 0;
    m |= (c->mxcsr & MXCSR_MASKS) != MXCSR_MASKS ? MODE_XM : 0;
    m |= (c->x87_cw & FP_ALL) != FP_ALL ? MODE_MF : 0;
    return m;
}

void x86_mode_changed(struct x86_cpu *c)
{
    c->rt.mmu_idx = x86_mmu_idx(c);
    if (!c->mode_held) {
        tlb_code_changed(c->rt.vcpu);
    }
}

void x86_mode_hold(struct x86_cpu *c)
{
    c->mode_held = true;
}

void x86_mode_release(struct x86_cpu *c)
{
    c->mode_held = false;
    x86_mode_changed(c);
}

void x86_set_cpl(struct x86_cpu *c, unsigned cpl)
{
    if (c->cpl != cpl) {
        c->cpl = (uint8_t)cpl;
        x86_mode_changed(c);
    }
}
