/*
 * Floppy disk controller 82077AA/82078 in AT mode: Intel data sheets 290166 and 290475. Registers,
 * the FIFO, interrupts, resets. Commands: fdc_command.c, data: fdc_data.c.
 *
 *   COMMAND --last byte--> RESULT | COMMAND | BUSY | DATA_OUT | WAIT_DMA   (fdc_command_run)
 *   BUSY --job done--> BUSY | DATA_IN | DATA_OUT | WAIT_DMA | RESULT       (fdc_data.c)
 *   DATA_IN, DATA_OUT --last byte of a sector--> BUSY | DATA_OUT | RESULT
 *   WAIT_DMA --channel open--> as from BUSY
 *   RESULT --last byte read--> COMMAND
 *   any --reset--> COMMAND; from BUSY when the job has ended
 *
 * No port access waits for the disk; between two accesses at most one sector moves.
 *
 * Does not do: the PS/2 registers SRA and SRB (an AT has none), power management, tape, SCAN,
 * FORMAT AND WRITE, DRIVE SPECIFICATION, SAVE and RESTORE; delays: seeks and resets end at once.
 */
#include "dev/floppy/fdc.h"

#include <assert.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "core/fields.h"
#include "dev/dma/i8237.h"
#include "dev/floppy/fdc_internal.h"
#include "state/field.h"

enum {
    R_DOR = 2,
    R_TDR = 3,
    R_MSR = 4, /* written: DSR */
    R_FIFO = 5,
    MSR_RQM = 0x80,
    MSR_DIO = 0x40,
    MSR_NDMA = 0x20,
    MSR_CB = 0x10,
    DSR_RESET = 0x80,
    RATE = 3,
    DIR_CHANGE = 0x80,
};

/* ---- Interrupts ---- */

void fdc_update_irq(struct fdc *f)
{
    irq_set(&f->irq, f->interrupt && f->dor & DOR_DMAGATE);
}

void fdc_interrupt(struct fdc *f)
{
    f->interrupt = true;
    fdc_update_irq(f);
}

static void fdc_no_interrupt(struct fdc *f)
{
    f->interrupt = false;
    fdc_update_irq(f);
}

/* ---- The FIFO ---- */

void fdc_result_begin(struct fdc *f)
{
    f->phase = FDC_RESULT;
    f->result_pos = f->result_len = 0;
}

void fdc_result_put(struct fdc *f, uint8_t val)
{
    if (f->result_len < sizeof(f->result)) {
        f->result[f->result_len++] = val;
    }
}

static void fdc_to_command(struct fdc *f)
{
    f->phase = FDC_COMMAND;
    f->cmd_len = f->cmd_need = 0;
    f->result_pos = f->result_len = 0;
    f->pos = f->len = 0;
}

static void fdc_put_command(struct fdc *f, uint8_t val)
{
    if (!f->cmd_len) {
        f->cmd_need = fdc_command_length(val);
        assert(f->cmd_need && f->cmd_need <= sizeof(f->cmd));
    }
    f->cmd[f->cmd_len++] = val;
    if (f->cmd_len < f->cmd_need) {
        return;
    }
    f->cmd_len = f->cmd_need = 0;
    fdc_command_run(f);
}

static uint8_t fdc_get_result(struct fdc *f)
{
    uint8_t val = f->result_pos < f->result_len ? f->result[f->result_pos++] : 0;
    bool more = false;
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        more |= f->seek_st0[i] != 0;
    }
    if (f->result_pos >= f->result_len) {
        fdc_to_command(f);
        fdc_no_interrupt(f);
        if (more) { /* another seek's, which waited */
            fdc_interrupt(f);
        }
    } else {
        fdc_no_interrupt(f);
    }
    return val;
}

static uint8_t fdc_read_fifo(struct fdc *f)
{
    switch (f->phase) {
    case FDC_DATA_IN: return fdc_data_get(f);
    case FDC_RESULT: return fdc_get_result(f);
    default: return 0;
    }
}

