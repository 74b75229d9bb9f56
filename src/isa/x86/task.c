/*
 * Hardware task switches (Intel SDM Vol. 3A chapter 7): by JMP, CALL and IRET, by task gates, for
 * exceptions and interrupts; 16-bit and 32-bit task state segments.
 *
 * A switch has a point of no return. Before it, faults are the old task's: the instruction can be
 * done again. After it all registers are the new task's, and what is wrong with its segments is
 * raised there, before its first instruction (7.3, Table 7-1).
 *
 * Does not do: watched memory that is touched behind that point; the byte of a TSS that crosses
 * into a page which is not there is found before the rest is written only for reads.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/endian.h"
#include "isa/x86/sys.h"

enum { TSS16_SIZE = 0x2c, TSS32_SIZE = 0x68 };

struct task {
    uint16_t sel;
    bool wide; /* a 32-bit TSS */
    uint64_t desc;
    gva_t desc_at, base;
    uint8_t image[TSS32_SIZE];
    /* From the image. */
    uint32_t pc, flags, cr3, reg[8];
    uint16_t seg[SEG_COUNT], ldt;
    bool trap;
};

static unsigned task_max(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

/* The TSS descriptor and its checks. `direct`: its own privilege counts, not that of a gate. */
static bool task_find(struct x86_cpu *c, struct task *t, enum x86_task_how how, bool direct)
{
    unsigned vector = how == X86_TASK_IRET ? EXC_TS : EXC_GP;
    uint32_t error = t->sel & ~3u;
    if ((t->sel & 4) || !error) {
        x86_raise_error(c, vector, error);
        return false;
    }
    if (!x86_fetch_desc(c, t->sel, vector, &t->desc, &t->desc_at)) {
        return false;
    }
    unsigned type = (unsigned)bits_get(t->desc, 44, 40), dpl = (unsigned)bits_get(t->desc, 46, 45);
    bool right = (type & 0x15) == 1 && !!(type & 2) == (how == X86_TASK_IRET);
    if (!right || (direct && dpl < task_max(c->cpl, t->sel & 3))) {
        x86_raise_error(c, vector, error);
        return false;
    }
    t->wide = type & 8;
    t->base = x86_desc_base(t->desc);
    if (!(t->desc & BIT(47))) {
        x86_raise_error(c, EXC_NP, error);
        return false;
    }
    if (x86_desc_limit(t->desc) < (t->wide ? TSS32_SIZE : TSS16_SIZE) - 1u) {
        x86_raise_error(c, EXC_TS, error);
        return false;
    }
    return true;
}

static void task_parse_32(struct task *t)
{
    static const uint8_t at[SEG_COUNT] = {[SEG_ES] = 0x48, [SEG_CS] = 0x4c, [SEG_SS] = 0x50,
                                          [SEG_DS] = 0x54, [SEG_FS] = 0x58, [SEG_GS] = 0x5c};
    const uint8_t *p = t->image;
    t->cr3 = load_le32(p + 0x1c);
    t->pc = load_le32(p + 0x20);
    t->flags = load_le32(p + 0x24);
    for (unsigned i = 0; i < 8; i++) {
        t->reg[i] = load_le32(p + 0x28 + 4 * i);
    }
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        t->seg[i] = load_le16(p + at[i]);
    }
    t->ldt = load_le16(p + 0x60);
    t->trap = p[0x64] & 1;
}

static void task_parse_16(struct task *t)
{
    static const uint8_t at[4] = {
        [SEG_ES] = 0x22, [SEG_CS] = 0x24, [SEG_SS] = 0x26, [SEG_DS] = 0x28};
    const uint8_t *p = t->image;
    t->pc = load_le16(p + 0x0e);
    t->flags = load_le16(p + 0x10);
    for (unsigned i = 0; i < 8; i++) {
        t->reg[i] = load_le16(p + 0x12 + 2 * i);
    }
    for (unsigned i = SEG_ES; i <= SEG_DS; i++) {
        t->seg[i] = load_le16(p + at[i]);
    }
    t->ldt = load_le16(p + 0x2a);
}

static bool task_read(struct x86_cpu *c, struct task *t)
{
    struct vcpu *v = c->rt.vcpu;
    unsigned idx = x86_sys_idx(c), first = t->wide ? 64 : TSS16_SIZE;
    if (!vmem_read(v, t->base, idx, first, t->image) ||
        (t->wide && !vmem_read(v, t->base + 64, idx, TSS32_SIZE - 64, t->image + 64))) {
        return false;
    }
    if (t->wide) {
        task_parse_32(t);
    } else {
        task_parse_16(t);
    }
    return true;
}

