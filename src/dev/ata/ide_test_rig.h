/* For the channel's tests: a disk (first) and a CD drive (second), and what a driver does. */
#ifndef DEV_ATA_IDE_TEST_RIG_H
#define DEV_ATA_IDE_TEST_RIG_H

#include "base/unit_test.h"
#include "dev/ata/ide_channel.h"
#include "dev/ata/test_rig.h"

struct rig {
    struct rig_base base;
    struct ata_drive hd, cd;
    struct ide_channel ch;
    struct irq_pin pin;
    bool line;
    unsigned edges;
};

static inline void see_irq(void *opaque, unsigned n, bool level)
{
    struct rig *r = opaque;
    r->line = level;
    r->edges += level;
}

static inline int rig_up(void **state)
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

static inline int rig_down(void **state)
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

static inline void out8(struct rig *r, unsigned reg, unsigned v)
{
    ide_command_block.write(&r->ch, reg, 1, v);
}

static inline unsigned in8(struct rig *r, unsigned reg)
{
    uint64_t v;
    ide_command_block.read(&r->ch, reg, 1, &v);
    return (unsigned)v;
}

static inline unsigned in16(struct rig *r)
{
    uint64_t v;
    ide_command_block.read(&r->ch, 0, 2, &v);
    return (unsigned)v;
}

static inline uint32_t in32(struct rig *r)
{
    uint64_t v;
    ide_command_block.read(&r->ch, 0, 4, &v);
    return (uint32_t)v;
}

static inline void out16(struct rig *r, unsigned v)
{
    ide_command_block.write(&r->ch, 0, 2, v);
}

static inline void out32(struct rig *r, uint32_t v)
{
    ide_command_block.write(&r->ch, 0, 4, v);
}

static inline unsigned alt_status(struct rig *r)
{
    uint64_t v;
    ide_control_block.read(&r->ch, 0, 1, &v);
    return (unsigned)v;
}

static inline void control(struct rig *r, unsigned v)
{
    ide_control_block.write(&r->ch, 0, 1, v);
}

static inline void bm(struct rig *r, unsigned reg, unsigned size, uint32_t v)
{
    ide_bus_master.write(&r->ch, reg, size, v);
}

static inline unsigned bm_status(struct rig *r)
{
    uint64_t v;
    ide_bus_master.read(&r->ch, 2, 1, &v);
    return (unsigned)v;
}

static inline void settle(struct rig *r)
{
    rig_settle(&r->base, &r->hd.disk);
    rig_settle(&r->base, &r->cd.disk);
}

static inline void command28(struct rig *r, unsigned cmd, uint32_t lba, unsigned count)
{
    out8(r, 6, 0xe0 | lba >> 24);
    out8(r, 2, count);
    out8(r, 3, lba & 0xff);
    out8(r, 4, lba >> 8 & 0xff);
    out8(r, 5, lba >> 16 & 0xff);
    out8(r, 7, cmd);
    settle(r);
}

static inline void command48(struct rig *r, unsigned cmd, uint64_t lba, unsigned count)
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
static inline void packet(struct rig *r, const uint8_t *cdb, bool dma, unsigned limit)
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
static inline unsigned packet_in(struct rig *r, const uint8_t *cdb, uint8_t *buf)
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
static inline unsigned sense(struct rig *r)
{
    uint8_t buf[32];
    packet_in(r, (uint8_t[12]){3, 0, 0, 0, 18}, buf);
    return (unsigned)(buf[2] << 16 | buf[12] << 8 | buf[13]);
}

static inline unsigned test_ready(struct rig *r)
{
    packet(r, (uint8_t[12]){0}, false, 0);
    return in8(r, 7) & 1 ? sense(r) : 0;
}

static inline void prd(struct rig *r, unsigned n, uint32_t addr, uint32_t count)
{
    rig_poke32(&r->base, 0x1000 + 8 * n, addr);
    rig_poke32(&r->base, 0x1004 + 8 * n, count);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

#endif
