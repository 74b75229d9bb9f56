/*
 * One channel of a parallel ATA host: the task file registers of up to two drives, and the bus
 * master (SFF-8038i). Where they lie is the business of who has them: the offsets here are within
 * the command block (8 ports, as at 1F0h), the control block (1 port, as 3F6h) and the channel's
 * half of the bus master's ports (8).
 */
#ifndef DEV_ATA_IDE_CHANNEL_H
#define DEV_ATA_IDE_CHANNEL_H

#include "core/irq.h"
#include "core/mem.h"
#include "dev/ata/ata.h"

enum ide_phase {
    IDE_IDLE,
    IDE_BUSY,     /* a job is at work */
    IDE_DATA_IN,  /* DRQ: the guest reads data[pos..end) */
    IDE_DATA_OUT, /* DRQ: it writes there */
    IDE_WAIT_DMA, /* for the bus master's start bit */
};

struct ide_unit {
    struct ata_drive *drive; /* NULL: none */
    struct ata_tf tf;
};

struct ide_channel {
    pthread_mutex_t lock;
    /* Memory for DMA; NULL: not now. */
    struct mem_map *(*dma)(void *opaque);
    void *opaque;
    struct irq irq;
    struct ide_unit unit[2];
    unsigned selected;
    uint8_t control;
    bool interrupt; /* INTRQ of the selected drive, before nIEN */
    enum ide_phase phase;
    bool reset_asked[2]; /* reset when the job has ended */
    struct ata_req req;  /* at most one command at a time */
    uint8_t *data;
    uint32_t pos, end;
    uint32_t window; /* bytes of buf that this round fills, DATA_OUT */
    uint8_t bm_command, bm_status;
    uint32_t bm_table;
};

void ide_channel_init(struct ide_channel *ch, struct mem_map *(*dma)(void *), void *opaque);
void ide_channel_fini(struct ide_channel *ch); /* after the drives' jobs have ended */
/* NULL takes it off; then no job of it is at work. */
void ide_channel_attach(struct ide_channel *ch, unsigned unit, struct ata_drive *drive);
/* Power or system reset: waits for jobs. */
void ide_channel_reset(struct ide_channel *ch);

extern const struct mmio ide_command_block, ide_control_block, ide_bus_master; /* dev: channel */

/* Somebody takes the medium out of a CD drive, or puts one in. -EBUSY: the guest locked the tray,
 * and was told. Neither on the image's loop. */
int ide_channel_eject(struct ide_channel *ch, struct ata_drive *drive, bool force);
void ide_channel_insert(struct ide_channel *ch, struct ata_drive *drive, struct block *block);

extern const struct field_set ide_channel_fields; /* struct ide_channel */

#endif
