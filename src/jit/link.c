/*
 * Direct links between blocks. Most are made when generated code leaves through one (run.c). Those
 * inside a page can be made as soon as both blocks are there, because they need no guard: their
 * target is in the same page of RAM whatever is mapped where.
 */
#include "base/log.h"
#include "core/vcpu.h"
#include "jit/internal.h"

void jit_link(struct jit_vcpu *jv, struct ir_link *l, struct jit_block *to)
{
    codemem_begin_write(&jv->mem);
    jv->host->link(jv->ctx, l, &to->code, (uint32_t)jv->v->env->epoch);
    codemem_end_write(&jv->mem);
    jv->stats.links++;
    if (log_at(LOG_LINK, l->pc)) {
        log_put(LOG_LINK, "cpu %u link %llx to %llx\n", jv->v->index,
                (unsigned long long)((struct jit_block *)l->from)->pc, (unsigned long long)to->pc);
    }
    if (l->to) {
        jv->stats.links_stale++;
        return; /* only its epoch was old */
    }
    l->to = to;
    l->next = to->incoming;
    l->prev = &to->incoming;
    if (l->next) {
        l->next->prev = &l->next;
    }
    to->incoming = l;
}

/* May links inside its page lead to it without being tried first? */
static bool plain_target(const struct jit_vcpu *jv, const struct jit_block *b)
{
    return b->code.entry && !b->check && !b->plain && b->off2 == RAM_OFF_NONE && !jv->lockstep &&
           !log_on(LOG_EXEC);
}

static struct jit_block *target(const struct jit_vcpu *jv, const struct jit_block *b, uint64_t pc)
{
    ram_off_t off = jit_page_of(b->off) + (pc & (RT_PAGE_SIZE - 1));
    struct jit_block *to = *jit_bucket(jv, pc, b->mode, off);
    while (to && (to->pc != pc || to->mode != b->mode || to->off != off || to->plain)) {
        to = to->hash_next;
    }
    return to && plain_target(jv, to) ? to : NULL;
}

/* Of a new block, to those that are there. */
void jit_link_early(struct jit_vcpu *jv, struct jit_block *b)
{
    for (unsigned i = 0; i < b->code.nlinks; i++) {
        struct ir_link *l = &b->code.links[i];
        struct jit_block *to = l->cross_page || l->to ? NULL : target(jv, b, l->pc);
        if (to) {
            jit_link(jv, l, to);
            jv->stats.links_early++;
        }
    }
}

/* Links inside the page to a block that is about to be made again. */
void jit_links_note(const struct jit_block *b, struct jit_links *k)
{
    k->n = 0;
    for (struct ir_link *l = b->incoming; l && k->n < JIT_LINKS; l = l->next) {
        if (!l->cross_page) {
            k->link[k->n++] = l;
        }
    }
}

/* The same lead to the new one. Nothing was dropped for room meanwhile. */
void jit_links_move(struct jit_vcpu *jv, const struct jit_links *k, struct jit_block *b)
{
    for (unsigned i = 0; i < k->n && plain_target(jv, b); i++) {
        struct ir_link *l = k->link[i];
        if (!((const struct jit_block *)l->from)->dead && !l->to && l->pc == b->pc) {
            jit_link(jv, l, b);
            jv->stats.links_early++;
        }
    }
}
