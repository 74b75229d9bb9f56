/*
 * Translations that are remembered, and their invalidation (Intel SDM Vol. 3A 4.10); accesses over
 * two pages; what CR0, CR3, CR4 and EFER refuse (Vol. 2B MOV to control registers, Vol. 3A 2.2.1,
 * 2.5).
 */
#include "page.h"

static volatile uint8_t *at(word va)
{
    return (volatile uint8_t *)va;
}

/* Pages 0 to 3 hold their own number. */
static void numbered_pages(void)
{
    reset_tables();
    for (unsigned i = 0; i < DATA_PAGES; i++) {
        memset(data_page[i], (int)i, 4096);
    }
}

/* ---- INVLPG, CR3, CR4 ---- */

CASE(invlpg_page)
{
    numbered_pages();
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    for (unsigned i = 1; i < 200; i++) {
        *entry(FREE_VA, 1) = data_pa(i % 4) | PTE_ALL;
        invlpg(FREE_VA + i * 16);
        check_eq("read", *at(FREE_VA + 5), i % 4);
    }
}

CASE(invlpg_write_side)
{
    numbered_pages();
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    *at(FREE_VA) = 100;
    *entry(FREE_VA, 1) = data_pa(1) | PTE_ALL;
    invlpg(FREE_VA);
    *at(FREE_VA) = 101;
    check_eq("first page", data_page[0][0], 100);
    check_eq("second page", data_page[1][0], 101);
}

CASE(invlpg_rights_less)
{
    numbered_pages();
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    *at(FREE_VA) = 9;
    map(FREE_VA, data_pa(0), 1, PTE_P);
    check_eq("write", run_access(WRITE, FREE_VA, false, false), PF);
    check_eq("user", run_access(READ, FREE_VA, true, false), PF);
    map(FREE_VA, data_pa(0), 1, 0);
    check_eq("read", run_access(READ, FREE_VA, false, false), PF);
}

/* More rights: a stale entry may give one fault, but not a second one (4.10.4.3). */
CASE(rights_more)
{
    numbered_pages();
    map(FREE_VA, data_pa(0), 1, PTE_P);
    check_eq("value", *at(FREE_VA), 0);
    *entry(FREE_VA, 1) = data_pa(0) | PTE_ALL;
    run_access(WRITE, FREE_VA, false, false);
    check_eq("again", run_access(WRITE, FREE_VA, false, false), NONE);
    run_access(READ, FREE_VA, true, false);
    check_eq("user", run_access(READ, FREE_VA, true, false), NONE);
}

CASE(invlpg_through_upper_level)
{
    numbered_pages();
    map(FREE_VA, data_pa(1), 1, PTE_ALL);
    check_eq("before", *at(FREE_VA), 1);
    uint64_t *other = new_table();
    other[0] = data_pa(2) | PTE_ALL;
    *entry(FREE_VA, 2) = (word)other | PTE_ALL;
    invlpg(FREE_VA); /* also forgets the page directory's entry */
    check_eq("after", *at(FREE_VA), 2);
}

/* One INVLPG anywhere in a large page is for all of it. */
CASE(invlpg_large)
{
    numbered_pages();
    word big = data_pa(0) & ~0x1ffffful, off = data_pa(0) & 0x1fffff;
    map(FREE_VA, big, 2, PTE_ALL);
    for (unsigned i = 0; i < 4; i++) {
        if (off + i * 4096 < 0x200000) {
            check_eq("large", *at(FREE_VA + off + i * 4096), i);
        }
    }
    uint64_t *small = new_table();
    for (unsigned i = 0; i < 512; i++) {
        small[i] = data_pa(7) | PTE_ALL;
    }
    *entry(FREE_VA, 2) = (word)small | PTE_ALL;
    invlpg(FREE_VA + (off ^ 0x100000));
    for (unsigned i = 0; i < 4; i++) {
        if (off + i * 4096 < 0x200000) {
            check_eq("small", *at(FREE_VA + off + i * 4096), 7);
        }
    }
}

