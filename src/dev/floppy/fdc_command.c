/*
 * Commands of the floppy controller: 82077AA data sheet (290166), chapter 5; PART ID and
 * OPTION as the 82078 has them (290475). Each has a fixed length, which the table says.
 */
#include "base/bits.h"
#include "dev/floppy/fdc_internal.h"

struct command {
    uint8_t mask, code; /* first byte & mask == code */
    uint8_t length;     /* with the first byte */
    void (*run)(struct fdc *f);
};

static struct fdd *command_drive(struct fdc *f)
{
    return f->drive[f->cmd[1] & DOR_SELECT];
}

static void run_invalid(struct fdc *f)
{
    fdc_result_begin(f);
    fdc_result_put(f, ST0_INVALID);
}

static void result_one(struct fdc *f, uint8_t val)
{
    fdc_result_begin(f);
    fdc_result_put(f, val);
}

/* No result: the next command may come. */
static void result_none(struct fdc *f)
{
    f->phase = FDC_COMMAND;
}

/* ---- Settings ---- */

static void run_specify(struct fdc *f)
{
    f->specify[0] = f->cmd[1];
    f->specify[1] = f->cmd[2];
    result_none(f);
}

static void run_configure(struct fdc *f)
{
    f->config = f->cmd[2] & 0x7f;
    f->pretrk = f->cmd[3];
    result_none(f);
}

/* OW lets the bits of the drives be written. */
static void run_perpendicular(struct fdc *f)
{
    enum { OW = 0x80, DRIVES = 0x3c, ALL = 0x3f };
    uint8_t val = f->cmd[1];
    f->perpendicular =
        (uint8_t)(val & OW ? val & ALL : (f->perpendicular & DRIVES) | (val & ALL & ~DRIVES));
    result_none(f);
}

static void run_lock(struct fdc *f)
{
    f->locked = f->cmd[0] & 0x80;
    result_one(f, (uint8_t)(f->locked << 4));
}

static void run_option(struct fdc *f)
{
    f->option = f->cmd[1];
    result_none(f);
}

static void run_power_down(struct fdc *f)
{
    result_one(f, f->cmd[1]);
}

static void run_version(struct fdc *f)
{
    result_one(f, 0x90);
}

static void run_part_id(struct fdc *f)
{
    result_one(f, 0x41);
}

static void run_dumpreg(struct fdc *f)
{
    fdc_result_begin(f);
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        fdc_result_put(f, f->pcn[i]);
    }
    fdc_result_put(f, f->specify[0]);
    fdc_result_put(f, f->specify[1]);
    fdc_result_put(f, f->eot);
    fdc_result_put(f, (uint8_t)(f->locked << 7 | f->perpendicular));
    fdc_result_put(f, f->config);
    fdc_result_put(f, f->pretrk);
}

/* ---- Drives ---- */

static void run_sense_drive(struct fdc *f)
{
    const struct fdd *d = command_drive(f);
    uint8_t st3 = (f->cmd[1] & 7) | ST3_RDY | ST3_TS;
    st3 |= d && !d->cylinder ? ST3_T0 : 0;
    st3 |= d && disk_readonly(&d->disk) ? ST3_WP : 0;
    result_one(f, st3);
}

/* Without a reason for an interrupt, it is an invalid command. */
static void run_sense_interrupt(struct fdc *f)
{
    uint8_t unit = 0, st0 = ST0_INVALID;
    f->interrupt = false;
    fdc_update_irq(f);
    if (f->reset_senses) {
        unit = (uint8_t)(FDC_DRIVES - f->reset_senses--);
        st0 = ST0_POLLING | unit;
    } else {
        while (unit < FDC_DRIVES - 1 && !f->seek_st0[unit]) {
            unit++;
        }
        st0 = f->seek_st0[unit] ? f->seek_st0[unit] : st0;
        f->seek_st0[unit] = 0;
    }
    fdc_result_begin(f);
    fdc_result_put(f, st0);
    if (st0 != ST0_INVALID) {
        fdc_result_put(f, f->pcn[unit]);
    }
}

