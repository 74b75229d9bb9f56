/*
 * Console device: VIRTIO 1.2 section 5.3, one port (no F_MULTIPORT), so that it is the guest's
 * hvc0. Options follow the published two devices: "virtio-serial-device" is the virtio device
 * and a bus, "virtconsole,chardev=ID" is its port.
 *
 * Does not do: further ports, console size, emergency write.
 */
#include <errno.h>
#include <stddef.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "chardev/chardev.h"
#include "core/machine.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtio_devices.h"

enum { Q_RX = 0, Q_TX = 1 };

struct virtio_serial {
    struct dev dev;
    struct virtio v;
    struct bus ports;
    struct chardev *chardev; /* of the port; NULL: output vanishes */
    bool rx_stopped;         /* the chardev waits for room */
};

struct virtconsole {
    struct dev dev;
    char *chardev_id, *name;
    struct virtio_serial *serial;
};

/* ---- The virtio device ---- */

/* Guest to host. What the chardev does not take is lost: back ends wait themselves. */
static void serial_tx(struct virtio_serial *s)
{
    struct vq_elem e;
    struct vq *vq = &s->v.queue[Q_TX];
    for (unsigned n = 0; virtio_running(&s->v) && n < VQ_MAX_SIZE && vq_pop(vq, &e); n++) {
        for (unsigned i = 0; s->chardev && i < e.out_count; i++) {
            chardev_write(s->chardev, e.out[i].iov_base, e.out[i].iov_len);
        }
        vq_push(vq, &e, 0);
    }
    vq_want_kick(vq, true);
    virtio_check_broken(&s->v, vq);
    virtio_signal(&s->v, vq);
}

static void serial_kick(struct virtio *v, unsigned queue)
{
    struct virtio_serial *s = container_of(v, struct virtio_serial, v);
    AUTO_LOCK(&v->lock);
    if (queue == Q_TX) {
        serial_tx(s);
    } else if (s->rx_stopped && s->chardev) {
        s->rx_stopped = false;
        chardev_rx_ready(s->chardev);
    }
}

static const struct virtio_type serial_virtio = {
    .id = 3, .queues = 2, .queue_size = 64, .config_size = 12, .kick = serial_kick};

/* Host to guest: room for one buffer at a time is said, several are filled if need be. */
static size_t serial_room(void *opaque)
{
    struct virtio_serial *s = opaque;
    AUTO_LOCK(&s->v.lock);
    struct vq *vq = &s->v.queue[Q_RX];
    bool room = virtio_running(&s->v) && !vq_empty(vq);
    s->rx_stopped = !room;
    if (!room) {
        vq_want_kick(vq, true);
    }
    return room ? 1024 : 0;
}

static void serial_rx(void *opaque, const uint8_t *buf, size_t len)
{
    struct virtio_serial *s = opaque;
    struct vq_elem e;
    AUTO_LOCK(&s->v.lock);
    struct vq *vq = &s->v.queue[Q_RX];
    while (len && virtio_running(&s->v) && vq_pop(vq, &e)) {
        uint64_t n = iov_write(e.in, e.in_count, 0, buf, len);
        vq_push(vq, &e, (uint32_t)n);
        buf += n;
        len -= n;
    }
    virtio_check_broken(&s->v, vq);
    virtio_signal(&s->v, vq);
}

static const struct chardev_user serial_user = {.room = serial_room, .rx = serial_rx};

static int serial_ports_attach(struct bus *bus, struct dev *dev, struct err *err)
{
    if (bus->full) {
        return err_set(err, EBUSY, "%s: the device has one port, and it is in use",
                       dev->type->name);
    }
    bus->full = true;
    return 0;
}

static const struct bus_type serial_ports_type = {"virtio-serial-bus", serial_ports_attach};

static int serial_init(struct dev *dev, struct err *err)
{
    struct virtio_serial *s = container_of(dev, struct virtio_serial, dev);
    int ret = virtio_init(&s->v, dev, &serial_virtio, 0, err);
    s->ports = (struct bus){.type = &serial_ports_type, .id = dev->id, .owner = s};
    bus_add(dev->machine, &s->ports);
    return ret;
}

static void serial_fini(struct dev *dev)
{
    struct virtio_serial *s = container_of(dev, struct virtio_serial, dev);
    if (s->chardev) {
        chardev_attach(s->chardev, NULL, NULL);
    }
    virtio_fini(&s->v);
}

static const struct prop serial_props[] = {
    {0},
};

const struct dev_type virtio_serial_type = {
    .name = "virtio-serial-device",
    .summary = "console device with one port for a virtconsole",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-bus",
    .size = sizeof(struct virtio_serial),
    .props = serial_props,
    .init = serial_init,
    .fini = serial_fini,
};

/* ---- Its port ---- */

static const struct prop console_props[] = {
    {"chardev", PROP_TEXT, offsetof(struct virtconsole, chardev_id), NULL, "character device"},
    {"name", PROP_TEXT, offsetof(struct virtconsole, name), NULL, "no effect"},
    {0},
};

static int console_init(struct dev *dev, struct err *err)
{
    struct virtconsole *c = container_of(dev, struct virtconsole, dev);
    c->serial = dev->bus->owner;
    if (!c->chardev_id) {
        return 0;
    }
    struct backend *b = machine_find_backend(dev->machine, "chardev", c->chardev_id);
    if (!b || b->taken) {
        return err_set(err, ENOENT, "virtconsole: character device '%s' %s", c->chardev_id,
                       b ? "is in use" : "does not exist");
    }
    b->taken = true;
    c->serial->chardev = b->obj;
    chardev_attach(c->serial->chardev, &serial_user, c->serial);
    return 0;
}

const struct dev_type virtconsole_type = {
    .name = "virtconsole",
    .summary = "console port (hvc0)",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-serial-bus",
    .size = sizeof(struct virtconsole),
    .props = console_props,
    .init = console_init,
};
