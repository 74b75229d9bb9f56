/*
 * Virtqueues, split and packed: VIRTIO 1.2 sections 2.7 and 2.8, with indirect descriptors and
 * event suppression. Devices do not know which of the two they serve.
 * Everything in guest memory is hostile: each number is bounded before it is used. A queue that
 * the driver has broken is marked so and yields nothing more until it is reset.
 */
#ifndef DEV_VIRTIO_VIRTQUEUE_H
#define DEV_VIRTIO_VIRTQUEUE_H

#include <sys/uio.h>

#include "core/mem.h"

#define VQ_MAX_SIZE 256
#define VQ_MAX_SEGS 256 /* per request, over direct and indirect descriptors */

struct vq_ring;

struct vq {
    struct mem_map *mem;
    const struct vq_ring *ring; /* while ready */
    uint16_t max, size;
    bool ready, broken;
    bool event_idx, indirect, packed; /* negotiated */
    gpa_t desc, avail, used; /* packed: the ring, the driver's and the device's event area */
    struct gmem_span desc_span, avail_span, used_span; /* while ready */
    uint16_t last_avail; /* next entry of the available ring to take; packed: next slot */
    uint16_t used_idx;   /* packed: next slot to use */
    uint16_t signalled;  /* used_idx when the driver was last interrupted; packed: slots since */
    bool signalled_valid;
    bool avail_wrap, used_wrap; /* packed: wrap counters */
};

/* One request: what the driver lets us read (`out`), then what we may write (`in`). */
struct vq_elem {
    uint16_t head;                /* what the driver knows it by; packed: the buffer ID */
    uint16_t slots;               /* of the ring that it takes */
    unsigned out_count, in_count; /* of the vectors */
    uint64_t out_len, in_len;
    struct iovec *out, *in; /* point into iov */
    struct ram *in_ram[VQ_MAX_SEGS];
    struct iovec iov[VQ_MAX_SEGS];
};

/* Maps the rings; false (and broken) when they are not in RAM or misaligned. */
bool vq_enable(struct vq *vq);
void vq_reset(struct vq *vq);

bool vq_empty(struct vq *vq);
/* Takes the next request. False: none, or the queue is broken. */
bool vq_pop(struct vq *vq, struct vq_elem *elem);
/* Gives it back with `len` bytes written to `in`. */
void vq_push(struct vq *vq, const struct vq_elem *elem, uint32_t len);
/* After pushes: whether the driver wants an interrupt. */
bool vq_should_signal(struct vq *vq);
/* Asks the driver to kick for the next request, or not to; after asking, look again. */
void vq_want_kick(struct vq *vq, bool on);

/* Copies to and from the vectors; returns the number of bytes. */
uint64_t iov_read(const struct iovec *iov, unsigned count, uint64_t skip, void *buf, uint64_t len);
uint64_t iov_write(const struct iovec *iov, unsigned count, uint64_t skip, const void *buf,
                   uint64_t len);

extern const struct field_set vq_fields; /* struct vq */

extern const struct field_set vq_elem_fields; /* struct vq_elem */

#endif
