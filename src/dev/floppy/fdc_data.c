/*
 * Commands of the floppy controller that move data, a sector at a time: 82077AA data sheet, 5.1. A
 * job on the image's loop reads or writes the sector; between jobs it goes to or from the FIFO or
 * the DMA channel.
 *
 * An image has one format: what has other addresses, sizes or rates than it is not found. FORMAT
 * TRACK writes the sectors that are in the format. Nothing is stored as deleted.
 */
#include <string.h>

#include "base/cleanup.h"
#include "block/block.h"
#include "dev/dma/i8237.h"
#include "dev/floppy/fdc_internal.h"

enum {
    FORMAT_ID = 4,           /* bytes the host gives for each sector */
    OVERRUN_NS = 100000000u, /* the chip waits for 16 bytes' time; guests may be slow */
};

static bool data_by_dma(const struct fdc *f)
{
    return !(f->specify[1] & SPECIFY_ND);
}

static struct fdd *data_drive(const struct fdc *f)
{
    return f->drive[f->t.unit];
}

/* ---- Ends ---- */

static void data_request(struct fdc *f, bool on)
{
    if (f->dma) {
        i8237_request(f->dma, f->dma_channel, on);
    }
}

static void data_end(struct fdc *f, uint8_t st0, uint8_t st1, uint8_t st2)
{
    const struct fdc_transfer *t = &f->t;
    data_request(f, false);
    f->pos = f->len = 0;
    fdc_result_begin(f);
    fdc_result_put(f, (uint8_t)(st0 | t->head << 2 | t->unit));
    fdc_result_put(f, st1);
    fdc_result_put(f, st2);
    fdc_result_put(f, t->c);
    fdc_result_put(f, t->h);
    fdc_result_put(f, t->r);
    fdc_result_put(f, t->n);
    fdc_interrupt(f);
}

static void data_fail(struct fdc *f, uint8_t st1, uint8_t st2)
{
    data_end(f, ST0_ABNORMAL, st1, st2);
}

/* ---- Sectors ---- */

/* Is there anything that could be read? Else ended. */
static bool data_track(struct fdc *f)
{
    const struct fdd *d = data_drive(f);
    const struct fdc_transfer *t = &f->t;
    if (d && d->medium && t->mfm && d->medium->rates >> f->rate & 1 && t->head < d->medium->heads &&
        d->cylinder < d->medium->cylinders) {
        return true;
    }
    data_fail(f, ST1_MA, 0);
    return false;
}

/* Is the sector there? Else ended. */
static bool data_find(struct fdc *f)
{
    const struct fdc_transfer *t = &f->t;
    if (!data_track(f)) {
        return false;
    }
    const struct fdd *d = data_drive(f);
    if (t->c != d->cylinder) {
        data_fail(f, ST1_ND, t->c == 0xff ? ST2_BC : ST2_WC);
        return false;
    }
    if (t->h != t->head || t->n != FDD_SIZE_CODE || !t->r || t->r > d->medium->track) {
        data_fail(f, ST1_ND, 0);
        return false;
    }
    return true;
}

/* The next sector's address. False: the cylinder is at its end. */
static bool data_advance(struct fdc_transfer *t)
{
    if (t->r != t->eot) {
        t->r++;
        return true;
    }
    t->r = 1;
    if (t->mt) {
        t->head ^= 1;
        t->h ^= 1;
    }
    if (t->mt && t->head) {
        return true;
    }
    t->c++;
    return false;
}

static void data_job_ended(struct fdc *f);

/* An image may be shorter than its format: the rest of it is zeros. */
static int data_read_sector(struct fdc *f)
{
    uint64_t size = disk_size(f->job.disk), left = size > f->job_off ? size - f->job_off : 0;
    uint32_t n = left < FDD_SECTOR ? (uint32_t)left : FDD_SECTOR;
    memset(f->buf + n, 0, FDD_SECTOR - n);
    return n ? disk_read(f->job.disk, f->job_off, f->buf, n) : 0;
}

static void data_job(void *opaque)
{
    struct fdc *f = opaque;
    struct disk *d = f->job.disk;
    unsigned flags = f->t.ends || f->t.r == f->t.eot ? BLOCK_FUA : 0; /* the last one, perhaps */
    int ret =
        f->job_write ? disk_write(d, f->job_off, f->buf, FDD_SECTOR, flags) : data_read_sector(f);
    AUTO_LOCK(&f->lock);
    f->job_ret = ret;
    if (f->discard) {
        fdc_job_ended(f);
    } else {
        data_job_ended(f);
    }
}