CASE(cr3_write)
{
    numbered_pages();
    for (unsigned i = 0; i < 64; i++) {
        map(FREE_VA + i * 4096, data_pa(0), 1, PTE_ALL);
        check_eq("before", *at(FREE_VA + i * 4096), 0);
    }
    for (unsigned i = 0; i < 64; i++) {
        *entry(FREE_VA + i * 4096, 1) = data_pa(3) | PTE_ALL;
    }
    write_cr3(read_cr3());
    for (unsigned i = 0; i < 64; i++) {
        check_eq("after", *at(FREE_VA + i * 4096), 3);
    }
}

static void global_change(void)
{
    numbered_pages();
    set_cr4(CR4_PGE, true);
    map(FREE_VA, data_pa(0), 1, PTE_ALL | PTE_G);
    check_eq("before", *at(FREE_VA), 0);
    *entry(FREE_VA, 1) = data_pa(1) | PTE_ALL | PTE_G;
    write_cr3(read_cr3());
    check("old or new", *at(FREE_VA) <= 1);
}
CASE(global_invlpg)
{
    global_change();
    invlpg(FREE_VA);
    check_eq("after", *at(FREE_VA), 1);
    set_cr4(CR4_PGE, false);
}
CASE(global_pge)
{
    global_change();
    set_cr4(CR4_PGE, false);
    check_eq("PGE off", *at(FREE_VA), 1);
    *entry(FREE_VA, 1) = data_pa(2) | PTE_ALL | PTE_G;
    set_cr4(CR4_PGE, true);
    check_eq("PGE on", *at(FREE_VA), 2);
    set_cr4(CR4_PGE, false);
}
/* G in an entry that maps no page, or with PGE clear, says nothing. */
CASE(global_means_nothing)
{
    numbered_pages();
    set_cr4(CR4_PGE, true);
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    *entry(FREE_VA, 2) |= PTE_G;
    *entry(FREE_VA, 3) |= PTE_G;
    flush_all();
    check_eq("before", *at(FREE_VA), 0);
    *entry(FREE_VA, 1) = data_pa(1) | PTE_ALL;
    write_cr3(read_cr3());
    check_eq("upper levels", *at(FREE_VA), 1);
    set_cr4(CR4_PGE, false);
    *entry(FREE_VA, 1) = data_pa(2) | PTE_ALL | PTE_G;
    invlpg(FREE_VA);
    check_eq("new", *at(FREE_VA), 2);
    *entry(FREE_VA, 1) = data_pa(3) | PTE_ALL | PTE_G;
    write_cr3(read_cr3());
    check_eq("PGE clear", *at(FREE_VA), 3);
}

/* INVLPG of addresses with nothing, or not canonical, does nothing. */
CODE(invlpg_code, "", "invlpg (%rdi)", "")
CASE(invlpg_never_faults)
{
    check_eq("nothing mapped", run(invlpg_code, TEST_VA, 0), NONE);
    check_eq("not canonical", run(invlpg_code, 0x800000000000, 0), NONE);
}

CASE(wp_change_is_seen)
{
    numbered_pages();
    map(FREE_VA, data_pa(0), 1, PTE_P | PTE_U);
    set_cr0(CR0_WP, false);
    unsigned v = run_access(WRITE, FREE_VA, false, false);
    set_cr0(CR0_WP, true);
    check_eq("WP clear", v, NONE);
    check_eq("WP set", run_access(WRITE, FREE_VA, false, false), PF);
}

/* ---- PCID and INVPCID ---- */

static void invpcid(unsigned long type, uint64_t pcid, uint64_t va)
{
    struct {
        uint64_t pcid, va;
    } d = {pcid, va};
    __asm__ volatile("invpcid %0, %1" : : "m"(d), "r"(type) : "memory");
}
#define NOFLUSH (1ul << 63)

