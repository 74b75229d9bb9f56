/*
 * Exceptions of single instructions in 64-bit and compatibility mode: vector, error code, saved RIP
 * (Intel SDM Vol. 3A 6.15; Vol. 2 for each instruction), and delivery itself (6.13, 6.14, Table
 * 6-5).
 */
#include "rt.h"

#define NONCANON "mov $0x800000000000, %rbx;"

/* ---- #DE, #DB, #BP, #OF, #BR ---- */

RAISES(de_div8, KERNEL, DE, NO_ERROR, "xor %ecx, %ecx; mov $7, %eax", "div %cl")
RAISES(de_div64, KERNEL, DE, NO_ERROR, "xor %ecx, %ecx; xor %edx, %edx", "div %rcx")
RAISES(de_div_overflow, KERNEL, DE, NO_ERROR, "mov $5, %edx; mov $5, %ecx", "div %ecx")
RAISES(de_idiv_overflow, KERNEL, DE, NO_ERROR,
       "mov $0x80000000, %eax; mov $-1, %edx; mov $-1, %ecx", "idiv %ecx")
RAISES(de_idiv64_overflow, KERNEL, DE, NO_ERROR, "mov $1, %eax; shl $63, %rax; cqo; mov $-1, %rcx",
       "idiv %rcx")
RAISES(de_user, USER, DE, NO_ERROR, "xor %ecx, %ecx", "div %ecx")
RAISES32(de_aam, 0, DE, NO_ERROR, "", ".byte 0xd4, 0")
#define NO_INT1 "Vol. 2A INT1: TCG has #UD for it unless it is debugged"
RAISES_NOT_QEMU(db_icebp, TRAP, DB, NO_ERROR, "", ".byte 0xf1", NO_INT1)
RAISES_NOT_QEMU(db_icebp_user, USER | TRAP, DB, NO_ERROR, "", ".byte 0xf1", NO_INT1)
RAISES(bp_int3, TRAP, BP, NO_ERROR, "", "int3")
RAISES(bp_int_3, TRAP, BP, NO_ERROR, "", ".byte 0xcd, 3")
RAISES(bp_user, USER | TRAP, BP, NO_ERROR, "", "int3")
RAISES(of_int_4, TRAP, OF, NO_ERROR, "", "int $4")
RAISES32(of_into, TRAP, OF, NO_ERROR, "mov $0x7f, %al; inc %al", "into")
RAISES32(of_into_clear, 0, NONE, NO_ERROR, "xor %eax, %eax", "into")
RAISES32(br_bound, 0, BR, NO_ERROR, "push $9; push $5; mov $10, %eax", "bound %eax, (%esp)")
RAISES32(br_bound_below, 0, BR, NO_ERROR, "push $9; push $-5; mov $-6, %eax", "bound %eax, (%esp)")
RAISES32(br_bound_inside, 0, NONE, NO_ERROR, "push $9; push $5; mov $9, %eax",
         "bound %eax, (%esp); pop %ecx; pop %ecx")

/* ---- #UD: reserved forms, LOCK, modes and control bits ---- */

#define UD_CASE(name, insn) RAISES(ud_##name, KERNEL, UD, NO_ERROR, "lea -64(%rsp), %rbx", insn)
#define UD_LOCK(name, insn)                                                                        \
    RAISES_NOT_QEMU(ud_##name, KERNEL, UD, NO_ERROR, "lea -64(%rsp), %rbx", insn,                  \
                    "Vol. 2A LOCK: these take no LOCK")
