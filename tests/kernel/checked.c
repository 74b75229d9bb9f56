/*
 * Code that changes over and over in one page (Intel SDM Vol. 3A 8.1.3, 11.6): each case first
 * makes its page one that an emulator will have given up to protect, then changes what runs there
 * in all the ways that smc.c knows, and some more.
 */
#include "page.h"
#include "patch.h"

static uint8_t code[3 * 4096] __attribute__((aligned(4096)));

static void put_rel(uint8_t *at, const uint8_t *to) /* of an instruction that ends behind it */
{
    int32_t rel = (int32_t)(to - (at + 4));
    memcpy(at, &rel, 4);
}
static void warm(uint8_t *page)
{
    for (uint32_t i = 0; i < 150; i++) {
        put_ret(page + 0xf00, i * 3);
        check_eq("warming", call(page + 0xf00), i * 3);
    }
}

/* ---- Versions of one piece of code ---- */

CASE(rewritten)
{
    for (uint32_t i = 0; i < 3000; i++) {
        put_ret(code, i * 0x10203);
        check_eq("value", call(code), i * 0x10203);
    }
}
/* Version n gives n + 10; all have other instructions. */
static void put_version(uint8_t *p, unsigned n)
{
    static const uint8_t v[6][8] = {
        {0xb8, 10, 0, 0, 0, 0xc3},          /* mov $10, %eax */
        {0x31, 0xc0, 0x83, 0xc0, 11, 0xc3}, /* xor %eax, %eax; add $11, %eax */
        {0x6a, 12, 0x58, 0xc3},             /* push $12; pop %rax */
        {0x8d, 0x47, 13, 0xc3},             /* lea 13(%rdi), %eax */
        {0x31, 0xc0, 0x0c, 14, 0xc3},       /* xor %eax, %eax; or $14, %al */
        {0x89, 0xf8, 0x34, 15, 0xc3},       /* mov %edi, %eax; xor $15, %al */
    };
    memcpy(p, v[n], 8);
}
CASE(toggled)
{
    warm(code);
    for (unsigned i = 0; i < 10000; i++) {
        put_version(code, i & 1);
        check_eq("value", call(code), 10 + (i & 1));
    }
}
CASE(more_than_two)
{
    warm(code);
    for (unsigned i = 0; i < 3000; i++) {
        unsigned n = i / 600 + 2, k = i % n % 6; /* two to six of them */
        put_version(code, k);
        check_eq("value", call(code), 10 + k);
        check_eq("again", call(code), 10 + k);
    }
}
/* Only one byte is written: a jump label. nop of two bytes, or jmp +5. */
CASE(jump_label)
{
    static const uint8_t body[] = {0x66, 0x90, 0xb8, 1, 0, 0, 0, 0xc3, 0xb8, 2, 0, 0, 0, 0xc3};
    warm(code);
    memcpy(code, body, sizeof(body));
    for (unsigned i = 0; i < 2000; i++) {
        bool on = i * 7 % 3;
        uint16_t insn = on ? 0x06eb : 0x9066;
        *(volatile uint16_t *)(void *)code = insn;
        check_eq("value", call(code), 1 + on);
    }
}
/* Bytes that nobody runs change beside the code. */
CASE(data_beside)
{
    warm(code);
    put_ret(code + 64, 77);
    volatile uint32_t *data = (volatile uint32_t *)(void *)(code + 72);
    *data = 0;
    for (unsigned i = 0; i < 5000; i++) {
        ++*data;
        check_eq("value", call(code + 64), 77);
    }
    check_eq("data", *data, 5000);
}

/* ---- Immediates of all sizes ---- */

static uint32_t cell;
struct imm {
    uint8_t code[16]; /* argument in rdi, r8 points to cell; result in rax */
    uint8_t at, size;
    word (*want)(word a, word imm); /* imm sign-extended */
};
#define WANT(name, expr)                                                                           \
    static word name(word a, word i)                                                               \
    {                                                                                              \
        return expr;                                                                               \
    }
