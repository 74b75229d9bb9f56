/*
 * Commands of disks: ATA8-ACS (T13/1699-D r6a) clause 7. Sectors of 512 bytes, addressed by LBA28,
 * LBA48 or cylinder, head and sector.
 *
 * Does not do: host protected area, security, media card pass through, streaming, power-up in
 * standby, WRITE UNCORRECTABLE; standby timers never run out.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "dev/ata/ata_internal.h"

enum { TRIM_MAX_BLOCKS = 8, POWER_ACTIVE = 0xff };

/* ---- Addresses ---- */

static uint64_t disk_sectors(const struct ata_drive *d)
{
    return disk_size(&d->disk) / ATA_SECTOR;
}

/* ATA-3 or so: sectors count from 1. UINT64_MAX: there is no such. */
static uint64_t lba_of_chs(const struct ata_drive *d, const struct ata_tf *tf)
{
    uint64_t cyl = tf->lba >> 8 & 0xffff;
    unsigned sec = tf->lba & 0xff, head = tf->device & 15;
    if (!sec || sec > d->now_secs || head >= d->now_heads) {
        return UINT64_MAX;
    }
    return (cyl * d->now_heads + head) * d->now_secs + sec - 1;
}

bool ata_range(struct ata_drive *d, struct ata_req *req, uint64_t *lba, uint32_t *count)
{
    const struct ata_tf *tf = &req->tf;
    uint16_t n = req->ncq ? tf->feature : tf->count;
    if (req->lba48) {
        *lba = tf->lba;
        *count = n ? n : 65536;
    } else {
        req->chs = !(tf->device & ATA_DEV_LBA);
        *lba =
            req->chs ? lba_of_chs(d, tf) : (tf->lba & 0xffffff) | (uint64_t)(tf->device & 15) << 24;
        *count = n & 0xff ? n & 0xff : 256;
    }
    uint64_t all = disk_sectors(d);
    if (*lba >= all || *count > all - *lba) {
        ata_fail(req, ATA_IDNF);
        return false;
    }
    return true;
}

/* ---- Moving data ---- */

static void disk_move(struct ata_drive *d, struct ata_req *req, enum ata_proto proto)
{
    uint64_t lba;
    uint32_t count;
    if (!ata_range(d, req, &lba, &count)) {
        return;
    }
    req->proto = proto;
    req->media = true;
    req->off = lba * ATA_SECTOR;
    req->left = (uint64_t)count * ATA_SECTOR;
}

static void disk_read_cmd(struct ata_drive *d, struct ata_req *req)
{
    disk_move(d, req, PROTO_IN);
}

static void disk_write_cmd(struct ata_drive *d, struct ata_req *req)
{
    if (disk_readonly(&d->disk)) {
        ata_abort(req);
        return;
    }
    disk_move(d, req, PROTO_OUT);
}

static void disk_read_multiple(struct ata_drive *d, struct ata_req *req)
{
    if (!d->multiple) {
        ata_abort(req);
        return;
    }
    req->block = d->multiple * (uint32_t)ATA_SECTOR;
    disk_move(d, req, PROTO_IN);
}

static void disk_write_multiple(struct ata_drive *d, struct ata_req *req)
{
    if (!d->multiple || disk_readonly(&d->disk)) {
        ata_abort(req);
        return;
    }
    req->block = d->multiple * (uint32_t)ATA_SECTOR;
    disk_move(d, req, PROTO_OUT);
}

/* 7.61: bit 7 of the device register is FUA. */
static void disk_queued(struct ata_drive *d, struct ata_req *req, enum ata_proto proto)
{
    if (!d->sata || (proto == PROTO_OUT && disk_readonly(&d->disk))) {
        ata_abort(req);
        return;
    }
    req->fua = req->tf.device & 0x80;
    disk_move(d, req, proto);
}

static void disk_read_queued(struct ata_drive *d, struct ata_req *req)
{
    disk_queued(d, req, PROTO_IN);
}

static void disk_write_queued(struct ata_drive *d, struct ata_req *req)
{
    disk_queued(d, req, PROTO_OUT);
}

static int work_verify(struct ata_req *req)
{
    int ret = ata_grow(req, ATA_WINDOW) ? 0 : -ENOMEM;
    while (!ret && req->left && !req->cancelled) {
        uint32_t n = req->left < ATA_WINDOW ? (uint32_t)req->left : ATA_WINDOW;
        ret = disk_read(&req->drive->disk, req->off, req->buf, n);
        req->off += ret ? 0 : n;
        req->left -= ret ? 0 : n;
    }
    return ret;
}

static void disk_verify(struct ata_drive *d, struct ata_req *req)
{
    disk_move(d, req, PROTO_WORK);
    req->work = work_verify;
}

int ata_work_flush(struct ata_req *req)
{
    return disk_io(&req->drive->disk, DISK_FLUSH, 0, 0, NULL, 0);
}

static void disk_flush(struct ata_drive *d, struct ata_req *req)
{
    req->proto = PROTO_WORK;
    req->work = ata_work_flush;
}

/* ---- DATA SET MANAGEMENT (7.6): ranges of 48 bits of LBA, 16 of count ---- */

static int work_trim(struct ata_req *req)
{
    uint64_t all = disk_sectors(req->drive);
    int ret = 0;
    for (uint32_t at = 0; at < req->len && !ret && !req->cancelled; at += 8) {
        uint64_t range = load_le64(req->buf + at), lba = range & mask_low(48), n = range >> 48;
        if (n && (lba >= all || n > all - lba)) {
            return -ERANGE;
        }
        if (n) {
            ret =
                disk_io(&req->drive->disk, DISK_DISCARD, lba * ATA_SECTOR, n * ATA_SECTOR, NULL, 0);
        }
    }
    return ret;
}

