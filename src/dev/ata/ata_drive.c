/*
 * The drive's side of a command's life: what all commands share, and the jobs that move data
 * between medium, buffer and guest memory. See ata.h.
 *
 * Small transfers go straight between the image and guest memory; where the list has too many
 * pieces, or one that is not plain RAM, they go through the request's buffer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "block/block.h"
#include "dev/ata/ata_internal.h"
#include "state/field.h"

/* ---- Ends of commands ---- */

void ata_ok(struct ata_req *req)
{
    req->proto = PROTO_DONE;
    req->tf.status = ATA_DRDY | ATA_DSC;
    req->tf.error = 0;
}

void ata_fail(struct ata_req *req, uint8_t error)
{
    req->proto = PROTO_DONE;
    req->tf.status = ATA_DRDY | ATA_DSC | ATA_ERR;
    req->tf.error = error;
}

void ata_abort(struct ata_req *req)
{
    ata_fail(req, ATA_ABRT);
}

bool ata_grow(struct ata_req *req, uint32_t room)
{
    if (req->room >= room) {
        return true;
    }
    void *buf = block_alloc(room);
    if (!buf) {
        return false;
    }
    memset(buf, 0, room); /* nothing of ours may ever get to the guest */
    free(req->buf);
    req->buf = buf;
    req->room = room;
    return true;
}

uint8_t *ata_give(struct ata_req *req, uint32_t len)
{
    if (!ata_grow(req, len)) {
        ata_abort(req);
        return NULL;
    }
    memset(req->buf, 0, len);
    req->proto = PROTO_IN;
    req->len = len;
    return req->buf;
}

void ata_req_free(struct ata_req *req)
{
    free(req->buf);
    req->buf = NULL;
    req->room = 0;
}

/* ---- Begin ---- */

static const struct ata_command *ata_find(const struct ata_drive *d, uint8_t code)
{
    const struct ata_command *c = d->cd ? atapi_commands : ata_disk_commands;
    while (c->fn && c->code != code) {
        c++;
    }
    return c->fn ? c : NULL;
}

void ata_begin(struct ata_drive *d, struct ata_req *req)
{
    const struct ata_command *c = ata_find(d, req->tf.command);
    req->drive = d;
    req->dma = c && (c->flags & CMD_DMA);
    req->ncq = c && (c->flags & CMD_NCQ);
    req->lba48 = c && (c->flags & CMD_LBA48);
    req->fua = c && (c->flags & CMD_FUA);
    req->atapi = req->media = req->chs = false;
    req->off = req->left = req->moved = 0;
    req->block = ATA_SECTOR;
    req->len = 0;
    req->work = NULL;
    req->result = 0;
    req->cancelled = false;
    if (!c || (d->asleep && req->tf.command != ATA_CMD_DEVICE_RESET)) {
        ata_abort(req);
        return;
    }
    c->fn(d, req);
}

/* ---- Jobs ---- */

static unsigned ata_write_flags(const struct ata_req *req)
{
    bool fua = req->atapi ? req->scsi.fua : req->fua, cached = req->drive->write_cache && !fua;
    return cached ? 0 : BLOCK_FUA;
}

static bool ata_framed(const struct ata_req *req)
{
    const struct scsi_frame *f = &req->scsi.frame;
    return req->atapi && f->before + f->after;
}

/* READ CD with more than user data: sector by sector, each between what is around it. */
static int ata_fill_frames(struct ata_req *req, uint32_t max)
{
    enum { USER = 2048 };
    const struct scsi_frame *f = &req->scsi.frame;
    uint32_t size = (uint32_t)f->before + f->user + f->after;
    uint8_t user[USER] = {0};
    int ret = ata_grow(req, max) ? 0 : -ENOMEM;
    req->len = 0;
    while (!ret && req->left && req->len + size <= max && !req->cancelled) {
        ret = f->user ? disk_read(&req->drive->disk, req->off, user, USER) : 0;
        scsi_cd_frame(f, (uint32_t)(req->off / USER), user, req->buf + req->len);
        req->off += USER;
        req->left -= USER;
        req->len += size;
    }
    return ret;
}

static int ata_fill(struct ata_req *req, uint32_t max)
{
    if (ata_framed(req)) {
        return ata_fill_frames(req, max);
    }
    uint32_t n = req->left < max ? (uint32_t)req->left : max;
    if (!ata_grow(req, n)) {
        return -ENOMEM;
    }
    int ret = disk_read(&req->drive->disk, req->off, req->buf, n);
    if (!ret) {
        req->off += n;
        req->left -= n;
        req->len = n;
    }
    return ret;
}

static int ata_drain(struct ata_req *req)
{
    int ret = disk_write(&req->drive->disk, req->off, req->buf, req->len, ata_write_flags(req));
    if (!ret) {
        req->off += req->len;
        req->len = 0;
    }
    return ret;
}

