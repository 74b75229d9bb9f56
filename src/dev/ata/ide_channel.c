/*
 * The channel of a parallel ATA host: ATA/ATAPI-7 volume 2 (T13/1532D), clauses 8 and 11.
 *
 *   IDLE --command--> BUSY, or done at once
 *   BUSY --job done-> DATA_IN | DATA_OUT | IDLE          (ide_done)
 *   DATA_IN  --last word of a block--> DATA_IN | BUSY | IDLE   (ide_block_read)
 *   DATA_OUT --last word of a block--> DATA_OUT | BUSY         (ide_block_written)
 *   WAIT_DMA --bus master started--> BUSY                (ide_start_dma)
 *
 * No port access waits for the disk. A reset while a job is at work shows BSY until it has ended.
 * PIO moves a window of 64 KiB between two jobs; blocks within it follow each other at once.
 *
 * Does not do: overlap and queueing, the timing of modes, cable select.
 */
#include "dev/ata/ide_channel.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "core/fields.h"
#include "dev/ata/ide_internal.h"
#include "state/field.h"

enum { CDB_BYTES = 12 };

/* ---- Interrupts and ends ---- */

static void ide_update_irq(struct ide_channel *ch)
{
    irq_set(&ch->irq, ch->interrupt && !(ch->control & CTL_NIEN));
}

void ide_interrupt(struct ide_channel *ch)
{
    ch->interrupt = true;
    if (!(ch->control & CTL_NIEN)) {
        ch->bm_status |= BM_INTERRUPT;
    }
    ide_update_irq(ch);
}

void ide_no_interrupt(struct ide_channel *ch)
{
    ch->interrupt = false;
    ide_update_irq(ch);
}

static struct ide_unit *ide_active_unit(struct ide_channel *ch)
{
    return &ch->unit[ch->unit[1].drive && ch->req.drive == ch->unit[1].drive];
}

void ide_idle(struct ide_channel *ch)
{
    ch->phase = IDE_IDLE;
    ch->data = NULL;
    ch->pos = ch->end = 0;
}

/* The command is over; its registers have the result. */
static void ide_finish(struct ide_channel *ch)
{
    ide_active_unit(ch)->tf = ch->req.tf;
    ide_idle(ch);
    ide_interrupt(ch);
}

static void ide_set_status(struct ide_channel *ch, uint8_t status)
{
    struct ide_unit *u = ide_active_unit(ch);
    u->tf.status = status;
    u->tf.error = 0;
}

static void ide_step_done(struct ide_channel *ch);

static void ide_run(struct ide_channel *ch, enum ata_step step)
{
    ch->phase = IDE_BUSY;
    ide_set_status(ch, ATA_BSY);
    if (ata_run(&ch->req, step)) {
        ide_step_done(ch);
    }
}

/* ---- PIO ---- */

/* For packets, Count says what kind of block it is, and LBA 23:8 how long. */
static void ide_packet_regs(struct ide_channel *ch, uint8_t reason, uint32_t bytes)
{
    struct ata_tf *tf = &ide_active_unit(ch)->tf;
    tf->count = reason;
    tf->lba = (tf->lba & 0xff) | (uint64_t)bytes << 8;
    ch->req.tf.lba = tf->lba;
}

static void ide_offer(struct ide_channel *ch, enum ide_phase phase, bool interrupt)
{
    ch->phase = phase;
    ide_set_status(ch, ATA_DRDY | ATA_DSC | ATA_DRQ);
    if (interrupt) {
        ide_interrupt(ch);
    }
}

static uint32_t ide_next_end(const struct ide_channel *ch, uint32_t all)
{
    uint32_t left = all - ch->pos;
    return ch->pos + (left < ch->req.block ? left : ch->req.block);
}

/* The next block of what is in buf. */
static void ide_offer_in(struct ide_channel *ch)
{
    ch->data = ch->req.buf;
    ch->end = ide_next_end(ch, ch->req.len);
    if (ch->req.atapi) {
        ide_packet_regs(ch, ATA_IO, ch->end - ch->pos);
    }
    ide_offer(ch, IDE_DATA_IN, true);
}

static void ide_offer_out(struct ide_channel *ch, bool interrupt)
{
    ch->data = ch->req.buf;
    ch->end = ide_next_end(ch, ch->window);
    if (ch->req.atapi) {
        ide_packet_regs(ch, 0, ch->end - ch->pos);
    }
    ide_offer(ch, IDE_DATA_OUT, interrupt);
}

