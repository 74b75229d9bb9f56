/*
 * Random IR blocks, T1 against the interpreter: registers, flags (where the manual defines them),
 * memory, and where each run ends. An instruction that T1 leaves to the interpreter is stepped
 * there and T1 goes on behind it. Pages that fault, cross and are read-only come up by themselves.
 *
 * With TROUBLE, one in so many misses is not filled, or treated as a crossing access.
 *
 * usage: t1_test [FIRST_SEED [COUNT [INSNS [TROUBLE]]]]
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "ir/build.h"
#include "ir/host.h"
#include "ir/hostvec.h"
#include "ir/interp.h"
#include "jit/codemem.h"

#define NREGS 18
#define PAGES 8
#define MEM_BASE 0x7f0000ull
#define CODE_PC 0x400000ull
#define OUT_PC 0x900000ull

struct cpu {
    struct rt_env env;
    uint64_t extra[2];
    uint64_t mxcsr;
    uint8_t vec[16][32];
};

static const struct ir_reg regs[NREGS] = {
#define R(i, name, aff)                                                                            \
    {                                                                                              \
        name, offsetof(struct cpu, env.reg) + 8 * (i), aff                                         \
    }
    R(0, "rax", "rax"),
    R(1, "rcx", "rcx"),
    R(2, "rdx", "rdx"),
    R(3, "rbx", "rbx"),
    R(4, "rsp", "rsp"),
    R(5, "rbp", "rbp"),
    R(6, "rsi", "rsi"),
    R(7, "rdi", "rdi"),
    R(8, "r8", "r8"),
    R(9, "r9", "r9"),
    R(10, "r10", "r10"),
    R(11, "r11", NULL),
    R(12, "r12", NULL),
    R(13, "r13", NULL),
    R(14, "r14", NULL),
    R(15, "r15", NULL),
    {"x0", offsetof(struct cpu, extra[0]), NULL},
    {"x1", offsetof(struct cpu, extra[1]), NULL},
};

static enum ir_helper_result helper_mix(struct rt_env *env, uint64_t a, uint64_t b, uint64_t c)
{
    env->reg[0] = a + 3 * b + 5 * c + env->reg[1];
    return c & 1 ? IR_HELPER_NEXT : IR_HELPER_EXIT;
}

static const struct ir_helper helpers[] = {{"mix", helper_mix}};
static const struct ir_guest guest = {
    .regs = regs,
    .nregs = NREGS,
    .helpers = helpers,
    .nhelpers = 1,
    .vec_off = offsetof(struct cpu, vec),
    .mxcsr_off = offsetof(struct cpu, mxcsr),
};

/* The machine: PAGES pages at MEM_BASE; page 5 read-only, page 6 absent. */
struct machine {
    struct cpu *cpu;
    uint8_t *mem;
};
static struct machine *of_env; /* the one that runs */

static bool allowed(uint64_t va, unsigned access)
{
    uint64_t page = (va - MEM_BASE) >> RT_PAGE_BITS;
    return page < PAGES && page != 6 && !(page == 5 && (access & RT_WRITE));
}

static bool check(struct rt_env *env, uint64_t va, unsigned size, unsigned access)
{
    if (allowed(va, access) && allowed(va + size - 1, access)) {
        return true;
    }
    env->fault = (struct rt_fault){
        .kind = RT_FAULT_GUEST, .vector = 14, .addr = allowed(va, access) ? va + size - 1 : va};
    return false;
}

static struct {
    unsigned rate, kind; /* kind: 0 not filled, 1 treated as crossing */
    uint64_t n, injected[2];
} trouble;

static bool in_trouble(void)
{
    trouble.n = trouble.n * 6364136223846793005ull + 1442695040888963407ull;
    bool hit = trouble.rate && (trouble.n >> 40) % trouble.rate == 0;
    trouble.kind = trouble.n >> 39 & 1;
    trouble.injected[trouble.kind] += hit;
    return hit;
}

static bool t_resolve(struct rt_env *env, uint64_t va, unsigned size, unsigned access, void **host)
{
    *host = NULL;
    if (!check(env, va, size, access)) {
        return false;
    }
    if ((va ^ (va + size - 1)) >> RT_PAGE_BITS == 0) {
        bool bad = in_trouble();
        uint8_t *page = of_env->mem + ((va - MEM_BASE) & ~(uint64_t)(RT_PAGE_SIZE - 1));
        if (bad) {
            *host = trouble.kind ? NULL : page + (va & (RT_PAGE_SIZE - 1));
            return true;
        }
        struct rt_tlb_entry *e = rt_tlb_slot(env, 1, va);
        e->host = (uintptr_t)page;
        e->tag_r = va & ~(uint64_t)(RT_PAGE_SIZE - 1);
        e->tag_w = allowed(va, RT_WRITE) ? e->tag_r
                                         : rt_tlb_invalid((unsigned)(va >> 12) & (RT_TLB_SIZE - 1));
        *host = page + (va & (RT_PAGE_SIZE - 1));
    }
    return true;
}

static bool t_read(struct rt_env *env, uint64_t va, unsigned size, void *val)
{
    if (!check(env, va, size, RT_READ)) {
        return false;
    }
    memcpy(val, of_env->mem + (va - MEM_BASE), size);
    return true;
}

static bool t_write(struct rt_env *env, uint64_t va, unsigned size, const void *val)
{
    if (!check(env, va, size, RT_WRITE)) {
        return false;
    }
    memcpy(of_env->mem + (va - MEM_BASE), val, size);
    return true;
}

static void t_lock(struct rt_env *env)
{
}

static bool t_vec(struct rt_env *env, const struct ir_vec *v, void *mem, uint64_t in,
                  uint64_t *result)
{
    return ir_host_native()->vec_run(env, v, mem, in, result);
}

static const struct rt_mem_ops mem_ops = {t_resolve, t_read, t_write, t_lock, t_lock, t_vec};

