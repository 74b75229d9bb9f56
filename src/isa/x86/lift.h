/*
 * Lifting x86 instructions to IR. One function per instruction (or family), in files by the
 * manual's chapters; each file exports a table indexed by enum x86_op. Semantics stand here and in
 * the helpers, once.
 */
#ifndef ISA_X86_LIFT_H
#define ISA_X86_LIFT_H

#include "base/bits.h"
#include "ir/build.h"
#include "isa/x86/cpu.h"
#include "isa/x86/decode.h"
#include "isa/x86/helpers.h"

struct lift {
    struct ir_block *b;
    const struct x86_insn *in;
    uint64_t pc, next; /* of this instruction and behind it, wrapped to the code size */
    uint32_t mode;
    bool end; /* the instruction ended the block */
    const struct tr_ctx *t;
    unsigned off; /* of the instruction in the block's bytes */
    ir_ref imm;   /* its immediate, when it was read already */
};

/* Returns false when the instruction is #UD here (mode, feature, operand form). */
typedef bool x86_lift_fn(struct lift *);

extern x86_lift_fn *const x86_lift_int[X86_OP_COUNT];  /* lift_int.c ... general-purpose */
extern x86_lift_fn *const x86_lift_flow[X86_OP_COUNT]; /* lift_flow.c: branches, stack, strings */
extern x86_lift_fn *const x86_lift_bits[X86_OP_COUNT]; /* lift_bits.c: shifts, bit tests, BMI */
extern x86_lift_fn *const x86_lift_sys[X86_OP_COUNT];  /* lift_sys.c */
extern x86_lift_fn *const x86_lift_sse[X86_OP_COUNT];  /* lift_sse.c: exceptions to lift_vec.c */
extern x86_lift_fn *const x86_lift_x87[X86_OP_COUNT];  /* lift_x87.c: the same for x87 */

static inline enum ir_type lift_type(unsigned bytes)
{
    return bytes == 1 ? IR_I8 : bytes == 2 ? IR_I16 : bytes == 4 ? IR_I32 : IR_I64;
}

/* Offset of the memory operand in its segment, truncated to the address size. */
ir_ref lift_offset(struct lift *);
/*
 * The memory operand as an address for ld, st, hostvec ...; emits segment base and, where segments
 * are not flat, the limit check for `size` bytes and `access` (RT_READ, RT_WRITE or both).
 */
struct ir_addr lift_mem(struct lift *, unsigned size, unsigned access);
/* The same for an offset computed elsewhere. */
struct ir_addr lift_mem_at(struct lift *, unsigned seg, ir_ref offset, unsigned size,
                           unsigned access);

/* Operand n: value read (register, memory, immediate), result written. Memory that is written
 * after being read must be read with lift_read_rmw (faults as a write). */
ir_ref lift_read(struct lift *, unsigned n);
ir_ref lift_read_rmw(struct lift *, unsigned n, struct ir_addr *addr);
void lift_write(struct lift *, unsigned n, ir_ref v);
void lift_write_at(struct lift *, unsigned n, ir_ref v, const struct ir_addr *addr);
ir_ref lift_gpr(struct lift *, unsigned reg, unsigned bytes);
void lift_set_gpr(struct lift *, unsigned reg, unsigned bytes, ir_ref v);

/* Ends the block by a helper. */
void lift_helper(struct lift *, enum x86_helper, ir_ref a, ir_ref b, ir_ref c);
bool lift_raise(struct lift *, unsigned vector); /* always returns true */
bool lift_raise_error(struct lift *, unsigned vector, uint32_t error);
static inline ir_ref lift_const(struct lift *l, uint64_t k)
{
    return ir_const(l->b, k);
}
/* The same for an address in or near the code, of `bytes` bytes: it moves with the block. */
static inline ir_ref lift_pc(struct lift *l, uint64_t k, unsigned bytes)
{
    if (bytes == 8) {
        return ir_const_pc(l->b, k);
    }
    l->b->moves = false;
    return ir_const(l->b, k & mask_low(8 * bytes));
}
/* Ends the block with a jump; pc is wrapped to the operand size by the caller. */
void lift_jump(struct lift *, uint64_t pc);

/* For near branches, before they change anything: the target (a 64-bit value) must lie in CS.
 * `taken`: 8 bits, or IR_NONE. */
bool lift_limits_targets(const struct lift *);
void lift_check_target(struct lift *, ir_ref taken, ir_ref target);

/* Stack: pushes one value of the operand size; RSP is set by lift_push itself (after the store). */
void lift_push(struct lift *, unsigned bytes, ir_ref v);
/* Reads the top of stack; lift_pop_done then moves RSP (call it after the last op that faults). */
ir_ref lift_pop(struct lift *, unsigned bytes);
void lift_pop_done(struct lift *, uint64_t bytes);

#endif
