/* The boards with firmware: what the chipset's registers do to memory and ports, and that a guest
 * which places things over each other harms itself only. */
#include "base/bits.h"
#include "base/unit_test.h"
#include "board/test_board.h"
#include "dev/misc/misc_devices.h"

enum {
    PC_PAM = 0x59,
    PC_SMRAM = 0x72,
    Q35_PAM = 0x90,
    Q35_SMRAM = 0x9d,
    Q35_ESMRAMC = 0x9e,
    Q35_PCIEXBAR = 0x60,
    PIIX4_PM = 0xb00,
    ICH9_LPC = 0xf800,
    FREE_SLOT = 0x2000, /* slot 4 */
};

struct rig {
    struct machine *m;
    unsigned pam, smram;
};

static int up(void **state, const struct board_type *board, const char *args)
{
    struct rig *r = calloc(1, sizeof(*r));
    bool q35 = board == &board_q35;
    r->m = test_board_new(board, args, 2);
    r->pam = q35 ? Q35_PAM : PC_PAM;
    r->smram = q35 ? Q35_SMRAM : PC_SMRAM;
    test_board_device(r->m, &edu_type, "addr=4,dma_mask=0xffffffffffffffff");
    test_board_reset(r->m);
    *state = r;
    return 0;
}

static int pc_up(void **state)
{
    return up(state, &board_pc, "smm=on");
}

static int q35_up(void **state)
{
    return up(state, &board_q35, "smm=on");
}

static int down(void **state)
{
    struct rig *r = *state;
    test_board_free(r->m);
    free(r);
    return 0;
}

static struct ram *main_ram(struct rig *r)
{
    struct mem_hit hit;
    assert_true(mem_lookup(r->m->mem, 0x1000, &hit));
    return hit.ram;
}

/* ---- PAM and SMRAM ---- */

static gpa_t segment_start(unsigned n)
{
    return n ? 0xc0000 + (n - 1) * 0x4000 : 0xf0000;
}

static void set_segment(struct rig *r, unsigned n, unsigned attr)
{
    unsigned reg = r->pam + (n ? 1 + (n - 1) / 2 : 0), shift = n && (n - 1) % 2 == 0 ? 0 : 4;
    uint8_t old = (uint8_t)test_board_config(r->m, 0, reg, 1);
    test_board_config_set(r->m, 0, reg, 1, (old & ~(3u << shift)) | attr << shift);
}

/* What is there without RAM: the end of the firmware from e0000h, nothing below. */
static unsigned bus_byte(gpa_t at)
{
    return at >= 0xe0000 ? (unsigned)(at - 0xe0000) / 4096 + 1 : 0xff;
}

static void pam_sends_reads_and_writes_where_it_says(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    const uint8_t *ram = main_ram(r)->host;
    for (unsigned n = 0; n < 13; n++) {
        gpa_t at = segment_start(n) + 0x2010;
        unsigned bus = bus_byte(at);
        test_board_write(m, at, 1, 0x11);
        assert_int_equal(test_board_read(m, at, 1), bus);
        assert_int_not_equal(ram[at], 0x11);
        set_segment(r, n, 2); /* writes only */
        test_board_write(m, at, 1, 0x22);
        assert_int_equal(test_board_read(m, at, 1), bus);
        assert_int_equal(ram[at], 0x22);
        set_segment(r, n, 1); /* reads only */
        test_board_write(m, at, 1, 0x33);
        assert_int_equal(test_board_read(m, at, 1), 0x22);
        set_segment(r, n, 3);
        test_board_write(m, at, 1, 0x44);
        assert_int_equal(test_board_read(m, at, 1), 0x44);
        assert_int_equal(ram[at], 0x44);
        set_segment(r, n, 0);
        assert_int_equal(test_board_read(m, at, 1), bus);
    }
    set_segment(r, 3, 3);
    assert_int_equal(test_board_read(m, segment_start(3) + 0x2010, 1), 0x44);
    test_board_reset(m);
    assert_int_equal(test_board_read(m, segment_start(3) + 0x2010, 1), 0xff);
}

