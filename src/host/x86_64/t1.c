/*
 * T1, the one-pass translator: IR of a block to x86-64 code.
 *
 * Guest registers live in host registers (ctx.h) and are written when the IR says setreg, which
 * is behind everything that can fault in its instruction (invariant I1 of ir.h). So wherever a
 * block can be left for a fault, the guest's state is that before the instruction, and all a way
 * out needs to know is the instruction's address.
 *
 * An instruction with an op that is not lowered ends the block with RT_EXIT_STEP before it.
 *
 * Passes: `fuse` pairs flags ops with the value ops whose by-product they are; `uses` walks
 * backward and finds last uses and values that can be computed in their home; then emission.
 */
#include "host/x86_64/t1.h"

#include <stdlib.h>
#include <string.h>

#define SLACK 512 /* room kept for one instruction's ops, hot and cold each, times 16 */

struct t1 *t1_new(void)
{
    return calloc(1, sizeof(struct t1));
}

static bool is_one(const struct t1 *t, ir_ref v, int64_t want)
{
    uint64_t k;
    return t1_const(t, v, &k) && (int64_t)k == want;
}

static bool is_zero(const struct t1 *t, ir_ref v)
{
    return is_one(t, v, 0);
}

static bool same_ab(const struct ir_op *f, const struct ir_op *v)
{
    return f->a == v->a && f->b == v->b;
}

/* Are the flags of op f left in host flags by value op j? */
static bool matches_value(const struct t1 *t, const struct ir_op *f, const struct ir_op *v,
                          ir_ref j)
{
    switch (f->aux) {
    case IR_FL_ADD: return v->op == IR_add && same_ab(f, v);
    case IR_FL_ADC: return v->op == IR_adc && same_ab(f, v) && f->c == v->c;
    case IR_FL_ADCX: return v->op == IR_adcx && same_ab(f, v) && f->c == v->c;
    case IR_FL_ADOX: return v->op == IR_adox && same_ab(f, v) && f->c == v->c;
    case IR_FL_SUB:
        return (v->op == IR_sub && same_ab(f, v)) ||
               (v->op == IR_neg && is_zero(t, f->a) && v->a == f->b);
    case IR_FL_SBB: return v->op == IR_sbb && same_ab(f, v) && f->c == v->c;
    case IR_FL_AND: return v->op == IR_and && same_ab(f, v);
    case IR_FL_LOGIC: return f->a == j && (v->op == IR_and || v->op == IR_or || v->op == IR_xor);
    case IR_FL_INC:
        return v->a == f->a && ((v->op == IR_add && is_one(t, v->b, 1)) ||
                                (v->op == IR_sub && is_one(t, v->b, -1)));
    case IR_FL_DEC:
        return v->a == f->a && ((v->op == IR_sub && is_one(t, v->b, 1)) ||
                                (v->op == IR_add && is_one(t, v->b, -1)));
    case IR_FL_SHL: return v->op == IR_shl && same_ab(f, v);
    case IR_FL_SHR: return v->op == IR_shr && same_ab(f, v);
    case IR_FL_SAR: return v->op == IR_sar && same_ab(f, v);
    case IR_FL_ROL: return v->op == IR_rol && same_ab(f, v);
    case IR_FL_ROR: return v->op == IR_ror && same_ab(f, v);
    case IR_FL_RCL: return v->op == IR_rcl && same_ab(f, v) && f->c == v->c;
    case IR_FL_RCR: return v->op == IR_rcr && same_ab(f, v) && f->c == v->c;
    case IR_FL_SHLD: return v->op == IR_shld && same_ab(f, v) && f->d == v->d;
    case IR_FL_SHRD: return v->op == IR_shrd && same_ab(f, v) && f->d == v->d;
    case IR_FL_MULU:
    case IR_FL_MULS: return v->op == IR_mul && same_ab(f, v);
    case IR_FL_ZCNT: return (v->op == IR_clz || v->op == IR_ctz) && v->a == f->a && f->b == j;
    case IR_FL_POPCNT: return v->op == IR_popcnt && (f->a == v->a || f->a == j);
    default: return false;
    }
}

