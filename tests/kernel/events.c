/*
 * Interrupts and debug traps and what holds them: NMI and IRET, STI and MOV SS, CR8, single step,
 * debug registers, HLT (Intel SDM Vol. 3A 6.7, 6.8; Vol. 3B 17.2, 17.3).
 */
#include "rt.h"

static volatile unsigned counter;
static unsigned depth, deepest;

static void wait_a_while(void)
{
    for (counter = 0; counter < 20000; counter++) {
    }
}

/* ---- NMI ---- */

CODE(spin, "mov $30000000, %ecx", "1: testl $1, (%rdi); jnz 2f; dec %ecx; jnz 1b; 2:", "")
static volatile uint32_t stop_spin;

static bool nmi_plain(struct frame *f)
{
    stop_spin = 1;
    return f->vector == NMI;
}
CASE(nmi_taken)
{
    trap_hook = nmi_plain;
    stop_spin = 0;
    send_nmi();
    run(spin, (word)&stop_spin, 0);
    check_eq("stopped", stop_spin, 1);
}

/* The first NMI sends another one; it must wait for IRET and be taken at the very next boundary. */
static bool nmi_twice(struct frame *f)
{
    depth++;
    deepest = depth > deepest ? depth : deepest;
    if (ntraps == 1) {
        send_nmi();
        wait_a_while();
        check_eq("held until IRET", ntraps, 1);
    } else {
        stop_spin = 1;
    }
    depth--;
    return f->vector == NMI;
}

CODE(count_loop, "", "1: inc %rax; testl $1, (%rdi); jz 1b", "mov %rax, (%rsi)")
static void two_nmis(bool sti)
{
    word steps = 0;
    trap_hook = nmi_twice;
    stop_spin = 0;
    deepest = 0;
    ntraps = 0;
    send_nmi();
    if (sti) {
        __asm__ volatile("sti");
    }
    try_call(count_loop, (word)&stop_spin, (word)&steps, 0);
    check_eq("NMIs", ntraps, 2);
    check_eq("nested", deepest, 1);
    check_eq("second right behind IRET", traps[1].f.ip, traps[0].f.ip);
    check_eq("no instruction between", traps[1].f.ax, traps[0].f.ax);
}
CASE(nmi_held_until_iret)
{
    two_nmis(false);
}
CASE(nmi_held_until_iret_if)
{
    two_nmis(true);
}

/* IRET that faults: Intel unblocks NMIs all the same (6.7.1); a later IRET does it for everybody.
 */
static bool nmi_fault_inside(struct frame *f)
{
    if (f->vector == UD) {
        f->ip += 2;
        return true;
    }
    if (ntraps == 1) {
        send_nmi();
        __asm__ volatile("ud2"); /* its IRET unblocks NMIs */
        wait_a_while();
        check_eq("unblocked by the inner IRET", ntraps, 3);
    } else {
        stop_spin = 1;
    }
    return f->vector == NMI;
}
CASE(nmi_unblocked_by_inner_iret)
{
    trap_hook = nmi_fault_inside;
    stop_spin = 0;
    ntraps = 0;
    send_nmi();
    try_call(spin, (word)&stop_spin, 0, 0);
    check_eq("traps", ntraps, 3);
    check_eq("second", traps[1].f.vector, UD);
    check_eq("third", traps[2].f.vector, NMI);
}

static bool nmi_or_irq(struct frame *f)
{
    if (f->vector == NMI) {
        send_self(VEC_IRQ + 1);
        wait_a_while();
        check_eq("no interrupt inside", ntraps, 1);
        return true;
    }
    stop_spin = 1;
    return false;
}
/* An interrupt that came during the NMI's handler is taken after its IRET, which sets IF again. */
CASE(irq_behind_nmi)
{
    trap_hook = nmi_or_irq;
    stop_spin = 0;
    ntraps = 0;
    __asm__ volatile("sti");
    send_nmi();
    try_call(spin, (word)&stop_spin, 0, 0);
    __asm__ volatile("cli");
    check_eq("traps", ntraps, 2);
    check_eq("vector", traps[1].f.vector, VEC_IRQ + 1);
    check_eq("right behind IRET", traps[1].f.ip, traps[0].f.ip);
}

