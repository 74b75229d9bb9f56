/*
 * Two-level and PAE paging in a 32-bit kernel (Intel SDM Vol. 3A 4.3, 4.4): page sizes, rights,
 * error codes, reserved bits, PDPTEs, and what CR0, CR4 and EFER refuse on the way to long mode
 * (2.2, 9.8.5).
 */
#include "rt.h"

enum { P = 1, W = 2, U = 4, A = 32, D = 64, PS = 128, CR4_PSE = 16, CR4_PAE = 32 };
#define CR0_PG 0x80000000ul
#define VA 0x40000000ul /* the tests' page; all below 16 MiB is identity, devices too */

static uint32_t dir32[1024] __attribute__((aligned(4096)));
static uint32_t table32[1024] __attribute__((aligned(4096)));
static uint64_t pdpt64[4] __attribute__((aligned(4096)));
static uint64_t dir64[4][512] __attribute__((aligned(4096)));
static uint64_t table64[512] __attribute__((aligned(4096)));
static uint8_t page[2][4096] __attribute__((aligned(4096)));

static void on32(void)
{
    memset(dir32, 0, sizeof(dir32));
    memset(table32, 0, sizeof(table32));
    for (unsigned i = 0; i < 4; i++) {
        dir32[i] = i << 22 | PS | P | W | U;
    }
    dir32[0xfec00000u >> 22] = 0xfec00000 | PS | P | W;
    dir32[VA >> 22] = (word)table32 | P | W | U;
    table32[0] = (word)page[0] | P | W | U;
    write_cr4(read_cr4() | CR4_PSE);
    write_cr3((word)dir32);
    write_cr0(read_cr0() | CR0_PG | 0x10000);
}
static void on_pae(void)
{
    memset(dir64, 0, sizeof(dir64));
    memset(table64, 0, sizeof(table64));
    for (unsigned i = 0; i < 4; i++) {
        pdpt64[i] = (word)dir64[i] | P;
    }
    for (unsigned i = 0; i < 8; i++) {
        dir64[0][i] = i << 21 | PS | P | W | U;
    }
    dir64[3][(0xfee00000u >> 21) & 511] = 0xfee00000 | PS | P | W;
    dir64[1][0] = (word)table64 | P | W | U;
    table64[0] = (word)page[0] | P | W | U;
    write_cr4(read_cr4() | CR4_PAE);
    write_cr3((word)pdpt64);
    write_cr0(read_cr0() | CR0_PG | 0x10000);
}
static void off(void)
{
    write_cr0(read_cr0() & ~CR0_PG);
    write_cr4(read_cr4() & ~(word)(CR4_PAE | CR4_PSE));
}
static void reload(void)
{
    write_cr3(read_cr3());
}

CODE(load, "", "mov (%edi), %al", "")
CODE(store, "", "movb $0xc3, (%edi)", "")
CODE(fetch, "", "call *%edi", "")
static void faults(unsigned a, bool user, word va, word error)
{
    static const char *const code[] = {load, store, fetch};
    unsigned v = user ? run_user(code[a], va, 0) : run(code[a], va, 0);
    if (error == NO_ERROR) {
        check_eq("vector", v, NONE);
    } else {
        check_eq("vector", v, PF);
        check_eq("error", last()->error, error);
        check_eq("cr2", traps[0].cr2, va);
    }
}

static void rights(bool pae)
{
    pae ? on_pae() : on32();
    memset(page, 0xc3, sizeof(page));
    for (unsigned i = 0; i < 16; i++) {
        unsigned low = (i & 3) << 1, high = (i >> 2) << 1; /* W and U of both levels */
        if (pae) {
            table64[0] = (word)page[0] | P | low;
            dir64[1][0] = (word)table64 | P | high;
        } else {
            table32[0] = (word)page[0] | P | low;
            dir32[VA >> 22] = (word)table32 | P | high;
        }
        reload();
        bool w = low & high & W, u = low & high & U;
        faults(0, false, VA, NO_ERROR);
        faults(1, false, VA, w ? NO_ERROR : PF_P | PF_W);
        faults(0, true, VA, u ? NO_ERROR : PF_P | PF_U);
        faults(1, true, VA, u && w ? NO_ERROR : PF_P | PF_W | PF_U);
        faults(2, true, VA, u ? NO_ERROR : PF_P | PF_U);
        write_cr0(read_cr0() & ~0x10000ul);
        faults(1, false, VA, NO_ERROR);
        faults(1, true, VA, u && w ? NO_ERROR : PF_P | PF_W | PF_U);
        write_cr0(read_cr0() | 0x10000);
    }
    off();
}
CASE(rights_two_levels)
{
    rights(false);
}
CASE(rights_pae)
{
    rights(true);
}