static void fdc_write_fifo(struct fdc *f, uint8_t val)
{
    if (!(f->dor & DOR_RESET)) {
        return;
    }
    if (f->phase == FDC_COMMAND) {
        fdc_put_command(f, val);
    } else if (f->phase == FDC_DATA_OUT) {
        fdc_data_put(f, val);
    }
}

/* ---- Resets ---- */

static void fdc_request_dma(struct fdc *f, bool on)
{
    if (f->dma) {
        i8237_request(f->dma, f->dma_channel, on);
    }
}

/* Out of reset: the drives are polled, which makes an interrupt. */
static void fdc_wake(struct fdc *f)
{
    f->after_reset = false;
    f->reset_senses = FDC_DRIVES;
    fdc_interrupt(f);
}

static void fdc_abort(struct fdc *f)
{
    fdc_request_dma(f, false);
    fdc_no_interrupt(f);
    f->reset_senses = 0;
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        f->pcn[i] = f->seek_st0[i] = 0;
    }
    if (!f->locked) {
        f->config = CONFIG_EFIFO;
        f->pretrk = 0;
    } else {
        f->config &= (uint8_t)~CONFIG_POLL;
    }
    f->perpendicular &= 0x3c; /* a software reset clears GAP and WGATE only */
    if (f->phase == FDC_BUSY) {
        f->discard = true;
    } else {
        fdc_to_command(f);
    }
}

void fdc_job_ended(struct fdc *f)
{
    f->discard = false;
    fdc_to_command(f);
    if (f->after_reset) {
        fdc_wake(f);
    }
}

static void fdc_end_reset(struct fdc *f)
{
    f->after_reset = true;
    if (!f->discard) {
        fdc_wake(f);
    }
}

/* ---- Registers ---- */

static void fdc_write_dor(struct fdc *f, uint8_t val)
{
    uint8_t old = f->dor;
    f->dor = val;
    if ((old & DOR_RESET) && !(val & DOR_RESET)) {
        f->after_reset = false;
        fdc_abort(f);
    } else if (!(old & DOR_RESET) && (val & DOR_RESET)) {
        fdc_end_reset(f);
    }
    fdc_update_irq(f);
    if (f->phase == FDC_WAIT_DMA) {
        fdc_data_go_on(f);
    }
}

static void fdc_write_dsr(struct fdc *f, uint8_t val)
{
    f->rate = val & RATE;
    if (val & DSR_RESET && f->dor & DOR_RESET) {
        fdc_abort(f);
        fdc_end_reset(f);
    }
}

static uint8_t fdc_msr(const struct fdc *f)
{
    uint8_t ndma = f->specify[1] & SPECIFY_ND ? MSR_NDMA : 0;
    if (!(f->dor & DOR_RESET) || f->discard) {
        return 0;
    }
    switch (f->phase) {
    case FDC_COMMAND: return MSR_RQM | (f->cmd_len ? MSR_CB : 0);
    case FDC_BUSY:
    case FDC_WAIT_DMA: return MSR_CB | ndma;
    case FDC_DATA_IN: return MSR_RQM | MSR_DIO | MSR_CB | ndma;
    case FDC_DATA_OUT: return MSR_RQM | MSR_CB | ndma;
    case FDC_RESULT: return MSR_RQM | MSR_DIO | MSR_CB;
    }
    return 0;
}

static uint8_t fdc_dir(const struct fdc *f)
{
    const struct fdd *d = f->drive[f->dor & DOR_SELECT];
    return d && d->changed ? DIR_CHANGE : 0;
}

static enum mem_result fdc_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct fdc *f = opaque;
    AUTO_LOCK(&f->lock);
    switch (off) {
    case R_DOR: *val = f->dor; break;
    case R_TDR: *val = f->tdr; break;
    case R_MSR: *val = fdc_msr(f); break;
    case R_FIFO: *val = fdc_read_fifo(f); break;
    default: *val = 0xff;
    }
    return MEM_OK;
}

