/* Page tables of the 64-bit test kernels: see page.h. */
#include "page.h"

enum { POOL = 48 };
static uint64_t pool[POOL][512] __attribute__((aligned(4096)));
static unsigned used;
uint8_t data_page[DATA_PAGES][4096] __attribute__((aligned(4096)));
extern uint64_t pdpt[512];

CODE(read_code, "push %rsi; popfq", "mov (%rdi), %al", "push $2; popfq")
CODE(write_code, "push %rsi; popfq", "movb $0xc3, (%rdi)", "push $2; popfq")
CODE(exec_code, "push %rsi; popfq", "call *%rdi", "push $2; popfq")

uint64_t *new_table(void)
{
    if (used == POOL) {
        panic("no page tables left");
    }
    memset(pool[used], 0, 4096);
    return pool[used++];
}

uint64_t *entry_in(uint64_t *root, word va, unsigned level)
{
    uint64_t *table = root;
    for (unsigned l = 4; l > level; l--) {
        uint64_t *e = &table[va >> (12 + 9 * (l - 1)) & 511];
        if (!(*e & PTE_P)) {
            *e = (word)new_table() | PTE_ALL;
        }
        table = (uint64_t *)(word)(*e & PTE_ADDR);
    }
    return &table[va >> (12 + 9 * (level - 1)) & 511];
}

void map(word va, uint64_t pa, unsigned level, uint64_t flags)
{
    *entry(va, level) = pa | flags | (level > 1 ? PTE_PS : 0);
    invlpg(va);
}

void flush_all(void)
{
    word cr4 = read_cr4();
    write_cr4(cr4 ^ CR4_PGE);
    write_cr4(cr4);
}

void reset_tables(void)
{
    pml4[FREE_VA >> 39] = 0;
    pdpt[TEST_VA >> 30] = 0;
    used = 0;
    flush_all();
}

unsigned run_access(enum access a, word va, bool user, bool ac)
{
    static const char *const code[] = {read_code, write_code, exec_code};
    word flags = 2 | (ac ? F_AC : 0);
    return user ? run_user(code[a], va, flags) : run(code[a], va, flags);
}
