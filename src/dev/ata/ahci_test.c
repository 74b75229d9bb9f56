/* AHCI with a disk at port 0 and a CD drive at port 1, driven as a driver would. */
#include "dev/ata/ahci.h"

#include "base/unit_test.h"
#include "dev/ata/test_rig.h"

enum {
    CLB = 0x10000,
    FB = 0x11000,
    TABLES = 0x20000, /* 1 KiB each */
    DATA = 0x100000,
    CI = 0x38,
    SACT = 0x34,
    TFD = 0x20,
    IS = 0x10,
    CMD = 0x18,
};

struct rig {
    struct rig_base base;
    struct ata_drive hd, cd;
    struct ahci h;
    bool line;
    unsigned events;
};

static void see_irq(void *opaque, bool level)
{
    struct rig *r = opaque;
    r->line = level;
    r->events += level;
}

static struct mem_map *dma(void *opaque)
{
    return rig_dma(&((struct rig *)opaque)->base);
}

static const struct ahci_wires wires = {see_irq, dma};

static void w(struct rig *r, unsigned off, uint32_t v)
{
    ahci_abar.write(&r->h, off, 4, v);
}

static uint32_t rd(struct rig *r, unsigned off)
{
    uint64_t v;
    ahci_abar.read(&r->h, off, 4, &v);
    return (uint32_t)v;
}

static void pw(struct rig *r, unsigned port, unsigned off, uint32_t v)
{
    w(r, 0x100 + 0x80 * port + off, v);
}

static uint32_t pr(struct rig *r, unsigned port, unsigned off)
{
    return rd(r, 0x100 + 0x80 * port + off);
}

static void settle(struct rig *r)
{
    rig_settle(&r->base, &r->hd.disk);
    rig_settle(&r->base, &r->cd.disk);
}

static void start(struct rig *r, unsigned port)
{
    pw(r, port, 0, CLB + 0x400 * port);
    pw(r, port, 8, FB + 0x100 * port);
    pw(r, port, CMD, 0x16);
    pw(r, port, 0x30, UINT32_MAX);
    pw(r, port, IS, UINT32_MAX);
    pw(r, port, 0x14, 0x7dc0007f);
    pw(r, port, CMD, 0x17);
    w(r, 8, UINT32_MAX);
    w(r, 4, 0x80000002);
}

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct ata_ident hd = {.serial = "QM00001", .wwn = 0x5000c50015ea71aaull}, cd = {0};
    rig_base_up(&r->base);
    disk_init(&r->hd.disk, NULL, r->base.disk.block);
    disk_init(&r->cd.disk, NULL, r->base.cd.block);
    ata_drive_init(&r->hd, false, &hd);
    ata_drive_init(&r->cd, true, &cd);
    ahci_init(&r->h, &wires, r);
    ahci_attach(&r->h, 0, &r->hd);
    ahci_attach(&r->h, 1, &r->cd);
    start(r, 0);
    start(r, 1);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    settle(r);
    ahci_fini(&r->h);
    disk_fini(&r->hd.disk);
    disk_fini(&r->cd.disk);
    rig_base_down(&r->base);
    free(r);
    return 0;
}

struct cmd {
    unsigned slot, code, feature, count;
    uint64_t lba;
    uint32_t addr[3], len[3];
    const uint8_t *cdb;
};