/* Each access at each end of each segment, of every size: none leaves the RAM or the firmware. */
static void pam_over_the_edges(void **state)
{
    struct rig *r = *state;
    for (unsigned attr = 0; attr < 4; attr++) {
        for (unsigned n = 0; n < 13; n++) {
            set_segment(r, n, n & 1 ? attr : 2);
        }
        for (gpa_t at = 0x9fff0; at < 0x100010; at += at % 0x1000 == 0x008 ? 0xfe8 : 1) {
            for (unsigned size = 1; size <= 8; size *= 2) {
                test_board_read(r->m, at, size);
                test_board_write(r->m, at, size, 0);
            }
        }
    }
}

struct told {
    ram_off_t off;
    uint64_t len;
    unsigned times;
};

static void tell(void *opaque, ram_off_t off, uint64_t len)
{
    struct told *t = opaque;
    *t = (struct told){off, len, t->times + 1};
}

/* A guest may run what lies in RAM, then write there while it reads from the bus. */
static void pam_write_makes_its_translations_go(void **state)
{
    struct rig *r = *state;
    struct ram *ram = main_ram(r);
    _Atomic uint8_t *pages = calloc(TEST_BOARD_RAM >> 12, 1);
    struct told told = {0};
    ram->code_stride = 1;
    ram->code_written = tell;
    ram->code_opaque = &told;
    ram->code_pages = pages;
    pages[0xc9] = 1;
    set_segment(r, 3, 2);
    test_board_write(r->m, 0xc8ff8, 8, 0);
    assert_int_equal(told.times, 0);
    test_board_write(r->m, 0xc9124, 4, 0);
    assert_int_equal(told.times, 1);
    assert_int_equal(told.off, ram->base + 0xc9124);
    assert_int_equal(told.len, 4);
    test_board_write(r->m, 0xc8fff, 2, 0); /* its second byte */
    assert_int_equal(told.times, 2);
    assert_int_equal(told.off, ram->base + 0xc9000);
    ram->code_pages = NULL;
    free((void *)pages);
}

static void smram_opens_and_locks(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    const uint8_t *ram = main_ram(r)->host;
    assert_int_equal(m->smram[0].end, 0);
    test_board_config_set(m, 0, r->smram, 1, 0x48); /* G_SMRAME, D_OPEN */
    assert_int_equal(m->smram[0].start, 0xa0000);
    assert_int_equal(m->smram[0].end, 0xc0000);
    test_board_write(m, 0xa0010, 4, 0x12345678);
    assert_int_equal(ram[0xa0010], 0x78);
    test_board_config_set(m, 0, r->smram, 1, 0x68); /* and D_CLS: for nobody's data */
    assert_int_equal(test_board_read(m, 0xa0010, 4), 0xffffffff);
    test_board_config_set(m, 0, r->smram, 1, 0x58); /* D_LCK: D_OPEN falls */
    assert_int_equal(test_board_config(m, 0, r->smram, 1), 0x1a);
    assert_int_equal(test_board_read(m, 0xa0010, 4), 0xffffffff);
    test_board_config_set(m, 0, r->smram, 1, 0x40);
    test_board_config_set(m, 0, r->smram & ~3u, 4, 0);
    assert_int_equal(test_board_config(m, 0, r->smram, 1), 0x1a);
    assert_int_equal(m->smram[0].end, 0xc0000);
    assert_int_equal(test_board_read(m, 0xa0010, 4), 0xffffffff);
    uint8_t bytes[16];
    assert_false(gmem_read(m->mem, 0xa0010, bytes, sizeof(bytes))); /* nor by DMA */
    test_board_reset(m);
    assert_int_equal(test_board_config(m, 0, r->smram, 1), 2);
    assert_int_equal(m->smram[0].end, 0);
}

