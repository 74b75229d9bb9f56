/* The virtio devices. */
#ifndef DEV_VIRTIO_VIRTIO_DEVICES_H
#define DEV_VIRTIO_VIRTIO_DEVICES_H

#include "core/device.h"

extern const struct dev_type virtio_blk_type, virtio_rng_type, virtio_scsi_type, virtio_serial_type,
    virtconsole_type, virtserialport_type, virtio_balloon_type, virtio_gpu_type;

#endif
