/*
 * Two processors: INIT and SIPI, code written by one and run by the other (Intel SDM Vol. 3A 8.1.3,
 * 8.4), atomics, shootdown of translations by an IPI, NMI to the other one.
 */
#include "page.h"

enum { AP_CODE = 0x8000 };
static volatile uint32_t ap_alive, ap_job, ap_done, ap_stop;
static volatile uint32_t ap_value;
static uint8_t ap_stack[16384] __attribute__((aligned(16)));
static uint8_t shared_code[4096] __attribute__((aligned(4096)));
static volatile uint64_t sum;

/* Real mode at AP_CODE: straight to long mode with the boot processor's tables. */
extern const char ap_begin[], ap_end[];
void ap_main(void);
extern uint8_t *ap_stack_top;
uint8_t *ap_stack_top = ap_stack + sizeof(ap_stack);
__asm__(".pushsection .text\n"
        ".code16\n"
        "ap_begin: cli; xor %ax, %ax; mov %ax, %ds\n"
        "lgdtl (ap_gdtr - ap_begin + 0x8000)\n"
        "mov $0x620, %eax; mov %eax, %cr4\n"
        "mov $pml4, %eax; mov %eax, %cr3\n"
        "mov $0xc0000080, %ecx; mov $0x901, %eax; xor %edx, %edx; wrmsr\n"
        "mov $0x80010033, %eax; mov %eax, %cr0\n"
        "ljmpl $8, $ap_long\n"
        "ap_gdtr: .word 0xff; .long gdt\n"
        "ap_end:\n"
        ".code64\n"
        "ap_long: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss\n"
        "mov ap_stack_top, %rsp; call ap_main; 1: hlt; jmp 1b\n"
        ".popsection");

static void pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}

static void load_idt(void)
{
    struct {
        uint16_t limit;
        word base;
    } __attribute__((packed)) r = {4095, (word)idt};
    __asm__ volatile("lidt %0" : : "m"(r));
}

static word ap_call(const void *at)
{
    word r;
    __asm__ volatile("call *%1"
                     : "=a"(r)
                     : "r"(at)
                     : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    return r;
}

enum { RUN_CODE = 1, ADD, READ_VA, RELOAD_CR3, LOOP_CODE, TOUCH, SET_MTRR, GET_MTRR };
enum { MTRR_PHYSBASE0 = 0x200, MTRR_VALUE = 0x40000006 };
extern const char touch_at[], touch_after[];

static void ap_do(uint32_t job)
{
    switch (job) {
    case RUN_CODE: ap_value = (uint32_t)ap_call(shared_code); break;
    case ADD:
        for (unsigned i = 0; i < 20000; i++) {
            __asm__ volatile("lock incq %0" : "+m"(sum));
        }
        break;
    case READ_VA: ap_value = *(volatile uint8_t *)FREE_VA; break;
    case SET_MTRR:
        __asm__ volatile("wrmsr" : : "c"(MTRR_PHYSBASE0), "a"(MTRR_VALUE), "d"(0));
        break;
    case GET_MTRR: {
        uint32_t lo, hi;
        __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(MTRR_PHYSBASE0));
        ap_value = lo;
        break;
    }
    case RELOAD_CR3: write_cr3(read_cr3()); break;
    case LOOP_CODE:
        while (!ap_stop) {
            ap_value = (uint32_t)ap_call(shared_code);
        }
        break;
    case TOUCH:
        while (!ap_stop) {
            __asm__ volatile("invlpg (%0)\n"
                             ".globl touch_at, touch_after\n"
                             "touch_at: movb (%0), %%al\n"
                             "touch_after:"
                             :
                             : "r"(FREE_VA)
                             : "rax", "memory");
        }
        break;
    }
}

void ap_main(void)
{
    load_idt();
    apic_on();
    ap_alive = 1;
    for (uint32_t seen = 0;;) {
        uint32_t job = ap_job;
        if (job >> 8 != seen) {
            seen = job >> 8;
            ap_do(job & 0xff);
            ap_done = seen;
        }
        pause();
    }
}

static void icr(uint32_t low)
{
    *apic(APIC_ICR + 16) = 1 << 24;
    *apic(APIC_ICR) = low;
    while (*apic(APIC_ICR) & 1 << 12) {
    }
}

static uint64_t tsc(void)
{
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return lo | (uint64_t)hi << 32;
}

/* Some seconds at the most. */
static bool wait_for(volatile uint32_t *p, uint32_t v)
{
    uint64_t start = tsc();
    while (tsc() - start < 10000000000) {
        if (*p == v) {
            return true;
        }
        pause();
    }
    check("the other processor answers", false);
    return false;
}

static uint32_t serial;
static void start(uint32_t job)
{
    ap_job = ++serial << 8 | job;
}
static bool finish_job(void)
{
    return wait_for(&ap_done, serial);
}
static bool other(uint32_t job)
{
    start(job);
    return finish_job();
}

static bool ap_up(void)
{
    if (ap_alive) {
        return true;
    }
    memcpy((void *)AP_CODE, ap_begin, (size_t)(ap_end - ap_begin));
    icr(0x4500); /* INIT */
    for (volatile unsigned i = 0; i < 100000; i++) {
    }
    icr(0x4600 | AP_CODE >> 12); /* SIPI */
    return wait_for(&ap_alive, 1);
}

CASE(init_sipi)
{
    CHECK(ap_up());
}

/* MTRRs, which firmware sets on each processor, stay over INIT: Intel SDM Vol. 3A Table 9-1. */
CASE_KNOWN(init_keeps_mtrrs, "Vol. 3A Table 9-1: TCG clears them", NULL)
{
    if (!ap_up() || !other(SET_MTRR)) {
        return;
    }
    ap_alive = 0;
    ap_job = serial << 8;
    CHECK(ap_up());
    other(GET_MTRR);
    check_eq("IA32_MTRR_PHYSBASE0", ap_value, MTRR_VALUE);
}

