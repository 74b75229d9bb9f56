/* Names and properties of IR ops, from ops.def. */
#include "ir/ir.h"

enum { V = 'V', F = 'F', B = 'B', N = 'N' };
#define FAULT IR_FAULT
#define EFFECT IR_EFFECT
#define END IR_END
#define EXIT IR_EXIT

const struct ir_op_info ir_op_info[IR_OPCODES] = {
#define IR_OP(name, result, operands, props, meaning)                                              \
    [IR_##name] = {#name, result, operands, props},
#include "ir/ops.def"
#undef IR_OP
};