static void data_start_job(struct fdc *f, bool write)
{
    struct fdd *d = data_drive(f);
    const struct fdc_transfer *t = &f->t;
    data_request(f, false);
    f->phase = FDC_BUSY;
    f->interrupt = false;
    fdc_update_irq(f);
    f->job_write = write;
    f->job_off = fdd_offset(d->medium, d->cylinder, t->head, t->r);
    disk_start(&d->disk, &f->job, data_job, f);
}

/* ---- To and from the host ---- */

static void data_watch(struct fdc *f)
{
    f->touched = false;
    if (f->clock) {
        timer_set(&f->overrun, clock_ns(f->clock) + OVERRUN_NS);
    }
}

/* Without DMA, nothing but this ends a command that the processor has enough of. */
void fdc_data_overrun(void *fdc)
{
    struct fdc *f = fdc;
    AUTO_LOCK(&f->lock);
    if (f->phase != FDC_DATA_IN && f->phase != FDC_DATA_OUT) {
        return;
    }
    if (f->touched) {
        data_watch(f);
    } else { /* an edge of its own: the line is high for the data */
        f->interrupt = false;
        fdc_update_irq(f);
        data_fail(f, ST1_OR, 0);
    }
}

/* buf is to be filled with `len` bytes by the host, or emptied by it. */
static void data_offer(struct fdc *f, unsigned len)
{
    f->pos = 0;
    f->len = len;
    if (data_by_dma(f)) {
        f->phase = FDC_WAIT_DMA;
        data_request(f, true);
        fdc_data_go_on(f);
    } else {
        f->phase = f->t.kind == FDC_READ ? FDC_DATA_IN : FDC_DATA_OUT;
        data_watch(f);
        fdc_interrupt(f);
    }
}

/* Sector by sector, no deeper than from one to the next: the job is what comes between. */
static void data_sector(struct fdc *f)
{
    if (f->t.kind == FDC_FORMAT) {
        data_offer(f, FORMAT_ID);
    } else if (data_find(f)) {
        if (f->t.kind == FDC_WRITE) {
            data_offer(f, FDD_SECTOR);
        } else {
            data_start_job(f, false);
        }
    }
}

/* A sector is done. */
static void data_next(struct fdc *f)
{
    struct fdc_transfer *t = &f->t, last = *t;
    uint8_t cm = t->deleted ? ST2_CM : 0;
    bool more = data_advance(t);
    if (t->ends || t->deleted || (t->counted && !--t->left)) {
        data_end(f, 0, 0, cm);
    } else if (more) {
        data_sector(f);
    } else if (t->kind == FDC_VERIFY && !t->counted) {
        data_end(f, 0, 0, 0);
    } else { /* with the address of the last sector, as drivers count on */
        *t = last;
        data_fail(f, ST1_EN, 0);
    }
}

static void data_format_next(struct fdc *f)
{
    if (!--f->t.left || f->t.ends) {
        data_end(f, 0, 0, 0);
    } else {
        data_sector(f);
    }
}

/* The host has given the ID of a sector to format. */
static void data_format_id(struct fdc *f)
{
    struct fdc_transfer *t = &f->t;
    t->c = f->buf[0];
    t->h = f->buf[1];
    t->r = f->buf[2];
    t->n = f->buf[3];
    if (data_find(f)) {
        memset(f->buf, t->filler, FDD_SECTOR);
        data_start_job(f, true);
    }
}

/* What was offered has gone, or has come. */
static void data_moved(struct fdc *f)
{
    f->pos = f->len = 0;
    switch (f->t.kind) {
    case FDC_READ: data_next(f); break;
    case FDC_WRITE:
        if (data_find(f)) { /* the medium may have gone meanwhile */
            data_start_job(f, true);
        }
        break;
    case FDC_FORMAT: data_format_id(f); break;
    case FDC_VERIFY: break;
    }
}

void fdc_data_go_on(struct fdc *f)
{
    bool tc = false;
    if (!f->dma || !(f->dor & DOR_DMAGATE)) {
        return;
    }
    uint8_t *at = f->buf + f->pos;
    uint32_t left = f->len - f->pos;
    f->pos += f->t.kind == FDC_READ ? i8237_to_memory(f->dma, f->dma_channel, at, left, &tc)
                                    : i8237_from_memory(f->dma, f->dma_channel, at, left, &tc);
    f->t.ends |= tc;
    if (tc && f->t.kind == FDC_WRITE) { /* the rest of the sector is zeros */
        memset(f->buf + f->pos, 0, f->len - f->pos);
        f->pos = f->len;
    }
    if (f->pos == f->len) {
        data_moved(f);
    } else if (tc) { /* in the middle of a sector, or of an ID */
        data_advance(&f->t);
        data_end(f, 0, 0, 0);
    }
}

