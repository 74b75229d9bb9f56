/*
 * System instructions in long mode: fast system calls, segment bases, UMIP, time stamps, MSRs, I/O
 * permissions, HLT and MWAIT, CPUID (Intel SDM Vol. 2 for each; Vol. 3A 2.8, 5.8.7; Vol. 1 19.5).
 */
#include "page.h"

enum {
    MSR_STAR = 0xc0000081,
    MSR_LSTAR,
    MSR_CSTAR,
    MSR_SFMASK,
    MSR_EFER = 0xc0000080,
    MSR_FS = 0xc0000100,
    MSR_GS,
    MSR_KGS,
    MSR_AUX,
    MSR_SE_CS = 0x174,
    MSR_SE_SP,
    MSR_SE_IP,
    CR4_TSD = 4,
    CR4_UMIP = 1 << 11,
    CR4_FSGSBASE = 1 << 16
};

/* ---- SYSCALL and SYSRET ---- */

CODE(syscall_code, "mov %rsp, %rbx", "syscall", "")
CODE(syscall_in, "", "mov %cs, %eax; mov %ss, %edx; mov %rsp, %rsi; pushfq; pop %rdi", "ud2")
static void set_star(void)
{
    wrmsr(MSR_STAR, (uint64_t)SEL_CODE << 32 | (uint64_t)SEL_USER32 << 48);
    wrmsr(MSR_LSTAR, (word)syscall_in);
    wrmsr(MSR_CSTAR, (word)syscall_in);
    wrmsr(MSR_SFMASK, F_IF | F_TF | F_DF);
}
/* SYSCALL leaves the user's stack, so the frame of the UD2 inside goes there: readable by CPL 0. */
CASE_NOT_QEMU(syscall_enters, "Vol. 2B SYSCALL: TCG loses the arithmetic flags")
{
    set_star();
    user_flags = 2 | F_DF | F_CF | F_ID;
    run_user(syscall_code, 0, 0);
    check_trap(UD, NO_ERROR, syscall_in_next);
    check_eq("cs", last()->ax, SEL_CODE);
    check_eq("ss", last()->dx, SEL_DATA);
    check_eq("rsp", last()->si, last()->bx);
    check_eq("rcx", last()->cx, (word)syscall_code_next + USER_BASE);
    check_eq("r11", last()->r11 & ~(word)F_RF, user_flags);
    check_eq("flags", last()->di & (F_DF | F_CF | F_ID), F_CF | F_ID);
}
CASE_NOT_QEMU(syscall_masks, "Vol. 2B SYSCALL: TCG loses the arithmetic flags")
{
    set_star();
    wrmsr(MSR_SFMASK, F_CF | F_AC | F_NT);
    user_flags = 2 | F_CF | F_AC | F_ZF | F_NT;
    run_user(syscall_code, 0, 0);
    check_eq("flags", last()->di & (F_CF | F_AC | F_ZF | F_NT), F_ZF);
    check_eq("r11", last()->r11 & (F_CF | F_AC | F_ZF | F_NT), F_CF | F_AC | F_ZF | F_NT);
}
CASE(syscall_compat)
{
    uint32_t r[4];
    cpuid(0, 0, r);
    set_star();
    run_user32(syscall_code, 0, 0);
    if (r[2] == 0x6c65746e) { /* Intel's have no SYSCALL in compatibility mode */
        check_trap(UD, NO_ERROR, syscall_code_at + USER_BASE);
        return;
    }
    check_trap(UD, NO_ERROR, syscall_in_next);
    check_eq("cs", last()->ax, SEL_CODE);
    check_eq("ecx", last()->cx, (word)syscall_code_next + USER_BASE);
}
CASE(syscall_without_sce)
{
    uint64_t efer = rdmsr(MSR_EFER);
    wrmsr(MSR_EFER, efer & ~1ull);
    run_user(syscall_code, 0, 0);
    wrmsr(MSR_EFER, efer);
    check_trap(UD, NO_ERROR, syscall_code_at + USER_BASE);
}
/* EDI: RIP, ESI: RFLAGS; the stack stays. */
CODE(sysret64, "mov %rdi, %rcx; mov %rsi, %r11", "sysretq", "")
CODE(sysret32, "mov %rdi, %rcx; mov %rsi, %r11", "sysretl", "")
CODE(user_lands, "", "mov %cs, %eax; mov %ss, %edx", "ud2")
CASE_NOT_QEMU(sysret_to_64, "Vol. 2B SYSRET: VM and RF are not loaded")
{
    set_star();
    run(sysret64, (word)user_lands + USER_BASE, 2 | F_CF | F_IOPL | F_AC | F_RF | F_VM);
    check_trap(UD, NO_ERROR, user_lands_next + USER_BASE);
    check_eq("cs", last()->ax, SEL_USER64);
    check_eq("ss", last()->dx, SEL_USER_DATA);
    check_eq("flags", last()->flags & (F_CF | F_IOPL | F_AC | F_VM), F_CF | F_IOPL | F_AC);
}
CASE(sysret_to_compat)
{
    set_star();
    run(sysret32, (word)user_lands + USER_BASE, 2);
    check_trap(UD, NO_ERROR, user_lands_next + USER_BASE);
    check_eq("cs", last()->ax, SEL_USER32);
    check_eq("ss", last()->dx, SEL_USER_DATA);
}
CASE_NOT_QEMU(sysret_noncanonical, "Vol. 2B SYSRET: the fault is the instruction's own")
{
    set_star();
    run(sysret64, 0x800000000000, 2);
    check_trap(GP, 0, sysret64_at);
}

