/*
 * pc-testdev: ports and memory by which tests of processors (kvm-unit-tests) reach a device that
 * does nothing else. Ports e0h to e3h keep what is written, e8h to ebh show the same byte by byte;
 * e4h takes an address, of which a hypervisor would forget what it knows; each port from 2000h is
 * an interrupt line; ff000000h to ff00ffffh are registers that keep what is written.
 *
 * Does not do: anything at e4h (translations follow the page tables anyway).
 */
#include <pthread.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "core/fields.h"
#include "core/machine.h"
#include "dev/isa/isa_bus.h"
#include "dev/misc/misc_devices.h"

enum {
    VALUE_PORT = 0xe0,
    FLUSH_PORT = 0xe4,
    BYTES_PORT = 0xe8,
    VALUE_LEN = 4,
    IRQ_PORT = 0x2000,
    IRQS = 16,
    MEM_BASE = 0xff000000,
    MEM_LEN = 0x10000,
};

struct pc_testdev {
    struct dev dev;
    struct irq irq[IRQS];
    pthread_mutex_t lock; /* both below */
    uint8_t value[VALUE_LEN];
    uint8_t mem[MEM_LEN];
};

static enum mem_result value_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct pc_testdev *t = opaque;
    AUTO_LOCK(&t->lock);
    *val = 0;
    memcpy(val, t->value + off, size);
    return MEM_OK;
}

static enum mem_result value_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct pc_testdev *t = opaque;
    AUTO_LOCK(&t->lock);
    memcpy(t->value + off, &val, size);
    return MEM_OK;
}

static enum mem_result none_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    *val = 0;
    return MEM_OK;
}

static enum mem_result none_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    return MEM_OK;
}

static enum mem_result irq_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct pc_testdev *t = opaque;
    AUTO_LOCK(&t->lock);
    irq_set(&t->irq[off], val != 0);
    return MEM_OK;
}

static enum mem_result mem_reg_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct pc_testdev *t = opaque;
    AUTO_LOCK(&t->lock);
    *val = 0;
    memcpy(val, t->mem + off, size);
    return MEM_OK;
}

static enum mem_result mem_reg_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct pc_testdev *t = opaque;
    AUTO_LOCK(&t->lock);
    memcpy(t->mem + off, &val, size);
    return MEM_OK;
}

static const struct mmio value_ports = {value_read, value_write, 1, 4};
static const struct mmio byte_ports = {value_read, value_write, 1, 1};
static const struct mmio flush_ports = {none_read, none_write, 1, 4};
static const struct mmio irq_ports = {none_read, irq_write, 1, 1};
static const struct mmio mem_regs = {mem_reg_read, mem_reg_write, 1, 8};

static int testdev_init(struct dev *dev, struct err *err)
{
    struct pc_testdev *t = container_of(dev, struct pc_testdev, dev);
    pthread_mutex_init(&t->lock, NULL);
    int ret = isa_add_ports(dev, VALUE_PORT, VALUE_LEN, &value_ports, t, err);
    ret = ret ? ret : isa_add_ports(dev, FLUSH_PORT, VALUE_LEN, &flush_ports, t, err);
    ret = ret ? ret : isa_add_ports(dev, BYTES_PORT, VALUE_LEN, &byte_ports, t, err);
    ret = ret ? ret : isa_add_ports(dev, IRQ_PORT, IRQS, &irq_ports, t, err);
    for (uint32_t i = 0; !ret && i < IRQS; i++) {
        if (i != 2) { /* where the second PIC is */
            ret = isa_connect_irq(dev, &t->irq[i], i, err);
        }
    }
    if (!ret) {
        mem_map_add_mmio(dev->machine->mem, MEM_BASE, MEM_LEN, &mem_regs, t);
    }
    return ret;
}

static void testdev_reset(struct dev *dev, enum dev_reset how)
{
    struct pc_testdev *t = container_of(dev, struct pc_testdev, dev);
    AUTO_LOCK(&t->lock);
    for (unsigned i = 0; i < IRQS; i++) {
        irq_set(&t->irq[i], false);
    }
    memset(t->value, 0, sizeof(t->value));
    memset(t->mem, 0, sizeof(t->mem));
}

static void testdev_fini(struct dev *dev)
{
    pthread_mutex_destroy(&container_of(dev, struct pc_testdev, dev)->lock);
}

/* ---- State ---- */

static const struct field pc_testdev_list[] = {
    FIELD(struct pc_testdev, dev, FIELD_HOST),
    FIELD_ARRAY(struct pc_testdev, irq, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct pc_testdev, lock, FIELD_HOST),
    FIELD_ARRAY(struct pc_testdev, value, FIELD_GUEST),
    FIELD_ARRAY(struct pc_testdev, mem, FIELD_GUEST),
};

FIELD_SET(pc_testdev_fields, "pc-testdev", struct pc_testdev, pc_testdev_list, 1);

const struct dev_type pc_testdev_type = {
    .name = "pc-testdev",
    .summary = "ports and memory for tests of processors",
    .bus = "isa",
    .size = sizeof(struct pc_testdev),
    .state = &pc_testdev_fields,
    .init = testdev_init,
    .reset = testdev_reset,
    .fini = testdev_fini,
};