/* ---- IF, STI, MOV SS ---- */

static void pending_irq(void)
{
    __asm__ volatile("cli");
    send_self(VEC_IRQ);
    wait_a_while();
}

CODE(sti_nop, "", "sti; .globl sti_nop_1; sti_nop_1: nop; .globl sti_nop_2; sti_nop_2: nop; nop",
     "cli")
extern const char sti_nop_2[];
CASE(sti_holds_one)
{
    pending_irq();
    run(sti_nop, 0, 0);
    check_eq("traps", ntraps, 1);
    check_trap(VEC_IRQ, NO_ERROR, sti_nop_2);
}
CODE(sti_cli, "", "sti; cli; nop; sti; nop; sti_cli_2: nop", "cli")
extern const char sti_cli_2[];
CASE(sti_cli_lets_none_in)
{
    pending_irq();
    run(sti_cli, 0, 0);
    check_eq("traps", ntraps, 1);
    check_trap(VEC_IRQ, NO_ERROR, sti_cli_2);
}
CODE(sti_mov_ss, "mov %ss, %eax", "sti; mov %eax, %ss; sti_mov_ss_2: nop; sti_mov_ss_3: nop; nop",
     "cli")
extern const char sti_mov_ss_2[], sti_mov_ss_3[];
CASE_NOT_QEMU(sti_then_mov_ss, "Vol. 3A 6.8.3: MOV SS holds interrupts behind STI, too")
{
    pending_irq();
    run(sti_mov_ss, 0, 0);
    check_eq("traps", ntraps, 1);
    check_trap(VEC_IRQ, NO_ERROR, sti_mov_ss_3);
}
CODE(popf_if, "pushfq; orl $0x200, (%rsp)", "popfq; popf_if_1: nop; nop", "cli")
extern const char popf_if_1[];
CASE(popf_lets_in_at_once)
{
    pending_irq();
    run(popf_if, 0, 0);
    check_eq("traps", ntraps, 1);
    check_trap(VEC_IRQ, NO_ERROR, popf_if_1);
}
CODE(iret_if,
     "mov %rsp, %rdx; mov %ss, %eax; push %rax; push %rdx; push $0x202; mov %cs, %eax; push %rax; "
     "lea iret_if_1(%rip), %rax; push %rax",
     "iretq; iret_if_1: nop; nop", "cli")
extern const char iret_if_1[];
CASE(iret_lets_in_at_once)
{
    pending_irq();
    run(iret_if, 0, 0);
    check_eq("traps", ntraps, 1);
    check_trap(VEC_IRQ, NO_ERROR, iret_if_1);
}
CODE(sti_hlt, "", "sti; hlt; sti_hlt_1: nop", "cli")
extern const char sti_hlt_1[];
CASE(sti_hlt_wakes)
{
    pending_irq();
    run(sti_hlt, 0, 0);
    check_eq("traps", ntraps, 1);
    check_trap(VEC_IRQ, NO_ERROR, sti_hlt_1);
}
CODE(sti_loop, "mov $1000, %ecx", "1: sti; cli; loop 1b", "")
CASE(sti_cli_loop)
{
    pending_irq();
    run(sti_loop, 0, 0);
    check_eq("none", ntraps, 0);
    run(sti_nop, 0, 0);
    check_eq("then one", ntraps, 1);
}

/* ---- Priority: TPR and CR8 ---- */

