/* virtio devices on PCI with a driver that means no good: rings in the device's own BAR, queues
 * that change while they are in use, vectors that are none, and resets of all kinds with requests
 * in flight. */
#include "dev/virtio/virtio_pci.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/unit_test.h"
#include "block/block.h"
#include "dev/misc/test_pc.h"
#include "dev/virtio/drive_policy.h"
#include "dev/virtio/virtio_devices.h"

enum {
    BAR = 0x80000000,
    MSIX = 0x90000000,
    LEGACY = 0xc000,
    STATUS = BAR + 0x14,
    SELECT = BAR + 0x16,
    SIZE = BAR + 0x18,
    ENABLE = BAR + 0x1c,
    DESC = BAR + 0x20,
    DRIVER = BAR + 0x28,
    DEVICE = BAR + 0x30,
    NOTIFY = BAR + 0x3000,
    RING = 0x4000, /* descriptors; available at 400h, used at 800h */
    DATA = 0x8000,
    ENTRIES = 16,
    NEEDS_RESET = 0x40,
};

struct rig {
    struct test_pc *t;
    uint8_t *ram;
    struct dev *dev;
    uint16_t idx;
    /* For a disk: its image's loop on a thread of its own. */
    struct loop *loop;
    pthread_t thread;
    struct block_graph *graph;
    struct block *block;
    struct drive_policy policy;
    int fd;
};

static void config(struct rig *r, unsigned off, unsigned size, uint32_t v)
{
    test_pc_config(r->t, off, size, v);
}

static void put_bars(struct rig *r)
{
    config(r, 0x10, 4, LEGACY);
    config(r, 0x14, 4, MSIX);
    config(r, 0x20, 4, BAR);
    config(r, 0x24, 4, 0);
    config(r, PCI_COMMAND, 2, 7);
}

static void add(struct rig *r, const struct dev_type *type, const char *args)
{
    struct err err;
    struct mem_hit hit;
    r->dev = test_pc_add(r->t, type, args, &err);
    assert_non_null(r->dev);
    assert_true(mem_lookup(r->t->m->mem, 0, &hit));
    r->ram = hit.host;
    put_bars(r);
}

static int rng_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    r->t = test_pc_new();
    add(r, &virtio_rng_pci_type, "");
    *state = r;
    return 0;
}

static int rng_down(void **state)
{
    struct rig *r = *state;
    test_pc_free(r->t);
    free(r);
    return 0;
}

static void wr(struct rig *r, gpa_t at, unsigned size, uint64_t v)
{
    test_pc_write(r->t, at, size, v);
}

static uint32_t rd(struct rig *r, gpa_t at, unsigned size)
{
    return test_pc_read(r->t, at, size);
}

static void put_rings_of(struct rig *r, unsigned size, uint64_t desc, uint64_t avail, uint64_t used)
{
    wr(r, SELECT, 2, 0);
    wr(r, SIZE, 2, size);
    wr(r, DESC, 8, desc);
    wr(r, DRIVER, 8, avail);
    wr(r, DEVICE, 8, used);
    wr(r, ENABLE, 2, 1);
}

static void put_rings(struct rig *r, uint64_t desc, uint64_t avail, uint64_t used)
{
    put_rings_of(r, ENTRIES, desc, avail, used);
}

/* Up to the features, as a driver does. */
static void begin(struct rig *r)
{
    wr(r, STATUS, 1, 0);
    wr(r, STATUS, 1, 3);
    wr(r, BAR + 0x08, 4, 1);
    wr(r, BAR + 0x0c, 4, 1);
    wr(r, STATUS, 1, 11);
    memset(r->ram + RING, 0, 0x1000);
    r->idx = 0;
}

static void start(struct rig *r)
{
    begin(r);
    put_rings(r, RING, RING + 0x400, RING + 0x800);
    wr(r, STATUS, 1, 15);
}

static void desc(struct rig *r, unsigned n, uint64_t at, uint32_t len, unsigned flags)
{
    uint8_t *d = r->ram + RING + 16 * n;
    store_le64(d, at);
    store_le32(d + 8, len);
    store_le16(d + 12, (uint16_t)flags);
    store_le16(d + 14, (uint16_t)(n + 1));
}

