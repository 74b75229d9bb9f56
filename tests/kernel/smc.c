/*
 * Code that changes: itself, by strings, through another mapping, over page borders, by remapping
 * (Intel SDM Vol. 3A 8.1.3, 11.6). The processor must run the new bytes at the next jump at the
 * latest; self-modifying stores through the same linear address are seen by the very next
 * instruction on every processor since the P6.
 */
#include "page.h"
#include "patch.h"

/* A page of code to write into, executable and writable. */
static uint8_t code[3 * 4096] __attribute__((aligned(4096)));

CASE(rewritten_function)
{
    for (uint32_t i = 0; i < 3000; i++) {
        put_ret(code, i * 7);
        check_eq("value", call(code), i * 7);
    }
}

/* Only the immediate changes, by a store of one byte. */
CASE(patched_immediate)
{
    put_ret(code, 0);
    for (uint32_t i = 0; i < 3000; i++) {
        *(volatile uint8_t *)(code + 1) = (uint8_t)i;
        check_eq("value", call(code), i & 0xff);
    }
}

/* The store changes the instruction right behind it, in the same block. */
CODE(next_insn,
     "xor %eax, %eax; mov $1, %ecx; lea 1f+1(%rip), %rdx; 2: movl %ecx, (%rdx); 1: mov $0, %ebx; "
     "cmp %ecx, %ebx; jne 3f; inc %ecx; cmp $2000, %ecx; jne 2b; inc %eax",
     "3: nop", "")
static word run_ax(const char *fn, word a, word b)
{
    word r;
    __asm__ volatile("call *%[fn]"
                     : "=a"(r), "+D"(a), "+S"(b)
                     : [fn] "r"(fn)
                     : "rcx", "rdx", "rbx", "r8", "r9", "r10", "r11", "memory", "cc");
    return r;
}
CASE(next_instruction)
{
    check_eq("all seen", run_ax(next_insn, 0, 0), 1);
}

/* A loop that patches its own immediate and adds it up. */
CASE(loop_own_immediate)
{
    check_own_immediate(code);
}

/* The same store, from another page of code into this one and back: two pages that write each
 * other. */
CASE(across_pages)
{
    uint8_t *a = code, *b = code + 4096;
    for (uint32_t i = 1; i < 1000; i++) {
        /* a: movl $i, b+1(%rip); jmp b   b: mov $0, %eax; ret */
        a[0] = 0xc7;
        a[1] = 0x05;
        int32_t rel = (int32_t)(b + 1 - (a + 10));
        memcpy(a + 2, &rel, 4);
        memcpy(a + 6, &i, 4);
        a[10] = 0xe9;
        rel = (int32_t)(b - (a + 15));
        memcpy(a + 11, &rel, 4);
        put_ret(b, 0);
        check_eq("value", call(a), i);
    }
}

/* An instruction over a page border; either half changes. */
CASE(crossing_instruction)
{
    uint8_t *p = code + 4096 - 3;
    put_ret(p, 0x11223344);
    check_eq("first", call(p), 0x11223344);
    for (uint32_t i = 0; i < 500; i++) {
        *(volatile uint8_t *)(p + 1) = (uint8_t)i; /* in the first page */
        check_eq("low byte", call(p) & 0xff, i & 0xff);
        *(volatile uint8_t *)(p + 4) = (uint8_t)(i + 1); /* in the second */
        check_eq("high byte", call(p) >> 24, (i + 1) & 0xff);
    }
}

/* A block that runs over the border without an instruction there. */
CASE(block_over_border)
{
    uint8_t *p = code + 4096 - 5;
    for (uint32_t i = 0; i < 300; i++) {
        p[0] = 0xb8; /* mov $i, %eax ends the page */
        memcpy(p + 1, &i, 4);
        p[5] = 0x05; /* add $i, %eax */
        memcpy(p + 6, &i, 4);
        p[10] = 0xc3;
        check_eq("sum", call(p), 2 * i);
    }
}

/* ---- Through another mapping ---- */

