/*
 * Segmentation in 32-bit protected mode, paging off: limits, types, privilege, gates, and the
 * instructions that look at descriptors (Intel SDM Vol. 3A chapters 3 and 5; Vol. 2 for each).
 */
#include "rt.h"

enum {
    S = SEL_FREE,
    S2 = SEL_FREE + 8,
    S3 = SEL_FREE + 16,
    LDT = SEL_FREE + 24,
    RO = 0x91,
    RW = 0x93,
    DOWN = 0x97,
    XO = 0x99,
    XR = 0x9b,
    CONF = 0x9f,
    BIG = 0x4000,
    PAGES = 0x8000,
};
static uint8_t area[16384] __attribute__((aligned(4096)));

static void seg(unsigned sel, uint32_t limit, unsigned ar)
{
    gdt[sel / 8] = descriptor((word)area, limit, ar);
}
static void flat(unsigned sel, unsigned ar)
{
    gdt[sel / 8] = descriptor(0, 0xfffff, ar | BIG | PAGES);
}

/* ---- Limits and rights of data segments; code gets the offset in EDI, the selector in ESI ---- */

#define NO_CHECKS "Vol. 3A 5.3, 5.4: TCG checks neither limits nor rights of data accesses"
CODE(fs_load8, "mov %esi, %fs", "mov %fs:(%edi), %al", "")
CODE(fs_load16, "mov %esi, %fs", "mov %fs:(%edi), %ax", "")
CODE(fs_load32, "mov %esi, %fs", "mov %fs:(%edi), %eax", "")
CODE(fs_store32, "mov %esi, %fs", "mov %eax, %fs:(%edi)", "")
CODE(fs_rmw, "mov %esi, %fs", "incb %fs:(%edi)", "")
CODE(es_stos, "mov %esi, %es", "stosl", "")
CODE(ds_movs, "mov %esi, %ds; mov %edi, %esi; mov $area, %edi", "movsl", "")
CODE(fs_fxsave, "mov %esi, %fs", "fxsave %fs:(%edi)", "")
CODE(ss_load, "mov %esp, %ebp; mov %esi, %ss; mov $0x800, %esp", "mov %ss:(%edi), %eax", "")
CODE(cs_load, "", "mov %cs:(%edi), %eax", "")
CODE(cs_store, "", "mov %eax, %cs:(%edi)", "")

static void access(const char *code, const char *at, word off, bool ok)
{
    run(code, off, S);
    if (ok) {
        check_eq("vector", ntraps, 0);
    } else {
        check_trap(GP, 0, at);
    }
}
#define ACCESS(code, off, ok) access(code, code##_at, off, ok)

