/*
 * Requests on their way to a driver: bounds, permissions, alignment, what a driver can't do itself.
 *
 * A node that wants alignment (O_DIRECT) gets it: the ends of an odd write are read, changed and
 * written back, while the range is locked, so that two such writes do not undo each other.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/core.h"

enum { ZERO_CHUNK = 1 << 20, PROBED_HEAD = 2048 };

/* ---- Ranges ---- */

static struct block_range *range_find(struct block *b, uint64_t off, uint64_t end)
{
    struct block_range *r = b->requests->ranges;
    while (r && (r->end <= off || end <= r->off)) {
        r = r->next;
    }
    return r;
}

void block_range_lock(struct block *b, struct block_range *r, uint64_t off, uint64_t len)
{
    struct block_range *other;
    while ((other = range_find(b, off, off + len))) {
        co_queue_wait(&other->waiting);
    }
    *r = (struct block_range){.off = off, .end = off + len, .next = b->requests->ranges};
    b->requests->ranges = r;
}

void block_range_unlock(struct block *b, struct block_range *r)
{
    struct block_range **at = &b->requests->ranges;
    while (*at != r) {
        at = &(*at)->next;
    }
    *at = r->next;
    co_queue_all(&r->waiting);
}

/* ---- Permission and bounds ---- */

static int request_check(const struct block *b, uint64_t off, uint64_t len, bool write)
{
    if (write && !(b->flags & BLOCK_RDWR)) {
        return -EPERM;
    }
    uint64_t end = b->type->grows ? BLOCK_MAX_SIZE : b->size;
    return off > end || len > end - off ? -EIO : 0;
}

/* An image taken for raw by looking must not be made to look like something else: the next time
 * it would be opened as that. */
static int request_check_probed(const struct block *b, uint64_t off, const struct iovs *q)
{
    uint8_t head[PROBED_HEAD] = {0};
    if (!b->probed || off || strcmp(b->type->name, "raw")) {
        return 0;
    }
    size_t n = q->len < sizeof(head) ? q->len : sizeof(head);
    iovs_get(q, 0, head, n);
    return block_head_is_format(head, n) ? -EPERM : 0;
}

/* ---- Reading ---- */

/* A driver that only says where data lies. */
static int read_by_extents(struct block *b, uint64_t off, const struct iovs *q)
{
    int ret = 0;
    for (uint64_t done = 0; !ret && done < q->len;) {
        struct block_extent e = {.len = q->len - done};
        ret = b->type->extent(b, off + done, e.len, &e);
        if (ret) {
            return ret;
        }
        struct iovs part = iovs_part(q, done, e.len);
        if (e.flags & EXTENT_ZERO) {
            iovs_zero(&part, 0, part.len);
        } else if (e.flags & EXTENT_DATA) {
            ret = block_preadv(e.host, e.host_off, &part);
        } else {
            ret = block_read_backing(b, off + done, &part);
        }
        done += e.len;
    }
    return ret;
}

static int driver_read(struct block *b, uint64_t off, const struct iovs *q)
{
    return b->type->preadv ? b->type->preadv(b, off, q) : read_by_extents(b, off, q);
}

static int read_unaligned(struct block *b, uint64_t off, const struct iovs *q)
{
    uint64_t from = round_down(off, b->align), to = round_up(off + q->len, b->align);
    AUTO_FREE char *buf = block_alloc(to - from);
    struct iovec v;
    if (!buf) {
        return -ENOMEM;
    }
    struct iovs all = iovs_buf(&v, buf, to - from);
    int ret = driver_read(b, from, &all);
    if (!ret) {
        iovs_put(q, 0, buf + (off - from), q->len);
    }
    return ret;
}

/* Behind the end there are only zeros. */
static int read_in(struct block *b, uint64_t off, const struct iovs *q)
{
    bool aligned = !((off | q->len) & (b->align - 1));
    if (b->type->grows && off >= b->size) {
        iovs_zero(q, 0, q->len);
        return 0;
    }
    return aligned ? driver_read(b, off, q) : read_unaligned(b, off, q);
}

