/*
 * State of FPU and vector registers in memory: FXSAVE, XSAVE and their kin, XCR0 (Intel SDM Vol. 1
 * 10.5, 13; Vol. 2 for each instruction).
 */
#include "page.h"

enum { OSXSAVE = 1 << 18, HEADER = 512, XCOMP = 520, YMM = 576, MXCSR = 24 };
static uint8_t area[4096] __attribute__((aligned(64)));
static bool xsave_on(void)
{
    if (!cpu_has(1, 2, 26)) {
        skip("no XSAVE");
        return false;
    }
    set_cr4(OSXSAVE, true);
    return true;
}
static uint64_t *q(unsigned off)
{
    return (uint64_t *)(void *)(area + off);
}
static uint32_t *d(unsigned off)
{
    return (uint32_t *)(void *)(area + off);
}
static bool has_avx(void)
{
    return cpu_has(1, 2, 28);
}

static bool cpuid_xsavec(void)
{
    uint32_t r[4];
    cpuid(0xd, 1, r);
    return r[0] & 2;
}

/* ---- XCR0 ---- */

CODE(xsetbv_code, "mov %esi, %ecx; mov %edi, %eax; mov %rdi, %rdx; shr $32, %rdx", "xsetbv", "")
CODE(xgetbv_code, "mov %esi, %ecx", "xgetbv", "ud2")
static uint64_t xcr0(void)
{
    run(xgetbv_code, 0, 0);
    return (uint32_t)last()->ax | last()->dx << 32;
}
CASE(xsetbv_refuses)
{
    static const uint64_t bad[] = {0, 2, 4, 5, 1ull << 63 | 1, 1ull << 62 | 3};
    if (!xsave_on()) {
        return;
    }
    run(xsetbv_code, 1, 0);
    for (unsigned i = 0; i < 6; i++) {
        run(xsetbv_code, bad[i], 0);
        check_trap(GP, 0, xsetbv_code_at);
        check_eq("XCR0", xcr0(), 1);
    }
    run(xsetbv_code, 1, 1);
    check_trap(GP, 0, xsetbv_code_at);
    run_user(xsetbv_code, 1, 0);
    check_trap(GP, 0, xsetbv_code_at + USER_BASE);
    set_cr4(OSXSAVE, false);
}
CASE(xgetbv_refuses)
{
    if (!xsave_on()) {
        return;
    }
    run(xgetbv_code, 0, 2);
    check_trap(GP, 0, xgetbv_code_at);
    run_user(xgetbv_code, 0, 0);
    check_trap(UD, NO_ERROR, xgetbv_code_next + USER_BASE);
    set_cr4(OSXSAVE, false);
}
CODE(vex_code, "", "vxorps %ymm0, %ymm0, %ymm0", "")
CASE(avx_needs_xcr0)
{
    if (!has_avx() || !xsave_on()) {
        skip("no AVX");
        return;
    }
    static const uint64_t v[] = {1, 3, 7};
    for (unsigned i = 0; i < 3; i++) {
        run(xsetbv_code, v[i], 0);
        check_eq("vector", run(vex_code, 0, 0), v[i] == 7 ? NONE : UD);
    }
    run(xsetbv_code, 1, 0);
    set_cr4(OSXSAVE, false);
}
CASE(cpuid_sizes)
{
    uint32_t r[4];
    if (!xsave_on()) {
        return;
    }
    run(xsetbv_code, 3, 0);
    cpuid(0xd, 0, r);
    check_eq("x87, SSE", r[1], 576);
    if (has_avx()) {
        run(xsetbv_code, 7, 0);
        cpuid(0xd, 0, r);
        check_eq("AVX", r[1], 832);
        check_eq("in EAX", r[0] & 7, 7);
        cpuid(0xd, 2, r);
        check_eq("size", r[0], 256);
        check_eq("offset", r[1], 576);
    }
    set_cr4(OSXSAVE, false);
}

/* ---- XSAVE and XRSTOR: RDI the area, RSI the mask ---- */

#define MASK "mov %esi, %eax; mov %rsi, %rdx; shr $32, %rdx"
CODE(xsave_code, MASK, "xsave64 (%rdi)", "")
CODE(xrstor_code, MASK, "xrstor64 (%rdi)", "")
CODE(xsavec_code, MASK, "xsavec64 (%rdi)", "")

