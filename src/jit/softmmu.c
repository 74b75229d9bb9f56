/*
 * Guest memory behind the soft TLB (tlb.c): page walks and their cache, the slow paths of memory
 * access (devices, pages with code, accesses over two pages), memory as helpers and page walks see
 * it, instruction pages.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "core/tlb_ops.h"
#include "jit/internal.h"

/* The page behind an address in system management mode, if only that mode sees it. */
static bool smram_lookup(const struct vcpu *v, gpa_t gpa, struct mem_hit *hit)
{
    const struct machine *m = v->machine;
    for (unsigned i = 0; i < MACHINE_SMRAMS; i++) {
        uint64_t start = m->smram[i].start, end = m->smram[i].end;
        if (gpa >= start && gpa < end && end <= m->smram_ram->size) {
            *hit = (struct mem_hit){.kind = MEM_KIND_RAM,
                                    .writable = true,
                                    .start = start,
                                    .last = end - 1,
                                    .host = m->smram_ram->host + gpa,
                                    .off = m->smram_ram->base + gpa,
                                    .ram = m->smram_ram};
            return true;
        }
    }
    return false;
}

static bool phys_lookup(const struct vcpu *v, gpa_t gpa, struct mem_hit *hit)
{
    return (v->smm && smram_lookup(v, gpa, hit)) || mem_lookup(v->mem, gpa, hit);
}

/* Remembers where a page is mapped: RAM, or (ram is NULL) anything else. */
static struct jit_walk *note_walk(struct jit_vcpu *jv, unsigned idx, gva_t va,
                                  const struct walk_result *w)
{
    struct mem_hit hit;
    gpa_t first = w->gpa & ~(gpa_t)(RT_PAGE_SIZE - 1);
    phys_lookup(jv->v, first, &hit);
    bool ram = (hit.kind == MEM_KIND_RAM || hit.kind == MEM_KIND_ROM) &&
               hit.last - first >= RT_PAGE_SIZE - 1;
    if (w->page_bits > RT_PAGE_BITS) {
        jit_tlb_note_large(&jv->fills[idx], va, w->page_bits);
    }
    jv->low_global |= w->global && !(va >> 63); /* M4 in space.c */
    struct jit_walk *k = jit_walk_slot(jv, idx, va);
    *k = (struct jit_walk){.page = va & ~(gva_t)(RT_PAGE_SIZE - 1),
                           .gen = jv->walk_gen[w->global],
                           .idx = idx,
                           .perms = w->perms,
                           .page_bits = w->page_bits,
                           .global = w->global,
                           .gpa = first};
    if (ram) {
        k->writable = hit.writable;
        k->off = hit.off;
        k->host = hit.host;
        k->ram = hit.ram;
    }
    return k;
}

/* Walks, or remembers. NULL: fault. */
static struct jit_walk *translate(struct jit_vcpu *jv, unsigned idx, gva_t va, unsigned access)
{
    struct walk_result w;
    struct jit_walk *k = jit_walk_slot(jv, idx, va);
    if (k->page == (va & ~(gva_t)(RT_PAGE_SIZE - 1)) && k->idx == idx &&
        k->gen == jv->walk_gen[k->global] && (k->perms & access) == access) {
        jv->stats.refills++;
        return k;
    }
    jv->stats.walks++;
    if (!jv->v->isa->walk(jv->v, va, access, idx, &w)) {
        return NULL;
    }
    log_put(LOG_MMU, "cpu %u walk %llx to %llx\n", jv->v->index, (unsigned long long)va,
            (unsigned long long)w.gpa);
    return note_walk(jv, idx, va, &w);
}

