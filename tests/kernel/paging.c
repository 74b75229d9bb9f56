/*
 * Four-level paging: access rights over the levels, error codes, accessed and dirty flags, reserved
 * bits, page sizes (Intel SDM Vol. 3A 4.5 to 4.8).
 */
#include "page.h"

/* ---- Access rights ---- */

/* Where a right is missing: at level 1 to 4, or 0 for nowhere. */
struct rights {
    unsigned no_w, no_u, nx;
};

static void map_rights(word va, const struct rights *r, unsigned leaf)
{
    entry(va, leaf); /* makes the tables */
    for (unsigned level = 4; level >= leaf; level--) {
        uint64_t *e = entry(va, level);
        uint64_t to =
            level == leaf ? data_pa(0) & (leaf == 1 ? PTE_ADDR : ~0x1fffffull) : *e & PTE_ADDR;
        *e = to | PTE_P | (r->no_w == level ? 0 : PTE_W) | (r->no_u == level ? 0 : PTE_U) |
             (r->nx == level ? PTE_NX : 0) | (level == leaf && leaf > 1 ? PTE_PS : 0);
    }
    invlpg(va);
}

struct controls {
    bool wp, smep, smap, ac;
};

/* Vol. 3A 4.6.1 */
static bool allowed(enum access a, bool user, const struct rights *r, const struct controls *c)
{
    bool user_page = !r->no_u, writable = !r->no_w;
    if (user) {
        return user_page && (a != WRITE || writable) && (a != EXEC || !r->nx);
    }
    if (a == EXEC) {
        return !r->nx && !(user_page && c->smep);
    }
    if (user_page && c->smap && !c->ac) {
        return false;
    }
    return a == READ || writable || !c->wp;
}

static const char *describe(enum access a, bool user, const struct rights *r)
{
    static char text[] = "a/c no W at 0, no U at 0, NX at 0";
    text[0] = "rwx"[a];
    text[2] = user ? 'u' : 'k';
    text[12] = (char)('0' + r->no_w);
    text[23] = (char)('0' + r->no_u);
    text[32] = (char)('0' + r->nx);
    return text;
}

static void one_access(word va, enum access a, bool user, const struct rights *r,
                       const struct controls *c, unsigned leaf)
{
    map_rights(va, r, leaf);
    bool ok = allowed(a, user, r, c);
    unsigned v = run_access(a, va, user, c->ac);
    const char *what = describe(a, user, r);
    check_eq(what, v, ok ? NONE : PF);
    if (!ok && v == PF) {
        word error = PF_P | (a == WRITE ? PF_W : 0) | (user ? PF_U : 0) | (a == EXEC ? PF_I : 0);
        check_eq(what, last()->error, error);
        check_eq("cr2", traps[0].cr2, va);
    }
    uint64_t e = *entry(va, leaf);
    check_eq("dirty", !!(e & PTE_D), ok && a == WRITE);
    check("accessed", !ok || (e & PTE_A));
}

static void all_rights(struct controls c, unsigned leaf)
{
    word va = FREE_VA + (data_pa(0) & (leaf == 1 ? 0xfff : 0x1fffff));
    if ((c.smep && !has_smep()) || (c.smap && !has_smap())) {
        skip("no SMEP or SMAP");
        return;
    }
    reset_tables();
    memset(data_page[0], 0xc3, 4096);
    set_cr0(CR0_WP, c.wp);
    set_cr4(CR4_SMEP, c.smep);
    set_cr4(CR4_SMAP, c.smap);
    for (unsigned i = 0; i < 125; i++) {
        struct rights r = {i % 5, i / 5 % 5, i / 25};
        bool here =
            (!r.no_w || r.no_w >= leaf) && (!r.no_u || r.no_u >= leaf) && (!r.nx || r.nx >= leaf);
        for (unsigned k = 0; here && k < 6; k++) {
            one_access(va, (enum access)(k % 3), k / 3, &r, &c, leaf);
        }
    }
    set_cr4(CR4_SMEP | CR4_SMAP, false);
    set_cr0(CR0_WP, true);
}