UD_CASE(ud2, "ud2")
UD_CASE(ud1, ".byte 0x0f, 0xb9, 0xc0")
UD_CASE(ud0, ".byte 0x0f, 0xff, 0xc0")
UD_CASE(mov_to_cs, ".byte 0x8e, 0xc8")
UD_CASE(mov_to_seg6, ".byte 0x8e, 0xf0")
UD_CASE(mov_from_seg7, ".byte 0x8c, 0xf8")
UD_CASE(mov_cr1, ".byte 0x0f, 0x20, 0xc8")
UD_CASE(mov_cr5, ".byte 0x0f, 0x22, 0xe8")
UD_CASE(mov_cr9, ".byte 0x44, 0x0f, 0x22, 0xc8")
UD_CASE(mov_dr8, ".byte 0x44, 0x0f, 0x23, 0xc0")
UD_CASE(lea_register, ".byte 0x8d, 0xc0")
UD_CASE(push_es, ".byte 0x06")
UD_CASE(pop_ds, ".byte 0x1f")
UD_CASE(daa, ".byte 0x27")
UD_CASE(aas, ".byte 0x3f")
UD_CASE(pusha, ".byte 0x60")
UD_CASE(popa, ".byte 0x61")
UD_CASE(alias_82, ".byte 0x82, 0xc0, 0")
UD_CASE(far_call_imm, ".byte 0x9a, 0, 0, 0, 0, 0, 0")
UD_CASE(far_jmp_imm, ".byte 0xea, 0, 0, 0, 0, 0, 0")
UD_CASE(into, ".byte 0xce")
UD_CASE(aam, ".byte 0xd4, 10")
UD_CASE(salc, ".byte 0xd6")
UD_CASE(fe_2, ".byte 0xfe, 0xd0")
UD_CASE(ff_7, ".byte 0xff, 0xf8")
UD_CASE(ff_5_register, ".byte 0xff, 0xe8")
RAISES_NOT_QEMU(ud_c6_1, KERNEL, UD, NO_ERROR, "", ".byte 0xc6, 0xc8, 0", "Vol. 2D table A-6")
UD_CASE(ba_0, ".byte 0x0f, 0xba, 0xc0, 0")
UD_CASE(of_04, ".byte 0x0f, 4")
UD_CASE(of_0a, ".byte 0x0f, 0x0a")
UD_CASE(of_24, ".byte 0x0f, 0x24, 0xc0")
UD_CASE(of_a6, ".byte 0x0f, 0xa6, 0xc0")
UD_CASE(group_7_5_register, ".byte 0x0f, 0x01, 0xe9")
UD_CASE(sldt_group_6, ".byte 0x0f, 0x00, 0xf0")
UD_CASE(vmcall, ".byte 0x0f, 0x01, 0xc1")
UD_CASE(cmpxchg8b_register, ".byte 0x0f, 0xc7, 0xc8")
UD_CASE(movnti_register, ".byte 0x0f, 0xc3, 0xc0")
UD_CASE(rsm, "rsm")
UD_LOCK(lock_register, ".byte 0xf0, 0x01, 0xc0")
UD_LOCK(lock_mov, ".byte 0xf0, 0x89, 0x03")
UD_LOCK(lock_cmp, ".byte 0xf0, 0x39, 0x03")
UD_LOCK(lock_bt, ".byte 0xf0, 0x0f, 0xa3, 0x03")
UD_LOCK(lock_nop, ".byte 0xf0, 0x90")
UD_LOCK(lock_add_load, ".byte 0xf0, 0x03, 0x03")
UD_LOCK(lock_shl, ".byte 0xf0, 0xd1, 0x23")
UD_LOCK(lock_test, ".byte 0xf0, 0xf6, 0x03, 0")
UD_LOCK(lock_mul, ".byte 0xf0, 0xf7, 0x23")
UD_LOCK(lock_push, ".byte 0xf0, 0xff, 0x33")
UD_LOCK(lock_movs, ".byte 0xf0, 0xa5")
UD_LOCK(lock_bts_register, ".byte 0xf0, 0x0f, 0xab, 0xc0")
UD_LOCK(lock_vex, ".byte 0xf0, 0xc5, 0xf8, 0x77")
UD_CASE(rex_vex, ".byte 0x48, 0xc5, 0xf8, 0x77")
UD_CASE(opsize_vex, ".byte 0x66, 0xc5, 0xf8, 0x77")
UD_CASE(vex_without_osxsave, ".byte 0xc5, 0xf8, 0x77")
UD_CASE(xgetbv_without_osxsave, "xgetbv")
UD_CASE(xsave_without_osxsave, "xsave (%rbx)")
UD_CASE(rdfsbase_without_bit, "rdfsbase %rax")
UD_CASE(wrgsbase_without_bit, "wrgsbase %rax")
RAISES(ud_user, USER, UD, NO_ERROR, "", "ud2")
RAISES(ud_stac_user, USER, UD, NO_ERROR, "", ".byte 0x0f, 0x01, 0xcb")
RAISES(ud_monitor_user, USER, UD, NO_ERROR, "", "monitor")
RAISES32(ud_swapgs_32, 0, UD, NO_ERROR, "", ".byte 0x0f, 0x01, 0xf8")
RAISES_BITS(ud_sysret_32, ".code32", USER32, UD, NO_ERROR, "", "sysretl",
            "Vol. 2B SYSRET: 64-bit mode is checked before CPL", NULL)
