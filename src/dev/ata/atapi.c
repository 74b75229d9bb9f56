/*
 * Commands of ATAPI drives: ATA8-ACS 7.21 (PACKET) and those a packet device has beside it. What is
 * in the packets: dev/scsi/.
 *
 * Does not do: overlapped and queued packets (SERVICE, release).
 */
#include <string.h>

#include "dev/ata/ata_internal.h"

enum { PACKET_DMA = 1, PACKET_OVERLAP = 2 };

static void atapi_packet_cmd(struct ata_drive *d, struct ata_req *req)
{
    if ((req->tf.feature & PACKET_OVERLAP) || !ata_grow(req, SCSI_BUF)) {
        ata_abort(req);
        return;
    }
    req->atapi = true;
    req->dma = req->tf.feature & PACKET_DMA;
    req->proto = PROTO_PACKET;
    req->scsi = (struct scsi_cmd){0};
}

/* IDENTIFY DEVICE and READ SECTORS fail, and the registers say what is here instead. */
static void atapi_not_a_disk(struct ata_drive *d, struct ata_req *req)
{
    uint8_t device = req->tf.device;
    ata_signature(d, &req->tf);
    req->tf.device = device;
    ata_abort(req);
}

/* How much the host takes at a time: what it wrote to LBA 23:8, even, and not 0. */
static uint32_t atapi_limit(const struct ata_tf *tf)
{
    uint32_t n = tf->lba >> 8 & 0xffff;
    n = n ? n : 0xfffe;
    return n > 1 ? n & ~1u : 2;
}

static int atapi_work(struct ata_req *req)
{
    return req->scsi.work(&req->drive->lu, &req->scsi);
}

void ata_packet(struct ata_req *req)
{
    struct scsi_cmd *s = &req->scsi;
    s->buf = req->buf;
    scsi_begin(&req->drive->lu, s);
    req->block = atapi_limit(&req->tf);
    req->media = s->data == SCSI_READ || s->data == SCSI_WRITE;
    req->off = s->off;
    req->left = req->media ? s->bytes : 0;
    req->len = s->len;
    req->work = s->work ? atapi_work : NULL;
    switch (s->data) {
    case SCSI_DATA_IN:
    case SCSI_READ: req->proto = PROTO_IN; break;
    case SCSI_DATA_OUT:
    case SCSI_WRITE: req->proto = PROTO_OUT; break;
    case SCSI_NO_DATA: req->proto = s->work ? PROTO_WORK : PROTO_DONE;
    }
    if (req->proto == PROTO_DONE) {
        ata_end(req);
    }
}

const struct ata_command atapi_commands[] = {
    {0x20, 0, atapi_not_a_disk}, {0xa0, 0, atapi_packet_cmd}, {0xa1, 0, atapi_identify},
    {0xe0, 0, ata_no_op},        {0xe1, 0, ata_no_op},        {0xe2, 0, ata_no_op},
    {0xe3, 0, ata_no_op},        {0xe5, 0, ata_check_power},  {0xe6, 0, ata_sleep},
    {0xec, 0, atapi_not_a_disk}, {0xef, 0, ata_set_features}, {0},
};
