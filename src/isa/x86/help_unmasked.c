/*
 * Vector and x87 instructions one at a time, while an exception is unmasked in MXCSR (Intel SDM
 * Vol. 1 11.5.3, #XM) or the x87 control word (Vol. 1 8.4 to 8.7, #MF).
 *
 * The host runs SIMD instructions with all exceptions masked and clear flags, which then tell what
 * came up; if something unmasked did, all but MXCSR is put back. What flags do not tell: a result
 * that is tiny and exact is an underflow only where that is unmasked (11.5.2.5).
 *
 * The x87 raises nothing before the next instruction that waits. So the host's own gets the guest's
 * control word for one instruction, and a masked one before anything waits: results, registers and
 * flags are as the guest should see them.
 *
 * Does not do: CR0.NE = 0 (FERR# and IRQ 13; exceptions stay pending and nothing waits for them);
 * instruction and data pointers. Beside an unmasked overflow or underflow the flag of an inexact
 * result is that of the masked one. DPPS and DPPD compute in steps, of which an exception hides the
 * later ones; here all flags of a step's result are set, and a product that is tiny and exact is
 * not noticed.
 */
#include <string.h>

#include "ir/hostvec.h"
#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"
#include "isa/x86/vec_args.h"

static uint16_t word_at(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static bool is_pending(const uint8_t *fx)
{
    return word_at(fx + 2) & ~word_at(fx) & FP_ALL;
}

/* a: 1 for WAIT, which has #NM by TS and MP. */
bool x86_check_x87(struct rt_env *env, uint64_t wait, uint64_t b, unsigned size)
{
    struct x86_cpu *c = (struct x86_cpu *)env;
    uint8_t fx[512];
    if (wait && (c->cr0 & (CR0_TS | CR0_MP)) == (CR0_TS | CR0_MP)) {
        x86_raise(c, EXC_NM);
        return false;
    }
    x86_get_x87(c, fx);
    if ((c->cr0 & CR0_NE) && is_pending(fx)) {
        x86_raise(c, EXC_MF);
        return false;
    }
    return true;
}

/* ---- SIMD ---- */

/* Instructions with results that may be tiny: map, opcodes, size of a number in the result (0: by
 * prefix as in ADDPS ADDPD ADDSS ADDSD; 1: by W), is it packed whatever the prefix says? */
static const struct {
    uint8_t map, first, last, size;
    bool packed;
} tiny[] = {
    {1, 0x58, 0x59, 0, false}, /* ADD, MUL */
    {1, 0x5a, 0x5a, 4, false}, /* CVTPD2PS, CVTSD2SS; those to double never are */
    {1, 0x5c, 0x5c, 0, false}, /* SUB */
    {1, 0x5e, 0x5e, 0, false}, /* DIV */
    {1, 0x7c, 0x7d, 0, true},  /* HADD, HSUB */
    {1, 0xd0, 0xd0, 0, true},  /* ADDSUB */
    {2, 0x96, 0xbf, 1, false}, /* FMA */
    {3, 0x1d, 0x1d, 2, true},  /* VCVTPS2PH */
    {3, 0x40, 0x40, 4, true},  /* DPPS */
    {3, 0x41, 0x41, 8, true},  /* DPPD */
};

/* Bytes of a number in the result, and how many there are. 0: none can be tiny. */
static unsigned result_lanes(const struct ir_vec *v, unsigned *n)
{
    const struct hostvec_info *h = &hostvec_info[v->id];
    unsigned i = 0, bytes = v->l ? 32 : 16;
    while (i < ARRAY_LEN(tiny) &&
           (tiny[i].map != h->map || h->opcode < tiny[i].first || h->opcode > tiny[i].last)) {
        i++;
    }
    bool narrows = h->map == 1 && h->opcode == 0x5a, wide = h->pp == 1 || h->pp == 3;
    if (i == ARRAY_LEN(tiny) || (narrows && !wide)) {
        return 0;
    }
    unsigned size = tiny[i].size;
    bool scalar = h->pp >= 2 && !tiny[i].packed;
    if (size == 1) { /* odd ones from 9 on are scalar */
        size = v->w ? 8 : 4;
        scalar = (h->opcode & 15) >= 9 && (h->opcode & 1);
    } else if (size == 0) {
        size = tiny[i].packed ? (h->pp == 1 ? 8 : 4) : (wide ? 8 : 4);
    }
    *n = scalar ? 1 : bytes / size / (narrows || size == 2 ? 2 : 1);
    return size;
}

static bool is_tiny(const uint8_t *p, unsigned size)
{
    static const uint8_t exponent_at[9] = {[2] = 10, [4] = 23, [8] = 52};
    uint64_t x = 0;
    memcpy(&x, p, size);
    x &= mask_low(size * 8 - 1);
    return x && !(x >> exponent_at[size]);
}

static bool has_tiny(const struct x86_cpu *c, const struct ir_vec *v, const uint8_t *mem)
{
    unsigned n = 0, size = result_lanes(v, &n);
    const uint8_t *p = size == 2 ? (v->size ? mem : c->vec[v->rm]) : c->vec[v->reg];
    for (unsigned i = 0; size && i < n; i++) {
        if (is_tiny(p + i * size, size)) {
            return true;
        }
    }
    return false;
}

/* Registers that an instruction may have changed. */
struct vectors {
    uint8_t vec[16][32], fx[512];
};

static void keep(struct x86_cpu *c, const struct ir_vec *v, struct vectors *k)
{
    memcpy(k->vec, c->vec, sizeof(k->vec));
    if (hostvec_info[v->id].flags & HVF_MMX) {
        c->rt.mem->fpu_get(&c->rt, k->fx);
    }
}

static void put_back(struct x86_cpu *c, const struct ir_vec *v, const struct vectors *k)
{
    memcpy(c->vec, k->vec, sizeof(k->vec));
    if (hostvec_info[v->id].flags & HVF_MMX) {
        c->rt.mem->fpu_set(&c->rt, k->fx);
    }
}

static bool run_simd(struct x86_cpu *c, const struct ir_vec *v, uint8_t *mem, uint64_t in,
                     uint64_t *out)
{
    struct vectors before;
    uint64_t old = c->mxcsr;
    unsigned on = ~(unsigned)(old >> MXCSR_MASK_SHIFT) & FP_ALL;
    keep(c, v, &before);
    /* FTZ counts only while underflow is masked (10.2.3.3) */
    c->mxcsr = old & ~(uint64_t)(FP_ALL | (on & FP_UE ? MXCSR_FTZ : 0));
    bool ok = c->rt.mem->vec(&c->rt, v, mem, in, out);
    unsigned raised = c->mxcsr & FP_ALL;
    c->mxcsr = old;
    if (!ok) {
        return false;
    }
    if ((on & FP_UE) && has_tiny(c, v, mem)) {
        raised |= FP_UE;
    }
    if (raised & on & (FP_IE | FP_DE | FP_ZE)) { /* then nothing is computed */
        raised &= FP_IE | FP_DE | FP_ZE;
    }
    c->mxcsr = old | raised;
    if (raised & on) {
        put_back(c, v, &before);
        x86_raise(c, c->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
        return false;
    }
    return true;
}

/* ---- x87 ---- */

/* *raised: the unmasked exceptions that the instruction leaves pending. */
static bool run_x87(struct x86_cpu *c, const struct ir_vec *v, uint8_t *mem, uint64_t in,
                    uint64_t *out, unsigned *raised)
{
    uint8_t fx[512];
    uint16_t cw = c->x87_cw;
    x86_get_x87(c, fx);
    bool idle = !is_pending(fx); /* else NE is 0 */
    if (idle) {
        c->rt.mem->fpu_set(&c->rt, fx);
    }
    bool ok = c->rt.mem->vec(&c->rt, v, mem, in, out);
    c->rt.mem->fpu_get(&c->rt, fx);
    fx[0] = (uint8_t)cw;
    fx[1] = (uint8_t)(cw >> 8);
    *raised = idle ? word_at(fx + 2) & ~(unsigned)cw & FP_ALL : 0;
    x86_set_x87(c, fx);
    return ok;
}

/* ---- the instruction ---- */

static void unpack(uint64_t args, struct x86_unmasked *u, struct ir_vec *v)
{
    memcpy(u, &args, sizeof(*u));
    *v = (struct ir_vec){.id = u->id,
                         .reg = u->reg,
                         .vvvv = u->vvvv,
                         .rm = u->rm,
                         .imm8 = u->imm8,
                         .reg_kind = u->reg_kind,
                         .rm_kind = u->rm_kind,
                         .size = u->size,
                         .result = u->result,
                         .vex = u->vex,
                         .l = u->l,
                         .w = u->w,
                         .has_imm = u->has_imm,
                         .store = u->store,
                         .load = u->load,
                         .aligned = u->aligned};
}

/* Reads the memory operand, or makes sure that it can be written. */
static bool open_memory(struct x86_cpu *c, const struct ir_vec *v, uint64_t va, uint8_t *mem)
{
    struct vcpu *cpu = c->rt.vcpu;
    void *host;
    if (v->aligned && (va & (v->size - 1u))) {
        x86_raise_error(c, EXC_GP, 0);
        return false;
    }
    if (v->load && !vmem_read(cpu, va, c->rt.mmu_idx, v->size, mem)) {
        return false;
    }
    return !v->store || (vmem_span(cpu, va, c->rt.mmu_idx, v->size, RT_WRITE, &host) >= 0 &&
                         vmem_span(cpu, va + v->size - 1, c->rt.mmu_idx, 1, RT_WRITE, &host) >= 0);
}

/* a: address, b: struct x86_unmasked, c: integer operand */
enum ir_helper_result helper_unmasked(struct rt_env *env, uint64_t va, uint64_t args, uint64_t in)
{
    struct x86_cpu *c = (struct x86_cpu *)env;
    uint8_t mem[64] __attribute__((aligned(64))) = {0};
    struct x86_unmasked u;
    struct ir_vec v;
    uint64_t out = 0;
    unsigned raised = 0;
    unpack(args, &u, &v);
    bool x87 = hostvec_info[v.id].flags & HVF_X87;
    if (x87 && !x86_check_x87(env, 0, 0, 0)) {
        return IR_HELPER_FAULT;
    }
    if (v.size && !open_memory(c, &v, va, mem)) {
        return IR_HELPER_FAULT;
    }
    bool ok = x87 ? run_x87(c, &v, mem, in, &out, &raised) : run_simd(c, &v, mem, in, &out);
    if (!ok) {
        return IR_HELPER_FAULT;
    }
    /* the x87 stores an inexact result, and none that another exception is about */
    if (v.store && !(raised & ~(unsigned)FP_PE)) {
        ok = vmem_write(env->vcpu, va, env->mmu_idx, v.size, mem);
    }
    if (v.result == IR_VEC_RFLAGS) { /* FCOMI leaves ZF, PF and CF when it is invalid (Vol. 2A) */
        uint32_t old = rt_flags_unpack(env->flags) & (FLAG_ZF | FLAG_PF | FLAG_CF);
        env->flags = rt_flags_pack(raised & FP_IE ? old : (uint32_t)out);
    } else if (v.result == IR_VEC_RINT) {
        env->reg[u.out] = u.out_size == 8 ? out : (uint32_t)out;
    }
    return ok ? IR_HELPER_NEXT : IR_HELPER_FAULT;
}
