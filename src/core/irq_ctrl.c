/* Which vcpu's interrupt controller this thread stands for. */
#include "core/irq_ctrl.h"

#include <stddef.h>

static _Thread_local struct irq_ctrl *irq_ctrl_here;

void irq_ctrl_enter(struct irq_ctrl *ic)
{
    irq_ctrl_here = ic;
}

struct irq_ctrl *irq_ctrl_current(void)
{
    return irq_ctrl_here;
}