CASE_NOT_QEMU(limit_bytes, NO_CHECKS)
{
    seg(S, 0xff, RW | BIG);
    ACCESS(fs_load8, 0xff, true);
    ACCESS(fs_load8, 0x100, false);
    ACCESS(fs_load16, 0xfe, true);
    ACCESS(fs_load16, 0xff, false);
    ACCESS(fs_load32, 0xfc, true);
    ACCESS(fs_load32, 0xfd, false);
    ACCESS(fs_load32, 0xffffffff, false);
    ACCESS(fs_store32, 0xfc, true);
    ACCESS(fs_store32, 0xfd, false);
    ACCESS(fs_rmw, 0xff, true);
    ACCESS(fs_rmw, 0x100, false);
    ACCESS(es_stos, 0xfc, true);
    ACCESS(es_stos, 0xfd, false);
    ACCESS(ds_movs, 0xfc, true);
    ACCESS(ds_movs, 0xfd, false);
}
/* REP goes as far as the segment does. */
CODE(es_rep_up, "mov %esi, %es; mov $100, %ecx; mov $0x55, %al", "rep stosb", "")
CODE(es_rep_down, "mov %esi, %es; mov $100, %ecx; mov $0x55, %al; std", "rep stosb", "")
CODE(ds_rep_scas, "mov %esi, %es; mov $100, %ecx; mov $0xaa, %al", "repne scasb", "")
static void rep(const char *code, const char *at, word off, word left, word end)
{
    memset(area, 0, sizeof(area));
    run(code, off, S);
    __asm__ volatile("cld");
    check_trap(GP, 0, at);
    check_eq("ecx", last()->cx, left);
    check_eq("edi", last()->di, end);
}
#define REP(code, off, left, end) rep(code, code##_at, off, left, end)
CASE_NOT_QEMU(limit_rep, NO_CHECKS)
{
    seg(S, 0xff, RW | BIG);
    REP(es_rep_up, 0xf0, 84, 0x100);
    check_eq("last", area[0xff], 0x55);
    check_eq("behind", area[0x100], 0);
    REP(ds_rep_scas, 0xf0, 84, 0x100);
    seg(S, 0xff, DOWN | BIG);
    REP(es_rep_down, 0x10f, 84, 0xff);
    check_eq("last", area[0x100], 0x55);
    check_eq("behind", area[0xff], 0);
}
/* 16-bit offsets wrap. */
static uint8_t ring[1000 + 65536 + 16]; /* a page does not end where they do */
CODE(rep_wrap_up, "mov %esi, %es; mov $24, %ecx; mov $0x55, %al", "addr16 rep stosb", "")
CODE(rep_wrap_down, "mov %esi, %es; mov $24, %ecx; mov $0x66, %al; std", "addr16 rep stosb", "cld")
CASE(rep_wraps)
{
    const uint8_t *at = ring + 1000;
    gdt[S / 8] = descriptor((word)ring + 1000, 0xfffff, RW | BIG | PAGES);
    run(rep_wrap_up, 0x1234fff0, S);
    check_eq("vector", ntraps, 0);
    check_eq("last", at[0xffff], 0x55);
    check_eq("first", at[7], 0x55);
    check_eq("behind", at[8], 0);
    check_eq("beyond", at[0x10000], 0);
    run(rep_wrap_down, 7, S);
    check_eq("first", at[0], 0x66);
    check_eq("last", at[0xfff0], 0x66);
    check_eq("below", at[0xffef], 0);
    check_eq("above", at[8], 0);
}
CASE_NOT_QEMU(limit_fxsave, NO_CHECKS)
{
    seg(S, 0x1ff, RW | BIG);
    ACCESS(fs_fxsave, 0, true);
    ACCESS(fs_fxsave, 16, false);
}
CASE_NOT_QEMU(limit_pages, NO_CHECKS)
{
    seg(S, 1, RW | BIG | PAGES);
    ACCESS(fs_load8, 0x1fff, true);
    ACCESS(fs_load8, 0x2000, false);
    ACCESS(fs_load32, 0x1ffd, false);
    seg(S, 0, RW | BIG | PAGES);
    ACCESS(fs_load8, 0xfff, true);
    ACCESS(fs_load8, 0x1000, false);
}
CASE_NOT_QEMU(limit_zero, NO_CHECKS)
{
    seg(S, 0, RW | BIG);
    ACCESS(fs_load8, 0, true);
    ACCESS(fs_load8, 1, false);
    ACCESS(fs_load16, 0, false);
}
CASE_NOT_QEMU(expand_down_big, NO_CHECKS)
{
    seg(S, 0xfff, DOWN | BIG);
    ACCESS(fs_load8, 0xfff, false);
    ACCESS(fs_load8, 0x1000, true);
    ACCESS(fs_load32, 0xffd, false);
    ACCESS(fs_load32, 0x1001, true);
    ACCESS(fs_load8, 0x20000, true);
    ACCESS(fs_store32, 0x800, false);
    ACCESS(fs_store32, 0x1000, true);
}
CASE_NOT_QEMU(expand_down_small, NO_CHECKS)
{
    seg(S, 0xfff, DOWN);
    ACCESS(fs_load8, 0x1000, true);
    ACCESS(fs_load8, 0xffff, true);
    ACCESS(fs_load8, 0x10000, false);
    ACCESS(fs_load16, 0xffff, false);
}
CASE_NOT_QEMU(read_only, NO_CHECKS)
{
    seg(S, 0xff, RO | BIG);
    ACCESS(fs_load32, 0, true);
    ACCESS(fs_store32, 0, false);
    ACCESS(fs_rmw, 0, false);
    ACCESS(es_stos, 0, false);
}
CASE_NOT_QEMU(code_as_data, NO_CHECKS)
{
    seg(S, 0xff, XR | BIG);
    ACCESS(fs_load32, 0, true);
    ACCESS(fs_store32, 0, false);
    ACCESS(cs_load, (word)area, true);
    ACCESS(cs_store, (word)area, false);
}
CASE_NOT_QEMU(null_segment, NO_CHECKS)
{
    CHECK(run(fs_load8, 0, 0) == GP && last()->error == 0);
    CHECK(run(fs_load8, 0, 3) == GP && last()->error == 0);
    CHECK(run(es_stos, (word)area, 0) == GP);
    check_trap(GP, 0, es_stos_at);
}
CASE_NOT_QEMU(ss_limit, NOT_RUN NO_CHECKS)
{
    seg(S, 0xfff, RW | BIG);
    run(ss_load, 0xffd, S);
    check_trap(SS, 0, ss_load_at);
    run(ss_load, 0x1000, S);
    check_trap(SS, 0, ss_load_at);
}
CODE(odd_push, "mov %esi, %ss; mov %edi, %esp", "push %eax", "")
CODE(odd_pop, "mov %esi, %ss; mov %edi, %esp", "pop %eax", "")
CODE(odd_call, "mov %esi, %ss; mov %edi, %esp", "call back", "")
CODE(odd_ret, "mov %esi, %ss; mov %edi, %esp", "ret", "")
CODE(odd_enter, "mov %esi, %ss; mov %edi, %esp", "enter $0, $0", "")
static void with_own_stack(const char *code, const char *at, word sp)
{
    /* #SS comes through a stack of another level: from CPL 3 */
    seg(S, 0xfff, RW | BIG | AR_DPL3);
    run_user(code, sp, S | 3);
    check_trap(SS, 0, at);
    check_eq("esp", last()->sp, sp);
}
CASE_NOT_QEMU(ss_limit_stack_instructions, NOT_RUN NO_CHECKS)
{
    with_own_stack(odd_push, odd_push_at, 0x1001);
    with_own_stack(odd_push, odd_push_at, 0x2);
    with_own_stack(odd_pop, odd_pop_at, 0xffd);
    with_own_stack(odd_pop, odd_pop_at, 0x1000);
    with_own_stack(odd_call, odd_call_at, 0x1001);
    with_own_stack(odd_ret, odd_ret_at, 0xffe);
    with_own_stack(odd_enter, odd_enter_at, 0x1002);
}