CASE(alias_write)
{
    reset_tables();
    map(FREE_VA, (word)code, 1, PTE_ALL);
    for (uint32_t i = 0; i < 2000; i++) {
        put_ret((uint8_t *)FREE_VA, i);
        check_eq("value", call(code), i);
    }
}
CASE(alias_execute)
{
    reset_tables();
    map(FREE_VA, (word)code, 1, PTE_ALL);
    map(FREE_VA + 0x5000, (word)code, 1, PTE_ALL);
    for (uint32_t i = 0; i < 1000; i++) {
        put_ret(code, i);
        check_eq("first", call((void *)FREE_VA), i);
        check_eq("second", call((void *)(FREE_VA + 0x5000)), i);
    }
}

/* ---- Strings ---- */

CASE(rep_movs_code)
{
    static uint8_t from[64];
    for (uint32_t i = 0; i < 1000; i++) {
        put_ret(from, i);
        memcpy(code, from, 6);
        check_eq("value", call(code), i);
    }
}
CASE(rep_stos_code)
{
    put_ret(code, 5);
    check_eq("before", call(code), 5);
    memset(code, 0x90, 64); /* nops, then a return */
    put_ret(code + 64, 9);
    check_eq("after", call(code), 9);
    put_ret(code + 10, 7);
    check_eq("in the middle", call(code), 7);
}
/* REP STOSB over all that follows it. (Over itself: whether the string ends first is the
 * processor's choice.) */
CASE(string_over_next)
{
    for (unsigned n = 0; n < 50; n++) {
        memset(code, 0x90, 256);
        static const uint8_t head[] = {0x48, 0x8d, 0x3d, 9,   0, 0, 0, /* lea 16(code), %rdi */
                                       0xb9, 40,   0,    0,   0,       /* mov $40, %ecx */
                                       0xb0, 0x90,                     /* 12: mov $0x90, %al */
                                       0xf3, 0xaa,                     /* rep stosb */
                                       0x0f, 0x0b, 0x0f, 0x0b};        /* overwritten */
        memcpy(code, head, sizeof(head));
        put_ret(code + 60, 77);
        check_eq("ran over", run(code, 0, 0), NONE);
        check_eq("count", code[16], 0x90);
    }
}
/* MOVSB copies the code behind itself over itself, one byte at a time. */
CODE(movs_patch, "lea 2f(%rip), %rsi; lea 1f(%rip), %rdi; mov $5, %ecx; rep movsb",
     "1: mov $1, %eax; jmp 3f; 2: mov $2, %eax; 3: nop", "")
CASE(movs_next_instruction)
{
    check_eq("new bytes", run_ax(movs_patch, 0, 0), 2);
}

/* ---- Other stores: atomics, pushes, vector stores, 16-byte compare and exchange ---- */

CASE(atomic_and_push)
{
    put_ret(code, 0);
    for (uint32_t i = 1; i < 500; i++) {
        __asm__ volatile("lock incl %0" : "+m"(*(uint32_t *)(void *)(code + 1)));
        check_eq("lock inc", call(code), i);
    }
    uint64_t word8;
    put_ret(code, 0x1234);
    memcpy(&word8, code, 8);
    put_ret(code, 0);
    call(code);
    __asm__ volatile("mov %%rsp, %%rbx; lea 8(%0), %%rsp; push %1; mov %%rbx, %%rsp"
                     :
                     : "r"(code), "r"(word8)
                     : "rbx", "memory");
    check_eq("push", call(code), 0x1234);
    put_ret(code + 64, 0x777);
    __asm__ volatile("movups (%0), %%xmm0; movups %%xmm0, (%1)"
                     :
                     : "r"(code + 64), "r"(code)
                     : "memory");
    check_eq("movups", call(code), 0x777);
}

/* ---- Remapping ---- */