RAISES(ok_lock_add, KERNEL, NONE, NO_ERROR, "", "lock addl $0, -8(%rsp)")

/* 15 bytes are the most (Vol. 2A 2.3.11); more give #GP(0). */
RAISES(ok_15_bytes, KERNEL, NONE, NO_ERROR, "", ".fill 14, 1, 0x66; nop")
RAISES(gp_16_bytes, KERNEL, GP, 0, "", ".fill 15, 1, 0x66; nop")
RAISES(gp_16_bytes_rep, KERNEL, GP, 0, "", ".fill 14, 1, 0xf3; .byte 0x48, 0x90")

/* ---- #NM, and #UD by CR0 and CR4 ---- */

#define WITH_CR0(set) "mov %cr0, %rax; mov %rax, %rdx; or $" set ", %eax; mov %rax, %cr0"
#define CR0_CASE(name, vector, bits, insn)                                                         \
    CODE(name##_code, WITH_CR0(bits), insn, "mov %rdx, %cr0")                                      \
    CASE(name)                                                                                     \
    {                                                                                              \
        word cr0 = read_cr0();                                                                     \
        run(name##_code, 0, 0);                                                                    \
        write_cr0(cr0);                                                                            \
        check_trap(vector, NO_ERROR, name##_code_at);                                              \
    }
CR0_CASE(nm_x87_ts, NM, "8", "fnop")
CR0_CASE(nm_x87_em, NM, "4", "fnop")
CR0_CASE(nm_wait_ts_mp, NM, "8", "fwait")
CR0_CASE(nm_fnstsw_ts, NM, "8", "fnstsw %ax")
CR0_CASE(nm_sse_ts, NM, "8", "xorps %xmm0, %xmm0")
CR0_CASE(nm_mmx_ts, NM, "8", "pxor %mm0, %mm0")
CR0_CASE(nm_fxsave_ts, NM, "8", "fxsave (%rsp)")
CR0_CASE(nm_ldmxcsr_ts, NM, "8", "ldmxcsr (%rsp)")
CR0_CASE(ud_sse_em, UD, "4", "xorps %xmm0, %xmm0")
CR0_CASE(ud_mmx_em, UD, "4", "pxor %mm0, %mm0")
CR0_CASE(ok_wait_em, NONE, "4", "fwait")

CODE(sse_code, "", "xorps %xmm0, %xmm0", "")
CODE(fwait_code, "", "fwait", "")
CASE(ud_sse_without_osfxsr)
{
    word cr4 = read_cr4();
    write_cr4(cr4 & ~0x200ul);
    run(sse_code, 0, 0);
    write_cr4(cr4);
    check_trap(UD, NO_ERROR, sse_code_at);
}

CASE(ok_wait_ts_without_mp)
{
    word cr0 = read_cr0();
    write_cr0((cr0 | 8) & ~2ul);
    unsigned v = run(fwait_code, 0, 0);
    write_cr0(cr0);
    check_eq("vector", v, NONE);
}

/* ---- #GP and #SS: addresses, alignment, selectors ---- */

RAISES(gp_noncanonical_load, KERNEL, GP, 0, NONCANON, "mov (%rbx), %eax")
RAISES(gp_noncanonical_store, KERNEL, GP, 0, NONCANON, "mov %eax, (%rbx)")
/* Where one tag of a register's line is invalid: the page the code is in can be read only. */
#define READ_ONLY_LINE(reg)                                                                        \
    "lea 0(%rip), %" reg "; mov (%" reg "), %eax; mov $0x8000000000000274, %" reg
RAISES(gp_invalid_tag_store, KERNEL, GP, 0, READ_ONLY_LINE("rbx"), "mov %eax, (%rbx)")
RAISES(gp_invalid_tag_rmw, KERNEL, GP, 0, READ_ONLY_LINE("rsi"), "xor %rax, (%rsi)")
RAISES(gp_invalid_tag_vector, KERNEL, GP, 0, READ_ONLY_LINE("rdi"), "movups %xmm0, (%rdi)")
RAISES_NOT_QEMU(ss_invalid_tag_store, KERNEL, SS, 0, READ_ONLY_LINE("rbp"), "mov %eax, (%rbp)",
                "Vol. 3A 6.15, interrupt 12: TCG gives #GP")
RAISES(gp_noncanonical_index, KERNEL, GP, 0, "mov $0x10, %ebx; mov $0x7ffffffffff8, %rcx",
       "mov (%rcx, %rbx), %eax")
#define CROSS_ORDER "Vol. 3A 6.9: #GP of the second half before #PF of the first"
RAISES_BITS(gp_noncanonical_cross, "", KERNEL, GP, 0, "mov $0x7ffffffffffc, %rbx",
            "mov (%rbx), %rax", CROSS_ORDER, CROSS_ORDER)
RAISES_NOT_QEMU(ss_noncanonical_base_bp, KERNEL, SS, 0, "mov $0x800000000000, %rbp",
                "mov (%rbp), %eax", "Vol. 3A 6.15, interrupt 12: TCG gives #GP")
RAISES(gp_noncanonical_bp_fs, KERNEL, GP, 0, "mov $0x800000000000, %rbp", "mov %fs:(%rbp), %eax")
#define AT_TARGET "Vol. 2A JMP: the jump faults; here the fetch at its target does"
RAISES_BITS(gp_noncanonical_jump, "", KERNEL, GP, 0, NONCANON, "jmp *%rbx", AT_TARGET, AT_TARGET)
RAISES_BITS(gp_noncanonical_call, "", KERNEL, GP, 0, NONCANON, "call *%rbx", AT_TARGET, AT_TARGET)
RAISES(gp_noncanonical_string, KERNEL, GP, 0, "mov $0x800000000000, %rdi; mov $4, %ecx",
       "rep stosb")
RAISES(gp_movaps, KERNEL, GP, 0, "lea 4(%rsp), %rbx; and $-16, %rbx; add $4, %rbx",
       "movaps (%rbx), %xmm0")
RAISES(gp_movaps_store, KERNEL, GP, 0, "and $-16, %rsp; lea 8(%rsp), %rbx", "movaps %xmm0, (%rbx)")
RAISES(gp_fxsave, KERNEL, GP, 0, "and $-16, %rsp; sub $1024, %rsp", "fxsave 8(%rsp)")
RAISES(gp_cmpxchg16b, KERNEL, GP, 0, "and $-16, %rsp", "cmpxchg16b -24(%rsp)")
RAISES(gp_paddb, KERNEL, GP, 0, "and $-16, %rsp", "paddb -24(%rsp), %xmm0")
RAISES(ok_movups, KERNEL, NONE, NO_ERROR, "", "movups -31(%rsp), %xmm0")

#define SS_STACK NOT_RUN "Vol. 3A 6.15, interrupt 12: TCG gives #GP"
CODE(push_noncanonical, "mov %rdi, %rsp", "push %rax", "")
CODE(pop_noncanonical, "mov %rdi, %rsp", "pop %rax", "")
CODE(call_noncanonical, "mov %rdi, %rsp", "call *%rsi", "")
CODE(load_noncanonical, "mov %rdi, %rsp", "mov (%rsp), %rax", "")
CODE(ret_noncanonical, "mov %rdi, %rsp", "ret", "")
static uint8_t ist_stack[4096] __attribute__((aligned(16)));

static void set_ist(unsigned n, word top)
{
    *(uint64_t *)(void *)(tss + 0x24 + 8 * (n - 1)) = top;
}

/* The exception's own stack must be a good one. */
static void with_bad_stack(const char *code, const char *at)
{
    set_ist(1, (word)ist_stack + sizeof(ist_stack));
    set_gate(SS, entries + 16 * SS, SEL_CODE, GATE_INT, 1);
    run(code, 0x800000000008ul, (word)user_exit);
    set_gate(SS, entries + 16 * SS, SEL_CODE, GATE_INT, 0);
    check_trap(SS, 0, at);
    check_eq("rsp", last()->sp, 0x800000000008ul);
    check_eq("handler's stack", traps[0].at_sp,
             (word)ist_stack + sizeof(ist_stack) - offsetof(struct frame, vm_es));
}
CASE_NOT_QEMU(ss_push, SS_STACK)
{
    with_bad_stack(push_noncanonical, push_noncanonical_at);
}
CASE_NOT_QEMU(ss_pop, SS_STACK)
{
    with_bad_stack(pop_noncanonical, pop_noncanonical_at);
}
CASE_NOT_QEMU(ss_call, SS_STACK)
{
    with_bad_stack(call_noncanonical, call_noncanonical_at);
}
CASE_NOT_QEMU(ss_load, SS_STACK)
{
    with_bad_stack(load_noncanonical, load_noncanonical_at);
}
CASE_NOT_QEMU(ss_ret, SS_STACK)
{
    with_bad_stack(ret_noncanonical, ret_noncanonical_at);
}

RAISES(gp_load_beyond_gdt, KERNEL, GP, 0xff8, "mov $0xffb, %eax", "mov %eax, %ds")
RAISES(gp_load_ldt, KERNEL, GP, 0x0c, "mov $0xc, %eax", "mov %eax, %ds")
RAISES(gp_load_code64_ss, KERNEL, GP, SEL_CODE, "mov $8, %eax", "mov %eax, %ss")
RAISES(gp_load_tss_ds, KERNEL, GP, SEL_TSS, "mov $0x30, %eax", "mov %eax, %ds")
RAISES(gp_load_ss_rpl, KERNEL, GP, SEL_DATA, "mov $0x13, %eax", "mov %eax, %ss")
RAISES_NOT_QEMU(gp_load_null_ss_rpl3, KERNEL, GP, 0, "mov $3, %eax", "mov %eax, %ss",
                "Vol. 2B MOV: a null SS needs RPL equal to CPL")
RAISES(ok_load_null_ss, KERNEL, NONE, NO_ERROR, "xor %eax, %eax", "mov %eax, %ss")
RAISES(gp_user_null_ss, USER, GP, 0, "mov $3, %eax", "mov %eax, %ss")
RAISES(gp_user_kernel_ds, USER, GP, SEL_DATA, "mov $0x10, %eax", "mov %eax, %ds")

static void with_descriptor(uint64_t d, unsigned v, const char *code, const char *at)
{
    gdt[SEL_FREE / 8] = d;
    run(code, SEL_FREE, 0);
    check_trap(v, SEL_FREE, at);
}
CODE(load_ds, "", "mov %edi, %ds", "")
CODE(load_ss, "", "mov %edi, %ss", "")
CODE(load_fs, "", "mov %edi, %fs", "")
CASE(np_load_ds)
{
    with_descriptor(descriptor(0, 0xfffff, AR_DATA & ~AR_PRESENT), NP, load_ds, load_ds_at);
}
CASE(np_load_fs)
{
    with_descriptor(descriptor(0, 0xfffff, AR_DATA & ~AR_PRESENT), NP, load_fs, load_fs_at);
}
CASE(ss_load_not_present)
{
    with_descriptor(descriptor(0, 0xfffff, AR_DATA & ~AR_PRESENT), SS, load_ss, load_ss_at);
}
CASE(gp_load_execute_only)
{
    with_descriptor(descriptor(0, 0xfffff, 0xa099), GP, load_ds, load_ds_at);
}
CASE(gp_load_ss_read_only)
{
    with_descriptor(descriptor(0, 0xfffff, 0xc091), GP, load_ss, load_ss_at);
}

/* ---- Privileged instructions at CPL 3 ---- */

#define GP_USER(name, insn) RAISES(gp_user_##name, USER, GP, 0, "xor %ecx, %ecx", insn)
GP_USER(hlt, "hlt")
GP_USER(cli, "cli")
GP_USER(sti, "sti")
GP_USER(in, "in $0x80, %al")
GP_USER(out, "out %al, $0x80")
GP_USER(read_cr0, "mov %cr0, %rax")
GP_USER(write_cr3, "mov %rax, %cr3")
GP_USER(read_cr8, "mov %cr8, %rax")
GP_USER(read_dr7, "mov %dr7, %rax")
GP_USER(write_dr0, "mov %rax, %dr0")
GP_USER(lgdt, "lgdt (%rsp)")
GP_USER(lidt, "lidt (%rsp)")
GP_USER(lldt, "lldt %ax")
GP_USER(ltr, "ltr %ax")
GP_USER(lmsw, "lmsw %ax")
GP_USER(clts, "clts")
GP_USER(invlpg, "invlpg (%rsp)")
GP_USER(invd, "invd")
GP_USER(wbinvd, "wbinvd")
GP_USER(rdmsr, "rdmsr")
GP_USER(wrmsr, "wrmsr")
GP_USER(swapgs, "swapgs")
GP_USER(sysret, "sysretq")
RAISES_NOT_QEMU(gp_user_sysexit, USER, GP, 0, "", "sysexitl",
                "Vol. 2B: CPL 0 is checked; TCG has the #UD of AMD's processors here")
#define IDT_INDEX "Vol. 3A 6.13: the index is the vector, TCG doubles it"
RAISES_NOT_QEMU(gp_user_int, USER, GP, 0x50 * 8 + 2, "", "int $0x50", IDT_INDEX)
RAISES_NOT_QEMU(gp_user_int_1, USER, GP, 1 * 8 + 2, "", "int $1", IDT_INDEX)
RAISES_NOT_QEMU(gp_user_int_13, USER, GP, 13 * 8 + 2, "", "int $13", IDT_INDEX)

/* ---- #PF: CR2 and the plainest codes; the rest is paging.c ---- */

CODE(load_a, "", "mov (%rdi), %eax", "")
CODE(store_a, "", "mov %eax, (%rdi)", "")
CASE(pf_read)
{
    run(load_a, TEST_VA + 0x123, 0);
    check_trap(PF, 0, load_a_at);
    check_eq("cr2", traps[0].cr2, TEST_VA + 0x123);
}
CASE(pf_write)
{
    run(store_a, TEST_VA + 0x123, 0);
    check_trap(PF, PF_W, store_a_at);
    check_eq("cr2", traps[0].cr2, TEST_VA + 0x123);
}
CASE(pf_user_supervisor)
{
    run_user(load_a, (word)idt, 0);
    check_trap(PF, PF_U | PF_P, load_a_at + USER_BASE);
    check_eq("cr2", traps[0].cr2, (word)idt);
}
