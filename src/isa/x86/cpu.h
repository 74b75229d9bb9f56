/*
 * State of an x86 vCPU and the numbers of the manual that its parts share.
 *
 * General registers are rt.reg[] in encoding order (rax rcx rdx rbx rsp rbp rsi rdi r8..r15).
 * The six arithmetic flags are rt.flags; the rest of RFLAGS is sys_flags.
 */
#ifndef ISA_X86_CPU_H
#define ISA_X86_CPU_H

#include "base/bits.h"
#include "core/isa.h"
#include "core/vcpu.h"
#include "ir/rt.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum x86_seg_reg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_COUNT };

/* Registers the lifter names beyond 0..15. */
enum x86_ir_reg {
    XREG_SEG_BASE = 16, /* six, by enum x86_seg_reg */
    XREG_SYS_FLAGS = XREG_SEG_BASE + SEG_COUNT,
    XREG_KERNEL_GS,
    XREG_MXCSR,
    XREG_TSC_AUX,
    XREG_SEL,                             /* six selectors, read only, 16 bits */
    XREG_LDTR_SEL = XREG_SEL + SEG_COUNT, /* from here on read only */
    XREG_TR_SEL,
    XREG_CR0,
    XREG_CR2,
    XREG_CR3,
    XREG_CR4,
    XREG_GDT_BASE,
    XREG_GDT_LIMIT,
    XREG_IDT_BASE,
    XREG_IDT_LIMIT,
    XREG_COUNT
};

/* RFLAGS bits outside the arithmetic six (Intel SDM Vol. 1 3.4.3). */
enum {
    RF_ONE = 2,
    RF_TF = 1 << 8,
    RF_IF = 1 << 9,
    RF_DF = 1 << 10,
    RF_IOPL = 3 << 12,
    RF_NT = 1 << 14,
    RF_RF = 1 << 16,
    RF_VM = 1 << 17,
    RF_AC = 1 << 18,
    RF_VIF = 1 << 19,
    RF_VIP = 1 << 20,
    RF_ID = 1 << 21,
    RF_SYS_ALL =
        RF_TF | RF_IF | RF_DF | RF_IOPL | RF_NT | RF_RF | RF_VM | RF_AC | RF_VIF | RF_VIP | RF_ID,
};

enum { /* Intel SDM Vol. 3A 2.5 */
       CR0_PE = 1,
       CR0_MP = 2,
       CR0_EM = 4,
       CR0_TS = 8,
       CR0_ET = 16,
       CR0_NE = 32,
       CR0_WP = 1 << 16,
       CR0_AM = 1 << 18,
       CR0_NW = 1 << 29,
       CR0_CD = 1 << 30,
};
#define CR0_PG 0x80000000u
enum {
    CR4_VME = 1,
    CR4_PVI = 2,
    CR4_TSD = 4,
    CR4_DE = 8,
    CR4_PSE = 16,
    CR4_PAE = 32,
    CR4_MCE = 64,
    CR4_PGE = 128,
    CR4_PCE = 256,
    CR4_OSFXSR = 512,
    CR4_OSXMMEXCPT = 1024,
    CR4_UMIP = 2048,
    CR4_LA57 = 1 << 12,
    CR4_FSGSBASE = 1 << 16,
    CR4_PCIDE = 1 << 17,
    CR4_OSXSAVE = 1 << 18,
    CR4_SMEP = 1 << 20,
    CR4_SMAP = 1 << 21,
    CR4_PKE = 1 << 22,
};
enum { X86_PHYS_BITS = 40 }; /* MAXPHYADDR, CPUID leaf 80000008 */
/* Exceptions of floating point: flags in MXCSR and the x87 status word, masks in the control word;
 * the masks in MXCSR are seven bits higher (Vol. 1 8.1.3, 8.1.5, 10.2.3). */
enum {
    FP_IE = 1,
    FP_DE = 2,
    FP_ZE = 4,
    FP_OE = 8,
    FP_UE = 16,
    FP_PE = 32,
    FP_ALL = 63,
    FSW_ES = 1 << 7,
    FSW_B = 1 << 15,
    MXCSR_MASK_SHIFT = 7,
    MXCSR_MASKS = FP_ALL << MXCSR_MASK_SHIFT,
    MXCSR_FTZ = 1 << 15,
};
enum { EFER_SCE = 1, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11 };

