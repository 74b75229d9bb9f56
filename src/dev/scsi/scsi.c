/*
 * What all SCSI units have in common: SPC-4 (r36), with the parts of SBC-3 and MMC-6 that disks
 * and CDs share. One sense for the last command is kept, as ATAPI needs it.
 *
 * Does not do: descriptor sense, deferred errors, persistent reservations, MODE SELECT of saved
 * pages, autosense (the transport takes cmd->sense).
 */
#include "dev/scsi/scsi.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "dev/scsi/scsi_internal.h"
#include "dev/storage/disk.h"
#include "state/field.h"

/* ---- Results ---- */

void scsi_fail(struct scsi_cmd *cmd, uint8_t key, uint16_t asc_ascq)
{
    cmd->status = SCSI_CHECK;
    cmd->sense = (struct scsi_sense){key, (uint8_t)(asc_ascq >> 8), (uint8_t)asc_ascq};
    cmd->data = SCSI_NO_DATA;
    cmd->len = 0;
    cmd->work = NULL;
}

void scsi_bad_field(struct scsi_cmd *cmd)
{
    scsi_fail(cmd, SENSE_ILLEGAL, 0x2400);
}

void scsi_reply(struct scsi_cmd *cmd, uint32_t len, uint32_t room)
{
    cmd->len = len < room ? len : room;
    cmd->data = cmd->len ? SCSI_DATA_IN : SCSI_NO_DATA;
}

void scsi_put_sense(uint8_t *buf, const struct scsi_sense *sense)
{
    memset(buf, 0, SCSI_SENSE_BYTES);
    buf[0] = 0x70;
    buf[2] = sense->key;
    buf[7] = SCSI_SENSE_BYTES - 8;
    buf[12] = sense->asc;
    buf[13] = sense->ascq;
}

static struct scsi_sense scsi_sense_of(int error)
{
    switch (-error) {
    case ENOMEDIUM: return (struct scsi_sense){SENSE_NOT_READY, 0x3a, 0};
    case EROFS: return (struct scsi_sense){SENSE_PROTECT, 0x27, 0};
    case ENOSPC: return (struct scsi_sense){SENSE_PROTECT, 0x27, 7};
    case ENOMEM: return (struct scsi_sense){SENSE_HARDWARE, 0x44, 0};
    case EFAULT:
    case ECANCELED: return (struct scsi_sense){SENSE_ABORTED, 0x4b, 0}; /* data phase error */
    case ERANGE: return (struct scsi_sense){SENSE_ILLEGAL, 0x26, 0};
    case EILSEQ: return (struct scsi_sense){14, 0x1d, 0}; /* MISCOMPARE */
    default: return (struct scsi_sense){SENSE_MEDIUM, 0x11, 0};
    }
}

void scsi_end(struct scsi_lu *lu, struct scsi_cmd *cmd, int ret)
{
    if (ret) {
        cmd->status = SCSI_CHECK;
        cmd->sense = scsi_sense_of(ret);
    }
    lu->last = cmd->sense;
}

/* ---- Ranges ---- */

uint64_t scsi_blocks(const struct scsi_lu *lu)
{
    return disk_size(lu->disk) / lu->type->block_size;
}

bool scsi_range_ok(const struct scsi_lu *lu, uint64_t lba, uint64_t count)
{
    uint64_t all = scsi_blocks(lu);
    return lba <= all && count <= all - lba;
}

void scsi_move(struct scsi_lu *lu, struct scsi_cmd *cmd, enum scsi_data data, uint64_t lba,
               uint64_t count)
{
    if (!scsi_range_ok(lu, lba, count)) {
        scsi_fail(cmd, SENSE_ILLEGAL, 0x2100); /* LBA out of range */
        return;
    }
    cmd->off = lba * lu->type->block_size;
    cmd->bytes = count * lu->type->block_size;
    cmd->data = count ? data : SCSI_NO_DATA;
}

void scsi_cdb_range(const uint8_t *cdb, uint64_t *lba, uint32_t *count)
{
    switch (cdb[0] >> 5) {
    case 0:
        *lba = load_be32(cdb) & 0x1fffff;
        *count = cdb[4] ? cdb[4] : 256;
        break;
    case 4:
        *lba = load_be64(cdb + 2);
        *count = load_be32(cdb + 10);
        break;
    case 5:
        *lba = load_be32(cdb + 2);
        *count = load_be32(cdb + 6);
        break;
    default: *lba = load_be32(cdb + 2); *count = load_be16(cdb + 7);
    }
}

/* ---- Commands ---- */

void scsi_no_op(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
}

void scsi_test_unit_ready(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
}

/* The last command's sense, else a pending attention, which is gone thereby (SPC-4 6.39). */
void scsi_request_sense(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    struct scsi_sense sense = lu->last;
    if (!sense.key && lu->attention.key) {
        sense = lu->attention;
        lu->attention = (struct scsi_sense){0};
    }
    scsi_put_sense(cmd->buf, &sense);
    scsi_reply(cmd, SCSI_SENSE_BYTES, cmd->cdb[4]);
}

