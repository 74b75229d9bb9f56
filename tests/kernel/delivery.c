/*
 * Delivery of exceptions and interrupts in long mode (Intel SDM Vol. 3A 6.12 to 6.15): gates and
 * their error codes, stacks, flags in the image, exceptions within deliveries (Table 6-5).
 */
#include "rt.h"

static uint8_t ist_stack[3][4096] __attribute__((aligned(16)));
enum { BAD_VA = 0x80000000 /* TEST_VA: nothing is mapped there */ };
#define NONCANONICAL 0x800000000000ul

static void set_ist(unsigned n, word top)
{
    *(uint64_t *)(void *)(tss + 0x24 + 8 * (n - 1)) = top;
}

static word ist_top(unsigned n)
{
    return (word)ist_stack[n - 1] + sizeof(ist_stack[0]);
}

static void good_gate(unsigned v)
{
    bool open = v == BP || v == OF || v == VEC_USER_EXIT;
    set_gate(v, entries + 16 * v, SEL_CODE, open ? GATE_INT | AR_DPL3 : GATE_INT, 0);
}

/* ---- Code that raises one exception of each class ---- */

CODE(raise_de, "xor %ecx, %ecx", "div %ecx", "")
CODE(raise_ud, "", "ud2", "")
CODE(raise_np, "mov $0x48, %eax", "mov %eax, %ds", "")
CODE(raise_ss, "mov $0x48, %eax", "mov %eax, %ss", "")
CODE(raise_gp, "mov $0xffb, %eax", "mov %eax, %ds", "")
CODE(raise_pf, "mov $0x80000123, %eax", "mov (%rax), %eax", "")
CODE(raise_bp, "", "int3", "")
CODE(raise_int, "", "int $0x51", "")

static const struct first {
    const char *code;
    unsigned vector;
} contributory[] = {{raise_de, DE}, {raise_np, NP}, {raise_ss, SS}, {raise_gp, GP}};

/* What is wrong with the gate of the first exception, and what that raises. */
enum fault_kind { GATE_ABSENT, GATE_TYPE, GATE_NULL, GATE_SEL, GATE_CODE_NP, STACK_PF, KINDS };

static void spoil(unsigned v, enum fault_kind kind)
{
    const char *to = entries + 16 * v;
    set_ist(1, BAD_VA + 0x800);
    gdt[10] = descriptor(0, 0xfffff, AR_CODE64 & ~AR_PRESENT); /* selector 50 */
    switch (kind) {
    case GATE_ABSENT: set_gate(v, to, SEL_CODE, GATE_INT & ~AR_PRESENT, 0); break;
    case GATE_TYPE: set_gate(v, to, SEL_CODE, 0x85, 0); break;
    case GATE_NULL: set_gate(v, to, 0, GATE_INT, 0); break;
    case GATE_SEL: set_gate(v, to, 0xff8, GATE_INT, 0); break;
    case GATE_CODE_NP: set_gate(v, to, 0x50, GATE_INT, 0); break;
    default: set_gate(v, to, SEL_CODE, GATE_INT, 1); break;
    }
}

static unsigned second_vector(enum fault_kind kind)
{
    static const uint8_t v[KINDS] = {NP, GP, GP, GP, NP, PF};
    return v[kind];
}

/* Vol. 3A 6.13. ext: 0 for INT n, INT3, INTO. */
static word second_error(unsigned v, enum fault_kind kind, unsigned ext)
{
    switch (kind) {
    case GATE_ABSENT:
    case GATE_TYPE: return v * 8 + 2 + ext;
    case GATE_NULL: return ext;
    case GATE_SEL: return 0xff8 + ext;
    case GATE_CODE_NP: return 0x50 + ext;
    default: return PF_W;
    }
}

static unsigned run_spoilt(const char *code, unsigned v, enum fault_kind kind)
{
    gdt[SEL_FREE / 8] = descriptor(0, 0xfffff, AR_DATA & ~AR_PRESENT);
    set_ist(2, ist_top(2));
    set_gate(DF, entries + 16 * DF, SEL_CODE, GATE_INT, 2);
    spoil(v, kind);
    unsigned got = run(code, 0, 0);
    good_gate(v);
    good_gate(DF);
    return got;
}

