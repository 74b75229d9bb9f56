/*
 * Run time of the test kernels: cases, exceptions as records, descriptor tables, a little I/O.
 *
 * A case is a function (CASE), or a piece of code and the exception it must raise (RAISES). Both
 * register themselves; kernel_main() runs them all.
 */
#ifndef TESTS_KERNEL_RT_H
#define TESTS_KERNEL_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned long word; /* a general register */

enum {
    DE,
    DB,
    NMI,
    BP,
    OF,
    BR,
    UD,
    NM,
    DF,
    TS = 10,
    NP,
    SS,
    GP,
    PF,
    MF = 16,
    AC,
    MC,
    XM,
    NONE = 256
};
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };
enum { F_CF = 1, F_ZF = 64, F_TF = 1 << 8, F_IF = 1 << 9, F_DF = 1 << 10, F_NT = 1 << 14 };
enum { F_IOPL = 3 << 12, F_RF = 1 << 16, F_VM = 1 << 17, F_AC = 1 << 18, F_ID = 1 << 21 };
#define NO_ERROR ((word)-1)

enum {
    SEL_CODE = 0x08,
    SEL_DATA = 0x10,
    SEL_USER32 = 0x1b,
    SEL_USER_DATA = 0x23,
    SEL_USER64 = 0x2b,
    SEL_TSS = 0x30, /* two slots in long mode */
    SEL_CODE32 = 0x40,
    SEL_FREE = 0x48, /* from here on the tests' */
    GDT_SLOTS = 32,
    VEC_USER_EXIT = 0x30,
    VEC_IRQ = 0x40, /* from here on: recorded, acknowledged at the local APIC, resumed */
};
#ifdef __x86_64__
#define USER_BASE 0x40000000ul /* the first GiB once more, for CPL 3 */
#define TEST_VA 0x80000000ul   /* a GiB of addresses with nothing mapped */
#else
#define USER_BASE 0ul
#endif

/* What the entry code leaves on the stack. */
struct frame {
#ifdef __x86_64__
    word r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
#else
    word gs, fs, es, ds, di, si, bp, own_sp, bx, dx, cx, ax;
#endif
    word vector, error, ip, cs, flags;
    word sp, ss; /* 32-bit: only from an outer level (or to a V86 monitor) */
    word vm_es, vm_ds, vm_fs, vm_gs;
};

struct trap {
    struct frame f;
    word cr2, at_sp; /* at_sp: the handler's own stack */
};

enum { MAX_TRAPS = 64 };
extern struct trap traps[MAX_TRAPS];
extern unsigned ntraps; /* counts on beyond MAX_TRAPS */
extern uint64_t resume; /* vectors below 64 that go on where they came from */
/* Called for each trap that is recorded; true: resume. */
extern bool (*trap_hook)(struct frame *);
extern word user_sp, user_flags, recover_sp;

void try_call(const void *code, word a, word b, word c);
void try_user(const void *code, word a, word b, word cs);
/* Both start with no traps recorded; the vector of the last trap, or NONE. */
unsigned run(const void *code, word a, word b);
unsigned run_user(const void *code, word a, word b);
unsigned run_user32(const void *code, word a, word b);

struct kcase {
    const char *name;
    void (*fn)(void);
    const char *code, *at, *next;
    unsigned vector;
    word error;
    unsigned how;
    const char *qemu;  /* QEMU 7.2 is wrong: the manual's section */
    const char *lodge; /* Lodge does not do it: where it says so */
};
enum { KERNEL, TRAP = 1, USER = 2, USER32 = 4, ANY_ERROR = 8, ANY_IP = 16 };

#define NOT_RUN "!" /* in front of a reason: the emulator would not survive the case */

#define KCASE_LINK(name)                                                                           \
    static const struct kcase *const name##_link __attribute__((section("kcases"), used)) =        \
        &name##_case;

/* Code with three labels: NAME, NAME_at before `insn`, NAME_next behind it. */
#define CODE_BITS(name, bits, setup, insn, after)                                                  \
    extern const char name[], name##_at[], name##_next[];                                          \
    __asm__(".pushsection .text\n" bits "\n" #name ": " setup "\n" #name "_at: " insn "\n" #name   \
            "_next: " after "\n ret\n" CODE_NATIVE "\n.popsection");
#ifdef __x86_64__
#define CODE_NATIVE ".code64"
#else
#define CODE_NATIVE ".code32"
#endif
#define CODE(name, setup, insn, after) CODE_BITS(name, "", setup, insn, after)

/* `insn` must raise `vector` with `error` at itself (TRAP: behind itself). */
#define RAISES_BITS(name, bits, how, vector, error, setup, insn, qemu, lodge)                      \
    CODE_BITS(name, bits, setup, insn, "int $0x30")                                                \
    static const struct kcase name##_case = {#name,  NULL,  name, name##_at, name##_next,          \
                                             vector, error, how,  qemu,      lodge};               \
    KCASE_LINK(name)
