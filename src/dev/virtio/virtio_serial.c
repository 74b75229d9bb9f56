/*
 * Console device: VIRTIO 1.2 section 5.3, with several ports. Options follow the published
 * devices: "virtio-serial-device" (or -pci) is the virtio device and a bus, "virtconsole" and
 * "virtserialport" are its ports (virtio_serial_port.c).
 *
 * Queues: 0 and 1 are port 0's, 2 and 3 for control messages, then two for each further port.
 * A driver that does not accept F_MULTIPORT has port 0 alone.
 *
 * Does not do: console size (F_SIZE is not offered, as the published device does not), ports that
 * come and go while the guest runs.
 */
#include "dev/virtio/virtio_serial.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/virtio/virtio_devices.h"
#include "state/field.h"

enum {
    F_MULTIPORT = 1,
    F_EMERG_WRITE = 2,
    CONFIG_MAX_PORTS = 4,
    CONFIG_EMERG_WR = 8,
    CONFIG_SIZE = 12,
    Q_CONTROL_RX = 2,
    Q_CONTROL_TX = 3,
    QUEUE_SIZE = 128,
    /* Control messages, 5.3.6.2. */
    DEVICE_READY = 0,
    DEVICE_ADD = 1,
    PORT_READY = 3,
    CONSOLE_PORT = 4,
    PORT_OPEN = 6,
    PORT_NAME = 7,
    CONTROL_LEN = 8,
    NAME_MAX = 255,
};

bool vser_multiport(const struct vser *s)
{
    return s->v.accepted & BIT(F_MULTIPORT);
}

struct vq *vser_port_queue(struct vser_port *p, bool tx)
{
    return &p->serial->v.queue[(p->nr ? 2 * p->nr + 2 : 0) + tx];
}

/* Consoles and a lone port are not opened by messages. */
bool vser_guest_listens(const struct vser_port *p)
{
    const struct vser *s = p->serial;
    return virtio_running(&s->v) && (vser_multiport(s) ? p->guest_open || p->console : p->nr == 0);
}

/* ---- Control messages; lock held ---- */

/* To the driver. False: no buffer. */
static bool control_put(struct vser *s, const struct vser_port *p, uint16_t event, uint16_t value,
                        const char *text)
{
    struct vq_elem e;
    struct vq *vq = &s->v.queue[Q_CONTROL_RX];
    uint8_t msg[CONTROL_LEN + NAME_MAX];
    size_t len = text ? strnlen(text, NAME_MAX) : 0;
    if (!vq_pop(vq, &e)) {
        vq_want_kick(vq, true);
        if (vq_empty(vq) || !vq_pop(vq, &e)) {
            virtio_check_broken(&s->v, vq);
            return false;
        }
    }
    store_le32(msg, p->nr);
    store_le16(msg + 4, event);
    store_le16(msg + 6, value);
    memcpy(msg + CONTROL_LEN, text ? text : "", len);
    vq_push(vq, &e, (uint32_t)iov_write(e.in, e.in_count, 0, msg, CONTROL_LEN + len));
    return true;
}

static bool port_tell_one(struct vser *s, struct vser_port *p, unsigned due)
{
    switch (due) {
    case VSER_DUE_ADD: return control_put(s, p, DEVICE_ADD, 1, NULL);
    case VSER_DUE_CONSOLE: return control_put(s, p, CONSOLE_PORT, 1, NULL);
    case VSER_DUE_NAME: return control_put(s, p, PORT_NAME, 1, p->name);
    default: return control_put(s, p, PORT_OPEN, p->host_open, NULL);
    }
}

/* Of each kind one message waits at most: what it says is what holds when it is told. */
static void control_flush(struct vser *s)
{
    bool room = virtio_running(&s->v) && vser_multiport(s), told = false;
    for (unsigned i = 0; room && i < s->max_ports; i++) {
        struct vser_port *p = s->port[i];
        for (unsigned due = VSER_DUE_ADD; room && p && due <= VSER_DUE_OPEN; due <<= 1) {
            room = !(p->due & due) || port_tell_one(s, p, due);
            told |= room && p->due & due;
            p->due &= room ? ~due : ~0u;
        }
    }
    if (told) {
        virtio_signal(&s->v, &s->v.queue[Q_CONTROL_RX]);
    }
}