static void disk_data_set(struct ata_drive *d, struct ata_req *req)
{
    uint32_t blocks = req->tf.count;
    if ((req->tf.feature & 0xff) != 1 || !blocks || blocks > TRIM_MAX_BLOCKS ||
        disk_readonly(&d->disk) || !ata_grow(req, blocks * ATA_SECTOR)) {
        ata_abort(req);
        return;
    }
    req->proto = PROTO_OUT;
    req->len = blocks * ATA_SECTOR;
    req->work = work_trim;
}

/* ---- Settings ---- */

static void disk_set_multiple(struct ata_drive *d, struct ata_req *req)
{
    uint8_t n = (uint8_t)req->tf.count;
    if (n > 16 || (n & (n - 1))) {
        ata_abort(req);
        return;
    }
    d->multiple = n;
    ata_ok(req);
}

/* INITIALIZE DEVICE PARAMETERS (ATA-5): the geometry for CHS. */
static void disk_init_params(struct ata_drive *d, struct ata_req *req)
{
    uint8_t secs = (uint8_t)req->tf.count;
    if (!secs) {
        ata_abort(req);
        return;
    }
    d->now_secs = secs;
    d->now_heads = (uint8_t)((req->tf.device & 15) + 1);
    ata_ok(req);
}

static void disk_native_max(struct ata_drive *d, struct ata_req *req)
{
    uint64_t last = disk_sectors(d) ? disk_sectors(d) - 1 : 0;
    ata_ok(req);
    if (req->lba48) {
        req->tf.lba = last & mask_low(48);
    } else {
        last = last < 0xfffffff ? last : 0xfffffff;
        req->tf.lba = last & 0xffffff;
        req->tf.device = (uint8_t)((req->tf.device & 0xf0) | last >> 24);
    }
}

static void disk_seek(struct ata_drive *d, struct ata_req *req)
{
    uint64_t lba;
    uint32_t count;
    req->tf.count = 1;
    if (ata_range(d, req, &lba, &count)) {
        ata_ok(req);
    }
}

void ata_no_op(struct ata_drive *d, struct ata_req *req)
{
    ata_ok(req);
}

void ata_check_power(struct ata_drive *d, struct ata_req *req)
{
    ata_ok(req);
    req->tf.count = POWER_ACTIVE;
}

/* Only a reset wakes it. */
void ata_sleep(struct ata_drive *d, struct ata_req *req)
{
    ata_ok(req);
    d->asleep = true;
}

const struct ata_command ata_disk_commands[] = {
    {0x06, CMD_LBA48 | CMD_DMA, disk_data_set},
    {0x10, 0, ata_no_op}, /* RECALIBRATE */
    {0x20, 0, disk_read_cmd},
    {0x21, 0, disk_read_cmd},
    {0x24, CMD_LBA48, disk_read_cmd},
    {0x25, CMD_LBA48 | CMD_DMA, disk_read_cmd},
    {0x27, CMD_LBA48, disk_native_max},
    {0x29, CMD_LBA48, disk_read_multiple},
    {0x2f, CMD_LBA48, ata_read_log},
    {0x30, 0, disk_write_cmd},
    {0x31, 0, disk_write_cmd},
    {0x34, CMD_LBA48, disk_write_cmd},
    {0x35, CMD_LBA48 | CMD_DMA, disk_write_cmd},
    {0x39, CMD_LBA48, disk_write_multiple},
    {0x3d, CMD_LBA48 | CMD_DMA | CMD_FUA, disk_write_cmd},
    {0x40, 0, disk_verify},
    {0x41, 0, disk_verify},
    {0x42, CMD_LBA48, disk_verify},
    {0x47, CMD_LBA48 | CMD_DMA, ata_read_log},
    {0x60, CMD_LBA48 | CMD_DMA | CMD_NCQ, disk_read_queued},
    {0x61, CMD_LBA48 | CMD_DMA | CMD_NCQ, disk_write_queued},
    {0x70, 0, disk_seek},
    {0x91, 0, disk_init_params},
    {0x94, 0, ata_no_op}, /* STANDBY IMMEDIATE and so on, as ATA-3 had them */
    {0x95, 0, ata_no_op},
    {0x96, 0, ata_no_op},
    {0x97, 0, ata_no_op},
    {0x98, 0, ata_check_power},
    {0x99, 0, ata_sleep},
    {0xb0, 0, ata_smart},
    {0xc4, 0, disk_read_multiple},
    {0xc5, 0, disk_write_multiple},
    {0xc6, 0, disk_set_multiple},
    {0xc8, CMD_DMA, disk_read_cmd},
    {0xc9, CMD_DMA, disk_read_cmd},
    {0xca, CMD_DMA, disk_write_cmd},
    {0xcb, CMD_DMA, disk_write_cmd},
    {0xce, CMD_LBA48 | CMD_FUA, disk_write_multiple},
    {0xe0, 0, ata_no_op}, /* STANDBY IMMEDIATE */
    {0xe1, 0, ata_no_op}, /* IDLE IMMEDIATE */
    {0xe2, 0, ata_no_op}, /* STANDBY */
    {0xe3, 0, ata_no_op}, /* IDLE */
    {0xe5, 0, ata_check_power},
    {0xe6, 0, ata_sleep},
    {0xe7, 0, disk_flush},
    {0xea, CMD_LBA48, disk_flush},
    {0xec, 0, ata_identify},
    {0xef, 0, ata_set_features},
    {0xf8, 0, disk_native_max},
    {0},
};
