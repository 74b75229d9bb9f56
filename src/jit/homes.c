/*
 * Code that is mapped at another address in each process (libraries and programs, since addresses
 * are random): it is not translated again for each of them. A page of RAM has translations for a
 * few addresses, its homes. When its code is wanted at one more, the home that was not used for
 * longest moves there: all its blocks that can (ir_host.move()) are changed in place. Links inside
 * the page stay; those to and from other pages are broken, the page's other blocks stay behind.
 *
 * Mostly the home's process has ended. When it has not it comes back, to an address the page has
 * lost: then there may be one more home, and that one is spared for a while, longer each time.
 *
 * H1: of blocks that move nothing keeps the old address: not the hash, not the jump cache, not the
 *     table of compact blocks, no link from a block that stays. Return sites compare.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "core/vcpu.h"
#include "jit/internal.h"

enum {
    HOMES_FIRST = 2, /* homes of a page before one is moved, and at most */
    HOMES = 32,
    HOMES_ROOM = 4, /* that there is room for at first */
    LOST = 16,      /* addresses that are remembered */
    SPARED_MOST = 64
};

struct jit_home {
    gva_t va;
    uint64_t used; /* number of the look-up */
    unsigned spared;
};
struct jit_homes {
    struct jit_home *at;
    gva_t lost[LOST];
    unsigned n, room, most, next_lost, spare;
};

static struct jit_homes **slot(struct jit_vcpu *jv, ram_off_t off)
{
    return &jv->homes[off >> RT_PAGE_BITS];
}

static gva_t page_of(gva_t va)
{
    return va & ~(gva_t)(RT_PAGE_SIZE - 1);
}

static struct jit_home *find(struct jit_homes *h, gva_t va)
{
    for (unsigned i = 0; i < h->n; i++) {
        if (h->at[i].va == va) {
            return &h->at[i];
        }
    }
    return NULL;
}

/* An address that was lost before: its process lives. */
static void note_return(struct jit_homes *h, gva_t va)
{
    for (unsigned i = 0; i < LOST; i++) {
        if (h->lost[i] == va) {
            h->lost[i] = 0;
            h->most += h->most < HOMES;
            h->spare += h->spare < SPARED_MOST ? h->spare + 1 : 0;
        }
    }
}

void jit_homes_made(struct jit_vcpu *jv, const struct jit_block *b)
{
    struct jit_homes **p = slot(jv, b->off), *h = *p;
    gva_t va = page_of(b->pc);
    if (!b->code.can_move) {
        return;
    }
    if (!h) {
        h = *p = alloc_zero(sizeof(*h));
        h->most = HOMES_FIRST;
    }
    if (!find(h, va) && h->n < HOMES) {
        if (h->n == h->room) {
            h->room = h->room ? 2 * h->room : HOMES_ROOM;
            h->at = alloc_resize(h->at, h->room, sizeof(*h->at));
        }
        h->at[h->n++] = (struct jit_home){va, ++jv->homes_clock, h->spare};
    }
}

void jit_homes_free(struct jit_vcpu *jv)
{
    for (unsigned i = 0; jv->homes_clock && i < jit_buckets(jv); i++) {
        for (const struct jit_block *b = jv->hash[i]; b; b = b->hash_next) {
            jit_homes_drop(jv, b->off);
        }
    }
}

void jit_homes_drop(struct jit_vcpu *jv, ram_off_t page)
{
    struct jit_homes **p = slot(jv, page);
    if (*p) {
        free((*p)->at);
        free(*p);
        *p = NULL;
    }
}

/* The one that was not used for longest of those that are not spared, or at all. */
static struct jit_home *victim(struct jit_homes *h)
{
    struct jit_home *best = NULL, *any = &h->at[0];
    for (unsigned i = 0; i < h->n; i++) {
        struct jit_home *at = &h->at[i];
        any = at->used < any->used ? at : any;
        if (at->spared == 0 && (!best || at->used < best->used)) {
            best = at;
        }
    }
    if (any->spared) {
        any->spared--;
    }
    return best ? best : any;
}

static bool moves(const struct jit_block *b, ram_off_t page, gva_t va)
{
    return b->code.can_move && b->off2 == RAM_OFF_NONE && jit_page_of(b->off) == page &&
           page_of(b->pc) == va;
}

static struct jit_block *next_of(const struct jit_block *b, ram_off_t page)
{
    return b->page_next[jit_page_of(b->off) == page ? 0 : 1];
}

/* Links that do not move as a whole. */
static void break_links(struct jit_vcpu *jv, struct jit_block *b)
{
    for (struct ir_link *l = b->incoming, *next; l; l = next) {
        next = l->next;
        if (l->cross_page || !((const struct jit_block *)l->from)->moving) {
            jit_link_break(jv, l);
        }
    }
    for (unsigned i = 0; i < b->code.nlinks; i++) {
        struct ir_link *l = &b->code.links[i];
        if (l->to && (l->cross_page || !((const struct jit_block *)l->to)->moving)) {
            jit_link_break(jv, l);
        }
    }
}

static void move_block(struct jit_vcpu *jv, struct jit_block *b, gva_t by)
{
    struct rt_env *env = jv->v->env;
    struct rt_jump_entry *e = rt_jump_slot(env, b->pc);
    if (e->code == b->code.entry) {
        *e = (struct rt_jump_entry){0};
        rt_jump_mend(env);
    }
    jit_leave_hash(jv, b);
    jv->host->move(jv->ctx, &b->code, by);
    jit_hints_move(jv, b, by);
    b->pc += by;
    jit_enter_hash(jv, b);
    b->moving = false;
    jv->stats.moved++;
}

static void move_page(struct jit_vcpu *jv, ram_off_t page, gva_t from, gva_t to)
{
    struct jit_block *first = jv->pages[page >> RT_PAGE_BITS];
    bool all = true;
    codemem_begin_write(&jv->mem);
    for (struct jit_block *b = first; b; b = next_of(b, page)) {
        b->moving = moves(b, page, from);
        all &= b->moving || page_of(b->pc) != from;
    }
    for (struct jit_block *b = first; b; b = next_of(b, page)) {
        if (b->moving) {
            break_links(jv, b);
        }
    }
    for (struct jit_block *b = first; b; b = next_of(b, page)) {
        if (b->moving) {
            move_block(jv, b, to - from);
        }
    }
    codemem_end_write(&jv->mem);
    if (!all) { /* one that stays may be the compact form of one that moved, or the other way */
        memset(jv->v->env->plain, 0, sizeof(jv->v->env->plain));
    }
    if (log_at(LOG_LINK, to)) {
        log_put(LOG_LINK, "cpu %u code at %llx moves to %llx\n", jv->v->index,
                (unsigned long long)from, (unsigned long long)to);
    }
}

bool jit_homes_move(struct jit_vcpu *jv, gva_t pc, ram_off_t off)
{
    struct jit_homes *h = *slot(jv, off);
    gva_t va = page_of(pc);
    if (!h || !jit_is_user(jv->mode & 3) || jv->lockstep || jv->breaks || log_on(LOG_EXEC)) {
        return false;
    }
    struct jit_home *at = find(h, va);
    if (at) {
        at->used = ++jv->homes_clock;
        return false;
    }
    note_return(h, va);
    if (h->n < (inject(&jv->inject, INJECT_MOVE) ? 1 : h->most)) {
        return false;
    }
    at = victim(h);
    h->lost[h->next_lost++ % LOST] = at->va;
    move_page(jv, jit_page_of(off), at->va, va);
    *at = (struct jit_home){va, ++jv->homes_clock, 0};
    return true;
}
