/*
 * Debug registers, single step and RF: Intel SDM Vol. 3B chapter 17.
 *
 * Does not do: task-switch traps (there are no task switches), RTM and branch single step.
 */
#include <stdatomic.h>

#include "isa/x86/sys.h"

enum { DR7_IO = 2, DR6_BS = 1 << 14 };

static unsigned dr7_kind(const struct x86_cpu *c, unsigned i)
{
    return c->dr[7] >> (16 + 4 * i) & 3;
}

static unsigned dr7_len(const struct x86_cpu *c, unsigned i)
{
    static const uint8_t len[4] = {1, 2, 8, 4};
    return len[c->dr[7] >> (18 + 4 * i) & 3];
}

static bool dr7_enabled(const struct x86_cpu *c, unsigned i)
{
    return c->dr[7] >> (2 * i) & 3;
}

static struct debug_point own_point(const struct x86_cpu *c, unsigned i)
{
    static const uint8_t access[4] = {RT_EXEC, RT_WRITE, 0, RT_READ | RT_WRITE};
    unsigned kind = dr7_kind(c, i), len = kind ? dr7_len(c, i) : 1;
    if (!dr7_enabled(c, i) || !access[kind]) {
        return (struct debug_point){0};
    }
    return (struct debug_point){
        .addr = c->dr[i] & ~(uint64_t)(len - 1), .len = len, .access = access[kind]};
}

void x86_debug_regs_changed(struct x86_cpu *c)
{
    struct debug_point *own = c->rt.vcpu->debug.own;
    bool same = true;
    for (unsigned i = 0; i < DEBUG_OWN; i++) {
        struct debug_point p = own_point(c, i);
        same = same && p.addr == own[i].addr && p.len == own[i].len && p.access == own[i].access;
        own[i] = p;
    }
    if (!same) {
        tlb_debug_changed(c->rt.vcpu);
    }
}

/* A trap that is due behind the instruction that runs. */
static void trap(struct x86_cpu *c, uint64_t bits)
{
    if (bits) {
        c->pending_db |= bits;
        atomic_store(&c->rt.exit, 1);
    }
}

void x86_debug_io(struct x86_cpu *c, uint16_t port, unsigned size)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < DEBUG_OWN && (c->cr4 & CR4_DE); i++) {
        uint64_t len = dr7_len(c, i), at = c->dr[i] & ~(len - 1);
        bool hit =
            dr7_enabled(c, i) && dr7_kind(c, i) == DR7_IO && port + size > at && port < at + len;
        bits |= hit ? 1u << i : 0;
    }
    trap(c, bits);
}

/* Instruction breakpoints are faults, and RF holds them off for one instruction (17.3.1.1). */
bool x86_debug_before(struct vcpu *v, unsigned hits)
{
    struct x86_cpu *c = x86_cpu(v);
    c->step_tf = c->sys_flags & RF_TF;
    c->step_rf = c->sys_flags & RF_RF;
    if (hits && !c->step_rf) {
        c->rt.fault = (struct rt_fault){.kind = RT_FAULT_GUEST, .vector = EXC_DB, .addr = hits};
        return false;
    }
    return true;
}

/* Data breakpoints and single step are traps. What enters a handler has cleared step_tf. */
void x86_debug_after(struct vcpu *v, unsigned hits)
{
    struct x86_cpu *c = x86_cpu(v);
    if (c->step_rf) {
        c->sys_flags &= ~(uint64_t)RF_RF;
    }
    trap(c, hits | (c->step_tf ? DR6_BS : 0));
}
