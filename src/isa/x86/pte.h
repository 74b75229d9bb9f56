/* Entries of paging structures: Intel SDM Vol. 3A 4.3 to 4.5. */
#ifndef ISA_X86_PTE_H
#define ISA_X86_PTE_H

#include "base/bits.h"

enum {
    PTE_P = 1,
    PTE_W = 2,
    PTE_U = 4,
    PTE_PWT = 8,
    PTE_PCD = 0x10,
    PTE_A = 0x20,
    PTE_D = 0x40,
    PTE_PS = 0x80,
    PTE_G = 0x100,
};
#define PTE_NX (1ull << 63)
#define PTE_ADDR (mask_low(52) & ~0xfffull)

/* The frame of a page of 4 MiB: bits 39..32 lie in 20..13 (Table 4-4). */
static inline uint64_t pte_frame_4m(uint64_t pte)
{
    return (pte & 0xffc00000u) | bits_get(pte, 20, 13) << 32;
}

#endif
