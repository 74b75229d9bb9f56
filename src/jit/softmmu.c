/*
 * Soft TLB: filling it from page walks, flushing it at a cost proportional to its use, and the
 * slow paths of memory access (devices, pages with code, accesses over two pages).
 *
 * M1: a write tag is valid only for a page of RAM that is writable, dirty, and has no translations
 *     of any vCPU.
 * M2: only the owner of a table writes it.
 *
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

static bool is_user(unsigned idx)
{
    return idx == 1;
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
    uint64_t generation = jv->generation[is_user(jv->mode & 3)];
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

static void flush_mode(struct jit_vcpu *jv, unsigned idx)
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
        flush_mode(jv, idx);
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

static struct jit_walk *walk_slot(struct jit_vcpu *jv, unsigned idx, gva_t va)
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
        struct jit_walk *k = walk_slot(jv, idx, va);
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

static bool has_code(const struct jit_walk *k)
{
    return k->ram->code_pages &&
           atomic_load(&k->ram->code_pages[(k->off - k->ram->base) >> RT_PAGE_BITS]);
}

/* Pages of 4 MB count as two of 2 MB. */
static void note_large(struct jit_fills *f, gva_t va, unsigned bits)
{
    unsigned unit = bits >= 30 ? 30 : 21;
    gva_t first = va & ~mask_low(bits);
    for (gva_t at = first; at - first < 1ull << bits && at - first < 4 << 20; at += 1ull << unit) {
        unsigned n = large_bit(at, unit);
        f->large[n / 8] |= (uint8_t)(1u << n % 8);
    }
}

