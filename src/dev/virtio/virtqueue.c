/* Split virtqueues. */
#include "dev/virtio/virtqueue.h"

#include <stdatomic.h>
#include <string.h>

#include "base/endian.h"

enum {
    DESC_NEXT = 1,
    DESC_WRITE = 2,
    DESC_INDIRECT = 4,
    DESC_SIZE = 16,
    AVAIL_NO_INTERRUPT = 1,
    USED_NO_NOTIFY = 1,
};

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static uint16_t ring_load16(const uint8_t *p)
{
    return le16toh(atomic_load_explicit((const _Atomic uint16_t *)p, memory_order_acquire));
}

static void ring_store16(uint8_t *p, uint16_t v)
{
    atomic_store_explicit((_Atomic uint16_t *)p, htole16(v), memory_order_release);
}

/* Two-byte fields of the rings: VIRTIO 1.2 2.7.6 and 2.7.8. */
static uint8_t *avail_at(const struct vq *vq, unsigned off)
{
    return vq->avail_span.host + off;
}

static uint8_t *used_at(const struct vq *vq, unsigned off)
{
    return vq->used_span.host + off;
}

static bool vq_map(struct vq *vq, gpa_t gpa, uint64_t len, unsigned align, struct gmem_span *span)
{
    return !(gpa & (align - 1)) && gmem_span(vq->mem, gpa, len, span) && span->len == len;
}

bool vq_enable(struct vq *vq)
{
    uint64_t n = vq->size;
    vq->broken = !n || n > vq->max || (n & (n - 1)) ||
                 !vq_map(vq, vq->desc, n * DESC_SIZE, 16, &vq->desc_span) ||
                 !vq_map(vq, vq->avail, 6 + 2 * n, 2, &vq->avail_span) ||
                 !vq_map(vq, vq->used, 6 + 8 * n, 4, &vq->used_span);
    vq->last_avail = vq->used_idx = vq->signalled = 0;
    vq->signalled_valid = false;
    vq->ready = true;
    return !vq->broken;
}

void vq_reset(struct vq *vq)
{
    struct mem_map *mem = vq->mem;
    uint16_t max = vq->max;
    memset(vq, 0, sizeof(*vq));
    vq->mem = mem;
    vq->max = vq->size = max;
}

static bool vq_usable(const struct vq *vq)
{
    return vq->ready && !vq->broken;
}

bool vq_empty(struct vq *vq)
{
    return !vq_usable(vq) || ring_load16(avail_at(vq, 2)) == vq->last_avail;
}

static void desc_parse(const uint8_t *p, struct desc *d)
{
    uint8_t copy[DESC_SIZE]; /* once: the guest may change it under us */
    memcpy(copy, p, sizeof(copy));
    d->addr = load_le64(copy);
    d->len = load_le32(copy + 8);
    d->flags = load_le16(copy + 12);
    d->next = load_le16(copy + 14);
}

/* A buffer may lie in several pieces of RAM; each is one vector. */
static bool elem_add(struct vq *vq, struct vq_elem *e, const struct desc *d)
{
    bool in = d->flags & DESC_WRITE;
    struct gmem_span span;
    uint64_t addr = d->addr, left = d->len;
    if (!in && e->in_count) {
        return false; /* readable after writable: 2.7.4.2 */
    }
    for (; left; addr += span.len, left -= span.len) {
        unsigned n = e->out_count + e->in_count;
        if (n == VQ_MAX_SEGS || addr + (left - 1) < addr ||
            !gmem_span(vq->mem, addr, left, &span)) {
            return false;
        }
        e->iov[n] = (struct iovec){span.host, span.len};
        e->in_ram[n] = span.ram;
        e->out_count += !in;
        e->in_count += in;
        *(in ? &e->in_len : &e->out_len) += span.len;
    }
    return true;
}

/* Follows a chain in one table; at most as many steps as the table has entries. */
static bool elem_chain(struct vq *vq, struct vq_elem *e, const uint8_t *table, unsigned size,
                       unsigned at, bool nested)
{
    struct desc d;
    for (unsigned steps = 0; steps < size && at < size; steps++) {
        desc_parse(table + at * DESC_SIZE, &d);
        if (d.flags & DESC_INDIRECT) {
            struct gmem_span span;
            unsigned n = d.len / DESC_SIZE;
            if (nested || !vq->indirect || (d.flags & DESC_NEXT) || d.len % DESC_SIZE || !n ||
                n > VQ_MAX_SEGS || !vq_map(vq, d.addr, d.len, 1, &span)) {
                return false;
            }
            return elem_chain(vq, e, span.host, n, 0, true);
        }
        if (!elem_add(vq, e, &d)) {
            return false;
        }
        if (!(d.flags & DESC_NEXT)) {
            return true;
        }
        at = d.next;
    }
    return false; /* a loop, or an index outside of the table */
}

