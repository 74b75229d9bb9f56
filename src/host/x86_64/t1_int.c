/*
 * T1: integer ops. Each first settles what happens to host flags, then fetches operands, then the
 * place of the result; all the moves in between leave flags alone.
 */
#include "host/x86_64/t1.h"

#include "base/bits.h"

/* Width to compute in: narrow results need exact width only for their flags or in their home. */
static enum ir_type width(const struct ir_op *op, unsigned reg, bool exact)
{
    bool narrow = op->type == IR_I8 || op->type == IR_I16;
    bool temp = reg == X_R11 || reg == X_R14 || reg == X_RAX;
    return narrow && temp && !exact ? IR_I32 : op->type;
}

/* Copies operand `v` to `reg` unless it is there. */
static void bring(struct t1 *t, const struct ir_op *op, unsigned reg, ir_ref v)
{
    bool home = reg != X_R11 && reg != X_R14 && reg != X_RAX;
    struct x_rm m;
    uint64_t k;
    if (t1_number(t, v, &k)) {
        t1_copy_to(t, op->type, reg, v);
        return;
    }
    m = t->v[v].loc == L_NONE ? x_r(reg) : t1_rm(t, v);
    if (m.mem || m.reg != reg) {
        x_mov_r_rm(&t->hot, home ? op->type : op->type == IR_I64 ? IR_I64 : IR_I32, reg, m);
    }
}

static unsigned zx_of(enum ir_type w)
{
    return w == IR_I32 ? 32 : 64;
}

static bool is_temp_dying(const struct t1 *t, ir_ref v)
{
    return t->v[v].loc == L_TEMP && t1_dies(t, v);
}

/* Should operands of a commutative op change places? */
static bool better_swapped(const struct t1 *t, const struct ir_op *op)
{
    uint64_t k;
    const struct val *x = &t->v[t->i];
    bool memory = t->v[op->a].loc == L_MEM;
    if (memory || t->v[op->b].loc == L_MEM) {
        return memory;
    }
    if (t1_const(t, op->a, &k)) {
        return true;
    }
    if (t1_const(t, op->b, &k)) {
        return false;
    }
    if (x->home) {
        bool b_home = t->v[op->b].loc == L_GUEST && t->v[op->b].reg == x->home - 1u;
        bool a_home = t->v[op->a].loc == L_GUEST && t->v[op->a].reg == x->home - 1u;
        if (a_home != b_home) {
            return b_home;
        }
    }
    return !is_temp_dying(t, op->a) && is_temp_dying(t, op->b);
}

/* add and sub of a constant, or of registers, as LEA: host flags stay. */
static bool add_by_lea(struct t1 *t, const struct ir_op *op, ir_ref a, ir_ref b)
{
    int32_t imm;
    bool flags_matter = t->fl.host != IR_NONE && t->last[t->fl.host] > t->i;
    if (op->type < IR_I32 || t1_wanted_flags(t, (ir_ref)t->i) != IR_NONE) {
        return false;
    }
    bool has_imm = t1_imm(t, b, op->type, &imm) && !(op->op == IR_sub && imm == INT32_MIN);
    if (!has_imm && op->op == IR_sub) {
        return false;
    }
    if (has_imm && t1_sum(t, a, op->op == IR_sub ? -(int64_t)imm : imm)) {
        return true;
    }
    bool in_place = t->v[t->i].home && t->v[a].loc == L_GUEST && t->v[a].reg == t->v[t->i].home - 1;
    if (!flags_matter && (in_place || is_temp_dying(t, a))) {
        return false; /* the two-operand form is as short */
    }
    uint64_t k;
    if (t1_const(t, a, &k) || (!has_imm && t1_const(t, b, &k))) {
        return false;
    }
    unsigned ra = t1_reg(t, a), rb = has_imm ? X_NONE : t1_reg(t, b);
    unsigned d = t1_dest(t, a, IR_NONE, IR_NONE);
    struct x_rm m = has_imm ? x_m(ra, op->op == IR_sub ? -imm : imm) : x_mx(ra, rb, 0, 0);
    x_lea(&t->hot, op->type, d, m);
    t1_bind(t, d, zx_of(op->type));
    return true;
}

