/*
 * A disk of 512-byte blocks: SBC-3 (r36). Thin: UNMAP and WRITE SAME with UNMAP give space back.
 *
 * Does not do: protection information, COMPARE AND WRITE, ATOMIC, reservations (refused), FORMAT
 * UNIT, defect lists; GET LBA STATUS says that everything is mapped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "block/block.h"
#include "dev/scsi/scsi_internal.h"
#include "dev/storage/disk.h"

enum {
    BLOCK = 512,
    MAX_SAME_BLOCKS = 1 << 21, /* as VPD B0 says */
    MAX_UNMAP_BLOCKS = 1 << 21,
    SAME_BYTES = 64 << 10, /* written at a time */
    UNMAP_HEAD = 8,
    UNMAP_RANGE = 16,
};

/* ---- Reading and writing ---- */

static bool disk_fua(const struct scsi_cmd *cmd)
{
    return cmd->cdb[0] >> 5 && (cmd->cdb[1] & 8);
}

/* Bits 7:5 of byte 1 ask for protection information, which there is none of. */
static bool disk_protected(struct scsi_cmd *cmd)
{
    bool bad = cmd->cdb[0] >> 5 && (cmd->cdb[1] & 0xe0);
    if (bad) {
        scsi_bad_field(cmd);
    }
    return bad;
}

static void disk_read_cmd(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    if (!disk_protected(cmd)) {
        scsi_read(lu, cmd);
    }
}

static void disk_write_cmd(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint64_t lba;
    uint32_t count;
    if (!disk_protected(cmd)) {
        scsi_cdb_range(cmd->cdb, &lba, &count);
        cmd->fua = disk_fua(cmd) || !lu->write_cache;
        scsi_move(lu, cmd, SCSI_WRITE, lba, count);
    }
}

static int work_verify(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    int ret = 0;
    while (!ret && cmd->bytes) {
        uint32_t n = cmd->bytes < SCSI_BUF ? (uint32_t)cmd->bytes : SCSI_BUF;
        ret = disk_read(lu->disk, cmd->off, cmd->buf, n);
        cmd->off += n;
        cmd->bytes -= n;
    }
    return ret;
}

/* BYTCHK 0: that it can be read; nothing is compared. */
static void disk_verify(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint64_t lba;
    uint32_t count;
    if ((cmd->cdb[1] & 6) || disk_protected(cmd)) {
        scsi_bad_field(cmd);
        return;
    }
    scsi_cdb_range(cmd->cdb, &lba, &count);
    scsi_move(lu, cmd, SCSI_NO_DATA, lba, count);
    if (cmd->status == SCSI_GOOD) {
        cmd->work = work_verify;
    }
}

static int work_flush(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    return disk_io(lu->disk, DISK_FLUSH, 0, 0, NULL, 0);
}

/* The range is only a hint. */
static void disk_sync_cache(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    cmd->work = work_flush;
}

static void disk_start_stop(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    bool stop = !(cmd->cdb[4] & 1) && !(cmd->cdb[4] >> 4);
    cmd->work = stop && !disk_readonly(lu->disk) ? work_flush : NULL;
}

static void disk_seek(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    if (!scsi_range_ok(lu, load_be32(cmd->cdb + 2), 1)) {
        scsi_fail(cmd, SENSE_ILLEGAL, 0x2100);
    }
}

/* ---- Capacity ---- */

static void disk_read_capacity(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint64_t last = scsi_blocks(lu) ? scsi_blocks(lu) - 1 : 0;
    store_be32(cmd->buf, last < UINT32_MAX ? (uint32_t)last : UINT32_MAX);
    store_be32(cmd->buf + 4, BLOCK);
    scsi_reply(cmd, 8, 8);
}

/* Bit 15 of bytes 14 and 15: LBPME, unmapping works; 14 would be LBPRZ. */
static void disk_read_capacity_16(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    store_be64(cmd->buf, scsi_blocks(lu) ? scsi_blocks(lu) - 1 : 0);
    store_be32(cmd->buf + 8, BLOCK);
    cmd->buf[13] = lu->physical_exp & 15;
    cmd->buf[14] = disk_readonly(lu->disk) ? 0 : 0x80;
    scsi_reply(cmd, 32, load_be32(cmd->cdb + 10));
}

static void disk_lba_status(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint64_t lba = load_be64(cmd->cdb + 2);
    if (!scsi_range_ok(lu, lba, 1)) {
        scsi_fail(cmd, SENSE_ILLEGAL, 0x2100);
        return;
    }
    uint64_t n = scsi_blocks(lu) - lba;
    store_be32(cmd->buf, 20);
    store_be64(cmd->buf + 8, lba);
    store_be32(cmd->buf + 16, n < UINT32_MAX ? (uint32_t)n : UINT32_MAX);
    scsi_reply(cmd, 24, load_be32(cmd->cdb + 10));
}

