/*
 * Packed virtqueues: VIRTIO 1.2 section 2.8. One ring of descriptors, in which a request's place is
 * taken by its used descriptor; whose turn a descriptor is, is told by two flags and by counters
 * that change with each round of the ring. Two more structures hold interrupts and kicks back.
 *
 * A descriptor is available if the first of its chain is: flags of the others that tell turns are
 * not looked at (the driver writes the first one last, 2.8.6). Buffer IDs are the driver's own
 * numbers: they go back as they came and index nothing here.
 */
#include <string.h>

#include "dev/virtio/vq_ring.h"

enum {
    DESC_AVAIL = 1 << 7,
    DESC_USED = 1 << 15,
    OFF_LEN = 8,
    OFF_ID = 12,
    OFF_FLAGS = 14,
    /* Event suppression structures, 2.8.10. */
    EVENT_SIZE = 4,
    EVENT_FLAGS = 2, /* offset; at 0: the descriptor */
    EVENT_ENABLE = 0,
    EVENT_DISABLE = 1,
    EVENT_DESC = 2,
    EVENT_WRAP = 1 << 15,
};

static uint8_t *slot_at(const struct vq *vq, unsigned n)
{
    return vq->desc_span.host + n * DESC_SIZE;
}

static bool packed_enable(struct vq *vq)
{
    vq->signalled = 0;
    vq->avail_wrap = vq->used_wrap = true; /* 2.8.1 */
    return vq_map(vq, vq->desc, vq->size * DESC_SIZE, 16, &vq->desc_span) &&
           vq_map(vq, vq->avail, EVENT_SIZE, 4, &vq->avail_span) &&
           vq_map(vq, vq->used, EVENT_SIZE, 4, &vq->used_span);
}

static bool packed_empty(struct vq *vq)
{
    uint16_t flags = vq_load16(slot_at(vq, vq->last_avail) + OFF_FLAGS);
    bool avail = flags & DESC_AVAIL, used = flags & DESC_USED;
    return avail != vq->avail_wrap || used == vq->avail_wrap;
}

static void desc_parse(const uint8_t *p, struct vq_buffer *b, uint16_t *id)
{
    uint8_t copy[DESC_SIZE]; /* once: the guest may change it under us */
    memcpy(copy, p, sizeof(copy));
    b->addr = load_le64(copy);
    b->len = load_le32(copy + OFF_LEN);
    *id = load_le16(copy + OFF_ID);
    b->flags = load_le16(copy + OFF_FLAGS);
}

/* 2.8.7: the entries of an indirect table follow each other, and only DESC_WRITE means anything. */
static bool elem_indirect(struct vq *vq, struct vq_elem *e, const struct vq_buffer *table)
{
    struct gmem_span span;
    unsigned n = vq_indirect(vq, table, &span);
    bool ok = n != 0;
    for (unsigned i = 0; ok && i < n; i++) {
        struct vq_buffer b;
        uint16_t id;
        desc_parse(span.host + i * DESC_SIZE, &b, &id);
        ok = vq_elem_add(vq, e, &b);
    }
    return ok;
}

static void advance(const struct vq *vq, uint16_t *at, bool *wrap, unsigned slots)
{
    unsigned n = *at + slots;
    if (n >= vq->size) {
        n -= vq->size;
        *wrap = !*wrap;
    }
    *at = (uint16_t)n;
}

/* A chain is a run of slots, around the ring's end if need be, and no longer than the ring. */
static bool packed_pop(struct vq *vq, struct vq_elem *e)
{
    struct vq_buffer b = {.flags = DESC_NEXT};
    unsigned at = vq->last_avail, slots = 0;
    while (b.flags & DESC_NEXT) {
        if (slots == vq->size) {
            return false;
        }
        desc_parse(slot_at(vq, at), &b, &e->head); /* the last one's counts */
        slots++;
        at = at + 1u == vq->size ? 0 : at + 1;
        bool table = b.flags & DESC_INDIRECT;
        if (table && slots > 1) {
            return false; /* chained, which vq_indirect() refuses for the first */
        }
        if (!(table ? elem_indirect(vq, e, &b) : vq_elem_add(vq, e, &b))) {
            return false;
        }
    }
    e->slots = (uint16_t)slots;
    advance(vq, &vq->last_avail, &vq->avail_wrap, slots);
    return true;
}

static void packed_push(struct vq *vq, const struct vq_elem *e, uint32_t len)
{
    if (e->slots > vq->size) {
        return; /* not of this ring, as it is now */
    }
    uint8_t *slot = slot_at(vq, vq->used_idx);
    uint16_t flags = vq->used_wrap ? DESC_AVAIL | DESC_USED : 0;
    store_le32(slot + OFF_LEN, len);
    store_le16(slot + OFF_ID, e->head);
    vq_store16(slot + OFF_FLAGS, flags | (e->in_count ? DESC_WRITE : 0));
    struct gmem_span wrote = {slot, DESC_SIZE, vq->desc_span.ram,
                              vq->desc_span.off + vq->used_idx * DESC_SIZE};
    gmem_wrote(&wrote);
    advance(vq, &vq->used_idx, &vq->used_wrap, e->slots);
    unsigned since = vq->signalled + e->slots;
    vq->signalled = (uint16_t)(since < vq->size ? since : vq->size); /* a round is enough */
}

/* 2.8.10: of the slots that were used since the last call, is the one among them that the driver
 * waits for? */
static bool packed_should_signal(struct vq *vq)
{
    uint16_t flags = vq_load16(vq->avail_span.host + EVENT_FLAGS);
    uint16_t since = vq->signalled;
    vq->signalled = 0;
    if (flags != EVENT_DESC || !vq->event_idx) {
        return flags != EVENT_DISABLE;
    }
    uint16_t event = vq_load16(vq->avail_span.host);
    unsigned off = event & (EVENT_WRAP - 1);
    bool wrap = event & EVENT_WRAP;
    /* Slots from the awaited one, which counts, to the next one to use. */
    unsigned back = vq->used_idx + (wrap == vq->used_wrap ? 0u : vq->size) - off;
    return off >= vq->size || (back >= 1 && back <= since);
}

static void packed_want_kick(struct vq *vq, bool on)
{
    uint8_t *event = vq->used_span.host;
    uint16_t flags = on ? EVENT_ENABLE : EVENT_DISABLE;
    if (on && vq->event_idx) {
        vq_store16(event, vq->last_avail | (vq->avail_wrap ? EVENT_WRAP : 0));
        flags = EVENT_DESC;
    }
    vq_store16(event + EVENT_FLAGS, flags);
}

const struct vq_ring vq_packed = {
    .enable = packed_enable,
    .empty = packed_empty,
    .pop = packed_pop,
    .push = packed_push,
    .should_signal = packed_should_signal,
    .want_kick = packed_want_kick,
};