static uint64_t *root[2];
static bool two_spaces(void)
{
    if (!cpu_has(1, 2, 17) || !cpu_has(7, 1, 10)) {
        skip("no PCID or INVPCID");
        return false;
    }
    numbered_pages();
    for (unsigned i = 0; i < 2; i++) {
        root[i] = new_table();
        root[i][0] = pml4[0];
        *entry_in(root[i], FREE_VA, 1) = data_pa(i) | PTE_ALL;
    }
    set_cr4(CR4_PCIDE, true);
    return true;
}
static void space(unsigned i, word flags)
{
    write_cr3((word)root[i] | (i + 1) | flags);
}
static void one_space(void)
{
    write_cr3((word)pml4);
    set_cr4(CR4_PCIDE, false);
    flush_all();
}

CASE(pcid_switch)
{
    if (!two_spaces()) {
        return;
    }
    space(0, 0);
    space(1, 0);
    for (unsigned i = 0; i < 100; i++) {
        space(i & 1, i & 2 ? NOFLUSH : 0);
        check_eq("own page", *at(FREE_VA), i & 1);
        check_eq("NOFLUSH is not kept", read_cr3() >> 63, 0);
    }
    one_space();
}

/* A change under a PCID that is not current, then INVPCID or CR3 without NOFLUSH. */
static void pcid_change(unsigned how)
{
    if (!two_spaces()) {
        return;
    }
    space(0, 0);
    check_eq("first", *at(FREE_VA), 0);
    space(1, 0);
    check_eq("second", *at(FREE_VA), 1);
    *entry_in(root[0], FREE_VA, 1) = data_pa(5) | PTE_ALL;
    if (how < 4) {
        invpcid(how, 1, FREE_VA);
    }
    check_eq("second still", *at(FREE_VA), 1);
    space(0, how < 4 ? NOFLUSH : 0);
    check_eq("changed", *at(FREE_VA), 5);
    one_space();
}
CASE(invpcid_address)
{
    pcid_change(0);
}
CASE(invpcid_context)
{
    pcid_change(1);
}
CASE(invpcid_all_global)
{
    pcid_change(2);
}
CASE(invpcid_all)
{
    pcid_change(3);
}
CASE(cr3_flushes_its_pcid)
{
    pcid_change(4);
}
CASE(invpcid_current)
{
    if (!two_spaces()) {
        return;
    }
    space(0, 0);
    for (unsigned how = 0; how < 4; how++) {
        *entry_in(root[0], FREE_VA, 1) = data_pa(how) | PTE_ALL;
        invpcid(how, 1, FREE_VA);
        check_eq("seen", *at(FREE_VA), how);
    }
    *entry_in(root[0], FREE_VA, 1) = data_pa(6) | PTE_ALL;
    invlpg(FREE_VA);
    check_eq("INVLPG", *at(FREE_VA), 6);
    one_space();
}
/* The same tables under another PCID with NOFLUSH, after a change under the first. */
CASE(pcid_noflush_same_tables)
{
    if (!two_spaces()) {
        return;
    }
    write_cr3((word)root[0] | 3);
    check_eq("PCID 3", *at(FREE_VA), 0);
    write_cr3((word)root[0] | 4);
    *entry_in(root[0], FREE_VA, 1) = data_pa(2) | PTE_ALL;
    invlpg(FREE_VA);
    check_eq("PCID 4", *at(FREE_VA), 2);
    write_cr3((word)root[0] | 3 | NOFLUSH);
    uint8_t v = *at(FREE_VA);
    check("PCID 3, old or new", v == 0 || v == 2);
    invpcid(0, 3, FREE_VA);
    check_eq("PCID 3, new", *at(FREE_VA), 2);
    one_space();
}

CODE(invpcid_code, "", "invpcid (%rdi), %rsi", "")
static void invpcid_faults(uint64_t type, uint64_t pcid, uint64_t va, bool faults)
{
    uint64_t d[2] = {pcid, va};
    unsigned v = run(invpcid_code, (word)d, type);
    check_eq("vector", v, faults ? GP : NONE);
}
CASE(invpcid_reserved)
{
    if (!cpu_has(7, 1, 10)) {
        skip("no INVPCID");
        return;
    }
    invpcid_faults(4, 0, 0, true);
    invpcid_faults(~0ull, 0, 0, true);
    invpcid_faults(0, 0x1000, 0, true);
    invpcid_faults(1, 0x1000, 0, true);
    invpcid_faults(0, 0, 0x800000000000, true);
    invpcid_faults(1, 0, 0x800000000000, false);
    invpcid_faults(0, 1, 0, true); /* PCIDE is clear */
    invpcid_faults(1, 1, 0, true);
    invpcid_faults(3, 0, 0, false);
    check_eq("memory", run(invpcid_code, TEST_VA, 0), PF);
    check_eq("CPL 3", run_user(invpcid_code, 0, 0), GP);
}

