/*
 * x86 address translation: none, 32-bit two-level, PAE, four-level and five-level paging (Intel SDM
 * Vol. 3A chapter 4). Sets accessed and dirty bits. CR0.WP, NX, SMEP, SMAP, protection keys of user
 * pages, global pages, A20.
 *
 * Does not do: keys of supervisor pages, the 36-bit PSE extension beyond bits 39..32.
 */
#include <stdatomic.h>

#include "core/machine.h"
#include "isa/x86/pte.h"
#include "isa/x86/sys.h"

#define MAX_RESTARTS 1000 /* of a walk whose entries change under it */

struct walk {
    struct x86_cpu *c;
    struct vcpu *v;
    gva_t va;
    unsigned access, idx;
    uint64_t rights; /* PTE_W, PTE_U and'ed over the levels; PTE_NX or'ed */
    uint64_t pte;    /* last entry read */
    gpa_t pte_gpa;
    unsigned pte_size;
    bool again; /* an entry changed between reading it and marking it */
};

static bool page_fault(const struct walk *w, uint32_t error)
{
    const struct x86_cpu *c = w->c;
    if (w->access & RT_WRITE) {
        error |= PF_W;
    }
    if (w->idx == MODE_MMU_USER) {
        error |= PF_U;
    }
    if ((w->access & RT_EXEC) && ((c->efer & EFER_NXE) || (c->cr4 & CR4_SMEP))) {
        error |= PF_I;
    }
    w->v->env->fault = (struct rt_fault){
        .kind = RT_FAULT_GUEST, .vector = EXC_PF, .has_error = true, .error = error, .addr = w->va};
    return false;
}

/* Where an address leads while line 20 may be held low. */
static gpa_t on_bus(const struct vcpu *v, gpa_t gpa)
{
    return v->machine && atomic_load_explicit(&v->machine->a20_off, memory_order_relaxed)
               ? gpa & ~(gpa_t)BIT(20)
               : gpa;
}

/* Reads one entry; false: fault. `size` 4 or 8. */
static bool read_entry(struct walk *w, gpa_t gpa, unsigned size)
{
    bool ok;
    gpa = on_bus(w->v, gpa);
    w->pte_gpa = gpa;
    w->pte_size = size;
    if (size == 8) {
        ok = pmem_read64(w->v, gpa, &w->pte);
    } else {
        uint32_t v32 = 0;
        ok = pmem_read32(w->v, gpa, &v32);
        w->pte = v32;
    }
    if (!ok || !(w->pte & PTE_P)) {
        return page_fault(w, 0);
    }
    uint64_t reserved = size == 8 ? mask_low(52) & ~mask_low(X86_PHYS_BITS) : 0;
    if (size == 8 && !(w->c->efer & EFER_NXE)) {
        reserved |= PTE_NX;
    }
    if (w->pte & reserved) {
        return page_fault(w, PF_P | PF_RSVD);
    }
    w->rights &= w->pte | ~(uint64_t)(PTE_W | PTE_U);
    w->rights |= w->pte & PTE_NX;
    return true;
}

/* False: the entry was changed under the walk, which must begin again (w->again). */
static bool set_bits(struct walk *w, uint64_t bits)
{
    if (!w->access || (w->pte & bits) == bits) {
        return true;
    }
    w->again = !pmem_replace(w->v, w->pte_gpa, w->pte_size, w->pte, w->pte | bits);
    w->pte |= bits;
    return !w->again;
}

/* Rights of the finished walk for its MMU index, as enum rt_access. */
static unsigned allowed(const struct walk *w)
{
    const struct x86_cpu *c = w->c;
    bool user_page = w->rights & PTE_U, writable = w->rights & PTE_W;
    unsigned a = w->rights & PTE_NX ? 0 : RT_EXEC;
    if (w->idx == MODE_MMU_USER) {
        return user_page ? a | RT_READ | (writable ? RT_WRITE : 0) : 0;
    }
    if (user_page && (c->cr4 & CR4_SMEP)) {
        a = 0;
    }
    if (user_page && w->idx == MODE_MMU_KERNEL) {
        return a; /* SMAP */
    }
    return a | RT_READ | (writable || !(c->cr0 & CR0_WP) ? RT_WRITE : 0);
}

/* What the protection key of the finished walk's page takes away, as enum rt_access (4.6.2). */
static unsigned denied_by_key(const struct walk *w)
{
    const struct x86_cpu *c = w->c;
    if (!(c->cr4 & CR4_PKE) || !(c->efer & EFER_LMA) || !(w->rights & PTE_U)) {
        return 0;
    }
    unsigned key = c->cur_pkru >> 2 * bits_get(w->pte, 62, 59) & 3;
    if (key & PKRU_AD) {
        return RT_READ | RT_WRITE;
    }
    bool obeys = w->idx == MODE_MMU_USER || (c->cr0 & CR0_WP);
    return (key & PKRU_WD) && obeys ? RT_WRITE : 0;
}

