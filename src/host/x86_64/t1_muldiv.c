/* T1: multiplication and division, which the host does in rax and rdx. rdx is a guest's home. */
#include "host/x86_64/t1.h"

#define SAVE_RDX x_env(offsetof(struct rt_env, host_save[2]))

/* The next live op, when it is `want` on the same operands: both come from one instruction. */
static bool partner(const struct t1 *t, const struct ir_op *op, unsigned want)
{
    const struct ir_op *n = op + 1;
    return t->i + 1 < t->b->nops && n->op == want && t->last[t->i + 1] && n->type == op->type &&
           n->a == op->a && n->b == op->b && (op->op == IR_mul || n->c == op->c);
}

static void bind_next(struct t1 *t, unsigned reg)
{
    t->i++;
    t1_bind(t, reg, 64);
    t->i--;
    t->skip_next = true;
}

static bool in_rdx(const struct t1 *t, ir_ref v)
{
    return t->v[v].loc == L_GUEST && t->c->pin[t->v[v].reg] == X_RDX;
}

/* Registers for the halves of a product; the second op is emitted with the first. */
static void halves(struct t1 *t, bool low, bool high, unsigned *lo, unsigned *hi)
{
    *hi = X_NONE;
    *lo = low ? t1_dest(t, IR_NONE, IR_NONE, IR_NONE) : X_NONE;
    if (high) {
        t->i += low;
        *hi = t1_dest(t, IR_NONE, IR_NONE, IR_NONE);
        t->i -= low;
    }
}

/* Unsigned, flags stay. MULX multiplies by rdx: best if one factor is there. */
static bool mul_keeping_flags(struct t1 *t, const struct ir_op *op, bool low, bool high)
{
    bool swap = in_rdx(t, op->b) && !in_rdx(t, op->a);
    ir_ref a = swap ? op->b : op->a, b = swap ? op->a : op->b;
    bool there = in_rdx(t, a);
    unsigned lo, hi;
    struct x_rm m = t1_rm(t, b);
    halves(t, low, high, &lo, &hi);
    bool to_rdx = lo == X_RDX || hi == X_RDX;
    if (!there && !to_rdx) {
        x_mov_rm_r(&t->hot, IR_I64, SAVE_RDX, X_RDX);
    }
    if (!there) {
        t1_copy_to(t, op->type, X_RDX, a);
    }
    x_mulx(&t->hot, op->type, high ? hi : lo, low ? lo : hi, m);
    if (!there && !to_rdx) {
        x_mov_r_rm(&t->hot, IR_I64, X_RDX, SAVE_RDX);
    }
    t1_bind(t, low ? lo : hi, op->type == IR_I32 ? 32 : 64);
    if (low && high) {
        bind_next(t, hi);
    }
    return !t->fail;
}

/* One-operand multiplication: low half to rax, high half to a temporary. */
static bool mul_wide(struct t1 *t, const struct ir_op *op, bool is_signed, bool low, bool high)
{
    ir_ref f = op->op == IR_mul ? t1_wanted_flags(t, (ir_ref)t->i) : IR_NONE;
    if (op->type < IR_I16 || op->type == IR_H8) {
        return false;
    }
    if (!is_signed && f == IR_NONE && op->type >= IR_I32 && t->c->bmi2) {
        return mul_keeping_flags(t, op, low, high);
    }
    t1_clobber(t, false);
    if (!t1_take(t, X_RAX)) {
        return false;
    }
    unsigned hi = t1_temp(t);
    struct x_rm b = t1_rm(t, op->b);
    t1_copy_to(t, op->type, X_RAX, op->a);
    x_mov_rm_r(&t->hot, IR_I64, SAVE_RDX, X_RDX);
    x_unary_rm(&t->hot, is_signed ? X_IMUL : X_MUL, op->type, b);
    x_mov_r_rm(&t->hot, IR_I64, hi, x_r(X_RDX)); /* xchg would take several cycles */
    x_mov_r_rm(&t->hot, IR_I64, X_RDX, SAVE_RDX);
    if (low) {
        t1_bind(t, X_RAX, 64);
        if (high) {
            bind_next(t, hi);
        }
    } else {
        t1_bind(t, hi, 64);
    }
    t1_set_host(t, f);
    return true;
}

