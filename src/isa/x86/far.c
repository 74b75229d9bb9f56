/*
 * Far jumps, calls and returns, IRET (Intel SDM Vol. 2A, 2B; Vol. 3A 5.8).
 * Targets that are task state segments or task gates are in task.c.
 */
#include <stdatomic.h>

#include "isa/x86/sys.h"

static uint64_t pc_mask(unsigned opsize)
{
    return opsize == 8 ? ~0ull : opsize == 4 ? 0xffffffffu : 0xffffu;
}

static bool long_segment(const struct x86_cpu *c, uint64_t desc)
{
    return (c->efer & EFER_LMA) && (x86_desc_ar(desc) & AR_L);
}

/* Not canonical, or beyond the limit of the code segment to come. */
static bool bad_pc(const struct x86_cpu *c, uint64_t desc, uint64_t pc)
{
    if (long_segment(c, desc)) {
        return !x86_canonical(c, pc);
    }
    return pc > x86_desc_limit(desc);
}

static bool long_and_big(const struct x86_cpu *c, uint64_t desc)
{
    return long_segment(c, desc) && (x86_desc_ar(desc) & AR_DB);
}

static void set_cs(struct x86_cpu *c, uint16_t sel, uint64_t desc, unsigned cpl)
{
    x86_seg_from_desc(c, SEG_CS, (uint16_t)((sel & ~3u) | cpl), desc | BIT(40));
    x86_set_cpl(c, cpl);
    x86_mode_changed(c);
}

static enum ir_helper_result real_jump(struct x86_cpu *c, uint16_t sel, uint64_t pc)
{
    x86_set_seg_raw(c, SEG_CS, sel, (uint64_t)sel << 4, c->seg[SEG_CS].limit, c->seg[SEG_CS].ar);
    c->rt.pc = pc & 0xffff;
    return IR_HELPER_PC;
}

/* Code segment for a direct jump or call: same privilege level. */
static bool check_code(struct x86_cpu *c, uint16_t sel, uint64_t desc)
{
    uint16_t ar = x86_desc_ar(desc);
    unsigned dpl = (ar & AR_DPL) >> 5, rpl = sel & 3;
    bool conforming = ar & AR_E;
    bool ok = conforming ? dpl <= c->cpl : rpl <= c->cpl && dpl == c->cpl;
    if (!ok || long_and_big(c, desc)) {
        x86_raise_error(c, EXC_GP, sel & ~3u);
        return false;
    }
    if (!(ar & AR_P)) {
        x86_raise_error(c, EXC_NP, sel & ~3u);
        return false;
    }
    return true;
}

struct gate {
    uint16_t sel;
    uint64_t pc;
    unsigned opsize, params;
};

/* A call gate: 8 bytes (types 4 and 12), 16 in long mode (type 12). */
static bool read_gate(struct x86_cpu *c, uint16_t sel, uint64_t d, gva_t addr, struct gate *g)
{
    unsigned type = (unsigned)bits_get(d, 43, 40), dpl = (unsigned)bits_get(d, 46, 45);
    bool lma = c->efer & EFER_LMA;
    if (!(type == 12 || (type == 4 && !lma)) || dpl < c->cpl || dpl < (sel & 3u)) {
        x86_raise_error(c, EXC_GP, sel & ~3u);
        return false;
    }
    if (!(d & BIT(47))) {
        x86_raise_error(c, EXC_NP, sel & ~3u);
        return false;
    }
    uint64_t high = 0;
    if (lma && !vmem_read(c->rt.vcpu, addr + 8, x86_sys_idx(c), 8, &high)) {
        return false;
    }
    *g = (struct gate){.sel = (uint16_t)bits_get(d, 31, 16),
                       .pc = bits_get(d, 15, 0) | bits_get(d, 63, 48) << 16 | high << 32,
                       .opsize = lma          ? 8
                                 : type == 12 ? 4
                                              : 2,
                       .params = lma ? 0 : (unsigned)bits_get(d, 36, 32)};
    if (g->opsize == 2) {
        g->pc &= 0xffff;
    }
    return true;
}