/* Random numbers. */
static uint64_t rng;
static uint64_t rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng * 0x2545f4914f6cdd1dull;
}

static unsigned below(unsigned n)
{
    return (unsigned)(rnd() >> 33) % n;
}

static uint64_t interesting(void)
{
    static const uint64_t k[] = {0,
                                 1,
                                 2,
                                 0x7f,
                                 0x80,
                                 0xff,
                                 0x7fff,
                                 0x8000,
                                 0xffff,
                                 0x7fffffff,
                                 0x80000000,
                                 0xffffffff,
                                 0x7fffffffffffffff,
                                 0x8000000000000000,
                                 ~0ull};
    return below(3) ? k[below(ARRAY_LEN(k))] : rnd() >> below(64);
}

/* Generator: one guest instruction of random shape. */
struct gen {
    struct ir_block *b;
    uint32_t defined; /* flags with a defined value */
    unsigned k;
};

static ir_ref operand(struct gen *g, enum ir_type w)
{
    switch (below(8)) {
    case 0:
        return ir_const(g->b,
                        w == IR_I64 ? interesting() : interesting() & mask_low(ir_type_bits(w)));
    case 1: return ir_const(g->b, below(128));
    case 2:
        if (w == IR_I8) {
            return ir_getreg(g->b, IR_H8, below(4));
        } /* fall through */
    default: return ir_getreg(g->b, w, below(NREGS));
    }
}

static enum ir_type any_width(void)
{
    static const uint8_t w[] = {IR_I8, IR_I16, IR_I32, IR_I32, IR_I64, IR_I64};
    return w[below(6)];
}

static void set_reg(struct gen *g, enum ir_type w, ir_ref v)
{
    bool high = w == IR_I8 && below(4) == 0;
    ir_setreg(g->b, high ? IR_H8 : w, high ? below(4) : below(NREGS), v);
}

static void set_same(struct gen *g, enum ir_type w, unsigned r, ir_ref v)
{
    if (below(4)) {
        ir_setreg(g->b, w, r, v);
    } else {
        set_reg(g, w, v);
    }
}

static void set_flags(struct gen *g, ir_ref f, uint32_t defined)
{
    ir_set_flags(g->b, f);
    g->defined = defined;
}

#define NO_AF (FLAG_ALL & ~(uint32_t)FLAG_AF)
#define KEEPS(mask) ((g->defined & ~(uint32_t)(mask)) | (mask))

static void gen_alu(struct gen *g)
{
    static const uint8_t op[] = {IR_add, IR_sub, IR_and, IR_or, IR_xor, IR_adc, IR_sbb};
    static const uint8_t kind[] = {IR_FL_ADD,   IR_FL_SUB, IR_FL_LOGIC, IR_FL_LOGIC,
                                   IR_FL_LOGIC, IR_FL_ADC, IR_FL_SBB};
    unsigned n = below(7);
    if (n >= 5 && !(g->defined & FLAG_CF)) {
        n -= 5;
    }
    enum ir_type w = any_width();
    unsigned r = below(NREGS);
    ir_ref a = ir_getreg(g->b, w, r), b = operand(g, w),
           old = n >= 5 ? ir_get_flags(g->b) : IR_NONE;
    ir_ref v = ir_tri(g->b, op[n], w, a, b, old);
    bool logic = n >= 2 && n <= 4;
    ir_ref f = ir_flags(g->b, kind[n], w, logic ? v : a, logic ? IR_NONE : b, old, IR_NONE);
    set_same(g, w, r, v);
    if (below(8)) {
        set_flags(g, f, logic ? NO_AF : FLAG_ALL);
    }
}

static void gen_cmp(struct gen *g)
{
    enum ir_type w = any_width();
    ir_ref a = operand(g, w), b = operand(g, w);
    bool test = below(2);
    set_flags(g, ir_flags(g->b, test ? IR_FL_AND : IR_FL_SUB, w, a, b, IR_NONE, IR_NONE),
              test ? NO_AF : FLAG_ALL);
}

static void gen_incdec(struct gen *g)
{
    enum ir_type w = any_width();
    unsigned r = below(NREGS);
    bool dec = below(2);
    ir_ref a = ir_getreg(g->b, w, r), one = ir_const(g->b, 1), old = ir_get_flags(g->b);
    ir_ref v = ir_bin(g->b, dec ? IR_sub : IR_add, w, a, one);
    ir_ref f = ir_flags(g->b, dec ? IR_FL_DEC : IR_FL_INC, w, a, IR_NONE, old, IR_NONE);
    ir_setreg(g->b, w, r, v);
    set_flags(g, f, KEEPS(FLAG_ALL & ~(uint32_t)FLAG_CF));
}

static void gen_unary(struct gen *g)
{
    enum ir_type w = any_width();
    unsigned r = below(NREGS);
    ir_ref a = ir_getreg(g->b, w, r);
    if (below(2)) {
        set_same(g, w, r, ir_un(g->b, IR_not, w, a));
        return;
    }
    ir_ref v = ir_un(g->b, IR_neg, w, a);
    ir_ref f = ir_flags(g->b, IR_FL_SUB, w, ir_const(g->b, 0), a, IR_NONE, IR_NONE);
    set_same(g, w, r, v);
    set_flags(g, f, FLAG_ALL);
}

