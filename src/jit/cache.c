/*
 * Translations of one vCPU: how they are kept, and dropped when their bytes change. make.c makes
 * them; checked.c is about pages that are written all the time.
 *
 * C1: a block is in its hash chain and in the list of every RAM page it has bytes in, or it is dead
 *     and in the zombie list; zombies are freed at a safepoint, never while code may run in them.
 * C2: for a page that is not checked the vCPU's bit in ram->code_pages[] is set before the bytes
 * are read for translation, and with more than one vCPU all others have passed a safepoint in
 *     between. It is clear when only blocks with a check of their own (C3, checked.c) are left.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "core/machine.h"
#include "jit/internal.h"

static struct ram *ram_at(const struct jit_vcpu *jv, ram_off_t off)
{
    return ram_set_find(&jv->jm->m->ram, off);
}

/* Both halves of a crossing instruction can be one page of RAM, mapped twice. */
static bool in_two_pages(const struct jit_block *b)
{
    return b->off2 != RAM_OFF_NONE && b->off2 != jit_page_of(b->off);
}

/* Bits of the 64-byte granules from byte `first` to byte `last` of a page. */
static uint64_t mask_granules(unsigned first, unsigned last)
{
    return ~0ull << (first >> 6) & ~0ull >> (63 - (last >> 6));
}

/* Which of a block's lists is that of this page. */
static unsigned list_of(const struct jit_block *b, ram_off_t page)
{
    return jit_page_of(b->off) == page ? 0 : 1;
}

static void link_page(struct jit_vcpu *jv, struct jit_block *b, unsigned which)
{
    ram_off_t off = which ? b->off2 : b->off;
    struct jit_block **head = &jv->pages[off >> RT_PAGE_BITS];
    b->page_next[which] = *head;
    b->page_prev[which] = head;
    if (*head) {
        (*head)->page_prev[list_of(*head, jit_page_of(off))] = &b->page_next[which];
    }
    *head = b;
    unsigned first = (unsigned)(off & (RT_PAGE_SIZE - 1)), end = first + b->bytes - 1u;
    if (b->off2 != RAM_OFF_NONE) { /* one instruction over two pages */
        first = which || !in_two_pages(b) ? 0 : first;
        end = RT_PAGE_SIZE - 1;
    }
    jv->granules[off >> RT_PAGE_BITS] |= mask_granules(first, end);
}

void jit_link_pages(struct jit_vcpu *jv, struct jit_block *b)
{
    link_page(jv, b, 0);
    if (in_two_pages(b)) {
        link_page(jv, b, 1);
    }
}

bool jit_write_misses_code(const struct jit_vcpu *jv, const struct ram *ram, ram_off_t off,
                           unsigned size)
{
    unsigned at = (unsigned)(off & (RT_PAGE_SIZE - 1));
    return !jit_others_have_code(jv, ram, off) &&
           !(jv->granules[off >> RT_PAGE_BITS] & mask_granules(at, at + size - 1));
}

void jit_unclaim(struct jit_vcpu *jv, ram_off_t page)
{
    struct ram *ram = ram_at(jv, page);
    uint8_t bit = jit_code_bit(jv->v->index);
    jv->granules[page >> RT_PAGE_BITS] = 0;
    if (atomic_fetch_and(jit_code_byte(ram, page, jv->v->index), (uint8_t)~bit) & bit) {
        jit_tlb_unprotected(jv, page);
    }
}

static void unlink_page(struct jit_vcpu *jv, struct jit_block *b, ram_off_t page)
{
    unsigned which = list_of(b, page);
    struct jit_block *next = b->page_next[which];
    *b->page_prev[which] = next;
    if (next) {
        next->page_prev[list_of(next, page)] = b->page_prev[which];
    }
    if (!jv->pages[page >> RT_PAGE_BITS]) { /* last one: writes may be fast again */
        jit_homes_drop(jv, page);
        jit_unclaim(jv, page);
    }
}

void jit_link_break(struct jit_vcpu *jv, struct ir_link *l)
{
    jv->host->unlink(jv->ctx, l);
    *l->prev = l->next;
    if (l->next) {
        l->next->prev = l->prev;
    }
    l->to = NULL;
    l->next = NULL;
    l->prev = NULL;
}

static void unlink_incoming(struct jit_vcpu *jv, struct jit_block *b)
{
    while (b->incoming) {
        if (log_at(LOG_LINK, b->pc)) {
            log_put(LOG_LINK, "cpu %u unlink %llx\n", jv->v->index, (unsigned long long)b->pc);
        }
        jit_link_break(jv, b->incoming);
    }
}

void jit_unlink_all(struct jit_vcpu *jv, struct jit_block *b)
{
    codemem_begin_write(&jv->mem);
    unlink_incoming(jv, b);
    codemem_end_write(&jv->mem);
}

static void unlink_code(struct jit_vcpu *jv, struct jit_block *b)
{
    unlink_incoming(jv, b);
    for (unsigned i = 0; i < b->code.nlinks; i++) {
        struct ir_link *l = &b->code.links[i];
        if (l->to) { /* its return sites may be returned to, and lead nowhere then */
            jit_link_break(jv, l);
        }
    }
    jv->host->kill(jv->ctx, &b->code);
}

