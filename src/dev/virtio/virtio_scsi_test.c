/* The SCSI host adapter behind the MMIO transport, driven as a driver would: a disk at 2:1 and a
 * CD drive at 0:0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/keyval.h"
#include "base/unit_test.h"
#include "block/block.h"
#include "core/machine.h"
#include "dev/scsi/scsi_bus.h"
#include "dev/virtio/drive_policy.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_mmio.h"
#include "loop/clock.h"
#include "loop/loop.h"

enum {
    RAM_SIZE = 0x20000,
    DISK_SIZE = 0x20000,
    RINGS = 0x1000, /* for each queue: descriptors, available at 200h, used at 400h */
    SIZE = 8,
    HEAD = 0x8000,
    OUT = 0x9000,
    RESP = 0xa000,
    IN = 0xb000,
    CONTROL = 0,
    REQUEST = 2,
    CHECK = 2,
};

struct rig {
    struct loop *loop;
    struct clock *clock;
    struct machine *m;
    struct block_graph *graph;
    struct virtio_mmio *t;
    struct disk *disk;
    int fd;
    uint16_t idx[3], used[3];
    uint8_t resp[108];
};

struct test_board {
    struct virtio_mmio slot;
};

static int board_init(struct machine *m, struct err *err)
{
    struct test_board *b = m->board_data;
    struct ram *ram = ram_set_add(&m->ram, "ram", RAM_SIZE, err);
    mem_map_add_ram(m->mem, 0, ram, 0, RAM_SIZE);
    virtio_mmio_init(&b->slot, 0, m->mem);
    bus_add(m, &b->slot.bus.bus);
    return 0;
}

static const struct prop no_props[] = {{0}};
static const struct board_type board = {.name = "test",
                                        .max_vcpus = 1,
                                        .props = no_props,
                                        .size = sizeof(struct test_board),
                                        .init = board_init};

static struct dev *add(struct machine *m, const struct dev_type *type, const char *args,
                       struct err *err)
{
    struct keyval kv = {0};
    keyval_parse(&kv, args, NULL, err);
    struct dev *d = dev_new(m, type, &kv, err);
    keyval_free(&kv);
    return d;
}

static void reg(struct rig *r, uint64_t off, uint32_t val)
{
    virtio_mmio_regs.write(r->t, off, 4, val);
}

static void start(struct rig *r)
{
    reg(r, 0x70, 0);
    reg(r, 0x70, 3);
    reg(r, 0x24, 1);
    reg(r, 0x20, 1);
    reg(r, 0x70, 11);
    for (unsigned q = 0; q < 3; q++) {
        uint8_t zero[0x800] = {0};
        gmem_write(r->m->mem, RINGS + 0x1000 * q, zero, sizeof(zero));
        reg(r, 0x30, q);
        reg(r, 0x38, SIZE);
        reg(r, 0x80, RINGS + 0x1000 * q);
        reg(r, 0x90, RINGS + 0x1000 * q + 0x200);
        reg(r, 0xa0, RINGS + 0x1000 * q + 0x400);
        reg(r, 0x44, 1);
        r->idx[q] = r->used[q] = 0;
    }
    reg(r, 0x70, 15);
}

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;
    char path[32];
    r->loop = loop_new(&err);
    r->clock = clock_new_virtual();
    struct machine_config config = {.board = &board, .ram_size = RAM_SIZE, .vcpus = 1};
    r->m = machine_new(&config, r->loop, r->clock, NULL);
    assert_int_equal(machine_build(r->m, &err), 0);
    r->fd = memfd_create("disk", MFD_CLOEXEC);
    assert_false(ftruncate(r->fd, DISK_SIZE));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", r->fd);
    r->graph = block_graph_new(r->loop);
    struct block *b = block_open_name(r->graph, path, "raw", NULL, BLOCK_RDWR, &err);
    assert_non_null(b);
    machine_add_backend(r->m, "drive", "d", b, NULL);
    machine_add_backend(r->m, "drive-policy", "d", alloc_zero(sizeof(struct drive_policy)), free);
    assert_non_null(add(r->m, &virtio_scsi_type, "num_queues=1,id=s0", &err));
    assert_non_null(bus_find(r->m, "s0.0"));
    struct dev *hd = add(r->m, &scsi_hd_type, "drive=d,scsi-id=2,lun=1,serial=abc", &err);
    assert_non_null(hd);
    assert_non_null(add(r->m, &scsi_cd_dev_type, "", &err));
    assert_null(add(r->m, &scsi_cd_dev_type, "scsi-id=2,lun=1", &err));
    r->disk = &((struct scsi_dev *)hd)->disk;
    r->t = &((struct test_board *)r->m->board_data)->slot;
    start(r);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    while (disk_busy(r->disk)) {
        loop_step(r->loop, true);
    }
    struct block *b = machine_find_backend(r->m, "drive", "d")->obj;
    machine_free(r->m);
    block_close(b);
    block_graph_free(r->graph);
    loop_free(r->loop);
    clock_free(r->clock);
    close(r->fd);
    free(r);
    return 0;
}

