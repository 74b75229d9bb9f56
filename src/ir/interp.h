/* T0: the IR interpreter, the reference for every back end. */
#ifndef IR_INTERP_H
#define IR_INTERP_H

#include "ir/ir.h"
#include "ir/rt.h"

/*
 * Runs a block from its first op. On return env->pc is the next instruction, or the one that
 * faulted (RT_EXIT_FAULT; state as before it). With env->step_insns = n, stops after n
 * instructions (RT_EXIT_JUMP). Counts instructions into env->insns.
 */
enum rt_exit ir_interp(struct rt_env *env, const struct ir_block *b);

/* Flags value (FLAG_ bits) of a flags op: what the interpreter computes, for tests and recovery. */
uint32_t ir_flags_value(enum ir_flags_kind kind, enum ir_type type, uint64_t a, uint64_t b,
                        uint32_t old, uint64_t d);
bool ir_cc_holds(enum ir_cc cc, uint32_t flags);

#endif
