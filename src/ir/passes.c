/*
 * Passes of the translator: one backward walk marks what is dead, one forward walk squeezes it out.
 * For who interprets a block: tier 1 finds what is dead on its own way, and makes the same of a
 * block with or without these.
 *
 * Flags are treated as dead where a later setflags overwrites them with nothing in between that
 * leaves the block for another address. A fault in between then shows older flags in its frame:
 * harmless to the guest, which resumes and overwrites them (engine rule 15). But flags that an
 * instruction behind the fault still reads are kept: it may run in another block.
 */
#include <string.h>

#include "ir/ir.h"

struct back {
    bool used[IR_TABLE];              /* somebody behind uses the value */
    bool read[IR_TABLE];              /* ... as flags, and not just setflags */
    uint16_t faults_behind[IR_TABLE]; /* ops that can fault behind the last such use */
    unsigned faults;                  /* ops that can fault behind here */
    bool overwritten;                 /* the guest's flags are, before anybody can see them */
};

static void mark_flags(struct back *k, ir_ref v)
{
    if (v != IR_NONE && !k->read[v]) {
        k->read[v] = true;
        k->faults_behind[v] = (uint16_t)k->faults;
    }
}

/* The first two without looking: most ops have one. */
static inline void mark_operands(struct back *k, const struct ir_op *op)
{
    uint64_t refs = op->k | ir_op_others[op->op];
    unsigned uses = ir_op_uses[op->op];
    k->used[ir_in_table(refs)] = true;
    k->used[ir_in_table(refs >> 16)] = true;
    if (uses & 0xcc) {
        k->used[ir_in_table(refs >> 32)] = true;
        k->used[ir_in_table(refs >> 48)] = true;
    }
    if (uses >> 4 && op->op != IR_setflags) { /* one of them */
        mark_flags(k, (&op->a)[__builtin_ctz(uses >> 4)]);
    }
}

/* Can the guest come back between this setflags and the last use of its value, and read it then? */
static bool needed_on_return(const struct back *k, const struct ir_op *op)
{
    return k->read[op->a] && k->faults_behind[op->a] != k->faults;
}

/* Notes that flags are set here; is it for nothing? */
static bool flags_dead(struct back *k, const struct ir_op *op)
{
    bool dead = k->overwritten && !needed_on_return(k, op);
    k->overwritten = true;
    return dead;
}

/* The first dead op, or the block's end. */
static unsigned mark_dead(struct ir_block *b)
{
    struct back k;
    struct ir_op *const ops = b->op;
    unsigned first = b->nops;
    memset(k.used, 0, b->nops);
    memset(k.read, 0, b->nops);
    k.faults = 0;
    k.overwritten = false;
    for (unsigned i = b->nops; i-- > 0;) {
        struct ir_op *op = &ops[i];
        unsigned props = ir_op_props[op->op];
        bool dead = op->op == IR_setflags
                        ? flags_dead(&k, op)
                        : !k.used[i] && !(props & (IR_EFFECT | IR_FAULT | IR_END));
        if (dead) {
            op->op = IR_nop;
            first = i;
            continue;
        }
        if (props & IR_SEES_FLAGS) {
            k.overwritten = false;
        }
        mark_operands(&k, op);
        k.faults += props & IR_FAULT;
    }
    return first;
}

/* The same operands at their new places. */
static inline uint64_t renumber(const struct ir_op *op, const ir_ref *moved)
{
    uint64_t other = ir_op_others[op->op], refs = op->k | other;
    uint64_t to = moved[ir_in_table(refs)] | (uint64_t)moved[ir_in_table(refs >> 16)] << 16;
    if (ir_op_uses[op->op] & 0xcc) {
        to |= (uint64_t)moved[ir_in_table(refs >> 32)] << 32 |
              (uint64_t)moved[ir_in_table(refs >> 48)] << 48;
    }
    return (to & ~other) | (op->k & other);
}

static void compact(struct ir_block *b, unsigned first)
{
    ir_ref moved[IR_TABLE];
    struct ir_op *const ops = b->op;
    unsigned n = first, end = b->nops;
    for (unsigned i = 0; i < first; i++) {
        moved[i] = (ir_ref)i;
    }
    moved[ir_in_table(IR_NONE)] = IR_NONE;
    for (unsigned i = first; i < end; i++) {
        struct ir_op op = ops[i];
        op.k = renumber(&op, moved);
        ops[n] = op;
        moved[i] = (ir_ref)n;
        n += op.op != IR_nop;
    }
    b->nops = (uint16_t)n;
}

void ir_optimize(struct ir_block *b)
{
    unsigned first = mark_dead(b);
    if (first < b->nops) {
        compact(b, first);
    }
    b->flags = IR_NONE;
}