static void scsi_put_text(uint8_t *at, const char *text, unsigned width)
{
    size_t n = strnlen(text, width);
    memset(at, ' ', width);
    memcpy(at, text, n);
}

/* SPC-4 6.6.2 */
static unsigned scsi_inquiry_data(struct scsi_lu *lu, uint8_t *b)
{
    b[0] = lu->type->device_type;
    b[1] = lu->type->removable || lu->removable ? 0x80 : 0;
    b[2] = 5;    /* SPC-3 */
    b[3] = 0x12; /* HiSup, response data format 2 */
    b[4] = 36 - 5;
    b[7] = lu->type->device_type ? 0 : 2; /* disks queue commands */
    scsi_put_text(b + 8, lu->vendor ? lu->vendor : "LODGE", 8);
    scsi_put_text(b + 16, lu->product ? lu->product : "DISK", 16);
    scsi_put_text(b + 32, lu->revision ? lu->revision : "1.0", 4);
    return 36;
}

void scsi_inquiry(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    const uint8_t *cdb = cmd->cdb;
    unsigned len = 0;
    if (cdb[1] & 1) {
        len = scsi_vpd_page(lu, cdb[2], cmd->buf);
    } else if (!cdb[2]) {
        len = scsi_inquiry_data(lu, cmd->buf);
    }
    if (!len || (cdb[1] & 0xfe)) {
        scsi_bad_field(cmd);
        return;
    }
    scsi_reply(cmd, len, load_be16(cdb + 3));
}

/* LoEj with Start clear opens the tray, with Start set closes it; else it spins up or down. */
void scsi_start_stop(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    bool start = cmd->cdb[4] & 1, load = cmd->cdb[4] & 2;
    if (cmd->cdb[4] >> 4 || !load || !lu->type->removable) {
        return; /* power conditions: all the same to us */
    }
    if (!start && lu->locked) {
        scsi_fail(cmd, scsi_lu_ready(lu) ? SENSE_ILLEGAL : SENSE_NOT_READY, 0x5302);
    } else if (!start) {
        lu->tray_open = true;
        lu->media_event = 3;
    } else if (lu->tray_open) {
        scsi_lu_close_tray(lu);
    }
}

void scsi_prevent_allow(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    lu->locked = cmd->cdb[4] & 1;
}

void scsi_read(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint64_t lba;
    uint32_t count;
    scsi_cdb_range(cmd->cdb, &lba, &count);
    scsi_move(lu, cmd, SCSI_READ, lba, count);
}

/* ---- MODE SENSE(6) and (10): SPC-4 6.11, 7.5 ---- */

static unsigned scsi_put_pages(const struct scsi_lu *lu, const struct scsi_mode_page *pages,
                               uint8_t want, bool changeable, uint8_t *at)
{
    unsigned len = 0;
    for (; pages->put; pages++) {
        if (want == pages->code || want == 0x3f) {
            len += pages->put(lu, at + len, changeable);
        }
    }
    return len;
}

void scsi_mode_sense(struct scsi_lu *lu, struct scsi_cmd *cmd, const struct scsi_mode_page *pages,
                     uint8_t medium, uint8_t param)
{
    const uint8_t *cdb = cmd->cdb;
    bool ten = cdb[0] == 0x5a, block = !(cdb[1] & 8) && !lu->type->device_type;
    unsigned head = ten ? 8 : 4, at = head + (block ? 8 : 0);
    uint8_t *b = cmd->buf, control = cdb[2] >> 6;
    if (control == 3) {
        scsi_fail(cmd, SENSE_ILLEGAL, 0x3900); /* saving parameters not supported */
        return;
    }
    unsigned len = scsi_put_pages(lu, pages, cdb[2] & 0x3f, control == 1, b + at);
    if (!len || (cdb[3] && cdb[3] != 0xff)) {
        scsi_bad_field(cmd);
        return;
    }
    if (block) {
        uint64_t n = scsi_blocks(lu);
        store_be32(b + head, n > UINT32_MAX ? UINT32_MAX : (uint32_t)n);
        store_be32(b + head + 4, lu->type->block_size);
    }
    len += at;
    if (ten) {
        store_be16(b, (uint16_t)(len - 2));
        b[2] = medium;
        b[3] = param;
        b[7] = block ? 8 : 0;
    } else {
        b[0] = (uint8_t)(len - 1);
        b[1] = medium;
        b[2] = param;
        b[3] = block ? 8 : 0;
    }
    scsi_reply(cmd, len, ten ? load_be16(cdb + 7) : cdb[4]);
}

/* ---- Life of a command ---- */

static const struct scsi_op *scsi_find_op(const struct scsi_lu *lu, uint8_t code)
{
    for (const struct scsi_op *op = lu->type->ops; op->fn; op++) {
        if (op->code == code) {
            return op;
        }
    }
    return NULL;
}

bool scsi_lu_ready(const struct scsi_lu *lu)
{
    return lu->disk->block && !lu->tray_open;
}

