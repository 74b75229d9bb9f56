/* SCSI disks and CDs without a transport: CDBs in, replies and sense out. */
#include "dev/scsi/scsi.h"

#include <stdlib.h>

#include "base/unit_test.h"
#include "dev/ata/test_rig.h"

struct rig {
    struct rig_base base;
    struct disk disk, medium;
    struct scsi_lu hd, cd;
    struct scsi_cmd cmd;
    struct disk_job job;
    struct scsi_lu *lu;
    uint8_t buf[SCSI_BUF];
    int ret;
};

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    rig_base_up(&r->base);
    disk_init(&r->disk, NULL, r->base.disk.block);
    disk_init(&r->medium, NULL, r->base.cd.block);
    scsi_lu_init(&r->hd, &scsi_disk_type, &r->disk);
    scsi_lu_init(&r->cd, &scsi_cd_type, &r->medium);
    r->hd.serial = "0001";
    r->hd.wwn = 0x5000c50015ea71aaull;
    r->hd.attention.key = r->cd.attention.key = 0;
    r->cmd.buf = r->buf;
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    disk_fini(&r->disk);
    disk_fini(&r->medium);
    rig_base_down(&r->base);
    free(r);
    return 0;
}

static void run_work(void *opaque)
{
    struct rig *r = opaque;
    r->ret = r->cmd.work(r->lu, &r->cmd);
}

/* What a transport does; `out` is the parameter list. 0, or the sense as 0x52000. */
static unsigned run(struct rig *r, struct scsi_lu *lu, const uint8_t *cdb, const void *out)
{
    r->lu = lu;
    r->ret = 0;
    memcpy(r->cmd.cdb, cdb, 16);
    scsi_begin(lu, &r->cmd);
    if (r->cmd.data == SCSI_DATA_OUT) {
        memcpy(r->buf, out, r->cmd.len);
        scsi_received(lu, &r->cmd);
    }
    if (r->cmd.work) {
        disk_start(lu->disk, &r->job, run_work, r);
        rig_settle(&r->base, lu->disk);
        scsi_end(lu, &r->cmd, r->ret);
    }
    const struct scsi_sense *s = &r->cmd.sense;
    return r->cmd.status ? (unsigned)(s->key << 16 | s->asc << 8 | s->ascq) : 0;
}

#define CDB(...) ((const uint8_t[16]){__VA_ARGS__})

static void disk_says_what_it_is(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, &r->hd, CDB(0x12, 0, 0, 0, 36), NULL), 0);
    assert_int_equal(r->cmd.len, 36);
    assert_int_equal(r->buf[0], 0);
    assert_int_equal(run(r, &r->hd, CDB(0x12, 1, 0, 1), NULL), 0);
    assert_memory_equal(r->buf, "\0\0\0\6\x00\x80\x83\xb0\xb1\xb2", 10);
    assert_int_equal(run(r, &r->hd, CDB(0x12, 1, 0x83, 1), NULL), 0);
    assert_int_equal(r->cmd.len, 4 + 4 + 12 + 4 + 8);
    assert_int_equal(load_be64(r->buf + 24), 0x5000c50015ea71aaull);
    assert_int_equal(run(r, &r->hd, CDB(0x12, 1, 0xb0, 1), NULL), 0);
    assert_int_equal(r->cmd.len, 64);
    assert_int_equal(run(r, &r->hd, CDB(0x12, 1, 0x99, 1), NULL), 0x52400);
    assert_int_equal(run(r, &r->hd, CDB(0x25), NULL), 0);
    assert_int_equal(load_be32(r->buf), RIG_DISK / 512 - 1);
    assert_int_equal(run(r, &r->hd, CDB(0x9e, 0x10, [13] = 32), NULL), 0);
    assert_int_equal(load_be64(r->buf), RIG_DISK / 512 - 1);
    assert_int_equal(run(r, &r->hd, CDB(0x5e), NULL), 0x52000); /* PERSISTENT RESERVE IN */
}

