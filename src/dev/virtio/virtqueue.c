/* What both forms of virtqueue share: vq_split.c and vq_packed.c have the rings. */
#include "dev/virtio/virtqueue.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "dev/virtio/vq_ring.h"
#include "state/field.h"

bool vq_map(struct vq *vq, gpa_t gpa, uint64_t len, unsigned align, struct gmem_span *span)
{
    return !(gpa & (align - 1)) && gmem_span(vq->mem, gpa, len, span) && span->len == len;
}

bool vq_enable(struct vq *vq)
{
    vq->ring = vq->packed ? &vq_packed : &vq_split;
    vq->last_avail = vq->used_idx = 0;
    vq->broken = !vq->size || vq->size > vq->max || !vq->ring->enable(vq);
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
    return !vq_usable(vq) || vq->ring->empty(vq);
}

/* A buffer may lie in several pieces of RAM; each is one vector. */
bool vq_elem_add(struct vq *vq, struct vq_elem *e, const struct vq_buffer *b)
{
    bool in = b->flags & DESC_WRITE;
    struct gmem_span span;
    uint64_t addr = b->addr, left = b->len;
    if (!in && e->in_count) {
        return false; /* readable after writable: 2.7.4.2, 2.8.5 */
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

unsigned vq_indirect(struct vq *vq, const struct vq_buffer *b, struct gmem_span *span)
{
    unsigned n = b->len / DESC_SIZE;
    bool ok = vq->indirect && !(b->flags & DESC_NEXT) && !(b->len % DESC_SIZE) &&
              n <= VQ_MAX_SEGS && n && vq_map(vq, b->addr, b->len, 1, span);
    return ok ? n : 0;
}

bool vq_pop(struct vq *vq, struct vq_elem *e)
{
    if (vq_empty(vq)) {
        return false;
    }
    e->out_count = e->in_count = 0;
    e->out_len = e->in_len = 0;
    if (!vq->ring->pop(vq, e)) {
        vq->broken = true;
        return false;
    }
    e->out = e->iov;
    e->in = e->iov + e->out_count;
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
    if (vq_usable(vq)) {
        elem_wrote(e, len);
        vq->ring->push(vq, e, len);
    }
}

bool vq_should_signal(struct vq *vq)
{
    if (!vq_usable(vq)) {
        return false;
    }
    /* What was used is to be seen before we look at what the driver wants. */
    atomic_thread_fence(memory_order_seq_cst);
    return vq->ring->should_signal(vq);
}

void vq_want_kick(struct vq *vq, bool on)
{
    if (vq_usable(vq)) {
        vq->ring->want_kick(vq, on);
        atomic_thread_fence(memory_order_seq_cst); /* before looking at the ring again */
    }
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

/* ---- State ---- */

static const struct field vq_list[] = {
    FIELD(struct vq, mem, FIELD_HOST),
    FIELD(struct vq, ring, FIELD_DERIVED),
    FIELD(struct vq, max, FIELD_CONFIG),
    FIELD(struct vq, size, FIELD_GUEST),
    FIELD(struct vq, ready, FIELD_GUEST),
    FIELD(struct vq, broken, FIELD_GUEST),
    FIELD(struct vq, event_idx, FIELD_GUEST),
    FIELD(struct vq, indirect, FIELD_GUEST),
    FIELD(struct vq, packed, FIELD_GUEST),
    FIELD(struct vq, desc, FIELD_GUEST),
    FIELD(struct vq, avail, FIELD_GUEST),
    FIELD(struct vq, used, FIELD_GUEST),
    FIELD(struct vq, desc_span, FIELD_DERIVED),
    FIELD(struct vq, avail_span, FIELD_DERIVED),
    FIELD(struct vq, used_span, FIELD_DERIVED),
    FIELD(struct vq, last_avail, FIELD_GUEST),
    FIELD(struct vq, used_idx, FIELD_GUEST),
    FIELD(struct vq, signalled, FIELD_GUEST),
    FIELD(struct vq, signalled_valid, FIELD_GUEST),
    FIELD(struct vq, avail_wrap, FIELD_GUEST),
    FIELD(struct vq, used_wrap, FIELD_GUEST),
};

/* Maps the rings and keeps the places in them. */
static int vq_loaded(void *obj, struct err *err)
{
    struct vq *vq = obj, mapped;
    if (!vq->ready || vq->broken) {
        return 0;
    }
    vq->ring = vq->packed ? &vq_packed : &vq_split;
    mapped = *vq;
    bool inside = !vq->packed || (vq->last_avail < vq->size && vq->used_idx < vq->size);
    if (!vq->size || vq->size > vq->max || !inside || !vq->ring->enable(&mapped)) {
        vq->broken = true;
        return err_set(err, EINVAL, "state of virtqueue: no such ring is in memory");
    }
    vq->desc_span = mapped.desc_span;
    vq->avail_span = mapped.avail_span;
    vq->used_span = mapped.used_span;
    return 0;
}

FIELD_SET_SHARED(vq_fields, "virtqueue", struct vq, vq_list, 1, .loaded = vq_loaded);

static const struct field vq_elem_list[] = {
    FIELD(struct vq_elem, head, FIELD_GUEST),
    FIELD(struct vq_elem, slots, FIELD_GUEST, .max = VQ_MAX_SIZE),
    FIELD(struct vq_elem, out_count, FIELD_DERIVED),
    FIELD(struct vq_elem, in_count, FIELD_DERIVED),
    FIELD(struct vq_elem, out_len, FIELD_DERIVED),
    FIELD(struct vq_elem, in_len, FIELD_DERIVED),
    FIELD(struct vq_elem, out, FIELD_DERIVED),
    FIELD(struct vq_elem, in, FIELD_DERIVED),
    FIELD(struct vq_elem, in_ram, FIELD_DERIVED),
    FIELD(struct vq_elem, iov, FIELD_DERIVED),
};

/* One that a device keeps can be given back; what it points to is not known any more. */
static int vq_elem_loaded(void *obj, struct err *err)
{
    struct vq_elem *e = obj;
    e->out_count = e->in_count = 0;
    e->out_len = e->in_len = 0;
    e->out = e->in = e->iov;
    return 0;
}

FIELD_SET_SHARED(vq_elem_fields, "virtqueue-element", struct vq_elem, vq_elem_list, 1,
                 .loaded = vq_elem_loaded);