/* A contributory exception, then another contributory one: double fault. #NP spoils itself. */
CASE(df_contributory)
{
    for (unsigned i = 0; i < 4; i++) {
        for (enum fault_kind k = 0; k < STACK_PF; k++) {
            check_eq("vector", run_spoilt(contributory[i].code, contributory[i].vector, k), DF);
            check_eq("error", last()->error, 0);
            check_eq("traps", ntraps, 1);
            check_eq("IST", traps[0].at_sp, ist_top(2) - offsetof(struct frame, vm_es));
        }
    }
}

/* ... then a page fault: handled one after the other. */
CASE(serial_contributory_pf)
{
    for (unsigned i = 0; i < 4; i++) {
        check_eq("vector", run_spoilt(contributory[i].code, contributory[i].vector, STACK_PF), PF);
        check_eq("error", last()->error, PF_W);
        CHECK(traps[0].cr2 >= BAD_VA + 0x700 && traps[0].cr2 < BAD_VA + 0x800);
        check_eq("cs", last()->cs, SEL_CODE);
    }
}

CASE(df_page_fault_contributory)
{
    for (enum fault_kind k = 0; k < STACK_PF; k++) {
        check_eq("vector", run_spoilt(raise_pf, PF, k), DF);
        check_eq("error", last()->error, 0);
        check_eq("cr2", traps[0].cr2, BAD_VA + 0x123);
    }
}

CASE(df_page_fault_twice)
{
    check_eq("vector", run_spoilt(raise_pf, PF, STACK_PF), DF);
    check_eq("error", last()->error, 0);
    CHECK(traps[0].cr2 >= BAD_VA + 0x700 && traps[0].cr2 < BAD_VA + 0x800);
}

/* A benign one first: never a double fault; the second one is delivered, EXT set. */
CASE_NOT_QEMU(serial_benign, "Vol. 3A 6.13: IDT index doubled, EXT missing")
{
    for (enum fault_kind k = 0; k < KINDS; k++) {
        check_eq("vector", run_spoilt(raise_ud, UD, k), second_vector(k));
        check_eq("error", last()->error, second_error(UD, k, 1));
        check_eq("ip", last()->ip, (word)raise_ud_at);
    }
}

/* The same by INT n and INT3: EXT clear, and the saved RIP is the instruction's own. */
CASE_NOT_QEMU(spoilt_int, "Vol. 3A 6.13: IDT index doubled")
{
    for (enum fault_kind k = 0; k < KINDS; k++) {
        check_eq("vector", run_spoilt(raise_int, 0x51, k), second_vector(k));
        check_eq("error", last()->error, second_error(0x51, k, 0));
        check_eq("ip", last()->ip, (word)raise_int_at);
        check_eq("int3", run_spoilt(raise_bp, BP, k), second_vector(k));
        check_eq("int3 error", last()->error, second_error(BP, k, 0));
        check_eq("int3 ip", last()->ip, (word)raise_bp_at);
    }
}

static void load_idt_limit(uint16_t limit)
{
    struct {
        uint16_t limit;
        word base;
    } __attribute__((packed)) r = {limit, (word)idt};
    __asm__ volatile("lidt %0" : : "m"(r));
}

CASE_NOT_QEMU(idt_limit, "Vol. 3A 6.13: the index is the vector, TCG doubles it")
{
    load_idt_limit(0x51 * 16 + 14); /* one byte short of vector 51's */
    unsigned v = run(raise_int, 0, 0);
    load_idt_limit(sizeof(idt) - 1);
    check_eq("vector", v, GP);
    check_trap(GP, 0x51 * 8 + 2, raise_int_at);
    load_idt_limit(0x51 * 16 + 15);
    v = run(raise_int, 0, 0);
    load_idt_limit(sizeof(idt) - 1);
    check_eq("just long enough", v, 0x51);
}

CASE(gate_noncanonical_target)
{
    set_gate(0x51, (void *)NONCANONICAL, SEL_CODE, GATE_INT, 0);
    run(raise_int, 0, 0);
    good_gate(0x51);
    check_eq("vector", last()->vector, GP);
    check_eq("error", last()->error, 0);
}

