/* Page tables of the 64-bit test kernels: one entry at a time, tables as they are needed. */
#ifndef TESTS_KERNEL_PAGE_H
#define TESTS_KERNEL_PAGE_H

#include "rt.h"

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 32, PTE_D = 64, PTE_PS = 128, PTE_G = 256 };
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0xffffffffff000ull
#define PTE_ALL (PTE_P | PTE_W | PTE_U)
#define FREE_VA 0x8000000000ul /* a PML4 entry of its own: nothing of the kernel hangs on it */

enum { CR4_PGE = 1 << 7, CR4_PCIDE = 1 << 17, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21 };
enum { CR0_WP = 1 << 16 };

extern uint64_t pml4[512];
/* The entry for `va` at `level` (4: PML4 ... 1: page table) under `root`; tables on the way are
 * made with all rights. */
uint64_t *entry_in(uint64_t *root, word va, unsigned level);
static inline uint64_t *entry(word va, unsigned level)
{
    return entry_in(pml4, va, level);
}
/* Sets the entry and forgets what was known of the page. Levels 2 and 3: a large page. */
void map(word va, uint64_t pa, unsigned level, uint64_t flags);
uint64_t *new_table(void);
void reset_tables(void); /* FREE_VA and TEST_VA empty again, all tables free */
void flush_all(void);

/* Data for mapping: 4 KiB pages, by number. */
enum { DATA_PAGES = 8 };
extern uint8_t data_page[DATA_PAGES][4096];
static inline uint64_t data_pa(unsigned n)
{
    return (word)data_page[n];
}

/* Accesses at rdi with RFLAGS rsi; run_access() sets them up. */
extern const char read_code[], read_code_at[], write_code[], write_code_at[], exec_code[],
    exec_code_at[];
enum access { READ, WRITE, EXEC };
/* The vector raised by one access at CPL 0 or 3; `ac`: EFLAGS.AC. */
unsigned run_access(enum access, word va, bool user, bool ac);

/* CR4 or CR0 bits for the time of a test. */
static inline void set_cr4(word bits, bool on)
{
    write_cr4(on ? read_cr4() | bits : read_cr4() & ~bits);
}
static inline void set_cr0(word bits, bool on)
{
    write_cr0(on ? read_cr0() | bits : read_cr0() & ~bits);
}
static inline bool has_smep(void)
{
    return cpu_has(7, 1, 7);
}
static inline bool has_smap(void)
{
    return cpu_has(7, 1, 20);
}

#endif