/* Builds it in its slot of the port's list. */
static void build(struct rig *r, unsigned port, const struct cmd *c)
{
    gpa_t table = TABLES + 1024 * (port * 32 + c->slot), head = CLB + 0x400 * port + 32 * c->slot;
    uint8_t fis[20] = {0x27, 0x80, (uint8_t)c->code, (uint8_t)c->feature};
    unsigned n = 0;
    store_le32(fis + 4, (uint32_t)(c->lba & 0xffffff) | 0x40000000);
    store_le32(fis + 8, (uint32_t)(c->lba >> 24 & 0xffffff) | c->feature >> 8 << 24);
    store_le16(fis + 12, (uint16_t)c->count);
    gmem_write(r->base.mem, table, fis, sizeof(fis));
    if (c->cdb) {
        gmem_write(r->base.mem, table + 0x40, c->cdb, 12);
    }
    for (; n < 3 && c->len[n]; n++) {
        rig_poke32(&r->base, table + 0x80 + 16 * n, c->addr[n]);
        rig_poke32(&r->base, table + 0x84 + 16 * n, 0);
        rig_poke32(&r->base, table + 0x8c + 16 * n, c->len[n] - 1);
    }
    rig_poke32(&r->base, head, 5 | n << 16 | (c->cdb ? 0x20 : 0));
    rig_poke32(&r->base, head + 4, 0);
    rig_poke32(&r->base, head + 8, (uint32_t)table);
    rig_poke32(&r->base, head + 12, 0);
}

static void issue(struct rig *r, unsigned port, const struct cmd *c)
{
    build(r, port, c);
    pw(r, port, CI, 1u << c->slot);
    settle(r);
}

static uint32_t prdbc(struct rig *r, unsigned port, unsigned slot)
{
    return rig_peek32(&r->base, CLB + 0x400 * port + 32 * slot + 4);
}

static void ports_show_what_is_there(void **state)
{
    struct rig *r = *state;
    assert_int_equal(rd(r, 0x10), 0x10301);
    assert_int_equal(rd(r, 0x0c), 0x3f);
    assert_int_equal(pr(r, 0, 0x28), 0x123);
    assert_int_equal(pr(r, 0, 0x24), 0x101);
    assert_int_equal(pr(r, 0, TFD), 0x150);
    assert_int_equal(pr(r, 1, 0x24), 0xeb140101);
    assert_int_equal(pr(r, 2, 0x28), 0);
    assert_int_equal(pr(r, 2, TFD), 0x7f);
    assert_int_equal(pr(r, 0, CMD) & 0xc017, 0xc017);
}

static void comreset_brings_the_signature(void **state)
{
    struct rig *r = *state;
    pw(r, 0, CMD, 0x16);
    pw(r, 0, 0x2c, 0x301);
    assert_int_equal(pr(r, 0, 0x28) & 15, 0);
    pw(r, 0, 0x2c, 0x300);
    assert_int_equal(pr(r, 0, 0x28), 0x123);
    assert_int_equal(pr(r, 0, 0x30), 0x04010000);
    assert_true(pr(r, 0, IS) & 0x40);
    pw(r, 0, 0x30, UINT32_MAX);
    assert_int_equal(pr(r, 0, IS) & 0x40, 0);
    assert_int_equal(pr(r, 0, TFD), 0x150);
    assert_int_equal(rig_peek32(&r->base, FB + 0x40), 0x01500034);
}

static void identify_is_pio(void **state)
{
    struct rig *r = *state;
    issue(r, 0, &(struct cmd){.code = 0xec, .addr = {DATA}, .len = {512}});
    assert_int_equal(pr(r, 0, CI), 0);
    assert_int_equal(pr(r, 0, IS), 2);
    assert_int_equal(pr(r, 0, TFD), 0x50);
    assert_true(r->line);
    assert_int_equal(prdbc(r, 0, 0), 512);
    assert_int_equal(rig_peek32(&r->base, FB + 0x20) & 0xffffff, 0x58605f);
    assert_int_equal(rig_peek32(&r->base, DATA + 200), RIG_DISK / 512);
    assert_int_equal(rig_peek32(&r->base, DATA + 152) & 0xffff, 0x106);
    pw(r, 0, IS, 2);
    w(r, 8, 1);
    assert_false(r->line);
}