/* For one page of an access. *host: where its RAM is, NULL when it is not plain RAM. */
static bool resolve_page(struct jit_vcpu *jv, unsigned idx, gva_t va, unsigned size,
                         unsigned access, void **host)
{
    unsigned in_page = va & (RT_PAGE_SIZE - 1);
    struct jit_walk *k = translate(jv, idx, va, access);
    *host = NULL;
    if (!k) {
        return false;
    }
    if (!k->ram) {
        jv->stats.slow_device++;
        *host = jit_direct(jv, k->gpa + in_page, size, access);
        return true;
    }
    if (inject(&jv->inject, INJECT_TLB)) {
        jit_tlb_flush_mode(jv, idx);
    } else {
        jit_tlb_fill(jv, va, k);
    }
    if (jit_watched_page(jv, va, access)) {
        return true;
    }
    if (!(access & RT_WRITE) ||
        (k->writable &&
         (!jit_has_code(k) || jit_write_misses_code(jv, k->ram, k->off + in_page, size)))) {
        *host = k->host + in_page;
    } else {
        jv->stats.slow_code++;
    }
    if ((access & RT_WRITE) && k->writable && jit_has_code(k) && jit_heat(jv, k->off, false)) {
        *host = NULL; /* the block that runs was made for a page that is not checked */
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
    env->asked = 0;
    void *second = NULL;
    bool ok = resolve_page(jv, idx, va, left, access, host) &&
              resolve_page(jv, idx, va + left, size - left, access, &second);
    jv->stats.slow_cross += ok;
    if (ok && access == RT_READ && *host && second &&
        size <= sizeof(env->bounce)) { /* a copy does for a load */
        memcpy(env->bounce, *host, left);
        memcpy(env->bounce + left, second, size - left);
        *host = env->bounce;
    } else {
        *host = NULL;
    }
    return ok;
}

static bool resolve(struct rt_env *env, uint64_t va, unsigned size, unsigned access, void **host)
{
    struct jit_vcpu *jv = jit_of(env->vcpu);
    bool ok = resolve_in(env, env->mmu_idx, va, size, access, host);
    env->asked = 0;
    bool again = ok && *host && *host != env->bounce; /* a device's access was made */
    if (again && inject(&jv->inject, INJECT_CROSS)) {
        jit_tlb_clear(env, env->mmu_idx, va); /* so that it comes again */
        *host = NULL;
    }
    return ok;
}

/* Bytes of one page at a physical address, by pieces of at most eight. */
static void read_phys(struct vcpu *v, gpa_t gpa, unsigned size, uint8_t *out)
{
    struct mem_hit hit;
    if (v->smm && smram_lookup(v, gpa, &hit) && hit.last - gpa >= size - 1) {
        memcpy(out, hit.host, size);
        return;
    }
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
    phys_lookup(jv->v, gpa, &hit);
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
    const struct jit_walk *k = translate(jv, idx, va, access);
    if (k) {
        *gpa = k->gpa + (va & (RT_PAGE_SIZE - 1));
    }
    return k;
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
    struct jit_vcpu *jv = jit_of(v);
    if (jv->watches && jit_watched_page(jv, va, access)) {
        return 0; /* not all of the range will be accessed, perhaps */
    }
    if (!resolve_in(v->env, idx, va, n, access, host)) {
        return -1;
    }
    return *host ? (int)n : 0;
}

bool pmem_read64(struct vcpu *v, gpa_t gpa, uint64_t *val)
{
    struct mem_hit hit;
    if (!phys_lookup(v, gpa, &hit) || !hit.host || hit.last - gpa < 7) {
        return false;
    }
    *val = __atomic_load_n((uint64_t *)(void *)hit.host, __ATOMIC_RELAXED);
    return true;
}

bool pmem_read32(struct vcpu *v, gpa_t gpa, uint32_t *val)
{
    struct mem_hit hit;
    if (!phys_lookup(v, gpa, &hit) || !hit.host || hit.last - gpa < 3) {
        return false;
    }
    *val = __atomic_load_n((uint32_t *)(void *)hit.host, __ATOMIC_RELAXED);
    return true;
}

bool pmem_replace(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t old, uint64_t val)
{
    struct mem_hit hit;
    if (!phys_lookup(v, gpa, &hit) || hit.kind != MEM_KIND_RAM || !hit.writable) {
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

bool jit_still_at(struct jit_vcpu *jv, unsigned idx, gva_t va, ram_off_t page, bool *global)
{
    struct rt_env *env = jv->v->env;
    struct rt_fault fault = env->fault;
    const struct jit_walk *k = translate(jv, idx, va, RT_EXEC);
    bool ok = k && k->ram && k->off == page;
    *global = ok && k->global;
    env->fault = fault;
    return ok;
}

const struct jit_itlb *jit_fetch(struct jit_vcpu *jv, gva_t va)
{
    gva_t page = va & ~(gva_t)(RT_PAGE_SIZE - 1);
    unsigned idx = jv->mode & 3;
    struct jit_itlb *it = &jv->itlb[va >> RT_PAGE_BITS & (ARRAY_LEN(jv->itlb) - 1)];
    uint64_t gen = jv->generation[jit_is_user(idx)];
    if (it->page == page && it->idx == idx && it->gen == gen) {
        return it;
    }
    const struct jit_walk *k = translate(jv, idx, va, RT_EXEC);
    if (!k) {
        return NULL;
    }
    if (!k->ram) { /* code in device memory or in a hole: rule 4 */
        jv->v->env->fault = (struct rt_fault){.kind = RT_FAULT_ILLEGAL};
        return NULL;
    }
    jit_space_fetched(jv, idx, va, k->off, k->global);
    *it = (struct jit_itlb){
        .page = page, .gen = gen, .idx = idx, .off = k->off, .host = k->host, .ram = k->ram};
    return it;
}
