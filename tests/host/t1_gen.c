#include "tests/host/t1_gen.h"

#include "base/bits.h"
#include "ir/hostvec.h"
#include "ir/rt.h"

uint64_t t1_rnd(struct gen *g)
{
    g->rng ^= g->rng << 13;
    g->rng ^= g->rng >> 7;
    g->rng ^= g->rng << 17;
    return g->rng * 0x2545f4914f6cdd1dull;
}

unsigned t1_below(struct gen *g, unsigned n)
{
    return (unsigned)(t1_rnd(g) >> 33) % n;
}

uint64_t t1_interesting(struct gen *g)
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
    return t1_below(g, 3) ? k[t1_below(g, ARRAY_LEN(k))] : t1_rnd(g) >> t1_below(g, 64);
}

static ir_ref operand(struct gen *g, enum ir_type w)
{
    switch (t1_below(g, 8)) {
    case 0:
        return ir_const(g->b, w == IR_I64 ? t1_interesting(g)
                                          : t1_interesting(g) & mask_low(ir_type_bits(w)));
    case 1: return ir_const(g->b, t1_below(g, 128));
    case 2:
        if (w == IR_I8) {
            return ir_getreg(g->b, IR_H8, t1_below(g, 4));
        } /* fall through */
    default: return ir_getreg(g->b, w, t1_below(g, NREGS));
    }
}

static enum ir_type any_width(struct gen *g)
{
    static const uint8_t w[] = {IR_I8, IR_I16, IR_I32, IR_I32, IR_I64, IR_I64};
    return w[t1_below(g, 6)];
}

static void set_reg(struct gen *g, enum ir_type w, ir_ref v)
{
    bool high = w == IR_I8 && t1_below(g, 4) == 0;
    ir_setreg(g->b, high ? IR_H8 : w, high ? t1_below(g, 4) : t1_below(g, NREGS), v);
}

