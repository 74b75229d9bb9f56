/* T1: where values are. */
#include "host/x86_64/t1.h"

#include "base/bits.h"

static bool used_later(const struct t1 *t, ir_ref v)
{
    return t->last[v] > t->i;
}

static bool spill(struct t1 *t, int k)
{
    for (unsigned s = 0; s < NSLOTS; s++) {
        if (t->slot_val[s] == IR_NONE) {
            ir_ref v = t->temp_val[k];
            x_mov_rm_r(&t->hot, IR_I64, x_env(offsetof(struct rt_env, scratch) + 8 * s),
                       temp_regs[k]);
            t->v[v].loc = L_SLOT;
            t->v[v].reg = (uint8_t)s;
            t->slot_val[s] = v;
            t->nslots++;
            t->temp_val[k] = IR_NONE;
            return true;
        }
    }
    t->fail = true;
    return false;
}

/* The unlocked temporary whose value is used farthest away; free ones that know nothing first. */
static int victim(const struct t1 *t)
{
    int best = -1, knows = -1;
    for (int k = 0; k < NTEMPS; k++) {
        if ((t->lock >> temp_regs[k] & 1) || t->temp_busy[k]) {
            continue;
        }
        if (t->temp_val[k] == IR_NONE && !t->knows[k]) {
            return k;
        }
        if (t->temp_val[k] == IR_NONE) {
            knows = k;
        } else if (best < 0 || t->last[t->temp_val[k]] > t->last[t->temp_val[best]]) {
            best = k;
        }
    }
    return knows >= 0 ? knows : best;
}

unsigned t1_temp(struct t1 *t)
{
    int k = victim(t);
    if (k < 0) {
        t->fail = true;
        return X_R11;
    }
    if (t->temp_val[k] != IR_NONE) {
        spill(t, k);
    }
    t->knows[k] = 0;
    t->temp_busy[k] = true;
    t->lock |= (uint16_t)(1u << temp_regs[k]);
    return temp_regs[k];
}

/* Moves a value out of temporary k: to another free one, or to a slot. */
static bool vacate(struct t1 *t, int k)
{
    ir_ref v = t->temp_val[k];
    for (int o = 0; o < NTEMPS; o++) {
        if (o != k && t->temp_val[o] == IR_NONE && !t->temp_busy[o] &&
            !(t->lock >> temp_regs[o] & 1)) {
            x_mov_r_rm(&t->hot, IR_I64, temp_regs[o], x_r(temp_regs[k]));
            t->temp_val[o] = v;
            t->knows[o] = 0;
            t->v[v].reg = temp_regs[o];
            t->temp_val[k] = IR_NONE;
            return true;
        }
    }
    return spill(t, k);
}

bool t1_take(struct t1 *t, unsigned reg)
{
    int k = t1_temp_index(reg);
    if (t->temp_busy[k] || (t->lock >> reg & 1)) {
        t->fail = true;
        return false;
    }
    if (t->temp_val[k] != IR_NONE && !vacate(t, k)) {
        return false;
    }
    t->knows[k] = 0;
    t->temp_busy[k] = true;
    t->lock |= (uint16_t)(1u << reg);
    return true;
}

bool t1_imm(const struct t1 *t, ir_ref v, enum ir_type w, int32_t *imm)
{
    uint64_t k;
    if (!t1_const(t, v, &k)) {
        return false;
    }
    int64_t s = sign_extend(k, ir_type_bits(w));
    *imm = (int32_t)s;
    return s == (int32_t)s;
}

static struct x_rm place(const struct t1 *t, ir_ref v)
{
    const struct val *x = &t->v[v];
    switch (x->loc) {
    case L_TEMP: return x_r(x->reg);
    case L_GUEST:
        return t->c->pin[x->reg] != X_NONE ? x_r(t->c->pin[x->reg]) : x_guest(t->c, x->reg);
    case L_MEM: return t->mem;
    default: return x_env(offsetof(struct rt_env, scratch) + 8 * x->reg);
    }
}

