/*
 * Random loops, T1 against the interpreter: blocks that branch to themselves, with accesses at
 * distances from registers that move by constants (which T1 runs in strips, without checks), and
 * others. Loops run over page ends, into a read-only page and into one that is absent.
 *
 * usage: t1_loops [FIRST_SEED [COUNT]]
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "ir/interp.h"
#include "jit/codemem.h"
#include "tests/host/t1_machine.h"

enum { COUNTER = 17, MAX_BODY = 10 };
static const uint8_t bases[] = {3, 6, 7, 12, 8, 13}; /* some have homes, some are in memory */
static const uint8_t others[] = {0, 2, 9, 10, 11, 14};
#define PICK(g, list) ((list)[t1_below(g, sizeof(list))])

/* A loop uses two of them or more. */
static unsigned base(struct gen *g)
{
    return bases[t1_below(g, g->k)];
}

static struct ir_addr place(struct gen *g)
{
    struct ir_addr m = {.base = ir_getreg(g->b, IR_I64, base(g)),
                        .index = IR_NONE,
                        .disp = (int32_t)t1_below(g, 64) - 16};
    if (t1_below(g, 3) == 0) {
        m.index = ir_getreg(g->b, IR_I64, 1);
        m.scale = t1_below(g, 2) ? 0 : 3;
    }
    return m;
}

static enum ir_type width(struct gen *g)
{
    return (enum ir_type)t1_below(g, 4);
}

/* Once in a while a base is not at a constant distance from before, or from another one. */
static void move(struct gen *g)
{
    if (t1_below(g, 6) == 0) {
        ir_setreg(g->b, IR_I64, base(g), ir_getreg(g->b, IR_I64, base(g)));
        return;
    }
    static const int16_t step[] = {1, 2, 4, 8, 16, 24, 32, 64, 100, -1, -4, -8, -24, -64, 300};
    unsigned reg = t1_below(g, 3) ? base(g) : 1;
    ir_ref old = ir_getreg(g->b, IR_I64, reg);
    int64_t by = step[t1_below(g, sizeof(step) / sizeof(step[0]))];
    if (reg == 1) {
        by = by > 8 ? 8 : by < -8 ? -1 : by;
    }
    if (t1_below(g, 12) == 0) {
        old = ir_bin(g->b, IR_and, IR_I64, old, ir_const(g->b, ~1ull));
    }
    enum ir_type w = t1_below(g, 8) ? IR_I64 : IR_I32;
    bool less = t1_below(g, 2);
    ir_ref k = ir_const(g->b, (uint64_t)(less ? -by : by));
    ir_setreg(g->b, w, reg, ir_bin(g->b, less ? IR_sub : IR_add, w, old, k));
}

static void body(struct gen *g)
{
    enum ir_type w = width(g);
    ir_ref v;
    switch (t1_below(g, 8)) {
    case 0:
    case 1:
        v = ir_ld(g->b, w, place(g));
        ir_setreg(g->b, w, PICK(g, others), v);
        break;
    case 2: ir_st(g->b, w, place(g), ir_getreg(g->b, w, PICK(g, others))); break;
    case 3: ir_st(g->b, w, place(g), ir_const(g->b, t1_below(g, 100))); break;
    case 4:
        v = ir_getreg(g->b, w, PICK(g, others));
        ir_rmw(g->b, IR_RMW_ADD, w, place(g), v, IR_NONE, false);
        break;
    case 5:
        v = ir_bin(g->b, IR_xor, IR_I64, ir_getreg(g->b, IR_I64, PICK(g, others)),
                   ir_getreg(g->b, IR_I64, base(g)));
        ir_setreg(g->b, IR_I64, PICK(g, others), v);
        break;
    default: move(g); break;
    }
}

