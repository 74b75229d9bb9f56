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
bool pmem_read64(struct vcpu *v, gpa_t gpa, uint64_t *val)
{
    return false;
}
bool pmem_read32(struct vcpu *v, gpa_t gpa, uint32_t *val)
{
    return false;
}
bool pmem_replace(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t old, uint64_t val)
{
    return false;
}
