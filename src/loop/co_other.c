/* Switching stacks where nothing better was written: ucontext, two system calls a switch. */
#include "loop/co_switch.h"

#include <ucontext.h>

#include "base/alloc.h"

static ucontext_t *co_context(struct co_stack *s)
{
    if (!s->context) {
        s->context = alloc_zero(sizeof(ucontext_t));
    }
    return s->context;
}

void co_stack_switch(struct co_stack *from, struct co_stack *to)
{
    swapcontext(co_context(from), co_context(to));
}

void co_stack_init(struct co_stack *s, void *base, size_t size, void (*entry)(void))
{
    ucontext_t *u = co_context(s);
    getcontext(u);
    u->uc_stack.ss_sp = base;
    u->uc_stack.ss_size = size;
    u->uc_link = NULL;
    makecontext(u, entry, 0);
}