static void unalias(struct t1 *t, ir_ref v)
{
    ir_ref *p = &t->alias[t->v[v].reg];
    while (*p != v) {
        p = &t->v[*p].next;
    }
    *p = t->v[v].next;
}

static void add_alias(struct t1 *t, ir_ref v, unsigned guest)
{
    t->v[v].loc = L_GUEST;
    t->v[v].reg = (uint8_t)guest;
    t->v[v].next = t->alias[guest];
    t->alias[guest] = v;
}

/* Value v, now in temporary `reg`, leaves its old place. */
static void rehome(struct t1 *t, ir_ref v, unsigned reg)
{
    struct val *x = &t->v[v];
    if (x->loc == L_GUEST || x->loc == L_SUM) {
        unalias(t, v);
    } else if (x->loc == L_SLOT) {
        t->slot_val[x->reg] = IR_NONE;
        t->nslots--;
    }
    int k = t1_temp_index(reg);
    x->loc = L_TEMP;
    x->reg = (uint8_t)reg;
    t->temp_val[k] = v;
    t->temp_busy[k] = false;
}

#define SUM_MOST (1 << 28) /* distances beyond are added at once */

/* An address that is only folded into accesses and set as a register in the end need not be in a
 * register meanwhile. */
bool t1_sum(struct t1 *t, ir_ref a, int64_t disp)
{
    ir_ref i = (ir_ref)t->i;
    if (t->b->op[i].type != IR_I64 || t->v[a].loc != L_GUEST || t->c->pin[t->v[a].reg] == X_NONE ||
        t1_home(t) != X_NONE || disp < -SUM_MOST || disp > SUM_MOST) {
        return false;
    }
    add_alias(t, i, t->v[a].reg);
    t->v[i].loc = L_SUM;
    t->v[i].zx = 64;
    t->sum[i].base = a;
    t->sum[i].disp = (int32_t)disp;
    return true;
}

static void add_up(struct t1 *t, enum ir_type w, unsigned reg, ir_ref v)
{
    x_lea(&t->hot, w, reg, x_m(t->c->pin[t->v[v].reg], t->sum[v].disp));
}

static unsigned summed(struct t1 *t, ir_ref v)
{
    unsigned reg = t1_temp(t);
    if (!t->fail) {
        add_up(t, IR_I64, reg, v);
        rehome(t, v, reg);
        t->lock |= (uint16_t)(1u << reg);
    }
    return reg;
}

struct x_rm t1_rm(struct t1 *t, ir_ref v)
{
    uint64_t k;
    if (t1_number(t, v, &k)) {
        unsigned reg = t1_temp(t);
        t1_mov_number(t, reg, IR_I64, v, k);
        return x_r(reg);
    }
    if (t->v[v].loc == L_NONE) {
        t->fail = true;
        return x_r(X_R11);
    }
    if (t->v[v].loc == L_SUM) {
        return x_r(summed(t, v));
    }
    struct x_rm m = place(t, v);
    if (m.mem && t->v[v].loc == L_GUEST) {
        unsigned reg = t1_known(t, KNOWS_GUEST + t->v[v].reg);
        m = reg != X_NONE ? x_r(reg) : m;
    }
    if (!m.mem) {
        t->lock |= (uint16_t)(1u << m.reg);
    }
    return m;
}

/* Guest memory is read as wide as the value is, all else as wide as is wanted. */
static void fetch(struct t1 *t, enum ir_type w, unsigned reg, ir_ref v, struct x_rm m)
{
    if (t->v[v].loc == L_MEM) {
        x_movzx(&t->hot, t->b->op[v].type, reg, m);
    } else {
        x_mov_r_rm(&t->hot, w, reg, m);
    }
}

unsigned t1_reg(struct t1 *t, ir_ref v)
{
    struct x_rm m = t1_rm(t, v);
    if (!m.mem) {
        return m.reg;
    }
    unsigned reg = t1_temp(t);
    fetch(t, IR_I64, reg, v, m);
    if (!t->fail) {
        if (t->v[v].loc == L_GUEST) {
            t1_know(t, KNOWS_GUEST + t->v[v].reg, reg);
        }
        rehome(t, v, reg);
        t->lock |= (uint16_t)(1u << reg);
    }
    return reg;
}