/* Reads a code descriptor, through a gate if there is one. */
static bool far_target(struct x86_cpu *c, uint16_t *sel, uint64_t *pc, uint64_t *desc,
                       struct gate *g)
{
    gva_t addr;
    g->opsize = 0;
    if ((*sel & ~3u) == 0) {
        x86_raise_error(c, EXC_GP, 0);
        return false;
    }
    if (!x86_fetch_desc(c, *sel, EXC_GP, desc, &addr)) {
        return false;
    }
    if (!(*desc & BIT(44))) {
        if (!read_gate(c, *sel, *desc, addr, g)) {
            return false;
        }
        *sel = g->sel;
        *pc = g->pc;
        if ((*sel & ~3u) == 0) {
            x86_raise_error(c, EXC_GP, 0);
            return false;
        }
        if (!x86_fetch_desc(c, *sel, EXC_GP, desc, &addr)) {
            return false;
        }
    }
    uint16_t ar = x86_desc_ar(*desc);
    bool long_ok = !g->opsize || !(c->efer & EFER_LMA) || (ar & (AR_L | AR_DB)) == AR_L;
    if ((ar & (AR_S | AR_CODE)) != (AR_S | AR_CODE) || !long_ok) {
        x86_raise_error(c, EXC_GP, *sel & ~3u);
        return false;
    }
    return true;
}

/* Does the selector lead to a task: directly, or through a gate that may be used? True with `*r`,
 * the outcome. */
static bool task_target(struct x86_cpu *c, uint16_t sel, enum x86_task_how how, uint64_t next,
                        enum ir_helper_result *r)
{
    uint64_t d;
    gva_t addr;
    struct rt_fault keep = c->rt.fault;
    if ((c->efer & EFER_LMA) || !(sel & ~3u) || !x86_fetch_desc(c, sel, EXC_GP, &d, &addr)) {
        c->rt.fault = keep; /* it comes again, from far_target() */
        return false;
    }
    unsigned type = (unsigned)bits_get(d, 44, 40), dpl = (unsigned)bits_get(d, 46, 45);
    if ((type & 0x15) == 1) {
        *r = x86_task_go(c, sel, how, true, next);
        return true;
    }
    if (type != 5) {
        return false;
    }
    if (dpl < c->cpl || dpl < (sel & 3u)) {
        *r = x86_raise_error(c, EXC_GP, sel & ~3u);
    } else if (!(d & BIT(47))) {
        *r = x86_raise_error(c, EXC_NP, sel & ~3u);
    } else {
        *r = x86_task_go(c, (uint16_t)bits_get(d, 31, 16), how, false, next);
    }
    return true;
}

