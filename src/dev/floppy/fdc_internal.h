/* Between the parts of the floppy controller. All with its lock held. */
#ifndef DEV_FLOPPY_FDC_INTERNAL_H
#define DEV_FLOPPY_FDC_INTERNAL_H

#include "dev/floppy/fdc.h"

enum {
    DOR_SELECT = 3,
    DOR_RESET = 4, /* 0: reset */
    DOR_DMAGATE = 8,
    ST0_ABNORMAL = 0x40,
    ST0_INVALID = 0x80,
    ST0_POLLING = 0xc0,
    ST0_SE = 0x20,
    ST0_EC = 0x10,
    ST1_EN = 0x80,
    ST1_OR = 0x10,
    ST1_ND = 4,
    ST1_DE = 0x20,
    ST1_NW = 2,
    ST1_MA = 1,
    ST2_CM = 0x40,
    ST2_DD = 0x20,
    ST2_WC = 0x10,
    ST2_BC = 2,
    ST3_WP = 0x40,
    ST3_RDY = 0x20,
    ST3_T0 = 0x10,
    ST3_TS = 8,
    CMD_MT = 0x80,
    CMD_MFM = 0x40,
    CMD_SK = 0x20,
    CONFIG_EIS = 0x40,
    CONFIG_EFIFO = 0x20, /* 1: off */
    CONFIG_POLL = 0x10,  /* 1: off */
    SPECIFY_ND = 1,      /* no DMA */
};

/* fdc.c */
void fdc_update_irq(struct fdc *f);
void fdc_interrupt(struct fdc *f);
void fdc_result_begin(struct fdc *f);
void fdc_result_put(struct fdc *f, uint8_t val);
void fdc_job_ended(struct fdc *f); /* after a reset */

/* fdc_command.c: cmd[] is complete. */
unsigned fdc_command_length(uint8_t first);
void fdc_command_run(struct fdc *f);

/* fdc_data.c */
void fdc_data_begin(struct fdc *f, enum fdc_kind kind);
void fdc_data_read_id(struct fdc *f);
void fdc_data_go_on(struct fdc *f); /* by DMA */
void fdc_data_overrun(void *fdc);   /* the timer; takes the lock */
uint8_t fdc_data_get(struct fdc *f);
void fdc_data_put(struct fdc *f, uint8_t val);

#endif
