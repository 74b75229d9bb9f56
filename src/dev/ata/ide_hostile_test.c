/* The IDE channel under a driver that means no good: see docs/hostile.md. */
#include "core/test_touch.h"
#include "dev/ata/ide_test_rig.h"

enum { DEVICE = 0x80000000 };

/* Tables and data in a device's registers: nobody reads or writes those. */
static void tables_in_a_device(void **state)
{
    struct rig *r = *state;
    unsigned touched = 0;
    mem_map_add_mmio(r->base.mem, DEVICE, 0x20000, &test_touch, &touched);
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
    assert_int_equal(touched, 0);
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

static void eject_now(void *opaque)
{
    struct rig *r = opaque;
    ide_channel_eject(&r->ch, &r->cd, true);
}

static void eject(struct rig *r)
{
    rig_beside(&r->base, eject_now, r);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(tables_in_a_device),
        T(tables_without_end),
        T(resets_with_commands_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
