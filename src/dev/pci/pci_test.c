/* PCI as the guest sees it: configuration space, BARs, bridges, messages. The functions are edu
 * (MSI), a device of the test's own with MSI-X, and bridges. */
#include "base/bits.h"
#include "base/endian.h"
#include "base/unit_test.h"
#include "dev/misc/misc_devices.h"
#include "dev/misc/test_pc.h"
#include "dev/pci/pci_bridge.h"

enum { VECTORS = 65, PBA = 0x800, MSIX_BAR = TEST_PC_BAR };

/* ---- A device with MSI-X, and with each kind of BAR ---- */

struct toy {
    struct dev dev;
    struct pci_func pci;
    unsigned written;
};

static const struct prop toy_props[] = {PCI_PROPS(struct toy, pci), {0}};

static enum mem_result toy_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    *val = 0x1234;
    return MEM_OK;
}

static enum mem_result toy_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    ((struct toy *)opaque)->written++;
    return MEM_OK;
}

static const struct mmio toy_regs = {toy_read, toy_write, 1, 4};

static int toy_init(struct dev *dev, struct err *err)
{
    static const struct pci_ids ids = {
        .vendor = 0x1234, .device = 1, .class_code = 0xff0000, .interrupt_pin = 1};
    static const uint8_t rom[100] = {0x55, 0xaa};
    struct toy *t = container_of(dev, struct toy, dev);
    int ret = pci_func_init(&t->pci, dev, &ids, err);
    if (ret) {
        return ret;
    }
    pci_bar_add(&t->pci, 0, PCI_BAR_MEM32, 4096);
    pci_msix_add(&t->pci, VECTORS, 0, 0, PBA);
    pci_bar_add_mmio(&t->pci, 1, PCI_BAR_IO, 16, &toy_regs, t);
    pci_bar_add_mmio(&t->pci, 2, PCI_BAR_MEM64 | PCI_BAR_PREFETCH, 1 << 20, &toy_regs, t);
    return pci_rom_add(&t->pci, rom, sizeof(rom), err);
}

static void toy_reset(struct dev *dev, enum dev_reset how)
{
    pci_func_reset(&container_of(dev, struct toy, dev)->pci);
}

static void toy_fini(struct dev *dev)
{
    pci_func_fini(&container_of(dev, struct toy, dev)->pci);
}

static const struct dev_type toy_type = {.name = "toy",
                                         .bus = "PCI",
                                         .size = sizeof(struct toy),
                                         .props = toy_props,
                                         .init = toy_init,
                                         .reset = toy_reset,
                                         .fini = toy_fini};

static int rig_up(void **state)
{
    *state = test_pc_new();
    return 0;
}

static int rig_down(void **state)
{
    test_pc_free(*state);
    return 0;
}

static struct pci_func *add_toy(struct test_pc *t)
{
    struct err err;
    struct dev *d = test_pc_add(t, &toy_type, "", &err);
    assert_non_null(d);
    return &container_of(d, struct toy, dev)->pci;
}

/* Any function: `where` is bus << 16 | devfn << 8. */
static uint32_t get(struct test_pc *t, uint32_t where, unsigned off, unsigned size)
{
    uint64_t v = 0;
    mem_write(t->m->io, 0xcf8, 4, 0x80000000u | where | (off & 0xfc));
    mem_read(t->m->io, 0xcfc + (off & 3), size, &v);
    return (uint32_t)v;
}

static void put(struct test_pc *t, uint32_t where, unsigned off, unsigned size, uint32_t v)
{
    mem_write(t->m->io, 0xcf8, 4, 0x80000000u | where | (off & 0xfc));
    mem_write(t->m->io, 0xcfc + (off & 3), size, v);
}

/* ---- Configuration space ---- */

