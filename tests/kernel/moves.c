/*
 * User code that is at another address in each address space, as libraries are: what it says of its
 * own address, its data and where it returns to, calls between its pages, faults, changes.
 */
#include "page.h"

enum { SPACES = 5, BASES = 72, OUT = 8 };
#define NOFLUSH (1ul << 63)

/* Two pages of code, the data in the third; the fourth is a hole. */
extern const uint8_t lib[], lib_back[], lib_there[], lib_hole_at[], lib_fault[], lib_far[];
__asm__(".pushsection .text\n.balign 4096\n"
        "lib: push %rbx; mov %rdi, %rbx; mov 56(%rbx), %rcx\n"
        "1: lea lib(%rip), %rax; mov %rax, (%rbx)\n"
        "mov lib_data(%rip), %eax; mov %rax, 8(%rbx)\n"
        "call lib_far\n"
        "lib_back: add %eax, lib_data+8(%rip)\n"
        "lea 2f(%rip), %rax; call *%rax\n"
        "lib_there: mov lib_data+8(%rip), %eax; mov %rax, 40(%rbx)\n"
        "dec %rcx; jnz 1b\n"
        "pop %rbx; ret\n"
        "2: mov (%rsp), %rdx; mov %rdx, 24(%rbx); ret\n"
        "lib_fault: lea lib_hole(%rip), %rax; cmp %rax, %rdi\n"
        "lib_hole_at: mov lib_hole(%rip), %eax; ret\n"
        ".balign 4096\n"
        "lib_far: mov (%rsp), %rdx; mov %rdx, 16(%rbx)\n"
        "lea lib_far(%rip), %rdx; mov %rdx, 32(%rbx)\n"
        "mov $1, %eax; ret\n"
        ".balign 4096\n"
        "lib_data: .skip 4096\n"
        "lib_hole: .popsection\n");

static uint64_t *root[SPACES];
static bool pcid;
static uint64_t out[OUT];
static uint32_t sums[DATA_PAGES]; /* what the library has added up in each data page */

static word base_of(unsigned n)
{
    return FREE_VA + (n & 1 ? 0x40000000 : 0) + (word)n * 7 * 4096;
}

/* The library at base n of a space, with its data in data page `data`. */
static void put(unsigned i, unsigned n, unsigned data, uint64_t flags)
{
    word va = base_of(n);
    *entry_in(root[i], va, 1) = data_pa(0) | flags;
    *entry_in(root[i], va + 4096, 1) = data_pa(1) | flags;
    *entry_in(root[i], va + 8192, 1) = data_pa(data) | flags;
    *entry_in(root[i], va + 12288, 1) = 0;
}

static void spaces(unsigned n)
{
    reset_tables();
    memcpy(data_page[0], lib, 4096);
    memcpy(data_page[1], lib + 4096, 4096);
    for (unsigned i = 2; i < DATA_PAGES; i++) {
        memset(data_page[i], (int)i, 4);
        memset(data_page[i] + 8, 0, 4);
        sums[i] = 0;
    }
    for (unsigned i = 0; i < n; i++) {
        root[i] = new_table();
        root[i][0] = pml4[0];
    }
    pcid = cpu_has(1, 2, 17);
    if (pcid) {
        set_cr4(CR4_PCIDE, true);
    }
    for (unsigned i = 0; pcid && i < n; i++) {
        write_cr3((word)root[i] | (i + 1));
    }
}

static void space(unsigned i)
{
    write_cr3((word)root[i] | (pcid ? (i + 1) | NOFLUSH : 0));
}

static void one_space(void)
{
    write_cr3((word)pml4);
    if (pcid) {
        set_cr4(CR4_PCIDE, false);
    }
    flush_all();
}

CODE(call_code, "push %rbx", "mov %rdi, %rax; mov %rsi, %rdi; call *%rax", "pop %rbx")