static void gen_shift(struct gen *g)
{
    static const uint8_t op[] = {IR_shl, IR_shr, IR_sar, IR_rol, IR_ror, IR_rcl, IR_rcr};
    unsigned n = below(7), r = below(NREGS);
    if (n >= 5 && !(g->defined & FLAG_CF)) {
        n -= 4;
    }
    enum ir_type w = any_width();
    ir_ref a = ir_getreg(g->b, w, r), c, old = ir_get_flags(g->b);
    bool one = below(3) == 0, fixed = below(2), set = below(3) != 0;
    unsigned cnt = one ? 1 : 1 + below(w == IR_I64 ? 63 : 31);
    if (n >= 5 && fixed && cnt % (ir_type_bits(w) + 1) == 0) {
        cnt = 1;
    }
    if (fixed) {
        c = ir_const(g->b, cnt);
    } else {
        ir_ref x = below(2) ? ir_getreg(g->b, IR_I8, 1) : ir_getreg(g->b, IR_I8, below(NREGS));
        c = ir_bin(g->b, IR_and, IR_I8, x, ir_const(g->b, w == IR_I64 ? 63 : 31));
    }
    ir_ref v = ir_tri(g->b, op[n], w, a, c, n >= 5 ? old : IR_NONE);
    ir_ref f = ir_flags(g->b, IR_FL_SHL + n, w, a, c, old, IR_NONE);
    set_same(g, w, r, v);
    if (set) {
        uint32_t of = fixed && cnt == 1 ? 0 : FLAG_OF;
        uint32_t cf = !fixed && n < 3 && w <= IR_I16            ? FLAG_CF
                      : fixed && n < 3 && cnt > ir_type_bits(w) ? FLAG_CF
                                                                : 0;
        uint32_t keep = n < 3 ? FLAG_ALL : FLAG_CF | FLAG_OF;
        uint32_t d = (KEEPS(keep)) & ~of & ~cf & ~(uint32_t)(n < 3 ? FLAG_AF : 0);
        if (!fixed) {
            d &= g->defined; /* the count may be 0 */
        }
        set_flags(g, f, d);
    }
}

static void gen_shiftd(struct gen *g)
{
    enum ir_type w = below(2) ? IR_I32 : IR_I64;
    unsigned r = below(NREGS), left = below(2);
    ir_ref a = ir_getreg(g->b, w, r), fill = ir_getreg(g->b, w, below(NREGS)),
           old = ir_get_flags(g->b), c;
    bool fixed = below(2);
    if (fixed) {
        c = ir_const(g->b, 1 + below(ir_type_bits(w) - 1));
    } else {
        c = ir_bin(g->b, IR_and, IR_I8, ir_getreg(g->b, IR_I8, below(3)),
                   ir_const(g->b, w == IR_I64 ? 63 : 31));
    }
    ir_ref v = ir_shiftd(g->b, left ? IR_shld : IR_shrd, w, a, fill, c);
    ir_ref f = ir_flags(g->b, left ? IR_FL_SHLD : IR_FL_SHRD, w, a, fill, old, c);
    ir_setreg(g->b, w, r, v);
    set_flags(g, f, (fixed ? FLAG_ALL : g->defined) & ~(uint32_t)(FLAG_OF | FLAG_AF));
}

static void gen_mul(struct gen *g)
{
    static const uint8_t ws[] = {IR_I16, IR_I32, IR_I64};
    enum ir_type w = ws[below(3)];
    unsigned r = below(NREGS);
    ir_ref a = ir_getreg(g->b, w, r), b = operand(g, w);
    bool sgn = below(2), wide = below(2);
    ir_ref lo = ir_bin(g->b, IR_mul, w, a, b);
    ir_ref hi = wide ? ir_bin(g->b, sgn ? IR_mulhs : IR_mulhu, w, a, b) : IR_NONE;
    ir_ref f = ir_flags(g->b, sgn ? IR_FL_MULS : IR_FL_MULU, w, a, b, IR_NONE, IR_NONE);
    ir_setreg(g->b, w, r, lo);
    if (wide) {
        ir_setreg(g->b, w, 2, hi);
    }
    set_flags(g, f, FLAG_CF | FLAG_OF);
}

static void gen_div(struct gen *g)
{
    enum ir_type w = any_width();
    bool sgn = below(2);
    ir_ref a = ir_getreg(g->b, w, 0), b = operand(g, w);
    ir_ref c = below(3) ? ir_const(g->b, 0) : ir_getreg(g->b, w, 2);
    ir_ref q = ir_tri(g->b, sgn ? IR_divs : IR_divu, w, a, b, c);
    ir_ref r = ir_tri(g->b, sgn ? IR_rems : IR_remu, w, a, b, c);
    ir_setreg(g->b, w, 0, q);
    ir_setreg(g->b, w, 2, r);
}

static struct ir_addr address(struct gen *g)
{
    struct ir_addr m = {.base = IR_NONE, .index = IR_NONE};
    unsigned page = below(16) ? below(5) : below(PAGES + 1);
    uint64_t want = MEM_BASE + page * RT_PAGE_SIZE +
                    (below(6) ? below(RT_PAGE_SIZE) : RT_PAGE_SIZE - 1 - below(4));
    /* r12 and rbx hold MEM_BASE + small, rsi small: kept by the generator */
    switch (below(4)) {
    case 0: m.disp = (int32_t)want; break;
    case 1:
        m.base = ir_getreg(g->b, IR_I64, 16);
        m.disp = (int32_t)(want - MEM_BASE);
        break;
    case 2:
        m.base = ir_bin(g->b, IR_and, IR_I64, ir_getreg(g->b, IR_I64, below(NREGS)),
                        ir_const(g->b, 0x3f));
        m.index = ir_getreg(g->b, IR_I64, 17);
        m.scale = 3;
        m.disp = (int32_t)(want - (MEM_BASE & ~0xfffffull));
        break;
    default:
        m.base = ir_const(g->b, want);
        if (below(2)) {
            m.index = ir_bin(g->b, IR_and, IR_I64, ir_getreg(g->b, IR_I64, below(NREGS)),
                             ir_const(g->b, 0xf));
            m.scale = (uint8_t)below(4);
        }
        break;
    }
    return m;
}

static void gen_load(struct gen *g)
{
    enum ir_type w = any_width();
    ir_ref v = ir_ld(g->b, w, address(g));
    if (w < IR_I64 && below(2)) {
        bool s = below(2);
        v = ir_ext(g->b, s ? IR_sext : IR_zext, IR_I64, w, v);
        ir_setreg(g->b, IR_I64, below(16), v);
    } else {
        ir_setreg(g->b, w, below(16), v);
    }
}