void t1_copy_to(struct t1 *t, enum ir_type w, unsigned reg, ir_ref v)
{
    uint64_t k;
    if (t1_number(t, v, &k)) {
        t1_mov_number(t, reg, w, v, k);
        return;
    }
    if (t->v[v].loc == L_SUM) {
        add_up(t, w == IR_I64 ? IR_I64 : IR_I32, reg, v);
        return;
    }
    struct x_rm m = t1_rm(t, v);
    if (m.mem || m.reg != reg) {
        fetch(t, w == IR_I64 ? IR_I64 : IR_I32, reg, v, m);
    }
}

bool t1_steal(struct t1 *t, ir_ref v, unsigned *reg)
{
    if (v == IR_NONE || t->v[v].loc != L_TEMP || !t1_dies(t, v)) {
        return false;
    }
    int k = t1_temp_index(t->v[v].reg);
    if (t->temp_val[k] != v) {
        return false; /* stolen already */
    }
    *reg = t->v[v].reg;
    t->temp_val[k] = IR_NONE;
    t->knows[k] = 0;
    t->temp_busy[k] = true;
    t->lock |= (uint16_t)(1u << *reg);
    return true;
}

/* Nothing living in that guest register is needed after the current op, `except` apart. */
static bool guest_free(const struct t1 *t, unsigned g, ir_ref a1, ir_ref a2)
{
    for (ir_ref v = t->alias[g]; v != IR_NONE; v = t->v[v].next) {
        if (used_later(t, v) || v == a1 || v == a2) {
            return false;
        }
    }
    return true;
}

/* Ops that compute 8 and 16 bits in place with exact width. */
static bool narrow_in_place(unsigned op)
{
    switch (op) {
    case IR_add:
    case IR_sub:
    case IR_and:
    case IR_or:
    case IR_xor:
    case IR_adc:
    case IR_sbb:
    case IR_not:
    case IR_neg:
    case IR_shl:
    case IR_shr:
    case IR_sar:
    case IR_rol:
    case IR_ror:
    case IR_rcl:
    case IR_rcr:
    case IR_shld:
    case IR_shrd: return true;
    default: return false;
    }
}

/*
 * Register for the result of the current op: the home it goes to, the register of `reuse` when that
 * dies here, else a temporary. Never one that holds avoid1 or avoid2. Narrow results go to a home
 * only when they are computed in place.
 */
unsigned t1_dest(struct t1 *t, ir_ref reuse, ir_ref avoid1, ir_ref avoid2)
{
    const struct val *x = &t->v[t->i];
    enum ir_type w = t->b->op[t->i].type;
    if (x->home && t->c->pin[x->home - 1] != X_NONE) {
        unsigned g = x->home - 1u;
        bool in_place = reuse != IR_NONE && narrow_in_place(t->b->op[t->i].op) &&
                        t->v[reuse].loc == L_GUEST && t->v[reuse].reg == g;
        if (guest_free(t, g, avoid1, avoid2) && (w == IR_I32 || w == IR_I64 || in_place)) {
            return t->c->pin[g];
        }
    }
    unsigned reg;
    if (reuse != IR_NONE && reuse != avoid1 && reuse != avoid2 && t1_steal(t, reuse, &reg)) {
        return reg;
    }
    return t1_temp(t);
}

unsigned t1_home(const struct t1 *t)
{
    unsigned home = t->v[t->i].home;
    if (!home || t->c->pin[home - 1] == X_NONE || !guest_free(t, home - 1, IR_NONE, IR_NONE)) {
        return X_NONE;
    }
    return t->c->pin[home - 1];
}

/* Values living in guest register g that are still needed move to temporaries. */
static void evict_aliases(struct t1 *t, unsigned g)
{
    ir_ref v = t->alias[g];
    while (v != IR_NONE && !t->fail) {
        ir_ref next = t->v[v].next;
        if (used_later(t, v) && t->v[v].loc == L_SUM) {
            summed(t, v);
        } else if (used_later(t, v)) {
            struct x_rm m = place(t, v);
            unsigned reg = t1_temp(t);
            x_mov_r_rm(&t->hot, IR_I64, reg, m);
            if (!t->fail) {
                rehome(t, v, reg);
            }
        }
        v = next;
    }
}

