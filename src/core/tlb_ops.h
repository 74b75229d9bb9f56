/* What an ISA asks of whatever runs it. Calls act on the calling vCPU only, at once. */
#ifndef CORE_TLB_OPS_H
#define CORE_TLB_OPS_H

#include "base/types.h"

struct vcpu;

void tlb_flush(struct vcpu *);           /* every translation */
void tlb_flush_nonglobal(struct vcpu *); /* the same, but walk_result.global ones may stay */
/* One page (or the large page around it) of the address space that runs, and if it is global. */
void tlb_flush_page(struct vcpu *, gva_t va);
/* Another address space runs from now on. `keep`: its translations may be known from before; else
 * they are forgotten, but for global ones. Spaces have numbers; at first there is 0. */
void tlb_switch(struct vcpu *, unsigned asid, bool keep);
/* Translations of one space, and of one page in it; global ones may stay. */
void tlb_flush_asid(struct vcpu *, unsigned asid);
void tlb_flush_asid_page(struct vcpu *, unsigned asid, gva_t va);
/* Something the meaning of a pc hangs on changed (mode word, address space): forget jump targets.
 */
void tlb_code_changed(struct vcpu *);

/* The vCPU's debug.own[] changed. */
void tlb_debug_changed(struct vcpu *);

/*
 * Memory as the guest's CPU sees it, for descriptor tables, stacks, page tables and string
 * helpers: linear addresses through MMU index `idx`. False: env->fault is filled. Sizes 1 to 64.
 */
bool vmem_read(struct vcpu *, gva_t va, unsigned idx, unsigned size, void *val);
bool vmem_write(struct vcpu *, gva_t va, unsigned idx, unsigned size, const void *val);
/* Host memory of [va, va+len) cut at the page's end: length that may be used, 0 when the access
 * is not plain RAM (use vmem_read/write), -1 when it faults. `access` RT_READ or RT_WRITE. */
int vmem_span(struct vcpu *, gva_t va, unsigned idx, unsigned len, unsigned access, void **host);
/*
 * Physical memory, for page walks. Accessed and dirty bits are set by compare-and-exchange of the
 * whole entry (size 4 or 8): another vcpu may have changed it since it was read. False: it did.
 * Entries that cannot be written stay as they are.
 */
bool pmem_read64(struct vcpu *, gpa_t gpa, uint64_t *val);
bool pmem_read32(struct vcpu *, gpa_t gpa, uint32_t *val);
bool pmem_replace(struct vcpu *, gpa_t gpa, unsigned size, uint64_t old, uint64_t val);

#endif