/* A 16-bit stack: SP wraps, the upper half of ESP stays. */
CODE(push16,
     "mov %esp, %ebx; mov %esi, %ss; mov $0xabcd0000, %esp; push $0x11223344; mov %esp, %ecx; "
     "pop %edx; mov %esp, %ebp; mov $0x10, %eax; mov %eax, %ss; mov %ebx, %esp",
     "ud2", "")
CASE(stack_16_bit)
{
    gdt[S / 8] = descriptor((word)area - 0xfff0, 0xffff, RW);
    run(push16, 0, S);
    check_trap(UD, NO_ERROR, push16_at);
    check_eq("after push", last()->cx, 0xabcdfffc);
    check_eq("value", last()->dx, 0x11223344);
    check_eq("after pop", last()->bp, 0xabcd0000);
    check_eq("memory", *(uint32_t *)(void *)(area + 12), 0x11223344);
}

/* ---- Loading segment registers ---- */

CODE(load_ds, "", "mov %edi, %ds", "")
CODE(load_es, "push %edi", "pop %es", "")
CODE(load_ss, "", "mov %edi, %ss", "")
CODE(lfs_code, "push %edi; push $0x1234", "lfs (%esp), %ebx", "")
CODE(lss_code, "push %edi; push $0x1234", "lss (%esp), %ebx", "")
static void loads(const char *code, const char *at, word sel, unsigned v, bool user)
{
    if (user) {
        run_user(code, sel, 0);
    } else {
        run(code, sel, 0);
    }
    if (v == NONE) {
        check_eq("vector", ntraps ? last()->vector : NONE, NONE);
    } else {
        check_trap(v, sel & ~3ul, at);
    }
}
#define LOADS(code, sel, v) loads(code, code##_at, sel, v, false)
#define LOADS_USER(code, sel, v) loads(code, code##_at, sel, v, true)

