/*
 * Breakpoints, watchpoints and single steps, for debuggers and for the guest's debug registers.
 *
 * D1: no generated code contains an instruction with a breakpoint: blocks end before it, and the
 *     block that begins with it is `special` and never linked or cached as a jump target.
 * D2: pages with watched bytes have no soft-TLB tag for the watched access, so every such access
 *     takes the slow path; from inside a block it asks for RT_FAULT_STEP, and the instruction runs
 *     again alone, in the interpreter, where the access goes through and is noted.
 */
#include <stdatomic.h>
#include <string.h>

#include "core/machine.h"
#include "core/tlb_ops.h"
#include "jit/internal.h"
#include "jit/jit.h"

#define ALL_POINTS (DEBUG_OWN + DEBUG_POINTS)

/* Own points first, then the debugger's. NULL: there is no such point in use. */
static const struct debug_point *point(const struct jit_vcpu *jv, unsigned i)
{
    const struct debug *d = jv->jm->m->debug;
    const struct debug_point *p = i < DEBUG_OWN ? &jv->v->debug.own[i]
                                  : d           ? &d->points[i - DEBUG_OWN]
                                                : NULL;
    return p && p->access ? p : NULL;
}

/* Points that name the instruction at a linear address: bits by index. */
static unsigned own_breaks(const struct jit_vcpu *jv, gva_t va)
{
    unsigned hits = 0;
    for (unsigned i = 0; i < DEBUG_OWN; i++) {
        const struct debug_point *p = point(jv, i);
        hits |= p && p->access == RT_EXEC && p->addr == va ? 1u << i : 0;
    }
    return hits;
}

static bool debugger_break(const struct jit_vcpu *jv, gva_t va)
{
    for (unsigned i = DEBUG_OWN; i < ALL_POINTS; i++) {
        const struct debug_point *p = point(jv, i);
        if (p && p->access == RT_EXEC && p->addr == va) {
            return true;
        }
    }
    return false;
}

static bool any_break(const struct jit_vcpu *jv, gva_t va)
{
    return own_breaks(jv, va) || debugger_break(jv, va);
}

unsigned jit_debug_cut(struct jit_vcpu *jv, const struct ir_block *ir, gva_t va,
                       struct jit_block *b)
{
    unsigned n = 0;
    if (jv->mode & jv->v->isa->mode_step) {
        b->special = true;
        return 1;
    }
    for (unsigned i = 0; jv->breaks && i < ir->nops; i++) {
        if (ir->op[i].op != IR_insn) {
            continue;
        }
        if (any_break(jv, va + (ir->target[ir->op[i].imm] - ir->pc))) {
            b->special = n == 0;
            b->cut = true;
            return n ? n : 1;
        }
        n++;
    }
    return ir->ninsns;
}

/* By the place in the page: the block may be mapped anywhere. */
bool jit_has_break(const struct jit_vcpu *jv, const struct jit_block *b)
{
    for (unsigned i = 0; jv->breaks && i < ALL_POINTS; i++) {
        const struct debug_point *p = point(jv, i);
        if (p && p->access == RT_EXEC && ((p->addr - b->off) & (RT_PAGE_SIZE - 1)) < b->bytes) {
            return true;
        }
    }
    return false;
}

bool jit_watched_page(const struct jit_vcpu *jv, gva_t va, unsigned access)
{
    gva_t page = va & ~(gva_t)(RT_PAGE_SIZE - 1);
    for (unsigned i = 0; jv->watches && i < ALL_POINTS; i++) {
        const struct debug_point *p = point(jv, i);
        if (p && (p->access & access) && p->addr + p->len - 1 >= page &&
            p->addr <= page + RT_PAGE_SIZE - 1) {
            return true;
        }
    }
    return false;
}

bool jit_watch(struct jit_vcpu *jv, gva_t va, unsigned size, unsigned access)
{
    struct rt_env *env = jv->v->env;
    for (unsigned i = 0; i < ALL_POINTS; i++) {
        const struct debug_point *p = point(jv, i);
        if (!p || !(p->access & access) || va + size - 1 < p->addr || va > p->addr + p->len - 1) {
            continue;
        }
        if (jv->in_code && !jv->stepping) {
            env->fault = (struct rt_fault){.kind = RT_FAULT_STEP};
            return false;
        }
        if (i < DEBUG_OWN) {
            jv->v->debug.own_hits |= 1u << i;
        } else {
            jv->hit = *p;
        }
        atomic_store(&env->exit, 1);
    }
    return true;
}

