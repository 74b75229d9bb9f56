/*
 * What the page tables in use map, for people: all entries that are present, without the checks and
 * marks of a walk (mmu.c). Tables may lead back to themselves, so both the tables looked at and the
 * lines are counted.
 */
#include "base/endian.h"
#include "base/strbuf.h"
#include "core/machine.h"
#include "isa/x86/pte.h"
#include "isa/x86/sys.h"

enum {
    LINES_MAX = 65536,
    TABLES_MAX = 65536,
    TABLE = 4096,
    RIGHTS = PTE_W | PTE_U, /* and'ed over the levels */
};

struct scan {
    const struct x86_cpu *c;
    struct mem_map *mem;
    struct strbuf *out;
    bool ranges;
    unsigned lines, tables;
    unsigned entry; /* bytes: 4 or 8 */
    gva_t start, next;
    unsigned rights; /* of the range from start to next; 0: none is open */
};

static void scan_end_range(struct scan *s)
{
    if (s->rights) {
        strbuf_add(s->out, "%016llx-%016llx %016llx %cr%c\n", (unsigned long long)s->start,
                   (unsigned long long)s->next, (unsigned long long)(s->next - s->start),
                   s->rights & PTE_U ? 'u' : '-', s->rights & PTE_W ? 'w' : '-');
        s->lines++;
    }
    s->rights = 0;
}

static void scan_range(struct scan *s, gva_t va, uint64_t size, unsigned rights)
{
    rights = (rights & RIGHTS) | PTE_P;
    if (s->rights != rights || s->next != va) {
        scan_end_range(s);
        s->start = va;
        s->rights = rights;
    }
    s->next = va + size;
}

static void scan_page(struct scan *s, gva_t va, uint64_t frame, uint64_t pte)
{
    static const struct {
        uint64_t bit;
        char letter;
    } flags[] = {{PTE_NX, 'X'},  {PTE_G, 'G'},   {PTE_PS, 'P'}, {PTE_D, 'D'}, {PTE_A, 'A'},
                 {PTE_PCD, 'C'}, {PTE_PWT, 'T'}, {PTE_U, 'U'},  {PTE_W, 'W'}};
    char text[ARRAY_LEN(flags) + 1] = {0};
    for (unsigned i = 0; i < ARRAY_LEN(flags); i++) {
        text[i] = pte & flags[i].bit ? flags[i].letter : '-';
    }
    strbuf_add(s->out, "%016llx: %016llx %s\n", (unsigned long long)va, (unsigned long long)frame,
               text);
    s->lines++;
}

/* Bit 7 of an entry of 4 KiB is another attribute. */
static void scan_leaf(struct scan *s, gva_t va, unsigned shift, uint64_t pte, unsigned rights)
{
    uint64_t frame = shift == 22 ? pte_frame_4m(pte) : pte & PTE_ADDR & ~mask_low(shift);
    if (s->ranges) {
        scan_range(s, va, 1ull << shift, rights);
    } else {
        scan_page(s, va, frame, shift == 12 ? pte & ~(uint64_t)PTE_PS : pte);
    }
}

static bool is_leaf(const struct scan *s, uint64_t pte, unsigned level)
{
    bool large = s->entry == 8 ? level <= 3 : (s->c->cr4 & CR4_PSE) != 0;
    return level == 1 || (large && (pte & PTE_PS));
}

static void scan_table(struct scan *s, uint64_t at, unsigned level, gva_t base, unsigned rights)
{
    uint8_t table[TABLE];
    unsigned count = TABLE / s->entry, bits = s->entry == 8 ? 9 : 10;
    unsigned shift = 12 + bits * (level - 1);
    if (s->tables++ >= TABLES_MAX || !gmem_read(s->mem, at & PTE_ADDR, table, sizeof(table))) {
        return;
    }
    for (unsigned i = 0; i < count && s->lines < LINES_MAX; i++) {
        uint64_t pte = s->entry == 8 ? load_le64(table + 8 * i) : load_le32(table + 4 * i);
        gva_t va = base + ((gva_t)i << shift);
        if (level >= 4 && i >= count / 2 && !base) {
            va |= ~mask_low(shift + bits); /* the upper half is at the end of all addresses */
        }
        if (!(pte & PTE_P)) {
            continue;
        }
        if (is_leaf(s, pte, level)) {
            scan_leaf(s, va, shift, pte, rights & (unsigned)pte);
        } else {
            scan_table(s, pte, level - 1, va, rights & (unsigned)pte);
        }
    }
}

static void scan_all(struct scan *s)
{
    const struct x86_cpu *c = s->c;
    if (c->efer & EFER_LMA) {
        scan_table(s, c->cr3, c->cr4 & CR4_LA57 ? 5 : 4, 0, RIGHTS);
        return;
    }
    if (!(c->cr4 & CR4_PAE)) {
        s->entry = 4;
        scan_table(s, c->cr3 & 0xfffff000u, 2, 0, RIGHTS);
        return;
    }
    for (unsigned i = 0; i < 4; i++) {
        if (c->pdpte[i] & PTE_P) {
            scan_table(s, c->pdpte[i], 2, (gva_t)i << 30, RIGHTS);
        }
    }
}

bool x86_print_maps(const struct vcpu *v, bool ranges, struct strbuf *out)
{
    struct scan s = {.c = (const struct x86_cpu *)v->env,
                     .mem = v->mem,
                     .out = out,
                     .ranges = ranges,
                     .entry = 8};
    if (!(s.c->cr0 & CR0_PG)) {
        return false;
    }
    scan_all(&s);
    scan_end_range(&s);
    if (s.lines >= LINES_MAX || s.tables > TABLES_MAX) {
        strbuf_add(out, "and more\n");
    }
    return true;
}
