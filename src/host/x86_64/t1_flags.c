/*
 * T1: flags values. At most one lives in host flags and one in env->flags (the image LAHF and
 * SETO give). A value goes to env->flags only when it is the guest's, or becomes so with nothing
 * in between that could show it; so env->flags is exact or dead wherever a block can be left.
 */
#include "host/x86_64/t1.h"

#define ENV_FLAGS offsetof(struct rt_env, flags)
#define ENV_CF_BIT 8 /* of the 16-bit image */

static ir_ref last_use(const struct t1 *t, ir_ref f)
{
    return f == IR_NONE ? 0 : t->last[f];
}

/* Does f become the guest's flags with nothing before that could show it? */
static bool becomes_guests(const struct t1 *t, ir_ref f)
{
    for (unsigned k = t->i; k < t->b->nops && t->b->op[k].op != IR_insn; k++) {
        const struct ir_op *op = &t->b->op[k];
        if (op->op == IR_setflags && op->a == f) {
            return true;
        }
        if (ir_op_props[op->op] & (IR_FAULT | IR_EXIT)) {
            return false;
        }
    }
    return true;
}

/* May f be written to env->flags now? */
static bool may_store(const struct t1 *t, ir_ref f)
{
    if (f < t->insn || t->fl.arch == f) {
        return true;
    }
    bool env_needed = t->fl.env != IR_NONE && last_use(t, t->fl.env) >= t->i;
    return !env_needed && becomes_guests(t, f);
}

void t1_store_flags(struct enc *e, bool merge_cf)
{
    x_lahf(e);
    x_setcc_rm(e, IR_CC_O, x_r(X_RAX));
    if (merge_cf) {
        x_movzx(e, IR_I16, X_R11, x_env(ENV_FLAGS));
        x_alu_rm_i(e, X_AND, IR_I32, x_r(X_RAX), ~(1 << ENV_CF_BIT));
        x_alu_rm_i(e, X_AND, IR_I32, x_r(X_R11), 1 << ENV_CF_BIT);
        x_alu_r_rm(e, X_OR, IR_I32, X_RAX, x_r(X_R11));
    }
    x_mov_rm_r(e, IR_I16, x_env(ENV_FLAGS), X_RAX);
}

static void free_temp(struct t1 *t, unsigned reg)
{
    for (unsigned k = 0; k < NTEMPS; k++) {
        if (temp_regs[k] == reg) {
            t->temp_busy[k] = false;
        }
    }
    t->lock &= (uint16_t) ~(1u << reg);
}

static void store_host(struct t1 *t)
{
    ir_ref f = t->fl.host;
    bool merge = t->fl.cf_in_env;
    ir_ref old = t->fl.env;
    bool old_needed = old != IR_NONE && old != f && last_use(t, old) >= t->i;
    if (old_needed || !may_store(t, f) || !t1_take(t, X_RAX) || (merge && !t1_take(t, X_R11))) {
        t->fail = true;
        return;
    }
    t1_store_flags(&t->hot, merge);
    free_temp(t, X_RAX);
    if (merge) {
        free_temp(t, X_R11);
        t->fl.host = IR_NONE;
        t->fl.cf_in_env = false;
    }
    t->fl.env = f;
}

void t1_save(struct t1 *t, bool used_here)
{
    ir_ref f = t->fl.host;
    if (f == IR_NONE || f == t->fl.env) {
        return;
    }
    ir_ref last = t->last[f];
    if (last > t->i || (used_here && last == t->i)) {
        store_host(t);
    }
}

void t1_clobber(struct t1 *t, bool used_here)
{
    t1_save(t, used_here);
    t->fl.host = IR_NONE;
    t->fl.cf_in_env = false;
}

void t1_set_host(struct t1 *t, ir_ref f)
{
    t->fl.host = f;
    t->fl.cf_in_env = false;
}

static bool load_env(struct t1 *t, ir_ref f)
{
    t1_clobber(t, true);
    if (t->fail || !t1_take(t, X_RAX)) {
        return false;
    }
    x_movzx(&t->hot, IR_I16, X_RAX, x_env(ENV_FLAGS));
    x_alu_rm_i(&t->hot, X_ADD, IR_I8, x_r(X_RAX), 0x7f); /* OF */
    x_sahf(&t->hot);
    free_temp(t, X_RAX);
    t1_set_host(t, f);
    return true;
}

