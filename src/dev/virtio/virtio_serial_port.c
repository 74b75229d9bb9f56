/*
 * Ports of a console device: a chardev and two queues each. A "virtconsole" is a console of the
 * guest (hvc0), open at both ends all the time; a "virtserialport" is a channel with a name, whose
 * ends tell each other when they are opened and closed.
 *
 * While nobody is at the other end: the guest's output vanishes, the host's waits.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "chardev/chardev.h"
#include "core/machine.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_serial.h"
#include "state/field.h"

/* ---- Guest to host; lock held ---- */

/* True: all of it was taken, or nobody is there to take it. */
static bool port_send(struct vser_port *p)
{
    const struct vq_elem *e = &p->elem;
    uint64_t skip = p->held_at;
    for (unsigned i = 0; p->chardev && p->host_open && i < e->out_count; i++) {
        size_t len = e->out[i].iov_len;
        if (skip >= len) {
            skip -= len;
            continue;
        }
        size_t n =
            chardev_write(p->chardev, (const uint8_t *)e->out[i].iov_base + skip, len - skip);
        p->held_at += n;
        if (n < len - skip) {
            return false;
        }
        skip = 0;
    }
    return true;
}

void vser_port_tx(struct vser_port *p)
{
    struct virtio *v = &p->serial->v;
    struct vq *vq = vser_port_queue(p, true);
    for (unsigned n = 0; virtio_running(v) && n < VQ_MAX_SIZE; n++) {
        if (!p->held && !vq_pop(vq, &p->elem)) {
            break;
        }
        p->held_at = p->held ? p->held_at : 0;
        p->held = !port_send(p);
        if (p->held) {
            break;
        }
        vq_push(vq, &p->elem, 0);
    }
    vq_want_kick(vq, true);
    virtio_check_broken(v, vq);
    virtio_signal(v, vq);
}

void vser_port_emergency(struct vser_port *p, uint8_t byte)
{
    if (p->chardev) {
        chardev_write(p->chardev, &byte, 1);
    }
}

/* ---- Host to guest; lock held ---- */

/* How many bytes the guest took. */
static size_t port_give(struct vser_port *p, const uint8_t *buf, size_t len)
{
    struct virtio *v = &p->serial->v;
    struct vq *vq = vser_port_queue(p, false);
    struct vq_elem e;
    size_t done = 0;
    for (unsigned i = 0; done < len && i < VQ_MAX_SIZE && vser_guest_listens(p) && vq_pop(vq, &e);
         i++) {
        uint64_t n = iov_write(e.in, e.in_count, 0, buf + done, len - done);
        vq_push(vq, &e, (uint32_t)n);
        done += n;
    }
    virtio_check_broken(v, vq);
    virtio_signal(v, vq);
    return done;
}

void vser_port_flush(struct vser_port *p)
{
    size_t n = port_give(p, p->rest + p->rest_at, p->rest_len);
    p->rest_at += (unsigned)n;
    p->rest_len -= (unsigned)n;
    if (p->rest_len) {
        vq_want_kick(vser_port_queue(p, false), true);
    } else if (p->rx_stopped && p->chardev) {
        p->rx_stopped = false;
        chardev_rx_ready(p->chardev);
    }
}

/* What the guest had no buffers for goes into `rest`, which is empty when room is said. */
static size_t port_room(void *opaque)
{
    struct vser_port *p = opaque;
    AUTO_LOCK(&p->serial->v.lock);
    struct vq *vq = vser_port_queue(p, false);
    bool room = vser_guest_listens(p) && !p->rest_len && !vq_empty(vq);
    if (!room) {
        vq_want_kick(vq, true);
        room = vser_guest_listens(p) && !p->rest_len && !vq_empty(vq);
    }
    p->rx_stopped = !room;
    return room ? sizeof(p->rest) : 0;
}

static void port_rx(void *opaque, const uint8_t *buf, size_t len)
{
    struct vser_port *p = opaque;
    AUTO_LOCK(&p->serial->v.lock);
    size_t n = p->rest_len ? 0 : port_give(p, buf, len);
    size_t room = sizeof(p->rest) - p->rest_len, left = len - n < room ? len - n : room;
    memmove(p->rest, p->rest + p->rest_at, p->rest_len);
    memcpy(p->rest + p->rest_len, buf + n, left);
    p->rest_at = 0;
    p->rest_len += (unsigned)left;
    if (left) {
        vq_want_kick(vser_port_queue(p, false), true);
    }
}

static void port_writable(void *opaque)
{
    struct vser_port *p = opaque;
    AUTO_LOCK(&p->serial->v.lock);
    if (p->held) {
        vser_port_tx(p);
    }
}

/* Consoles stay open: they have somebody at the other end sooner or later. */
static void port_event(void *opaque, enum chardev_event event)
{
    struct vser_port *p = opaque;
    AUTO_LOCK(&p->serial->v.lock);
    bool open = event == CHARDEV_OPENED;
    if (p->console || (!open && event != CHARDEV_CLOSED) || open == p->host_open) {
        return;
    }
    p->host_open = open;
    vser_tell(p->serial, p, VSER_DUE_OPEN);
    if (p->held) {
        vser_port_tx(p);
    }
}

static const struct chardev_user port_user = {port_room, port_rx, port_writable, port_event};

void vser_port_reset(struct vser_port *p)
{
    p->guest_open = p->held = false;
    p->due = 0;
}

/* ---- Life ---- */

