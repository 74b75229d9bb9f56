/*
 * What is special in virtual-8086 mode (Intel SDM Vol. 3A chapter 20): which instructions hang on
 * IOPL, and the extensions that CR4.VME and CR4.PVI bring: the virtual interrupt flag, and software
 * interrupts that stay in the mode (20.3).
 *
 * Does not do: the exception that is due when an IRET of the monitor sets both VIF and VIP.
 */
#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"

enum { TSS_MAP = 0x66, REDIRECTION = 32 /* bytes before the I/O permission bitmap */ };

static unsigned iopl(const struct x86_cpu *c)
{
    return (unsigned)(c->sys_flags >> 12) & 3;
}

bool x86_v86_virtual_if(const struct x86_cpu *c)
{
    bool vm = c->sys_flags & RF_VM;
    return c->cpl == 3 && iopl(c) < 3 && (c->cr4 & (vm ? CR4_VME : CR4_PVI)) && (c->cr0 & CR0_PE);
}

/* CLI and STI of those who have a virtual flag. */
enum ir_helper_result x86_v86_set_vif(struct x86_cpu *c, bool on)
{
    if (on && (c->sys_flags & RF_VIP)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    c->sys_flags = on ? c->sys_flags | RF_VIF : c->sys_flags & ~(uint64_t)RF_VIF;
    return IR_HELPER_NEXT;
}

bool x86_v86_set_flags(struct x86_cpu *c, uint64_t v, unsigned opsize)
{
    bool due = (v & RF_IF) && (c->sys_flags & RF_VIP);
    if (!(c->cr4 & CR4_VME) || opsize != 2 || due || (v & RF_TF)) {
        x86_raise_error(c, EXC_GP, 0);
        return false;
    }
    x86_set_rflags(c, v, FLAG_ALL | RF_DF | RF_NT | RF_TF);
    return x86_v86_set_vif(c, v & RF_IF) == IR_HELPER_NEXT;
}

/* FLAGS as the program sees them: IOPL 3, its own interrupt flag. */
static uint64_t virtual_flags(const struct x86_cpu *c)
{
    uint64_t flags = x86_rflags(c);
    return (flags & ~(uint64_t)RF_IF) | RF_IOPL | (flags & RF_VIF ? RF_IF : 0);
}

/* PUSHF where IOPL is below 3. */
enum ir_helper_result helper_pushf_v86(struct rt_env *env, uint64_t opsize, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = (struct x86_cpu *)env;
    struct x86_stack s;
    if (!(c->cr4 & CR4_VME) || opsize != 2) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    x86_stack_current(&s, c);
    x86_push(&s, 2, virtual_flags(c));
    if (s.bad) {
        return IR_HELPER_FAULT;
    }
    x86_stack_commit(&s);
    return IR_HELPER_NEXT;
}

/* The vector's bit in the task's map of redirections; false: env->fault is filled. */
static bool redirection(struct x86_cpu *c, unsigned vector, bool *protected)
{
    uint16_t map;
    uint8_t bits;
    if (c->tr.limit < TSS_MAP + 1) {
        x86_raise_error(c, EXC_GP, 0);
        return false;
    }
    if (!vmem_read(c->rt.vcpu, c->tr.base + TSS_MAP, x86_sys_idx(c), 2, &map)) {
        return false;
    }
    if (map < REDIRECTION || map - REDIRECTION + vector / 8 > c->tr.limit) {
        x86_raise_error(c, EXC_GP, 0);
        return false;
    }
    gva_t at = c->tr.base + map - REDIRECTION + vector / 8;
    if (!vmem_read(c->rt.vcpu, at, x86_sys_idx(c), 1, &bits)) {
        return false;
    }
    *protected = bits >> vector % 8 & 1;
    return true;
}

/* To the handler that the program's own vector table at linear address 0 names. */
static enum ir_helper_result redirect(struct x86_cpu *c, unsigned vector, uint64_t next)
{
    bool virtual = iopl(c) < 3;
    uint32_t to;
    struct x86_stack s;
    if (!vmem_read(c->rt.vcpu, vector * 4, MODE_MMU_USER, 4, &to)) {
        return IR_HELPER_FAULT;
    }
    x86_stack_current(&s, c);
    x86_push(&s, 2, virtual ? virtual_flags(c) : x86_rflags(c));
    x86_push(&s, 2, c->seg[SEG_CS].sel);
    x86_push(&s, 2, next);
    if (s.bad) {
        return IR_HELPER_FAULT;
    }
    x86_stack_commit(&s);
    x86_set_rflags(c, 0, RF_TF | (virtual ? RF_VIF : RF_IF));
    uint16_t cs = (uint16_t)(to >> 16);
    x86_set_seg_raw(c, SEG_CS, cs, (uint64_t)cs << 4, c->seg[SEG_CS].limit, c->seg[SEG_CS].ar);
    c->rt.pc = to & 0xffff;
    return IR_HELPER_PC;
}

/* Table 20-2: methods 5 and 6 stay, 1 and 4 go through the IDT, the others are faults. */
bool x86_v86_int(struct x86_cpu *c, unsigned vector, uint64_t next, enum ir_helper_result *r)
{
    bool protected = true;
    if ((c->cr4 & CR4_VME) && !redirection(c, vector, &protected)) {
        *r = IR_HELPER_FAULT;
        return true;
    }
    if (!protected) {
        *r = redirect(c, vector, next);
        return true;
    }
    if (iopl(c) < 3) {
        *r = x86_raise_error(c, EXC_GP, 0);
        return true;
    }
    return false;
}