/* Room for the next window of a write. */
static void ide_open_window(struct ide_channel *ch, bool interrupt)
{
    struct ata_req *req = &ch->req;
    ch->window =
        req->media ? (req->left < ATA_WINDOW ? (uint32_t)req->left : ATA_WINDOW) : req->len;
    ch->pos = 0;
    if (!ata_grow(req, ch->window)) {
        req->result = -ENOMEM;
        ata_end(req);
        ide_finish(ch);
        return;
    }
    ide_offer_out(ch, interrupt);
}

static void ide_block_read(struct ide_channel *ch)
{
    struct ata_req *req = &ch->req;
    ch->pos = ch->end;
    if (ch->pos < req->len) {
        ide_offer_in(ch);
    } else if (!ata_last_window(req)) {
        ide_run(ch, STEP_FILL);
    } else if (req->atapi) {
        ata_end(req);
        ide_finish(ch);
    } else { /* the last block's interrupt was the last */
        ata_end(req);
        ide_active_unit(ch)->tf = req->tf;
        ide_idle(ch);
    }
}

static void ide_block_written(struct ide_channel *ch)
{
    struct ata_req *req = &ch->req;
    ch->pos = ch->end;
    if (req->proto == PROTO_PACKET) {
        ata_packet(req);
        ide_go(ch);
    } else if (ch->pos < ch->window) {
        ide_offer_out(ch, true);
    } else if (req->media) {
        req->len = ch->window;
        req->left -= ch->window;
        ide_run(ch, STEP_DRAIN);
    } else {
        ata_received(req);
        ide_go(ch);
    }
}

uint64_t ide_read_data(struct ide_channel *ch, unsigned size)
{
    uint64_t val = 0;
    if (ch->phase != IDE_DATA_IN) {
        return 0;
    }
    for (unsigned i = 0; i < size && ch->pos < ch->end; i++) {
        val |= (uint64_t)ch->data[ch->pos++] << 8 * i;
    }
    if (ch->pos >= ch->end) {
        ide_block_read(ch);
    }
    return val;
}

void ide_write_data(struct ide_channel *ch, unsigned size, uint64_t val)
{
    if (ch->phase != IDE_DATA_OUT) {
        return;
    }
    for (unsigned i = 0; i < size && ch->pos < ch->end; i++) {
        ch->data[ch->pos++] = (uint8_t)(val >> 8 * i);
    }
    if (ch->pos >= ch->end) {
        ide_block_written(ch);
    }
}

/* ---- DMA ---- */

void ide_start_dma(struct ide_channel *ch)
{
    if (ch->phase == IDE_WAIT_DMA && ide_bm_open(ch, &ch->req.sg)) {
        ide_run(ch, STEP_TRANSFER);
    }
}

/* The job sees it between two pieces; the drive waits for the bus master to go on. */
void ide_stop_dma(struct ide_channel *ch)
{
    if (ch->phase == IDE_BUSY && ch->req.step == STEP_TRANSFER) {
        ch->req.cancelled = true;
    }
}

/* True: over. SFF-8038i 1.2.2: too short a table stops the bus master and leaves the drive waiting;
 * too long a one leaves it active. */
static bool ide_dma_done(struct ide_channel *ch)
{
    struct ata_req *req = &ch->req;
    bool stopped = req->result == -ECANCELED;
    if (req->result == -EFAULT) {
        ch->bm_status |= BM_ERROR;
        ch->bm_status &= (uint8_t)~BM_ACTIVE;
    } else if (req->result == -ENOBUFS || stopped) {
        ch->bm_status &= (uint8_t)~BM_ACTIVE;
        req->result = 0;
        req->cancelled = false;
        ch->phase = IDE_WAIT_DMA;
        ide_set_status(ch, ATA_DRDY | ATA_DSC | ATA_DRQ);
        if (stopped) { /* and started again meanwhile, perhaps */
            ide_start_dma(ch);
        }
        return false;
    } else if (req->result || ata_sg_ended(&req->sg)) {
        ch->bm_status &= (uint8_t)~BM_ACTIVE;
    }
    return true;
}

/* ---- Steps of a command ---- */

static void ide_go_dma(struct ide_channel *ch)
{
    if (ch->req.atapi) {
        ide_packet_regs(ch, ch->req.proto == PROTO_IN ? ATA_IO : 0, 0);
    }
    ch->phase = IDE_WAIT_DMA;
    ide_set_status(ch, ATA_DRDY | ATA_DSC | ATA_DRQ);
    ide_start_dma(ch); /* it may be started already */
}

