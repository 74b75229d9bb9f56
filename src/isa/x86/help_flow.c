/* Helpers that change the flow of control: interrupts, returns, system calls, halting. */
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "core/irq_ctrl.h"
#include "core/machine.h"
#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"

#define MWAIT_NAP_NS 100000 /* the first; vcpu_sleep makes them longer */
#define PAUSES_TO_YIELD 64
#define PAUSES_TO_NAP 128

static struct x86_cpu *cpu_of(struct rt_env *env)
{
    return (struct x86_cpu *)env;
}

enum ir_helper_result helper_raise(struct rt_env *env, uint64_t vector, uint64_t b, uint64_t c)
{
    return x86_raise(cpu_of(env), (unsigned)vector);
}

enum ir_helper_result helper_raise_error(struct rt_env *env, uint64_t vector, uint64_t error,
                                         uint64_t c)
{
    return x86_raise_error(cpu_of(env), (unsigned)vector, (uint32_t)error);
}

/* a: vector, b: address behind the instruction, c: INT_1 is not checked against the gate, INT_N
 * hangs on IOPL in virtual-8086 mode, the others are INT3 and INTO. */
enum ir_helper_result helper_int_n(struct rt_env *env, uint64_t vector, uint64_t next, uint64_t how)
{
    struct x86_cpu *c = cpu_of(env);
    enum ir_helper_result r;
    if ((c->sys_flags & RF_VM) && how == INT_N && x86_v86_int(c, (unsigned)vector, next, &r)) {
        return r;
    }
    uint64_t pc = env->pc;
    env->pc = next;
    env->fault =
        (struct rt_fault){.kind = RT_FAULT_GUEST, .vector = (uint32_t)vector, .soft = how != INT_1};
    return x86_deliver_soft(c, pc);
}

enum ir_helper_result helper_iret(struct rt_env *env, uint64_t opsize, uint64_t next, uint64_t c)
{
    struct x86_cpu *cpu = cpu_of(env);
    x86_mode_hold(cpu);
    enum ir_helper_result r = x86_iret(cpu, (unsigned)opsize, next);
    x86_mode_release(cpu);
    return r;
}

/* c: operand size, instruction length << 8 */
enum ir_helper_result helper_far_jump(struct rt_env *env, uint64_t sel, uint64_t pc, uint64_t how)
{
    return x86_far_jump(cpu_of(env), (uint16_t)sel, pc, how & 0xff, env->pc + (how >> 8));
}

enum ir_helper_result helper_far_call(struct rt_env *env, uint64_t sel, uint64_t pc, uint64_t how)
{
    return x86_far_call(cpu_of(env), (uint16_t)sel, pc, how & 0xff, env->pc + (how >> 8));
}

enum ir_helper_result helper_far_ret(struct rt_env *env, uint64_t opsize, uint64_t release,
                                     uint64_t c)
{
    return x86_far_ret(cpu_of(env), (unsigned)opsize, (unsigned)release);
}

static void flat_segment(struct x86_cpu *c, unsigned seg, unsigned sel, unsigned ar)
{
    x86_set_seg_raw(c, seg, (uint16_t)sel, 0, 0xffffffff, (uint16_t)ar);
}

#define AR_FLAT_CODE (AR_P | AR_S | AR_CODE | AR_W | AR_A | AR_G)
#define AR_FLAT_DATA (AR_P | AR_S | AR_W | AR_A | AR_G | AR_DB)

/* a: address behind the instruction */
enum ir_helper_result helper_syscall(struct rt_env *env, uint64_t next, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if (!(c->efer & EFER_SCE) || !(c->efer & EFER_LMA)) {
        return x86_raise(c, EXC_UD);
    }
    bool from64 = x86_long_code(c);
    uint64_t flags = x86_rflags(c);
    env->reg[RCX] = next;
    env->reg[R11] = flags & ~(uint64_t)RF_RF;
    x86_mode_hold(c);
    x86_set_rflags(c, flags & ~c->sfmask, FLAG_ALL | (RF_SYS_ALL & ~RF_VM));
    c->sys_flags &= ~(uint64_t)RF_RF;
    c->step_tf = c->step_tf && (c->sys_flags & RF_TF);
    unsigned sel = (unsigned)(c->star >> 32) & 0xfffc;
    c->cpl = 0;
    flat_segment(c, SEG_CS, sel, AR_FLAT_CODE | AR_L);
    flat_segment(c, SEG_SS, sel + 8, AR_FLAT_DATA);
    x86_mode_release(c);
    env->pc = from64 ? c->lstar : c->cstar;
    return IR_HELPER_PC;
}

