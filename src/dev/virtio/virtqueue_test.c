#include "dev/virtio/virtqueue.h"

#include <pthread.h>
#include <string.h>

#include "base/endian.h"
#include "base/err.h"
#include "base/unit_test.h"

enum { DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, BUF = 0x4000, SIZE = 8 };

struct rig {
    struct ram_set set;
    struct mem_map *mem;
    uint8_t *ram;
    struct vq vq;
};

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
                         .desc = DESC,
                         .avail = AVAIL,
                         .used = USED,
                         .indirect = true,
                         .event_idx = true};
    assert_true(vq_enable(&rig.vq));
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

static void put_desc(uint8_t *at, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
    store_le64(at, addr);
    store_le32(at + 8, len);
    store_le16(at + 12, flags);
    store_le16(at + 14, next);
}

static void make_avail(struct rig *r, uint16_t head)
{
    uint16_t idx = load_le16(r->ram + AVAIL + 2);
    store_le16(r->ram + AVAIL + 4 + 2 * (idx % SIZE), head);
    store_le16(r->ram + AVAIL + 2, (uint16_t)(idx + 1));
}

static void chain_goes_there_and_back(void **state)
{
    struct rig *r = *state;
    struct vq_elem e;
    memcpy(r->ram + BUF, "question", 8);
    put_desc(r->ram + DESC + 16 * 3, BUF, 8, 1, 5);
    put_desc(r->ram + DESC + 16 * 5, BUF + 0x100, 16, 2, 0);
    assert_false(vq_pop(&r->vq, &e));
    make_avail(r, 3);
    assert_true(vq_pop(&r->vq, &e));
    assert_int_equal(e.out_len, 8);
    assert_int_equal(e.in_len, 16);
    char text[8];
    assert_int_equal(iov_read(e.out, e.out_count, 2, text, 8), 6);
    assert_memory_equal(text, "estion", 6);
    iov_write(e.in, e.in_count, 0, "answer", 6);
    vq_push(&r->vq, &e, 6);
    assert_int_equal(load_le16(r->ram + USED + 2), 1);
    assert_int_equal(load_le32(r->ram + USED + 4), 3);
    assert_int_equal(load_le32(r->ram + USED + 8), 6);
    assert_memory_equal(r->ram + BUF + 0x100, "answer", 6);
    assert_true(vq_should_signal(&r->vq));
}

static void indirect_table(void **state)
{
    struct rig *r = *state;
    struct vq_elem e;
    put_desc(r->ram + DESC, BUF, 32, 4, 0);
    put_desc(r->ram + BUF, BUF + 0x200, 4, 1, 1);
    put_desc(r->ram + BUF + 16, BUF + 0x300, 4, 2, 0);
    make_avail(r, 0);
    assert_true(vq_pop(&r->vq, &e));
    assert_int_equal(e.out_count, 1);
    assert_int_equal(e.in_count, 1);
}

static void event_index_holds_signals_back(void **state)
{
    struct rig *r = *state;
    struct vq_elem e;
    put_desc(r->ram + DESC, BUF, 4, 2, 0);
    store_le16(r->ram + AVAIL + 4 + 2 * SIZE, 2); /* after the third */
    for (unsigned i = 0; i < 3; i++) {
        make_avail(r, 0);
        assert_true(vq_pop(&r->vq, &e));
        vq_push(&r->vq, &e, 0);
        bool signal = vq_should_signal(&r->vq);
        assert_int_equal(signal, i != 1); /* the very first is not known to be unwanted */
    }
    vq_want_kick(&r->vq, true);
    assert_int_equal(load_le16(r->ram + USED + 4 + 8 * SIZE), 3);
}

/* Each of these must break the queue, nothing else. */
static void hostile_chains_break_the_queue(void **state)
{
    static const struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next, head;
    } bad[] = {
        {BUF, 4, 1, 0, 0},          /* loop */
        {BUF, 4, 1, 99, 0},         /* next outside of the table */
        {0xfffff000, 4, 0, 0, 0},   /* not RAM */
        {0xffff, 16, 2, 0, 0},      /* leaves RAM */
        {~0ull, 8, 0, 0, 0},        /* wraps */
        {BUF, 24, 4, 0, 0},         /* indirect table of one and a half entries */
        {BUF, 0, 4, 0, 0},          /* and of none */
        {BUF, 16u * 4096, 4, 0, 0}, /* and too long */
        {BUF, 16, 5, 0, 0},         /* indirect with next */
        {BUF, 4, 0, 0, 200},        /* head outside */
    };
    struct rig *r = *state;
    struct vq_elem e;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(r->ram + AVAIL, 0, 64);
        assert_true(vq_enable(&r->vq));
        put_desc(r->ram + DESC, bad[i].addr, bad[i].len, bad[i].flags, bad[i].next);
        make_avail(r, bad[i].head);
        assert_false(vq_pop(&r->vq, &e));
        assert_true(r->vq.broken);
    }
    store_le16(r->ram + AVAIL + 2, 9); /* more than the ring holds */
    assert_true(vq_enable(&r->vq));
    assert_false(vq_pop(&r->vq, &e));
    assert_true(r->vq.broken);
}