bool t1_flags_host(struct t1 *t, ir_ref f)
{
    if (f == t->fl.host && f != IR_NONE) {
        if (!t->fl.cf_in_env) {
            return true;
        }
        store_host(t);
    }
    if (f == IR_NONE || f != t->fl.env) {
        t->fail = true;
    }
    return !t->fail && load_env(t, f);
}

static const uint8_t cc_bits[8] = {1, 1, 0x40, 0x41, 0x80, 4, 0, 0};

bool t1_cc(struct t1 *t, ir_ref f, enum ir_cc *cc)
{
    unsigned pair = *cc >> 1;
    if (f == t->fl.host) {
        bool wants_cf = pair == 1 || pair == 3;
        return (t->fl.cf_in_env && wants_cf) ? t1_flags_host(t, f) : true;
    }
    if (f != t->fl.env || pair >= 6) {
        return t1_flags_host(t, f);
    }
    t1_clobber(t, true);
    x_test_rm_i(&t->hot, IR_I8, x_env(ENV_FLAGS + (pair != 0)), cc_bits[pair]);
    *cc = *cc & 1 ? IR_CC_E : IR_CC_NE;
    return !t->fail;
}

bool t1_at_exit(struct t1 *t, bool *store)
{
    ir_ref a = t->fl.arch;
    *store = false;
    if (a == IR_NONE) {
        t->flags_seen = true;
        return t->fl.env == IR_NONE || t->b->op[t->fl.env].op == IR_getflags;
    }
    if (a == t->fl.env) {
        return true;
    }
    *store = a == t->fl.host;
    return *store;
}

/* Inline form for exits that nothing patches. */
void t1_flags_env(struct t1 *t)
{
    bool store;
    if (!t1_at_exit(t, &store)) {
        t->fail = true;
    } else if (store) {
        store_host(t);
    }
    t->fl.host = IR_NONE;
    t->fl.cf_in_env = false;
}

ir_ref t1_wanted_flags(const struct t1 *t, ir_ref value)
{
    ir_ref f = t->v[value].fuse;
    return f != IR_NONE && t->last[f] ? f : IR_NONE;
}

/* Is v made by an op whose result is 0 or 1? */
static bool is_bool(const struct t1 *t, ir_ref v)
{
    return v != IR_NONE && ir_op_info[t->b->op[v].op].result == 'B';
}

static void compare(struct t1 *t, const struct ir_op *op)
{
    int32_t imm;
    struct enc *e = &t->hot;
    if (t1_imm(t, op->b, op->type, &imm)) {
        struct x_rm a = t1_rm(t, op->a);
        x_alu_rm_i(e, X_CMP, op->type, a, imm);
        return;
    }
    struct x_rm a = t1_rm(t, op->a);
    struct x_rm b = t1_rm(t, op->b);
    if (a.mem && b.mem) {
        a = x_r(t1_reg(t, op->a));
    }
    if (a.mem) {
        x_alu_rm_r(e, X_CMP, op->type, a, b.reg);
    } else {
        x_alu_r_rm(e, X_CMP, op->type, a.reg, b);
    }
}

static void test(struct t1 *t, const struct ir_op *op)
{
    int32_t imm;
    struct enc *e = &t->hot;
    if (op->aux == IR_FL_LOGIC && t1_imm(t, op->a, op->type, &imm) && imm == 0) {
        unsigned reg = t1_temp(t);
        x_alu_r_rm(e, X_XOR, IR_I32, reg, x_r(reg));
        return;
    }
    if (op->aux == IR_FL_LOGIC) {
        struct x_rm a = t1_rm(t, op->a);
        if (a.mem) {
            x_alu_rm_i(e, X_CMP, op->type, a, 0);
        } else {
            x_test_rm_r(e, op->type, a, a.reg);
        }
        return;
    }
    if (t1_imm(t, op->b, op->type, &imm)) {
        x_test_rm_i(e, op->type, t1_rm(t, op->a), imm);
        return;
    }
    unsigned b = t1_reg(t, op->b);
    x_test_rm_r(e, op->type, t1_rm(t, op->a), b);
}

