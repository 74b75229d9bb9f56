/*
 * T1: instructions that access memory. Where the memory is: t1_addr.c.
 */
#include "host/x86_64/t1.h"

/* The store of this instruction to where op (an ldw) loads from, or IR_NONE. */
static ir_ref store_of(const struct t1 *t, const struct ir_op *op)
{
    const struct ir_block *b = t->b;
    for (unsigned k = t->i + 1; k < b->nops && b->op[k].op != IR_insn; k++) {
        const struct ir_op *s = &b->op[k];
        if (s->op == IR_st && s->a == op->a && s->b == op->b && s->imm == op->imm &&
            s->type == op->type && s->aux == op->aux) {
            return (ir_ref)k;
        }
    }
    return IR_NONE;
}

/* The next op that code is made for, when nothing but it uses the current one's value. */
static const struct ir_op *only_user(const struct t1 *t, unsigned *at)
{
    const struct ir_block *b = t->b;
    unsigned j = t->i + 1;
    while (j < b->nops &&
           (b->op[j].op == IR_const || (b->op[j].op == IR_getreg && b->op[j].type != IR_H8) ||
            (b->op[j].op == IR_flags && t->v[j].fuse != IR_NONE))) {
        j++;
    }
    *at = j;
    return j < b->nops ? &b->op[j] : NULL;
}

/* Zero or sign extension of what is loaded, with the load. */
static bool load_extended(struct t1 *t, const struct ir_op *op, unsigned temp, struct x_rm m)
{
    const struct ir_op *n = op + 1;
    unsigned i = t->i;
    if (i + 1 >= t->b->nops || (n->op != IR_zext && n->op != IR_sext) || n->a != i ||
        t->last[i] != i + 1 || n->type < IR_I32 || n->aux != op->type || !t->last[i + 1]) {
        return false;
    }
    t->i++;
    unsigned d = t1_home(t);
    d = d == X_NONE ? temp : d;
    if (n->op == IR_sext) {
        x_movsx(&t->hot, n->type, op->type, d, m);
        t1_bind(t, d, n->type == IR_I64 ? 64 : 32);
    } else {
        x_movzx(&t->hot, op->type, d, m);
        t1_bind(t, d, ir_type_bits(op->type));
    }
    t->i = i;
    t->skip_next = true;
    return true;
}

/* Can op n have the value of the current load as a memory operand, read once? */
static bool takes_memory(const struct t1 *t, const struct ir_op *n, enum ir_type w)
{
    ir_ref i = (ir_ref)t->i;
    if (n->type != w) {
        return false;
    }
    switch (n->op) {
    case IR_add:
    case IR_and:
    case IR_or:
    case IR_xor: return w >= IR_I32 && (n->b == i) != (n->a == i);
    case IR_sub:
    case IR_adc:
    case IR_sbb:
    case IR_adcx:
    case IR_adox: return w >= IR_I32 && n->b == i && n->a != i;
    case IR_flags:
        return (n->aux == IR_FL_SUB || n->aux == IR_FL_AND) ? (n->b == i) != (n->a == i)
                                                            : n->aux == IR_FL_LOGIC && n->a == i;
    default: return false;
    }
}

static unsigned reg_bit(unsigned reg)
{
    return reg == X_NONE ? 0 : 1u << reg;
}

/*
 * Leaves the value where it is, as the memory operand of its only user. Its registers stay locked
 * until then. rax is needed for flags. The user must not change a guest register before it reads:
 * the access may still leave the block.
 */
static bool load_later(struct t1 *t, const struct ir_op *op, struct x_rm m)
{
    unsigned j, regs = reg_bit(m.reg) | reg_bit(m.index);
    const struct ir_op *n = only_user(t, &j);
    ir_ref f = t->fl.host;
    bool flags = f != IR_NONE && t->last[f] > t->i;
    if (!n || t->last[t->i] != j || !takes_memory(t, n, op->type) ||
        ((regs & reg_bit(X_RAX)) && (flags || (n->op >= IR_adc && n->op <= IR_adox))) ||
        (flags && t->fl.cf_in_env)) {
        return false;
    }
    unsigned home = n->op == IR_flags ? 0 : t->v[j].home;
    const struct ir_op *a = &t->b->op[n->a == t->i ? n->b : n->a];
    if (home && t->c->pin[home - 1] != X_NONE && (a->op != IR_getreg || a->aux != home - 1)) {
        return false;
    }
    struct val *x = &t->v[t->i];
    x->loc = L_MEM;
    x->zx = (uint8_t)ir_type_bits(op->type);
    t->mem = m;
    t->mem_until = j;
    t->mem_lock = (uint16_t)regs;
    return true;
}

