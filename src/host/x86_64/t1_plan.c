/*
 * T1: how each memory access of a warm block finds its page.
 *
 * Every base register of the guest has a line in env->base: the page it pointed to last, and what
 * to add to a guest address there. Accesses through one base value at constant distances form a
 * group: the first one, its leader, checks the range of all; the members just add. That holds until
 * another value is looked up through the same line. Nothing in a block but such look-ups changes a
 * line, and helpers end blocks.
 */
#include "host/x86_64/t1.h"

#include <string.h>

#define GROUP_SPAN 256
#define FAR (1 << 28) /* offsets beyond are not followed: sums of a few fit in 32 bits */

static unsigned line_of(unsigned guest)
{
    return guest < 16 ? guest : 16 + (guest - 16) % (RT_BASES - 16);
}

static void make_base(struct plan *p, ir_ref v, unsigned line)
{
    p->line[p->nbases] = (uint8_t)line;
    p->entry_reg[p->nbases] = 0;
    p->step[p->nbases] = NO_STEP;
    p->base[v] = (uint16_t)p->nbases++;
    p->off[v] = 0;
}

static void copy_base(struct plan *p, ir_ref v, ir_ref from, int64_t add)
{
    int64_t off = p->off[from] + add;
    bool near = off > -FAR && off < FAR;
    p->base[v] = near ? p->base[from] : 0;
    p->off[v] = (int32_t)off;
}

static bool constant(const struct t1 *t, ir_ref v, int64_t *k)
{
    uint64_t u;
    bool yes = t1_const(t, v, &u);
    *k = yes ? (int64_t)u : 0;
    return yes;
}

static void plan_getreg(struct plan *p, const struct ir_op *op, ir_ref i)
{
    unsigned g = op->aux;
    p->hint[i] = (uint8_t)(line_of(g) + 1);
    if (op->type != IR_I64) {
        return;
    }
    if (!p->reg_base[g]) {
        make_base(p, i, line_of(g));
        p->entry_reg[p->base[i]] = p->written[g] ? 0 : (uint8_t)(g + 1);
        p->reg_base[g] = p->base[i];
        p->reg_off[g] = 0;
    }
    p->base[i] = p->reg_base[g];
    p->off[i] = p->reg_off[g];
}

static void plan_setreg(struct plan *p, const struct ir_op *op)
{
    unsigned g = op->aux;
    p->written[g] = true;
    if (op->type != IR_I64) {
        p->reg_base[g] = 0;
        return;
    }
    if (!p->base[op->a]) {
        make_base(p, op->a, line_of(g));
    }
    p->reg_base[g] = p->base[op->a];
    p->reg_off[g] = p->off[op->a];
}

/* A line that suits a computed address: that of the first register in it. */
static void plan_value(struct t1 *t, const struct ir_op *op, ir_ref i)
{
    struct plan *p = &t->plan;
    int64_t k;
    unsigned operands = ir_op_uses[op->op];
    if ((operands & 1) && op->a != IR_NONE && p->hint[op->a]) {
        p->hint[i] = p->hint[op->a];
    } else if ((operands & 2) && op->b != IR_NONE) {
        p->hint[i] = p->hint[op->b];
    }
    if (op->type != IR_I64 || !(operands & 1) || op->a == IR_NONE || !p->base[op->a]) {
        return;
    }
    if (op->op == IR_lea && op->b == IR_NONE) {
        copy_base(p, i, op->a, op->imm);
    } else if ((op->op == IR_add || op->op == IR_sub) && constant(t, op->b, &k) && k > -FAR &&
               k < FAR) {
        copy_base(p, i, op->a, op->op == IR_add ? k : -k);
    }
}

static unsigned access_size(const struct t1 *t, const struct ir_op *op)
{
    return op->op == IR_hostvec ? t->b->vec[op->imm].size : ir_type_bytes(op->type);
}

static bool access_writes(const struct t1 *t, const struct ir_op *op)
{
    return op->op == IR_hostvec ? t->b->vec[op->imm].store : op->op != IR_ld;
}

static bool scattered(const struct t1 *t)
{
    return t->hints.scattered >> ((t->pc - t->b->pc) & 63) & 1;
}

/* Joins the group that is open for its base. */
static bool join_group(struct t1 *t, struct access *a)
{
    struct plan *p = &t->plan;
    struct open_group *o = &p->open[a->line];
    int32_t lo = a->off < o->lo ? a->off : o->lo, hi = a->off + a->size;
    hi = hi > o->hi ? hi : o->hi;
    if (o->base != a->base[0] || o->index != a->base[1] || o->scale != a->scale ||
        hi - lo > GROUP_SPAN) {
        return false;
    }
    struct access *leader = &p->access[o->leader];
    if (o->write < a->write && (t->hints.shared >> leader->bit & 1)) {
        return false;
    }
    leader->stores |= a->write;
    o->write |= a->write;
    a->kind = a->base[1] ? ACCESS_STREAM : ACCESS_MEMBER;
    leader->group = true;
    leader->lo = o->lo = lo;
    o->hi = hi;
    leader->span = (uint16_t)(hi - lo);
    return true;
}

/* Joins a group or leads one of its own: by the line of its register, or by the soft TLB when that
 * leads to other pages all the time. */
