/* A 16550A on the ISA bus, as COM1 to COM4 of a PC. Chip: uart16550.c. */
#include "dev/serial/isa_serial.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "chardev/chardev.h"
#include "core/machine.h"
#include "dev/isa/isa_bus.h"
#include "dev/serial/uart16550.h"
#include "state/field.h"

struct isa_serial {
    struct dev dev;
    char *chardev_id;
    uint32_t index, iobase, irq;
    struct chardev *chardev; /* NULL: not connected */
    struct uart uart;
};

#define INDEX_NEXT UINT32_MAX

static const struct prop isa_serial_props[] = {
    {"chardev", PROP_TEXT, offsetof(struct isa_serial, chardev_id), NULL, "character device"},
    {"index", PROP_U32, offsetof(struct isa_serial, index), "4294967295", "0 is COM1"},
    {"iobase", PROP_U32, offsetof(struct isa_serial, iobase), "0", "first port; 0: by index"},
    {"irq", PROP_U32, offsetof(struct isa_serial, irq), "0", "interrupt; 0: by index"},
    {0},
};

static size_t serial_tx(void *opaque, const uint8_t *buf, size_t len)
{
    struct isa_serial *s = opaque;
    return s->chardev ? chardev_write(s->chardev, buf, len) : len;
}

static void serial_rx_room(void *opaque)
{
    struct isa_serial *s = opaque;
    if (s->chardev) {
        chardev_rx_ready(s->chardev);
    }
}

static const struct uart_wires serial_wires = {serial_tx, serial_rx_room};

static size_t serial_room(void *opaque)
{
    return uart_rx_room(opaque);
}

static void serial_rx(void *opaque, const uint8_t *buf, size_t len)
{
    uart_rx(opaque, buf, len);
}

static void serial_writable(void *opaque)
{
    uart_tx_ready(opaque);
}

static void serial_event(void *opaque, enum chardev_event event)
{
    if (event == CHARDEV_BREAK) {
        uart_break(opaque);
    }
}

static const struct chardev_user serial_user = {serial_room, serial_rx, serial_writable,
                                                serial_event};

/* The lowest COM port that no other serial device has. */
static uint32_t serial_next_index(const struct isa_serial *self)
{
    uint32_t n = 0;
    for (const struct dev *d = self->dev.machine->devs; d; d = d->next) {
        if (d->type == &isa_serial_type && d != &self->dev) {
            n++;
        }
    }
    return n;
}

static int isa_serial_init(struct dev *dev, struct err *err)
{
    static const uint16_t bases[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
    static const uint8_t irqs[] = {4, 3, 4, 3};
    struct isa_serial *s = container_of(dev, struct isa_serial, dev);
    if (s->index == INDEX_NEXT) {
        s->index = serial_next_index(s);
    }
    if (s->index >= ARRAY_LEN(bases)) {
        return err_set(err, EINVAL, "isa-serial: there are four serial ports, index 0 to 3");
    }
    s->iobase = s->iobase ? s->iobase : bases[s->index];
    s->irq = s->irq ? s->irq : irqs[s->index];
    struct backend *b = NULL;
    if (s->chardev_id) {
        b = machine_find_backend(dev->machine, "chardev", s->chardev_id);
        if (!b) {
            return err_set(err, ENOENT, "isa-serial: there is no character device '%s'",
                           s->chardev_id);
        }
    }
    if (b && b->taken) {
        return err_set(err, EBUSY, "isa-serial: the character device '%s' is in use", b->id);
    }
    uart_init(&s->uart, dev->machine->clock, &serial_wires, s);
    int ret = isa_connect_irq(dev, &s->uart.irq, s->irq, err);
    ret = ret ? ret : isa_add_ports(dev, s->iobase, 8, &uart_mmio, &s->uart, err);
    if (!ret && b) {
        b->taken = true;
        s->chardev = b->obj;
        chardev_attach(s->chardev, &serial_user, &s->uart);
    }
    return ret;
}

static void isa_serial_reset(struct dev *dev, enum dev_reset how)
{
    uart_reset(&container_of(dev, struct isa_serial, dev)->uart);
}

static void isa_serial_fini(struct dev *dev)
{
    struct isa_serial *s = container_of(dev, struct isa_serial, dev);
    if (s->chardev) {
        chardev_attach(s->chardev, NULL, NULL);
    }
    uart_fini(&s->uart);
}

/* ---- State ---- */

static const struct field isa_serial_list[] = {
    FIELD(struct isa_serial, dev, FIELD_HOST),
    FIELD(struct isa_serial, chardev_id, FIELD_HOST),
    FIELD(struct isa_serial, index, FIELD_CONFIG),
    FIELD(struct isa_serial, iobase, FIELD_CONFIG),
    FIELD(struct isa_serial, irq, FIELD_CONFIG),
    FIELD(struct isa_serial, chardev, FIELD_HOST),
    FIELD(struct isa_serial, uart, FIELD_GUEST, .sub = &uart_fields),
};

FIELD_SET(isa_serial_fields, "isa-serial", struct isa_serial, isa_serial_list, 1);

const struct dev_type isa_serial_type = {
    .name = "isa-serial",
    .summary = "16550A serial port",
    .spec = "PC16550D",
    .bus = "isa",
    .size = sizeof(struct isa_serial),
    .state = &isa_serial_fields,
    .props = isa_serial_props,
    .init = isa_serial_init,
    .reset = isa_serial_reset,
    .fini = isa_serial_fini,
};
