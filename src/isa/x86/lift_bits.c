/* Shifts, rotates, bit tests and scans, BMI, CRC32 (Intel SDM Vol. 1 5.1.5, 5.1.6, 5.1.16). */
#include "isa/x86/lift.h"

static enum ir_type type_of(const struct lift *l, unsigned n)
{
    return lift_type(l->in->opnd[n].size);
}

struct shift {
    uint8_t op, kind;
};

static const struct shift *shift_of(unsigned op)
{
    static const struct shift table[] = {
        [X86_ROL - X86_ROL] = {IR_rol, IR_FL_ROL}, [X86_ROR - X86_ROL] = {IR_ror, IR_FL_ROR},
        [X86_RCL - X86_ROL] = {IR_rcl, IR_FL_RCL}, [X86_RCR - X86_ROL] = {IR_rcr, IR_FL_RCR},
        [X86_SHL - X86_ROL] = {IR_shl, IR_FL_SHL}, [X86_SHR - X86_ROL] = {IR_shr, IR_FL_SHR},
        [X86_SAR - X86_ROL] = {IR_sar, IR_FL_SAR},
    };
    return &table[op - X86_ROL];
}

/* The count of operand n, masked as the processor does: a constant, or CL & mask. */
static ir_ref shift_count(struct lift *l, unsigned n, bool *fixed, unsigned *value)
{
    uint64_t mask = l->in->opnd[0].size == 8 ? 63 : 31;
    *fixed = l->in->opnd[n].kind != X86_OPND_GPR;
    if (*fixed) {
        *value = (unsigned)((uint64_t)l->in->imm & mask);
        return lift_const(l, *value);
    }
    ir_ref cl = ir_bin(l->b, IR_and, IR_I8, lift_gpr(l, RCX, 1), lift_const(l, mask));
    return ir_ext(l->b, IR_zext, lift_type(l->in->opnd[0].size), IR_I8, cl);
}

