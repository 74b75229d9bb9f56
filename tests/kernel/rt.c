/* Run time of the test kernels: see rt.h. */
#include "rt.h"

struct trap traps[MAX_TRAPS];
unsigned ntraps;
uint64_t resume;
bool (*trap_hook)(struct frame *);
word user_sp, user_flags = 2, recover_sp;
bool on_qemu, on_lodge;
/* The start code needs the first two. */
#ifdef __x86_64__
uint64_t gdt[GDT_SLOTS] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff};
#else
uint64_t gdt[GDT_SLOTS] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
#endif
uint64_t idt[512] __attribute__((aligned(4096)));
uint8_t tss[8192 + 256] __attribute__((aligned(4096)));
uint8_t trap_stack[8192] __attribute__((aligned(16)));
static uint8_t user_stack[8192] __attribute__((aligned(16)));

static const struct kcase *current;
static char failure[200];
static const char *skipped;

void kernel_main(void);
int on_trap(struct frame *);

void *memset(void *to, int c, size_t n)
{
    void *d = to;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
    void *d = to;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
    return to;
}

/* ---- Output ---- */

static void put_char(char c)
{
    while (!(inb(0x3fd) & 0x20)) {
    }
    outb(0x3f8, (uint8_t)c);
}

void put_string(const char *s)
{
    while (*s) {
        put_char(*s++);
    }
}

static char *hex(char *to, uint64_t v)
{
    unsigned shift = 60;
    while (shift && !(v >> shift)) {
        shift -= 4;
    }
    for (;; shift -= 4) {
        *to++ = "0123456789abcdef"[v >> shift & 15];
        if (!shift) {
            break;
        }
    }
    *to = 0;
    return to;
}

void put_hex(uint64_t v)
{
    char text[20];
    hex(text, v);
    put_string(text);
}

void finish(unsigned status)
{
    while (!(inb(0x3fd) & 0x40)) {
    }
    for (;;) {
        __asm__ volatile("outl %0, %1" : : "a"(status), "Nd"((uint16_t)0xf4));
        __asm__ volatile("cli; hlt");
    }
}

static void put_trap(const struct trap *t)
{
    static const char *const names[] = {"vector ", " error ", " ip ", " cs ", " flags ", " sp "};
    const word *v = &t->f.vector;
    for (unsigned i = 0; i < 6; i++) {
        put_string(names[i]);
        put_hex(v[i]);
    }
    put_string(" cr2 ");
    put_hex(t->cr2);
    put_string("\n");
}

void panic(const char *why)
{
    put_string("PANIC ");
    put_string(current ? current->name : "at start");
    put_string(": ");
    put_string(why);
    put_string("\n");
    for (unsigned i = 0; i < ntraps && i < 8; i++) {
        put_trap(&traps[i]);
    }
    finish(2);
}

/* ---- Traps ---- */

int on_trap(struct frame *f)
{
    if (f->vector == VEC_USER_EXIT && recover_sp) {
        return 1;
    }
    struct trap *t = &traps[ntraps++ % MAX_TRAPS];
    t->f = *f;
    t->cr2 = read_cr2();
    t->at_sp = (word)f;
    if (ntraps > 1000000) {
        panic("traps without end");
    }
    if (trap_hook && trap_hook(f)) {
        return 0;
    }
    if (f->vector >= VEC_IRQ) {
        *apic(APIC_EOI) = 0;
        return 0;
    }
    if (resume >> f->vector & 1) {
        return 0;
    }
    if (!recover_sp) {
        panic("an exception nobody expects");
    }
    return 1;
}

static unsigned outcome(void)
{
    return ntraps ? (unsigned)last()->vector : NONE;
}

unsigned run(const void *code, word a, word b)
{
    ntraps = 0;
    try_call(code, a, b, 0);
    return outcome();
}

