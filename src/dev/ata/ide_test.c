/* The IDE channel with a disk (first) and a CD drive (second), driven as a driver would. */
#include "dev/ata/ide_channel.h"

#include "base/unit_test.h"
#include "dev/ata/test_rig.h"

struct rig {
    struct rig_base base;
    struct ata_drive hd, cd;
    struct ide_channel ch;
    struct irq_pin pin;
    bool line;
    unsigned edges;
};

static void see_irq(void *opaque, unsigned n, bool level)
{
    struct rig *r = opaque;
    r->line = level;
    r->edges += level;
}

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct ata_ident hd = {.serial = "QM00001"}, cd = {.serial = "QM00002"};
    rig_base_up(&r->base);
    disk_init(&r->hd.disk, NULL, r->base.disk.block);
    disk_init(&r->cd.disk, NULL, r->base.cd.block);
    ata_drive_init(&r->hd, false, &hd);
    ata_drive_init(&r->cd, true, &cd);
    ide_channel_init(&r->ch, rig_dma, &r->base);
    irq_pin_init(&r->pin);
    irq_pin_add(&r->pin, see_irq, r, 0);
    irq_connect(&r->ch.irq, &r->pin);
    ide_channel_attach(&r->ch, 0, &r->hd);
    ide_channel_attach(&r->ch, 1, &r->cd);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    rig_settle(&r->base, &r->hd.disk);
    rig_settle(&r->base, &r->cd.disk);
    ide_channel_fini(&r->ch);
    disk_fini(&r->hd.disk);
    disk_fini(&r->cd.disk);
    irq_pin_fini(&r->pin);
    rig_base_down(&r->base);
    free(r);
    return 0;
}

/* ---- A driver ---- */

static void out8(struct rig *r, unsigned reg, unsigned v)
{
    ide_command_block.write(&r->ch, reg, 1, v);
}

static unsigned in8(struct rig *r, unsigned reg)
{
    uint64_t v;
    ide_command_block.read(&r->ch, reg, 1, &v);
    return (unsigned)v;
}

static unsigned in16(struct rig *r)
{
    uint64_t v;
    ide_command_block.read(&r->ch, 0, 2, &v);
    return (unsigned)v;
}

static uint32_t in32(struct rig *r)
{
    uint64_t v;
    ide_command_block.read(&r->ch, 0, 4, &v);
    return (uint32_t)v;
}

static void out16(struct rig *r, unsigned v)
{
    ide_command_block.write(&r->ch, 0, 2, v);
}

static void out32(struct rig *r, uint32_t v)
{
    ide_command_block.write(&r->ch, 0, 4, v);
}

static unsigned alt_status(struct rig *r)
{
    uint64_t v;
    ide_control_block.read(&r->ch, 0, 1, &v);
    return (unsigned)v;
}

static void control(struct rig *r, unsigned v)
{
    ide_control_block.write(&r->ch, 0, 1, v);
}

static void bm(struct rig *r, unsigned reg, unsigned size, uint32_t v)
{
    ide_bus_master.write(&r->ch, reg, size, v);
}

static unsigned bm_status(struct rig *r)
{
    uint64_t v;
    ide_bus_master.read(&r->ch, 2, 1, &v);
    return (unsigned)v;
}

static void settle(struct rig *r)
{
    rig_settle(&r->base, &r->hd.disk);
    rig_settle(&r->base, &r->cd.disk);
}

static void command28(struct rig *r, unsigned cmd, uint32_t lba, unsigned count)
{
    out8(r, 6, 0xe0 | lba >> 24);
    out8(r, 2, count);
    out8(r, 3, lba & 0xff);
    out8(r, 4, lba >> 8 & 0xff);
    out8(r, 5, lba >> 16 & 0xff);
    out8(r, 7, cmd);
    settle(r);
}