static bool begin(uint64_t want)
{
    if ((want & 4 && !has_avx()) || !xsave_on()) {
        skip("no XSAVE or AVX");
        return false;
    }
    run(xsetbv_code, want, 0);
    memset(area, 0, sizeof(area));
    *d(MXCSR) = 0x1f80;
    return true;
}
static void end(void)
{
    run(xsetbv_code, 1, 0);
    set_cr4(OSXSAVE, false);
    __asm__ volatile("fninit");
}

CASE(xsave_unaligned)
{
    if (!begin(3)) {
        return;
    }
    run(xsave_code, (word)area + 32, 3);
    check_trap(GP, 0, xsave_code_at);
    run(xrstor_code, (word)area + 8, 3);
    check_trap(GP, 0, xrstor_code_at);
    end();
}

static void refused(const char *what, unsigned off, uint64_t v)
{
    uint64_t keep = *q(off);
    *q(off) = v;
    check_eq(what, run(xrstor_code, (word)area, 7), GP);
    *q(off) = keep;
}
CASE_NOT_QEMU(xrstor_header, "Vol. 1 13.8.1: header's reserved bytes")
{
    if (!begin(3)) {
        return;
    }
    check_eq("empty", run(xrstor_code, (word)area, 3), NONE);
    refused("XSTATE_BV beyond XCR0", HEADER, 4);
    refused("XSTATE_BV", HEADER, 1ull << 62);
    refused("XCOMP_BV without bit 63", XCOMP, 1);
    refused("bytes 23..16", HEADER + 16, 1);
    refused("MXCSR", MXCSR, 0x11f80);
    *q(HEADER + 24) = 1; /* the standard form does not look at these */
    check_eq("bytes 63..24", run(xrstor_code, (word)area, 3), NONE);
    end();
}
CASE(xrstor_header_compact)
{
    if (!begin(3)) {
        return;
    }
    if (!cpuid_xsavec()) {
        skip("no XSAVEC");
        end();
        return;
    }
    *q(XCOMP) = 1ull << 63 | 3;
    check_eq("good", run(xrstor_code, (word)area, 3), NONE);
    refused("XSTATE_BV not in XCOMP_BV", HEADER, 4);
    refused("XCOMP_BV beyond XCR0", XCOMP, 1ull << 63 | 7);
    *q(XCOMP) = 1ull << 63 | 1;
    refused("XSTATE_BV beyond XCOMP_BV", HEADER, 2);
    for (unsigned off = 16; off < 64; off += 8) {
        refused("bytes 63..16", HEADER + off, 1ull << 8);
    }
    end();
}