WANT(want_imm, i)
WANT(want_imm32, (uint32_t)i)
WANT(want_imm8, (uint8_t)i)
WANT(want_low16, (a & ~0xfffful) | (uint16_t)i)
WANT(want_add, (uint32_t)(a + i))
WANT(want_sub64, a - i)
WANT(want_and64, a &i)
WANT(want_below, (uint32_t)a < (uint32_t)i)
WANT(want_mul, (uint32_t)a *(uint32_t)i)
WANT(want_zero8, ((uint8_t)a & (uint8_t)i) == 0)
WANT(want_shl, (uint32_t)a << (i & 31))
WANT(want_carry, (uint32_t)a + (uint32_t)i < (uint32_t)a)
static const struct imm imms[] = {
    {{0xb8, 0, 0, 0, 0, 0xc3}, 1, 4, want_imm32},
    {{0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xc3}, 2, 8, want_imm},
    {{0x48, 0xc7, 0xc0, 0, 0, 0, 0, 0xc3}, 3, 4, want_imm},
    {{0x31, 0xc0, 0xb0, 0, 0xc3}, 3, 1, want_imm8},
    {{0x48, 0x89, 0xf8, 0x66, 0xb8, 0, 0, 0xc3}, 5, 2, want_low16},
    {{0x89, 0xf8, 0x83, 0xc0, 0, 0xc3}, 4, 1, want_add},
    {{0x89, 0xf8, 0x05, 0, 0, 0, 0, 0xc3}, 3, 4, want_add},
    {{0x48, 0x89, 0xf8, 0x48, 0x81, 0xe8, 0, 0, 0, 0, 0xc3}, 6, 4, want_sub64},
    {{0x48, 0x89, 0xf8, 0x48, 0x83, 0xe0, 0, 0xc3}, 6, 1, want_and64},
    {{0x31, 0xc0, 0x81, 0xff, 0, 0, 0, 0, 0x0f, 0x92, 0xc0, 0xc3}, 4, 4, want_below},
    {{0x6b, 0xc7, 0, 0xc3}, 2, 1, want_mul},
    {{0x69, 0xc7, 0, 0, 0, 0, 0xc3}, 2, 4, want_mul},
    {{0x31, 0xc0, 0x40, 0xf6, 0xc7, 0, 0x0f, 0x94, 0xc0, 0xc3}, 5, 1, want_zero8},
    {{0x6a, 0, 0x58, 0xc3}, 1, 1, want_imm},
    {{0x68, 0, 0, 0, 0, 0x58, 0xc3}, 1, 4, want_imm},
    {{0x89, 0xf8, 0xc1, 0xe0, 0, 0xc3}, 4, 1, want_shl},
    {{0x89, 0xf8, 0x05, 0, 0, 0, 0, 0x19, 0xc0, 0xf7, 0xd8, 0xc3}, 3, 4, want_carry},
    {{0x41, 0xc7, 0, 0, 0, 0, 0, 0x41, 0x8b, 0, 0xc3}, 3, 4, want_imm32},
    {{0x45, 0x31, 0xc9, 0x45, 0x89, 0x08, 0x41, 0xc6, 0, 0, 0x41, 0x8b, 0, 0xc3}, 9, 1, want_imm8},
    {{0x41, 0x89, 0x38, 0x41, 0x81, 0, 0, 0, 0, 0, 0x41, 0x8b, 0, 0xc3}, 6, 4, want_add},
    {{0x41, 0x89, 0x38, 0x41, 0x83, 0, 0, 0x41, 0x8b, 0, 0xc3}, 6, 1, want_add},
};
static word call_cell(const void *at, word a)
{
    register word r8 __asm__("r8") = (word)&cell;
    word r;
    __asm__ volatile("call *%2"
                     : "=a"(r), "+D"(a)
                     : "r"(at), "r"(r8)
                     : "rcx", "rdx", "rsi", "r9", "r10", "r11", "memory", "cc");
    return r;
}
static word extend(uint64_t v, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    return (word)((int64_t)(v << shift) >> shift);
}
CASE(immediates)
{
    uint64_t x = 88172645463325252;
    warm(code);
    for (unsigned n = 0; n < sizeof(imms) / sizeof(imms[0]); n++) {
        uint8_t *p = code + 128 * (n % 16);
        memcpy(p, imms[n].code, 16);
        for (unsigned i = 0; i < 200; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            uint64_t v = i % 5 == 4 ? 0 : i % 7 == 3 ? ~0ull : x;
            memcpy(p + imms[n].at, &v, imms[n].size);
            check_eq("row",
                     call_cell(p, x >> 8) ^ imms[n].want(x >> 8, extend(v, imms[n].size)) ? n + 1
                                                                                          : 0,
                     0);
        }
    }
}

/* ---- Code that changes itself ---- */