static void ide_go_packet(struct ide_channel *ch)
{
    ch->data = ch->req.scsi.cdb;
    ch->pos = 0;
    ch->end = CDB_BYTES;
    ide_active_unit(ch)->tf.count = ATA_COD;
    ide_offer(ch, IDE_DATA_OUT, false);
}

void ide_go(struct ide_channel *ch)
{
    struct ata_req *req = &ch->req;
    bool data = req->proto == PROTO_IN || req->proto == PROTO_OUT;
    if (data && req->dma) {
        ide_go_dma(ch);
        return;
    }
    ch->pos = 0;
    switch (req->proto) {
    case PROTO_DONE: ide_finish(ch); break;
    case PROTO_WORK: ide_run(ch, STEP_WORK); break;
    case PROTO_PACKET: ide_go_packet(ch); break;
    case PROTO_OUT: ide_open_window(ch, req->atapi); break;
    case PROTO_IN:
        if (req->media) {
            ide_run(ch, STEP_FILL);
        } else {
            ide_offer_in(ch);
        }
    }
}

static bool ide_reset_after_job(struct ide_channel *ch);

static void ide_step_done(struct ide_channel *ch)
{
    struct ata_req *req = &ch->req;
    if (ide_reset_after_job(ch) || (req->step == STEP_TRANSFER && !ide_dma_done(ch))) {
        return;
    }
    ch->pos = 0;
    if (!req->result && req->step == STEP_FILL) {
        ide_offer_in(ch);
    } else if (!req->result && req->step == STEP_DRAIN && req->left) {
        ide_open_window(ch, true);
    } else if (!req->result && req->step == STEP_TRANSFER && req->proto == PROTO_OUT &&
               !req->media) {
        ata_received(req);
        ide_go(ch);
    } else {
        ata_end(req);
        ide_finish(ch);
    }
}

/* On the image's loop. */
static void ide_done(struct ata_req *req)
{
    struct ide_channel *ch = req->opaque;
    AUTO_LOCK(&ch->lock);
    ide_step_done(ch);
}

/* ---- Resets ---- */

static void ide_reset_unit(struct ide_channel *ch, unsigned n, bool power)
{
    struct ide_unit *u = &ch->unit[n];
    ch->reset_asked[n] = false;
    u->tf.feature = 0;
    if (u->drive) {
        ata_drive_reset(u->drive, power);
        ata_signature(u->drive, &u->tf);
    }
}

/* True: there was one, and what the job did is of no interest. */
static bool ide_reset_after_job(struct ide_channel *ch)
{
    bool any = false;
    for (unsigned n = 0; n < 2; n++) {
        if (ch->reset_asked[n]) {
            any = true;
            ide_reset_unit(ch, n, false);
        }
    }
    if (any) {
        ide_idle(ch);
    }
    return any;
}

/* At once, or when the job has ended; BSY until then. */
void ide_ask_reset(struct ide_channel *ch, unsigned n)
{
    struct ide_unit *u = &ch->unit[n];
    bool busy = ch->phase == IDE_BUSY;
    if (busy) {
        ch->reset_asked[n] = true;
        u->tf.status = u->drive ? ATA_BSY : 0;
        ch->req.cancelled = true;
    } else {
        ide_idle(ch);
        ide_reset_unit(ch, n, false);
    }
}

/* Device control: SRST resets both drives and selects the first when it falls. */
void ide_write_control(struct ide_channel *ch, uint8_t val)
{
    bool was = ch->control & CTL_SRST, now = val & CTL_SRST;
    ch->control = val;
    if (was && !now) {
        ch->selected = 0;
        ide_no_interrupt(ch);
        for (unsigned n = 0; n < 2; n++) {
            ch->unit[n].tf.device = 0;
            ide_ask_reset(ch, n);
        }
    } else if (now && ch->phase != IDE_BUSY) {
        ide_idle(ch);
    }
    ide_update_irq(ch);
}

/* ---- Media ---- */

/* With the lock held, no job of the drive is at work and none can start. */
static void ide_lock_idle(struct ide_channel *ch, struct ata_drive *drive)
{
    pthread_mutex_lock(&ch->lock);
    while (disk_busy(&drive->disk)) {
        pthread_mutex_unlock(&ch->lock);
        disk_drain(&drive->disk);
        pthread_mutex_lock(&ch->lock);
    }
}

int ide_channel_eject(struct ide_channel *ch, struct ata_drive *drive, bool force)
{
    ide_lock_idle(ch, drive);
    int ret = ata_drive_eject(drive, force);
    pthread_mutex_unlock(&ch->lock);
    return ret;
}

void ide_channel_insert(struct ide_channel *ch, struct ata_drive *drive, struct block *block)
{
    ide_lock_idle(ch, drive);
    ata_drive_insert(drive, block);
    pthread_mutex_unlock(&ch->lock);
}