static enum mem_result fdc_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct fdc *f = opaque;
    AUTO_LOCK(&f->lock);
    switch (off) {
    case R_DOR: fdc_write_dor(f, (uint8_t)val); break;
    case R_TDR: f->tdr = val & 3; break;
    case R_MSR: fdc_write_dsr(f, (uint8_t)val); break;
    case R_FIFO: fdc_write_fifo(f, (uint8_t)val); break;
    }
    return MEM_OK;
}

static enum mem_result fdc_read_7(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct fdc *f = opaque;
    AUTO_LOCK(&f->lock);
    *val = fdc_dir(f);
    return MEM_OK;
}

static enum mem_result fdc_write_7(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct fdc *f = opaque;
    AUTO_LOCK(&f->lock);
    f->rate = val & RATE;
    return MEM_OK;
}

const struct mmio fdc_ports = {fdc_read, fdc_write, 1, 1};
const struct mmio fdc_port7 = {fdc_read_7, fdc_write_7, 1, 1};

void fdc_dma_ready(void *fdc)
{
    struct fdc *f = fdc;
    AUTO_LOCK(&f->lock);
    if (f->phase == FDC_WAIT_DMA) {
        fdc_data_go_on(f);
    }
}

/* ---- Life ---- */

void fdc_init(struct fdc *f)
{
    pthread_mutex_init(&f->lock, NULL);
    if (f->clock) {
        timer_init(&f->overrun, f->clock, fdc_data_overrun, f);
    }
    f->rate = 2;
    f->config = CONFIG_EFIFO;
}

void fdc_fini(struct fdc *f)
{
    timer_unset(&f->overrun);
    pthread_mutex_destroy(&f->lock);
}

/* With the lock held, no job of the drive is at work and none can start. */
static void fdc_lock_idle(struct fdc *f, struct fdd *d)
{
    pthread_mutex_lock(&f->lock);
    while (d && disk_busy(&d->disk)) {
        pthread_mutex_unlock(&f->lock);
        disk_drain(&d->disk);
        pthread_mutex_lock(&f->lock);
    }
}

void fdc_reset(struct fdc *f)
{
    pthread_mutex_lock(&f->lock);
    f->dor = f->tdr = 0;
    f->rate = 2;
    f->locked = f->after_reset = false;
    fdc_abort(f);
    pthread_mutex_unlock(&f->lock);
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        if (f->drive[i]) {
            disk_drain(&f->drive[i]->disk);
        }
    }
    pthread_mutex_lock(&f->lock);
    f->specify[0] = f->specify[1] = f->perpendicular = f->eot = f->option = 0;
    fdc_update_irq(f);
    pthread_mutex_unlock(&f->lock);
}

void fdc_attach(struct fdc *f, unsigned unit, struct fdd *drive)
{
    fdc_lock_idle(f, f->drive[unit & 3]);
    f->drive[unit & 3] = drive;
    pthread_mutex_unlock(&f->lock);
}

void fdc_change_medium(struct fdc *f, struct fdd *drive, struct block *block)
{
    fdc_lock_idle(f, drive);
    fdd_set_medium(drive, block);
    pthread_mutex_unlock(&f->lock);
}

/* ---- State ---- */

static const struct field fdc_transfer_list[] = {
    FIELD(struct fdc_transfer, kind, FIELD_GUEST, .max = FDC_FORMAT),
    FIELD(struct fdc_transfer, unit, FIELD_GUEST, .max = FDC_DRIVES - 1),
    FIELD(struct fdc_transfer, head, FIELD_GUEST, .max = 1),
    FIELD(struct fdc_transfer, c, FIELD_GUEST),
    FIELD(struct fdc_transfer, h, FIELD_GUEST),
    FIELD(struct fdc_transfer, r, FIELD_GUEST),
    FIELD(struct fdc_transfer, n, FIELD_GUEST),
    FIELD(struct fdc_transfer, eot, FIELD_GUEST),
    FIELD(struct fdc_transfer, filler, FIELD_GUEST),
    FIELD(struct fdc_transfer, left, FIELD_GUEST),
    FIELD(struct fdc_transfer, mt, FIELD_GUEST),
    FIELD(struct fdc_transfer, mfm, FIELD_GUEST),
    FIELD(struct fdc_transfer, deleted, FIELD_GUEST),
    FIELD(struct fdc_transfer, skip, FIELD_GUEST),
    FIELD(struct fdc_transfer, counted, FIELD_GUEST),
    FIELD(struct fdc_transfer, ends, FIELD_GUEST),
};