static void gen_load_alu(struct gen *g)
{
    enum ir_type w = any_width();
    unsigned r = below(16);
    ir_ref old = ir_get_flags(g->b);
    bool adc = below(2) && (g->defined & FLAG_CF);
    ir_ref m = ir_ld(g->b, w, address(g)), a = ir_getreg(g->b, w, r);
    ir_ref v = ir_tri(g->b, adc ? IR_adc : IR_sub, w, a, m, adc ? old : IR_NONE);
    ir_ref f = ir_flags(g->b, adc ? IR_FL_ADC : IR_FL_SUB, w, a, m, adc ? old : IR_NONE, IR_NONE);
    ir_setreg(g->b, w, r, v);
    set_flags(g, f, FLAG_ALL);
}

static void gen_store(struct gen *g)
{
    enum ir_type w = any_width();
    ir_ref v = operand(g, w);
    if ((g->defined & FLAG_ALL) == FLAG_ALL && below(4) == 0) {
        w = IR_I8;
        v = ir_setcc(g->b, below(16), ir_get_flags(g->b));
    }
    ir_st(g->b, w, address(g), v);
}

static void gen_push(struct gen *g)
{
    ir_ref v = operand(g, IR_I64);
    ir_ref sp = ir_getreg(g->b, IR_I64, 4);
    ir_st(g->b, IR_I64, (struct ir_addr){.base = sp, .index = IR_NONE, .disp = -8}, v);
    ir_setreg(g->b, IR_I64, 4, ir_bin(g->b, IR_sub, IR_I64, sp, ir_const(g->b, 8)));
}

static void gen_pop(struct gen *g)
{
    ir_ref sp = ir_getreg(g->b, IR_I64, 4);
    ir_ref v = ir_ld(g->b, IR_I64, (struct ir_addr){.base = sp, .index = IR_NONE});
    ir_setreg(g->b, IR_I64, 4, ir_bin(g->b, IR_add, IR_I64, sp, ir_const(g->b, 8)));
    ir_setreg(g->b, IR_I64, below(16), v);
}

static void gen_rmw(struct gen *g)
{
    enum ir_type w = any_width();
    bool lock = below(2);
    ir_ref c = operand(g, w), f = IR_NONE, zero;
    unsigned n = below(10);
    uint32_t d = FLAG_ALL;
    ir_ref old = ir_get_flags(g->b);
    struct ir_addr m = address(g);
    ir_ref v;
    switch (n) {
    case 0:
        v = ir_rmw(g->b, IR_RMW_ADD, w, m, c, IR_NONE, lock);
        f = ir_flags(g->b, IR_FL_ADD, w, v, c, IR_NONE, IR_NONE);
        if (below(2)) {
            ir_setreg(g->b, w, below(16), v);
        }
        break;
    case 1:
        v = ir_rmw(g->b, IR_RMW_SUB, w, m, c, IR_NONE, lock);
        f = ir_flags(g->b, IR_FL_SUB, w, v, c, IR_NONE, IR_NONE);
        break;
    case 2:
    case 3:
    case 4:
        v = ir_rmw(g->b,
                   n == 2   ? IR_RMW_AND
                   : n == 3 ? IR_RMW_OR
                            : IR_RMW_XOR,
                   w, m, c, IR_NONE, lock);
        v = ir_bin(g->b, n == 2 ? IR_and : n == 3 ? IR_or : IR_xor, w, v, c);
        f = ir_flags(g->b, IR_FL_LOGIC, w, v, IR_NONE, IR_NONE, IR_NONE);
        d = NO_AF;
        break;
    case 5:
        ir_setreg(g->b, w, below(16), ir_rmw(g->b, IR_RMW_XCHG, w, m, c, IR_NONE, true));
        return;
    case 6:
        if (!(g->defined & FLAG_CF)) {
            return;
        }
        v = ir_rmw(g->b, below(2) ? IR_RMW_ADC : IR_RMW_SBB, w, m, c, old, lock);
        f = ir_flags(g->b, IR_AUX_RMW(g->b->op[v].aux) == IR_RMW_ADC ? IR_FL_ADC : IR_FL_SBB, w, v,
                     c, old, IR_NONE);
        break;
    case 7:
        v = ir_rmw(g->b, IR_RMW_NEG, w, m, IR_NONE == 0 ? c : ir_const(g->b, 0), IR_NONE, lock);
        zero = ir_const(g->b, 0);
        f = ir_flags(g->b, IR_FL_SUB, w, zero, v, IR_NONE, IR_NONE);
        break;
    case 8: ir_rmw(g->b, IR_RMW_NOT, w, m, ir_const(g->b, 0), IR_NONE, lock); return;
    default:
        v = ir_rmw(g->b, IR_RMW_ADD, w, m, ir_const(g->b, 1), IR_NONE, lock);
        f = ir_flags(g->b, IR_FL_INC, w, v, IR_NONE, old, IR_NONE);
        d = KEEPS(FLAG_ALL & ~(uint32_t)FLAG_CF);
        break;
    }
    set_flags(g, f, d);
}

/* ldw .. st of the same place, and atomic ops whose old value is wanted */
static void gen_ldw(struct gen *g)
{
    enum ir_type w = any_width();
    struct ir_addr m = address(g);
    ir_ref c = operand(g, w);
    if (below(2)) {
        static const uint8_t ops[] = {IR_RMW_AND, IR_RMW_OR, IR_RMW_XOR, IR_RMW_ANDN, IR_RMW_SUB};
        ir_ref old = ir_rmw(g->b, ops[below(5)], w, m, c, IR_NONE, below(2));
        ir_ref of = ir_get_flags(g->b);
        if (w == IR_I8 || below(2)) {
            ir_setreg(g->b, w, below(16), old);
            return;
        }
        ir_ref f = ir_flags(g->b, IR_FL_BT, w, old, operand(g, w), of, IR_NONE);
        set_flags(g, f, KEEPS(FLAG_CF));
        return;
    }
    ir_ref a = ir_ldw(g->b, w, m), n = ir_const(g->b, 1 + below(7));
    ir_ref v = ir_bin(g->b, IR_shl, w, a, n);
    ir_ref f = ir_flags(g->b, IR_FL_SHL, w, a, n, IR_NONE, IR_NONE);
    ir_st(g->b, w, m, v);
    set_flags(g, f, FLAG_ALL & ~(uint32_t)(FLAG_AF | FLAG_OF));
}

