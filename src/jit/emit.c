/*
 * Code of translations: making it in the form that is due, room for it, and which block a host
 * address lies in.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/log.h"
#include "core/vcpu.h"
#include "jit/internal.h"
#include "jit/trace.h"

static void forget_jumps(struct rt_env *env)
{
    for (unsigned i = 0; i < ARRAY_LEN(env->jump); i++) {
        env->jump[i] = (struct rt_jump_entry){0};
    }
    memset(env->plain, 0, sizeof(env->plain));
    memset(jit_of(env->vcpu)->direct, 0, sizeof(jit_of(env->vcpu)->direct));
}

static void free_arena(struct jit_vcpu *jv, struct jit_arena *a)
{
    for (unsigned i = 0; i < a->count; i++) {
        jit_free_block(jv, a->block[i]);
    }
    a->count = 0;
}

/* Everything in the arena that comes next dies; its memory is then used again. */
static void evict_arena(struct jit_vcpu *jv)
{
    jit_limit_plan(jv);
    unsigned a = codemem_next(&jv->mem);
    for (unsigned i = 0; i < jv->arenas[a].count; i++) {
        struct jit_block *b = jv->arenas[a].block[i];
        if (!b->dead) {
            jit_limit_dropped(jv, b);
            jit_kill(jv, b);
            jv->stats.evicted++;
        }
        struct jit_block **z = &jv->zombies;
        while (*z && *z != b) {
            z = &(*z)->hash_next;
        }
        if (*z) {
            *z = b->hash_next;
        }
    }
    free_arena(jv, &jv->arenas[a]);
    codemem_advance(&jv->mem);
    forget_jumps(jv->v->env);
    jit_forget_frames(jv);
}

static void arena_add(struct jit_vcpu *jv, struct jit_arena *a, struct jit_block *b)
{
    if (a->count == a->room) {
        a->room = a->room ? a->room * 2 : 64;
        a->block = alloc_resize(a->block, a->room, sizeof(*a->block));
        a->begins = alloc_resize(a->begins, a->room, sizeof(*a->begins));
    }
    a->begins[a->count] = (struct jit_begins){(uint32_t)(b->code.hot - jv->mem.rw),
                                              (uint32_t)(b->code.cold - jv->mem.rw)};
    a->block[a->count++] = b;
}

static bool begins_behind(const struct jit_arena *a, unsigned i, uint32_t at, bool cold)
{
    return (cold ? a->begins[i].cold : a->begins[i].hot) > at;
}

/* The last block of the arena that begins at or before an address of the same kind, hot or cold. It
 * is often the same one as for an address with the same hint before. */
struct jit_block *jit_block_at(struct jit_vcpu *jv, uint64_t host_addr)
{
    const uint8_t *rw = (const uint8_t *)(uintptr_t)host_addr - jv->mem.cur.to_rx;
    const struct jit_arena *a = &jv->arenas[codemem_arena_of(&jv->mem, rw)];
    uint32_t at = (uint32_t)(rw - jv->mem.rw);
    unsigned lo = 0, hi = a->count;
    bool cold = at % CODEMEM_ARENA >= CODEMEM_HOT;
    unsigned *hint = &jv->at_hint[host_addr / 16 % ARRAY_LEN(jv->at_hint)];
    if (*hint < hi && !begins_behind(a, *hint, at, cold) &&
        (*hint + 1 == hi || begins_behind(a, *hint + 1, at, cold))) {
        return a->block[*hint];
    }
    while (hi - lo > 1) {
        unsigned mid = (lo + hi) / 2;
        if (begins_behind(a, mid, at, cold)) {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    *hint = lo;
    return a->block[lo];
}

/* Before the new block's pages are claimed: eviction gives back pages whose last block dies (C2).
 */
void jit_make_room(struct jit_vcpu *jv)
{
    if (jv->tier && (!codemem_has_room(&jv->mem) || inject(&jv->inject, INJECT_EVICT))) {
        evict_arena(jv);
    }
}

void jit_emit(struct jit_vcpu *jv, struct jit_block *b, struct ir_block *ir, enum ir_form form)
{
    codemem_begin_write(&jv->mem);
    b->code.form = form;
    ir->hints = jit_hints_emit(jv, b, form);
    b->code.heat = (uint16_t)(jit_hash(b->pc, b->mode, b->off) % RT_HEAT);
    jv->v->env->heat[b->code.heat] = RT_HEAT_COLD;
    if (jv->host->emit(jv->ctx, ir, &jv->mem.cur, &b->code)) {
        arena_add(jv, &jv->arenas[jv->mem.arena], b);
        jv->stats.emitted++;
        jv->stats.hot_bytes += b->code.hot_size;
        jv->stats.cold_bytes += b->code.cold_size;
        jv->stats.unlowered[b->code.stop_op] += b->code.ninsns < ir->ninsns;
        for (unsigned i = 0; i < b->code.nlinks; i++) {
            b->code.links[i].from = b;
        }
        if (log_at(LOG_OUT_ASM, b->pc)) {
            trace_code(jv, b);
        }
        if (jv->jm->perfmap) {
            trace_perfmap_add(jv, b);
        }
    } else {
        b->code = (struct ir_code){0};
    }
    codemem_end_write(&jv->mem);
}

/* Lockstep compares single passes: no block may leave to become hot, or go round by itself. */
enum ir_form jit_first_form(const struct jit_vcpu *jv, uint64_t pc)
{
    enum ir_form form = jv->jm->opt.form;
    if (jv->lockstep) {
        return form == IR_FORM_PLAIN || (form == IR_FORM_FIRST && (pc & 2)) ? IR_FORM_PLAIN
                                                                            : IR_FORM_WARM;
    }
    return form == IR_FORM_FIRST && jit_hints(jv, pc) ? IR_FORM_LOOP : form;
}

bool jit_is_hot(const struct jit_vcpu *jv, const struct jit_block *b)
{
    return b->code.entry && b->code.form == IR_FORM_FIRST && !jv->v->env->heat[b->code.heat];
}
