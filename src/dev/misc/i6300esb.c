/*
 * Watchdog timer of the Intel 6300ESB I/O controller hub: its data sheet, chapter 16. Two stages:
 * the first one is to interrupt, at the end of the second the watchdog has expired, and what
 * follows is the machine's choice (-action watchdog=). Off until the guest enables it.
 *
 * Does not do: the interrupt of stage one, an SMI or a line of its own; its status bit is there.
 */
#include "dev/misc/misc_devices.h"

#include <errno.h>
#include <pthread.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/fields.h"
#include "core/machine.h"
#include "core/watchdog.h"
#include "dev/pci/pci.h"
#include "loop/clock.h"

enum {
    /* Configuration space. */
    WDT_CONFIG = 0x60, /* 16 bits */
    WDT_LOCK = 0x68,
    CONFIG_PRE_SEL = 1 << 2, /* 1: units of about 1 us, 0: of 1 ms */
    CONFIG_OUTPUT_OFF = 1 << 5,
    CONFIG_BITS = 0x27,
    LOCK_LOCKED = 1 << 0,
    LOCK_ENABLE = 1 << 1,
    LOCK_FREE_RUN = 1 << 2, /* stage two only, over and over */
    LOCK_BITS = 7,
    /* Memory. */
    TIMER1 = 0x00,
    TIMER2 = 0x04,
    GINTSR = 0x08,
    RELOAD = 0x0c,
    PRELOAD_BITS = 0xfffff,
    GINTSR_ACT = 1 << 0,
    RELOAD_RELOAD = 1 << 8,
    RELOAD_TIMEOUT = 1 << 9,
    UNLOCK_1 = 0x80, /* these two open the registers for one write */
    UNLOCK_2 = 0x86,
    PCI_CLOCK_NS = 30,
    BAR_SIZE = 4096, /* 16 in the data sheet: a page of its own is what guests map anyway */
};

struct i6300esb {
    struct dev dev;
    struct pci_func pci;
    pthread_mutex_t lock; /* all below */
    struct timer timer;
    uint32_t preload[2];
    uint16_t config_reg;
    uint8_t lock_reg;          /* as it holds, which is not always what was written */
    unsigned opened;           /* of the two bytes, how many came */
    unsigned stage;            /* 1 or 2; 0: it never counted */
    bool interrupted, expired; /* expired: kept over a reset, to tell of its cause */
};

static void esb_start(struct i6300esb *e, unsigned stage)
{
    bool fast = e->config_reg & CONFIG_PRE_SEL;
    uint64_t unit = (uint64_t)PCI_CLOCK_NS << (fast ? 5 : 15);
    uint64_t n = e->preload[stage - 1] ? e->preload[stage - 1] : 1;
    e->stage = stage;
    timer_set(&e->timer, clock_ns(e->dev.machine->clock) + n * unit);
}

static void esb_restart(struct i6300esb *e)
{
    if (e->lock_reg & LOCK_ENABLE) {
        esb_start(e, e->lock_reg & LOCK_FREE_RUN ? 2 : 1);
    } else {
        timer_unset(&e->timer);
    }
}

static void esb_timer(void *opaque)
{
    struct i6300esb *e = opaque;
    AUTO_LOCK(&e->lock);
    if (watchdog_waits(e->dev.machine)) {
        esb_start(e, e->stage);
        return;
    }
    if (e->stage == 1) {
        e->interrupted = true;
        esb_start(e, 2);
        return;
    }
    e->expired = true;
    if (!(e->config_reg & CONFIG_OUTPUT_OFF)) {
        watchdog_expired(e->dev.machine);
    }
    if (e->lock_reg & LOCK_FREE_RUN) {
        esb_start(e, 2);
    }
}

/* Once locked, the lock register is read only until a reset. */
static void esb_config_written(struct pci_func *f, unsigned off, unsigned len)
{
    struct i6300esb *e = container_of(f, struct i6300esb, pci);
    AUTO_LOCK(&e->lock);
    e->config_reg = load_le16(f->config + WDT_CONFIG);
    if (off > WDT_LOCK || off + len <= WDT_LOCK) {
        return;
    }
    uint8_t old = e->lock_reg, now = f->config[WDT_LOCK];
    if (old & LOCK_LOCKED) {
        f->config[WDT_LOCK] = old;
        return;
    }
    e->lock_reg = now;
    if ((old ^ now) & LOCK_ENABLE) {
        esb_restart(e);
    }
}

static enum mem_result esb_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct i6300esb *e = opaque;
    AUTO_LOCK(&e->lock);
    switch (off & ~3ull) {
    case TIMER1: *val = e->preload[0]; break;
    case TIMER2: *val = e->preload[1]; break;
    case GINTSR: *val = e->interrupted ? GINTSR_ACT : 0; break;
    case RELOAD: *val = e->expired ? RELOAD_TIMEOUT : 0; break;
    default: *val = 0;
    }
    *val >>= (off & 3) * 8;
    return MEM_OK;
}