/* ---- SYSENTER and SYSEXIT ---- */

#define SE_AMD NOT_RUN "Vol. 2B SYSENTER: TCG has AMD's #UD of long mode"
CODE(sysenter_code, "", "sysenter", "")
static uint8_t se_stack[4096] __attribute__((aligned(16)));
static void set_sysenter(word cs)
{
    wrmsr(MSR_SE_CS, cs);
    wrmsr(MSR_SE_SP, (word)se_stack + sizeof(se_stack));
    wrmsr(MSR_SE_IP, (word)syscall_in);
}
CASE_NOT_QEMU(sysenter_enters, SE_AMD)
{
    for (unsigned compat = 0; compat < 2; compat++) {
        set_sysenter(SEL_CODE);
        compat ? run_user32(sysenter_code, 0, 0) : run_user(sysenter_code, 0, 0);
        check_trap(UD, NO_ERROR, syscall_in_next);
        check_eq("cs", last()->ax, SEL_CODE);
        check_eq("ss", last()->dx, SEL_DATA);
        check_eq("rsp", last()->si, (word)se_stack + sizeof(se_stack));
    }
}
CASE_NOT_QEMU(sysenter_null_cs, SE_AMD)
{
    set_sysenter(3);
    run_user(sysenter_code, 0, 0);
    check_trap(GP, 0, sysenter_code_at + USER_BASE);
}
CODE(sysexit64, "mov %rdi, %rdx; mov %rsi, %rcx", ".byte 0x48; sysexitl", "")
CODE(sysexit32, "mov %rdi, %rdx; mov %rsi, %rcx", "sysexitl", "")
CASE_NOT_QEMU(sysexit_leaves, SE_AMD)
{
    set_sysenter(SEL_CODE);
    run(sysexit64, (word)user_lands + USER_BASE, 0x1230);
    check_trap(UD, NO_ERROR, user_lands_next + USER_BASE);
    check_eq("cs", last()->ax, SEL_CODE + 32 + 3);
    check_eq("ss", last()->dx, SEL_CODE + 40 + 3);
    check_eq("rsp", last()->sp, 0x1230);
    run(sysexit32, (word)user_lands + USER_BASE, 0x1230);
    check_trap(UD, NO_ERROR, user_lands_next + USER_BASE);
    check_eq("cs", last()->ax, SEL_CODE + 16 + 3);
}
CASE_NOT_QEMU(sysexit_faults, SE_AMD)
{
    set_sysenter(SEL_CODE);
    run(sysexit64, 0x800000000000, 0);
    check_trap(GP, 0, sysexit64_at);
    run(sysexit64, 0, 0x800000000000);
    check_trap(GP, 0, sysexit64_at);
    set_sysenter(0);
    run(sysexit64, 0, 0);
    check_trap(GP, 0, sysexit64_at);
}