static bool load(struct t1 *t, const struct ir_op *op)
{
    unsigned temps[2], d = t1_home(t);
    struct x_rm m;
    bool member = t1_member(t, op, &m);
    if (!member) {
        m = t1_address(t, op, ir_type_bytes(op->type), RT_READ, temps);
    } else if (d == X_NONE) {
        temps[0] = t1_temp(t);
    }
    if (t->fail) {
        return false;
    }
    if (member) {
        t1_site(t, false);
    } else if (t->note[1] && !t->note[0] && t->note_reg[1] == temps[0]) {
        temps[0] = temps[1]; /* better lose that */
    }
    if (d != X_NONE) { /* narrow ones merge into their home */
        x_mov_r_rm(&t->hot, op->type, d, m);
        t1_bind(t, d, op->type == IR_I32 ? 32 : 64);
    } else if (!load_extended(t, op, temps[0], m) && !load_later(t, op, m)) {
        x_movzx(&t->hot, op->type, temps[0], m);
        t1_bind(t, temps[0], ir_type_bits(op->type));
    }
    if (!member) {
        t1_keep(t);
    }
    return true;
}

/* The host address stays as the value of the store that follows: it needs no check then. */
static bool load_for_write(struct t1 *t, const struct ir_op *op)
{
    unsigned temps[2];
    ir_ref st = store_of(t, op);
    struct x_rm m = t1_address(t, op, ir_type_bytes(op->type), RT_READ | RT_WRITE, temps);
    if (t->fail) {
        return false;
    }
    if (st != IR_NONE) {
        x_lea(&t->hot, IR_I64, temps[0], m);
        m = x_m(temps[0], 0);
        t->last[st] = st;
        t1_bind_value(t, st, temps[0]);
    }
    x_movzx(&t->hot, op->type, temps[1], m);
    t1_bind(t, temps[1], ir_type_bits(op->type));
    return true;
}

/* The stored operand: immediate, or in a register that stays. */
static bool source(struct t1 *t, const struct ir_op *op, int32_t *imm, unsigned *reg)
{
    if (t1_imm(t, op->c, op->type, imm)) {
        return true;
    }
    uint64_t k;
    if (t1_const(t, op->c, &k)) {
        struct x_rm m = t1_rm(t, op->c);
        *reg = m.reg;
    } else {
        *reg = t1_reg(t, op->c);
    }
    return false;
}

static bool store(struct t1 *t, const struct ir_op *op)
{
    unsigned temps[2], reg = 0;
    int32_t imm;
    bool checked = t->v[t->i].loc != L_NONE; /* by load_for_write */
    if (!checked && !t1_keeps_flags(t)) {
        t1_clobber(t, true); /* before operands are fetched: it may need rax */
    }
    bool is_imm = source(t, op, &imm, &reg);
    struct x_rm m;
    if (checked) {
        m = x_m(t1_reg(t, (ir_ref)t->i), 0);
    } else if (t1_member(t, op, &m)) {
        t1_site(t, false);
    } else {
        m = t1_address(t, op, ir_type_bytes(op->type), RT_WRITE, temps);
        t1_keep(t);
    }
    if (is_imm) {
        x_mov_rm_i(&t->hot, op->type, m, imm);
    } else {
        x_mov_rm_r(&t->hot, op->type, m, reg);
    }
    return true;
}

static void lock(struct t1 *t, const struct ir_op *op)
{
    if (op->aux & IR_AUX_LOCK) {
        x_lock(&t->hot);
    }
}

static const uint8_t rmw_alu[IR_RMWS] = {
    [IR_RMW_ADD] = X_ADD, [IR_RMW_SUB] = X_SUB, [IR_RMW_AND] = X_AND, [IR_RMW_OR] = X_OR,
    [IR_RMW_XOR] = X_XOR, [IR_RMW_ADC] = X_ADC, [IR_RMW_SBB] = X_SBB, [IR_RMW_ANDN] = X_AND,
};

