/*
 * Unmasked floating-point exceptions: #XM of SIMD instructions (Intel SDM Vol. 1 11.5, Vol. 3A 6.15
 * interrupt 19) and #MF of the x87 (Vol. 1 8.4 to 8.7, Vol. 3A 6.15 interrupt 16). CR0.NE is set.
 */
#include "page.h"

enum { OSXMMEXCPT = 1 << 10, CR0_NE = 32, IE = 1, DE_ = 2, ZE = 4, OE = 8, UE = 16, PE = 32 };
enum { DEFAULT = 0x1f80, CW = 0x37f, ES = 0x80, SF = 0x40, BUSY = 0x8000 };

struct regs {
    uint32_t mxcsr, pad[3];
    union {
        uint32_t d[4];
        uint64_t q[2];
    } x0, x1, m;
    uint64_t tmp;
};
static struct regs r __attribute__((aligned(64)));
static uint8_t area[1024] __attribute__((aligned(64)));

#define QEMU_XM "Vol. 1 11.5.3: TCG raises no #XM"
#define LOAD "ldmxcsr (%rdi); movups 16(%rdi), %xmm0; movups 32(%rdi), %xmm1"
#define STORE "movups %xmm0, 16(%rdi); movups %xmm1, 32(%rdi)"
#define SIMD(name, insn) CODE(name##_code, LOAD, insn, STORE)

static uint32_t mxcsr(void)
{
    uint32_t v;
    __asm__ volatile("stmxcsr %0" : "=m"(v));
    return v;
}
static void masked(void)
{
    uint32_t v = DEFAULT;
    __asm__ volatile("ldmxcsr %0; fninit" : : "m"(v));
}
/* xmm0 and xmm1 with everything unmasked that `on` says; what MXCSR is then. */
static uint32_t simd(const char *code, unsigned on, uint32_t a, uint32_t b)
{
    r.mxcsr = DEFAULT & ~(on << 7);
    r.x0.d[0] = a;
    r.x1.d[0] = b;
    set_cr4(OSXMMEXCPT, true);
    run(code, (word)&r, 0);
    uint32_t v = mxcsr();
    masked();
    return v;
}
static uint32_t xmm0(void)
{
    uint32_t v;
    __asm__ volatile("movd %%xmm0, %0" : "=r"(v));
    return v;
}

#define ONE 0x3f800000u
#define BIG 0x7f000000u
#define LEAST 0x00800000u /* least normal number */
SIMD(divss, "divss %xmm1, %xmm0")
SIMD(mulss, "mulss %xmm1, %xmm0")
SIMD(addss, "addss %xmm1, %xmm0")