void vser_tell(struct vser *s, struct vser_port *p, unsigned due)
{
    p->due |= due;
    control_flush(s);
}

static void control_add_all(struct vser *s)
{
    for (unsigned i = 0; i < s->max_ports; i++) {
        if (s->port[i]) {
            s->port[i]->due |= VSER_DUE_ADD;
        }
    }
}

/* From the driver. */
static void control_take(struct vser *s, const struct vq_elem *e)
{
    uint8_t msg[CONTROL_LEN];
    if (iov_read(e->out, e->out_count, 0, msg, sizeof(msg)) != sizeof(msg)) {
        return;
    }
    uint32_t nr = load_le32(msg);
    uint16_t event = load_le16(msg + 4), value = load_le16(msg + 6);
    struct vser_port *p = nr < s->max_ports ? s->port[nr] : NULL;
    if (event == DEVICE_READY) {
        if (value) {
            control_add_all(s);
        }
    } else if (!p) {
        log_guest(&s->dev.rate, s->dev.type->name, "control message %u for port %u\n", event, nr);
    } else if (event == PORT_READY && value) {
        p->due |= (p->console ? VSER_DUE_CONSOLE : 0) | (p->name ? VSER_DUE_NAME : 0) |
                  (p->host_open ? VSER_DUE_OPEN : 0);
    } else if (event == PORT_OPEN) {
        p->guest_open = value;
        vser_port_flush(p);
    }
}

static void control_tx(struct vser *s)
{
    struct vq_elem e;
    struct vq *vq = &s->v.queue[Q_CONTROL_TX];
    for (unsigned n = 0; virtio_running(&s->v) && n < VQ_MAX_SIZE && vq_pop(vq, &e); n++) {
        control_take(s, &e);
        vq_push(vq, &e, 0);
    }
    vq_want_kick(vq, true);
    virtio_check_broken(&s->v, vq);
    virtio_signal(&s->v, vq);
    control_flush(s);
}

/* ---- The virtio device ---- */

static void vser_kick(struct virtio *v, unsigned queue)
{
    struct vser *s = container_of(v, struct vser, v);
    AUTO_LOCK(&v->lock);
    unsigned nr = queue < Q_CONTROL_RX ? 0 : queue / 2 - 1;
    struct vser_port *p = s->port[nr];
    if (!virtio_running(v)) {
        return;
    }
    if (queue == Q_CONTROL_TX) {
        control_tx(s);
    } else if (queue == Q_CONTROL_RX) {
        control_flush(s);
    } else if (p && queue & 1) {
        vser_port_tx(p);
    } else if (p) {
        vser_port_flush(p);
    }
}

static void vser_reset(struct virtio *v)
{
    struct vser *s = container_of(v, struct vser, v);
    for (unsigned i = 0; i < s->max_ports; i++) {
        if (s->port[i]) {
            vser_port_reset(s->port[i]);
        }
    }
}

static void vser_ready(struct virtio *v)
{
    struct vser *s = container_of(v, struct vser, v);
    for (unsigned i = 0; i < s->max_ports; i++) {
        if (s->port[i]) {
            vser_port_flush(s->port[i]);
        }
    }
}

static void vser_fill_config(struct vser *s)
{
    memset(s->v.config, 0, CONFIG_SIZE);
    store_le32(s->v.config + CONFIG_MAX_PORTS, s->max_ports);
}

/* 5.3.4: a character for the console at any time, before there are queues, too. */
static void vser_config_written(struct virtio *v, uint32_t off, uint32_t len)
{
    struct vser *s = container_of(v, struct vser, v);
    uint8_t byte = v->config[CONFIG_EMERG_WR];
    vser_fill_config(s);
    if (off != CONFIG_EMERG_WR || !s->emergency_write) {
        return;
    }
    for (unsigned i = 0; i < s->max_ports; i++) {
        if (s->port[i] && s->port[i]->console) {
            vser_port_emergency(s->port[i], byte);
            return;
        }
    }
}