/* What stands between the initiator and the command. */
static bool scsi_may_begin(struct scsi_lu *lu, struct scsi_cmd *cmd, const struct scsi_op *op)
{
    if (!op) {
        scsi_fail(cmd, SENSE_ILLEGAL, 0x2000); /* invalid operation code */
    } else if (lu->attention.key && !(op->flags & OP_ATTENTION)) {
        cmd->status = SCSI_CHECK;
        cmd->sense = lu->attention;
        lu->attention = (struct scsi_sense){0};
    } else if ((op->flags & OP_MEDIUM) && !scsi_lu_ready(lu)) {
        scsi_fail(cmd, SENSE_NOT_READY, lu->tray_open ? 0x3a02 : 0x3a01);
    } else if ((op->flags & OP_WRITES) && disk_readonly(lu->disk)) {
        scsi_fail(cmd, SENSE_PROTECT, 0x2700);
    }
    return cmd->status == SCSI_GOOD;
}

void scsi_begin(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    const struct scsi_op *op = scsi_find_op(lu, cmd->cdb[0]);
    cmd->status = SCSI_GOOD;
    cmd->sense = (struct scsi_sense){0};
    cmd->data = SCSI_NO_DATA;
    cmd->len = 0;
    cmd->off = cmd->bytes = 0;
    cmd->fua = false;
    cmd->frame = (struct scsi_frame){0};
    cmd->work = NULL;
    memset(cmd->buf, 0, SCSI_BUF);
    if (scsi_may_begin(lu, cmd, op)) {
        op->fn(lu, cmd);
    }
    lu->last = cmd->sense;
}

void scsi_received(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    const struct scsi_op *op = scsi_find_op(lu, cmd->cdb[0]);
    cmd->data = SCSI_NO_DATA;
    if (op && op->received) {
        op->received(lu, cmd);
    }
    lu->last = cmd->sense;
}

/* ---- Trays, resets ---- */

int scsi_lu_open_tray(struct scsi_lu *lu, bool force)
{
    if (lu->locked && !force) {
        lu->eject_asked = true; /* the guest sees it as an event, and may let go */
        return -EBUSY;
    }
    lu->tray_open = true;
    lu->locked = false;
    lu->media_event = 3;
    return 0;
}

void scsi_lu_close_tray(struct scsi_lu *lu)
{
    lu->tray_open = false;
    lu->eject_asked = false;
    if (lu->disk->block) {
        lu->media_event = 2;
        lu->attention = (struct scsi_sense){SENSE_ATTENTION, 0x28, 0}; /* may have changed */
    }
}

void scsi_lu_reset(struct scsi_lu *lu)
{
    lu->locked = false;
    lu->last = (struct scsi_sense){0};
    lu->attention = (struct scsi_sense){SENSE_ATTENTION, 0x29, 0};
}

void scsi_lu_init(struct scsi_lu *lu, const struct scsi_lu_type *type, struct disk *disk)
{
    *lu = (struct scsi_lu){.type = type, .disk = disk, .write_cache = true};
    scsi_lu_reset(lu);
}

/* ---- State ---- */

static const struct field scsi_sense_list[] = {
    FIELD(struct scsi_sense, key, FIELD_GUEST),
    FIELD(struct scsi_sense, asc, FIELD_GUEST),
    FIELD(struct scsi_sense, ascq, FIELD_GUEST),
};

FIELD_SET(scsi_sense_fields, "scsi-sense", struct scsi_sense, scsi_sense_list, 1);

static const struct field scsi_lu_list[] = {
    FIELD(struct scsi_lu, type, FIELD_HOST),
    FIELD(struct scsi_lu, disk, FIELD_HOST),
    FIELD(struct scsi_lu, vendor, FIELD_HOST),
    FIELD(struct scsi_lu, product, FIELD_HOST),
    FIELD(struct scsi_lu, revision, FIELD_HOST),
    FIELD(struct scsi_lu, serial, FIELD_HOST),
    FIELD(struct scsi_lu, wwn, FIELD_CONFIG),
    FIELD(struct scsi_lu, rotation_rate, FIELD_CONFIG),
    FIELD(struct scsi_lu, physical_exp, FIELD_CONFIG),
    FIELD(struct scsi_lu, write_cache, FIELD_GUEST),
    FIELD(struct scsi_lu, removable, FIELD_CONFIG),
    FIELD(struct scsi_lu, attention, FIELD_GUEST, .sub = &scsi_sense_fields),
    FIELD(struct scsi_lu, last, FIELD_GUEST, .sub = &scsi_sense_fields),
    FIELD(struct scsi_lu, tray_open, FIELD_GUEST),
    FIELD(struct scsi_lu, locked, FIELD_GUEST),
    FIELD(struct scsi_lu, eject_asked, FIELD_GUEST),
    FIELD(struct scsi_lu, media_event, FIELD_GUEST),
};

FIELD_SET_SHARED(scsi_lu_fields, "scsi-unit", struct scsi_lu, scsi_lu_list, 1);