/* ---- Accesses over two pages ---- */

/* Pushes that fault need another stack for the handler. */
static void set_ist_for_pf(bool on)
{
    static uint8_t stack[4096] __attribute__((aligned(16)));
    *(uint64_t *)(void *)(tss + 0x24) = (word)stack + sizeof(stack);
    set_gate(PF, entries + 16 * PF, SEL_CODE, GATE_INT, on);
}

#define EDGE (FREE_VA + 4096 - 4)
CODE(cross_read, "", "mov (%rdi), %rax", "")
CODE(cross_write, "mov $-1, %rax", "mov %rax, (%rdi)", "")
CODE(cross_lock, "mov $-1, %rax", "lock xadd %rax, (%rdi)", "")
CODE(cross_rmw, "", "notq (%rdi)", "")
CODE(cross_push, "mov %rsp, %rbx; lea 8(%rdi), %rsp", "push $-1", "mov %rbx, %rsp")
CODE(cross_sse, "pcmpeqd %xmm0, %xmm0", "movups %xmm0, (%rdi)", "")
CODE(cross_cx8, "mov $0x55555555, %eax; mov %eax, %edx", "lock cmpxchg8b (%rdi)", "")
CODE(cross_movs, "lea -64(%rdi), %rsi", "movsq", "")
static const struct {
    const char *code, *at;
    bool write;
} cross[] = {{cross_read, cross_read_at, false}, {cross_write, cross_write_at, true},
             {cross_lock, cross_lock_at, true},  {cross_rmw, cross_rmw_at, true},
             {cross_push, cross_push_at, true},  {cross_sse, cross_sse_at, true},
             {cross_cx8, cross_cx8_at, true},    {cross_movs, cross_movs_at, true}};

