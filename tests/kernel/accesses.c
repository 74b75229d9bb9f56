/*
 * Accesses that generated code does in unusual ways: read-modify-write over two pages (Intel SDM
 * Vol. 3A 4.7: they fault as writes, before anything is written), each against the same instruction
 * inside a page.
 */
#include "page.h"

#define VA(n) (FREE_VA + (n)*4096ul)

static uint64_t rng = 88172645463325252ull;

static unsigned below(unsigned n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)(rng >> 32) % n;
}

/* Two pages that do not adjoin in memory. */
static void pages_here(uint64_t second)
{
    reset_tables();
    map(VA(0), data_pa(4), 1, PTE_ALL);
    map(VA(1), data_pa(1), 1, second);
}

/* ---- Read-modify-write over two pages ---- */

word rmw_flags, rmw_rsi;

/* CF at entry is bit 0 of RSI; all flags are defined. */
#define RMW(name, insn)                                                                            \
    CODE(rmw_##name, "mov %esi, %eax; and $1, %eax; neg %eax; mov %rsi, %rax", insn,               \
         "mov %rsi, rmw_rsi(%rip); pushf; pop rmw_flags(%rip)")
RMW(addb, "add %sil, 0(%rdi)")
RMW(addw, "add %si, (%rdi)")
RMW(addl, "add %esi, (%rdi)")
RMW(addq, "add %rsi, (%rdi)")
RMW(adcl, "adc %esi, (%rdi)")
RMW(adcq, "adc %rsi, (%rdi)")
RMW(sbbw, "sbb %si, (%rdi)")
RMW(sbbq, "sbbq $0x12345, (%rdi)")
RMW(subl, "sub %esi, (%rdi)")
RMW(subq, "subq $-0x12345678, (%rdi)")
RMW(andw, "andw $0x1234, (%rdi)")
RMW(andq, "and %rsi, (%rdi)")
RMW(orl, "orl $-2, (%rdi)")
RMW(orq, "mov %rsi, %r12; or %r12, (%rdi)")
RMW(xorl, "xor %esi, (%rdi)")
RMW(xorw, "xorw $-128, (%rdi)")
RMW(incl, "incl (%rdi)")
RMW(incq, "incq (%rdi)")
RMW(decw, "decw (%rdi)")
RMW(negq, "negq (%rdi)")
RMW(negw, "negw (%rdi)")
RMW(notl, "notl (%rdi)")
RMW(xaddl, "xadd %esi, (%rdi)")
RMW(xaddq, "xadd %rsi, (%rdi)")
RMW(r9, "mov %rsi, %r9; add %r9, (%rdi)")
RMW(index, "mov $-4, %rcx; add %rsi, 4(%rdi,%rcx)")
RMW(lockq, "lock add %rsi, (%rdi)")
RMW(xchgq, "xchg %rsi, (%rdi)")
RMW(cmpx, "cmpxchg %rdi, (%rdi)")
#define NO_AF "; lahf; and $0xef, %ah; sahf" /* undefined after shifts */
RMW(shlq, "shlq (%rdi)" NO_AF)
RMW(shrl, "mov %esi, %ecx; and $1, %ecx; shrl %cl, (%rdi)" NO_AF)
RMW(btsq, "btsq $33, (%rdi)")
RMW(btrl, "btrl $30, (%rdi)")
static const struct {
    const char *code, *at;
    unsigned size;
} rmws[] = {
#define ROW(name, size)                                                                            \
    {                                                                                              \
        rmw_##name, rmw_##name##_at, size                                                          \
    }
    ROW(addw, 2),  ROW(addl, 4),  ROW(addq, 8),  ROW(adcl, 4),  ROW(adcq, 8),  ROW(sbbw, 2),
    ROW(sbbq, 8),  ROW(subl, 4),  ROW(subq, 8),  ROW(andw, 2),  ROW(andq, 8),  ROW(orl, 4),
    ROW(orq, 8),   ROW(xorl, 4),  ROW(xorw, 2),  ROW(incl, 4),  ROW(incq, 8),  ROW(decw, 2),
    ROW(negq, 8),  ROW(negw, 2),  ROW(notl, 4),  ROW(xaddl, 4), ROW(xaddq, 8), ROW(r9, 8),
    ROW(index, 8), ROW(lockq, 8), ROW(xchgq, 8), ROW(cmpx, 8),  ROW(shlq, 8),  ROW(shrl, 4),
    ROW(btsq, 8),  ROW(btrl, 4)};