/* ---- SWAPGS, FS and GS bases ---- */

CODE(swapgs_code, "", "swapgs", "")
CASE(swapgs)
{
    wrmsr(MSR_GS, 0x1111);
    wrmsr(MSR_KGS, 0xffff800000002222);
    run(swapgs_code, 0, 0);
    check_eq("GS", rdmsr(MSR_GS), 0xffff800000002222);
    check_eq("kernel GS", rdmsr(MSR_KGS), 0x1111);
}
CODE(bases, "wrfsbase %rdi; wrgsbase %rsi; rdfsbase %rax; rdgsbase %rdx; wrfsbase %ecx",
     "rdfsbase %rcx", "ud2")
CODE(bad_fsbase, "", "wrfsbase %rdi", "")
CASE_NOT_QEMU(fsgsbase, "Vol. 2B WRFSBASE: #GP")
{
    if (!cpu_has(7, 1, 0)) {
        skip("no FSGSBASE");
        return;
    }
    set_cr4(CR4_FSGSBASE, true);
    run_user(bases, 0x123456789ab, 0xfffffffffffffff0);
    struct frame f = *last();
    run(bad_fsbase, 0x800000000000, 0);
    struct frame g = *last();
    set_cr4(CR4_FSGSBASE, false);
    check_eq("FS", f.ax, 0x123456789ab);
    check_eq("GS", f.dx, 0xfffffffffffffff0);
    check("32 bits", f.cx <= 0xffffffff);
    check_eq("not canonical", g.vector, GP);
}
CASE(fs_base_used)
{
    static uint32_t there = 0x5a5a;
    wrmsr(MSR_FS, (word)&there - 0x100);
    word eax;
    __asm__ volatile("mov %%fs:0x100, %k0" : "=r"(eax));
    wrmsr(MSR_FS, 0);
    check_eq("value", eax, 0x5a5a);
}
/* ---- UMIP ---- */

#define UMIP_CODE(name, insn) CODE(umip_##name, "", insn, "")
UMIP_CODE(sgdt, "sgdt -64(%rsp)")
UMIP_CODE(sidt, "sidt -64(%rsp)")
UMIP_CODE(sldt, "sldt %ax")
UMIP_CODE(str, "str %ax")
UMIP_CODE(smsw, "smsw %ax")
CASE(umip)
{
    static const char *const codes[][2] = {{umip_sgdt, umip_sgdt_at},
                                           {umip_sidt, umip_sidt_at},
                                           {umip_sldt, umip_sldt_at},
                                           {umip_str, umip_str_at},
                                           {umip_smsw, umip_smsw_at}};
    if (!cpu_has(7, 2, 2)) {
        skip("no UMIP");
        return;
    }
    for (unsigned i = 0; i < 5; i++) {
        check_eq("without", run_user(codes[i][0], 0, 0), NONE);
        set_cr4(CR4_UMIP, true);
        unsigned v = run_user(codes[i][0], 0, 0);
        struct frame f = *last();
        unsigned w = run(codes[i][0], 0, 0);
        set_cr4(CR4_UMIP, false);
        check_eq("with", v, GP);
        check_eq("error", f.error, 0);
        check_eq("ip", f.ip, (word)codes[i][1] + USER_BASE);
        check_eq("CPL 0", w, NONE);
    }
}

/* ---- Time stamps, performance counters ---- */