/* movl $i, 1f+1(%rip); 1: mov $?, %eax; ret */
CASE(next_immediate)
{
    warm(code);
    uint8_t *p = code;
    p[0] = 0xc7, p[1] = 0x05;
    put_rel(p + 2, p + 11 - 4);
    put_ret(p + 10, 0);
    for (uint32_t i = 1; i < 1000; i++) {
        memcpy(p + 6, &i, 4);
        check_eq("value", call(p), i);
    }
}
/* mov %edi, %eax; movb $c0 or $c8, 1f+1(%rip); 1: inc or dec %eax; ret */
CASE(next_opcode)
{
    static const uint8_t body[] = {0x89, 0xf8, 0xc6, 0x05, 1, 0, 0, 0, 0xc0, 0xff, 0xc0, 0xc3};
    warm(code);
    memcpy(code, body, sizeof(body));
    for (unsigned i = 0; i < 2000; i++) {
        bool up = i % 3 == 0;
        code[8] = up ? 0xc0 : 0xc8;
        check_eq("value", call2(code, 100, 0), up ? 101 : 99);
    }
}
/* Stores of all kinds into what comes next: edi is what it must be, rsi the bytes of
 * mov $edi, %ecx and three nops. The result is 0. */
CODE(self_kinds,
     "mov %edi, %eax; mov %eax, 1f+1(%rip); 1: mov $0, %ecx; sub %ecx, %eax; jnz 9f;"
     "mov %edi, %eax; xchg %eax, 2f+1(%rip); 2: mov $0, %eax; sub %edi, %eax; jnz 9f;"
     "movl $7, 3f+1(%rip); lock addl $1, 3f+1(%rip); 3: mov $0, %eax; sub $8, %eax; jnz 9f;"
     "mov %rsp, %rdx; lea 4f+8(%rip), %rsp; push %rsi; 4: .fill 8, 1, 0x90; mov %rdx, %rsp;"
     "mov %ecx, %eax; sub %edi, %eax; jnz 9f;"
     "movb %dil, 5f+1(%rip); movb $0, 5f+2(%rip); 5: mov $0x777, %ecx; movzbl %dil, %eax;"
     "sub %ecx, %eax;",
     "9: nop", "")
extern const char self_kinds_end[];
__asm__(".pushsection .text; self_kinds_end: .popsection");
CASE(store_kinds)
{
    warm(code);
    for (uint32_t i = 1; i < 400; i++) {
        if (i % 100 == 1) {
            memcpy(code, self_kinds, (size_t)(self_kinds_end - self_kinds));
        }
        check_eq("difference", call2(code, i, 0x909090ull << 40 | (uint64_t)i << 8 | 0xb9), 0);
    }
}
CASE(loop_own_immediate)
{
    warm(code);
    check_own_immediate(code);
}
/* The callee changes what its caller does behind the call. */
CASE(behind_a_call)
{
    uint8_t *p = code, *callee = code + 0x200;
    warm(code);
    for (uint32_t i = 1; i < 1000; i++) {
        p[0] = 0xe8;
        put_rel(p + 1, callee);
        p[5] = 0x05; /* add $?, %eax */
        p[10] = 0xc3;
        callee[0] = 0xc7, callee[1] = 0x05; /* movl $i, 6(p) */
        put_rel(callee + 2, p + 6 - 4);
        memcpy(callee + 6, &i, 4);
        put_ret(callee + 10, 1000);
        check_eq("sum", call(p), 1000 + i);
    }
}
/* A string over what comes next: see smc.c. */
CASE(string_over_next)
{
    static const uint8_t head[] = {0x48, 0x8d, 0x3d, 9,   0, 0, 0, /* lea 16(code), %rdi */
                                   0xb9, 40,   0,    0,   0,       /* mov $40, %ecx */
                                   0xb0, 0x90,                     /* mov $0x90, %al */
                                   0xf3, 0xaa,                     /* rep stosb */
                                   0x0f, 0x0b, 0x0f, 0x0b};        /* overwritten */
    warm(code);
    for (unsigned n = 0; n < 100; n++) {
        memset(code, 0x90, 256);
        memcpy(code, head, sizeof(head));
        put_ret(code + 60, 77);
        check_eq("ran over", run(code, 0, 0), NONE);
    }
}

/* ---- State at a change ---- */