/* a OP b in a temporary, for its flags alone. */
static void alu_for_flags(struct t1 *t, const struct ir_op *op, enum x_alu alu)
{
    int32_t imm;
    unsigned reg = t1_temp(t);
    t1_copy_to(t, op->type, reg, op->a);
    if (t1_imm(t, op->b, op->type, &imm)) {
        x_alu_rm_i(&t->hot, alu, op->type, x_r(reg), imm);
    } else {
        x_alu_r_rm(&t->hot, alu, op->type, reg, t1_rm(t, op->b));
    }
}

static void adx_for_flags(struct t1 *t, const struct ir_op *op)
{
    unsigned reg = t1_temp(t);
    t1_copy_to(t, op->type, reg, op->a);
    x_adx(&t->hot, op->aux == IR_FL_ADOX, op->type, reg, t1_rm(t, op->b));
}

static bool bit_test(struct t1 *t, const struct ir_op *op)
{
    uint64_t k;
    struct x_rm a = t1_rm(t, op->a);
    if (op->type == IR_I8 || op->type == IR_H8) {
        return false;
    }
    if (t1_const(t, op->b, &k)) {
        x_bt_rm_i(&t->hot, op->type, a, (unsigned)k & (ir_type_bits(op->type) - 1));
    } else {
        unsigned reg = t1_reg(t, op->a);
        x_bt_rm_r(&t->hot, op->type, x_r(reg), t1_reg(t, op->b));
    }
    return true;
}

static bool carry(struct t1 *t, const struct ir_op *op)
{
    uint64_t k;
    if (t1_const(t, op->a, &k)) {
        x_stc_clc(&t->hot, k & 0xff);
        return true;
    }
    if (is_bool(t, op->a)) {
        x_bt_rm_i(&t->hot, IR_I32, t1_rm(t, op->a), 0);
        return true;
    }
    return false;
}

static bool zero_count(struct t1 *t, const struct ir_op *op)
{
    unsigned def = t->b->op[op->b].op, reg = t1_temp(t);
    if (def == IR_clz && t->c->lzcnt) {
        x_lzcnt(&t->hot, op->type, reg, t1_rm(t, op->a));
        return true;
    }
    if (def == IR_ctz && t->c->tzcnt) {
        x_tzcnt(&t->hot, op->type, reg, t1_rm(t, op->a));
        return true;
    }
    return false;
}

static void inc_dec(struct t1 *t, const struct ir_op *op)
{
    unsigned reg = t1_temp(t);
    t1_copy_to(t, op->type, reg, op->a);
    x_incdec_rm(&t->hot, op->aux == IR_FL_DEC, op->type, x_r(reg));
}

/* An EFLAGS image straight into env->flags. */
static bool image(struct t1 *t, const struct ir_op *op)
{
    if (!may_store(t, (ir_ref)t->i)) {
        return false;
    }
    t1_clobber(t, false);
    if (!t1_take(t, X_RAX)) {
        return false;
    }
    unsigned reg = t1_temp(t);
    t1_copy_to(t, IR_I32, X_RAX, op->a);
    x_mov_r_rm(&t->hot, IR_I32, reg, x_r(X_RAX));
    x_shift_rm_i(&t->hot, X_SHL, IR_I32, x_r(X_RAX), 8);
    x_shift_rm_i(&t->hot, X_SHR, IR_I32, x_r(reg), 11);
    x_alu_rm_i(&t->hot, X_AND, IR_I32, x_r(reg), 1);
    x_alu_r_rm(&t->hot, X_OR, IR_I32, X_RAX, x_r(reg));
    x_mov_rm_r(&t->hot, IR_I16, x_env(ENV_FLAGS), X_RAX);
    t->fl.env = (ir_ref)t->i;
    return true;
}

