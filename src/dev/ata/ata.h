/*
 * An ATA disk or ATAPI CD drive without its host: ATA8-ACS (T13/1699-D r6a). A command is a task
 * file; the drive says how its data moves, and the transport (IDE channel, AHCI port) moves it.
 *
 * Life of a request, all under the transport's lock unless it says otherwise:
 *
 *   ata_begin()     looks at the task file and sets `proto`, or ends the command at once
 *   ata_packet()    for PROTO_PACKET, when the CDB is there; sets `proto` anew
 *   ata_run()       does one step: at once what takes no I/O; else in a job on the image's loop,
 *                   where it calls req->done, without a lock. Between the steps of PIO the
 * transport and the guest move req->buf. ata_received()  a parameter list is complete in req->buf;
 * sets `proto` anew ata_end()       status, error and LBA of what req->result came to
 *
 * Nothing of a task file is believed before it is checked.
 */
#ifndef DEV_ATA_ATA_H
#define DEV_ATA_ATA_H

#include <stdbool.h>
#include <stdint.h>

#include "dev/ata/ata_sg.h"
#include "dev/scsi/scsi.h"
#include "dev/storage/disk.h"

enum {
    ATA_SECTOR = 512,
    ATA_ERR = 0x01, /* Status */
    ATA_DRQ = 0x08,
    ATA_DSC = 0x10,
    ATA_DF = 0x20,
    ATA_DRDY = 0x40,
    ATA_BSY = 0x80,
    ATA_ABRT = 0x04, /* Error */
    ATA_IDNF = 0x10,
    ATA_UNC = 0x40,
    ATA_ICRC = 0x80,
    ATA_DEV_LBA = 0x40, /* Device */
    ATA_DEV_1 = 0x10,
    ATA_COD = 1, /* interrupt reason, in Count */
    ATA_IO = 2,
    ATA_CMD_DEVICE_RESET = 0x08,
    ATA_CMD_DIAGNOSTIC = 0x90,
    ATA_WINDOW = 64 << 10, /* bytes of PIO read or written at a time */
    ATA_PIECE = 512 << 10, /* of DMA */
    ATA_QUEUE = 32,
};

/* Bits 15:8 of feature and count, 47:24 of the LBA are the "previous" registers. */
struct ata_tf {
    uint16_t feature, count;
    uint64_t lba;
    uint8_t device, command;
    uint8_t status, error;
};

enum ata_proto {
    PROTO_DONE,   /* tf has the result */
    PROTO_WORK,   /* no data: ata_run(STEP_WORK) */
    PROTO_IN,     /* data for the host; req->dma says by which way */
    PROTO_OUT,    /* data from it */
    PROTO_PACKET, /* the 12 bytes of a CDB, into req->scsi.cdb */
};

enum ata_step {
    STEP_WORK,     /* what the command does beside moving data */
    STEP_FILL,     /* PIO: the next window of the medium into buf[0..len) */
    STEP_DRAIN,    /* PIO: buf[0..len) onto the medium */
    STEP_TRANSFER, /* all data, through req->sg, and then the work */
};

struct ata_drive;

struct ata_req {
    struct disk_job job;
    struct ata_drive *drive;
    struct ata_tf tf;
    enum ata_proto proto;
    bool dma, ncq, atapi, chs, lba48, fua;
    bool media;     /* data is the medium's, not what is in buf */
    uint64_t off;   /* media: where the next byte lies */
    uint64_t left;  /* media: bytes not yet read into buf, or written */
    uint32_t block; /* PIO: bytes between two interrupts */
    uint8_t *buf;   /* stays for the next request */
    uint32_t room;
    uint32_t len; /* bytes in buf; of a parameter list: those to come */
    struct scsi_cmd scsi;
    int (*work)(struct ata_req *);
    struct ata_sg sg;
    uint64_t moved; /* bytes that went through sg */
    enum ata_step step;
    int result; /* of the steps so far, -errno; -EFAULT: no RAM, -ENOBUFS: list too short */
    _Atomic bool cancelled;
    void (*done)(struct ata_req *);
    void *opaque; /* the transport's */
};

/* Also how -device describes it; texts may be NULL. */
struct ata_ident {
    char *model, *serial, *version;
    uint64_t wwn;
    uint32_t cyls, heads, secs; /* 0: by the size */
    uint32_t rotation_rate, physical_block;
};

struct ata_drive {
    bool cd, sata;
    struct disk disk;
    struct scsi_lu lu; /* CD */
    struct ata_ident id;
    uint16_t cyls;       /* default geometry */
    uint8_t heads, secs; /* the same */
    uint8_t now_heads, now_secs;
    uint8_t multiple;     /* sectors; 0: off */
    uint8_t xfer_mode[3]; /* PIO, multiword DMA and Ultra DMA: the mode, 0xff: not this one */
    bool write_cache, read_ahead, smart, asleep;
    bool no_write_cache; /* at power on */
    struct {             /* log 10h: the last queued command that failed */
        bool valid;
        uint8_t tag;
        struct ata_tf tf;
    } queue_error;
};

/* `id` is copied, its texts are borrowed. After drive->disk was initialized. */
void ata_drive_init(struct ata_drive *d, bool cd, const struct ata_ident *id);
/* What a reset leaves; power: also what SET FEATURES set. */
void ata_drive_reset(struct ata_drive *d, bool power);
/* Registers after a reset or EXECUTE DEVICE DIAGNOSTIC. */
void ata_signature(const struct ata_drive *d, struct ata_tf *tf);

void ata_begin(struct ata_drive *d, struct ata_req *req);
void ata_packet(struct ata_req *req);
void ata_received(struct ata_req *req);
/* True: it took no I/O and is done; req->done is not called. */
bool ata_run(struct ata_req *req, enum ata_step step);
void ata_end(struct ata_req *req);
/* True when the data that is in buf is all there is. */
static inline bool ata_last_window(const struct ata_req *req)
{
    return !req->media || !req->left;
}
bool ata_grow(struct ata_req *req,
              uint32_t room); /* buf has room for that much; false: no memory */
void ata_req_free(struct ata_req *req);

/* A CD drive, with no job running. Eject: -EBUSY while the guest locks the tray, unless by force;
 * it is told. The tray stays open until something is inserted; NULL closes it empty. */
int ata_drive_eject(struct ata_drive *d, bool force);
void ata_drive_insert(struct ata_drive *d, struct block *block);

extern const struct field_set ata_tf_fields; /* struct ata_tf */

extern const struct field_set ata_drive_fields; /* struct ata_drive */

#endif
