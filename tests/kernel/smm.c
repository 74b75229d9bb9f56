/*
 * System management mode (Intel SDM Vol. 3C chapter 31; save area: AMD APM Vol. 2, 10.2.3). SMIs
 * come from the local APIC. Handlers are copied to SMBASE + 8000h, in memory that anybody sees.
 */
#include "rt.h"

enum { BASE = 0x30000, OTHER = 0x50000, SEEN = 0x9000, ICR_SELF = 1 << 18, ICR_SMI = 2 << 8 };
enum { S_REVISION = 0xfefc, S_SMBASE = 0xff00, S_CR0 = 0xff58, S_RFLAGS = 0xff70, S_RIP = 0xff78 };
enum {
    S_R15 = 0xff80,
    S_RSP = 0xffd8,
    S_RBX = 0xffe0,
    S_RAX = 0xfff8,
    S_CS = 0xfe10,
    S_EFER = 0xfed0
};

struct seen {
    uint32_t count, cr0, cs, flags, ds_limit_ok, nested, value;
};
static volatile struct seen *const seen = (volatile struct seen *)SEEN;

extern const char h_plain[], h_change[], h_move[], h_nmi[], h_again[], h_end[];
__asm__(".pushsection .text\n.code16\n"
        "h_plain: incl 0x9000; mov %cr0, %eax; mov %eax, 0x9004; mov %cs, %ax; mov %ax, 0x9008\n"
        "pushfl; popl 0x900c; mov $0x200000, %eax; mov %ds:(%eax), %ebx; movl $1, 0x9010\n"
        "mov $0xdead, %ecx; mov $0xdead, %edx; mov $0xdead, %esi; rsm\n"
        "h_change: incl 0x9000; mov $0x1234, %ax; mov %ax, %cs:0xfff8; rsm\n"
        "h_move: incl 0x9000; movl $0x50000, %cs:0xff00; rsm\n"
        "h_nmi: incl 0x9000; mov $0xfee00300, %eax; movl $0x40400, (%eax); mov (%eax), %ecx\n"
        "nop; nop; incl 0x9018; rsm\n"
        "h_again: incl 0x9000; incl 0x9014; cmpl $1, 0x9000; jne 1f\n"
        "mov $0xfee00300, %eax; movl $0x40200, (%eax); mov (%eax), %ecx; nop\n"
        "1: mov 0x9014, %eax; mov %eax, 0x9018; decl 0x9014; rsm\n"
        "h_end:\n.code64\n.popsection");

static void put(uint32_t base, const char *handler)
{
    memcpy((void *)(word)(base + 0x8000), handler, (size_t)(h_end - handler));
    memset((void *)(word)SEEN, 0, sizeof(struct seen));
}

/* An SMI to this processor; the registers that the handler spoils are looked at afterwards. */
CODE(smi, "mov $0xb1, %ebx; mov $0xc1, %ecx; mov $0xd1, %edx; mov $0x51, %r15d; mov $0xa1, %eax",
     "movl $0x40200, (%rdi); mov $1000, %r9d; 1: dec %r9d; jnz 1b", "ud2")

static uint64_t saved(unsigned at)
{
    return *(volatile uint64_t *)(word)(BASE + at);
}

CASE(in_and_out)
{
    put(BASE, h_plain);
    apic_on();
    word cr0 = read_cr0();
    run(smi, (word)apic(APIC_ICR), 0);
    check_trap(UD, NO_ERROR, smi_next);
    check_eq("once", seen->count, 1);
    check_eq("PE, PG", seen->cr0 & 0x80000001, 0);
    check_eq("cs", seen->cs, BASE >> 4);
    check_eq("flags", seen->flags, 2);
    check_eq("limits", seen->ds_limit_ok, 1);
    check_eq("rax", last()->ax, 0xa1);
    check_eq("rbx", last()->bx, 0xb1);
    check_eq("rcx", last()->cx, 0xc1);
    check_eq("rdx", last()->dx, 0xd1);
    check_eq("r15", last()->r15, 0x51);
    check_eq("cr0", read_cr0(), cr0);
    check_eq("cs", last()->cs, SEL_CODE);
}
CASE(save_area)
{
    put(BASE, h_plain);
    run(smi, (word)apic(APIC_ICR), 0);
    check_eq("revision", saved(S_REVISION) & 0xffffffff, 0x20064);
    check_eq("smbase", saved(S_SMBASE) & 0xffffffff, BASE);
    check_eq("cr0", saved(S_CR0), read_cr0());
    check_eq("rbx", saved(S_RBX), 0xb1);
    check_eq("r15", saved(S_R15), 0x51);
    check_eq("cs", saved(S_CS) & 0xffff, SEL_CODE);
    check_eq("efer", saved(S_EFER) & 0x500, 0x500);
    check("rip", saved(S_RIP) > (word)smi_at && saved(S_RIP) <= (word)smi_next);
    check_eq("rsp", saved(S_RSP), last()->sp);
}
CASE(handler_changes_state)
{
    put(BASE, h_change);
    run(smi, (word)apic(APIC_ICR), 0);
    check_trap(UD, NO_ERROR, smi_next);
    check_eq("rax", last()->ax, 0x1234);
}
CASE(smbase_moves)
{
    put(BASE, h_move);
    put(OTHER, h_plain);
    run(smi, (word)apic(APIC_ICR), 0);
    check_eq("first", seen->count, 1);
    check_eq("cs not yet", seen->cs, 0);
    run(smi, (word)apic(APIC_ICR), 0);
    check_eq("second", seen->count, 2);
    check_eq("cs", seen->cs, OTHER >> 4);
    check_eq("its area", *(volatile uint32_t *)(OTHER + S_SMBASE), OTHER);
    static const uint8_t back[] = {0x66, 0x2e, 0xc7, 0x06, 0x00, 0xff, 0, 0, 3, 0, 0x0f, 0xaa};
    memcpy((void *)(OTHER + 0x8000), back, sizeof(back)); /* movl $30000h, %cs:ff00h; rsm */
    run(smi, (word)apic(APIC_ICR), 0);
    put(BASE, h_plain);
    run(smi, (word)apic(APIC_ICR), 0);
    check_eq("back", seen->cs, BASE >> 4);
}
CASE(nmi_waits)
{
    put(BASE, h_nmi);
    resume = 1ull << NMI;
    run(smi, (word)apic(APIC_ICR), 0);
    resume = 0;
    check_eq("handler ran to its end", seen->value, 1);
    check_eq("NMI, then UD", ntraps, 2);
    check_eq("NMI", traps[0].f.vector, NMI);
    check_eq("outside", traps[0].f.cs, SEL_CODE);
}
CASE(smi_waits)
{
    put(BASE, h_again);
    run(smi, (word)apic(APIC_ICR), 0);
    check_trap(UD, NO_ERROR, smi_next);
    check_eq("twice", seen->count, 2);
    check_eq("not nested", seen->value, 1);
    check_eq("rax", last()->ax, 0xa1);
}
RAISES(ud_rsm, KERNEL, UD, NO_ERROR, "", "rsm")
RAISES(ud_rsm_user, USER, UD, NO_ERROR, "", "rsm")
