/* What the monitor says of page tables: each mode's pages and rights, and tables that lead to
 * themselves. */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "base/unit_test.h"
#include "core/machine.h"
#include "isa/x86/cpu.h"
#include "isa/x86/pte.h"
#include "isa/x86/sys.h"

enum { RAM = 0x10000, TOP = 0x1000, SECOND = 0x2000, THIRD = 0x3000, LAST = 0x4000 };

struct rig {
    struct ram_set set;
    struct ram *ram;
    struct vcpu vcpu;
    struct x86_cpu *c;
    struct strbuf out;
};

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;
    r->ram = ram_set_add(&r->set, "ram", RAM, &err);
    r->vcpu.mem = mem_map_new("m", 0);
    mem_map_add_ram(r->vcpu.mem, 0, r->ram, 0, RAM);
    r->c = aligned_alloc(64, (sizeof(*r->c) + 63) & ~(size_t)63);
    memset(r->c, 0, sizeof(*r->c));
    r->vcpu.env = (struct rt_env *)r->c;
    r->c->cr0 = CR0_PG;
    r->c->cr3 = TOP;
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    strbuf_free(&r->out);
    mem_map_free(r->vcpu.mem);
    ram_set_free(&r->set);
    free(r->c);
    free(r);
    return 0;
}

static void put(struct rig *r, unsigned table, unsigned index, uint64_t entry)
{
    store_le64(r->ram->host + table + 8 * index, entry);
}

static const char *said(struct rig *r, bool ranges)
{
    strbuf_free(&r->out);
    r->out = (struct strbuf){0};
    assert_true(x86_print_maps(&r->vcpu, ranges, &r->out));
    return strbuf_text(&r->out);
}

static void long_mode(void **state)
{
    struct rig *r = *state;
    r->c->efer = EFER_LMA;
    r->c->cr4 = CR4_PAE;
    put(r, TOP, 0, SECOND | PTE_P | PTE_W | PTE_U);
    put(r, TOP, 511, SECOND | PTE_P | PTE_W);
    put(r, SECOND, 0, THIRD | PTE_P | PTE_W | PTE_U);
    put(r, THIRD, 1, 0x40000000 | PTE_P | PTE_PS | PTE_U | PTE_NX);
    put(r, THIRD, 0, LAST | PTE_P | PTE_W | PTE_U);
    put(r, LAST, 7, 0x5000 | PTE_P | PTE_W | PTE_U | PTE_D | PTE_A);
    put(r, LAST, 8, 0x9000 | PTE_P | PTE_W | PTE_U | PTE_PS);
    assert_string_equal(said(r, false), "0000000000007000: 0000000000005000 ---DA--UW\n"
                                        "0000000000008000: 0000000000009000 -------UW\n"
                                        "0000000000200000: 0000000040000000 X-P----U-\n"
                                        "ffffff8000007000: 0000000000005000 ---DA--UW\n"
                                        "ffffff8000008000: 0000000000009000 -------UW\n"
                                        "ffffff8000200000: 0000000040000000 X-P----U-\n");
    assert_string_equal(said(r, true), "0000000000007000-0000000000009000 0000000000002000 urw\n"
                                       "0000000000200000-0000000000400000 0000000000200000 ur-\n"
                                       "ffffff8000007000-ffffff8000009000 0000000000002000 -rw\n"
                                       "ffffff8000200000-ffffff8000400000 0000000000200000 -r-\n");
}

static void pae(void **state)
{
    struct rig *r = *state;
    r->c->cr4 = CR4_PAE;
    r->c->pdpte[3] = THIRD | PTE_P;
    put(r, THIRD, 511, 0x200000 | PTE_P | PTE_PS | PTE_W);
    assert_string_equal(said(r, true), "00000000ffe00000-0000000100000000 0000000000200000 -rw\n");
}

static void two_levels(void **state)
{
    struct rig *r = *state;
    store_le32(r->ram->host + TOP + 4 * 1023, 0x1400000 | 1 << 13 | PTE_P | PTE_PS | PTE_W);
    store_le32(r->ram->host + TOP, SECOND | PTE_P | PTE_U);
    store_le32(r->ram->host + SECOND + 4, 0x3000 | PTE_P | PTE_U | PTE_W);
    r->c->cr4 = CR4_PSE;
    assert_string_equal(said(r, false), "0000000000001000: 0000000000003000 -------UW\n"
                                        "00000000ffc00000: 0000000101400000 --P-----W\n");
    assert_string_equal(said(r, true), "0000000000001000-0000000000002000 0000000000001000 ur-\n"
                                       "00000000ffc00000-0000000100000000 0000000000400000 -rw\n");
    r->c->cr0 = 0;
    assert_false(x86_print_maps(&r->vcpu, true, &r->out));
}

/* 512 ways at every level back to the one table: 2^36 pages; and tables outside of memory. */
static void endless(void **state)
{
    struct rig *r = *state;
    r->c->efer = EFER_LMA;
    r->c->cr4 = CR4_PAE | CR4_LA57;
    for (unsigned i = 0; i < 512; i++) {
        put(r, TOP, i, TOP | PTE_P | PTE_W | (i & 1 ? PTE_U : 0));
    }
    assert_true(strlen(said(r, false)) < 65536 * 64);
    assert_non_null(strstr(said(r, false), "and more\n"));
    assert_true(strlen(said(r, true)) < 65536 * 64);
    r->c->cr3 = 0xffffff000;
    assert_string_equal(said(r, true), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(long_mode, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(pae, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(two_levels, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(endless, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