/* The exception alone is unmasked: what raises it, its flags, the destination as it was. */
#define XM_CASE(name, insn, on, a, b, flags)                                                       \
    CASE_NOT_QEMU(name, QEMU_XM)                                                                   \
    {                                                                                              \
        uint32_t v = simd(insn##_code, on, a, b);                                                  \
        check_trap(XM, NO_ERROR, insn##_code_at);                                                  \
        check_eq("flags", v & 63, flags);                                                          \
        check_eq("xmm0", xmm0(), a);                                                               \
    }
XM_CASE(xm_invalid, divss, IE, 0, 0, IE)
XM_CASE(xm_denormal, addss, DE_, 1, ONE, DE_)
XM_CASE(xm_divide, divss, ZE, ONE, 0, ZE)
XM_CASE(xm_overflow, mulss, OE, BIG + 1, BIG + 1, OE | PE)
XM_CASE(xm_underflow, mulss, UE, LEAST + 1, 0x3effffff, UE | PE)
XM_CASE(xm_inexact, divss, PE, ONE, 0x40400000, PE)
/* Tiny and exact: an underflow only when that is unmasked (11.5.2.5). */
XM_CASE(xm_underflow_exact, mulss, UE, LEAST, 0x3f000000, UE)
/* Before computation: then nothing is rounded (11.5.3.2). */
XM_CASE(xm_denormal_hides_inexact, divss, DE_ | PE, 1, 0x40400000, DE_)

CASE(ok_underflow_exact_masked)
{
    check_eq("flags", simd(mulss_code, IE, LEAST, 0x3f000000) & 63, 0);
    check_eq("vector", last()->vector * (ntraps != 0), 0);
}
CASE(ok_other_unmasked)
{
    uint32_t v = simd(divss_code, IE | DE_ | OE | UE, ONE, 0x40400000);
    check_eq("traps", ntraps, 0);
    check_eq("flags", v & 63, PE);
    check_eq("result", r.x0.d[0], 0x3eaaaaab);
}
/* A flag that is set already is not an exception (11.5). */
CASE(ok_sticky_flag)
{
    r.tmp = 0;
    simd(divss_code, 0, 0, 0);
    r.mxcsr = (DEFAULT & ~(IE << 7)) | IE;
    r.x0.d[0] = r.x1.d[0] = ONE;
    run(divss_code, (word)&r, 0);
    uint32_t v = mxcsr();
    masked();
    check_eq("traps", ntraps, 0);
    check_eq("flags", v & 63, IE);
    check_eq("result", r.x0.d[0], ONE);
}
SIMD(mulps, "mulps %xmm1, %xmm0")
CASE_NOT_QEMU(xm_packed, QEMU_XM)
{
    for (unsigned i = 1; i < 4; i++) {
        r.x0.d[i] = r.x1.d[i] = ONE;
    }
    r.x0.d[2] = 0x7f800000; /* infinity by 0 */
    r.x1.d[2] = 0;
    r.x0.d[3] = 1; /* a denormal, which is masked */
    uint32_t v = simd(mulps_code, IE, ONE, ONE);
    memset(&r.x0, 0, 32);
    check_trap(XM, NO_ERROR, mulps_code_at);
    check_eq("flags", v & 63, IE | DE_);
    check_eq("xmm0", xmm0(), ONE);
}
CASE_NOT_QEMU(ud_without_osxmmexcpt, QEMU_XM)
{
    r.mxcsr = DEFAULT & ~(ZE << 7);
    r.x0.d[0] = ONE;
    r.x1.d[0] = 0;
    set_cr4(OSXMMEXCPT, false);
    run(divss_code, (word)&r, 0);
    uint32_t v = mxcsr();
    set_cr4(OSXMMEXCPT, true);
    masked();
    check_trap(UD, NO_ERROR, divss_code_at);
    check_eq("flags", v & 63, ZE);
}
SIMD(comiss, "comiss %xmm1, %xmm0")
CASE_NOT_QEMU(xm_compare, QEMU_XM)
{
    simd(comiss_code, IE, 0x7fc00000, ONE);
    check_trap(XM, NO_ERROR, comiss_code_at);
    check_eq("ZF PF CF as they were", last()->flags & (F_ZF | 4 | F_CF), F_ZF | 4);
}
CODE(cvttss2si_code, LOAD "; mov $0x1122, %eax", "cvttss2si %xmm0, %eax", "")
CASE_NOT_QEMU(xm_to_integer, QEMU_XM)
{
    simd(cvttss2si_code, IE, 0x7f800000, 0);
    check_trap(XM, NO_ERROR, cvttss2si_code_at);
    check_eq("rax", last()->ax, 0x1122);
}
CODE(cvtsi2ss_code, LOAD "; mov $0x1000001, %eax", "cvtsi2ss %eax, %xmm0", "")
CASE_NOT_QEMU(xm_from_integer, QEMU_XM)
{
    simd(cvtsi2ss_code, PE, ONE, 0);
    check_trap(XM, NO_ERROR, cvtsi2ss_code_at);
}
CODE(addss_m_code, LOAD, "addss 48(%rdi), %xmm0", STORE)
CASE_NOT_QEMU(xm_memory, QEMU_XM)
{
    r.m.d[0] = 0x7f800001; /* a signalling NaN */
    simd(addss_m_code, IE, ONE, 0);
    check_trap(XM, NO_ERROR, addss_m_code_at);
}
CODE(addps_m_code, LOAD, "addps 52(%rdi), %xmm0", STORE)
CASE(gp_before_xm)
{
    r.m.d[1] = 0x7f800001;
    simd(addps_m_code, IE, ONE, 0);
    check_trap(GP, 0, addps_m_code_at);
}
CASE_NOT_QEMU(xm_user, QEMU_XM)
{
    r.mxcsr = DEFAULT & ~(ZE << 7);
    r.x0.d[0] = ONE;
    r.x1.d[0] = 0;
    run_user(divss_code, (word)&r + USER_BASE, 0);
    masked();
    check_trap(XM, NO_ERROR, divss_code_at + USER_BASE);
}
/* The state that FXRSTOR loads counts from the next instruction on. */
CODE(fxrstor_code, "", "fxrstor64 (%rdi); divss %xmm1, %xmm0", "")
CASE_NOT_QEMU(xm_fxrstor, QEMU_XM)
{
    masked();
    __asm__ volatile("fxsave64 %0" : "=m"(area));
    *(uint32_t *)(void *)(area + 24) = DEFAULT & ~(IE << 7);
    memset(area + 160, 0, 32);
    run(fxrstor_code, (word)area, 0);
    masked();
    check_eq("vector", last()->vector, XM);
}
/* Unmasked and masked again, many times: both translations of a loop. */
CODE(flip_code,
     "push $0x1f80; push $0x1e00; mov $3000, %ecx; xor %eax, %eax; pxor %xmm0, %xmm0; "
     "mov $0x3f800000, %edx; movd %edx, %xmm1\n"
     "1: ldmxcsr (%rsp); addss %xmm1, %xmm0; ldmxcsr 8(%rsp); addss %xmm1, %xmm0; dec %ecx; jnz 1b",
     "nop", "pop %rcx; pop %rcx; movd %xmm0, (%rdi)")
CASE(flips)
{
    run(flip_code, (word)&r, 0);
    masked();
    check_eq("traps", ntraps, 0);
    check_eq("sum", r.mxcsr, 0x45bb8000); /* 6000.0 */
}

/* ---- #MF ---- */

#define UNMASK(cw) "fninit; push $" cw "; fldcw (%rsp); pop %rax;"
#define PENDING UNMASK("0x33b") "fldz; fld1; fdiv %st(1), %st;" /* 1/0, zero divide alone */

/* Instructions that wait find the exception that is pending, and those that do not, do not. */
#define WAITS_CASE(name, insn, qemu)                                                               \
    CODE(waits_##name##_code, PENDING "lea area(%rip), %rsi; mov %rsi, %rdi", insn, "")            \
    CASE_KNOWN(waits_##name, qemu, NULL)                                                           \
    {                                                                                              \
        run(waits_##name##_code, 0, 0);                                                            \
        masked();                                                                                  \
        check_trap(MF, NO_ERROR, waits_##name##_code_at);                                          \
    }
#define WAITS(name, insn) WAITS_CASE(name, insn, QEMU_WAIT)
#define GOES(name, insn)                                                                           \
    CODE(goes_##name##_code, PENDING "lea area(%rip), %rsi", insn, "")                             \
    CASE(goes_##name)                                                                              \
    {                                                                                              \
        run(goes_##name##_code, 0, 0);                                                             \
        masked();                                                                                  \
        check_eq("traps", ntraps, 0);                                                              \
    }
#define QEMU_RESULT "Vol. 1 8.5: TCG computes the masked result"
#define QEMU_LOADED "Vol. 1 8.1.3.3: the summary goes by the masks that are loaded"
#define QEMU_WAIT "Vol. 1 8.3.11: TCG looks for exceptions in some instructions only"
WAITS_CASE(fwait, "fwait", NULL)
GOES(fnstsw, "fnstsw %ax")
GOES(fnstsw_m, "fnstsw (%rsi)")
GOES(fnstcw, "fnstcw (%rsi)")
GOES(fnstenv, "fnstenv (%rsi)")
GOES(fnsave, "fnsave (%rsi)")
GOES(fnclex, "fnclex")
GOES(fninit, "fninit")
GOES(fxsave, "fxsave64 (%rsi)")
GOES(integer, "imul %eax, %eax; movups (%rsi), %xmm0")
GOES(mmx_memory, "cvtpi2pd (%rsi), %xmm0")
WAITS(fld1, "fld1")
WAITS(fadd, "fadd %st(1), %st")
WAITS(fld, "flds (%rsi)")
WAITS(fstp, "fstps (%rsi)")
WAITS(fxch, "fxch")
WAITS(fnop, "fnop")
WAITS(ffree, "ffree %st(7)")
WAITS(fldcw, "fldcw (%rsi)")
WAITS(fldenv, "fldenv (%rsi)")
WAITS(frstor, "frstor (%rsi)")
WAITS(emms, "emms")
WAITS(pxor, "pxor %mm0, %mm0")
WAITS(movd, "movd %eax, %mm0")
WAITS(movq2dq, "movq2dq %mm0, %xmm0")
WAITS(cvtpi2pd, "cvtpi2pd %mm0, %xmm0")
WAITS(maskmovq, "maskmovq %mm0, %mm0")

/* What the x87 is after `setup`: an FNSAVE image, and the status word first. */
struct fsave {
    uint32_t cw, sw, tags, ip[2], dp[2];
    uint8_t st[8][10];
} __attribute__((packed));
static struct fsave image;
#define LOOK(name, setup)                                                                          \
    CODE(name##_code, setup, "fnsave (%rdi)", "")                                                  \
    static void name##_look(void)                                                                  \
    {                                                                                              \
        memset(&image, 0, sizeof(image));                                                          \
        run(name##_code, (word)&image, (word)area);                                                \
        masked();                                                                                  \
    }
static unsigned sign_exponent(unsigned st)
{
    return image.st[st][8] | image.st[st][9] << 8;
}

LOOK(mf_summary, PENDING)
CASE_NOT_QEMU(mf_summary, QEMU_RESULT)
{
    mf_summary_look();
    check_eq("traps", ntraps, 0);
    check_eq("status", image.sw & 0xb8bf, ES | BUSY | ZE | 6 << 11);
    check_eq("st0 is still 1", sign_exponent(0), 0x3fff);
}
/* Masked by then: no summary. */
LOOK(mf_masked_again, PENDING "fnstenv (%rsi)")
CASE_NOT_QEMU(mf_stenv_masks, "Vol. 2A FNSTENV: it masks all exceptions")
{
    mf_masked_again_look();
    check_eq("traps", ntraps, 0);
    check_eq("status in the environment", ((uint32_t *)(void *)area)[1] & 0xffbf,
             ES | BUSY | ZE | 6 << 11);
    check_eq("control word", image.cw & 0xf3f, 0x33f);
    check_eq("status", image.sw & 0x80bf, ZE);
}
CODE(unmask_code, "fninit; fldz; fld1; fdiv %st(1), %st; push $0x33b; fldcw (%rsp); pop %rax",
     "fwait", "")
CASE_NOT_QEMU(mf_fldcw_unmasks, QEMU_LOADED)
{
    run(unmask_code, 0, 0);
    masked();
    check_trap(MF, NO_ERROR, unmask_code_at);
}
CODE(fxrstor_mf_code, "fxrstor64 (%rdi); fnstsw %ax", "fwait", "")
CASE_NOT_QEMU(mf_fxrstor_unmasks, QEMU_LOADED)
{
    masked();
    __asm__ volatile("fxsave64 %0" : "=m"(area));
    area[0] = 0x7b; /* zero divide */
    area[2] = ZE;
    run(fxrstor_mf_code, (word)area, 0);
    masked();
    check_trap(MF, NO_ERROR, fxrstor_mf_code_at);
    check_eq("summary", last()->ax & (ES | BUSY), ES | BUSY);
}
/* What is loaded as summary counts for nothing. */
CODE(fxrstor_sum_code, "fxrstor64 (%rdi)", "fwait; fnstsw %ax", "ud2")
CASE_NOT_QEMU(mf_summary_is_computed, QEMU_LOADED)
{
    masked();
    __asm__ volatile("fxsave64 %0" : "=m"(area));
    area[2] = ES | PE;
    area[3] = 0x80;
    run(fxrstor_sum_code, (word)area, 0);
    masked();
    check_trap(UD, NO_ERROR, fxrstor_sum_code_next);
    check_eq("status", last()->ax & 0x80bf, PE);
}
CODE(fldenv_code, "fninit; fldenv (%rdi)", "fwait", "")
CASE_NOT_QEMU(mf_fldenv_unmasks, QEMU_LOADED)
{
    uint32_t env[7] = {0x37b, ZE, 0xffff};
    run(fldenv_code, (word)env, 0);
    masked();
    check_trap(MF, NO_ERROR, fldenv_code_at);
}
CASE(ok_without_ne)
{
    set_cr0(CR0_NE, false);
    unsigned v = run(goes_fnclex_code, 0, 0);
    set_cr0(CR0_NE, true);
    masked();
    check_eq("vector", v, NONE);
}
CODE(mf_user_code, PENDING, "fwait", "")
CASE(mf_user)
{
    run_user(mf_user_code, 0, 0);
    masked();
    check_trap(MF, NO_ERROR, mf_user_code_at + USER_BASE);
}
RAISES(nm_before_mf, KERNEL, NM, NO_ERROR,
       PENDING "mov %cr0, %rax; or $8, %eax; mov %rax, %cr0; sub $8, %rsp", "fld1")
CASE(put_back_ts)
{
    set_cr0(8, false);
    masked();
}

/* Results (Vol. 1 8.5): invalid, denormal and zero divide change nothing. */
LOOK(mf_stack_fault, UNMASK("0x33e") "fld1; fstp %st(0); fadd %st(1), %st")
CASE_NOT_QEMU(mf_stack_underflow, QEMU_RESULT)
{
    mf_stack_fault_look();
    check_eq("status", image.sw & 0xbaff, ES | BUSY | SF | IE);
    check_eq("tags", image.tags & 0xffff, 0xffff);
}
LOOK(mf_push, UNMASK("0x33e") "fld1;fld1;fld1;fld1;fld1;fld1;fld1;fld1;fldz")
CASE_NOT_QEMU(mf_stack_overflow, QEMU_RESULT)
{
    mf_push_look();
    check_eq("status", image.sw & 0xbaff, ES | BUSY | SF | IE | 0x200);
    check_eq("TOP as before", image.sw >> 11 & 7, 0);
    check_eq("st0", sign_exponent(0), 0x3fff);
}
/* Overflow in a register: the exponent less 24576; in memory: nothing is stored or popped. */
#define LARGE "pushq $0x7ffe; push $-1; fldt (%rsp); pop %rax; pop %rax;"
LOOK(mf_overflow, UNMASK("0x337") LARGE "fadd %st(0), %st")
CASE_NOT_QEMU(mf_overflow_scaled, QEMU_RESULT)
{
    mf_overflow_look();
    check_eq("status", image.sw & 0x80bf, ES | BUSY | OE);
    check_eq("exponent", sign_exponent(0), 0x7fff - 0x6000);
}
LOOK(mf_underflow, UNMASK("0x32f") "pushq $1; push $1; shlq $63, (%rsp); fldt (%rsp); pop %rax;"
                                   "pop %rax; fld1; fchs; fxch; fscale")
CASE_NOT_QEMU(mf_underflow_scaled, QEMU_RESULT)
{
    mf_underflow_look();
    check_eq("status", image.sw & 0x80bf, ES | BUSY | UE);
    check_eq("exponent", sign_exponent(0), 0x6000);
}
LOOK(mf_store_large, UNMASK("0x337") LARGE "movl $0x5555, (%rsi); fstps (%rsi)")
CASE_NOT_QEMU(mf_overflow_store, QEMU_RESULT)
{
    mf_store_large_look();
    check_eq("status", image.sw & 0xb8bf, ES | BUSY | OE | 7 << 11);
    check_eq("not stored", *(uint32_t *)(void *)area, 0x5555);
}
LOOK(mf_store_inexact, UNMASK("0x31f") "fldpi; movl $0x5555, (%rsi); fstps (%rsi)")
CASE(mf_inexact_store)
{
    mf_store_inexact_look();
    check_eq("status", image.sw & 0xb8bf, ES | BUSY | PE);
    check_eq("stored", *(uint32_t *)(void *)area, 0x40490fdb);
}
LOOK(mf_to_int, UNMASK("0x33e") LARGE "movl $0x5555, (%rsi); fistpl (%rsi)")
CASE_NOT_QEMU(mf_invalid_store, QEMU_RESULT)
{
    mf_to_int_look();
    check_eq("status", image.sw & 0xb8bf, ES | BUSY | IE | 7 << 11);
    check_eq("not stored", *(uint32_t *)(void *)area, 0x5555);
}
CODE(fcomi_code,
     "fninit; fldz; fldz; fdivp; fnclex; push $0x33e; fldcw (%rsp); movq $0x8d5, "
     "(%rsp); popf",
     "fcomi %st(0), %st", "pushf; pop %rax; ud2")
CASE_NOT_QEMU(mf_fcomi_flags, QEMU_RESULT)
{
    run(fcomi_code, 0, 0);
    masked();
    check_eq("vector", last()->vector, UD);
    check_eq("ZF PF CF stay, the others are clear", last()->ax & 0x8d5, 0x45);
}
