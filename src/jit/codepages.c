/*
 * The pages that code was fetched from under a generation of code mappings. A flush would end the
 * generation, and all links and jump targets that carry it. If every page is still where it was,
 * it can go on: the flush was for something else.
 *
 * P1: a generation with a page that was seen in two places cannot be kept: links to the older one
 *     may exist, which the processor's TLB could have had until the flush, but not behind it.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "jit/internal.h"

enum {
    FIRST = 64,      /* slots, a power of two */
    MOST = 8192,     /* pages; with more a generation is not kept */
    SMALL = 1024,    /* slots that stay allocated */
    ONE_IN = 16,     /* of the time at most goes to looking, */
    BURST = 32000000 /* ns, on the average of this */
};

static struct jit_page_at *slot(const struct jit_code_pages *p, gva_t page)
{
    unsigned n = (unsigned)jit_mix(page);
    while (p->at[n & (p->room - 1)].page && p->at[n & (p->room - 1)].page != (page | 1)) {
        n++;
    }
    return &p->at[n & (p->room - 1)];
}

static void grow(struct jit_code_pages *p)
{
    struct jit_code_pages old = *p;
    p->room = old.room ? old.room * 2 : FIRST;
    p->at = alloc_zero(p->room * sizeof(*p->at));
    for (unsigned i = 0; i < old.room; i++) {
        if (old.at[i].page) {
            *slot(p, old.at[i].page & ~(gva_t)1) = old.at[i];
        }
    }
    free(old.at);
}

void jit_code_pages_add(struct jit_code_pages *p, gva_t va, ram_off_t off)
{
    gva_t page = va & ~(gva_t)(RT_PAGE_SIZE - 1);
    if (p->unsure) {
        return;
    }
    if (p->count * 2 >= p->room) {
        grow(p);
    }
    struct jit_page_at *s = slot(p, page);
    if (s->page) {
        p->unsure = s->off != off;
    } else if (p->count == MOST) {
        p->unsure = true;
    } else {
        *s = (struct jit_page_at){page | 1, off};
        p->count++;
    }
}

void jit_code_pages_clear(struct jit_code_pages *p)
{
    if (p->room > SMALL) {
        jit_code_pages_free(p);
    } else if (p->count) {
        memset(p->at, 0, p->room * sizeof(*p->at));
    }
    p->count = 0;
    p->unsure = false;
}

void jit_code_pages_free(struct jit_code_pages *p)
{
    free(p->at);
    *p = (struct jit_code_pages){0};
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool all_there(struct jit_vcpu *jv, const struct jit_code_pages *p, unsigned idx)
{
    for (unsigned i = 0; i < p->room; i++) {
        gva_t page = p->at[i].page & ~(gva_t)1;
        bool global;
        if (!p->at[i].page) {
            continue;
        }
        if (!jit_still_at(jv, idx, page, p->at[i].off, &global)) {
            return false;
        }
        jit_space_mark(jv, idx, page, global);
    }
    return true;
}

/* Behind a flush, the new tables in force. Pages are marked anew. */
bool jit_code_pages_hold(struct jit_vcpu *jv, struct jit_code_pages *p, unsigned idx)
{
    uint64_t start = now_ns();
    if (p->unsure || jv->lockstep || start < jv->look_again) {
        return false;
    }
    bool ok = all_there(jv, p, idx);
    uint64_t since = jv->look_again + BURST > start ? jv->look_again : start - BURST;
    jv->look_again = since + (now_ns() - start) * ONE_IN;
    jv->stats.flushes_survived += ok;
    return ok;
}

/* Did a page that code came from move? */
bool jit_code_page_moved(struct jit_vcpu *jv, const struct jit_code_pages *p, unsigned idx,
                         gva_t va)
{
    gva_t page = va & ~(gva_t)(RT_PAGE_SIZE - 1);
    bool global;
    if (p->unsure || jv->lockstep) {
        return true;
    }
    const struct jit_page_at *s = p->room ? slot(p, page) : NULL;
    return s && s->page && !jit_still_at(jv, idx, page, s->off, &global);
}