/* INC and DEC: CF comes from the old flags, in host flags or staying in env. */
static bool inc_dec(struct t1 *t, const struct ir_op *op, ir_ref f)
{
    const struct ir_op *fop = &t->b->op[f];
    if (fop->aux != IR_FL_INC && fop->aux != IR_FL_DEC) {
        return false;
    }
    bool cf_in_env;
    if (fop->c == t->fl.host) {
        t1_save(t, false);
        cf_in_env = t->fl.cf_in_env;
    } else if (fop->c == t->fl.env) {
        t1_clobber(t, false);
        cf_in_env = true;
    } else {
        t->fail = true;
        return true;
    }
    unsigned d = t1_dest(t, op->a, IR_NONE, IR_NONE);
    bring(t, op, d, op->a);
    x_incdec_rm(&t->hot, fop->aux == IR_FL_DEC, op->type, x_r(d));
    t1_bind(t, d, zx_of(op->type));
    t1_set_host(t, f);
    t->fl.cf_in_env = cf_in_env;
    return true;
}

static void alu_operand(struct t1 *t, enum x_alu alu, enum ir_type w, unsigned d, ir_ref b)
{
    int32_t imm;
    if (t1_imm(t, b, w, &imm)) {
        x_alu_rm_i(&t->hot, alu, w, x_r(d), imm);
    } else {
        x_alu_r_rm(&t->hot, alu, w, d, t1_rm(t, b));
    }
}

/* Carry of flags value c into host CF. Other flags are not promised. */
static bool bring_carry(struct t1 *t, ir_ref c, bool all)
{
    if (c == t->fl.host && !t->fl.cf_in_env) {
        t1_save(t, false);
        return true;
    }
    if (c == t->fl.host || all) {
        bool ok = t1_flags_host(t, c);
        t1_save(t, false);
        return ok;
    }
    if (c != t->fl.env) {
        return false;
    }
    t1_clobber(t, false);
    x_bt_rm_i(&t->hot, IR_I32, x_env(offsetof(struct rt_env, flags)), 8);
    return true;
}

static bool alu_op(struct t1 *t, const struct ir_op *op, enum x_alu alu)
{
    ir_ref a = op->a, b = op->b, f = t1_wanted_flags(t, (ir_ref)t->i);
    bool commutes = alu != X_SUB && alu != X_SBB;
    bool carry = alu == X_ADC || alu == X_SBB;
    if (commutes && better_swapped(t, op)) {
        a = op->b;
        b = op->a;
    }
    if ((alu == X_ADD || alu == X_SUB) && add_by_lea(t, op, a, b)) {
        return true;
    }
    if (f != IR_NONE && inc_dec(t, op, f)) {
        return true;
    }
    if (carry) {
        if (!bring_carry(t, op->c, false)) {
            return false;
        }
    } else {
        t1_clobber(t, false);
    }
    /* what b needs must be ready before the destination is written */
    int32_t imm;
    if (!t1_imm(t, b, op->type, &imm)) {
        uint64_t k;
        if (t1_const(t, b, &k)) {
            unsigned kr = t1_temp(t);
            x_mov_r_i64(&t->hot, kr, k);
            unsigned d = t1_dest(t, a, b, IR_NONE);
            bring(t, op, d, a);
            x_alu_r_rm(&t->hot, alu, width(op, d, f != IR_NONE), d, x_r(kr));
            t1_bind(t, d, zx_of(op->type));
            t1_set_host(t, f);
            return true;
        }
        t1_rm(t, b);
    }
    unsigned d = t1_dest(t, a, b == a ? IR_NONE : b, IR_NONE);
    bring(t, op, d, a);
    enum ir_type w = width(op, d, f != IR_NONE);
    if (b == a) {
        x_alu_r_rm(&t->hot, alu, w, d, x_r(d));
    } else {
        alu_operand(t, alu, w, d, b);
    }
    t1_bind(t, d, zx_of(op->type));
    t1_set_host(t, f);
    return true;
}

static bool unary(struct t1 *t, const struct ir_op *op)
{
    ir_ref f = t1_wanted_flags(t, (ir_ref)t->i);
    if (op->op == IR_neg) {
        t1_clobber(t, false);
    }
    unsigned d = t1_dest(t, op->a, IR_NONE, IR_NONE);
    bring(t, op, d, op->a);
    x_unary_rm(&t->hot, op->op == IR_neg ? X_NEG : X_NOT, width(op, d, f != IR_NONE), x_r(d));
    t1_bind(t, d, zx_of(op->type));
    if (op->op == IR_neg) {
        t1_set_host(t, f);
    }
    return true;
}

