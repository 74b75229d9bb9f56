/*
 * Real mode and what is left of protected mode in it ("unreal"): vectors by the IVT, limits,
 * stacks, switching back and forth (Intel SDM Vol. 3A 9.9, 20.1). The real-mode code is copied to
 * REAL.
 */
#include "rt.h"

enum { REAL = 0x10000, CODE16 = SEL_FREE, DATA16 = SEL_FREE + 8 };

/* What the code in real mode leaves: by linear address, so that any segment can write it. */
struct result {
    uint32_t eax, ebx, ecx, vector, ip, cs, flags, sp;
};
extern const char real_begin[], real_end[], real_jobs[];
static volatile struct result *const result = (volatile struct result *)(REAL + 0x8000);

/*
 * real_enter(job): through 16-bit protected mode to real mode, CS = DS = ES = 1000, SS = 2000, runs
 * the job (an offset into the copied code), and comes back. Vectors 0 to 15 of the IVT lead to
 * r_trap.
 */
void real_enter(unsigned job);
__asm__(".pushsection .text\n"
        "real_enter: push %ebx; push %esi; push %edi; push %ebp\n"
        "mov 20(%esp), %ebx; mov %esp, real_sp\n"
        "ljmp $0x48, $(r_prot - real_begin)\n" /* CODE16 */
        "real_back: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss\n"
        "mov real_sp, %esp; xor %eax, %eax; mov %eax, %fs; mov %eax, %gs\n"
        "lidt real_idtr; pop %ebp; pop %edi; pop %esi; pop %ebx; ret\n"
        ".code16\n"
        "real_begin:\n"
        "r_prot: mov $0x50, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss\n" /* DATA16 */
        "lidtl (r_ivt - real_begin)\n"
        "mov %cr0, %eax; and $0xfe, %al; mov %eax, %cr0\n"
        "ljmp $0x1000, $(r_real - real_begin)\n"
        "r_ivt: .word 0x3ff; .long 0\n"
        "r_real: mov $0x1000, %ax; mov %ax, %ds; mov %ax, %es\n"
        "mov $0x2000, %ax; mov %ax, %ss; mov $0x1000, %esp\n"
        "jmp *%bx\n"
        /* a job ends here */
        "r_done: mov %eax, %cs:0x8000; mov $0x1000, %ax; mov %ax, %ds\n"
        "mov %ebx, 0x8004; mov %ecx, 0x8008\n"
        "r_leave: mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmpl $8, $real_back\n"
        /* vectors: each entry is 4 bytes, PUSH imm8; JMP short */
        ".balign 16\n"
        "r_vectors: .set v, 0; .rept 16; push $v; jmp r_trap0; .set v, v + 1; .endr\n"
        "r_trap0: mov %eax, %ss:0x8; mov %ds, %ax; mov %ax, %ss:0xc\n"
        "mov $0x1000, %ax; mov %ax, %ds; xor %eax, %eax\n"
        "pop %ax; mov %eax, 0x800c; pop %ax; mov %eax, 0x8010; pop %ax; mov %eax, 0x8014\n"
        "pop %ax; mov %eax, 0x8018; mov %sp, 0x801c; mov %ebx, 0x8004; mov %ecx, 0x8008\n"
        "mov %ss:0x8, %eax; mov %eax, 0x8000; jmp r_leave\n"
        /* jobs */
        "j_plain: mov $0x12345678, %eax; mov %cs, %bx; movzx %bx, %ebx; jmp r_done\n"
        "j_int: mov $7, %ecx; stc; int $5; j_int_1:\n"
        "j_div: xor %cx, %cx; j_div_1: div %cx\n"
        "j_ud: ud2\n"
        "j_limit: mov $0xffff, %bx; j_limit_1: mov (%bx), %ax; jmp r_done\n"
        "j_limit_ok: mov $0xffff, %bx; mov (%bx), %al; mov $0x77, %ecx; jmp r_done\n"
        "j_ss_limit: mov $0xffff, %bp; j_ss_limit_1: mov (%bp), %ax; jmp r_done\n"
        "j_big: mov $0x10000, %ebx; j_big_1: mov (%ebx), %al; jmp r_done\n"
        "j_wrap: mov $0, %sp; push $0x1234; mov %esp, %ecx; pop %ax; mov %esp, %ebx; jmp r_done\n"
        "j_ea_wrap: mov $0xfff0, %bx; mov $0x8020, %si; movl $0x5151, (%si); mov $0x30, %di\n"
        "xor %eax, %eax; mov %eax, 0x20; movb $0x42, 0x20; mov (%bx,%di), %al; jmp r_done\n"
        "j_ivt: lidtl %cs:(r_short - real_begin); j_ivt_1: int $14; nop\n"
        "r_short: .word 0x37; .long 0\n"
        "j_unreal: cli; mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x10, %bx; mov %bx, %fs\n"
        "and $0xfe, %al; mov %eax, %cr0; xor %bx, %bx; mov %bx, %fs; mov $0x100000, %ebx\n"
        "mov %fs:(%ebx), %eax; jmp r_done\n"
        "j_iret: pushf; push %cs; push $(j_iret_1 - real_begin); iret; j_iret_1: mov $0x99, %eax; "
        "jmp r_done\n"
        "j_far: lcall $0x1000, $(j_far_1 - real_begin); mov $0x31, %ecx; jmp r_done\n"
        "j_far_1: mov %ss:(0xffe), %eax; mov %esp, %ebx; lret\n"
        "j_a20: mov $0xffff, %ax; mov %ax, %es; mov %es:0x10, %eax; jmp r_done\n"
        "j_a20_off: mov $0xffff, %ax; mov %ax, %es; in $0x92, %al; and $0xfd, %al; out %al, $0x92\n"
        "mov %es:0x10, %ebx; xor %ecx, %ecx; in $0x92, %al; mov %al, %cl\n"
        "or $2, %al; out %al, $0x92; mov %es:0x10, %eax; jmp r_done\n"
        "j_a20_code: xor %ebx, %ebx; lcall *%cs:0x9000; in $0x92, %al; and $0xfd, %al\n"
        "out %al, $0x92; lcall *%cs:0x9000; in $0x92, %al; or $2, %al; out %al, $0x92\n"
        "lcall *%cs:0x9000; jmp r_done\n"
        "j_tf: pushf; pop %ax; or $0x100, %ax; push %ax; popf; nop; j_tf_1: nop; jmp r_done\n"
        "j_end: movw $0x9090, 0xfffe; mov $0x44, %ecx; mov $0xfffe, %bx; jmp *%bx\n"
        "j_smsw: xor %eax, %eax; smsw %ax; jmp r_done\n"
        "j_lldt: lldt %ax\n"
        "j_lar: lar %ax, %bx\n"
        "j_arpl: arpl %ax, %bx\n"
        "real_end:\n.code32\n"
        ".data\nreal_sp: .long 0\nreal_idtr: .word 0xfff; .long idt\n"
        ".popsection");