static void offer(struct rig *r, unsigned head)
{
    store_le16(r->ram + RING + 0x404 + 2 * (r->idx % ENTRIES), (uint16_t)head);
    store_le16(r->ram + RING + 0x402, ++r->idx);
}

static unsigned used(const struct rig *r)
{
    return load_le16(r->ram + RING + 0x802);
}

/* ---- The random number device ---- */

static void works_at_all(void **state)
{
    struct rig *r = *state;
    start(r);
    desc(r, 0, DATA, 64, 2);
    offer(r, 0);
    wr(r, NOTIFY, 2, 0);
    assert_int_equal(used(r), 1);
    assert_int_equal(load_le32(r->ram + RING + 0x808), 64);
    uint8_t zero[64] = {0};
    assert_memory_not_equal(r->ram + DATA, zero, 64);
}

/* Registers are no memory: neither rings nor buffers lie there, and no write of the device's rings
 * its own bell. */
static void rings_and_buffers_in_its_own_bar(void **state)
{
    struct rig *r = *state;
    static const uint64_t own[] = {BAR,           BAR + 0x3000,   MSIX,
                                   BAR + 0x10000, ~0ull & ~15ull, TEST_PC_RAM - 16};
    for (unsigned i = 0; i < ARRAY_LEN(own); i++) {
        for (unsigned which = 0; which < 3; which++) {
            begin(r);
            put_rings(r, which == 0 ? own[i] : RING, which == 1 ? own[i] : RING + 0x400,
                      which == 2 ? own[i] : RING + 0x800);
            assert_true(rd(r, STATUS, 1) & NEEDS_RESET);
            wr(r, STATUS, 1, 15);
            wr(r, NOTIFY, 2, 0);
            assert_true(rd(r, STATUS, 1) & NEEDS_RESET);
        }
        start(r);
        desc(r, 0, own[i], 64, 2);
        offer(r, 0);
        wr(r, NOTIFY, 2, 0);
        assert_true(rd(r, STATUS, 1) & NEEDS_RESET);
        assert_int_equal(used(r), 0);
    }
    works_at_all(state);
}

static void queues_that_change_in_use(void **state)
{
    struct rig *r = *state;
    start(r);
    wr(r, SIZE, 2, 8);
    wr(r, DESC, 8, BAR);
    wr(r, DRIVER + 4, 4, ~0u);
    wr(r, DEVICE, 4, 0);
    wr(r, ENABLE, 2, 0);
    assert_int_equal(rd(r, SIZE, 2), ENTRIES);
    assert_int_equal(rd(r, DESC, 4), RING);
    assert_int_equal(rd(r, ENABLE, 2), 1);
    desc(r, 0, DATA, 64, 2);
    offer(r, 0);
    wr(r, NOTIFY, 2, 0);
    assert_int_equal(used(r), 1);
    mem_write(r->t->m->io, LEGACY + 8, 4, 0x77); /* nor by the legacy registers */
    assert_int_equal(rd(r, DESC, 4), RING);
    static const uint16_t sizes[] = {0, 3, 65, 0x8000, 0xffff};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        begin(r);
        wr(r, SIZE, 2, sizes[i]);
        wr(r, DESC, 8, RING);
        wr(r, DRIVER, 8, RING + 0x400);
        wr(r, DEVICE, 8, RING + 0x800);
        wr(r, ENABLE, 2, 1);
        assert_true(rd(r, SIZE, 2) <= 64);
    }
}

