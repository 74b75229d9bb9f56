/*
 * Virtual-8086 mode (Intel SDM Vol. 3A chapter 20): the way in and out, what hangs on IOPL, the
 * extensions CR4.VME and CR4.PVI. Code of the mode is copied to V86 and ends by UD2.
 */
#include "rt.h"

enum { V86 = 0x10000, CR4_VME = 1, CR4_PVI = 2, F_VIF = 1 << 19, F_VIP = 1 << 20, IOPL3 = F_IOPL };
enum { MAP = 0x68, IO = MAP + 32, INT = 0x21 };

extern const char v_begin[], v_end[];
extern uint32_t v_arg;
uint32_t v_arg;
__asm__(".pushsection .text\n.code16\n"
        "v_begin:\n"
        "v_plain: mov %cs, %ax; mov %ds, %bx; mov %ss, %cx; mov %sp, %dx; v_plain_1: ud2\n"
        "v_cli: cli; v_cli_1: ud2\n"
        "v_sti: sti; v_sti_1: ud2\n"
        "v_pushf: pushf; v_pushf_0: pop %ax; v_pushf_1: ud2\n"
        "v_pushfl: pushfl; pop %eax; v_pushfl_1: ud2\n"
        "v_popf: push %bx; v_popf_0: popf; v_popf_1: ud2\n"
        "v_iret: push %bx; push %cs; push $(v_iret_1 - v_begin); v_iret_0: iret; v_iret_1: ud2\n"
        "v_int: int $0x21; v_int_1: nop\n"
        "v_int_user: int $0x30; ud2\n"
        "v_int3: int3; ud2\n"
        "v_hlt: hlt\n"
        "v_in: in $0x80, %al; v_in_1: ud2\n"
        "v_far: lcall $0x1000, $(v_far_1 - v_begin); ud2; v_far_1: pop %ax; pop %bx; ud2\n"
        "v_load: mov $0x1234, %ax; mov %ax, %fs; mov %fs, %bx; v_load_1: ud2\n"
        "v_handler: pop %ax; pop %bx; pop %cx; v_handler_1: ud2\n"
        "v_end:\n.code32\n.popsection");
#define LABEL(name) extern const char name[]
LABEL(v_plain);
LABEL(v_plain_1);
LABEL(v_cli);
LABEL(v_cli_1);
LABEL(v_sti);
LABEL(v_sti_1);
LABEL(v_pushf);
LABEL(v_pushf_1);
LABEL(v_pushfl);
LABEL(v_popf);
LABEL(v_popf_0);
LABEL(v_popf_1);
LABEL(v_iret);
LABEL(v_iret_0);
LABEL(v_iret_1);
LABEL(v_int);
LABEL(v_int_1);
LABEL(v_int_user);
LABEL(v_int3);
LABEL(v_hlt);
LABEL(v_in);
LABEL(v_in_1);
LABEL(v_far);
LABEL(v_load);
LABEL(v_load_1);
LABEL(v_handler);
LABEL(v_handler_1);

static uint16_t at(const char *label)
{
    return (uint16_t)(label - v_begin);
}

/* EDI: where to, ESI: flags. */
CODE(enter,
     "mov v_arg, %ebx; push $0x5555; push $0x4444; push $0x1000; push $0x3333; push $0x2000; "
     "push $0x1000; push %esi; push $0x1000; push %edi",
     "iret", "")

static void go(const char *label, word flags, uint32_t arg)
{
    memcpy((void *)V86, v_begin, (size_t)(v_end - v_begin));
    uint32_t *ivt = (uint32_t *)0;
    __asm__ volatile("" : "+r"(ivt));
    uint32_t kept = ivt[INT];
    ivt[INT] = 0x10000000 | at(v_handler);
    tss[0x66] = IO;
    tss[0x67] = 0;
    set_tss_limit(IO + 32);
    v_arg = arg;
    run(enter, at(label), 2 | F_VM | flags);
    ivt[INT] = kept;
}
static void came(unsigned v, word error, const char *label)
{
    check_eq("vector", ntraps ? last()->vector : (word)NONE, v);
    if (error != NO_ERROR) {
        check_eq("error", last()->error, error);
    }
    check_eq("ip", last()->ip, at(label));
    check_eq("VM", last()->flags & F_VM, F_VM);
}

