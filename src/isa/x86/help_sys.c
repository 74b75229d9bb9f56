/* Helpers for system registers, segment loads, descriptor tables, MSRs, TLB control. */
#include <stdatomic.h>

#include "core/irq_ctrl.h"
#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"

static struct x86_cpu *cpu_of(struct rt_env *env)
{
    return (struct x86_cpu *)env;
}

/* Writes a general register as an instruction with this operand size does. */
static void set_gpr(struct x86_cpu *c, unsigned reg, unsigned size, uint64_t v)
{
    uint64_t *r = &c->rt.reg[reg & 15];
    *r = size == 2 ? (*r & ~0xffffull) | (v & 0xffff) : size == 4 ? v & 0xffffffff : v;
}

static enum ir_helper_result write_cr0(struct x86_cpu *c, uint64_t v)
{
    bool lme = c->efer & EFER_LME, pg = v & CR0_PG;
    if ((v >> 32) || (pg && !(v & CR0_PE)) || ((v & CR0_NW) && !(v & CR0_CD))) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if (pg && !(c->cr0 & CR0_PG) && lme) {
        if (!(c->cr4 & CR4_PAE) || (c->seg[SEG_CS].ar & AR_L)) {
            return x86_raise_error(c, EXC_GP, 0);
        }
        c->efer |= EFER_LMA;
    } else if (!pg && (c->efer & EFER_LMA)) {
        if (x86_long_code(c) || (c->cr4 & CR4_PCIDE)) {
            return x86_raise_error(c, EXC_GP, 0);
        }
        c->efer &= ~(uint64_t)EFER_LMA;
    }
    if (pg && (c->cr4 & CR4_PAE) && !(c->efer & EFER_LMA) && !x86_load_pdptes(c, c->cr3)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    uint64_t changed = c->cr0 ^ v;
    c->cr0 = (v & 0xe005003f) | CR0_ET;
    if (changed & (CR0_PG | CR0_WP | CR0_PE)) {
        tlb_flush(c->rt.vcpu);
    }
    x86_mode_changed(c);
    return IR_HELPER_EXIT;
}

static unsigned pcid(const struct x86_cpu *c)
{
    return c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0;
}

static enum ir_helper_result write_cr3(struct x86_cpu *c, uint64_t v)
{
    bool keep = (c->cr4 & CR4_PCIDE) && (v & BIT(63));
    if (c->efer & EFER_LMA) {
        v &= ~(c->cr4 & CR4_PCIDE ? BIT(63) : 0);
        if (v >> X86_PHYS_BITS) { /* reserved */
            return x86_raise_error(c, EXC_GP, 0);
        }
    } else {
        v &= 0xffffffff;
        if ((c->cr0 & CR0_PG) && (c->cr4 & CR4_PAE) && !x86_load_pdptes(c, v)) {
            return x86_raise_error(c, EXC_GP, 0);
        }
    }
    bool moved = c->cr3 != v && !((c->cr3 ^ v) & 0xfff); /* other tables, the same PCID */
    c->cr3 = v;
    tlb_switch(c->rt.vcpu, pcid(c), keep && !moved);
    return IR_HELPER_NEXT;
}

static enum ir_helper_result write_cr4(struct x86_cpu *c, uint64_t v)
{
    uint64_t known = x86_cr4_known(c), changed = c->cr4 ^ v;
    bool lma = c->efer & EFER_LMA;
    if ((v & ~known) || (lma && !(v & CR4_PAE)) || ((changed & CR4_LA57) && lma) ||
        ((changed & v & CR4_PCIDE) && (!lma || (c->cr3 & 0xfff)))) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if ((changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP)) && (c->cr0 & CR0_PG) &&
        (v & CR4_PAE) && !lma && !x86_load_pdptes(c, c->cr3)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    c->cr4 = v;
    if (changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PCIDE | CR4_PKE)) {
        tlb_switch(c->rt.vcpu, pcid(c), true);
        tlb_flush(c->rt.vcpu);
    }
    x86_mode_changed(c);
    return IR_HELPER_EXIT;
}

enum ir_helper_result x86_write_cr(struct x86_cpu *c, unsigned cr, uint64_t v)
{
    switch (cr) {
    case 0: return write_cr0(c, v);
    case 2: c->cr2 = v; return IR_HELPER_NEXT;
    case 3: return write_cr3(c, v);
    case 4: return write_cr4(c, v);
    case 8:
        if (v > 15) {
            return x86_raise_error(c, EXC_GP, 0);
        }
        if (c->rt.vcpu->ic) {
            irq_ctrl_set_tpr(c->rt.vcpu->ic, (uint8_t)(v << 4));
        }
        atomic_store(&c->rt.exit, 1);
        return IR_HELPER_NEXT;
    default: return x86_raise(c, EXC_UD);
    }
}