bool vq_pop(struct vq *vq, struct vq_elem *e)
{
    if (vq_empty(vq)) {
        return false;
    }
    uint16_t pending = (uint16_t)(ring_load16(avail_at(vq, 2)) - vq->last_avail);
    uint16_t head = ring_load16(avail_at(vq, 4 + 2 * (vq->last_avail % vq->size)));
    e->head = head;
    e->out_count = e->in_count = 0;
    e->out_len = e->in_len = 0;
    if (pending > vq->size || head >= vq->size ||
        !elem_chain(vq, e, vq->desc_span.host, vq->size, head, false)) {
        vq->broken = true;
        return false;
    }
    e->out = e->iov;
    e->in = e->iov + e->out_count;
    vq->last_avail++;
    return true;
}

/* What was written may hold translated code. */
static void elem_wrote(const struct vq_elem *e, uint64_t len)
{
    for (unsigned i = 0; i < e->in_count && len; i++) {
        struct ram *ram = e->in_ram[e->out_count + i];
        uint64_t n = e->in[i].iov_len < len ? e->in[i].iov_len : len;
        struct gmem_span span = {e->in[i].iov_base, n, ram,
                                 (uint64_t)((uint8_t *)e->in[i].iov_base - ram->host)};
        gmem_wrote(&span);
        len -= n;
    }
}

void vq_push(struct vq *vq, const struct vq_elem *e, uint32_t len)
{
    if (!vq_usable(vq)) {
        return;
    }
    elem_wrote(e, len);
    uint8_t *slot = used_at(vq, 4 + 8u * (vq->used_idx % vq->size));
    store_le32(slot, e->head);
    store_le32(slot + 4, len);
    vq->used_idx++;
    ring_store16(used_at(vq, 2), vq->used_idx);
    gmem_wrote(&vq->used_span);
}

/* VIRTIO 1.2 2.7.7.2 and 2.7.10 */
bool vq_should_signal(struct vq *vq)
{
    if (!vq_usable(vq)) {
        return false;
    }
    atomic_thread_fence(memory_order_seq_cst); /* used index before the event index or flags */
    if (!vq->event_idx) {
        return !(ring_load16(avail_at(vq, 0)) & AVAIL_NO_INTERRUPT);
    }
    uint16_t event = ring_load16(avail_at(vq, 4 + 2u * vq->size));
    uint16_t old = vq->signalled, now = vq->used_idx;
    bool first = !vq->signalled_valid;
    vq->signalled = now;
    vq->signalled_valid = true;
    return first || (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

void vq_want_kick(struct vq *vq, bool on)
{
    if (!vq_usable(vq)) {
        return;
    }
    if (vq->event_idx) {
        if (on) {
            ring_store16(used_at(vq, 4 + 8u * vq->size), vq->last_avail);
        }
    } else {
        ring_store16(used_at(vq, 0), on ? 0 : USED_NO_NOTIFY);
    }
    atomic_thread_fence(memory_order_seq_cst); /* before looking at the available index again */
}

static uint64_t iov_copy(const struct iovec *iov, unsigned count, uint64_t skip, void *buf,
                         uint64_t len, bool to_iov)
{
    uint64_t done = 0;
    for (unsigned i = 0; i < count && done < len; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        uint64_t n = iov[i].iov_len - skip;
        n = n < len - done ? n : len - done;
        char *at = (char *)iov[i].iov_base + skip, *other = (char *)buf + done;
        memcpy(to_iov ? at : other, to_iov ? other : at, n);
        done += n;
        skip = 0;
    }
    return done;
}

uint64_t iov_read(const struct iovec *iov, unsigned count, uint64_t skip, void *buf, uint64_t len)
{
    return iov_copy(iov, count, skip, buf, len, false);
}

uint64_t iov_write(const struct iovec *iov, unsigned count, uint64_t skip, const void *buf,
                   uint64_t len)
{
    return iov_copy(iov, count, skip, (void *)buf, len, true);
}
