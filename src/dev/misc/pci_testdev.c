/*
 * pci-testdev: counts writes to its BARs, one of memory and one of ports. docs/specs/pci-testdev of
 * QEMU. A guest chooses a test by its number, is told where to write what, and reads the count.
 *
 * Does not do: the tests of eventfds of a kernel's hypervisor, which there is none of.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/misc/misc_devices.h"
#include "dev/pci/pci.h"
#include "state/field.h"

enum {
    /* The header. */
    TEST = 0,
    WIDTH = 1,
    OFFSET = 4,
    DATA = 8,
    COUNT = 12,
    NAME = 16,
    HEADER = 64,
    TARGET = 128, /* where tests write */
    MEM_SIZE = 4096,
    IO_SIZE = 256,
    BARS = 2,
    MEMBAR = 2,
    NONE = 0xff,
};

static const struct pci_test {
    uint8_t width;
    bool any; /* writes of anything count, not only of `data` */
    uint32_t data;
    const char *name;
} tests[] = {
    {1, true, 0xfa, "byte, any value"},       {1, false, 0xfa, "byte, one value"},
    {2, true, 0xfafa, "word, any value"},     {2, false, 0xfafa, "word, one value"},
    {4, true, 0xfafafafa, "long, any value"}, {4, false, 0xfafafafa, "long, one value"},
};

struct test_bar {
    pthread_mutex_t lock; /* all below */
    bool io;
    uint8_t test;
    uint32_t count;
};

struct pci_testdev {
    struct dev dev;
    struct pci_func pci;
    uint64_t membar; /* option */
    struct test_bar bar[BARS];
};

static void header_fill(const struct test_bar *b, uint8_t *h)
{
    memset(h, 0, HEADER);
    h[TEST] = b->test;
    store_le32(h + COUNT, b->count);
    if (b->test < ARRAY_LEN(tests)) {
        const struct pci_test *t = &tests[b->test];
        h[WIDTH] = t->width;
        store_le32(h + OFFSET, TARGET);
        store_le32(h + DATA, t->data);
        memcpy(h + NAME, b->io ? "ports: " : "memory: ", b->io ? 7 : 8);
        strncpy((char *)h + NAME + (b->io ? 7 : 8), t->name, HEADER - NAME - 9);
    }
}

static enum mem_result bar_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct test_bar *b = opaque;
    uint8_t h[HEADER];
    AUTO_LOCK(&b->lock);
    *val = 0;
    if (off + size <= HEADER) {
        header_fill(b, h);
        memcpy(val, h + off, size);
    }
    return MEM_OK;
}

static enum mem_result bar_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct test_bar *b = opaque;
    AUTO_LOCK(&b->lock);
    if (off == TEST) {
        b->test = (uint8_t)val;
        b->count = 0;
    } else if (off == TARGET && b->test < ARRAY_LEN(tests)) {
        const struct pci_test *t = &tests[b->test];
        b->count += size == t->width && (t->any || val == t->data);
    }
    return MEM_OK;
}

static const struct mmio bar_regs = {bar_read, bar_write, 1, 4};

static int testdev_init(struct dev *dev, struct err *err)
{
    static const struct pci_ids ids = {.vendor = 0x1b36, .device = 0x0005, .class_code = 0x00ff00};
    struct pci_testdev *t = container_of(dev, struct pci_testdev, dev);
    for (unsigned i = 0; i < BARS; i++) {
        pthread_mutex_init(&t->bar[i].lock, NULL);
        t->bar[i].io = i;
    }
    if (t->membar && (t->membar & (t->membar - 1) || t->membar < 4096 || t->membar >> 48)) {
        return err_set(err, EINVAL, "pci-testdev: membar is a power of 2, from 4 KiB to 128 TiB");
    }
    int ret = pci_func_init(&t->pci, dev, &ids, err);
    if (ret) {
        return ret;
    }
    pci_bar_add_mmio(&t->pci, 0, PCI_BAR_MEM32, MEM_SIZE, &bar_regs, &t->bar[0]);
    pci_bar_add_mmio(&t->pci, 1, PCI_BAR_IO, IO_SIZE, &bar_regs, &t->bar[1]);
    if (t->membar) {
        pci_bar_add(&t->pci, MEMBAR, PCI_BAR_MEM64 | PCI_BAR_PREFETCH, t->membar);
    }
    return 0;
}

static void testdev_reset(struct dev *dev, enum dev_reset how)
{
    struct pci_testdev *t = container_of(dev, struct pci_testdev, dev);
    for (unsigned i = 0; i < BARS; i++) {
        AUTO_LOCK(&t->bar[i].lock);
        t->bar[i].test = NONE;
        t->bar[i].count = 0;
    }
    pci_func_reset(&t->pci);
}

static void testdev_fini(struct dev *dev)
{
    struct pci_testdev *t = container_of(dev, struct pci_testdev, dev);
    pci_func_fini(&t->pci);
    for (unsigned i = 0; i < BARS; i++) {
        pthread_mutex_destroy(&t->bar[i].lock);
    }
}

static const struct prop testdev_props[] = {
    PCI_PROPS(struct pci_testdev, pci),
    {"membar", PROP_SIZE, offsetof(struct pci_testdev, membar), "0",
     "size of a memory BAR with nothing in it"},
    {0},
};

/* ---- State ---- */

static const struct field test_bar_list[] = {
    FIELD(struct test_bar, lock, FIELD_HOST),
    FIELD(struct test_bar, io, FIELD_CONFIG),
    FIELD(struct test_bar, test, FIELD_GUEST),
    FIELD(struct test_bar, count, FIELD_GUEST),
};

FIELD_SET(test_bar_fields, "pci-testdev-bar", struct test_bar, test_bar_list, 1);

static const struct field pci_testdev_list[] = {
    FIELD(struct pci_testdev, dev, FIELD_HOST),
    FIELD(struct pci_testdev, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct pci_testdev, membar, FIELD_CONFIG),
    FIELD_ARRAY(struct pci_testdev, bar, FIELD_GUEST, .sub = &test_bar_fields),
};

FIELD_SET(pci_testdev_fields, "pci-testdev", struct pci_testdev, pci_testdev_list, 1);

const struct dev_type pci_testdev_type = {
    .name = "pci-testdev",
    .summary = "counts accesses by tests of guests",
    .spec = "pci-testdev",
    .bus = "PCI",
    .size = sizeof(struct pci_testdev),
    .state = &pci_testdev_fields,
    .props = testdev_props,
    .init = testdev_init,
    .reset = testdev_reset,
    .fini = testdev_fini,
};
