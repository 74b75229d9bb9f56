/*
 * T1: blocks that are a loop of their own. Such a block is emitted twice. The second form checks
 * each access, as any warm block. The first, the strip, runs without checks for as many iterations
 * as all its streams stay on the pages their lines have: a stream is what is accessed at one
 * distance from one or two registers that move by constants, or not at all.
 *
 *   entry:  count the iterations; few, or a page not there: to the checked form
 *   strip:  all done, as a register that moves tells: poll, and to `entry`
 *           body; the way back goes to `strip`, other ways out as ever
 *   checked form: body; the way back polls and goes to `entry`
 *
 * A page that the soft TLB has is brought in at `entry`; all else is the checked form's. Flags are
 * not stored on the way back: the block must not look at those it is entered with.
 */
#include "host/x86_64/t1.h"

#define ENV(field) x_env(offsetof(struct rt_env, field))
#define STRIP_INSNS 2048 /* in a strip at most, so that interrupts need not wait */
#define STRIP_MIN 4      /* iterations that are worth it */
#define STREAM_SPAN 1008 /* less than PARAM_SPAN */
#define STREAM_STEP 512
#define TRIP_MOST (1 << 28)

static bool same_stream(const struct stream *s, const struct access *a)
{
    return s->base[0] == a->base[0] && s->base[1] == a->base[1] && s->scale == a->scale;
}

static bool moves_by(const struct plan *p, unsigned base, int64_t *by)
{
    *by = base ? p->step[base] : 0;
    return !base || (p->entry_reg[base] && p->step[base] != NO_STEP);
}

static bool step_of(const struct plan *p, const struct access *a, int32_t *step)
{
    int64_t x, y;
    if (!moves_by(p, a->base[0], &x) || !moves_by(p, a->base[1], &y)) {
        return false;
    }
    x += y * (1 << a->scale);
    *step = (int32_t)x;
    return x >= -STREAM_STEP && x <= STREAM_STEP;
}

static bool line_taken(const struct plan *p, unsigned line)
{
    for (unsigned k = 0; k < p->nstreams; k++) {
        if (p->stream[k].line == line) {
            return true;
        }
    }
    return false;
}

static bool join(struct plan *p, struct access *a)
{
    for (unsigned k = 0; k < p->nstreams; k++) {
        struct stream *s = &p->stream[k];
        if (same_stream(s, a)) {
            int32_t lo = a->off < s->lo ? a->off : s->lo;
            int32_t hi = a->off + a->size > s->hi ? a->off + a->size : s->hi;
            if (hi - lo > STREAM_SPAN) {
                return false;
            }
            s->lo = lo;
            s->hi = hi;
            s->write |= a->write;
            a->strip_line = s->line; /* through a copy of the register it has another one */
            return true;
        }
    }
    int32_t step;
    if (p->nstreams == MAX_STREAMS || line_taken(p, a->line) || !step_of(p, a, &step)) {
        return false;
    }
    p->stream[p->nstreams++] = (struct stream){.base = {a->base[0], a->base[1]},
                                               .scale = a->scale,
                                               .line = a->line,
                                               .write = a->write,
                                               .step = step,
                                               .lo = a->off,
                                               .hi = a->off + a->size};
    a->strip_line = a->line;
    return true;
}

static bool by_line(const struct access *a)
{
    return a->kind == ACCESS_BASE || a->kind == ACCESS_MEMBER || a->kind == ACCESS_STREAM;
}

/* What each access is in the strip. True if it gains anything. */
bool t1_plan_strip(struct t1 *t)
{
    struct plan *p = &t->plan;
    unsigned n = 0;
    p->nstreams = 0;
    for (unsigned i = 0; i < t->b->nops; i++) {
        struct access *a = &p->access[i];
        a->strip_kind = a->kind;
        a->strip_line = a->line;
        bool line = by_line(a) && a->line < RT_BASES;
        if (line && a->base[0] && join(p, a)) {
            a->strip_kind = a->base[1] ? ACCESS_STREAM : ACCESS_MEMBER;
            a->in_stream = true;
            n++;
        }
    }
    for (unsigned i = 0; i < t->b->nops; i++) {
        struct access *a = &p->access[i];
        if (by_line(a) && !a->in_stream && line_taken(p, a->line)) {
            a->strip_kind = ACCESS_TABLE; /* the line must stay as it is */
        }
    }
    return n > 0;
}

static struct x_rm home(const struct t1 *t, unsigned guest)
{
    return t->c->pin[guest] != X_NONE ? x_r(t->c->pin[guest]) : x_guest(t->c, guest);
}