CASE(there_and_back)
{
    go(v_plain, 0, 0);
    came(UD, NO_ERROR, v_plain_1);
    check_eq("cs", last()->cs, 0x1000);
    check_eq("cs read", last()->ax & 0xffff, 0x1000);
    check_eq("ds read", last()->bx & 0xffff, 0x1000);
    check_eq("ss read", last()->cx & 0xffff, 0x2000);
    check_eq("sp read", last()->dx & 0xffff, 0x1000);
    check_eq("es", last()->vm_es & 0xffff, 0x3333);
    check_eq("ds", last()->vm_ds & 0xffff, 0x1000);
    check_eq("fs", last()->vm_fs & 0xffff, 0x4444);
    check_eq("gs", last()->vm_gs & 0xffff, 0x5555);
    check_eq("ds of the handler was null", last()->fs & 0xffff, 0);
}
CASE(segments_are_paragraphs)
{
    go(v_load, 0, 0);
    came(UD, NO_ERROR, v_load_1);
    check_eq("fs", last()->bx & 0xffff, 0x1234);
    go(v_far, 0, 0);
    check_eq("return cs", last()->bx & 0xffff, 0x1000);
}
CASE(below_iopl_3)
{
    static const char *const jobs[] = {v_cli, v_sti, v_pushf, v_int};
    for (unsigned i = 0; i < 4; i++) {
        go(jobs[i], 0, 0);
        came(GP, 0, jobs[i]);
    }
    go(v_popf, 0, 0);
    came(GP, 0, v_popf_0);
    go(v_iret, 0, 0);
    came(GP, 0, v_iret_0);
}
CASE(at_iopl_3)
{
    go(v_cli, IOPL3, 0);
    came(UD, NO_ERROR, v_cli_1);
    go(v_pushf, IOPL3, 0);
    check_eq("flags", last()->ax & 0xffff, 2 | IOPL3);
    go(v_popf, IOPL3, 2 | F_CF | F_NT);
    came(UD, NO_ERROR, v_popf_1);
    check_eq("popped", last()->flags & (F_CF | F_NT | F_IOPL), F_CF | F_NT | IOPL3);
    go(v_iret, IOPL3, 2 | F_ZF);
    came(UD, NO_ERROR, v_iret_1);
    check_eq("returned", last()->flags & (F_ZF | F_IOPL), F_ZF | IOPL3);
    go(v_int, IOPL3, 0); /* DPL of the gate */
    came(GP, INT * 8 + 2, v_int);
    go(v_int_user, IOPL3, 0);
    check_eq("through the IDT", ntraps, 0);
}
CASE(always_privileged)
{
    go(v_hlt, IOPL3, 0);
    came(GP, 0, v_hlt);
}
CASE(ports_by_the_bitmap)
{
    tss[IO + 16] = 0;
    go(v_in, 0, 0);
    came(UD, NO_ERROR, v_in_1);
    tss[IO + 16] = 1;
    go(v_in, IOPL3, 0); /* IOPL does not count */
    tss[IO + 16] = 0;
    came(GP, 0, v_in);
}

/* ---- CR4.VME ---- */