/* The dynamic fields of the task that ends. */
static bool task_save(struct x86_cpu *c, uint64_t pc, uint64_t flags)
{
    static const uint8_t order[SEG_COUNT] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
    bool wide = c->tr.ar & 8;
    uint8_t out[64] = {0};
    if (c->tr.limit < (wide ? TSS32_SIZE : TSS16_SIZE) - 1u) {
        x86_raise_error(c, EXC_TS, c->tr.sel & ~3u);
        return false;
    }
    if (wide) { /* from 20h */
        store_le32(out, (uint32_t)pc);
        store_le32(out + 4, (uint32_t)flags);
        for (unsigned i = 0; i < 8; i++) {
            store_le32(out + 8 + 4 * i, (uint32_t)c->rt.reg[i]);
        }
        for (unsigned i = 0; i < SEG_COUNT; i++) {
            store_le16(out + 0x28 + 4 * i, c->seg[order[i]].sel);
        }
        return vmem_write(c->rt.vcpu, c->tr.base + 0x20, x86_sys_idx(c), 64, out);
    }
    store_le16(out, (uint16_t)pc); /* from 0Eh */
    store_le16(out + 2, (uint16_t)flags);
    for (unsigned i = 0; i < 8; i++) {
        store_le16(out + 4 + 2 * i, (uint16_t)c->rt.reg[i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        store_le16(out + 20 + 2 * i, c->seg[order[i]].sel);
    }
    return vmem_write(c->rt.vcpu, c->tr.base + 0x0e, x86_sys_idx(c), 28, out);
}

static bool task_set_busy(struct x86_cpu *c, gva_t desc_at, bool busy)
{
    uint8_t type;
    if (!vmem_read(c->rt.vcpu, desc_at + 5, x86_sys_idx(c), 1, &type)) {
        return false;
    }
    type = (uint8_t)(busy ? type | 2 : type & ~2);
    return vmem_write(c->rt.vcpu, desc_at + 5, x86_sys_idx(c), 1, &type);
}

/* All writes to memory: what may still fault. */
static bool task_leave(struct x86_cpu *c, struct task *t, enum x86_task_how how, uint64_t pc,
                       uint64_t flags)
{
    bool nests = how == X86_TASK_CALL || how == X86_TASK_EVENT;
    uint16_t back = c->tr.sel;
    if (how == X86_TASK_IRET) {
        flags &= ~(uint64_t)RF_NT;
    }
    if (!task_save(c, pc, flags)) {
        return false;
    }
    if (!nests && !task_set_busy(c, c->gdtr.base + (c->tr.sel & ~7u), false)) {
        return false;
    }
    if (nests) {
        t->flags |= RF_NT;
        if (!vmem_write(c->rt.vcpu, t->base, x86_sys_idx(c), 2, &back)) {
            return false;
        }
    }
    return how == X86_TASK_IRET || task_set_busy(c, t->desc_at, true);
}

/* Until descriptors are read CS and SS stay what they were, for the delivery of a fault. */
static void task_set_selector(struct x86_cpu *c, unsigned seg, uint16_t sel, bool vm)
{
    if (vm) {
        uint16_t ar = AR_P | AR_S | AR_W | AR_A | AR_DPL | (seg == SEG_CS ? AR_CODE : 0);
        x86_set_seg_raw(c, seg, sel, (uint64_t)sel << 4, 0xffff, ar);
    } else if (seg == SEG_CS || seg == SEG_SS) {
        c->seg[seg].sel = sel;
    } else {
        x86_set_seg_raw(c, seg, sel, 0, 0, 0);
    }
}

/* Everything but descriptors: from here on it is the new task. */
static bool task_enter(struct x86_cpu *c, const struct task *t)
{
    enum { DR7_LOCAL = 0x55 };
    c->task_begun = true;
    c->tr = (struct x86_segment){.sel = t->sel,
                                 .ar = x86_desc_ar(t->desc) | 2,
                                 .limit = x86_desc_limit(t->desc),
                                 .base = t->base};
    c->cr0 |= CR0_TS;
    if (c->dr[7] & DR7_LOCAL) {
        c->dr[7] &= ~(uint64_t)DR7_LOCAL;
        x86_debug_regs_changed(c);
    }
    for (unsigned i = 0; i < 8; i++) {
        c->rt.reg[i] = t->reg[i];
    }
    c->rt.pc = t->pc;
    x86_set_rflags(c, t->flags, FLAG_ALL | RF_SYS_ALL);
    c->ldtr = (struct x86_segment){.sel = t->ldt};
    bool vm = t->flags & RF_VM;
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        task_set_selector(c, i, t->seg[i], vm);
    }
    x86_set_cpl(c, vm ? 3 : t->seg[SEG_CS] & 3);
    return !t->wide || !(c->cr0 & CR0_PG) || t->cr3 == c->cr3 ||
           x86_write_cr(c, 3, t->cr3) != IR_HELPER_FAULT;
}

static bool task_load_ldt(struct x86_cpu *c, const struct task *t)
{
    uint64_t d;
    gva_t addr;
    if (!(t->ldt & ~3u)) {
        return true;
    }
    if (t->ldt & 4) {
        x86_raise_error(c, EXC_TS, t->ldt & ~3u);
        return false;
    }
    if (!x86_fetch_desc(c, t->ldt, EXC_TS, &d, &addr)) {
        return false;
    }
    if (bits_get(d, 44, 40) != 2 || !(d & BIT(47))) {
        x86_raise_error(c, EXC_TS, t->ldt & ~3u);
        return false;
    }
    c->ldtr = (struct x86_segment){
        .sel = t->ldt, .ar = x86_desc_ar(d), .limit = x86_desc_limit(d), .base = x86_desc_base(d)};
    return true;
}

/* May the new task have this in this register (Table 7-1)? */
static bool task_seg_right(const struct x86_cpu *c, unsigned seg, uint16_t sel, uint16_t ar)
{
    unsigned dpl = (ar & AR_DPL) >> 5, rpl = sel & 3;
    bool code = ar & AR_CODE, conforming = code && (ar & AR_E);
    if (!(ar & AR_S)) {
        return false;
    }
    switch (seg) {
    case SEG_CS: return code && (conforming ? dpl <= rpl : dpl == rpl);
    case SEG_SS: return !code && (ar & AR_W) && dpl == c->cpl && rpl == c->cpl;
    default: return (!code || (ar & AR_W)) && (conforming || dpl >= task_max(c->cpl, rpl));
    }
}

static bool task_load_seg(struct x86_cpu *c, unsigned seg, uint16_t sel)
{
    uint64_t d;
    gva_t addr;
    if (!(sel & ~3u)) {
        if (seg == SEG_CS || seg == SEG_SS) {
            x86_raise_error(c, EXC_TS, 0);
            return false;
        }
        return true;
    }
    if (!x86_fetch_desc(c, sel, EXC_TS, &d, &addr)) {
        return false;
    }
    uint16_t ar = x86_desc_ar(d);
    if (!task_seg_right(c, seg, sel, ar)) {
        x86_raise_error(c, EXC_TS, sel & ~3u);
        return false;
    }
    if (!(ar & AR_P)) {
        x86_raise_error(c, seg == SEG_SS ? EXC_SS : EXC_NP, sel & ~3u);
        return false;
    }
    uint8_t type = (uint8_t)(d >> 40) | AR_A;
    if (!(ar & AR_A) && !vmem_write(c->rt.vcpu, addr + 5, x86_sys_idx(c), 1, &type)) {
        return false;
    }
    x86_seg_from_desc(c, seg, sel, d | BIT(40));
    return true;
}

static bool task_load_segs(struct x86_cpu *c, const struct task *t)
{
    static const uint8_t order[] = {SEG_CS, SEG_SS, SEG_DS, SEG_ES, SEG_FS, SEG_GS};
    if (!task_load_ldt(c, t)) {
        return false;
    }
    for (unsigned i = 0; !(t->flags & RF_VM) && i < SEG_COUNT; i++) {
        if (!task_load_seg(c, order[i], t->seg[order[i]])) {
            return false;
        }
    }
    if (t->pc > c->seg[SEG_CS].limit) {
        x86_raise_error(c, EXC_GP, 0);
        return false;
    }
    return true;
}

static bool task_push_error(struct x86_cpu *c, const struct task *t, uint32_t error)
{
    struct x86_stack s;
    x86_stack_current(&s, c);
    x86_push(&s, t->wide ? 4 : 2, error);
    if (s.bad) {
        return false;
    }
    x86_stack_commit(&s);
    return true;
}

static bool task_switch(struct x86_cpu *c, uint16_t sel, enum x86_task_how how, bool direct,
                        uint64_t pc, uint64_t flags, const struct rt_fault *f)
{
    struct task t = {.sel = sel};
    if (!task_find(c, &t, how, direct) || !task_read(c, &t) || !task_leave(c, &t, how, pc, flags)) {
        return false;
    }
    if (!task_enter(c, &t) || !task_load_segs(c, &t)) {
        return false;
    }
    if (f && f->has_error && !task_push_error(c, &t, f->error)) {
        return false;
    }
    if (t.trap) { /* 17.3.1.5 */
        c->pending_db |= BIT(15);
        atomic_store(&c->rt.exit, 1);
    }
    return true;
}

bool x86_task_event(struct x86_cpu *c, uint16_t sel, uint64_t flags, const struct rt_fault *f)
{
    return task_switch(c, sel, X86_TASK_EVENT, false, c->rt.pc, flags, f);
}

enum ir_helper_result x86_task_go(struct x86_cpu *c, uint16_t sel, enum x86_task_how how,
                                  bool direct, uint64_t next)
{
    c->task_begun = false;
    x86_mode_hold(c);
    bool done = task_switch(c, sel, how, direct, next, x86_rflags(c), NULL);
    x86_mode_release(c);
    if (!done && (!c->task_begun || c->rt.fault.kind == RT_FAULT_STEP)) {
        return IR_HELPER_FAULT;
    }
    if (!done) {
        x86_deliver_in_task(c);
    }
    return IR_HELPER_PC;
}

/* IRET with NT set: back to the task that the link of this one names. */
enum ir_helper_result x86_task_return(struct x86_cpu *c, uint64_t next)
{
    uint16_t sel;
    if (c->efer & EFER_LMA) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if (!vmem_read(c->rt.vcpu, c->tr.base, x86_sys_idx(c), 2, &sel)) {
        return IR_HELPER_FAULT;
    }
    return x86_task_go(c, sel, X86_TASK_IRET, false, next);
}
