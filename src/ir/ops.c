/* Names and properties of IR ops, from ops.def. */
#include "ir/ir.h"

enum { V = 'V', F = 'F', B = 'B', N = 'N' };
#define FAULT IR_FAULT
#define EFFECT IR_EFFECT
#define END IR_END
#define EXIT IR_EXIT

#define HAS(operands, letter) (__builtin_strchr(operands, letter) != NULL)
#define FOUR(operands, a, b, c, d)                                                                 \
    (HAS(operands, a) | HAS(operands, b) << 1 | HAS(operands, c) << 2 | HAS(operands, d) << 3)

const struct ir_op_info ir_op_info[IR_OPCODES] = {
#define IR_OP(name, result, operands, props, meaning) [IR_##name] = {#name, result, operands},
#include "ir/ops.def"
#undef IR_OP
};

const uint8_t ir_op_props[IR_OPCODES] = {
#define IR_OP(name, result, operands, props, meaning)                                              \
    [IR_##name] = (props) | (IR_##name == IR_getflags || (props)&IR_EXIT ? IR_SEES_FLAGS : 0),
#include "ir/ops.def"
#undef IR_OP
};

const uint8_t ir_op_uses[IR_OPCODES] = {
#define IR_OP(name, result, operands, props, meaning)                                              \
    [IR_##name] = FOUR(operands, 'a', 'b', 'c', 'd') | FOUR(operands, 'A', 'B', 'C', 'D') << 4,
#include "ir/ops.def"
#undef IR_OP
};

#define ONES(operands, a, A, n) (HAS(operands, a) || HAS(operands, A) ? 0 : 0xffffull << 16 * (n))
const uint64_t ir_op_others[IR_OPCODES] = {
#define IR_OP(name, result, operands, props, meaning)                                              \
    [IR_##name] = ONES(operands, 'a', 'A', 0) | ONES(operands, 'b', 'B', 1) |                      \
                  ONES(operands, 'c', 'C', 2) | ONES(operands, 'd', 'D', 3),
#include "ir/ops.def"
#undef IR_OP
};