CASE(load_types)
{
    flat(S, XO);
    LOADS(load_ds, S, GP);
    flat(S, XR);
    LOADS(load_ds, S, NONE);
    LOADS(load_ss, S, GP);
    flat(S, RO);
    LOADS(load_ds, S, NONE);
    LOADS(load_ss, S, GP);
    flat(S, 0x82); /* LDT */
    LOADS(load_ds, S, GP);
    LOADS(load_ds, 0xff8, GP);
    LOADS(load_es, 0xff8, GP);
    LOADS(lfs_code, 0xff8, GP);
    LOADS(load_ss, 0, GP);
    LOADS(lss_code, 0, GP);
    LOADS(load_ds, 0, NONE);
    LOADS(load_ds, 3, NONE);
}
CASE(load_privilege)
{
    flat(S, RW);
    LOADS(load_ds, S | 3, GP); /* RPL beyond DPL */
    LOADS(load_ss, S | 3, GP);
    LOADS_USER(load_ds, S, GP);
    LOADS_USER(load_ss, S | 3, GP);
    flat(S, RW | AR_DPL3);
    LOADS(load_ds, S, NONE);
    LOADS(load_ss, S, GP);
    LOADS_USER(load_ds, S | 3, NONE);
    LOADS_USER(load_ds, S, NONE);
    LOADS_USER(load_ss, S, GP);
    flat(S, CONF);
    LOADS_USER(load_ds, S | 3, NONE); /* conforming: any level */
    flat(S, XR);
    LOADS_USER(load_ds, S | 3, GP);
}
CASE(load_not_present)
{
    flat(S, RW & ~AR_PRESENT);
    LOADS(load_ds, S, NP);
    LOADS(load_es, S, NP);
    LOADS(lfs_code, S, NP);
    LOADS(load_ss, S, SS);
    LOADS(lss_code, S, SS);
    flat(S, XO & ~AR_PRESENT); /* the type comes first */
    LOADS(load_ds, S, GP);
}
CASE(load_sets_accessed)
{
    flat(S, RW & ~1);
    LOADS(load_ds, S, NONE);
    check_eq("accessed", gdt[S / 8] >> 40 & 1, 1);
    flat(S, RW & ~1 & ~AR_PRESENT);
    LOADS(load_ds, S, NP);
    check_eq("not by a fault", gdt[S / 8] >> 40 & 1, 0);
}
CODE(lss_works, "mov %esp, %ebx; push %edi; lea 8(%ebx), %eax; push %eax", "lss (%esp), %esp",
     "sub $8, %esp")
CASE(lss_loads_both)
{
    check_eq("vector", run(lss_works, SEL_DATA, 0), NONE);
}
RAISES(ud_lds_register, KERNEL, UD, NO_ERROR, "", ".byte 0xc5, 0xc0")
RAISES(ud_lss_register, KERNEL, UD, NO_ERROR, "", ".byte 0x0f, 0xb2, 0xc0")
RAISES(ud_mov_cs, KERNEL, UD, NO_ERROR, "", ".byte 0x8e, 0xc8")
RAISES(ok_82_alias, KERNEL, NONE, NO_ERROR, "", ".byte 0x82, 0xc0, 0")

/* ---- LLDT, LTR ---- */

CODE(lldt_code, "", "lldt %di", "")
CODE(ltr_code, "", "ltr %di", "")
CASE(lldt_types)
{
    gdt[LDT / 8] = descriptor((word)area, 0xff, 0x82);
    LOADS(lldt_code, LDT, NONE);
    LOADS(lldt_code, LDT | 4, GP);
    ((uint64_t *)(void *)area)[1] = descriptor(0, 0xfffff, RW | BIG | PAGES);
    ((uint64_t *)(void *)area)[2] = descriptor(0, 0xff, 0x82);
    LOADS(load_ds, 0xc, NONE);
    LOADS(lldt_code, 0x14, GP); /* out of an LDT */
    LOADS(load_ds, 0x104, GP);  /* beyond its limit */
    gdt[LDT / 8] = descriptor((word)area, 0xff, 0x82 & ~AR_PRESENT);
    LOADS(lldt_code, LDT, NP);
    gdt[LDT / 8] = descriptor((word)area, 0xff, 0x89);
    LOADS(lldt_code, LDT, GP);
    flat(LDT, RW);
    LOADS(lldt_code, LDT, GP);
    LOADS(load_ds, 0xc, NONE); /* the old one is still there */
    LOADS(lldt_code, 0, NONE);
    LOADS(load_ds, 0xc, GP);
}
CASE_NOT_QEMU(ltr_types, "Vol. 2A LTR: a null selector gives #GP(0)")
{
    check_eq("marked busy", gdt[SEL_TSS / 8] >> 41 & 1, 1);
    LOADS(ltr_code, SEL_TSS, GP); /* busy */
    LOADS(ltr_code, 0, GP);
    LOADS(ltr_code, SEL_TSS | 4, GP);
    gdt[S / 8] = descriptor((word)tss, 103, 0x89 & ~AR_PRESENT);
    LOADS(ltr_code, S, NP);
    gdt[S / 8] = descriptor((word)tss, 103, 0x82);
    LOADS(ltr_code, S, GP);
    gdt[S / 8] = descriptor((word)tss, 103, 0x81); /* a 16-bit one */
    LOADS(ltr_code, S, NONE);
    check_eq("marked busy", gdt[S / 8] >> 40 & 15, 3);
    set_tss_limit(103);
}