static void write_cr8(word v)
{
    __asm__ volatile("mov %0, %%cr8" : : "r"(v) : "memory");
}
static word read_cr8(void)
{
    word v;
    __asm__ volatile("mov %%cr8, %0" : "=r"(v));
    return v;
}
CODE(cr8_code, "sti; nop; mov %rdi, %cr8; nop; nop; mov %rsi, %cr8", "cr8_at: nop; nop", "cli")
CASE(cr8_holds_and_lets_in)
{
    pending_irq();
    run(cr8_code, 4, 4);
    check_eq("class 4 held", ntraps, 1); /* taken between STI and the first CR8 write */
    pending_irq();
    write_cr8(4);
    run(cr8_code, 4, 3);
    write_cr8(0);
    check_eq("let in", ntraps, 1);
    check_eq("vector", last()->vector, VEC_IRQ);
    check("place", last()->ip >= (word)cr8_code_at && last()->ip <= (word)cr8_code_next);
}
CASE(cr8_is_tpr)
{
    write_cr8(5);
    check_eq("TPR", *apic(APIC_TPR) & 0xff, 0x50);
    *apic(APIC_TPR) = 0x70;
    check_eq("CR8", read_cr8(), 7);
    write_cr8(0);
}
RAISES_NOT_QEMU(cr8_reserved, KERNEL, GP, 0, "mov $16, %eax", "mov %rax, %cr8",
                "Vol. 2B MOV CR: reserved bits of CR8")

/* Two pending: the higher one first, and the lower inside of it only after EOI. */
CASE(priority_order)
{
    __asm__ volatile("cli");
    send_self(VEC_IRQ + 3);
    send_self(VEC_IRQ + 0x20);
    wait_a_while();
    run(sti_nop, 0, 0);
    check_eq("traps", ntraps, 2);
    check_eq("first", traps[0].f.vector, VEC_IRQ + 0x20);
    check_eq("second", traps[1].f.vector, VEC_IRQ + 3);
    check_eq("same place", traps[1].f.ip, traps[0].f.ip);
}

/* ---- Single step ---- */

static word seen_dr6[MAX_TRAPS];
static bool step_on(struct frame *f)
{
    if (f->vector != DB) {
        return false;
    }
    if (ntraps <= MAX_TRAPS) {
        seen_dr6[ntraps - 1] = read_dr6();
    }
    write_dr6(0xffff0ff0);
    return true;
}

static void run_steps(const char *code, word a, word b)
{
    trap_hook = step_on;
    write_dr6(0xffff0ff0);
    run(code, a, b);
}

