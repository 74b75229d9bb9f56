/*
 * Passes of the translator: one backward walk marks what is dead, one forward walk squeezes it out.
 *
 * Flags are treated as dead where a later setflags overwrites them with nothing in between that
 * leaves the block for another address. A fault in between then shows older flags in its frame:
 * harmless to the guest, which resumes and overwrites them (engine rule 15). But flags that an
 * instruction behind the fault still reads are kept: it may run in another block.
 */
#include <string.h>

#include "ir/ir.h"

struct back {
    bool used[IR_MAX_OPS];              /* somebody behind uses the value */
    bool read[IR_MAX_OPS];              /* ... as flags, and not just setflags */
    uint16_t faults_behind[IR_MAX_OPS]; /* ops that can fault behind the last such use */
    unsigned faults;                    /* ops that can fault behind here */
    bool overwritten;                   /* the guest's flags are, before anybody can see them */
};

static void mark_operands(struct back *k, const struct ir_op *op)
{
    unsigned uses = ir_op_info[op->op].uses;
    for (unsigned n = 0; n < 4; n++) {
        ir_ref v = (&op->a)[n];
        if (!(uses >> n & 0x11) || v == IR_NONE) {
            continue;
        }
        k->used[v] = true;
        if ((uses >> n & 0x10) && op->op != IR_setflags && !k->read[v]) {
            k->read[v] = true;
            k->faults_behind[v] = (uint16_t)k->faults;
        }
    }
}

/* Can the guest come back between this setflags and the last use of its value, and read it then? */
static bool needed_on_return(const struct back *k, const struct ir_op *op)
{
    return k->read[op->a] && k->faults_behind[op->a] != k->faults;
}

static bool is_dead(struct back *k, const struct ir_op *op, unsigned i)
{
    unsigned props = ir_op_info[op->op].props;
    if (op->op == IR_setflags) {
        bool dead = k->overwritten && !needed_on_return(k, op);
        k->overwritten = true;
        return dead;
    }
    return !k->used[i] && !(props & (IR_EFFECT | IR_FAULT | IR_END));
}

static void mark_dead(struct ir_block *b)
{
    struct back k;
    memset(k.used, 0, b->nops);
    memset(k.read, 0, b->nops);
    k.faults = 0;
    k.overwritten = false;
    for (unsigned i = b->nops; i-- > 0;) {
        struct ir_op *op = &b->op[i];
        unsigned props = ir_op_info[op->op].props;
        if (op->op == IR_nop) {
            continue;
        }
        if (is_dead(&k, op, i)) {
            op->op = IR_nop;
            continue;
        }
        if ((props & IR_EXIT) || op->op == IR_getflags) {
            k.overwritten = false;
        }
        mark_operands(&k, op);
        k.faults += !!(props & IR_FAULT);
    }
}

static void compact(struct ir_block *b)
{
    ir_ref moved[IR_MAX_OPS];
    unsigned n = 0;
    for (unsigned i = 0; i < b->nops; i++) {
        if (b->op[i].op == IR_nop) {
            continue;
        }
        struct ir_op *op = &b->op[n];
        *op = b->op[i];
        unsigned uses = ir_op_info[op->op].uses;
        unsigned any = (uses | uses >> 4) & 15;
        for (ir_ref *r = &op->a; any; r++, any >>= 1) {
            if ((any & 1) && *r != IR_NONE) {
                *r = moved[*r];
            }
        }
        moved[i] = (ir_ref)n++;
    }
    b->flags = IR_NONE;
    b->nops = (uint16_t)n;
}

void ir_optimize(struct ir_block *b)
{
    mark_dead(b);
    compact(b);
}