FIELD_SET(fdc_transfer_fields, "floppy-transfer", struct fdc_transfer, fdc_transfer_list, 1);

static const struct field fdc_list[] = {
    FIELD(struct fdc, lock, FIELD_HOST),
    FIELD(struct fdc, irq, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct fdc, dma, FIELD_HOST),
    FIELD(struct fdc, dma_channel, FIELD_CONFIG),
    FIELD(struct fdc, clock, FIELD_HOST),
    FIELD(struct fdc, overrun, FIELD_GUEST, .sub = &timer_fields),
    FIELD(struct fdc, touched, FIELD_GUEST),
    FIELD(struct fdc, drive, FIELD_HOST),
    FIELD(struct fdc, dor, FIELD_GUEST),
    FIELD(struct fdc, tdr, FIELD_GUEST),
    FIELD(struct fdc, rate, FIELD_GUEST, .max = RATE),
    FIELD(struct fdc, phase, FIELD_GUEST, .max = FDC_RESULT),
    FIELD(struct fdc, interrupt, FIELD_GUEST),
    FIELD(struct fdc, discard, FIELD_HOST),
    FIELD(struct fdc, after_reset, FIELD_HOST),
    FIELD_ARRAY(struct fdc, cmd, FIELD_GUEST),
    FIELD(struct fdc, cmd_len, FIELD_GUEST, .max = FDC_COMMAND_MAX),
    FIELD(struct fdc, cmd_need, FIELD_GUEST, .max = FDC_COMMAND_MAX),
    FIELD_ARRAY(struct fdc, result, FIELD_GUEST),
    FIELD(struct fdc, result_pos, FIELD_GUEST, .max = FDC_RESULT_MAX),
    FIELD(struct fdc, result_len, FIELD_GUEST, .max = FDC_RESULT_MAX),
    FIELD_ARRAY(struct fdc, buf, FIELD_GUEST),
    FIELD(struct fdc, pos, FIELD_GUEST, .max = FDD_SECTOR),
    FIELD(struct fdc, len, FIELD_GUEST, .max = FDD_SECTOR),
    FIELD(struct fdc, t, FIELD_GUEST, .sub = &fdc_transfer_fields),
    FIELD(struct fdc, job, FIELD_HOST),
    FIELD(struct fdc, job_write, FIELD_HOST),
    FIELD(struct fdc, job_off, FIELD_HOST),
    FIELD(struct fdc, job_ret, FIELD_HOST),
    FIELD_ARRAY(struct fdc, pcn, FIELD_GUEST),
    FIELD_ARRAY(struct fdc, seek_st0, FIELD_GUEST),
    FIELD(struct fdc, reset_senses, FIELD_GUEST, .max = FDC_DRIVES),
    FIELD_ARRAY(struct fdc, specify, FIELD_GUEST),
    FIELD(struct fdc, config, FIELD_GUEST),
    FIELD(struct fdc, pretrk, FIELD_GUEST),
    FIELD(struct fdc, perpendicular, FIELD_GUEST),
    FIELD(struct fdc, eot, FIELD_GUEST),
    FIELD(struct fdc, option, FIELD_GUEST),
    FIELD(struct fdc, locked, FIELD_GUEST),
};

/* A job that waits for the machine to go on does not come along. */
static int fdc_loaded(void *obj, struct err *err)
{
    const struct fdc *f = obj;
    bool command = f->cmd_len < f->cmd_need || (!f->cmd_len && !f->cmd_need);
    if (f->phase == FDC_BUSY || !command || f->result_pos > f->result_len || f->pos > f->len) {
        return err_set(err, EINVAL, "state of floppy-controller: the FIFO cannot be so");
    }
    return 0;
}

FIELD_SET_SHARED(fdc_fields, "floppy-controller", struct fdc, fdc_list, 1, .loaded = fdc_loaded);
