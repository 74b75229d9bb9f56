/* Packed rings, from the driver's side, and drivers that mean no good. */
#include <string.h>

#include "base/endian.h"
#include "base/err.h"
#include "base/unit_test.h"
#include "dev/virtio/virtqueue.h"

enum {
    RING = 0x1000,
    DRIVER = 0x2000, /* event suppression structures */
    DEVICE = 0x3000,
    BUF = 0x4000,
    SIZE = 5, /* no power of two */
    NEXT = 1,
    WRITE = 2,
    INDIRECT = 4,
    AVAIL = 1 << 7,
    USED = 1 << 15,
};

struct rig {
    struct ram_set set;
    struct mem_map *mem;
    uint8_t *ram;
    struct vq vq;
    unsigned next; /* the driver's */
    bool wrap;
    unsigned seen; /* used ones it has taken back */
    bool seen_wrap;
};

static void enable(struct rig *r)
{
    memset(r->ram, 0, 0x10000);
    assert_true(vq_enable(&r->vq));
    r->next = r->seen = 0;
    r->wrap = r->seen_wrap = true;
}

static int rig_up(void **state)
{
    static struct rig rig;
    struct err err;
    memset(&rig, 0, sizeof(rig));
    struct ram *ram = ram_set_add(&rig.set, "ram", 0x10000, &err);
    rig.ram = ram->host;
    rig.mem = mem_map_new("m", 0);
    mem_map_add_ram(rig.mem, 0, ram, 0, 0x10000);
    rig.vq = (struct vq){.mem = rig.mem,
                         .max = 16,
                         .size = SIZE,
                         .desc = RING,
                         .avail = DRIVER,
                         .used = DEVICE,
                         .packed = true,
                         .indirect = true,
                         .event_idx = true};
    enable(&rig);
    *state = &rig;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    mem_map_free(r->mem);
    ram_set_free(&r->set);
    return 0;
}

static void put_raw(uint8_t *at, uint64_t addr, uint32_t len, uint16_t id, uint16_t flags)
{
    store_le64(at, addr);
    store_le32(at + 8, len);
    store_le16(at + 12, id);
    store_le16(at + 14, flags);
}

/* The next slot, made available. */
static void put(struct rig *r, uint64_t addr, uint32_t len, uint16_t id, uint16_t flags)
{
    put_raw(r->ram + RING + 16 * r->next, addr, len, id, flags | (r->wrap ? AVAIL : USED));
    if (++r->next == SIZE) {
        r->next = 0;
        r->wrap = !r->wrap;
    }
}

/* The next used descriptor, which stands for `slots`. */
static void expect_used(struct rig *r, uint16_t id, uint32_t len, uint16_t flags, unsigned slots)
{
    const uint8_t *at = r->ram + RING + 16 * r->seen;
    assert_int_equal(load_le16(at + 14), flags | (r->seen_wrap ? AVAIL | USED : 0));
    assert_int_equal(load_le16(at + 12), id);
    assert_int_equal(load_le32(at + 8), len);
    r->seen += slots;
    if (r->seen >= SIZE) {
        r->seen -= SIZE;
        r->seen_wrap = !r->seen_wrap;
    }
}

static void chains_go_round_the_ring(void **state)
{
    struct rig *r = *state;
    struct vq_elem e;
    assert_true(vq_empty(&r->vq));
    for (unsigned i = 0; i < 4 * SIZE; i++) {
        memcpy(r->ram + BUF, "question", 8);
        put(r, BUF, 8, 99, NEXT);
        put(r, BUF + 0x100, 16, 99, NEXT | WRITE);
        put(r, BUF + 0x200, 16, (uint16_t)(0xff00 + i), WRITE);
        assert_true(vq_pop(&r->vq, &e));
        assert_int_equal(e.out_len, 8);
        assert_int_equal(e.in_len, 32);
        assert_true(vq_empty(&r->vq));
        iov_write(e.in, e.in_count, 14, "answer", 6);
        vq_push(&r->vq, &e, 20);
        expect_used(r, (uint16_t)(0xff00 + i), 20, WRITE, 3);
        assert_memory_equal(r->ram + BUF + 0x10e, "an", 2);
        assert_memory_equal(r->ram + BUF + 0x200, "swer", 4);
        assert_true(vq_should_signal(&r->vq));
        assert_false(vq_pop(&r->vq, &e));
    }
    assert_false(r->vq.broken);
}