/* ---- Writing ---- */

/* One aligned block, part of which is new. */
static int write_part(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    uint64_t at = round_down(off, b->align);
    AUTO_FREE char *buf = block_alloc(b->align);
    struct iovec v;
    if (!buf) {
        return -ENOMEM;
    }
    struct iovs all = iovs_buf(&v, buf, b->align);
    int ret = read_in(b, at, &all);
    if (!ret) {
        iovs_get(q, 0, buf + (off - at), q->len);
        ret = b->type->pwritev(b, at, &all, flags);
    }
    return ret;
}

/* `tail`: everything behind is locked too, and may be cut. */
static int write_unaligned(struct block *b, uint64_t off, const struct iovs *q, unsigned flags,
                           bool tail)
{
    uint64_t done = 0, real_size = b->size;
    int ret = 0;
    while (!ret && done < q->len) {
        uint64_t at = off + done, left = q->len - done, n = left & ~(uint64_t)(b->align - 1);
        bool part = at & (b->align - 1) || !n;
        if (part) {
            uint64_t room = b->align - (at & (b->align - 1));
            n = room < left ? room : left;
        }
        struct iovs piece = iovs_part(q, done, n);
        ret = part ? write_part(b, at, &piece, flags) : b->type->pwritev(b, at, &piece, flags);
        done += n;
    }
    /* A file is as long as what was written, not as the blocks it was written in. */
    uint64_t end = off + q->len > real_size ? off + q->len : real_size;
    if (!ret && tail && b->size > end && b->type->truncate) {
        struct err ignored;
        b->type->truncate(b, end, PREALLOC_OFF, &ignored);
    }
    return ret;
}

static int write_aligned(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    if (b->align == 1) {
        return b->type->pwritev(b, off, q, flags);
    }
    struct block_range r;
    uint64_t from = round_down(off, b->align), to = round_up(off + q->len, b->align);
    bool odd = (off | q->len) & (b->align - 1);
    /* A write that is cut to its length afterwards must not cut what others write behind it. */
    bool tail = odd && b->type->grows && to > b->size;
    block_range_lock(b, &r, from, tail ? UINT64_MAX - from : to - from);
    int ret = odd ? write_unaligned(b, off, q, flags, tail) : b->type->pwritev(b, off, q, flags);
    block_range_unlock(b, &r);
    return ret;
}

static int write_done(struct block *b, int ret, bool durable)
{
    b->requests->writes++;
    return ret || !durable ? ret : block_flush(b);
}

static int write_in(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    int ret = request_check_probed(b, off, q);
    if (ret) {
        return ret;
    }
    if (!b->type->pwritev || (flags & BLOCK_COMPRESSED && !(b->write_flags & BLOCK_COMPRESSED))) {
        return -ENOTSUP;
    }
    if (b->flags & BLOCK_DETECT_ZERO && !(flags & BLOCK_COMPRESSED) && iovs_is_zero(q)) {
        return block_zero(b, off, q->len,
                          flags | (b->flags & BLOCK_DETECT_UNMAP ? BLOCK_MAY_UNMAP : 0));
    }
    bool fua = (flags & BLOCK_FUA || b->flags & BLOCK_WRITETHROUGH) && !(b->flags & BLOCK_NO_FLUSH),
         own = fua && b->write_flags & BLOCK_FUA;
    flags = (flags & ~BLOCK_FUA) | (own ? BLOCK_FUA : 0);
    return write_done(b, write_aligned(b, off, q, flags), fua && !own);
}

/* ---- Zeros ---- */