static void two_codes(void)
{
    reset_tables();
    for (unsigned i = 0; i < 3; i++) {
        put_ret(data_page[i], 100 + i);
        put_ret(data_page[i] + 4093, 0); /* over the border */
    }
}
CASE(remap_invlpg)
{
    two_codes();
    for (unsigned i = 0; i < 600; i++) {
        map(FREE_VA, data_pa(i % 3), 1, PTE_ALL);
        check_eq("value", call((void *)FREE_VA), 100 + i % 3);
    }
}
CASE(remap_cr3)
{
    two_codes();
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    for (unsigned i = 0; i < 600; i++) {
        *entry(FREE_VA, 1) = data_pa(i % 3) | PTE_ALL;
        write_cr3(read_cr3());
        check_eq("value", call((void *)FREE_VA), 100 + i % 3);
    }
}
CASE(remap_global)
{
    two_codes();
    set_cr4(CR4_PGE, true);
    for (unsigned i = 0; i < 300; i++) {
        map(FREE_VA, data_pa(i % 3), 1, PTE_ALL | PTE_G);
        write_cr3(read_cr3());
        check_eq("value", call((void *)FREE_VA), 100 + i % 3);
    }
    set_cr4(CR4_PGE, false);
}
/* Two address spaces with their own code at one address. */
CASE(remap_two_roots)
{
    two_codes();
    uint64_t *root[2];
    for (unsigned i = 0; i < 2; i++) {
        root[i] = new_table();
        root[i][0] = pml4[0];
        *entry_in(root[i], FREE_VA, 1) = data_pa(i) | PTE_ALL;
    }
    for (unsigned i = 0; i < 600; i++) {
        write_cr3((word)root[i & 1]);
        check_eq("value", call((void *)FREE_VA), 100 + (i & 1));
    }
    write_cr3((word)pml4);
}
/* A caller in one page, its callee in another one that is remapped: links between blocks. */
CASE(remap_callee)
{
    two_codes();
    uint8_t *a = data_page[4]; /* call to the next page; add $1000, %eax; ret */
    int32_t rel = 4096 - 5;
    a[0] = 0xe8;
    memcpy(a + 1, &rel, 4);
    a[5] = 0x05;
    *(uint32_t *)(void *)(a + 6) = 1000;
    a[10] = 0xc3;
    map(FREE_VA, data_pa(4), 1, PTE_ALL);
    for (unsigned i = 0; i < 600; i++) {
        map(FREE_VA + 4096, data_pa(i % 3), 1, PTE_ALL);
        check_eq("value", call((void *)FREE_VA), 1100 + i % 3);
        check_eq("again", call((void *)FREE_VA), 1100 + i % 3);
    }
}
/* The second page of an instruction over a border is remapped. */
CASE(remap_second_half)
{
    reset_tables();
    for (unsigned i = 0; i < 3; i++) {
        uint8_t insn[6];
        put_ret(insn, 0x01010101 * (i + 1));
        memcpy(data_page[0] + 4093, insn, 3);
        memcpy(data_page[1 + i], insn + 3, 3);
    }
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    for (unsigned i = 0; i < 300; i++) {
        map(FREE_VA + 4096, data_pa(1 + i % 3), 1, PTE_ALL);
        check_eq("upper half", call((void *)(FREE_VA + 4093)) >> 16, 0x0101 * (i % 3 + 1));
    }
}
/* Execution is taken away and given back. */
CASE(remap_nx)
{
    two_codes();
    for (unsigned i = 0; i < 100; i++) {
        map(FREE_VA, data_pa(0), 1, PTE_ALL);
        check_eq("runs", run_access(EXEC, FREE_VA, false, false), NONE);
        map(FREE_VA, data_pa(0), 1, PTE_ALL | PTE_NX);
        check_eq("NX", run_access(EXEC, FREE_VA, false, false), PF);
        map(FREE_VA, data_pa(0), 1, 0);
        check_eq("gone", run_access(EXEC, FREE_VA, false, false), PF);
    }
}
/* The same bytes at one place as 64-bit and as 32-bit code, and at CPL 0 and 3. */
CASE(same_bytes_other_mode)
{
    static const uint8_t bytes[] = {0x48, 0xff, 0xc0, 0xcc}; /* inc %rax, or dec %eax; inc %eax */
    memcpy(code, bytes, sizeof(bytes));
    resume = 0;
    for (unsigned i = 0; i < 50; i++) {
        check_eq("64-bit", run_user(code, 0, 0), BP);
        check_eq("ip", last()->ip, (word)code + USER_BASE + 4);
        word a = last()->ax;
        check_eq("32-bit", run_user32(code, 0, 0), BP);
        check_eq("no change", last()->ax & 0xffffffff, ((word)code + USER_BASE) & 0xffffffff);
        check_eq("one more", a, (word)code + USER_BASE + 1);
    }
}
