/*
 * The MMIO transport: VIRTIO 1.2 section 4.2, version 2 registers.
 * Does not do: the legacy interface (version 1), shared memory regions, queue reset.
 */
#include "dev/virtio/virtio_mmio.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"

enum {
    REG_MAGIC = 0x000,
    REG_VERSION = 0x004,
    REG_DEVICE_ID = 0x008,
    REG_VENDOR_ID = 0x00c,
    REG_DEVICE_FEATURES = 0x010,
    REG_DEVICE_FEATURES_SEL = 0x014,
    REG_DRIVER_FEATURES = 0x020,
    REG_DRIVER_FEATURES_SEL = 0x024,
    REG_QUEUE_SEL = 0x030,
    REG_QUEUE_NUM_MAX = 0x034,
    REG_QUEUE_NUM = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_QUEUE_NOTIFY = 0x050,
    REG_INTERRUPT_STATUS = 0x060,
    REG_INTERRUPT_ACK = 0x064,
    REG_STATUS = 0x070,
    REG_QUEUE_DESC = 0x080,
    REG_QUEUE_AVAIL = 0x090,
    REG_QUEUE_USED = 0x0a0,
    REG_SHM_LEN = 0x0b0,
    REG_SHM_END = 0x0c0,
    REG_CONFIG_GENERATION = 0x0fc,
    REG_CONFIG = 0x100,
    MAGIC = 0x74726976,
    VENDOR = 0x47444f4c,
};

static int virtio_mmio_attach(struct bus *bus, struct dev *dev, struct err *err)
{
    struct virtio_mmio *t = bus->owner;
    if (bus->full) {
        return err_set(err, EBUSY, "%s: all virtio-mmio transports are in use", dev->type->name);
    }
    t->bus.full = true;
    return 0;
}

const struct bus_type virtio_mmio_bus_type = {"virtio-bus", virtio_mmio_attach};

void virtio_mmio_init(struct virtio_mmio *t, unsigned n, struct mem_map *mem)
{
    snprintf(t->id, sizeof(t->id), "virtio-mmio-bus.%u", n);
    t->bus = (struct bus){.type = &virtio_mmio_bus_type, .id = t->id, .owner = t};
    t->mem = mem;
}

struct mem_map *virtio_mmio_mem(struct bus *bus)
{
    return ((struct virtio_mmio *)bus->owner)->mem;
}

static void virtio_mmio_changed(struct virtio *v)
{
    struct virtio_mmio *t = v->transport;
    irq_set(&t->irq, v->isr != 0);
}

void virtio_mmio_plug(struct bus *bus, struct virtio *v)
{
    struct virtio_mmio *t = bus->owner;
    v->transport = t;
    v->changed = virtio_mmio_changed;
    t->vdev = v;
}

void virtio_mmio_reset(struct virtio_mmio *t)
{
    t->device_features_sel = t->driver_features_sel = t->queue_sel = 0;
    if (t->vdev) {
        virtio_reset(t->vdev);
    }
}

static struct vq *selected(struct virtio_mmio *t)
{
    return t->queue_sel < t->vdev->queues ? &t->vdev->queue[t->queue_sel] : NULL;
}

static uint32_t half(uint64_t v, uint32_t sel)
{
    return sel < 2 ? (uint32_t)(v >> sel * 32) : 0;
}

static uint32_t reg_read(struct virtio_mmio *t, uint64_t off)
{
    struct virtio *v = t->vdev;
    struct vq *vq = selected(t);
    switch (off) {
    case REG_DEVICE_FEATURES: return half(v->offered, t->device_features_sel);
    case REG_QUEUE_NUM_MAX: return vq ? vq->max : 0;
    case REG_QUEUE_READY: return vq ? vq->ready : 0;
    case REG_INTERRUPT_STATUS: return v->isr;
    case REG_STATUS: return v->status;
    case REG_SHM_LEN ... REG_SHM_END - 4: return 0xffffffff; /* no shared memory */
    case REG_CONFIG_GENERATION: return v->config_generation;
    default: return 0;
    }
}

static void put_half(uint64_t *to, uint64_t off, uint32_t val)
{
    unsigned shift = off & 4 ? 32 : 0;
    *to = (*to & ~(0xffffffffull << shift)) | (uint64_t)val << shift;
}

