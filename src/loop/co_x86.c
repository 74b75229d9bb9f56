/* Switching stacks on x86-64: System V ABI, AMD64 supplement §3.2.1: the registers a callee keeps.
 * The floating point control words are the same in the whole process. */
#include "loop/co_switch.h"

#include <stdint.h>

void co_switch_to(void **save, void *to);

__asm__(".text\n"
        ".p2align 4\n"
        ".globl co_switch_to\n"
        ".hidden co_switch_to\n"
        ".type co_switch_to, @function\n"
        "co_switch_to:\n"
        "    endbr64\n"
        "    push %rbp\n"
        "    push %rbx\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbx\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size co_switch_to, .-co_switch_to\n");

void co_stack_switch(struct co_stack *from, struct co_stack *to)
{
    co_switch_to(&from->sp, to->sp);
}

void co_stack_init(struct co_stack *s, void *base, size_t size, void (*entry)(void))
{
    uint64_t *sp = (uint64_t *)((char *)base + size);
    *--sp = 0; /* a return address for entry: it never returns; and the alignment of a call */
    *--sp = (uint64_t)(uintptr_t)entry;
    for (int i = 0; i < 6; i++) {
        *--sp = 0;
    }
    s->sp = sp;
}
