/*
 * A parallel port with its standard registers (SPP; IBM PC AT Technical Reference, Printer
 * Adapter): data, status, control. A byte goes to the character device with the strobe; the printer
 * is always ready and acknowledges at once.
 *
 * Does not do: EPP, ECP, bytes from the printer (the data register reads what was written).
 */
#include "dev/misc/isa_parallel.h"

#include <errno.h>
#include <pthread.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "chardev/chardev.h"
#include "core/fields.h"
#include "core/machine.h"
#include "dev/isa/isa_bus.h"

enum {
    REG_DATA,
    REG_STATUS,
    REG_CONTROL,
    REG_COUNT = 8,

    STATUS_RESERVED = 7,
    STATUS_ERROR = 0x08, /* low is an error */
    STATUS_SELECT = 0x10,
    STATUS_ACK = 0x40,  /* low while it acknowledges */
    STATUS_BUSY = 0x80, /* low while busy */

    CONTROL_STROBE = 0x01,
    CONTROL_INIT = 0x04,
    CONTROL_SELECT = 0x08,
    CONTROL_IRQ = 0x10,
    CONTROL_ONES = 0xc0, /* are not there */
};

struct isa_parallel {
    struct dev dev;
    char *chardev_id;
    uint32_t index, iobase, line;
    struct chardev *chardev; /* NULL: not connected */
    pthread_mutex_t lock;    /* what follows */
    bool ready;
    uint8_t data, control;
    struct irq irq;
};

#define INDEX_NEXT UINT32_MAX

static const struct prop parallel_props[] = {
    {"chardev", PROP_TEXT, offsetof(struct isa_parallel, chardev_id), NULL, "character device"},
    {"index", PROP_U32, offsetof(struct isa_parallel, index), "4294967295", "0 is LPT1"},
    {"iobase", PROP_U32, offsetof(struct isa_parallel, iobase), "0", "first port; 0: by index"},
    {"irq", PROP_U32, offsetof(struct isa_parallel, line), "7", "interrupt"},
    {0},
};

static enum mem_result parallel_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct isa_parallel *p = opaque;
    AUTO_LOCK(&p->lock);
    switch (off) {
    case REG_DATA: *val = p->data; break;
    case REG_STATUS:
        *val = STATUS_RESERVED | STATUS_ERROR | STATUS_ACK | STATUS_BUSY |
               (p->chardev ? STATUS_SELECT : 0);
        break;
    case REG_CONTROL: *val = p->control | CONTROL_ONES; break;
    default: *val = 0xff; break;
    }
    return MEM_OK;
}

/* The byte is taken when the strobe ends; the printer's acknowledgement is an edge. */
static void parallel_control(struct isa_parallel *p, uint8_t val)
{
    bool strobe = (p->control & CONTROL_STROBE) && !(val & CONTROL_STROBE);
    p->control = val & (uint8_t)~CONTROL_ONES;
    if (strobe && p->chardev && (val & CONTROL_INIT)) {
        chardev_write(p->chardev, &p->data, 1);
        if (val & CONTROL_IRQ) {
            irq_pulse(&p->irq);
        }
    }
}

static enum mem_result parallel_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct isa_parallel *p = opaque;
    AUTO_LOCK(&p->lock);
    if (off == REG_DATA) {
        p->data = (uint8_t)val;
    } else if (off == REG_CONTROL) {
        parallel_control(p, (uint8_t)val);
    }
    return MEM_OK;
}

static const struct mmio parallel_ports = {parallel_read, parallel_write, 1, 1};

static uint32_t parallel_next_index(const struct isa_parallel *self)
{
    uint32_t n = 0;
    for (const struct dev *d = self->dev.machine->devs; d; d = d->next) {
        n += d->type == &isa_parallel_type && d != &self->dev;
    }
    return n;
}

static int parallel_take_chardev(struct isa_parallel *p, struct err *err)
{
    if (!p->chardev_id) {
        return 0;
    }
    struct backend *b = machine_find_backend(p->dev.machine, "chardev", p->chardev_id);
    if (!b || b->taken) {
        return err_set(err, b ? EBUSY : ENOENT, "isa-parallel: chardev=%s: %s", p->chardev_id,
                       b ? "it is in use" : "there is no such -chardev");
    }
    b->taken = true;
    p->chardev = b->obj;
    return 0;
}

static int parallel_init(struct dev *dev, struct err *err)
{
    static const uint16_t bases[] = {0x378, 0x278, 0x3bc};
    struct isa_parallel *p = container_of(dev, struct isa_parallel, dev);
    pthread_mutex_init(&p->lock, NULL);
    p->ready = true;
    p->index = p->index == INDEX_NEXT ? parallel_next_index(p) : p->index;
    if (p->index >= ARRAY_LEN(bases)) {
        return err_set(err, EINVAL, "isa-parallel: there are three parallel ports, index 0 to 2");
    }
    p->iobase = p->iobase ? p->iobase : bases[p->index];
    int ret = parallel_take_chardev(p, err);
    ret = ret ? ret : isa_connect_irq(dev, &p->irq, p->line, err);
    return ret ? ret
               : isa_add_ports(dev, p->iobase, p->iobase == 0x3bc ? 4 : REG_COUNT, &parallel_ports,
                               p, err);
}

static void parallel_reset(struct dev *dev, enum dev_reset how)
{
    struct isa_parallel *p = container_of(dev, struct isa_parallel, dev);
    AUTO_LOCK(&p->lock);
    p->data = 0;
    p->control = CONTROL_INIT | CONTROL_SELECT;
}

static void parallel_fini(struct dev *dev)
{
    struct isa_parallel *p = container_of(dev, struct isa_parallel, dev);
    if (p->ready) {
        pthread_mutex_destroy(&p->lock);
    }
}

/* ---- State ---- */

static const struct field isa_parallel_list[] = {
    FIELD(struct isa_parallel, dev, FIELD_HOST),
    FIELD(struct isa_parallel, chardev_id, FIELD_HOST),
    FIELD(struct isa_parallel, index, FIELD_CONFIG),
    FIELD(struct isa_parallel, iobase, FIELD_CONFIG),
    FIELD(struct isa_parallel, line, FIELD_CONFIG),
    FIELD(struct isa_parallel, chardev, FIELD_HOST),
    FIELD(struct isa_parallel, lock, FIELD_HOST),
    FIELD(struct isa_parallel, ready, FIELD_HOST),
    FIELD(struct isa_parallel, data, FIELD_GUEST),
    FIELD(struct isa_parallel, control, FIELD_GUEST),
    FIELD(struct isa_parallel, irq, FIELD_GUEST, .sub = &irq_fields),
};

FIELD_SET(isa_parallel_fields, "isa-parallel", struct isa_parallel, isa_parallel_list, 1);

const struct dev_type isa_parallel_type = {
    .name = "isa-parallel",
    .summary = "parallel port",
    .bus = "isa",
    .size = sizeof(struct isa_parallel),
    .state = &isa_parallel_fields,
    .props = parallel_props,
    .init = parallel_init,
    .reset = parallel_reset,
    .fini = parallel_fini,
};
