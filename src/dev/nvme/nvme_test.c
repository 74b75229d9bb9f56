/* The NVMe controller, driven as a driver would: queues, interrupts, data, and what it refuses. */
#include "dev/nvme/nvme.h"

#include "base/unit_test.h"
#include "dev/ata/test_rig.h"

enum {
    ASQ = 0x10000,
    ACQ = 0x11000,
    SQ1 = 0x12000,
    CQ1 = 0x14000,
    PAGE = 0x20000, /* data */
    LIST = 0x60000,
    ENTRIES = 8,
};

struct rig {
    struct rig_base base;
    struct nvme n;
    bool msix, line;
    unsigned interrupts[NVME_QUEUES];
    unsigned tail[2], head[2], phase[2];
    uint32_t result;
};

static struct mem_map *see_dma(void *opaque)
{
    return ((struct rig *)opaque)->base.mem;
}

static bool see_msix(void *opaque)
{
    return ((struct rig *)opaque)->msix;
}

static void see_notify(void *opaque, unsigned vector)
{
    ((struct rig *)opaque)->interrupts[vector]++;
}

static void see_line(void *opaque, bool level)
{
    ((struct rig *)opaque)->line = level;
}

static const struct nvme_wires wires = {see_dma, see_msix, see_notify, see_line};

static void wr(struct rig *r, uint32_t off, uint32_t val)
{
    nvme_regs.write(&r->n, off, 4, val);
}

static uint32_t rd(struct rig *r, uint32_t off)
{
    uint64_t v = 0;
    nvme_regs.read(&r->n, off, 4, &v);
    return (uint32_t)v;
}

static void enable(struct rig *r)
{
    wr(r, 0x24, (ENTRIES - 1) << 16 | (ENTRIES - 1));
    wr(r, 0x28, ASQ);
    wr(r, 0x30, ACQ);
    wr(r, 0x14, 0x460001);
    assert_int_equal(rd(r, 0x1c), 1);
    memset(r->tail, 0, sizeof(r->tail));
    memset(r->head, 0, sizeof(r->head));
    r->phase[0] = r->phase[1] = 1;
}

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    rig_base_up(&r->base);
    disk_init(&r->n.disk, NULL, r->base.disk.block);
    r->msix = true;
    nvme_init(&r->n, &wires, r, "S1", 16);
    enable(r);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    rig_settle(&r->base, &r->n.disk);
    nvme_reset(&r->n);
    disk_fini(&r->n.disk);
    nvme_fini(&r->n);
    rig_base_down(&r->base);
    free(r);
    return 0;
}

/* ---- A driver ---- */

struct cmd {
    uint8_t op;
    uint32_t nsid;
    uint64_t prp1, prp2;
    uint32_t dw10, dw11, dw12;
};

static void put(struct rig *r, unsigned q, const struct cmd *c, uint16_t cid)
{
    uint8_t e[64] = {c->op};
    store_le16(e + 2, cid);
    store_le32(e + 4, c->nsid);
    store_le64(e + 24, c->prp1);
    store_le64(e + 32, c->prp2);
    store_le32(e + 40, c->dw10);
    store_le32(e + 44, c->dw11);
    store_le32(e + 48, c->dw12);
    gmem_write(r->base.mem, (q ? SQ1 : ASQ) + 64 * r->tail[q], e, 64);
    r->tail[q] = (r->tail[q] + 1) % ENTRIES;
    wr(r, 0x1000 + 8 * q, r->tail[q]);
}

/* The next completion: its status, or -1. */
static int take(struct rig *r, unsigned q, uint16_t *cid)
{
    uint8_t e[16];
    rig_settle(&r->base, &r->n.disk);
    gmem_read(r->base.mem, (q ? CQ1 : ACQ) + 16 * r->head[q], e, 16);
    if ((load_le16(e + 14) & 1) != r->phase[q]) {
        return -1;
    }
    r->result = load_le32(e);
    *cid = load_le16(e + 12);
    r->head[q] = (r->head[q] + 1) % ENTRIES;
    r->phase[q] ^= !r->head[q];
    wr(r, 0x1004 + 8 * q, r->head[q]);
    return load_le16(e + 14) >> 1;
}

