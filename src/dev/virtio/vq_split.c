/* Split virtqueues: VIRTIO 1.2 section 2.7. */
#include <string.h>

#include "dev/virtio/vq_ring.h"

enum { AVAIL_NO_INTERRUPT = 1, USED_NO_NOTIFY = 1 };

/* Two-byte fields of the rings: VIRTIO 1.2 2.7.6 and 2.7.8. */
static uint8_t *avail_at(const struct vq *vq, unsigned off)
{
    return vq->avail_span.host + off;
}

static uint8_t *used_at(const struct vq *vq, unsigned off)
{
    return vq->used_span.host + off;
}

static bool split_enable(struct vq *vq)
{
    uint64_t n = vq->size;
    vq->signalled = 0;
    vq->signalled_valid = false;
    return !(n & (n - 1)) && vq_map(vq, vq->desc, n * DESC_SIZE, 16, &vq->desc_span) &&
           vq_map(vq, vq->avail, 6 + 2 * n, 2, &vq->avail_span) &&
           vq_map(vq, vq->used, 6 + 8 * n, 4, &vq->used_span);
}

static bool split_empty(struct vq *vq)
{
    return vq_load16(avail_at(vq, 2)) == vq->last_avail;
}

static void desc_parse(const uint8_t *p, struct vq_buffer *b, uint16_t *next)
{
    uint8_t copy[DESC_SIZE]; /* once: the guest may change it under us */
    memcpy(copy, p, sizeof(copy));
    b->addr = load_le64(copy);
    b->len = load_le32(copy + 8);
    b->flags = load_le16(copy + 12);
    *next = load_le16(copy + 14);
}

/* Follows a chain in one table; at most as many steps as the table has entries. */
static bool elem_chain(struct vq *vq, struct vq_elem *e, const uint8_t *table, unsigned size,
                       unsigned at, bool nested)
{
    struct vq_buffer b;
    uint16_t next;
    for (unsigned steps = 0; steps < size && at < size; steps++) {
        desc_parse(table + at * DESC_SIZE, &b, &next);
        if (b.flags & DESC_INDIRECT) {
            struct gmem_span span;
            unsigned n = nested ? 0 : vq_indirect(vq, &b, &span);
            return n && elem_chain(vq, e, span.host, n, 0, true);
        }
        if (!vq_elem_add(vq, e, &b)) {
            return false;
        }
        if (!(b.flags & DESC_NEXT)) {
            return true;
        }
        at = next;
    }
    return false; /* a loop, or an index outside of the table */
}

static bool split_pop(struct vq *vq, struct vq_elem *e)
{
    uint16_t pending = (uint16_t)(vq_load16(avail_at(vq, 2)) - vq->last_avail);
    uint16_t head = vq_load16(avail_at(vq, 4 + 2 * (vq->last_avail % vq->size)));
    e->head = head;
    e->slots = 1;
    if (pending > vq->size || head >= vq->size ||
        !elem_chain(vq, e, vq->desc_span.host, vq->size, head, false)) {
        return false;
    }
    vq->last_avail++;
    return true;
}

static void split_push(struct vq *vq, const struct vq_elem *e, uint32_t len)
{
    uint8_t *slot = used_at(vq, 4 + 8u * (vq->used_idx % vq->size));
    store_le32(slot, e->head);
    store_le32(slot + 4, len);
    vq->used_idx++;
    vq_store16(used_at(vq, 2), vq->used_idx);
    gmem_wrote(&vq->used_span);
}

/* VIRTIO 1.2 2.7.7.2 and 2.7.10 */
static bool split_should_signal(struct vq *vq)
{
    if (!vq->event_idx) {
        return !(vq_load16(avail_at(vq, 0)) & AVAIL_NO_INTERRUPT);
    }
    uint16_t event = vq_load16(avail_at(vq, 4 + 2u * vq->size));
    uint16_t old = vq->signalled, now = vq->used_idx;
    bool first = !vq->signalled_valid;
    vq->signalled = now;
    vq->signalled_valid = true;
    return first || (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

static void split_want_kick(struct vq *vq, bool on)
{
    if (!vq->event_idx) {
        vq_store16(used_at(vq, 0), on ? 0 : USED_NO_NOTIFY);
    } else if (on) {
        vq_store16(used_at(vq, 4 + 8u * vq->size), vq->last_avail);
    }
}

const struct vq_ring vq_split = {
    .enable = split_enable,
    .empty = split_empty,
    .pop = split_pop,
    .push = split_push,
    .should_signal = split_should_signal,
    .want_kick = split_want_kick,
};