static void disk_service_action_in(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    switch (cmd->cdb[1] & 0x1f) {
    case 0x10: disk_read_capacity_16(lu, cmd); break;
    case 0x12: disk_lba_status(lu, cmd); break;
    default: scsi_bad_field(cmd);
    }
}

/* ---- UNMAP (5.28) ---- */

static int work_unmap(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    unsigned end = UNMAP_HEAD + load_be16(cmd->buf + 2) / UNMAP_RANGE * UNMAP_RANGE;
    int ret = 0;
    for (unsigned at = UNMAP_HEAD; at < end && !ret; at += UNMAP_RANGE) {
        uint64_t lba = load_be64(cmd->buf + at);
        uint64_t n = load_be32(cmd->buf + at + 8);
        ret = n ? disk_io(lu->disk, DISK_DISCARD, lba * BLOCK, n * BLOCK, NULL, 0) : 0;
    }
    return ret;
}

/* The list is looked at as a whole before anything is done. */
static void disk_unmap_received(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    unsigned bytes = load_be16(cmd->buf + 2);
    uint64_t all = 0;
    if (cmd->len < UNMAP_HEAD || bytes > cmd->len - UNMAP_HEAD || bytes % UNMAP_RANGE) {
        scsi_fail(cmd, SENSE_ILLEGAL, 0x1a00); /* parameter list length error */
        return;
    }
    for (unsigned at = UNMAP_HEAD; at < UNMAP_HEAD + bytes; at += UNMAP_RANGE) {
        uint32_t n = load_be32(cmd->buf + at + 8);
        all += n;
        if (!scsi_range_ok(lu, load_be64(cmd->buf + at), n)) {
            scsi_fail(cmd, SENSE_ILLEGAL, 0x2100);
            return;
        }
    }
    if (all > MAX_UNMAP_BLOCKS) {
        scsi_fail(cmd, SENSE_ILLEGAL, 0x2600); /* invalid field in parameter list */
        return;
    }
    cmd->work = bytes ? work_unmap : NULL;
}

static void disk_unmap(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    cmd->len = load_be16(cmd->cdb + 7);
    if (cmd->len > SCSI_BUF || (cmd->cdb[1] & 1)) {
        scsi_bad_field(cmd);
        return;
    }
    cmd->data = cmd->len ? SCSI_DATA_OUT : SCSI_NO_DATA;
}

/* ---- WRITE SAME (5.46, 5.47): one block, again and again ---- */

static int same_write(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint8_t *many = block_alloc(SAME_BYTES);
    int ret = many ? 0 : -ENOMEM;
    for (unsigned at = 0; !ret && at < SAME_BYTES; at += BLOCK) {
        memcpy(many + at, cmd->buf, BLOCK);
    }
    while (!ret && cmd->bytes) {
        uint32_t n = cmd->bytes < SAME_BYTES ? (uint32_t)cmd->bytes : SAME_BYTES;
        ret = disk_write(lu->disk, cmd->off, many, n, lu->write_cache ? 0 : BLOCK_FUA);
        cmd->off += n;
        cmd->bytes -= n;
    }
    free(many);
    return ret;
}

static int work_same(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    unsigned flags = cmd->cdb[1] & 8 ? BLOCK_MAY_UNMAP : 0;
    if (!mem_is_zero(cmd->buf, BLOCK)) {
        return same_write(lu, cmd);
    }
    return disk_io(lu->disk, DISK_ZERO, cmd->off, cmd->bytes, NULL, flags);
}

static void disk_write_same_received(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    cmd->work = work_same;
}

/* NDOB (16 only) leaves the block out: zeros. Count 0 is all up to the end, if that is not more
 * than VPD B0 allows. */
static void disk_write_same(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    bool no_block = cmd->cdb[0] == 0x93 && (cmd->cdb[1] & 1);
    uint64_t lba;
    uint32_t count;
    scsi_cdb_range(cmd->cdb, &lba, &count);
    uint64_t all = scsi_blocks(lu), n = count ? count : lba < all ? all - lba : 0;
    if (disk_protected(cmd) || n > MAX_SAME_BLOCKS || (cmd->cdb[1] & 0x10 && !(cmd->cdb[1] & 8))) {
        scsi_bad_field(cmd);
        return;
    }
    scsi_move(lu, cmd, no_block ? SCSI_NO_DATA : SCSI_DATA_OUT, lba, n);
    if (cmd->status != SCSI_GOOD) {
        return;
    }
    cmd->len = cmd->data == SCSI_DATA_OUT ? BLOCK : 0;
    cmd->work = no_block && n ? work_same : NULL;
}

/* ---- Mode pages ---- */

