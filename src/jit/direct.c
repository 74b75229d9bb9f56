/*
 * Accesses to devices made by the memory stub that misses: generated code goes on with a copy (a
 * load) or writes to one, where it does no harm (a store).
 *
 * Engine rule 12 says that such an access leaves the block, so that it is made once, whatever its
 * instruction does besides. Here are those of which that is certain: the instruction was
 * interpreted at this place before, and the load or store is all of it that can fault or has an
 * effect. A store that sets the exit word leaves the block behind its instruction: the state is the
 * one before it but for the pc.
 *
 * Does not do: vectors, accesses over two pages, read-modify-write, instructions that access twice.
 */
#include <stdatomic.h>
#include <string.h>

#include "jit/internal.h"

static struct jit_direct *slot_of(struct jit_vcpu *jv, uint64_t site)
{
    return &jv->direct[jit_mix(site) % JIT_DIRECTS];
}

void *jit_direct(struct jit_vcpu *jv, gpa_t gpa, unsigned size, unsigned access)
{
    struct rt_env *env = jv->v->env;
    uint64_t site = env->asked, value = 0;
    struct jit_direct *d = slot_of(jv, site);
    if (!site || jv->watches || jv->lockstep) {
        return NULL;
    }
    if (site == RT_ASKED_GROUP) { /* in compact code its accesses are single ones */
        return env->bounce;
    }
    if (d->site != site || d->access != access) {
        jv->direct_site = site;
        return NULL;
    }
    if (access == RT_WRITE && !d->known && !(d->known = jv->host->stored(env, size, &d->from))) {
        return NULL;
    }
    jv->stats.direct++;
    if (access == RT_READ) {
        mem_read(jv->v->mem, gpa, size, &value);
        memcpy(env->bounce, &value, sizeof(value));
        return env->bounce;
    }
    value = d->from.value;
    if (!d->from.constant) {
        memcpy(&value, (const char *)env + d->from.off, sizeof(value));
    }
    mem_write(jv->v->mem, gpa, size, value);
    if (atomic_load(&env->exit)) {
        jv->direct_bytes = d->bytes;
        return NULL;
    }
    return env->bounce;
}

enum rt_exit jit_direct_left(struct jit_vcpu *jv, uint64_t site, enum rt_exit why)
{
    if (jv->direct_bytes) { /* from where the block is now: its code may have moved */
        jv->v->env->pc += jv->direct_bytes;
        jv->direct_bytes = 0;
        jv->direct_site = 0;
        return RT_EXIT_JUMP;
    }
    if (jv->direct_site != site || why != RT_EXIT_STEP) {
        jv->direct_site = 0;
    }
    return why;
}

/* RT_READ or RT_WRITE if the one instruction of `b` makes such an access and has nothing else that
 * faults or that an exit behind it would have to store; else 0. */
static unsigned only_access(const struct ir_block *b)
{
    unsigned access = 0, count = 0;
    bool sets = false;
    for (unsigned i = 0; i < b->nops; i++) {
        const struct ir_op *op = &b->op[i];
        sets |= op->op == IR_setreg || op->op == IR_setflags || op->op == IR_helper ||
                op->op == IR_fence;
        if (ir_op_props[op->op] & IR_FAULT) {
            count++;
            access = op->op == IR_ld ? RT_READ : op->op == IR_st ? RT_WRITE : 0;
        }
    }
    return count != 1 || (access == RT_WRITE && sets) ? 0 : access;
}

void jit_direct_learn(struct jit_vcpu *jv, const struct ir_block *b)
{
    unsigned access = jv->direct_site && !jv->lockstep ? only_access(b) : 0;
    bool wraps = jv->v->env->pc != b->pc + b->bytes; /* or jumps, which a store does not */
    if (access && !(access == RT_WRITE && wraps)) {
        *slot_of(jv, jv->direct_site) = (struct jit_direct){
            .site = jv->direct_site, .bytes = (uint8_t)b->bytes, .access = (uint8_t)access};
    }
}