static int run(struct rig *r, unsigned q, const struct cmd *c)
{
    uint16_t cid = 0;
    put(r, q, c, 77);
    int status = take(r, q, &cid);
    assert_int_equal(cid, 77);
    return status;
}

static void add_queues(struct rig *r)
{
    const struct cmd cq = {
        .op = 5, .prp1 = CQ1, .dw10 = (ENTRIES - 1) << 16 | 1, .dw11 = 1 << 16 | 3};
    const struct cmd sq = {
        .op = 1, .prp1 = SQ1, .dw10 = (ENTRIES - 1) << 16 | 1, .dw11 = 1 << 16 | 1};
    assert_int_equal(run(r, 0, &cq), 0);
    assert_int_equal(run(r, 0, &sq), 0);
}

/* ---- Tests ---- */

static void test_identify(void **state)
{
    struct rig *r = *state;
    char text[21] = {0};
    struct cmd c = {.op = 6, .prp1 = PAGE, .dw10 = 1};
    assert_int_equal(run(r, 0, &c), 0);
    gmem_read(r->base.mem, PAGE + 4, text, 20);
    assert_string_equal(text, "S1                  ");
    assert_int_equal(rig_peek32(&r->base, PAGE + 516), 1);
    c = (struct cmd){.op = 6, .nsid = 1, .prp1 = PAGE};
    assert_int_equal(run(r, 0, &c), 0);
    assert_int_equal(rig_peek32(&r->base, PAGE), RIG_DISK / 512);
    c.nsid = 2;
    assert_int_equal(run(r, 0, &c), 0x400b);
    c = (struct cmd){.op = 6, .prp1 = PAGE, .dw10 = 2};
    assert_int_equal(run(r, 0, &c), 0);
    assert_int_equal(rig_peek32(&r->base, PAGE), 1);
    c = (struct cmd){.op = 6, .nsid = 1, .prp1 = PAGE, .dw10 = 3};
    assert_int_equal(run(r, 0, &c), 0);
    assert_int_equal(rig_peek32(&r->base, PAGE) & 0xffff, 0x1003);
    c.dw10 = 0x40;
    assert_int_equal(run(r, 0, &c), 0x4002);
    assert_int_equal(r->interrupts[0], 6);
}

static void test_read_write(void **state)
{
    struct rig *r = *state;
    add_queues(r);
    /* Three pages: the first from its middle, so that a list is needed. */
    rig_poke32(&r->base, LIST, PAGE + 0x3000);
    rig_poke32(&r->base, LIST + 8, PAGE + 0x1000);
    struct cmd c = {.op = 2, .nsid = 1, .prp1 = PAGE + 0x800, .prp2 = LIST, .dw10 = 5, .dw12 = 19};
    assert_int_equal(run(r, 1, &c), 0);
    assert_int_equal(rig_peek32(&r->base, PAGE + 0x800), 5);
    assert_int_equal(rig_peek32(&r->base, PAGE + 0x3000), 5 + 4);
    assert_int_equal(rig_peek32(&r->base, PAGE + 0x1000), 5 + 12);
    assert_int_equal(r->interrupts[1], 1);
    c.op = 1;
    c.dw10 = 100;
    c.dw12 |= 1u << 30;
    assert_int_equal(run(r, 1, &c), 0);
    assert_int_equal(rig_disk32(&r->base.disk, 100 * 512), 5);
    assert_int_equal(rig_disk32(&r->base.disk, 119 * 512), 24);
    c.op = 5; /* Compare */
    assert_int_equal(run(r, 1, &c), 0);
    rig_poke32(&r->base, PAGE + 0x1000, 1);
    assert_int_equal(run(r, 1, &c), 0x4285);
    c = (struct cmd){.op = 8, .nsid = 1, .dw10 = 101, .dw12 = 1}; /* Write Zeroes */
    assert_int_equal(run(r, 1, &c), 0);
    assert_int_equal(rig_disk32(&r->base.disk, 102 * 512), 0);
    assert_int_equal(rig_disk32(&r->base.disk, 103 * 512), 8);
    c = (struct cmd){.op = 0, .nsid = UINT32_MAX};
    assert_int_equal(run(r, 1, &c), 0);
    rig_poke32(&r->base, PAGE + 4, 8); /* Dataset Management: 8 blocks from 200 */
    rig_poke32(&r->base, PAGE + 8, 200);
    rig_poke32(&r->base, PAGE + 12, 0);
    c = (struct cmd){.op = 9, .nsid = 1, .prp1 = PAGE, .dw11 = 4};
    assert_int_equal(run(r, 1, &c), 0);
}