static void tseg_hides_and_locks(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    gpa_t at = TEST_BOARD_RAM - (1 << 20);
    uint8_t bytes[16];
    test_board_write(m, at, 4, 0x12345678);
    test_board_config_set(m, 0, Q35_SMRAM, 1, 8);
    test_board_config_set(m, 0, Q35_ESMRAMC, 1, 1); /* 1 MiB */
    assert_int_equal(m->smram[1].start, at);
    assert_int_equal(m->smram[1].end, TEST_BOARD_RAM);
    assert_int_equal(test_board_read(m, at, 4), 0xffffffff);
    assert_int_equal(test_board_read(m, at - 4, 4), 0);
    assert_false(gmem_read(m->mem, at, bytes, sizeof(bytes)));
    assert_false(gmem_write(m->mem, at - 8, bytes, sizeof(bytes)));
    test_board_config_set(m, 0, Q35_ESMRAMC, 1, 5); /* 8 MiB: all there is, so none */
    assert_int_equal(m->smram[1].end, 0);
    test_board_config_set(m, 0, Q35_ESMRAMC, 1, 7); /* reserved */
    assert_int_equal(m->smram[1].end, 0);
    test_board_config_set(m, 0, Q35_ESMRAMC, 1, 3);
    test_board_config_set(m, 0, Q35_SMRAM, 1, 0x18); /* lock */
    test_board_config_set(m, 0, Q35_ESMRAMC, 1, 0);
    assert_int_equal(m->smram[1].start, TEST_BOARD_RAM - (2 << 20));
    test_board_reset(m);
    assert_int_equal(m->smram[1].end, 0);
    assert_int_equal(test_board_read(m, at, 4), 0x12345678);
}

/* ---- Things placed over each other ---- */

/* RAM, the APICs and the board's chips win over a BAR wherever it is put. */
static void bar_over_what_the_board_has(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    static const uint32_t taken[] = {0x100000, 0xfee00000, 0xfec00000, 0xfed00000, 0xfffe0000};
    test_board_write(m, 0x100000, 4, 0x5555);
    uint64_t before[ARRAY_LEN(taken)];
    irq_ctrl_enter(m->ic[0]);
    for (unsigned i = 0; i < ARRAY_LEN(taken); i++) {
        before[i] = test_board_read(m, taken[i] + 0x20, 4);
    }
    for (unsigned i = 0; i < ARRAY_LEN(taken); i++) {
        test_board_config_set(m, FREE_SLOT, PCI_BASE_ADDRESS_0, 4, taken[i] & 0xfff00000);
        test_board_config_set(m, FREE_SLOT, PCI_COMMAND, 2, 7);
        assert_int_equal(test_board_read(m, taken[i] + 0x20, 4), before[i]);
    }
    assert_int_equal(test_board_read(m, 0x100000, 4), 0x5555);
    test_board_config_set(m, FREE_SLOT, PCI_BASE_ADDRESS_0, 4, 0xe0000000);
    assert_int_equal(test_board_read(m, 0xe0000000, 4), 0x010000ed);
}

/* DMA of a device whose BAR was put over RAM goes to RAM. */
static void bar_over_its_own_dma_buffer(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    test_board_config_set(m, FREE_SLOT, PCI_BASE_ADDRESS_0, 4, 0xe0000000);
    test_board_config_set(m, FREE_SLOT, PCI_COMMAND, 2, 7);
    test_board_write(m, 0xe0000080, 8, 0x40000);
    test_board_write(m, 0xe0000088, 8, 0x100098); /* its command register, if that lay there */
    test_board_write(m, 0xe0000090, 8, 8);
    test_board_write(m, 0x100098, 8, 0x7777);
    test_board_config_set(m, FREE_SLOT, PCI_BASE_ADDRESS_0, 4, 0x100000);
    test_board_config_set(m, FREE_SLOT, PCI_BASE_ADDRESS_0, 4, 0xe0000000);
    test_board_write(m, 0xe0000098, 8, 3);
    assert_int_equal(test_board_read(m, 0x100098, 8), 0);
}