/* Kinds that keep some of the old flags: those are in host flags then. */
static bool partial(struct t1 *t, const struct ir_op *op)
{
    if (!t1_flags_host(t, op->c)) {
        return false;
    }
    t1_save(t, false);
    return op->aux == IR_FL_BT ? bit_test(t, op) : carry(t, op);
}

static bool whole(struct t1 *t, const struct ir_op *op)
{
    switch (op->aux) {
    case IR_FL_SUB: compare(t, op); return true;
    case IR_FL_AND:
    case IR_FL_LOGIC: test(t, op); return true;
    case IR_FL_ZERO:
        test(t, &(struct ir_op){.type = op->type, .aux = IR_FL_LOGIC, .a = op->a});
        return true;
    case IR_FL_ADD: alu_for_flags(t, op, X_ADD); return true;
    case IR_FL_ZCNT: return zero_count(t, op);
    case IR_FL_POPCNT:
        if (!t->c->popcnt || op->type == IR_I8) {
            return false;
        }
        x_popcnt(&t->hot, op->type, t1_temp(t), t1_rm(t, op->a));
        return true;
    case IR_FL_LOGICC:
        if (!is_bool(t, op->b)) {
            return false;
        }
        test(t, &(struct ir_op){.type = op->type, .aux = IR_FL_LOGIC, .a = op->a});
        x_bt_rm_i(&t->hot, IR_I32, t1_rm(t, op->b), 0);
        return true;
    case IR_FL_MULS:
        if (op->type == IR_I8) {
            return false;
        }
        {
            unsigned reg = t1_temp(t);
            t1_copy_to(t, op->type, reg, op->a);
            x_imul_r_rm(&t->hot, op->type, reg, t1_rm(t, op->b));
        }
        return true;
    default: return false;
    }
}

/* A flags op that is not the by-product of a value op. */
void t1_flags_op(struct t1 *t, const struct ir_op *op)
{
    ir_ref self = (ir_ref)t->i;
    bool ok, cf_in_env = false;
    switch (op->aux) {
    case IR_FL_IMAGE:
        ok = image(t, op);
        t->fail = t->fail || !ok;
        return;
    case IR_FL_BT:
    case IR_FL_CARRY: ok = partial(t, op); break;
    case IR_FL_INC:
    case IR_FL_DEC:
        ok = t1_flags_host(t, op->c);
        t1_save(t, false);
        inc_dec(t, op);
        break;
    case IR_FL_ADCX:
    case IR_FL_ADOX:
        ok = t->c->adx && t1_flags_host(t, op->c);
        t1_save(t, false);
        adx_for_flags(t, op);
        break;
    case IR_FL_ADC:
    case IR_FL_SBB:
        ok = t1_flags_host(t, op->c);
        t1_save(t, false);
        alu_for_flags(t, op, op->aux == IR_FL_ADC ? X_ADC : X_SBB);
        break;
    default:
        t1_clobber(t, false);
        ok = whole(t, op);
        break;
    }
    t->fail = t->fail || !ok;
    t1_set_host(t, self);
    t->fl.cf_in_env = cf_in_env;
}

void t1_flagbits(struct t1 *t, const struct ir_op *op)
{
    if (op->a != t->fl.env) {
        if (op->a != t->fl.host || !may_store(t, op->a)) {
            t->fail = true;
            return;
        }
        store_host(t);
    }
    t1_clobber(t, true);
    if (!t1_take(t, X_RAX)) {
        return;
    }
    unsigned reg = t1_temp(t);
    x_movzx(&t->hot, IR_I16, X_RAX, x_env(ENV_FLAGS));
    x_mov_r_rm(&t->hot, IR_I32, reg, x_r(X_RAX));
    x_shift_rm_i(&t->hot, X_SHR, IR_I32, x_r(X_RAX), 8);
    x_alu_rm_i(&t->hot, X_AND, IR_I32, x_r(X_RAX), 0xd5);
    x_alu_rm_i(&t->hot, X_AND, IR_I32, x_r(reg), 1);
    x_shift_rm_i(&t->hot, X_SHL, IR_I32, x_r(reg), 11);
    x_alu_r_rm(&t->hot, X_OR, IR_I32, X_RAX, x_r(reg));
    t1_bind(t, X_RAX, 32);
}