static void way_back(struct gen *g)
{
    ir_ref old = ir_getreg(g->b, IR_I64, COUNTER), one = ir_const(g->b, 1);
    ir_ref left = ir_bin(g->b, IR_sub, IR_I64, old, one);
    ir_ref f = ir_flags(g->b, IR_FL_SUB, IR_I64, old, one, IR_NONE, IR_NONE);
    ir_setreg(g->b, IR_I64, COUNTER, left);
    ir_set_flags(g->b, f);
    ir_brcc(g->b, IR_CC_NE, f, CODE_PC);
}

/* Behind the loop, in the same block: a store, perhaps through a base that the loop only reads by.
 */
static void tail(struct gen *g)
{
    if (t1_below(g, 2)) {
        ir_st(g->b, IR_I32, place(g), ir_const(g->b, 7));
    }
    ir_jump(g->b, OUT_PC);
}

/*
 * Seed 0: rbx + 8 rcx, once 2 GiB above and once 2 GiB below what it is at entry: two accesses that
 * 32 bits cannot tell apart. Both are in memory.
 */
enum { FAR_BODY = 6, FAR_STEP = 0x0ffffff0 };

static void far_body(struct gen *g, unsigned k)
{
    static const int32_t move[FAR_BODY] = {FAR_STEP, 0, -FAR_STEP, -FAR_STEP, 0, FAR_STEP + 1};
    ir_ref rcx = ir_getreg(g->b, IR_I64, 1);
    struct ir_addr m = {.base = ir_getreg(g->b, IR_I64, 3), .index = rcx, .scale = 3};
    if (k == 1) {
        m.disp = 0x100;
        ir_st(g->b, IR_I32, m, ir_const(g->b, 7));
    } else if (k == 4) {
        ir_setreg(g->b, IR_I64, 0, ir_ld(g->b, IR_I64, m));
    } else {
        ir_ref by = ir_const(g->b, (uint64_t)(int64_t)move[k]);
        ir_setreg(g->b, IR_I64, 1, ir_bin(g->b, IR_add, IR_I64, rcx, by));
    }
}

/* The loop of a seed from instruction `from` on. */
static void loop(struct ir_block *b, uint64_t seed, unsigned from)
{
    struct gen g = {.b = b, .rng = seed | 1};
    unsigned n = seed ? 2 + t1_below(&g, MAX_BODY - 2) : FAR_BODY;
    g.k = 2 + (unsigned)(seed >> 1) % (unsigned)(sizeof(bases) - 1);
    ir_begin(b, &t1_guest, CODE_PC + from, 1);
    for (unsigned k = from; k <= n + 1; k++) {
        g.rng = seed * 0x9e3779b97f4a7c15ull + k * 0xd1342543de82ef95ull + 1;
        t1_rnd(&g);
        ir_insn(b, CODE_PC + k, 1);
        if (k == n + 1) {
            tail(&g);
        } else if (k == n) {
            way_back(&g);
        } else if (!seed) {
            far_body(&g, k);
        } else {
            body(&g);
        }
    }
    if (seed & 1) {
        ir_optimize(b);
    }
}

static void init_far(struct machine *m)
{
    m->cpu->env.reg[3] = MEM_BASE + RT_PAGE_SIZE + 8ull * FAR_STEP;
    m->cpu->env.reg[1] = 0;
    m->cpu->extra[COUNTER - 16] = 400;
}

static void init(struct machine *m, uint64_t seed)
{
    struct gen g = {.rng = seed | 1};
    t1_init_state(m, seed);
    for (unsigned i = 0; i < sizeof(bases); i++) {
        unsigned page = 1 + t1_below(&g, 5); /* 5 is read-only */
        m->cpu->env.reg[bases[i]] = MEM_BASE + page * RT_PAGE_SIZE + t1_below(&g, RT_PAGE_SIZE);
    }
    m->cpu->env.reg[1] = t1_below(&g, 64);
    m->cpu->extra[COUNTER - 16] = 1 + t1_below(&g, t1_below(&g, 4) ? 40 : 600);
}

struct bench {
    struct t1_bench t;
    unsigned long enters[2], rounds[2], loops; /* [1]: the way back was linked */
};