/* A piece straight to or from guest memory. False: the list does not allow it; try it otherwise. */
static bool ata_piece_mapped(struct ata_req *req, uint32_t n, bool in, int *ret)
{
    struct ata_sg_spans spans;
    struct ata_sg save = req->sg;
    if (!ata_sg_map(&req->sg, n, &spans)) {
        req->sg = save;
        return false;
    }
    struct iovs q = iovs_of(spans.iov, spans.n);
    *ret = disk_io(&req->drive->disk, in ? DISK_READ : DISK_WRITE, req->off, n, &q,
                   in ? 0 : ata_write_flags(req));
    if (in) {
        ata_sg_wrote(&spans);
    }
    req->moved += *ret ? 0 : n;
    req->off += *ret ? 0 : n;
    req->left -= *ret ? 0 : n;
    return true;
}

static int ata_piece_copied(struct ata_req *req, uint32_t n, bool in)
{
    uint32_t max = ata_framed(req) ? ATA_WINDOW : n;
    int ret = in ? ata_fill(req, max) : ata_grow(req, n) ? 0 : -ENOMEM;
    if (ret) {
        return ret;
    }
    req->len = in ? req->len : n;
    ret = ata_sg_copy(&req->sg, req->buf, req->len, in, &req->moved);
    if (!ret && !in) {
        ret = ata_drain(req);
        req->left -= ret ? 0 : n;
    }
    return ret;
}

static int ata_transfer_media(struct ata_req *req, bool in)
{
    int ret = 0;
    while (!ret && req->left && !req->cancelled) {
        uint32_t n = req->left < ATA_PIECE ? (uint32_t)req->left : ATA_PIECE;
        if (ata_framed(req) || !ata_piece_mapped(req, n, in, &ret)) {
            ret = ata_piece_copied(req, n, in);
        }
    }
    return req->cancelled ? -ECANCELED : ret;
}

static int ata_transfer(struct ata_req *req)
{
    bool in = req->proto == PROTO_IN;
    if (req->media) {
        return ata_transfer_media(req, in);
    }
    return ata_sg_copy(&req->sg, req->buf, req->len, in, &req->moved);
}

static int ata_step(struct ata_req *req)
{
    switch (req->step) {
    case STEP_WORK: return req->work ? req->work(req) : 0;
    case STEP_FILL: return ata_fill(req, ATA_WINDOW);
    case STEP_DRAIN: return ata_drain(req);
    case STEP_TRANSFER: return ata_transfer(req);
    }
    return -EINVAL;
}

static void ata_job(void *opaque)
{
    struct ata_req *req = opaque;
    req->result = req->cancelled ? -ECANCELED : ata_step(req);
    req->done(req);
}

bool ata_run(struct ata_req *req, enum ata_step step)
{
    req->step = step;
    if (step == STEP_TRANSFER && !req->media) {
        req->result = ata_transfer(req);
        return true;
    }
    disk_start(&req->drive->disk, &req->job, ata_job, req);
    return false;
}

/* ---- End ---- */

static uint8_t ata_error_of(int result)
{
    switch (-result) {
    case EIO: return ATA_UNC;
    case ERANGE: return ATA_IDNF;
    case EFAULT: return ATA_ABRT | ATA_ICRC;
    default: return ATA_ABRT;
    }
}

static void ata_end_packet(struct ata_req *req)
{
    scsi_end(&req->drive->lu, &req->scsi, req->result);
    if (req->scsi.status == SCSI_GOOD) {
        ata_ok(req);
    } else {
        ata_fail(req, (uint8_t)(req->scsi.sense.key << 4 | ATA_ABRT));
    }
    req->tf.count = ATA_COD | ATA_IO;
}

/* Where it failed, as the registers hold an address. */
static void ata_put_lba(struct ata_req *req, uint64_t lba)
{
    struct ata_tf *tf = &req->tf;
    if (req->lba48) {
        tf->lba = lba & mask_low(48);
    } else if (!req->chs) {
        tf->lba = lba & 0xffffff;
        tf->device = (uint8_t)((tf->device & 0xf0) | (lba >> 24 & 15));
    }
}

void ata_end(struct ata_req *req)
{
    if (req->atapi) {
        ata_end_packet(req);
    } else if (!req->result) {
        ata_ok(req);
        req->tf.count = req->media ? 0 : req->tf.count;
    } else {
        ata_fail(req, ata_error_of(req->result));
        if (req->media) {
            ata_put_lba(req, req->off / ATA_SECTOR);
        }
    }
}

void ata_received(struct ata_req *req)
{
    if (req->atapi) {
        scsi_received(&req->drive->lu, &req->scsi);
        req->work = NULL;
    }
    req->proto = req->work ? PROTO_WORK : PROTO_DONE;
    if (req->proto == PROTO_DONE) {
        ata_end(req);
    }
}

/* ---- Resets, media ---- */