/* The target ignores the flags it is entered with, then it does not. */
CASE(flags_wanted_later)
{
    uint8_t *from = code + 0x400;
    static const uint8_t ignores[] = {0xb8, 5,    0,    0,
                                      0,    0x01, 0xf0, 0xc3}; /* mov $5, %eax; add %esi, %eax */
    static const uint8_t wants[] = {0x0f, 0x92, 0xc0, 0x0f,
                                    0xb6, 0xc0, 0xc3, 0xc3}; /* setb %al ... */
    warm(code);
    from[0] = 0x39, from[1] = 0xf7, from[2] = 0xe9; /* cmp %esi, %edi; jmp code */
    put_rel(from + 3, code);
    for (unsigned i = 0; i < 500; i++) {
        memcpy(code, ignores, 8);
        for (unsigned k = 0; k < 3; k++) {
            check_eq("ignored", call2(from, 1, k), 5 + k);
        }
        memcpy(code, wants, 8);
        check_eq("below", call2(from, 1, 2 + i), 1);
        check_eq("not below", call2(from, 2 + i, 1), 0);
    }
}
/* A fault behind an immediate that changed: registers and address are right. */
CASE(fault_behind_change)
{
    warm(code);
    reset_tables();
    for (uint32_t i = 1; i < 300; i++) {
        put_ret(code, i);
        code[5] = 0x8a, code[6] = 0x0f, code[7] = 0xc3; /* mov (%rdi), %cl; ret */
        check_eq("faults", run(code, TEST_VA + i, 0), PF);
        check_eq("ip", last()->ip, (word)code + 5);
        check_eq("eax", last()->ax, i);
        check_eq("cr2", traps[0].cr2, TEST_VA + i);
    }
}

/* ---- Two pages, two mappings ---- */

/* Either half of an instruction over the border changes; which pages change often differs. */
static void crossing(bool first, bool second)
{
    uint8_t *p = code + 4096 - 3;
    memset(code, 0, sizeof(code));
    if (first) {
        warm(code);
    }
    if (second) {
        warm(code + 4096);
    }
    put_ret(p, 0x11223344);
    check_eq("first", call(p), 0x11223344);
    for (uint32_t i = 0; i < 500; i++) {
        *(volatile uint8_t *)(p + 1) = (uint8_t)i;
        check_eq("low byte", call(p) & 0xff, i & 0xff);
        *(volatile uint8_t *)(p + 4) = (uint8_t)(i + 1);
        check_eq("high byte", call(p) >> 24, (i + 1) & 0xff);
        p[0] = i & 1 ? 0xb8 : 0xbf; /* to edi */
        check_eq("opcode", (call2(p, 0, 0) & 0xff) == (i & 0xff), i & 1);
        p[0] = 0xb8;
    }
}
CASE(crossing_first)
{
    crossing(true, false);
}
CASE(crossing_second)
{
    crossing(false, true);
}
CASE(crossing_both)
{
    crossing(true, true);
}
CASE(alias_write)
{
    warm(code);
    reset_tables();
    map(FREE_VA, (word)code, 1, PTE_ALL);
    map(FREE_VA + 0x5000, (word)code, 1, PTE_ALL);
    for (uint32_t i = 0; i < 2000; i++) {
        put_version((uint8_t *)FREE_VA, i % 3);
        check_eq("value", call(code), 10 + i % 3);
        put_ret(code, i);
        check_eq("first", call((void *)FREE_VA), i);
        check_eq("second", call((void *)(FREE_VA + 0x5000)), i);
    }
}
/* An instruction over a border of which both halves are one page. */
CASE(folded)
{
    warm(code);
    reset_tables();
    map(FREE_VA, (word)code, 1, PTE_ALL);
    map(FREE_VA + 4096, (word)code, 1, PTE_ALL);
    for (uint32_t i = 0; i < 1000; i++) {
        uint8_t insn[6];
        put_ret(insn, i * 0x01010101);
        memcpy(code + 4093, insn, 3);
        memcpy(code, insn + 3, 3);
        check_eq("value", call((void *)(FREE_VA + 4093)), (uint32_t)(i * 0x01010101));
    }
}
CASE(remapped)
{
    warm(code);
    warm(code + 4096);
    reset_tables();
    for (unsigned i = 0; i < 600; i++) {
        put_version(code, i % 5);
        put_ret(code + 4096, i);
        map(FREE_VA, (word)code + (i & 1 ? 4096 : 0), 1, PTE_ALL);
        check_eq("value", call((void *)FREE_VA), i & 1 ? i : 10 + i % 5);
    }
}