/* Narrow operands must fill 32 bits when the shift is done in 32. */
static void bring_extended(struct t1 *t, const struct ir_op *op, unsigned d, bool is_signed)
{
    uint64_t k;
    if (op->type >= IR_I32 || t1_const(t, op->a, &k)) {
        t1_copy_to(t, op->type, d, op->a);
        if (op->type < IR_I32 && is_signed && t1_const(t, op->a, &k)) {
            x_movsx(&t->hot, IR_I32, op->type, d, x_r(d));
        }
    } else if (is_signed) {
        x_movsx(&t->hot, IR_I32, op->type, d, t1_rm(t, op->a));
    } else {
        x_movzx(&t->hot, op->type, d, t1_rm(t, op->a));
    }
}

static bool shift_const(struct t1 *t, const struct ir_op *op, enum x_shift sh, unsigned n, ir_ref f)
{
    unsigned bits = ir_type_bits(op->type);
    bool rotate = sh <= X_RCR;
    if (f == IR_NONE && t->c->bmi2 && op->type >= IR_I32 && (sh == X_ROL || sh == X_ROR)) {
        struct x_rm a = t1_rm(t, op->a);
        unsigned d = t1_dest(t, op->a, IR_NONE, IR_NONE);
        x_rorx(&t->hot, op->type, d, a, (sh == X_ROL ? bits - n : n) & (bits - 1));
        t1_bind(t, d, zx_of(op->type));
        return true;
    }
    if (f != IR_NONE && rotate && n) {
        if (!bring_carry(t, t->b->op[f].c, true)) {
            return false;
        }
    } else if (sh == X_RCL || sh == X_RCR) {
        if (!bring_carry(t, op->c, false)) {
            return false;
        }
    } else {
        t1_clobber(t, false);
    }
    bool far = !rotate && n >= bits && f == IR_NONE; /* 8 and 16 bits only: counts go to 31 */
    unsigned d = far ? t1_temp(t) : t1_dest(t, op->a, IR_NONE, IR_NONE);
    if (far) {
        bring_extended(t, op, d, sh == X_SAR);
        x_shift_rm_i(&t->hot, sh, IR_I32, x_r(d), n > 31 ? 31 : n);
    } else {
        bring(t, op, d, op->a);
        x_shift_rm_i(&t->hot, sh, op->type, x_r(d), n);
    }
    t1_bind(t, d, zx_of(op->type));
    t1_set_host(t, f);
    return true;
}

/* Shift of register d by value b, which must be in cl: rcx is lent for it when it is a home. */
static bool shift_by_cl(struct t1 *t, const struct ir_op *op, enum x_shift sh, unsigned d, ir_ref b,
                        ir_ref fill)
{
    struct x_rm n = t1_rm(t, b);
    bool lent = n.mem || n.reg != X_RCX;
    unsigned keep = 0;
    if (lent) {
        keep = t1_temp(t);
        x_mov_r_rm(&t->hot, IR_I64, keep, x_r(X_RCX));
        x_mov_r_rm(&t->hot, IR_I32, X_RCX, n);
    }
    if (fill != IR_NONE) {
        unsigned fr = t1_reg(t, fill);
        fr = lent && fr == X_RCX ? keep : fr;
        x_shiftd_rm_r_cl(&t->hot, op->op == IR_shld, op->type, x_r(d), fr);
    } else {
        x_shift_rm_cl(&t->hot, sh, op->type, x_r(d));
    }
    if (lent) {
        x_mov_r_rm(&t->hot, IR_I64, X_RCX, x_r(keep));
    }
    return true;
}

static bool shift_flagless(struct t1 *t, const struct ir_op *op, enum x_shift sh)
{
    if (op->type >= IR_I32) {
        unsigned n = t1_reg(t, op->b);
        struct x_rm a = t1_rm(t, op->a);
        unsigned d = t1_dest(t, op->a, op->b, IR_NONE);
        x_shlx(&t->hot, sh, op->type, d, a, n);
        t1_bind(t, d, zx_of(op->type));
        return true;
    }
    unsigned n = t1_reg(t, op->b), d = t1_temp(t);
    bring_extended(t, op, d, sh == X_SAR);
    x_shlx(&t->hot, sh, IR_I32, d, x_r(d), n);
    t1_bind(t, d, 32);
    return true;
}