static void fill_edge(void)
{
    memset(data_page[0], 0x55, 4096);
    memset(data_page[1], 0x55, 4096);
}
static void check_edge(void)
{
    for (unsigned i = 4080; i < 4096; i++) {
        check_eq("first page", data_page[0][i], 0x55);
    }
    for (unsigned i = 0; i < 16; i++) {
        check_eq("second page", data_page[1][i], 0x55);
    }
}
#define RMW_WRITES "Vol. 3A 4.7: a read-modify-write faults as a write"
static void cross_second(uint64_t second, word error)
{
    numbered_pages();
    set_ist_for_pf(true);
    for (unsigned i = 0; i < sizeof(cross) / sizeof(cross[0]); i++) {
        fill_edge();
        map(FREE_VA, data_pa(0), 1, PTE_ALL);
        map(FREE_VA + 4096, data_pa(1), 1, second);
        if (!cross[i].write && (second & PTE_P)) {
            continue;
        }
        run(cross[i].code, EDGE, 0);
        check_trap(PF, error | (cross[i].write ? PF_W : 0), cross[i].at);
        check_eq("cr2", traps[0].cr2, FREE_VA + 4096);
        check_edge();
    }
    set_ist_for_pf(false);
}
CASE_NOT_QEMU(cross_second_missing, RMW_WRITES)
{
    cross_second(0, 0);
}
CASE(cross_second_read_only)
{
    cross_second(PTE_P, PF_P);
}
CASE_NOT_QEMU(cross_first_missing, RMW_WRITES)
{
    numbered_pages();
    set_ist_for_pf(true);
    for (unsigned i = 0; i < sizeof(cross) / sizeof(cross[0]); i++) {
        fill_edge();
        map(FREE_VA, 0, 1, 0);
        map(FREE_VA + 4096, data_pa(1), 1, PTE_ALL);
        if (cross[i].code == cross_movs) {
            continue;
        }
        run(cross[i].code, EDGE, 0);
        check_trap(PF, cross[i].write ? PF_W : 0, cross[i].at);
        check_eq("cr2", traps[0].cr2, EDGE);
        check_edge();
    }
    set_ist_for_pf(false);
}
/* Both there, in pages that do not adjoin in memory. */
CASE(cross_works)
{
    numbered_pages();
    map(FREE_VA, data_pa(2), 1, PTE_ALL);
    map(FREE_VA + 4096, data_pa(0), 1, PTE_ALL);
    volatile uint64_t *p = (volatile uint64_t *)EDGE;
    *p = 0x1122334455667788;
    check_eq("low half", *(uint32_t *)(void *)&data_page[2][4092], 0x55667788);
    check_eq("high half", *(uint32_t *)(void *)&data_page[0][0], 0x11223344);
    uint64_t one = 1;
    __asm__ volatile("lock xadd %0, %1" : "+r"(one), "+m"(*p));
    check_eq("old", one, 0x1122334455667788);
    check_eq("sum", *p, 0x1122334455667789);
    __asm__ volatile("lock btsq $63, %0" : "+m"(*p));
    check_eq("bit", *p, 0x9122334455667789);
    check_eq("in memory", *(uint32_t *)(void *)&data_page[0][0], 0x91223344);
}
CODE(rep_movs, "mov $4096, %ecx", "rep movsb", "")
CODE(rep_stos, "mov $4096, %ecx; mov $0x77, %al", "rep stosb", "")
CASE(cross_rep_movs)
{
    numbered_pages();
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    run(rep_movs, FREE_VA + 2048, data_pa(3));
    check_trap(PF, PF_W, rep_movs_at);
    check_eq("cr2", traps[0].cr2, FREE_VA + 4096);
    check_eq("rcx", last()->cx, 2048);
    check_eq("rdi", last()->di, FREE_VA + 4096);
    check_eq("rsi", last()->si, data_pa(3) + 2048);
    check_eq("done", data_page[0][4095], 3);
    run(rep_stos, FREE_VA + 4000, 0);
    check_eq("stos rcx", last()->cx, 4000);
    check_eq("stos done", data_page[0][4095], 0x77);
}

/* An instruction whose second half is missing: CR2 is the second page, RIP its first byte. */
CASE(fetch_second_missing)
{
    static const uint8_t insn[] = {0xb8, 0x78, 0x56, 0x34, 0x12, 0xc3}; /* mov $..., %eax; ret */
    for (unsigned in_first = 1; in_first < 5; in_first++) {
        numbered_pages();
        for (unsigned i = 0; i < sizeof(insn); i++) {
            word off = 4096 - in_first + i;
            data_page[off / 4096][off % 4096] = insn[i];
        }
        map(FREE_VA, data_pa(0), 1, PTE_ALL);
        map(FREE_VA + 4096, 0, 1, 0);
        word ip = FREE_VA + 4096 - in_first;
        for (unsigned user = 0; user < 2; user++) {
            run_access(EXEC, ip, user, false);
            check_trap(PF, PF_I | (user ? PF_U : 0), (void *)ip);
            check_eq("cr2", traps[0].cr2, FREE_VA + 4096);
        }
        map(FREE_VA + 4096, data_pa(1), 1, PTE_ALL | PTE_NX);
        run_access(EXEC, ip, false, false);
        check_trap(PF, PF_I | PF_P, (void *)ip);
        check_eq("cr2, NX", traps[0].cr2, FREE_VA + 4096);
        map(FREE_VA + 4096, data_pa(1), 1, PTE_ALL);
        check_eq("runs", run_access(EXEC, ip, false, false), NONE);
    }
}
/* Code that runs off its page: the fault is at the next instruction, after all before it. */
CASE(fetch_next_page)
{
    numbered_pages();
    memset(data_page[0], 0x90, 4096);
    data_page[0][4093] = 0x49; /* inc %r8 */
    data_page[0][4094] = 0xff;
    data_page[0][4095] = 0xc0;
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    run_access(EXEC, FREE_VA + 4093, false, false);
    check_trap(PF, PF_I, (void *)(FREE_VA + 4096));
    check_eq("cr2", traps[0].cr2, FREE_VA + 4096);
}