/* ---- Life ---- */

void ide_channel_init(struct ide_channel *ch, struct mem_map *(*dma)(void *), void *opaque)
{
    *ch = (struct ide_channel){.dma = dma, .opaque = opaque};
    pthread_mutex_init(&ch->lock, NULL);
    ch->req.done = ide_done;
    ch->req.opaque = ch;
}

void ide_channel_attach(struct ide_channel *ch, unsigned unit, struct ata_drive *drive)
{
    AUTO_LOCK(&ch->lock);
    ide_idle(ch);
    ch->unit[unit & 1] = (struct ide_unit){.drive = drive};
    ide_reset_unit(ch, unit & 1, true);
}

void ide_channel_reset(struct ide_channel *ch)
{
    pthread_mutex_lock(&ch->lock);
    ch->req.cancelled = true;
    pthread_mutex_unlock(&ch->lock);
    for (unsigned n = 0; n < 2; n++) {
        if (ch->unit[n].drive) {
            disk_drain(&ch->unit[n].drive->disk);
        }
    }
    AUTO_LOCK(&ch->lock);
    ide_idle(ch);
    ch->selected = 0;
    ch->control = ch->bm_command = ch->bm_status = 0;
    ch->bm_table = 0;
    for (unsigned n = 0; n < 2; n++) {
        ch->unit[n].tf = (struct ata_tf){0};
        ide_reset_unit(ch, n, true);
    }
    ide_no_interrupt(ch);
}

void ide_channel_fini(struct ide_channel *ch)
{
    ata_req_free(&ch->req);
    pthread_mutex_destroy(&ch->lock);
}

/* ---- State ---- */

static const struct field ide_unit_list[] = {
    FIELD(struct ide_unit, drive, FIELD_HOST),
    FIELD(struct ide_unit, tf, FIELD_GUEST, .sub = &ata_tf_fields),
};

FIELD_SET(ide_unit_fields, "ide-unit", struct ide_unit, ide_unit_list, 1);

static const struct field ide_channel_list[] = {
    FIELD(struct ide_channel, lock, FIELD_HOST),
    FIELD(struct ide_channel, dma, FIELD_HOST),
    FIELD(struct ide_channel, opaque, FIELD_HOST),
    FIELD(struct ide_channel, irq, FIELD_GUEST, .sub = &irq_fields),
    FIELD_ARRAY(struct ide_channel, unit, FIELD_GUEST, .sub = &ide_unit_fields),
    FIELD(struct ide_channel, selected, FIELD_GUEST, .max = 1),
    FIELD(struct ide_channel, control, FIELD_GUEST),
    FIELD(struct ide_channel, interrupt, FIELD_GUEST),
    FIELD(struct ide_channel, phase, FIELD_GUEST, .max = IDE_WAIT_DMA),
    FIELD(struct ide_channel, reset_asked, FIELD_HOST),
    FIELD(struct ide_channel, req, FIELD_HOST),
    FIELD(struct ide_channel, data, FIELD_HOST),
    FIELD(struct ide_channel, pos, FIELD_HOST),
    FIELD(struct ide_channel, end, FIELD_HOST),
    FIELD(struct ide_channel, window, FIELD_HOST),
    FIELD(struct ide_channel, bm_command, FIELD_GUEST),
    FIELD(struct ide_channel, bm_status, FIELD_GUEST),
    FIELD(struct ide_channel, bm_table, FIELD_GUEST),
};

/* A command in the middle of its data does not come along: the driver sees that it failed. */
static void ide_abort_unit(struct ide_channel *ch, unsigned n)
{
    struct ata_tf *tf = &ch->unit[n].tf;
    if (tf->status & (ATA_BSY | ATA_DRQ)) {
        tf->status = ATA_DRDY | ATA_DSC | ATA_ERR;
        tf->error = ATA_ABRT;
        ide_interrupt(ch);
    }
}

static int ide_loaded(void *obj, struct err *err)
{
    struct ide_channel *ch = obj;
    AUTO_LOCK(&ch->lock);
    if (ch->phase != IDE_IDLE) {
        ide_idle(ch);
        ch->bm_status &= (uint8_t)~BM_ACTIVE;
        ide_abort_unit(ch, 0);
        ide_abort_unit(ch, 1);
    }
    ide_update_irq(ch);
    return 0;
}

FIELD_SET_SHARED(ide_channel_fields, "ide-channel", struct ide_channel, ide_channel_list, 1,
                 .loaded = ide_loaded);