/* XADD and XCHG give the old value. */
static bool rmw_exchange(struct t1 *t, const struct ir_op *op, enum ir_rmw what, ir_ref f)
{
    unsigned temps[2];
    struct enc *e = &t->hot;
    t1_clobber(t, true);
    unsigned r = t1_temp(t);
    t1_copy_to(t, op->type, r, op->c);
    struct x_rm m = t1_address(t, op, ir_type_bytes(op->type), RT_WRITE, temps);
    if (what == IR_RMW_XCHG) {
        x_xchg_rm_r(e, op->type, m, r);
    } else {
        lock(t, op);
        x_xadd_rm_r(e, op->type, m, r);
        t1_set_host(t, f);
    }
    t1_bind(t, r, op->type == IR_I32 ? 32 : 64);
    return true;
}

static void rmw_compute(struct t1 *t, const struct ir_op *op, enum ir_rmw what, unsigned d)
{
    int32_t imm;
    enum ir_type w = op->type < IR_I32 ? IR_I32 : op->type;
    if (what == IR_RMW_NOT || what == IR_RMW_NEG) {
        x_unary_rm(&t->hot, what == IR_RMW_NEG ? X_NEG : X_NOT, w, x_r(d));
    } else if (what == IR_RMW_ANDN) { /* old & ~c = ~(~old | c) */
        x_unary_rm(&t->hot, X_NOT, w, x_r(d));
        if (t1_imm(t, op->c, op->type, &imm)) {
            x_alu_rm_i(&t->hot, X_OR, w, x_r(d), imm);
        } else {
            x_alu_r_rm(&t->hot, X_OR, w, d, t1_rm(t, op->c));
        }
        x_unary_rm(&t->hot, X_NOT, w, x_r(d));
    } else if (t1_imm(t, op->c, op->type, &imm)) {
        x_alu_rm_i(&t->hot, rmw_alu[what], w, x_r(d), imm);
    } else {
        x_alu_r_rm(&t->hot, rmw_alu[what], w, d, t1_rm(t, op->c));
    }
}

/* Old value wanted, or no single instruction: load, compute, store; a CMPXCHG loop when locked. */
static bool rmw_loop(struct t1 *t, const struct ir_op *op, enum ir_rmw what, ir_ref f)
{
    unsigned temps[2];
    uint64_t k;
    int32_t imm;
    struct enc *e = &t->hot;
    bool wide = t1_const(t, op->c, &k) && !t1_imm(t, op->c, op->type, &imm);
    if (f != IR_NONE || what == IR_RMW_ADC || what == IR_RMW_SBB || wide) {
        return false;
    }
    t1_clobber(t, true);
    if (!t1_take(t, X_RAX)) {
        return false;
    }
    struct x_rm m = t1_address(t, op, ir_type_bytes(op->type), RT_WRITE, temps);
    if (t->fail) {
        return false;
    }
    x_lea(e, IR_I64, temps[0], m);
    m = x_m(temps[0], 0);
    x_movzx(e, op->type, X_RAX, m);
    uint8_t *again = e->p;
    x_mov_r_rm(e, IR_I64, temps[1], x_r(X_RAX));
    rmw_compute(t, op, what, temps[1]);
    if (op->aux & IR_AUX_LOCK) {
        x_lock(e);
        x_cmpxchg_rm_r(e, op->type, m, temps[1]);
        x_patch(x_jcc(e, IR_CC_NE), again);
    } else {
        x_mov_rm_r(e, op->type, m, temps[1]);
    }
    t1_bind(t, X_RAX, 64);
    return true;
}

static bool rmw_alu_op(struct t1 *t, const struct ir_op *op, enum ir_rmw what, ir_ref f)
{
    unsigned temps[2], reg = 0;
    int32_t imm;
    struct enc *e = &t->hot;
    t1_clobber(t, true);
    bool is_imm = source(t, op, &imm, &reg);
    struct x_rm m = t1_address(t, op, ir_type_bytes(op->type), RT_WRITE, temps);
    if (what == IR_RMW_ADC || what == IR_RMW_SBB) {
        if (op->d != t->fl.env) {
            return false;
        }
        x_bt_rm_i(e, IR_I32, x_env(offsetof(struct rt_env, flags)), 8);
    }
    lock(t, op);
    if (is_imm) {
        x_alu_rm_i(e, rmw_alu[what], op->type, m, imm);
    } else {
        x_alu_rm_r(e, rmw_alu[what], op->type, m, reg);
    }
    t1_set_host(t, f);
    return true;
}