#define RIGHTS(name, wp, smep, smap, ac, leaf)                                                     \
    CASE(rights_##name)                                                                            \
    {                                                                                              \
        all_rights((struct controls){wp, smep, smap, ac}, leaf);                                   \
    }
RIGHTS(plain, false, false, false, false, 1)
RIGHTS(wp, true, false, false, false, 1)
RIGHTS(smep, false, true, false, false, 1)
RIGHTS(wp_smep, true, true, false, false, 1)
RIGHTS(smap, false, false, true, false, 1)
RIGHTS(smap_ac, false, false, true, true, 1)
RIGHTS(wp_smap, true, false, true, false, 1)
RIGHTS(wp_smap_ac, true, false, true, true, 1)
RIGHTS(all, true, true, true, false, 1)
RIGHTS(all_ac, true, true, true, true, 1)
RIGHTS(ac_alone, true, false, false, true, 1)
RIGHTS(wp_2m, true, false, false, false, 2)
RIGHTS(all_2m, true, true, true, false, 2)
RIGHTS(all_ac_2m, true, true, true, true, 2)

/* STAC and CLAC change what the next access may do. */
CODE(stac_code, "", ".byte 0x0f, 0x01, 0xcb; mov (%rdi), %al; .byte 0x0f, 0x01, 0xca",
     "mov (%rdi), %al")
CASE(smap_stac_clac)
{
    if (!has_smap()) {
        skip("no SMAP");
        return;
    }
    reset_tables();
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    set_cr4(CR4_SMAP, true);
    unsigned v = run(stac_code, FREE_VA, 0);
    set_cr4(CR4_SMAP, false);
    check_eq("vector", v, PF);
    check_trap(PF, PF_P, stac_code_next);
}

/* Accesses the processor makes for itself are the supervisor's at any CPL, and SMAP knows no AC for
 * them (4.6.1). */
CODE(load_ldt, "push %rsi; popfq", "mov %edi, %ds", "push $2; popfq")
static void ldt_at(word base)
{
    uint64_t *ldt = (uint64_t *)(void *)data_page[1];
    ldt[1] = descriptor(0, 0xfffff, AR_DATA | AR_DPL3);
    gdt[SEL_FREE / 8] = descriptor((uint32_t)base, 0xfff, 0x82);
    gdt[SEL_FREE / 8 + 1] = base >> 32;
    __asm__ volatile("lldt %w0" : : "r"(SEL_FREE));
}
CASE(implicit_supervisor)
{
    ldt_at(data_pa(1)); /* a supervisor's page */
    check_eq("from CPL 3", run_user(load_ldt, 0xf, 2), NONE);
    __asm__ volatile("lldt %w0" : : "r"(0));
}
CASE_NOT_QEMU(implicit_smap, "Vol. 3A 4.6.1: AC says nothing for implicit accesses")
{
    if (!has_smap()) {
        skip("no SMAP");
        return;
    }
    ldt_at(data_pa(1) + USER_BASE); /* a user's page */
    check_eq("without SMAP", run_user(load_ldt, 0xf, 2), NONE);
    set_cr4(CR4_SMAP, true);
    unsigned v = run_user(load_ldt, 0xf, 2 | F_AC);
    struct trap t = traps[0];
    unsigned w = run(load_ldt, 0xf, 2 | F_AC);
    set_cr4(CR4_SMAP, false);
    __asm__ volatile("lldt %w0" : : "r"(0));
    check_eq("from CPL 3", v, PF);
    check_eq("error", t.f.error, PF_P);
    check_eq("cr2", t.cr2, data_pa(1) + USER_BASE + 8);
    check_eq("from CPL 0 with AC", w, PF);
}

/* ---- Not present, at each level ---- */

CASE(not_present)
{
    for (unsigned level = 1; level <= 4; level++) {
        reset_tables();
        map(FREE_VA, data_pa(0), 1, PTE_ALL);
        uint64_t *e = entry(FREE_VA, level);
        *e = (*e & ~1ull) | 0xff0000000000e; /* all else says nothing */
        flush_all();
        for (unsigned k = 0; k < 6; k++) {
            word error =
                (k % 3 == WRITE ? PF_W : 0) | (k / 3 ? PF_U : 0) | (k % 3 == EXEC ? PF_I : 0);
            check_eq("vector", run_access((enum access)(k % 3), FREE_VA, k / 3, false), PF);
            check_eq("error", last()->error, error);
        }
    }
}

/* An entry that was not present is not remembered (4.10.2.3). */
CASE(becomes_present)
{
    reset_tables();
    entry(FREE_VA, 1);
    for (unsigned level = 4; level; level--) {
        uint64_t *e = entry(FREE_VA, level), keep = level == 1 ? data_pa(0) | PTE_ALL : *e;
        *e = 0;
        flush_all();
        check_eq("before", run_access(READ, FREE_VA, false, false), PF);
        *e = keep;
        if (level == 1) {
            check_eq("after", run_access(READ, FREE_VA, false, false), NONE);
            check_eq("user", run_access(READ, FREE_VA, true, false), NONE);
        }
    }
}

/* ---- Accessed and dirty ---- */

static void clear_ad(word va, unsigned leaf)
{
    for (unsigned level = leaf; level <= 4; level++) {
        *entry(va, level) &= ~(uint64_t)(PTE_A | (level == leaf ? PTE_D : 0));
    }
    flush_all();
}

static void accessed_dirty(unsigned leaf)
{
    word va = FREE_VA + (data_pa(0) & 0x1fffff);
    uint64_t base = data_pa(0) & (leaf == 1   ? ~0xfffull
                                  : leaf == 2 ? ~0x1fffffull
                                              : ~0x3fffffffull);
    if (leaf == 3) {
        va = FREE_VA + data_pa(0);
    }
    reset_tables();
    map(va, base, leaf, PTE_ALL);
    memset(data_page[0], 0xc3, 4096);
    static const enum access order[] = {READ, EXEC, WRITE};
    for (unsigned i = 0; i < 3; i++) {
        clear_ad(va, leaf);
        check_eq("no fault", run_access(order[i], va, i & 1, false), NONE);
        for (unsigned level = leaf; level <= 4; level++) {
            check_eq("accessed", *entry(va, level) & PTE_A, PTE_A);
        }
        check_eq("dirty", !!(*entry(va, leaf) & PTE_D), order[i] == WRITE);
    }
    clear_ad(va, leaf);
    run_access(READ, va, false, false);
    check_eq("clean after reading", *entry(va, leaf) & PTE_D, 0);
    run_access(WRITE, va, false, false);
    check_eq("dirty after writing what was read", *entry(va, leaf) & PTE_D, PTE_D);
    *entry(va, leaf) &= ~(uint64_t)PTE_D;
    invlpg(va);
    run_access(WRITE, va, false, false);
    check_eq("dirty again", *entry(va, leaf) & PTE_D, PTE_D);
}
CASE(accessed_dirty_4k)
{
    accessed_dirty(1);
}
CASE(accessed_dirty_2m)
{
    accessed_dirty(2);
}
CASE(accessed_dirty_1g)
{
    if (!cpu_has(0x80000001, 3, 26)) {
        skip("no 1 GiB pages");
        return;
    }
    accessed_dirty(3);
}

/* Read-modify-write: dirty even if the value stays; a compare that fails writes, too (locked). */
CODE(rmw_and, "", "andb $0xff, (%rdi)", "")
CODE(rmw_cmpxchg, "mov $0x12345678, %eax", "lock cmpxchg %ecx, (%rdi)", "")
CODE(rep_write, "mov $8, %ecx", "rep stosb", "")
CASE(dirty_by_others)
{
    static const char *const codes[] = {rmw_and, rmw_cmpxchg, rep_write};
    reset_tables();
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    for (unsigned i = 0; i < 3; i++) {
        clear_ad(FREE_VA, 1);
        check_eq("fault", run(codes[i], FREE_VA, 0), NONE);
        check_eq("dirty", *entry(FREE_VA, 1) & PTE_D, PTE_D);
    }
}

/* A read-modify-write of a page that cannot be written faults as a write. */
CASE(rmw_is_a_write)
{
    static const char *const codes[] = {rmw_and, rmw_cmpxchg, rep_write};
    reset_tables();
    map(FREE_VA, data_pa(0), 1, PTE_P | PTE_U);
    for (unsigned i = 0; i < 3; i++) {
        run(codes[i], FREE_VA, 0);
        check_eq("kernel", last()->error, PF_P | PF_W);
        run_user(codes[i], FREE_VA, 0);
        check_eq("user", last()->error, PF_P | PF_W | PF_U);
    }
}

/* ---- Reserved bits ---- */

#define RSVD_P "Vol. 3A 4.7: RSVD only with P; TCG clears P"
static void reserved(unsigned leaf, unsigned level, unsigned bit)
{
    reset_tables();
    map(FREE_VA, 0, leaf, PTE_ALL);
    *entry(FREE_VA, level) |= 1ull << bit;
    flush_all();
    for (unsigned k = 0; k < 6; k++) {
        word error = PF_P | PF_RSVD | (k % 3 == WRITE ? PF_W : 0) | (k / 3 ? PF_U : 0) |
                     (k % 3 == EXEC ? PF_I : 0);
        check_eq("vector", run_access((enum access)(k % 3), FREE_VA, k / 3, false), PF);
        check_eq("error", last()->error, error);
    }
    *entry(FREE_VA, level) &= ~1ull; /* not present: nothing is reserved */
    flush_all();
    run_access(READ, FREE_VA, false, false);
    check_eq("not present", last()->error, 0);
}
CASE_NOT_QEMU(reserved_address_bits, RSVD_P)
{
    uint32_t r[4];
    cpuid(0x80000008, 0, r);
    for (unsigned level = 1; level <= 4; level++) {
        for (unsigned bit = r[0] & 0xff; bit < 52; bit++) {
            reserved(1, level, bit);
        }
    }
}
CASE_NOT_QEMU(reserved_2m, RSVD_P)
{
    for (unsigned bit = 13; bit <= 20; bit++) {
        reserved(2, 2, bit);
    }
}
CASE_NOT_QEMU(reserved_1g, RSVD_P)
{
    if (!cpu_has(0x80000001, 3, 26)) {
        skip("no 1 GiB pages");
        return;
    }
    for (unsigned bit = 13; bit <= 29; bit++) {
        reserved(3, 3, bit);
    }
}
CASE_NOT_QEMU(reserved_ps_in_pml4, RSVD_P)
{
    reserved(1, 4, 7);
}
CASE(pat_bits_are_not_reserved)
{
    reset_tables();
    map(FREE_VA, data_pa(0), 1, PTE_ALL | 1 << 7);
    check_eq("PTE", run_access(READ, FREE_VA, false, false), NONE);
    map(FREE_VA + 0x200000, 0, 2, PTE_ALL | 1 << 12);
    check_eq("PDE", run_access(READ, FREE_VA + 0x200000, false, false), NONE);
    *entry(FREE_VA, 1) |= 0x7ff0000000000e00; /* ignored ones */
    invlpg(FREE_VA);
    check_eq("ignored", run_access(READ, FREE_VA, true, false), NONE);
}

/* Without EFER.NXE bit 63 is reserved, and fetches are not told apart unless there is SMEP. */
CASE_NOT_QEMU(nxe_off, RSVD_P)
{
    uint64_t efer = rdmsr(0xc0000080);
    reset_tables();
    map(FREE_VA, data_pa(0), 1, PTE_ALL | PTE_NX);
    entry(FREE_VA + 4096, 1);
    wrmsr(0xc0000080, efer & ~0x800ull);
    unsigned v = run_access(READ, FREE_VA, false, false);
    word e1 = last()->error;
    unsigned w = run_access(EXEC, FREE_VA + 4096, false, false);
    word e2 = last()->error;
    wrmsr(0xc0000080, efer);
    check_eq("vector", v, PF);
    check_eq("error", e1, PF_P | PF_RSVD);
    check_eq("vector", w, PF);
    check_eq("fetch error", e2, 0);
}