static void dma_reads_and_writes(void **state)
{
    struct rig *r = *state;
    issue(r, 0,
          &(struct cmd){.slot = 3,
                        .code = 0x25,
                        .lba = 7,
                        .count = 3,
                        .addr = {DATA, DATA + 0x1002},
                        .len = {510, 1026}});
    assert_int_equal(pr(r, 0, CI), 0);
    assert_int_equal(pr(r, 0, IS), 1);
    assert_int_equal(prdbc(r, 0, 3), 1536);
    assert_int_equal(rig_peek32(&r->base, DATA), 7);
    assert_int_equal(rig_peek32(&r->base, DATA + 0x1004), 8);
    issue(r, 0, &(struct cmd){.code = 0x35, .lba = 90, .count = 2, .addr = {DATA}, .len = {1024}});
    assert_int_equal(rig_disk32(&r->base.disk, 90 * 512), 7);
}

static void queued_commands_run_side_by_side(void **state)
{
    struct rig *r = *state;
    uint32_t all = UINT32_MAX;
    for (unsigned n = 0; n < 32; n++) {
        struct cmd c = {.slot = n,
                        .code = n % 2 ? 0x61 : 0x60,
                        .feature = 4,
                        .count = n << 3,
                        .lba = 100 + 4 * n,
                        .addr = {DATA + 2048 * n},
                        .len = {2048}};
        build(r, 0, &c);
        rig_poke32(&r->base, DATA + 2048 * n, 0xfeed0000 + n);
    }
    pw(r, 0, SACT, all);
    pw(r, 0, CI, all);
    assert_int_equal(pr(r, 0, CI), 0); /* all accepted */
    assert_int_equal(pr(r, 0, SACT), all);
    settle(r);
    assert_int_equal(pr(r, 0, SACT), 0);
    assert_int_equal(pr(r, 0, IS), 8);
    for (unsigned n = 0; n < 32; n++) {
        uint32_t mem = rig_peek32(&r->base, DATA + 2048 * n);
        uint32_t disk = rig_disk32(&r->base.disk, (100 + 4 * n) * 512);
        assert_int_equal(mem, n % 2 ? 0xfeed0000 + n : 100 + 4 * n);
        assert_int_equal(disk, mem);
    }
}

static void queued_error_stops_and_is_logged(void **state)
{
    struct rig *r = *state;
    struct cmd bad = {.slot = 5, .code = 0x60, .feature = 1, .count = 5 << 3, .lba = RIG_DISK};
    pw(r, 0, SACT, 1 << 5);
    issue(r, 0, &bad);
    assert_int_equal(pr(r, 0, IS), 0x40000008);
    assert_int_equal(pr(r, 0, TFD), 0x1051);
    assert_int_equal(pr(r, 0, SACT), 1 << 5);
    pw(r, 0, IS, UINT32_MAX);
    pw(r, 0, CMD, 0x16);
    assert_int_equal(pr(r, 0, CMD) & 0x8000, 0);
    pw(r, 0, CMD, 0x17);
    assert_int_equal(pr(r, 0, SACT), 0);
    issue(r, 0, &(struct cmd){.code = 0x2f, .lba = 0x10, .count = 1, .addr = {DATA}, .len = {512}});
    assert_int_equal(rig_peek32(&r->base, DATA), 0x10510005);
    assert_int_equal(rig_peek32(&r->base, DATA + 4) & 0xffffff, RIG_DISK);
}

static void bad_tables_are_errors(void **state)
{
    struct rig *r = *state;
    struct cmd c = {.code = 0x25, .count = 2, .addr = {0xf0000000}, .len = {1024}};
    issue(r, 0, &c);
    assert_int_equal(pr(r, 0, IS), 0x60000001);
    assert_int_equal(pr(r, 0, TFD) & 1, 1);
    start(r, 0); /* ST is still set: nothing runs */
    pw(r, 0, CMD, 0x16);
    pw(r, 0, CMD, 0x17);
    c.addr[0] = DATA;
    c.len[0] = 512;
    issue(r, 0, &c); /* too short */
    assert_int_equal(pr(r, 0, IS), 0x41000001);
    pw(r, 0, CMD, 0x16);
    pw(r, 0, 0, 0xf0000000);
    pw(r, 0, IS, UINT32_MAX);
    pw(r, 0, CMD, 0x17);
    pw(r, 0, CI, 1); /* no list */
    assert_int_equal(pr(r, 0, IS), 0x20000000);
    assert_int_equal(pr(r, 0, CI), 1);
}