/* Runs it at base n, `times` rounds of its loop, and looks at what it says. */
static void ask(unsigned n, unsigned data, unsigned times, unsigned step)
{
    word va = base_of(n);
    memset(out, 0, sizeof(out));
    out[7] = times;
    check_eq("no trap", run_user(call_code, va, (word)out + USER_BASE), NONE);
    sums[data] += times * step;
    check_eq("own address", out[0], va);
    check_eq("own data", out[1], data * 0x01010101u);
    check_eq("returns to", out[2], va + (word)(lib_back - lib));
    check_eq("returns to, indirect", out[3], va + (word)(lib_there - lib));
    check_eq("other page", out[4], va + 4096);
    check_eq("sum", out[5], sums[data]);
}

/* Address spaces in turn, few or many rounds: compact and warm code. */
CASE(in_turn)
{
    spaces(SPACES);
    for (unsigned i = 0; i < SPACES; i++) {
        put(i, 3 * i, 2 + i, PTE_ALL);
    }
    for (unsigned k = 0; k < 120; k++) {
        unsigned i = k * 7 % SPACES;
        space(i);
        ask(3 * i, 2 + i, k % 11 ? 2 : 600, 1);
    }
    one_space();
}

/* One process after the other, each at an address of its own; the first one lives on. */
CASE(new_each_time)
{
    spaces(2);
    put(0, 0, 2, PTE_ALL);
    for (unsigned n = 1; n < BASES; n++) {
        space(0);
        ask(0, 2, n % 5 ? 3 : 400, 1);
        put(1, n, 3 + n % 4, PTE_ALL);
        write_cr3((word)root[1] | (pcid ? 2 : 0)); /* as a new process */
        ask(n, 3 + n % 4, n % 3 ? 3 : 700, 1);
        ask(n, 3 + n % 4, 1, 1);
        memset(entry_in(root[1], base_of(n), 1), 0, 32);
    }
    one_space();
}

/* At many addresses of one space at once. */
CASE(at_once)
{
    spaces(1);
    for (unsigned n = 0; n < BASES; n++) {
        put(0, n, 2 + n % 5, PTE_ALL);
    }
    space(0);
    for (unsigned k = 0; k < 300; k++) {
        unsigned n = k * 11 % BASES;
        ask(n, 2 + n % 5, k % 13 ? 1 : 300, 1);
    }
    one_space();
}

CODE(far_code, "push %rbx", "mov %rsi, %rbx; call *%rdi", "pop %rbx")

/* Its pages are not used in the same order, so they are not moved together: what one of them knew
 * of the other is no longer so. */
CASE(one_page)
{
    spaces(1);
    for (unsigned n = 0; n < BASES; n++) {
        put(0, n, 2 + n % 5, PTE_ALL);
    }
    space(0);
    for (unsigned k = 0, r = 1; k < 500; k++) {
        r = r * 1103515245 + 12345;
        unsigned n = (r >> 20) % (k & 64 ? BASES : 12);
        if (r >> 16 & 1) {
            ask(n, 2 + n % 5, 1 + (r >> 17 & 1), 1);
        } else {
            run_user(far_code, base_of(n) + (word)(lib_far - lib), (word)out + USER_BASE);
            check_eq("own address", out[4], base_of(n) + 4096);
        }
    }
    one_space();
}

CASE(faults)
{
    spaces(SPACES);
    for (unsigned i = 0; i < SPACES; i++) {
        put(i, i, 2 + i, PTE_ALL);
    }
    for (unsigned k = 0; k < 700; k++) {
        unsigned n = k / 2 % SPACES;
        word va = base_of(n);
        space(n);
        check_eq("vector", run_user(call_code, va + (word)(lib_fault - lib), 0), 14);
        check_eq("ip", last()->ip, va + (word)(lib_hole_at - lib));
        check_eq("address", traps[0].cr2, va + 12288);
    }
    one_space();
}

/* A change of the code is seen wherever it is mapped. */
CASE(changed)
{
    spaces(SPACES);
    for (unsigned i = 0; i < SPACES; i++) {
        put(i, 2 * i, 2 + i, PTE_ALL);
    }
    unsigned at = 0;
    while (data_page[1][at] != 0xb8) { /* mov $1, %eax */
        at++;
    }
    for (unsigned k = 0; k < 60; k++) {
        unsigned i = k * 3 % SPACES;
        data_page[1][at + 1] = (uint8_t)(1 + k % 7);
        space(i);
        ask(2 * i, 2 + i, k % 9 ? 2 : 300, 1 + k % 7);
    }
    one_space();
}
