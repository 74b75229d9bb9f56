/*
 * What host call and return pairs would give T1: recursive fib and a chain of small calls, with the
 * instructions that T1 emits today (soft-TLB check at every push and pop, flags stored before a
 * call, jump cache at every return), and the same with a host call, a host return and a compare at
 * the return site. docs/decisions/012-call-return.md has the figures.
 *
 *   gcc -O2 -o callret bench/prototypes/callret.c && ./callret
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TLB_SIZE 4096
#define JUMPS 4096

struct env {
    uint64_t pc;
    uint32_t exit;
    uint16_t flags;
    uint64_t salt, unused;
    struct {
        uint64_t tag, tag_w, host, ram;
    } tlb[TLB_SIZE];
    struct {
        uint64_t key;
        const void *code;
    } jump[JUMPS];
};

static uint8_t guest_stack[1 << 20] __attribute__((aligned(4096)));

/* r15 env, r12 guest rsp, rdi rbx r13 as in T1; temporaries r11 r14 rax. */
#define CHECK                                                                                      \
    "mov %r11, %r14\n mov %r14d, %eax\n shr $7, %eax\n and $0x1ffe0, %eax\n"                       \
    "xor 0x20(%r15,%rax), %r14\n cmp $0xff8, %r14\n ja bad\n mov 0x30(%r15,%rax), %rax\n"
#define PUSH(what) "lea -8(%r12), %r11\n" CHECK "movq " what ", (%r14,%rax)\n mov %r11, %r12\n"
#define POP_TO(reg) "mov %r12, %r11\n" CHECK "mov (%r14,%rax), " reg "\n lea 8(%r12), %r12\n"
#define FLAGS "lahf\n seto %al\n mov %ax, 12(%r15)\n"
#define POLL "cmpl $0, 8(%r15)\n jne bad\n"
#define RET_CACHE                                                                                  \
    POP_TO("%r11")                                                                                 \
    POLL                                                                                           \
        "mov %r11, %r14\n shr $12, %r14\n xor %r11d, %r14d\n shl $4, %r14d\n and $0xfff0, %r14d\n" \
        "xor 16(%r15), %r11\n cmp 0x20020(%r15,%r14), %r11\n jne bad\n"                            \
        "jmp *0x20028(%r15,%r14)\n"
#define RET_HOST POP_TO("%r11") "ret\n"
#define CALL_CACHE(to, pc, back) PUSH("$" pc) FLAGS "jmp " to "\n" back ":\n"
#define CALL_HOST(to, pc, back)                                                                    \
    PUSH("$" pc) FLAGS "call " to "\n" back ": cmp $" pc ", %r11\n jne bad\n"

#define FIB(name, CALL, RET)                                                                       \
    ".p2align 4\n" name ":\n" PUSH(                                                                \
        "%rbx") "xor %r13d, %r13d\n mov %rdi, %rbx\n cmp $2, %rdi\n"                               \
                "jl 9f\n lea -1(%rbx), %rdi\n" CALL(                                               \
                    name, "0x100035",                                                              \
                    name "_a") "lea -2(%rbx), %rdi\n mov %r13, %rbx\n" CALL(name, "0x100041",      \
                                                                            name                   \
                                                                            "_b") "add %rbx, "     \
                                                                                  "%r13\n" POP_TO( \
                                                                                      "%rb"        \
                                                                                      "x") RET     \
        "9: mov %rbx, %r13\n" POP_TO("%rbx") RET

#define LEAF(name, RET) ".p2align 4\n" name ": add $3, %r13\n" RET
#define LOOP(name, leaf, CALL)                                                                     \
    ".p2align 4\n" name ":\n" CALL(leaf, "0x100135", name "_a") CALL(leaf, "0x100241", name "_b")  \
        POLL "sub $1, %rdi\n jne " name "\n jmp *24(%rsp)\n"