static void command48(struct rig *r, unsigned cmd, uint64_t lba, unsigned count)
{
    out8(r, 6, 0xe0);
    out8(r, 2, count >> 8);
    out8(r, 3, lba >> 24 & 0xff);
    out8(r, 4, lba >> 32 & 0xff);
    out8(r, 5, lba >> 40 & 0xff);
    out8(r, 2, count & 0xff);
    out8(r, 3, lba & 0xff);
    out8(r, 4, lba >> 8 & 0xff);
    out8(r, 5, lba >> 16 & 0xff);
    out8(r, 7, cmd);
    settle(r);
}

/* A packet to the CD drive, `limit` bytes at a time. */
static void packet(struct rig *r, const uint8_t *cdb, bool dma, unsigned limit)
{
    out8(r, 6, 0xb0);
    out8(r, 1, dma);
    out8(r, 4, limit & 0xff);
    out8(r, 5, limit >> 8);
    out8(r, 7, 0xa0);
    assert_int_equal(in8(r, 7) & 0x89, ATA_DRQ);
    assert_int_equal(in8(r, 2) & 3, ATA_COD);
    for (unsigned i = 0; i < 12; i += 2) {
        out16(r, cdb[i] | cdb[i + 1] << 8);
    }
    settle(r);
}

/* A packet whose reply comes in one block; returns its length. */
static unsigned packet_in(struct rig *r, const uint8_t *cdb, uint8_t *buf)
{
    packet(r, cdb, false, 2048);
    if (!(in8(r, 7) & ATA_DRQ)) {
        return 0;
    }
    unsigned n = in8(r, 4) | in8(r, 5) << 8;
    for (unsigned i = 0; i < n; i += 2) {
        unsigned v = in16(r);
        buf[i] = (uint8_t)v;
        buf[i + 1] = (uint8_t)(v >> 8);
    }
    settle(r);
    assert_int_equal(in8(r, 7), 0x50);
    assert_int_equal(in8(r, 2) & 3, 3);
    return n;
}

/* The key and code of the last failure: 0x23a02 */
static unsigned sense(struct rig *r)
{
    uint8_t buf[32];
    packet_in(r, (uint8_t[12]){3, 0, 0, 0, 18}, buf);
    return (unsigned)(buf[2] << 16 | buf[12] << 8 | buf[13]);
}

static unsigned test_ready(struct rig *r)
{
    packet(r, (uint8_t[12]){0}, false, 0);
    return in8(r, 7) & 1 ? sense(r) : 0;
}

/* ---- Disk ---- */

static void reset_gives_signatures(void **state)
{
    struct rig *r = *state;
    control(r, 4);
    assert_int_equal(alt_status(r), 0x80);
    control(r, 0);
    assert_int_equal(in8(r, 7), 0x50);
    assert_int_equal(in8(r, 2) | in8(r, 3) << 8 | in8(r, 4) << 16, 0x000101);
    out8(r, 6, 0xb0);
    assert_int_equal(in8(r, 4) | in8(r, 5) << 8, 0xeb14);
}

static void identify_says_size_and_name(void **state)
{
    struct rig *r = *state;
    uint16_t id[256];
    uint8_t sum = 0;
    command28(r, 0xec, 0, 0);
    assert_true(r->line);
    assert_int_equal(in8(r, 7), 0x58);
    assert_false(r->line);
    for (unsigned i = 0; i < 256; i++) {
        id[i] = (uint16_t)in16(r);
        sum = (uint8_t)(sum + id[i] + (id[i] >> 8));
    }
    assert_int_equal(in8(r, 7), 0x50);
    assert_int_equal(id[60] | id[61] << 16, RIG_DISK / 512);
    assert_int_equal(id[1] * id[3] * id[6], RIG_DISK / 512 / 1008 * 1008);
    assert_int_equal(id[27], 'Q' << 8 | 'E');
    assert_int_equal(id[10], 'Q' << 8 | 'M');
    assert_int_equal(id[88], 0x203f);
    assert_int_equal(sum, 0);
}

