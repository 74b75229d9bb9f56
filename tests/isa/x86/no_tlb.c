/* What the ISA would tell an accelerator, for programs that have none. */
#include "core/tlb_ops.h"

void tlb_flush_nonglobal(struct vcpu *v)
{
}
void tlb_flush(struct vcpu *v)
{
}
void tlb_flush_page(struct vcpu *v, gva_t va)
{
}
void tlb_switch(struct vcpu *v, unsigned asid, bool keep)
{
}
void tlb_flush_asid(struct vcpu *v, unsigned asid)
{
}
void tlb_flush_asid_page(struct vcpu *v, unsigned asid, gva_t va)
{
}
void tlb_debug_changed(struct vcpu *v)
{
}
void tlb_code_changed(struct vcpu *v)
{
}
