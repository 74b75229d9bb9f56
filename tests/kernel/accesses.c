/*
 * Accesses that generated code does in unusual ways: read-modify-write over two pages (Intel SDM
 * Vol. 3A 4.7: they fault as writes, before anything is written), each against the same instruction
 * inside a page; registers of devices, each access many times at the same place.
 */
#include "page.h"

#define VA(n) (FREE_VA + (n)*4096ul)

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

/* ---- Device registers ---- */

#define VIRTIO 0xfeb00000ul
#define IOAPIC 0xfec00000ul
#define LAPIC 0xfee00000ul
#define MAGIC 0x74726976u
#define DEV(n) (FREE_VA + 0x100000 + (n)*4096ul)
enum { TIMES = 40, IOAPIC_DATA = 0x10, LVT_LINT0 = 0x350 };

static void devices_here(void)
{
    pages_here(PTE_ALL);
    map(DEV(0), VIRTIO, 1, PTE_P | PTE_W);
    map(DEV(1), IOAPIC, 1, PTE_P | PTE_W);
    map(DEV(2), LAPIC, 1, PTE_P | PTE_W);
}

static uint32_t reg_of(unsigned dev, unsigned off)
{
    return *(volatile uint32_t *)(DEV(dev) + off);
}

/* Loads in many forms, of the same instruction, and RSI's use as another operand. */
#define LOAD(name, insn) CODE(dev_##name, "mov %rsi, %rax; xor %ecx, %ecx", insn, "")
LOAD(mov, "mov (%rdi), %eax")
LOAD(r13, "mov (%rdi), %r13d; mov %r13d, %eax")
LOAD(b, "mov 3(%rdi), %al")
LOAD(w, "movzwl (%rdi), %eax")
LOAD(sx, "movslq (%rdi), %rax")
LOAD(add, "add (%rdi,%rcx,4), %eax")
LOAD(cmp, "cmp %esi, (%rdi); sete %al; movzbl %al, %eax")
LOAD(test, "testl $0x100, (%rdi); setne %al; movzbl %al, %eax")
LOAD(adc, "stc; adc (%rdi), %eax")
LOAD(imul, "imul $3, (%rdi), %eax")
LOAD(two, "mov (%rdi), %eax; add 4(%rdi), %eax; add (%rdi), %eax")
LOAD(push, "push (%rdi); pop %rax")
LOAD(x, "movd (%rdi), %xmm3; movd %xmm3, %eax")
static word loaded(word va, const char *code, word v)
{
    word got;
    __asm__ volatile("call *%1"
                     : "=a"(got)
                     : "r"(code), "D"(va), "S"(v)
                     : "rcx", "rdx", "r9", "r13", "memory", "cc");
    return got;
}
CASE(device_loads)
{
    devices_here();
    write_cr4(read_cr4() | 1 << 9); /* OSFXSR */
    for (unsigned i = 0; i < TIMES; i++) {
        word v = i + (i & 3 ? 0 : MAGIC - i);
        check_eq("mov", loaded(DEV(0), dev_mov, v), MAGIC);
        check_eq("r13", loaded(DEV(0), dev_r13, v), MAGIC);
        check_eq("w", loaded(DEV(1), dev_w, v), reg_of(1, 0) & 0xffff);
        check_eq("sx", loaded(DEV(0), dev_sx, v), MAGIC);
        check_eq("add", loaded(DEV(0), dev_add, v), (uint32_t)(MAGIC + v));
        check_eq("cmp", loaded(DEV(0), dev_cmp, v), (uint32_t)v == MAGIC);
        check_eq("test", loaded(DEV(0), dev_test, v), MAGIC >> 8 & 1);
        check_eq("adc", loaded(DEV(0), dev_adc, v), (uint32_t)(MAGIC + v + 1));
        check_eq("imul", loaded(DEV(0), dev_imul, v), MAGIC * 3);
        check_eq("two", loaded(DEV(0), dev_two, v), 2 * MAGIC + reg_of(0, 4));
        check_eq("x", loaded(DEV(0), dev_x, v), MAGIC);
        check_eq("b", loaded(VA(0), dev_b, v), (v & ~0xfful) | data_page[4][3]);
    }
    for (unsigned i = 0; i < TIMES; i++) {
        check_eq("push", (uint32_t)loaded(DEV(0), dev_push, i), MAGIC);
    }
}

