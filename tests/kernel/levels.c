/*
 * Five-level paging (Intel SDM Vol. 3A 4.5, Vol. 1 3.3.7.1): addresses of 57 bits, the fifth table,
 * how it is switched on, what is canonical with and without it.
 */
#include "page.h"

enum { CR4_LA57 = 1 << 12 };
#define HIGH 0x0001000000000000ul /* the second entry of the top table */
#define TOP 0xff00000000000000ul  /* the first of its upper half */
#define BEYOND 0x0100000000000000ul

static uint64_t top[512] __attribute__((aligned(4096)));

/* set_levels(CR3, CR4): without paging on the way; upper halves of registers may be lost. */
void set_levels(word cr3, word cr4);
__asm__(".pushsection .text\n"
        "set_levels: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "ljmp *to_code32\n"
        ".code32\n"
        "1: mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0\n"
        "mov %esi, %cr4; mov %edi, %cr3\n"
        "or $0x80000000, %eax; mov %eax, %cr0; ljmp $8, $2f\n"
        ".code64\n"
        "2: mov %esp, %esp; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"
        ".popsection\n"
        ".pushsection .data\n"
        "to_code32: .long 1b; .word 0x40\n"
        ".popsection");

static bool five(void)
{
    if (!cpu_has(7, 2, 16)) {
        skip("no LA57");
        return false;
    }
    reset_tables();
    memset(top, 0, sizeof(top));
    memset(data_page, 0xc3, sizeof(data_page));
    top[0] = (word)pml4 | PTE_ALL;
    top[HIGH >> 48] = (word)new_table() | PTE_ALL;
    top[TOP >> 48 & 511] = (word)new_table() | PTE_ALL;
    set_levels((word)top, read_cr4() | CR4_LA57);
    return true;
}

static void four(void)
{
    set_levels((word)pml4, read_cr4() & ~(word)CR4_LA57);
}

static void map5(word va, uint64_t pa)
{
    uint64_t *table = (uint64_t *)(word)(top[va >> 48 & 511] & PTE_ADDR);
    *entry_in(table, va, 1) = pa | PTE_ALL;
    invlpg(va);
}

static void all_accesses(word va)
{
    for (unsigned i = 0; i < 24; i++) {
        enum access a = (enum access)(i % 3);
        check_eq("access", run_access(a, va + i, i / 3 & 1, false), NONE);
    }
}

CASE(on_and_off)
{
    if (!five()) {
        return;
    }
    check("on", read_cr4() & CR4_LA57);
    check_eq("table", read_cr3(), (word)top);
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    all_accesses(FREE_VA);
    four();
    check("off", !(read_cr4() & CR4_LA57));
    all_accesses(FREE_VA);
}

CASE(high_addresses)
{
    if (!five()) {
        return;
    }
    map5(HIGH + 0x5000, data_pa(1));
    map5(TOP + 0x7fff000, data_pa(2));
    map5(HIGH + 0x7fffff000000, data_pa(3));
    all_accesses(HIGH + 0x5000);
    all_accesses(TOP + 0x7fff000);
    all_accesses(HIGH + 0x7fffff000000);
    *(volatile uint8_t *)(HIGH + 0x5800) = 1;
    *(volatile uint8_t *)(TOP + 0x7fff800) = 2;
    check_eq("low half", data_page[1][0x800], 1);
    check_eq("high half", data_page[2][0x800], 2);
    check("accessed", top[HIGH >> 48] & PTE_A);
    check("not dirty", !(top[HIGH >> 48] & PTE_D));
    four();
}

CASE(not_there)
{
    if (!five()) {
        return;
    }
    map5(HIGH, data_pa(1));
    check_eq("other entry", run_access(READ, 2 * HIGH, false, false), PF);
    check_eq("error", last()->error, 0);
    check_eq("cr2", traps[0].cr2, 2 * HIGH);
    check_eq("same table", run_access(WRITE, HIGH + 0x1000, true, false), PF);
    check_eq("error", last()->error, PF_W | PF_U);
    top[HIGH >> 48] &= ~(uint64_t)PTE_U;
    invlpg(HIGH);
    check_eq("right of the top", run_access(READ, HIGH, true, false), PF);
    check_eq("error", last()->error, PF_P | PF_U);
    check_eq("for CPL 0", run_access(READ, HIGH, false, false), NONE);
    four();
}

CASE_NOT_QEMU(reserved, "Vol. 3A 4.7: P is set beside RSVD")
{
    if (!five()) {
        return;
    }
    map5(HIGH, data_pa(1));
    top[HIGH >> 48] |= PTE_PS;
    invlpg(HIGH);
    check_eq("reserved", run_access(READ, HIGH, false, false), PF);
    check_eq("error", last()->error, PF_P | PF_RSVD);
    four();
}

CODE(jump_code, "", "jmp *%rdi", "")
CASE(canonical)
{
    static const word bad[] = {BEYOND, 0x8000000000000000ul, TOP - 1, TOP - 0x1000};
    if (!five()) {
        return;
    }
    for (unsigned i = 0; i < 4; i++) {
        check_eq("read", run_access(READ, bad[i], false, false), GP);
        check_eq("error", last()->error, 0);
        check_eq("jump", run(jump_code, bad[i], 0), GP);
    }
    check_eq("last below", run_access(READ, BEYOND - 1, false, false), PF);
    check_eq("first above", run_access(READ, TOP + 0x1000, false, false), PF);
    four();
    check_eq("four levels", run_access(READ, HIGH, false, false), GP);
    check_eq("four levels", run_access(READ, TOP, false, false), GP);
}

/* Within long mode the number of levels stays. */
CODE(write_cr4_code, "", "mov %rdi, %cr4", "")
CASE(cr4_in_long_mode)
{
    if (!cpu_has(7, 2, 16)) {
        skip("no LA57");
        return;
    }
    check_eq("set", run(write_cr4_code, read_cr4() | CR4_LA57, 0), GP);
    check_eq("same", run(write_cr4_code, read_cr4(), 0), NONE);
    if (five()) {
        unsigned clear = run(write_cr4_code, read_cr4() & ~(word)CR4_LA57, 0);
        unsigned same = run(write_cr4_code, read_cr4(), 0);
        four();
        check_eq("clear", clear, GP);
        check_eq("same", same, NONE);
    }
}

CASE(address_bits)
{
    uint32_t r[4];
    cpuid(0x80000008, 0, r);
    check_eq("bits", r[0] >> 8 & 255, cpu_has(7, 2, 16) ? 57 : 48);
}

/* Values for system registers may be as wide as the processor can do, in either mode (4.5.2). */
CODE(wrmsr_code, "mov %rsi, %rdx; shr $32, %rdx; mov %esi, %eax; mov %edi, %ecx", "wrmsr", "")
CASE_NOT_QEMU(registers, "WRMSR: #GP for an address that is not canonical")
{
    enum { KERNEL_GS_BASE = 0xc0000102 };
    if (!cpu_has(7, 2, 16)) {
        skip("no LA57");
        return;
    }
    check_eq("57 bits", run(wrmsr_code, KERNEL_GS_BASE, HIGH), NONE);
    check_eq("more", run(wrmsr_code, KERNEL_GS_BASE, BEYOND), GP);
    wrmsr(KERNEL_GS_BASE, 0);
}