static void gen_cmpxchg(struct gen *g)
{
    enum ir_type w = any_width();
    ir_ref acc = below(2) ? ir_getreg(g->b, w, 0) : ir_const(g->b, 0), d = operand(g, w);
    ir_ref old = ir_cmpxchg(g->b, w, address(g), acc, d, below(2));
    ir_ref f = ir_flags(g->b, IR_FL_SUB, w, acc, old, IR_NONE, IR_NONE);
    ir_ref eq = ir_bin(g->b, IR_seteq, w, acc, old);
    (void)eq;
    ir_setreg(g->b, w, 0, old);
    set_flags(g, f, FLAG_ALL);
}

static void gen_xchg(struct gen *g)
{
    enum ir_type w = any_width();
    unsigned r = below(16), s = below(16);
    ir_ref a = ir_getreg(g->b, w, r), b = ir_getreg(g->b, w, s);
    ir_setreg(g->b, w, r, b);
    ir_setreg(g->b, w, s, a);
}

static bool cc_defined(const struct gen *g, unsigned cc)
{
    static const uint32_t need[8] = {
        FLAG_OF, FLAG_CF, FLAG_ZF,           FLAG_CF | FLAG_ZF,
        FLAG_SF, FLAG_PF, FLAG_SF | FLAG_OF, FLAG_SF | FLAG_OF | FLAG_ZF};
    return (need[cc >> 1] & ~g->defined) == 0;
}

static void gen_cond(struct gen *g)
{
    unsigned cc = below(16);
    if (!cc_defined(g, cc)) {
        cc = IR_CC_E | (cc & 1);
        if (!cc_defined(g, cc)) {
            return;
        }
    }
    ir_ref f = ir_get_flags(g->b);
    if (below(3) == 0) {
        ir_brcc(g->b, cc, f, OUT_PC + g->k);
    } else if (below(2)) {
        set_reg(g, IR_I8, ir_setcc(g->b, cc, f));
    } else {
        static const uint8_t ws[] = {IR_I16, IR_I32, IR_I64};
        enum ir_type w = ws[below(3)];
        unsigned r = below(16);
        ir_ref yes = operand(g, w), no = ir_getreg(g->b, w, r);
        set_same(g, w, r, ir_select(g->b, w, cc, f, yes, no));
    }
}

static void gen_misc(struct gen *g)
{
    enum ir_type w = below(2) ? IR_I32 : IR_I64;
    unsigned r = below(16), n = below(11);
    ir_ref a = ir_getreg(g->b, w, below(NREGS)), v = IR_NONE, b, c;
    switch (n) {
    case 0: v = ir_un(g->b, IR_bswap, w, a); break;
    case 1: v = ir_un(g->b, IR_popcnt, w, a); break;
    case 2: v = ir_un(g->b, below(2) ? IR_clz : IR_ctz, w, a); break;
    case 3: v = ir_bin(g->b, below(2) ? IR_pdep : IR_pext, w, a, operand(g, w)); break;
    case 4:
        v = ir_ext(g->b, IR_sext, IR_I64, IR_I32, a);
        w = IR_I64;
        break;
    case 5:
        v = ir_ext(g->b, IR_zext, w, IR_I8, ir_getreg(g->b, below(2) ? IR_H8 : IR_I8, below(4)));
        break;
    case 6: v = ir_ext(g->b, IR_sext, w, IR_I16, ir_getreg(g->b, IR_I16, below(16))); break;
    case 7:
        b = operand(g, w);
        v = ir_bin(g->b, IR_seteq + below(3), w, a, b);
        w = IR_I8;
        break;
    case 8: {
        struct ir_addr m = {.base = a,
                            .index = below(2) ? ir_getreg(g->b, w, below(16)) : IR_NONE,
                            .scale = (uint8_t)below(4),
                            .disp = (int32_t)rnd()};
        v = ir_lea(g->b, w, m);
        break;
    }
    case 9:
        b = operand(g, w);
        c = ir_getreg(g->b, IR_I8, below(16));
        v = ir_tri(g->b, IR_selnz, w, c, a, b);
        break;
    default:
        v = ir_bin(g->b, IR_crc32c, below(2) ? IR_I8 : IR_I32, a, operand(g, IR_I32));
        w = IR_I32;
        break;
    }
    ir_setreg(g->b, w, r, v);
}

static void gen_flagop(struct gen *g)
{
    ir_ref old = ir_get_flags(g->b), f, a;
    enum ir_type w = below(2) ? IR_I32 : IR_I64;
    switch (below(5)) {
    case 0:
        f = ir_flags(g->b, IR_FL_CARRY, IR_I8, ir_const(g->b, below(2)), IR_NONE, old, IR_NONE);
        set_flags(g, f, KEEPS(FLAG_CF));
        break;
    case 1:
        if (!(g->defined & FLAG_CF)) {
            break;
        }
        f = ir_flags(g->b, IR_FL_CARRY, IR_I8, ir_setcc(g->b, IR_CC_AE, old), IR_NONE, old,
                     IR_NONE);
        set_flags(g, f, KEEPS(FLAG_CF));
        break;
    case 2:
        a = ir_getreg(g->b, w, below(16));
        f = ir_flags(g->b, IR_FL_BT, w, a, operand(g, w), old, IR_NONE);
        set_flags(g, f, KEEPS(FLAG_CF));
        break;
    case 3:
        f = ir_flags(g->b, IR_FL_IMAGE, IR_I32, ir_getreg(g->b, IR_I64, below(16)), IR_NONE,
                     IR_NONE, IR_NONE);
        set_flags(g, f, FLAG_ALL);
        break;
    default:
        if (g->defined != FLAG_ALL) {
            break;
        }
        ir_setreg(g->b, IR_I64, below(16),
                  ir_emit(g->b, (struct ir_op){.op = IR_flagbits,
                                               .type = IR_I64,
                                               .a = old,
                                               .b = IR_NONE,
                                               .c = IR_NONE,
                                               .d = IR_NONE}));
        break;
    }
}

