/* What the accelerator shows of its work: -d in_asm, op, out_asm and the map file for perf. */
#ifndef JIT_TRACE_H
#define JIT_TRACE_H

#include "jit/internal.h"

void trace_block(struct jit_vcpu *, const struct ir_block *, const uint8_t *code);
void trace_optimized(struct jit_vcpu *, const struct ir_block *);
void trace_code(struct jit_vcpu *, const struct jit_block *);
void trace_exec(struct jit_vcpu *, const struct jit_block *);
/* /tmp/perf-PID.map. */
void trace_perfmap_open(struct jit_machine *);
void trace_perfmap_add(struct jit_vcpu *, const struct jit_block *);

#endif