/* ---- What the control registers refuse ---- */

#define REG_CODE(name, reg)                                                                        \
    CODE(to_##name, "", "mov %rdi, %" reg, "")                                                     \
    static void refuses_##name(word v)                                                             \
    {                                                                                              \
        word keep = read_##name();                                                                 \
        unsigned got = run(to_##name, v, 0);                                                       \
        word now = read_##name();                                                                  \
        if (got == NONE) {                                                                         \
            write_##name(keep);                                                                    \
        }                                                                                          \
        check_eq("value", got == NONE ? v : 0, 0);                                                 \
        check_eq("vector", got, GP);                                                               \
        check_eq("error", last()->error, 0);                                                       \
        check_eq("unchanged", now, keep);                                                          \
    }
REG_CODE(cr0, "cr0")
REG_CODE(cr3, "cr3")
REG_CODE(cr4, "cr4")
CASE_NOT_QEMU(cr0_refuses, NOT_RUN "Vol. 2B MOV CR: TCG takes any CR0")
{
    word v = read_cr0();
    refuses_cr0(v & ~1ul);          /* PG without PE */
    refuses_cr0(v & ~0x80000000ul); /* paging off in 64-bit code */
    refuses_cr0(v | 1ul << 29);     /* NW without CD */
    refuses_cr0(v | 1ul << 32);
    refuses_cr0(v | 1ul << 63);
}
CASE_NOT_QEMU(cr4_refuses, NOT_RUN "Vol. 2B MOV CR: TCG takes any CR4")
{
    word v = read_cr4();
    refuses_cr4(v & ~0x20ul); /* PAE off */
    refuses_cr4(v | 1ul << 32);
    refuses_cr4(v | 1ul << 63);
    refuses_cr4(v | 1ul << 15);
    refuses_cr4(v | 1ul << 31);
}
CASE(cr4_la57_in_long_mode)
{
    refuses_cr4(read_cr4() | 1ul << 12);
}
CASE(cr4_pcide)
{
    if (!cpu_has(1, 2, 17)) {
        skip("no PCID");
        return;
    }
    write_cr3(read_cr3() | 8);
    refuses_cr4(read_cr4() | CR4_PCIDE); /* CR3 bits 11..0 are not zero */
    write_cr3((word)pml4);
}
CASE_NOT_QEMU(cr3_refuses, NOT_RUN "Vol. 2B MOV CR: reserved bits of CR3")
{
    uint32_t r[4];
    cpuid(0x80000008, 0, r);
    for (unsigned bit = r[0] & 0xff; bit < 64; bit++) {
        refuses_cr3(read_cr3() | 1ul << bit);
    }
}
CODE(wrmsr_code, "mov %edi, %ecx; mov %rsi, %rdx; mov %esi, %eax; shr $32, %rdx", "wrmsr", "")
static void refuses_msr(uint32_t msr, uint64_t v)
{
    uint64_t keep = rdmsr(msr);
    unsigned got = run(wrmsr_code, msr, v);
    if (got == NONE) {
        wrmsr(msr, keep);
    }
    check_eq("value", got == NONE ? v : 0, 0);
    check_eq("unchanged", rdmsr(msr), keep);
}
CASE_NOT_QEMU(efer_refuses, NOT_RUN "Vol. 3A 2.2.1: reserved bits and LME")
{
    uint64_t v = rdmsr(0xc0000080);
    refuses_msr(0xc0000080, v & ~0x100ull); /* LME with paging on */
    refuses_msr(0xc0000080, v | 2);
    refuses_msr(0xc0000080, v | 1ull << 9);
    refuses_msr(0xc0000080, v | 1ull << 32);
    refuses_msr(0xc0000080, v | 1ull << 63);
    wrmsr(0xc0000080, v & ~0x400ull); /* LMA is not ours to change */
    check_eq("LMA", rdmsr(0xc0000080), v);
}