static void reset_while_busy(void **state)
{
    struct rig *r = *state;
    struct cmd c = {.code = 0x25, .count = 1, .addr = {DATA}, .len = {512}};
    build(r, 0, &c);
    pw(r, 0, CI, 1);
    assert_int_equal(pr(r, 0, TFD), 0x80);
    pw(r, 0, CMD, 0x16);
    assert_true(pr(r, 0, CMD) & 0x8000); /* CR: not before it has ended */
    pw(r, 0, 0x2c, 0x301);
    pw(r, 0, 0x2c, 0x300);
    assert_int_equal(pr(r, 0, TFD), 0x80);
    settle(r);
    assert_int_equal(pr(r, 0, CMD) & 0x8000, 0);
    assert_int_equal(pr(r, 0, TFD), 0x150);
    assert_int_equal(pr(r, 0, IS) & 1, 0);
    start(r, 0);
    issue(r, 0, &c);
    assert_int_equal(pr(r, 0, IS), 1);
    pw(r, 0, CI, 1);
    w(r, 4, 0x80000001);
    assert_int_equal(rd(r, 4), 0x80000001);
    settle(r);
    assert_int_equal(rd(r, 4), 0x80000000);
    assert_int_equal(pr(r, 0, TFD), 0x150);
    assert_int_equal(pr(r, 1, TFD), 0x100);
}

static void soft_reset(void **state)
{
    struct rig *r = *state;
    struct cmd c = {.code = 0};
    build(r, 0, &c);
    rig_poke32(&r->base, TABLES, 0x27); /* C is clear */
    rig_poke32(&r->base, TABLES + 12, 4 << 24);
    pw(r, 0, CI, 1);
    assert_int_equal(pr(r, 0, CI), 0);
    rig_poke32(&r->base, TABLES + 12, 0);
    pw(r, 0, CI, 1);
    assert_int_equal(pr(r, 0, CI), 0);
    assert_int_equal(pr(r, 0, TFD), 0x150);
    assert_int_equal(pr(r, 0, 0x24), 0x101);
}

static void cd_reads(void **state)
{
    struct rig *r = *state;
    struct cmd c = {.code = 0xa0, .feature = 1, .cdb = (uint8_t[12]){0}};
    issue(r, 1, &c);
    assert_int_equal(pr(r, 1, IS), 0x40000001); /* unit attention */
    assert_int_equal(pr(r, 1, TFD), 0x6451);
    pw(r, 1, IS, UINT32_MAX);
    pw(r, 1, CMD, 0x16);
    pw(r, 1, CMD, 0x17);
    c.cdb = (uint8_t[12]){0x28, 0, 0, 0, 0, 9, 0, 0, 2};
    c.addr[0] = DATA;
    c.len[0] = 8192;
    issue(r, 1, &c);
    assert_int_equal(pr(r, 1, IS), 1);
    assert_int_equal(prdbc(r, 1, 0), 4096);
    assert_int_equal(rig_peek32(&r->base, DATA + 2048), 10);
    c.cdb = (uint8_t[12]){0x12, 0, 0, 0, 36};
    issue(r, 1, &c);
    assert_int_equal(prdbc(r, 1, 0), 36);
    assert_int_equal(rig_peek32(&r->base, DATA) & 0xffff, 0x8005);
}

static void trim_takes_its_list(void **state)
{
    struct rig *r = *state;
    struct cmd c = {.code = 0x06, .feature = 1, .count = 1, .addr = {DATA}, .len = {512}};
    rig_poke32(&r->base, DATA, 50);
    rig_poke32(&r->base, DATA + 4, 2 << 16);
    issue(r, 0, &c);
    assert_int_equal(pr(r, 0, IS), 1);
    assert_int_equal(rig_disk32(&r->base.disk, 50 * 512) % 50, 0);
    rig_poke32(&r->base, DATA, RIG_DISK);
    issue(r, 0, &c);
    assert_int_equal(pr(r, 0, TFD), 0x1051);
}