static void test_refused(void **state)
{
    struct rig *r = *state;
    add_queues(r);
    struct cmd c = {.op = 2, .nsid = 1, .prp1 = PAGE, .dw10 = RIG_DISK / 512};
    assert_int_equal(run(r, 1, &c), 0x4080);
    c = (struct cmd){.op = 2, .nsid = 1, .prp1 = PAGE, .dw12 = 0xffff}; /* 32 MiB */
    assert_int_not_equal(run(r, 1, &c), 0);
    c = (struct cmd){.op = 2, .nsid = 1, .prp1 = PAGE, .dw12 = 2047}; /* 1 MiB: above MDTS */
    assert_int_equal(run(r, 1, &c), 0x4002);
    c = (struct cmd){.op = 2, .nsid = 1, .prp1 = RIG_RAM, .dw12 = 0};
    assert_int_equal(run(r, 1, &c), 4);
    c = (struct cmd){.op = 2, .nsid = 1, .prp1 = PAGE, .prp2 = 4, .dw12 = 15};
    assert_int_equal(run(r, 1, &c), 0x4013);
    c = (struct cmd){.op = 2, .nsid = 2, .prp1 = PAGE};
    assert_int_equal(run(r, 1, &c), 0x400b);
    c = (struct cmd){.op = 0x7f, .nsid = 1};
    assert_int_equal(run(r, 1, &c), 0x4001);
    /* A list that begins with the way to the next one, which is nowhere. */
    rig_poke32(&r->base, LIST + 0xff8, RIG_RAM);
    c = (struct cmd){.op = 2, .nsid = 1, .prp1 = PAGE, .prp2 = LIST + 0xff8, .dw12 = 1023};
    assert_int_equal(run(r, 1, &c), 4);
    rig_poke32(&r->base, LIST + 0xff8, LIST + 0xff8); /* not a page's start */
    assert_int_equal(run(r, 1, &c), 0x4013);
    c = (struct cmd){.op = 1, .prp1 = SQ1, .dw10 = 1024u << 16 | 2, .dw11 = 1 << 16 | 1};
    assert_int_equal(run(r, 0, &c), 0x4102);
    c = (struct cmd){.op = 4, .dw10 = 1}; /* its submission queue is there */
    assert_int_equal(run(r, 0, &c), 0x410c);
    c = (struct cmd){.op = 0, .dw10 = 1};
    assert_int_equal(run(r, 0, &c), 0);
    c.op = 4;
    assert_int_equal(run(r, 0, &c), 0);
    assert_int_equal(run(r, 0, &c), 0x4101);
}

/* Without room for completions they wait; nothing is lost, nor out of order. */
static void test_full(void **state)
{
    struct rig *r = *state;
    uint16_t cid = 0;
    const struct cmd c = {.op = 2, .nsid = 1, .prp1 = PAGE};
    add_queues(r);
    for (unsigned round = 0; round < 2; round++) {
        for (uint16_t i = 0; i < ENTRIES - 1; i++) {
            put(r, 1, &c, (uint16_t)(round * 100 + i));
        }
        rig_settle(&r->base, &r->n.disk);
    }
    for (uint16_t i = 0; i < 2 * (ENTRIES - 1); i++) {
        assert_int_equal(take(r, 1, &cid), 0);
        assert_int_equal(cid, i < ENTRIES - 1 ? i : 100 + i - (ENTRIES - 1));
    }
    assert_int_equal(take(r, 1, &cid), -1);
}