#define TF_ON "pushfq; orl $0x100, (%rsp); popfq;"
#define TF_OFF "pushfq; andl $~0x100, (%rsp); popfq;"
CODE(tf_plain, TF_ON, "tf_p0: nop; tf_p1: nop; tf_p2: inc %eax; tf_p3:", TF_OFF)
extern const char tf_p1[], tf_p2[], tf_p3[];
CASE(tf_steps)
{
    run_steps(tf_plain, 0, 0);
    /* behind nop, nop, inc, pushfq, andl; POPF clears TF but began with it: one more */
    check_eq("traps", ntraps, 6);
    check_eq("first", traps[0].f.ip, (word)tf_p1);
    check_eq("second", traps[1].f.ip, (word)tf_p2);
    check_eq("third", traps[2].f.ip, (word)tf_p3);
    for (unsigned i = 0; i < 6; i++) {
        check_eq("DR6", seen_dr6[i], 0xffff4ff0);
        check_eq("vector", traps[i].f.vector, DB);
        check_eq("TF in image", traps[i].f.flags & F_TF, i == 5 ? 0 : F_TF);
        check_eq("RF in image", traps[i].f.flags & F_RF, 0);
    }
}
CODE(tf_rep, "mov %rdi, %rsi; mov $4, %ecx;" TF_ON, "rep lodsb; tf_rep_1: nop", TF_OFF)
extern const char tf_rep_1[];
CASE(tf_rep_steps)
{
    run_steps(tf_rep, (word)gdt, 0);
    for (unsigned i = 0; i < 3; i++) {
        check_eq("inside", traps[i].f.ip, (word)tf_rep_at);
        check_eq("count", traps[i].f.cx, 3 - i);
    }
    check_eq("behind", traps[3].f.ip, (word)tf_rep_1);
    check_eq("count", traps[3].f.cx, 0);
}
CODE(tf_rep_none, "xor %ecx, %ecx;" TF_ON, "rep stosb; tf_rn_1: nop", TF_OFF)
extern const char tf_rn_1[];
CASE(tf_rep_zero)
{
    run_steps(tf_rep_none, (word)gdt, 0);
    check_eq("one step", traps[0].f.ip, (word)tf_rn_1);
}
CODE(tf_jump, TF_ON, "jmp 1f; nop; 1: tf_j1: call 2f; tf_j2: jmp 3f; 2: tf_j3: ret; 3:", TF_OFF)
extern const char tf_j1[], tf_j2[], tf_j3[];
CASE(tf_jumps)
{
    run_steps(tf_jump, 0, 0);
    check_eq("jmp", traps[0].f.ip, (word)tf_j1);
    check_eq("call", traps[1].f.ip, (word)tf_j3);
    check_eq("ret", traps[2].f.ip, (word)tf_j2);
}
/* MOV SS holds the step behind it off (Vol. 3B 17.3.1.4). */
CODE(tf_mov_ss, "mov %ss, %eax;" TF_ON, "mov %eax, %ss; tf_ms1: nop; tf_ms2: nop", TF_OFF)
extern const char tf_ms1[], tf_ms2[];
CASE(tf_mov_ss_holds)
{
    run_steps(tf_mov_ss, 0, 0);
    check_eq("first", traps[0].f.ip, (word)tf_ms2);
}
/* A fault under TF: no step of its own; the image has TF, the handler runs without. */
CODE(tf_ud, TF_ON, "ud2", "")
CASE(tf_fault)
{
    run_steps(tf_ud, 0, 0);
    check_eq("traps", ntraps, 1);
    check_trap(UD, NO_ERROR, tf_ud_at);
    check_eq("TF", last()->flags & F_TF, F_TF);
}
/* INT n under TF: the step is not taken behind it, TF is back with IRET. */
CODE(tf_int, TF_ON, "int $0x51; tf_i1: nop; tf_i2: nop", TF_OFF)
extern const char tf_i1[], tf_i2[];
static bool step_and_int(struct frame *f)
{
    return f->vector == 0x51 || step_on(f);
}
CASE(tf_int_n)
{
    trap_hook = step_and_int;
    run(tf_int, 0, 0);
    check_eq("first", traps[0].f.vector, 0x51);
    check_eq("its ip", traps[0].f.ip, (word)tf_i1);
    check_eq("second", traps[1].f.vector, DB);
    check_eq("behind the next", traps[1].f.ip, (word)tf_i2);
}
/* SYSCALL with TF in SFMASK: no step in the kernel; without: one at its first instruction. */
CODE(tf_syscall, TF_ON, "syscall", "")
CODE(syscall_entry, "", "syscall_e0: nop; syscall_e1: nop; int $0x30", "")
extern const char syscall_e1[];
static void syscall_case(uint64_t mask)
{
    wrmsr(0xc0000081, (uint64_t)SEL_CODE << 32);
    wrmsr(0xc0000082, (word)syscall_entry);
    wrmsr(0xc0000084, mask);
    trap_hook = step_on;
    run_user(tf_syscall, 0, 0);
    wrmsr(0xc0000084, 0);
}
CASE(tf_syscall_masked)
{
    syscall_case(F_TF);
    check_eq("steps", ntraps, 0);
}
CASE(tf_syscall_unmasked)
{
    syscall_case(0);
    check("steps", ntraps >= 2);
    check_eq("first", traps[0].f.ip, (word)syscall_entry);
    check_eq("second", traps[1].f.ip, (word)syscall_e1);
}
/* IRET that sets TF: the step comes behind the instruction it returns to. */
CODE(tf_iret,
     "mov %rsp, %rdx; mov %ss, %eax; push %rax; push %rdx; push $0x102; mov %cs, %eax; push %rax; "
     "lea tf_ir1(%rip), %rax; push %rax",
     "iretq; tf_ir1: nop; tf_ir2: nop", TF_OFF)