/* Addresses and size of a queue are fixed while it is in use. */
static void queue_write(struct virtio_mmio *t, uint64_t off, uint32_t val)
{
    struct vq *vq = selected(t);
    if (!vq) {
        return;
    }
    if (off == REG_QUEUE_READY) {
        virtio_queue_ready(t->vdev, t->queue_sel, val & 1);
        return;
    }
    if (vq->ready) {
        return;
    }
    switch (off & ~4ull) {
    case REG_QUEUE_NUM & ~4: vq->size = val <= vq->max ? (uint16_t)val : 0; break;
    case REG_QUEUE_DESC: put_half(&vq->desc, off, val); break;
    case REG_QUEUE_AVAIL: put_half(&vq->avail, off, val); break;
    case REG_QUEUE_USED: put_half(&vq->used, off, val); break;
    }
}

static void features_write(struct virtio_mmio *t, uint32_t val)
{
    struct virtio *v = t->vdev;
    if (t->driver_features_sel < 2 && !(v->status & VIRTIO_STATUS_FEATURES_OK)) {
        put_half(&v->accepted, t->driver_features_sel * 4, val);
    }
}

static void reg_write(struct virtio_mmio *t, uint64_t off, uint32_t val)
{
    struct virtio *v = t->vdev;
    switch (off) {
    case REG_DEVICE_FEATURES_SEL: t->device_features_sel = val; break;
    case REG_DRIVER_FEATURES: features_write(t, val); break;
    case REG_DRIVER_FEATURES_SEL: t->driver_features_sel = val; break;
    case REG_QUEUE_SEL: t->queue_sel = val; break;
    case REG_INTERRUPT_ACK:
        v->isr &= (uint8_t)~val;
        v->changed(v);
        break;
    case REG_STATUS: virtio_set_status(v, (uint8_t)val); break;
    default: queue_write(t, off, val);
    }
}

static uint64_t config_read(struct virtio *v, uint64_t off, unsigned size)
{
    uint64_t val = 0;
    off -= REG_CONFIG;
    if (off < v->type->config_size && size <= v->type->config_size - off) {
        memcpy(&val, v->config + off, size);
    }
    return val;
}

static void config_write(struct virtio *v, uint64_t off, unsigned size, uint64_t val)
{
    off -= REG_CONFIG;
    if (v->type->config_written && off < v->type->config_size &&
        size <= v->type->config_size - off) {
        memcpy(v->config + off, &val, size);
        v->type->config_written(v, (uint32_t)off, size);
    }
}

static enum mem_result virtio_mmio_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct virtio_mmio *t = dev;
    *val = 0;
    if (off < REG_CONFIG && size != 4) {
        return MEM_OK;
    }
    switch (off) {
    case REG_MAGIC: *val = MAGIC; return MEM_OK;
    case REG_VERSION: *val = 2; return MEM_OK;
    case REG_DEVICE_ID:
        *val = t->vdev ? t->vdev->type->id : 0; /* 0: a placeholder */
        return MEM_OK;
    case REG_VENDOR_ID: *val = VENDOR; return MEM_OK;
    }
    if (t->vdev) {
        AUTO_LOCK(&t->vdev->lock);
        *val = off < REG_CONFIG ? reg_read(t, off) : config_read(t->vdev, off, size);
    }
    return MEM_OK;
}

static enum mem_result virtio_mmio_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct virtio_mmio *t = dev;
    if (!t->vdev || (off < REG_CONFIG && size != 4)) {
        return MEM_OK;
    }
    if (off == REG_QUEUE_NOTIFY) {
        if (val < t->vdev->queues) {
            t->vdev->type->kick(t->vdev, (unsigned)val);
        }
        return MEM_OK;
    }
    AUTO_LOCK(&t->vdev->lock);
    if (off < REG_CONFIG) {
        reg_write(t, off, (uint32_t)val);
    } else {
        config_write(t->vdev, off, size, val);
    }
    return MEM_OK;
}

const struct mmio virtio_mmio_regs = {virtio_mmio_read, virtio_mmio_write, 1, 4};
