/*
 * The soft TLB's tables: filling, flushing at a cost proportional to use, write protection of pages
 * with translations, and what flushes mean for jump targets, links and return stacks.
 *
 * M1: a write tag is valid only for a page of RAM that is writable, dirty, and has no translations
 *     of any vCPU but such as look at their own bytes (checked.c).
 * M2: only the owner of a table writes it.
 * M3: what a flush of non-global pages leaves (entries of the tables, links, jump targets of
 *     kernel modes) was found through global pages only.
 *
 * Does not do: address-space slots (every change of address space forgets all non-global pages).
 */
#include <stdatomic.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "core/tlb_ops.h"
#include "jit/internal.h"

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* Engine rule 8: no return to code that another mode or address space called. */
static void switch_returns(struct jit_vcpu *jv, uint64_t salt)
{
    struct rt_env *env = jv->v->env;
    if (salt == env->jump_salt) {
        return;
    }
    jv->returns[jv->returns_idx] = (struct jit_returns){env->jump_salt, env->ret_sp};
    jv->returns_idx = jv->mode & 3;
    const struct jit_returns *r = &jv->returns[jv->returns_idx];
    env->ret_sp = r->salt == salt && r->sp ? r->sp : env->ret_sp_base[jv->returns_idx];
}

/* A pc's meaning hangs on the mode word and the code mappings: both are in the salt. */
static void set_salt(struct jit_vcpu *jv)
{
    uint64_t generation = jv->generation[jit_is_user(jv->mode & 3)];
    uint64_t salt =
        mix(jv->salt_secret ^ generation << 24 ^ (uint64_t)jv->mode * 0x9e3779b97f4a7c15ull);
    switch_returns(jv, salt);
    jv->v->env->jump_salt = salt;
    jv->v->env->epoch = generation;
}

void tlb_code_changed(struct vcpu *v)
{
    struct jit_vcpu *jv = jit_of(v);
    if (jv) {
        jv->mode = v->isa->mode(v);
        set_salt(jv);
    }
}

static unsigned large_bit(gva_t va, unsigned bits)
{
    return (unsigned)mix(va >> bits << bits | bits) % JIT_LARGE;
}

static void clear_fills(struct jit_fills *f)
{
    f->count = 0;
    f->global = false;
    memset(f->large, 0, sizeof(f->large));
}

static void clear_entry(struct rt_tlb_entry *e, unsigned slot)
{
    e->tag_r = e->tag_w = rt_tlb_invalid(slot);
    e->host = 0;
}

static unsigned slot_of(gva_t va)
{
    return va >> RT_PAGE_BITS & (RT_TLB_SIZE - 1);
}

void jit_tlb_clear(struct rt_env *env, unsigned idx, gva_t va)
{
    clear_entry(rt_tlb_slot(env, idx, va), slot_of(va));
}

static void flush_logged(struct jit_vcpu *jv, unsigned idx)
{
    struct jit_fills *f = &jv->fills[idx];
    for (unsigned i = 0; i < f->count; i++) {
        clear_entry(&jv->v->env->tlb[idx][f->log[i]], f->log[i]);
    }
    f->count = 0;
}

/* All entries but those of global pages, if these can be told. */
static void flush_some(struct jit_vcpu *jv, unsigned idx, bool global)
{
    struct jit_fills *f = &jv->fills[idx];
    if (f->count <= JIT_FILL_LOG && !(global && f->global)) {
        flush_logged(jv, idx);
        return;
    }
    memset(jv->v->env->tlb[idx], 0, sizeof(jv->v->env->tlb[idx]));
    clear_entry(&jv->v->env->tlb[idx][0], 0);
    f->count = 0;
    f->global = false;
}

void jit_tlb_flush_mode(struct jit_vcpu *jv, unsigned idx)
{
    flush_some(jv, idx, true);
    clear_fills(&jv->fills[idx]);
}