static void pio_reads_sectors_one_by_one(void **state)
{
    struct rig *r = *state;
    unsigned edges = r->edges;
    command28(r, 0x20, 5, 3);
    for (unsigned s = 5; s < 8; s++) {
        assert_int_equal(in8(r, 7), 0x58);
        for (unsigned i = 0; i < 128; i++) {
            assert_int_equal(in32(r), s);
        }
    }
    assert_int_equal(in8(r, 7), 0x50);
    assert_int_equal(r->edges, edges + 3);
    assert_int_equal(in16(r), 0); /* nothing is left */
}

static void pio_reads_over_several_windows(void **state)
{
    struct rig *r = *state;
    command48(r, 0x29, 1, 300); /* MULTIPLE: 16 sectors a block */
    for (unsigned s = 1; s < 301; s++) {
        assert_int_equal(in8(r, 7), 0x58);
        for (unsigned i = 0; i < 128; i++) {
            assert_int_equal(in32(r), s);
        }
        settle(r);
    }
    assert_int_equal(in8(r, 7), 0x50);
}

static void pio_writes(void **state)
{
    struct rig *r = *state;
    command28(r, 0x30, 9, 2);
    assert_int_equal(in8(r, 7), 0x58);
    for (unsigned i = 0; i < 256; i++) {
        out32(r, 0xabcd0000 + i);
    }
    assert_int_equal(in8(r, 7), 0x80);
    assert_false(r->line);
    settle(r);
    assert_true(r->line);
    assert_int_equal(in8(r, 7), 0x50);
    assert_int_equal(rig_disk32(&r->base.disk, 9 * 512), 0xabcd0000);
    assert_int_equal(rig_disk32(&r->base.disk, 11 * 512 - 4), 0xabcd00ff);
    assert_int_equal(rig_disk32(&r->base.disk, 11 * 512), 11);
}

static void chs_and_lba48_find_the_same_sector(void **state)
{
    struct rig *r = *state;
    out8(r, 6, 0xa0 | 3); /* cylinder 1, head 3, sector 7 */
    out8(r, 2, 1);
    out8(r, 3, 7);
    out8(r, 4, 1);
    out8(r, 5, 0);
    out8(r, 7, 0x20);
    settle(r);
    assert_int_equal(in32(r), (1 * 16 + 3) * 63 + 6);
    command48(r, 0x24, (1 * 16 + 3) * 63 + 6, 1);
    assert_int_equal(in32(r), (1 * 16 + 3) * 63 + 6);
}

static void past_the_end_is_not_found(void **state)
{
    struct rig *r = *state;
    command28(r, 0x20, RIG_DISK / 512 - 1, 2);
    assert_int_equal(in8(r, 7) & 0x89, ATA_ERR);
    assert_int_equal(in8(r, 1), ATA_IDNF);
    command48(r, 0x24, 0xffffffffffffull, 0);
    assert_int_equal(in8(r, 1), ATA_IDNF);
    command28(r, 0x77, 0, 1);
    assert_int_equal(in8(r, 1), ATA_ABRT);
}

static void prd(struct rig *r, unsigned n, uint32_t addr, uint32_t count)
{
    rig_poke32(&r->base, 0x1000 + 8 * n, addr);
    rig_poke32(&r->base, 0x1004 + 8 * n, count);
}

static void dma_reads_into_pieces(void **state)
{
    struct rig *r = *state;
    prd(r, 0, 0x2000, 512);
    prd(r, 1, 0x4000, 1024 | 1u << 31);
    bm(r, 4, 4, 0x1000);
    bm(r, 2, 1, 6);
    bm(r, 0, 1, 8);
    command28(r, 0xc8, 20, 3);
    assert_int_equal(bm_status(r) & 7, 0);
    bm(r, 0, 1, 9);
    assert_int_equal(in8(r, 7) & 0x80, 0x80);
    settle(r);
    assert_int_equal(bm_status(r) & 7, 4);
    assert_true(r->line);
    assert_int_equal(in8(r, 7), 0x50);
    assert_int_equal(rig_peek32(&r->base, 0x2000), 20);
    assert_int_equal(rig_peek32(&r->base, 0x4000), 21);
    assert_int_equal(rig_peek32(&r->base, 0x43fc), 22);
}