/* Registers go out and come back. */
static void fill_registers(uint8_t v)
{
    static uint8_t bytes[32];
    memset(bytes, v, 32);
    __asm__ volatile("fninit; fld1; movups %0, %%xmm3; movups %0, %%xmm15" : : "m"(bytes));
    if ((read_cr4() & OSXSAVE) && (xcr0() & 4)) {
        __asm__ volatile("vmovups %0, %%ymm3; vmovups %0, %%ymm15" : : "m"(bytes));
    }
}
CASE(xsave_round_trip)
{
    if (!begin(has_avx() ? 7 : 3)) {
        return;
    }
    uint64_t all = xcr0();
    fill_registers(0x5a);
    run(xsave_code, (word)area, all);
    check_eq("XSTATE_BV", *q(HEADER), all);
    check_eq("XCOMP_BV", *q(XCOMP), 0);
    check_eq("xmm3", *q(160 + 3 * 16), 0x5a5a5a5a5a5a5a5a);
    check_eq("ymm15", all & 4 ? *q(YMM + 15 * 16 + 8) : 0x5a5a5a5a5a5a5a5a, 0x5a5a5a5a5a5a5a5a);
    check_eq("st0", *q(32), 1ull << 63);
    fill_registers(0x11);
    run(xrstor_code, (word)area, all);
    memset(area + 32, 0, 480);
    run(xsave_code, (word)area, all);
    check_eq("again xmm15", *q(160 + 15 * 16 + 8), 0x5a5a5a5a5a5a5a5a);
    end();
}
/* Only what RFBM asks for is written or loaded. */
CASE(xsave_masks)
{
    if (!begin(3)) {
        return;
    }
    fill_registers(0x22);
    memset(area, 0xee, 512);
    run(xsave_code, (word)area, 1);
    check_eq("x87 only: xmm untouched", *q(160 + 3 * 16), 0xeeeeeeeeeeeeeeee);
    check_eq("MXCSR untouched", *d(MXCSR), 0xeeeeeeee);
    check_eq("XSTATE_BV", *q(HEADER), 1);
    memset(area, 0xee, 512);
    *q(HEADER) = 1;
    run(xsave_code, (word)area, 2);
    check_eq("SSE only: st0 untouched", *q(32), 0xeeeeeeeeeeeeeeee);
    check_eq("MXCSR", *d(MXCSR), 0x1f80);
    check_eq("XSTATE_BV keeps x87's bit", *q(HEADER), 3);
    check_eq("bytes 511..464 untouched", *q(464), 0xeeeeeeeeeeeeeeee);
    end();
}
/* XSTATE_BV clear: the initial state. */
CASE(xrstor_initial)
{
    if (!begin(3)) {
        return;
    }
    fill_registers(0x33);
    memset(area, 0x44, 512);
    *d(MXCSR) = 0x1fa0;
    *q(HEADER) = 0;
    check_eq("fault", run(xrstor_code, (word)area, 3), NONE);
    memset(area, 0x44, 512);
    __asm__ volatile("fxsave64 %0" : "=m"(area));
    check_eq("control word", *d(0) & 0xffff, 0x37f);
    check_eq("tags", area[4], 0);
    check_eq("xmm3", *q(160 + 3 * 16), 0);
    check_eq("MXCSR is loaded by the standard form", *d(MXCSR), 0x1fa0);
    uint32_t mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    end();
}
/* XSAVEC leaves components out that are in their initial state. */
CASE(xsavec_init_optimisation)
{
    if (!begin(3)) {
        return;
    }
    if (!cpuid_xsavec()) {
        skip("no XSAVEC");
        end();
        return;
    }
    *q(HEADER) = 0;
    run(xrstor_code, (word)area, 3); /* all initial */
    memset(area, 0x77, 1024);
    run(xsavec_code, (word)area, 3);
    check_eq("XSTATE_BV", *q(HEADER), 0);
    check_eq("XCOMP_BV", *q(XCOMP), 1ull << 63 | 3);
    check_eq("header's rest", *q(HEADER + 16), 0);
    check_eq("st0 not written", *q(32), 0x7777777777777777);
    check_eq("xmm3 not written", *q(160 + 3 * 16), 0x7777777777777777);
    fill_registers(0x12);
    run(xsavec_code, (word)area, 3);
    check_eq("XSTATE_BV in use", *q(HEADER), 3);
    check_eq("xmm3", *q(160 + 3 * 16), 0x1212121212121212);
    end();
}
CASE(xsave_page_fault)
{
    if (!begin(3)) {
        return;
    }
    reset_tables();
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    run(xsave_code, FREE_VA + 4096 - 64, 3);
    check_eq("vector", last()->vector, PF);
    check_eq("cr2", traps[0].cr2 & ~0xffful, FREE_VA + 4096);
    run(xrstor_code, FREE_VA + 4096 - 64, 3);
    check_eq("vector", last()->vector, PF);
    check_eq("cr2", traps[0].cr2 & ~0xffful, FREE_VA + 4096);
    end();
}

/* ---- FXSAVE ---- */

CODE(fxrstor_code, "", "fxrstor64 (%rdi)", "")
CODE(ldmxcsr_code, "", "ldmxcsr (%rdi)", "")
CASE(fxsave_layout)
{
    memset(area, 0xcc, 1024);
    fill_registers(0x66);
    __asm__ volatile("fxsave64 %0" : "=m"(area));
    check_eq("tags", area[4], 0x80);
    check_eq("top", *d(0) >> 16 >> 11 & 7, 7);
    check_eq("MXCSR", *d(MXCSR), 0x1f80);
    check_eq("xmm15", *q(160 + 15 * 16), 0x6666666666666666);
    check_eq("behind", *q(512), 0xcccccccccccccccc);
    check_eq("available to software", *q(464), 0xcccccccccccccccc);
    __asm__ volatile("fninit");
}
CASE_NOT_QEMU(mxcsr_reserved, "Vol. 1 10.5.1.2: reserved bits of MXCSR")
{
    memset(area, 0, 512);
    *d(0) = 0x37f;
    *d(MXCSR) = 0x11f80;
    run(fxrstor_code, (word)area, 0);
    check_trap(GP, 0, fxrstor_code_at);
    run(ldmxcsr_code, (word)(area + MXCSR), 0);
    check_trap(GP, 0, ldmxcsr_code_at);
    *d(MXCSR) = 0x1f80;
    check_eq("good", run(fxrstor_code, (word)area, 0), NONE);
}
