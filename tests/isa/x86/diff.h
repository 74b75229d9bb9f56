/*
 * Differential test of x86 user instructions: one random instruction at a time, from a random
 * state, on the host processor and on every engine; all of the state they leave is compared.
 *
 * Code and a window of memory lie at fixed addresses below 4 GiB, with a page without access on
 * either side of the window; guest virtual addresses are those of this process.
 *
 * Does not do: privileged instructions, segment loads, unmasked floating-point exceptions, RTM.
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
#define DIFF_FX 160 /* bytes of an FXSAVE image that describe the x87 */
#define DIFF_NO_FAULT (-1)
#define DIFF_FLAGS (FLAG_ALL | RF_DF | RF_NT | RF_AC | RF_ID)

struct diff_state {
    uint64_t gpr[16], pc, flags;
    uint32_t mxcsr;
    int fault; /* exception vector, or DIFF_NO_FAULT */
    uint8_t fx[DIFF_FX];
    uint8_t vec[16][32];
    uint8_t mem[DIFF_MEM_SIZE];
};

struct diff_case {
    struct x86_insn insn;
    uint8_t code[32]; /* padded with NOPs */
    struct diff_state in;
};

struct diff_host;

/* diff_vendor.c: what this processor does otherwise than Intel's manual. */
struct diff_vendor {
    bool amd, serialize, misaligned_sse;
};
struct diff_vendor diff_vendor_probe(void);
/* Puts what the host is to run in place of the instruction. */
void diff_vendor_code(const struct diff_vendor *, const struct x86_insn *, uint8_t *code);
void diff_vendor_mend(const struct diff_vendor *, const struct diff_case *, struct diff_state *out);

/* diff_host.c: the processor itself. */
struct diff_host *diff_host_open(void);
void diff_host_run(struct diff_host *, const struct diff_case *, struct diff_state *out);

/* diff_guest.c: engines that run IR. */
struct diff_guest;
struct diff_engine {
    const char *name;
    /* Runs a block once, as ir_interp does. */
    enum rt_exit (*run)(struct diff_guest *, const struct ir_block *);
};
struct diff_guest *diff_guest_open(unsigned mode);
struct x86_cpu *diff_guest_cpu(struct diff_guest *);
const struct ir_block *diff_guest_block(const struct diff_guest *); /* that of the last run */
void diff_guest_run(struct diff_guest *, const struct diff_engine *, const struct diff_case *,
                    struct diff_state *out);
extern const struct diff_engine diff_engines[];
extern const unsigned diff_engine_count;

/* diff_state.c */
bool diff_wants_form(const struct x86_model *, unsigned form);
void diff_make_case(struct diff_case *, uint64_t *rng);
/* Address of the memory operand in a state; false when there is none. */
bool diff_address(const struct x86_insn *, const struct diff_state *, uint64_t *ea);
int diff_make_insn(struct diff_case *, uint64_t *rng, unsigned form, unsigned mode);

/* diff_compare.c: false with the differences in `text`. */
struct strbuf;
bool diff_same(const struct diff_case *, const struct diff_state *want,
               const struct diff_state *got, struct strbuf *text);
void diff_print_case(const struct diff_case *, struct strbuf *text);

#endif