CODE(rdtsc_code, "", "rdtsc", "")
CODE(rdtscp_code, "xor %ecx, %ecx", "rdtscp", "ud2")
CODE(rdpid_code, "", "rdpid %rax", "ud2")
CODE(rdpmc_code, "mov %edi, %ecx", "rdpmc", "")
CASE(tsd)
{
    check_eq("user", run_user(rdtsc_code, 0, 0), NONE);
    set_cr4(CR4_TSD, true);
    unsigned v = run_user(rdtsc_code, 0, 0), e = (unsigned)last()->error;
    unsigned w = run(rdtsc_code, 0, 0), x = run_user(rdtscp_code, 0, 0);
    set_cr4(CR4_TSD, false);
    check_eq("user with TSD", v, GP);
    check_eq("error", e, 0);
    check_eq("kernel with TSD", w, NONE);
    check_eq("RDTSCP", x, cpu_has(0x80000001, 3, 27) ? GP : UD);
}
CASE(tsc_aux)
{
    if (!cpu_has(0x80000001, 3, 27)) {
        skip("no RDTSCP");
        return;
    }
    wrmsr(MSR_AUX, 0x12345);
    run_user(rdtscp_code, 0, 0);
    check_eq("RDTSCP", last()->cx, 0x12345);
    if (cpu_has(7, 2, 22)) {
        run_user(rdpid_code, 0, 0);
        check_eq("RDPID", last()->ax, 0x12345);
    }
}
CASE(tsc_goes_up)
{
    uint64_t before = rdmsr(0x10);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t now = rdmsr(0x10);
        check("monotonic", now >= before);
        before = now;
    }
}
CASE(rdpmc_refuses)
{
    run_user(rdpmc_code, 0, 0);
    check_trap(GP, 0, rdpmc_code_at + USER_BASE);
}

/* ---- MSRs ---- */

CODE(rdmsr_code, "mov %edi, %ecx", "rdmsr", "")
CODE(wrmsr_code, "mov %edi, %ecx; mov %rsi, %rdx; mov %esi, %eax; shr $32, %rdx", "wrmsr", "")
CASE_NOT_QEMU(msr_unknown, "Vol. 2B RDMSR: TCG reads unknown ones as 0")
{
    static const uint32_t list[] = {0x2fff, 0x4fff, 0xc0000fff, 0xffffffff, 0x40000fff};
    for (unsigned i = 0; i < 5; i++) {
        run(rdmsr_code, list[i], 0);
        check_trap(GP, 0, rdmsr_code_at);
        run(wrmsr_code, list[i], 0);
        check_trap(GP, 0, wrmsr_code_at);
    }
}
CASE_NOT_QEMU(msr_refuses, "Vol. 2B WRMSR: TCG takes any value")
{
    static const struct {
        uint32_t msr;
        uint64_t v;
    } list[] = {{MSR_LSTAR, 0x800000000000},
                {MSR_CSTAR, 0x800000000000},
                {MSR_FS, 1ull << 47},
                {MSR_GS, 1ull << 63},
                {MSR_KGS, 0x800000000000},
                {MSR_SE_SP, 1ull << 47},
                {MSR_SE_IP, 1ull << 47},
                {0x277, 2},
                {0x277, 3ull << 56},
                {0x277, 8},
                {MSR_AUX, 1ull << 32},
                {0x2ff, 2},
                {0x2ff, 1ull << 12},
                {0x1b, 0xfee00900 | 1ull << 52},
                {0x200, 2}};
    for (unsigned i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        uint64_t keep = rdmsr(list[i].msr);
        unsigned v = run(wrmsr_code, list[i].msr, list[i].v);
        if (v == NONE) {
            wrmsr(list[i].msr, keep);
        }
        check_eq("MSR that takes it", v == NONE ? list[i].msr : 0, 0);
        check_eq("vector", v, GP);
        check_eq("unchanged", rdmsr(list[i].msr), keep);
    }
}

/* ---- I/O permission (Vol. 1 19.5) ---- */