static void test_features(void **state)
{
    struct rig *r = *state;
    struct cmd c = {.op = 9, .dw10 = 7, .dw11 = 0x00ff00ff};
    assert_int_equal(run(r, 0, &c), 0);
    assert_int_equal(r->result, 0x000f000f);
    c = (struct cmd){.op = 10, .dw10 = 6};
    assert_int_equal(run(r, 0, &c), 0);
    assert_int_equal(r->result, 1);
    c = (struct cmd){.op = 9, .dw10 = 6};
    assert_int_equal(run(r, 0, &c), 0);
    c = (struct cmd){.op = 10, .dw10 = 6};
    assert_int_equal(run(r, 0, &c), 0);
    assert_int_equal(r->result, 0);
    c.dw10 = 0x80;
    assert_int_equal(run(r, 0, &c), 0x4002);
    c = (struct cmd){.op = 2, .prp1 = PAGE, .dw10 = 127 << 16 | 2};
    assert_int_equal(run(r, 0, &c), 0);
    c.dw10 = 0x70;
    assert_int_equal(run(r, 0, &c), 0x4109);
    /* Four requests for events wait, the fifth does not. */
    c = (struct cmd){.op = 12};
    uint16_t cid = 0;
    for (unsigned i = 0; i < NVME_AERS; i++) {
        put(r, 0, &c, 9);
        assert_int_equal(take(r, 0, &cid), -1);
    }
    assert_int_equal(run(r, 0, &c), 0x4105);
}

static void test_reset(void **state)
{
    struct rig *r = *state;
    const struct cmd c = {.op = 2, .nsid = 1, .prp1 = PAGE};
    add_queues(r);
    put(r, 1, &c, 1);
    wr(r, 0x14, 0x460000);
    assert_int_equal(rd(r, 0x1c), 1); /* ready falls when nothing flies */
    rig_settle(&r->base, &r->n.disk);
    assert_int_equal(rd(r, 0x1c), 0);
    wr(r, 0x1008, 3); /* queue 1 is gone */
    memset(r->interrupts, 0, sizeof(r->interrupts));
    uint8_t zero[4096] = {0};
    gmem_write(r->base.mem, ACQ, zero, sizeof(zero));
    r->msix = false;
    enable(r);
    const struct cmd id = {.op = 6, .prp1 = PAGE, .dw10 = 1};
    put(r, 0, &id, 3);
    assert_true(r->line);
    wr(r, 0x0c, 1);
    assert_false(r->line);
    wr(r, 0x10, 1);
    assert_true(r->line);
    uint16_t cid = 0;
    assert_int_equal(take(r, 0, &cid), 0);
    assert_false(r->line);
    wr(r, 0x14, 0x464001); /* shutdown: the cache is written */
    rig_settle(&r->base, &r->n.disk);
    assert_int_equal(rd(r, 0x1c), 1 | 2 << 2);
}

/* A reset of the machine quiesces its devices first, and does not resume them. */
static void test_machine_reset(void **state)
{
    struct rig *r = *state;
    uint8_t zero[4096] = {0};
    const struct cmd id = {.op = 6, .prp1 = PAGE, .dw10 = 1};
    assert_int_equal(run(r, 0, &id), 0);
    nvme_quiesce(&r->n);
    nvme_reset(&r->n);
    gmem_write(r->base.mem, ACQ, zero, sizeof(zero));
    enable(r);
    assert_int_equal(run(r, 0, &id), 0);
}

/* ---- A driver that means no good ---- */

enum { BAR = 0x80000000 };