static bool matches_rmw(const struct t1 *t, const struct ir_op *f, const struct ir_op *m, ir_ref j)
{
    enum ir_rmw what = IR_AUX_RMW(m->aux);
    if (m->op == IR_cmpxchg) {
        return f->aux == IR_FL_SUB && f->a == m->c && f->b == j;
    }
    if (m->op != IR_rmw) {
        return false;
    }
    if (what == IR_RMW_NEG) {
        return f->aux == IR_FL_SUB && is_zero(t, f->a) && f->b == j;
    }
    if (f->aux == IR_FL_LOGIC && f->a != IR_NONE) { /* of the new value, computed again */
        const struct ir_op *v = &t->b->op[f->a];
        bool op_ok = (what == IR_RMW_AND && v->op == IR_and) ||
                     (what == IR_RMW_OR && v->op == IR_or) ||
                     (what == IR_RMW_XOR && v->op == IR_xor);
        return op_ok && v->type == f->type && v->a == j && v->b == m->c;
    }
    if (f->a != j) {
        return false;
    }
    switch (f->aux) {
    case IR_FL_ADD: return what == IR_RMW_ADD && f->b == m->c;
    case IR_FL_SUB: return what == IR_RMW_SUB && f->b == m->c;
    case IR_FL_ADC: return what == IR_RMW_ADC && f->b == m->c && f->c == m->d;
    case IR_FL_SBB: return what == IR_RMW_SBB && f->b == m->c && f->c == m->d;
    case IR_FL_AND: return what == IR_RMW_AND && f->b == m->c;
    case IR_FL_INC:
        return (what == IR_RMW_ADD && is_one(t, m->c, 1)) ||
               (what == IR_RMW_SUB && is_one(t, m->c, -1));
    case IR_FL_DEC:
        return (what == IR_RMW_SUB && is_one(t, m->c, 1)) ||
               (what == IR_RMW_ADD && is_one(t, m->c, -1));
    default: return false;
    }
}

static void pair(struct t1 *t, ir_ref f, ir_ref v)
{
    t->v[f].fuse = v;
    t->v[v].fuse = f;
}

#define FUSE_REACH 10

/* `or [m], r`: flags LOGIC of a value op that repeats what rmw op does belong to the latter. */
static bool fuse_rmw_logic(struct t1 *t, ir_ref i)
{
    const struct ir_op *f = &t->b->op[i];
    if (f->aux != IR_FL_LOGIC || t->b->op[f->a].op == IR_const || i - f->a > FUSE_REACH) {
        return false;
    }
    unsigned op = t->b->op[f->a].op;
    ir_ref m = op == IR_and || op == IR_or || op == IR_xor ? t->b->op[f->a].a : IR_NONE;
    if (m == IR_NONE || t->b->op[m].type != f->type || t->v[m].fuse != IR_NONE ||
        t->v[m].next != t->v[i].next || !matches_rmw(t, f, &t->b->op[m], m)) {
        return false;
    }
    pair(t, i, m);
    return true;
}

/* Ops that flags can be a by-product of. */
static const bool has_by_product[IR_OPCODES] = {
    [IR_add] = true, [IR_sub] = true, [IR_and] = true,    [IR_or] = true,   [IR_xor] = true,
    [IR_adc] = true, [IR_sbb] = true, [IR_adcx] = true,   [IR_adox] = true, [IR_neg] = true,
    [IR_mul] = true, [IR_shl] = true, [IR_shr] = true,    [IR_sar] = true,  [IR_rol] = true,
    [IR_ror] = true, [IR_rcl] = true, [IR_rcr] = true,    [IR_shld] = true, [IR_shrd] = true,
    [IR_clz] = true, [IR_ctz] = true, [IR_popcnt] = true, [IR_rmw] = true,  [IR_cmpxchg] = true,
};