#define VEC_NOT (HVF_VSIB | HVF_FLAGS_IN | HVF_RDI | HVF_AXDX | HVF_CX_W | HVF_X87 | HVF_MMX)

static bool vec_form(struct ir_vec *v)
{
    const struct hostvec_info *h = &hostvec_info[v->id];
    bool kinds_ok = h->reg_kind != HVK_MMX && h->rm_kind != HVK_MMX;
    if (!h->name || (h->flags & VEC_NOT) || !kinds_ok) {
        return false;
    }
    unsigned forms[3], n = 0;
    if (h->flags & HVF_LEGACY) {
        forms[n++] = 0;
    }
    if (h->flags & HVF_VEX128) {
        forms[n++] = 1;
    }
    if (h->flags & HVF_VEX256) {
        forms[n++] = 2;
    }
    if (n == 0) {
        return false;
    }
    unsigned form = forms[below(n)];
    v->vex = form > 0;
    v->l = form == 2;
    bool can_mem = h->flags & HVF_RM_MEM, can_reg = h->flags & HVF_RM_REG;
    if (!can_mem && !can_reg && !(h->flags & HVF_ALL)) {
        return false;
    }
    bool mem = can_mem && (!can_reg || below(2));
    static const uint8_t kind[] = {[HVK_NONE] = IR_VEC_NO,
                                   [HVK_VEC] = IR_VEC_REG,
                                   [HVK_MMX] = IR_VEC_MMX,
                                   [HVK_ST] = IR_VEC_ST,
                                   [HVK_INT] = IR_VEC_INT};
    v->w = h->w == HV_W_OPERAND ? below(2) : h->w;
    v->reg_kind = kind[h->reg_kind];
    v->rm_kind = mem ? IR_VEC_MEM : kind[h->rm_kind];
    v->reg = (uint8_t)below(16);
    v->rm = (uint8_t)below(16);
    v->vvvv = (uint8_t)below(16);
    v->imm8 = (uint8_t)rnd();
    v->has_imm = h->flags & (HVF_IMM8 | HVF_IS4);
    if (mem && (h->opcode == 0x10 || h->opcode == 0x11) && h->map == 1) {
        v->vvvv = 0; /* MOVSS, MOVSD merge between registers only */
    }
    if (mem) {
        v->size = h->mem_size[v->l] ? h->mem_size[v->l] : v->w ? 8 : 4;
        v->store = h->flags & HVF_STORE;
        v->load = h->flags & HVF_LOAD;
        v->aligned = h->flags & (v->vex ? HVF_VALIGN : HVF_ALIGN);
    }
    return true;
}

static void gen_vec(struct gen *g)
{
    struct ir_vec v = {0};
    do {
        v = (struct ir_vec){.id = (uint16_t)(1 + below(HV_COUNT - 1))};
    } while (!vec_form(&v));
    const struct hostvec_info *h = &hostvec_info[v.id];
    bool is_int = v.reg_kind == IR_VEC_INT || v.rm_kind == IR_VEC_INT;
    struct ir_addr m = {.base = IR_NONE, .index = IR_NONE};
    if (v.size) {
        m = address(g);
        if (v.aligned && below(8)) {
            m = (struct ir_addr){.base = ir_const(g->b, MEM_BASE + 64 * below(5 * 64)),
                                 .index = IR_NONE};
        }
    }
    ir_ref in = is_int && (h->flags & HVF_INT_IN) ? ir_getreg(g->b, IR_I64, below(16)) : IR_NONE;
    v.result = h->flags & HVF_FLAGS                 ? IR_VEC_RFLAGS
               : is_int && (h->flags & HVF_INT_OUT) ? IR_VEC_RINT
                                                    : IR_VEC_RNONE;
    ir_ref r = ir_vec_op(g->b, &v, m, in);
    if (v.result == IR_VEC_RINT) {
        ir_setreg(g->b, IR_I64, below(16), r);
    } else if (v.result == IR_VEC_RFLAGS) {
        set_flags(g, r, FLAG_ALL);
    }
}

static void (*const gens[])(struct gen *) = {
    gen_alu,    gen_alu,  gen_alu,  gen_cmp,     gen_cmp,  gen_incdec,   gen_unary, gen_shift,
    gen_shiftd, gen_mul,  gen_div,  gen_load,    gen_load, gen_load_alu, gen_store, gen_store,
    gen_push,   gen_pop,  gen_rmw,  gen_cmpxchg, gen_ldw,  gen_xchg,     gen_cond,  gen_cond,
    gen_cond,   gen_misc, gen_misc, gen_flagop,  gen_vec,  gen_vec,
};

static void gen_end(struct gen *g)
{
    switch (below(3)) {
    case 0: ir_jump(g->b, OUT_PC + 0x1000); break;
    case 1: ir_jumpi(g->b, IR_HINT_NONE, ir_getreg(g->b, IR_I64, below(16)), 0); break;
    default:
        ir_helper(g->b, 0, operand(g, IR_I64), operand(g, IR_I64), ir_const(g->b, below(2)),
                  OUT_PC + 0x2000);
        break;
    }
}