static void dma_writes_with_a_long_table(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < 256; i++) { /* two bytes each: through the buffer */
        prd(r, i, 0x8000 + 4 * i, 2);
        rig_poke32(&r->base, 0x8000 + 4 * i, i);
    }
    prd(r, 256, 0x8000, 1u << 31); /* 64 KiB, not needed */
    bm(r, 4, 4, 0x1000);
    bm(r, 0, 1, 1);
    command48(r, 0x35, 33, 1);
    assert_int_equal(bm_status(r) & 7, 5); /* still active */
    assert_int_equal(in8(r, 7), 0x50);
    assert_int_equal(rig_disk32(&r->base.disk, 33 * 512), 0x00010000);
    assert_int_equal(rig_disk32(&r->base.disk, 33 * 512 + 508), 0x00ff00fe);
}

static void dma_with_a_short_table_waits(void **state)
{
    struct rig *r = *state;
    prd(r, 0, 0x2000, 512 | 1u << 31);
    bm(r, 4, 4, 0x1000);
    bm(r, 0, 1, 9);
    command28(r, 0xc8, 20, 2);
    assert_int_equal(bm_status(r) & 7, 0);
    assert_false(r->line);
    control(r, 4);
    control(r, 0);
    assert_int_equal(in8(r, 7), 0x50);
}

static void dma_to_nowhere_is_an_error(void **state)
{
    struct rig *r = *state;
    prd(r, 0, 0xf0000000, 512 | 1u << 31);
    bm(r, 4, 4, 0x1000);
    bm(r, 0, 1, 9);
    command28(r, 0xc8, 20, 1);
    assert_int_equal(bm_status(r) & 7, 6);
    assert_int_equal(in8(r, 7) & 1, 1);
}

static void reset_in_the_middle(void **state)
{
    struct rig *r = *state;
    out8(r, 6, 0xe0);
    out8(r, 2, 1);
    out8(r, 7, 0x20); /* the job is posted, and has not begun */
    assert_int_equal(alt_status(r), 0x80);
    control(r, 4);
    control(r, 0);
    assert_int_equal(alt_status(r), 0x80);
    out8(r, 7, 0xec); /* nobody listens */
    settle(r);
    assert_int_equal(alt_status(r), 0x50);
    assert_false(r->line);
    command28(r, 0x20, 2, 1);
    assert_int_equal(in32(r), 2);
}

static void trim_flush_and_settings(void **state)
{
    struct rig *r = *state;
    out8(r, 1, 1);
    rig_poke32(&r->base, 0x2000, 40);
    rig_poke32(&r->base, 0x2004, 8 << 16);
    for (unsigned i = 8; i < 512; i += 4) {
        rig_poke32(&r->base, 0x2000 + i, 0);
    }
    prd(r, 0, 0x2000, 512 | 1u << 31);
    bm(r, 4, 4, 0x1000);
    bm(r, 0, 1, 1);
    command48(r, 0x06, 0, 1);
    assert_int_equal(in8(r, 7), 0x50);
    command28(r, 0xe7, 0, 0);
    assert_int_equal(in8(r, 7), 0x50);
    out8(r, 1, 0x82); /* no write cache */
    command28(r, 0xef, 0, 0);
    assert_int_equal(in8(r, 7), 0x50);
    assert_false(r->hd.write_cache);
    out8(r, 1, 3);
    command28(r, 0xef, 0, 0x22); /* multiword DMA 2 */
    assert_int_equal(in8(r, 7), 0x50);
    assert_int_equal(r->hd.xfer_mode[1], 2);
    command28(r, 0xc6, 0, 3);
    assert_int_equal(in8(r, 7) & 1, 1);
    command28(r, 0xf9, 0, 0); /* SET MAX */
    assert_int_equal(in8(r, 1), ATA_ABRT);
}

/* ---- CD ---- */

static void attention_comes_first(void **state)
{
    struct rig *r = *state;
    assert_int_equal(test_ready(r), 0x62900);
    assert_int_equal(test_ready(r), 0);
}

