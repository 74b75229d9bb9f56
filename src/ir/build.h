/* Making IR: one function per shape of op. Lifters use these and nothing else. */
#ifndef IR_BUILD_H
#define IR_BUILD_H

#include "ir/ir.h"

/* A memory operand: seg/base + (index << scale) + disp, any part absent. */
struct ir_addr {
    ir_ref base, index; /* IR_NONE when absent */
    uint8_t scale;      /* 0 to 3 */
    int32_t disp;
};

void ir_begin(struct ir_block *, const struct ir_guest *, uint64_t pc, uint32_t mode);
/* Opens the next guest instruction; `pc` is its address. */
void ir_insn(struct ir_block *, uint64_t pc, unsigned len);
uint16_t ir_target(struct ir_block *, uint64_t pc); /* index of a (new or known) target */

ir_ref ir_emit(struct ir_block *, struct ir_op); /* any op; IR_NONE and b->full when no room */

ir_ref ir_const(struct ir_block *, uint64_t k);
ir_ref ir_const_pc(struct ir_block *, uint64_t k); /* IR_CONST_PC */
ir_ref ir_fetch(struct ir_block *, const uint8_t *host, enum ir_type from, bool sign); /* i64 */
ir_ref ir_getreg(struct ir_block *, enum ir_type, unsigned reg);
void ir_setreg(struct ir_block *, enum ir_type, unsigned reg, ir_ref v);
ir_ref ir_un(struct ir_block *, enum ir_opcode, enum ir_type, ir_ref a);
ir_ref ir_bin(struct ir_block *, enum ir_opcode, enum ir_type, ir_ref a, ir_ref b);
ir_ref ir_tri(struct ir_block *, enum ir_opcode, enum ir_type, ir_ref a, ir_ref b, ir_ref c);
ir_ref ir_ext(struct ir_block *, enum ir_opcode zext_sext_trunc, enum ir_type to, enum ir_type from,
              ir_ref a);
ir_ref ir_lea(struct ir_block *, enum ir_type, struct ir_addr);
ir_ref ir_shiftd(struct ir_block *, enum ir_opcode shld_shrd, enum ir_type, ir_ref a, ir_ref fill,
                 ir_ref count);

/* Flags: the current value (read from the guest's when the block has none yet), a new one. */
ir_ref ir_get_flags(struct ir_block *);
void ir_set_flags(struct ir_block *, ir_ref flags);
ir_ref ir_flags(struct ir_block *, enum ir_flags_kind, enum ir_type, ir_ref a, ir_ref b, ir_ref old,
                ir_ref d);
ir_ref ir_setcc(struct ir_block *, enum ir_cc, ir_ref flags);
ir_ref ir_select(struct ir_block *, enum ir_type, enum ir_cc, ir_ref flags, ir_ref yes, ir_ref no);

ir_ref ir_ld(struct ir_block *, enum ir_type, struct ir_addr);
ir_ref ir_ldw(struct ir_block *, enum ir_type, struct ir_addr);
void ir_st(struct ir_block *, enum ir_type, struct ir_addr, ir_ref v);
void ir_probew(struct ir_block *, enum ir_type, struct ir_addr);
ir_ref ir_rmw(struct ir_block *, enum ir_rmw, enum ir_type, struct ir_addr, ir_ref v, ir_ref flags,
              bool lock);
ir_ref ir_cmpxchg(struct ir_block *, enum ir_type, struct ir_addr, ir_ref expected, ir_ref desired,
                  bool lock);
ir_ref ir_vec_op(struct ir_block *, const struct ir_vec *, struct ir_addr, ir_ref int_in);

void ir_check(struct ir_block *, unsigned id, ir_ref a, ir_ref b, unsigned size);

void ir_brcc(struct ir_block *, enum ir_cc, ir_ref flags, uint64_t pc);
void ir_brnz(struct ir_block *, enum ir_type, ir_ref v, uint64_t pc);
void ir_brz(struct ir_block *, enum ir_type, ir_ref v, uint64_t pc);
void ir_jump(struct ir_block *, uint64_t pc);
void ir_call(struct ir_block *, uint64_t pc, uint64_t return_pc);
void ir_jumpi(struct ir_block *, enum ir_hint, ir_ref v, uint64_t return_pc);
void ir_helper(struct ir_block *, unsigned id, ir_ref a, ir_ref b, ir_ref c, uint64_t next_pc);

#endif
