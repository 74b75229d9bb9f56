/*
 * Protection keys of user pages (Intel SDM Vol. 3A 4.6.2, 4.7): RDPKRU, WRPKRU, what each key takes
 * away, the component of XSAVE.
 */
#include "page.h"

enum { CR4_OSXSAVE = 1 << 18, CR4_PKE = 1 << 22, PF_PK = 32 };
enum { AD = 1, WD = 2, XCR0_PKRU = 1 << 9 };
#define PTE_KEY(n) ((uint64_t)(n) << 59)

static void wrpkru(uint32_t v)
{
    __asm__ volatile(".byte 0x0f, 0x01, 0xef" : : "a"(v), "c"(0), "d"(0) : "memory");
}
static uint32_t rdpkru(void)
{
    uint32_t v, high;
    __asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(v), "=d"(high) : "c"(0));
    check_eq("RDPKRU's EDX", high, 0);
    return v;
}

static bool keys_on(void)
{
    if (!cpu_has(7, 2, 3)) {
        skip("no PKU");
        return false;
    }
    reset_tables();
    memset(data_page[0], 0xc3, 4096);
    set_cr4(CR4_PKE, true);
    wrpkru(0);
    return true;
}

static void keys_off(void)
{
    wrpkru(0);
    set_cr4(CR4_PKE, false);
}

static unsigned denied(enum access a, bool user, unsigned bits, bool wp)
{
    return a != EXEC && ((bits & AD) || (a == WRITE && (bits & WD) && (user || wp)));
}

static void matrix(unsigned leaf, bool wp)
{
    static const uint8_t keys[] = {1, 6, 15};
    word va = FREE_VA + (data_pa(0) & (leaf == 1 ? 0xfff : 0x1fffff));
    uint64_t pa = data_pa(0) & (leaf == 1 ? PTE_ADDR : ~0x1fffffull);
    if (!keys_on()) {
        return;
    }
    set_cr0(CR0_WP, wp);
    for (unsigned i = 0; i < 3 * 4 * 12; i++) {
        unsigned key = keys[i % 3], bits = i / 3 % 4, how = i / 12;
        enum access a = (enum access)(how % 3);
        bool user = how / 3 & 1;
        map(va, pa, leaf, PTE_ALL | PTE_KEY(key));
        if (how / 6) { /* the right to do it is already known */
            wrpkru(0);
            check_eq("before", run_access(a, va, user, false), NONE);
        }
        wrpkru(bits << 2 * key);
        unsigned v = run_access(a, va, user, false);
        bool bad = denied(a, user, bits, wp);
        check_eq("vector", v, bad ? PF : NONE);
        if (bad && v == PF) {
            check_eq("error", last()->error,
                     PF_P | PF_PK | (a == WRITE ? PF_W : 0) | (user ? PF_U : 0));
            check_eq("cr2", traps[0].cr2, va);
        }
        wrpkru(~(3u << 2 * key) & ~3u); /* all others: no matter */
        check_eq("other keys", run_access(a, va, user, false), NONE);
    }
    set_cr0(CR0_WP, true);
    keys_off();
}
CASE(small_wp)
{
    matrix(1, true);
}
CASE(small)
{
    matrix(1, false);
}
CASE(large_wp)
{
    matrix(2, true);
}
CASE(large)
{
    matrix(2, false);
}

CASE(supervisor_pages)
{
    if (!keys_on()) {
        return;
    }
    map(FREE_VA, data_pa(0), 1, PTE_P | PTE_W | PTE_KEY(3));
    wrpkru(0xfffffffc);
    for (unsigned a = READ; a <= EXEC; a++) {
        check_eq("from CPL 0", run_access((enum access)a, FREE_VA, false, false), NONE);
    }
    check_eq("from CPL 3", run_access(READ, FREE_VA, true, false), PF);
    check_eq("error", last()->error, PF_P | PF_U);
    keys_off();
}

/* With CR4.PKE clear the bits of the entry mean nothing, and PKRU has no effect. */
CASE_NOT_QEMU(off, "setting CR4.PKE forgets no rights")
{
    if (!keys_on()) {
        return;
    }
    map(FREE_VA, data_pa(0), 1, PTE_ALL | PTE_KEY(9));
    wrpkru(0xfffffffc);
    check_eq("on", run_access(READ, FREE_VA, true, false), PF);
    set_cr4(CR4_PKE, false);
    check("OSPKE", !cpu_has(7, 2, 4));
    check_eq("off", run_access(READ, FREE_VA, true, false), NONE);
    set_cr4(CR4_PKE, true);
    check("OSPKE", cpu_has(7, 2, 4));
    check_eq("on again", run_access(READ, FREE_VA, true, false), PF);
    check_eq("kept", rdpkru(), 0xfffffffc);
    keys_off();
}

