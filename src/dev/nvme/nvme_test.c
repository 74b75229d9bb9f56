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

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {T(test_identify),     T(test_read_write), T(test_refused),
                                       T(test_full),         T(test_features),   T(test_reset),
                                       T(test_machine_reset)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