static void fuse_one(struct t1 *t, ir_ref i)
{
    const struct ir_block *b = t->b;
    const struct ir_op *f = &b->op[i];
    if (fuse_rmw_logic(t, i)) {
        return;
    }
    for (unsigned j = i; j-- > 0 && i - j <= FUSE_REACH;) {
        const struct ir_op *v = &b->op[j];
        unsigned props = ir_op_props[v->op];
        bool other_flags = v->op == IR_flags;
        if (has_by_product[v->op] && v->type == f->type && t->v[j].fuse == IR_NONE &&
            (matches_value(t, f, v, (ir_ref)j) || matches_rmw(t, f, v, (ir_ref)j))) {
            pair(t, i, (ir_ref)j);
            return;
        }
        if (v->op == IR_insn || other_flags || (props & (IR_FAULT | IR_EXIT))) {
            break;
        }
    }
    if (i + 1u < b->nops && has_by_product[b->op[i + 1].op] && b->op[i + 1].type == f->type &&
        !(ir_op_props[b->op[i + 1].op] & IR_FAULT) &&
        matches_value(t, f, &b->op[i + 1], (ir_ref)(i + 1))) {
        pair(t, i, (ir_ref)(i + 1));
    }
}

/*
 * Also notes in v[].next each op's `insn`, and in that one's `last` its last op that can fault. An
 * op may be paired with the one behind it, which must have its entry before.
 */
static void fuse(struct t1 *t)
{
    const struct ir_op *ops = t->b->op;
    unsigned n = t->b->nops;
    ir_ref insn = 0;
    memset(t->last, 0, n * sizeof(t->last[0]));
    t->v[0] = (struct val){.fuse = IR_NONE};
    for (unsigned i = 0; i < n; i++) {
        unsigned op = ops[i].op;
        insn = op == IR_insn ? (ir_ref)i : insn;
        t->v[i + 1] = (struct val){.fuse = IR_NONE};
        t->v[i].next = insn;
        if (op == IR_flags) {
            fuse_one(t, (ir_ref)i);
        }
        t->last[ir_op_props[op] & IR_FAULT ? insn : ir_in_table(IR_NONE)] = (ir_ref)i;
    }
}

/* `v` may be IR_NONE. */
static inline void use(struct t1 *t, uint64_t v, unsigned at)
{
    ir_ref *last = &t->last[ir_in_table(v)];
    *last = *last < at ? (ir_ref)at : *last;
}

/* Flags of an earlier instruction must outlive what can fault in this one: it runs again then. */
static void use_flags(struct t1 *t, ir_ref f, unsigned at)
{
    ir_ref insn = t->v[at].next;
    if (f < insn && t->last[insn] > at) {
        at = t->last[insn];
    }
    use(t, f, at);
}

/* The first two without looking whether there are some. */
static inline void use_operands(struct t1 *t, unsigned i, unsigned at)
{
    const struct ir_op *op = &t->b->op[i];
    unsigned uses = ir_op_uses[op->op];
    uint64_t refs = op->k | ir_op_others[op->op];
    use(t, refs, at);
    use(t, refs >> 16, at);
    if (uses & 0xcc) {
        use(t, refs >> 32, at);
        use(t, refs >> 48, at);
    }
    if (uses >> 4) { /* one of them */
        use_flags(t, (&op->a)[__builtin_ctz(uses >> 4)], at);
    }
}

/* A home is the value that is set there next in this instruction, and under which number all were
 * forgotten before. */
static uint64_t home_of(const struct t1 *t, ir_ref v)
{
    return t->homes_from << 16 | v;
}

static void note_home(struct t1 *t, const struct ir_op *op)
{
    bool whole = op->type != IR_H8;
    t->home[op->aux + 1] = whole ? home_of(t, op->a) : 0;
    struct val *x = &t->v[op->a];
    if (whole && !x->home && t->b->op[op->a].type == op->type) {
        x->home = (uint8_t)(op->aux + 1);
    }
}