/* A message address is no way to memory or to a device. */
static void message_to_memory_is_none(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    static const uint64_t to[] = {0x100000,   0xe0000098, 0xfec00010,
                                  0xfed00000, 0xfffe0000, 0xffffffff00000000ull,
                                  0xfedffffc, 0xfef00000};
    test_board_config_set(m, FREE_SLOT, PCI_BASE_ADDRESS_0, 4, 0xe0000000);
    test_board_config_set(m, FREE_SLOT, PCI_COMMAND, 2, 7);
    unsigned cap = test_board_config(m, FREE_SLOT, PCI_CAPABILITY_LIST, 1);
    test_board_config_set(m, FREE_SLOT, cap + 2, 2, 1);
    test_board_config_set(m, FREE_SLOT, cap + 12, 2, 0x41);
    for (unsigned i = 0; i < ARRAY_LEN(to); i++) {
        test_board_config_set(m, FREE_SLOT, cap + 4, 4, (uint32_t)to[i]);
        test_board_config_set(m, FREE_SLOT, cap + 8, 4, (uint32_t)(to[i] >> 32));
        test_board_write(m, 0xe0000060, 4, 1);
        test_board_write(m, 0xe0000064, 4, 1);
    }
    assert_int_equal(test_board_read(m, 0x100000, 4), 0);
    assert_int_equal(m->vcpu[0]->events & VCPU_EV_INTR, 0);
}

static void pm_block_over_other_ports(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    test_board_config_set(m, PIIX4_PM, 0x80, 1, 1);
    for (uint32_t base = 0; base < 0x10000; base += 0x40) {
        test_board_config_set(m, PIIX4_PM, 0x40, 4, base);
        test_board_out(m, base + 4, 2, 0x0000);
        test_board_in(m, base + 8, 4);
        if (base == 0xcc0) { /* over CF8h: no way back but a reset */
            assert_int_not_equal(test_board_config(m, 0, 0, 4), 0x12378086);
            test_board_reset(m);
            test_board_config_set(m, PIIX4_PM, 0x80, 1, 1);
        }
        assert_int_equal(test_board_config(m, 0, 0, 4), 0x12378086);
    }
    test_board_config_set(m, PIIX4_PM, 0x40, 4, 0x600);
    test_board_out(m, 0x604, 2, 0x2000);
    assert_int_equal(m->request, MACHINE_REQ_POWEROFF);
}

static void lpc_ports_anywhere(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    test_board_config_set(m, ICH9_LPC, 0x44, 1, 0x80);
    for (uint32_t base = 0; base < 0x10000; base += 0x80) {
        test_board_config_set(m, ICH9_LPC, 0x40, 4, base);
        for (unsigned off = 0; off < 0x80; off += 2) {
            test_board_in(m, base + off, 2);
        }
        if (base == 0xc80) {
            test_board_reset(m);
            test_board_config_set(m, ICH9_LPC, 0x44, 1, 0x80);
        }
    }
    assert_int_equal(test_board_config(m, 0, 0, 4), 0x29c08086);
    for (unsigned i = 0; i < 256; i++) { /* the root complex, over all there is */
        test_board_config_set(m, ICH9_LPC, 0xf0, 4, i << 24 | 1);
        test_board_read(m, ((gpa_t)i << 24) + 0x3410, 4);
    }
}

/* Configuration space in memory, over RAM and over itself; it moves while it is written. */
static void ecam_anywhere(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    for (uint64_t base = 0; base < 0x1000000000ull; base += 0x10000000) {
        test_board_config_set(m, 0, Q35_PCIEXBAR + 4, 4, (uint32_t)(base >> 32));
        test_board_config_set(m, 0, Q35_PCIEXBAR, 4, (uint32_t)base | 1);
        uint64_t there = test_board_read(m, base, 4);
        assert_true(!base || there == 0x29c08086);
        test_board_read(m, base + 0xffffffc, 8);
    }
    test_board_config_set(m, 0, Q35_PCIEXBAR + 4, 4, 0);
    test_board_config_set(m, 0, Q35_PCIEXBAR, 4, 0xc0000001);
    test_board_write(m, 0xc0000060, 8, 0xd0000001);
    assert_int_equal(test_board_read(m, 0xd0000000, 4), 0x29c08086);
    assert_int_equal(test_board_read(m, 0xc0000000, 4), 0xffffffff);
    test_board_write(m, 0xd0000060, 4, 0);
    assert_int_equal(test_board_read(m, 0xd0000000, 4), 0xffffffff);
}

