/*
 * Differential test of x86 user instructions: one random instruction, or a block of some, from a
 * random state, on the host processor and on every engine; all of the state they leave is compared.
 *
 * Code and a window of memory lie at fixed addresses below 4 GiB, with a page without access on
 * either side of the window; guest virtual addresses are those of this process.
 *
 * Does not do: privileged instructions, segment loads, RTM; unmasked exceptions in blocks.
 */
#ifndef TESTS_ISA_X86_DIFF_H
#define TESTS_ISA_X86_DIFF_H

#include <stdio.h>

#include "base/bits.h"
#include "ir/ir.h"
#include "isa/x86/cpu.h"
#include "isa/x86/decode.h"

#define DIFF_CODE 0x20000000u
#define DIFF_MEM 0x30000000u
#define DIFF_MEM_SIZE 8192u
#define DIFF_BLOCK (DIFF_CODE + 2048) /* where blocks of several instructions begin */
#define DIFF_CODE_MAX 128             /* bytes of one */
#define DIFF_MAX_BLOCK 16
#define DIFF_FX 160 /* bytes of an FXSAVE image that describe the x87 */
#define DIFF_NO_FAULT (-1)
#define DIFF_FLAGS (FLAG_ALL | RF_DF | RF_NT | RF_AC | RF_ID)

struct diff_state {
    uint64_t gpr[16], pc, flags;
    uint32_t mxcsr;
    int fault;           /* exception vector, or DIFF_NO_FAULT */
    uint64_t fault_addr; /* engines: of a page fault */
    uint8_t fx[DIFF_FX];
    uint8_t vec[16][32];
    uint8_t mem[DIFF_MEM_SIZE];
};

struct diff_step {
    struct x86_insn insn;
    uint8_t at; /* in code */
};

/*
 * One instruction, or a block of several, and the state before. Blocks lie at DIFF_BLOCK; only the
 * last instruction may be an indirect branch, and direct ones leave for the rest of the page.
 */
struct diff_case {
    struct x86_insn insn;             /* the first */
    uint8_t code[DIFF_CODE_MAX + 16]; /* padded with NOPs */
    unsigned n, len;
    bool align;    /* alignment is to be checked */
    bool unmasked; /* the state is to have unmasked floating-point exceptions */
    struct diff_step step[DIFF_MAX_BLOCK];
    struct diff_state in;
};

struct diff_host;

/* diff_vendor.c: what this processor does otherwise than Intel's manual. */
struct diff_vendor {
    bool amd, serialize, misaligned_sse;
};
struct diff_vendor diff_vendor_probe(void);
bool diff_near_branch(unsigned op);
/* Puts what the host is to run in place of the instruction. */
void diff_vendor_code(const struct diff_vendor *, const struct x86_insn *, uint8_t *code);
void diff_vendor_mend(const struct diff_vendor *, const struct diff_case *, struct diff_state *out);

/* diff_host.c: the processor itself. */
void diff_map_window(void); /* code and memory, once */
struct diff_host *diff_host_open(void);
/* Can it run code of this mode? Linux may come without 32-bit code segments. */
bool diff_host_can(struct diff_host *, unsigned mode);
void diff_host_run(struct diff_host *, const struct diff_case *, struct diff_state *out);

/* diff_guest.c: engines that run IR; diff_memory.c: what they need of an accelerator. */
struct diff_guest;
struct diff_engine {
    const char *name;
    /* Runs a block once, as ir_interp does. */
    enum rt_exit (*run)(struct diff_guest *, const struct ir_block *);
};
struct vcpu;
struct diff_guest *diff_guest_open(unsigned mode);
struct x86_cpu *diff_guest_cpu(struct diff_guest *);
const struct ir_block *diff_guest_block(const struct diff_guest *); /* that of the last run */
/* Translates; then the engines can run it. */
void diff_guest_case(struct diff_guest *, const struct diff_case *);
void diff_guest_run(struct diff_guest *, const struct diff_engine *, const struct diff_case *,
                    struct diff_state *out);
extern const struct diff_engine diff_engines[];
extern const unsigned diff_engine_count;
extern const struct rt_mem_ops diff_mem_ops;

/* diff_state.c, diff_insn.c */
uint64_t diff_next(uint64_t *rng);
unsigned diff_below(uint64_t *rng, unsigned n);
#define DIFF_BASES                                                                                 \
    (1u << RBX | 1u << RSP | 1u << RBP | 1u << RSI | 1u << RDI | 1u << R12 | 1u << R13)
void diff_any_state(struct diff_state *, uint64_t *rng, unsigned mode);
void diff_any_x87(uint64_t *rng, uint8_t *fx);
/* Unmasks some exceptions; one that is pending then is rare. */
void diff_unmask(struct diff_state *, uint64_t *rng);
bool diff_wants_form(const struct x86_model *, unsigned form);
int diff_make_insn(struct diff_case *, uint64_t *rng, unsigned form, unsigned mode);
/* The state before, such that the instruction does more than fault. */
void diff_make_state(struct diff_case *, uint64_t *rng);
/* Address of the memory operand in a state; false when there is none. */
bool diff_address(const struct x86_insn *, const struct diff_state *, uint64_t *ea);

/* diff_block.c: blocks of several instructions. */
struct diff_blocks {
    struct diff_guest *guest;
    const unsigned *integer, *other; /* forms */
    unsigned nintegers, nothers, mode, max;
    struct diff_case trial, last; /* last: its last instruction that runs, and the state before */
    struct diff_state next, flipped;
    uint64_t undefined; /* flags with no defined value in the end */
};
bool diff_make_block(struct diff_blocks *, struct diff_case *, uint64_t *rng);
/* The block without instruction k; false: that one would not be a test. */
/* Indirect branches: only as the last of a block. */
bool diff_ends_anywhere(const struct x86_insn *);
bool diff_drop(struct diff_blocks *, const struct diff_case *, unsigned k, struct diff_case *out);

/* diff_compare.c: false with the differences in `text`. `defined`: flags to compare. */
struct strbuf;
uint64_t diff_defined_flags(const struct diff_case *);
bool diff_result_undefined(const struct diff_case *);
bool diff_same(const struct diff_case *, uint64_t defined, const struct diff_state *want,
               const struct diff_state *got, struct strbuf *text);
void diff_print_case(const struct diff_case *, struct strbuf *text);

#endif
