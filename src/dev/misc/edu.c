/*
 * edu: the PCI device on which driver writing is taught. docs/specs/edu of QEMU. Inversion,
 * factorials, interrupts, and DMA between guest memory and a buffer of its own.
 *
 * Factorials and transfers are done when asked for, within the write: their busy bits are never
 * seen set. DMA goes to RAM only, so that it cannot reach a device, this one or another.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/misc/misc_devices.h"
#include "dev/pci/pci.h"
#include "state/field.h"

enum {
    BAR_SIZE = 1 << 20,
    ID = 0x00,
    LIVENESS = 0x04,
    FACTORIAL = 0x08,
    STATUS = 0x20,
    INT_STATUS = 0x24,
    INT_RAISE = 0x60,
    INT_ACK = 0x64,
    DMA = 0x80, /* from here on 64 bits each: */
    DMA_SRC = 0,
    DMA_DST = 1,
    DMA_COUNT = 2,
    DMA_CMD = 3,
    DMA_REGS = 4,
    ID_VALUE = 0x010000ed,
    STATUS_IRQ = 0x80,
    INT_FACTORIAL = 1,
    INT_DMA = 0x100,
    CMD_START = 1,
    CMD_TO_RAM = 2,
    CMD_IRQ = 4,
    BUF_AT = 0x40000,
    BUF_SIZE = 4096,
    FACTORIAL_ZERO = 34, /* from here on 32 bits of it are zero */
};

struct edu {
    struct dev dev;
    struct pci_func pci;
    uint64_t dma_mask;    /* option */
    pthread_mutex_t lock; /* all below */
    uint32_t liveness, factorial, status, interrupts;
    uint64_t dma[DMA_REGS];
    uint8_t buf[BUF_SIZE];
};

static void edu_interrupt(struct edu *e, uint32_t bits)
{
    e->interrupts |= bits;
    if (e->interrupts) {
        pci_irq_or_msi(&e->pci, true);
    }
}

static uint32_t factorial(uint32_t n)
{
    uint32_t v = n < FACTORIAL_ZERO ? 1 : 0;
    for (uint32_t i = 2; v && i <= n; i++) {
        v *= i;
    }
    return v;
}

static bool edu_transfer(struct edu *e)
{
    bool to_ram = e->dma[DMA_CMD] & CMD_TO_RAM;
    uint64_t own = e->dma[to_ram ? DMA_SRC : DMA_DST] - BUF_AT, len = e->dma[DMA_COUNT];
    gpa_t gpa = e->dma[to_ram ? DMA_DST : DMA_SRC] & e->dma_mask;
    struct mem_map *mem = pci_dma(&e->pci);
    if (!mem || own > BUF_SIZE || len > BUF_SIZE - own) {
        return false;
    }
    return to_ram ? gmem_write(mem, gpa, e->buf + own, len)
                  : gmem_read(mem, gpa, e->buf + own, len);
}

static void edu_dma(struct edu *e)
{
    if (!(e->dma[DMA_CMD] & CMD_START)) {
        return;
    }
    if (!edu_transfer(e)) {
        log_guest(&e->dev.rate, "edu",
                  "DMA of %" PRIu64 " bytes, %#" PRIx64 " to %#" PRIx64 ", is not possible\n",
                  e->dma[DMA_COUNT], e->dma[DMA_SRC], e->dma[DMA_DST]);
    }
    e->dma[DMA_CMD] &= ~(uint64_t)CMD_START;
    if (e->dma[DMA_CMD] & CMD_IRQ) {
        edu_interrupt(e, INT_DMA);
    }
}

/* Below 80h four bytes at a time; above, four or eight. */
static bool edu_takes(uint64_t off, unsigned size)
{
    return size == 4 || off >= DMA;
}

static enum mem_result edu_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct edu *e = opaque;
    AUTO_LOCK(&e->lock);
    *val = UINT64_MAX;
    if (!edu_takes(off, size)) {
        return MEM_REFUSED;
    }
    if (off >= DMA && off < DMA + 8 * DMA_REGS) {
        *val = e->dma[(off - DMA) / 8] >> (off & 4 ? 32 : 0);
        return MEM_OK;
    }
    switch (off) {
    case ID: *val = ID_VALUE; break;
    case LIVENESS: *val = e->liveness; break;
    case FACTORIAL: *val = e->factorial; break;
    case STATUS: *val = e->status; break;
    case INT_STATUS: *val = e->interrupts; break;
    }
    return MEM_OK;
}