void jit_code_moved(struct jit_vcpu *jv)
{
    jv->stats.flushes_code++;
    jv->generation[0]++;
    jv->generation[1]++;
    set_salt(jv);
}

static void flush_itlb(struct jit_vcpu *jv)
{
    for (unsigned i = 0; i < ARRAY_LEN(jv->itlb); i++) {
        jv->itlb[i].page = RT_TLB_INVALID;
        jv->itlb[i].lost = false;
    }
    jv->local_code = false;
    jit_code_moved(jv);
}

/* Kernel code lies in global pages as a rule: then its links and jump targets live on (M3). */
static void flush_itlb_nonglobal(struct jit_vcpu *jv)
{
    if (jv->local_code) {
        flush_itlb(jv);
        return;
    }
    for (unsigned i = 0; i < ARRAY_LEN(jv->itlb); i++) {
        if (!jv->itlb[i].global) {
            jv->itlb[i].page = RT_TLB_INVALID;
        }
    }
    jv->generation[1]++;
    set_salt(jv);
}

void jit_tlb_init(struct jit_vcpu *jv)
{
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        clear_entry(&jv->v->env->tlb[idx][0], 0); /* fresh memory is zero */
    }
    jv->walk_gen[0] = jv->walk_gen[1] = 1;
    flush_itlb(jv);
}

void tlb_flush(struct vcpu *v)
{
    struct jit_vcpu *jv = jit_of(v);
    if (!jv) {
        return;
    }
    jv->stats.flushes++;
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        jit_tlb_flush_mode(jv, idx);
    }
    jv->walk_gen[0]++;
    jv->walk_gen[1]++;
    flush_itlb(jv);
    log_put(LOG_MMU, "cpu %u flush\n", v->index);
}

void tlb_flush_nonglobal(struct vcpu *v)
{
    struct jit_vcpu *jv = jit_of(v);
    if (!jv) {
        return;
    }
    jv->stats.flushes_nonglobal++;
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        flush_some(jv, idx, false);
    }
    jv->walk_gen[0]++;
    flush_itlb_nonglobal(jv);
    log_put(LOG_MMU, "cpu %u flush of non-global pages\n", v->index);
}

struct jit_walk *jit_walk_slot(struct jit_vcpu *jv, unsigned idx, gva_t va)
{
    gva_t n = va >> RT_PAGE_BITS;
    return &jv->walks[(n ^ n >> JIT_WALK_BITS ^ (gva_t)idx << (JIT_WALK_BITS - 2)) &
                      (ARRAY_LEN(jv->walks) - 1)];
}

/* Is the page perhaps part of a large one? */
static bool maybe_large(const struct jit_fills *f, gva_t va)
{
    unsigned m = large_bit(va, 21), g = large_bit(va, 30);
    return (f->large[m / 8] >> m % 8 & 1) || (f->large[g / 8] >> g % 8 & 1);
}

void tlb_flush_page(struct vcpu *v, gva_t va)
{
    struct jit_vcpu *jv = jit_of(v);
    gva_t page = va & ~(gva_t)(RT_PAGE_SIZE - 1);
    jv->stats.flushes_page++;
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        if (maybe_large(&jv->fills[idx], va)) {
            tlb_flush(v);
            return;
        }
        struct rt_tlb_entry *e = rt_tlb_slot(v->env, idx, va);
        struct jit_walk *k = jit_walk_slot(jv, idx, va);
        if (e->tag_r == page || e->tag_w == page) {
            clear_entry(e, slot_of(va));
        }
        if (k->page == page) {
            k->gen = 0;
        }
    }
    log_put(LOG_MMU, "cpu %u flush of page %llx\n", v->index, (unsigned long long)page);
    struct jit_itlb *it = &jv->itlb[va >> RT_PAGE_BITS & (ARRAY_LEN(jv->itlb) - 1)];
    if (it->page == page || it->lost) { /* only then can links and jump targets hang on it */
        flush_itlb(jv);
    }
}