/* ---- A driver ---- */

static void desc(struct rig *r, unsigned q, unsigned n, gpa_t at, uint32_t len, unsigned flags)
{
    uint8_t d[16];
    store_le64(d, at);
    store_le32(d + 8, len);
    store_le16(d + 12, (uint16_t)flags);
    store_le16(d + 14, (uint16_t)(n + 1));
    gmem_write(r->m->mem, RINGS + 0x1000 * q + 16 * n, d, 16);
}

static void offer(struct rig *r, unsigned q, unsigned head)
{
    gpa_t avail = RINGS + 0x1000 * q + 0x200;
    uint8_t b[2];
    store_le16(b, (uint16_t)head);
    gmem_write(r->m->mem, avail + 4 + 2 * (r->idx[q] % SIZE), b, 2);
    store_le16(b, ++r->idx[q]);
    gmem_write(r->m->mem, avail + 2, b, 2);
    reg(r, 0x50, q);
}

static bool ended(struct rig *r, unsigned q)
{
    uint8_t b[2];
    gmem_read(r->m->mem, RINGS + 0x1000 * q + 0x402, b, 2);
    return load_le16(b) == r->idx[q];
}

static void put_request(struct rig *r, unsigned target, unsigned lun, const uint8_t *cdb,
                        unsigned n, uint32_t out, uint32_t in)
{
    uint8_t head[51] = {1, (uint8_t)target, 0x40, (uint8_t)lun, [8] = 42};
    memcpy(head + 19, cdb, n);
    gmem_write(r->m->mem, HEAD, head, sizeof(head));
    unsigned at = 0;
    desc(r, REQUEST, at++, HEAD, sizeof(head), 1);
    if (out) {
        desc(r, REQUEST, at++, OUT, out, 1);
    }
    desc(r, REQUEST, at++, RESP, 108, in ? 3 : 2);
    if (in) {
        desc(r, REQUEST, at++, IN, in, 2);
    }
    offer(r, REQUEST, 0);
}

/* Response and status: response << 8 | status; -1: nothing came. */
static int answer(struct rig *r)
{
    while (!ended(r, REQUEST) && disk_busy(r->disk)) {
        loop_step(r->loop, true);
    }
    gmem_read(r->m->mem, RESP, r->resp, sizeof(r->resp));
    return ended(r, REQUEST) ? r->resp[11] << 8 | r->resp[10] : -1;
}

#define RUN(r, target, lun, out, in, ...)                                                          \
    (put_request(r, target, lun, (const uint8_t[]){__VA_ARGS__},                                   \
                 sizeof((const uint8_t[]){__VA_ARGS__}), out, in),                                 \
     answer(r))

static uint8_t in8(struct rig *r, unsigned at)
{
    uint8_t b = 0xee;
    gmem_read(r->m->mem, IN + at, &b, 1);
    return b;
}

static int manage(struct rig *r, unsigned function, unsigned target, unsigned lun)
{
    uint8_t c[24] = {
        [4] = (uint8_t)function, [8] = 1, (uint8_t)target, 0x40, (uint8_t)lun, [16] = 42};
    gmem_write(r->m->mem, HEAD + 0x100, c, sizeof(c));
    desc(r, CONTROL, 0, HEAD + 0x100, sizeof(c), 1);
    desc(r, CONTROL, 1, RESP + 0x200, 1, 2);
    offer(r, CONTROL, 0);
    if (!ended(r, CONTROL)) {
        return -1;
    }
    uint8_t b = 0xee;
    gmem_read(r->m->mem, RESP + 0x200, &b, 1);
    return b;
}

/* ---- Tests ---- */

static void test_units(void **state)
{
    struct rig *r = *state;
    assert_int_equal(RUN(r, 2, 1, 0, 96, 0x12, 0, 0, 0, 96, 0), 0);
    assert_int_equal(in8(r, 0), 0);
    assert_int_equal(load_le32(r->resp + 4), 96 - 36); /* what is left of the room */
    assert_int_equal(RUN(r, 2, 5, 0, 96, 0x12, 0, 0, 0, 96, 0), 0);
    assert_int_equal(in8(r, 0), 0x7f);
    assert_int_equal(RUN(r, 2, 5, 0, 0, 0, 0, 0, 0, 0, 0), CHECK);
    assert_int_equal(r->resp[12 + 12], 0x25);
    assert_int_equal(RUN(r, 7, 0, 0, 96, 0x12, 0, 0, 0, 96, 0), 3 << 8);
    assert_int_equal(RUN(r, 2, 0, 0, 64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0), 0);
    assert_int_equal(in8(r, 3), 16);
    assert_int_equal(in8(r, 8 + 1), 0);
    assert_int_equal(in8(r, 16 + 1), 1);
    assert_int_equal(RUN(r, 0, 0, 0, 96, 0x12, 0, 0, 0, 96, 0), 0);
    assert_int_equal(in8(r, 0), 5);
}