static bool shift_op(struct t1 *t, const struct ir_op *op, enum x_shift sh)
{
    uint64_t k;
    ir_ref f = t1_wanted_flags(t, (ir_ref)t->i);
    bool rotate = sh <= X_RCR;
    if (t1_const(t, op->b, &k)) {
        unsigned n = (unsigned)k & (op->type == IR_I64 ? 63 : 31);
        if (k > 63 || (n == 0 && f != IR_NONE)) {
            return false;
        }
        return shift_const(t, op, sh, n, f);
    }
    if (!rotate && f == IR_NONE && t->c->bmi2) {
        return shift_flagless(t, op, sh);
    }
    if (f != IR_NONE) {
        if (t->b->op[f].c == IR_NONE || !bring_carry(t, t->b->op[f].c, true)) {
            return false;
        }
    } else if (sh == X_RCL || sh == X_RCR) {
        if (!bring_carry(t, op->c, false)) {
            return false;
        }
    } else {
        t1_clobber(t, false);
    }
    t1_rm(t, op->b);
    unsigned d = t1_temp(t); /* never rcx */
    bring(t, op, d, op->a);
    if (!shift_by_cl(t, op, sh, d, op->b, IR_NONE)) {
        return false;
    }
    t1_bind(t, d, zx_of(op->type));
    t1_set_host(t, f);
    return true;
}

static bool shiftd_op(struct t1 *t, const struct ir_op *op)
{
    uint64_t k;
    ir_ref f = t1_wanted_flags(t, (ir_ref)t->i);
    bool is_const = t1_const(t, op->d, &k);
    if (op->type < IR_I16 || op->type == IR_H8 ||
        (is_const && (k == 0 || k >= ir_type_bits(op->type))) ||
        (op->type == IR_I16 && !is_const)) {
        return false;
    }
    if (f != IR_NONE && !is_const) {
        if (t->b->op[f].c == IR_NONE || !bring_carry(t, t->b->op[f].c, true)) {
            return false;
        }
    } else {
        t1_clobber(t, false);
    }
    unsigned d;
    if (is_const) {
        unsigned fill = t1_reg(t, op->b);
        d = t1_dest(t, op->a, op->b, IR_NONE);
        bring(t, op, d, op->a);
        x_shiftd_rm_r_i(&t->hot, op->op == IR_shld, op->type, x_r(d), fill, (unsigned)k);
    } else {
        t1_rm(t, op->d);
        d = t1_temp(t);
        bring(t, op, d, op->a);
        shift_by_cl(t, op, X_SHL, d, op->d, op->b);
    }
    t1_bind(t, d, zx_of(op->type));
    t1_set_host(t, f);
    return true;
}

static bool extend_op(struct t1 *t, const struct ir_op *op)
{
    enum ir_type from = op->op == IR_trunc ? op->type : op->aux;
    unsigned bits = ir_type_bits(from);
    uint64_t k;
    if (t1_const(t, op->a, &k)) {
        unsigned d = t1_temp(t);
        k = op->op == IR_sext ? (uint64_t)sign_extend(k, bits) : k & mask_low(bits);
        x_mov_r_i64(&t->hot, d, k);
        t1_bind(t, d, 64);
        return true;
    }
    unsigned zx = t->v[op->a].zx;
    if ((op->op == IR_trunc || (op->op == IR_zext && zx <= bits)) && t1_alias_of(t, op->a)) {
        return true;
    }
    struct x_rm a = t1_rm(t, op->a);
    unsigned d = t1_dest(t, op->a, IR_NONE, IR_NONE);
    bool same = !a.mem && a.reg == d;
    if (op->op == IR_sext) {
        x_movsx(&t->hot, op->type, from, d, a);
        zx = op->type == IR_I64 ? 64 : 32;
    } else if (op->op == IR_zext && zx > bits) {
        x_movzx(&t->hot, from, d, a);
        zx = bits;
    } else if (!same) {
        x_mov_r_rm(&t->hot, op->type == IR_I64 ? IR_I64 : IR_I32, d, a);
    }
    t1_bind(t, d, zx);
    return true;
}

/* `lea r32, m`: nothing but the low half is used, in a home. */
static bool set_narrow(struct t1 *t, const struct ir_op *op)
{
    const struct ir_op *n = op + 1;
    if (t->i + 1 >= t->b->nops || n->op != IR_setreg || n->type != IR_I32 || n->a != t->i ||
        t->last[t->i] != t->i + 1 || t->c->pin[n->aux] == X_NONE) {
        return false;
    }
    t->v[t->i].home = (uint8_t)(n->aux + 1);
    return true;
}