/* The program of a seed from instruction `from` on; flags' definedness as if run from 0. */
static uint32_t build(struct ir_block *b, uint64_t seed, unsigned from, unsigned insns)
{
    struct gen g = {.b = b, .defined = FLAG_ALL};
    ir_begin(b, &guest, CODE_PC + from, 1);
    for (unsigned k = 0; k <= insns; k++) {
        if (k == from) {
            ir_begin(b, &guest, CODE_PC + from, 1);
        }
        rng = seed * 0x9e3779b97f4a7c15ull + k * 0xd1342543de82ef95ull + 1;
        rnd();
        g.k = k;
        ir_insn(b, CODE_PC + k, 1);
        if (k == insns) {
            gen_end(&g);
        } else {
            gens[below(ARRAY_LEN(gens))](&g);
        }
    }
    return g.defined;
}

struct stats {
    unsigned long steps, insns, bytes, faults;
    unsigned long step_op[IR_OPCODES];
};

struct bench {
    struct codemem cm;
    const struct ir_host *host;
    struct ir_host_ctx *ctx;
    struct ir_buf buf;
    struct ir_block *block;
    struct stats st;
};

static void init_state(struct machine *m, uint64_t seed)
{
    rng = seed | 1;
    memset(&m->cpu->env, 0, offsetof(struct rt_env, mem));
    for (unsigned i = 0; i < 16; i++) {
        m->cpu->env.reg[i] = interesting();
    }
    m->cpu->extra[0] = MEM_BASE;
    m->cpu->extra[1] = MEM_BASE & 0xf0000 ? (MEM_BASE & 0xfffff) / 8 : 0;
    m->cpu->env.reg[4] = MEM_BASE + 2 * RT_PAGE_SIZE + 8 * below(600);
    m->cpu->env.flags = rt_flags_pack((uint32_t)rnd());
    m->cpu->env.mem = &mem_ops;
    for (unsigned i = 0; i < RT_TLB_SIZE; i++) {
        for (unsigned k = 0; k < RT_MODES; k++) {
            m->cpu->env.tlb[k][i].tag_r = m->cpu->env.tlb[k][i].tag_w = rt_tlb_invalid(i);
        }
    }
    for (unsigned i = 0; i < 16 * 32; i++) {
        m->cpu->vec[i / 32][i % 32] = (uint8_t)(rnd() >> 40);
    }
    m->cpu->mxcsr = 0x1f80 | (below(4) << 13);
    for (unsigned i = 0; i < PAGES * RT_PAGE_SIZE; i++) {
        m->mem[i] = (uint8_t)(rnd() >> 40);
    }
}

static enum rt_exit run_t0(struct bench *bn, struct machine *m, uint64_t seed, unsigned insns)
{
    of_env = m;
    build(bn->block, seed, 0, insns);
    return ir_interp(&m->cpu->env, bn->block);
}

static void note_step(struct bench *bn, const struct ir_block *b, uint64_t pc)
{
    bn->st.steps++;
    bool in = false;
    for (unsigned i = 0; i < b->nops; i++) {
        if (b->op[i].op == IR_insn) {
            in = b->target[b->op[i].imm] == pc;
        } else if (in) {
            bn->st.step_op[b->op[i].op]++;
        }
    }
}

static enum rt_exit run_t1(struct bench *bn, struct machine *m, uint64_t seed, unsigned insns)
{
    struct rt_env *env = &m->cpu->env;
    struct ir_code code;
    unsigned from = 0;
    of_env = m;
    for (;;) {
        build(bn->block, seed, from, insns);
        if (seed & 1) {
            ir_optimize(bn->block);
        }
        if (!codemem_has_room(&bn->cm)) {
            codemem_advance(&bn->cm);
        }
        assert(bn->host->emit(bn->ctx, bn->block, &bn->cm.cur, &code));
        bn->st.insns += code.ninsns;
        bn->st.bytes += code.hot_size;
        enum rt_exit e = bn->host->enter(bn->ctx, env, code.entry);
        if (e == RT_EXIT_FAULT) {
            bn->st.faults++;
        }
        if (e != RT_EXIT_STEP) {
            return e;
        }
        note_step(bn, bn->block, env->pc);
        from = (unsigned)(env->pc - CODE_PC);
        build(bn->block, seed, from, insns);
        env->step_insns = 1;
        e = ir_interp(env, bn->block);
        env->step_insns = 0;
        if (e != RT_EXIT_JUMP || env->pc != CODE_PC + from + 1) {
            return e;
        }
        from++;
    }
}

static bool differ(const struct machine *a, const struct machine *b, enum rt_exit ea,
                   enum rt_exit eb, uint32_t defined, bool verbose)
{
    bool bad = false;
    const struct rt_env *x = &a->cpu->env, *y = &b->cpu->env;
    eb = eb == RT_EXIT_LINK ? RT_EXIT_JUMP : eb;
#define SAY(...)                                                                                   \
    do {                                                                                           \
        bad = true;                                                                                \
        if (verbose) {                                                                             \
            printf(__VA_ARGS__);                                                                   \
        }                                                                                          \
    } while (0)
    if (ea != eb || x->pc != y->pc) {
        SAY("  exit %d at %lx, T1 %d at %lx\n", ea, x->pc, eb, y->pc);
    }
    for (unsigned i = 0; i < 16; i++) {
        if (x->reg[i] != y->reg[i]) {
            SAY("  %s: %lx, T1 %lx\n", regs[i].name, x->reg[i], y->reg[i]);
        }
    }
    for (unsigned i = 0; i < 16; i++) {
        if (memcmp(a->cpu->vec[i], b->cpu->vec[i], 32) != 0) {
            SAY("  vector register %u\n", i);
        }
    }
    if (a->cpu->mxcsr != b->cpu->mxcsr) {
        SAY("  mxcsr %lx, T1 %lx\n", a->cpu->mxcsr, b->cpu->mxcsr);
    }
    if (memcmp(a->cpu->extra, b->cpu->extra, 16) != 0) {
        SAY("  extra registers\n");
    }
    uint32_t fx = rt_flags_unpack(x->flags) & defined, fy = rt_flags_unpack(y->flags) & defined;
    if (ea != RT_EXIT_FAULT && fx != fy) {
        SAY("  flags %x, T1 %x (defined %x)\n", fx, fy, defined);
    }
    if (ea == RT_EXIT_FAULT && (x->fault.kind != y->fault.kind || x->fault.addr != y->fault.addr)) {
        SAY("  fault address %lx, T1 %lx\n", x->fault.addr, y->fault.addr);
    }
    for (unsigned i = 0; i < PAGES * RT_PAGE_SIZE; i++) {
        if (a->mem[i] != b->mem[i]) {
            SAY("  memory at %llx: %x, T1 %x\n", MEM_BASE + i, a->mem[i], b->mem[i]);
            break;
        }
    }
    return bad;
}

