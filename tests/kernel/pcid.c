/*
 * Address spaces that are remembered by PCID (Intel SDM Vol. 3A 4.10.1, 4.10.4.1): data and code at
 * the same address, what INVPCID, INVLPG, MOV to CR3 and CR4 forget of spaces that do not run.
 */
#include "page.h"

enum { SPACES = 12 };
#define NOFLUSH (1ul << 63)
#define HIGH_VA 0xffff900000000000ul

static uint64_t *root[SPACES];

static volatile uint8_t *at(word va)
{
    return (volatile uint8_t *)va;
}

static void invpcid(unsigned long type, uint64_t pcid, uint64_t va)
{
    struct {
        uint64_t pcid, va;
    } d = {pcid, va};
    __asm__ volatile("invpcid %0, %1" : : "m"(d), "r"(type) : "memory");
}

/* mov $n, %eax; ret: at the start of data page n */
static void code_pages(void)
{
    for (unsigned i = 0; i < DATA_PAGES; i++) {
        static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xc3};
        memset(data_page[i], (int)i, 4096);
        memcpy(data_page[i], code, sizeof(code));
        data_page[i][1] = (uint8_t)i;
    }
}

/* Spaces 0 to n-1 with PCIDs from 1 on: data page i % 4 at FREE_VA, nothing else of their own. */
static bool spaces(unsigned n)
{
    if (!cpu_has(1, 2, 17) || !cpu_has(7, 1, 10)) {
        skip("no PCID or INVPCID");
        return false;
    }
    reset_tables();
    code_pages();
    for (unsigned i = 0; i < n; i++) {
        root[i] = new_table();
        root[i][0] = pml4[0];
        *entry_in(root[i], FREE_VA, 1) = data_pa(i % 4) | PTE_ALL;
    }
    set_cr4(CR4_PCIDE, true);
    for (unsigned i = 0; i < n; i++) {
        write_cr3((word)root[i] | (i + 1));
    }
    return true;
}

static void space(unsigned i)
{
    write_cr3((word)root[i] | (i + 1) | NOFLUSH);
}

static void one_space(void)
{
    write_cr3((word)pml4);
    set_cr4(CR4_PCIDE | CR4_PGE, false);
    flush_all();
}

/* Maps data page n at `va` of a space: nothing is forgotten. */
static void remap(unsigned i, word va, unsigned n, uint64_t flags)
{
    *entry_in(root[i], va, 1) = data_pa(n) | flags;
}

/* What the code at `va` says, called at CPL 0 or 3. */
CODE(call_code, "push %rbx; mov %rsi, %rbx", "call *%rdi", "mov %eax, (%rbx); pop %rbx")
static unsigned said(word va, bool user)
{
    static unsigned value;
    value = ~0u;
    if (user) {
        run_user(call_code, va, (word)&value + USER_BASE);
    } else {
        run(call_code, va, (word)&value);
    }
    return value;
}

CASE(more_than_are_kept)
{
    if (!spaces(SPACES)) {
        return;
    }
    for (unsigned i = 0; i < 20 * SPACES; i++) {
        unsigned n = i * 5 % SPACES;
        space(n);
        check_eq("own page", *at(FREE_VA + 9), n % 4);
        *at(FREE_VA + 4000 + n) = (uint8_t)i;
    }
    one_space();
}

static void code_by_pcid(bool user)
{
    if (!spaces(3)) {
        return;
    }
    for (unsigned i = 0; i < 60; i++) {
        space(i % 3);
        check_eq("own code", said(FREE_VA, user), i % 3);
    }
    one_space();
}
CASE(code_kernel)
{
    code_by_pcid(false);
}
CASE(code_user)
{
    code_by_pcid(true);
}