static void queues_and_vectors_that_are_none(void **state)
{
    struct rig *r = *state;
    start(r);
    for (unsigned q = 1; q < 0x10000; q = q * 3 + 1) {
        wr(r, SELECT, 2, q);
        wr(r, SIZE, 2, 8);
        wr(r, DESC, 8, RING);
        wr(r, ENABLE, 2, 1);
        wr(r, BAR + 0x1a, 2, q);
        assert_int_equal(rd(r, SIZE, 2), 0);
        wr(r, NOTIFY + (q * 4) % 0x1000, 2, q);
        mem_write(r->t->m->io, LEGACY + 0x10, 2, q);
    }
    wr(r, SELECT, 2, 0);
    static const uint16_t vectors[] = {2, 3, 0x7ff, 0x800, 0xfffe};
    for (unsigned i = 0; i < ARRAY_LEN(vectors); i++) {
        wr(r, BAR + 0x10, 2, vectors[i]);
        assert_int_equal(rd(r, BAR + 0x10, 2), 0xffff);
        wr(r, BAR + 0x1a, 2, vectors[i]);
        assert_int_equal(rd(r, BAR + 0x1a, 2), 0xffff);
    }
    for (gpa_t at = BAR; at < BAR + 0x4000; at += at % 0x1000 < 0x40 ? 1 : 0xfc0) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            uint64_t v;
            mem_read(r->t->m->mem, at, size, &v);
        }
    }
    desc(r, 0, DATA, 64, 2);
    offer(r, 0);
    wr(r, NOTIFY, 2, 0);
    assert_int_equal(used(r), 1);
}

/* ---- The disk ---- */

static void *run_loop(void *opaque)
{
    loop_run(opaque);
    return NULL;
}

static int disk_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;
    char path[32];
    r->t = test_pc_new();
    r->loop = loop_new(&err);
    r->graph = block_graph_new(r->loop);
    r->fd = memfd_create("disk", MFD_CLOEXEC);
    assert_false(ftruncate(r->fd, 1 << 20));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", r->fd);
    r->block = block_open_name(r->graph, path, "raw", NULL, BLOCK_RDWR, &err);
    assert_non_null(r->block);
    machine_add_backend(r->t->m, "drive", "d", r->block, NULL);
    machine_add_backend(r->t->m, "drive-policy", "d", &r->policy, NULL);
    pthread_create(&r->thread, NULL, run_loop, r->loop);
    add(r, &virtio_blk_pci_type, "drive=d");
    *state = r;
    return 0;
}

static int disk_down(void **state)
{
    struct rig *r = *state;
    test_pc_free(r->t);
    loop_stop(r->loop);
    pthread_join(r->thread, NULL);
    block_close(r->block);
    block_graph_free(r->graph);
    loop_free(r->loop);
    close(r->fd);
    free(r);
    return 0;
}

/* Five requests of three descriptors each: head, 4 KiB of data, status. */
static void offer_requests(struct rig *r, bool write)
{
    for (unsigned i = 0; i < 5; i++) {
        uint8_t *head = r->ram + DATA + 0x2000 * i;
        store_le32(head, write ? 1 : 0);
        store_le32(head + 4, 0);
        store_le64(head + 8, 8 * i);
        desc(r, 3 * i, DATA + 0x2000 * i, 16, 1);
        desc(r, 3 * i + 1, DATA + 0x2000 * i + 0x1000, 0x1000, write ? 1 : 3);
        desc(r, 3 * i + 2, DATA + 0x2000 * i + 16, 1, 2);
        offer(r, 3 * i);
    }
    wr(r, NOTIFY, 2, 0);
}

/* After the reset nothing of the old requests comes, and the next driver's are done. */
static void resets_with_requests_in_flight(void **state)
{
    struct rig *r = *state;
    for (unsigned round = 0; round < 100; round++) {
        start(r);
        offer_requests(r, round & 1);
        switch (round % 6) {
        case 0: wr(r, STATUS, 1, 0); break;
        case 1: mem_write(r->t->m->io, LEGACY + 0x12, 1, 0); break;
        case 2:
            if (r->dev->type->quiesce) {
                r->dev->type->quiesce(r->dev);
            }
            dev_reset_all(r->t->m, DEV_RESET_POWER);
            put_bars(r);
            break;
        case 3:
            dev_reset_all(r->t->m, DEV_RESET_POWER);
            put_bars(r);
            break;
        case 4: /* the rings are overwritten, the queue breaks */
            memset(r->ram + RING, 0xff, 0x1000);
            wr(r, NOTIFY, 2, 0);
            wr(r, STATUS, 1, 0);
            break;
        default: /* the BARs go, then the driver */
            config(r, PCI_COMMAND, 2, 0);
            config(r, 0x20, 4, 0);
            put_bars(r);
            wr(r, STATUS, 1, 0);
        }
        assert_int_equal(rd(r, STATUS, 1), 0);
        memset(r->ram + RING, 0x55, 0x1000);
        for (unsigned i = 0; i < 0x1000; i++) {
            assert_int_equal(r->ram[RING + i], 0x55);
        }
    }
    start(r);
    offer_requests(r, false);
    for (unsigned i = 0; i < 100000 && used(r) < 5; i++) {
        sched_yield();
        usleep(100);
    }
    assert_int_equal(used(r), 5);
    assert_int_equal(r->ram[DATA + 16], 0);
}

