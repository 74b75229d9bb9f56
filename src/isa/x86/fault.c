/*
 * Raising and delivering exceptions and interrupts (Intel SDM Vol. 3A chapter 6), double and
 * triple faults, events from the interrupt controller.
 *
 * Task gates are in task.c, interrupts of virtual-8086 mode that stay in it in v86.c.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "base/strbuf.h"
#include "core/irq_ctrl.h"
#include "core/machine.h"
#include "isa/x86/sys.h"

enum ir_helper_result x86_raise(struct x86_cpu *c, unsigned vector)
{
    c->rt.fault = (struct rt_fault){.kind = RT_FAULT_GUEST, .vector = vector};
    return IR_HELPER_FAULT;
}

enum ir_helper_result x86_raise_error(struct x86_cpu *c, unsigned vector, uint32_t error)
{
    c->rt.fault = (struct rt_fault){
        .kind = RT_FAULT_GUEST, .vector = vector, .has_error = true, .error = error};
    return IR_HELPER_FAULT;
}

/* Error code of a bad vector: its IDT index; deliver() adds EXT (6.13). */
static uint32_t idt_error(const struct rt_fault *f)
{
    return f->vector * 8 + 2;
}

enum { GATE_TASK = 5 };

struct idt_gate {
    uint16_t sel;
    uint64_t pc;
    unsigned type, ist, size; /* size: of pushed words */
};

static bool read_idt(struct x86_cpu *c, const struct rt_fault *f, struct idt_gate *g)
{
    bool lma = c->efer & EFER_LMA;
    unsigned bytes = lma ? 16 : 8;
    uint64_t d[2] = {0};
    if (f->vector * bytes + bytes - 1 > c->idtr.limit) {
        x86_raise_error(c, EXC_GP, idt_error(f));
        return false;
    }
    if (!vmem_read(c->rt.vcpu, c->idtr.base + f->vector * bytes, x86_sys_idx(c), bytes, d)) {
        return false;
    }
    g->type = (unsigned)bits_get(d[0], 44, 40);
    bool ok = g->type == 14 || (!lma && g->type == GATE_TASK) || g->type == 15 ||
              (!lma && (g->type == 6 || g->type == 7));
    if (!ok || (f->soft && bits_get(d[0], 46, 45) < c->cpl)) {
        x86_raise_error(c, EXC_GP, idt_error(f));
        return false;
    }
    if (!(d[0] & BIT(47))) {
        x86_raise_error(c, EXC_NP, idt_error(f));
        return false;
    }
    g->sel = (uint16_t)bits_get(d[0], 31, 16);
    g->pc = bits_get(d[0], 15, 0) | bits_get(d[0], 63, 48) << 16 | d[1] << 32;
    g->ist = lma ? (unsigned)bits_get(d[0], 34, 32) : 0;
    g->size = lma ? 8 : g->type >= 14 ? 4 : 2;
    if (g->size == 2) {
        g->pc &= 0xffff;
    }
    return true;
}

static bool check_handler(struct x86_cpu *c, const struct idt_gate *g, uint64_t *desc,
                          unsigned *level)
{
    gva_t addr;
    if ((g->sel & ~3u) == 0) {
        x86_raise_error(c, EXC_GP, 0);
        return false;
    }
    if (!x86_fetch_desc(c, g->sel, EXC_GP, desc, &addr)) {
        return false;
    }
    uint16_t ar = x86_desc_ar(*desc);
    unsigned dpl = (ar & AR_DPL) >> 5;
    bool code = (ar & (AR_S | AR_CODE)) == (AR_S | AR_CODE) && dpl <= c->cpl;
    bool long_ok = !(c->efer & EFER_LMA) || (ar & (AR_L | AR_DB)) == AR_L;
    if (!code || !long_ok) {
        x86_raise_error(c, EXC_GP, g->sel & ~3u);
        return false;
    }
    if (!(ar & AR_P)) {
        x86_raise_error(c, EXC_NP, g->sel & ~3u);
        return false;
    }
    *level = ar & AR_E ? c->cpl : dpl;
    return true;
}

/* The stack the handler runs on; the new SS is loaded only after all pushes worked. */
static bool handler_stack(struct x86_cpu *c, const struct idt_gate *g, unsigned level,
                          struct x86_stack *s, uint16_t *ss, uint64_t *ss_desc)
{
    bool lma = c->efer & EFER_LMA, inner = level < c->cpl;
    uint64_t sp;
    *ss_desc = 0;
    x86_stack_current(s, c);
    *ss = c->seg[SEG_SS].sel;
    if (lma && g->ist) {
        if (!x86_tss_ist(c, g->ist, &sp)) {
            return false;
        }
        s->sp = sp;
    } else if (inner) {
        if (!x86_tss_stack(c, level, ss, &sp)) {
            return false;
        }
        s->sp = sp;
        if (!lma) {
            if (!x86_inner_ss(c, *ss, level, EXC_TS, ss_desc)) {
                return false;
            }
            x86_stack_new(s, c, *ss, *ss_desc, sp);
        }
    }
    s->idx = level == 3 ? MODE_MMU_USER : x86_sys_idx(c);
    if (lma) {
        s->base = 0;
        s->first = 0;
        s->mask = s->last = ~0ull;
        s->sp &= ~15ull;
    }
    return true;
}