/* Read-write error recovery */
static unsigned disk_page_01(const struct scsi_lu *lu, uint8_t *p, bool changeable)
{
    p[0] = 1;
    p[1] = 10;
    p[2] = changeable ? 0 : 0xc0; /* AWRE, ARRE */
    return 12;
}

/* Caching: WCE */
static unsigned disk_page_08(const struct scsi_lu *lu, uint8_t *p, bool changeable)
{
    p[0] = 8;
    p[1] = 18;
    p[2] = changeable || lu->write_cache ? 4 : 0;
    return 20;
}

/* Control */
static unsigned disk_page_0a(const struct scsi_lu *lu, uint8_t *p, bool changeable)
{
    p[0] = 10;
    p[1] = 10;
    p[3] = changeable ? 0 : 0x10; /* commands may be put in another order */
    return 12;
}

static const struct scsi_mode_page disk_pages[] = {
    {0x01, disk_page_01}, {0x08, disk_page_08}, {0x0a, disk_page_0a}, {0}};

static void disk_mode_sense(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint8_t param = (uint8_t)((disk_readonly(lu->disk) ? 0x80 : 0) | 0x10); /* WP, DPOFUA */
    scsi_mode_sense(lu, cmd, disk_pages, 0, param);
}

static void disk_mode_select(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    cmd->len = cmd->cdb[0] == 0x55 ? load_be16(cmd->cdb + 7) : cmd->cdb[4];
    if (!(cmd->cdb[1] & 0x10) || (cmd->cdb[1] & 1) || cmd->len > SCSI_BUF) {
        scsi_bad_field(cmd);
        return;
    }
    cmd->data = cmd->len ? SCSI_DATA_OUT : SCSI_NO_DATA;
}

/* Only the caching page changes anything; what is in the cache goes to the disk when it is off. */
static void disk_mode_received(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    bool ten = cmd->cdb[0] == 0x55;
    unsigned head = ten ? 8 : 4;
    unsigned at = head + (cmd->len < head ? 0 : ten ? load_be16(cmd->buf + 6) : cmd->buf[3]);
    if (cmd->len < head || at > cmd->len) {
        scsi_fail(cmd, SENSE_ILLEGAL, 0x1a00);
        return;
    }
    while (cmd->len - at >= 2) {
        const uint8_t *p = cmd->buf + at;
        unsigned len = 2u + p[1];
        if (len > cmd->len - at || (p[0] & 0x40)) {
            scsi_fail(cmd, SENSE_ILLEGAL, 0x2600);
            return;
        }
        if ((p[0] & 0x3f) == 8 && len >= 3) {
            lu->write_cache = p[2] & 4;
            cmd->work = lu->write_cache ? NULL : work_flush;
        }
        at += len;
    }
}

static const struct scsi_op disk_ops[] = {
    {0x00, OP_MEDIUM, scsi_test_unit_ready},
    {0x03, OP_ATTENTION, scsi_request_sense},
    {0x08, OP_MEDIUM, disk_read_cmd},
    {0x0a, OP_MEDIUM | OP_WRITES, disk_write_cmd},
    {0x12, OP_ATTENTION, scsi_inquiry},
    {0x15, 0, disk_mode_select, disk_mode_received},
    {0x1a, 0, disk_mode_sense},
    {0x1b, 0, disk_start_stop},
    {0x1e, 0, scsi_no_op}, /* PREVENT ALLOW MEDIUM REMOVAL */
    {0x25, OP_MEDIUM, disk_read_capacity},
    {0x28, OP_MEDIUM, disk_read_cmd},
    {0x2a, OP_MEDIUM | OP_WRITES, disk_write_cmd},
    {0x2b, OP_MEDIUM, disk_seek},
    {0x2f, OP_MEDIUM, disk_verify},
    {0x35, OP_MEDIUM, disk_sync_cache},
    {0x41, OP_MEDIUM | OP_WRITES, disk_write_same, disk_write_same_received},
    {0x42, OP_MEDIUM | OP_WRITES, disk_unmap, disk_unmap_received},
    {0x55, 0, disk_mode_select, disk_mode_received},
    {0x5a, 0, disk_mode_sense},
    {0x88, OP_MEDIUM, disk_read_cmd},
    {0x8a, OP_MEDIUM | OP_WRITES, disk_write_cmd},
    {0x8f, OP_MEDIUM, disk_verify},
    {0x91, OP_MEDIUM, disk_sync_cache},
    {0x93, OP_MEDIUM | OP_WRITES, disk_write_same, disk_write_same_received},
    {0x9e, OP_MEDIUM, disk_service_action_in},
    {0xa8, OP_MEDIUM, disk_read_cmd},
    {0xaa, OP_MEDIUM | OP_WRITES, disk_write_cmd},
    {0xaf, OP_MEDIUM, disk_verify},
    {0},
};

const struct scsi_lu_type scsi_disk_type = {.block_size = BLOCK, .ops = disk_ops};
