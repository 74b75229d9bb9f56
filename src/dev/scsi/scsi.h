/*
 * A SCSI logical unit without its transport: a CDB goes in; a reply, a range of blocks to move or
 * sense data come out. ATAPI and SCSI host adapters carry them.
 *
 * scsi_begin() and scsi_received() are called with the device's lock held and do no I/O. What takes
 * I/O is described: blocks to be moved (SCSI_READ, SCSI_WRITE), or work() to be called in a job of
 * the disk. scsi_end() then turns what came of it into status and sense.
 */
#ifndef DEV_SCSI_SCSI_H
#define DEV_SCSI_SCSI_H

#include <stdbool.h>
#include <stdint.h>

struct block;
struct disk;
struct scsi_cmd;
struct scsi_lu;

enum {
    SCSI_BUF = 4096, /* no reply and no parameter list is longer */
    SCSI_GOOD = 0,
    SCSI_CHECK = 2,
    SCSI_CONFLICT = 0x18,
    SENSE_NONE = 0,
    SENSE_NOT_READY = 2,
    SENSE_MEDIUM = 3,
    SENSE_HARDWARE = 4,
    SENSE_ILLEGAL = 5,
    SENSE_ATTENTION = 6,
    SENSE_PROTECT = 7,
    SENSE_ABORTED = 11,
    SCSI_SENSE_BYTES = 18,
};

struct scsi_sense {
    uint8_t key, asc, ascq;
};

enum scsi_data {
    SCSI_NO_DATA,
    SCSI_DATA_IN,  /* buf[0..len) goes to the initiator */
    SCSI_DATA_OUT, /* len bytes come from it into buf; then scsi_received() */
    SCSI_READ,     /* `bytes` from `off` of the medium go to it */
    SCSI_WRITE,
};

/* READ CD: what there is around the 2048 bytes of user data of each sector. */
struct scsi_frame {
    uint16_t before, user, after; /* all zero: blocks as they are */
};

struct scsi_cmd {
    uint8_t cdb[16];
    uint8_t *buf; /* SCSI_BUF bytes of the caller's; zeroed by scsi_begin() */
    enum scsi_data data;
    uint32_t len;
    uint64_t off, bytes;
    bool fua;
    struct scsi_frame frame;
    int (*work)(struct scsi_lu *, struct scsi_cmd *); /* may be NULL; after DATA_OUT or data */
    uint8_t status;
    struct scsi_sense sense;
};

struct scsi_op {
    uint8_t code;
    uint8_t flags;
    void (*fn)(struct scsi_lu *, struct scsi_cmd *);
    void (*received)(struct scsi_lu *, struct scsi_cmd *); /* parameter list is in buf */
};

enum {
    OP_MEDIUM = 1,    /* needs a medium */
    OP_ATTENTION = 2, /* works while a unit attention is pending, and leaves it */
    OP_WRITES = 4,    /* refused on what is read-only */
};

struct scsi_lu_type {
    uint8_t device_type; /* SPC: 0 disk, 5 CD */
    bool removable;
    uint32_t block_size;
    const struct scsi_op *ops; /* ends with a NULL fn */
};

extern const struct scsi_lu_type scsi_cd_type, scsi_disk_type;

struct scsi_lu {
    const struct scsi_lu_type *type;
    struct disk *disk;
    const char *vendor, *product, *revision, *serial; /* NULL: the preset */
    uint64_t wwn;                                     /* 0: none */
    uint16_t rotation_rate;                           /* VPD B1; 1: no rotation */
    uint8_t physical_exp;                             /* physical block is 512 << n */
    bool write_cache;
    bool removable;              /* says so, although its type is not */
    struct scsi_sense attention; /* pending unit attention; key 0: none */
    struct scsi_sense last;      /* of the last command, for REQUEST SENSE */
    /* Removable media. */
    bool tray_open, locked;
    bool eject_asked;    /* somebody pressed the button */
    uint8_t media_event; /* MMC: 0, 2 new media, 3 removal */
};

void scsi_lu_init(struct scsi_lu *lu, const struct scsi_lu_type *type, struct disk *disk);
void scsi_lu_reset(struct scsi_lu *lu); /* a unit attention says so */

void scsi_begin(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_received(struct scsi_lu *lu, struct scsi_cmd *cmd);
/* ret: 0 or -errno of what work() or moving the blocks came to. */
void scsi_end(struct scsi_lu *lu, struct scsi_cmd *cmd, int ret);

/* The button, or the monitor: -EBUSY while the guest locks the tray, unless by force; then the
 * guest is told. The medium itself is taken out with disk_set_block(). */
int scsi_lu_open_tray(struct scsi_lu *lu, bool force);
void scsi_lu_close_tray(struct scsi_lu *lu); /* with the medium in it, or none */
bool scsi_lu_ready(const struct scsi_lu *lu);

/* 18 bytes, fixed format. */
void scsi_put_sense(uint8_t *buf, const struct scsi_sense *sense);

/* A row of a frame of READ CD around 2048 bytes of user data; buf has room for all of it. */
void scsi_cd_frame(const struct scsi_frame *f, uint32_t lba, const uint8_t *data, uint8_t *buf);

extern const struct field_set scsi_lu_fields; /* struct scsi_lu */

#endif
