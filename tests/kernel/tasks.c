/*
 * Task switches in 32-bit protected mode (Intel SDM Vol. 3A chapter 7): by JMP, CALL, IRET, task
 * gates, exceptions; 16-bit and 32-bit state; what is checked and what is marked.
 */
#include "rt.h"

enum {
    T1 = SEL_FREE,
    T2 = SEL_FREE + 8,
    TG = SEL_FREE + 16,
    C16 = SEL_FREE + 24,
    X = SEL_FREE + 32
};
enum { AVAIL32 = 0x89, BUSY32 = 0x8b, AVAIL16 = 0x81, TASK_GATE = 0x85, BIG = 0x4000 };
enum { CR0_TS = 8 };

struct tss32 {
    uint32_t back, stacks[6], cr3, ip, flags, ax, cx, dx, bx, sp, bp, si, di;
    uint32_t es, cs, ss, ds, fs, gs, ldt, trap_map;
};
struct tss16 {
    uint16_t back, stacks[6], ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
};
static struct tss32 one, two;
static struct tss16 small;
static uint8_t stack[4096] __attribute__((aligned(16)));

static unsigned type_of(unsigned sel)
{
    return gdt[sel / 8] >> 40 & 0xff;
}
static void task_gate(unsigned sel, unsigned to, unsigned ar)
{
    gdt[sel / 8] = (uint64_t)to << 16 | (uint64_t)ar << 40;
}

/* The kernel runs as T1, whose state is never looked at before something is saved; T2 is ready. */
static void ready(const void *code)
{
    memset(&one, 0, sizeof(one));
    memset(&two, 0, sizeof(two));
    one.stacks[0] = (word)trap_stack + sizeof(trap_stack);
    one.stacks[1] = SEL_DATA;
    gdt[T1 / 8] = descriptor((word)&one, sizeof(one) - 1, AVAIL32);
    gdt[T2 / 8] = descriptor((word)&two, sizeof(two) - 1, AVAIL32);
    task_gate(TG, T2, TASK_GATE);
    two = (struct tss32){.ip = (word)code,
                         .flags = 2,
                         .ax = 0xa1,
                         .cx = 0xa2,
                         .dx = 0xa3,
                         .bx = 0xa4,
                         .sp = (word)stack + sizeof(stack),
                         .bp = 0xa6,
                         .si = 0xa7,
                         .di = 0xa8,
                         .es = SEL_DATA,
                         .cs = SEL_CODE,
                         .ss = SEL_DATA,
                         .ds = SEL_DATA,
                         .cr3 = read_cr3(),
                         .trap_map = 0x68u << 16};
    __asm__ volatile("ltr %w0" : : "r"(T1));
}
static void done(void)
{
    gdt[SEL_TSS / 8] &= ~(2ull << 40);
    __asm__ volatile("ltr %w0; clts" : : "r"(SEL_TSS));
    set_gate(UD, entries + UD * 16, SEL_CODE, GATE_INT, 0);
}

CODE(t_jmp, "push %edi; push %esi; mov $0x77, %ebx", "ljmp *(%esp)", "add $8, %esp")
CODE(t_call, "push %edi; push %esi; mov $0x77, %ebx", "lcall *(%esp)", "add $8, %esp")
CODE(t_end, "", "ud2", "")
CODE(t_iret, "mov %edi, t_seen; smsw %edx; mov %edx, t_seen + 4", "iret", "jmp t_iret")
CODE(t_back, "mov %edi, t_seen", "ljmp $0x48, $0", "ud2")
CODE(t_count, "incl t_seen + 8", "iret", "jmp t_count")
extern uint32_t t_seen[3];
uint32_t t_seen[3];