enum ir_helper_result helper_write_cr(struct rt_env *env, uint64_t cr, uint64_t v, uint64_t d)
{
    return x86_write_cr(cpu_of(env), (unsigned)cr, v);
}

enum ir_helper_result helper_read_cr8(struct rt_env *env, uint64_t reg, uint64_t b, uint64_t d)
{
    struct vcpu *v = env->vcpu;
    env->reg[reg & 15] = v->ic ? irq_ctrl_get_tpr(v->ic) >> 4 : 0;
    return IR_HELPER_NEXT;
}

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE (Vol. 3B 17.2.2). False: an exception was raised. */
static bool debug_reg(struct x86_cpu *c, uint64_t *n)
{
    if (*n == 4 || *n == 5) {
        if (c->cr4 & CR4_DE) {
            x86_raise(c, EXC_UD);
            return false;
        }
        *n += 2;
    }
    if (*n > 7) {
        x86_raise(c, EXC_UD);
        return false;
    }
    if (c->dr[7] & BIT(13)) { /* GD: general detect */
        c->rt.fault = (struct rt_fault){.kind = RT_FAULT_GUEST, .vector = EXC_DB, .addr = BIT(13)};
        return false;
    }
    return true;
}

enum ir_helper_result helper_write_dr(struct rt_env *env, uint64_t n, uint64_t v, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if (!debug_reg(c, &n)) {
        return IR_HELPER_FAULT;
    }
    if (n >= 6 && v >> 32) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    c->dr[n] = n == 6 ? (v & 0xe00f) | 0xffff0ff0 : n == 7 ? (v & 0xffff2bff) | 0x400 : v;
    c->sys_flags &= ~(uint64_t)RF_RF; /* done with, as after any instruction */
    x86_debug_regs_changed(c);
    return IR_HELPER_EXIT;
}

/* a: register, b: general register, c: size */
enum ir_helper_result helper_read_dr(struct rt_env *env, uint64_t n, uint64_t reg, uint64_t size)
{
    struct x86_cpu *c = cpu_of(env);
    if (!debug_reg(c, &n)) {
        return IR_HELPER_FAULT;
    }
    set_gpr(c, (unsigned)reg, (unsigned)size, c->dr[n]);
    return IR_HELPER_NEXT;
}

static enum ir_helper_result after_seg(struct x86_cpu *c, unsigned seg, enum ir_helper_result r)
{
    if (r == IR_HELPER_NEXT && seg == SEG_SS) {
        c->rt.hold_irq = true;
        return IR_HELPER_EXIT;
    }
    return r;
}

enum ir_helper_result helper_load_seg(struct rt_env *env, uint64_t seg, uint64_t sel, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    return after_seg(c, (unsigned)seg, x86_load_seg(c, (unsigned)seg, (uint16_t)sel));
}

/* a: segment register, b: value popped, c: operand size */
enum ir_helper_result helper_pop_seg(struct rt_env *env, uint64_t seg, uint64_t sel,
                                     uint64_t opsize)
{
    struct x86_cpu *c = cpu_of(env);
    uint64_t rsp = x86_stack_add(c, opsize);
    enum ir_helper_result r = x86_load_seg(c, (unsigned)seg, (uint16_t)sel);
    if (r == IR_HELPER_NEXT) {
        env->reg[RSP] = rsp;
    }
    return after_seg(c, (unsigned)seg, r);
}

/* LES, LDS, LSS ...: a: segment register, general register << 8, size << 16 */
enum ir_helper_result helper_load_far(struct rt_env *env, uint64_t how, uint64_t sel, uint64_t off)
{
    struct x86_cpu *c = cpu_of(env);
    enum ir_helper_result r = x86_load_seg(c, how & 0xff, (uint16_t)sel);
    if (r == IR_HELPER_NEXT) {
        set_gpr(c, how >> 8 & 0xff, how >> 16 & 0xff, off);
    }
    return r;
}

/* a: 0 GDT, 1 IDT */
enum ir_helper_result helper_load_table(struct rt_env *env, uint64_t which, uint64_t base,
                                        uint64_t limit)
{
    struct x86_cpu *c = cpu_of(env);
    struct x86_table t = {.base = base, .limit = (uint16_t)limit};
    if (which) {
        c->idtr = t;
    } else {
        c->gdtr = t;
    }
    return IR_HELPER_NEXT;
}

enum ir_helper_result helper_lldt(struct rt_env *env, uint64_t sel, uint64_t b, uint64_t d)
{
    return x86_lldt(cpu_of(env), (uint16_t)sel);
}

enum ir_helper_result helper_ltr(struct rt_env *env, uint64_t sel, uint64_t b, uint64_t d)
{
    return x86_ltr(cpu_of(env), (uint16_t)sel);
}