/* Port 0 is the console that older drivers know: other ports do not get it unasked. */
static int port_number(struct vser_port *p, struct err *err)
{
    const struct vser *s = p->serial;
    if (p->nr == UINT32_MAX) {
        p->nr = p->console ? 0 : 1;
        while (p->nr < s->max_ports && s->port[p->nr]) {
            p->nr++;
        }
    }
    const char *name = p->dev.type->name;
    if (p->nr >= s->max_ports) {
        return err_set(err, EINVAL, "%s: the device has ports 0 to %u, and no free one for this",
                       name, s->max_ports - 1);
    }
    if (s->port[p->nr]) {
        return err_set(err, EBUSY, "%s: nr=%u is in use", name, p->nr);
    }
    if (!p->nr && !p->console) {
        return err_set(err, EINVAL, "%s: nr=0 is for a virtconsole", name);
    }
    return 0;
}

static int port_name(const struct vser_port *p, struct err *err)
{
    const struct vser *s = p->serial;
    for (unsigned i = 0; p->name && i < s->max_ports; i++) {
        if (s->port[i] && s->port[i]->name && !strcmp(s->port[i]->name, p->name)) {
            return err_set(err, EEXIST, "%s: there are two ports with the name '%s'",
                           p->dev.type->name, p->name);
        }
    }
    return 0;
}

static int port_chardev(struct vser_port *p, struct err *err)
{
    struct dev *dev = &p->dev;
    if (!p->chardev_id) {
        return 0;
    }
    struct backend *b = machine_find_backend(dev->machine, "chardev", p->chardev_id);
    if (!b || b->taken) {
        return err_set(err, ENOENT, "%s: character device '%s' %s", dev->type->name, p->chardev_id,
                       b ? "is in use" : "does not exist");
    }
    b->taken = true;
    p->chardev = b->obj;
    return 0;
}

static int port_init(struct vser_port *p, bool console, struct err *err)
{
    p->serial = p->dev.bus->owner;
    p->console = console;
    int ret = port_number(p, err);
    ret = ret ? ret : port_name(p, err);
    ret = ret ? ret : port_chardev(p, err);
    if (ret) {
        return ret;
    }
    p->serial->port[p->nr] = p;
    p->host_open = console || (p->chardev && !p->chardev->closed);
    if (p->chardev) {
        chardev_attach(p->chardev, &port_user, p);
    }
    return 0;
}

static int console_init(struct dev *dev, struct err *err)
{
    return port_init(container_of(dev, struct vser_port, dev), true, err);
}

static int serialport_init(struct dev *dev, struct err *err)
{
    return port_init(container_of(dev, struct vser_port, dev), false, err);
}

static void port_fini(struct dev *dev)
{
    struct vser_port *p = container_of(dev, struct vser_port, dev);
    if (p->chardev) {
        chardev_attach(p->chardev, NULL, NULL);
    }
    if (p->serial && p->nr < p->serial->max_ports && p->serial->port[p->nr] == p) {
        p->serial->port[p->nr] = NULL;
    }
}

static const struct prop port_props[] = {
    {"chardev", PROP_TEXT, offsetof(struct vser_port, chardev_id), NULL, "character device"},
    {"name", PROP_TEXT, offsetof(struct vser_port, name), NULL, "by which the guest knows it"},
    {"nr", PROP_U32, offsetof(struct vser_port, nr), "4294967295",
     "number; by default the first free one"},
    {0},
};

/* ---- State ---- */

static const struct field vser_port_list[] = {
    FIELD(struct vser_port, dev, FIELD_HOST),
    FIELD(struct vser_port, chardev_id, FIELD_HOST),
    FIELD(struct vser_port, name, FIELD_HOST),
    FIELD(struct vser_port, nr, FIELD_CONFIG),
    FIELD(struct vser_port, console, FIELD_CONFIG),
    FIELD(struct vser_port, chardev, FIELD_HOST),
    FIELD(struct vser_port, serial, FIELD_HOST),
    FIELD(struct vser_port, host_open, FIELD_HOST),
    FIELD(struct vser_port, guest_open, FIELD_GUEST),
    FIELD(struct vser_port, rx_stopped, FIELD_HOST),
    FIELD(struct vser_port, due, FIELD_GUEST, .max = 2 * VSER_DUE_OPEN - 1),
    FIELD(struct vser_port, rest_at, FIELD_GUEST, .max = 1024),
    FIELD(struct vser_port, rest_len, FIELD_GUEST, .max = 1024),
    FIELD_ARRAY(struct vser_port, rest, FIELD_GUEST),
    FIELD(struct vser_port, held, FIELD_GUEST),
    FIELD(struct vser_port, held_at, FIELD_DERIVED),
    FIELD(struct vser_port, elem, FIELD_GUEST, .sub = &vq_elem_fields),
};

/* What was left to send of a buffer that was held is lost; the guest gets the buffer back. */
static int port_loaded(void *obj, struct err *err)
{
    struct vser_port *p = obj;
    if (p->rest_at + p->rest_len > sizeof(p->rest)) {
        return err_set(err, EINVAL, "state of virtio-serial-port: it holds too much");
    }
    p->held_at = 0;
    if (p->held) {
        AUTO_LOCK(&p->serial->v.lock);
        vser_port_tx(p);
    }
    return 0;
}

FIELD_SET(vser_port_fields, "virtio-serial-port", struct vser_port, vser_port_list, 1,
          .loaded = port_loaded);

const struct dev_type virtconsole_type = {
    .name = "virtconsole",
    .summary = "console port (hvc0)",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-serial-bus",
    .size = sizeof(struct vser_port),
    .state = &vser_port_fields,
    .props = port_props,
    .init = console_init,
    .fini = port_fini,
};

const struct dev_type virtserialport_type = {
    .name = "virtserialport",
    .summary = "port with a name, between a character device and the guest",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-serial-bus",
    .size = sizeof(struct vser_port),
    .state = &vser_port_fields,
    .props = port_props,
    .init = serialport_init,
    .fini = port_fini,
};