static uint32_t defined_at(struct bench *bn, uint64_t seed, uint64_t pc, unsigned insns)
{
    /* an exit in the middle: what is defined there is what the instructions before it left */
    if (pc >= OUT_PC && pc < OUT_PC + 0x1000) {
        struct gen g = {.b = bn->block, .defined = FLAG_ALL};
        ir_begin(bn->block, &guest, CODE_PC, 1);
        for (unsigned k = 0; k < pc - OUT_PC; k++) {
            rng = seed * 0x9e3779b97f4a7c15ull + k * 0xd1342543de82ef95ull + 1;
            rnd();
            g.k = k;
            ir_insn(bn->block, CODE_PC + k, 1);
            gens[below(ARRAY_LEN(gens))](&g);
        }
        return g.defined;
    }
    return build(bn->block, seed, 0, insns);
}

static bool one(struct bench *bn, struct machine *m0, struct machine *m1, uint64_t seed,
                unsigned insns, bool verbose)
{
    init_state(m0, seed * 77 + 5);
    init_state(m1, seed * 77 + 5);
    trouble.n = seed;
    enum rt_exit e0 = run_t0(bn, m0, seed, insns);
    enum rt_exit e1 = run_t1(bn, m1, seed, insns);
    uint32_t defined = defined_at(bn, seed, m0->cpu->env.pc, insns);
    return differ(m0, m1, e0, e1, defined, verbose);
}

static void report(struct bench *bn, struct machine *m0, struct machine *m1, uint64_t seed,
                   unsigned insns)
{
    while (insns > 1 && one(bn, m0, m1, seed, insns - 1, false)) {
        insns--;
    }
    printf("seed %lu with %u instructions:\n", seed, insns);
    one(bn, m0, m1, seed, insns, true);
    struct strbuf sb = {0};
    build(bn->block, seed, 0, insns);
    if (seed & 1) {
        ir_optimize(bn->block);
    }
    ir_print(&sb, bn->block);
    printf("%s\n", strbuf_text(&sb));
    struct ir_code code;
    bn->host->emit(bn->ctx, bn->block, &bn->cm.cur, &code);
    FILE *f = fopen("t1_test.bin", "wb");
    fwrite(code.hot, 1, code.hot_size, f);
    fclose(f);
    init_state(m0, seed * 77 + 5);
    for (unsigned i = 0; i < 16; i++) {
        printf("%s=%lx ", regs[i].name, m0->cpu->env.reg[i]);
    }
    printf("flags=%x\n", rt_flags_unpack(m0->cpu->env.flags));
}

static struct machine new_machine(void)
{
    size_t size = (sizeof(struct cpu) + 63) & ~63ul;
    struct machine m = {.cpu = aligned_alloc(64, size),
                        .mem = aligned_alloc(4096, PAGES * RT_PAGE_SIZE)};
    assert(m.cpu && m.mem);
    memset(m.cpu, 0, size);
    return m;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 20000;
    unsigned insns = argc > 3 ? (unsigned)atoi(argv[3]) : 12;
    trouble.rate = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
    struct bench *bn = calloc(1, sizeof(*bn));
    struct err err;
    bn->block = ir_buf_init(&bn->buf);
    bn->host = ir_host_native();
    if (!bn->host) {
        return 77;
    }
    assert(codemem_open(&bn->cm, 4 * CODEMEM_ARENA, &err) == 0);
    struct ir_host_config cfg = {
        .guest = &guest, .code_lo = bn->cm.rx, .code_hi = bn->cm.rx + bn->cm.size};
    bn->ctx = bn->host->open(&cfg, &bn->cm.cur, &err);
    assert(bn->ctx);
    codemem_keep(&bn->cm);
    struct machine m0 = new_machine(), m1 = new_machine();
    assert(ir_host_signals(&err) == 0 && bn->host->attach(bn->ctx, &m1.cpu->env, &err) == 0);
    m0.cpu->env.host = bn->ctx;
    unsigned bad = 0;
    for (uint64_t s = first; s < first + count && bad < 3; s++) {
        if (one(bn, &m0, &m1, s, insns, false)) {
            report(bn, &m0, &m1, s, insns);
            bad++;
        }
    }
    printf("%lu instructions, %lu faults, %.1f host bytes each, %lu steps\n", bn->st.insns,
           bn->st.faults, (double)bn->st.bytes / (double)(bn->st.insns + 1), bn->st.steps);
    if (trouble.rate) {
        printf("injected: %lu not filled, %lu as crossing\n", trouble.injected[0],
               trouble.injected[1]);
    }
    for (unsigned i = 0; i < IR_OPCODES; i++) {
        if (bn->st.step_op[i] > bn->st.steps / 50 && i != IR_getreg && i != IR_setreg &&
            i != IR_const) {
            printf("  steps with %s: %lu\n", ir_op_info[i].name, bn->st.step_op[i]);
        }
    }
    bn->host->detach(bn->ctx);
    bn->host->close(bn->ctx);
    codemem_close(&bn->cm);
    free(m0.cpu);
    free(m0.mem);
    free(m1.cpu);
    free(m1.mem);
    free(bn);
    return bad != 0;
}