CODE(in8, "mov %edi, %edx", "in %dx, %al", "")
CODE(in16, "mov %edi, %edx", "in %dx, %ax", "")
CODE(in32, "mov %edi, %edx", "in %dx, %eax", "")
CODE(outs8, "mov %edi, %edx; lea (%rsp), %rsi", "outsb", "")
enum { MAP = 104, PORT = 0x510 }; /* a port that nobody minds */
static void io_map(uint16_t base, uint32_t limit)
{
    *(uint16_t *)(void *)(tss + 102) = base;
    memset(tss + MAP, 0, 8192);
    memset(tss + MAP + 8192, 0xff, 8);
    set_tss_limit(limit);
}
static void deny(unsigned port)
{
    tss[MAP + port / 8] |= (uint8_t)(1 << port % 8);
}
static void io_case(const char *code, const char *at, unsigned port, bool ok)
{
    run_user(code, port, 0);
    if (ok) {
        check_eq("port that faults", ntraps ? port : 0, 0);
    } else {
        check_trap(GP, 0, at + USER_BASE);
    }
}
static void io_end(void)
{
    *(uint16_t *)(void *)(tss + 102) = 0xffff;
    set_tss_limit(103);
}
CASE(io_bitmap)
{
    io_map(MAP, MAP + 8192);
    io_case(in8, in8_at, PORT, true);
    io_case(in32, in32_at, PORT, true);
    io_case(outs8, outs8_at, PORT, true);
    deny(PORT + 1);
    io_case(in8, in8_at, PORT, true);
    io_case(in8, in8_at, PORT + 1, false);
    io_case(in16, in16_at, PORT, false);
    io_case(in32, in32_at, PORT - 2, false);
    io_case(in16, in16_at, PORT - 1, true);
    io_case(outs8, outs8_at, PORT + 1, false);
    deny(PORT + 8);
    io_case(in16, in16_at, PORT + 7, false); /* over a byte of the map */
    io_case(in8, in8_at, PORT + 7, true);
    io_end();
}
CASE(io_bitmap_limit)
{
    io_map(MAP, MAP + PORT / 8 + 1); /* the byte of PORT and the one behind */
    io_case(in8, in8_at, PORT, true);
    io_case(in8, in8_at, PORT + 7, true);
    io_case(in8, in8_at, PORT + 8, false); /* two bytes are always read */
    io_map(MAP, MAP + PORT / 8);
    io_case(in8, in8_at, PORT, false);
    io_map(MAP, MAP + 8192);
    io_case(in8, in8_at, 0xffff, true);
    io_map(MAP, MAP + 8191);
    io_case(in8, in8_at, 0xffff, false);
    io_end();
    io_case(in8, in8_at, PORT, false);
}
CASE(io_iopl)
{
    user_flags = 2 | F_IOPL;
    io_case(in8, in8_at, PORT, true);
    io_case(outs8, outs8_at, PORT, true);
    user_flags = 2 | 2 << 12;
    io_case(in8, in8_at, PORT, false);
}
CODE(cli_code, "", "cli; nop; sti", "cli")
CASE(iopl_cli_sti)
{
    user_flags = 2 | F_IOPL;
    check_eq("IOPL 3", run_user(cli_code, 0, 0), NONE);
    user_flags = 2 | 2 << 12;
    run_user(cli_code, 0, 0);
    check_trap(GP, 0, cli_code_at + USER_BASE);
}

/* ---- HLT, MONITOR, MWAIT ---- */

CODE(hlt_code, "sti", "hlt", "cli")
CODE(mwait_code, "lea (%rdi), %rax; xor %ecx, %ecx; xor %edx, %edx; monitor; xor %eax, %eax; sti",
     "mwait", "cli")
CODE(monitor_bad, "mov %rdi, %rax; mov %esi, %ecx; xor %edx, %edx", "monitor", "")
CODE(mwait_bad, "xor %eax, %eax; mov %esi, %ecx", "mwait", "")
static void timer(uint32_t ticks)
{
    *apic(0x3e0) = 0xb;         /* by 1 */
    *apic(0x320) = VEC_IRQ + 5; /* once */
    *apic(0x380) = ticks;
}
CASE(hlt_wakes)
{
    timer(2000000);
    run(hlt_code, 0, 0);
    check_eq("one interrupt", ntraps, 1);
    check_eq("vector", last()->vector, VEC_IRQ + 5);
    check_eq("behind HLT", last()->ip, (word)hlt_code_next);
}
CASE(mwait_wakes)
{
    static uint64_t line;
    if (!cpu_has(1, 2, 3)) {
        skip("no MONITOR");
        return;
    }
    timer(2000000);
    unsigned v = NONE;
    for (unsigned i = 0; i < 100000000 && v == NONE; i++) { /* MWAIT may wake early */
        v = run(mwait_code, (word)&line, 0);
    }
    check_eq("vector", v, VEC_IRQ + 5);
}
CASE_NOT_QEMU(monitor_faults, "Vol. 2B MONITOR: addresses, MWAIT: ECX")
{
    if (!cpu_has(1, 2, 3)) {
        skip("no MONITOR");
        return;
    }
    run(monitor_bad, (word)gdt, 1);
    check_trap(GP, 0, monitor_bad_at);
    run(mwait_bad, 0, 2);
    check_trap(GP, 0, mwait_bad_at);
    run(monitor_bad, TEST_VA, 0);
    check_trap(PF, 0, monitor_bad_at);
    run(monitor_bad, 0x800000000000, 0);
    check_trap(GP, 0, monitor_bad_at);
}

