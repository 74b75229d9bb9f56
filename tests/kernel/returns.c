/*
 * Calls and returns that do not pair: deep recursion, calls that never return, returns without a
 * call, returns past frames, stacks switched, and code behind a call that changes during it.
 */
#include "rt.h"

enum { DEPTH = 60000, MANY = 200000 };
static uint64_t deep_stack[DEPTH * 2 + 64];

/* down(n): n nested calls on a stack of their own; sum of the way back. */
word down(word n, void *stack);
__asm__("down: mov %rsp, %r8; mov %rsi, %rsp; xor %eax, %eax; call 1f; mov %r8, %rsp; ret\n"
        "1: test %rdi, %rdi; jz 2f; push %rdi; dec %rdi; call 1b; pop %rdi; add %rdi, %rax\n"
        "2: ret\n");
CASE(deep)
{
    word top = (word)(deep_stack + sizeof(deep_stack) / 8) & ~15ul;
    check_eq("sum", down(DEPTH, (void *)top), (word)DEPTH * (DEPTH + 1) / 2);
    check_eq("again", down(DEPTH, (void *)top), (word)DEPTH * (DEPTH + 1) / 2);
}

/* Calls whose return address is thrown away. */
word no_return(word n);
__asm__("no_return: xor %eax, %eax\n"
        "1: call 2f; ud2\n"
        "2: add $8, %rsp; inc %rax; dec %rdi; jnz 1b; ret\n");
CASE(calls_without_return)
{
    check_eq("count", no_return(MANY), MANY);
}

word no_call(word n);
__asm__("no_call: xor %eax, %eax\n"
        "1: lea 2f(%rip), %rdx; push %rdx; ret; ud2\n"
        "2: inc %rax; dec %rdi; jnz 1b; ret\n");
CASE(returns_without_call)
{
    check_eq("count", no_call(MANY), MANY);
}

/* Returns two frames at once, as longjmp does; each call has its own place to come back to. */
word skip_two(word n);
__asm__("skip_two: xor %eax, %eax\n"
        "1: call 3f; add $1, %rax; call 3f; add $2, %rax; dec %rdi; jnz 1b; ret\n"
        "3: call 4f; ud2\n"
        "4: call 5f; ud2\n"
        "5: add $16, %rsp; ret\n");
CASE(returns_past_frames)
{
    check_eq("sum", skip_two(MANY), 3 * MANY);
}

/* One function called from two places in turn through another stack each time. */
word two_stacks(word n, void *a, void *b);
__asm__("two_stacks: mov %rsp, %r8; mov %rsi, %rsp; mov %rdx, %r9; xor %eax, %eax\n"
        "lea 4f(%rip), %r10; mov %r10, -8(%r9); sub $8, %r9\n"
        "1: call 2f; inc %rax; dec %rdi; jnz 1b; mov %r8, %rsp; ret\n"
        "2: xchg %rsp, %r9; ret\n"             /* to the other one */
        "3: xchg %rsp, %r9; ret\n"             /* and back */
        "4: add $2, %rax; call 3b; jmp 4b\n"); /* where the second stack lives */
static uint64_t stack_a[256], stack_b[256];
CASE(coroutines)
{
    check_eq("sum", two_stacks(1000, stack_a + 256, stack_b + 256), 3 * 1000);
}

/* The callee writes the constant behind its call. */
word patched(word n);
__asm__(".pushsection .data\n"
        "patched: xor %eax, %eax\n"
        "1: call 2f\n"
        "mov $0x11111111, %edx; add %rdx, %rax; dec %rdi; jnz 1b; ret\n"
        "2: mov (%rsp), %rcx; mov %edi, 1(%rcx); ret\n"
        ".popsection");
CASE(code_behind_call)
{
    check_eq("sum", patched(3000), 3000ul * 3001 / 2);
}

/* Other modes call and return in between. */
static bool nest(struct frame *f)
{
    return f->vector == BP && no_return(10) == 10 && skip_two(10) == 30;
}
word break_in(word n);
__asm__("break_in: xor %eax, %eax\n"
        "1: call 2f; inc %rax; dec %rdi; jnz 1b; ret\n"
        "2: call 3f; ret\n"
        "3: int3; ret\n");
CASE(exceptions_between)
{
    trap_hook = nest;
    check_eq("count", break_in(50), 50);
}