static int zero_by_write(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    size_t chunk = len < ZERO_CHUNK ? len : ZERO_CHUNK;
    AUTO_FREE char *zeros = block_alloc(chunk);
    int ret = zeros ? 0 : -ENOMEM;
    if (!ret) {
        memset(zeros, 0, chunk);
    }
    while (!ret && len) {
        struct iovec v;
        struct iovs q = iovs_buf(&v, zeros, len < chunk ? len : chunk);
        ret = write_aligned(b, off, &q, flags & b->write_flags & BLOCK_FUA);
        off += q.len;
        len -= q.len;
    }
    return ret;
}

static int zero_in(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    bool fua = (flags & BLOCK_FUA || b->flags & BLOCK_WRITETHROUGH) && !(b->flags & BLOCK_NO_FLUSH);
    unsigned to_driver = flags & b->zero_flags & (BLOCK_MAY_UNMAP | BLOCK_NO_FALLBACK);
    to_driver &= b->flags & BLOCK_UNMAP ? ~0u : ~(unsigned)BLOCK_MAY_UNMAP;
    uint64_t from = round_up(off, b->align), to = round_down(off + len, b->align);
    int ret = -ENOTSUP;
    if (b->type->zero && from < to && off + len >= off) {
        ret = b->type->zero(b, from, to - from, to_driver);
    }
    if (ret == -ENOTSUP && flags & BLOCK_NO_FALLBACK) {
        return ret;
    }
    if (ret == -ENOTSUP) {
        ret = zero_by_write(b, off, len, flags);
    } else if (!ret) { /* the odd ends */
        ret = off < from ? zero_by_write(b, off, from - off, flags) : 0;
        ret = !ret && to < off + len ? zero_by_write(b, to, off + len - to, flags) : ret;
    }
    return write_done(b, ret, fua);
}

static int discard_in(struct block *b, uint64_t off, uint64_t len)
{
    uint64_t from = round_up(off, b->align), to = round_down(off + len, b->align);
    if (!(b->flags & BLOCK_UNMAP) || !b->type->discard || from >= to) {
        return 0;
    }
    return write_done(b, b->type->discard(b, from, to - from), false);
}

/* ---- Copying on the host ---- */

/* The protocol's node below and where the range is there; all nodes in between must agree. */
static int copy_descend(struct block **b, uint64_t *off, uint64_t len, bool write)
{
    for (;;) {
        struct block *at = *b;
        int ret = request_check(at, *off, len, write);
        bool odd = (*off | len) & (at->align - 1);
        if (ret || odd || (write && (at->probed || at->flags & BLOCK_WRITETHROUGH))) {
            return ret ? ret : -ENOTSUP;
        }
        if (at->type->protocol) {
            return at->type->copy ? 0 : -ENOTSUP;
        }
        uint64_t shift = 0;
        ret = at->type->plain ? at->type->plain(at, &shift) : -ENOTSUP;
        if (ret) {
            return ret;
        }
        *off += shift;
        *b = at->file;
    }
}

struct copy_call {
    struct block *from, *to;
    uint64_t from_off, to_off, len;
    int ret;
};

static void copy_in(void *opaque)
{
    struct copy_call *c = opaque;
    struct block *from = c->from, *to = c->to;
    uint64_t from_off = c->from_off, to_off = c->to_off;
    c->ret = copy_descend(&from, &from_off, c->len, false);
    c->ret = c->ret ? c->ret : copy_descend(&to, &to_off, c->len, true);
    if (c->ret || from->type->copy != to->type->copy) {
        c->ret = c->ret ? c->ret : -ENOTSUP;
        return;
    }
    struct block_range r;
    block_range_lock(to, &r, to_off, c->len);
    c->ret = to->type->copy(to, to_off, from, from_off, c->len);
    block_range_unlock(to, &r);
    for (struct block *b = c->to; b; b = b == to ? NULL : b->file) {
        b->requests->writes++; /* so that a flush has something to do, at each of them */
    }
}