static void ports_answer_as_they_should(void **state)
{
    struct test_pc *t = *state;
    uint64_t v;
    add_toy(t);
    mem_write(t->m->io, 0xcf8, 4, 0xffffffff);
    mem_read(t->m->io, 0xcf8, 4, &v);
    assert_int_equal(v, 0x80fffffc);
    mem_write(t->m->io, 0xcf8, 2, 0x1111); /* only whole */
    mem_write(t->m->io, 0xcfa, 2, 0x1111);
    mem_read(t->m->io, 0xcf8, 4, &v);
    assert_int_equal(v, 0x80fffffc);
    mem_read(t->m->io, 0xcf8, 1, &v);
    assert_int_equal(v, 0xff);
    mem_write(t->m->io, 0xcf8, 4, 0); /* not enabled */
    mem_read(t->m->io, 0xcfc, 4, &v);
    assert_int_equal(v, 0xffffffff);
    assert_int_equal(get(t, 0, 0, 4), 0x00011234);
    assert_int_equal(get(t, 0, 2, 2), 1);
    assert_int_equal(get(t, 0, 1, 1), 0x12);
    assert_int_equal(get(t, 0x100, 0, 4), 0xffffffff);   /* no function 1 */
    assert_int_equal(get(t, 0x10000, 0, 4), 0xffffffff); /* no bus 1 */
    mem_write(t->m->io, 0xcf8, 4, 0x800000fc);
    mem_read(t->m->io, 0xcfe, 4, &v); /* two bytes are behind the port's end */
    mem_write(t->m->io, 0xcfe, 4, 0xffffffff);
    mem_read(t->m->io, 0xcff, 8, &v);
}

static void read_only_is_read_only(void **state)
{
    struct test_pc *t = *state;
    uint8_t before[256];
    add_toy(t);
    for (unsigned i = 0; i < 256; i++) {
        before[i] = (uint8_t)get(t, 0, i, 1);
    }
    for (unsigned i = 0; i < 256; i += 4) {
        put(t, 0, i, 4, 0xffffffff);
    }
    static const uint8_t fixed[] = {0, 1, 2, 3, 6, 8, 9, 10, 11, 14, 0x2c, 0x2e, 0x34, 0x3d};
    for (unsigned i = 0; i < sizeof(fixed); i++) {
        assert_int_equal(get(t, 0, fixed[i], 1), before[fixed[i]]);
    }
    assert_int_equal(get(t, 0, PCI_COMMAND, 2), 0x547);
    assert_int_equal(get(t, 0, PCI_INTERRUPT_LINE, 1), 0xff);
    dev_reset_all(t->m, DEV_RESET_POWER);
    for (unsigned i = 0; i < 256; i++) {
        assert_int_equal(get(t, 0, i, 1), before[i]);
    }
}