CASE(gate_code32)
{
    set_gate(0x51, entries + 16 * 0x51, SEL_CODE32, GATE_INT, 0);
    run(raise_int, 0, 0);
    good_gate(0x51);
    check_trap(GP, SEL_CODE32, raise_int_at);
}

CASE(gate_outer_code)
{
    set_gate(0x51, entries + 16 * 0x51, SEL_USER64, GATE_INT, 0);
    run(raise_int, 0, 0);
    good_gate(0x51);
    check_trap(GP, SEL_USER64 & ~3, raise_int_at);
}

CASE(stack_noncanonical_df)
{
    set_ist(2, ist_top(2));
    set_ist(1, NONCANONICAL + 0x1000);
    set_gate(DF, entries + 16 * DF, SEL_CODE, GATE_INT, 2);
    set_gate(PF, entries + 16 * PF, SEL_CODE, GATE_INT, 1);
    unsigned v = run(raise_pf, 0, 0);
    good_gate(PF);
    good_gate(DF);
    check_eq("vector", v, DF);
}

CASE_NOT_QEMU(stack_noncanonical_benign, "Vol. 3A 6.15, interrupt 12: TCG gives #GP")
{
    set_ist(1, NONCANONICAL + 0x1000);
    set_gate(UD, entries + 16 * UD, SEL_CODE, GATE_INT, 1);
    unsigned v = run(raise_ud, 0, 0);
    good_gate(UD);
    check_eq("vector", v, SS);
    check_eq("error", last()->error & ~1ul, 0);
}

/* ---- Stacks ---- */

static word frame_at(word top)
{
    return (top & ~15ul) - offsetof(struct frame, vm_es);
}

CASE(stack_rsp0)
{
    run_user(raise_ud, 0, 0);
    check_trap(UD, NO_ERROR, raise_ud_at + USER_BASE);
    check_eq("stack", traps[0].at_sp, frame_at((word)trap_stack + sizeof(trap_stack)));
    check_eq("cs", last()->cs, SEL_USER64);
    check_eq("ss", last()->ss, SEL_USER_DATA);
    check_eq("rsp", last()->sp, user_sp);
}

CASE(stack_rsp0_unaligned)
{
    uint64_t *rsp0 = (uint64_t *)(void *)(tss + 4), keep = *rsp0;
    *rsp0 = keep - 9;
    run_user(raise_ud, 0, 0);
    *rsp0 = keep;
    check_eq("stack", traps[0].at_sp, frame_at(keep - 9));
}

CODE(unaligned_ud, "sub $5, %rsp", "ud2", "")
CASE(stack_same_unaligned)
{
    run(unaligned_ud, 0, 0);
    check_eq("stack", traps[0].at_sp, frame_at(last()->sp));
    check_eq("rsp low bits", last()->sp & 7, 3);
    check_eq("ss", last()->ss, SEL_DATA);
}

CASE(stack_ist)
{
    for (unsigned n = 1; n <= 3; n++) {
        set_ist(n, ist_top(n) - 3);
        set_gate(UD, entries + 16 * UD, SEL_CODE, GATE_INT, n);
        run(raise_ud, 0, 0);
        check_eq("kernel", traps[0].at_sp, frame_at(ist_top(n) - 3));
        run_user(raise_ud, 0, 0);
        check_eq("user", traps[0].at_sp, frame_at(ist_top(n) - 3));
        set_ist(n, ist_top(n));
    }
    good_gate(UD);
}

CASE(stack_compat)
{
    run_user32(raise_ud, 0, 0);
    check_trap(UD, NO_ERROR, raise_ud_at + USER_BASE);
    check_eq("cs", last()->cs, SEL_USER32);
    check_eq("ss", last()->ss, SEL_USER_DATA);
}

