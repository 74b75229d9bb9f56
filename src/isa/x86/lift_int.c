/* General-purpose instructions: data movement, arithmetic, logic (Intel SDM Vol. 1 5.1). */
#include "isa/x86/lift.h"

struct alu {
    uint8_t op, kind, rmw;
};

static const struct alu *alu_of(unsigned op)
{
    static const struct alu table[] = {
        [X86_ADD] = {IR_add, IR_FL_ADD, IR_RMW_ADD},   [X86_OR] = {IR_or, IR_FL_LOGIC, IR_RMW_OR},
        [X86_ADC] = {IR_adc, IR_FL_ADC, IR_RMW_ADC},   [X86_SBB] = {IR_sbb, IR_FL_SBB, IR_RMW_SBB},
        [X86_AND] = {IR_and, IR_FL_LOGIC, IR_RMW_AND}, [X86_SUB] = {IR_sub, IR_FL_SUB, IR_RMW_SUB},
        [X86_XOR] = {IR_xor, IR_FL_LOGIC, IR_RMW_XOR},
    };
    return &table[op];
}

static enum ir_type type_of(const struct lift *l, unsigned n)
{
    return lift_type(l->in->opnd[n].size);
}

static ir_ref alu_value(struct lift *l, const struct alu *k, enum ir_type t, ir_ref a, ir_ref b,
                        ir_ref carry)
{
    return carry == IR_NONE ? ir_bin(l->b, k->op, t, a, b) : ir_tri(l->b, k->op, t, a, b, carry);
}

static void alu_flags(struct lift *l, const struct alu *k, enum ir_type t, ir_ref a, ir_ref b,
                      ir_ref carry, ir_ref result)
{
    bool logic = k->kind == IR_FL_LOGIC;
    ir_set_flags(
        l->b, ir_flags(l->b, k->kind, t, logic ? result : a, logic ? IR_NONE : b, carry, IR_NONE));
}

/* XOR or SUB of a register with itself: how code makes a zero, whatever was there. */
static bool makes_zero(const struct lift *l)
{
    const struct x86_opnd *a = &l->in->opnd[0], *b = &l->in->opnd[1];
    return (l->in->op == X86_XOR || l->in->op == X86_SUB) && a->kind == X86_OPND_GPR &&
           b->kind == X86_OPND_GPR && a->reg == b->reg && a->high == b->high;
}