/* A direct jump from a page that spaces share to one that they do not. */
static void jump_by_pcid(bool user)
{
    static const uint8_t jump[] = {0xe9, 0xfb, 0x0f, 0, 0}; /* to the next page */
    if (!spaces(3)) {
        return;
    }
    memcpy(data_page[7], jump, sizeof(jump));
    for (unsigned i = 0; i < 3; i++) {
        remap(i, FREE_VA + 4096, 7, PTE_ALL);
        remap(i, FREE_VA + 8192, i, PTE_ALL);
    }
    for (unsigned i = 0; i < 60; i++) {
        space(i / 2 % 3);
        check_eq("own code", said(FREE_VA + 4096, user), i / 2 % 3);
    }
    one_space();
}
CASE(jump_kernel)
{
    jump_by_pcid(false);
}
CASE(jump_user)
{
    jump_by_pcid(true);
}

/* A page of a space that does not run changes; `how` 0 to 3: INVPCID, 4: CR3 without NOFLUSH,
 * 5: INVLPG, 6: PGE, 7: PCIDE; then the space comes back. */
static void forget(unsigned how, unsigned i, word va)
{
    switch (how) {
    case 4: write_cr3((word)root[i] | (i + 1)); break;
    case 5: invlpg(va); break;
    case 6: flush_all(); break;
    case 7:
        write_cr3((word)pml4);
        set_cr4(CR4_PCIDE, false);
        set_cr4(CR4_PCIDE, true);
        break;
    default: invpcid(how, i + 1, va);
    }
}

static void changed_elsewhere(unsigned how)
{
    if (!spaces(2)) {
        return;
    }
    for (unsigned round = 0; round < 20; round++) {
        bool user = round & 1;
        unsigned n = 4 + round % 3;
        space(0);
        check_eq("before", said(FREE_VA, user), *at(FREE_VA + 1));
        space(1);
        check_eq("other", said(FREE_VA, user), 1);
        remap(0, FREE_VA, n, PTE_ALL);
        forget(how, 0, FREE_VA);
        if (how != 4 && how != 7) {
            check_eq("other still", said(FREE_VA, user), 1);
            check_eq("other's data", *at(FREE_VA + 9), 1);
        }
        space(0);
        check_eq("code", said(FREE_VA, user), n);
        check_eq("data", *at(FREE_VA + 9), n);
    }
    one_space();
}
CASE(invpcid_address)
{
    changed_elsewhere(0);
}
CASE(invpcid_context)
{
    changed_elsewhere(1);
}
CASE(invpcid_all_global)
{
    changed_elsewhere(2);
}
CASE(invpcid_all)
{
    changed_elsewhere(3);
}
CASE(cr3_forgets)
{
    changed_elsewhere(4);
}
CASE(pge_forgets)
{
    changed_elsewhere(6);
}
CASE(pcide_forgets)
{
    changed_elsewhere(7);
}

/* INVPCID for the space that runs. */
CASE(invpcid_here)
{
    if (!spaces(2)) {
        return;
    }
    space(0);
    for (unsigned i = 0; i < 32; i++) {
        unsigned n = i * 3 % 8;
        check("before", said(FREE_VA, i & 1) <= 8);
        remap(0, FREE_VA, n, PTE_ALL);
        invpcid(i / 2 % 4, 1, FREE_VA);
        check_eq("code", said(FREE_VA, i & 1), n);
        check_eq("data", *at(FREE_VA + 9), n);
    }
    one_space();
}

/* INVLPG is for the space that runs: another one may have the old page or the new. */
CASE(invlpg_here_only)
{
    if (!spaces(2)) {
        return;
    }
    space(0);
    check_eq("first", said(FREE_VA, true), 0);
    space(1);
    check_eq("second", said(FREE_VA, true), 1);
    remap(0, FREE_VA, 5, PTE_ALL);
    remap(1, FREE_VA, 6, PTE_ALL);
    invlpg(FREE_VA);
    check_eq("second, new", said(FREE_VA, true), 6);
    space(0);
    unsigned n = said(FREE_VA, true);
    check("first, old or new", n == 0 || n == 5);
    invlpg(FREE_VA);
    check_eq("first, new", said(FREE_VA, true), 5);
    one_space();
}