static bool rmw_unary(struct t1 *t, const struct ir_op *op, enum ir_rmw what, ir_ref f)
{
    unsigned temps[2];
    t1_clobber(t, true);
    struct x_rm m = t1_address(t, op, ir_type_bytes(op->type), RT_WRITE, temps);
    lock(t, op);
    x_unary_rm(&t->hot, what == IR_RMW_NEG ? X_NEG : X_NOT, op->type, m);
    if (what == IR_RMW_NEG) {
        t1_set_host(t, f);
    }
    return true;
}

static bool rmw_incdec(struct t1 *t, const struct ir_op *op, ir_ref f)
{
    unsigned temps[2];
    t1_clobber(t, true);
    struct x_rm m = t1_address(t, op, ir_type_bytes(op->type), RT_WRITE, temps);
    if (t->b->op[f].c != t->fl.env) {
        return false;
    }
    lock(t, op);
    x_incdec_rm(&t->hot, t->b->op[f].aux == IR_FL_DEC, op->type, m);
    t1_set_host(t, f);
    t->fl.cf_in_env = true;
    return true;
}

static bool rmw(struct t1 *t, const struct ir_op *op)
{
    enum ir_rmw what = IR_AUX_RMW(op->aux);
    ir_ref f = t1_wanted_flags(t, (ir_ref)t->i);
    bool old = t->last[t->i];
    if (what == IR_RMW_XCHG || (old && what == IR_RMW_ADD)) {
        return rmw_exchange(t, op, what, f);
    }
    if (old || what == IR_RMW_ANDN) {
        return rmw_loop(t, op, what, f);
    }
    if (what == IR_RMW_NEG || what == IR_RMW_NOT) {
        return rmw_unary(t, op, what, f);
    }
    if (f != IR_NONE && (t->b->op[f].aux == IR_FL_INC || t->b->op[f].aux == IR_FL_DEC)) {
        return rmw_incdec(t, op, f);
    }
    return rmw_alu_op(t, op, what, f);
}

static bool cmpxchg(struct t1 *t, const struct ir_op *op)
{
    unsigned temps[2], d;
    struct enc *e = &t->hot;
    t1_clobber(t, true);
    if (!t1_take(t, X_RAX)) {
        return false;
    }
    struct x_rm m = t1_address(t, op, ir_type_bytes(op->type), RT_WRITE, temps);
    if (t->fail) {
        return false;
    }
    uint64_t k;
    bool is_const = t1_const(t, op->d, &k);
    struct x_rm src = is_const ? m : t1_rm(t, op->d);
    if (is_const || src.mem) { /* the pointer in one register frees the other */
        x_lea(e, IR_I64, temps[0], m);
        m = x_m(temps[0], 0);
        d = temps[1];
        if (is_const) {
            x_mov_r_i64(e, d, k);
        } else {
            x_mov_r_rm(e, IR_I64, d, src);
        }
    } else {
        d = src.reg;
    }
    t1_copy_to(t, op->type, X_RAX, op->c);
    lock(t, op);
    x_cmpxchg_rm_r(e, op->type, m, d);
    t1_bind(t, X_RAX, 64);
    t1_set_host(t, t1_wanted_flags(t, (ir_ref)t->i));
    return true;
}

bool t1_mem_op(struct t1 *t, const struct ir_op *op)
{
    unsigned temps[2];
    switch (op->op) {
    case IR_ld: return load(t, op);
    case IR_ldw: return load_for_write(t, op);
    case IR_st: return store(t, op);
    case IR_probew: t1_address(t, op, ir_type_bytes(op->type), RT_WRITE, temps); return true;
    case IR_rmw: return rmw(t, op);
    case IR_cmpxchg: return cmpxchg(t, op);
    case IR_fence: x_mfence(&t->hot); return true;
    default: return false;
    }
}