/* Sectors whose product with their size wraps, or that end behind the disk. */
static void ranges_that_wrap(void **state)
{
    struct rig *r = *state;
    static const uint64_t sectors[] = {~0ull, ~0ull >> 9, 1ull << 55, (1ull << 55) - 8,
                                       2041,  1ull << 63};
    for (unsigned i = 0; i < ARRAY_LEN(sectors); i++) {
        for (unsigned type = 0; type < 2; type++) {
            start(r);
            store_le32(r->ram + DATA, type);
            store_le64(r->ram + DATA + 8, sectors[i]);
            r->ram[DATA + 16] = 0xee;
            desc(r, 0, DATA, 16, 1);
            desc(r, 1, DATA + 0x1000, 0x1000, type ? 1 : 3);
            desc(r, 2, DATA + 16, 1, 2);
            offer(r, 0);
            wr(r, NOTIFY, 2, 0);
            for (unsigned k = 0; k < 100000 && used(r) < 1; k++) {
                usleep(100);
            }
            assert_int_equal(r->ram[DATA + 16], 1); /* VIRTIO_BLK_S_IOERR */
        }
    }
}

/* On the image's loop. */
struct gate {
    struct rig *r;
    _Atomic bool open;
    _Atomic int seen; /* requests done when other work had its turn; -1: not yet */
};

static void wait_at_gate(void *opaque)
{
    const struct gate *g = opaque;
    while (!g->open) {
        sched_yield();
    }
}

static void other_work(void *opaque)
{
    struct gate *g = opaque;
    g->seen = load_le16(g->r->ram + RING + 0x2002);
}

/* A ring full of requests that are done at once (there is no such kind), as a driver on another
 * processor could keep it for ever: other work of the image's loop has its turn in between. */
static void other_work_has_its_turn(void **state)
{
    enum { FULL = 256 };
    struct rig *r = *state;
    struct gate g = {.r = r, .seen = -1};
    begin(r);
    memset(r->ram + RING, 0, 0x4000);
    store_le32(r->ram + 0x9000, 99);
    desc(r, 0, 0x9000, 16, 1);
    desc(r, 1, 0x9010, 1, 2);
    store_le16(r->ram + RING + 0x1002, FULL); /* all of them the same one */
    put_rings_of(r, FULL, RING, RING + 0x1000, RING + 0x2000);
    loop_post(r->loop, wait_at_gate, &g);
    wr(r, STATUS, 1, 15);
    wr(r, NOTIFY, 2, 0);
    loop_post(r->loop, other_work, &g);
    g.open = true;
    for (unsigned i = 0; i < 100000 && load_le16(r->ram + RING + 0x2002) < FULL; i++) {
        usleep(100);
    }
    assert_int_equal(load_le16(r->ram + RING + 0x2002), FULL);
    assert_in_range(g.seen, 1, FULL - 1);
    assert_int_equal(r->ram[0x9010], 2); /* VIRTIO_BLK_S_UNSUPP */
}

#define T(f, kind) cmocka_unit_test_setup_teardown(f, kind##_up, kind##_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(works_at_all, rng),
        T(rings_and_buffers_in_its_own_bar, rng),
        T(queues_that_change_in_use, rng),
        T(queues_and_vectors_that_are_none, rng),
        T(resets_with_requests_in_flight, disk),
        T(ranges_that_wrap, disk),
        T(other_work_has_its_turn, disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
