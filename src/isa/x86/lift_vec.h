/* Shared by the vector and x87 chapters of the lifter. */
#ifndef ISA_X86_LIFT_VEC_H
#define ISA_X86_LIFT_VEC_H

#include "isa/x86/lift.h"

/* May the form run under this mode word? */
enum lift_gate { LIFT_GATE_OPEN, LIFT_GATE_UD, LIFT_GATE_NM };
enum lift_gate lift_vec_gate(const struct lift *);
/* For lift functions: true when the gate is shut, with *result what to return. */
bool lift_vec_shut(struct lift *, bool *result);
/* For instructions that wait for the x87: #MF when an exception is pending (Vol. 1 8.6). */
void lift_x87_waits(struct lift *);
/* The vec record of an instruction with a hostvec id. */
struct ir_vec lift_vec_record(const struct lift *);
/* Any form with a hostvec id: one op, its integer or flags result to where it belongs. */
bool lift_vec(struct lift *);

#endif