static void use_flags_op(struct t1 *t, unsigned i)
{
    const struct ir_op *op = &t->b->op[i];
    ir_ref j = t->v[i].fuse;
    if (j == IR_NONE || (j > i && !t->last[j])) {
        t->v[i].fuse = IR_NONE;
        use_operands(t, i, i);
        return;
    }
    if (op->aux == IR_FL_LOGIC && op->a == j) {
        use(t, j, i);
    }
    use_flags(t, op->c, j < i ? j : i + 1u);
}

static void unfuse_dead(struct t1 *t, unsigned j)
{
    ir_ref f = t->v[j].fuse;
    if (f != IR_NONE && f > j) {
        t->v[f].fuse = t->v[j].fuse = IR_NONE;
        if (t->last[f]) {
            use_operands(t, f, f);
        }
    }
}

/* Of setflags: `*exit` is the next way out, where the guest's flags are looked at; 0: none. */
static void use_guest_flags(struct t1 *t, ir_ref f, unsigned *exit)
{
    if (*exit) {
        use(t, f, *exit);
    }
    *exit = 0;
}

static void uses(struct t1 *t)
{
    const struct ir_op *ops = t->b->op;
    unsigned exit = 0;
    t->homes_from++;
    for (unsigned i = t->b->nops; i-- > 0;) {
        const struct ir_op *op = &ops[i];
        struct val *x = &t->v[i];
        unsigned props = ir_op_props[op->op];
        if (op->op == IR_insn) {
            t->homes_from++;
            t->last[i] = 0;
            continue;
        }
        /* It keeps its home only if the setreg is still ahead of it with nothing in between. */
        x->home = t->home[x->home] == home_of(t, (ir_ref)i) ? x->home : 0;
        t->homes_from += (props & (IR_FAULT | IR_EXIT | IR_END)) != 0;
        exit = (props & IR_EXIT) && !exit ? i : exit;
        if (op->op == IR_setflags) {
            use_guest_flags(t, op->a, &exit);
        } else if (!t->last[i] && !(props & (IR_EFFECT | IR_FAULT | IR_END))) {
            unfuse_dead(t, i);
        } else if (op->op == IR_getreg) {
            t->home[op->aux + 1] = 0;
        } else if (op->op == IR_flags) {
            use_flags_op(t, i);
        } else if (op->op != IR_const) {
            use_operands(t, i, i);
            if (op->op == IR_setreg) {
                note_home(t, op);
            }
        }
    }
}

static bool emit_getflags(struct t1 *t)
{
    if (t->fl.arch != IR_NONE || t->fl.env != IR_NONE) {
        return false;
    }
    t->flags_seen = true;
    t->fl.env = (ir_ref)t->i;
    return true;
}

static bool emit_op(struct t1 *t, const struct ir_op *op)
{
    switch (op->op) {
    case IR_nop: return true;
    case IR_const: t->v[t->i].loc = L_CONST; return true;
    case IR_getreg: t1_getreg(t, op); return true;
    case IR_setreg: t1_setreg(t, op); return true;
    case IR_getflags: return emit_getflags(t);
    case IR_flags:
        if (t->v[t->i].fuse == IR_NONE) {
            t1_flags_op(t, op);
        }
        return true;
    case IR_flagbits: t1_flagbits(t, op); return true;
    case IR_ld:
    case IR_ldw:
    case IR_st:
    case IR_probew:
    case IR_rmw:
    case IR_cmpxchg:
    case IR_fence: return t1_mem_op(t, op);
    case IR_hostvec: return t1_vec_op(t, op);
    case IR_brcc:
    case IR_brnz:
    case IR_brz:
    case IR_jump:
    case IR_jumpi:
    case IR_helper: return t1_ctl_op(t, op);
    default: return t1_int_op(t, op);
    }
}

static bool is_dead(const struct t1 *t, const struct ir_op *op)
{
    return !t->last[t->i] && !(ir_op_props[op->op] & (IR_EFFECT | IR_FAULT | IR_END));
}

/* After an op: nothing is locked, and what was used last is let go of. */
static void release(struct t1 *t)
{
    t1_unlock(t);
    if ((t->temp_val[0] & t->temp_val[1] & t->temp_val[2]) != IR_NONE || t->nslots) {
        t1_release(t);
    }
}