static bool goes_on(const struct rt_env *env, enum rt_exit e)
{
    return (e == RT_EXIT_JUMP || e == RT_EXIT_LINK) && env->pc == CODE_PC;
}

static enum rt_exit run_t0(struct bench *bn, struct machine *m, uint64_t seed)
{
    enum rt_exit e;
    t1_running = m;
    loop(bn->t.block, seed, 0);
    do {
        e = ir_interp(&m->cpu->env, bn->t.block);
        bn->rounds[seed & 1]++;
    } while (goes_on(&m->cpu->env, e));
    return e;
}

/* The rest of an iteration that T1 could not finish. */
static enum rt_exit finish(struct bench *bn, struct machine *m, uint64_t seed)
{
    loop(bn->t.block, seed, (unsigned)(m->cpu->env.pc - CODE_PC));
    return ir_interp(&m->cpu->env, bn->t.block);
}

static enum rt_exit run_t1(struct bench *bn, struct machine *m, uint64_t seed)
{
    struct rt_env *env = &m->cpu->env;
    struct ir_code code = {.form = IR_FORM_LOOP};
    enum rt_exit e;
    t1_running = m;
    loop(bn->t.block, seed, 0);
    t1_emit_into(&bn->t, &code);
    do {
        e = bn->t.host->enter(bn->t.ctx, env, code.entry);
        bn->enters[seed & 1]++;
        if (env->site) {
            e = bn->t.host->settle(bn->t.ctx, env, &code, e);
        }
        if (e == RT_EXIT_LINK && env->pc == CODE_PC && (seed & 1)) {
            bn->t.host->link(bn->t.ctx, (struct ir_link *)(uintptr_t)env->link_site, &code, 0);
        }
        if (e == RT_EXIT_STEP || e == RT_EXIT_PLAIN || e == RT_EXIT_SCATTER ||
            e == RT_EXIT_SHARED) {
            e = finish(bn, m, seed);
        }
    } while (goes_on(env, e));
    return e;
}

static bool one(struct bench *bn, struct machine *m0, struct machine *m1, uint64_t seed,
                bool verbose)
{
    init(m0, seed * 77 + 5);
    init(m1, seed * 77 + 5);
    if (!seed) {
        init_far(m0);
        init_far(m1);
    }
    enum rt_exit e0 = run_t0(bn, m0, seed);
    enum rt_exit e1 = run_t1(bn, m1, seed);
    bn->loops++;
    return t1_differ(m0, m1, e0, e1, FLAG_ALL & ~FLAG_AF, verbose);
}

static void report(struct bench *bn, struct machine *m0, struct machine *m1, uint64_t seed)
{
    struct strbuf sb = {0};
    printf("seed %lu:\n", seed);
    one(bn, m0, m1, seed, true);
    loop(bn->t.block, seed, 0);
    ir_print(&sb, bn->t.block);
    printf("%s\n", strbuf_text(&sb));
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 4000;
    struct bench *bn = calloc(1, sizeof(*bn));
    if (!t1_open(&bn->t)) {
        return 77;
    }
    struct machine *m0 = &bn->t.m[0], *m1 = &bn->t.m[1];
    unsigned bad = 0;
    for (uint64_t s = first; s < first + count && bad < 3; s++) {
        if (one(bn, m0, m1, s, false)) {
            report(bn, m0, m1, s);
            bad++;
        }
    }
    /* A strip is many rounds in one enter. Without strips and links there is one enter a round. */
    printf("%lu loops; %lu rounds, %lu enters; linked: %lu rounds, %lu enters\n", bn->loops,
           bn->rounds[0], bn->enters[0], bn->rounds[1], bn->enters[1]);
    bool strips = bn->enters[0] < bn->rounds[0] / 6 * 5 && bn->enters[1] < bn->rounds[1] / 4;
    t1_close(&bn->t);
    free(bn);
    return bad || !strips;
}
