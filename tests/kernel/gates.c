/*
 * Far jumps, calls, returns and gates between privilege levels in 32-bit protected mode (Intel SDM
 * Vol. 3A 5.8, 6.12; Vol. 2A CALL, JMP, IRET; Vol. 2B RET).
 */
#include "rt.h"

enum { C = SEL_FREE, G = SEL_FREE + 8, D = SEL_FREE + 16, RW = 0x93, XR = 0x9b, CONF = 0x9f };
enum { BIG = 0x4000, PAGES = 0x8000, DATA16 = 0x93, GATE32 = 0x8c, GATE16 = 0x84 };

static void flat(unsigned sel, unsigned ar)
{
    gdt[sel / 8] = descriptor(0, 0xfffff, ar | BIG | PAGES);
}
static void gate(unsigned sel, unsigned code, const void *to, unsigned type, unsigned params)
{
    word ip = (word)to;
    gdt[sel / 8] = (ip & 0xffff) | (uint64_t)code << 16 | (uint64_t)params << 32 |
                   (uint64_t)type << 40 | (uint64_t)(ip >> 16) << 48;
}

/* EDI: selector, ESI: offset. */
CODE(far_jmp, "push %edi; push %esi", "ljmp *(%esp)", "")
CODE(far_call, "push %edi; push %esi", "lcall *(%esp)", "")
CODE(far_ret, "push %edi; push %esi", "lret", "")
CODE(far_iret, "pushfl; push %edi; push %esi", "iret", "")
CODE(target, "", "ud2", "")

enum how { JMP, CALL, RET, IRET };
static const struct {
    const char *code, *at;
} ways[] = {
    {far_jmp, far_jmp_at}, {far_call, far_call_at}, {far_ret, far_ret_at}, {far_iret, far_iret_at}};

/* v == UD: it arrives. */
static void goes(enum how how, bool user, word sel, unsigned v)
{
    if (user) {
        run_user(ways[how].code, sel, (word)target);
    } else {
        run(ways[how].code, sel, (word)target);
    }
    if (v == UD) {
        check_trap(UD, NO_ERROR, target_at);
        check_eq("cpl", last()->cs & 3, user ? 3 : 0);
    } else {
        check_trap(v, sel & ~3ul, ways[how].at);
    }
}

CASE(far_same_level)
{
    for (enum how h = JMP; h <= IRET; h++) {
        flat(C, XR);
        goes(h, false, C, UD);
        check_eq("selector", last()->cs, C);
        goes(h, true, C | 3, GP);
        flat(C, XR | AR_DPL3);
        goes(h, true, C | 3, UD);
        flat(C, XR & ~AR_PRESENT);
        goes(h, false, C, NP);
        flat(C, RW);
        goes(h, false, C, GP);
        goes(h, false, 0xff8, GP);
        goes(h, false, 0, GP);
    }
    for (enum how h = JMP; h <= CALL; h++) {
        flat(C, XR | AR_DPL3);
        goes(h, false, C, GP);
        goes(h, true, C, UD); /* RPL does not count as long as it is not above CPL */
        flat(C, XR);
        goes(h, false, C | 3, GP);
    }
}
CASE_NOT_QEMU(far_limit, NOT_RUN "Vol. 2A IRET: EIP against the new limit")
{
    for (enum how h = JMP; h <= IRET; h++) {
        gdt[C / 8] = descriptor(0, 0xfff, XR | BIG);
        run(ways[h].code, C, 0x1000);
        check_trap(GP, 0, ways[h].at);
    }
}
CASE(far_conforming)
{
    for (enum how h = JMP; h <= CALL; h++) {
        flat(C, CONF);
        goes(h, false, C, UD);
        goes(h, false, C | 3, UD);
        goes(h, true, C, UD);
        check_eq("selector", last()->cs, C | 3);
        flat(C, CONF | AR_DPL3);
        goes(h, false, C, GP); /* DPL beyond CPL */
        goes(h, true, C | 3, UD);
    }
    flat(C, CONF);
    goes(RET, true, C | 3, UD);
    goes(IRET, true, C | 3, UD);
    flat(C, CONF | AR_DPL3);
    goes(RET, false, C, GP);
    goes(RET, true, C, GP); /* inwards */
}
CODE(far_call_frame, "push %edi; push %esi", "lcall *(%esp)", "")
CODE(look_at_stack, "mov (%esp), %eax; mov 4(%esp), %ebx", "ud2", "")
CASE(far_call_pushes)
{
    run(far_call_frame, SEL_CODE, (word)look_at_stack);
    check_eq("eip", last()->ax, (word)far_call_frame_next);
    check_eq("cs", last()->bx & 0xffff, SEL_CODE);
}