/* What is undone when an instruction turns out not to be lowered. */
struct mark {
    uint8_t *hot, *cold;
    struct flag_state fl;
    unsigned nlinks, nsites, nmoves;
    bool vec_ready;
};

static struct mark mark_of(const struct t1 *t)
{
    return (struct mark){t->hot.p, t->cold.p, t->fl, t->nlinks, t->nsites, t->nmoves, t->vec_ready};
}

static void back_to(struct t1 *t, const struct mark *m)
{
    t->hot.p = m->hot;
    t->cold.p = m->cold;
    t->fl = m->fl;
    t->nlinks = m->nlinks;
    t->nsites = m->nsites;
    t->nmoves = m->nmoves;
    t->vec_ready = m->vec_ready;
}

/* To the first op, nothing known. */
static void start(struct t1 *t)
{
    t->fail = t->vec_ready = t->skip_next = t->aligned = t->low_bits = false;
    memset(t->knows, 0, sizeof(t->knows));
    t->mem_until = 0;
    t->fl = (struct flag_state){.host = IR_NONE, .env = IR_NONE, .arch = IR_NONE};
    for (unsigned k = 0; k < NTEMPS; k++) {
        t->temp_val[k] = IR_NONE;
    }
    for (unsigned k = 0; k < NSLOTS; k++) {
        t->slot_val[k] = IR_NONE;
    }
    t->nslots = 0;
    memset(t->alias, 0xff, t->c->guest->nregs * sizeof(t->alias[0]));
    t1_unlock(t);
    fuse(t);
    uses(t);
}

static bool room(const struct t1 *t, const struct ir_codebuf *buf)
{
    return buf->hot_end - t->hot.p > 16 * SLACK && buf->cold_end - t->cold.p > 16 * SLACK;
}

/* Emits ops until the end, an instruction that is not lowered, or the room's end. */
static unsigned emit_ops(struct t1 *t, const struct ir_codebuf *buf)
{
    const struct ir_block *b = t->b;
    struct mark m = mark_of(t);
    unsigned done = 0;
    const struct ir_op *op = b->op, *end = op + b->nops;
    for (t->i = 0; op < end; t->i++, op++) {
        if (op->op == IR_insn) {
            m = mark_of(t);
            t->insn = t->i;
            t->pc = b->target[op->imm];
            if (!room(t, buf)) {
                t1_step_exit(t);
                return done;
            }
            done++;
            continue;
        }
        if (op->op == IR_setflags && !t->skip_next) {
            t->fl.arch = op->a;
            continue;
        }
        if (t->skip_next || is_dead(t, op)) {
            t->skip_next = false;
            continue;
        }
        bool ok = emit_op(t, op);
        if (!ok || t->fail) {
            back_to(t, &m);
            t1_step_exit(t);
            return done - 1;
        }
        release(t);
    }
    return done;
}

/* The form of a loop that checks nothing, if there can be one, before the checked form. */
static void strip(struct t1 *t, const struct ir_codebuf *buf)
{
    uint8_t *away[STRIP_AWAYS];
    struct mark m = mark_of(t);
    if (t->form != IR_FORM_LOOP || t->b->check || !t->plan.loop || !t1_plan_strip(t)) {
        return;
    }
    unsigned n = t1_strip_head(t, away);
    bool whole = n && emit_ops(t, buf) == t->b->ninsns && !t->flags_seen;
    t->strip_top = NULL;
    if (whole) {
        for (unsigned k = 0; k < n; k++) {
            x_patch_here(&t->hot, away[k]);
        }
    } else {
        back_to(t, &m);
        t->flags_seen = false;
    }
    start(t);
}

/* Does it matter in which form the block is? */
static bool touches_memory(const struct ir_block *b)
{
    for (unsigned i = 0; i < b->nops; i++) {
        if (ir_op_props[b->op[i].op] & IR_FAULT) {
            return true;
        }
    }
    return false;
}