static bool lea_op(struct t1 *t, const struct ir_op *op)
{
    unsigned scale = op->aux & IR_AUX_SCALE;
    int64_t disp = op->imm;
    uint64_t k;
    ir_ref a = op->a, b = op->b;
    if (t1_const(t, a, &k)) {
        disp += (int64_t)k;
        a = IR_NONE;
    }
    if (t1_const(t, b, &k)) {
        disp += (int64_t)(k << scale);
        b = IR_NONE;
    }
    if (op->type == IR_I32) {
        disp = (int32_t)disp;
    }
    if (disp != (int32_t)disp) {
        unsigned d = t1_temp(t);
        x_mov_r_i64(&t->hot, d, (uint64_t)disp);
        if (a != IR_NONE && b != IR_NONE) {
            x_lea(&t->hot, IR_I64, d, x_mx(d, t1_reg(t, b), scale, 0));
            x_lea(&t->hot, IR_I64, d, x_mx(d, t1_reg(t, a), 0, 0));
        } else if (a != IR_NONE || b != IR_NONE) {
            x_lea(&t->hot, IR_I64, d,
                  x_mx(d, t1_reg(t, a != IR_NONE ? a : b), a != IR_NONE ? 0 : scale, 0));
        }
        t1_bind(t, d, 64);
        return true;
    }
    if (a == IR_NONE && b != IR_NONE && scale == 0) {
        a = b;
        b = IR_NONE;
    }
    bool narrow = set_narrow(t, op);
    if (!narrow && a != IR_NONE && b == IR_NONE && t1_sum(t, a, disp)) {
        return true;
    }
    unsigned ra = a == IR_NONE ? X_NONE : t1_reg(t, a);
    unsigned rb = b == IR_NONE ? X_NONE : t1_reg(t, b);
    unsigned d = t1_dest(t, a, IR_NONE, IR_NONE);
    bool wide = op->type == IR_I64 && !narrow;
    if (a == IR_NONE && b == IR_NONE) {
        x_mov_r_i64(&t->hot, d, wide ? (uint64_t)disp : (uint32_t)disp);
    } else {
        x_lea(&t->hot, wide ? IR_I64 : IR_I32, d, x_mx(ra, rb, scale, (int32_t)disp));
    }
    t1_bind(t, d, wide ? 64 : 32);
    return true;
}

/* Boolean of the host condition cc. */
static bool set_bool(struct t1 *t, enum ir_cc cc)
{
    unsigned d = t1_temp(t);
    x_setcc_rm(&t->hot, cc, x_r(d));
    t1_bind(t, d, 64);
    return true;
}

static bool compare_op(struct t1 *t, const struct ir_op *op)
{
    int32_t imm;
    t1_clobber(t, false);
    unsigned a = t1_reg(t, op->a);
    if (t1_imm(t, op->b, op->type, &imm)) {
        x_alu_rm_i(&t->hot, X_CMP, op->type, x_r(a), imm);
    } else {
        x_alu_r_rm(&t->hot, X_CMP, op->type, a, t1_rm(t, op->b));
    }
    t1_unlock(t); /* the result may take any temporary; flags hold all of it */
    return set_bool(t, op->op == IR_seteq ? IR_CC_E : op->op == IR_setltu ? IR_CC_B : IR_CC_L);
}

static bool choose(struct t1 *t, const struct ir_op *op, enum ir_cc cc, ir_ref yes, ir_ref no)
{
    struct x_rm y = t1_rm(t, yes);
    unsigned d = t1_dest(t, no, yes, IR_NONE);
    bool home = d != X_R11 && d != X_R14 && d != X_RAX;
    bring(t, op, d, no);
    if (home && op->type < IR_I32) {
        return false;
    }
    x_cmov_r_rm(&t->hot, cc, op->type == IR_I64 ? IR_I64 : IR_I32, d, y);
    t1_bind(t, d, zx_of(op->type));
    return true;
}

static bool select_op(struct t1 *t, const struct ir_op *op)
{
    enum ir_cc cc = op->aux;
    if (op->op == IR_selnz) {
        t1_clobber(t, false);
        unsigned a = t1_reg(t, op->a);
        x_test_rm_r(&t->hot, IR_I8, x_r(a), a);
        t1_unlock(t);
        return choose(t, op, IR_CC_NE, op->b, op->c);
    }
    return t1_cc(t, op->a, &cc) && choose(t, op, cc, op->b, op->c);
}