static void disk_ranges(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, &r->hd, CDB(0x08, 0, 0, 7, 0), NULL), 0);
    assert_int_equal(r->cmd.data, SCSI_READ);
    assert_int_equal(r->cmd.bytes, 256 * 512);
    assert_int_equal(run(r, &r->hd, CDB(0x8a, 8, [9] = 9, [13] = 2), NULL), 0);
    assert_int_equal(r->cmd.data, SCSI_WRITE);
    assert_int_equal(r->cmd.off, 9 * 512);
    assert_true(r->cmd.fua);
    assert_int_equal(run(r, &r->hd, CDB(0x28, 0, 0, 0, 0x10, 0, 0, 0, 1), NULL), 0x52100);
    assert_int_equal(
        run(r, &r->hd,
            CDB(0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
            NULL),
        0x52100);
    assert_int_equal(run(r, &r->hd, CDB(0x28), NULL), 0);
    assert_int_equal(r->cmd.data, SCSI_NO_DATA);
    assert_int_equal(run(r, &r->hd, CDB(0x2f, 0, 0, 0, 0, 0, 0, 0, 64), NULL), 0);
    assert_int_equal(run(r, &r->hd, CDB(0x35), NULL), 0);
}

static void disk_writes_the_same(void **state)
{
    struct rig *r = *state;
    uint8_t block[512];
    memset(block, 0x5a, sizeof(block));
    assert_int_equal(run(r, &r->hd, CDB(0x41, 0, 0, 0, 0, 20, 0, 0, 200), block), 0);
    assert_int_equal(rig_disk32(&r->base.disk, 20 * 512), 0x5a5a5a5a);
    assert_int_equal(rig_disk32(&r->base.disk, 220 * 512 - 4), 0x5a5a5a5a);
    assert_int_equal(rig_disk32(&r->base.disk, 220 * 512), 220);
    assert_int_equal(run(r, &r->hd, CDB(0x93, 9, [9] = 30, [13] = 2), NULL), 0);
    assert_int_equal(rig_disk32(&r->base.disk, 30 * 512), 0);
    assert_int_equal(rig_disk32(&r->base.disk, 32 * 512), 0x5a5a5a5a);
    assert_int_equal(run(r, &r->hd, CDB(0x41, 0, 0, 0, 0x20), block), 0x52100);
}

static void disk_unmaps(void **state)
{
    struct rig *r = *state;
    uint8_t list[24] = {0, 22, 0, 16, [15] = 40, [19] = 8};
    assert_int_equal(run(r, &r->hd, CDB(0x42, [8] = 24), list), 0);
    list[12] = 0xff;
    assert_int_equal(run(r, &r->hd, CDB(0x42, [8] = 24), list), 0x52100);
    list[3] = 32;
    assert_int_equal(run(r, &r->hd, CDB(0x42, [8] = 24), list), 0x51a00);
}

static void disk_cache_page(void **state)
{
    struct rig *r = *state;
    uint8_t list[24] = {[4] = 8, [5] = 18};
    assert_int_equal(run(r, &r->hd, CDB(0x1a, 8, 8, 0, 255), NULL), 0);
    assert_int_equal(r->cmd.len, 24);
    assert_int_equal(r->buf[6], 4);
    assert_int_equal(run(r, &r->hd, CDB(0x15, 0x10, 0, 0, 24), list), 0);
    assert_false(r->hd.write_cache);
    list[5] = 200;
    assert_int_equal(run(r, &r->hd, CDB(0x15, 0x10, 0, 0, 24), list), 0x52600);
    assert_int_equal(run(r, &r->hd, CDB(0x5a, 0, 0x3f, 0, 0, 0, 0, 1), NULL), 0);
    assert_int_equal(r->cmd.len, 8 + 8 + 12 + 20 + 12);
}