/* Stops all vCPUs and tells the debugger; comes back when it lets them go. */
static void stop(struct jit_vcpu *jv, enum debug_reason why)
{
    struct jit_machine *jm = jv->jm;
    struct vcpu_debug *d = &jv->v->debug;
    d->reason = why;
    d->step = false;
    d->hit = jv->hit;
    jv->hit.access = 0;
    pthread_mutex_lock(&jm->lock);
    jm->parked = true;
    pthread_mutex_unlock(&jm->lock);
    for (unsigned i = 0; i < jm->count; i++) {
        atomic_store(&jm->cpu[i]->v->env->exit, 1);
    }
    jm->m->debug->stopped(jm->m->debug->opaque, jv->v);
    jit_safepoint(jv);
    atomic_store(&jv->v->env->exit, 1);
}

void jit_watch_late(struct jit_vcpu *jv)
{
    unsigned hits = jv->v->debug.own_hits;
    jv->v->debug.own_hits = 0;
    if (hits && jv->v->isa->debug_before && jv->v->isa->debug_before(jv->v, 0)) {
        jv->v->isa->debug_after(jv->v, hits);
    }
    if (jv->hit.access && jv->jm->m->debug) {
        stop(jv, DEBUG_WATCH);
    }
}

/* The ISA's part around one instruction. */
static void guarded_step(struct jit_vcpu *jv, gva_t va)
{
    const struct isa *isa = jv->v->isa;
    if (isa->debug_before && !isa->debug_before(jv->v, own_breaks(jv, va))) {
        jit_deliver(jv);
        return;
    }
    if (jit_step(jv) && isa->debug_after) {
        unsigned hits = jv->v->debug.own_hits;
        jv->v->debug.own_hits = 0;
        isa->debug_after(jv->v, hits);
    }
    jv->v->debug.own_hits = 0;
}

void jit_debug_step(struct jit_vcpu *jv, bool held)
{
    struct vcpu_debug *d = &jv->v->debug;
    gva_t va = jv->v->isa->fetch_address(jv->v, jv->v->env->pc);
    bool step = d->step;
    bool past = d->past && d->past_pc == jv->v->env->pc;
    if (jv->jm->m->debug && !past && !step && debugger_break(jv, va)) {
        jv->v->env->hold_irq = held;
        stop(jv, DEBUG_BREAK);
        return;
    }
    d->past = false;
    d->own_hits = 0;
    jv->hit.access = 0;
    guarded_step(jv, va);
    if (jv->jm->m->debug && (jv->hit.access || step)) {
        stop(jv, jv->hit.access ? DEBUG_WATCH : DEBUG_STEP);
    }
}

static void points_changed(struct jit_vcpu *jv)
{
    unsigned all = 0;
    for (unsigned i = 0; i < ALL_POINTS; i++) {
        const struct debug_point *p = point(jv, i);
        all |= p ? p->access : 0;
    }
    jv->breaks = all & RT_EXEC;
    jv->watches = all & (RT_READ | RT_WRITE);
    jit_drop_breaks(jv);
    tlb_flush(jv->v);
}

void tlb_debug_changed(struct vcpu *v)
{
    struct jit_vcpu *jv = jit_of(v);
    if (jv) {
        points_changed(jv);
    }
}

void jit_debug_changed(struct machine *m)
{
    struct jit_machine *jm = m->cpus_data;
    for (unsigned i = 0; i < jm->count; i++) {
        points_changed(jm->cpu[i]);
    }
}

void jit_debug_enter(struct jit_vcpu *jv)
{
    if (jv->v->debug.fx_changed) {
        jv->v->debug.fx_changed = false;
        jv->v->env->mem->fpu_set(jv->v->env, jv->v->debug.fx);
    }
}

void jit_debug_leave(struct jit_vcpu *jv)
{
    if (jv->jm->m->debug) {
        jv->v->env->mem->fpu_get(jv->v->env, jv->v->debug.fx);
    }
}