static void group(struct t1 *t, struct access *a)
{
    struct plan *p = &t->plan;
    uint8_t *line = &p->line[a->base[0]];
    a->line = *line;
    if (join_group(t, a)) {
        return;
    }
    bool lead = !a->base[1] && (*line >= RT_BASES || scattered(t));
    if (lead) {
        a->line = *line = (uint8_t)(RT_BASES + p->leads++ % RT_LEADS);
    }
    a->kind = lead ? ACCESS_LEADER : ACCESS_BASE;
    a->lo = a->off;
    a->span = a->size;
    p->open[a->line] = (struct open_group){.base = a->base[0],
                                           .index = a->base[1],
                                           .scale = a->scale,
                                           .leader = (ir_ref)(a - p->access),
                                           .write = a->write,
                                           .lo = a->off,
                                           .hi = a->off + a->size};
}

static void alone(struct t1 *t, struct access *a, unsigned hint)
{
    if (!hint || scattered(t)) {
        return;
    }
    a->kind = ACCESS_BASE;
    a->line = (uint8_t)(hint - 1);
    a->span = a->size;
    t->plan.open[a->line].base = 0;
}

static void plan_access(struct t1 *t, const struct ir_op *op, ir_ref i)
{
    struct plan *p = &t->plan;
    struct access *a = &p->access[i];
    unsigned size = access_size(t, op);
    ir_ref x, y;
    int64_t sum = t1_fold(t, op, &x, &y);
    if (size == 0) {
        return;
    }
    a->size = (uint8_t)size;
    a->bit = (t->pc - t->b->pc) & 63;
    a->write = access_writes(t, op);
    if (x == IR_NONE && y == IR_NONE) {
        bool crosses = ((uint64_t)sum & (RT_PAGE_SIZE - 1)) + size > RT_PAGE_SIZE;
        a->kind = crosses ? ACCESS_TABLE : ACCESS_CONST;
        return;
    }
    if (x == IR_NONE && !(op->aux & IR_AUX_SCALE)) {
        x = y;
        y = IR_NONE;
    }
    if (x != IR_NONE && y == IR_NONE && p->base[x] && sum > -FAR && sum < FAR) {
        a->base[0] = p->base[x];
        a->off = p->off[x] + (int32_t)sum;
        group(t, a);
        return;
    }
    if (x != IR_NONE && y != IR_NONE && p->base[x] && p->base[y] && sum > -FAR && sum < FAR) {
        int64_t off = p->off[x] + p->off[y] * (1ll << (op->aux & IR_AUX_SCALE)) + sum;
        if (off > -FAR && off < FAR) {
            a->base[0] = p->base[x];
            a->base[1] = p->base[y];
            a->scale = op->aux & IR_AUX_SCALE;
            a->off = a->lo = (int32_t)off;
            if (p->line[a->base[0]] < RT_BASES && !scattered(t)) {
                group(t, a);
                return;
            }
        }
    }
    alone(t, a, x != IR_NONE && p->hint[x] ? p->hint[x] : y != IR_NONE ? p->hint[y] : 0);
}

static bool is_access(unsigned op)
{
    return op == IR_ld || op == IR_ldw || op == IR_st || op == IR_probew || op == IR_rmw ||
           op == IR_cmpxchg || op == IR_hostvec;
}

/* How far each entry base's register has moved. */
static void plan_way_back(struct plan *p)
{
    for (unsigned base = 1; base < p->nbases; base++) {
        unsigned g = p->entry_reg[base] - 1u;
        bool known = p->entry_reg[base] && p->reg_base[g] == base;
        int32_t step = known ? p->reg_off[g] : NO_STEP;
        p->step[base] = p->loop && p->step[base] != step ? NO_STEP : step;
    }
    p->loop = true;
}

static void plan_op(struct t1 *t, const struct ir_op *op, ir_ref i)
{
    struct plan *p = &t->plan;
    p->base[i] = 0;
    p->hint[i] = 0;
    p->access[i] = (struct access){.kind = ACCESS_TABLE};
    switch (op->op) {
    case IR_insn: t->pc = t->b->target[op->imm]; break;
    case IR_const:
    case IR_nop: break;
    case IR_getreg: plan_getreg(p, op, i); break;
    case IR_setreg: plan_setreg(p, op); break;
    case IR_brcc:
    case IR_brz:
    case IR_brnz:
    case IR_jump:
        if (t->b->target[op->imm] == t->b->pc && (op->op != IR_jump || op->aux != IR_HINT_CALL)) {
            plan_way_back(p);
        }
        break;
    default:
        if (is_access(op->op)) {
            plan_access(t, op, i);
        } else {
            plan_value(t, op, i);
        }
    }
}

void t1_plan(struct t1 *t)
{
    struct plan *p = &t->plan;
    p->nbases = 1;
    p->leads = 0;
    p->loop = false;
    memset(p->written, 0, t->c->guest->nregs);
    memset(p->reg_base, 0, t->c->guest->nregs * sizeof(p->reg_base[0]));
    memset(p->open, 0, sizeof(p->open));
    for (unsigned i = 0; i < t->b->nops; i++) {
        plan_op(t, &t->b->op[i], (ir_ref)i);
    }
}