/* ---- A driver that means no good ---- */

enum { ABAR = 0x80000000 };

static void again(struct rig *r)
{
    pw(r, 0, CMD, 0x16);
    pw(r, 0, 0x30, UINT32_MAX);
    pw(r, 0, IS, UINT32_MAX);
    pw(r, 0, 0, CLB);
    pw(r, 0, 8, FB);
    pw(r, 0, CMD, 0x17);
}

/* The command list, a table, received FISes and data in the controller's own registers: that is no
 * memory, and nobody writes PxCI by it. */
static void lists_in_its_own_bar(void **state)
{
    struct rig *r = *state;
    struct cmd c = {.code = 0x25, .count = 1, .addr = {ABAR + 0x100}, .len = {512}};
    mem_map_add_mmio(r->base.mem, ABAR, 0x1000, &ahci_abar, &r->h);
    issue(r, 0, &c);
    assert_int_equal(pr(r, 0, IS) & 0x20000000, 0x20000000);
    again(r);
    c.code = 0x35;
    issue(r, 0, &c);
    assert_int_equal(pr(r, 0, IS) & 0x20000000, 0x20000000);
    assert_int_equal(rig_disk32(&r->base.disk, 0), 0);
    again(r);
    build(r, 0, &c);
    rig_poke32(&r->base, CLB + 8, ABAR);
    pw(r, 0, CI, 1);
    settle(r);
    assert_int_equal(pr(r, 0, IS), 0x20000000);
    again(r);
    pw(r, 0, CMD, 0x16);
    pw(r, 0, 0, ABAR);
    pw(r, 0, 8, ABAR);
    pw(r, 0, CMD, 0x17);
    pw(r, 0, CI, UINT32_MAX);
    settle(r);
    assert_int_equal(pr(r, 0, IS), 0x20000000);
    again(r);
    pw(r, 0, CMD, 0x16);
    pw(r, 0, 8, ABAR);
    pw(r, 0, CMD, 0x17);
    c = (struct cmd){.code = 0x25, .count = 1, .addr = {DATA}, .len = {512}};
    issue(r, 0, &c); /* its reception area only: the command runs */
    assert_int_equal(rig_peek32(&r->base, DATA + 508), 0);
    again(r);
    issue(r, 0, &c);
    assert_int_equal(pr(r, 0, IS), 1);
}

/* No table at all, one of 65535 entries, the smallest entries there are, an address at the end of
 * the address space. */
static void tables_of_any_length(void **state)
{
    struct rig *r = *state;
    struct cmd c = {.code = 0x25, .count = 2};
    issue(r, 0, &c);
    assert_int_equal(pr(r, 0, IS) & 0x40000000, 0x40000000);
    again(r);
    build(r, 0, &c);
    rig_poke32(&r->base, CLB, 5 | 0xffffu << 16);
    for (unsigned i = 0; i < 512; i++) { /* length 1, which is taken for 2 */
        rig_poke32(&r->base, TABLES + 0x80 + 16 * i, DATA + 4 * i);
        rig_poke32(&r->base, TABLES + 0x8c + 16 * i, 0);
    }
    pw(r, 0, CI, 1);
    settle(r);
    assert_int_equal(pr(r, 0, IS), 1);
    assert_int_equal(prdbc(r, 0, 0), 1024);
    assert_int_equal(rig_peek32(&r->base, DATA + 4 * 256), 1);
    build(r, 0, &c);
    rig_poke32(&r->base, CLB, 5 | 1u << 16);
    for (unsigned i = 0; i < 2; i++) {
        rig_poke32(&r->base, TABLES + 0x80 + 4 * i, 0xfffffffe);
    }
    rig_poke32(&r->base, TABLES + 0x8c, 0x3fffff);
    rig_poke32(&r->base, TABLES + 0x84, 0xffffffff);
    pw(r, 0, CI, 1);
    settle(r);
    assert_int_equal(pr(r, 0, IS) & 0x20000000, 0x20000000);
}

