/* Floppy disk controller, the chip. Its devices: isa_fdc.h. */
#ifndef DEV_FLOPPY_FDC_H
#define DEV_FLOPPY_FDC_H

#include <pthread.h>

#include "core/irq.h"
#include "core/mem.h"
#include "dev/floppy/fdd.h"
#include "loop/clock.h"

struct i8237_pair;

enum { FDC_DRIVES = 4, FDC_COMMAND_MAX = 9, FDC_RESULT_MAX = 10 };

enum fdc_phase {
    FDC_COMMAND,  /* command bytes are taken */
    FDC_BUSY,     /* a job is at work */
    FDC_WAIT_DMA, /* until the channel is ready */
    FDC_DATA_IN,  /* the processor reads */
    FDC_DATA_OUT, /* and writes */
    FDC_RESULT,
};

enum fdc_kind { FDC_READ, FDC_WRITE, FDC_VERIFY, FDC_FORMAT };

/* A command that moves data. */
struct fdc_transfer {
    enum fdc_kind kind;
    uint8_t unit, head;
    uint8_t c, h, r, n, eot;
    uint8_t filler; /* FORMAT */
    unsigned left;  /* sectors of FORMAT, and of VERIFY with EC */
    bool mt, mfm, deleted, skip, counted;
    bool ends; /* terminal count was seen */
};

struct fdc {
    pthread_mutex_t lock; /* below it: a drive's disk, the DMA controller, interrupt pins */
    struct irq irq;
    struct i8237_pair *dma; /* NULL: none */
    unsigned dma_channel;
    struct clock *clock;           /* of `overrun`; NULL: none ever */
    struct timer overrun;          /* while the processor is to move a sector's bytes */
    bool touched;                  /* it has moved some since the timer was set */
    struct fdd *drive[FDC_DRIVES]; /* NULL: none */

    uint8_t dor, tdr, rate;
    enum fdc_phase phase;
    bool interrupt;            /* before DOR's gate */
    bool discard, after_reset; /* a reset came while a job was at work; its end did, too */

    /* Invariant 1: cmd_len <= cmd_need <= sizeof(cmd). 2: result_pos <= result_len <=
     * sizeof(result). 3: pos <= len <= sizeof(buf). Bytes go in and out only by the functions that
     * keep them. */
    uint8_t cmd[FDC_COMMAND_MAX];
    unsigned cmd_len, cmd_need;
    uint8_t result[FDC_RESULT_MAX];
    unsigned result_pos, result_len;
    uint8_t buf[FDD_SECTOR];
    unsigned pos, len;

    struct fdc_transfer t;
    struct disk_job job;
    bool job_write;
    uint64_t job_off;
    int job_ret;

    uint8_t pcn[FDC_DRIVES];
    uint8_t seek_st0[FDC_DRIVES]; /* of seeks nobody has asked about; 0: none */
    unsigned reset_senses;        /* left for SENSE INTERRUPT STATUS after a reset */
    uint8_t specify[2], config, pretrk, perpendicular, eot, option;
    bool locked;
};

extern const struct mmio fdc_ports; /* from 3f0h: 6 bytes */
extern const struct mmio fdc_port7; /* 3f7h */

void fdc_init(struct fdc *f);
void fdc_fini(struct fdc *f);
void fdc_reset(struct fdc *f); /* the RESET pin; waits for a job */
/* The DMA controller's word that the channel may be ready. */
void fdc_dma_ready(void *fdc);

void fdc_attach(struct fdc *f, unsigned unit, struct fdd *drive); /* NULL: takes it away */
void fdc_change_medium(struct fdc *f, struct fdd *drive, struct block *block);

extern const struct field_set fdc_fields; /* struct fdc */

#endif
