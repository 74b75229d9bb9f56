/*
 * A CD and DVD drive that reads: MMC-6 (r02g), one data track in one session, a disc as large as
 * the image. An image of more than 80 minutes is a DVD-ROM.
 *
 * Does not do: writing, audio tracks, sub-channels, EDC and ECC of raw sectors (they read as zero),
 * region codes, loaders with several slots.
 */
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "dev/scsi/scsi_internal.h"
#include "dev/storage/disk.h"

enum { CD_BLOCK = 2048, CD_MAX_BLOCKS = 80 * 60 * 75, EVENT_MEDIA = 4 };

bool scsi_cd_is_dvd(const struct scsi_lu *lu)
{
    return scsi_blocks(lu) > CD_MAX_BLOCKS;
}

void scsi_cd_put_msf(uint8_t *at, uint32_t lba)
{
    lba += 150;
    at[0] = (uint8_t)(lba / (60 * 75));
    at[1] = (uint8_t)(lba / 75 % 60);
    at[2] = (uint8_t)(lba % 75);
}

/* ---- Reading ---- */

static void cd_read_capacity(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint64_t n = scsi_blocks(lu);
    store_be32(cmd->buf, n ? (uint32_t)(n - 1) : 0);
    store_be32(cmd->buf + 4, CD_BLOCK);
    scsi_reply(cmd, 8, 8);
}

static void cd_seek(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    if (!scsi_range_ok(lu, load_be32(cmd->cdb + 2), 1)) {
        scsi_fail(cmd, SENSE_ILLEGAL, 0x2100);
    }
}

/* MMC-6 6.19: byte 9 says which parts of a sector are wanted; ours are all of mode 1. */
static void cd_read_parts(struct scsi_lu *lu, struct scsi_cmd *cmd, uint32_t lba, uint32_t count)
{
    uint8_t type = cmd->cdb[1] >> 2 & 7, parts = cmd->cdb[9];
    if ((type && type != 2) || (cmd->cdb[10] & 7) || (parts & 7)) {
        scsi_fail(cmd, SENSE_ILLEGAL, type && type != 2 ? 0x6400 : 0x2400);
        return;
    }
    struct scsi_frame f = {
        .before = (uint16_t)((parts & 0x80 ? 12 : 0) + (parts & 0x20 ? 4 : 0)),
        .user = parts & 0x10 ? CD_BLOCK : 0,
        .after = parts & 8 ? 288 : 0,
    };
    if (!(f.before + f.user + f.after)) {
        return; /* nothing wanted: nothing is moved */
    }
    scsi_move(lu, cmd, SCSI_READ, lba, count);
    if (f.before || f.after) {
        cmd->frame = f;
    }
}

static void cd_read_cd(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    cd_read_parts(lu, cmd, load_be32(cmd->cdb + 2), load_be32(cmd->cdb + 5) & 0xffffff);
}

static void cd_read_cd_msf(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    const uint8_t *c = cmd->cdb;
    int64_t from = (c[3] * 60 + c[4]) * 75 + c[5] - 150, to = (c[6] * 60 + c[7]) * 75 + c[8] - 150;
    if (from < 0 || to < from) {
        scsi_bad_field(cmd);
        return;
    }
    cd_read_parts(lu, cmd, (uint32_t)from, (uint32_t)(to - from));
}

static uint8_t to_bcd(uint8_t v)
{
    return (uint8_t)(v / 10 % 10 << 4 | v % 10);
}

void scsi_cd_frame(const struct scsi_frame *f, uint32_t lba, const uint8_t *data, uint8_t *buf)
{
    uint8_t head[16] = {0};
    memset(head + 1, 0xff, 10);
    scsi_cd_put_msf(head + 12, lba);
    for (unsigned i = 12; i < 15; i++) {
        head[i] = to_bcd(head[i]);
    }
    head[15] = 1;
    memcpy(buf, f->before == 4 ? head + 12 : head, f->before);
    memcpy(buf + f->before, data, f->user);
    memset(buf + f->before + f->user, 0, f->after);
}

/* ---- State of drive and medium ---- */

static void cd_mechanism_status(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    cmd->buf[1] = lu->tray_open ? 0x10 : 0;
    scsi_reply(cmd, 8, load_be16(cmd->cdb + 8));
}