static void replies_are_cut(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, &r->cd, CDB(0x12, 0, 0, 0, 5), NULL), 0);
    assert_int_equal(r->cmd.len, 5);
    assert_int_equal(run(r, &r->cd, CDB(0x43, 0, 0, 0, 0, 0, 0, 0, 0), NULL), 0);
    assert_int_equal(r->cmd.data, SCSI_NO_DATA);
}

static void large_discs_are_dvds(void **state)
{
    struct rig *r = *state;
    struct rig_medium dvd;
    assert_int_equal(run(r, &r->cd, CDB(0xad, [8] = 8), NULL), 0x53002);
    rig_open(&r->base, &dvd, 1ull << 30, 0, "dvd");
    disk_set_block(&r->medium, dvd.block);
    assert_int_equal(run(r, &r->cd, CDB(0x46, 1, [7] = 1), NULL), 0);
    assert_int_equal(load_be16(r->buf + 6), 0x10);
    assert_int_equal(run(r, &r->cd, CDB(0xad, [8] = 16), NULL), 0);
    assert_int_equal(r->cmd.len, 2052);
    assert_int_equal(load_be32(r->buf + 12), 0x30000 + (1 << 19) - 1);
    assert_int_equal(run(r, &r->cd, CDB(0xad, [7] = 0xff, [8] = 16), NULL), 0);
    assert_int_equal(r->cmd.len, 16);
    assert_int_equal(run(r, &r->cd, CDB(0x51, [8] = 255), NULL), 0);
    assert_int_equal(r->cmd.len, 34);
    disk_set_block(&r->medium, NULL);
    assert_int_equal(run(r, &r->cd, CDB(0x51, [8] = 255), NULL), 0x23a01);
    block_close(dvd.block);
    close(dvd.fd);
}

/* Starts and numbers of blocks whose sum or product with the block's size wraps, in every command
 * that has them. */
static void ranges_that_wrap(void **state)
{
    struct rig *r = *state;
    static const uint64_t starts[] = {~0ull,      ~0ull - 1,        1ull << 63, 1ull << 55,
                                      1ull << 54, (1ull << 55) - 1, UINT32_MAX, RIG_DISK / 512};
    static const uint32_t counts[] = {1, 2, 0x7fffffff, 0x80000000, UINT32_MAX};
    static const uint8_t long_ops[] = {0x88, 0x8a, 0x8e, 0x8f, 0x93};
    uint8_t block[512] = {0}, list[24] = {0, 22, 0, 16};
    for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        for (unsigned k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
            for (unsigned op = 0; op < sizeof(long_ops); op++) {
                uint8_t cdb[16] = {long_ops[op]};
                store_be64(cdb + 2, starts[i]);
                store_be32(cdb + 10, counts[k]);
                unsigned sense = run(r, &r->hd, cdb, block);
                assert_true(sense == 0x52100 || sense == 0x52400 || sense == 0x52000);
            }
            store_be64(list + 8, starts[i]);
            store_be32(list + 16, counts[k]);
            assert_int_equal(run(r, &r->hd, CDB(0x42, [8] = 24), list), 0x52100);
        }
    }
    for (unsigned k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
        static const uint8_t ops[] = {0xa8, 0xaa, 0xae, 0xaf};
        for (unsigned op = 0; op < sizeof(ops); op++) {
            uint8_t cdb[16] = {ops[op]};
            store_be32(cdb + 2, UINT32_MAX);
            store_be32(cdb + 6, counts[k]);
            assert_int_not_equal(run(r, &r->hd, cdb, block), 0);
            assert_int_not_equal(run(r, &r->cd, cdb, block), 0);
        }
    }
    assert_int_equal(rig_disk32(&r->base.disk, 0), 0);
    assert_int_equal(rig_disk32(&r->base.disk, RIG_DISK - 4), RIG_DISK / 512 - 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(disk_says_what_it_is), T(disk_ranges),     T(disk_writes_the_same), T(disk_unmaps),
        T(disk_cache_page),      T(replies_are_cut), T(large_discs_are_dvds), T(ranges_that_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
