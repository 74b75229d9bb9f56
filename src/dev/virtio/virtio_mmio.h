/* Virtio over memory-mapped registers: each transport is a bus with room for one device. */
#ifndef DEV_VIRTIO_VIRTIO_MMIO_H
#define DEV_VIRTIO_VIRTIO_MMIO_H

#include "core/device.h"
#include "core/irq.h"
#include "dev/virtio/virtio.h"

#define VIRTIO_MMIO_SIZE 0x200

struct virtio_mmio {
    struct virtio_bus bus;
    struct irq irq;
    uint32_t device_features_sel, driver_features_sel, queue_sel;
};

extern const struct mmio virtio_mmio_regs; /* dev: struct virtio_mmio */

void virtio_mmio_init(struct virtio_mmio *t, unsigned n, struct mem_map *mem);
void virtio_mmio_reset(struct virtio_mmio *t);

extern const struct field_set virtio_mmio_fields; /* struct virtio_mmio */

#endif
