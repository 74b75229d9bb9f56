/* All drivers. */
#ifndef BLOCK_TYPES_H
#define BLOCK_TYPES_H

#include "block/driver.h"

extern const struct block_type luks_type, nbd_type, qed_type, raw_type, vdi_type, vhdx_type,
    vmdk_type, vpc_type;
extern const struct block_type copy_on_read_type, fault_type, log_writes_type, throttle_type;

#if BLOCK_HTTP
extern const struct block_type http_type, https_type, ftp_type, ftps_type;
#define BLOCK_HTTP_TYPES &http_type, &https_type, &ftp_type, &ftps_type,
#else
#define BLOCK_HTTP_TYPES
#endif

#endif