/* True: the registers are open for this write. */
static bool esb_unlock(struct i6300esb *e, uint64_t off, uint64_t val)
{
    bool open = e->opened == 2;
    if (!open && off == RELOAD && val == UNLOCK_1) {
        e->opened = 1;
    } else {
        e->opened = !open && off == RELOAD && val == UNLOCK_2 && e->opened == 1 ? 2 : 0;
    }
    return open;
}

static enum mem_result esb_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct i6300esb *e = opaque;
    AUTO_LOCK(&e->lock);
    if (off == GINTSR) {
        e->interrupted &= !(val & GINTSR_ACT);
        return MEM_OK;
    }
    if (!esb_unlock(e, off, val)) {
        return MEM_OK;
    }
    switch (off) {
    case TIMER1:
    case TIMER2: e->preload[off / 4] = val & PRELOAD_BITS; break;
    case RELOAD:
        e->expired &= !(val & RELOAD_TIMEOUT);
        if (val & RELOAD_RELOAD) {
            esb_restart(e);
        }
        break;
    }
    return MEM_OK;
}

static const struct mmio esb_regs = {esb_read, esb_write, 1, 4};

static int esb_init(struct dev *dev, struct err *err)
{
    static const struct pci_ids ids = {.vendor = 0x8086, .device = 0x25ab, .class_code = 0x088000};
    struct i6300esb *e = container_of(dev, struct i6300esb, dev);
    pthread_mutex_init(&e->lock, NULL);
    timer_init(&e->timer, dev->machine->clock, esb_timer, e);
    int ret = pci_func_init(&e->pci, dev, &ids, err);
    if (ret) {
        return ret;
    }
    store_le16(e->pci.writable + WDT_CONFIG, CONFIG_BITS);
    e->pci.writable[WDT_LOCK] = LOCK_BITS;
    e->pci.written = esb_config_written;
    pci_bar_add_mmio(&e->pci, 0, PCI_BAR_MEM32, BAR_SIZE, &esb_regs, e);
    return 0;
}

static void esb_reset(struct dev *dev, enum dev_reset how)
{
    struct i6300esb *e = container_of(dev, struct i6300esb, dev);
    pci_func_reset(&e->pci);
    AUTO_LOCK(&e->lock);
    store_le16(e->pci.config + WDT_CONFIG, 0);
    e->pci.config[WDT_LOCK] = 0;
    timer_unset(&e->timer);
    e->preload[0] = e->preload[1] = PRELOAD_BITS;
    e->config_reg = 0;
    e->lock_reg = 0;
    e->opened = 0;
    e->interrupted = false;
}

/* The guest was stopped, the clock was not: a full time to feed it. */
static void esb_resume(struct dev *dev)
{
    struct i6300esb *e = container_of(dev, struct i6300esb, dev);
    AUTO_LOCK(&e->lock);
    esb_restart(e);
}

static void esb_fini(struct dev *dev)
{
    struct i6300esb *e = container_of(dev, struct i6300esb, dev);
    timer_unset(&e->timer);
    pci_func_fini(&e->pci);
    pthread_mutex_destroy(&e->lock);
}

static const struct prop esb_props[] = {PCI_PROPS(struct i6300esb, pci), {0}};

/* ---- State ---- */

static const struct field i6300esb_list[] = {
    FIELD(struct i6300esb, dev, FIELD_HOST),
    FIELD(struct i6300esb, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct i6300esb, lock, FIELD_HOST),
    FIELD(struct i6300esb, timer, FIELD_GUEST, .sub = &timer_fields),
    FIELD_ARRAY(struct i6300esb, preload, FIELD_GUEST),
    FIELD(struct i6300esb, config_reg, FIELD_GUEST),
    FIELD(struct i6300esb, lock_reg, FIELD_GUEST),
    FIELD(struct i6300esb, opened, FIELD_GUEST, .max = 2),
    FIELD(struct i6300esb, stage, FIELD_GUEST, .max = 2),
    FIELD(struct i6300esb, interrupted, FIELD_GUEST),
    FIELD(struct i6300esb, expired, FIELD_GUEST),
};

static int esb_loaded(void *obj, struct err *err)
{
    const struct i6300esb *e = obj;
    if (!e->stage && e->timer.due != TIMER_NEVER) {
        return err_set(err, EINVAL, "state of i6300esb: it counts, but in no stage");
    }
    return 0;
}

FIELD_SET(i6300esb_fields, "i6300esb", struct i6300esb, i6300esb_list, 1, .loaded = esb_loaded);

const struct dev_type i6300esb_type = {
    .name = "i6300esb",
    .summary = "watchdog timer on PCI",
    .spec = "Intel 6300ESB",
    .bus = "PCI",
    .size = sizeof(struct i6300esb),
    .state = &i6300esb_fields,
    .props = esb_props,
    .init = esb_init,
    .reset = esb_reset,
    .resume = esb_resume,
    .fini = esb_fini,
};