/* Queues, lists and data in the controller's own registers: DMA reaches memory only, so that no
 * command can write the doorbell it came by. */
static void queues_in_its_own_bar(void **state)
{
    struct rig *r = *state;
    struct cmd c = {.op = 6, .prp1 = BAR + 0x1000, .dw10 = 1};
    mem_map_add_mmio(r->base.mem, BAR, 0x2000, &nvme_regs, &r->n);
    assert_int_equal(run(r, 0, &c), 4); /* data */
    add_queues(r);
    c = (struct cmd){.op = 2, .nsid = 1, .prp1 = PAGE, .prp2 = BAR + 0x1000, .dw12 = 31};
    assert_int_equal(run(r, 1, &c), 4); /* a list */
    c = (struct cmd){.op = 2, .nsid = 1, .prp1 = BAR + 0x1000, .dw12 = 0};
    assert_int_equal(run(r, 1, &c), 4);
    c = (struct cmd){.op = 5, .prp1 = BAR, .dw10 = (ENTRIES - 1) << 16 | 2, .dw11 = 3};
    assert_int_equal(run(r, 0, &c), 0);
    c = (struct cmd){.op = 1, .prp1 = BAR, .dw10 = (ENTRIES - 1) << 16 | 2, .dw11 = 2 << 16 | 1};
    assert_int_equal(run(r, 0, &c), 0);
    wr(r, 0x1010, 1); /* its tail */
    rig_settle(&r->base, &r->n.disk);
    assert_int_equal(rd(r, 0x1c) & 2, 2); /* CFS */
    wr(r, 0x14, 0);
    wr(r, 0x28, BAR + 0x1000);
    wr(r, 0x30, BAR + 0x1000);
    wr(r, 0x14, 0x460001);
    wr(r, 0x1000, 1);
    assert_int_equal(rd(r, 0x1c) & 2, 2);
    wr(r, 0x14, 0);
    enable(r); /* and it works again */
    c = (struct cmd){.op = 6, .prp1 = PAGE, .dw10 = 1};
    uint8_t zero[128] = {0};
    gmem_write(r->base.mem, ACQ, zero, sizeof(zero));
    assert_int_equal(run(r, 0, &c), 0);
}

/* The command and its list are changed when they were fetched and have not run. */
static void commands_that_change_while_they_run(void **state)
{
    struct rig *r = *state;
    uint8_t spoiled[64];
    uint16_t cid = 0;
    add_queues(r);
    rig_poke32(&r->base, LIST, PAGE + 0x3000);
    rig_poke32(&r->base, LIST + 8, PAGE + 0x1000);
    const struct cmd c = {
        .op = 2, .nsid = 1, .prp1 = PAGE + 0x800, .prp2 = LIST, .dw10 = 5, .dw12 = 19};
    put(r, 1, &c, 7);
    memset(spoiled, 0xff, sizeof(spoiled));
    gmem_write(r->base.mem, SQ1, spoiled, sizeof(spoiled));
    gmem_write(r->base.mem, LIST, spoiled, sizeof(spoiled));
    assert_int_equal(take(r, 1, &cid), 0);
    assert_int_equal(cid, 7);
    assert_int_equal(rig_peek32(&r->base, PAGE + 0x800), 5);
    assert_int_equal(rig_peek32(&r->base, PAGE + 0x3000), 5 + 4);
    assert_int_equal(rig_peek32(&r->base, PAGE + 0x1000), 5 + 12);
}