/* a: operand size */
enum ir_helper_result helper_sysret(struct rt_env *env, uint64_t opsize, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if (!(c->efer & EFER_SCE) || !x86_long_code(c)) {
        return x86_raise(c, EXC_UD);
    }
    bool to64 = opsize == 8;
    uint64_t pc = env->reg[RCX];
    if (c->cpl != 0 || (to64 && !x86_canonical(c, pc))) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    unsigned sel = ((unsigned)(c->star >> 48) & 0xffff) | 3;
    x86_mode_hold(c);
    x86_set_rflags(c, env->reg[R11], FLAG_ALL | (RF_SYS_ALL & ~(RF_VM | RF_RF)));
    c->sys_flags &= ~(uint64_t)RF_RF;
    c->cpl = 3;
    flat_segment(c, SEG_CS, to64 ? sel + 16 : sel, AR_FLAT_CODE | AR_DPL | (to64 ? AR_L : AR_DB));
    flat_segment(c, SEG_SS, sel + 8, AR_FLAT_DATA | AR_DPL);
    x86_mode_release(c);
    env->pc = to64 ? pc : pc & 0xffffffff;
    return IR_HELPER_PC;
}

enum ir_helper_result helper_sysenter(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    unsigned sel = (unsigned)c->sysenter_cs & 0xfffc;
    if (!(c->cr0 & CR0_PE) || sel == 0) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    bool lma = c->efer & EFER_LMA;
    c->sys_flags &= ~(uint64_t)(RF_VM | RF_IF | RF_RF);
    c->cpl = 0;
    flat_segment(c, SEG_CS, sel, AR_FLAT_CODE | (lma ? AR_L : AR_DB));
    flat_segment(c, SEG_SS, sel + 8, AR_FLAT_DATA);
    env->reg[RSP] = lma ? c->sysenter_esp : c->sysenter_esp & 0xffffffff;
    env->pc = lma ? c->sysenter_eip : c->sysenter_eip & 0xffffffff;
    return IR_HELPER_PC;
}

enum ir_helper_result helper_sysexit(struct rt_env *env, uint64_t opsize, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    unsigned sel = (unsigned)c->sysenter_cs & 0xfffc;
    if (!(c->cr0 & CR0_PE) || c->cpl != 0 || sel == 0) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    bool to64 = opsize == 8;
    uint64_t pc = env->reg[RDX], sp = env->reg[RCX];
    if (to64 && (!x86_canonical(c, pc) || !x86_canonical(c, sp))) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    unsigned cs = (to64 ? sel + 32 : sel + 16) | 3;
    c->cpl = 3;
    flat_segment(c, SEG_CS, cs, AR_FLAT_CODE | AR_DPL | (to64 ? AR_L : AR_DB));
    flat_segment(c, SEG_SS, cs + 8, AR_FLAT_DATA | AR_DPL);
    env->reg[RSP] = to64 ? sp : sp & 0xffffffff;
    env->pc = to64 ? pc : pc & 0xffffffff;
    return IR_HELPER_PC;
}

enum ir_helper_result helper_hlt(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    env->vcpu->state = VCPU_HALTED;
    return IR_HELPER_EXIT;
}

/* Are there other vcpus? (A vcpu under test has no machine.) */
static bool others(const struct rt_env *env)
{
    const struct machine *m = env->vcpu->machine;
    return m && m->vcpu_count > 1;
}

static uint64_t extension_bits(const struct x86_cpu *c)
{
    return x86_long_code(c) ? c->rt.reg[RCX] : (uint32_t)c->rt.reg[RCX];
}