static void cd_capacity_and_toc(void **state)
{
    struct rig *r = *state;
    uint8_t b[2048];
    test_ready(r);
    assert_int_equal(packet_in(r, (uint8_t[12]){0x25}, b), 8);
    assert_int_equal(load_be32(b), RIG_CD / 2048 - 1);
    assert_int_equal(load_be32(b + 4), 2048);
    assert_int_equal(packet_in(r, (uint8_t[12]){0x43, 2, 0, 0, 0, 0, 0, 0, 12}, b), 12);
    assert_int_equal(load_be16(b), 18);
    assert_int_equal(load_be32(b + 8), 0x000200);
    assert_int_equal(packet_in(r, (uint8_t[12]){0x43, 0, 0, 0, 0, 0, 0xaa, 1}, b), 12);
    assert_int_equal(load_be32(b + 8), RIG_CD / 2048);
    assert_int_equal(packet_in(r, (uint8_t[12]){0x43, 0, 2, 0, 0, 0, 0, 4}, b), 48);
    assert_int_equal(packet_in(r, (uint8_t[12]){0x43, 0, 5, 0, 0, 0, 0, 4}, b), 0);
    assert_int_equal(sense(r), 0x52400);
    assert_int_equal(packet_in(r, (uint8_t[12]){0x5a, 0, 0x2a, 0, 0, 0, 0, 1}, b), 30);
    assert_int_equal(packet_in(r, (uint8_t[12]){0x46, 0, 0, 0, 0, 0, 0, 1}, b), 84);
    assert_int_equal(load_be32(b), 80);
    assert_int_equal(load_be16(b + 6), 8);
}

static void cd_reads_by_pio(void **state)
{
    struct rig *r = *state;
    test_ready(r);
    packet(r, (uint8_t[12]){0x28, 0, 0, 0, 0, 7, 0, 0, 40}, false, 4096);
    for (unsigned s = 7; s < 47; s++) {
        if (s % 2) {
            assert_int_equal(in8(r, 7), 0x58);
            assert_int_equal(in8(r, 4) | in8(r, 5) << 8, 4096);
        }
        for (unsigned i = 0; i < 512; i++) {
            assert_int_equal(in32(r), s);
        }
        settle(r);
    }
    assert_int_equal(in8(r, 7), 0x50);
    packet(r, (uint8_t[12]){0x28, 0, 0, 0, 2, 0, 0, 0, 1}, false, 2048);
    assert_int_equal(in8(r, 7) & 0x89, 1);
    assert_int_equal(sense(r), 0x52100);
}

static void cd_reads_raw_sectors_by_dma(void **state)
{
    struct rig *r = *state;
    test_ready(r);
    prd(r, 0, 0x10000, (2 * 2352) | 1u << 31);
    bm(r, 4, 4, 0x1000);
    bm(r, 0, 1, 9);
    packet(r, (uint8_t[12]){0xbe, 0, 0, 0, 0, 3, 0, 0, 2, 0xf8}, true, 0);
    assert_int_equal(in8(r, 7), 0x50);
    assert_int_equal(bm_status(r) & 7, 4);
    assert_int_equal(rig_peek32(&r->base, 0x10000), 0xffffff00);
    assert_int_equal(rig_peek32(&r->base, 0x1000c), 0x01030200); /* 00:02:03, mode 1 */
    assert_int_equal(rig_peek32(&r->base, 0x10010), 3);
    assert_int_equal(rig_peek32(&r->base, 0x10010 + 2352), 4);
}

