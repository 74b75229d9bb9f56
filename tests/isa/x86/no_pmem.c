/* Guest physical memory, for programs that have none. */
#include "core/tlb_ops.h"

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