/* Header, table and entries are changed when the command was taken and has not run. */
static void tables_that_change_while_they_run(void **state)
{
    struct rig *r = *state;
    struct cmd c = {.code = 0x25, .count = 2, .lba = 9, .addr = {DATA}, .len = {1024}};
    uint8_t spoiled[0x100];
    memset(spoiled, 0xff, sizeof(spoiled));
    build(r, 0, &c);
    pw(r, 0, CI, 1);
    gmem_write(r->base.mem, CLB, spoiled, 32);
    gmem_write(r->base.mem, TABLES, spoiled, 0x80); /* all but the entries */
    settle(r);
    assert_int_equal(pr(r, 0, IS), 1);
    assert_int_equal(rig_peek32(&r->base, DATA), 9);
    build(r, 0, &c);
    pw(r, 0, CI, 1);
    gmem_write(r->base.mem, TABLES, spoiled, sizeof(spoiled));
    settle(r); /* by the old ones or by the new ones; those lead nowhere */
    again(r);
    issue(r, 0, &c);
    assert_int_equal(pr(r, 0, IS), 1);
}

static void eject_now(void *opaque)
{
    struct rig *r = opaque;
    ahci_eject(&r->h, &r->cd, true);
}

static void eject(struct rig *r)
{
    rig_beside(&r->base, eject_now, r);
    ahci_insert(&r->h, &r->cd, r->base.cd.block);
}

/* All ways of a reset, and an eject, with all slots in flight. */
static void resets_with_commands_in_flight(void **state)
{
    struct rig *r = *state;
    for (unsigned round = 0; round < 60; round++) {
        start(r, 0);
        start(r, 1);
        for (unsigned n = 0; n < 32; n++) {
            struct cmd c = {.slot = n,
                            .code = 0x60,
                            .feature = 4,
                            .count = n << 3,
                            .lba = 4 * n,
                            .addr = {DATA + 2048 * n},
                            .len = {2048}};
            build(r, 0, &c);
        }
        static const uint8_t read[12] = {0x28, 0, 0, 0, 0, 9, 0, 0, 2};
        build(
            r, 1,
            &(struct cmd){.code = 0xa0, .feature = 1, .cdb = read, .addr = {DATA}, .len = {8192}});
        pw(r, 1, CI, 1);
        pw(r, 0, SACT, UINT32_MAX);
        pw(r, 0, CI, UINT32_MAX);
        switch (round % 5) {
        case 0: w(r, 4, 0x80000001); break;
        case 1: pw(r, 0, CMD, 0x16); break;
        case 2:
            pw(r, 0, CMD, 0x16);
            pw(r, 0, 0x2c, 0x301);
            pw(r, 0, 0x2c, 0x300);
            break;
        case 3: eject(r); break;
        default: settle(r); ahci_reset(&r->h);
        }
        settle(r);
        for (unsigned port = 0; port < 2; port++) {
            pw(r, port, CMD, 0x16);
            pw(r, port, 0x2c, 0x301);
            pw(r, port, 0x2c, 0x300);
            settle(r);
            assert_int_equal(pr(r, port, CMD) & 0x8000, 0);
        }
    }
    start(r, 0);
    issue(r, 0, &(struct cmd){.code = 0x25, .count = 1, .lba = 9, .addr = {DATA}, .len = {512}});
    assert_int_equal(rig_peek32(&r->base, DATA), 9);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ports_show_what_is_there),
        T(comreset_brings_the_signature),
        T(identify_is_pio),
        T(dma_reads_and_writes),
        T(queued_commands_run_side_by_side),
        T(queued_error_stops_and_is_logged),
        T(bad_tables_are_errors),
        T(reset_while_busy),
        T(soft_reset),
        T(cd_reads),
        T(trim_takes_its_list),
        T(lists_in_its_own_bar),
        T(tables_of_any_length),
        T(tables_that_change_while_they_run),
        T(resets_with_commands_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
