/* Between the files of the drive. */
#ifndef DEV_ATA_ATA_INTERNAL_H
#define DEV_ATA_ATA_INTERNAL_H

#include "dev/ata/ata.h"

enum {
    CMD_LBA48 = 1,
    CMD_DMA = 2,
    CMD_OUT = 4,
    CMD_MULTIPLE = 8,
    CMD_FUA = 16,
    CMD_NCQ = 32,
    CMD_MEDIUM = 64, /* changes a task file's LBA into bytes: off, left */
};

struct ata_command {
    uint8_t code, flags;
    void (*fn)(struct ata_drive *, struct ata_req *);
};

extern const struct ata_command ata_disk_commands[], atapi_commands[]; /* end with a NULL fn */

/* Ends: with DRDY, or with an error. */
void ata_ok(struct ata_req *req);
void ata_abort(struct ata_req *req);
void ata_fail(struct ata_req *req, uint8_t error);
/* buf[0..len) goes to the host as PIO; buf has room for it and is zero. NULL: no memory, ended. */
uint8_t *ata_give(struct ata_req *req, uint32_t len);
/* First sector and count; false: ended, IDNF. */
bool ata_range(struct ata_drive *d, struct ata_req *req, uint64_t *lba, uint32_t *count);

/* Commands in other files. */
void ata_identify(struct ata_drive *d, struct ata_req *req);
void atapi_identify(struct ata_drive *d, struct ata_req *req);
void ata_set_features(struct ata_drive *d, struct ata_req *req);
int ata_work_flush(struct ata_req *req);
void ata_smart(struct ata_drive *d, struct ata_req *req);
void ata_read_log(struct ata_drive *d, struct ata_req *req);
void ata_no_op(struct ata_drive *d, struct ata_req *req);
void ata_check_power(struct ata_drive *d, struct ata_req *req);
void ata_sleep(struct ata_drive *d, struct ata_req *req);

#endif
