/*
 * TCO timer of ICH9: Intel data sheet 316972, chapters 13.9 (registers) and 10.1.75 (GCS). When it
 * has run out twice without a reload the watchdog has expired, unless GCS says NO_REBOOT.
 *
 * It begins to count with the first write to TCO_RLD or TCO1_CNT: on hardware it does so by itself,
 * but there firmware knows.
 *
 * Does not do: SMIs, NMI_NOW, intruder detection, heartbeat messages; their bits are kept.
 */
#include "dev/chipset/ich9_tco.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "core/fields.h"
#include "core/machine.h"
#include "core/watchdog.h"

enum {
    TCO_RLD = 0x00,
    TCO_DAT_IN = 0x02,
    TCO_DAT_OUT = 0x03,
    TCO1_STS = 0x04,
    TCO2_STS = 0x06,
    TCO1_CNT = 0x08,
    TCO2_CNT = 0x0a,
    TCO_MESSAGE = 0x0c, /* two of them */
    TCO_WDCNT = 0x0e,
    SW_IRQ_GEN = 0x10,
    TCO_TMR = 0x12,
    STS1_TIMEOUT = 1 << 3,
    STS2_SECOND_TO = 1 << 1,
    STS2_BOOT = 1 << 2,
    CNT1_TMR_HLT = 1 << 11,
    CNT1_LOCK = 1 << 12,
    CNT1_BITS = 0x1b00,
    CNT2_BITS = 0x3e,
    CNT2_PRESET = 0x08,
    TMR_BITS = 0x3ff,
    TMR_PRESET = 4,
    TMR_LEAST = 2,
    SW_IRQ_PRESET = 3,
    GCS_NO_REBOOT = 1 << 5,
};

static uint64_t tco_ticks(const struct ich9_tco *t)
{
    return t->tmr < TMR_LEAST ? TMR_LEAST : t->tmr;
}

static void tco_start(struct ich9_tco *t)
{
    if (t->cnt[0] & CNT1_TMR_HLT) {
        t->start = 0;
        timer_unset(&t->timer);
        return;
    }
    t->start = clock_ns(t->machine->clock);
    timer_set(&t->timer, t->start + tco_ticks(t) * ICH9_TCO_TICK_NS);
}

static void tco_timer(void *opaque)
{
    struct ich9_tco *t = opaque;
    AUTO_LOCK(&t->lock);
    if (watchdog_waits(t->machine)) {
        tco_start(t);
        return;
    }
    if (!t->timeouts++) {
        t->sts[0] |= STS1_TIMEOUT;
    } else {
        t->timeouts = 0;
        t->sts[1] |= STS2_SECOND_TO | STS2_BOOT;
        if (!(t->gcs & GCS_NO_REBOOT)) {
            watchdog_expired(t->machine);
        }
    }
    tco_start(t);
}

static uint16_t tco_left(const struct ich9_tco *t)
{
    uint64_t past = t->start ? (clock_ns(t->machine->clock) - t->start) / ICH9_TCO_TICK_NS : 0;
    uint64_t all = tco_ticks(t);
    return (uint16_t)(past < all ? all - past : 0);
}

static uint16_t reg_read(const struct ich9_tco *t, unsigned off)
{
    switch (off) {
    case TCO_RLD: return tco_left(t);
    case TCO_DAT_IN: return (uint16_t)(t->data[0] | t->data[1] << 8);
    case TCO1_STS: return t->sts[0];
    case TCO2_STS: return t->sts[1];
    case TCO1_CNT: return t->cnt[0];
    case TCO2_CNT: return t->cnt[1];
    case TCO_MESSAGE: return (uint16_t)(t->message[0] | t->message[1] << 8);
    case TCO_WDCNT: return t->wdcnt;
    case SW_IRQ_GEN: return t->sw_irq;
    case TCO_TMR: return t->tmr;
    default: return 0;
    }
}

/* The lock bit stays, and so does what it locks. */
static void control_write(struct ich9_tco *t, uint16_t val)
{
    t->cnt[0] = (val & CNT1_BITS) | (t->cnt[0] & CNT1_LOCK);
    tco_start(t);
}

static void reg_write(struct ich9_tco *t, unsigned off, uint16_t val)
{
    switch (off) {
    case TCO_RLD:
        t->timeouts = 0;
        tco_start(t);
        break;
    case TCO_DAT_IN:
        t->data[0] = val & 0xff;
        t->data[1] = (uint8_t)(val >> 8);
        break;
    case TCO1_STS: t->sts[0] &= (uint16_t)~val; break;
    case TCO2_STS: t->sts[1] &= (uint16_t)~val; break;
    case TCO1_CNT: control_write(t, val); break;
    case TCO2_CNT: t->cnt[1] = val & CNT2_BITS; break;
    case TCO_MESSAGE:
        t->message[0] = val & 0xff;
        t->message[1] = (uint8_t)(val >> 8);
        break;
    case TCO_WDCNT: t->wdcnt = val & 0xff; break;
    case SW_IRQ_GEN: t->sw_irq = val & 3; break;
    case TCO_TMR: t->tmr = val & TMR_BITS; break;
    }
}

