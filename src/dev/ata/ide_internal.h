/* Between the files of the ATA channel; its lock is held. */
#ifndef DEV_ATA_IDE_INTERNAL_H
#define DEV_ATA_IDE_INTERNAL_H

#include "dev/ata/ide_channel.h"

enum {
    CTL_NIEN = 2, /* of the device control register */
    CTL_SRST = 4,
    CTL_HOB = 0x80, /* reads give the previous contents */
    BM_START = 1,   /* of the bus master's command register */
    BM_TO_MEMORY = 8,
    BM_ACTIVE = 1, /* of its status register */
    BM_ERROR = 2,
    BM_INTERRUPT = 4,
};

/* ---- ide_channel.c ---- */

void ide_interrupt(struct ide_channel *ch);
void ide_no_interrupt(struct ide_channel *ch);
void ide_idle(struct ide_channel *ch); /* drops whatever was under way; no job is at work */
void ide_go(struct ide_channel *ch);   /* ch->req was begun */
void ide_ask_reset(struct ide_channel *ch, unsigned unit);
void ide_write_control(struct ide_channel *ch, uint8_t val);
uint64_t ide_read_data(struct ide_channel *ch, unsigned size);
void ide_write_data(struct ide_channel *ch, unsigned size, uint64_t val);
void ide_start_dma(struct ide_channel *ch);
void ide_stop_dma(struct ide_channel *ch);

/* ---- ide_bmdma.c ---- */

bool ide_bm_open(struct ide_channel *ch, struct ata_sg *sg);

#endif