enum { /* exception vectors, Intel SDM Vol. 3A 6.3.1 */
       EXC_DE,
       EXC_DB,
       EXC_NMI,
       EXC_BP,
       EXC_OF,
       EXC_BR,
       EXC_UD,
       EXC_NM,
       EXC_DF,
       EXC_TS = 10,
       EXC_NP,
       EXC_SS,
       EXC_GP,
       EXC_PF,
       EXC_MF = 16,
       EXC_AC,
       EXC_MC,
       EXC_XM,
};
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16, PF_PK = 32 }; /* Vol. 3A 4.7 */
enum { PKRU_AD = 1, PKRU_WD = 2 }; /* two bits for each of 16 keys, 4.6.2 */

/* Access rights as in bits 23..8 of a descriptor's high half, shifted down by 8. */
enum {
    AR_A = 1,
    AR_W = 2 /* data: writable; code: readable */,
    AR_E = 4 /* expand down; conforming */,
    AR_CODE = 8,
    AR_S = 16,
    AR_DPL = 0x60,
    AR_P = 0x80,
    AR_AVL = 0x1000,
    AR_L = 0x2000,
    AR_DB = 0x4000,
    AR_G = 0x8000,
};

struct x86_segment {
    uint16_t sel;
    uint16_t ar;
    uint32_t limit; /* in bytes, granularity applied */
    /* the base is cpu->seg_base[] for the six, base for the others */
    uint64_t base;
};

struct x86_table { /* GDTR, IDTR */
    uint64_t base;
    uint16_t limit;
};

struct x86_model_state; /* CPUID leaves: model.h */

struct x86_cpu {
    struct rt_env rt;
    uint64_t seg_base[SEG_COUNT];
    uint64_t sys_flags;
    uint64_t kernel_gs;
    uint64_t mxcsr;
    struct x86_segment seg[SEG_COUNT], ldtr, tr;
    struct x86_table gdtr, idtr;
    uint8_t cpl;
    bool mode_held;   /* between x86_mode_hold and x86_mode_release */
    bool nmi_blocked; /* until IRET */
    bool halted_mwait;
    bool smm;
    bool task_begun;          /* by the event under delivery: its faults are the new task's */
    const uint8_t *monitor;   /* host address of the line that MONITOR named, or NULL */
    uint8_t monitor_line[64]; /* what it held then */
    unsigned pauses;
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
    uint64_t dr[8];
    uint64_t pdpte[4]; /* PAE: loaded with CR3 */
    /* From here to `model`: INIT leaves them. */
    uint64_t star, lstar, cstar, sfmask, tsc_aux;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, misc_enable, apic_base, mtrr_def_type, spec_ctrl;
    uint64_t mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    int64_t tsc_adjust;
    int64_t tsc_offset; /* guest TSC = host TSC + this */
    uint64_t smi_count;
    uint32_t smbase;
    struct x86_model *model; /* what CPUID says */
    uint16_t x87_cw;         /* the guest's control word; the host's has all masks set */
    uint32_t cur_pkru;
    uint64_t pending_db;   /* DR6 bits of a debug trap to deliver before the next instruction */
    bool step_tf, step_rf; /* TF and RF when the instruction under debugging began */
    unsigned delivering;   /* exception class under delivery, for double faults */
    uint8_t vec[16][32] __attribute__((aligned(64)));
};

static inline struct x86_cpu *x86_cpu(const struct vcpu *v)
{
    return (struct x86_cpu *)v->env;
}

/* Mode word: what decides how code at a pc translates. Bits 1..0 are the MMU index. */
enum {
    MODE_MMU_KERNEL = 0,
    MODE_MMU_USER = 1,
    MODE_MMU_KERNEL_AC = 2,
    MODE_CPL_SHIFT = 2, /* bits 3..2 */
    MODE_CS32 = 1 << 4,
    MODE_CS64 = 1 << 5,
    MODE_SS32 = 1 << 6,
    MODE_FLAT = 1 << 7, /* ES CS SS DS: base 0, limit 4 GiB, readable and writable */
    MODE_STEP = 1 << 8, /* TF: one instruction at a time */
    MODE_PE = 1 << 9,
    MODE_VM = 1 << 10,
    MODE_NM_FPU = 1 << 11, /* x87, MMX: #NM (CR0.EM or TS) */
    MODE_SSE = 1 << 12,    /* SSE is on (CR4.OSFXSR, not CR0.EM) */
    MODE_TS = 1 << 13,     /* CR0.TS: SSE, AVX: #NM */
    MODE_AVX = 1 << 14,
    MODE_IO = 1 << 15, /* CPL <= IOPL */
    MODE_FSGSBASE = 1 << 16,
    MODE_UMIP = 1 << 17,
    MODE_LMA = 1 << 18,
    MODE_TSD = 1 << 19,      /* RDTSC only at CPL 0 */
    MODE_XM = 1 << 20,       /* an exception is unmasked in MXCSR */
    MODE_MF = 1 << 21,       /* ... in the x87 control word */
    MODE_AC = 1 << 22,       /* alignment is checked */
    MODE_CS_LIMIT = 1 << 23, /* CS does not end where IP (16-bit code) or EIP does */
};