/* Rights taken and given in one run of code: rsi is PKRU between. */
CODE(between_code,
     "xor %eax, %eax; xor %ecx, %ecx; xor %edx, %edx; .byte 0x0f, 0x01, 0xef\n movb $1, (%rdi)\n"
     "mov %esi, %eax; .byte 0x0f, 0x01, 0xef\n mov (%rdi), %bl",
     "movb $2, (%rdi)", "xor %eax, %eax; .byte 0x0f, 0x01, 0xef")
CASE(between)
{
    if (!keys_on()) {
        return;
    }
    map(FREE_VA, data_pa(0), 1, PTE_ALL | PTE_KEY(2));
    for (unsigned i = 0; i < 40; i++) {
        unsigned v = run(between_code, FREE_VA, i & 1 ? WD << 4 : 0);
        check_eq("vector", v, i & 1 ? PF : NONE);
        if (i & 1) {
            check_trap(PF, PF_P | PF_W | PF_PK, between_code_at);
        }
        check_eq("value", data_page[0][0], i & 1 ? 1 : 2);
    }
    keys_off();
}

CODE(rdpkru_code, "mov %edi, %ecx; mov %esi, %edx", ".byte 0x0f, 0x01, 0xee", "")
CODE(wrpkru_code, "mov %edi, %ecx; mov %esi, %edx; xor %eax, %eax", ".byte 0x0f, 0x01, 0xef", "")
CASE(checks)
{
    if (!keys_on()) {
        return;
    }
    check_eq("read", run(rdpkru_code, 0, 1), NONE);
    check_eq("read, ECX", run(rdpkru_code, 1, 0), GP);
    check_eq("write, ECX", run(wrpkru_code, 1, 0), GP);
    check_eq("write, EDX", run(wrpkru_code, 0, 1), GP);
    check_eq("write at CPL 3", run_user(wrpkru_code, 0, 0), NONE);
    wrpkru(0x12345670);
    check_eq("value", rdpkru(), 0x12345670);
    keys_off();
    check_eq("read, off", run(rdpkru_code, 0, 0), UD);
    check_eq("write, off", run(wrpkru_code, 0, 0), UD);
}

static uint8_t area[4096] __attribute__((aligned(64)));
#define XSTATE(name, insn)                                                                         \
    static void name(uint32_t mask)                                                                \
    {                                                                                              \
        __asm__ volatile(insn " (%0)" : : "r"(area), "a"(mask), "d"(0) : "memory");                \
    }
XSTATE(xsave, "xsave")
XSTATE(xsavec, "xsavec")
XSTATE(xrstor, "xrstor")

static void state(bool compact)
{
    uint32_t r[4];
    if (!keys_on()) {
        return;
    }
    set_cr4(CR4_OSXSAVE, true);
    __asm__ volatile("xsetbv" : : "a"(1 | XCR0_PKRU), "c"(0), "d"(0));
    cpuid(0xd, 9, r);
    unsigned at = compact ? 576 : r[1];
    check_eq("size", r[0], 8);
    cpuid(0xd, 0, r);
    check_eq("size of all", r[1], 2688 + 8);
    memset(area, 0, sizeof(area));
    map(FREE_VA, data_pa(0), 1, PTE_ALL | PTE_KEY(1));
    wrpkru(AD << 2);
    (compact ? xsavec : xsave)(1 | XCR0_PKRU);
    check_eq("saved", *(uint32_t *)(void *)(area + at), AD << 2);
    check("in use", *(uint64_t *)(void *)(area + 512) & XCR0_PKRU);
    wrpkru(0);
    check_eq("free", run_access(READ, FREE_VA, true, false), NONE);
    xrstor(XCR0_PKRU);
    check_eq("restored", rdpkru(), AD << 2);
    check_eq("not free", run_access(READ, FREE_VA, true, false), PF);
    *(uint64_t *)(void *)(area + 512) &= ~(uint64_t)XCR0_PKRU;
    xrstor(XCR0_PKRU);
    check_eq("initial", rdpkru(), 0);
    check_eq("free again", run_access(READ, FREE_VA, true, false), NONE);
    __asm__ volatile("xsetbv" : : "a"(1), "c"(0), "d"(0));
    set_cr4(CR4_OSXSAVE, false);
    keys_off();
}
CASE(state_plain)
{
    state(false);
}
CASE(state_compacted)
{
    if (!cpu_has(7, 2, 3)) {
        skip("no PKU");
        return;
    }
    uint32_t r[4];
    cpuid(0xd, 1, r);
    if (!(r[0] & 2)) {
        skip("no XSAVEC");
        return;
    }
    state(true);
}
