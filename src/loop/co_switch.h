/* What a host has to know to switch between stacks. */
#ifndef LOOP_CO_SWITCH_H
#define LOOP_CO_SWITCH_H

#include <stddef.h>

struct co_stack {
    void *sp;      /* or, where it is done with ucontext, the context */
    void *context; /* ucontext only */
};

/* The first switch to `s` calls entry() on the stack. */
void co_stack_init(struct co_stack *s, void *base, size_t size, void (*entry)(void));
void co_stack_switch(struct co_stack *from, struct co_stack *to);

#endif
