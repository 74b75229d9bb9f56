/*
 * Buses of type "SCSI" and the devices on them, "scsi-hd" and "scsi-cd". A host adapter makes the
 * bus, finds units by address, and lets them answer; what a target says when it has no such unit
 * is here too.
 */
#ifndef DEV_SCSI_SCSI_BUS_H
#define DEV_SCSI_SCSI_BUS_H

#include <pthread.h>

#include "core/device.h"
#include "dev/scsi/scsi.h"
#include "dev/storage/disk.h"

struct pci_func;

struct scsi_bus {
    struct bus bus; /* owner: this struct */
    char id[40];
    pthread_mutex_t *lock; /* the adapter's: units come and go, and begin commands, under it */
    unsigned max_channel, max_target, max_lun;
    struct scsi_dev *first;
    struct pci_func *pci; /* of the adapter; NULL: none */
};

struct scsi_addr {
    uint32_t channel, target, lun;
};

struct scsi_dev {
    struct dev dev;
    struct disk disk;
    struct scsi_lu lu;
    struct scsi_addr at;
    struct scsi_dev *next;
    bool linked;
    /* Options; UINT32_MAX: not given. */
    char *drive_id, *werror, *rerror, *serial, *vendor, *product, *version;
    uint64_t wwn;
    uint32_t bootindex, logical_block, physical_block, rotation_rate;
    bool share, removable, dpofua;
};

extern const struct bus_type scsi_bus_type;
extern const struct dev_type scsi_hd_type, scsi_cd_dev_type;

/* `owner_id` is the adapter's id or NULL: the bus is "ID.0", or "scsi.N". The limits and the lock
 * are filled in by the caller before. */
void scsi_bus_add(struct machine *m, struct scsi_bus *bus, const char *owner_id);

/* The adapter's lock is held for all below. */

/* Exactly there, or NULL. */
struct scsi_dev *scsi_bus_find(const struct scsi_bus *bus, const struct scsi_addr *at);
bool scsi_bus_has_target(const struct scsi_bus *bus, const struct scsi_addr *at);
/*
 * A command for an address whose target exists: what the target answers itself (REPORT LUNS, and
 * anything for a unit that does not exist), or what the unit does. `dev` may be NULL.
 */
void scsi_target_begin(const struct scsi_bus *bus, const struct scsi_addr *at, struct scsi_dev *dev,
                       struct scsi_cmd *cmd);
/* The first 8 bytes are a LUN as SAM-5 4.7 writes it: peripheral or flat; UINT32_MAX: neither. */
uint32_t scsi_lun_parse(const uint8_t *lun);
void scsi_lun_put(uint8_t *at, uint32_t lun);

#endif
