/* Inside of virtqueues: what the two forms of ring share. */
#ifndef DEV_VIRTIO_VQ_RING_H
#define DEV_VIRTIO_VQ_RING_H

#include <stdatomic.h>

#include "base/endian.h"
#include "dev/virtio/virtqueue.h"

enum {
    DESC_NEXT = 1,
    DESC_WRITE = 2,
    DESC_INDIRECT = 4,
    DESC_SIZE = 16,
};

/* A form of ring. All but enable() are called for usable queues only. */
struct vq_ring {
    bool (*enable)(struct vq *vq); /* maps the rings; false: not in RAM, or misaligned */
    bool (*empty)(struct vq *vq);
    /* There is a request. Fills `elem`, whose counts are zero; false: the driver broke the queue.
     */
    bool (*pop)(struct vq *vq, struct vq_elem *elem);
    void (*push)(struct vq *vq, const struct vq_elem *elem, uint32_t len);
    bool (*should_signal)(struct vq *vq);
    void (*want_kick)(struct vq *vq, bool on);
};

extern const struct vq_ring vq_split, vq_packed;

/* What both forms' descriptors say of one buffer. */
struct vq_buffer {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
};

/* All of it in one piece of RAM. */
bool vq_map(struct vq *vq, gpa_t gpa, uint64_t len, unsigned align, struct gmem_span *span);
/* False: not RAM, too many pieces, or readable behind writable. */
bool vq_elem_add(struct vq *vq, struct vq_elem *elem, const struct vq_buffer *b);
/* The table of an indirect descriptor: how many entries; 0: it is none that may be. */
unsigned vq_indirect(struct vq *vq, const struct vq_buffer *b, struct gmem_span *span);

static inline uint16_t vq_load16(const uint8_t *p)
{
    return le16toh(atomic_load_explicit((const _Atomic uint16_t *)p, memory_order_acquire));
}

static inline void vq_store16(uint8_t *p, uint16_t v)
{
    atomic_store_explicit((_Atomic uint16_t *)p, htole16(v), memory_order_release);
}

#endif
