/* The IDE channel with a disk (first) and a CD drive (second), driven as a driver would. */
#include "dev/ata/ide_test_rig.h"

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
