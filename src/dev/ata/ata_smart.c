/*
 * SMART (ATA8-ACS 7.53) as of a disk that is never ill, and READ LOG EXT (7.27) with the directory
 * and the log of queued errors (10h). Does not do: self-tests, error logs, attribute history.
 */
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "dev/ata/ata_internal.h"

enum {
    SMART_READ_DATA = 0xd0,
    SMART_READ_THRESHOLDS = 0xd1,
    SMART_AUTOSAVE = 0xd2,
    SMART_ENABLE = 0xd8,
    SMART_DISABLE = 0xd9,
    SMART_RETURN_STATUS = 0xda,
    SMART_KEY = 0xc24f,
    LOG_DIRECTORY = 0,
    LOG_QUEUE_ERROR = 0x10,
};

struct attribute {
    uint8_t id;
    uint16_t flags;
    uint8_t value, worst, raw, threshold;
};

static const struct attribute attributes[] = {
    {1, 3, 100, 100, 0, 6},    /* raw read error rate */
    {3, 3, 100, 100, 16, 0},   /* spin-up time */
    {4, 2, 100, 100, 100, 20}, /* start and stop count */
    {5, 3, 100, 100, 0, 36},   /* reallocated sectors */
    {9, 3, 100, 100, 1, 0},    /* power-on hours */
    {12, 3, 100, 100, 0, 0},   /* power cycles */
    {190, 3, 69, 69, 31, 50},  /* temperature */
};

static void put_sum(uint8_t *b)
{
    uint8_t sum = 0;
    for (unsigned i = 0; i < 511; i++) {
        sum = (uint8_t)(sum + b[i]);
    }
    b[511] = (uint8_t)-sum;
}

static void smart_read_data(struct ata_req *req)
{
    uint8_t *b = ata_give(req, ATA_SECTOR);
    if (!b) {
        return;
    }
    store_le16(b, 1);
    for (unsigned i = 0; i < ARRAY_LEN(attributes); i++) {
        const struct attribute *a = &attributes[i];
        uint8_t *at = b + 2 + 12 * i;
        at[0] = a->id;
        store_le16(at + 1, a->flags);
        at[3] = a->value;
        at[4] = a->worst;
        at[5] = a->raw;
    }
    b[362] = 2; /* no off-line collection was ever begun */
    store_le16(b + 368, 2);
    put_sum(b);
}

static void smart_read_thresholds(struct ata_req *req)
{
    uint8_t *b = ata_give(req, ATA_SECTOR);
    if (!b) {
        return;
    }
    store_le16(b, 1);
    for (unsigned i = 0; i < ARRAY_LEN(attributes); i++) {
        b[2 + 12 * i] = attributes[i].id;
        b[3 + 12 * i] = attributes[i].threshold;
    }
    put_sum(b);
}

void ata_smart(struct ata_drive *d, struct ata_req *req)
{
    uint8_t sub = (uint8_t)req->tf.feature;
    if ((req->tf.lba >> 8 & 0xffff) != SMART_KEY || (!d->smart && sub != SMART_ENABLE)) {
        ata_abort(req);
        return;
    }
    ata_ok(req);
    switch (sub) {
    case SMART_READ_DATA: smart_read_data(req); break;
    case SMART_READ_THRESHOLDS: smart_read_thresholds(req); break;
    case SMART_AUTOSAVE: break;
    case SMART_ENABLE: d->smart = true; break;
    case SMART_DISABLE: d->smart = false; break;
    case SMART_RETURN_STATUS: break; /* the key as it came: no threshold exceeded */
    default: ata_abort(req);
    }
}

/* ---- Logs ---- */

static void log_queue_error(struct ata_drive *d, uint8_t *b)
{
    const struct ata_tf *tf = &d->queue_error.tf;
    if (!d->queue_error.valid) {
        b[0] = 0x80; /* none of the queued commands */
    } else {
        b[0] = d->queue_error.tag;
        b[2] = tf->status;
        b[3] = tf->error;
        for (unsigned i = 0; i < 3; i++) {
            b[4 + i] = (uint8_t)(tf->lba >> 8 * i);
            b[8 + i] = (uint8_t)(tf->lba >> (24 + 8 * i));
        }
        b[7] = tf->device;
        b[12] = (uint8_t)tf->count;
        b[13] = (uint8_t)(tf->count >> 8);
    }
    put_sum(b);
    d->queue_error.valid = false;
}

/* LBA 7:0 is the log, 15:8 and 39:32 the first page of it. */
void ata_read_log(struct ata_drive *d, struct ata_req *req)
{
    uint8_t log = (uint8_t)req->tf.lba;
    unsigned page = (req->tf.lba >> 8 & 0xff) | (req->tf.lba >> 24 & 0xff00);
    uint8_t *b = NULL;
    if (req->tf.count != 1 || page || (log != LOG_DIRECTORY && log != LOG_QUEUE_ERROR)) {
        ata_abort(req);
    } else {
        b = ata_give(req, ATA_SECTOR);
    }
    if (b && log == LOG_QUEUE_ERROR) {
        log_queue_error(d, b);
    } else if (b) {
        store_le16(b, 1); /* version of the directory */
        store_le16(b + 2 * LOG_QUEUE_ERROR, 1);
    }
}