static void reg_write(struct edu *e, uint64_t off, uint32_t val)
{
    switch (off) {
    case LIVENESS: e->liveness = ~val; break;
    case FACTORIAL:
        e->factorial = factorial(val);
        if (e->status & STATUS_IRQ) {
            edu_interrupt(e, INT_FACTORIAL);
        }
        break;
    case STATUS: e->status = val & STATUS_IRQ; break;
    case INT_RAISE: edu_interrupt(e, val); break;
    case INT_ACK:
        e->interrupts &= ~val;
        if (!e->interrupts) {
            pci_irq_set(&e->pci, false);
        }
        break;
    }
}

/* Four bytes at a register's start are all of it: drivers with a 32-bit mask write no more. */
static void dma_write(struct edu *e, uint64_t off, unsigned size, uint64_t val)
{
    uint64_t *reg = &e->dma[off / 8];
    *reg = off & 4 ? (*reg & UINT32_MAX) | val << 32 : val;
    if (off / 8 == DMA_CMD) {
        edu_dma(e);
    }
}

static enum mem_result edu_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct edu *e = opaque;
    AUTO_LOCK(&e->lock);
    if (!edu_takes(off, size)) {
        return MEM_REFUSED;
    }
    if (off >= DMA && off < DMA + 8 * DMA_REGS) {
        dma_write(e, off - DMA, size, val);
    } else {
        reg_write(e, off, (uint32_t)val);
    }
    return MEM_OK;
}

static const struct mmio edu_regs = {edu_read, edu_write, 4, 8};

static int edu_init(struct dev *dev, struct err *err)
{
    static const struct pci_ids ids = {.vendor = 0x1234,
                                       .device = 0x11e8,
                                       .class_code = 0x00ff00,
                                       .revision = 0x10,
                                       .interrupt_pin = 1};
    struct edu *e = container_of(dev, struct edu, dev);
    pthread_mutex_init(&e->lock, NULL);
    int ret = pci_func_init(&e->pci, dev, &ids, err);
    if (!ret) {
        pci_msi_add(&e->pci, 1);
        pci_bar_add_mmio(&e->pci, 0, PCI_BAR_MEM32, BAR_SIZE, &edu_regs, e);
    }
    return ret;
}

static void edu_reset(struct dev *dev, enum dev_reset how)
{
    struct edu *e = container_of(dev, struct edu, dev);
    AUTO_LOCK(&e->lock);
    e->liveness = e->factorial = e->status = e->interrupts = 0;
    memset(e->dma, 0, sizeof(e->dma));
    memset(e->buf, 0, sizeof(e->buf));
    pci_irq_set(&e->pci, false);
    pci_func_reset(&e->pci);
}

static void edu_fini(struct dev *dev)
{
    struct edu *e = container_of(dev, struct edu, dev);
    pci_func_fini(&e->pci);
    pthread_mutex_destroy(&e->lock);
}

static const struct prop edu_props[] = {
    PCI_PROPS(struct edu, pci),
    {"dma_mask", PROP_U64, offsetof(struct edu, dma_mask), "0xfffffff",
     "bits of addresses that DMA has"},
    {0},
};

/* ---- State ---- */

static const struct field edu_list[] = {
    FIELD(struct edu, dev, FIELD_HOST),
    FIELD(struct edu, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct edu, dma_mask, FIELD_CONFIG),
    FIELD(struct edu, lock, FIELD_HOST),
    FIELD(struct edu, factorial, FIELD_GUEST),
    FIELD(struct edu, status, FIELD_GUEST),
    FIELD(struct edu, interrupts, FIELD_GUEST),
    FIELD(struct edu, liveness, FIELD_GUEST),
    FIELD_ARRAY(struct edu, dma, FIELD_GUEST),
    FIELD_ARRAY(struct edu, buf, FIELD_GUEST),
};

FIELD_SET(edu_fields, "edu", struct edu, edu_list, 1);

const struct dev_type edu_type = {
    .name = "edu",
    .summary = "PCI device to learn driver writing on",
    .spec = "edu",
    .bus = "PCI",
    .size = sizeof(struct edu),
    .state = &edu_fields,
    .props = edu_props,
    .init = edu_init,
    .reset = edu_reset,
    .fini = edu_fini,
};