static enum mem_result tco_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct ich9_tco *t = opaque;
    AUTO_LOCK(&t->lock);
    *val = reg_read(t, off & ~1u) >> (off & 1) * 8;
    return MEM_OK;
}

/* A byte is half of a register; of the status registers and of TCO_RLD it is all that counts. */
static enum mem_result tco_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct ich9_tco *t = opaque;
    AUTO_LOCK(&t->lock);
    unsigned reg = off & ~1u, shift = (off & 1) * 8;
    if (size == 1) {
        bool clears = reg == TCO1_STS || reg == TCO2_STS;
        uint16_t old = clears ? 0 : reg_read(t, reg);
        val = (old & ~(0xffu << shift)) | (val & 0xff) << shift;
    }
    reg_write(t, reg, (uint16_t)val);
    return MEM_OK;
}

const struct mmio ich9_tco_ports = {tco_read, tco_write, 1, 2};

static enum mem_result gcs_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct ich9_tco *t = opaque;
    AUTO_LOCK(&t->lock);
    *val = t->gcs;
    return MEM_OK;
}

static enum mem_result gcs_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct ich9_tco *t = opaque;
    AUTO_LOCK(&t->lock);
    t->gcs = val & GCS_NO_REBOOT;
    return MEM_OK;
}

const struct mmio ich9_tco_gcs = {gcs_read, gcs_write, 4, 4};

void ich9_tco_init(struct ich9_tco *t, struct machine *m)
{
    t->machine = m;
    pthread_mutex_init(&t->lock, NULL);
    timer_init(&t->timer, m->clock, tco_timer, t);
}

/* SECOND_TO_STS is kept: it tells of the cause. */
void ich9_tco_reset(struct ich9_tco *t)
{
    AUTO_LOCK(&t->lock);
    timer_unset(&t->timer);
    t->start = t->timeouts = 0;
    t->sts[0] = 0;
    t->sts[1] &= STS2_SECOND_TO;
    t->cnt[0] = 0;
    t->cnt[1] = CNT2_PRESET;
    t->tmr = TMR_PRESET;
    t->sw_irq = SW_IRQ_PRESET;
    t->data[0] = t->data[1] = t->message[0] = t->message[1] = t->wdcnt = 0;
    t->gcs = t->no_reboot ? GCS_NO_REBOOT : 0;
}

void ich9_tco_fini(struct ich9_tco *t)
{
    if (t->machine) {
        timer_unset(&t->timer);
        pthread_mutex_destroy(&t->lock);
    }
}

/* ---- State ---- */

static const struct field ich9_tco_list[] = {
    FIELD(struct ich9_tco, machine, FIELD_HOST),
    FIELD(struct ich9_tco, lock, FIELD_HOST),
    FIELD(struct ich9_tco, no_reboot, FIELD_CONFIG),
    FIELD(struct ich9_tco, timer, FIELD_GUEST, .sub = &timer_fields),
    FIELD(struct ich9_tco, start, FIELD_GUEST),
    FIELD(struct ich9_tco, timeouts, FIELD_GUEST),
    FIELD_ARRAY(struct ich9_tco, sts, FIELD_GUEST),
    FIELD_ARRAY(struct ich9_tco, cnt, FIELD_GUEST),
    FIELD(struct ich9_tco, tmr, FIELD_GUEST),
    FIELD_ARRAY(struct ich9_tco, data, FIELD_GUEST),
    FIELD_ARRAY(struct ich9_tco, message, FIELD_GUEST),
    FIELD(struct ich9_tco, wdcnt, FIELD_GUEST),
    FIELD(struct ich9_tco, sw_irq, FIELD_GUEST),
    FIELD(struct ich9_tco, gcs, FIELD_GUEST),
};

static int tco_loaded(void *obj, struct err *err)
{
    const struct ich9_tco *t = obj;
    if (t->start > clock_ns(t->machine->clock)) {
        return err_set(err, EINVAL, "state of ich9-tco: it begins in the future");
    }
    return 0;
}

FIELD_SET_SHARED(ich9_tco_fields, "ich9-tco", struct ich9_tco, ich9_tco_list, 1,
                 .loaded = tco_loaded);
