/*
 * What t1_test and t1_loops run their random IR on: a guest with x86-like registers, a few pages of
 * memory, and the slow paths of its soft TLB.
 */
#ifndef TESTS_HOST_T1_MACHINE_H
#define TESTS_HOST_T1_MACHINE_H

#include "ir/host.h"
#include "jit/codemem.h"
#include "tests/host/t1_gen.h"

struct cpu {
    struct rt_env env;
    uint64_t extra[2];
    uint64_t mxcsr;
    uint8_t vec[16][32];
};

extern const struct ir_guest t1_guest;

/* PAGES pages at MEM_BASE, and the same ones 4 GiB above; page 5 read-only, page 6 absent. */
struct machine {
    struct cpu *cpu;
    uint8_t *mem;
};
extern struct machine *t1_running;

/* One in `rate` misses goes wrong: not filled, or treated as crossing. */
struct t1_trouble {
    unsigned rate, kind; /* kind: 0 not filled, 1 treated as crossing */
    uint64_t n, injected[2];
};
extern struct t1_trouble t1_trouble;

/* A back end's context and two machines: m[0] for the interpreter, m[1] for T1. */
struct t1_bench {
    struct codemem cm;
    const struct ir_host *host;
    struct ir_host_ctx *ctx;
    struct ir_buf buf;
    struct ir_block *block;
    struct machine m[2];
};
bool t1_open(struct t1_bench *); /* false: no back end for this host */
void t1_close(struct t1_bench *);
void t1_emit_into(struct t1_bench *, struct ir_code *); /* the block's code, in out->form */
void t1_init_state(struct machine *, uint64_t seed);
/* After the interpreter (a) and T1 (b) left for the reasons ea and eb. */
bool t1_differ(const struct machine *a, const struct machine *b, enum rt_exit ea, enum rt_exit eb,
               uint32_t defined, bool verbose);

#endif