static const struct virtio_type vser_virtio = {.id = 3,
                                               .queues = 2 * (VSER_MAX_PORTS + 1),
                                               .queue_size = QUEUE_SIZE,
                                               .config_size = CONFIG_SIZE,
                                               .kick = vser_kick,
                                               .reset = vser_reset,
                                               .ready = vser_ready,
                                               .config_written = vser_config_written};

/* ---- Life ---- */

static int vser_attach(struct bus *bus, struct dev *dev, struct err *err)
{
    const struct vser *s = bus->owner;
    for (unsigned i = 0; i < s->max_ports; i++) {
        if (!s->port[i]) {
            return 0;
        }
    }
    return err_set(err, EBUSY, "%s: all %u ports of the device are in use", dev->type->name,
                   s->max_ports);
}

const struct bus_type vser_bus_type = {"virtio-serial-bus", vser_attach};

/* As published: by the device's ID, or counted. */
static void vser_name_bus(struct vser *s)
{
    const struct dev *dev = &s->dev;
    const char *id = dev->id ? dev->id : s->v.bus->dev_id;
    unsigned n = 0;
    for (const struct bus *b = dev->machine->buses; b; b = b->next) {
        n += b->type == &vser_bus_type;
    }
    if (id) {
        snprintf(s->bus_id, sizeof(s->bus_id), "%s.0", id);
    } else {
        snprintf(s->bus_id, sizeof(s->bus_id), "%s.%u", vser_bus_type.name, n);
    }
}

static int vser_init(struct dev *dev, struct err *err)
{
    struct vser *s = container_of(dev, struct vser, dev);
    if (!s->max_ports || s->max_ports > VSER_MAX_PORTS) {
        return err_set(err, EINVAL, "virtio-serial: max_ports is 1 to %d, not %u", VSER_MAX_PORTS,
                       s->max_ports);
    }
    s->v.queues = s->max_ports > 1 ? 2 * (s->max_ports + 1) : 2;
    uint64_t features =
        (s->max_ports > 1 ? BIT(F_MULTIPORT) : 0) | (s->emergency_write ? BIT(F_EMERG_WRITE) : 0);
    int ret = virtio_init(&s->v, dev, &vser_virtio, features, err);
    vser_name_bus(s);
    s->ports = (struct bus){.type = &vser_bus_type, .id = s->bus_id, .owner = s};
    bus_add(dev->machine, &s->ports);
    vser_fill_config(s);
    return ret;
}

static void vser_fini(struct dev *dev)
{
    virtio_fini(&container_of(dev, struct vser, dev)->v);
}

static const struct prop vser_props[] = {
    {"max_ports", PROP_U32, offsetof(struct vser, max_ports), "31", "ports at most, 1 to 31"},
    {"emergency-write", PROP_BOOL, offsetof(struct vser, emergency_write), "on",
     "a register for characters of a console in need"},
    {0},
};

/* ---- State ---- */

static const struct field vser_list[] = {
    FIELD(struct vser, dev, FIELD_HOST),
    FIELD(struct vser, v, FIELD_GUEST, .sub = &virtio_fields),
    FIELD(struct vser, ports, FIELD_HOST),
    FIELD(struct vser, max_ports, FIELD_CONFIG),
    FIELD(struct vser, emergency_write, FIELD_CONFIG),
    FIELD(struct vser, bus_id, FIELD_HOST),
    FIELD(struct vser, port, FIELD_HOST),
};

FIELD_SET(vser_fields, "virtio-serial", struct vser, vser_list, 1);

const struct dev_type virtio_serial_type = {
    .name = "virtio-serial-device",
    .summary = "console device, with ports for virtconsole and virtserialport",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-bus",
    .size = sizeof(struct vser),
    .state = &vser_fields,
    .props = vser_props,
    .init = vser_init,
    .fini = vser_fini,
};