enum ir_helper_result x86_far_jump(struct x86_cpu *c, uint16_t sel, uint64_t pc, unsigned opsize,
                                   uint64_t next)
{
    pc &= pc_mask(opsize);
    if (!(c->cr0 & CR0_PE) || (c->sys_flags & RF_VM)) {
        return real_jump(c, sel, pc);
    }
    uint64_t d;
    struct gate g;
    enum ir_helper_result r;
    if (task_target(c, sel, X86_TASK_JMP, next, &r)) {
        return r;
    }
    if (!far_target(c, &sel, &pc, &d, &g)) {
        return IR_HELPER_FAULT;
    }
    if (!check_code(c, g.opsize ? sel & ~3u : sel, d)) {
        return IR_HELPER_FAULT;
    }
    if (bad_pc(c, d, pc)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    set_cs(c, sel, d, c->cpl);
    c->rt.pc = pc;
    return IR_HELPER_PC;
}

/* Through a gate to an inner level: new stack from the TSS, parameters copied. */
static enum ir_helper_result call_inner(struct x86_cpu *c, const struct gate *g, uint16_t sel,
                                        uint64_t pc, uint64_t d, uint64_t next)
{
    uint16_t ar = x86_desc_ar(d);
    unsigned level = (ar & AR_DPL) >> 5;
    uint16_t ss;
    uint64_t sp, ss_desc = 0;
    if (!(ar & AR_P)) {
        return x86_raise_error(c, EXC_NP, sel & ~3u);
    }
    if (!x86_tss_stack(c, level, &ss, &sp)) {
        return IR_HELPER_FAULT;
    }
    bool lma = c->efer & EFER_LMA;
    if (!lma && !x86_inner_ss(c, ss, level, EXC_TS, &ss_desc)) {
        return IR_HELPER_FAULT;
    }
    struct x86_stack old, new;
    x86_stack_current(&old, c);
    x86_stack_new(&new, c, ss, ss_desc, sp);
    if (lma) {
        new.base = 0;
        new.mask = new.last = ~0ull;
    }
    x86_push(&new, g->opsize, c->seg[SEG_SS].sel);
    x86_push(&new, g->opsize, c->rt.reg[RSP]);
    uint64_t params[32];
    for (unsigned i = 0; i < g->params; i++) {
        params[i] = x86_pop(&old, g->opsize);
    }
    for (unsigned i = g->params; i-- > 0;) {
        x86_push(&new, g->opsize, params[i]);
    }
    x86_push(&new, g->opsize, c->seg[SEG_CS].sel);
    x86_push(&new, g->opsize, next);
    if (old.bad || new.bad) {
        return IR_HELPER_FAULT;
    }
    if (bad_pc(c, d, pc)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    set_cs(c, sel, d, level);
    if (lma) {
        x86_set_seg_raw(c, SEG_SS, (uint16_t)level, 0, 0xffffffff,
                        AR_P | AR_S | AR_W | AR_DB | AR_G);
    } else {
        x86_seg_from_desc(c, SEG_SS, ss, ss_desc | BIT(40));
    }
    x86_stack_commit(&new);
    c->rt.pc = pc;
    return IR_HELPER_PC;
}

enum ir_helper_result x86_far_call(struct x86_cpu *c, uint16_t sel, uint64_t pc, unsigned opsize,
                                   uint64_t next)
{
    pc &= pc_mask(opsize);
    struct x86_stack s;
    bool real = !(c->cr0 & CR0_PE) || (c->sys_flags & RF_VM);
    uint64_t d = 0;
    struct gate g = {0};
    uint16_t ar = 0;
    if (!real) {
        enum ir_helper_result r;
        if (task_target(c, sel, X86_TASK_CALL, next, &r)) {
            return r;
        }
        if (!far_target(c, &sel, &pc, &d, &g)) {
            return IR_HELPER_FAULT;
        }
        ar = x86_desc_ar(d);
        if (g.opsize && !(ar & AR_E) && (ar & AR_DPL) >> 5 < c->cpl) {
            return call_inner(c, &g, sel, pc, d, next);
        }
        if (!check_code(c, g.opsize ? sel & ~3u : sel, d)) {
            return IR_HELPER_FAULT;
        }
        if (bad_pc(c, d, pc)) {
            return x86_raise_error(c, EXC_GP, 0);
        }
        opsize = g.opsize ? g.opsize : opsize;
    }
    x86_stack_current(&s, c);
    x86_push(&s, opsize, c->seg[SEG_CS].sel);
    x86_push(&s, opsize, next);
    if (s.bad) {
        return IR_HELPER_FAULT;
    }
    x86_stack_commit(&s);
    if (real) {
        return real_jump(c, sel, pc);
    }
    set_cs(c, sel, d, c->cpl);
    c->rt.pc = pc;
    return IR_HELPER_PC;
}

/* After a return to an outer level: data segments that level may not have become null. */
static void drop_inner_segments(struct x86_cpu *c)
{
    static const uint8_t regs[4] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < 4; i++) {
        struct x86_segment *s = &c->seg[regs[i]];
        bool conforming = (s->ar & (AR_CODE | AR_E)) == (AR_CODE | AR_E);
        if ((s->ar & AR_P) && !conforming && (s->ar & AR_DPL) >> 5 < c->cpl) {
            uint64_t base = c->seg_base[regs[i]];
            x86_set_seg_raw(c, regs[i], 0, c->efer & EFER_LMA ? base : 0, 0, 0);
        }
    }
}

struct return_frame {
    uint64_t pc, cs, flags, sp, ss;
};

/* SS:RSP of the outer level; the null selector is right for 64-bit code below level 3. */
static bool outer_stack(struct x86_cpu *c, const struct return_frame *f, uint16_t cs_ar,
                        unsigned rpl)
{
    uint16_t sel = (uint16_t)f->ss;
    uint64_t d;
    if ((sel & ~3u) == 0 && (c->efer & EFER_LMA) && (cs_ar & AR_L) && rpl != 3) {
        x86_set_seg_raw(c, SEG_SS, sel, 0, 0xffffffff,
                        AR_P | AR_S | AR_W | AR_DB | AR_G | (uint16_t)(rpl << 5));
        return true;
    }
    if (!x86_inner_ss(c, sel, rpl, EXC_GP, &d)) {
        return false;
    }
    x86_seg_from_desc(c, SEG_SS, sel, d | BIT(40));
    return true;
}

/* The common end of far RET and IRET in protected mode. `s` stands behind CS (and flags). */
static enum ir_helper_result return_to(struct x86_cpu *c, struct x86_stack *s,
                                       struct return_frame *f, unsigned opsize, unsigned release,
                                       bool pop_ss)
{
    uint16_t sel = (uint16_t)f->cs;
    unsigned rpl = sel & 3;
    uint64_t d;
    gva_t addr;
    if ((sel & ~3u) == 0) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if (!x86_fetch_desc(c, sel, EXC_GP, &d, &addr)) {
        return IR_HELPER_FAULT;
    }
    uint16_t ar = x86_desc_ar(d);
    unsigned dpl = (ar & AR_DPL) >> 5;
    bool right = (ar & (AR_S | AR_CODE)) == (AR_S | AR_CODE) && rpl >= c->cpl &&
                 (ar & AR_E ? dpl <= rpl : dpl == rpl);
    if (!right || long_and_big(c, d)) {
        return x86_raise_error(c, EXC_GP, sel & ~3u);
    }
    if (!(ar & AR_P)) {
        return x86_raise_error(c, EXC_NP, sel & ~3u);
    }
    bool outer = rpl > c->cpl;
    s->sp = (s->sp & ~s->mask) | ((s->sp + release) & s->mask);
    if (outer || pop_ss) {
        f->sp = x86_pop(s, opsize);
        f->ss = x86_pop(s, opsize) & 0xffff;
    }
    if (s->bad) {
        return IR_HELPER_FAULT;
    }
    if (bad_pc(c, d, f->pc)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if (outer || pop_ss) {
        if (!outer_stack(c, f, ar, rpl)) {
            return IR_HELPER_FAULT;
        }
        bool wide = (c->seg[SEG_SS].ar & AR_DB) || ((c->efer & EFER_LMA) && (ar & AR_L));
        uint64_t rsp = f->sp + (outer && !pop_ss ? release : 0);
        c->rt.reg[RSP] = wide ? rsp : (c->rt.reg[RSP] & ~0xffffull) | (rsp & 0xffff);
    } else {
        x86_stack_commit(s);
    }
    set_cs(c, sel, d, rpl);
    if (outer) {
        drop_inner_segments(c);
    }
    c->rt.pc = f->pc;
    return IR_HELPER_PC;
}

enum ir_helper_result x86_far_ret(struct x86_cpu *c, unsigned opsize, unsigned release)
{
    struct x86_stack s;
    struct return_frame f = {0};
    x86_stack_current(&s, c);
    f.pc = x86_pop(&s, opsize);
    f.cs = x86_pop(&s, opsize) & 0xffff;
    if (s.bad) {
        return IR_HELPER_FAULT;
    }
    if (!(c->cr0 & CR0_PE) || (c->sys_flags & RF_VM)) {
        s.sp = (s.sp & ~s.mask) | ((s.sp + release) & s.mask);
        x86_stack_commit(&s);
        return real_jump(c, (uint16_t)f.cs, f.pc);
    }
    return return_to(c, &s, &f, opsize, release, false);
}

static void iret_flags(struct x86_cpu *c, uint64_t flags, unsigned opsize, unsigned old_cpl)
{
    uint64_t mask = FLAG_ALL | RF_TF | RF_DF | RF_NT;
    if (opsize > 2) {
        mask |= RF_RF | RF_AC | RF_ID;
    }
    if (old_cpl <= (c->sys_flags >> 12 & 3)) {
        mask |= RF_IF;
    }
    if (old_cpl == 0) {
        mask |= RF_IOPL | (opsize > 2 ? RF_VIF | RF_VIP : 0);
    }
    x86_set_rflags(c, flags, mask);
}

/* IRET ends the blocking of NMIs (Vol. 3A 6.7.1); one held back is due at once. */
static void unblock_nmi(struct x86_cpu *c)
{
    c->nmi_blocked = false;
    if (atomic_load(&c->rt.vcpu->events) & VCPU_EV_NMI) {
        atomic_store(&c->rt.exit, 1);
    }
}

/* Back to virtual-8086 mode (Vol. 3A 20.2). */
static enum ir_helper_result iret_to_vm(struct x86_cpu *c, struct x86_stack *s,
                                        struct return_frame *f)
{
    static const uint8_t order[5] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    uint64_t sp = x86_pop(s, 4), sel[5];
    for (unsigned i = 0; i < 5; i++) {
        sel[i] = x86_pop(s, 4);
    }
    if (s->bad) {
        return IR_HELPER_FAULT;
    }
    x86_set_rflags(c, f->flags, FLAG_ALL | RF_SYS_ALL);
    x86_set_cpl(c, 3);
    const uint16_t ar = AR_P | AR_S | AR_W | AR_A | AR_DPL;
    x86_set_seg_raw(c, SEG_CS, (uint16_t)f->cs, (f->cs & 0xffff) << 4, 0xffff, ar | AR_CODE);
    for (unsigned i = 0; i < 5; i++) {
        x86_set_seg_raw(c, order[i], (uint16_t)sel[i], (sel[i] & 0xffff) << 4, 0xffff, ar);
    }
    c->rt.reg[RSP] = sp;
    c->rt.pc = f->pc & 0xffff;
    unblock_nmi(c);
    x86_mode_changed(c);
    return IR_HELPER_PC;
}

enum ir_helper_result x86_iret(struct x86_cpu *c, unsigned opsize, uint64_t next)
{
    struct x86_stack s;
    struct return_frame f = {0};
    unsigned old_cpl = c->cpl;
    bool real = !(c->cr0 & CR0_PE), vm = c->sys_flags & RF_VM;
    bool virtual = vm && (c->sys_flags & RF_IOPL) != RF_IOPL;
    if (virtual && (!(c->cr4 & CR4_VME) || opsize != 2)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if (!real && !vm && (c->sys_flags & RF_NT)) {
        enum ir_helper_result r = x86_task_return(c, next);
        if (r == IR_HELPER_PC) {
            unblock_nmi(c);
        }
        return r;
    }
    x86_stack_current(&s, c);
    f.pc = x86_pop(&s, opsize);
    f.cs = x86_pop(&s, opsize) & 0xffff;
    f.flags = x86_pop(&s, opsize);
    if (s.bad) {
        return IR_HELPER_FAULT;
    }
    if (virtual && !x86_v86_set_flags(c, f.flags, opsize)) {
        return IR_HELPER_FAULT;
    }
    if (virtual) {
        x86_stack_commit(&s);
        unblock_nmi(c);
        return real_jump(c, (uint16_t)f.cs, f.pc);
    }
    if (real || vm) {
        x86_stack_commit(&s);
        uint64_t mask = FLAG_ALL | RF_TF | RF_IF | RF_DF | RF_NT | (vm ? 0 : RF_IOPL) |
                        (opsize > 2 ? RF_RF | RF_AC | RF_ID : 0);
        x86_set_rflags(c, f.flags, mask);
        unblock_nmi(c);
        return real_jump(c, (uint16_t)f.cs, f.pc);
    }
    if ((f.flags & RF_VM) && old_cpl == 0 && !(c->efer & EFER_LMA)) {
        return iret_to_vm(c, &s, &f);
    }
    enum ir_helper_result r = return_to(c, &s, &f, opsize, 0, x86_long_code(c));
    if (r == IR_HELPER_PC) {
        iret_flags(c, f.flags, opsize, old_cpl);
        unblock_nmi(c);
    }
    return r;
}