static void fill(struct jit_vcpu *jv, gva_t va, const struct jit_walk *k)
{
    struct rt_tlb_entry *e = rt_tlb_slot(jv->v->env, k->idx, va);
    struct jit_fills *f = &jv->fills[k->idx];
    bool write = (k->perms & RT_WRITE) && k->writable && !has_code(k);
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

/* Where a whole page of RAM is mapped, or NULL when *gpa is something else. */
static struct jit_walk *note_walk(struct jit_vcpu *jv, unsigned idx, gva_t va,
                                  const struct walk_result *w)
{
    struct mem_hit hit;
    gpa_t first = w->gpa & ~(gpa_t)(RT_PAGE_SIZE - 1);
    mem_lookup(jv->v->mem, first, &hit);
    bool ram = hit.kind == MEM_KIND_RAM || hit.kind == MEM_KIND_ROM;
    if (!ram || hit.last < first + RT_PAGE_SIZE - 1) {
        return NULL;
    }
    if (w->page_bits > RT_PAGE_BITS) {
        note_large(&jv->fills[idx], va, w->page_bits);
    }
    struct jit_walk *k = walk_slot(jv, idx, va);
    *k = (struct jit_walk){.page = va & ~(gva_t)(RT_PAGE_SIZE - 1),
                           .gen = jv->walk_gen[w->global],
                           .idx = idx,
                           .perms = w->perms,
                           .page_bits = w->page_bits,
                           .global = w->global,
                           .writable = hit.writable,
                           .off = hit.off,
                           .host = hit.host,
                           .ram = hit.ram};
    return k;
}

/* Walks, or remembers. False: fault. *k: NULL when it is not plain RAM (then *gpa is set). */
static bool translate(struct jit_vcpu *jv, unsigned idx, gva_t va, unsigned access,
                      struct jit_walk **k, gpa_t *gpa)
{
    struct walk_result w;
    *k = walk_slot(jv, idx, va);
    if ((*k)->page == (va & ~(gva_t)(RT_PAGE_SIZE - 1)) && (*k)->idx == idx &&
        (*k)->gen == jv->walk_gen[(*k)->global] && ((*k)->perms & access) == access) {
        jv->stats.refills++;
        return true;
    }
    jv->stats.walks++;
    if (!jv->v->isa->walk(jv->v, va, access, idx, &w)) {
        return false;
    }
    log_put(LOG_MMU, "cpu %u walk %llx to %llx\n", jv->v->index, (unsigned long long)va,
            (unsigned long long)w.gpa);
    *gpa = w.gpa;
    *k = note_walk(jv, idx, va, &w);
    return true;
}

/* For one page of an access. *host: where its RAM is, NULL when it is not plain RAM. */
static bool resolve_page(struct jit_vcpu *jv, unsigned idx, gva_t va, unsigned size,
                         unsigned access, void **host)
{
    unsigned in_page = va & (RT_PAGE_SIZE - 1);
    struct jit_walk *k;
    gpa_t gpa;
    *host = NULL;
    if (!translate(jv, idx, va, access, &k, &gpa)) {
        return false;
    }
    if (!k) {
        jv->stats.slow_device++;
        return true;
    }
    if (inject(&jv->inject, INJECT_TLB)) {
        flush_mode(jv, idx);
    } else {
        fill(jv, va, k);
    }
    if (jit_watched_page(jv, va, access)) {
        return true;
    }
    if (!(access & RT_WRITE) ||
        (k->writable &&
         (!has_code(k) || jit_write_misses_code(jv, k->ram, k->off + in_page, size)))) {
        *host = k->host + in_page;
    } else {
        jv->stats.slow_code++;
    }
    return true;
}

static bool resolve_in(struct rt_env *env, unsigned idx, gva_t va, unsigned size, unsigned access,
                       void **host)
{
    struct jit_vcpu *jv = jit_of(env->vcpu);
    unsigned left = RT_PAGE_SIZE - (va & (RT_PAGE_SIZE - 1));
    if (jv->watches && !jit_watch(jv, va, size, access)) {
        return false;
    }
    if (size <= left) {
        return resolve_page(jv, idx, va, size, access, host);
    }
    bool ok = resolve_page(jv, idx, va, left, access, host) &&
              resolve_page(jv, idx, va + left, size - left, access, host);
    jv->stats.slow_cross += ok;
    *host = NULL;
    return ok;
}

static bool resolve(struct rt_env *env, uint64_t va, unsigned size, unsigned access, void **host)
{
    bool ok = resolve_in(env, env->mmu_idx, va, size, access, host);
    if (ok && *host && inject(&jit_of(env->vcpu)->inject, INJECT_CROSS)) {
        clear_entry(rt_tlb_slot(env, env->mmu_idx, va), slot_of(va)); /* so that it comes again */
        *host = NULL;
    }
    return ok;
}

/* Bytes of one page at a physical address, by pieces of at most eight. */
static void read_phys(struct vcpu *v, gpa_t gpa, unsigned size, uint8_t *out)
{
    while (size) {
        unsigned n = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
        uint64_t x = 0;
        mem_read(v->mem, gpa, n, &x);
        memcpy(out, &x, n);
        gpa += n, out += n, size -= n;
    }
}

static void write_phys(struct jit_vcpu *jv, gpa_t gpa, unsigned size, const uint8_t *in)
{
    struct mem_hit hit;
    unsigned whole = size;
    mem_lookup(jv->v->mem, gpa, &hit);
    if (hit.kind == MEM_KIND_RAM && hit.writable && hit.last - gpa >= size - 1) {
        memcpy(hit.host, in, size);
        jit_wrote_code(jv, hit.ram, hit.off, whole);
        return;
    }
    while (size) {
        unsigned n = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
        uint64_t x = 0;
        memcpy(&x, in, n);
        mem_write(jv->v->mem, gpa, n, x);
        gpa += n, in += n, size -= n;
    }
}

static bool gpa_of(struct jit_vcpu *jv, unsigned idx, gva_t va, unsigned access, gpa_t *gpa)
{
    struct walk_result w;
    if (!jv->v->isa->walk(jv->v, va, access, idx, &w)) {
        return false;
    }
    *gpa = w.gpa;
    return true;
}

static bool access_in(struct rt_env *env, unsigned idx, gva_t va, unsigned size, void *val,
                      bool write)
{
    struct jit_vcpu *jv = jit_of(env->vcpu);
    unsigned left = RT_PAGE_SIZE - (va & (RT_PAGE_SIZE - 1)), first = size < left ? size : left;
    gpa_t gpa[2];
    unsigned access = write ? RT_WRITE : RT_READ;
    if (jv->watches && !jit_watch(jv, va, size, access)) {
        return false;
    }
    if (!gpa_of(jv, idx, va, access, &gpa[0]) ||
        (first < size && !gpa_of(jv, idx, va + first, access, &gpa[1]))) {
        return false;
    }
    uint8_t *bytes = val;
    if (write) {
        write_phys(jv, gpa[0], first, bytes);
        if (first < size) {
            write_phys(jv, gpa[1], size - first, bytes + first);
        }
    } else {
        read_phys(jv->v, gpa[0], first, bytes);
        if (first < size) {
            read_phys(jv->v, gpa[1], size - first, bytes + first);
        }
    }
    return true;
}

static bool slow_read(struct rt_env *env, uint64_t va, unsigned size, void *val)
{
    jit_of(env->vcpu)->stats.slow_reads++;
    return access_in(env, env->mmu_idx, va, size, val, false);
}

static bool slow_write(struct rt_env *env, uint64_t va, unsigned size, const void *val)
{
    uint8_t copy[64];
    jit_of(env->vcpu)->stats.slow_writes++;
    memcpy(copy, val, size);
    return access_in(env, env->mmu_idx, va, size, copy, true);
}

static void lock_begin(struct rt_env *env)
{
    jit_exclusive_begin(jit_of(env->vcpu));
}

static void lock_end(struct rt_env *env)
{
    jit_exclusive_end(jit_of(env->vcpu));
}

static bool run_vec(struct rt_env *env, const struct ir_vec *vec, void *mem, uint64_t in,
                    uint64_t *result)
{
    const struct ir_host *h = jit_of(env->vcpu)->host;
    if (!h || !h->vec_run(env, vec, mem, in, result)) {
        env->fault = (struct rt_fault){.kind = RT_FAULT_ILLEGAL};
        return false;
    }
    return true;
}

static void fpu_get(struct rt_env *env, uint8_t fx[512])
{
    const struct ir_host *h = jit_of(env->vcpu)->host;
    if (h) {
        h->fpu_get(env, fx);
    } else {
        memset(fx, 0, 512);
    }
}

static void fpu_set(struct rt_env *env, const uint8_t fx[512])
{
    const struct ir_host *h = jit_of(env->vcpu)->host;
    if (h) {
        h->fpu_set(env, fx);
    }
}

const struct rt_mem_ops jit_mem_ops = {
    .resolve = resolve,
    .slow_read = slow_read,
    .slow_write = slow_write,
    .lock_begin = lock_begin,
    .lock_end = lock_end,
    .vec = run_vec,
    .fpu_get = fpu_get,
    .fpu_set = fpu_set,
};

bool vmem_read(struct vcpu *v, gva_t va, unsigned idx, unsigned size, void *val)
{
    void *host;
    struct rt_tlb_entry *e = rt_tlb_slot(v->env, idx, va);
    if ((va ^ e->tag_r) <= RT_PAGE_SIZE - size) {
        memcpy(val, (char *)(uintptr_t)e->host + (va & (RT_PAGE_SIZE - 1)), size);
        return true;
    }
    if (!resolve_in(v->env, idx, va, size, RT_READ, &host)) {
        return false;
    }
    if (host) {
        memcpy(val, host, size);
        return true;
    }
    return access_in(v->env, idx, va, size, val, false);
}

bool vmem_write(struct vcpu *v, gva_t va, unsigned idx, unsigned size, const void *val)
{
    void *host;
    uint8_t copy[64];
    struct rt_tlb_entry *e = rt_tlb_slot(v->env, idx, va);
    if ((va ^ e->tag_w) <= RT_PAGE_SIZE - size) {
        memcpy((char *)(uintptr_t)e->host + (va & (RT_PAGE_SIZE - 1)), val, size);
        return true;
    }
    if (!resolve_in(v->env, idx, va, size, RT_WRITE, &host)) {
        return false;
    }
    if (host) {
        memcpy(host, val, size);
        return true;
    }
    memcpy(copy, val, size);
    return access_in(v->env, idx, va, size, copy, true);
}

int vmem_span(struct vcpu *v, gva_t va, unsigned idx, unsigned len, unsigned access, void **host)
{
    unsigned left = RT_PAGE_SIZE - (va & (RT_PAGE_SIZE - 1)), n = len < left ? len : left;
    struct rt_tlb_entry *e = rt_tlb_slot(v->env, idx, va);
    uint64_t tag = access & RT_WRITE ? e->tag_w : e->tag_r;
    if ((va ^ tag) < RT_PAGE_SIZE) {
        *host = (char *)(uintptr_t)e->host + (va & (RT_PAGE_SIZE - 1));
        return (int)n;
    }
    if (!resolve_in(v->env, idx, va, n, access, host)) {
        return -1;
    }
    return *host ? (int)n : 0;
}

bool pmem_read64(struct vcpu *v, gpa_t gpa, uint64_t *val)
{
    struct mem_hit hit;
    if (!mem_lookup(v->mem, gpa, &hit) || !hit.host || hit.last - gpa < 7) {
        return false;
    }
    *val = __atomic_load_n((uint64_t *)(void *)hit.host, __ATOMIC_RELAXED);
    return true;
}

bool pmem_read32(struct vcpu *v, gpa_t gpa, uint32_t *val)
{
    struct mem_hit hit;
    if (!mem_lookup(v->mem, gpa, &hit) || !hit.host || hit.last - gpa < 3) {
        return false;
    }
    *val = __atomic_load_n((uint32_t *)(void *)hit.host, __ATOMIC_RELAXED);
    return true;
}

bool pmem_replace(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t old, uint64_t val)
{
    struct mem_hit hit;
    if (!mem_lookup(v->mem, gpa, &hit) || hit.kind != MEM_KIND_RAM || !hit.writable) {
        return true;
    }
    if (size == 8) {
        return __atomic_compare_exchange_n((uint64_t *)(void *)hit.host, &old, val, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    uint32_t old32 = (uint32_t)old;
    return __atomic_compare_exchange_n((uint32_t *)(void *)hit.host, &old32, (uint32_t)val, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

const struct jit_itlb *jit_fetch(struct jit_vcpu *jv, gva_t va)
{
    gva_t page = va & ~(gva_t)(RT_PAGE_SIZE - 1);
    unsigned idx = jv->mode & 3;
    struct jit_itlb *it = &jv->itlb[va >> RT_PAGE_BITS & (ARRAY_LEN(jv->itlb) - 1)];
    if (it->page == page && it->idx == idx) {
        return it;
    }
    struct jit_walk *k;
    gpa_t gpa;
    if (!translate(jv, idx, va, RT_EXEC, &k, &gpa)) {
        return NULL;
    }
    if (!k) { /* code in device memory or in a hole: rule 4 */
        jv->v->env->fault = (struct rt_fault){.kind = RT_FAULT_ILLEGAL};
        return NULL;
    }
    jv->local_code |= !k->global && !is_user(idx);
    bool lost = it->lost || (it->page != RT_TLB_INVALID && it->page != page);
    *it = (struct jit_itlb){.page = page,
                            .global = k->global,
                            .lost = lost,
                            .idx = idx,
                            .off = k->off,
                            .host = k->host,
                            .ram = k->ram};
    return it;
}
