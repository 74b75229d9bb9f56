/* What all virtio devices share. */
#include "dev/virtio/virtio.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "state/field.h"

static int virtio_attach(struct bus *bus, struct dev *dev, struct err *err)
{
    if (bus->full) {
        return err_set(err, EBUSY, "%s: all virtio transports are in use", dev->type->name);
    }
    bus->full = true;
    return 0;
}

const struct bus_type virtio_bus_type = {"virtio-bus", virtio_attach};

void virtio_bus_init(struct virtio_bus *bus, const char *id, struct mem_map *mem,
                     void (*interrupt)(struct virtio_bus *, int))
{
    snprintf(bus->id, sizeof(bus->id), "%s", id);
    bus->bus = (struct bus){.type = &virtio_bus_type, .id = bus->id, .owner = bus};
    bus->mem = mem;
    bus->interrupt = interrupt;
}

int virtio_init(struct virtio *v, struct dev *dev, const struct virtio_type *type,
                uint64_t features, struct err *err)
{
    assert(type->queues <= VIRTIO_MAX_QUEUES && type->config_size <= sizeof(v->config));
    pthread_mutex_init(&v->lock, NULL);
    v->type = type;
    v->dev = dev;
    v->bus = dev->bus->owner;
    v->offered = features | BIT(VIRTIO_F_INDIRECT_DESC) | BIT(VIRTIO_F_EVENT_IDX) |
                 BIT(VIRTIO_F_VERSION_1) | (v->bus->packed ? BIT(VIRTIO_F_RING_PACKED) : 0);
    v->queues = v->queues ? v->queues : type->queues;
    for (unsigned i = 0; i < v->queues; i++) {
        v->queue[i].mem = v->bus->mem;
        v->queue[i].max = type->queue_size;
        vq_reset(&v->queue[i]);
    }
    v->bus->vdev = v;
    return 0;
}

void virtio_fini(struct virtio *v)
{
    if (v->type) {
        pthread_mutex_destroy(&v->lock);
    }
}

static void virtio_reset_locked(struct virtio *v)
{
    v->status = 0;
    if (v->type->reset) {
        v->type->reset(v);
    }
    for (unsigned i = 0; i < v->queues; i++) {
        vq_reset(&v->queue[i]);
    }
    v->accepted = 0;
    v->isr = 0;
    v->legacy = false;
    v->bus->interrupt(v->bus, VIRTIO_NO_EVENT);
}

void virtio_reset(struct virtio *v)
{
    AUTO_LOCK(&v->lock);
    virtio_reset_locked(v);
}

bool virtio_running(const struct virtio *v)
{
    return (v->status & VIRTIO_STATUS_DRIVER_OK) && !(v->status & VIRTIO_STATUS_NEEDS_RESET);
}

static void virtio_interrupt(struct virtio *v, uint8_t bit, int event)
{
    v->isr |= bit;
    v->bus->interrupt(v->bus, event);
}

void virtio_signal(struct virtio *v, struct vq *vq)
{
    if (vq_should_signal(vq)) {
        virtio_interrupt(v, VIRTIO_INT_QUEUE, (int)(vq - v->queue));
    }
}

void virtio_config_changed(struct virtio *v)
{
    v->config_generation++;
    if (v->status & VIRTIO_STATUS_DRIVER_OK) {
        virtio_interrupt(v, VIRTIO_INT_CONFIG, VIRTIO_CONFIG_EVENT);
    }
}

void virtio_check_broken(struct virtio *v, struct vq *vq)
{
    if (vq->broken && !(v->status & VIRTIO_STATUS_NEEDS_RESET)) {
        log_guest(&v->dev->rate, v->dev->type->name, "the driver broke queue %u\n",
                  (unsigned)(vq - v->queue));
        v->status |= VIRTIO_STATUS_NEEDS_RESET;
        if (v->status & VIRTIO_STATUS_DRIVER_OK) {
            virtio_interrupt(v, VIRTIO_INT_CONFIG, VIRTIO_CONFIG_EVENT);
        }
    }
}

/* VIRTIO 1.2 3.1.1: FEATURES_OK stays only if the device can live with what was accepted. */
void virtio_set_status(struct virtio *v, uint8_t status)
{
    if (!status) {
        virtio_reset_locked(v);
        return;
    }
    bool features_now = (status & ~v->status) & VIRTIO_STATUS_FEATURES_OK;
    bool ready_now = (status & ~v->status) & VIRTIO_STATUS_DRIVER_OK;
    bool modern = v->legacy || v->accepted & BIT(VIRTIO_F_VERSION_1);
    if (features_now && ((v->accepted & ~v->offered) || !modern)) {
        status &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    }
    v->status = status | (v->status & VIRTIO_STATUS_NEEDS_RESET);
    if (ready_now && v->type->ready) {
        v->type->ready(v);
    }
}

void virtio_queue_ready(struct virtio *v, unsigned n, bool on)
{
    struct vq *vq = &v->queue[n];
    if (!on) {
        vq->ready = false;
        return;
    }
    if (vq->ready) {
        return;
    }
    vq->event_idx = v->accepted & BIT(VIRTIO_F_EVENT_IDX);
    vq->indirect = v->accepted & BIT(VIRTIO_F_INDIRECT_DESC);
    vq->packed = v->accepted & BIT(VIRTIO_F_RING_PACKED);
    vq_enable(vq);
    virtio_check_broken(v, vq);
}

uint64_t virtio_config_read(struct virtio *v, uint64_t off, unsigned size)
{
    uint64_t val = 0;
    if (off < v->type->config_size && size <= v->type->config_size - off) {
        memcpy(&val, v->config + off, size);
    }
    return val;
}

void virtio_config_write(struct virtio *v, uint64_t off, unsigned size, uint64_t val)
{
    if (v->type->config_written && off < v->type->config_size &&
        size <= v->type->config_size - off) {
        memcpy(v->config + off, &val, size);
        v->type->config_written(v, (uint32_t)off, size);
    }
}

/* ---- State ---- */

static const struct field virtio_list[] = {
    FIELD(struct virtio, type, FIELD_HOST),
    FIELD(struct virtio, dev, FIELD_HOST),
    FIELD(struct virtio, lock, FIELD_HOST),
    FIELD(struct virtio, offered, FIELD_CONFIG),
    FIELD(struct virtio, accepted, FIELD_GUEST),
    FIELD(struct virtio, status, FIELD_GUEST),
    FIELD(struct virtio, isr, FIELD_GUEST),
    FIELD(struct virtio, config_generation, FIELD_GUEST),
    FIELD_ARRAY(struct virtio, config, FIELD_GUEST),
    FIELD(struct virtio, legacy, FIELD_GUEST),
    FIELD(struct virtio, queues, FIELD_CONFIG),
    FIELD_FIRST(struct virtio, queue, queues, FIELD_GUEST, .sub = &vq_fields),
    FIELD(struct virtio, bus, FIELD_HOST),
};

static int virtio_loaded(void *obj, struct err *err)
{
    const struct virtio *v = obj;
    if ((v->status & VIRTIO_STATUS_FEATURES_OK) && (v->accepted & ~v->offered)) {
        return err_set(err, EINVAL, "state of virtio: the driver has features that are not there");
    }
    return 0;
}

FIELD_SET_SHARED(virtio_fields, "virtio", struct virtio, virtio_list, 1, .loaded = virtio_loaded);