__asm__(".text\nbad: ud2\n" FIB("fib_cache", CALL_CACHE, RET_CACHE)
            FIB("fib_host", CALL_HOST, RET_HOST) LEAF("leaf_cache", RET_CACHE)
                LEAF("leaf_host", RET_HOST) LOOP("loop_cache", "leaf_cache", CALL_CACHE) LOOP(
                    "loop_host", "leaf_host",
                    CALL_HOST) ".globl run_fib_cache, run_fib_host, run_loop_cache, run_loop_host\n"
                               "run_fib_cache: lea fib_cache(%rip), %rax; jmp enter_jump\n"
                               "run_fib_host: lea fib_host(%rip), %rax; jmp enter_call\n"
                               "run_loop_cache: lea loop_cache(%rip), %rax; jmp enter_jump\n"
                               "run_loop_host: lea loop_host(%rip), %rax; jmp enter_jump\n"
                               "enter: push %rbx; push %rbp; push %r12; push %r13; push %r14; push "
                               "%r15; sub $32, %rsp\n"
                               "mov %rdi, %r15; mov %rsi, %rdi; mov %rdx, %r12; xor %r13d, %r13d; "
                               "lea leave(%rip), %r11\n"
                               "mov %r11, 24(%rsp); ret\n"
                               ".globl leave\nleave: mov %r13, %rax; add $32, %rsp\n"
                               "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"
                               "enter_jump: push %rbx; push %rbp; push %r12; push %r13; push %r14; "
                               "push %r15; sub $32, %rsp\n"
                               "mov %rdi, %r15; mov %rsi, %rdi; mov %rdx, %r12; xor %r13d, %r13d; "
                               "lea leave(%rip), %r11\n"
                               "mov %r11, 24(%rsp); jmp *%rax\n"
                               "enter_call: push %rbx; push %rbp; push %r12; push %r13; push %r14; "
                               "push %r15; sub $32, %rsp\n"
                               "mov %rdi, %r15; mov %rsi, %rdi; mov %rdx, %r12; xor %r13d, %r13d; "
                               "call *%rax; jmp leave\n"
                               ".globl native_fib\n.p2align 4\nnative_fib: push %rbx; xor %eax, "
                               "%eax; mov %rdi, %rbx; cmp $2, %rdi\n"
                               "jl 9f; lea -1(%rbx), %rdi; call native_fib; lea -2(%rbx), %rdi; "
                               "mov %rax, %rbx\n"
                               "call native_fib; add %rbx, %rax; pop %rbx; ret\n9: mov %rbx, %rax; "
                               "pop %rbx; ret\n"
                               ".p2align 4\nnative_leaf: add $3, %rax; ret\n"
                               ".globl native_loop\nnative_loop: xor %eax, %eax\n1: call "
                               "native_leaf; call native_leaf; sub $1, %rdi; jne 1b; ret\n");

_Static_assert(offsetof(struct env, tlb) == 0x20 && offsetof(struct env, jump) == 0x20020,
               "layout of the code above");

typedef uint64_t run_fn(struct env *, uint64_t n, void *sp);
uint64_t native_fib(uint64_t n), native_loop(uint64_t n);
run_fn run_fib_cache, run_fib_host, run_loop_cache, run_loop_host;
extern const char leave[], fib_cache_a[], fib_cache_b[], loop_cache_a[], loop_cache_b[];

static void set_jump(struct env *e, uint64_t pc, const void *code)
{
    unsigned slot = (pc ^ pc >> 12) & (JUMPS - 1);
    e->jump[slot].key = pc ^ e->salt;
    e->jump[slot].code = code;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum { ROUNDS = 15, FIB_N = 32, LOOPS = 4000000 };

/* Three ways in turn, ROUNDS times; medians. */
static void compare(const char *what, struct env *e, uint64_t (*native)(uint64_t), run_fn *cache,
                    run_fn *host, uint64_t n)
{
    double t[3][ROUNDS];
    void *sp = guest_stack + sizeof(guest_stack) - 64;
    *(uint64_t *)sp = 0x100300; /* where the outermost return goes */
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t v[3];
        double a = now();
        v[0] = native(n);
        double b = now();
        v[1] = cache(e, n, sp);
        double c = now();
        v[2] = host(e, n, sp);
        double d = now();
        t[0][r] = b - a, t[1][r] = c - b, t[2][r] = d - c;
        if (v[0] != v[1] || v[0] != v[2]) {
            printf("%s: results differ\n", what);
            exit(1);
        }
    }
    for (unsigned k = 0; k < 3; k++) {
        qsort(t[k], ROUNDS, sizeof(double), by_value);
    }
    double m = t[0][ROUNDS / 2];
    printf("%-12s native %.1f ms; jump cache %.2f, host call and return %.2f times native\n", what,
           m * 1e3, t[1][ROUNDS / 2] / m, t[2][ROUNDS / 2] / m);
}

int main(void)
{
    struct env *e = aligned_alloc(64, (sizeof(*e) + 63) & ~63ul);
    memset(e, 0, sizeof(*e));
    e->salt = 0x123456789abcdef;
    for (uintptr_t p = (uintptr_t)guest_stack; p < (uintptr_t)guest_stack + sizeof(guest_stack);
         p += 4096) {
        unsigned slot = p >> 12 & (TLB_SIZE - 1);
        e->tlb[slot].tag = p;
        e->tlb[slot].host = p;
    }
    set_jump(e, 0x100035, fib_cache_a);
    set_jump(e, 0x100041, fib_cache_b);
    set_jump(e, 0x100135, loop_cache_a);
    set_jump(e, 0x100241, loop_cache_b);
    set_jump(e, 0x100300, leave);
    compare("fib", e, native_fib, run_fib_cache, run_fib_host, FIB_N);
    compare("small calls", e, native_loop, run_loop_cache, run_loop_host, LOOPS);
    return 0;
}