static void capabilities_are_a_list_that_ends(void **state)
{
    struct test_pc *t = *state;
    struct err err;
    add_toy(t);
    assert_non_null(test_pc_add(t, &edu_type, "", &err));
    assert_non_null(test_pc_add(t, &pci_bridge_type, "", &err));
    for (uint32_t slot = 0; slot < 3; slot++) {
        assert_true(get(t, slot << 11, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
        unsigned steps = 0;
        for (unsigned at = get(t, slot << 11, PCI_CAPABILITY_LIST, 1); at; steps++) {
            assert_true(at >= 0x40 && at < 0x100 && !(at & 3) && steps < 48);
            at = get(t, slot << 11, at + 1, 1);
        }
        assert_true(steps > 0);
    }
}

/* ---- BARs ---- */

static void bars_tell_their_size(void **state)
{
    struct test_pc *t = *state;
    static const struct {
        uint8_t off;
        uint32_t size, first;
    } bars[] = {{0x10, 0xfffff000, 0}, {0x14, 0xfffffff1, 1}, {0x18, 0xfff0000c, 12},
                {0x1c, 0xffffffff, 0}, {0x20, 0, 0},          {0x30, 0xfffff001, 0}};
    add_toy(t);
    for (unsigned i = 0; i < ARRAY_LEN(bars); i++) {
        assert_int_equal(get(t, 0, bars[i].off, 4), bars[i].first);
        put(t, 0, bars[i].off, 4, 0xffffffff);
        assert_int_equal(get(t, 0, bars[i].off, 4), bars[i].size);
        put(t, 0, bars[i].off + 1, 1, 0); /* byte by byte, too */
        assert_int_equal(get(t, 0, bars[i].off, 4), bars[i].size & 0xffff00ff);
    }
}

static bool toy_at(struct test_pc *t, struct mem_map *map, uint64_t at)
{
    uint64_t v = 0;
    return mem_read(map, at, 2, &v) == MEM_OK && v == 0x1234;
}

static void bars_decode_where_they_are_put(void **state)
{
    struct test_pc *t = *state;
    add_toy(t);
    put(t, 0, 0x14, 4, 0xc000);
    put(t, 0, 0x18, 4, 0x80000000);
    assert_false(toy_at(t, t->m->io, 0xc000));
    put(t, 0, PCI_COMMAND, 2, PCI_COMMAND_IO);
    assert_true(toy_at(t, t->m->io, 0xc00e));
    assert_false(toy_at(t, t->m->io, 0xc010));
    assert_false(toy_at(t, t->m->mem, 0x80000000));
    put(t, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_false(toy_at(t, t->m->io, 0xc000));
    assert_true(toy_at(t, t->m->mem, 0x800ffffe));
    put(t, 0, 0x1c, 4, 0x1);
    assert_false(toy_at(t, t->m->mem, 0x80000000));
    assert_true(toy_at(t, t->m->mem, 0x180000000));
    put(t, 0, PCI_ROM_ADDRESS, 4, 0x90000000);
    assert_int_equal(test_pc_read(t, 0x90000000, 2), 0xffff);
    put(t, 0, PCI_ROM_ADDRESS, 4, 0x90000001);
    assert_int_equal(test_pc_read(t, 0x90000000, 2), 0xaa55);
    assert_int_equal(mem_write(t->m->mem, 0x90000000, 2, 0), MEM_READONLY);
}

/* An address at which it would not fit decodes nothing: 0, the end of the space, all ones. */
static void bars_that_would_not_fit(void **state)
{
    struct test_pc *t = *state;
    static const uint64_t nowhere[] = {0, 0x10000000000000, 0xfffffffffff00000, 0xffffffff00000000,
                                       0x8000000000000000};
    add_toy(t);
    put(t, 0, PCI_COMMAND, 2, 7);
    for (unsigned i = 0; i < ARRAY_LEN(nowhere); i++) {
        put(t, 0, 0x1c, 4, (uint32_t)(nowhere[i] >> 32));
        put(t, 0, 0x18, 4, (uint32_t)nowhere[i]);
        assert_false(toy_at(t, t->m->mem, nowhere[i]));
        assert_false(toy_at(t, t->m->mem, nowhere[i] & 0xffffffffffff));
    }
    put(t, 0, 0x1c, 4, 0x000fffff);
    put(t, 0, 0x18, 4, 0xfff00000);
    assert_true(toy_at(t, t->m->mem, 0xffffffff00000)); /* the last that fits */
    put(t, 0, 0x14, 4, 0xfff0);
    assert_true(toy_at(t, t->m->io, 0xfffe));
    put(t, 0, 0x14, 4, 0xfffffff0);
    assert_false(toy_at(t, t->m->io, 0xfffe));
    put(t, 0, 0x14, 4, 0);
    assert_false(toy_at(t, t->m->io, 0));
}

/* Over RAM, over each other, over the configuration ports: the last is the board's. */
static void bars_over_each_other(void **state)
{
    struct test_pc *t = *state;
    struct err err;
    add_toy(t);
    assert_non_null(test_pc_add(t, &edu_type, "", &err));
    for (uint32_t slot = 0; slot < 2; slot++) {
        put(t, slot << 11, 0x10, 4, 0x80000000);
        put(t, slot << 11, 0x14, 4, 0xcf1);
        put(t, slot << 11, 0x18, 4, 0x80000000);
        put(t, slot << 11, PCI_COMMAND, 2, 7);
    }
    assert_int_equal(get(t, 0, 0, 4), 0x00011234);
    for (uint64_t at = 0x7ffffff8; at < 0x80001008; at++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            uint64_t v;
            mem_read(t->m->mem, at, size, &v);
            mem_write(t->m->mem, at, size, ~0ull);
        }
    }
    put(t, 0, 0x18, 4, 0x100);
    put(t, 0, 0x18, 4, 0x1000);
    test_pc_write(t, 0x1000, 4, 0x77);
    assert_int_equal(test_pc_read(t, 0x1000, 4), 0x77);
}

/* ---- Messages ---- */

static unsigned cap_of(struct test_pc *t, uint32_t where, unsigned id)
{
    unsigned at = get(t, where, PCI_CAPABILITY_LIST, 1);
    while (at && get(t, where, at, 1) != id) {
        at = get(t, where, at + 1, 1);
    }
    assert_true(at);
    return at;
}

static void msi_is_sent_or_not(void **state)
{
    struct test_pc *t = *state;
    struct err err;
    struct dev *d = test_pc_add(t, &edu_type, "", &err);
    assert_non_null(d);
    test_pc_enable(t);
    unsigned at = cap_of(t, 0, PCI_CAP_MSI);
    put(t, 0, at + 4, 4, 0xfee00003);
    put(t, 0, at + 12, 2, 0x41);
    assert_int_equal(get(t, 0, at + 4, 4), 0xfee00000);
    put(t, 0, at + 2, 2, 0xffff); /* more vectors than there are: 128 of them */
    test_pc_write(t, TEST_PC_BAR + 0x60, 4, 1);
    assert_int_equal(t->messages, 1);
    assert_int_equal(t->message, 0);
    put(t, 0, PCI_COMMAND, 2, 3); /* no bus master: not even messages */
    test_pc_write(t, TEST_PC_BAR + 0x60, 4, 1);
    assert_int_equal(t->messages, 1);
    put(t, 0, PCI_COMMAND, 2, 7);
    dev_reset_all(t->m, DEV_RESET_POWER);
    assert_int_equal(get(t, 0, at + 4, 4), 0);
    assert_int_equal(get(t, 0, at + 2, 2) & 1, 0);
}

static void msix_masks_and_remembers(void **state)
{
    struct test_pc *t = *state;
    struct pci_func *f = add_toy(t);
    put(t, 0, 0x10, 4, MSIX_BAR);
    put(t, 0, PCI_COMMAND, 2, 7);
    unsigned at = cap_of(t, 0, PCI_CAP_MSIX);
    assert_int_equal(get(t, 0, at + 2, 2), VECTORS - 1);
    assert_int_equal(test_pc_read(t, MSIX_BAR + 16 * 64 + 12, 4), 1); /* masked at first */
    test_pc_write(t, MSIX_BAR + 16 * 64, 8, 0xfee00000);
    test_pc_write(t, MSIX_BAR + 16 * 64 + 8, 4, 0x64);
    put(t, 0, at + 2, 2, 0x8000);
    pci_msix_notify(f, 64);
    assert_int_equal(t->messages, 0);
    assert_int_equal(test_pc_read(t, MSIX_BAR + PBA + 8, 4), 1);
    put(t, 0, at + 2, 2, 0xc000);
    test_pc_write(t, MSIX_BAR + 16 * 64 + 12, 4, 0); /* the other mask holds it back */
    assert_int_equal(t->messages, 0);
    put(t, 0, at + 2, 2, 0x8000);
    assert_int_equal(t->messages, 1);
    assert_int_equal(t->message, 0x64);
    assert_int_equal(test_pc_read(t, MSIX_BAR + PBA + 8, 4), 0);
    pci_msix_notify(f, 64);
    assert_int_equal(t->messages, 2);
    pci_msix_notify(f, VECTORS); /* there is none */
    pci_msix_notify(f, UINT32_MAX);
    assert_int_equal(t->messages, 2);
    put(t, 0, at + 2, 2, 0);
    assert_false(pci_msix_on(f));
    pci_msix_notify(f, 64);
    assert_int_equal(t->messages, 2);
    dev_reset_all(t->m, DEV_RESET_POWER);
    put(t, 0, 0x10, 4, MSIX_BAR);
    put(t, 0, PCI_COMMAND, 2, 7);
    assert_int_equal(test_pc_read(t, MSIX_BAR + PBA + 8, 4), 0);
    assert_int_equal(test_pc_read(t, MSIX_BAR + 16 * 64 + 8, 4), 0);
}

/* Every size at every byte of the table, the pending bits and what is around them. Writes of less
 * than a double word, or across two, change nothing. */
static void msix_table_by_odd_accesses(void **state)
{
    struct test_pc *t = *state;
    add_toy(t);
    put(t, 0, 0x10, 4, MSIX_BAR);
    put(t, 0, PCI_COMMAND, 2, 7);
    test_pc_write(t, MSIX_BAR, 8, 0x1122334455667788);
    assert_int_equal(test_pc_read(t, MSIX_BAR + 3, 1), 0x55);
    assert_int_equal(test_pc_read(t, MSIX_BAR + 2, 4), 0x33445566);
    mem_write(t->m->mem, MSIX_BAR + 1, 1, 0xff);
    mem_write(t->m->mem, MSIX_BAR + 2, 2, 0xffff);
    assert_int_equal(mem_write(t->m->mem, MSIX_BAR + 2, 4, ~0u), MEM_REFUSED);
    uint64_t v;
    mem_read(t->m->mem, MSIX_BAR, 8, &v);
    assert_int_equal(v, 0x1122334455667788);
    for (gpa_t at = MSIX_BAR; at < MSIX_BAR + 0x1000; at++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            mem_read(t->m->mem, at, size, &v);
            mem_write(t->m->mem, at, size, ~0ull);
        }
    }
    assert_int_equal(test_pc_read(t, MSIX_BAR + PBA, 4), 0); /* read only */
    assert_int_equal(test_pc_read(t, MSIX_BAR + 16 * (VECTORS - 1) + 8, 4), 0xffffffff);
    assert_int_equal(mem_read(t->m->mem, MSIX_BAR + 16 * VECTORS, 4, &v), MEM_NONE);
}

static void line_follows_the_disable_bit(void **state)
{
    struct test_pc *t = *state;
    struct pci_func *f = add_toy(t);
    pci_irq_set(f, true);
    assert_true(t->level);
    assert_true(get(t, 0, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    put(t, 0, PCI_STATUS, 2, 0xffff); /* that bit is not cleared by a one */
    assert_true(get(t, 0, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    put(t, 0, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
    assert_false(t->level);
    assert_true(get(t, 0, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    put(t, 0, PCI_COMMAND, 2, 0);
    assert_true(t->level);
    dev_reset_all(t->m, DEV_RESET_POWER);
    assert_false(t->level);
    assert_false(get(t, 0, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
}

/* ---- Bridges ---- */

enum { OUTER = 0 << 11, NUMBERS = 0x18 };

/* A bridge in slot 0, one in slot 1 behind it, and the toy in slot 2 behind that. */
static struct pci_func *add_bridges(struct test_pc *t)
{
    struct err err;
    assert_non_null(test_pc_add(t, &pci_bridge_type, "id=outer", &err));
    assert_non_null(test_pc_add(t, &pci_bridge_type, "id=inner,bus=outer,addr=1", &err));
    struct dev *d = test_pc_add(t, &toy_type, "bus=inner,addr=2", &err);
    assert_non_null(d);
    return &container_of(d, struct toy, dev)->pci;
}

static void bus_numbers_lead_there(void **state)
{
    struct test_pc *t = *state;
    add_bridges(t);
    assert_int_equal(get(t, 0x10800, 0, 4), 0xffffffff);
    put(t, OUTER, NUMBERS, 4, 0x00ff0100);
    put(t, 0x10800, NUMBERS, 4, 0x00020201);
    assert_int_equal(get(t, 0x10800, 0, 4), 0x00011b36);
    assert_int_equal(get(t, 0x21000, 0, 4), 0x00011234);
    put(t, 0x21000, 0x18, 4, 0x80000000);
    put(t, 0x21000, PCI_COMMAND, 2, 7);
    assert_false(toy_at(t, t->m->mem, 0x80000000));
    put(t, 0x10800, PCI_COMMAND, 2, 7);
    assert_false(toy_at(t, t->m->mem, 0x80000000));
    put(t, OUTER, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_true(toy_at(t, t->m->mem, 0x80000000));
    put(t, OUTER, PCI_COMMAND, 2, 0);
    assert_false(toy_at(t, t->m->mem, 0x80000000));
    dev_reset_all(t->m, DEV_RESET_POWER);
    assert_int_equal(get(t, 0x21000, 0, 4), 0xffffffff);
}

/* The same number twice, the bridge's own bus, nothing between, windows that end before they
 * begin: a bus is found or none is. */
static void hostile_bus_numbers_and_windows(void **state)
{
    struct test_pc *t = *state;
    static const uint32_t numbers[] = {0x00010101, 0x00000000, 0x00ffffff, 0x00000100,
                                       0x00010001, 0xffffffff, 0x00fe0201, 0x00010200};
    struct pci_func *f = add_bridges(t);
    for (unsigned i = 0; i < ARRAY_LEN(numbers); i++) {
        put(t, OUTER, NUMBERS, 4, numbers[i]);
        for (uint32_t bus = 0; bus < 256; bus++) {
            put(t, bus << 16 | 0x800, NUMBERS, 4, numbers[ARRAY_LEN(numbers) - 1 - i]);
            get(t, bus << 16 | 0x1000, 0, 4);
        }
        for (unsigned off = 0x1c; off < 0x34; off += 4) {
            put(t, OUTER, off, 4, off & 4 ? 0xffffffff : 0x0000fff0);
            put(t, OUTER, off, 4, 0x0000fff0);
        }
        put(t, OUTER, PCI_COMMAND, 2, i & 1 ? 7 : 0);
    }
    put(t, OUTER, NUMBERS, 4, 0x00ff0100);
    put(t, 0x10800, NUMBERS, 4, 0x00010101); /* both lead to bus 1: the outer one does */
    assert_int_equal(get(t, 0x11000, 0, 4), 0xffffffff);
    assert_int_equal(get(t, 0x10800, 0, 4), 0x00011b36);
    pci_irq_set(f, true); /* lines are wired, whatever the numbers say */
    assert_true(t->level);
    pci_irq_set(f, false);
    assert_int_equal(get(t, OUTER, PCI_HEADER_TYPE, 1), 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ports_answer_as_they_should),
        T(read_only_is_read_only),
        T(capabilities_are_a_list_that_ends),
        T(bars_tell_their_size),
        T(bars_decode_where_they_are_put),
        T(bars_that_would_not_fit),
        T(bars_over_each_other),
        T(msi_is_sent_or_not),
        T(msix_masks_and_remembers),
        T(msix_table_by_odd_accesses),
        T(line_follows_the_disable_bit),
        T(bus_numbers_lead_there),
        T(hostile_bus_numbers_and_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