#define RAISES(name, how, vector, error, setup, insn)                                              \
    RAISES_BITS(name, "", how, vector, error, setup, insn, NULL, NULL)
#define RAISES32(name, how, vector, error, setup, insn)                                            \
    RAISES_BITS(name, ".code32", (how) | USER32, vector, error, setup, insn, NULL, NULL)
#define RAISES_NOT_QEMU(name, how, vector, error, setup, insn, why)                                \
    RAISES_BITS(name, "", how, vector, error, setup, insn, why, NULL)
#define RAISES_NOT_LODGE(name, how, vector, error, setup, insn, why)                               \
    RAISES_BITS(name, "", how, vector, error, setup, insn, NULL, why)

#define CASE_KNOWN(name, qemu, lodge)                                                              \
    static void name(void);                                                                        \
    static const struct kcase name##_case = {#name, name,     NULL, NULL, NULL,                    \
                                             NONE,  NO_ERROR, 0,    qemu, lodge};                  \
    KCASE_LINK(name)                                                                               \
    static void name(void)
#define CASE_NOT_QEMU(name, why) CASE_KNOWN(name, why, NULL)
#define CASE_NOT_LODGE(name, why) CASE_KNOWN(name, NULL, why)
#define CASE(name) CASE_KNOWN(name, NULL, NULL)

/* The case fails with the first of these that does not hold. */
void check_eq(const char *what, uint64_t got, uint64_t want);
void check(const char *what, bool ok);
extern uint64_t rng;
unsigned below(unsigned n); /* a random number, the same ones each time; changes rng */
void skip(const char *why); /* the case says so and counts as run */
#define CHECK(cond) check(#cond, cond)
/* The last trap: vector, error, and where. */
void check_trap(unsigned vector, word error, const void *ip);
static inline struct frame *last(void)
{
    return &traps[ntraps ? (ntraps - 1) % MAX_TRAPS : 0].f;
}

extern uint64_t gdt[GDT_SLOTS];
extern uint64_t idt[512];
extern uint8_t tss[8192 + 256];
extern uint8_t trap_stack[8192]; /* of CPL 0, by the TSS */
extern const char entries[], user_exit[];
uint64_t descriptor(uint32_t base, uint32_t limit, unsigned ar);
void set_gate(unsigned vector, const void *to, unsigned sel, unsigned type, unsigned ist);
void set_tss_limit(uint32_t limit);
void put_string(const char *s);
void put_hex(uint64_t v);
void finish(unsigned status) __attribute__((noreturn));
void panic(const char *why) __attribute__((noreturn));
extern bool on_qemu, on_lodge;
void *memset(void *, int, size_t);
void *memcpy(void *, const void *, size_t);

/* Bits 15..0: as in bits 55..40 of a descriptor. */
enum {
    AR_DATA = 0xc093,
    AR_CODE32 = 0xc09b,
    AR_CODE64 = 0xa09b,
    AR_DPL3 = 0x60,
    AR_PRESENT = 0x80,
};
enum { GATE_INT = 0x8e, GATE_TRAP = 0x8f };

#define READ_REG(name, reg)                                                                        \
    static inline word read_##name(void)                                                           \
    {                                                                                              \
        word v;                                                                                    \
        __asm__ volatile("mov %%" #reg ", %0" : "=r"(v) : : "memory");                             \
        return v;                                                                                  \
    }                                                                                              \
    static inline void write_##name(word v)                                                        \
    {                                                                                              \
        __asm__ volatile("mov %0, %%" #reg : : "r"(v) : "memory");                                 \
    }
READ_REG(cr0, cr0)
READ_REG(cr2, cr2)
READ_REG(cr3, cr3)
READ_REG(cr4, cr4)
READ_REG(dr0, dr0)
READ_REG(dr1, dr1)
READ_REG(dr6, dr6)
READ_REG(dr7, dr7)

static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline void invlpg(word va)
{
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}
static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return lo | (uint64_t)hi << 32;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                     : "a"(leaf), "c"(sub));
}
/* One bit of CPUID: register 0 to 3 is EAX to EDX. */
static inline bool cpu_has(uint32_t leaf, unsigned reg, unsigned bit)
{
    uint32_t r[4];
    cpuid(leaf, 0, r);
    return r[reg] >> bit & 1;
}

/* The local APIC (xAPIC) and what tests want of it. */
enum { APIC_ID = 0x20, APIC_TPR = 0x80, APIC_EOI = 0xb0, APIC_SVR = 0xf0, APIC_ICR = 0x300 };
static inline volatile uint32_t *apic(unsigned reg)
{
    return (volatile uint32_t *)(0xfee00000ul + reg);
}
void apic_on(void);
void send_self(unsigned vector); /* a fixed interrupt; may arrive some instructions later */
void send_nmi(void);

#endif