/* ---- CPUID ---- */

CODE(cpuid_code, "mov %rdi, %rax; mov %rsi, %rcx; mov $-1, %rbx; mov $-1, %rdx", "cpuid", "ud2")
CASE(cpuid_clears_upper_halves)
{
    run(cpuid_code, 0xffffffff00000000, 0xffffffff00000000);
    check_eq("rax", last()->ax >> 32, 0);
    check_eq("rbx", last()->bx >> 32, 0);
    check_eq("rcx", last()->cx >> 32, 0);
    check_eq("rdx", last()->dx >> 32, 0);
    check_eq("user", run_user(cpuid_code, 0, 0), UD);
}
CODE(set_cr4_code, "", "mov %rdi, %cr4", "")
/* What CPUID offers, the control registers take, and the other way round. */
CASE_NOT_QEMU(cpuid_cr4, NOT_RUN "Vol. 2B MOV CR: TCG takes any CR4")
{
    static const struct {
        uint8_t cr4, reg, bit;
        uint32_t leaf;
    } list[] = {{11, 2, 2, 7}, {16, 1, 0, 7},  {20, 1, 7, 7},  {21, 1, 20, 7},
                {22, 2, 3, 7}, {12, 2, 16, 7}, {17, 2, 17, 1}, {18, 2, 26, 1},
                {13, 2, 5, 1}, {14, 2, 6, 1},  {23, 2, 7, 7}};
    for (unsigned i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        word cr4 = read_cr4();
        bool has = cpu_has(list[i].leaf, list[i].reg, list[i].bit);
        if (list[i].cr4 == 12) {
            has = false; /* not in long mode */
        }
        unsigned v = run(set_cr4_code, cr4 | 1ul << list[i].cr4, 0);
        write_cr4(cr4);
        check_eq("bit of CR4", v != (has ? NONE : GP) ? list[i].cr4 : 0, 0);
    }
}
CASE(cpuid_osxsave)
{
    if (!cpu_has(1, 2, 26)) {
        skip("no XSAVE");
        return;
    }
    check_eq("off", cpu_has(1, 2, 27), 0);
    set_cr4(1 << 18, true);
    bool on = cpu_has(1, 2, 27);
    set_cr4(1 << 18, false);
    check_eq("on", on, 1);
}
CASE(cpuid_leaves)
{
    uint32_t r[4], top[4];
    cpuid(0, 0, top);
    CHECK(top[0] >= 0xd && top[0] < 0x100);
    cpuid(1, 0, r);
    check_eq("APIC ID", r[1] >> 24, *apic(APIC_ID) >> 24);
    cpuid(0x80000000, 0, r);
    CHECK(r[0] >= 0x80000008);
    cpuid(0x80000008, 0, r);
    CHECK((r[0] & 0xff) >= 36 && (r[0] & 0xff) <= 52 && (r[0] >> 8 & 0xff) >= 48);
    check_eq("SSE2, FXSR", cpu_has(1, 3, 26) && cpu_has(1, 3, 24), 1);
    check_eq("long mode, NX, SYSCALL",
             cpu_has(0x80000001, 3, 29) && cpu_has(0x80000001, 3, 20) && cpu_has(0x80000001, 3, 11),
             1);
}
