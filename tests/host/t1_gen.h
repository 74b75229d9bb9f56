/*
 * Random IR for t1_test: guest instructions of random shape, and programs of them that a seed
 * names. A program looks at no flag that an instruction before left undefined.
 */
#ifndef TESTS_HOST_T1_GEN_H
#define TESTS_HOST_T1_GEN_H

#include "ir/build.h"

#define NREGS 18
#define PAGES 8
#define MEM_BASE 0x7f0000ull
#define CODE_PC 0x400000ull
#define OUT_PC 0x900000ull

struct gen {
    struct ir_block *b;
    uint64_t rng;
    uint32_t defined; /* flags with a defined value */
    unsigned k;
};

uint64_t t1_rnd(struct gen *);
unsigned t1_below(struct gen *, unsigned n);
uint64_t t1_interesting(struct gen *); /* often an end of a range */

/* The program of a seed from instruction `from` on; returns what flags are defined behind it. */
uint32_t t1_program(struct ir_block *, const struct ir_guest *, uint64_t seed, unsigned from,
                    unsigned insns);
/* Flags that are defined before instruction k. The block is lost. */
uint32_t t1_defined_before(struct ir_block *, const struct ir_guest *, uint64_t seed, unsigned k);

#endif
