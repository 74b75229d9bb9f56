/*
 * Disks and CD drives as -device names them, on buses of type "IDE": a channel with two units, or
 * a SATA port with one. Host adapters make the buses.
 */
#ifndef DEV_ATA_IDE_DEV_H
#define DEV_ATA_IDE_DEV_H

#include "core/device.h"
#include "dev/ata/ata.h"

struct ide_bus;
struct pci_func;

/* The adapter's side of a bus. */
struct ide_host {
    void (*attach)(struct ide_bus *bus, unsigned unit, struct ata_drive *drive); /* or NULL */
    int (*eject)(struct ide_bus *bus, struct ata_drive *drive, bool force);
    void (*insert)(struct ide_bus *bus, struct ata_drive *drive, struct block *block);
};

struct ide_bus {
    struct bus bus;
    char id[32];
    unsigned units; /* 1 or 2 */
    const struct dev *unit[2];
    unsigned number;      /* of the adapter's */
    struct pci_func *pci; /* the adapter; NULL: none */
    const struct ide_host *host;
    void *opaque;
};

struct ide_dev {
    struct dev dev;
    struct ata_drive drive;
    struct ata_ident ident;
    char *drive_id, *werror, *rerror, *write_cache, *chs_trans;
    uint32_t unit, bootindex, logical_block; /* bootindex UINT32_MAX: none */
    bool share, taken;
    char serial[16]; /* the preset */
};

extern const struct bus_type ide_bus_type;
extern const struct dev_type ide_hd_type, ide_cd_type;

/* "PREFIX.N" */
void ide_bus_add(struct machine *m, struct ide_bus *bus, const char *prefix, unsigned n,
                 unsigned units, const struct ide_host *host, void *opaque, struct pci_func *pci);

/* The monitor's: loop's thread of the machine. -ENOTSUP: not a CD drive; -EBUSY: locked. */
int ide_dev_eject(struct ide_dev *d, bool force);
void ide_dev_insert(struct ide_dev *d, struct block *block);

#endif