/* MMC-6 6.6: only polling, only events of the medium. */
static void cd_get_event(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint8_t *b = cmd->buf;
    if (!(cmd->cdb[1] & 1)) {
        scsi_bad_field(cmd);
        return;
    }
    b[3] = 1 << EVENT_MEDIA;
    if (!(cmd->cdb[4] & 1 << EVENT_MEDIA)) {
        store_be16(b, 2);
        b[2] = 0x80; /* no event available */
        scsi_reply(cmd, 4, load_be16(cmd->cdb + 7));
        return;
    }
    store_be16(b, 6);
    b[2] = EVENT_MEDIA;
    b[4] = lu->eject_asked ? 1 : lu->media_event;
    b[5] = (lu->tray_open ? 1 : 0) | (scsi_lu_ready(lu) ? 2 : 0);
    if (load_be16(cmd->cdb + 7) > 4) { /* it is told */
        lu->media_event = lu->eject_asked ? lu->media_event : 0;
        lu->eject_asked = false;
    }
    scsi_reply(cmd, 8, load_be16(cmd->cdb + 7));
}

static void cd_read_sub_channel(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    if (cmd->cdb[2] & 0x40) {
        scsi_bad_field(cmd);
        return;
    }
    cmd->buf[1] = 0x15; /* no audio status */
    scsi_reply(cmd, 4, load_be16(cmd->cdb + 7));
}

/* ---- Mode pages ---- */

/* Error recovery */
static unsigned cd_page_01(const struct scsi_lu *lu, uint8_t *p, bool changeable)
{
    p[0] = 1;
    p[1] = 10;
    p[3] = changeable ? 0 : 5; /* retries */
    return 12;
}

/* CD audio control */
static unsigned cd_page_0e(const struct scsi_lu *lu, uint8_t *p, bool changeable)
{
    p[0] = 0x0e;
    p[1] = 14;
    if (!changeable) {
        p[2] = 4;
        p[8] = 1;
        p[9] = 0xff;
        p[10] = 2;
        p[11] = 0xff;
    }
    return 16;
}

/* Capabilities and mechanical status */
static unsigned cd_page_2a(const struct scsi_lu *lu, uint8_t *p, bool changeable)
{
    p[0] = 0x2a;
    p[1] = 20;
    if (!changeable) {
        p[2] = 0x3b; /* reads CD-R, CD-RW, DVD-ROM, DVD-R, DVD-RAM */
        p[4] = 0x70; /* mode 2 both forms, several sessions */
        p[6] = (uint8_t)(0x29 | (lu->locked ? 2 : 0)); /* tray; locks, ejects */
        store_be16(p + 8, 5632);                       /* KB/s: 32 x */
        store_be16(p + 12, 512);
        store_be16(p + 14, 5632);
    }
    return 22;
}

static const struct scsi_mode_page cd_pages[] = {
    {0x01, cd_page_01}, {0x0e, cd_page_0e}, {0x2a, cd_page_2a}, {0}};

static void cd_mode_sense(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    scsi_mode_sense(lu, cmd, cd_pages, 0, 0);
}

/* Parameters are taken and change nothing. */
static void cd_mode_select(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    cmd->len = load_be16(cmd->cdb + 7);
    if (!(cmd->cdb[1] & 0x10) || cmd->len > SCSI_BUF) {
        scsi_bad_field(cmd);
        return;
    }
    cmd->data = cmd->len ? SCSI_DATA_OUT : SCSI_NO_DATA;
}

static const struct scsi_op cd_ops[] = {
    {0x00, OP_MEDIUM, scsi_test_unit_ready},
    {0x03, OP_ATTENTION, scsi_request_sense},
    {0x12, OP_ATTENTION, scsi_inquiry},
    {0x1a, 0, cd_mode_sense},
    {0x1b, 0, scsi_start_stop},
    {0x1e, 0, scsi_prevent_allow},
    {0x25, OP_MEDIUM, cd_read_capacity},
    {0x28, OP_MEDIUM, scsi_read},
    {0x2b, OP_MEDIUM, cd_seek},
    {0x35, 0, scsi_no_op}, /* SYNCHRONIZE CACHE */
    {0x42, OP_MEDIUM, cd_read_sub_channel},
    {0x43, OP_MEDIUM, scsi_cd_read_toc},
    {0x46, OP_ATTENTION, scsi_cd_get_configuration},
    {0x4a, OP_ATTENTION, cd_get_event},
    {0x51, OP_MEDIUM, scsi_cd_read_disc_info},
    {0x52, OP_MEDIUM, scsi_cd_read_track_info},
    {0x55, 0, cd_mode_select},
    {0x5a, 0, cd_mode_sense},
    {0xa8, OP_MEDIUM, scsi_read},
    {0xad, OP_MEDIUM, scsi_cd_read_dvd_structure},
    {0xb9, OP_MEDIUM, cd_read_cd_msf},
    {0xbb, 0, scsi_no_op}, /* SET CD SPEED */
    {0xbd, 0, cd_mechanism_status},
    {0xbe, OP_MEDIUM, cd_read_cd},
    {0},
};

const struct scsi_lu_type scsi_cd_type = {
    .device_type = 5, .removable = true, .block_size = CD_BLOCK, .ops = cd_ops};
