/*
 * Alignment checks (Intel SDM Vol. 3A 6.15, interrupt 17, Table 6-7): at CPL 3, with CR0.AM and
 * EFLAGS.AC. Accesses that the processor makes for itself are not checked. In front of each case
 * RDI is 64-byte aligned.
 */
#include "page.h"

enum { CR0_AM = 1 << 18 };
static uint8_t buffer[512] __attribute__((aligned(64)));
#define QEMU "Vol. 3A 6.15, interrupt 17: TCG has no alignment checks"

static unsigned checked(const char *code)
{
    set_cr0(CR0_AM, true);
    user_flags = 2 | F_AC;
    unsigned v = run_user(code, (word)buffer + USER_BASE, 0);
    set_cr0(CR0_AM, false);
    return v;
}
#define ACS_AFTER(name, setup, insn)                                                               \
    CODE(ac_##name##_code, setup, insn, "int $0x30")                                               \
    CASE_NOT_QEMU(ac_##name, QEMU)                                                                 \
    {                                                                                              \
        checked(ac_##name##_code);                                                                 \
        check_trap(AC, 0, ac_##name##_code_at + USER_BASE);                                        \
    }
#define ACS(name, insn) ACS_AFTER(name, "", insn)
#define GOES(name, insn)                                                                           \
    CODE(goes_##name##_code, "", insn, "int $0x30")                                                \
    CASE(goes_##name)                                                                              \
    {                                                                                              \
        check_eq("vector", checked(goes_##name##_code), NONE);                                     \
    }
ACS(word, "mov 1(%rdi), %ax")
ACS(dword, "mov 2(%rdi), %eax")
ACS(qword, "mov 4(%rdi), %rax")
ACS(store, "mov %rax, 4(%rdi)")
ACS(rmw, "addl $1, 1(%rdi)")
ACS(locked, "lock addl $1, 1(%rdi)")
ACS(xchg, "xchg %eax, 2(%rdi)")
ACS(cmpxchg8b, "cmpxchg8b 4(%rdi)")
ACS_AFTER(push, "sub $4, %rsp", "push %rax")
ACS_AFTER(movs, "lea 1(%rdi), %rsi", "movsl")
ACS_AFTER(movs_to, "mov %rdi, %rsi; inc %rdi", "movsw")
ACS_AFTER(stos, "inc %rdi; mov $3, %ecx", "rep stosl")
ACS_AFTER(cmps, "lea 64(%rdi), %rsi; inc %rdi", "cmpsl")
ACS(movss, "movss 2(%rdi), %xmm0")
ACS(movsd, "movsd 4(%rdi), %xmm0")
ACS(movq, "movq %mm0, 4(%rdi)")
ACS(fld_m32, "flds 2(%rdi)")
ACS(fld_m80, "fldt 4(%rdi)")
ACS(fild, "filds 1(%rdi)")
ACS(fnstenv, "fnstenv 2(%rdi)")
ACS(fnsave, "fnsave 2(%rdi)")
ACS_AFTER(bit_string, "mov $40, %eax", "bt %eax, 2(%rdi)")
ACS(selector, "mov 1(%rdi), %fs")
ACS(ldmxcsr, "ldmxcsr 1(%rdi)")
ACS(fs, "mov %fs:1(%rdi), %ax")
ACS(rip, "mov buffer+1(%rip), %ax")
GOES(byte, "mov 1(%rdi), %al; mov %rdi, %rsi; movsb; inc %rdi; stosb")
GOES(aligned, "mov 2(%rdi), %ax; mov 4(%rdi), %eax; mov 8(%rdi), %rax")
GOES(sse_aligned, "movaps 16(%rdi), %xmm0")
GOES(code, "jmp 1f; .byte 0x90; 1: .byte 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8")
GOES(lea, "lea 1(%rdi), %rax")
GOES(fnstenv_16, "data16 fnstenv 2(%rdi)")

/* #GP of 16-byte operands is what it always is. */
CODE(gp_movaps_code, "", "movaps 8(%rdi), %xmm0", "int $0x30")
CASE(gp_movaps)
{
    checked(gp_movaps_code);
    check_trap(GP, 0, gp_movaps_code_at + USER_BASE);
}
/* None of the three conditions may be missing. */
CASE(ok_without_am)
{
    user_flags = 2 | F_AC;
    check_eq("vector", run_user(ac_dword_code, (word)buffer + USER_BASE, 0), NONE);
}
CASE(ok_without_ac)
{
    set_cr0(CR0_AM, true);
    user_flags = 2;
    unsigned v = run_user(ac_dword_code, (word)buffer + USER_BASE, 0);
    set_cr0(CR0_AM, false);
    check_eq("vector", v, NONE);
}
CODE(kernel_code, "pushf; orl $0x40000, (%rsp); popf", "mov 1(%rdi), %eax",
     "pushf; andl $0xfffbffff, (%rsp); popf")
CASE(ok_kernel)
{
    set_cr0(CR0_AM, true);
    unsigned v = run(kernel_code, (word)buffer, 0);
    set_cr0(CR0_AM, false);
    check_eq("vector", v, NONE);
}
/* AC changes inside a piece of code: POPF, and what stood in the cache before. */
CODE(popf_code, "mov 1(%rdi), %eax; pushf; orl $0x40000, (%rsp); popf", "mov 1(%rdi), %eax",
     "int $0x30")
CASE_NOT_QEMU(ac_popf, QEMU)
{
    set_cr0(CR0_AM, true);
    user_flags = 2;
    run_user(popf_code, (word)buffer + USER_BASE, 0);
    set_cr0(CR0_AM, false);
    check_trap(AC, 0, popf_code_at + USER_BASE);
}
CODE(popf_off_code, "pushf; andl $0xfffbffff, (%rsp); popf; mov 1(%rdi), %eax", "nop", "int $0x30")
CASE(ok_popf_off)
{
    check_eq("vector", checked(popf_off_code), NONE);
}
/* Descriptors and the handler's stack are the processor's own business. */
CODE(implicit_code, "", "mov %ss, %eax; mov %eax, %ds; int $0x30", "")
CASE(ok_implicit)
{
    check_eq("vector", checked(implicit_code), NONE);
}
CODE(enter_code, "sub $4, %rsp", "enter $16, $0", "int $0x30")
CASE_NOT_QEMU(ac_enter, QEMU)
{
    checked(enter_code);
    check_trap(AC, 0, enter_code_at + USER_BASE);
}
CODE(iret_code, "lea 3f(%rip), %rax; sub $44, %rsp", "iretq", "3: int $0x30")
CASE_NOT_QEMU(ac_iret, QEMU)
{
    checked(iret_code);
    check_trap(AC, 0, iret_code_at + USER_BASE);
}