/* The cold code begins with the way out at the block's own pc: dead blocks, and hot ones. */
static void head(struct t1 *t, struct ir_code *out)
{
    x_patch(x_call(&t->cold), t->c->exit_at);
    x_imm64(&t->cold, t->b->pc);
    t1_moves_number(t, &t->cold);
    bool memory = out->form == IR_FORM_LOOP || touches_memory(t->b);
    if (!memory) {
        out->form = IR_FORM_WARM;
    }
    t->planned = memory && out->form != IR_FORM_FIRST && out->form != IR_FORM_PLAIN;
    t->form = out->form;
    t->warm = t->form == IR_FORM_WARM || t->form == IR_FORM_LOOP;
    if (t->form == IR_FORM_FIRST) {
        x_incdec_rm(&t->hot, true, IR_I8, x_env(offsetof(struct rt_env, heat) + out->heat));
        x_patch(x_jcc(&t->hot, IR_CC_E), out->cold);
    }
}

_Static_assert(MAX_LINKS * sizeof(struct ir_link) + MAX_SITES * sizeof(struct t1_site) +
                       MAX_MOVES * sizeof(struct t1_move) + 16 <=
                   IR_DATA_ROOM,
               "room for a block's data");

/* What is read when the block is linked, or when an access fails. */
static void tables(struct t1 *t, struct ir_codebuf *buf, struct ir_code *out)
{
    out->links = t->links;
    out->nlinks = (uint16_t)t->nlinks;
    buf->data += t->nlinks * sizeof(t->links[0]);
    out->sites = buf->data;
    out->nsites = (uint16_t)t->nsites;
    memcpy(buf->data, t->site, t->nsites * sizeof(t->site[0]));
    buf->data += T1_SITES_BYTES(t->nsites);
    out->can_move = t->b->moves && !t->b->check && !t->stays;
    out->nmoves = (uint16_t)(out->can_move ? t->nmoves : 0);
    memcpy(buf->data, t->move, out->nmoves * sizeof(t->move[0]));
    buf->data += (out->nmoves * sizeof(t->move[0]) + 7) & ~7u;
}

bool t1_emit(struct ir_host_ctx *c, const struct ir_block *b, struct ir_codebuf *buf,
             struct ir_code *out)
{
    struct t1 *t = c->t1;
    if (buf->hot_end - buf->hot < (ptrdiff_t)IR_HOT_ROOM ||
        buf->cold_end - buf->cold < (ptrdiff_t)IR_COLD_ROOM ||
        buf->data_end - buf->data < (ptrdiff_t)IR_DATA_ROOM) {
        return false;
    }
    t->c = c;
    t->b = b;
    t->flags_seen = false;
    t->nlinks = t->nsites = t->nmoves = 0;
    t->stays = false;
    t->links = (struct ir_link *)(void *)buf->data;
    buf->hot += -(uintptr_t)buf->hot & 15;
    t->hot.p = buf->hot;
    t->cold.p = buf->cold;
    t->hints = b->hints ? *b->hints : (struct ir_hints){0};
    *out = (struct ir_code){.form = out->form,
                            .heat = out->heat,
                            .pc = b->pc,
                            .entry = buf->hot + buf->to_rx,
                            .hot = buf->hot,
                            .cold = buf->cold};
    t->base[0] = buf->hot;
    t->base[1] = buf->cold;
    head(t, out);
    if (b->check) {
        t1_check(t, out);
    }
    start(t);
    if (t->planned) {
        t1_plan(t);
        strip(t, buf);
    }
    out->ninsns = emit_ops(t, buf);
    out->stop_op = t->i < b->nops ? b->op[t->i].op : IR_nop;
    out->flags_dead = !t->flags_seen && !b->check; /* others may come after a check */
    tables(t, buf, out);
    out->hot_size = (uint32_t)(t->hot.p - buf->hot);
    out->cold_size = (uint32_t)(t->cold.p - buf->cold);
    buf->hot = t->hot.p;
    buf->cold = t->cold.p;
    return true;
}