int block_copy(struct block *from, uint64_t from_off, struct block *to, uint64_t to_off,
               uint64_t len)
{
    struct copy_call c = {from, to, from_off, to_off, len, 0};
    if (len) {
        co_run(to->graph->loop, copy_in, &c);
    }
    return c.ret;
}

/* ---- Flush ---- */

static int flush_below(struct block *b)
{
    int ret = b->type->flush ? b->type->flush(b) : 0;
    int file = b->file ? block_flush(b->file) : 0, data = b->data ? block_flush(b->data) : 0;
    return ret ? ret : file ? file : data;
}

/* What was written before the flush began is what it covers; nothing written, nothing to do. */
static int flush_in(struct block *b)
{
    struct block_requests *r = b->requests;
    while (r->flushing) {
        co_queue_wait(&r->flush_waiting);
    }
    uint64_t covers = r->writes;
    if (r->flushed == covers) {
        co_queue_next(&r->flush_waiting); /* those behind would wait for nobody */
        return 0;
    }
    r->flushing = true;
    int ret = flush_below(b);
    r->flushing = false;
    if (!ret) {
        r->flushed = covers;
    }
    co_queue_next(&r->flush_waiting);
    return ret;
}

/* ---- Calls from outside ---- */

enum op { OP_READ, OP_WRITE, OP_ZERO, OP_DISCARD, OP_FLUSH };

struct request {
    enum op op;
    struct block *b;
    uint64_t off, len;
    const struct iovs *q;
    unsigned flags;
    int ret;
};

static void request_do(void *opaque)
{
    struct request *r = opaque;
    switch (r->op) {
    case OP_READ: r->ret = read_in(r->b, r->off, r->q); break;
    case OP_WRITE: r->ret = write_in(r->b, r->off, r->q, r->flags); break;
    case OP_ZERO: r->ret = zero_in(r->b, r->off, r->len, r->flags); break;
    case OP_DISCARD: r->ret = discard_in(r->b, r->off, r->len); break;
    case OP_FLUSH: r->ret = flush_in(r->b); break;
    }
}

static int request(struct request *r)
{
    int ret = r->op == OP_FLUSH ? 0 : request_check(r->b, r->off, r->len, r->op != OP_READ);
    if (ret || (!r->len && r->op != OP_FLUSH)) {
        return ret;
    }
    co_run(r->b->graph->loop, request_do, r);
    return r->ret;
}

int block_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    struct request r = {.op = OP_READ, .b = b, .off = off, .len = q->len, .q = q};
    return request(&r);
}

int block_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    struct request r = {OP_WRITE, b, off, q->len, q, flags, 0};
    return request(&r);
}

int block_pread(struct block *b, uint64_t off, void *buf, size_t len)
{
    struct iovec v;
    struct iovs q = iovs_buf(&v, buf, len);
    return block_preadv(b, off, &q);
}

int block_pwrite(struct block *b, uint64_t off, const void *buf, size_t len, unsigned flags)
{
    struct iovec v;
    struct iovs q = iovs_buf(&v, (void *)buf, len);
    return block_pwritev(b, off, &q, flags);
}

int block_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    struct request r = {OP_ZERO, b, off, len, NULL, flags, 0};
    return request(&r);
}

int block_discard(struct block *b, uint64_t off, uint64_t len)
{
    struct request r = {.op = OP_DISCARD, .b = b, .off = off, .len = len};
    return request(&r);
}

int block_flush(struct block *b)
{
    struct request r = {.op = OP_FLUSH, .b = b};
    return request(&r);
}

int block_read_backing(struct block *b, uint64_t off, const struct iovs *q)
{
    uint64_t there = b->backing && off < b->backing->size ? b->backing->size - off : 0;
    there = there < q->len ? there : q->len;
    iovs_zero(q, there, q->len - there);
    struct iovs part = iovs_part(q, 0, there);
    return there ? block_preadv(b->backing, off, &part) : 0;
}