CASE(jmp_loads_all)
{
    ready(t_end);
    run(t_jmp, T2, 0x12345678);
    unsigned old = type_of(T1), now = type_of(T2);
    uint16_t tr;
    __asm__ volatile("str %0" : "=r"(tr));
    word cr0 = read_cr0();
    done();
    check_trap(UD, NO_ERROR, t_end_at);
    check_eq("eax", last()->ax, 0xa1);
    check_eq("ecx", last()->cx, 0xa2);
    check_eq("edx", last()->dx, 0xa3);
    check_eq("ebx", last()->bx, 0xa4);
    check_eq("ebp", last()->bp, 0xa6);
    check_eq("esi", last()->si, 0xa7);
    check_eq("edi", last()->di, 0xa8);
    check_eq("tr", tr, T2);
    check_eq("old: available", old, AVAIL32);
    check_eq("new: busy", now, BUSY32);
    check_eq("CR0.TS", cr0 & CR0_TS, CR0_TS);
    check_eq("NT", last()->flags & F_NT, 0);
    check_eq("link", two.back, 0);
}
CASE(jmp_saves)
{
    ready(t_end);
    one.back = 0x5555;
    one.cr3 = one.ldt = 0x77777777;
    run(t_jmp, T2, 0);
    done();
    check_eq("eip", one.ip, (word)t_jmp_next);
    check_eq("ebx", one.bx, 0x77);
    check_eq("edi", one.di, T2);
    check_eq("cs", one.cs & 0xffff, SEL_CODE);
    check_eq("ss", one.ss & 0xffff, SEL_DATA);
    check_eq("link", one.back, 0x5555);
    check_eq("cr3", one.cr3, 0x77777777);
    check_eq("ldt", one.ldt, 0x77777777);
}
CASE(call_and_iret)
{
    ready(t_iret);
    t_seen[0] = 0;
    run(t_call, T2, 0);
    unsigned old = type_of(T1), now = type_of(T2);
    done();
    check_eq("no trap", ntraps, 0);
    check_eq("ran", t_seen[0], 0xa8);
    check_eq("its CR0.TS", t_seen[1] & CR0_TS, CR0_TS);
    check_eq("link", two.back & 0xffff, T1);
    check_eq("caller: busy", old, BUSY32);
    check_eq("called: available", now, AVAIL32);
    check_eq("saved flags: no NT", two.flags & F_NT, 0);
    check_eq("saved eip", two.ip, (word)t_iret_next);
}
CASE(there_and_back_by_jmp)
{
    ready(t_back);
    t_seen[0] = 0;
    run(t_jmp, T2, 0);
    done();
    check_eq("no trap", ntraps, 0);
    check_eq("ran", t_seen[0], 0xa8);
    check_eq("saved eip", two.ip, (word)t_back_next);
}
CASE(by_gate)
{
    ready(t_iret);
    run(t_call, TG, 0);
    check_eq("no trap", ntraps, 0);
    two.ip = (word)t_end;
    run(t_jmp, TG, 0);
    done();
    check_trap(UD, NO_ERROR, t_end_at);
}
static void refused(word sel, unsigned v, word error)
{
    run(t_jmp, sel, 0);
    uint16_t tr;
    __asm__ volatile("str %0" : "=r"(tr));
    check_trap(v, error, t_jmp_at);
    check_eq("tr", tr, T1);
}
CASE(refuses)
{
    ready(t_end);
    gdt[T2 / 8] = descriptor((word)&two, sizeof(two) - 1, BUSY32);
    refused(T2, GP, T2);
    refused(TG, GP, T2);
    gdt[T2 / 8] = descriptor((word)&two, sizeof(two) - 1, AVAIL32 & ~AR_PRESENT);
    refused(T2, NP, T2);
    gdt[T2 / 8] = descriptor((word)&two, sizeof(two) - 2, AVAIL32);
    refused(T2, TS, T2);
    gdt[T2 / 8] = descriptor((word)&two, sizeof(two) - 1, AVAIL32);
    refused(T2 | 3, GP, T2); /* RPL */
    task_gate(TG, T2, TASK_GATE & ~AR_PRESENT);
    refused(TG, NP, TG);
    done();
}
CASE_NOT_QEMU(refuses_gate_to, "Vol. 2A JMP, task gate: #GP(TSS selector)")
{
    ready(t_end);
    task_gate(TG, T2 | 4, TASK_GATE);
    refused(TG, GP, T2 | 4);
    task_gate(TG, SEL_DATA, TASK_GATE);
    refused(TG, GP, SEL_DATA);
    done();
}
CASE(user_needs_gate)
{
    ready(t_end);
    run_user(t_jmp, T2, 0);
    check_trap(GP, T2, t_jmp_at);
    run_user(t_jmp, TG, 0);
    check_trap(GP, TG, t_jmp_at);
    task_gate(TG, T2, TASK_GATE | AR_DPL3);
    run_user(t_jmp, TG, 0); /* DPL of the TSS does not count */
    done();
    check_trap(UD, NO_ERROR, t_end_at);
    check_eq("cpl", last()->cs & 3, 0);
}

/* Faults of the new task: before its first instruction, with its registers. */
static void bad(unsigned v, word error)
{
    run(t_jmp, T2, 0);
    uint16_t tr;
    __asm__ volatile("str %0" : "=r"(tr));
    check_trap(v, error, t_end);
    check_eq("tr", tr, T2);
    check_eq("ecx", last()->cx, 0xa2);
    ready(t_end);
}
CASE_NOT_QEMU(bad_segments, NOT_RUN "Vol. 3A Table 7-1")
{
    gdt[X / 8] = descriptor(0, 0xfffff, 0xc013); /* not present */
    ready(t_end);
    two.ds = X;
    bad(NP, X);
    two.ds = SEL_TSS;
    bad(TS, SEL_TSS);
    two.es = 0xff8;
    bad(TS, 0xff8);
    two.ldt = SEL_DATA;
    bad(TS, SEL_DATA);
    two.gs = SEL_TSS;
    bad(TS, SEL_TSS);
    done();
}

