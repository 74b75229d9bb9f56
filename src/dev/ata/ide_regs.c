/*
 * The registers of an ATA channel as ports: ATA/ATAPI-7 volume 2 (T13/1532D), clause 8, and what
 * writing the command register begins. Both drives see what is written, but for the data.
 */
#include "base/bits.h"
#include "base/cleanup.h"
#include "dev/ata/ide_internal.h"

enum {
    R_DATA,
    R_ERROR, /* written: features */
    R_COUNT,
    R_LBA_LOW,
    R_LBA_MID,
    R_LBA_HIGH,
    R_DEVICE,
    R_STATUS, /* written: command */
};

/* EXECUTE DEVICE DIAGNOSTIC: both drives, whichever is selected. */
static void ide_diagnose(struct ide_channel *ch)
{
    for (unsigned n = 0; n < 2; n++) {
        ch->unit[n].tf.device = 0;
        if (ch->unit[n].drive) {
            ata_signature(ch->unit[n].drive, &ch->unit[n].tf);
        }
    }
    ch->selected = 0;
    ide_interrupt(ch);
}

static bool ide_busy(const struct ide_channel *ch)
{
    return ch->phase == IDE_BUSY || (ch->control & CTL_SRST);
}

static void ide_command(struct ide_channel *ch, uint8_t command)
{
    struct ide_unit *u = &ch->unit[ch->selected];
    bool reset = command == ATA_CMD_DEVICE_RESET && u->drive && u->drive->cd;
    if ((ide_busy(ch) && !reset) || (ch->control & CTL_SRST)) {
        return;
    }
    ide_no_interrupt(ch);
    if (reset) {
        if (ch->phase != IDE_BUSY || ch->req.drive == u->drive) {
            ide_ask_reset(ch, ch->selected);
        }
        return;
    }
    ide_idle(ch); /* whatever it waited for */
    if (command == ATA_CMD_DIAGNOSTIC && (ch->unit[0].drive || ch->unit[1].drive)) {
        ide_diagnose(ch);
    } else if (u->drive) {
        ch->req.tf = u->tf;
        ch->req.tf.command = command;
        ata_begin(u->drive, &ch->req);
        ide_go(ch);
    }
}

/* Each of these registers remembers what was in it before. */
static void ide_write_tf(struct ata_tf *tf, unsigned reg, uint8_t val)
{
    unsigned shift = 8 * (reg - R_LBA_LOW);
    switch (reg) {
    case R_ERROR: tf->feature = (uint16_t)(tf->feature << 8 | val); break;
    case R_COUNT: tf->count = (uint16_t)(tf->count << 8 | val); break;
    case R_LBA_LOW:
    case R_LBA_MID:
    case R_LBA_HIGH: {
        uint64_t old = tf->lba >> shift & 0xff;
        tf->lba &= ~(0xffull << shift | 0xffull << (shift + 24));
        tf->lba |= (uint64_t)val << shift | old << (shift + 24);
        break;
    }
    case R_DEVICE: tf->device = val;
    }
}

/* Both drives see what is written, but for the data. */
static void ide_write_reg(struct ide_channel *ch, unsigned reg, uint8_t val)
{
    ch->control &= (uint8_t)~CTL_HOB;
    if (reg == R_STATUS) {
        ide_command(ch, val);
        return;
    }
    if (ide_busy(ch)) {
        return;
    }
    if (reg == R_DEVICE) {
        ch->selected = val & ATA_DEV_1 ? 1 : 0;
    }
    ide_write_tf(&ch->unit[0].tf, reg, val);
    ide_write_tf(&ch->unit[1].tf, reg, val);
}

static bool ide_empty(const struct ide_channel *ch)
{
    return !ch->unit[0].drive && !ch->unit[1].drive;
}

static uint8_t ide_status(const struct ide_channel *ch)
{
    const struct ide_unit *u = &ch->unit[ch->selected];
    if (!u->drive) {
        return 0;
    }
    return ch->control & CTL_SRST ? ATA_BSY : u->tf.status;
}

static uint8_t ide_read_reg(struct ide_channel *ch, unsigned reg)
{
    const struct ata_tf *tf = &ch->unit[ch->selected].tf;
    bool hob = ch->control & CTL_HOB;
    if (ide_empty(ch)) {
        return 0;
    }
    switch (reg) {
    case R_ERROR: return hob ? tf->feature >> 8 : tf->error;
    case R_COUNT: return (uint8_t)(tf->count >> (hob ? 8 : 0));
    case R_LBA_LOW:
    case R_LBA_MID:
    case R_LBA_HIGH: return (uint8_t)(tf->lba >> (8 * (reg - R_LBA_LOW) + (hob ? 24 : 0)));
    case R_DEVICE: return tf->device | 0xa0;
    default: ide_no_interrupt(ch); return ide_status(ch);
    }
}

static enum mem_result ide_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct ide_channel *ch = dev;
    AUTO_LOCK(&ch->lock);
    if (off == R_DATA) {
        *val = ide_read_data(ch, size);
        return MEM_OK;
    }
    *val = 0;
    for (unsigned i = 0; i < size && off + i <= R_STATUS; i++) {
        *val |= (uint64_t)ide_read_reg(ch, (unsigned)off + i) << 8 * i;
    }
    return MEM_OK;
}

static enum mem_result ide_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct ide_channel *ch = dev;
    AUTO_LOCK(&ch->lock);
    if (off == R_DATA) {
        ide_write_data(ch, size, val);
        return MEM_OK;
    }
    for (unsigned i = 0; i < size && off + i <= R_STATUS; i++) {
        ide_write_reg(ch, (unsigned)off + i, (uint8_t)(val >> 8 * i));
    }
    return MEM_OK;
}

const struct mmio ide_command_block = {ide_read, ide_write, 1, 4};

/* Alternate Status: as Status, but the interrupt stays. */
static enum mem_result ide_control_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct ide_channel *ch = dev;
    AUTO_LOCK(&ch->lock);
    *val = ide_status(ch);
    return MEM_OK;
}

static enum mem_result ide_control_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct ide_channel *ch = dev;
    AUTO_LOCK(&ch->lock);
    ide_write_control(ch, (uint8_t)val);
    return MEM_OK;
}

const struct mmio ide_control_block = {ide_control_read, ide_control_write, 1, 1};