/* a: selector, b: 0 LAR 1 LSL 2 VERR 3 VERW, c: register, size << 8 */
enum ir_helper_result helper_inspect(struct rt_env *env, uint64_t sel, uint64_t what, uint64_t how)
{
    struct x86_cpu *c = cpu_of(env);
    uint32_t out;
    bool zf;
    enum ir_helper_result r = x86_inspect_desc(c, (uint16_t)sel, (unsigned)what, &out, &zf);
    if (r != IR_HELPER_NEXT) {
        return r;
    }
    if (zf && what < 2) {
        set_gpr(c, how & 0xff, how >> 8 & 0xff, out);
    }
    x86_set_rflags(c, zf ? FLAG_ZF : 0, FLAG_ZF);
    return r;
}

enum ir_helper_result helper_invlpg(struct rt_env *env, uint64_t va, uint64_t b, uint64_t d)
{
    tlb_flush_page(env->vcpu, va);
    return IR_HELPER_NEXT;
}

/* a: type, b: address of the 16-byte descriptor. */
enum ir_helper_result helper_invpcid(struct rt_env *env, uint64_t type, uint64_t addr, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    uint64_t desc[2];
    if (!vmem_read(env->vcpu, addr, c->rt.mmu_idx, 16, desc)) {
        return IR_HELPER_FAULT;
    }
    bool canonical = x86_canonical_reg(c, desc[1]);
    if (type > 3 || (type < 2 && desc[0] >> 12) || (type == 0 && !canonical) ||
        (type < 2 && (desc[0] & 0xfff) && !(c->cr4 & CR4_PCIDE))) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if (type == 0) {
        tlb_flush_asid_page(env->vcpu, desc[0] & 0xfff, desc[1]);
    } else if (type == 1) {
        tlb_flush_asid(env->vcpu, desc[0] & 0xfff);
    } else if (type == 2) {
        tlb_flush(env->vcpu);
    } else {
        tlb_flush_nonglobal(env->vcpu);
    }
    return IR_HELPER_NEXT;
}

enum ir_helper_result helper_rdmsr(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    uint64_t v = 0;
    if (!x86_rdmsr(c, (uint32_t)env->reg[RCX], &v)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    env->reg[RAX] = (uint32_t)v;
    env->reg[RDX] = v >> 32;
    return IR_HELPER_NEXT;
}

enum ir_helper_result helper_wrmsr(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    uint64_t v = (uint32_t)env->reg[RAX] | env->reg[RDX] << 32;
    if (!x86_wrmsr(c, (uint32_t)env->reg[RCX], v)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    return IR_HELPER_NEXT;
}

/* WRFSBASE, WRGSBASE: a: segment register, b: value */
enum ir_helper_result helper_write_base(struct rt_env *env, uint64_t seg, uint64_t v, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if (!x86_canonical_reg(c, v)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    c->seg_base[seg] = v;
    return IR_HELPER_NEXT;
}

void x86_set_pkru(struct x86_cpu *c, uint32_t v)
{
    bool changes = c->cur_pkru != v;
    c->cur_pkru = v;
    if (changes && (c->cr4 & CR4_PKE)) {
        tlb_flush(c->rt.vcpu); /* it holds rights with the keys' already taken away */
    }
}

/* RDPKRU, WRPKRU: a: write */
enum ir_helper_result helper_pkru(struct rt_env *env, uint64_t write, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if (!(c->cr4 & CR4_PKE)) {
        return x86_raise(c, EXC_UD);
    }
    if ((uint32_t)env->reg[RCX] || (write && (uint32_t)env->reg[RDX])) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if (write) {
        x86_set_pkru(c, (uint32_t)env->reg[RAX]);
    } else {
        env->reg[RAX] = c->cur_pkru;
        env->reg[RDX] = 0;
    }
    return IR_HELPER_NEXT;
}

/* STAC, CLAC: a: the new AC */
enum ir_helper_result helper_set_ac(struct rt_env *env, uint64_t on, uint64_t b, uint64_t d)
{
    x86_set_rflags(cpu_of(env), on ? RF_AC : 0, RF_AC);
    return IR_HELPER_NEXT;
}

/* a: destination selector, b: source selector, c: register of the destination (lifter stores memory
 * itself). ZF and, when the RPL is raised, the register. */
enum ir_helper_result helper_arpl(struct rt_env *env, uint64_t dst, uint64_t src, uint64_t reg)
{
    struct x86_cpu *c = cpu_of(env);
    bool raise = (dst & 3) < (src & 3);
    if (raise && reg < 16) {
        set_gpr(c, (unsigned)reg, 2, (dst & ~3ull) | (src & 3));
    }
    x86_set_rflags(c, raise ? FLAG_ZF : 0, FLAG_ZF);
    return IR_HELPER_NEXT;
}

/* Serialising instructions: nothing is kept back, so nothing is to be done. */
enum ir_helper_result helper_flush_code(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    return IR_HELPER_NEXT;
}