static void small_ready(unsigned kind)
{
    gdt[C16 / 8] = descriptor(0, 0xfffff, 0xc09b);
    gdt[X / 8] = descriptor((word)&small, sizeof(small) - 1, kind);
}
CASE(state_of_16_bits)
{
    ready(t_end);
    small_ready(AVAIL16);
    gdt[C16 / 8] = descriptor((word)t_end & ~0xful, 0xffff, 0x409b);
    memset(&small, 0, sizeof(small));
    small = (struct tss16){.ip = (word)t_end & 15,
                           .flags = 2,
                           .ax = 0xb1,
                           .cx = 0xb2,
                           .dx = 0xb3,
                           .bx = 0xb4,
                           .sp = 0x7000,
                           .bp = 0xb6,
                           .si = 0xb7,
                           .di = 0xb8,
                           .es = SEL_DATA,
                           .cs = C16,
                           .ss = SEL_DATA,
                           .ds = SEL_DATA};
    run(t_jmp, X, 0);
    unsigned now = type_of(X);
    done();
    check_eq("vector", last()->vector, UD);
    check_eq("eax", last()->ax & 0xffff, 0xb1);
    check_eq("edi", last()->di & 0xffff, 0xb8);
    check_eq("cs", last()->cs, C16);
    check_eq("busy", now, AVAIL16 | 2);
    check_eq("fs", last()->fs & 0xffff, 0);
    check_eq("saved by 32 bits", one.ip, (word)t_jmp_next);
}

/* ---- Exceptions ---- */

CODE(t_gp, "xor %eax, %eax; mov $0xfff8, %ecx", "mov %ecx, %ds; mov $0x55, %eax", "")
CODE(t_soft, "", "int $0x31", "mov $0x66, %eax; ud2")
CODE(t_handler, "mov (%esp), %eax", "ud2", "")
CASE(interrupt_by_gate)
{
    ready(t_count);
    t_seen[2] = 0;
    uint64_t keep = idt[0x31];
    idt[0x31] = (uint64_t)T2 << 16 | (uint64_t)TASK_GATE << 40;
    run(t_soft, 0, 0);
    unsigned old = type_of(T1);
    idt[0x31] = keep;
    done();
    check_trap(UD, NO_ERROR, t_soft_next + 5);
    check_eq("ran", t_seen[2], 1);
    check_eq("caller: busy", old, BUSY32);
    check_eq("saved eip", one.ip, (word)t_soft_next);
}
CASE(exception_by_gate)
{
    ready(t_handler);
    uint64_t keep = idt[GP];
    idt[GP] = (uint64_t)T2 << 16 | (uint64_t)TASK_GATE << 40;
    run(t_gp, 0, 0);
    idt[GP] = keep;
    done();
    check_trap(UD, NO_ERROR, t_handler_at);
    check_eq("error", last()->ax, 0xfff8);
    check_eq("saved eip", one.ip, (word)t_gp_at);
    check_eq("link", two.back & 0xffff, T1);
    check_eq("NT", last()->flags & F_NT, F_NT);
}
CASE_NOT_QEMU(exception_saves_rf, "Vol. 3B 17.3.1.1")
{
    ready(t_handler);
    uint64_t keep = idt[GP];
    idt[GP] = (uint64_t)T2 << 16 | (uint64_t)TASK_GATE << 40;
    run(t_gp, 0, 0);
    idt[GP] = keep;
    done();
    check_eq("RF", one.flags & F_RF, F_RF);
}
CODE(t_nt, "pushfl; orl $0x4000, (%esp); popfl", "iret", "ud2")
CASE(iret_needs_busy)
{
    ready(t_end);
    one.back = T2;
    run(t_nt, 0, 0);
    check_trap(TS, T2, t_nt_at);
    one.back = SEL_DATA;
    run(t_nt, 0, 0);
    done();
    check_trap(TS, SEL_DATA, t_nt_at);
}
CASE_NOT_QEMU(trap_flag, "Vol. 3B 17.3.1.5: T of the TSS")
{
    ready(t_end);
    two.trap_map |= 1;
    write_dr7(0x400);
    run(t_jmp, T2, 0);
    word dr6 = read_dr6();
    write_dr6(0xffff0ff0);
    done();
    check_trap(DB, NO_ERROR, t_end);
    check_eq("DR6.BT", dr6 & 0x8000, 0x8000);
}