/* Block numbers whose sum or product with a size wraps. */
static void ranges_that_wrap(void **state)
{
    struct rig *r = *state;
    static const uint64_t starts[] = {
        ~0ull, ~0ull - 7, 1ull << 63, 1ull << 55, (1ull << 55) - 1, RIG_DISK / 512, UINT32_MAX};
    static const uint8_t ops[] = {1, 2, 5, 8};
    uint8_t entry[64], range[16];
    uint16_t cid = 0;
    add_queues(r);
    for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        for (unsigned k = 0; k < sizeof(ops); k++) {
            const struct cmd c = {.op = ops[k], .nsid = 1, .prp1 = PAGE, .dw12 = 7};
            put(r, 1, &c, 1);
            assert_int_not_equal(take(r, 1, &cid), -1);
            /* once more, with all 64 bits */
            unsigned at = r->tail[1];
            gmem_read(r->base.mem, SQ1 + 64 * ((at + ENTRIES - 1) % ENTRIES), entry, 64);
            store_le64(entry + 40, starts[i]);
            gmem_write(r->base.mem, SQ1 + 64 * at, entry, 64);
            r->tail[1] = (at + 1) % ENTRIES;
            wr(r, 0x1008, r->tail[1]);
            assert_int_equal(take(r, 1, &cid), 0x4080);
        }
        store_le32(range, 0);
        store_le32(range + 4, 8);
        store_le64(range + 8, starts[i]);
        gmem_write(r->base.mem, PAGE, range, sizeof(range));
        const struct cmd dsm = {.op = 9, .nsid = 1, .prp1 = PAGE, .dw11 = 4};
        assert_int_equal(run(r, 1, &dsm), 0x4080);
    }
}

/* Doorbells of queues that are none, of every size, with values outside of the queue. */
static void doorbells_of_no_queue(void **state)
{
    struct rig *r = *state;
    static const uint32_t values[] = {ENTRIES, ENTRIES + 1, 0xffff, 0x10000, UINT32_MAX, 1 << 31};
    add_queues(r);
    for (uint32_t off = 0x1000; off < 0x2000; off += 4) {
        for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
            wr(r, off, values[i]);
        }
        if (off >= 0x1010) {
            wr(r, off, 1);
        }
    }
    rig_settle(&r->base, &r->n.disk);
    const struct cmd c = {.op = 2, .nsid = 1, .prp1 = PAGE, .dw10 = 3};
    assert_int_equal(run(r, 1, &c), 0);
}

/* Every way of a reset, with commands in flight and completions that wait for room; then the next
 * driver comes. Nothing is used that is gone, nothing is kept for ever. */
static void resets_with_commands_in_flight(void **state)
{
    struct rig *r = *state;
    const struct cmd c = {.op = 2, .nsid = 1, .prp1 = PAGE};
    const struct cmd gone = {.op = 0, .dw10 = 1}, event = {.op = 12};
    uint8_t zero[4096] = {0};
    for (unsigned round = 0; round < 60; round++) {
        add_queues(r);
        put(r, 0, &event, 9);
        for (uint16_t i = 0; i < ENTRIES - 1; i++) {
            put(r, 1, &c, i);
        }
        if (round & 1) {
            rig_settle(&r->base, &r->n.disk); /* they have ended: the queue is full */
            for (uint16_t i = 0; i < ENTRIES - 1; i++) {
                put(r, 1, &c, i);
            }
        }
        if (round & 2) {
            put(r, 0, &gone, 5);
        }
        if (round % 3 == 0) {
            rig_settle(&r->base, &r->n.disk);
            nvme_quiesce(&r->n);
            nvme_reset(&r->n);
        } else if (round % 3 == 1) {
            wr(r, 0x14, 0x460000);
        } else {
            wr(r, 0x14, 0x464001); /* shutdown, then off */
            wr(r, 0x14, 0x460000);
        }
        rig_settle(&r->base, &r->n.disk);
        assert_int_equal(r->n.requests, 0);
        gmem_write(r->base.mem, ACQ, zero, sizeof(zero));
        gmem_write(r->base.mem, CQ1, zero, sizeof(zero));
        enable(r);
    }
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_identify),      T(test_read_write),       T(test_refused),
        T(test_full),          T(test_features),         T(test_reset),
        T(test_machine_reset), T(queues_in_its_own_bar), T(commands_that_change_while_they_run),
        T(ranges_that_wrap),   T(doorbells_of_no_queue), T(resets_with_commands_in_flight)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