/* Lowest address of the stream in this iteration, in r11; r14 is used. */
static void stream_address(struct t1 *t, struct enc *e, const struct stream *s)
{
    unsigned reg[2] = {X_NONE, X_NONE};
    for (unsigned k = 0; k < 2; k++) {
        if (s->base[k]) {
            struct x_rm m = home(t, t->plan.entry_reg[s->base[k]] - 1u);
            reg[k] = m.mem ? (k ? X_R14 : X_R11) : m.reg;
            if (m.mem) {
                x_mov_r_rm(e, IR_I64, reg[k], m);
            }
        }
    }
    x_lea(e, IR_I64, X_R11, x_mx(reg[0], reg[1], s->scale, s->lo));
}

static unsigned log2_up(uint32_t n)
{
    return n <= 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1);
}

/*
 * Out of line: the stream's line led to another page; the soft TLB may have the right one. Back
 * with the place in the page in r11. Returns the jump for when it does not.
 */
static uint8_t *bring_page(struct t1 *t, const struct stream *s, uint8_t *other,
                           const uint8_t *back)
{
    struct enc *e = &t->cold;
    uint32_t param = s->line | (uint32_t)(s->hi - s->lo) << PARAM_SPAN_SHIFT;
    x_patch_here(e, other);
    stream_address(t, e, s);
    x_push_i32(e, (int32_t)param);
    x_patch(x_call(e), t->c->line_fill[t->b->mode & 3][s->write]);
    uint8_t *away = x_jcc(e, IR_CC_B);
    x_alu_rm_i(e, X_AND, IR_I32, x_r(X_R11), RT_PAGE_SIZE - 1);
    x_patch(x_jmp(e), back);
    return away;
}

/* eax: iterations less one that the streams before allow. Returns the jump for "page not there". */
static uint8_t *stream_limit(struct t1 *t, const struct stream *s)
{
    struct enc *e = &t->hot;
    int32_t room = (int32_t)RT_PAGE_SIZE - (s->hi - s->lo);
    size_t tag = s->write ? offsetof(struct rt_base, tag_w) : offsetof(struct rt_base, tag_r);
    stream_address(t, e, s);
    x_alu_r_rm(e, X_XOR, IR_I64, X_R11, t1_in_line(t, s->line, tag));
    x_alu_rm_i(e, X_CMP, IR_I64, x_r(X_R11), room);
    uint8_t *other = x_jcc(e, IR_CC_A);
    uint8_t *away = bring_page(t, s, other, e->p);
    if (s->step > 0) {
        x_mov_r_i64(e, X_R14, (uint64_t)room);
        x_alu_r_rm(e, X_SUB, IR_I32, X_R14, x_r(X_R11));
    } else if (s->step < 0) {
        x_mov_r_rm(e, IR_I32, X_R14, x_r(X_R11));
    }
    if (s->step) {
        unsigned shift = log2_up((uint32_t)(s->step < 0 ? -s->step : s->step));
        if (shift) {
            x_shift_rm_i(e, X_SHR, IR_I32, x_r(X_R14), shift);
        }
        x_alu_r_rm(e, X_CMP, IR_I32, X_RAX, x_r(X_R14));
        x_cmov_r_rm(e, IR_CC_A, IR_I32, X_RAX, x_r(X_R14));
    }
    return away;
}

/* A register that moves: it tells when the strip is at its end. 0: there is none. */
static unsigned clock_base(const struct plan *p)
{
    unsigned found = 0;
    for (unsigned k = 0; k < p->nstreams; k++) {
        for (unsigned n = 0; n < 2; n++) {
            unsigned base = p->stream[k].base[n];
            bool pinned = found && p->entry_reg[found] <= 11;
            if (base && p->step[base] && !pinned) {
                found = base;
            }
        }
    }
    return found;
}

/* eax: iterations. What the clock register will be behind them goes to env->strip. */
static void store_end(struct t1 *t, unsigned base, struct x_rm clock)
{
    struct enc *e = &t->hot;
    x_imul_r_rm_i(e, IR_I64, X_RAX, x_r(X_RAX), t->plan.step[base]);
    x_alu_r_rm(e, X_ADD, IR_I64, X_RAX, clock);
    x_mov_rm_r(e, IR_I64, ENV(strip), X_RAX);
}

/* The compare by which the block goes back to itself, when it is between a register that moves and
 * something that does not. */
struct trip {
    unsigned base;  /* that moves */
    unsigned bound; /* base that does not; 0: a constant */
    int64_t k;      /* the distance: bound - base + k */
};

static bool still(const struct t1 *t, ir_ref v, struct trip *trip)
{
    const struct plan *p = &t->plan;
    uint64_t k;
    if (t1_const(t, v, &k)) {
        trip->bound = 0;
        trip->k = (int64_t)k;
        return (int32_t)k == (int64_t)k;
    }
    trip->bound = p->base[v];
    trip->k = p->off[v];
    return p->base[v] && p->entry_reg[p->base[v]] && p->step[p->base[v]] == 0;
}