/* As saved by an event: faults have RF set (Vol. 3B 17.3.1.1). */
static uint64_t frame_flags(const struct x86_cpu *c, const struct rt_fault *f)
{
    uint64_t flags = x86_rflags(c);
    bool fault_class = !f->soft && f->kind == RT_FAULT_GUEST && f->vector < 32 &&
                       f->vector != EXC_DB && f->vector != EXC_NMI;
    return fault_class ? flags | RF_RF : flags;
}

static void push_frame(struct x86_cpu *c, struct x86_stack *s, const struct idt_gate *g,
                       const struct rt_fault *f, bool with_stack, bool from_vm)
{
    static const uint8_t vm_order[4] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
    for (unsigned i = 0; from_vm && i < 4; i++) {
        x86_push(s, g->size, c->seg[vm_order[i]].sel);
    }
    if (with_stack) {
        x86_push(s, g->size, c->seg[SEG_SS].sel);
        x86_push(s, g->size, c->rt.reg[RSP]);
    }
    x86_push(s, g->size, frame_flags(c, f));
    x86_push(s, g->size, c->seg[SEG_CS].sel);
    x86_push(s, g->size, c->rt.pc);
    if (f->has_error) {
        x86_push(s, g->size, f->error);
    }
}

static void enter_handler(struct x86_cpu *c, const struct idt_gate *g, uint64_t desc,
                          unsigned level, const struct x86_stack *s)
{
    bool from_vm = c->sys_flags & RF_VM;
    uint64_t clear = RF_TF | RF_NT | RF_RF | RF_VM | (g->type & 1 ? 0 : RF_IF);
    c->sys_flags &= ~clear;
    x86_seg_from_desc(c, SEG_CS, (uint16_t)((g->sel & ~3u) | level), desc | BIT(40));
    if (from_vm) {
        static const uint8_t regs[4] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
        for (unsigned i = 0; i < 4; i++) {
            x86_set_seg_raw(c, regs[i], 0, 0, 0, 0);
        }
    }
    c->cpl = (uint8_t)level;
    x86_mode_changed(c);
    x86_stack_commit(s);
    c->rt.pc = g->pc;
}

static bool deliver_protected(struct x86_cpu *c, const struct rt_fault *f)
{
    struct idt_gate g;
    uint64_t desc, ss_desc;
    unsigned level;
    struct x86_stack s;
    uint16_t ss;
    if (!read_idt(c, f, &g)) {
        return false;
    }
    if (g.type == GATE_TASK) {
        return x86_task_event(c, g.sel, frame_flags(c, f), f);
    }
    if (!check_handler(c, &g, &desc, &level)) {
        return false;
    }
    bool from_vm = c->sys_flags & RF_VM, inner = level < c->cpl;
    if (from_vm && level != 0) {
        x86_raise_error(c, EXC_GP, g.sel & ~3u);
        return false;
    }
    if (!handler_stack(c, &g, level, &s, &ss, &ss_desc)) {
        return false;
    }
    bool lma = c->efer & EFER_LMA;
    push_frame(c, &s, &g, f, inner || lma, from_vm);
    if (s.bad) {
        return false;
    }
    if (inner && lma) {
        x86_set_seg_raw(c, SEG_SS, (uint16_t)level, 0, 0xffffffff,
                        AR_P | AR_S | AR_W | AR_DB | AR_G | (uint16_t)(level << 5));
    } else if (inner) {
        x86_seg_from_desc(c, SEG_SS, ss, ss_desc | BIT(40));
    }
    enter_handler(c, &g, desc, level, &s);
    return true;
}

static bool deliver_real(struct x86_cpu *c, const struct rt_fault *f)
{
    uint32_t v = 0;
    struct x86_stack s;
    if (f->vector * 4 + 3 > c->idtr.limit) {
        x86_raise(c, EXC_GP);
        return false;
    }
    if (!vmem_read(c->rt.vcpu, c->idtr.base + f->vector * 4, x86_sys_idx(c), 4, &v)) {
        return false;
    }
    x86_stack_current(&s, c);
    x86_push(&s, 2, x86_rflags(c));
    x86_push(&s, 2, c->seg[SEG_CS].sel);
    x86_push(&s, 2, c->rt.pc);
    if (s.bad) {
        return false;
    }
    x86_stack_commit(&s);
    x86_set_rflags(c, 0, RF_TF | RF_IF | RF_AC);
    uint16_t cs = (uint16_t)(v >> 16);
    x86_set_seg_raw(c, SEG_CS, cs, (uint64_t)cs << 4, c->seg[SEG_CS].limit, c->seg[SEG_CS].ar);
    c->rt.pc = v & 0xffff;
    return true;
}

enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum fault_class classify(unsigned vector)
{
    switch (vector) {
    case EXC_DE:
    case EXC_TS:
    case EXC_NP:
    case EXC_SS:
    case EXC_GP: return CONTRIBUTORY;
    case EXC_PF: return PAGE_FAULT;
    case EXC_DF: return DOUBLE_FAULT;
    default: return BENIGN;
    }
}

void x86_shutdown(struct x86_cpu *c, const char *why)
{
    struct strbuf sb = {0};
    strbuf_add(&sb, "%s on vcpu %u; the machine resets\n", why, c->rt.vcpu->index);
    c->rt.vcpu->isa->dump(c->rt.vcpu, &sb);
    log_put(LOG_ALWAYS, "%s", strbuf_text(&sb));
    strbuf_free(&sb);
    machine_ask(c->rt.vcpu->machine, MACHINE_REQ_CRASH, 0);
    c->rt.vcpu->state = VCPU_HALTED;
    atomic_store(&c->rt.exit, 1);
}

/* From the accelerator's neutral kinds to vectors; CR2 and DR6 side effects. */
static void settle(struct x86_cpu *c, struct rt_fault *f)
{
    if (f->kind == RT_FAULT_DIVIDE) {
        *f = (struct rt_fault){.kind = RT_FAULT_GUEST, .vector = EXC_DE};
    } else if (f->kind == RT_FAULT_ALIGN) {
        *f = (struct rt_fault){.kind = RT_FAULT_GUEST, .vector = EXC_GP, .has_error = true};
    } else if (f->kind == RT_FAULT_ILLEGAL) {
        *f = (struct rt_fault){.kind = RT_FAULT_GUEST, .vector = EXC_UD};
    }
    if (f->kind != RT_FAULT_GUEST) {
        return; /* an interrupt */
    }
    if (f->vector == EXC_PF && !f->soft) {
        c->cr2 = f->addr;
    } else if (f->vector == EXC_DB && !f->soft) {
        c->dr[6] |= f->addr;
        c->dr[7] &= ~(uint64_t)BIT(13);
    }
    if (!(c->cr0 & CR0_PE) || f->soft) {
        f->has_error = false;
    }
}

/* A software interrupt pushes the address behind it; a fault on the way is the instruction's own.
 */
static bool deliver(struct x86_cpu *c, struct rt_fault f, uint64_t insn_pc);

enum ir_helper_result x86_deliver_soft(struct x86_cpu *c, uint64_t insn_pc)
{
    return deliver(c, c->rt.fault, insn_pc) ? IR_HELPER_PC : IR_HELPER_FAULT;
}

/* A fault on the way of an event that is not a software interrupt has EXT set in its error code,
 * page faults excepted (6.13). */
static uint32_t with_ext(const struct rt_fault *f, bool soft)
{
    bool selector = (f->vector >= EXC_TS && f->vector <= EXC_GP) || f->vector == EXC_AC;
    return f->error | (selector && !soft ? 1 : 0);
}

/* Delivers `f`; a fault on the way becomes a double fault by Table 6-5, then a triple fault.
 * False: it touched watched memory inside an INT instruction. */
static bool deliver(struct x86_cpu *c, struct rt_fault f, uint64_t insn_pc)
{
    enum fault_class before = BENIGN;
    bool nested = false;
    for (;;) {
        settle(c, &f);
        bool external = f.soft || f.kind != RT_FAULT_GUEST;
        enum fault_class now = external ? BENIGN : classify(f.vector);
        if (nested && before == DOUBLE_FAULT) {
            x86_shutdown(c, "triple fault");
            return true;
        }
        bool doubles =
            nested && ((before == CONTRIBUTORY && now == CONTRIBUTORY) ||
                       (before == PAGE_FAULT && (now == CONTRIBUTORY || now == PAGE_FAULT)));
        if (doubles) {
            f = (struct rt_fault){
                .kind = RT_FAULT_GUEST, .vector = EXC_DF, .has_error = c->cr0 & CR0_PE};
            now = DOUBLE_FAULT;
        }
        c->task_begun = false;
        x86_mode_hold(c);
        bool done = c->cr0 & CR0_PE ? deliver_protected(c, &f) : deliver_real(c, &f);
        x86_mode_release(c);
        if (done) {
            c->rt.hold_irq = false;
            c->step_tf = c->step_rf = false;
            return true;
        }
        insn_pc = c->task_begun ? c->rt.pc : insn_pc;
        c->rt.pc = insn_pc;
        if (c->rt.fault.kind == RT_FAULT_STEP) {
            return false; /* the INT is done again, alone */
        }
        before = now;
        nested = true;
        c->rt.fault.error = with_ext(&c->rt.fault, f.soft);
        f = c->rt.fault;
    }
}

