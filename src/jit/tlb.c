/*
 * The soft TLB's tables: filling, flushing at a cost proportional to use, write protection of pages
 * with translations. What flushes mean beyond the tables is in space.c.
 *
 * M1: a write tag is valid only for a page of RAM that is writable, dirty, and has no translations
 *     of any vCPU but such as look at their own bytes (checked.c).
 * M2: only the owner of a table writes it.
 * M3, M4: space.c. Tables hold one address space and global pages: a change of address space
 *     empties them of all others, and walks of spaces in use fill them again.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "core/tlb_ops.h"
#include "jit/internal.h"

static unsigned large_bit(gva_t va, unsigned bits)
{
    return (unsigned)jit_mix(va >> bits << bits | bits) % JIT_LARGE;
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
    rt_base_clear(env, idx);
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
    rt_base_clear(jv->v->env, idx);
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

void jit_tlb_init(struct jit_vcpu *jv)
{
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        clear_entry(&jv->v->env->tlb[idx][0], 0); /* fresh memory is zero */
    }
    jit_space_init(jv);
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
    jit_space_flush(jv, true);
    log_put(LOG_MMU, "cpu %u flush\n", v->index);
}

static void flush_nonglobal_tables(struct jit_vcpu *jv)
{
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        flush_some(jv, idx, false);
    }
}

void tlb_flush_nonglobal(struct vcpu *v)
{
    struct jit_vcpu *jv = jit_of(v);
    jv->stats.flushes_nonglobal++;
    flush_nonglobal_tables(jv);
    jit_space_flush(jv, false);
    log_put(LOG_MMU, "cpu %u flush of non-global pages\n", v->index);
}

void tlb_switch(struct vcpu *v, unsigned asid, bool keep)
{
    struct jit_vcpu *jv = jit_of(v);
    if (!jv || (keep && asid == jv->here->asid)) {
        return;
    }
    jv->stats.switches++;
    jv->stats.switches_kept += keep;
    if (asid && !jv->many) {
        if (jv->low_global) { /* M4 */
            tlb_flush(v);
        }
        jv->many = true;
    }
    flush_nonglobal_tables(jv);
    jit_space_switch(jv, asid, keep);
    log_put(LOG_MMU, "cpu %u address space %u%s\n", v->index, asid, keep ? "" : ", forgotten");
}

void tlb_flush_asid(struct vcpu *v, unsigned asid)
{
    struct jit_vcpu *jv = jit_of(v);
    if (asid == jv->here->asid) {
        tlb_switch(v, asid, false);
    } else {
        jit_space_forget(jv, asid);
    }
}

void tlb_flush_asid_page(struct vcpu *v, unsigned asid, gva_t va)
{
    struct jit_vcpu *jv = jit_of(v);
    if (asid == jv->here->asid) {
        tlb_flush_page(v, va);
    } else {
        jit_space_forget(jv, asid); /* cheaper than looking for one page of it */
    }
}

struct jit_walk *jit_walk_slot(struct jit_vcpu *jv, unsigned idx, gva_t va)
{
    gva_t n = va >> RT_PAGE_BITS, space = va >> 63 ? 0 : (gva_t)(jv->here - jv->space); /* M4 */
    return &jv->walks[(n ^ n >> JIT_WALK_BITS ^ space << (JIT_WALK_BITS - 5) ^
                       (gva_t)idx << (JIT_WALK_BITS - 2)) &
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
    if (jv->many && jv->low_global) { /* M4 */
        tlb_flush(v);
        return;
    }
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
        rt_base_clear(v->env, idx); /* a line may outlive its entry */
        if (k->page == page) {
            k->gen = 0;
        }
    }
    log_put(LOG_MMU, "cpu %u flush of page %llx\n", v->index, (unsigned long long)page);
    jit_space_flush_page(jv, va);
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
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        rt_base_clear(env, idx);
    }
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
    const struct ram *ram = k->ram;
    for (unsigned i = 0; ram->code_pages && i < ram->code_stride; i++) {
        if (atomic_load(jit_code_byte(ram, k->off, i * 8))) {
            return true;
        }
    }
    return false;
}

bool jit_others_have_code(const struct jit_vcpu *jv, const struct ram *ram, ram_off_t off)
{
    unsigned own = jv->v->index, who = 0;
    for (unsigned i = 0; i < ram->code_stride; i++) {
        unsigned byte = atomic_load(jit_code_byte(ram, off, i * 8));
        who |= i == own / 8 ? byte & ~(unsigned)jit_code_bit(own) : byte;
    }
    return who;
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