/* a: linear address. Lines that are not plain RAM are not watched: MWAIT goes on at once. */
enum ir_helper_result helper_monitor(struct rt_env *env, uint64_t va, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    void *host = NULL;
    if (extension_bits(c)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    va &= ~(uint64_t)(sizeof(c->monitor_line) - 1);
    if (!env->mem->resolve(env, va, sizeof(c->monitor_line), RT_READ, &host)) {
        return IR_HELPER_FAULT;
    }
    c->monitor = host;
    if (host) {
        memcpy(c->monitor_line, host, sizeof(c->monitor_line));
    }
    return IR_HELPER_NEXT;
}

bool x86_monitor_hit(const struct x86_cpu *c)
{
    return !c->monitor || memcmp(c->monitor, c->monitor_line, sizeof(c->monitor_line)) != 0;
}

/*
 * MWAIT sleeps until an interrupt or a write to the line of MONITOR (Intel SDM Vol. 2B). Writes of
 * other vcpus do not wake the thread: it naps and compares. ECX bit 0: also when IF is 0.
 */
enum ir_helper_result helper_mwait(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if (extension_bits(c) & ~1ull) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if (x86_monitor_hit(c)) {
        return IR_HELPER_NEXT;
    }
    c->halted_mwait = true;
    env->vcpu->state = VCPU_HALTED;
    env->vcpu->nap_ns = others(env) ? MWAIT_NAP_NS : 0;
    return IR_HELPER_EXIT;
}

/*
 * A guest that spins waits for another vcpu, which may have no host processor: after some turns the
 * host may run somebody else (pause-loop exiting of hardware: Intel SDM Vol. 3C 25.1.3). A yield
 * alone need not bring that one: every other time it is the shortest sleep there is.
 */
enum ir_helper_result helper_pause(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if (!others(env) || ++c->pauses % PAUSES_TO_YIELD) {
        return IR_HELPER_NEXT;
    }
    if (c->pauses % PAUSES_TO_NAP) {
        sched_yield();
    } else {
        nanosleep(&(struct timespec){.tv_nsec = 1}, NULL);
    }
    return IR_HELPER_NEXT;
}

/* a: value popped, b: operand size */
enum ir_helper_result helper_popf(struct rt_env *env, uint64_t v, uint64_t opsize, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    unsigned iopl = (unsigned)(c->sys_flags >> 12) & 3;
    bool vm = c->sys_flags & RF_VM;
    if (vm && iopl != 3) {
        if (!x86_v86_set_flags(c, v, (unsigned)opsize)) {
            return IR_HELPER_FAULT;
        }
        c->rt.reg[RSP] = x86_stack_add(c, opsize);
        return IR_HELPER_EXIT;
    }
    uint64_t mask = FLAG_ALL | RF_TF | RF_DF | RF_NT;
    mask |= opsize > 2 ? RF_AC | RF_ID : 0;
    mask |= c->cpl <= iopl ? RF_IF : 0;
    mask |= c->cpl == 0 ? RF_IOPL : 0;
    c->rt.reg[RSP] = x86_stack_add(c, opsize);
    c->sys_flags &= ~(uint64_t)RF_RF;
    bool was_tf = c->sys_flags & RF_TF;
    x86_set_rflags(c, v, mask);
    return was_tf != !!(c->sys_flags & RF_TF) ? IR_HELPER_EXIT : IR_HELPER_NEXT;
}

static bool may_change_if(const struct x86_cpu *c)
{
    return c->cpl <= (c->sys_flags >> 12 & 3) || !(c->cr0 & CR0_PE);
}

enum ir_helper_result helper_sti(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if (!may_change_if(c)) {
        return x86_v86_virtual_if(c) ? x86_v86_set_vif(c, true) : x86_raise_error(c, EXC_GP, 0);
    }
    if (!(c->sys_flags & RF_IF)) {
        c->sys_flags |= RF_IF;
        c->rt.hold_irq = true; /* Vol. 3A 6.8.1: one instruction more */
        bool waiting =
            atomic_load(&c->rt.exit) || (env->vcpu->ic && irq_ctrl_pending(env->vcpu->ic));
        return waiting ? IR_HELPER_EXIT : IR_HELPER_NEXT;
    }
    return IR_HELPER_NEXT;
}

enum ir_helper_result helper_cli(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if (!may_change_if(c)) {
        return x86_v86_virtual_if(c) ? x86_v86_set_vif(c, false) : x86_raise_error(c, EXC_GP, 0);
    }
    c->sys_flags &= ~(uint64_t)RF_IF;
    return IR_HELPER_NEXT;
}