CASE(accessed_dirty_two_levels)
{
    on32();
    faults(0, false, VA, NO_ERROR);
    uint32_t e = table32[0], de = dir32[VA >> 22];
    faults(1, false, VA, NO_ERROR);
    uint32_t f = table32[0];
    off();
    check_eq("after reading", e & (A | D), A);
    check_eq("directory", de & A, A);
    check_eq("after writing", f & (A | D), A | D);
}
CASE(accessed_dirty_4m)
{
    on32();
    dir32[VA >> 22] = 0 | PS | P | W | U;
    reload();
    faults(0, false, VA + (word)page, NO_ERROR);
    uint32_t e = dir32[VA >> 22];
    faults(1, false, VA + (word)page, NO_ERROR);
    uint32_t f = dir32[VA >> 22];
    off();
    check_eq("after reading", e & (A | D), A);
    check_eq("after writing", f & (A | D), A | D);
    check_eq("page", page[0][0], 0xc3);
}
/* Without CR4.PSE the bit says nothing: the entry names a table. */
CASE(pse_off)
{
    on32();
    dir32[VA >> 22] = (word)table32 | PS | P | W | U;
    *(volatile uint8_t *)page[0] = 0x5c;
    /* the identity needs 4 KiB pages for a moment: a table for the first 4 MiB and the others */
    static uint32_t low[2][1024] __attribute__((aligned(4096)));
    for (unsigned i = 0; i < 1024; i++) {
        low[0][i] = i << 12 | P | W | U;
        low[1][i] = (0xfec00000 + (i << 12)) | P | W;
    }
    dir32[0] = (word)low[0] | P | W | U;
    dir32[0xfec00000u >> 22] = (word)low[1] | P | W;
    reload();
    write_cr4(read_cr4() & ~(word)CR4_PSE);
    uint8_t v = *(volatile uint8_t *)VA;
    off();
    check_eq("value", v, 0x5c);
}
CASE_NOT_QEMU(reserved_4m, "Vol. 3A 4.7: RSVD only with P; TCG clears P")
{
    on32();
    dir32[VA >> 22] = 1 << 21 | PS | P | W | U;
    reload();
    faults(0, false, VA, PF_P | PF_RSVD);
    faults(1, true, VA, PF_P | PF_RSVD | PF_W | PF_U);
    off();
}
CASE(not_present_two_levels)
{
    on32();
    table32[0] = 0xfffffffe;
    reload();
    faults(0, false, VA, 0);
    faults(1, true, VA + 0xfff, PF_W | PF_U);
    dir32[VA >> 22] = 0xfffffffe;
    reload();
    faults(1, false, VA, PF_W);
    off();
}
CASE(large_2m)
{
    on_pae();
    dir64[1][0] = 0 | PS | P | W | U;
    reload();
    *(volatile uint8_t *)&page[1][5] = 0x77;
    uint8_t v = *(volatile uint8_t *)(VA + (word)&page[1][5]);
    faults(1, false, VA + (word)&page[1][5], NO_ERROR);
    uint64_t e = dir64[1][0];
    off();
    check_eq("value", v, 0x77);
    check_eq("dirty", e & (A | D), A | D);
}
CASE_NOT_QEMU(pae_nx_and_reserved, "Vol. 3A 4.7: RSVD only with P; TCG clears P")
{
    uint64_t efer = rdmsr(0xc0000080);
    on_pae();
    table64[0] |= 1ull << 63;
    reload();
    faults(0, false, VA, PF_P | PF_RSVD); /* NXE is off */
    wrmsr(0xc0000080, efer | 0x800);
    faults(0, false, VA, NO_ERROR);
    faults(2, false, VA, PF_P | PF_I);
    faults(2, true, VA, PF_P | PF_I | PF_U);
    table64[0] = (word)page[0] | P | W | U | 1ull << 51;
    reload();
    faults(0, false, VA, PF_P | PF_RSVD);
    wrmsr(0xc0000080, efer);
    off();
}
/* The four PDPTEs are read by MOV to CR3, and only then (4.4.1). */
CODE(to_cr3, "", "mov %edi, %cr3", "")
CASE_NOT_QEMU(pdptes_loaded_by_cr3, "Vol. 3A 4.4.1: TCG reads PDPTEs as it walks")
{
    on_pae();
    pdpt64[1] = 0;
    invlpg(VA);
    faults(0, false, VA, NO_ERROR);
    reload();
    faults(0, false, VA, 0);
    off();
}
CASE_NOT_QEMU(pdpte_reserved, "Vol. 3A 4.4.1: #GP by MOV to CR3")
{
    static const uint64_t bad[] = {2, 4, 1 << 5, 1 << 8, 1ull << 51, 1ull << 63};
    on_pae();
    unsigned v[6], ok;
    for (unsigned i = 0; i < 6; i++) {
        pdpt64[2] = (word)dir64[2] | P | bad[i];
        v[i] = run(to_cr3, (word)pdpt64, 0);
        faults(0, false, VA, NO_ERROR);
    }
    pdpt64[2] = bad[0]; /* not present */
    ok = run(to_cr3, (word)pdpt64, 0);
    pdpt64[2] = (word)dir64[2] | P;
    off();
    for (unsigned i = 0; i < 6; i++) {
        check_eq("vector", v[i], GP);
    }
    check_eq("not present", ok, NONE);
}

/* ---- Refusals ---- */

CODE(to_cr0, "", "mov %edi, %cr0", "")
CODE(to_cr4, "", "mov %edi, %cr4", "")
CASE_NOT_QEMU(refuses, NOT_RUN "Vol. 2B MOV CR, Vol. 3A 9.8.5")
{
    uint64_t efer = rdmsr(0xc0000080);
    run(to_cr0, (read_cr0() | CR0_PG) & ~1ul, 0);
    check_trap(GP, 0, to_cr0_at);
    run(to_cr4, read_cr4() | 1ul << 17, 0); /* PCIDE outside of long mode */
    check_trap(GP, 0, to_cr4_at);
    wrmsr(0xc0000080, efer | 0x100);
    run(to_cr0, read_cr0() | CR0_PG, 0); /* LME without PAE */
    wrmsr(0xc0000080, efer);
    check_trap(GP, 0, to_cr0_at);
    on32();
    unsigned v = run(to_cr0, read_cr0() & ~1ul, 0);
    off();
    check_eq("PE cleared with PG", v, GP);
    check_eq("LMA", rdmsr(0xc0000080) & 0x400, 0);
}