/* ATA8-ACS 9: what tells disks from packet devices. */
void ata_signature(const struct ata_drive *d, struct ata_tf *tf)
{
    tf->feature = 0;
    tf->error = 1;
    tf->count = 1;
    tf->lba = d->cd ? 0xeb1401 : 1;
    tf->device &= ATA_DEV_1;
    tf->status = d->cd ? 0 : ATA_DRDY | ATA_DSC;
}

void ata_drive_reset(struct ata_drive *d, bool power)
{
    d->asleep = false;
    d->now_heads = d->heads;
    d->now_secs = d->secs;
    d->multiple = d->cd ? 0 : 16;
    if (d->cd) {
        scsi_lu_reset(&d->lu);
    }
    if (power) {
        d->write_cache = !d->no_write_cache;
        d->read_ahead = d->smart = true;
        d->xfer_mode[0] = d->xfer_mode[1] = 0xff;
        d->xfer_mode[2] = 5;
        d->queue_error.valid = false;
    }
}

int ata_drive_eject(struct ata_drive *d, bool force)
{
    int ret = d->cd ? scsi_lu_open_tray(&d->lu, force) : -ENOTSUP;
    if (!ret) {
        disk_set_block(&d->disk, NULL);
    }
    return ret;
}

void ata_drive_insert(struct ata_drive *d, struct block *block)
{
    disk_set_block(&d->disk, block);
    scsi_lu_close_tray(&d->lu);
}

static uint32_t ata_default(uint32_t given, uint32_t preset, uint32_t max)
{
    return given && given <= max ? given : preset;
}

void ata_drive_init(struct ata_drive *d, bool cd, const struct ata_ident *id)
{
    d->cd = cd;
    d->id = *id;
    uint32_t heads = ata_default(id->heads, 16, 16), secs = ata_default(id->secs, 63, 255);
    uint64_t cyls = disk_size(&d->disk) / ATA_SECTOR / (heads * secs);
    d->heads = (uint8_t)heads;
    d->secs = (uint8_t)secs;
    d->cyls = (uint16_t)ata_default(id->cyls, cyls < 16383 ? (uint32_t)cyls : 16383, 65535);
    if (cd) {
        scsi_lu_init(&d->lu, &scsi_cd_type, &d->disk);
        d->lu.vendor = "QEMU";
        d->lu.product = "QEMU DVD-ROM";
        d->lu.revision = id->version ? id->version : "2.5+";
    }
    ata_drive_reset(d, true);
}

/* ---- State ---- */

static const struct field ata_tf_list[] = {
    FIELD(struct ata_tf, feature, FIELD_GUEST), FIELD(struct ata_tf, count, FIELD_GUEST),
    FIELD(struct ata_tf, lba, FIELD_GUEST),     FIELD(struct ata_tf, device, FIELD_GUEST),
    FIELD(struct ata_tf, command, FIELD_GUEST), FIELD(struct ata_tf, status, FIELD_GUEST),
    FIELD(struct ata_tf, error, FIELD_GUEST),
};

FIELD_SET_SHARED(ata_tf_fields, "ata-taskfile", struct ata_tf, ata_tf_list, 1);

static const struct field ata_drive_list[] = {
    FIELD(struct ata_drive, cd, FIELD_CONFIG),
    FIELD(struct ata_drive, sata, FIELD_CONFIG),
    FIELD(struct ata_drive, disk, FIELD_HOST),
    FIELD(struct ata_drive, lu, FIELD_GUEST, .sub = &scsi_lu_fields),
    FIELD(struct ata_drive, id, FIELD_HOST),
    FIELD(struct ata_drive, cyls, FIELD_CONFIG),
    FIELD(struct ata_drive, heads, FIELD_CONFIG),
    FIELD(struct ata_drive, secs, FIELD_CONFIG),
    FIELD(struct ata_drive, now_heads, FIELD_GUEST),
    FIELD(struct ata_drive, now_secs, FIELD_GUEST),
    FIELD(struct ata_drive, multiple, FIELD_GUEST),
    FIELD_ARRAY(struct ata_drive, xfer_mode, FIELD_GUEST),
    FIELD(struct ata_drive, write_cache, FIELD_GUEST),
    FIELD(struct ata_drive, read_ahead, FIELD_GUEST),
    FIELD(struct ata_drive, smart, FIELD_GUEST),
    FIELD(struct ata_drive, asleep, FIELD_GUEST),
    FIELD(struct ata_drive, no_write_cache, FIELD_CONFIG),
    FIELD(struct ata_drive, queue_error.valid, FIELD_GUEST),
    FIELD(struct ata_drive, queue_error.tag, FIELD_GUEST),
    FIELD(struct ata_drive, queue_error.tf, FIELD_GUEST, .sub = &ata_tf_fields),
};

FIELD_SET_SHARED(ata_drive_fields, "ata-drive", struct ata_drive, ata_drive_list, 1);
