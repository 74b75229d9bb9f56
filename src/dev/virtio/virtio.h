/*
 * A virtio device as its transport sees it, and a transport as a device sees it.
 * VIRTIO 1.2 sections 2 and 3: status, features, configuration space, queues. Modern devices
 * only: VIRTIO_F_VERSION_1 must be accepted.
 */
#ifndef DEV_VIRTIO_VIRTIO_H
#define DEV_VIRTIO_VIRTIO_H

#include <pthread.h>

#include "core/device.h"
#include "dev/virtio/virtqueue.h"

#define VIRTIO_MAX_QUEUES 64

enum {
    VIRTIO_F_INDIRECT_DESC = 28,
    VIRTIO_F_EVENT_IDX = 29,
    VIRTIO_F_VERSION_1 = 32,
    VIRTIO_F_RING_PACKED = 34,
    VIRTIO_STATUS_ACKNOWLEDGE = 1,
    VIRTIO_STATUS_DRIVER = 2,
    VIRTIO_STATUS_DRIVER_OK = 4,
    VIRTIO_STATUS_FEATURES_OK = 8,
    VIRTIO_STATUS_NEEDS_RESET = 64,
    VIRTIO_STATUS_FAILED = 128,
    VIRTIO_INT_QUEUE = 1,
    VIRTIO_INT_CONFIG = 2,
};

struct pci_func;
struct virtio;

struct virtio_type {
    uint32_t id; /* VIRTIO 1.2 section 5 */
    unsigned queues;
    uint16_t queue_size;
    uint32_t config_size;
    /* On a vcpu's thread; `lock` is not held. Work per call is bounded. */
    void (*kick)(struct virtio *v, unsigned queue);
    /* The driver has reset the device, or the machine was: nothing may be in flight after it.
     * `lock` is held; may be released and taken again while waiting. */
    void (*reset)(struct virtio *v);
    /* The driver is ready; `lock` held. May be NULL. */
    void (*ready)(struct virtio *v);
    /* After a write into `config` at off, len; `lock` held. May be NULL: read only. */
    void (*config_written)(struct virtio *v, uint32_t off, uint32_t len);
};

struct virtio {
    const struct virtio_type *type;
    struct dev *dev;
    pthread_mutex_t lock;       /* all below, and the device's own state */
    uint64_t offered, accepted; /* feature bits */
    uint8_t status;
    uint8_t isr;
    uint32_t config_generation;
    uint8_t config[64];
    bool legacy;     /* the driver came by the legacy interface: no VERSION_1 */
    unsigned queues; /* type's, or fewer, set before virtio_init() */
    struct vq queue[VIRTIO_MAX_QUEUES];
    struct virtio_bus *bus;
};

#define VIRTIO_CONFIG_EVENT (-1)

/* A transport's side: a bus with room for one device. */
struct virtio_bus {
    struct bus bus; /* owner: this struct */
    char id[32];
    struct mem_map *mem;  /* for DMA */
    struct virtio *vdev;  /* NULL: empty */
    struct pci_func *pci; /* of the transport; NULL: none */
    const char *dev_id;   /* the transport's own id, or NULL */
    bool packed;          /* packed virtqueues are offered */
    /* `isr` has the bits; `event` is a queue, VIRTIO_CONFIG_EVENT, or none at a reset, when the
     * line has to fall; the device's lock is held. */
    void (*interrupt)(struct virtio_bus *bus, int event);
};

#define VIRTIO_NO_EVENT (-2)

extern const struct bus_type virtio_bus_type; /* "virtio-bus" */

void virtio_bus_init(struct virtio_bus *bus, const char *id, struct mem_map *mem,
                     void (*interrupt)(struct virtio_bus *, int));

/* In a device's init(): takes the bus's slot. `features` are the device's own bits. */
int virtio_init(struct virtio *v, struct dev *dev, const struct virtio_type *type,
                uint64_t features, struct err *err);
void virtio_fini(struct virtio *v);
void virtio_reset(struct virtio *v); /* takes the lock */

/* `lock` held. */
bool virtio_running(const struct virtio *v);         /* DRIVER_OK and not broken */
void virtio_signal(struct virtio *v, struct vq *vq); /* interrupt if the driver wants one */
void virtio_config_changed(struct virtio *v);
void virtio_check_broken(struct virtio *v, struct vq *vq); /* after a pop that gave nothing */

/* For transports; `lock` held. */
void virtio_set_status(struct virtio *v, uint8_t status);
void virtio_queue_ready(struct virtio *v, unsigned n, bool on);
/* Configuration space; what lies outside reads as 0. */
uint64_t virtio_config_read(struct virtio *v, uint64_t off, unsigned size);
void virtio_config_write(struct virtio *v, uint64_t off, unsigned size, uint64_t val);

extern const struct field_set virtio_fields; /* struct virtio */

#endif