static bool lift_shift(struct lift *l)
{
    const struct shift *k = shift_of(l->in->op);
    enum ir_type t = type_of(l, 0);
    struct ir_addr m = {.base = IR_NONE, .index = IR_NONE};
    bool fixed, through = k->op == IR_rcl || k->op == IR_rcr, rotate = l->in->op <= X86_RCR;
    unsigned value = 0;
    ir_ref n = shift_count(l, 1, &fixed, &value);
    ir_ref a = lift_read_rmw(l, 0, &m);
    if (fixed && value == 0) {
        lift_write_at(l, 0, a, &m);
        return true;
    }
    bool needs_old = through || rotate || !fixed;
    ir_ref old = needs_old ? ir_get_flags(l->b) : IR_NONE;
    ir_ref r = through ? ir_tri(l->b, k->op, t, a, n, old) : ir_bin(l->b, k->op, t, a, n);
    ir_ref f = ir_flags(l->b, k->kind, t, a, n, old, IR_NONE);
    lift_write_at(l, 0, r, &m);
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_shiftd(struct lift *l)
{
    bool left = l->in->op == X86_SHLD, fixed;
    enum ir_type t = type_of(l, 0);
    struct ir_addr m = {.base = IR_NONE, .index = IR_NONE};
    unsigned value = 0;
    ir_ref n = shift_count(l, 2, &fixed, &value);
    ir_ref fill = lift_read(l, 1), a = lift_read_rmw(l, 0, &m);
    if (fixed && value == 0) {
        lift_write_at(l, 0, a, &m);
        return true;
    }
    ir_ref old = fixed ? IR_NONE : ir_get_flags(l->b);
    ir_ref r = ir_shiftd(l->b, left ? IR_shld : IR_shrd, t, a, fill, n);
    ir_ref f = ir_flags(l->b, left ? IR_FL_SHLD : IR_FL_SHRD, t, a, fill, old, n);
    lift_write_at(l, 0, r, &m);
    ir_set_flags(l->b, f);
    return true;
}

/* Address of the word that holds bit `bit` of a bit string in memory. */
static struct ir_addr bit_word(struct lift *l, ir_ref bit, unsigned size, unsigned access)
{
    enum ir_type t = lift_type(size);
    unsigned log = t; /* log2 of bytes */
    ir_ref wide = ir_ext(l->b, IR_sext, IR_I64, t, bit);
    ir_ref word = ir_bin(l->b, IR_sar, IR_I64, wide, lift_const(l, 3 + log));
    ir_ref bytes = ir_bin(l->b, IR_shl, IR_I64, word, lift_const(l, log));
    ir_ref off = ir_bin(l->b, IR_add, IR_I64, lift_offset(l), bytes);
    if (l->in->addrsize != 8) {
        off = ir_ext(l->b, IR_zext, IR_I64, lift_type(l->in->addrsize), off);
    }
    return lift_mem_at(l, l->in->mem_seg, off, size, access);
}

static ir_ref bit_mask(struct lift *l, enum ir_type t, ir_ref bit)
{
    ir_ref n = ir_bin(l->b, IR_and, t, bit, lift_const(l, ir_type_bits(t) - 1));
    return ir_bin(l->b, IR_shl, t, lift_const(l, 1), n);
}

static bool lift_bt(struct lift *l)
{
    unsigned op = l->in->op, size = l->in->opnd[0].size;
    enum ir_type t = lift_type(size);
    bool reg_bit = l->in->opnd[1].kind == X86_OPND_GPR, mem = l->in->opnd[0].kind == X86_OPND_MEM;
    ir_ref bit = reg_bit ? lift_read(l, 1) : lift_const(l, (uint64_t)l->in->imm & (size * 8 - 1));
    unsigned access = op == X86_BT ? RT_READ : RT_READ | RT_WRITE;
    ir_ref old, a;
    if (mem) {
        struct ir_addr m = reg_bit ? bit_word(l, bit, size, access) : lift_mem(l, size, access);
        if (op == X86_BT) {
            a = ir_ld(l->b, t, m);
        } else {
            enum ir_rmw rmw = op == X86_BTS ? IR_RMW_OR : op == X86_BTR ? IR_RMW_ANDN : IR_RMW_XOR;
            a = ir_rmw(l->b, rmw, t, m, bit_mask(l, t, bit), IR_NONE, l->in->lock);
        }
    } else {
        a = lift_read(l, 0);
    }
    old = ir_get_flags(l->b);
    ir_ref f = ir_flags(l->b, IR_FL_BT, t, a, bit, old, IR_NONE);
    if (!mem && op != X86_BT) {
        ir_ref mask = bit_mask(l, t, bit);
        if (op == X86_BTR) {
            mask = ir_un(l->b, IR_not, t, mask);
        }
        lift_write(l, 0,
                   ir_bin(l->b,
                          op == X86_BTS   ? IR_or
                          : op == X86_BTR ? IR_and
                                          : IR_xor,
                          t, a, mask));
    }
    ir_set_flags(l->b, f);
    return true;
}

/* BSF, BSR: the destination keeps its value, all 64 bits, when the source is zero. */
static bool lift_scan(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    unsigned reg = l->in->opnd[0].reg;
    ir_ref src = lift_read(l, 1), old = ir_getreg(l->b, t == IR_I16 ? IR_I16 : IR_I64, reg);
    ir_ref r;
    if (l->in->op == X86_BSF) {
        r = ir_un(l->b, IR_ctz, t, src);
    } else {
        r = ir_bin(l->b, IR_xor, t, ir_un(l->b, IR_clz, t, src),
                   lift_const(l, ir_type_bits(t) - 1));
    }
    ir_ref some = ir_bin(l->b, IR_setltu, t, lift_const(l, 0), src);
    ir_ref f = ir_flags(l->b, IR_FL_ZERO, t, src, IR_NONE, ir_get_flags(l->b), IR_NONE);
    if (t == IR_I32) {
        r = ir_ext(l->b, IR_zext, IR_I64, IR_I32, r);
        t = IR_I64;
    }
    ir_setreg(l->b, t, reg, ir_tri(l->b, IR_selnz, t, some, r, old));
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_count(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    ir_ref src = lift_read(l, 1);
    unsigned op = l->in->op;
    ir_ref r = ir_un(l->b, op == X86_TZCNT ? IR_ctz : op == X86_LZCNT ? IR_clz : IR_popcnt, t, src);
    ir_ref f = op == X86_POPCNT ? ir_flags(l->b, IR_FL_POPCNT, t, src, IR_NONE, IR_NONE, IR_NONE)
                                : ir_flags(l->b, IR_FL_ZCNT, t, src, r, IR_NONE, IR_NONE);
    lift_write(l, 0, r);
    ir_set_flags(l->b, f);
    return true;
}

static void result_logic(struct lift *l, enum ir_type t, ir_ref r, ir_ref carry)
{
    ir_ref f = carry == IR_NONE ? ir_flags(l->b, IR_FL_LOGIC, t, r, IR_NONE, IR_NONE, IR_NONE)
                                : ir_flags(l->b, IR_FL_LOGICC, t, r, carry, IR_NONE, IR_NONE);
    lift_write(l, 0, r);
    ir_set_flags(l->b, f);
}

static bool lift_andn(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    ir_ref a = ir_un(l->b, IR_not, t, lift_read(l, 1));
    result_logic(l, t, ir_bin(l->b, IR_and, t, a, lift_read(l, 2)), IR_NONE);
    return true;
}

static bool lift_bls(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    ir_ref src = lift_read(l, 1);
    ir_ref zero = ir_bin(l->b, IR_seteq, t, src, lift_const(l, 0));
    if (l->in->op == X86_BLSI) {
        ir_ref r = ir_bin(l->b, IR_and, t, src, ir_un(l->b, IR_neg, t, src));
        result_logic(l, t, r, ir_bin(l->b, IR_xor, IR_I8, zero, lift_const(l, 1)));
        return true;
    }
    ir_ref less = ir_bin(l->b, IR_sub, t, src, lift_const(l, 1));
    result_logic(l, t, ir_bin(l->b, l->in->op == X86_BLSR ? IR_and : IR_xor, t, src, less), zero);
    return true;
}

/* Shifts whose count `n` may pass the width, which IR shifts do not take. */
static ir_ref over_width(struct lift *l, enum ir_type t, ir_ref n)
{
    return ir_bin(l->b, IR_setltu, t, lift_const(l, ir_type_bits(t) - 1), n);
}

static ir_ref below_width(struct lift *l, enum ir_type t, ir_ref n)
{
    return ir_bin(l->b, IR_and, t, n, lift_const(l, ir_type_bits(t) - 1));
}

/* Low `n` bits set, for n that may reach or pass the width. */
static ir_ref low_mask(struct lift *l, enum ir_type t, ir_ref n)
{
    ir_ref one = ir_bin(l->b, IR_shl, t, lift_const(l, 1), below_width(l, t, n));
    ir_ref mask = ir_bin(l->b, IR_sub, t, one, lift_const(l, 1));
    return ir_tri(l->b, IR_selnz, t, over_width(l, t, n), lift_const(l, ~0ull), mask);
}

static bool lift_bzhi(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    ir_ref src = lift_read(l, 1);
    ir_ref n = ir_bin(l->b, IR_and, t, lift_read(l, 2), lift_const(l, 0xff));
    ir_ref over = over_width(l, t, n);
    result_logic(l, t, ir_bin(l->b, IR_and, t, src, low_mask(l, t, n)), over);
    return true;
}

static bool lift_bextr(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    ir_ref src = lift_read(l, 1), ctl = lift_read(l, 2);
    ir_ref start = ir_bin(l->b, IR_and, t, ctl, lift_const(l, 0xff));
    ir_ref len = ir_bin(l->b, IR_and, t, ir_bin(l->b, IR_shr, t, ctl, lift_const(l, 8)),
                        lift_const(l, 0xff));
    ir_ref r = ir_bin(l->b, IR_shr, t, src, below_width(l, t, start));
    r = ir_tri(l->b, IR_selnz, t, over_width(l, t, start), lift_const(l, 0), r);
    result_logic(l, t, ir_bin(l->b, IR_and, t, r, low_mask(l, t, len)), IR_NONE);
    return true;
}

static bool lift_pdep(struct lift *l)
{
    enum ir_opcode op = l->in->op == X86_PDEP ? IR_pdep : IR_pext;
    enum ir_type t = type_of(l, 0);
    ir_ref a = lift_read(l, 1);
    lift_write(l, 0, ir_bin(l->b, op, t, a, lift_read(l, 2)));
    return true;
}

static bool lift_mulx(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    ir_ref a = lift_gpr(l, RDX, l->in->opnd[0].size), b = lift_read(l, 2);
    ir_ref lo = ir_bin(l->b, IR_mul, t, a, b), hi = ir_bin(l->b, IR_mulhu, t, a, b);
    lift_write(l, 1, lo);
    lift_write(l, 0, hi);
    return true;
}

static bool lift_shiftx(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    unsigned op = l->in->op;
    ir_ref a = lift_read(l, 1);
    if (op == X86_RORX) {
        lift_write(l, 0,
                   ir_bin(l->b, IR_ror, t, a,
                          lift_const(l, (uint64_t)l->in->imm & (ir_type_bits(t) - 1))));
        return true;
    }
    ir_ref n = ir_bin(l->b, IR_and, t, lift_read(l, 2), lift_const(l, ir_type_bits(t) - 1));
    lift_write(l, 0,
               ir_bin(l->b,
                      op == X86_SHLX   ? IR_shl
                      : op == X86_SHRX ? IR_shr
                                       : IR_sar,
                      t, a, n));
    return true;
}

/* ADCX, ADOX: add with CF or OF as carry in and out, other flags untouched. */
static bool lift_adx(struct lift *l)
{
    enum ir_type t = type_of(l, 0);
    bool of = l->in->op == X86_ADOX;
    ir_ref old = ir_get_flags(l->b), a = lift_read(l, 0), b = lift_read(l, 1);
    ir_ref r = ir_tri(l->b, of ? IR_adox : IR_adcx, t, a, b, old);
    ir_ref f = ir_flags(l->b, of ? IR_FL_ADOX : IR_FL_ADCX, t, a, b, old, IR_NONE);
    lift_write(l, 0, r);
    ir_set_flags(l->b, f);
    return true;
}

static bool lift_crc32(struct lift *l)
{
    ir_ref crc = ir_getreg(l->b, IR_I32, l->in->opnd[0].reg), data = lift_read(l, 1);
    ir_ref r = ir_bin(l->b, IR_crc32c, type_of(l, 1), crc, data);
    ir_ref wide = ir_ext(l->b, IR_zext, IR_I64, IR_I32, r);
    ir_setreg(l->b, IR_I64, l->in->opnd[0].reg, wide);
    return true;
}

x86_lift_fn *const x86_lift_bits[X86_OP_COUNT] = {
    [X86_ROL... X86_SAR] = lift_shift,
    [X86_SHLD] = lift_shiftd,
    [X86_SHRD] = lift_shiftd,
    [X86_BT] = lift_bt,
    [X86_BTS] = lift_bt,
    [X86_BTR] = lift_bt,
    [X86_BTC] = lift_bt,
    [X86_BSF] = lift_scan,
    [X86_BSR] = lift_scan,
    [X86_TZCNT] = lift_count,
    [X86_LZCNT] = lift_count,
    [X86_POPCNT] = lift_count,
    [X86_ANDN] = lift_andn,
    [X86_BLSR] = lift_bls,
    [X86_BLSMSK] = lift_bls,
    [X86_BLSI] = lift_bls,
    [X86_BZHI] = lift_bzhi,
    [X86_BEXTR] = lift_bextr,
    [X86_PDEP] = lift_pdep,
    [X86_PEXT] = lift_pdep,
    [X86_MULX] = lift_mulx,
    [X86_SHLX] = lift_shiftx,
    [X86_SHRX] = lift_shiftx,
    [X86_SARX] = lift_shiftx,
    [X86_RORX] = lift_shiftx,
    [X86_ADCX] = lift_adx,
    [X86_ADOX] = lift_adx,
    [X86_CRC32] = lift_crc32,
};