static bool mul_low(struct t1 *t, const struct ir_op *op)
{
    ir_ref f = t1_wanted_flags(t, (ir_ref)t->i);
    if (partner(t, op, IR_mulhu) || (f != IR_NONE && t->b->op[f].aux == IR_FL_MULU)) {
        return mul_wide(t, op, false, true, partner(t, op, IR_mulhu));
    }
    if (partner(t, op, IR_mulhs)) {
        return mul_wide(t, op, true, true, true);
    }
    if (f != IR_NONE && op->type == IR_I8) {
        return false;
    }
    enum ir_type w = f == IR_NONE && op->type < IR_I32 ? IR_I32 : op->type;
    int32_t imm;
    t1_clobber(t, false);
    if (t1_imm(t, op->b, w, &imm)) {
        uint64_t k;
        struct x_rm a = t1_const(t, op->a, &k) ? x_r(t1_reg(t, op->a)) : t1_rm(t, op->a);
        unsigned d = w < IR_I32 ? t1_temp(t) : t1_dest(t, op->a, IR_NONE, IR_NONE);
        x_imul_r_rm_i(&t->hot, w, d, a, imm);
        t1_bind(t, d, w == IR_I32 ? 32 : 64);
    } else {
        struct x_rm b = t1_rm(t, op->b);
        bool wide = w >= IR_I32 && op->type >= IR_I32;
        unsigned d =
            wide ? t1_dest(t, op->a, op->b == op->a ? IR_NONE : op->b, IR_NONE) : t1_temp(t);
        t1_copy_to(t, w, d, op->a);
        x_imul_r_rm(&t->hot, w, d, op->a == op->b ? x_r(d) : b);
        t1_bind(t, d, w == IR_I32 ? 32 : 64);
    }
    t1_set_host(t, f);
    return true;
}

/* Where SIGFPE goes on: rdx back, then T0 raises the guest's fault. */
static const uint8_t *divide_fault(struct t1 *t, bool restore)
{
    const uint8_t *at = t->cold.p;
    if (restore) {
        x_mov_r_rm(&t->cold, IR_I64, X_RDX, SAVE_RDX);
    }
    t1_store_pc(t, &t->cold, t->pc);
    x_patch(x_jmp(&t->cold), t->c->exit[RT_EXIT_STEP]);
    return at;
}

static bool div8(struct t1 *t, const struct ir_op *op, enum x_unary un, bool quot, bool rem)
{
    unsigned d = t1_temp(t), hi = t1_temp(t);
    t1_copy_to(t, IR_I32, d, op->b);
    t1_copy_to(t, IR_I32, hi, op->c);
    t1_copy_to(t, IR_I32, X_RAX, op->a);
    x_movzx(&t->hot, IR_I8, X_RAX, x_r(X_RAX));
    x_shift_rm_i(&t->hot, X_SHL, IR_I32, x_r(hi), 8);
    x_alu_r_rm(&t->hot, X_OR, IR_I32, X_RAX, x_r(hi));
    mark_emit(&t->hot, divide_fault(t, false));
    x_unary_rm(&t->hot, un, IR_I8, x_r(d));
    x_mov_r_rm(&t->hot, IR_I32, d, x_r(X_RAX));
    x_shift_rm_i(&t->hot, X_SHR, IR_I32, x_r(d), 8);
    t1_bind(t, quot ? X_RAX : d, 64);
    if (quot && rem) {
        bind_next(t, d);
    }
    return true;
}

static bool div_op(struct t1 *t, const struct ir_op *op)
{
    bool is_signed = op->op == IR_divs || op->op == IR_rems;
    bool quot = op->op == IR_divu || op->op == IR_divs;
    bool rem = !quot || partner(t, op, is_signed ? IR_rems : IR_remu);
    enum x_unary un = is_signed ? X_IDIV : X_DIV;
    t1_clobber(t, true);
    if (!t1_take(t, X_RAX)) {
        return false;
    }
    if (op->type == IR_I8) {
        return div8(t, op, un, quot, rem);
    }
    unsigned d = t1_temp(t);
    t1_copy_to(t, op->type, d, op->b);
    t1_copy_to(t, op->type, X_RAX, op->a);
    x_mov_rm_r(&t->hot, IR_I64, SAVE_RDX, X_RDX);
    t1_copy_to(t, op->type, X_RDX, op->c);
    mark_emit(&t->hot, divide_fault(t, true));
    x_unary_rm(&t->hot, un, op->type, x_r(d));
    if (rem) {
        x_mov_r_rm(&t->hot, IR_I64, d, x_r(X_RDX));
    }
    x_mov_r_rm(&t->hot, IR_I64, X_RDX, SAVE_RDX);
    t1_bind(t, quot ? X_RAX : d, 64);
    if (quot && rem) {
        bind_next(t, d);
    }
    return true;
}

bool t1_muldiv_op(struct t1 *t, const struct ir_op *op)
{
    switch (op->op) {
    case IR_mul: return mul_low(t, op);
    case IR_mulhu: return mul_wide(t, op, false, false, true);
    case IR_mulhs: return mul_wide(t, op, true, false, true);
    case IR_divu:
    case IR_divs:
    case IR_remu:
    case IR_rems: return div_op(t, op);
    default: return false;
    }
}

/* ADCX and ADOX change one flag: the others stay where they are, in host flags. */
bool t1_adx_op(struct t1 *t, const struct ir_op *op)
{
    ir_ref f = t1_wanted_flags(t, (ir_ref)t->i);
    if (!t->c->adx || !t1_flags_host(t, op->c)) {
        return false;
    }
    t1_save(t, false);
    struct x_rm b = t1_rm(t, op->b);
    unsigned d = t1_dest(t, op->a, op->b, IR_NONE);
    t1_copy_to(t, op->type, d, op->a);
    x_adx(&t->hot, op->op == IR_adox, op->type, d, b);
    t1_bind(t, d, op->type == IR_I32 ? 32 : 64);
    t1_set_host(t, f);
    return !t->fail;
}