extern const char tf_ir2[];
CASE(tf_by_iret)
{
    run_steps(tf_iret, 0, 0);
    check_eq("first", traps[0].f.ip, (word)tf_ir2);
}
CASE(tf_user)
{
    run_steps(tf_ud, 0, 0);
    user_flags = 2 | F_TF;
    trap_hook = step_on;
    run_user(spin, (word)&stop_spin, 0); /* mov, then #PF of the supervisor's page */
    check_eq("first", traps[0].f.vector, DB);
    check_eq("ip", traps[0].f.ip, (word)spin_at + USER_BASE);
}

/* ---- Debug registers ---- */

CODE(two_nops, "", "nop; two_1: nop; two_2: nop", "")
extern const char two_1[], two_2[];
static bool debug_once(struct frame *f)
{
    if (f->vector == DB && ntraps <= MAX_TRAPS) {
        seen_dr6[ntraps - 1] = read_dr6();
        write_dr6(0xffff0ff0);
        f->flags |= F_RF;
        return true;
    }
    return false;
}
CASE(dr_execute)
{
    trap_hook = debug_once;
    write_dr6(0xffff0ff0);
    write_dr0((word)two_1);
    write_dr7(0x402);
    run(two_nops, 0, 0);
    write_dr7(0x400);
    check_eq("traps", ntraps, 1);
    check_eq("ip", traps[0].f.ip, (word)two_1);
    check_eq("DR6", seen_dr6[0], 0xffff0ff1);
}
/* The one fault that pushes RF as it was (17.3.1.1). */
CASE(dr_execute_rf)
{
    trap_hook = debug_once;
    write_dr0((word)two_1);
    write_dr7(0x402);
    run(two_nops, 0, 0);
    write_dr7(0x400);
    check_eq("RF", traps[0].f.flags & F_RF, 0);
}
static volatile uint32_t watched[2] __attribute__((aligned(8)));
CODE(watch_write, "", "movl $1, (%rdi); watch_1: movl (%rdi), %eax; nop", "")
extern const char watch_1[];
CASE(dr_write)
{
    trap_hook = debug_once;
    write_dr6(0xffff0ff0);
    write_dr1((word)&watched[0]);
    write_dr7(0x400 | 8 | 0xdul << 20);
    run(watch_write, (word)&watched[0], 0);
    unsigned same = ntraps;
    run(watch_write, (word)&watched[1], 0);
    unsigned other = ntraps;
    write_dr7(0x400);
    check_eq("traps", same, 1);
    check_eq("beside", other, 0);
    check_eq("DR6", seen_dr6[0], 0xffff0ff2);
    check_eq("ip", traps[0].f.ip, (word)watch_1);
}
CODE(read_dr7_code, "", "mov %dr7, %rax", "")
CASE_NOT_QEMU(dr_general_detect, "Vol. 3B 17.2.4: TCG does not clear GD")
{
    write_dr6(0xffff0ff0);
    write_dr7(0x2400);
    unsigned v = run(read_dr7_code, 0, 0);
    word dr7 = read_dr7(), dr6 = read_dr6();
    write_dr6(0xffff0ff0);
    write_dr7(0x400);
    check_eq("vector", v, DB);
    check_eq("ip", last()->ip, (word)read_dr7_code_at);
    check_eq("BD", dr6 & 0x2000, 0x2000);
    check_eq("GD cleared", dr7 & 0x2000, 0);
}
CODE(write_dr7_high, "mov $1, %eax; shl $32, %rax", "mov %rax, %dr7", "")
CASE(dr_high_bits)
{
    run(write_dr7_high, 0, 0);
    check_trap(GP, 0, write_dr7_high_at);
}
CODE(read_dr4, "", "mov %db4, %rax", "")
CASE(dr4_with_de)
{
    check_eq("alias", run(read_dr4, 0, 0), NONE);
    write_cr4(read_cr4() | 8);
    run(read_dr4, 0, 0);
    write_cr4(read_cr4() & ~8ul);
    check_trap(UD, NO_ERROR, read_dr4_at);
}