static bool moving(const struct t1 *t, ir_ref v, struct trip *trip)
{
    const struct plan *p = &t->plan;
    uint64_t k;
    int32_t step;
    if (t1_const(t, v, &k) || !p->base[v] || !p->entry_reg[p->base[v]]) {
        return false;
    }
    step = p->step[p->base[v]];
    trip->base = p->base[v];
    trip->k -= p->off[v];
    return step && step != NO_STEP;
}

static bool compares(const struct t1 *t, const struct ir_op *op, struct trip *trip)
{
    const struct ir_op *f = &t->b->op[op->a];
    return f->op == IR_flags && f->aux == IR_FL_SUB && f->type == IR_I64 &&
           ((still(t, f->b, trip) && moving(t, f->a, trip)) ||
            (still(t, f->a, trip) && moving(t, f->b, trip)));
}

/* The way back says how long the loop is, or a way out when something is reached. */
static bool find_trip(const struct t1 *t, struct trip *trip)
{
    for (unsigned i = t->b->nops; i-- > 0;) {
        const struct ir_op *op = &t->b->op[i];
        bool back = op->op == IR_brcc && t->b->target[op->imm] == t->b->pc;
        if ((back || (op->op == IR_brcc && op->aux == IR_CC_E)) && compares(t, op, trip)) {
            return true;
        }
    }
    return false;
}

/* Leaves for the checked form when few iterations are left. A guess is good enough. */
static uint8_t *trip_limit(struct t1 *t)
{
    struct enc *e = &t->hot;
    struct trip trip = {0};
    if (!find_trip(t, &trip) || trip.k < -TRIP_MOST || trip.k > TRIP_MOST) {
        return NULL;
    }
    int32_t step = t->plan.step[trip.base], k = (int32_t)trip.k;
    int32_t least = (step < 0 ? -step : step) * STRIP_MIN;
    struct x_rm reg = home(t, t->plan.entry_reg[trip.base] - 1u);
    struct x_rm to = reg;
    if (trip.bound) {
        to = home(t, t->plan.entry_reg[trip.bound] - 1u);
    } else {
        x_mov_r_i64(e, X_R14, 0);
        to = x_r(X_R14);
    }
    x_mov_r_rm(e, IR_I64, X_RAX, step > 0 ? to : reg);
    x_alu_r_rm(e, X_SUB, IR_I64, X_RAX, step > 0 ? reg : to);
    x_alu_rm_i(e, X_CMP, IR_I64, x_r(X_RAX), step > 0 ? least - k : least + k);
    return x_jcc(e, IR_CC_L);
}

/*
 * Counts the iterations, then the head of the strip. Returns how many jumps to the checked form
 * there are in away[].
 */
unsigned t1_strip_head(struct t1 *t, uint8_t *away[STRIP_AWAYS])
{
    struct enc *e = &t->hot;
    const struct plan *p = &t->plan;
    unsigned most = STRIP_INSNS / t->b->ninsns, n = 0, base = clock_base(p);
    if (!base) {
        return 0;
    }
    struct x_rm clock = home(t, p->entry_reg[base] - 1u);
    const uint8_t *entry = e->p;
    away[n] = trip_limit(t);
    n += away[n] != NULL;
    x_mov_r_i64(e, X_RAX, most > STRIP_MIN ? most : STRIP_MIN);
    for (unsigned k = 0; k < p->nstreams; k++) {
        away[n++] = stream_limit(t, &p->stream[k]);
    }
    x_alu_rm_i(e, X_ADD, IR_I32, x_r(X_RAX), 1);
    x_alu_rm_i(e, X_CMP, IR_I32, x_r(X_RAX), STRIP_MIN);
    away[n++] = x_jcc(e, IR_CC_B);
    store_end(t, base, clock);
    if (t->b->uses_vec) {
        t1_make_live(t);
    }
    x_align(e, 16);
    t->strip_top = e->p;
    if (clock.mem) {
        x_mov_r_rm(e, IR_I64, X_R11, clock);
        clock = x_r(X_R11);
    }
    x_alu_r_rm(e, X_CMP, IR_I64, clock.reg, ENV(strip));
    x_patch_here(&t->cold, x_jcc(e, IR_CC_E));
    x_alu_rm_i(&t->cold, X_CMP, IR_I32, ENV(exit), 0);
    x_patch(x_jcc(&t->cold, IR_CC_E), entry);
    away[n++] = x_jmp(&t->cold);
    return n;
}