static void set_same(struct gen *g, enum ir_type w, unsigned r, ir_ref v)
{
    if (t1_below(g, 4)) {
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
    unsigned n = t1_below(g, 7);
    if (n >= 5 && !(g->defined & FLAG_CF)) {
        n -= 5;
    }
    enum ir_type w = any_width(g);
    unsigned r = t1_below(g, NREGS);
    ir_ref a = ir_getreg(g->b, w, r), b = operand(g, w),
           old = n >= 5 ? ir_get_flags(g->b) : IR_NONE;
    ir_ref v = ir_tri(g->b, op[n], w, a, b, old);
    bool logic = n >= 2 && n <= 4;
    ir_ref f = ir_flags(g->b, kind[n], w, logic ? v : a, logic ? IR_NONE : b, old, IR_NONE);
    set_same(g, w, r, v);
    if (t1_below(g, 8)) {
        set_flags(g, f, logic ? NO_AF : FLAG_ALL);
    }
}

static void gen_cmp(struct gen *g)
{
    enum ir_type w = any_width(g);
    ir_ref a = operand(g, w), b = operand(g, w);
    bool test = t1_below(g, 2);
    set_flags(g, ir_flags(g->b, test ? IR_FL_AND : IR_FL_SUB, w, a, b, IR_NONE, IR_NONE),
              test ? NO_AF : FLAG_ALL);
}

static void gen_incdec(struct gen *g)
{
    enum ir_type w = any_width(g);
    unsigned r = t1_below(g, NREGS);
    bool dec = t1_below(g, 2);
    ir_ref a = ir_getreg(g->b, w, r), one = ir_const(g->b, 1), old = ir_get_flags(g->b);
    ir_ref v = ir_bin(g->b, dec ? IR_sub : IR_add, w, a, one);
    ir_ref f = ir_flags(g->b, dec ? IR_FL_DEC : IR_FL_INC, w, a, IR_NONE, old, IR_NONE);
    ir_setreg(g->b, w, r, v);
    set_flags(g, f, KEEPS(FLAG_ALL & ~(uint32_t)FLAG_CF));
}

static void gen_unary(struct gen *g)
{
    enum ir_type w = any_width(g);
    unsigned r = t1_below(g, NREGS);
    ir_ref a = ir_getreg(g->b, w, r);
    if (t1_below(g, 2)) {
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
    unsigned n = t1_below(g, 7), r = t1_below(g, NREGS);
    if (n >= 5 && !(g->defined & FLAG_CF)) {
        n -= 4;
    }
    enum ir_type w = any_width(g);
    ir_ref a = ir_getreg(g->b, w, r), c, old = ir_get_flags(g->b);
    bool one = t1_below(g, 3) == 0, fixed = t1_below(g, 2), set = t1_below(g, 3) != 0;
    unsigned cnt = one ? 1 : 1 + t1_below(g, w == IR_I64 ? 63 : 31);
    if (n >= 5 && fixed && cnt % (ir_type_bits(w) + 1) == 0) {
        cnt = 1;
    }
    if (fixed) {
        c = ir_const(g->b, cnt);
    } else {
        ir_ref x =
            t1_below(g, 2) ? ir_getreg(g->b, IR_I8, 1) : ir_getreg(g->b, IR_I8, t1_below(g, NREGS));
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
    enum ir_type w = t1_below(g, 2) ? IR_I32 : IR_I64;
    unsigned r = t1_below(g, NREGS), left = t1_below(g, 2);
    ir_ref a = ir_getreg(g->b, w, r), fill = ir_getreg(g->b, w, t1_below(g, NREGS)),
           old = ir_get_flags(g->b), c;
    bool fixed = t1_below(g, 2);
    if (fixed) {
        c = ir_const(g->b, 1 + t1_below(g, ir_type_bits(w) - 1));
    } else {
        c = ir_bin(g->b, IR_and, IR_I8, ir_getreg(g->b, IR_I8, t1_below(g, 3)),
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
    enum ir_type w = ws[t1_below(g, 3)];
    unsigned r = t1_below(g, NREGS);
    ir_ref a = ir_getreg(g->b, w, r), b = operand(g, w);
    bool sgn = t1_below(g, 2), wide = t1_below(g, 2);
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
    enum ir_type w = any_width(g);
    bool sgn = t1_below(g, 2);
    ir_ref a = ir_getreg(g->b, w, 0), b = operand(g, w);
    ir_ref c = t1_below(g, 3) ? ir_const(g->b, 0) : ir_getreg(g->b, w, 2);
    ir_ref q = ir_tri(g->b, sgn ? IR_divs : IR_divu, w, a, b, c);
    ir_ref r = ir_tri(g->b, sgn ? IR_rems : IR_remu, w, a, b, c);
    ir_setreg(g->b, w, 0, q);
    ir_setreg(g->b, w, 2, r);
}

static struct ir_addr address(struct gen *g)
{
    struct ir_addr m = {.base = IR_NONE, .index = IR_NONE};
    unsigned page = t1_below(g, 16) ? t1_below(g, 5) : t1_below(g, PAGES + 1);
    uint64_t want =
        MEM_BASE + page * RT_PAGE_SIZE +
        (t1_below(g, 6) ? t1_below(g, RT_PAGE_SIZE) : RT_PAGE_SIZE - 1 - t1_below(g, 4));
    /* r12 and rbx hold MEM_BASE + small, rsi small: kept by the generator */
    switch (t1_below(g, 4)) {
    case 0: m.disp = (int32_t)want; break;
    case 1:
        m.base = ir_getreg(g->b, IR_I64, 16);
        m.disp = (int32_t)(want - MEM_BASE);
        break;
    case 2:
        m.base = ir_bin(g->b, IR_and, IR_I64, ir_getreg(g->b, IR_I64, t1_below(g, NREGS)),
                        ir_const(g->b, 0x3f));
        m.index = ir_getreg(g->b, IR_I64, 17);
        m.scale = 3;
        m.disp = (int32_t)(want - (MEM_BASE & ~0xfffffull));
        break;
    default:
        m.base = ir_const(g->b, want);
        if (t1_below(g, 2)) {
            m.index = ir_bin(g->b, IR_and, IR_I64, ir_getreg(g->b, IR_I64, t1_below(g, NREGS)),
                             ir_const(g->b, 0xf));
            m.scale = (uint8_t)t1_below(g, 4);
        }
        break;
    }
    return m;
}

static void gen_load(struct gen *g)
{
    enum ir_type w = any_width(g);
    ir_ref v = ir_ld(g->b, w, address(g));
    if (w < IR_I64 && t1_below(g, 2)) {
        bool s = t1_below(g, 2);
        v = ir_ext(g->b, s ? IR_sext : IR_zext, IR_I64, w, v);
        ir_setreg(g->b, IR_I64, t1_below(g, 16), v);
    } else {
        ir_setreg(g->b, w, t1_below(g, 16), v);
    }
}

static void gen_load_alu(struct gen *g)
{
    enum ir_type w = any_width(g);
    unsigned r = t1_below(g, 16);
    ir_ref old = ir_get_flags(g->b);
    bool adc = t1_below(g, 2) && (g->defined & FLAG_CF);
    ir_ref m = ir_ld(g->b, w, address(g)), a = ir_getreg(g->b, w, r);
    ir_ref v = ir_tri(g->b, adc ? IR_adc : IR_sub, w, a, m, adc ? old : IR_NONE);
    ir_ref f = ir_flags(g->b, adc ? IR_FL_ADC : IR_FL_SUB, w, a, m, adc ? old : IR_NONE, IR_NONE);
    ir_setreg(g->b, w, r, v);
    set_flags(g, f, FLAG_ALL);
}

static void gen_store(struct gen *g)
{
    enum ir_type w = any_width(g);
    ir_ref v = operand(g, w);
    if ((g->defined & FLAG_ALL) == FLAG_ALL && t1_below(g, 4) == 0) {
        w = IR_I8;
        v = ir_setcc(g->b, t1_below(g, 16), ir_get_flags(g->b));
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
    ir_setreg(g->b, IR_I64, t1_below(g, 16), v);
}

/* What T1 puts off, and what must come before it then: see L_SUM, L_MEM. */
static void gen_late_use(struct gen *g)
{
    ir_ref sp = ir_getreg(g->b, IR_I64, 4), h = ir_getreg(g->b, IR_I64, t1_below(g, NREGS)), v;
    unsigned r = 5 + t1_below(g, 6);
    enum ir_type w = t1_below(g, 2) ? IR_I32 : IR_I64;
    switch (t1_below(g, 5)) {
    case 0: /* a sum, behind a change of its register */
        v = ir_bin(g->b, IR_sub, IR_I64, sp, ir_const(g->b, 16));
        ir_st(g->b, IR_I64, (struct ir_addr){.base = v, .index = IR_NONE, .disp = 8}, h);
        ir_setreg(g->b, IR_I64, 4, ir_bin(g->b, IR_sub, IR_I64, sp, ir_const(g->b, 8)));
        ir_setreg(g->b, IR_I64, r, v);
        break;
    case 1: /* a loaded value, twice */
        v = ir_ld(g->b, w, address(g));
        h = ir_bin(g->b, IR_add, w, ir_getreg(g->b, w, r), v);
        sp = ir_bin(g->b, IR_sub, w, ir_getreg(g->b, w, 6), ir_getreg(g->b, w, 2));
        sp = ir_bin(g->b, IR_xor, w, sp, v);
        ir_setreg(g->b, w, r, h);
        ir_setreg(g->b, w, 3, sp);
        break;
    case 2: /* what is loaded by a register goes to it */
        v = ir_ld(g->b, IR_I64, (struct ir_addr){.base = sp, .index = IR_NONE});
        v = ir_bin(g->b, IR_xor, IR_I64, h, v);
        ir_setreg(g->b, IR_I64, r, v);
        ir_setreg(g->b, IR_I64, 4, v);
        ir_setreg(g->b, IR_I64, 4,
                  ir_const(g->b, MEM_BASE + (1 + t1_below(g, 3)) * RT_PAGE_SIZE + 8 * r + 512));
        break;
    case 3: /* a store that leads a group and is no plain store */
        ir_rmw(g->b, IR_RMW_XOR, w, (struct ir_addr){.base = sp, .index = IR_NONE, .disp = 8},
               ir_getreg(g->b, w, r), IR_NONE, false);
        break;
    default: /* half a product */
        v = ir_bin(g->b, IR_mulhu, w, ir_getreg(g->b, w, 6), ir_getreg(g->b, w, 7));
        ir_setreg(g->b, w, r, v);
    }
}

static void gen_rmw(struct gen *g)
{
    enum ir_type w = any_width(g);
    bool lock = t1_below(g, 2);
    ir_ref c = operand(g, w), f = IR_NONE, zero;
    unsigned n = t1_below(g, 10);
    uint32_t d = FLAG_ALL;
    ir_ref old = ir_get_flags(g->b);
    struct ir_addr m = address(g);
    ir_ref v;
    switch (n) {
    case 0:
        v = ir_rmw(g->b, IR_RMW_ADD, w, m, c, IR_NONE, lock);
        f = ir_flags(g->b, IR_FL_ADD, w, v, c, IR_NONE, IR_NONE);
        if (t1_below(g, 2)) {
            ir_setreg(g->b, w, t1_below(g, 16), v);
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
        ir_setreg(g->b, w, t1_below(g, 16), ir_rmw(g->b, IR_RMW_XCHG, w, m, c, IR_NONE, true));
        return;
    case 6:
        if (!(g->defined & FLAG_CF)) {
            return;
        }
        v = ir_rmw(g->b, t1_below(g, 2) ? IR_RMW_ADC : IR_RMW_SBB, w, m, c, old, lock);
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
    enum ir_type w = any_width(g);
    struct ir_addr m = address(g);
    ir_ref c = operand(g, w);
    if (t1_below(g, 2)) {
        static const uint8_t ops[] = {IR_RMW_AND, IR_RMW_OR, IR_RMW_XOR, IR_RMW_ANDN, IR_RMW_SUB};
        ir_ref old = ir_rmw(g->b, ops[t1_below(g, 5)], w, m, c, IR_NONE, t1_below(g, 2));
        ir_ref of = ir_get_flags(g->b);
        if (w == IR_I8 || t1_below(g, 2)) {
            ir_setreg(g->b, w, t1_below(g, 16), old);
            return;
        }
        ir_ref f = ir_flags(g->b, IR_FL_BT, w, old, operand(g, w), of, IR_NONE);
        set_flags(g, f, KEEPS(FLAG_CF));
        return;
    }
    ir_ref a = ir_ldw(g->b, w, m), n = ir_const(g->b, 1 + t1_below(g, 7));
    ir_ref v = ir_bin(g->b, IR_shl, w, a, n);
    ir_ref f = ir_flags(g->b, IR_FL_SHL, w, a, n, IR_NONE, IR_NONE);
    ir_st(g->b, w, m, v);
    set_flags(g, f, FLAG_ALL & ~(uint32_t)(FLAG_AF | FLAG_OF));
}

static void gen_cmpxchg(struct gen *g)
{
    enum ir_type w = any_width(g);
    ir_ref acc = t1_below(g, 2) ? ir_getreg(g->b, w, 0) : ir_const(g->b, 0), d = operand(g, w);
    ir_ref old = ir_cmpxchg(g->b, w, address(g), acc, d, t1_below(g, 2));
    ir_ref f = ir_flags(g->b, IR_FL_SUB, w, acc, old, IR_NONE, IR_NONE);
    ir_ref eq = ir_bin(g->b, IR_seteq, w, acc, old);
    (void)eq;
    ir_setreg(g->b, w, 0, old);
    set_flags(g, f, FLAG_ALL);
}

static void gen_xchg(struct gen *g)
{
    enum ir_type w = any_width(g);
    unsigned r = t1_below(g, 16), s = t1_below(g, 16);
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
    unsigned cc = t1_below(g, 16);
    if (!cc_defined(g, cc)) {
        cc = IR_CC_E | (cc & 1);
        if (!cc_defined(g, cc)) {
            return;
        }
    }
    ir_ref f = ir_get_flags(g->b);
    if (t1_below(g, 3) == 0) {
        ir_brcc(g->b, cc, f, OUT_PC + g->k);
    } else if (t1_below(g, 2)) {
        set_reg(g, IR_I8, ir_setcc(g->b, cc, f));
    } else {
        static const uint8_t ws[] = {IR_I16, IR_I32, IR_I64};
        enum ir_type w = ws[t1_below(g, 3)];
        unsigned r = t1_below(g, 16);
        ir_ref yes = operand(g, w), no = ir_getreg(g->b, w, r);
        set_same(g, w, r, ir_select(g->b, w, cc, f, yes, no));
    }
}

static void gen_misc(struct gen *g)
{
    enum ir_type w = t1_below(g, 2) ? IR_I32 : IR_I64;
    unsigned r = t1_below(g, 16), n = t1_below(g, 11);
    ir_ref a = ir_getreg(g->b, w, t1_below(g, NREGS)), v = IR_NONE, b, c;
    switch (n) {
    case 0: v = ir_un(g->b, IR_bswap, w, a); break;
    case 1: v = ir_un(g->b, IR_popcnt, w, a); break;
    case 2: v = ir_un(g->b, t1_below(g, 2) ? IR_clz : IR_ctz, w, a); break;
    case 3: v = ir_bin(g->b, t1_below(g, 2) ? IR_pdep : IR_pext, w, a, operand(g, w)); break;
    case 4:
        v = ir_ext(g->b, IR_sext, IR_I64, IR_I32, a);
        w = IR_I64;
        break;
    case 5:
        v = ir_ext(g->b, IR_zext, w, IR_I8,
                   ir_getreg(g->b, t1_below(g, 2) ? IR_H8 : IR_I8, t1_below(g, 4)));
        break;
    case 6: v = ir_ext(g->b, IR_sext, w, IR_I16, ir_getreg(g->b, IR_I16, t1_below(g, 16))); break;
    case 7:
        b = operand(g, w);
        v = ir_bin(g->b, IR_seteq + t1_below(g, 3), w, a, b);
        w = IR_I8;
        break;
    case 8: {
        struct ir_addr m = {.base = a,
                            .index = t1_below(g, 2) ? ir_getreg(g->b, w, t1_below(g, 16)) : IR_NONE,
                            .scale = (uint8_t)t1_below(g, 4),
                            .disp = (int32_t)t1_rnd(g)};
        v = ir_lea(g->b, w, m);
        break;
    }
    case 9:
        b = operand(g, w);
        c = ir_getreg(g->b, IR_I8, t1_below(g, 16));
        v = ir_tri(g->b, IR_selnz, w, c, a, b);
        break;
    default:
        v = ir_bin(g->b, IR_crc32c, t1_below(g, 2) ? IR_I8 : IR_I32, a, operand(g, IR_I32));
        w = IR_I32;
        break;
    }
    ir_setreg(g->b, w, r, v);
}

static void gen_flagop(struct gen *g)
{
    ir_ref old = ir_get_flags(g->b), f, a;
    enum ir_type w = t1_below(g, 2) ? IR_I32 : IR_I64;
    switch (t1_below(g, 5)) {
    case 0:
        f = ir_flags(g->b, IR_FL_CARRY, IR_I8, ir_const(g->b, t1_below(g, 2)), IR_NONE, old,
                     IR_NONE);
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
        a = ir_getreg(g->b, w, t1_below(g, 16));
        f = ir_flags(g->b, IR_FL_BT, w, a, operand(g, w), old, IR_NONE);
        set_flags(g, f, KEEPS(FLAG_CF));
        break;
    case 3:
        f = ir_flags(g->b, IR_FL_IMAGE, IR_I32, ir_getreg(g->b, IR_I64, t1_below(g, 16)), IR_NONE,
                     IR_NONE, IR_NONE);
        set_flags(g, f, FLAG_ALL);
        break;
    default:
        if (g->defined != FLAG_ALL) {
            break;
        }
        ir_setreg(g->b, IR_I64, t1_below(g, 16),
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

static bool vec_form(struct gen *g, struct ir_vec *v)
{
    const struct hostvec_info *h = &hostvec_info[v->id];
    bool kinds_ok = h->reg_kind != HVK_MMX && h->rm_kind != HVK_MMX;
    if (!h->name[0] || (h->flags & VEC_NOT) || !kinds_ok) {
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
    unsigned form = forms[t1_below(g, n)];
    v->vex = form > 0;
    v->l = form == 2;
    bool can_mem = h->flags & HVF_RM_MEM, can_reg = h->flags & HVF_RM_REG;
    if (!can_mem && !can_reg && !(h->flags & HVF_ALL)) {
        return false;
    }
    bool mem = can_mem && (!can_reg || t1_below(g, 2));
    static const uint8_t kind[] = {[HVK_NONE] = IR_VEC_NO,
                                   [HVK_VEC] = IR_VEC_REG,
                                   [HVK_MMX] = IR_VEC_MMX,
                                   [HVK_ST] = IR_VEC_ST,
                                   [HVK_INT] = IR_VEC_INT};
    v->w = h->w == HV_W_OPERAND ? t1_below(g, 2) : h->w;
    v->reg_kind = kind[h->reg_kind];
    v->rm_kind = mem ? IR_VEC_MEM : kind[h->rm_kind];
    v->reg = (uint8_t)t1_below(g, 16);
    v->rm = (uint8_t)t1_below(g, 16);
    v->vvvv = (uint8_t)t1_below(g, 16);
    v->imm8 = (uint8_t)t1_rnd(g);
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
        v = (struct ir_vec){.id = (uint16_t)(1 + t1_below(g, HV_COUNT - 1))};
    } while (!vec_form(g, &v));
    const struct hostvec_info *h = &hostvec_info[v.id];
    bool is_int = v.reg_kind == IR_VEC_INT || v.rm_kind == IR_VEC_INT;
    struct ir_addr m = {.base = IR_NONE, .index = IR_NONE};
    if (v.size) {
        m = address(g);
        if (v.aligned && t1_below(g, 8)) {
            m = (struct ir_addr){.base = ir_const(g->b, MEM_BASE + 64 * t1_below(g, 5 * 64)),
                                 .index = IR_NONE};
        }
    }
    ir_ref in =
        is_int && (h->flags & HVF_INT_IN) ? ir_getreg(g->b, IR_I64, t1_below(g, 16)) : IR_NONE;
    v.result = h->flags & HVF_FLAGS                 ? IR_VEC_RFLAGS
               : is_int && (h->flags & HVF_INT_OUT) ? IR_VEC_RINT
                                                    : IR_VEC_RNONE;
    ir_ref r = ir_vec_op(g->b, &v, m, in);
    if (v.result == IR_VEC_RINT) {
        ir_setreg(g->b, IR_I64, t1_below(g, 16), r);
    } else if (v.result == IR_VEC_RFLAGS) {
        set_flags(g, r, FLAG_ALL);
    }
}

/* The old value of a register is read between the computing of its new one and the setting. */
static void gen_late(struct gen *g)
{
    static const uint8_t ops[] = {IR_add, IR_sub, IR_and, IR_or, IR_xor};
    enum ir_type w = any_width(g);
    unsigned r = t1_below(g, NREGS), s = t1_below(g, NREGS);
    bool same = t1_below(g, 2); /* as in add r, x; the old one goes elsewhere */
    ir_ref a = ir_getreg(g->b, w, same ? r : t1_below(g, NREGS)), b = operand(g, w);
    ir_ref v = ir_bin(g->b, ops[t1_below(g, 5)], w, a, b);
    ir_ref old = ir_getreg(g->b, w, r);
    ir_setreg(g->b, w, r, v);
    ir_setreg(g->b, w, s, s == r ? v : old);
}

/* Extensions of extensions, of loaded, computed and high bytes. */
static void gen_extend(struct gen *g)
{
    static const uint8_t how[] = {IR_zext, IR_sext};
    static const uint8_t narrow[] = {IR_I8, IR_I16, IR_I32};
    unsigned n = t1_below(g, 3), top = t1_below(g, 4) ? IR_I64 : IR_I32;
    enum ir_type from = narrow[n];
    ir_ref v = operand(g, from);
    if (t1_below(g, 2)) {
        v = ir_bin(g->b, IR_add, from, v, operand(g, from));
    }
    for (unsigned to = from + 1u + t1_below(g, 2); to < top; to = from + 1u) {
        v = ir_ext(g->b, how[t1_below(g, 2)], (enum ir_type)to, from, v);
        from = (enum ir_type)to;
    }
    if (from != top) {
        v = ir_ext(g->b, how[t1_below(g, 2)], top, from, v);
    }
    if (top == IR_I64 && t1_below(g, 2)) {
        v = ir_ext(g->b, IR_trunc, IR_I32, IR_I64, v);
        if (t1_below(g, 2)) {
            v = ir_ext(g->b, IR_zext, IR_I64, IR_I32, v);
        } else {
            top = IR_I32;
        }
    }
    ir_setreg(g->b, top, t1_below(g, NREGS), v);
}

static void (*const gens[])(struct gen *) = {
    gen_alu,   gen_alu,    gen_alu,  gen_cmp,  gen_cmp,      gen_incdec,  gen_unary,
    gen_shift, gen_shiftd, gen_mul,  gen_div,  gen_load,     gen_load,    gen_load_alu,
    gen_store, gen_store,  gen_push, gen_pop,  gen_rmw,      gen_cmpxchg, gen_ldw,
    gen_xchg,  gen_cond,   gen_cond, gen_cond, gen_misc,     gen_misc,    gen_flagop,
    gen_late,  gen_extend, gen_vec,  gen_vec,  gen_late_use,
};

static void gen_end(struct gen *g)
{
    switch (t1_below(g, 3)) {
    case 0: ir_jump(g->b, OUT_PC + 0x1000); break;
    case 1: ir_jumpi(g->b, IR_HINT_NONE, ir_getreg(g->b, IR_I64, t1_below(g, 16)), 0); break;
    default:
        ir_helper(g->b, 0, operand(g, IR_I64), operand(g, IR_I64), ir_const(g->b, t1_below(g, 2)),
                  OUT_PC + 0x2000);
        break;
    }
}

/* One instruction, number k of the program of a seed. */
static void gen_one(struct gen *g, uint64_t seed, unsigned k, bool end)
{
    g->rng = seed * 0x9e3779b97f4a7c15ull + k * 0xd1342543de82ef95ull + 1;
    t1_rnd(g);
    g->k = k;
    ir_insn(g->b, CODE_PC + k, 1);
    if (end) {
        gen_end(g);
    } else {
        gens[t1_below(g, ARRAY_LEN(gens))](g);
    }
}

uint32_t t1_program(struct ir_block *b, const struct ir_guest *guest, uint64_t seed, unsigned from,
                    unsigned insns)
{
    struct gen g = {.b = b, .defined = FLAG_ALL};
    ir_begin(b, guest, CODE_PC + from, 1);
    for (unsigned k = 0; k <= insns; k++) {
        if (k == from) {
            ir_begin(b, guest, CODE_PC + from, 1);
        }
        gen_one(&g, seed, k, k == insns);
    }
    return g.defined;
}

uint32_t t1_defined_before(struct ir_block *b, const struct ir_guest *guest, uint64_t seed,
                           unsigned k)
{
    struct gen g = {.b = b, .defined = FLAG_ALL};
    ir_begin(b, guest, CODE_PC, 1);
    for (unsigned i = 0; i < k; i++) {
        gen_one(&g, seed, i, false);
    }
    return g.defined;
}