static bool finish(struct walk *w, struct walk_result *res, unsigned page_bits, uint64_t frame)
{
    unsigned denied = denied_by_key(w), perms = allowed(w) & ~denied;
    if (w->access & ~perms) {
        return page_fault(w, PF_P | (w->access & denied ? PF_PK : 0));
    }
    if (!set_bits(w, w->access & RT_WRITE ? PTE_A | PTE_D : PTE_A)) {
        return false;
    }
    if (!(w->pte & PTE_D)) {
        perms &= ~(unsigned)RT_WRITE;
    }
    uint64_t low = mask_low(page_bits);
    *res = (struct walk_result){.gpa = on_bus(w->v, (frame & ~low) | (w->va & low)),
                                .page_bits = (uint8_t)page_bits,
                                .perms = (uint8_t)perms,
                                .global = (w->pte & PTE_G) && (w->c->cr4 & CR4_PGE)};
    return true;
}

/* Levels from `level` down to 1, eight-byte entries, 9 bits each; `table` is the first table. */
static bool walk_long(struct walk *w, struct walk_result *res, uint64_t table, unsigned level)
{
    for (;; level--) {
        unsigned shift = 12 + 9 * (level - 1);
        if (!read_entry(w, (table & PTE_ADDR) + (w->va >> shift & 511) * 8, 8)) {
            return false;
        }
        if (level == 1 || (level <= 3 && (w->pte & PTE_PS))) {
            uint64_t low = mask_low(shift) & ~0x1fffull;
            if (level > 1 && (w->pte & low)) {
                return page_fault(w, PF_P | PF_RSVD);
            }
            return finish(w, res, shift, w->pte & PTE_ADDR);
        }
        if (level >= 4 && (w->pte & PTE_PS)) {
            return page_fault(w, PF_P | PF_RSVD);
        }
        if (!set_bits(w, PTE_A)) {
            return false;
        }
        table = w->pte;
    }
}

static bool walk_pae(struct walk *w, struct walk_result *res)
{
    uint64_t pdpte = w->c->pdpte[w->va >> 30 & 3];
    if (!(pdpte & PTE_P)) {
        return page_fault(w, 0);
    }
    return walk_long(w, res, pdpte, 2);
}

static bool walk_32(struct walk *w, struct walk_result *res)
{
    if (!read_entry(w, (w->c->cr3 & 0xfffff000u) + (w->va >> 22 & 1023) * 4, 4)) {
        return false;
    }
    if ((w->pte & PTE_PS) && (w->c->cr4 & CR4_PSE)) {
        if (w->pte & BIT(21)) { /* the only one above 40 bits of address (Table 4-4) */
            return page_fault(w, PF_P | PF_RSVD);
        }
        return finish(w, res, 22, pte_frame_4m(w->pte));
    }
    if (!set_bits(w, PTE_A) ||
        !read_entry(w, (w->pte & 0xfffff000u) + (w->va >> 12 & 1023) * 4, 4)) {
        return false;
    }
    return finish(w, res, 12, w->pte & 0xfffff000u);
}

static bool walk_tables(struct x86_cpu *c, struct walk *w, struct walk_result *res)
{
    if (c->efer & EFER_LMA) {
        return walk_long(w, res, c->cr3, c->cr4 & CR4_LA57 ? 5 : 4);
    }
    return c->cr4 & CR4_PAE ? walk_pae(w, res) : walk_32(w, res);
}

bool x86_walk(struct vcpu *v, gva_t va, unsigned access, unsigned idx, struct walk_result *res)
{
    struct x86_cpu *c = x86_cpu(v);
    if (!(c->cr0 & CR0_PG)) {
        *res = (struct walk_result){.gpa = on_bus(v, va & mask_low(X86_PHYS_BITS)),
                                    .page_bits = 12,
                                    .perms = RT_READ | RT_WRITE | RT_EXEC};
        return true;
    }
    if (!(c->efer & EFER_LMA)) {
        va &= 0xffffffffu;
    } else if (!x86_canonical(c, va)) {
        x86_raise_error(c, EXC_GP, 0);
        v->env->fault.addr = va; /* through SS it is #SS: x86_settle_canonical() */
        return false;
    }
    for (unsigned i = 0;; i++) {
        struct walk w = {
            .c = c, .v = v, .va = va, .access = access, .idx = idx, .rights = PTE_W | PTE_U};
        bool ok = walk_tables(c, &w, res);
        if (ok || !w.again) {
            return ok;
        }
        if (i == MAX_RESTARTS) { /* a guest that changes the entry all the time */
            return page_fault(&w, 0);
        }
    }
}

/* Loads the four PDPTEs as MOV to CR3 does under PAE (Vol. 3A 4.4.1); false: #GP is due. */
bool x86_load_pdptes(struct x86_cpu *c, uint64_t cr3)
{
    uint64_t reserved = 0x1e6 | (mask_low(52) & ~mask_low(X86_PHYS_BITS)) | 0xfff0000000000000ull;
    uint64_t p[4];
    for (unsigned i = 0; i < 4; i++) {
        gpa_t at = on_bus(c->rt.vcpu, (cr3 & 0xffffffe0u) + i * 8);
        if (!pmem_read64(c->rt.vcpu, at, &p[i])) {
            p[i] = 0;
        }
        if ((p[i] & PTE_P) && (p[i] & reserved)) {
            return false;
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        c->pdpte[i] = p[i];
    }
    return true;
}