static void eject_and_insert(void **state)
{
    struct rig *r = *state;
    uint8_t b[16];
    test_ready(r);
    packet(r, (uint8_t[12]){0x1e, 0, 0, 0, 1}, false, 0); /* lock */
    assert_int_equal(ide_channel_eject(&r->ch, &r->cd, false), -EBUSY);
    assert_int_equal(packet_in(r, (uint8_t[12]){0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8}, b), 8);
    assert_int_equal(b[4], 1); /* somebody pressed the button */
    assert_int_equal(ide_channel_eject(&r->ch, &r->cd, true), 0);
    assert_int_equal(test_ready(r), 0x23a02);
    assert_int_equal(packet_in(r, (uint8_t[12]){0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8}, b), 8);
    assert_int_equal(b[4], 3);
    assert_int_equal(b[5], 1);
    ide_channel_insert(&r->ch, &r->cd, r->base.disk.block);
    assert_int_equal(test_ready(r), 0x62800);
    assert_int_equal(test_ready(r), 0);
    assert_int_equal(packet_in(r, (uint8_t[12]){0x25}, b), 8);
    assert_int_equal(load_be32(b), RIG_DISK / 2048 - 1);
    packet(r, (uint8_t[12]){0x1b, 0, 0, 0, 2}, false, 0); /* the guest opens the tray */
    assert_int_equal(test_ready(r), 0x23a02);
    packet(r, (uint8_t[12]){0x1b, 0, 0, 0, 3}, false, 0);
    assert_int_equal(test_ready(r), 0x62800);
}

static void disk_commands_find_no_disk(void **state)
{
    struct rig *r = *state;
    out8(r, 6, 0xb0);
    out8(r, 7, 0xec);
    assert_int_equal(in8(r, 1), ATA_ABRT);
    assert_int_equal(in8(r, 4) | in8(r, 5) << 8, 0xeb14);
    out8(r, 7, 0xa1);
    assert_int_equal(in8(r, 7), 0x58);
    assert_int_equal(in16(r), 0x85c0);
    out8(r, 7, 0x08);
    assert_int_equal(in8(r, 7), 0);
    assert_int_equal(in16(r), 0);
}

/* ---- A driver that means no good ---- */

enum { DEVICE = 0x80000000 };

struct touched {
    unsigned times;
};

static enum mem_result touch_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    ((struct touched *)opaque)->times++;
    return MEM_OK;
}

static enum mem_result touch_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    ((struct touched *)opaque)->times++;
    return MEM_OK;
}

static const struct mmio touch = {touch_read, touch_write, 1, 8};

/* Tables and data in a device's registers: nobody reads or writes those. */
static void tables_in_a_device(void **state)
{
    struct rig *r = *state;
    struct touched t = {0};
    mem_map_add_mmio(r->base.mem, DEVICE, 0x20000, &touch, &t);
    prd(r, 0, DEVICE, 512 | 1u << 31);
    for (unsigned i = 0; i < 4; i++) {
        bm(r, 0, 1, 0);
        bm(r, 2, 1, 6);
        bm(r, 4, 4, i & 1 ? DEVICE : 0x1000);
        bm(r, 0, 1, i & 2 ? 1 : 9);
        command28(r, i & 2 ? 0xca : 0xc8, 20, 1);
        assert_int_equal(bm_status(r) & 7, 6);
        assert_int_equal(in8(r, 7) & 1, 1);
    }
    assert_int_equal(t.times, 0);
    assert_int_equal(rig_disk32(&r->base.disk, 20 * 512), 20);
}

/* No end: a table stops with its 64 KiB. One that lies at the end of memory, and entries of
 * length 0, which is 64 KiB. */
static void tables_without_end(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < 0x10000 / 8; i++) {
        rig_poke32(&r->base, 0x10000 + 8 * i, 0x40000);
        rig_poke32(&r->base, 0x10004 + 8 * i, 2);
    }
    bm(r, 4, 4, 0x1fff0);
    bm(r, 0, 1, 9);
    command48(r, 0x25, 20, 1); /* four bytes of room, then it waits */
    assert_false(r->line);
    control(r, 4);
    control(r, 0);
    bm(r, 0, 1, 0);
    bm(r, 4, 4, 0x10000);
    bm(r, 0, 1, 9);
    command48(r, 0x25, 0, 0); /* 65536 sectors: past the end */
    assert_int_equal(in8(r, 7) & 1, 1);
    bm(r, 0, 1, 0);
    bm(r, 0, 1, 9);
    command48(r, 0x25, 0, RIG_DISK / 512); /* all there is, into 16 KiB of pieces */
    assert_false(r->line);
    control(r, 4);
    control(r, 0);
    bm(r, 0, 1, 0);
    bm(r, 4, 4, RIG_RAM - 8);
    rig_poke32(&r->base, RIG_RAM - 8, RIG_RAM - 512);
    rig_poke32(&r->base, RIG_RAM - 4, 0);
    bm(r, 0, 1, 9);
    command28(r, 0xc8, 20, 1); /* the entry reaches beyond memory, the data does not */
    assert_int_equal(rig_peek32(&r->base, RIG_RAM - 512), 20);
    control(r, 4);
    control(r, 0);
    bm(r, 0, 1, 0);
    bm(r, 4, 4, RIG_RAM - 8);
    rig_poke32(&r->base, RIG_RAM - 8, 0x2000);
    rig_poke32(&r->base, RIG_RAM - 4, 512);
    bm(r, 0, 1, 9);
    bm(r, 2, 1, 6);
    command28(r, 0xc8, 20, 2); /* the next entry is behind its 64 KiB: it waits */
    assert_int_equal(bm_status(r) & 7, 0);
    control(r, 4);
    control(r, 0);
}