void x86_deliver_in_task(struct x86_cpu *c)
{
    deliver(c, c->rt.fault, c->rt.pc);
}

void x86_deliver(struct vcpu *v)
{
    struct rt_fault f = v->env->fault;
    if (f.kind == RT_FAULT_GUEST && !f.soft) {
        x86_settle_canonical(x86_cpu(v), &f);
    }
    deliver(x86_cpu(v), f, v->env->pc);
}

/* Interrupts are of a kind of their own: no error code, RF untouched, benign. */
static void interrupt(struct x86_cpu *c, unsigned vector)
{
    deliver(c, (struct rt_fault){.kind = RT_FAULT_NONE, .vector = vector}, c->rt.pc);
}

/* INIT leaves model-specific registers, MTRRs and the time-stamp counter:
 * Intel SDM Vol. 3A Table 9-1. */
static void init_reset(struct vcpu *v)
{
    enum {
        FIRST = offsetof(struct x86_cpu, star),
        BYTES = offsetof(struct x86_cpu, model) - FIRST
    };
    uint8_t *msrs = (uint8_t *)x86_cpu(v) + FIRST, kept[BYTES];
    memcpy(kept, msrs, BYTES);
    v->isa->cpu_reset(v);
    memcpy(msrs, kept, BYTES);
    v->state = v->index ? VCPU_WAIT_SIPI : VCPU_RUNNING;
}

static void start_ap(struct vcpu *v)
{
    struct x86_cpu *c = x86_cpu(v);
    uint16_t sel = (uint16_t)(v->sipi_vector << 8);
    x86_set_seg_raw(c, SEG_CS, sel, (uint64_t)sel << 4, 0xffff, c->seg[SEG_CS].ar);
    c->rt.pc = 0;
    v->state = VCPU_RUNNING;
}

static void wake(struct vcpu *v)
{
    if (v->state == VCPU_HALTED) {
        v->state = VCPU_RUNNING;
    }
}

static void take_interrupt(struct vcpu *v)
{
    struct x86_cpu *c = x86_cpu(v);
    if (!(c->sys_flags & RF_IF) || c->rt.hold_irq || !v->ic || !irq_ctrl_pending(v->ic)) {
        return;
    }
    int vector = irq_ctrl_ack(v->ic);
    if (vector >= 0) {
        wake(v);
        interrupt(c, (unsigned)vector);
    }
}

bool x86_events(struct vcpu *v)
{
    struct x86_cpu *c = x86_cpu(v);
    unsigned held = c->smm ? VCPU_EV_INIT : 0; /* until RSM */
    unsigned ev =
        atomic_fetch_and(&v->events, ~((VCPU_EV_INIT | VCPU_EV_SIPI | VCPU_EV_INTR) & ~held));
    ev &= ~held;
    if (ev & VCPU_EV_INIT) {
        init_reset(v);
    }
    if ((ev & VCPU_EV_SIPI) && v->state == VCPU_WAIT_SIPI) {
        start_ap(v);
    }
    if (v->state == VCPU_WAIT_SIPI) {
        return false;
    }
    if (c->pending_db && !c->rt.hold_irq) {
        uint64_t bits = c->pending_db;
        c->pending_db = 0;
        deliver(c, (struct rt_fault){.kind = RT_FAULT_GUEST, .vector = EXC_DB, .addr = bits},
                c->rt.pc);
    }
    if ((ev & VCPU_EV_SMI) && !c->smm && !c->rt.hold_irq) {
        atomic_fetch_and(&v->events, ~(unsigned)VCPU_EV_SMI);
        x86_smm_enter(c);
    }
    if ((ev & VCPU_EV_NMI) && !c->nmi_blocked && !c->rt.hold_irq) {
        atomic_fetch_and(&v->events, ~(unsigned)VCPU_EV_NMI);
        c->nmi_blocked = true;
        wake(v);
        interrupt(c, EXC_NMI);
    }
    take_interrupt(v);
    if (c->halted_mwait && ((ev & VCPU_EV_INTR) || x86_monitor_hit(c))) {
        wake(v);
    }
    if (v->state == VCPU_RUNNING) {
        c->halted_mwait = false;
        v->nap_ns = 0;
    }
    return v->state == VCPU_RUNNING;
}