/* ---- Reset and SMI ports ---- */

static void ports_that_reset(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    static const struct {
        uint16_t port;
        uint8_t val;
        bool resets;
    } cases[] = {{0x64, 0xfe, true}, {0x64, 0xfd, false}, {0x92, 1, true},    {0x92, 2, false},
                 {0xcf9, 6, true},   {0xcf9, 2, false},   {0xcf9, 4, true},   {0x64, 0xf0, true},
                 {0xcf8, 6, false},  {0xcfa, 6, false},   {0x64, 0xff, false}};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        m->request = MACHINE_REQ_NONE;
        test_board_out(m, cases[i].port, 1, cases[i].val);
        assert_int_equal(m->request, cases[i].resets ? MACHINE_REQ_RESET : MACHINE_REQ_NONE);
    }
    test_board_out(m, 0x64, 1, 0xd1); /* the keyboard controller's output port */
    m->request = MACHINE_REQ_NONE;
    test_board_out(m, 0x60, 1, 2);
    assert_int_equal(m->request, MACHINE_REQ_RESET);
    test_board_reset(m);
    test_board_out(m, 0x92, 1, 0);
    assert_true(m->a20_off);
    assert_int_equal(test_board_in(m, 0x92, 1), 0);
    test_board_out(m, 0x64, 1, 0xdf);
    assert_false(m->a20_off);
    assert_int_equal(test_board_in(m, 0x92, 1), 2);
    test_board_out(m, 0x92, 1, 0);
    test_board_reset(m);
    assert_false(m->a20_off);
}

static void smi_by_the_apm_port(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->m;
    irq_ctrl_enter(m->ic[1]);
    test_board_out(m, 0xb2, 1, 0x55);
    assert_int_equal(m->vcpu[1]->events & VCPU_EV_SMI, 0);
    if (r->pam == PC_PAM) {
        test_board_config_set(m, PIIX4_PM, 0x58, 4, 1 << 25);
    } else {
        test_board_config_set(m, ICH9_LPC, 0x40, 4, 0x600);
        test_board_config_set(m, ICH9_LPC, 0x44, 1, 0x80);
        test_board_out(m, 0x630, 4, 0x21);
        test_board_config_set(m, ICH9_LPC, 0xa0, 1, 0x10); /* SMI_LOCK */
        test_board_out(m, 0x630, 4, 0x20);
    }
    test_board_out(m, 0xb2, 1, 0x56);
    assert_int_equal(test_board_in(m, 0xb2, 1), 0x56);
    assert_true(m->vcpu[1]->events & VCPU_EV_SMI);
    assert_int_equal(m->vcpu[0]->events & VCPU_EV_SMI, 0);
    irq_ctrl_enter(NULL); /* no vcpu's thread: for nobody */
    test_board_out(m, 0xb2, 1, 0x57);
}

#define PC(f) cmocka_unit_test_setup_teardown(f, pc_up, down)
#define Q35(f)                                                                                     \
    {                                                                                              \
#f " on q35", f, q35_up, down, NULL                                                        \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        PC(pam_sends_reads_and_writes_where_it_says),
        Q35(pam_sends_reads_and_writes_where_it_says),
        PC(pam_over_the_edges),
        Q35(pam_over_the_edges),
        PC(pam_write_makes_its_translations_go),
        Q35(pam_write_makes_its_translations_go),
        PC(smram_opens_and_locks),
        Q35(smram_opens_and_locks),
        Q35(tseg_hides_and_locks),
        PC(bar_over_what_the_board_has),
        Q35(bar_over_what_the_board_has),
        PC(bar_over_its_own_dma_buffer),
        PC(message_to_memory_is_none),
        Q35(message_to_memory_is_none),
        PC(pm_block_over_other_ports),
        Q35(lpc_ports_anywhere),
        Q35(ecam_anywhere),
        PC(ports_that_reset),
        Q35(ports_that_reset),
        PC(smi_by_the_apm_port),
        Q35(smi_by_the_apm_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