#define JOB(name)                                                                                  \
    extern const char j_##name[];                                                                  \
    static void go_##name(void)                                                                    \
    {                                                                                              \
        go(j_##name);                                                                              \
    }
extern const char r_vectors[];

static void go(const char *job)
{
    memcpy((void *)REAL, real_begin, (size_t)(real_end - real_begin));
    memset((void *)(word)result, 0, sizeof(*result));
    result->vector = 0xff;
    uint32_t *ivt = (uint32_t *)0;
    for (unsigned i = 0; i < 16; i++) {
        __asm__ volatile("" : "+r"(ivt)); /* address 0 is memory like any other here */
        ivt[i] = 0x10000000 | (uint32_t)(r_vectors - real_begin + i * 4);
    }
    gdt[CODE16 / 8] = descriptor(REAL, 0xffff, 0x9b);
    gdt[DATA16 / 8] = descriptor(REAL, 0xffff, 0x93);
    real_enter((unsigned)(job - real_begin));
}
static void check_real(unsigned vector, const char *ip)
{
    check_eq("vector", result->vector, vector);
    check_eq("ip", result->ip, (word)(ip - real_begin));
    check_eq("cs", result->cs, 0x1000);
    check_eq("sp", result->sp & 0xffff, 0x1000);
}
JOB(plain)
CASE(there_and_back)
{
    go_plain();
    check_eq("eax", result->eax, 0x12345678);
    check_eq("cs", result->ebx, 0x1000);
    check_eq("no vector", result->vector, 0xff);
}
JOB(int)
extern const char j_int_1[];
CASE(int_n)
{
    go_int();
    check_real(5, j_int_1);
    check_eq("CF in image", result->flags & 3, 3);
    check_eq("ecx", result->ecx, 7);
}
JOB(div)
extern const char j_div_1[];
CASE(divide_error)
{
    go_div();
    check_real(DE, j_div_1);
}
JOB(ud)
CASE(undefined)
{
    go_ud();
    check_real(UD, j_ud);
}
#define NO_CHECKS "Vol. 3A 20.1.1: limits in real mode; TCG has none"
JOB(limit)
extern const char j_limit_1[];
CASE_NOT_QEMU(limit, NO_CHECKS)
{
    go_limit();
    check_real(GP, j_limit_1);
}
JOB(end)
CASE_NOT_QEMU(cs_limit, NOT_RUN NO_CHECKS)
{
    go_end(); /* two NOPs up to the last byte of CS, and on */
    check_eq("vector", result->vector, GP);
    check_eq("ip", result->ip, 0);
    check_eq("ecx", result->ecx, 0x44);
}
JOB(limit_ok)
CASE(limit_last_byte)
{
    go_limit_ok();
    check_eq("ecx", result->ecx, 0x77);
}
JOB(ss_limit)
extern const char j_ss_limit_1[];
CASE_NOT_QEMU(ss_limit, NO_CHECKS)
{
    go_ss_limit();
    check_real(SS, j_ss_limit_1);
}
JOB(big)
extern const char j_big_1[];
CASE_NOT_QEMU(offset_beyond_64k, NO_CHECKS)
{
    go_big();
    check_real(GP, j_big_1);
}
JOB(wrap)
CASE(stack_wraps)
{
    go_wrap();
    check_eq("after push", result->ecx & 0xffff, 0xfffe);
    check_eq("popped", result->eax & 0xffff, 0x1234);
    check_eq("after pop", result->ebx & 0xffff, 0);
}
JOB(ea_wrap)
CASE(address_wraps)
{
    go_ea_wrap();
    check_eq("byte", result->eax & 0xff, 0x42);
}
JOB(ivt)
extern const char j_ivt_1[];
CASE_NOT_QEMU(ivt_limit, "Vol. 2A INT n: a vector beyond IDTR's limit gives 13")
{
    go_ivt();
    check_real(GP, j_ivt_1);
}
JOB(unreal)
CASE(unreal)
{
    uint32_t want = *(volatile uint32_t *)0x100000;
    go_unreal();
    check_eq("no vector", result->vector, 0xff);
    check_eq("value", result->eax, want);
}
JOB(iret)
CASE(iret)
{
    go_iret();
    check_eq("eax", result->eax, 0x99);
}
JOB(far)
CASE(far_call)
{
    go_far();
    check_eq("ecx", result->ecx, 0x31);
    check_eq("sp inside", result->ebx & 0xffff, 0xffc);
    check_eq("cs", result->eax & 0xffff, 0x1000);
}
JOB(a20)
CASE(beyond_one_mib)
{
    uint32_t want = *(volatile uint32_t *)0x100000;
    go_a20();
    check_eq("value", result->eax, want);
}
/* The line held low: what is above the first MiB is the first MiB again, also code. */
#define NO_A20 NOT_RUN "the board has no port 92h"
JOB(a20_off)
CASE_NOT_QEMU(a20_off, NO_A20)
{
    volatile uint32_t *low = (volatile uint32_t *)0, kept;
    __asm__ volatile("" : "+r"(low));
    kept = *low;
    go_a20_off(); /* vector 0's entry is there */
    check_eq("low", result->ebx, 0x10000000 | (uint32_t)(r_vectors - real_begin));
    check_eq("port", result->ecx & 2, 0);
    check_eq("high", result->eax, *(volatile uint32_t *)0x100000);
    *low = kept;
}

static uint8_t a20_buf[16] __attribute__((aligned(16)));
JOB(a20_code)
CASE_NOT_QEMU(a20_code, NO_A20)
{
    static const uint8_t high[] = {0x66, 0x83, 0xc3, 0x10, 0xcb}; /* add $16, %ebx; lret */
    static const uint8_t low[] = {0x66, 0x83, 0xc3, 0x01, 0xcb};
    word at = (word)a20_buf;
    memcpy(a20_buf, high, sizeof(high));
    memcpy((void *)(at - 0x100000), low, sizeof(low));
    *(uint32_t *)(REAL + 0x9000) = 0xffff0000 | (uint32_t)(at - 0x100000 + 0x10);
    go_a20_code();
    check_eq("near 64 KiB", at - 0x100000 < 0xff00, true);
    check_eq("high, low, high", result->ebx, 0x21);
}
JOB(tf)
extern const char j_tf_1[];
CASE(single_step)
{
    go_tf();
    check_real(DB, j_tf_1);
    check_eq("TF in image", result->flags & F_TF, F_TF);
}
JOB(smsw)
CASE(smsw)
{
    go_smsw();
    check_eq("PE", result->eax & 1, 0);
}
JOB(lldt)
JOB(lar)
JOB(arpl)
CASE(protected_only)
{
    go_lldt();
    check_real(UD, j_lldt);
    go_lar();
    check_real(UD, j_lar);
    go_arpl();
    check_real(UD, j_arpl);
}