struct ejector {
    struct rig *r;
    _Atomic bool done;
};

static void *eject_now(void *opaque)
{
    struct ejector *e = opaque;
    ide_channel_eject(&e->r->ch, &e->r->cd, true);
    e->done = true;
    return NULL;
}

/* As the monitor does, on another thread than the image's. */
static void eject(struct rig *r)
{
    struct ejector e = {.r = r};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, eject_now, &e), 0);
    while (!e.done) {
        loop_step(r->base.loop, false);
    }
    pthread_join(thread, NULL);
    ide_channel_insert(&r->ch, &r->cd, r->base.cd.block);
}

/* Every way of a reset, and an eject, with a transfer in flight. */
static void resets_with_commands_in_flight(void **state)
{
    struct rig *r = *state;
    static const uint8_t read[12] = {0x28, 0, 0, 0, 0, 9, 0, 0, 2};
    for (unsigned round = 0; round < 60; round++) {
        bool cd = round & 1;
        prd(r, 0, 0x2000, 1u << 31);
        bm(r, 4, 4, 0x1000);
        bm(r, 0, 1, 9);
        if (cd) {
            test_ready(r);
            out8(r, 6, 0xb0);
            out8(r, 1, 1);
            out8(r, 7, 0xa0);
            for (unsigned i = 0; i < 12; i += 2) {
                out16(r, read[i] | read[i + 1] << 8);
            }
        } else {
            out8(r, 6, 0xe0);
            out8(r, 2, 64);
            out8(r, 7, 0xc8);
        }
        switch (round / 2 % 5) {
        case 0:
            control(r, 4);
            control(r, 0);
            break;
        case 1: bm(r, 0, 1, 0); break;
        case 2: out8(r, 7, 0x08); break; /* DEVICE RESET */
        case 3: eject(r); break;
        default: settle(r); ide_channel_reset(&r->ch);
        }
        settle(r);
        control(r, 4);
        control(r, 0);
        bm(r, 0, 1, 0);
        settle(r);
        assert_int_equal(alt_status(r) & 0x88, 0);
    }
    command28(r, 0x20, 2, 1);
    assert_int_equal(in32(r), 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(reset_gives_signatures),
        T(identify_says_size_and_name),
        T(pio_reads_sectors_one_by_one),
        T(pio_reads_over_several_windows),
        T(pio_writes),
        T(chs_and_lba48_find_the_same_sector),
        T(past_the_end_is_not_found),
        T(dma_reads_into_pieces),
        T(dma_writes_with_a_long_table),
        T(dma_with_a_short_table_waits),
        T(dma_to_nowhere_is_an_error),
        T(reset_in_the_middle),
        T(trim_flush_and_settings),
        T(attention_comes_first),
        T(cd_capacity_and_toc),
        T(cd_reads_by_pio),
        T(cd_reads_raw_sectors_by_dma),
        T(eject_and_insert),
        T(disk_commands_find_no_disk),
        T(tables_in_a_device),
        T(tables_without_end),
        T(resets_with_commands_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