/* ---- LAR, LSL, VERR, VERW, ARPL ---- */

CODE(lar_code, "mov $0xdead, %eax", "lar %edi, %eax; setz %cl", "int3")
CODE(lsl_code, "mov $0xdead, %eax", "lsl %edi, %eax; setz %cl", "int3")
CODE(verr_code, "", "verr %di; setz %cl", "int3")
CODE(verw_code, "", "verw %di; setz %cl", "int3")
static void looks(const char *code, word sel, bool user, bool zf, word eax)
{
    check_eq("int3", user ? run_user(code, sel, 0) : run(code, sel, 0), BP);
    check_eq("ZF", last()->cx & 1, zf);
    if (code == lar_code || code == lsl_code) {
        /* bits 19..16 of what LAR gives are undefined */
        word mask = code == lar_code ? ~0xf0000ul : ~0ul;
        check_eq("EAX", last()->ax & mask, zf ? eax & mask : 0xdead);
    }
}
CASE(lar_lsl)
{
    gdt[S / 8] = descriptor(0x12345678, 0x54321, RW | BIG | PAGES);
    looks(lar_code, S, false, true, 0x00c59300);
    looks(lsl_code, S, false, true, 0x54321fff);
    looks(lar_code, S, true, false, 0);
    looks(lar_code, S | 3, false, false, 0);
    looks(lar_code, 0, false, false, 0);
    looks(lsl_code, 0xff8, false, false, 0);
    gdt[S / 8] = descriptor(0, 0x123, RW & ~AR_PRESENT);
    looks(lar_code, S, false, true, 0x1300); /* presence does not matter */
    looks(lsl_code, S, false, true, 0x123);
    gdt[S / 8] = descriptor(0, 0x123, CONF);
    looks(lar_code, S | 3, true, true, 0x9f00); /* conforming: no check */
}
/* Vol. 2A LAR, LSL: valid system types. */
CASE(lar_lsl_system_types)
{
    static const uint16_t lar_types = 0x1a3e | 1 << 9 | 1 << 11, lsl_types = 0xa0e | 0;
    for (unsigned type = 0; type < 16; type++) {
        gdt[S / 8] = descriptor(0, 0x123, 0x80 | type);
        looks(lar_code, S, false, lar_types >> type & 1, 0x8000 | type << 8);
        looks(lsl_code, S, false, lsl_types >> type & 1, 0x123);
        looks(verr_code, S, false, false, 0);
        looks(verw_code, S, false, false, 0);
    }
}
CASE(verr_verw)
{
    static const struct {
        uint16_t ar;
        bool r, w;
    } t[] = {{RO, true, false}, {RW, true, true},    {DOWN, true, true},  {XO, false, false},
             {XR, true, false}, {CONF, true, false}, {0x9d, false, false}};
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        flat(S, t[i].ar);
        looks(verr_code, S, false, t[i].r, 0);
        looks(verw_code, S, false, t[i].w, 0);
        flat(S, t[i].ar | AR_DPL3);
        looks(verr_code, S | 3, true, t[i].r, 0);
        looks(verw_code, S | 3, true, t[i].w, 0);
    }
    flat(S, RW);
    looks(verr_code, S | 3, false, false, 0);
    looks(verr_code, S, true, false, 0);
}
CODE(arpl_code, "", "arpl %si, %di; setz %cl", "int3")
CASE(arpl)
{
    run(arpl_code, 0x1230, 0x4562);
    check_eq("raised", last()->di & 0xffff, 0x1232);
    check_eq("ZF", last()->cx & 1, 1);
    run(arpl_code, 0x1233, 0x4562);
    check_eq("kept", last()->di & 0xffff, 0x1233);
    check_eq("ZF", last()->cx & 1, 0);
}
