/*
 * IDENTIFY DEVICE and IDENTIFY PACKET DEVICE (ATA8-ACS 7.16, 7.17) and what they report and SET
 * FEATURES (7.45) changes: transfer modes and caches.
 *
 * The preset names are those of the machine that this one replaces: guests that have noted their
 * disks by model and serial number find them again.
 */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "dev/ata/ata_internal.h"

enum { MAX_MULTIPLE = 16, UDMA_MODES = 0x3f, TRIM_BLOCKS = 8 };

static void put_word(uint8_t *id, unsigned n, uint64_t v)
{
    store_le16(id + 2 * n, (uint16_t)v);
}

static void put_dword(uint8_t *id, unsigned n, uint64_t v)
{
    store_le32(id + 2 * n, (uint32_t)v);
}

/* Text has the first of two characters in the upper byte. */
static void put_text(uint8_t *id, unsigned first, unsigned last, const char *text)
{
    size_t len = strlen(text);
    for (unsigned i = 0; i < 2 * (last - first + 1); i++) {
        id[2 * first + (i ^ 1)] = (uint8_t)(i < len ? text[i] : ' ');
    }
}

/* The last word: with it, all bytes add up to zero. */
static void put_checksum(uint8_t *id)
{
    uint8_t sum = 0;
    id[510] = 0xa5;
    for (unsigned i = 0; i < 511; i++) {
        sum = (uint8_t)(sum + id[i]);
    }
    id[511] = (uint8_t)-sum;
}

static void put_names(const struct ata_drive *d, uint8_t *id, const char *model)
{
    put_text(id, 10, 19, d->id.serial ? d->id.serial : "");
    put_text(id, 23, 26, d->id.version ? d->id.version : "2.5+");
    put_text(id, 27, 46, d->id.model ? d->id.model : model);
}

static uint16_t mode_word(uint8_t supported, uint8_t selected)
{
    return (uint16_t)(supported | (selected < 8 ? 0x100 << selected : 0));
}

/* Words 49 to 53, 63 to 68, 88, 93: how data moves. */
static void put_modes(const struct ata_drive *d, uint8_t *id)
{
    put_word(id, 49, 0x0b00); /* IORDY, LBA, DMA */
    put_word(id, 51, 0x0200);
    put_word(id, 53, d->cd ? 6 : 7);
    put_word(id, 63, mode_word(7, d->xfer_mode[1]));
    put_word(id, 64, 3);
    for (unsigned i = 65; i <= 68; i++) {
        put_word(id, i, 120);
    }
    put_word(id, 88, mode_word(UDMA_MODES, d->xfer_mode[2]));
    if (!d->sata) {
        put_word(id, 93, 0x6001); /* 80-wire cable */
    } else {
        put_word(id, 76, 0x0006 | (d->cd ? 0 : 0x0100)); /* 1.5 and 3 Gb/s; NCQ */
        put_word(id, 75, d->cd ? 0 : ATA_QUEUE - 1);
        put_word(id, 222, 0x101f);
    }
}

static void put_geometry(const struct ata_drive *d, uint8_t *id, uint64_t sectors)
{
    uint64_t lba28 = sectors < 0xfffffff ? sectors : 0xfffffff;
    uint64_t track = (uint64_t)d->now_heads * d->now_secs;
    uint64_t cyls = track ? sectors / track : 0;
    put_word(id, 1, d->cyls);
    put_word(id, 3, d->heads);
    put_word(id, 6, d->secs);
    cyls = cyls < d->cyls || d->now_heads != d->heads || d->now_secs != d->secs ? cyls : d->cyls;
    cyls = cyls < 65535 ? cyls : 65535;
    put_word(id, 54, cyls);
    put_word(id, 55, d->now_heads);
    put_word(id, 56, d->now_secs);
    put_dword(id, 57, cyls * track);
    put_dword(id, 60, lba28);
    store_le64(id + 2 * 100, sectors);
}

/* Words 82 to 87: command sets, and which are on. */
static void put_command_sets(const struct ata_drive *d, uint8_t *id)
{
    bool wwn = d->id.wwn;
    uint16_t extended = (uint16_t)(0x4060 | (wwn ? 0x100 : 0)); /* FUA, general purpose log */
    put_word(id, 80, 0x01f0);
    put_word(id, 82, 0x4069); /* NOP, read-ahead, write cache, power management, SMART */
    put_word(id, 83, 0x7400); /* FLUSH CACHE and EXT, 48 bits */
    put_word(id, 84, extended);
    put_word(id, 85,
             0x4008 | (d->read_ahead ? 0x40 : 0) | (d->write_cache ? 0x20 : 0) |
                 (d->smart ? 1 : 0));
    put_word(id, 86, 0x3400);
    put_word(id, 87, extended);
    for (unsigned i = 0; wwn && i < 4; i++) {
        put_word(id, 108 + i, d->id.wwn >> (48 - 16 * i));
    }
}