static void used_in_another_order(void **state)
{
    struct rig *r = *state;
    struct vq_elem a, b;
    put(r, BUF, 4, 1, NEXT);
    put(r, BUF, 4, 1, 0);
    put(r, BUF, 4, 2, WRITE);
    assert_true(vq_pop(&r->vq, &a));
    assert_true(vq_pop(&r->vq, &b));
    vq_push(&r->vq, &b, 4);
    vq_push(&r->vq, &a, 0);
    expect_used(r, 2, 4, WRITE, 1);
    expect_used(r, 1, 0, 0, 2);
    assert_int_equal(r->vq.used_idx, 3);
}

static void indirect_table(void **state)
{
    struct rig *r = *state;
    struct vq_elem e;
    put(r, BUF, 48, 7, INDIRECT);
    put_raw(r->ram + BUF, BUF + 0x200, 4, 0, 0);
    put_raw(r->ram + BUF + 16, BUF + 0x300, 4, 0, NEXT); /* means nothing there */
    put_raw(r->ram + BUF + 32, BUF + 0x400, 4, 0, WRITE);
    assert_true(vq_pop(&r->vq, &e));
    assert_int_equal(e.out_count, 2);
    assert_int_equal(e.in_count, 1);
    assert_int_equal(e.slots, 1);
}

static bool signal_after_one_more(struct rig *r)
{
    struct vq_elem e;
    put(r, BUF, 4, 0, WRITE);
    assert_true(vq_pop(&r->vq, &e));
    vq_push(&r->vq, &e, 0);
    return vq_should_signal(&r->vq);
}

static void events_hold_signals_back(void **state)
{
    struct rig *r = *state;
    store_le16(r->ram + DRIVER + 2, 1); /* never */
    assert_false(signal_after_one_more(r));
    store_le16(r->ram + DRIVER + 2, 0); /* always */
    assert_true(signal_after_one_more(r));
    store_le16(r->ram + DRIVER + 2, 2); /* when slot 4 of this round is used */
    store_le16(r->ram + DRIVER, 4 | 1 << 15);
    assert_false(signal_after_one_more(r)); /* 2 */
    assert_false(signal_after_one_more(r)); /* 3 */
    assert_true(signal_after_one_more(r));  /* 4 */
    assert_false(signal_after_one_more(r)); /* 0, next round */
    store_le16(r->ram + DRIVER, 2);
    assert_false(signal_after_one_more(r)); /* 1 */
    assert_true(signal_after_one_more(r));  /* 2 */
    store_le16(r->ram + DRIVER, 0x7fff);    /* nowhere: better once too often */
    assert_true(signal_after_one_more(r));
}

static void kicks_are_asked_for(void **state)
{
    struct rig *r = *state;
    vq_want_kick(&r->vq, false);
    assert_int_equal(load_le16(r->ram + DEVICE + 2), 1);
    signal_after_one_more(r);
    vq_want_kick(&r->vq, true);
    assert_int_equal(load_le16(r->ram + DEVICE + 2), 2);
    assert_int_equal(load_le16(r->ram + DEVICE), 1 | 1 << 15);
    for (unsigned i = 1; i < SIZE; i++) {
        signal_after_one_more(r);
    }
    vq_want_kick(&r->vq, true);
    assert_int_equal(load_le16(r->ram + DEVICE), 0);
    r->vq.event_idx = false;
    vq_want_kick(&r->vq, true);
    assert_int_equal(load_le16(r->ram + DEVICE + 2), 0);
}