/* Chains that make no progress: of empty buffers, to themselves, tables in the ring itself. */
static void empty_buffers_and_tables_in_tables(void **state)
{
    struct rig *r = *state;
    struct vq_elem e;
    for (unsigned i = 0; i < SIZE; i++) {
        put_desc(r->ram + DESC + 16 * i, 0, 0, i < SIZE - 1 ? 1 : 0, (uint16_t)(i + 1));
    }
    make_avail(r, 0);
    assert_true(vq_pop(&r->vq, &e)); /* all of them empty: nothing to look at, and it ends */
    assert_int_equal(e.out_count + e.in_count, 0);
    vq_push(&r->vq, &e, 0);
    put_desc(r->ram + DESC + 16 * (SIZE - 1), 0, 0, 1, 0); /* round and round */
    make_avail(r, 3);
    assert_false(vq_pop(&r->vq, &e));
    assert_true(r->vq.broken);
    static const uint64_t tables[] = {DESC, BUF};
    for (unsigned i = 0; i < 2; i++) {
        memset(r->ram + AVAIL, 0, 64);
        assert_true(vq_enable(&r->vq));
        put_desc(r->ram + DESC, tables[i], 16, 4, 0); /* the table is the ring, or holds a table */
        put_desc(r->ram + BUF, BUF, 16, 4, 0);
        make_avail(r, 0);
        assert_false(vq_pop(&r->vq, &e));
        assert_true(r->vq.broken);
    }
    memset(r->ram + AVAIL, 0, 64);
    assert_true(vq_enable(&r->vq));
    for (unsigned i = 0; i < 4; i++) { /* a table whose entries go round */
        put_desc(r->ram + BUF + 16 * i, 0, 0, 1, (uint16_t)((i + 1) % 4));
    }
    put_desc(r->ram + DESC, BUF, 64, 4, 0);
    make_avail(r, 0);
    assert_false(vq_pop(&r->vq, &e));
}

/* What was popped stays what it was. */
static void changes_after_the_pop_mean_nothing(void **state)
{
    struct rig *r = *state;
    struct vq_elem e;
    put_desc(r->ram + DESC, BUF, 32, 4, 0);
    put_desc(r->ram + BUF, BUF + 0x200, 4, 1, 1);
    put_desc(r->ram + BUF + 16, BUF + 0x300, 4, 2, 0);
    make_avail(r, 0);
    assert_true(vq_pop(&r->vq, &e));
    memset(r->ram + BUF, 0xff, 32);
    memset(r->ram + DESC, 0xff, 16 * SIZE);
    memset(r->ram + AVAIL, 0xff, 4 + 2 * SIZE);
    assert_ptr_equal(e.out[0].iov_base, r->ram + BUF + 0x200);
    assert_ptr_equal(e.in[0].iov_base, r->ram + BUF + 0x300);
    iov_write(e.in, e.in_count, 0, "four", 4);
    vq_push(&r->vq, &e, 4);
    assert_int_equal(load_le32(r->ram + USED + 4), 0); /* the head that it had */
    assert_memory_equal(r->ram + BUF + 0x300, "four", 4);
}

struct spoiler {
    struct rig *r;
    _Atomic bool done;
};

/* Good and bad descriptors, one after the other, as fast as it goes. */
static void *spoil(void *opaque)
{
    struct spoiler *s = opaque;
    static const uint64_t addrs[] = {BUF + 0x200, 0xfffff000, BUF + 0x300, ~0ull};
    for (unsigned i = 0; !s->done; i++) {
        put_desc(s->r->ram + BUF, addrs[i & 3], i & 4 ? 4 : ~0u, i & 8 ? 1 : 2, i & 16 ? 1 : 999);
        put_desc(s->r->ram + BUF + 16, addrs[i >> 2 & 3], 4, 2, 0);
        put_desc(s->r->ram + DESC, BUF, i & 3 ? 32 : i, i & 64 ? 5 : 4, 0);
    }
    return NULL;
}

/* Descriptors and an indirect table that another processor changes while they are read: what comes
 * out lies in guest memory, or the queue is broken. */
static void tables_that_change_while_they_are_read(void **state)
{
    struct rig *r = *state;
    struct spoiler s = {.r = r};
    struct vq_elem e;
    pthread_t thread;
    unsigned good = 0, tries = 0;
    assert_int_equal(pthread_create(&thread, NULL, spoil, &s), 0);
    for (; (good < 50 || tries < 20000) && tries < 2000000; tries++) {
        if (r->vq.broken) {
            memset(r->ram + AVAIL, 0, 64);
            vq_enable(&r->vq);
        }
        make_avail(r, 0);
        if (!vq_pop(&r->vq, &e)) {
            continue;
        }
        good++;
        for (unsigned i = 0; i < e.out_count + e.in_count; i++) {
            const uint8_t *at = e.iov[i].iov_base;
            assert_true(at >= r->ram && at < r->ram + 0x10000);
            assert_true(e.iov[i].iov_len <= (size_t)(r->ram + 0x10000 - at));
        }
        vq_push(&r->vq, &e, 0);
    }
    s.done = true;
    pthread_join(thread, NULL);
    assert_true(good > 0);
}

static void rings_must_be_in_ram(void **state)
{
    struct rig *r = *state;
    r->vq.desc = 0xfff0;
    assert_false(vq_enable(&r->vq));
    r->vq.desc = DESC + 8;
    assert_false(vq_enable(&r->vq));
    r->vq.desc = DESC;
    r->vq.size = 3;
    assert_false(vq_enable(&r->vq));
    assert_true(vq_empty(&r->vq));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(chain_goes_there_and_back, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(indirect_table, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(event_index_holds_signals_back, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(hostile_chains_break_the_queue, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(empty_buffers_and_tables_in_tables, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(changes_after_the_pop_mean_nothing, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(tables_that_change_while_they_are_read, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(rings_must_be_in_ram, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