/* ---- Call gates ---- */

static void gate_fails(bool user, enum how how, unsigned v, word error)
{
    if (user) {
        run_user(ways[how].code, G | 3, 0);
    } else {
        run(ways[how].code, G, 0);
    }
    check_trap(v, error, ways[how].at);
}
CASE(gate_same_level)
{
    gate(G, SEL_CODE, target, GATE32, 0);
    run(far_call, G, 0x12345678);
    check_trap(UD, NO_ERROR, target_at);
    run(far_jmp, G, 0x12345678);
    check_trap(UD, NO_ERROR, target_at);
}
CASE(gate_refuses)
{
    gate(G, SEL_CODE, target, GATE32, 0);
    gate_fails(true, CALL, GP, G); /* DPL 0 */
    gate_fails(true, JMP, GP, G);
    run(far_call, G | 3, 0);
    check_trap(GP, G, far_call_at); /* RPL */
    gate(G, SEL_CODE, target, (GATE32 | AR_DPL3) & ~AR_PRESENT, 0);
    gate_fails(true, CALL, NP, G);
    gate(G, 0, target, GATE32 | AR_DPL3, 0);
    gate_fails(true, CALL, GP, 0);
    gate(G, 0xff8, target, GATE32 | AR_DPL3, 0);
    gate_fails(true, CALL, GP, 0xff8);
    gate(G, SEL_DATA, target, GATE32 | AR_DPL3, 0);
    gate_fails(true, CALL, GP, SEL_DATA);
    flat(C, XR & ~AR_PRESENT);
    gate(G, C, target, GATE32 | AR_DPL3, 0);
    gate_fails(true, CALL, NP, C);
    gate(G, SEL_CODE, target, GATE32 | AR_DPL3, 0);
    gate_fails(true, JMP, GP, SEL_CODE); /* no jump to an inner level */
    gate(G, SEL_USER32, target, GATE32, 0);
    gate_fails(false, CALL, GP, SEL_USER32 & ~3); /* nor a call outwards */
    run(far_ret, G, 0);
    check_trap(GP, G, far_ret_at);
}

/* ES gets the user's data segment back: the handler's entry left ours. */
CODE(inner_code,
     "mov %esp, %ebp; mov (%ebp), %eax; mov 4(%ebp), %ebx; mov 8(%ebp), %ecx; mov 12(%ebp), %edx; "
     "mov 16(%ebp), %esi; mov 20(%ebp), %edi; mov %cs, %ebp",
     "ud2", "")
