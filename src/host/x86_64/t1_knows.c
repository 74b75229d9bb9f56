/*
 * T1: what temporaries hold a copy of besides their value, free or not: guest registers that are in
 * memory, deltas of lines. It is so until they are used for something else.
 */
#include "host/x86_64/t1.h"

void t1_forget(struct t1 *t, unsigned what)
{
    for (unsigned k = 0; k < NTEMPS; k++) {
        t->knows[k] = t->knows[k] == what ? 0 : t->knows[k];
    }
}

void t1_know(struct t1 *t, unsigned what, unsigned reg)
{
    int k = t1_temp_index(reg);
    t1_forget(t, what);
    if (k >= 0) {
        t->knows[k] = (uint8_t)what;
    }
}

void t1_note(struct t1 *t, unsigned k, unsigned what, unsigned reg)
{
    t->note[k] = (uint8_t)what;
    t->note_reg[k] = (uint8_t)reg;
}

void t1_keep(struct t1 *t)
{
    for (unsigned k = 0; k < 2; k++) {
        if (t->note[k] && t->temp_val[t1_temp_index(t->note_reg[k])] == IR_NONE) {
            t1_know(t, t->note[k], t->note_reg[k]);
        }
    }
}

unsigned t1_known(struct t1 *t, unsigned what)
{
    for (unsigned k = 0; k < NTEMPS; k++) {
        if (t->knows[k] == what) {
            t->lock |= (uint16_t)(1u << temp_regs[k]);
            return temp_regs[k];
        }
    }
    return X_NONE;
}