static bool lift_zero(struct lift *l)
{
    ir_ref zero = lift_const(l, 0);
    ir_ref f = ir_flags(l->b, IR_FL_LOGIC, type_of(l, 0), zero, IR_NONE, IR_NONE, IR_NONE);
    lift_write(l, 0, zero);
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_alu(struct lift *l)
{
    if (makes_zero(l)) {
        return lift_zero(l);
    }
    const struct alu *k = alu_of(l->in->op);
    enum ir_type t = type_of(l, 0);
    ir_ref carry = k->op == IR_adc || k->op == IR_sbb ? ir_get_flags(l->b) : IR_NONE;
    if (l->in->opnd[0].kind == X86_OPND_MEM) {
        ir_ref src = lift_read(l, 1);
        struct ir_addr m = lift_mem(l, l->in->opnd[0].size, RT_READ | RT_WRITE);
        ir_ref old = ir_rmw(l->b, k->rmw, t, m, src, carry, l->in->lock);
        ir_ref r = k->kind == IR_FL_LOGIC ? ir_bin(l->b, k->op, t, old, src) : IR_NONE;
        alu_flags(l, k, t, old, src, carry, r);
        return true;
    }
    ir_ref a = lift_read(l, 0), b = lift_read(l, 1);
    ir_ref r = alu_value(l, k, t, a, b, carry);
    ir_ref f = ir_flags(l->b, k->kind, t, k->kind == IR_FL_LOGIC ? r : a,
                        k->kind == IR_FL_LOGIC ? IR_NONE : b, carry, IR_NONE);
    lift_write(l, 0, r);
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_cmp(struct lift *l)
{
    ir_ref a = lift_read(l, 0), b = lift_read(l, 1);
    ir_set_flags(l->b, ir_flags(l->b, IR_FL_SUB, type_of(l, 0), a, b, IR_NONE, IR_NONE));
    return true;
}

static bool lift_test(struct lift *l)
{
    ir_ref a = lift_read(l, 0), b = lift_read(l, 1);
    ir_set_flags(l->b, ir_flags(l->b, IR_FL_AND, type_of(l, 0), a, b, IR_NONE, IR_NONE));
    return true;
}

static bool lift_inc_dec(struct lift *l)
{
    bool inc = l->in->op == X86_INC;
    enum ir_type t = type_of(l, 0);
    enum ir_flags_kind kind = inc ? IR_FL_INC : IR_FL_DEC;
    ir_ref old = ir_get_flags(l->b), one = lift_const(l, 1), a, r;
    if (l->in->opnd[0].kind == X86_OPND_MEM) {
        struct ir_addr m = lift_mem(l, l->in->opnd[0].size, RT_READ | RT_WRITE);
        a = ir_rmw(l->b, inc ? IR_RMW_ADD : IR_RMW_SUB, t, m, one, IR_NONE, l->in->lock);
        ir_set_flags(l->b, ir_flags(l->b, kind, t, a, IR_NONE, old, IR_NONE));
        return true;
    }
    a = lift_read(l, 0);
    r = ir_bin(l->b, inc ? IR_add : IR_sub, t, a, one);
    ir_ref f = ir_flags(l->b, kind, t, a, IR_NONE, old, IR_NONE);
    lift_write(l, 0, r);
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_neg(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    ir_ref zero = lift_const(l, 0), a, f;
    if (l->in->opnd[0].kind == X86_OPND_MEM) {
        struct ir_addr m = lift_mem(l, l->in->opnd[0].size, RT_READ | RT_WRITE);
        a = ir_rmw(l->b, IR_RMW_NEG, t, m, zero, IR_NONE, l->in->lock);
        f = ir_flags(l->b, IR_FL_SUB, t, zero, a, IR_NONE, IR_NONE);
    } else {
        a = lift_read(l, 0);
        ir_ref r = ir_un(l->b, IR_neg, t, a);
        f = ir_flags(l->b, IR_FL_SUB, t, zero, a, IR_NONE, IR_NONE);
        lift_write(l, 0, r);
    }
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_not(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    if (l->in->opnd[0].kind == X86_OPND_MEM) {
        struct ir_addr m = lift_mem(l, l->in->opnd[0].size, RT_READ | RT_WRITE);
        ir_rmw(l->b, IR_RMW_NOT, t, m, lift_const(l, 0), IR_NONE, l->in->lock);
    } else {
        lift_write(l, 0, ir_un(l->b, IR_not, t, lift_read(l, 0)));
    }
    return true;
}

static bool lift_mul(struct lift *l)
{
    bool sgn = l->in->op == X86_IMUL;
    enum ir_flags_kind kind = sgn ? IR_FL_MULS : IR_FL_MULU;
    unsigned n = l->in->nopnd - 1u; /* the source is the last operand */
    enum ir_type t = type_of(l, n);
    if (t == IR_I8) {
        ir_ref a = lift_gpr(l, RAX, 1), b = lift_read(l, n);
        enum ir_opcode ext = sgn ? IR_sext : IR_zext;
        ir_ref wa = ir_ext(l->b, ext, IR_I16, IR_I8, a), wb = ir_ext(l->b, ext, IR_I16, IR_I8, b);
        ir_ref r = ir_bin(l->b, IR_mul, IR_I16, wa, wb);
        ir_ref f = ir_flags(l->b, kind, t, a, b, IR_NONE, IR_NONE);
        lift_set_gpr(l, RAX, 2, r);
        ir_set_flags(l->b, f);
        return true;
    }
    unsigned bytes = l->in->opnd[n].size;
    ir_ref a = lift_gpr(l, RAX, bytes), b = lift_read(l, n);
    ir_ref lo = ir_bin(l->b, IR_mul, t, a, b);
    ir_ref hi = ir_bin(l->b, sgn ? IR_mulhs : IR_mulhu, t, a, b);
    ir_ref f = ir_flags(l->b, kind, t, a, b, IR_NONE, IR_NONE);
    lift_set_gpr(l, RAX, bytes, lo);
    lift_set_gpr(l, RDX, bytes, hi);
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_imul(struct lift *l)
{
    if (l->in->opcode == 0xf6 || l->in->opcode == 0xf7) {
        return lift_mul(l);
    }
    enum ir_type t = type_of(l, 0);
    bool three = l->in->nopnd == 3;
    ir_ref a = lift_read(l, three ? 1 : 0), b = lift_read(l, three ? 2 : 1);
    ir_ref r = ir_bin(l->b, IR_mul, t, a, b);
    ir_ref f = ir_flags(l->b, IR_FL_MULS, t, a, b, IR_NONE, IR_NONE);
    lift_write(l, 0, r);
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_div(struct lift *l)
{
    bool sgn = l->in->op == X86_IDIV;
    unsigned n = l->in->nopnd - 1u;
    enum ir_type t = type_of(l, n);
    unsigned bytes = l->in->opnd[n].size;
    ir_ref d = lift_read(l, n), lo = lift_gpr(l, RAX, bytes);
    ir_ref hi = t == IR_I8 ? ir_getreg(l->b, IR_H8, RAX) : lift_gpr(l, RDX, bytes);
    ir_ref q = ir_tri(l->b, sgn ? IR_divs : IR_divu, t, lo, d, hi);
    ir_ref r = ir_tri(l->b, sgn ? IR_rems : IR_remu, t, lo, d, hi);
    lift_set_gpr(l, RAX, bytes, q);
    if (t == IR_I8) {
        ir_setreg(l->b, IR_H8, RAX, r);
    } else {
        lift_set_gpr(l, RDX, bytes, r);
    }
    return true;
}

static bool lift_mov(struct lift *l)
{
    const struct x86_opnd *d = &l->in->opnd[0], *s = &l->in->opnd[1];
    if (d->kind == X86_OPND_SEG || s->kind == X86_OPND_SEG || d->kind == X86_OPND_CR ||
        s->kind == X86_OPND_CR || d->kind == X86_OPND_DR || s->kind == X86_OPND_DR) {
        return x86_lift_sys[X86_MOV](l);
    }
    lift_write(l, 0, lift_read(l, 1));
    return true;
}

static bool lift_extend(struct lift *l)
{
    enum ir_opcode op = l->in->op == X86_MOVZX ? IR_zext : IR_sext;
    enum ir_type to = type_of(l, 0), from = type_of(l, 1);
    ir_ref v = lift_read(l, 1);
    lift_write(l, 0, from == to ? v : ir_ext(l->b, op, to, from, v));
    return true;
}

static bool lift_lea(struct lift *l)
{
    ir_ref off = lift_offset(l);
    lift_write(l, 0, off);
    return true;
}

static bool lift_xchg(struct lift *l)
{
    unsigned mem = l->in->opnd[0].kind == X86_OPND_MEM   ? 0
                   : l->in->opnd[1].kind == X86_OPND_MEM ? 1
                                                         : 2;
    if (mem == 2) {
        ir_ref a = lift_read(l, 0), b = lift_read(l, 1);
        lift_write(l, 0, b);
        lift_write(l, 1, a);
        return true;
    }
    unsigned size = l->in->opnd[mem].size;
    ir_ref v = lift_read(l, 1 - mem);
    struct ir_addr m = lift_mem(l, size, RT_READ | RT_WRITE);
    lift_write(l, 1 - mem, ir_rmw(l->b, IR_RMW_XCHG, lift_type(size), m, v, IR_NONE, true));
    return true;
}

static bool lift_xadd(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    ir_ref src = lift_read(l, 1), old, f;
    if (l->in->opnd[0].kind == X86_OPND_MEM) {
        struct ir_addr m = lift_mem(l, l->in->opnd[0].size, RT_READ | RT_WRITE);
        old = ir_rmw(l->b, IR_RMW_ADD, t, m, src, IR_NONE, l->in->lock);
        f = ir_flags(l->b, IR_FL_ADD, t, old, src, IR_NONE, IR_NONE);
        lift_write(l, 1, old);
    } else {
        old = lift_read(l, 0);
        ir_ref sum = ir_bin(l->b, IR_add, t, old, src);
        f = ir_flags(l->b, IR_FL_ADD, t, old, src, IR_NONE, IR_NONE);
        lift_write(l, 1, old);
        lift_write(l, 0, sum);
    }
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_cmpxchg(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    unsigned size = l->in->opnd[0].size;
    ir_ref acc = lift_gpr(l, RAX, size), new = lift_read(l, 1), old, f;
    if (l->in->opnd[0].kind == X86_OPND_MEM) {
        struct ir_addr m = lift_mem(l, size, RT_READ | RT_WRITE);
        old = ir_cmpxchg(l->b, t, m, acc, new, l->in->lock);
        f = ir_flags(l->b, IR_FL_SUB, t, acc, old, IR_NONE, IR_NONE);
    } else {
        old = lift_read(l, 0);
        f = ir_flags(l->b, IR_FL_SUB, t, acc, old, IR_NONE, IR_NONE);
    }
    /* The accumulator changes only on failure: a 32-bit success keeps its upper half. The manual
     * leaves the upper halves open; this is what Intel's processors do. */
    bool in_reg = l->in->opnd[0].kind != X86_OPND_MEM;
    ir_ref full = ir_getreg(l->b, IR_I64, RAX), keep = IR_NONE;
    if (in_reg && size == 4) {
        keep = ir_getreg(l->b, IR_I64, l->in->opnd[0].reg);
    }
    ir_ref wide = size == 4 ? ir_ext(l->b, IR_zext, IR_I64, IR_I32, old) : old;
    if (size >= 4) {
        ir_setreg(l->b, IR_I64, RAX, ir_select(l->b, IR_I64, IR_CC_E, f, full, wide));
    } else {
        lift_set_gpr(l, RAX, size, ir_select(l->b, t, IR_CC_E, f, acc, old));
    }
    /* Last: the destination may be the accumulator itself. It, too, changes only on success. */
    if (keep != IR_NONE) {
        new = ir_ext(l->b, IR_zext, IR_I64, IR_I32, new);
        ir_setreg(l->b, IR_I64, l->in->opnd[0].reg, ir_select(l->b, IR_I64, IR_CC_E, f, new, keep));
    } else if (in_reg) {
        lift_write(l, 0, ir_select(l->b, t, IR_CC_E, f, new, old));
    }
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_cbw(struct lift *l)
{
    static const uint8_t to[] = {IR_I16, IR_I32, IR_I64};
    unsigned k = l->in->op - X86_CBW;
    ir_ref v = ir_getreg(l->b, (enum ir_type)(to[k] - 1), RAX);
    ir_setreg(l->b, to[k], RAX, ir_ext(l->b, IR_sext, to[k], (enum ir_type)(to[k] - 1), v));
    return true;
}

static bool lift_cwd(struct lift *l)
{
    unsigned size = 2u << (l->in->op - X86_CWD);
    enum ir_type t = lift_type(size);
    ir_ref v = lift_gpr(l, RAX, size);
    lift_set_gpr(l, RDX, size, ir_bin(l->b, IR_sar, t, v, lift_const(l, size * 8 - 1)));
    return true;
}

static bool lift_cmov(struct lift *l)
{
    ir_ref v = lift_read(l, 1), old = lift_read(l, 0);
    enum ir_cc cc = l->in->op - X86_CMOVO;
    lift_write(l, 0, ir_select(l->b, type_of(l, 0), cc, ir_get_flags(l->b), v, old));
    return true;
}

static bool lift_setcc(struct lift *l)
{
    lift_write(l, 0, ir_setcc(l->b, l->in->op - X86_SETO, ir_get_flags(l->b)));
    return true;
}

static bool lift_bswap(struct lift *l)
{
    unsigned size = l->in->opnd[0].size;
    if (size == 2) { /* undefined; processors give zero */
        lift_write(l, 0, lift_const(l, 0));
        return true;
    }
    lift_write(l, 0, ir_un(l->b, IR_bswap, lift_type(size), lift_read(l, 0)));
    return true;
}

static bool lift_movbe(struct lift *l)
{
    unsigned size = l->in->opnd[0].size;
    ir_ref v = lift_read(l, 1);
    ir_ref r = size == 2 ? ir_bin(l->b, IR_rol, IR_I16, v, lift_const(l, 8))
                         : ir_un(l->b, IR_bswap, lift_type(size), v);
    lift_write(l, 0, r);
    return true;
}

static bool lift_pause(struct lift *l)
{
    lift_helper(l, HELPER_pause, IR_NONE, IR_NONE, IR_NONE);
    return true;
}

static bool lift_nop(struct lift *l)
{
    return true;
}

static bool lift_lahf(struct lift *l)
{
    ir_ref f = ir_un(l->b, IR_flagbits, IR_I64, ir_get_flags(l->b));
    ir_ref v =
        ir_bin(l->b, IR_or, IR_I8, ir_ext(l->b, IR_trunc, IR_I8, IR_I64, f), lift_const(l, 2));
    ir_setreg(l->b, IR_H8, RAX, v);
    return true;
}

static bool lift_sahf(struct lift *l)
{
    ir_ref old = ir_un(l->b, IR_flagbits, IR_I64, ir_get_flags(l->b));
    ir_ref keep = ir_bin(l->b, IR_and, IR_I64, old, lift_const(l, FLAG_OF));
    ir_ref ah = ir_ext(l->b, IR_zext, IR_I64, IR_I8, ir_getreg(l->b, IR_H8, RAX));
    ir_ref low = ir_bin(l->b, IR_and, IR_I64, ah, lift_const(l, FLAG_ALL & 0xff));
    ir_ref image = ir_bin(l->b, IR_or, IR_I64, keep, low);
    ir_set_flags(l->b, ir_flags(l->b, IR_FL_IMAGE, IR_I64, image, IR_NONE, IR_NONE, IR_NONE));
    return true;
}

static bool lift_carry(struct lift *l)
{
    ir_ref old = ir_get_flags(l->b);
    ir_ref v =
        l->in->op == X86_CMC ? ir_setcc(l->b, IR_CC_AE, old) : lift_const(l, l->in->op == X86_STC);
    ir_set_flags(l->b, ir_flags(l->b, IR_FL_CARRY, IR_I8, v, IR_NONE, old, IR_NONE));
    return true;
}

static bool lift_direction(struct lift *l)
{
    ir_ref f = ir_getreg(l->b, IR_I64, XREG_SYS_FLAGS);
    bool on = l->in->op == X86_STD;
    ir_ref v =
        ir_bin(l->b, on ? IR_or : IR_and, IR_I64, f, lift_const(l, on ? RF_DF : ~(uint64_t)RF_DF));
    ir_setreg(l->b, IR_I64, XREG_SYS_FLAGS, v);
    return true;
}

static bool lift_salc(struct lift *l)
{
    ir_ref c = ir_setcc(l->b, IR_CC_B, ir_get_flags(l->b));
    lift_set_gpr(l, RAX, 1, ir_un(l->b, IR_neg, IR_I8, c));
    return true;
}

static bool lift_bcd(struct lift *l)
{
    lift_helper(l, HELPER_bcd, lift_const(l, l->in->opcode),
                lift_const(l, (uint64_t)l->in->imm & 0xff), IR_NONE);
    return true;
}

static bool lift_movnti(struct lift *l)
{
    lift_write(l, 0, lift_read(l, 1));
    return true;
}

static bool lift_fence(struct lift *l)
{
    ir_emit(l->b,
            (struct ir_op){.op = IR_fence, .a = IR_NONE, .b = IR_NONE, .c = IR_NONE, .d = IR_NONE});
    return true;
}

#define CONDITIONS(name, fn) [name... name + 15] = fn

/* CLFLUSH and its kin fault as a load does. */
static bool lift_flush(struct lift *l)
{
    ir_ld(l->b, IR_I8, lift_mem(l, 1, RT_READ));
    return true;
}

x86_lift_fn *const x86_lift_int[X86_OP_COUNT] = {
    [X86_ADD] = lift_alu,
    [X86_OR] = lift_alu,
    [X86_ADC] = lift_alu,
    [X86_SBB] = lift_alu,
    [X86_AND] = lift_alu,
    [X86_SUB] = lift_alu,
    [X86_XOR] = lift_alu,
    [X86_CMP] = lift_cmp,
    [X86_TEST] = lift_test,
    [X86_INC] = lift_inc_dec,
    [X86_DEC] = lift_inc_dec,
    [X86_NEG] = lift_neg,
    [X86_NOT] = lift_not,
    [X86_MUL] = lift_mul,
    [X86_IMUL] = lift_imul,
    [X86_DIV] = lift_div,
    [X86_IDIV] = lift_div,
    [X86_MOV] = lift_mov,
    [X86_MOVZX] = lift_extend,
    [X86_MOVSX] = lift_extend,
    [X86_MOVSXD] = lift_extend,
    [X86_LEA] = lift_lea,
    [X86_XCHG] = lift_xchg,
    [X86_XADD] = lift_xadd,
    [X86_CMPXCHG] = lift_cmpxchg,
    [X86_CBW] = lift_cbw,
    [X86_CWDE] = lift_cbw,
    [X86_CDQE] = lift_cbw,
    [X86_CWD] = lift_cwd,
    [X86_CDQ] = lift_cwd,
    [X86_CQO] = lift_cwd,
    CONDITIONS(X86_CMOVO, lift_cmov),
    CONDITIONS(X86_SETO, lift_setcc),
    [X86_BSWAP] = lift_bswap,
    [X86_MOVBE] = lift_movbe,
    [X86_NOP] = lift_nop,
    [X86_PAUSE] = lift_pause,
    [X86_ENDBR64] = lift_nop,
    [X86_ENDBR32] = lift_nop,
    [X86_PREFETCHW] = lift_nop,
    [X86_PREFETCHWT1] = lift_nop,
    [X86_PREFETCHNTA] = lift_nop,
    [X86_PREFETCHT0] = lift_nop,
    [X86_PREFETCHT1] = lift_nop,
    [X86_PREFETCHT2] = lift_nop,
    [X86_CLFLUSH] = lift_flush,
    [X86_CLFLUSHOPT] = lift_flush,
    [X86_CLWB] = lift_flush,
    [X86_LAHF] = lift_lahf,
    [X86_SAHF] = lift_sahf,
    [X86_CLC] = lift_carry,
    [X86_STC] = lift_carry,
    [X86_CMC] = lift_carry,
    [X86_CLD] = lift_direction,
    [X86_STD] = lift_direction,
    [X86_SALC] = lift_salc,
    [X86_DAA] = lift_bcd,
    [X86_DAS] = lift_bcd,
    [X86_AAA] = lift_bcd,
    [X86_AAS] = lift_bcd,
    [X86_AAM] = lift_bcd,
    [X86_AAD] = lift_bcd,
    [X86_MOVNTI] = lift_movnti,
    [X86_MFENCE] = lift_fence,
    [X86_LFENCE] = lift_fence,
    [X86_SFENCE] = lift_fence,
};
