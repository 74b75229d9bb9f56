/* What all virtio devices share. */
#include "dev/virtio/virtio.h"

#include <assert.h>
#include <errno.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "dev/virtio/virtio_mmio.h"

int virtio_init(struct virtio *v, struct dev *dev, const struct virtio_type *type,
                uint64_t features, struct err *err)
{
    assert(type->queues <= VIRTIO_MAX_QUEUES && type->config_size <= sizeof(v->config));
    pthread_mutex_init(&v->lock, NULL);
    v->type = type;
    v->dev = dev;
    v->offered =
        features | BIT(VIRTIO_F_INDIRECT_DESC) | BIT(VIRTIO_F_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1);
    v->queues = v->queues ? v->queues : type->queues;
    for (unsigned i = 0; i < v->queues; i++) {
        v->queue[i].mem = virtio_mmio_mem(dev->bus);
        v->queue[i].max = type->queue_size;
        vq_reset(&v->queue[i]);
    }
    virtio_mmio_plug(dev->bus, v);
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
    v->changed(v);
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

static void virtio_interrupt(struct virtio *v, uint8_t bit)
{
    v->isr |= bit;
    v->changed(v);
}

void virtio_signal(struct virtio *v, struct vq *vq)
{
    if (vq_should_signal(vq)) {
        virtio_interrupt(v, VIRTIO_INT_QUEUE);
    }
}

void virtio_config_changed(struct virtio *v)
{
    v->config_generation++;
    if (v->status & VIRTIO_STATUS_DRIVER_OK) {
        virtio_interrupt(v, VIRTIO_INT_CONFIG);
    }
}

void virtio_check_broken(struct virtio *v, struct vq *vq)
{
    if (vq->broken && !(v->status & VIRTIO_STATUS_NEEDS_RESET)) {
        log_guest(&v->dev->rate, v->dev->type->name, "the driver broke queue %u\n",
                  (unsigned)(vq - v->queue));
        v->status |= VIRTIO_STATUS_NEEDS_RESET;
        if (v->status & VIRTIO_STATUS_DRIVER_OK) {
            virtio_interrupt(v, VIRTIO_INT_CONFIG);
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
    if (features_now && ((v->accepted & ~v->offered) || !(v->accepted & BIT(VIRTIO_F_VERSION_1)))) {
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
    vq_enable(vq);
    virtio_check_broken(v, vq);
}