static void test_move(void **state)
{
    struct rig *r = *state;
    const uint8_t text[] = "straight from memory";
    uint8_t got[sizeof(text)] = {0};
    assert_int_equal(RUN(r, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0), CHECK); /* unit attention */
    assert_int_equal(r->resp[12 + 2], 6);
    gmem_write(r->m->mem, OUT + 512, text, sizeof(text));
    assert_int_equal(RUN(r, 2, 1, 1024, 0, 0x2a, 8, 0, 0, 0, 9, 0, 0, 2, 0), 0);
    assert_int_equal(pread(r->fd, got, sizeof(got), 10 * 512), sizeof(got));
    assert_memory_equal(got, text, sizeof(text));
    assert_int_equal(RUN(r, 2, 1, 0, 1024, 0x28, 0, 0, 0, 0, 10, 0, 0, 1, 0), 0);
    gmem_read(r->m->mem, IN, got, sizeof(got));
    assert_memory_equal(got, text, sizeof(text));
    assert_int_equal(load_le32(r->resp + 4), 512);
    /* No room for the data, blocks past the end, both ways. */
    assert_int_equal(RUN(r, 2, 1, 0, 512, 0x28, 0, 0, 0, 0, 10, 0, 0, 2, 0), 1 << 8);
    assert_int_equal(RUN(r, 2, 1, 0, 512, 0x28, 0, 0, 0, 1, 0, 0, 0, 1, 0), CHECK);
    assert_int_equal(r->resp[12 + 12], 0x21);
    assert_int_equal(RUN(r, 2, 1, 512, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), 9 << 8);
    assert_int_equal(RUN(r, 2, 1, 0, 0, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
}

static void test_management(void **state)
{
    struct rig *r = *state;
    assert_int_equal(RUN(r, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0), CHECK);
    assert_int_equal(manage(r, 6, 2, 1), 0);
    put_request(r, 2, 1, (const uint8_t[]){0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 10, 0, 512);
    assert_int_equal(manage(r, 6, 2, 1), 10); /* it is there */
    assert_int_equal(manage(r, 0, 2, 1), -1); /* it is waited for */
    assert_int_equal(answer(r), 2 << 8);      /* aborted */
    assert_true(ended(r, CONTROL));
    assert_int_equal(manage(r, 5, 2, 1), 0);
    assert_int_equal(RUN(r, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0), CHECK); /* a reset: attention */
    assert_int_equal(manage(r, 5, 2, 9), 12);
    assert_int_equal(manage(r, 5, 9, 0), 3);
    assert_int_equal(manage(r, 2, 2, 1), 11);
    assert_int_equal(manage(r, 4, 2, 0), 0);
}

/* A reset of the device waits for nothing that the loop has to do here; what was asked is gone. */
static void test_config(void **state)
{
    struct rig *r = *state;
    uint64_t v = 0;
    virtio_mmio_regs.read(r->t, 0x100, 4, &v);
    assert_int_equal(v, 1);
    reg(r, 0x70, 0);
    reg(r, 0x100 + 20, 18); /* sense_size */
    virtio_mmio_regs.read(r->t, 0x100 + 20, 4, &v);
    assert_int_equal(v, 18);
    reg(r, 0x100 + 24, 0); /* cdb_size: nothing is too little */
    virtio_mmio_regs.read(r->t, 0x100 + 24, 4, &v);
    assert_int_equal(v, 32);
    reg(r, 0x100, 99); /* read only */
    virtio_mmio_regs.read(r->t, 0x100, 4, &v);
    assert_int_equal(v, 1);
    start(r);
    virtio_mmio_regs.read(r->t, 0x100 + 20, 4, &v);
    assert_int_equal(v, 96);
    put_request(r, 2, 1, (const uint8_t[]){0}, 1, 0, 0);
    desc(r, REQUEST, 1, RESP, 11, 2); /* no room for a response */
    offer(r, REQUEST, 0);
    virtio_mmio_regs.read(r->t, 0x70, 4, &v);
    assert_true(v & 64); /* the driver broke it */
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {T(test_units), T(test_move), T(test_management),
                                       T(test_config)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