CODE(call_with_params, "push $0x1111; push $0x2222; mov %esp, %ebx", "lcall $0x53, $0", "")
CASE(gate_inner)
{
    gate(G, SEL_CODE, inner_code, GATE32 | AR_DPL3, 2);
    run_user(call_with_params, 0, 0);
    check_trap(UD, NO_ERROR, inner_code_at);
    check_eq("cs", last()->bp, SEL_CODE);
    check_eq("return eip", last()->ax, (word)call_with_params_next);
    check_eq("return cs", last()->bx & 0xffff, SEL_USER32);
    check_eq("last parameter", last()->cx, 0x2222);
    check_eq("first parameter", last()->dx, 0x1111);
    check_eq("old esp", last()->si, user_sp - 8);
    check_eq("old ss", last()->di & 0xffff, SEL_USER_DATA);
    check_eq("stack", traps[0].at_sp,
             (word)trap_stack + sizeof(trap_stack) - 6 * 4 - offsetof(struct frame, sp));
}
CODE(inner_16, "mov (%esp), %eax; mov 4(%esp), %ebx; mov 8(%esp), %ecx", "ud2", "")
CODE(call_with_words, "pushw $0x1111; pushw $0x2222; mov %esp, %ebx", "lcall $0x53, $0", "")
CASE(gate_inner_16)
{
    gdt[C / 8] = descriptor((word)inner_16, 0xffff, XR | BIG);
    gate(G, C, 0, GATE16 | AR_DPL3, 2);
    run_user(call_with_words, 0, 0);
    check_eq("vector", last()->vector, UD);
    check_eq("return", last()->ax, ((word)call_with_words_next & 0xffff) | (word)SEL_USER32 << 16);
    check_eq("parameters", last()->bx, 0x11112222);
    check_eq("old stack", last()->cx, ((user_sp - 4) & 0xffff) | (word)SEL_USER_DATA << 16);
}
/* Parameters released on both stacks by RET n. */
CODE(inner_ret, "", "lret $8", "")
CODE(call_and_back, "push $0x1111; push $0x2222; lcall $0x53, $0", "mov %esp, %eax; mov %ds, %ebx",
     "ud2")
CASE(gate_and_back)
{
    gate(G, SEL_CODE, inner_ret, GATE32 | AR_DPL3, 2);
    run_user(call_and_back, 0, 0);
    check_trap(UD, NO_ERROR, call_and_back_next);
    check_eq("esp", last()->ax, user_sp);
    check_eq("cpl", last()->cs & 3, 3);
    check_eq("ss", last()->ss, SEL_USER_DATA);
}
CASE_NOT_QEMU(gate_conforming, "Vol. 2A CALL: RPL of CS becomes CPL")
{
    flat(C, CONF);
    gate(G, C, target, GATE32 | AR_DPL3, 0);
    run_user(far_call, G | 3, 0);
    check_trap(UD, NO_ERROR, target_at);
    check_eq("cs", last()->cs, C | 3);
}

/* ---- Returns to an outer level ---- */

/* EDI: SS, ESI: CS; the frame is made by hand. */
CODE(ret_outer, "push %edi; push user_sp; push %esi; push $ret_target", "lret", "")
CODE(iret_outer, "push %edi; push user_sp; push $2; push %esi; push $ret_target", "iret", "")
CODE(ret_target, "", "mov %ds, %eax; mov %es, %ebx; mov %fs, %ecx; mov %gs, %edx", "ud2")
static void outer(bool iret, word ss, word cs, unsigned v, word error)
{
    run(iret ? iret_outer : ret_outer, ss, cs);
    if (v == UD) {
        check_trap(UD, NO_ERROR, ret_target_next);
    } else {
        check_trap(v, error, iret ? iret_outer_at : ret_outer_at);
    }
}
CASE(return_outer)
{
    run_user(target, 0, 0); /* makes user_sp */
    for (unsigned i = 0; i < 2; i++) {
        outer(i, SEL_USER_DATA, SEL_USER32, UD, NO_ERROR);
        check_eq("cs", last()->cs, SEL_USER32);
        check_eq("ss", last()->ss, SEL_USER_DATA);
        check_eq("esp", last()->sp, user_sp);
        check_eq("ds is null", last()->ax, 0); /* DPL 0 is not for the outer level */
        check_eq("es is null", last()->bx, 0);
        outer(i, 0, SEL_USER32, GP, 0);
        outer(i, SEL_DATA, SEL_USER32, GP, SEL_DATA);
        outer(i, SEL_USER_DATA & ~3, SEL_USER32, GP, SEL_USER_DATA & ~3);
        outer(i, SEL_USER32, SEL_USER32, GP, SEL_USER32 & ~3);
        outer(i, 0xffb, SEL_USER32, GP, 0xff8);
        outer(i, SEL_USER_DATA, SEL_CODE | 3, GP, SEL_CODE);
        outer(i, SEL_USER_DATA, SEL_USER_DATA, GP, SEL_USER_DATA & ~3);
        outer(i, SEL_USER_DATA, 3, GP, 0);
        flat(C, (XR | AR_DPL3) & ~AR_PRESENT);
        outer(i, SEL_USER_DATA, C | 3, NP, C);
    }
}
CASE_NOT_QEMU(return_outer_ss_not_present, "Vol. 2A IRET, 2B RET: #SS")
{
    run_user(target, 0, 0);
    for (unsigned i = 0; i < 2; i++) {
        flat(D, (RW | AR_DPL3) & ~AR_PRESENT);
        outer(i, D | 3, SEL_USER32, SS, D);
    }
}
CODE(ret_keeps,
     "mov %edi, %ds; mov %edi, %fs; mov %esi, %gs; push $0x23; push user_sp; push $0x1b; "
     "push $ret_target",
     "lret", "")