/* A TSS too short for RSP0 or IST n: #TS with its selector. */
CASE_NOT_QEMU(ts_limit_ist, "Vol. 3A 6.15, interrupt 10: EXT of an exception's delivery")
{
    set_gate(UD, entries + 16 * UD, SEL_CODE, GATE_INT, 3);
    set_tss_limit(0x24 + 16 + 6);
    unsigned v = run(raise_ud, 0, 0);
    set_tss_limit(103);
    good_gate(UD);
    check_eq("vector", v, TS);
    check_eq("error", last()->error, SEL_TSS + 1);
}

CASE(user_pf_frame_not_writable_by_user)
{
    /* the frame goes to a supervisor page although CPL was 3 */
    run_user(raise_pf, 0, 0);
    check_trap(PF, PF_U, raise_pf_at + USER_BASE);
}

/* ---- Flags ---- */

static bool saw_flags(struct frame *f)
{
    word now;
    __asm__ volatile("pushf; pop %0" : "=r"(now));
    f->ax = now;
    return false;
}

/* The flags a handler runs with, noted by the hook. */
static word handler_flags;
static bool note_flags(struct frame *f)
{
    __asm__ volatile("pushf; pop %0" : "=r"(handler_flags));
    return false;
}

CODE(flags_int, "push $0x40202; popfq", "int $0x51", "")
CASE(flags_gates)
{
    trap_hook = note_flags;
    run(flags_int, 0, 0);
    check_eq("IF by interrupt gate", handler_flags & F_IF, 0);
    check_eq("IF in image", last()->flags & F_IF, F_IF);
    check_eq("AC kept", handler_flags & F_AC, F_AC);
    set_gate(0x51, entries + 16 * 0x51, SEL_CODE, GATE_TRAP, 0);
    run(flags_int, 0, 0);
    good_gate(0x51);
    check_eq("IF by trap gate", handler_flags & F_IF, F_IF);
}

CODE(flags_nt_tf, "pushfq; orl $0x4100, (%rsp); popfq", "ud2", "")
CASE(flags_cleared)
{
    trap_hook = note_flags;
    run(flags_nt_tf, 0, 0);
    check_eq("vector", traps[0].f.vector, UD);
    check_eq("NT, TF, RF", handler_flags & (F_NT | F_TF | F_RF), 0);
    check_eq("image", last()->flags & (F_NT | F_TF), F_NT | F_TF);
}

/* Vol. 3B 17.3.1.1: faults push RF set, traps and software interrupts clear. */
CASE_NOT_QEMU(rf_faults, "Vol. 3B 17.3.1.1")
{
    static const char *const codes[] = {raise_de, raise_ud, raise_np, raise_ss, raise_gp, raise_pf};
    gdt[SEL_FREE / 8] = descriptor(0, 0xfffff, AR_DATA & ~AR_PRESENT);
    for (unsigned i = 0; i < 6; i++) {
        run(codes[i], 0, 0);
        check_eq("RF", last()->flags & F_RF, F_RF);
    }
}

CASE(rf_traps)
{
    run(raise_bp, 0, 0);
    check_eq("INT3", last()->flags & F_RF, 0);
    run(raise_int, 0, 0);
    check_eq("INT n", last()->flags & F_RF, 0);
}

CODE(pushf_code, "push $0x10202; popfq", "pushfq; pop %rax; ud2", "")
CASE(rf_not_by_popf)
{
    run(pushf_code, 0, 0);
    check_eq("RF", last()->ax & F_RF, 0);
}

CASE(if_not_by_exception)
{
    trap_hook = saw_flags;
    run(raise_ud, 0, 0);
    check_eq("IF", last()->flags & F_IF, 0);
}

/* ---- IRET in 64-bit mode (Vol. 2A IRET) ---- */