uint8_t fdc_data_get(struct fdc *f)
{
    f->touched = true;
    uint8_t val = f->pos < f->len ? f->buf[f->pos++] : 0;
    if (f->pos >= f->len) {
        f->interrupt = false;
        fdc_update_irq(f);
        data_moved(f);
    }
    return val;
}

void fdc_data_put(struct fdc *f, uint8_t val)
{
    f->touched = true;
    if (f->pos < f->len) {
        f->buf[f->pos++] = val;
    }
    if (f->pos >= f->len) {
        f->interrupt = false;
        fdc_update_irq(f);
        data_moved(f);
    }
}

static void data_job_ended(struct fdc *f)
{
    if (f->job_ret) {
        data_fail(f, f->job_write ? ST1_NW : ST1_DE, f->job_write ? 0 : ST2_DD);
        return;
    }
    switch (f->t.kind) {
    case FDC_READ: data_offer(f, FDD_SECTOR); break;
    case FDC_FORMAT: data_format_next(f); break;
    case FDC_WRITE:
    case FDC_VERIFY: data_next(f); break;
    }
}

/* ---- Commands ---- */

static void data_common(struct fdc *f)
{
    f->t = (struct fdc_transfer){
        .unit = f->cmd[1] & DOR_SELECT, .head = f->cmd[1] >> 2 & 1, .mfm = f->cmd[0] & CMD_MFM};
}

/* CONFIGURE's implied seek. */
static void data_seek(struct fdc *f)
{
    struct fdd *d = data_drive(f);
    if (f->config & CONFIG_EIS && d) {
        fdd_step_to(d, d->cylinder + f->t.c - f->pcn[f->t.unit]);
        f->pcn[f->t.unit] = f->t.c;
    }
}

static void data_begin_format(struct fdc *f)
{
    struct fdc_transfer *t = &f->t;
    const struct fdd *d = data_drive(f);
    t->n = f->cmd[2];
    t->left = f->cmd[3];
    t->filler = f->cmd[5];
    t->c = d ? d->cylinder : 0;
    t->h = t->head;
    t->r = 1;
    if (!t->left) {
        data_end(f, 0, 0, 0);
    } else if (data_track(f)) {
        data_sector(f);
    }
}

static void data_begin_sectors(struct fdc *f)
{
    enum { READ_TRACK = 2, READ_DELETED = 0x0c, VERIFY_EC = 0x80 };
    struct fdc_transfer *t = &f->t;
    uint8_t code = f->cmd[0] & 0x1f;
    t->c = f->cmd[2];
    t->h = f->cmd[3];
    t->r = code == READ_TRACK ? 1 : f->cmd[4];
    t->n = f->cmd[5];
    t->eot = f->eot = f->cmd[6];
    t->mt = f->cmd[0] & CMD_MT && code != READ_TRACK;
    t->deleted = code == READ_DELETED;
    t->counted = t->kind == FDC_VERIFY && f->cmd[1] & VERIFY_EC;
    t->left = f->cmd[8] ? f->cmd[8] : 256;
    data_seek(f);
    if (t->deleted && f->cmd[0] & CMD_SK) { /* there is nothing else: all are skipped */
        data_fail(f, ST1_EN, ST2_CM);
    } else {
        data_sector(f);
    }
}

void fdc_data_begin(struct fdc *f, enum fdc_kind kind)
{
    data_common(f);
    f->t.kind = kind;
    const struct fdd *d = data_drive(f);
    f->reset_senses = 0;
    if ((kind == FDC_WRITE || kind == FDC_FORMAT) && d && disk_readonly(&d->disk)) {
        data_fail(f, ST1_NW, 0);
    } else if (kind == FDC_FORMAT) {
        data_begin_format(f);
    } else {
        data_begin_sectors(f);
    }
}

/* The next address that passes. */
void fdc_data_read_id(struct fdc *f)
{
    data_common(f);
    struct fdd *d = data_drive(f);
    f->reset_senses = 0;
    f->t.c = d ? d->cylinder : 0;
    f->t.h = f->t.head;
    f->t.r = 1;
    f->t.n = FDD_SIZE_CODE;
    if (data_track(f)) {
        f->t.r = (uint8_t)(d->turn++ % d->medium->track + 1);
        data_end(f, 0, 0, 0);
    }
}