CASE(return_keeps_outer_segments)
{
    run_user(target, 0, 0);
    flat(C, CONF);
    run(ret_keeps, SEL_USER_DATA, C);
    check_trap(UD, NO_ERROR, ret_target_next);
    check_eq("ds", last()->ax, SEL_USER_DATA);
    check_eq("fs", last()->cx, SEL_USER_DATA);
    check_eq("gs, conforming", last()->dx, C);
}
CODE(user_ret_inward, "push %edi; push %esi", "lret", "")
CASE(return_inward)
{
    run_user(user_ret_inward, SEL_CODE, (word)target);
    check_trap(GP, SEL_CODE, user_ret_inward_at);
}

/* ---- IRET's flags, IOPL ---- */

CODE(iret_flags, "push %edi; push $0x1b; push $iret_f1", "iret; iret_f1: pushfl; pop %eax", "ud2")
static void user_iret(word iopl, word flags, word want)
{
    user_flags = 2 | iopl << 12;
    run_user(iret_flags, flags, 0);
    check_trap(UD, NO_ERROR, iret_flags_next);
    check_eq("flags", last()->ax & (F_IF | F_IOPL | F_VM), want);
}
CASE_NOT_QEMU(iret_iopl, "Vol. 2A IRET: VM says something at CPL 0 only")
{
    user_iret(0, 2 | F_IF | F_IOPL, 0);
    user_iret(3, 2 | F_IOPL, F_IOPL);
    user_iret(3, 2, F_IOPL); /* IOPL changes at CPL 0 only */
    user_iret(3, 2 | F_VM, F_IOPL);
}
CODE(popf_code, "push %edi; popfl; pushfl; pop %eax", "ud2", "")
CASE(popf_iopl)
{
    run(popf_code, 2 | F_IOPL, 0);
    check_eq("CPL 0", last()->ax & F_IOPL, F_IOPL);
    run(popf_code, 2 | F_VM | F_RF, 0);
    check_eq("VM, RF", last()->ax & (F_VM | F_RF), 0);
    user_flags = 2;
    run_user(popf_code, 2 | F_IOPL | F_IF, 0);
    check_eq("CPL 3", last()->ax & (F_IOPL | F_IF), 0);
    user_flags = 2 | F_IOPL;
    run_user(popf_code, 2, 0);
    check_eq("CPL 3, IOPL 3", last()->ax & F_IOPL, F_IOPL);
}

/* ---- Interrupt gates and task gates ---- */