static unsigned run_outer(const void *code, word a, word b, word cs)
{
    word *top = (word *)(void *)(user_stack + sizeof(user_stack) - 64);
    memset(top, 0, 64);
    *top = (word)user_exit + USER_BASE;
#ifndef __x86_64__
    top[1] = a;
    top[2] = b;
#endif
    user_sp = (word)top + USER_BASE;
    ntraps = 0;
    try_user((const char *)code + USER_BASE, a, b, cs);
    return outcome();
}

unsigned run_user(const void *code, word a, word b)
{
#ifdef __x86_64__
    return run_outer(code, a, b, SEL_USER64);
#else
    return run_outer(code, a, b, SEL_USER32);
#endif
}

unsigned run_user32(const void *code, word a, word b)
{
    return run_outer(code, a, b, SEL_USER32);
}

/* ---- Descriptor tables ---- */

uint64_t descriptor(uint32_t base, uint32_t limit, unsigned ar)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(ar & 0xf0ff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}

void set_gate(unsigned vector, const void *to, unsigned sel, unsigned type, unsigned ist)
{
    uint64_t ip = (word)to;
    uint64_t low = (ip & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 |
                   (uint64_t)type << 40 | (ip >> 16 & 0xffff) << 48;
#ifdef __x86_64__
    idt[vector * 2] = low;
    idt[vector * 2 + 1] = ip >> 32;
#else
    idt[vector] = low;
#endif
}

void set_tss_limit(uint32_t limit)
{
    gdt[SEL_TSS / 8] = descriptor((uint32_t)(word)tss, limit, 0x89);
    gdt[SEL_TSS / 8 + 1] = 0;
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
}

static void default_gates(void)
{
    for (unsigned i = 0; i < 256; i++) {
        bool open = i == BP || i == OF || i == VEC_USER_EXIT;
        set_gate(i, entries + 16 * i, SEL_CODE, open ? GATE_INT | AR_DPL3 : GATE_INT, 0);
    }
}

static void load_tables(void)
{
    struct {
        uint16_t limit;
        word base;
    } __attribute__((packed)) r = {sizeof(gdt) - 1, (word)gdt};
    gdt[SEL_DATA / 8] = descriptor(0, 0xfffff, AR_DATA);
    gdt[SEL_USER32 / 8] = descriptor(0, 0xfffff, AR_CODE32 | AR_DPL3);
    gdt[SEL_USER_DATA / 8] = descriptor(0, 0xfffff, AR_DATA | AR_DPL3);
    gdt[SEL_CODE32 / 8] = descriptor(0, 0xfffff, AR_CODE32);
#ifdef __x86_64__
    gdt[SEL_CODE / 8] = descriptor(0, 0xfffff, AR_CODE64);
    gdt[SEL_USER64 / 8] = descriptor(0, 0xfffff, AR_CODE64 | AR_DPL3);
    *(uint64_t *)(void *)(tss + 4) = (word)trap_stack + sizeof(trap_stack);
#else
    gdt[SEL_CODE / 8] = descriptor(0, 0xfffff, AR_CODE32);
    *(uint32_t *)(void *)(tss + 4) = (word)trap_stack + sizeof(trap_stack);
    *(uint32_t *)(void *)(tss + 8) = SEL_DATA;
#endif
    *(uint16_t *)(void *)(tss + 102) = 0xffff; /* no I/O bitmap */
    __asm__ volatile("lgdt %0" : : "m"(r));
    set_tss_limit(103);
    r.limit = sizeof(idt) - 1;
    r.base = (word)idt;
    default_gates();
    __asm__ volatile("lidt %0" : : "m"(r));
}

/* ---- The local APIC ---- */

void apic_on(void)
{
    *apic(APIC_SVR) = 0x1ff;
    *apic(APIC_TPR) = 0;
}

static void send(uint32_t command)
{
    while (*apic(APIC_ICR) & 1 << 12) {
    }
    *apic(APIC_ICR + 16) = *apic(APIC_ID);
    *apic(APIC_ICR) = command;
}

void send_self(unsigned vector)
{
    send(1 << 14 | vector);
}

void send_nmi(void)
{
    send(1 << 14 | 4 << 8);
}

/* ---- Cases ---- */

static char *append(char *to, const char *s)
{
    while (*s && to < failure + sizeof(failure) - 40) {
        *to++ = *s++;
    }
    *to = 0;
    return to;
}

void check_eq(const char *what, uint64_t got, uint64_t want)
{
    if (got != want && !*failure) {
        char *p = append(append(failure, what), ": got ");
        p = append(hex(p, got), ", want ");
        hex(p, want);
    }
}

void check(const char *what, bool ok)
{
    if (!ok && !*failure) {
        append(failure, what);
    }
}

void skip(const char *why)
{
    skipped = why;
}

void check_trap(unsigned vector, word error, const void *ip)
{
    check_eq("vector", ntraps ? last()->vector : NONE, vector);
    if (vector != NONE) {
        check_eq("error code", last()->error, error);
        check_eq("ip", last()->ip, (word)ip);
    }
}

static void run_raises(const struct kcase *k)
{
    bool outer = k->how & (USER | USER32);
    unsigned v = k->how & USER32 ? run_user32(k->code, 0, 0)
                 : outer         ? run_user(k->code, 0, 0)
                                 : run(k->code, 0, 0);
    check_eq("vector", v, k->vector);
    if (k->vector == NONE) {
        return;
    }
    check_eq("traps", ntraps, 1);
    if (!(k->how & ANY_ERROR)) {
        check_eq("error code", last()->error, k->error);
    }
    if (!(k->how & ANY_IP)) {
        word at = (word)(k->how & TRAP ? k->next : k->at);
        check_eq("ip", last()->ip, at + (outer ? USER_BASE : 0));
    }
    check_eq("cpl", last()->cs & 3, outer ? 3 : 0);
}

/* Why the emulator is excused from this case, or NULL. */
static const char *excuse(const struct kcase *k)
{
    return on_qemu ? k->qemu : on_lodge ? k->lodge : NULL;
}

static const char *verdict(const struct kcase *k)
{
    return skipped ? "skip " : !*failure ? "ok " : excuse(k) ? "known " : "FAIL ";
}

static bool run_case(const struct kcase *k)
{
    current = k;
    *failure = 0;
    skipped = NULL;
    resume = 0;
    trap_hook = NULL;
    user_flags = 2;
    ntraps = 0;
    if (excuse(k) && excuse(k)[0] == '!') {
        append(failure, "not run");
    } else if (k->fn) {
        k->fn();
    } else {
        run_raises(k);
    }
    const char *v = verdict(k);
    put_string(v);
    put_string(k->name);
    if (skipped || *failure) {
        put_string(": ");
        put_string(skipped ? skipped : failure);
    }
    if (v[0] == 'k') {
        put_string("; ");
        put_string(excuse(k) + (excuse(k)[0] == '!'));
    }
    put_string("\n");
    return v[0] != 'F';
}

void kernel_main(void)
{
    extern const struct kcase *const kcases_begin[], *const kcases_end[];
    uint32_t r[4];
    bool all = true;
    cpuid(0x40000000, 0, r);
    on_qemu = r[1] == 0x54474354;  /* TCGT */
    on_lodge = r[1] == 0x67646f4c; /* Lodg */
    load_tables();
    apic_on();
    put_string("cases ");
    put_hex((uint64_t)(kcases_end - kcases_begin));
    put_string("\n");
    for (const struct kcase *const *k = kcases_end; k-- > kcases_begin;) {
        all = run_case(*k) && all;
    }
    put_string("end\n");
    finish(all ? 0 : 1);
}

/* ---- Random numbers (xorshift) ---- */

uint64_t rng = 88172645463325252ull;

unsigned below(unsigned n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)(rng >> 32) % n;
}