bool t1_alias_of(struct t1 *t, ir_ref v)
{
    if (t->v[v].loc != L_GUEST) {
        return false;
    }
    t->v[t->i].zx = t->v[v].zx;
    add_alias(t, (ir_ref)t->i, t->v[v].reg);
    return true;
}

void t1_bind_value(struct t1 *t, ir_ref v, unsigned temp)
{
    int k = t1_temp_index(temp);
    t->knows[k] = 0;
    t->v[v].loc = L_TEMP;
    t->v[v].reg = (uint8_t)temp;
    t->v[v].zx = 64;
    t->temp_val[k] = v;
    t->temp_busy[k] = false;
}

void t1_bind(struct t1 *t, unsigned reg, unsigned zx)
{
    struct val *x = &t->v[t->i];
    int k = t1_temp_index(reg);
    x->zx = (uint8_t)zx;
    if (k >= 0) {
        t1_bind_value(t, (ir_ref)t->i, reg);
        x->zx = (uint8_t)zx;
        return;
    }
    t->alias[x->home - 1u] = IR_NONE; /* t1_dest saw that nobody needs them */
    add_alias(t, (ir_ref)t->i, x->home - 1u);
}

void t1_release(struct t1 *t)
{
    for (int k = 0; k < NTEMPS; k++) {
        if (t->temp_val[k] != IR_NONE && !used_later(t, t->temp_val[k])) {
            t->temp_val[k] = IR_NONE;
        }
    }
    for (unsigned s = 0; t->nslots && s < NSLOTS; s++) {
        if (t->slot_val[s] != IR_NONE && !used_later(t, t->slot_val[s])) {
            t->slot_val[s] = IR_NONE;
            t->nslots--;
        }
    }
}

/* Bits 15..8 of guest register g into a register, flags kept. */
static void get_high(struct t1 *t, unsigned g)
{
    unsigned pin = t->c->pin[g];
    if (pin == X_NONE) {
        unsigned reg = t1_temp(t);
        struct x_rm m = x_guest(t->c, g);
        m.disp++;
        x_movzx(&t->hot, IR_I8, reg, m);
        t1_bind(t, reg, 8);
    } else if (pin < 4) {
        if (t1_take(t, X_RAX)) {
            x_movzx_high(&t->hot, X_RAX, pin);
            t1_bind(t, X_RAX, 8);
        }
    } else if (t->c->bmi2) {
        unsigned reg = t1_temp(t);
        x_rorx(&t->hot, IR_I32, reg, x_r(pin), 8);
        t1_bind(t, reg, 32);
    } else {
        t1_clobber(t, true);
        unsigned reg = t1_temp(t);
        x_mov_r_rm(&t->hot, IR_I32, reg, x_r(pin));
        x_shift_rm_i(&t->hot, X_SHR, IR_I32, x_r(reg), 8);
        t1_bind(t, reg, 32);
    }
}

void t1_getreg(struct t1 *t, const struct ir_op *op)
{
    if (op->type == IR_H8) {
        get_high(t, op->aux);
        return;
    }
    t->v[t->i].zx = 64;
    add_alias(t, (ir_ref)t->i, op->aux);
}

static void set_high(struct t1 *t, unsigned g, ir_ref v)
{
    unsigned pin = t->c->pin[g];
    if (pin == X_NONE) {
        struct x_rm m = x_guest(t->c, g);
        m.disp++;
        x_mov_rm_r(&t->hot, IR_I8, m, t1_reg(t, v));
        t1_forget(t, KNOWS_GUEST + g);
        return;
    }
    if (!t->c->bmi2) {
        t1_clobber(t, true);
    }
    struct x_rm src = t1_rm(t, v);
    if (!src.mem && src.reg == pin) { /* its own low byte */
        unsigned reg = t1_temp(t);
        x_mov_r_rm(&t->hot, IR_I32, reg, src);
        src = x_r(reg);
    }
    if (t->c->bmi2) {
        x_rorx(&t->hot, IR_I64, pin, x_r(pin), 8);
        x_mov_r_rm(&t->hot, IR_I8, pin, src);
        x_rorx(&t->hot, IR_I64, pin, x_r(pin), 56);
    } else {
        x_shift_rm_i(&t->hot, X_ROR, IR_I64, x_r(pin), 8);
        x_mov_r_rm(&t->hot, IR_I8, pin, src);
        x_shift_rm_i(&t->hot, X_ROL, IR_I64, x_r(pin), 8);
    }
}