CODE(int_51, "", "int $0x51", "")
static void idt_entry(uint64_t type, unsigned sel)
{
    set_gate(0x51, entries + 16 * 0x51, sel, (unsigned)type, 0);
}
CASE(int_gates)
{
    idt_entry(0x86 | AR_DPL3, SEL_CODE); /* a 16-bit gate: offset 15..0 only, and words pushed */
    idt_entry(GATE_INT, SEL_CODE);
    run_user(int_51, 0, 0);
    check_trap(GP, 0x51 * 8 + 2, int_51_at);
    idt_entry((GATE_INT | AR_DPL3) & ~AR_PRESENT, SEL_CODE);
    run_user(int_51, 0, 0);
    check_trap(NP, 0x51 * 8 + 2, int_51_at);
    idt_entry(GATE_INT | AR_DPL3, SEL_DATA);
    run_user(int_51, 0, 0);
    check_trap(GP, SEL_DATA, int_51_at);
    idt_entry(GATE_INT | AR_DPL3, 0);
    run_user(int_51, 0, 0);
    check_trap(GP, 0, int_51_at);
    idt_entry(0x80 | AR_DPL3, SEL_CODE);
    run_user(int_51, 0, 0);
    check_trap(GP, 0x51 * 8 + 2, int_51_at);
    idt_entry(GATE_INT, SEL_CODE);
}
CODE(handler_16, "mov (%esp), %eax; mov 4(%esp), %ebx", "ud2", "")
CASE(int_gate_16)
{
    gdt[C / 8] = descriptor((word)handler_16, 0xffff, XR | BIG);
    set_gate(0x51, 0, C, 0x86, 0);
    run(int_51, 0, 0);
    set_gate(0x51, entries + 16 * 0x51, SEL_CODE, GATE_INT, 0);
    check_eq("vector", last()->vector, UD);
    check_eq("pushed", last()->ax, ((word)int_51_next & 0xffff) | (word)SEL_CODE << 16);
    check_eq("flags", last()->bx & 0x7002, 2);
}
/* A task gate whose TSS is not one: #GP with its selector, or #TS; never a switch. */
CASE(task_gate_raises)
{
    idt_entry(0x85, SEL_DATA);
    unsigned v = run(int_51, 0, 0);
    idt_entry(GATE_INT, SEL_CODE);
    check_eq("vector", v, GP);
}
CODE(iret_nt, "push $0x4002; popfl", "iret", "")
CASE_NOT_LODGE(iret_nt_ts, "src/isa/x86/far.c: no task switches")
{
    *(uint16_t *)(void *)tss = SEL_DATA; /* the previous task is no TSS: #TS(its selector) */
    run(iret_nt, 0, 0);
    *(uint16_t *)(void *)tss = 0;
    check_trap(TS, SEL_DATA, iret_nt_at);
}

/* ---- 16-bit code ---- */

CODE_BITS(code16, ".code16",
          "mov %esp, %ecx; mov $0x1234, %ax; add $0x1000, %ax; movl $0x89abcdef, %ebx", "ud2", "")
