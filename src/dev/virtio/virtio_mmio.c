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
#include "core/fields.h"

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

static void virtio_mmio_interrupt(struct virtio_bus *bus, int event)
{
    struct virtio_mmio *t = container_of(bus, struct virtio_mmio, bus);
    irq_set(&t->irq, bus->vdev->isr != 0);
}

void virtio_mmio_init(struct virtio_mmio *t, unsigned n, struct mem_map *mem)
{
    char id[24];
    snprintf(id, sizeof(id), "virtio-mmio-bus.%u", n);
    virtio_bus_init(&t->bus, id, mem, virtio_mmio_interrupt);
}

void virtio_mmio_reset(struct virtio_mmio *t)
{
    t->device_features_sel = t->driver_features_sel = t->queue_sel = 0;
    if (t->bus.vdev) {
        virtio_reset(t->bus.vdev);
    }
}

static struct vq *selected(struct virtio_mmio *t)
{
    return t->queue_sel < t->bus.vdev->queues ? &t->bus.vdev->queue[t->queue_sel] : NULL;
}

static uint32_t half(uint64_t v, uint32_t sel)
{
    return sel < 2 ? (uint32_t)(v >> sel * 32) : 0;
}

static uint32_t reg_read(struct virtio_mmio *t, uint64_t off)
{
    struct virtio *v = t->bus.vdev;
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
        virtio_queue_ready(t->bus.vdev, t->queue_sel, val & 1);
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
    struct virtio *v = t->bus.vdev;
    if (t->driver_features_sel < 2 && !(v->status & VIRTIO_STATUS_FEATURES_OK)) {
        put_half(&v->accepted, t->driver_features_sel * 4, val);
    }
}

static void reg_write(struct virtio_mmio *t, uint64_t off, uint32_t val)
{
    struct virtio *v = t->bus.vdev;
    switch (off) {
    case REG_DEVICE_FEATURES_SEL: t->device_features_sel = val; break;
    case REG_DRIVER_FEATURES: features_write(t, val); break;
    case REG_DRIVER_FEATURES_SEL: t->driver_features_sel = val; break;
    case REG_QUEUE_SEL: t->queue_sel = val; break;
    case REG_INTERRUPT_ACK:
        v->isr &= (uint8_t)~val;
        v->bus->interrupt(v->bus, VIRTIO_NO_EVENT);
        break;
    case REG_STATUS: virtio_set_status(v, (uint8_t)val); break;
    default: queue_write(t, off, val);
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
        *val = t->bus.vdev ? t->bus.vdev->type->id : 0; /* 0: a placeholder */
        return MEM_OK;
    case REG_VENDOR_ID: *val = VENDOR; return MEM_OK;
    }
    if (t->bus.vdev) {
        AUTO_LOCK(&t->bus.vdev->lock);
        *val = off < REG_CONFIG ? reg_read(t, off)
                                : virtio_config_read(t->bus.vdev, off - REG_CONFIG, size);
    }
    return MEM_OK;
}

static enum mem_result virtio_mmio_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct virtio_mmio *t = dev;
    if (!t->bus.vdev || (off < REG_CONFIG && size != 4)) {
        return MEM_OK;
    }
    if (off == REG_QUEUE_NOTIFY) {
        if (val < t->bus.vdev->queues) {
            t->bus.vdev->type->kick(t->bus.vdev, (unsigned)val);
        }
        return MEM_OK;
    }
    AUTO_LOCK(&t->bus.vdev->lock);
    if (off < REG_CONFIG) {
        reg_write(t, off, (uint32_t)val);
    } else {
        virtio_config_write(t->bus.vdev, off - REG_CONFIG, size, val);
    }
    return MEM_OK;
}

const struct mmio virtio_mmio_regs = {virtio_mmio_read, virtio_mmio_write, 1, 4};

/* ---- State ---- */

static const struct field virtio_mmio_list[] = {
    FIELD(struct virtio_mmio, bus, FIELD_HOST),
    FIELD(struct virtio_mmio, irq, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct virtio_mmio, device_features_sel, FIELD_GUEST),
    FIELD(struct virtio_mmio, driver_features_sel, FIELD_GUEST),
    FIELD(struct virtio_mmio, queue_sel, FIELD_GUEST),
};

FIELD_SET_SHARED(virtio_mmio_fields, "virtio-mmio", struct virtio_mmio, virtio_mmio_list, 1);
