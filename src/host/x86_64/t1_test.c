/*
 * Random IR blocks, T1 against the interpreter: registers, flags (where the manual defines them),
 * memory, and where each run ends. An instruction that T1 leaves to the interpreter is stepped
 * there and T1 goes on behind it. Pages that fault, cross and are read-only come up by themselves.
 *
 * With TROUBLE, one in so many misses is not filled, or treated as a crossing access.
 *
 * usage: t1_test [FIRST_SEED [COUNT [INSNS [TROUBLE]]]]
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "ir/host.h"
#include "ir/interp.h"
#include "jit/codemem.h"
#include "tests/host/t1_machine.h"

struct stats {
    unsigned long steps, insns, bytes, faults;
    unsigned long step_op[IR_OPCODES];
};

struct bench {
    struct t1_bench t;
    struct stats st;
};

static enum rt_exit run_t0(struct bench *bn, struct machine *m, uint64_t seed, unsigned insns)
{
    t1_running = m;
    t1_program(bn->t.block, &t1_guest, seed, 0, insns);
    return ir_interp(&m->cpu->env, bn->t.block);
}

static void note_step(struct bench *bn, const struct ir_block *b, uint64_t pc)
{
    bn->st.steps++;
    bool in = false;
    for (unsigned i = 0; i < b->nops; i++) {
        if (b->op[i].op == IR_insn) {
            in = b->target[b->op[i].imm] == pc;
        } else if (in) {
            bn->st.step_op[b->op[i].op]++;
        }
    }
}

static enum rt_exit run_t1(struct bench *bn, struct machine *m, uint64_t seed, unsigned insns)
{
    struct rt_env *env = &m->cpu->env;
    struct ir_code code = {.form = seed & 2 ? IR_FORM_WARM : IR_FORM_PLAIN};
    unsigned from = 0;
    t1_running = m;
    for (;;) {
        t1_program(bn->t.block, &t1_guest, seed, from, insns);
        if (seed & 1) {
            ir_optimize(bn->t.block);
        }
        t1_emit_into(&bn->t, &code);
        bn->st.insns += code.ninsns;
        bn->st.bytes += code.hot_size;
        enum rt_exit e = bn->t.host->enter(bn->t.ctx, env, code.entry);
        if (env->site) {
            e = bn->t.host->settle(bn->t.ctx, env, &code, e);
            e = e == RT_EXIT_PLAIN || e == RT_EXIT_SCATTER || e == RT_EXIT_SHARED ? RT_EXIT_STEP
                                                                                  : e;
        }
        if (e == RT_EXIT_FAULT) {
            bn->st.faults++;
        }
        if (e != RT_EXIT_STEP) {
            return e;
        }
        note_step(bn, bn->t.block, env->pc);
        from = (unsigned)(env->pc - CODE_PC);
        t1_program(bn->t.block, &t1_guest, seed, from, insns);
        env->step_insns = 1;
        e = ir_interp(env, bn->t.block);
        env->step_insns = 0;
        if (e != RT_EXIT_JUMP || env->pc != CODE_PC + from + 1) {
            return e;
        }
        from++;
    }
}

static uint32_t defined_at(struct bench *bn, uint64_t seed, uint64_t pc, unsigned insns)
{
    /* an exit in the middle: what is defined there is what the instructions before it left */
    if (pc >= OUT_PC && pc < OUT_PC + 0x1000) {
        return t1_defined_before(bn->t.block, &t1_guest, seed, (unsigned)(pc - OUT_PC));
    }
    return t1_program(bn->t.block, &t1_guest, seed, 0, insns);
}

static bool one(struct bench *bn, struct machine *m0, struct machine *m1, uint64_t seed,
                unsigned insns, bool verbose)
{
    t1_init_state(m0, seed * 77 + 5);
    t1_init_state(m1, seed * 77 + 5);
    t1_trouble.n = seed;
    enum rt_exit e0 = run_t0(bn, m0, seed, insns);
    enum rt_exit e1 = run_t1(bn, m1, seed, insns);
    uint32_t defined = defined_at(bn, seed, m0->cpu->env.pc, insns);
    return t1_differ(m0, m1, e0, e1, defined, verbose);
}

static void report(struct bench *bn, struct machine *m0, struct machine *m1, uint64_t seed,
                   unsigned insns)
{
    while (insns > 1 && one(bn, m0, m1, seed, insns - 1, false)) {
        insns--;
    }
    printf("seed %lu with %u instructions:\n", seed, insns);
    one(bn, m0, m1, seed, insns, true);
    struct strbuf sb = {0};
    t1_program(bn->t.block, &t1_guest, seed, 0, insns);
    if (seed & 1) {
        ir_optimize(bn->t.block);
    }
    ir_print(&sb, bn->t.block);
    printf("%s\n", strbuf_text(&sb));
    struct ir_code code = {.form = IR_FORM_FIRST};
    t1_emit_into(&bn->t, &code);
    FILE *f = fopen("t1_test.bin", "wb");
    fwrite(code.hot, 1, code.hot_size, f);
    fclose(f);
    t1_init_state(m0, seed * 77 + 5);
    for (unsigned i = 0; i < 16; i++) {
        printf("%s=%lx ", t1_guest.regs[i].name, m0->cpu->env.reg[i]);
    }
    printf("flags=%x\n", rt_flags_unpack(m0->cpu->env.flags));
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 20000;
    unsigned insns = argc > 3 ? (unsigned)atoi(argv[3]) : 12;
    t1_trouble.rate = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
    struct bench *bn = calloc(1, sizeof(*bn));
    if (!t1_open(&bn->t)) {
        return 77;
    }
    struct machine *m0 = &bn->t.m[0], *m1 = &bn->t.m[1];
    unsigned bad = 0;
    for (uint64_t s = first; s < first + count && bad < 3; s++) {
        if (one(bn, m0, m1, s, insns, false)) {
            report(bn, m0, m1, s, insns);
            bad++;
        }
    }
    printf("%lu instructions, %lu faults, %.1f host bytes each, %lu steps\n", bn->st.insns,
           bn->st.faults, (double)bn->st.bytes / (double)(bn->st.insns + 1), bn->st.steps);
    if (t1_trouble.rate) {
        printf("injected: %lu not filled, %lu as crossing\n", t1_trouble.injected[0],
               t1_trouble.injected[1]);
    }
    for (unsigned i = 0; i < IR_OPCODES; i++) {
        if (bn->st.step_op[i] > bn->st.steps / 50 && i != IR_getreg && i != IR_setreg &&
            i != IR_const) {
            printf("  steps with %s: %lu\n", ir_op_info[i].name, bn->st.step_op[i]);
        }
    }
    t1_close(&bn->t);
    free(bn);
    return bad != 0;
}