/* The same number with other tables: without NOFLUSH nothing old is used. */
CASE(number_used_again)
{
    if (!spaces(2)) {
        return;
    }
    for (unsigned i = 0; i < 20; i++) {
        write_cr3((word)root[i & 1] | 7);
        check_eq("code", said(FREE_VA, true), i & 1);
        check_eq("data", *at(FREE_VA + 9), i & 1);
        space(0);
        check_eq("between", *at(FREE_VA + 9), 0);
    }
    one_space();
}

/* A global page in all spaces, in tables they share. */
static void global_page(word va, unsigned n)
{
    *entry_in(root[0], va, 1) = data_pa(n) | PTE_ALL | PTE_G;
    for (unsigned i = 1; i < 3; i++) {
        root[i][va >> 39 & 511] = root[0][va >> 39 & 511];
    }
}

static void global_change(word va, unsigned how)
{
    if (!spaces(3)) {
        return;
    }
    set_cr4(CR4_PGE, true);
    for (unsigned round = 0; round < 12; round++) {
        bool user = round & 1;
        unsigned n = 4 + round % 4;
        global_page(va, n - 4);
        for (unsigned i = 3; i-- > 0;) {
            space(i);
            forget(5, i, va);
            check_eq("before", said(va, user), n - 4);
        }
        space(1);
        check_eq("across", *at(va + 9), n - 4);
        global_page(va, n);
        forget(how, 1, va);
        for (unsigned i = 0; i < 3; i++) {
            space(i);
            check_eq("code", said(va, user), n);
            check_eq("data", *at(va + 9), n);
        }
    }
    one_space();
}
#define OTHER_VA (FREE_VA + (1ul << 39))
CASE(global_invlpg)
{
    global_change(HIGH_VA, 5);
}
CASE(global_low_invlpg)
{
    global_change(OTHER_VA, 5);
}
CASE(global_invpcid)
{
    global_change(HIGH_VA, 2);
}
CASE(global_low_invpcid)
{
    global_change(OTHER_VA, 2);
}
CASE(global_pge)
{
    global_change(HIGH_VA, 6);
}

/* An address that is global in one space and not in another. */
CASE(global_in_one)
{
    if (!spaces(2)) {
        return;
    }
    set_cr4(CR4_PGE, true);
    for (unsigned i = 0; i < 8; i++) {
        remap(0, HIGH_VA, i, PTE_ALL | (i & 1 ? PTE_G : 0));
        remap(1, HIGH_VA, 7 - i, PTE_ALL);
        flush_all();
        space(i >> 1 & 1);
        check_eq("data", *at(HIGH_VA + 9), i >> 1 & 1 ? 7 - i : i);
        invlpg(HIGH_VA);
        space(~i >> 1 & 1);
        check_eq("other's data", *at(HIGH_VA + 9), i >> 1 & 1 ? i : 7 - i);
    }
    one_space();
}

/* The dirty bit is set again when the page was forgotten after it was cleared. */
CASE(dirty_again)
{
    if (!spaces(2)) {
        return;
    }
    for (unsigned how = 0; how < 4; how++) {
        space(0);
        *at(FREE_VA + 9) = 1;
        check("dirty", *entry_in(root[0], FREE_VA, 1) & PTE_D);
        space(1);
        *entry_in(root[0], FREE_VA, 1) &= ~(uint64_t)(PTE_D | PTE_A);
        invpcid(how, 1, FREE_VA);
        space(0);
        check("not accessed", !(*entry_in(root[0], FREE_VA, 1) & PTE_A) || how > 1);
        *at(FREE_VA + 9) = 2;
        check("dirty again", *entry_in(root[0], FREE_VA, 1) & PTE_D);
    }
    one_space();
}