static unsigned physical_exp(const struct ata_drive *d)
{
    unsigned n = 0;
    while (n < 8 && (uint32_t)ATA_SECTOR << n < d->id.physical_block) {
        n++;
    }
    return n;
}

void ata_identify(struct ata_drive *d, struct ata_req *req)
{
    uint8_t *id = ata_give(req, ATA_SECTOR);
    if (!id) {
        return;
    }
    put_word(id, 0, 0x0040);
    put_names(d, id, "QEMU HARDDISK");
    put_word(id, 47, 0x8000 | MAX_MULTIPLE);
    put_word(id, 48, 0x4000); /* no Trusted Computing (ATA8-ACS 7.12.6.17) */
    put_word(id, 59, d->multiple ? 0x100 | d->multiple : 0);
    put_modes(d, id);
    put_geometry(d, id, disk_size(&d->disk) / ATA_SECTOR);
    put_command_sets(d, id);
    put_word(id, 106, 0x4000 | (physical_exp(d) ? 0x2000 | physical_exp(d) : 0));
    if (!disk_readonly(&d->disk)) {
        put_word(id, 105, TRIM_BLOCKS);
        put_word(id, 169, 1); /* TRIM */
    }
    put_word(id, 217, d->id.rotation_rate);
    put_checksum(id);
}

void atapi_identify(struct ata_drive *d, struct ata_req *req)
{
    uint8_t *id = ata_give(req, ATA_SECTOR);
    if (!id) {
        return;
    }
    put_word(id, 0, 0x85c0); /* CD, removable, DRQ within 50 us, CDB of 12 bytes */
    put_names(d, id, "QEMU DVD-ROM");
    put_modes(d, id);
    put_word(id, 80, 0x0070);
    put_word(id, 82, 0x4210); /* NOP, DEVICE RESET, PACKET */
    put_word(id, 83, 0x4000);
    put_word(id, 84, 0x4000);
    put_word(id, 85, 0x4210);
    put_word(id, 87, 0x4000);
    put_checksum(id);
}

/* ---- SET FEATURES ---- */

enum {
    FEAT_WRITE_CACHE = 0x02,
    FEAT_XFER = 0x03,
    FEAT_NO_READ_AHEAD = 0x55,
    FEAT_KEEP = 0x66, /* settings at reset */
    FEAT_NO_WRITE_CACHE = 0x82,
    FEAT_READ_AHEAD = 0xaa,
    FEAT_PRESETS = 0xcc,
};

/* Count: 00000nnn PIO, 00001nnn PIO with flow control, 00100nnn multiword, 01000nnn Ultra DMA. */
static bool set_xfer_mode(struct ata_drive *d, uint8_t mode)
{
    static const uint8_t kinds[] = {0, 0, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 2};
    static const uint8_t most[] = {4, 2, 5};
    uint8_t kind = mode >> 3 < (int)ARRAY_LEN(kinds) ? kinds[mode >> 3] : 0xff;
    if (kind == 0xff || (mode & 7) > most[kind]) {
        return false;
    }
    if (kind) { /* one DMA mode at a time */
        d->xfer_mode[1] = d->xfer_mode[2] = 0xff;
    }
    d->xfer_mode[kind] = mode & 7;
    return true;
}

void ata_set_features(struct ata_drive *d, struct ata_req *req)
{
    ata_ok(req);
    switch (req->tf.feature & 0xff) {
    case FEAT_WRITE_CACHE: d->write_cache = true; break;
    case FEAT_NO_WRITE_CACHE: /* what is in it goes to the disk first */
        d->write_cache = false;
        if (!d->cd) {
            req->work = ata_work_flush;
            req->proto = PROTO_WORK;
        }
        break;
    case FEAT_READ_AHEAD: d->read_ahead = true; break;
    case FEAT_NO_READ_AHEAD: d->read_ahead = false; break;
    case FEAT_KEEP:
    case FEAT_PRESETS: break;
    case FEAT_XFER:
        if (!set_xfer_mode(d, (uint8_t)req->tf.count)) {
            ata_abort(req);
        }
        break;
    default: ata_abort(req);
    }
}