/* Stores of registers with a home and without, and of immediates; each is read again. */
#define STORE(name, insn)                                                                          \
    CODE(dev_##name, "mov %rsi, %rax; mov %rsi, %rcx; mov %rsi, %r9; mov %rsi, %r13", insn, "")
STORE(rax, "mov %eax, (%rdi)")
STORE(rcx, "mov %ecx, (%rdi)")
STORE(rsi, "mov %esi, (%rdi)")
STORE(sr9, "mov %r9d, (%rdi)")
STORE(sr13, "mov %r13d, (%rdi)")
STORE(imm, "movl $5, (%rdi)")
STORE(stos, "cld; stosl; sub $4, %rdi")
STORE(sum, "lea 1(%rsi), %edx; mov %edx, (%rdi)")
STORE(xmm, "movd %esi, %xmm2; movd %xmm2, (%rdi)")
CASE(device_stores)
{
    static const struct {
        const char *code;
        word plus;
        bool imm;
    } row[] = {{dev_rax, 0, false},  {dev_rcx, 0, false},  {dev_rsi, 0, false},
               {dev_sr9, 0, false},  {dev_sr13, 0, false}, {dev_imm, 5, true},
               {dev_stos, 0, false}, {dev_sum, 1, false},  {dev_xmm, 0, false}};
    devices_here();
    uint32_t before = reg_of(1, 0);
    for (unsigned i = 0; i < TIMES * 9; i++) {
        unsigned k = i % 9;
        loaded(DEV(1), row[k].code, i / 9);
        check_eq("select", reg_of(1, 0), row[k].imm ? 5 : i / 9 + row[k].plus);
    }
    loaded(DEV(1), dev_rcx, before);
}

/* In one block, through one register: a group. The order of writes and reads counts. */
CASE(device_groups)
{
    devices_here();
    volatile uint32_t *io = (volatile uint32_t *)DEV(1), *apic_regs = (volatile uint32_t *)DEV(2);
    uint32_t lint = apic_regs[LVT_LINT0 / 4], rte, id;
    for (unsigned i = 0; i < TIMES * 10; i++) {
        uint32_t v = 0x10000 | (i & 0xff);
        io[0] = 0x10 + 2 * 5;
        io[IOAPIC_DATA / 4] = v;
        rte = io[IOAPIC_DATA / 4];
        io[0] = 0;
        id = io[0];
        apic_regs[LVT_LINT0 / 4] = v;
        check_eq("entry", rte, v);
        check_eq("select", id, 0);
        check_eq("LINT0", apic_regs[LVT_LINT0 / 4], v);
    }
    apic_regs[LVT_LINT0 / 4] = lint;
}

/* The same instruction, at devices and at RAM by turns, and where nothing is. */
CASE(device_or_memory)
{
    devices_here();
    for (unsigned i = 0; i < TIMES * 4; i++) {
        data_page[4][0] = (uint8_t)i;
        check_eq("device", loaded(DEV(0), dev_mov, 0), MAGIC);
        check_eq("memory", loaded(VA(0), dev_mov, 0) & 0xff, i & 0xff);
        loaded(DEV(1), dev_rcx, i & 15);
        loaded(VA(0), dev_rcx, i + 1);
        check_eq("select", reg_of(1, 0), i & 15);
        check_eq("stored", *(uint32_t *)(void *)data_page[4], i + 1);
    }
    for (unsigned i = 0; i < TIMES; i++) {
        *entry(DEV(0), 1) = 0;
        invlpg(DEV(0));
        check_eq("vector", run(dev_mov, DEV(0), 0), PF);
        check_eq("cr2", traps[0].cr2, DEV(0));
        check_eq("at", last()->ip, (word)dev_mov_at);
        map(DEV(0), VIRTIO, 1, PTE_P);
        check_eq("again", loaded(DEV(0), dev_mov, 0), MAGIC);
        check_eq("write", run_access(WRITE, DEV(0), false, false), read_cr0() & CR0_WP ? PF : NONE);
    }
}

/* A store that raises an interrupt: it comes before much else is done, once, and nothing is done
 * twice. */
static volatile unsigned arrived;
static bool count_arrival(struct frame *f)
{
    arrived++;
    return f->vector == PF;
}
CODE(send_code, "pushq $0x202; popf; mov %rsi, %rcx", "mov %ecx, (%rdi)",
     "incl arrived_after(%rip); jmp 1f; 1: nop; jmp 1f; 1: cli")
uint32_t arrived_after;
CASE(device_interrupts)
{
    devices_here();
    for (unsigned i = 0; i < TIMES; i++) { /* so that blocks are linked */
        run(send_code, DEV(1), 0);
    }
    arrived_after = 0;
    trap_hook = count_arrival;
    for (unsigned i = 1; i <= TIMES * 4; i++) {
        run(send_code, DEV(2) + APIC_ICR, 1 << 18 | 1 << 14 | VEC_IRQ);
        check_eq("interrupts", arrived, i);
        check_eq("behind", arrived_after, i);
    }
    trap_hook = NULL;
}

/* The same, its page of code being mapped at more and more addresses. */
CODE(moved_code, "pushq $0x202; popf; mov %rsi, %rcx", "mov %ecx, (%rdi)",
     "mov $arrived_after, %rax; incl (%rax); jmp 1f; 1: cli")
CASE(device_code_moves)
{
    devices_here();
    memcpy(data_page[5] + 100, moved_code, 64);
    arrived_after = 0;
    arrived = 0;
    trap_hook = count_arrival;
    for (unsigned i = 0; i < TIMES * 8; i++) {
        word page = DEV(4 + i / 8 % 7);
        map(page, data_pa(5), 1, PTE_P);
        run((const void *)(page + 100), i & 1 ? DEV(2) + APIC_ICR : DEV(1),
            i & 1 ? 1 << 18 | 1 << 14 | VEC_IRQ : 0);
        check_eq("interrupts", arrived, (i + 1) / 2);
        check_eq("behind", arrived_after, i + 1);
    }
    trap_hook = NULL;
}

/* The same in a process: its page is at one address only. */
CODE(user_code, "mov %rsi, %rcx", "mov %ecx, (%rdi)", "nop; jmp 1f; 1: int $0x30")
CASE(device_user_code_moves)
{
    devices_here();
    map(DEV(1), IOAPIC, 1, PTE_ALL);
    map(DEV(2), LAPIC, 1, PTE_ALL);
    memcpy(data_page[5] + 100, user_code, 64);
    arrived = 0;
    trap_hook = count_arrival;
    user_flags = 2 | F_IF;
    for (unsigned i = 0; i < TIMES * 8; i++) {
        word page = DEV(4 + i / 8 % 37);
        map(page, data_pa(5), 1, PTE_P | PTE_U);
        unsigned vector =
            run_user((const void *)(page + 100 - USER_BASE), i & 1 ? DEV(2) + APIC_ICR : DEV(1),
                     i & 1 ? 1 << 18 | 1 << 14 | VEC_IRQ : 0);
        check_eq("vector", vector, i & 1 ? VEC_IRQ : NONE);
        check_eq("interrupts", arrived, (i + 1) / 2);
        *entry(page, 1) = 0;
        invlpg(page);
    }
    user_flags = 2;
    trap_hook = NULL;
}

/* Watched: the same place takes the debug trap behind the access. */
CASE(device_watched)
{
    devices_here();
    for (unsigned i = 0; i < TIMES; i++) {
        loaded(DEV(1), dev_rcx, 3);
    }
    resume = 1 << DB;
    ntraps = 0;
    write_dr0(DEV(1));
    write_dr7(0x400 | 0xdul << 16 | 2);
    loaded(DEV(1), dev_rcx, 4);
    write_dr7(0x400);
    resume = 0;
    unsigned n = ntraps;
    ntraps = 0;
    check_eq("traps", n, 1);
    check_eq("at", traps[0].f.ip, (word)dev_rcx_next);
    check_eq("select", reg_of(1, 0), 4);
}

/* The instruction is another one, at the same place. */
CASE(device_code_changed)
{
    devices_here();
    uint8_t *p = (uint8_t *)VA(1);
    for (unsigned i = 0; i < TIMES * 8; i++) {
        memcpy(p, i >> 3 & 1 ? "\x8b\x07\xc3" : "\x89\xd8\xc3", 4); /* mov (%rdi)|ebx, %eax */
        uint32_t v;
        __asm__ volatile("call *%1" : "=a"(v) : "r"(p), "D"(DEV(0)), "b"(i) : "memory", "cc");
        check_eq("value", v, i >> 3 & 1 ? MAGIC : i);
    }
}
