/* What the ISA would ask an accelerator for, for programs that run no guest code. */
#include "core/tlb_ops.h"

bool vmem_read(struct vcpu *v, gva_t va, unsigned idx, unsigned size, void *val)
{
    return false;
}
bool vmem_write(struct vcpu *v, gva_t va, unsigned idx, unsigned size, const void *val)
{
    return false;
}
int vmem_span(struct vcpu *v, gva_t va, unsigned idx, unsigned len, unsigned access, void **host)
{
    return -1;
}