/* Builds a frame of SS, RSP, flags, CS, RIP from its arguments and returns by it. */
CODE(iret_to, "push %rdx; push %rsp; addq $8, (%rsp); push $2; push %rdi; push %rsi", "iretq", "")
static void iret_case(word cs, word ip, word ss, unsigned v, word error)
{
    ntraps = 0;
    try_call(iret_to, cs, ip, ss);
    check_trap(v, error, iret_to_at);
}
CODE(landing, "", "ud2", "")
CASE(iret_cs_null)
{
    iret_case(0, (word)landing, SEL_DATA, GP, 0);
    iret_case(3, (word)landing, SEL_DATA, GP, 0);
}
CASE(iret_cs_bad)
{
    iret_case(0xff8, (word)landing, SEL_DATA, GP, 0xff8);
    iret_case(SEL_DATA, (word)landing, SEL_DATA, GP, SEL_DATA);
    iret_case(SEL_USER64 & ~3, (word)landing, SEL_DATA, GP, SEL_USER64 & ~3);
    iret_case(SEL_CODE | 3, (word)landing, SEL_USER_DATA, GP, SEL_CODE);
}
CASE(iret_cs_not_present)
{
    gdt[SEL_FREE / 8] = descriptor(0, 0xfffff, AR_CODE64 & ~AR_PRESENT);
    iret_case(SEL_FREE, (word)landing, SEL_DATA, NP, SEL_FREE);
}
CASE_NOT_QEMU(iret_cs_l_and_d, "Vol. 2A IRET")
{
    gdt[SEL_FREE / 8] = descriptor(0, 0xfffff, AR_CODE64 | 0x4000);
    iret_case(SEL_FREE, (word)landing, SEL_DATA, GP, SEL_FREE);
}
CASE(iret_ss_bad)
{
    iret_case(SEL_USER64, (word)landing + USER_BASE, 0, GP, 0);
    iret_case(SEL_USER64, (word)landing + USER_BASE, SEL_DATA, GP, SEL_DATA);
    iret_case(SEL_USER64, (word)landing + USER_BASE, SEL_USER32, GP, SEL_USER32 & ~3);
    iret_case(SEL_USER64, (word)landing + USER_BASE, SEL_USER_DATA & ~3, GP, SEL_USER_DATA & ~3);
    iret_case(SEL_USER64, (word)landing + USER_BASE, 0xffb, GP, 0xff8);
}
CASE_NOT_QEMU(iret_ss_not_present, "Vol. 2A IRET: #SS")
{
    gdt[SEL_FREE / 8] = descriptor(0, 0xfffff, (AR_DATA | AR_DPL3) & ~AR_PRESENT);
    iret_case(SEL_USER64, (word)landing + USER_BASE, SEL_FREE | 3, SS, SEL_FREE);
}
CASE_NOT_QEMU(iret_rip_noncanonical, NOT_RUN "Vol. 2A IRET: the fault is the IRET's")
{
    iret_case(SEL_CODE, NONCANONICAL, SEL_DATA, GP, 0);
    iret_case(SEL_USER64, NONCANONICAL, SEL_USER_DATA, GP, 0);
}
CASE(iret_null_ss_kernel)
{
    ntraps = 0;
    try_call(iret_to, SEL_CODE, (word)landing, 0);
    check_trap(UD, NO_ERROR, landing_at);
    check_eq("ss", last()->ss, 0);
}
CODE(iret_nt, "pushfq; orl $0x4000, (%rsp); popfq; xor %eax, %eax", "iretq", "")
CASE(iret_nt_is_gp)
{
    run(iret_nt, 0, 0);
    check_trap(GP, 0, iret_nt_at);
}
CASE(iret_to_compat_kernel)
{
    ntraps = 0;
    try_call(iret_to, SEL_CODE32, (word)landing, SEL_DATA);
    check_trap(UD, NO_ERROR, landing_at);
    check_eq("cs", last()->cs, SEL_CODE32);
}
CASE(iret_to_compat_user)
{
    ntraps = 0;
    try_call(iret_to, SEL_USER32, (word)landing + USER_BASE, SEL_USER_DATA);
    check_trap(UD, NO_ERROR, landing_at + USER_BASE);
    check_eq("cs", last()->cs, SEL_USER32);
}
/* EIP beyond the limit of a compatibility-mode segment (limits are checked there). */
CASE_NOT_QEMU(iret_compat_limit, NOT_RUN "Vol. 2A IRET: EIP against the new limit")
{
    gdt[SEL_FREE / 8] = descriptor(0, 0xff, 0x409b);
    iret_case(SEL_FREE, 0x100, SEL_DATA, GP, 0);
}