static bool with(word bit)
{
    if (!cpu_has(1, 3, 1)) {
        skip("no VME");
        return false;
    }
    write_cr4(read_cr4() | bit);
    return true;
}
static void without(void)
{
    write_cr4(read_cr4() & ~(word)(CR4_VME | CR4_PVI));
    memset(tss + MAP, 0, 32);
}
static void vme(const char *label, word flags, uint32_t arg)
{
    with(CR4_VME);
    go(label, flags, arg);
    write_cr4(read_cr4() & ~(word)CR4_VME);
}
CASE(vme_flag)
{
    if (!with(0)) {
        return;
    }
    vme(v_sti, 0, 0);
    came(UD, NO_ERROR, v_sti_1);
    check_eq("sti", last()->flags & (F_VIF | F_IF), F_VIF);
    vme(v_cli, F_VIF | F_IF, 0);
    check_eq("cli", last()->flags & (F_VIF | F_IF), F_IF);
    vme(v_sti, F_VIP, 0);
    came(GP, 0, v_sti);
    vme(v_cli, F_VIP | F_VIF, 0);
    came(UD, NO_ERROR, v_cli_1);
    vme(v_sti, IOPL3, 0);
    check_eq("iopl 3", last()->flags & (F_VIF | F_IF), F_IF);
}
CASE(vme_flags_image)
{
    if (!with(0)) {
        return;
    }
    vme(v_pushf, F_VIF, 0);
    check_eq("on", last()->ax & 0xffff, 2 | F_IF | IOPL3);
    vme(v_pushf, F_IF, 0);
    check_eq("off", last()->ax & 0xffff, 2 | IOPL3);
    vme(v_pushfl, 0, 0);
    came(GP, 0, v_pushfl);
    vme(v_popf, 0, 2 | F_IF | F_CF | IOPL3);
    came(UD, NO_ERROR, v_popf_1);
    check_eq("popf", last()->flags & (F_VIF | F_IF | F_CF | F_IOPL), F_VIF | F_CF);
    vme(v_popf, F_VIF | F_IF, 2);
    check_eq("popf off", last()->flags & (F_VIF | F_IF), F_IF);
    vme(v_popf, F_VIP, 2 | F_IF);
    came(GP, 0, v_popf_0);
    vme(v_popf, 0, 2 | F_TF);
    came(GP, 0, v_popf_0);
    vme(v_iret, 0, 2 | F_IF | F_ZF);
    came(UD, NO_ERROR, v_iret_1);
    check_eq("iret", last()->flags & (F_VIF | F_IF | F_ZF | F_IOPL), F_VIF | F_ZF);
    vme(v_iret, F_VIP, 2 | F_IF);
    came(GP, 0, v_iret_0);
}
CASE(vme_redirection)
{
    if (!with(0)) {
        return;
    }
    vme(v_int, F_VIF | F_IF, 0);
    came(UD, NO_ERROR, v_handler_1);
    check_eq("ip pushed", last()->ax & 0xffff, at(v_int_1));
    check_eq("cs pushed", last()->bx & 0xffff, 0x1000);
    check_eq("flags pushed", last()->cx & 0xffff, 2 | F_IF | IOPL3);
    check_eq("flags", last()->flags & (F_VIF | F_IF), F_IF);
    vme(v_int, IOPL3 | F_IF, 0);
    came(UD, NO_ERROR, v_handler_1);
    check_eq("IF", last()->flags & F_IF, 0);
    check_eq("flags pushed, IOPL 3", last()->cx & 0xffff, 2 | F_IF | IOPL3);
    tss[MAP + INT / 8] = 1 << INT % 8;
    vme(v_int, 0, 0);
    came(GP, 0, v_int);
    tss[MAP + INT / 8] = 1 << INT % 8;
    vme(v_int, IOPL3, 0);
    came(GP, INT * 8 + 2, v_int);
    without();
}
CODE(pvi_sti, "sti; pushfl; pop %eax; cli; pushfl; pop %ebx", "ud2", "")
CASE(pvi)
{
    if (!with(CR4_PVI)) {
        return;
    }
    user_flags = 2;
    run_user(pvi_sti, 0, 0);
    without();
    check_trap(UD, NO_ERROR, pvi_sti_at);
    check_eq("sti", last()->ax & (F_VIF | F_IF), F_VIF);
    check_eq("cli", last()->bx & (F_VIF | F_IF), 0);
    run_user(pvi_sti, 0, 0);
    check_trap(GP, 0, pvi_sti);
}