void jit_kill(struct jit_vcpu *jv, struct jit_block *b)
{
    jit_leave_hash(jv, b);
    unlink_page(jv, b, jit_page_of(b->off));
    if (in_two_pages(b)) {
        unlink_page(jv, b, b->off2);
    }
    if (b->code.entry) {
        codemem_begin_write(&jv->mem);
        unlink_code(jv, b);
        codemem_end_write(&jv->mem);
    }
    if (b->check) {
        jit_chain(jv, b);
        free(b->check); /* its code has all of it */
        b->check = NULL;
    }
    jit_hints_dead(jv, b);
    b->dead = true;
    b->hash_next = jv->zombies;
    jv->zombies = b;
}

void jit_free_block(struct jit_vcpu *jv, struct jit_block *b)
{
    free(b->ir);
    free(b->check);
    pool_give(&jv->blocks, b);
}

/* Blocks with machine code stay until their arena is used again: frames may return into them. */
void jit_free_zombies(struct jit_vcpu *jv)
{
    while (jv->zombies) {
        struct jit_block *b = jv->zombies;
        jv->zombies = b->hash_next;
        if (!b->code.entry) {
            jit_free_block(jv, b);
        }
    }
}

void jit_invalidate(struct jit_vcpu *jv, ram_off_t off, uint64_t len)
{
    ram_off_t last = off + len - 1;
    for (ram_off_t page = jit_page_of(off); page <= last; page += RT_PAGE_SIZE) {
        uint64_t dropped = jv->stats.invalidated;
        for (struct jit_block *b = jv->pages[page >> RT_PAGE_BITS], *next; b; b = next) {
            next = b->page_next[list_of(b, page)];
            bool first = jit_page_of(b->off) == page;
            unsigned in_first = RT_PAGE_SIZE - (b->off & (RT_PAGE_SIZE - 1));
            ram_off_t lo = first ? b->off : b->off2;
            unsigned n = b->off2 == RAM_OFF_NONE ? b->bytes
                         : first                 ? in_first
                                                 : b->bytes - in_first;
            bool folded = b->off2 != RAM_OFF_NONE && !in_two_pages(b);
            if (!b->check && (folded || (lo <= last && off <= lo + n - 1))) {
                jv->stats.invalidated++;
                jv->v->env->code_changed = true;
                if (log_at(LOG_SMC, b->pc)) {
                    log_put(LOG_SMC, "cpu %u write to %llx drops block %llx\n", jv->v->index,
                            (unsigned long long)off, (unsigned long long)b->pc);
                }
                jit_kill(jv, b);
            }
        }
        jit_heat(jv, page, jv->stats.invalidated != dropped);
    }
}

void jit_wrote_code(struct jit_vcpu *jv, struct ram *ram, ram_off_t off, uint64_t len)
{
    for (ram_off_t page = jit_page_of(off); page < off + len; page += RT_PAGE_SIZE) {
        for (unsigned i = 0; i < jv->jm->count; i++) {
            if (i != jv->v->index && jit_claimed(ram, page, i)) {
                jit_post_mail(jv->jm->cpu[i], (struct jit_mail){.off = off, .len = len});
            }
        }
        if (jit_claimed(ram, page, jv->v->index)) {
            jit_invalidate(jv, off, len);
        }
    }
}

/* Any thread. */
void jit_dma_wrote(void *opaque, ram_off_t off, uint64_t len)
{
    struct jit_machine *jm = opaque;
    for (unsigned i = 0; i < jm->count; i++) {
        jit_post_mail(jm->cpu[i], (struct jit_mail){.off = off, .len = len});
    }
}

void jit_drop_all(struct jit_vcpu *jv)
{
    for (unsigned i = 0; jv->stats.blocks && i < jit_buckets(jv); i++) {
        while (jv->hash[i]) {
            jit_kill(jv, jv->hash[i]);
        }
    }
    jit_free_zombies(jv);
}

void jit_drop_breaks(struct jit_vcpu *jv)
{
    for (unsigned i = 0; i < jit_buckets(jv); i++) {
        for (struct jit_block *b = jv->hash[i], *next; b; b = next) {
            next = b->hash_next;
            if (b->cut || b->special || jit_has_break(jv, b)) {
                jit_kill(jv, b);
            }
        }
    }
}

void jit_free_all(struct jit_vcpu *jv)
{
    bool ir = jv->lockstep || jv->stats.blocks != jv->stats.emitted || jv->stats.checked_blocks;
    jit_homes_free(jv);
    jit_free_zombies(jv);
    for (unsigned i = 0; ir && i < jit_buckets(jv); i++) {
        for (struct jit_block *b = jv->hash[i]; b; b = b->hash_next) {
            if (!b->code.entry) {
                free(b->ir);
                free(b->check);
            }
        }
    }
    for (unsigned a = 0; jv->arenas && a < jv->mem.narenas; a++) {
        for (unsigned i = 0; ir && i < jv->arenas[a].count; i++) {
            free(jv->arenas[a].block[i]->ir);
            free(jv->arenas[a].block[i]->check);
        }
        free(jv->arenas[a].block);
        free(jv->arenas[a].begins);
    }
    free(jv->arenas);
    pool_free(&jv->blocks);
}