/* Nothing is taken whose flags say that it is not our turn. */
static void wrong_turns_are_not_taken(void **state)
{
    struct rig *r = *state;
    struct vq_elem e;
    static const uint16_t not_ours[] = {0, USED, AVAIL | USED};
    for (unsigned i = 0; i < sizeof(not_ours) / sizeof(not_ours[0]); i++) {
        put_raw(r->ram + RING, BUF, 4, 0, not_ours[i]);
        assert_true(vq_empty(&r->vq));
        assert_false(vq_pop(&r->vq, &e));
    }
    for (unsigned i = 0; i < SIZE; i++) {
        signal_after_one_more(r);
    }
    put_raw(r->ram + RING, BUF, 4, 0, AVAIL); /* of the first round */
    assert_true(vq_empty(&r->vq));
    assert_false(r->vq.broken);
}

/* Each of these must break the queue, nothing else. */
static void hostile_rings_break_the_queue(void **state)
{
    static const struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, more; /* more: flags of the second descriptor */
    } bad[] = {
        {0xfffff000, 4, 0, 0},          /* not RAM */
        {0xffff, 16, WRITE, 0},         /* leaves RAM */
        {~0ull, 8, 0, 0},               /* wraps */
        {BUF, 24, INDIRECT, 0},         /* a table of one and a half entries */
        {BUF, 0, INDIRECT, 0},          /* of none */
        {BUF, 16u * 4096, INDIRECT, 0}, /* too long */
        {BUF, 16, INDIRECT | NEXT, 0},  /* chained */
        {BUF, 16, NEXT, INDIRECT},      /* in a chain */
        {BUF, 16, NEXT | WRITE, 0},     /* readable behind writable */
        {0xfff8, 16, INDIRECT, 0},      /* a table that leaves RAM */
    };
    struct rig *r = *state;
    struct vq_elem e;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        enable(r);
        put(r, bad[i].addr, bad[i].len, 0, bad[i].flags);
        put(r, BUF, 16, 0, bad[i].more);
        assert_false(vq_pop(&r->vq, &e));
        assert_true(r->vq.broken);
        vq_push(&r->vq, &e, 0); /* harmless */
    }
}

static void endless_chain(void **state)
{
    struct rig *r = *state;
    struct vq_elem e;
    for (unsigned i = 0; i < SIZE; i++) {
        put(r, BUF, 4, 0, NEXT);
    }
    assert_false(vq_pop(&r->vq, &e));
    assert_true(r->vq.broken);
    assert_true(vq_empty(&r->vq));
}

/* A request that is older than the ring as it is now changes nothing. */
static void too_many_slots_are_not_given_back(void **state)
{
    struct rig *r = *state;
    struct vq_elem e = {.slots = SIZE + 1};
    vq_push(&r->vq, &e, 4);
    assert_int_equal(r->vq.used_idx, 0);
    assert_int_equal(load_le32(r->ram + RING + 8), 0);
}

static void rings_must_be_in_ram(void **state)
{
    struct rig *r = *state;
    r->vq.desc = 0xffc0; /* four slots of five */
    assert_false(vq_enable(&r->vq));
    r->vq.desc = RING;
    r->vq.avail = DRIVER + 2;
    assert_false(vq_enable(&r->vq));
    r->vq.avail = 0x10000;
    assert_false(vq_enable(&r->vq));
    r->vq.avail = DRIVER;
    r->vq.size = 17;
    assert_false(vq_enable(&r->vq));
    assert_true(vq_empty(&r->vq));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(chains_go_round_the_ring, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(used_in_another_order, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(indirect_table, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(events_hold_signals_back, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(kicks_are_asked_for, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(wrong_turns_are_not_taken, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(hostile_rings_break_the_queue, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(endless_chain, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(too_many_slots_are_not_given_back, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(rings_must_be_in_ram, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
