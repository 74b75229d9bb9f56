/*
 * The accelerator "jit": runs vCPUs by translating guest code. One thread and one private set of
 * translations per vCPU; no lock is taken while guest code runs.
 */
#ifndef JIT_JIT_H
#define JIT_JIT_H

#include "base/types.h"

struct err;
struct isa;
struct machine;
struct strbuf;

/* Loop thread only. jit_add makes m->vcpu[index]; see struct machine_cpus for the others. */
int jit_add(struct machine *m, const struct isa *isa, unsigned index, struct err *err);
void jit_reset(struct machine *m);
int jit_start(struct machine *m, struct err *err);
void jit_park(struct machine *m);
void jit_unpark(struct machine *m);
void jit_debug_changed(struct machine *m);
void jit_info(struct machine *m, struct strbuf *out);
void jit_leave(struct machine *m);
void jit_free(struct machine *m);

#endif
