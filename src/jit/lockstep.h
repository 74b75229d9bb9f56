/* Tier 1 against tier 0, block by block. */
#ifndef JIT_LOCKSTEP_H
#define JIT_LOCKSTEP_H

#include "jit/internal.h"

struct lockstep *lockstep_new(struct jit_vcpu *);
void lockstep_free(struct lockstep *); /* prints the counts; NULL is allowed */
/* Runs the block both ways; a difference is reported and aborts. */
/* The guest to translate for: its helpers are the comparison's own, which call the real ones. */
const struct ir_guest *lockstep_guest(const struct lockstep *);
enum rt_exit lockstep_run(struct lockstep *, const struct jit_block *);

#endif