enum { NRMWS = sizeof(rmws) / sizeof(rmws[0]), AROUND = 24 };

/* Bytes around the end of the first page, and as many inside it. */
static uint8_t *edge(unsigned i)
{
    return i < AROUND / 2 ? &data_page[4][4096 - AROUND / 2 + i] : &data_page[1][i - AROUND / 2];
}
static uint8_t *inside(unsigned i)
{
    return &data_page[4][1024 + i];
}

static void any_bytes(uint8_t value_bits)
{
    for (unsigned i = 0; i < AROUND; i++) {
        *edge(i) = *inside(i) = (uint8_t)(below(256) | value_bits);
    }
}

static void rmw_once(unsigned k)
{
    unsigned left = 1 + below(rmws[k].size - 1);
    word v = below(4) ? rng * 77 : 0, flags, rsi;
    any_bytes(below(4) ? 0 : 0xff);
    check_eq("inside", run(rmws[k].code, VA(0) + 1024 + AROUND / 2 - left, v), NONE);
    flags = rmw_flags, rsi = rmw_rsi;
    check_eq("vector", run(rmws[k].code, VA(1) - left, v), NONE);
    bool same = flags == rmw_flags && rsi == rmw_rsi;
    for (unsigned i = 0; i < AROUND; i++) {
        same = same && *edge(i) == *inside(i);
    }
    if (!same) {
        check_eq("instruction", k, ~0u);
        check_eq("flags", rmw_flags, flags);
        check_eq("rsi", rmw_rsi, rsi);
    }
}
CASE(rmw_over_two)
{
    pages_here(PTE_ALL);
    for (unsigned i = 0; i < 6000; i++) {
        rmw_once(below(NRMWS));
    }
}

static void rmw_faults(uint64_t second, word error)
{
    pages_here(second);
    for (unsigned i = 0; i < 1500; i++) {
        unsigned k = below(NRMWS), left = 1 + below(rmws[k].size - 1);
        any_bytes(0);
        check_eq("vector", run(rmws[k].code, VA(1) - left, rng), PF);
        check_eq("error", last()->error, error);
        check_eq("cr2", traps[0].cr2, VA(1));
        for (unsigned b = 0; b < AROUND; b++) {
            check_eq("byte", *edge(b), *inside(b));
        }
    }
}
#define RMW_WRITES "Vol. 3A 4.7: a read-modify-write faults as a write"
CASE_NOT_QEMU(rmw_second_absent, RMW_WRITES)
{
    rmw_faults(0, PF_W);
}
CASE(rmw_second_read_only)
{
    set_cr0(CR0_WP, true);
    rmw_faults(PTE_P, PF_P | PF_W);
    set_cr0(CR0_WP, false);
}

/* In the same block as what comes before and behind, in a loop; homes and others as operands. */
CASE(rmw_loops)
{
    pages_here(PTE_ALL);
    uint64_t want = 0, carry = 0x1234567;
    memset(edge(0), 0, AROUND / 2);
    memset(edge(AROUND / 2), 0, AROUND / 2);
    for (unsigned i = 1; i < 3000; i++) {
        uint64_t *p = (uint64_t *)(VA(1) - 5), old = i;
        uint8_t cf;
        __asm__ volatile("add %3, %0; mov %3, %%r14; xor %%r14, %0; incl %0; xadd %1, %0; setc %2"
                         : "+m"(*p), "+r"(old), "=q"(cf)
                         : "r"(carry)
                         : "r14", "memory", "cc");
        want = (want + carry) ^ carry;
        want = (want & ~0xffffffffull) | (uint32_t)(want + 1);
        check_eq("old", old, want);
        check_eq("carry", cf, want + i < want);
        want += i;
        carry = carry * 0x9e3779b97f4a7c15u + 1;
    }
    check_eq("sum", *(uint64_t *)(VA(1) - 5), want);
}

/* The second page's code: its immediate is counted up. */
CASE(rmw_into_code)
{
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xc3};
    unsigned v;
    pages_here(PTE_ALL);
    memcpy((void *)VA(1), code, sizeof(code));
    for (unsigned i = 1; i < 600; i++) {
        run(rmw_addl, VA(1) - 2, 1u << 24);
        __asm__ volatile("call *%1" : "=a"(v) : "r"(VA(1)) : "memory", "cc");
        check_eq("value", v, i & 0xff);
    }
}