static void put_ret(uint32_t v)
{
    uint8_t p[6] = {0xb8, 0, 0, 0, 0, 0xc3};
    memcpy(p + 1, &v, 4);
    memcpy(shared_code, p, 6);
}
/* Written here, run there: the hand-over orders it. */
CASE(cross_modified)
{
    for (uint32_t i = 0; i < 300 && ap_up(); i++) {
        put_ret(i + 1);
        if (!other(RUN_CODE)) {
            return;
        }
        check_eq("value", ap_value, i + 1);
    }
}
/* The same with other instructions each time, and both run them: each has its own translations. */
CASE(cross_modified_versions)
{
    static const uint8_t v[5][8] = {
        {0xb8, 10, 0, 0, 0, 0xc3},          /* mov $10, %eax */
        {0x31, 0xc0, 0x83, 0xc0, 11, 0xc3}, /* xor %eax, %eax; add $11, %eax */
        {0x6a, 12, 0x58, 0xc3},             /* push $12; pop %rax */
        {0x31, 0xc0, 0x0c, 13, 0xc3},       /* xor %eax, %eax; or $13, %al */
        {0x66, 0x90, 0xb0, 14, 0xc3},       /* nop; mov $14, %al: the rest is 0 from before */
    };
    for (uint32_t i = 0; i < 1500 && ap_up(); i++) {
        unsigned n = i < 500 ? i & 1 : i * 7 % 5;
        memcpy(shared_code, v[n], 8);
        if (i % 3 && (ap_call(shared_code) & 0xff) != 10 + n) {
            check_eq("own value", n, ~0u);
        }
        if (!other(RUN_CODE)) {
            return;
        }
        check_eq("value", ap_value & 0xff, 10 + n);
    }
}
/* One byte of an immediate changes while the other one runs the code: old or new, and at last new.
 */
CASE_NOT_QEMU(cross_modified_running, "Vol. 3A 8.1.3: TCG at times goes on with the old code")
{
    if (!ap_up()) {
        return;
    }
    put_ret(0);
    ap_stop = 0;
    start(LOOP_CODE);
    bool arrived = true;
    for (uint32_t i = 0; i < 200 && arrived; i++) {
        *(volatile uint8_t *)(shared_code + 1) = (uint8_t)i;
        arrived = wait_for(&ap_value, i & 0xff);
    }
    ap_stop = 1;
    finish_job();
}
CASE(atomics)
{
    if (!ap_up()) {
        return;
    }
    sum = 0;
    start(ADD);
    for (unsigned i = 0; i < 20000; i++) {
        __asm__ volatile("lock incq %0" : "+m"(sum));
    }
    finish_job();
    check_eq("sum", sum, 40000);
}
/* Translations: changed here, forgotten there by a job. */
CASE(shootdown)
{
    reset_tables();
    data_page[0][0] = 10;
    data_page[1][0] = 11;
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    if (!ap_up() || !other(RELOAD_CR3)) {
        return;
    }
    for (unsigned i = 0; i < 100; i++) {
        map(FREE_VA, data_pa(i & 1), 1, PTE_ALL);
        other(RELOAD_CR3);
        other(READ_VA);
        check_eq("value", ap_value, 10 + (i & 1));
    }
}
static volatile uint32_t nmi_came;
static bool count_nmi(struct frame *f)
{
    nmi_came += f->vector == NMI;
    return f->vector == NMI;
}
CASE(nmi_to_other)
{
    trap_hook = count_nmi;
    nmi_came = 0;
    if (!ap_up()) {
        return;
    }
    icr(0x4400);
    wait_for(&nmi_came, 1);
    CHECK(other(RUN_CODE));
}
/* INIT ends what it does; a SIPI starts it anew. */
CASE(init_again)
{
    if (!ap_up()) {
        return;
    }
    ap_stop = 0;
    start(LOOP_CODE);
    icr(0x4500);
    for (volatile unsigned i = 0; i < 100000; i++) {
    }
    ap_alive = 0;
    ap_job = serial << 8;
    CHECK(ap_up());
    put_ret(3);
    CHECK(other(RUN_CODE));
    check_eq("value", ap_value, 3);
}
/* An entry taken away with XCHG stays away: the other's walk marks only what it read (4.8). */
static bool skip_touch(struct frame *f)
{
    if (f->ip != (word)touch_at) {
        return false;
    }
    f->ip = (word)touch_after;
    ntraps = 0; /* there may be millions */
    return true;
}
CASE(accessed_or_gone)
{
    unsigned marked = 0;
    reset_tables();
    map(FREE_VA, data_pa(0), 1, PTE_ALL);
    volatile uint64_t *pte = entry(FREE_VA, 1);
    trap_hook = skip_touch;
    if (!ap_up()) {
        return;
    }
    ap_stop = 0;
    start(TOUCH);
    uint64_t begin = tsc(); /* the other may have to wait for a host processor */
    for (unsigned i = 0; i < 50000 || (marked < 100 && tsc() - begin < 10000000000); i++) {
        *pte = data_pa(0) | PTE_ALL;
        for (volatile unsigned wait = i % 64; wait; wait--) {
        }
        uint64_t old = __atomic_exchange_n(pte, 0, __ATOMIC_SEQ_CST);
        marked += (old & PTE_A) != 0;
        for (volatile unsigned wait = 32; wait; wait--) {
        }
        if (*pte != 0) {
            check_eq("entry", *pte, 0);
            break;
        }
    }
    ap_stop = 1;
    finish_job();
    CHECK(marked);
}
