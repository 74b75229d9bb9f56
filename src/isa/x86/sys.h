/* Between the files of the x86 CPU's system part. */
#ifndef ISA_X86_SYS_H
#define ISA_X86_SYS_H

#include "core/tlb_ops.h"
#include "isa/x86/cpu.h"

/* MMU index of implicit accesses to descriptor tables and task state (always supervisor). */
static inline unsigned x86_sys_idx(const struct x86_cpu *c)
{
    return c->cr4 & CR4_SMAP ? MODE_MMU_KERNEL : MODE_MMU_KERNEL_AC;
}

static inline bool x86_long_code(const struct x86_cpu *c)
{
    return (c->efer & EFER_LMA) && (c->seg[SEG_CS].ar & AR_L);
}

/* Width of linear addresses: now, and as wide as the model can do, which is what checks of values
 * for system registers go by (Vol. 3A 4.5.2). */
static inline bool x86_canonical(const struct x86_cpu *c, uint64_t va)
{
    return (uint64_t)sign_extend(va, c->cr4 & CR4_LA57 ? 57 : 48) == va;
}
bool x86_canonical_reg(const struct x86_cpu *, uint64_t va); /* cpuid.c */

/* Are accesses of this vCPU to be aligned (Vol. 3A 6.15, interrupt 17)? */
static inline bool x86_aligned(const struct x86_cpu *c)
{
    return c->cpl == 3 && (c->cr0 & CR0_AM) && (c->sys_flags & RF_AC);
}

enum ir_helper_result x86_lldt(struct x86_cpu *, uint16_t sel);
enum ir_helper_result x86_ltr(struct x86_cpu *, uint16_t sel);
enum ir_helper_result x86_inspect_desc(struct x86_cpu *, uint16_t sel, unsigned what, uint32_t *out,
                                       bool *zf);

/* stack.c: pushes and pops by descriptor-table code, on a stack not yet committed. */
struct x86_stack {
    struct x86_cpu *c;
    uint64_t base; /* of SS, 0 in 64-bit mode */
    uint64_t sp, mask;
    uint64_t first, last; /* offsets that the segment allows */
    uint32_t error;       /* of #SS outside of them */
    unsigned idx;         /* MMU index */
    bool bad;             /* an access faulted: env->fault is filled */
};
void x86_stack_current(struct x86_stack *, struct x86_cpu *);
/* The stack at SS:SP to come. */
void x86_stack_new(struct x86_stack *, struct x86_cpu *, uint16_t ss, uint64_t ss_desc,
                   uint64_t sp);
/* RSP or ESP or SP plus n, as a full register value. */
uint64_t x86_stack_add(struct x86_cpu *, uint64_t n);
void x86_push(struct x86_stack *, unsigned size, uint64_t v);
uint64_t x86_pop(struct x86_stack *, unsigned size);
void x86_stack_commit(const struct x86_stack *);
/* New SS:RSP for privilege level `level` from the TSS (32-bit and 64-bit). */
bool x86_tss_stack(struct x86_cpu *, unsigned level, uint16_t *ss, uint64_t *sp);
bool x86_tss_ist(struct x86_cpu *, unsigned ist, uint64_t *sp);
/* Checks and loads SS for an inner privilege level; vector is that of a failure. */
bool x86_inner_ss(struct x86_cpu *, uint16_t sel, unsigned level, unsigned vector, uint64_t *desc);

/* #GP for an address that is not canonical (fault.addr) becomes #SS if the instruction at pc used
 * the stack segment. */
void x86_settle_canonical(struct x86_cpu *, struct rt_fault *);

/* fault.c: delivers env->fault of an INT; pc is put back when delivery itself faults. FAULT: only
 * for RT_FAULT_STEP, nothing was changed. */
enum ir_helper_result x86_deliver_soft(struct x86_cpu *, uint64_t insn_pc);

/* far.c */
/* `next`: behind the instruction, for a task to come back to. */
enum ir_helper_result x86_far_jump(struct x86_cpu *, uint16_t sel, uint64_t pc, unsigned opsize,
                                   uint64_t next);