static void seek_done(struct fdc *f, uint8_t st0)
{
    uint8_t unit = f->cmd[1] & DOR_SELECT;
    f->seek_st0[unit] = st0 | unit;
    f->reset_senses = 0;
    result_none(f);
    fdc_interrupt(f);
}

/* 79 steps outwards at most. */
static void run_recalibrate(struct fdc *f)
{
    enum { STEPS = 79 };
    struct fdd *d = command_drive(f);
    if (d) {
        fdd_step_to(d, d->cylinder - STEPS);
    }
    f->pcn[f->cmd[1] & DOR_SELECT] = 0;
    seek_done(f, d && !d->cylinder ? ST0_SE : ST0_ABNORMAL | ST0_SE | ST0_EC);
}

/* The drive steps by the difference to where the controller believes it to be. */
static void seek_by(struct fdc *f, int steps)
{
    struct fdd *d = command_drive(f);
    if (d) {
        fdd_step_to(d, d->cylinder + steps);
    }
    seek_done(f, (uint8_t)(ST0_SE | (f->cmd[1] & 4)));
}

static void run_seek(struct fdc *f)
{
    uint8_t *pcn = &f->pcn[f->cmd[1] & DOR_SELECT];
    int steps = f->cmd[2] - *pcn;
    *pcn = f->cmd[2];
    seek_by(f, steps);
}

static void run_relative_seek(struct fdc *f)
{
    enum { DIR_IN = 0x40 };
    uint8_t *pcn = &f->pcn[f->cmd[1] & DOR_SELECT];
    int steps = f->cmd[0] & DIR_IN ? f->cmd[2] : -f->cmd[2];
    *pcn = (uint8_t)(*pcn + steps);
    seek_by(f, steps);
}

/* ---- Data ---- */

static void run_read(struct fdc *f)
{
    fdc_data_begin(f, FDC_READ);
}

static void run_write(struct fdc *f)
{
    fdc_data_begin(f, FDC_WRITE);
}

static void run_verify(struct fdc *f)
{
    fdc_data_begin(f, FDC_VERIFY);
}

static void run_format(struct fdc *f)
{
    fdc_data_begin(f, FDC_FORMAT);
}

/* ---- Table ---- */

static const struct command commands[] = {
    {0x1f, 0x02, 9, run_read}, /* READ TRACK */
    {0xff, 0x03, 3, run_specify},       {0xff, 0x04, 2, run_sense_drive},
    {0x3f, 0x05, 9, run_write},         {0x1f, 0x06, 9, run_read},
    {0xff, 0x07, 2, run_recalibrate},   {0xff, 0x08, 1, run_sense_interrupt},
    {0x3f, 0x09, 9, run_write},                                    /* WRITE DELETED DATA */
    {0xbf, 0x0a, 2, fdc_data_read_id},  {0x1f, 0x0c, 9, run_read}, /* READ DELETED DATA */
    {0xbf, 0x0d, 6, run_format},        {0xff, 0x0e, 1, run_dumpreg},
    {0xff, 0x0f, 3, run_seek},          {0xff, 0x10, 1, run_version},
    {0xff, 0x12, 2, run_perpendicular}, {0xff, 0x13, 4, run_configure},
    {0x7f, 0x14, 1, run_lock}, /* and UNLOCK */
    {0x1f, 0x16, 9, run_verify},        {0xff, 0x17, 2, run_power_down},
    {0xff, 0x18, 1, run_part_id},       {0xff, 0x33, 2, run_option},
    {0xbf, 0x8f, 3, run_relative_seek},
};

static const struct command *command_find(uint8_t first)
{
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        if ((first & commands[i].mask) == commands[i].code) {
            return &commands[i];
        }
    }
    return NULL;
}

unsigned fdc_command_length(uint8_t first)
{
    const struct command *c = command_find(first);
    return c ? c->length : 1;
}

void fdc_command_run(struct fdc *f)
{
    const struct command *c = command_find(f->cmd[0]);
    (c ? c->run : run_invalid)(f);
}
