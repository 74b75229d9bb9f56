/*
 * Passes of the translator. Each walks the block once.
 *
 * pass_dead_flags treats flags as dead where a later setflags overwrites them with nothing in
 * between that leaves the block for another address. A fault in between then shows older flags
 * in its frame: harmless to the guest, which resumes and overwrites them (engine rule 15). But
 * flags that an instruction behind the fault still reads are kept: it may run in another block.
 */
#include <string.h>

#include "ir/ir.h"

struct flags_scan {
    uint16_t last_use[IR_MAX_OPS]; /* of each flags value as an operand of other ops; 0: none */
    uint16_t fault_before[IR_MAX_OPS + 1]; /* how many ops that can fault stand before this one */
};

static void scan_flags(const struct ir_block *b, struct flags_scan *s)
{
    s->fault_before[0] = 0;
    for (unsigned i = 0; i < b->nops; i++) {
        const struct ir_op *op = &b->op[i];
        s->last_use[i] = 0;
        s->fault_before[i + 1] =
            (uint16_t)(s->fault_before[i] + !!(ir_op_info[op->op].props & IR_FAULT));
        if (op->op == IR_const || op->op == IR_setflags) {
            continue;
        }
        const ir_ref v[4] = {op->a, op->b, op->c, op->d};
        for (const char *o = ir_op_info[op->op].operands; *o; o++) {
            if (*o >= 'A' && *o <= 'D' && v[*o - 'A'] != IR_NONE) {
                s->last_use[v[*o - 'A']] = (uint16_t)i;
            }
        }
    }
}

/* Can the guest come back between op i and the last use of the value it sets, and read it then? */
static bool needed_on_return(const struct ir_block *b, const struct flags_scan *s, unsigned i)
{
    unsigned last = s->last_use[b->op[i].a];
    return last > i && s->fault_before[last + 1] != s->fault_before[i];
}

void pass_dead_flags(struct ir_block *b)
{
    struct flags_scan s;
    bool dead = false;
    scan_flags(b, &s);
    for (unsigned i = b->nops; i-- > 0;) {
        struct ir_op *op = &b->op[i];
        if (op->op == IR_setflags) {
            if (dead && !needed_on_return(b, &s, i)) {
                op->op = IR_nop;
            }
            dead = true;
        } else if ((ir_op_info[op->op].props & IR_EXIT) || op->op == IR_getflags) {
            dead = false;
        }
    }
}

/* Marks the operands of op `i` in `used`. */
static void mark_operands(const struct ir_block *b, unsigned i, bool *used)
{
    const struct ir_op *op = &b->op[i];
    if (op->op == IR_const) {
        return;
    }
    const ir_ref v[4] = {op->a, op->b, op->c, op->d};
    for (const char *s = ir_op_info[op->op].operands; *s; s++) {
        if (*s != '?') {
            ir_ref r = v[(*s | 0x20) - 'a'];
            if (r != IR_NONE) {
                used[r] = true;
            }
        }
    }
}

void pass_dead_ops(struct ir_block *b)
{
    bool used[IR_MAX_OPS] = {false};
    for (unsigned i = b->nops; i-- > 0;) {
        struct ir_op *op = &b->op[i];
        if (op->op == IR_nop) {
            continue;
        }
        if (!used[i] && !(ir_op_info[op->op].props & (IR_EFFECT | IR_FAULT | IR_END))) {
            op->op = IR_nop;
            continue;
        }
        mark_operands(b, i, used);
    }
}

void pass_compact(struct ir_block *b)
{
    ir_ref moved[IR_MAX_OPS];
    unsigned n = 0;
    for (unsigned i = 0; i < b->nops; i++) {
        struct ir_op op = b->op[i];
        if (op.op == IR_nop) {
            continue;
        }
        if (op.op != IR_const) {
            ir_ref *v[4] = {&op.a, &op.b, &op.c, &op.d};
            for (const char *s = ir_op_info[op.op].operands; *s; s++) {
                ir_ref *r = *s == '?' ? NULL : v[(*s | 0x20) - 'a'];
                if (r && *r != IR_NONE) {
                    *r = moved[*r];
                }
            }
        }
        moved[i] = (ir_ref)n;
        b->op[n++] = op;
    }
    if (b->flags != IR_NONE) {
        b->flags = IR_NONE;
    }
    b->nops = (uint16_t)n;
}

void ir_optimize(struct ir_block *b)
{
    pass_dead_flags(b);
    pass_dead_ops(b);
    pass_compact(b);
}