static inline unsigned mode_cpl(uint32_t mode)
{
    return mode >> MODE_CPL_SHIFT & 3;
}

static inline unsigned mode_bytes(uint32_t mode) /* code size: 2, 4 or 8 */
{
    return mode & MODE_CS64 ? 8 : mode & MODE_CS32 ? 4 : 2;
}

/* mode.c */
uint64_t x86_rflags(const struct x86_cpu *);
void x86_set_rflags(struct x86_cpu *, uint64_t v, uint64_t mask); /* tells the run loop */
/* New values; the mode changes with whether something is unmasked. */
void x86_set_mxcsr(struct x86_cpu *, uint32_t v);
void x86_set_x87_cw(struct x86_cpu *, uint16_t v);

/* fault.c: each fills env->fault and gives IR_HELPER_FAULT (or false). */
enum ir_helper_result x86_raise(struct x86_cpu *, unsigned vector);
enum ir_helper_result x86_raise_error(struct x86_cpu *, unsigned vector, uint32_t error);
void x86_deliver(struct vcpu *);
bool x86_events(struct vcpu *);

/* debug.c */
void x86_debug_regs_changed(struct x86_cpu *);
void x86_debug_io(struct x86_cpu *, uint16_t port, unsigned size);
bool x86_debug_before(struct vcpu *, unsigned hits);
void x86_debug_after(struct vcpu *, unsigned hits);

/* gdb_regs.c */
void x86_gdb_target(const struct vcpu *, struct strbuf *);
unsigned x86_gdb_read(struct vcpu *, unsigned n, uint8_t buf[64]);
unsigned x86_gdb_write(struct vcpu *, unsigned n, const uint8_t *buf, size_t len);

/* lift.c */
enum tr_end x86_translate(struct ir_block *, const struct tr_ctx *);

/* mmu.c */
bool x86_print_maps(const struct vcpu *, bool ranges, struct strbuf *); /* maps.c */
bool x86_walk(struct vcpu *, gva_t, unsigned access, unsigned mmu_idx, struct walk_result *);
bool x86_load_pdptes(struct x86_cpu *, uint64_t cr3);

/* seg.c */
enum ir_helper_result x86_load_seg(struct x86_cpu *, unsigned seg, uint16_t sel);
bool x86_fetch_desc(struct x86_cpu *, uint16_t sel, unsigned vector, uint64_t *desc, gva_t *addr);
void x86_seg_from_desc(struct x86_cpu *, unsigned seg, uint16_t sel, uint64_t desc);
void x86_set_cpl(struct x86_cpu *, unsigned cpl);
void x86_set_seg_raw(struct x86_cpu *, unsigned seg, uint16_t sel, uint64_t base, uint32_t limit,
                     uint16_t ar);
uint64_t x86_desc_base(uint64_t desc);
uint32_t x86_desc_limit(uint64_t desc);
uint16_t x86_desc_ar(uint64_t desc);

/* Everything a change of CR0, CR4, EFER, CPL or segments can mean for translations. */
void x86_mode_changed(struct x86_cpu *);
/* Several changes of mode in a row, all of one instruction or event: only the last one counts. */
void x86_mode_hold(struct x86_cpu *);
void x86_mode_release(struct x86_cpu *);
uint32_t x86_mode(const struct vcpu *);
static inline unsigned x86_mmu_idx(const struct x86_cpu *c)
{
    return c->cpl == 3                                      ? MODE_MMU_USER
           : (c->cr4 & CR4_SMAP) && !(c->sys_flags & RF_AC) ? MODE_MMU_KERNEL
                                                            : MODE_MMU_KERNEL_AC;
}

extern const struct isa isa_x86;
extern const struct ir_guest x86_guest;

#endif