static void set_memory(struct t1 *t, enum ir_type w, unsigned g, ir_ref v)
{
    int32_t imm;
    uint64_t k;
    struct x_rm m = x_guest(t->c, g);
    t1_forget(t, KNOWS_GUEST + g);
    if (w == IR_I32) {
        if (t1_const(t, v, &k) && (int32_t)k >= 0) {
            x_mov_rm_i(&t->hot, IR_I64, m, (int32_t)k);
            return;
        }
        bool wide = t->v[v].loc == L_CONST || t->v[v].zx > 32;
        unsigned reg = wide ? t1_temp(t) : t1_reg(t, v);
        if (wide) {
            t1_copy_to(t, IR_I32, reg, v);
        }
        x_mov_rm_r(&t->hot, IR_I64, m, reg);
        t1_know(t, KNOWS_GUEST + g, reg);
    } else if (t1_imm(t, v, w, &imm)) {
        x_mov_rm_i(&t->hot, w, m, imm);
    } else {
        unsigned reg = t1_reg(t, v);
        x_mov_rm_r(&t->hot, w, m, reg);
        if (w == IR_I64) {
            t1_know(t, KNOWS_GUEST + g, reg);
        }
    }
}

static void set_pinned(struct t1 *t, enum ir_type w, unsigned g, ir_ref v)
{
    unsigned pin = t->c->pin[g];
    uint64_t k;
    if (t1_number(t, v, &k)) {
        if (w == IR_I64 || w == IR_I32) {
            t1_mov_number(t, pin, w, v, k);
        } else {
            t->stays |= t1_moves(t, v);
            x_mov_rm_i(&t->hot, w, x_r(pin), (int32_t)k);
        }
        return;
    }
    if (t->v[v].loc == L_SUM && w == IR_I64) {
        add_up(t, IR_I64, pin, v);
        return;
    }
    struct x_rm m = t1_rm(t, v);
    bool self = !m.mem && m.reg == pin;
    if (!self || (w == IR_I32 && t->v[v].zx > 32)) {
        x_mov_r_rm(&t->hot, w, pin, m);
    }
}

void t1_setreg(struct t1 *t, const struct ir_op *op)
{
    unsigned g = op->aux;
    ir_ref v = op->a;
    bool self = t->v[v].loc == L_GUEST && t->v[v].reg == g && t->b->op[v].op != IR_const;
    if (self && op->type != IR_H8 && (op->type != IR_I32 || t->v[v].zx <= 32)) {
        return; /* computed in place, or a move to itself */
    }
    if (t->b->op[v].op != IR_const && t->v[v].loc != L_GUEST && t->v[v].loc != L_SUM) {
        t1_rm(t, v); /* lock it */
    }
    evict_aliases(t, g);
    if (op->type == IR_H8) {
        set_high(t, g, v);
    } else if (t->c->pin[g] == X_NONE) {
        set_memory(t, op->type, g, v);
    } else {
        set_pinned(t, op->type, g, v);
    }
    if (t->fail) {
        return;
    }
    t->alias[g] = IR_NONE;
    bool whole = op->type == IR_I64 || (op->type == IR_I32 && t->b->op[v].type != IR_I64);
    if (whole && used_later(t, v) && t->v[v].loc == L_TEMP && t->c->pin[g] != X_NONE) {
        int k = t1_temp_index(t->v[v].reg);
        t->temp_val[k] = IR_NONE;
        add_alias(t, v, g);
        t->v[v].zx = op->type == IR_I32 ? 32 : t->v[v].zx;
    }
}
