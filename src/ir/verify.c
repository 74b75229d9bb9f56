/* What every block must obey before anything runs it. */
#include <errno.h>

#include "base/err.h"
#include "ir/ir.h"

static int bad(struct err *err, unsigned i, const struct ir_op *op, const char *what)
{
    return err_set(err, EINVAL, "op %u (%s): %s", i,
                   op->op < IR_OPCODES ? ir_op_info[op->op].name : "?", what);
}

static int check_operands(const struct ir_block *b, unsigned i, struct err *err)
{
    const struct ir_op *op = &b->op[i];
    if (op->op == IR_const) {
        return 0;
    }
    const ir_ref v[4] = {op->a, op->b, op->c, op->d};
    for (const char *s = ir_op_info[op->op].operands; *s; s++) {
        if (*s == '?') {
            continue;
        }
        bool wants_flags = *s < 'a';
        ir_ref r = v[(*s | 0x20) - 'a'];
        if (r == IR_NONE) {
            if (s[1] != '?') {
                return bad(err, i, op, "operand missing");
            }
            continue;
        }
        if (r >= i) {
            return bad(err, i, op, "operand used before it is made");
        }
        const struct ir_op *def = &b->op[r];
        bool is_flags = ir_op_info[def->op].result == 'F' ||
                        (def->op == IR_hostvec && b->vec[def->imm].result == IR_VEC_RFLAGS);
        if (ir_op_info[def->op].result == 'N' || is_flags != wants_flags) {
            return bad(err, i, op, "operand of the wrong kind");
        }
    }
    return 0;
}

/* Indexes into the block's and the guest's tables. */
static int check_indexes(const struct ir_block *b, unsigned i, struct err *err)
{
    const struct ir_op *op = &b->op[i];
    switch (op->op) {
    case IR_getreg:
    case IR_setreg:
        if (op->aux >= b->guest->nregs) {
            return bad(err, i, op, "no such register");
        }
        return 0;
    case IR_hostvec: return op->imm < 0 || op->imm >= b->nvecs ? bad(err, i, op, "no such vec") : 0;
    case IR_helper:
        if (op->aux >= b->guest->nhelpers) {
            return bad(err, i, op, "no such helper");
        }
        break;
    case IR_check: return op->aux >= b->guest->nchecks ? bad(err, i, op, "no such check") : 0;
    case IR_insn:
    case IR_brcc:
    case IR_brnz:
    case IR_brz:
    case IR_jump: break;
    default: return 0;
    }
    return op->imm < 0 || op->imm >= b->ntargets ? bad(err, i, op, "no such target") : 0;
}

int ir_verify(const struct ir_block *b, struct err *err)
{
    if (b->full || b->nops == 0 || b->nops > IR_MAX_OPS) {
        return err_set(err, EINVAL, "block is empty or ran over");
    }
    if (b->op[0].op != IR_insn) {
        return err_set(err, EINVAL, "block does not start with insn");
    }
    bool state_set = false; /* invariant I1 */
    for (unsigned i = 0; i < b->nops; i++) {
        const struct ir_op *op = &b->op[i];
        if (op->op >= IR_OPCODES || op->type >= IR_TYPES) {
            return err_set(err, EINVAL, "op %u: unknown opcode or type", i);
        }
        int r = check_operands(b, i, err);
        r = r ? r : check_indexes(b, i, err);
        if (r) {
            return r;
        }
        unsigned props = ir_op_props[op->op];
        if (op->op == IR_insn) {
            state_set = false;
        } else if (op->op == IR_setreg || op->op == IR_setflags) {
            state_set = true;
        } else if ((props & IR_FAULT) && !(props & IR_END) && state_set) {
            return bad(err, i, op, "can fault after a register was set (I1)");
        }
        if (!!(props & IR_END) != (i == b->nops - 1u)) {
            return bad(err, i, op,
                       "an end op stands inside, or the last op does not end the block");
        }
    }
    return 0;
}