/* A page lost its last code: no entry lets it be written, and those that will are remembered. */
void jit_tlb_unprotected(struct jit_vcpu *jv, ram_off_t page)
{
    jv->young[jv->next_young] = (struct jit_young){.page = page, .used = true};
    jv->next_young = (jv->next_young + 1) % ARRAY_LEN(jv->young);
}

static struct jit_young *young_page(struct jit_vcpu *jv, ram_off_t page)
{
    for (unsigned i = 0; i < ARRAY_LEN(jv->young); i++) {
        if (jv->young[i].used && jv->young[i].page == page) {
            return &jv->young[i];
        }
    }
    return NULL;
}

static void note_writable(struct jit_vcpu *jv, ram_off_t page, struct rt_tlb_entry *e)
{
    struct jit_young *y = young_page(jv, page);
    if (!y) {
        return;
    }
    for (unsigned i = 0; i < y->count; i++) {
        if (y->entry[i] == e) {
            return;
        }
    }
    if (y->count < ARRAY_LEN(y->entry)) {
        y->entry[y->count++] = e;
    } else {
        y->used = false;
    }
}

static void protect_entry(struct rt_env *env, struct rt_tlb_entry *e, ram_off_t page)
{
    uint64_t none = rt_tlb_invalid((unsigned)(e - env->tlb[0]) % RT_TLB_SIZE);
    if (e->tag_w != none && e->ram_off == page) {
        e->tag_w = none;
    }
}

void jit_tlb_protect(struct jit_vcpu *jv, ram_off_t page)
{
    struct rt_env *env = jv->v->env;
    struct jit_young *y = young_page(jv, page);
    if (y) {
        for (unsigned i = 0; i < y->count; i++) {
            protect_entry(env, y->entry[i], page);
        }
        y->used = false;
        return;
    }
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        bool used = jv->fills[idx].count || jv->fills[idx].global;
        for (unsigned i = 0; used && i < RT_TLB_SIZE; i++) {
            protect_entry(env, &env->tlb[idx][i], page);
        }
    }
}

bool jit_has_code(const struct jit_walk *k)
{
    return k->ram->code_pages &&
           atomic_load(&k->ram->code_pages[(k->off - k->ram->base) >> RT_PAGE_BITS]);
}

/* Pages of 4 MB count as two of 2 MB. */
void jit_tlb_note_large(struct jit_fills *f, gva_t va, unsigned bits)
{
    unsigned unit = bits >= 30 ? 30 : 21;
    gva_t first = va & ~mask_low(bits);
    for (gva_t at = first; at - first < 1ull << bits && at - first < 4 << 20; at += 1ull << unit) {
        unsigned n = large_bit(at, unit);
        f->large[n / 8] |= (uint8_t)(1u << n % 8);
    }
}

void jit_tlb_fill(struct jit_vcpu *jv, gva_t va, const struct jit_walk *k)
{
    struct rt_tlb_entry *e = rt_tlb_slot(jv->v->env, k->idx, va);
    struct jit_fills *f = &jv->fills[k->idx];
    bool write = (k->perms & RT_WRITE) && k->writable && !jit_has_code(k);
    if (k->global) {
        f->global = true;
    } else {
        if (f->count < JIT_FILL_LOG) {
            f->log[f->count] = (uint16_t)slot_of(va);
        }
        f->count += f->count <= JIT_FILL_LOG;
    }
    bool read = (k->perms & RT_READ) && !jit_watched_page(jv, va, RT_READ);
    write = write && !jit_watched_page(jv, va, RT_READ | RT_WRITE);
    e->tag_r = read ? k->page : rt_tlb_invalid(slot_of(va));
    e->tag_w = write ? k->page : rt_tlb_invalid(slot_of(va));
    e->host = (uint64_t)(uintptr_t)k->host;
    e->ram_off = k->off;
    if (write) {
        note_writable(jv, k->off, e);
    }
}
