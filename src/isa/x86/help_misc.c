/* Helpers that fit no other file: CPUID, time stamps, wide compare-and-exchange, BCD, frames. */
#include <string.h>
#include <sys/random.h>

#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"

static struct x86_cpu *cpu_of(struct rt_env *env)
{
    return (struct x86_cpu *)env;
}

enum ir_helper_result helper_cpuid(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    uint32_t r[4];
    x86_cpuid(cpu_of(env), (uint32_t)env->reg[RAX], (uint32_t)env->reg[RCX], r);
    env->reg[RAX] = r[0];
    env->reg[RBX] = r[1];
    env->reg[RCX] = r[2];
    env->reg[RDX] = r[3];
    return IR_HELPER_NEXT;
}

/* a: also TSC_AUX (RDTSCP) */
enum ir_helper_result helper_rdtsc(struct rt_env *env, uint64_t aux, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if ((c->cr4 & CR4_TSD) && c->cpl != 0 && (c->cr0 & CR0_PE)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    uint64_t t = x86_tsc(c);
    env->reg[RAX] = (uint32_t)t;
    env->reg[RDX] = t >> 32;
    if (aux) {
        env->reg[RCX] = (uint32_t)c->tsc_aux;
    }
    return IR_HELPER_NEXT;
}

/* We offer no performance counters. */
enum ir_helper_result helper_rdpmc(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    return x86_raise_error(cpu_of(env), EXC_GP, 0);
}

/* a: register, b: size */
enum ir_helper_result helper_rdrand(struct rt_env *env, uint64_t reg, uint64_t size, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    uint64_t v = 0;
    bool ok = getrandom(&v, 8, 0) == 8;
    uint64_t *r = &env->reg[reg & 15];
    *r = size == 2 ? (*r & ~0xffffull) | (v & 0xffff) : size == 4 ? v & 0xffffffff : v;
    x86_set_rflags(c, ok ? FLAG_CF : 0, FLAG_ALL);
    return IR_HELPER_NEXT;
}

static bool swap_pair(struct x86_cpu *c, void *host, unsigned half, bool *same)
{
    uint64_t *r = c->rt.reg;
    if (half == 8) {
        unsigned __int128 old = (unsigned __int128)r[RDX] << 64 | r[RAX];
        unsigned __int128 new = (unsigned __int128)r[RCX] << 64 | r[RBX];
        unsigned __int128 seen = __sync_val_compare_and_swap((unsigned __int128 *)host, old, new);
        *same = seen == old;
        if (!*same) {
            r[RAX] = (uint64_t)seen;
            r[RDX] = (uint64_t)(seen >> 64);
        }
        return true;
    }
    uint64_t seen = r[RDX] << 32 | (uint32_t)r[RAX], new = r[RCX] << 32 | (uint32_t)r[RBX];
    *same = __atomic_compare_exchange_n((uint64_t *)host, &seen, new, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST);
    if (!*same) {
        r[RAX] = (uint32_t)seen;
        r[RDX] = seen >> 32;
    }
    return true;
}

/* CMPXCHG8B, CMPXCHG16B: a: address, b: bytes of a half. Crossing pages or device memory: slowly.
 */
enum ir_helper_result helper_cmpxchg_pair(struct rt_env *env, uint64_t va, uint64_t half,
                                          uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    void *host = NULL;
    bool same = false;
    if (half == 8 && (va & 15)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if (!env->mem->resolve(env, va, (unsigned)half * 2, RT_READ | RT_WRITE, &host)) {
        return IR_HELPER_FAULT;
    }
    if (host) {
        swap_pair(c, host, (unsigned)half, &same);
    } else {
        uint8_t buf[16] __attribute__((aligned(16)));
        env->mem->lock_begin(env);
        bool ok = env->mem->slow_read(env, va, (unsigned)half * 2, buf) &&
                  swap_pair(c, buf, (unsigned)half, &same) &&
                  env->mem->slow_write(env, va, (unsigned)half * 2, buf);
        env->mem->lock_end(env);
        if (!ok) {
            return IR_HELPER_FAULT;
        }
    }
    x86_set_rflags(c, same ? FLAG_ZF : 0, FLAG_ZF);
    return IR_HELPER_NEXT;
}

/* a: size of the frame, b: nesting level, c: operand size */
enum ir_helper_result helper_enter(struct rt_env *env, uint64_t size, uint64_t level,
                                   uint64_t opsize)
{
    struct x86_cpu *c = cpu_of(env);
    struct x86_stack s, old;
    unsigned n = (unsigned)opsize;
    x86_stack_current(&s, c);
    old = s;
    old.sp = env->reg[RBP];
    x86_push(&s, n, env->reg[RBP]);
    uint64_t frame = s.sp;
    level &= 31;
    for (unsigned i = 1; i < level && !s.bad; i++) { /* the first fault counts */
        old.sp = (old.sp & ~old.mask) | ((old.sp - n) & old.mask);
        struct x86_stack at = old;
        uint64_t outer = x86_pop(&at, n);
        s.bad = at.bad;
        x86_push(&s, n, outer);
    }
    if (level) {
        x86_push(&s, n, frame);
    }
    s.sp = (s.sp & ~s.mask) | ((s.sp - size) & s.mask);
    uint8_t probe = 0;
    gva_t end = s.base + (s.sp & s.mask);
    if (s.bad || !x86_align_check(c, end, n) || !vmem_read(env->vcpu, end, s.idx, 1, &probe)) {
        return IR_HELPER_FAULT;
    }
    x86_stack_commit(&s);
    uint64_t m = n == 2 ? 0xffff : n == 4 && s.mask != ~0ull ? 0xffffffff : ~0ull;
    env->reg[RBP] = n == 2 ? (env->reg[RBP] & ~m) | (frame & m) : frame & m;
    return IR_HELPER_NEXT;
}

enum ir_helper_result helper_pusha(struct rt_env *env, uint64_t opsize, uint64_t b, uint64_t d)
{
    struct x86_stack s;
    uint64_t block[8];
    x86_stack_current(&s, cpu_of(env));
    memcpy(block, env->reg, sizeof(block));
    for (unsigned i = 0; i < 8; i++) {
        x86_push(&s, (unsigned)opsize, block[i]);
    }
    if (s.bad) {
        return IR_HELPER_FAULT;
    }
    x86_stack_commit(&s);
    return IR_HELPER_NEXT;
}

enum ir_helper_result helper_popa(struct rt_env *env, uint64_t opsize, uint64_t b, uint64_t d)
{
    struct x86_stack s;
    uint64_t v[8];
    x86_stack_current(&s, cpu_of(env));
    for (unsigned i = 8; i-- > 0;) {
        v[i] = x86_pop(&s, (unsigned)opsize);
    }
    if (s.bad) {
        return IR_HELPER_FAULT;
    }
    for (unsigned i = 0; i < 8; i++) {
        if (i != RSP) {
            env->reg[i] = opsize == 2 ? (env->reg[i] & ~0xffffull) | v[i] : v[i];
        }
    }
    x86_stack_commit(&s);
    return IR_HELPER_NEXT;
}

/* a: index, b: lower, c: upper bound; all sign-extended */
enum ir_helper_result helper_bound(struct rt_env *env, uint64_t index, uint64_t low, uint64_t high)
{
    if ((int64_t)index < (int64_t)low || (int64_t)index > (int64_t)high) {
        return x86_raise(cpu_of(env), EXC_BR);
    }
    return IR_HELPER_NEXT;
}

static void daa_das(struct x86_cpu *c, bool add)
{
    uint32_t f = rt_flags_unpack(c->rt.flags);
    uint8_t al = (uint8_t)c->rt.reg[RAX], old = al;
    bool cf = f & FLAG_CF, af = f & FLAG_AF, new_cf = false;
    if ((al & 15) > 9 || af) {
        new_cf = cf || (add ? al > 0xf9 : al < 6);
        al = (uint8_t)(add ? al + 6 : al - 6);
        af = true;
    }
    if (old > 0x99 || cf) {
        al = (uint8_t)(add ? al + 0x60 : al - 0x60);
        new_cf = true;
    } else if (add) {
        new_cf = false;
    }
    c->rt.reg[RAX] = (c->rt.reg[RAX] & ~0xffull) | al;
    f = (al == 0 ? FLAG_ZF : 0) | (al & 0x80 ? FLAG_SF : 0) | (__builtin_parity(al) ? 0 : FLAG_PF);
    x86_set_rflags(c, f | (new_cf ? FLAG_CF : 0) | (af ? FLAG_AF : 0), FLAG_ALL);
}

static void aaa_aas(struct x86_cpu *c, bool add)
{
    uint32_t f = rt_flags_unpack(c->rt.flags);
    uint16_t ax = (uint16_t)c->rt.reg[RAX];
    bool adjust = (ax & 15) > 9 || (f & FLAG_AF);
    if (adjust) {
        ax = (uint16_t)(add ? ax + 0x106 : ax - 0x106);
    }
    ax &= 0xff0f;
    c->rt.reg[RAX] = (c->rt.reg[RAX] & ~0xffffull) | ax;
    x86_set_rflags(c, adjust ? FLAG_CF | FLAG_AF : 0, FLAG_CF | FLAG_AF);
}

/* a: opcode byte (27 DAA 2f DAS 37 AAA 3f AAS d4 AAM d5 AAD), b: immediate */
enum ir_helper_result helper_bcd(struct rt_env *env, uint64_t op, uint64_t imm, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    uint8_t al = (uint8_t)env->reg[RAX], ah = (uint8_t)(env->reg[RAX] >> 8), i = (uint8_t)imm;
    switch (op) {
    case 0x27: daa_das(c, true); return IR_HELPER_NEXT;
    case 0x2f: daa_das(c, false); return IR_HELPER_NEXT;
    case 0x37: aaa_aas(c, true); return IR_HELPER_NEXT;
    case 0x3f: aaa_aas(c, false); return IR_HELPER_NEXT;
    case 0xd4:
        if (i == 0) {
            return x86_raise(c, EXC_DE);
        }
        ah = al / i;
        al = al % i;
        break;
    default:
        al = (uint8_t)(al + ah * i);
        ah = 0;
        break;
    }
    env->reg[RAX] = (env->reg[RAX] & ~0xffffull) | (uint64_t)ah << 8 | al;
    uint32_t f =
        (al == 0 ? FLAG_ZF : 0) | (al & 0x80 ? FLAG_SF : 0) | (__builtin_parity(al) ? 0 : FLAG_PF);
    x86_set_rflags(c, f, FLAG_ALL);
    return IR_HELPER_NEXT;
}