static bool setcc_op(struct t1 *t, const struct ir_op *op)
{
    enum ir_cc cc = op->aux;
    return t1_cc(t, op->a, &cc) && set_bool(t, cc);
}

/* clz, ctz, popcnt with the host's own instructions, whose flags are those of ZCNT and POPCNT. */
static bool count_op(struct t1 *t, const struct ir_op *op)
{
    const struct ir_host_ctx *c = t->c;
    bool have = op->op == IR_clz ? c->lzcnt : op->op == IR_ctz ? c->tzcnt : c->popcnt;
    if (!have || op->type == IR_I8 || op->type == IR_H8) {
        return false;
    }
    t1_clobber(t, false);
    struct x_rm a = t1_rm(t, op->a);
    unsigned d = op->type == IR_I16 ? t1_temp(t) : t1_dest(t, IR_NONE, IR_NONE, IR_NONE);
    if (op->op == IR_clz) {
        x_lzcnt(&t->hot, op->type, d, a);
    } else if (op->op == IR_ctz) {
        x_tzcnt(&t->hot, op->type, d, a);
    } else {
        x_popcnt(&t->hot, op->type, d, a);
    }
    t1_bind(t, d, zx_of(op->type));
    t1_set_host(t, t1_wanted_flags(t, (ir_ref)t->i));
    return true;
}

static bool bit_op(struct t1 *t, const struct ir_op *op)
{
    if (op->op == IR_bswap) {
        unsigned d = t1_dest(t, op->a, IR_NONE, IR_NONE);
        bring(t, op, d, op->a);
        x_bswap_r(&t->hot, op->type, d);
        t1_bind(t, d, zx_of(op->type));
        return op->type == IR_I32 || op->type == IR_I64;
    }
    if (op->op == IR_crc32c) {
        struct x_rm b = t1_rm(t, op->b);
        unsigned d = t1_temp(t);
        t1_copy_to(t, IR_I32, d, op->a);
        x_crc32(&t->hot, op->type, d, b);
        t1_bind(t, d, 32);
        return true;
    }
    if (!t->c->bmi2 || op->type < IR_I32 || op->type == IR_H8) {
        return false;
    }
    unsigned a = t1_reg(t, op->a);
    struct x_rm b = t1_rm(t, op->b);
    unsigned d = t1_dest(t, op->a, IR_NONE, IR_NONE);
    if (op->op == IR_pdep) {
        x_pdep(&t->hot, op->type, d, a, b);
    } else {
        x_pext(&t->hot, op->type, d, a, b);
    }
    t1_bind(t, d, zx_of(op->type));
    return true;
}

bool t1_int_op(struct t1 *t, const struct ir_op *op)
{
    switch (op->op) {
    case IR_add: return alu_op(t, op, X_ADD);
    case IR_sub: return alu_op(t, op, X_SUB);
    case IR_and: return alu_op(t, op, X_AND);
    case IR_or: return alu_op(t, op, X_OR);
    case IR_xor: return alu_op(t, op, X_XOR);
    case IR_adc: return alu_op(t, op, X_ADC);
    case IR_sbb: return alu_op(t, op, X_SBB);
    case IR_adcx:
    case IR_adox: return t1_adx_op(t, op);
    case IR_not:
    case IR_neg: return unary(t, op);
    case IR_shl: return shift_op(t, op, X_SHL);
    case IR_shr: return shift_op(t, op, X_SHR);
    case IR_sar: return shift_op(t, op, X_SAR);
    case IR_rol: return shift_op(t, op, X_ROL);
    case IR_ror: return shift_op(t, op, X_ROR);
    case IR_rcl: return shift_op(t, op, X_RCL);
    case IR_rcr: return shift_op(t, op, X_RCR);
    case IR_shld:
    case IR_shrd: return shiftd_op(t, op);
    case IR_bswap:
    case IR_pdep:
    case IR_pext:
    case IR_crc32c: return bit_op(t, op);
    case IR_clz:
    case IR_ctz:
    case IR_popcnt: return count_op(t, op);
    case IR_zext:
    case IR_sext:
    case IR_trunc: return extend_op(t, op);
    case IR_fetch: return t1_fetch(t, op);
    case IR_lea: return lea_op(t, op);
    case IR_seteq:
    case IR_setltu:
    case IR_setlts: return compare_op(t, op);
    case IR_setcc: return setcc_op(t, op);
    case IR_select:
    case IR_selnz: return select_op(t, op);
    default: return t1_muldiv_op(t, op);
    }
}
