/* Between the files of this folder. */
#ifndef DEV_SCSI_SCSI_INTERNAL_H
#define DEV_SCSI_SCSI_INTERNAL_H

#include "dev/scsi/scsi.h"

void scsi_fail(struct scsi_cmd *cmd, uint8_t key, uint16_t asc_ascq);
void scsi_bad_field(struct scsi_cmd *cmd); /* ILLEGAL REQUEST, invalid field in CDB */
/* What is in buf[0..len), cut to what the initiator has room for. */
void scsi_reply(struct scsi_cmd *cmd, uint32_t len, uint32_t room);
uint64_t scsi_blocks(const struct scsi_lu *lu);
/* A range of blocks to be moved, if they exist. */
void scsi_move(struct scsi_lu *lu, struct scsi_cmd *cmd, enum scsi_data data, uint64_t lba,
               uint64_t count);
bool scsi_range_ok(const struct scsi_lu *lu, uint64_t lba, uint64_t count);
/* LBA and count of a CDB of 6, 10, 12 or 16 bytes. */
void scsi_cdb_range(const uint8_t *cdb, uint64_t *lba, uint32_t *count);

/* Commands that all units have. */
void scsi_test_unit_ready(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_request_sense(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_inquiry(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_start_stop(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_prevent_allow(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_read(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_no_op(struct scsi_lu *lu, struct scsi_cmd *cmd);

/* MODE SENSE: pages by code. Returns the page's length, or 0. */
struct scsi_mode_page {
    uint8_t code;
    unsigned (*put)(const struct scsi_lu *lu, uint8_t *at, bool changeable);
};
/* `pages` ends with a NULL put; `param` is the device-specific byte. */
void scsi_mode_sense(struct scsi_lu *lu, struct scsi_cmd *cmd, const struct scsi_mode_page *pages,
                     uint8_t medium, uint8_t param);

/* CD: tables of contents and the like (scsi_cd_info.c) */
void scsi_cd_read_toc(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_cd_read_disc_info(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_cd_read_track_info(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_cd_read_dvd_structure(struct scsi_lu *lu, struct scsi_cmd *cmd);
void scsi_cd_get_configuration(struct scsi_lu *lu, struct scsi_cmd *cmd);
bool scsi_cd_is_dvd(const struct scsi_lu *lu);
void scsi_cd_put_msf(uint8_t *at, uint32_t lba);

unsigned scsi_vpd_page(struct scsi_lu *lu, uint8_t page, uint8_t *buf); /* 0: no such */

#endif