enum ir_helper_result x86_far_call(struct x86_cpu *, uint16_t sel, uint64_t pc, unsigned opsize,
                                   uint64_t next);
enum ir_helper_result x86_far_ret(struct x86_cpu *, unsigned opsize, unsigned release);
enum ir_helper_result x86_iret(struct x86_cpu *, unsigned opsize, uint64_t next);

/* task.c: the pc that is saved is `next`; for events env->pc. After a switch whose segments are
 * wrong x86_task_go() has delivered that; x86_task_event() is false then, as when nothing was
 * done, and c->task_begun tells which. */
enum x86_task_how { X86_TASK_JMP, X86_TASK_CALL, X86_TASK_IRET, X86_TASK_EVENT };
enum ir_helper_result x86_task_go(struct x86_cpu *, uint16_t sel, enum x86_task_how how,
                                  bool direct, uint64_t next);
enum ir_helper_result x86_task_return(struct x86_cpu *, uint64_t next);
bool x86_task_event(struct x86_cpu *, uint16_t sel, uint64_t flags, const struct rt_fault *);
void x86_deliver_in_task(struct x86_cpu *); /* fault.c: env->fault, at env->pc */

/* smm.c: an SMI, between two instructions. */
void x86_smm_enter(struct x86_cpu *);
void x86_shutdown(struct x86_cpu *, const char *why); /* fault.c */

/* v86.c: has this code a virtual interrupt flag in place of IF? */
bool x86_v86_virtual_if(const struct x86_cpu *);
enum ir_helper_result x86_v86_set_vif(struct x86_cpu *, bool on);
/* POPF and IRET in virtual-8086 mode below IOPL 3. False: env->fault is filled. */
bool x86_v86_set_flags(struct x86_cpu *, uint64_t v, unsigned opsize);
/* INT n in virtual-8086 mode; true: that is all, and *r the outcome. */
bool x86_v86_int(struct x86_cpu *, unsigned vector, uint64_t next, enum ir_helper_result *r);

/* help_fpu.c: the x87 as the guest sees it, in the layout of FXSAVE */
void x86_get_x87(struct x86_cpu *, uint8_t fx[512]);
void x86_set_x87(struct x86_cpu *, uint8_t fx[512]);
void x86_fx_move_top(uint8_t fx[512], unsigned top);

/* isa.c: limits and rights of a segment that is not flat; false: env->fault is filled. */
bool x86_seg_check(struct x86_cpu *, unsigned seg, uint64_t off, unsigned size, unsigned access);

/* Alignment of an access by a helper. False: env->fault is filled. */
bool x86_align_check(struct x86_cpu *, gva_t va, unsigned align);

/* help_unmasked.c: false when an exception of the x87 is pending: env->fault is filled. */
bool x86_check_x87(struct rt_env *, uint64_t a, uint64_t b, unsigned size);

/* cpuid.c, msr.c, model.c */
void x86_cpuid(struct x86_cpu *, uint32_t leaf, uint32_t sub, uint32_t out[4]);
bool x86_rdmsr(struct x86_cpu *, uint32_t msr, uint64_t *v); /* false: #GP */
bool x86_wrmsr(struct x86_cpu *, uint32_t msr, uint64_t v);
uint64_t x86_tsc(const struct x86_cpu *);
enum { XCR0_PKRU = 1 << 9, XS_PKRU = 2688 /* its place in the standard form of XSAVE */ };
uint64_t x86_xcr0_known(const struct x86_cpu *);
void x86_set_pkru(struct x86_cpu *, uint32_t v); /* help_sys.c */
uint64_t x86_cr4_known(const struct x86_cpu *);  /* bits the model lets be set */
enum ir_helper_result x86_write_cr(struct x86_cpu *, unsigned cr, uint64_t v);

/* help_flow.c: was the line that MONITOR named written, or is there none? */
bool x86_monitor_hit(const struct x86_cpu *);

#endif