CASE(code_16_bit)
{
    gdt[C / 8] = descriptor((word)code16, 0xffff, XR);
    run(far_jmp, C, 0);
    check_eq("vector", last()->vector, UD);
    check_eq("ip", last()->ip, (word)(code16_at - code16));
    check_eq("ax", last()->ax & 0xffff, 0x2234);
    check_eq("ebx", last()->bx, 0x89abcdef);
}
/* IP wraps at 64 KiB for a near jump of 16 bits. */
static uint8_t wrap_code[65536 + 16];
CASE_NOT_QEMU(code_16_wraps, NOT_RUN "Vol. 2A JMP: EIP and ffff")
{
    memset(wrap_code, 0, sizeof(wrap_code));
    wrap_code[0xfff0] = 0xeb; /* jmp +0x20, from fff2 */
    wrap_code[0xfff1] = 0x20;
    wrap_code[0x12] = 0x0f;
    wrap_code[0x13] = 0x0b;
    gdt[C / 8] = descriptor((word)wrap_code, 0xfffff, XR | PAGES);
    run(far_jmp, C, 0xfff0);
    check_eq("vector", last()->vector, UD);
    check_eq("ip", last()->ip, 0x12);
}
#define CS_LIMIT "Vol. 3A 5.3: the limit of CS at fetches; TCG has none"
static uint8_t short_code[64];
/* CS of `limit` for code bytes at `at`, NOPs around them; entered at `from`. */
static void run_short(unsigned ar, unsigned limit, unsigned at, const char *code, unsigned n,
                      unsigned from)
{
    memset(short_code, 0x90, sizeof(short_code));
    memcpy(short_code + at, code, n);
    short_code[40] = 0xcc;
    gdt[C / 8] = descriptor((word)short_code, limit, ar);
    run(far_jmp, C, from);
}
static void check_short(unsigned vector, unsigned ip)
{
    check_eq("vector", last()->vector, vector);
    check_eq("ip", last()->ip, ip);
    check_eq("cs", last()->cs & ~3ul, C);
}
CASE_NOT_QEMU(cs_limit_fetch, CS_LIMIT)
{
    run_short(XR | BIG, 15, 0, "", 0, 0);
    check_short(GP, 16);
    check_eq("error code", last()->error, 0);
}
CASE_NOT_QEMU(cs_limit_fetch_16, CS_LIMIT)
{
    run_short(XR, 15, 0, "", 0, 0);
    check_short(GP, 16);
}
/* The last byte may be the limit's, and not beyond it. */
CASE(cs_limit_last_byte)
{
    run_short(XR | BIG, 15, 14, "\x0f\x0b", 2, 0);
    check_short(UD, 14);
}
CASE_NOT_QEMU(cs_limit_half, CS_LIMIT)
{
    run_short(XR | BIG, 15, 12, "\xb8\1\2\3\4", 5, 0); /* mov $x, %eax: one byte too many */
    check_short(GP, 12);
}
/* Near branches fault themselves (Vol. 2A JMP, Jcc, CALL, LOOP; Vol. 2B RET), if they are taken. */
CASE_NOT_QEMU(cs_limit_branches, CS_LIMIT)
{
    static const struct {
        const char *name, *code;
        unsigned n;
    } near[] = {{"jmp", "\xeb\x20", 2},           {"jmp edi", "\x6a\x28\x5f\xff\xe7", 5},
                {"jz", "\x31\xc0\x74\x20", 4},    {"call", "\xe8\x20\0\0\0", 5},
                {"jecxz", "\x31\xc9\xe3\x20", 4}, {"loop", "\x6a\2\x59\xe2\x20", 5},
                {"ret", "\x6a\x28\xc3", 3}};
    static const uint8_t at[] = {0, 3, 2, 0, 2, 3, 2};
    for (unsigned i = 0; i < sizeof(at); i++) {
        run_short(XR | BIG, 15, 0, near[i].code, near[i].n, 0);
        check_eq(near[i].name, last()->ip, at[i]);
        check_short(GP, at[i]);
    }
    check_eq("ecx of loop", last()->vector, GP);
}
CASE_NOT_QEMU(cs_limit_loop_keeps_ecx, CS_LIMIT)
{
    run_short(XR | BIG, 15, 0, "\x6a\2\x59\xe2\x20", 5, 0);
    check_short(GP, 3);
    check_eq("ecx", last()->cx, 2);
}
CASE(cs_limit_not_taken)
{
    run_short(XR | BIG, 15, 0, "\x31\xc0\x75\x20\x0f\x0b", 6, 0);
    check_short(UD, 4);
}
/* 16-bit code that runs over its last byte at 64 KiB. */
CASE_NOT_QEMU(cs_limit_64k, NOT_RUN CS_LIMIT)
{
    memset(wrap_code, 0x90, sizeof(wrap_code));
    gdt[C / 8] = descriptor((word)wrap_code, 0xffff, XR);
    run(far_jmp, C, 0xfff0);
    check_short(GP, 0x10000);
    wrap_code[0xffff] = 0x66; /* an instruction over the end */
    run(far_jmp, C, 0xfff0);
    check_short(GP, 0xffff);
}
/* A jump of 32 bits in 16-bit code. */
CASE_NOT_QEMU(cs_limit_jmp32, NOT_RUN CS_LIMIT)
{
    memset(wrap_code, 0x90, sizeof(wrap_code));
    memcpy(wrap_code, "\x66\xe9\0\0\1\0", 6);
    gdt[C / 8] = descriptor((word)wrap_code, 0xffff, XR);
    run(far_jmp, C, 0);
    check_short(GP, 0);
}
