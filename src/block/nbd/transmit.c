/* The NBD server's transmission phase: requests in coroutines, answers as they are ready. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "block/nbd/proto.h"
#include "block/nbd/server_internal.h"

enum {
    MAX_EXTENTS = 1024,
    MAX_LOOKS = 65536, /* of one status: the client asks again for the rest */
    TURN = 64,         /* requests after which others have a turn */
};

struct req {
    struct nbd_server_client *c;
    uint16_t flags, cmd;
    uint64_t cookie, off;
    uint32_t len;
    uint8_t *buf; /* of a read or write */
};

/* ---- Answers ---- */

static int send_simple(struct req *r, uint32_t error, const struct iovs *q)
{
    uint8_t head[16];
    store_be32(head, NBD_SIMPLE_MAGIC);
    store_be32(head + 4, error);
    store_be64(head + 8, r->cookie);
    co_lock(&r->c->send);
    int ret = channel_writev(&r->c->ch, head, sizeof(head), q);
    co_unlock(&r->c->send);
    return ret;
}

static int send_chunk(struct req *r, bool last, uint16_t type, const void *extra,
                      uint32_t extra_len, const struct iovs *q)
{
    uint8_t head[20 + 16];
    store_be32(head, NBD_CHUNK_MAGIC);
    store_be16(head + 4, last ? NBD_CHUNK_DONE : 0);
    store_be16(head + 6, type);
    store_be64(head + 8, r->cookie);
    store_be32(head + 16, extra_len + (q ? (uint32_t)q->len : 0));
    memcpy(head + 20, extra, extra_len);
    co_lock(&r->c->send);
    int ret = channel_writev(&r->c->ch, head, 20 + extra_len, q);
    co_unlock(&r->c->send);
    return ret;
}

static int send_done(struct req *r, int err)
{
    uint8_t d[6] = {0};
    if (!r->c->structured) {
        return send_simple(r, err ? nbd_error_to_wire(err) : 0, NULL);
    }
    if (!err) {
        return send_chunk(r, true, NBD_CHUNK_NONE, d, 0, NULL);
    }
    store_be32(d, nbd_error_to_wire(err));
    return send_chunk(r, true, NBD_CHUNK_ERROR, d, 6, NULL);
}

/* ---- Reads ---- */

static int read_whole(struct req *r)
{
    uint8_t off[8];
    struct iovec v;
    int ret = block_pread(r->c->export->b, r->off, r->buf, r->len);
    if (ret) {
        return send_done(r, ret);
    }
    struct iovs q = iovs_buf(&v, r->buf, r->len);
    store_be64(off, r->off);
    return r->c->structured ? send_chunk(r, true, NBD_CHUNK_DATA, off, 8, &q)
                            : send_simple(r, 0, &q);
}

/* Holes as holes. */
static int read_sparse(struct req *r)
{
    struct block *b = r->c->export->b;
    uint32_t done = 0;
    int ret = 0;
    while (done < r->len) {
        struct block_extent e;
        uint8_t d[12];
        ret = block_extent_chain(b, NULL, r->off + done, r->len - done, &e);
        if (ret) {
            return send_done(r, ret);
        }
        uint32_t n = (uint32_t)e.len;
        store_be64(d, r->off + done);
        store_be32(d + 8, n);
        bool last = done + n == r->len;
        if (e.flags & EXTENT_ZERO) {
            ret = send_chunk(r, last, NBD_CHUNK_HOLE, d, 12, NULL);
        } else {
            struct iovec v;
            struct iovs q = iovs_buf(&v, r->buf + done, n);
            ret = block_preadv(b, r->off + done, &q);
            if (ret) {
                return send_done(r, ret);
            }
            ret = send_chunk(r, last, NBD_CHUNK_DATA, d, 8, &q);
        }
        if (ret) {
            return ret;
        }
        done += n;
    }
    return 0;
}

/* ---- Status ---- */

static uint32_t state_of(const struct nbd_context *x, const struct block_extent *e)
{
    if (x->kind == CONTEXT_DEPTH) {
        return e->flags & EXTENT_ALLOCATED ? e->depth + 1 : 0;
    }
    return (e->flags & EXTENT_DATA ? 0 : NBD_STATE_HOLE) |
           (e->flags & EXTENT_ZERO ? NBD_STATE_ZERO : 0);
}

/* The bitmap's state at `off` and how far it holds. */
static int bitmap_state(struct block *b, const char *name, uint64_t off, uint64_t len,
                        uint32_t *state, uint64_t *holds)
{
    struct block_bitmap *m = block_bitmaps(b);
    while (m && strcmp(m->name, name)) {
        m = m->next;
    }
    if (!m || !m->bits || off >= m->size || len > m->size - off) {
        return -EIO;
    }
    uint64_t i = off / m->granularity, end = (off + len - 1) / m->granularity + 1;
    bool set = m->bits[i / 64] >> (i % 64) & 1;
    uint64_t j = i + 1;
    while (j < end && (m->bits[j / 64] >> (j % 64) & 1) == set) {
        uint64_t same = set ? UINT64_MAX : 0;
        j += j % 64 == 0 && end - j > 64 && m->bits[j / 64] == same ? 64 : 1;
    }
    *state = set ? NBD_STATE_DIRTY : 0;
    *holds = j * m->granularity - off < len ? j * m->granularity - off : len;
    return 0;
}

static int status_at(struct req *r, const struct nbd_context *x, uint64_t off, uint64_t len,
                     uint32_t *state, uint64_t *holds)
{
    struct block *b = r->c->export->b;
    struct block_extent e;
    if (x->kind == CONTEXT_BITMAP) {
        return bitmap_state(b, x->name + sizeof(NBD_META_BITMAP) - 1, off, len, state, holds);
    }
    int ret = block_extent_chain(b, NULL, off, len, &e);
    if (!ret) {
        *state = state_of(x, &e);
        *holds = e.len;
    }
    return ret;
}

static int status_one(struct req *r, unsigned k, bool last)
{
    const struct nbd_context *x = &r->c->export->context[k];
    unsigned max = r->flags & NBD_REQ_ONE ? 1 : MAX_EXTENTS, n = 0;
    AUTO_FREE uint8_t *d = alloc_zero(8 * (size_t)MAX_EXTENTS);
    uint32_t prev = 0;
    unsigned looks = 0;
    for (uint64_t done = 0; done < r->len && looks < MAX_LOOKS; looks++) {
        uint32_t state;
        uint64_t holds;
        int ret = status_at(r, x, r->off + done, r->len - done, &state, &holds);
        if (ret) {
            return send_done(r, ret);
        }
        if (n && state == prev) {
            store_be32(d + 8 * (n - 1), load_be32(d + 8 * (n - 1)) + (uint32_t)holds);
        } else if (n == max) {
            break;
        } else {
            store_be32(d + 8 * n, (uint32_t)holds);
            store_be32(d + 8 * n + 4, state);
            n++;
        }
        prev = state;
        done += holds;
    }
    uint8_t id[4];
    struct iovec v;
    struct iovs q = iovs_buf(&v, d, 8 * (size_t)n);
    store_be32(id, k + 1);
    return send_chunk(r, last, NBD_CHUNK_STATUS, id, 4, &q);
}

static int do_status(struct req *r)
{
    uint32_t left = r->c->selected;
    int ret = 0;
    for (unsigned k = 0; !ret && left; k++) {
        if (left >> k & 1) {
            left &= ~(1u << k);
            ret = status_one(r, k, !left);
        }
    }
    return ret;
}

/* ---- One request ---- */

static int do_req(struct req *r)
{
    struct block *b = r->c->export->b;
    unsigned fua = r->flags & NBD_FUA ? BLOCK_FUA : 0;
    unsigned unmap = r->flags & NBD_NO_HOLE ? 0 : BLOCK_MAY_UNMAP;
    unsigned fast = r->flags & NBD_FAST_ZERO ? BLOCK_NO_FALLBACK : 0;
    switch (r->cmd) {
    case NBD_CMD_READ:
        return r->c->structured && !(r->flags & NBD_DF) && r->len ? read_sparse(r) : read_whole(r);
    case NBD_CMD_WRITE: return send_done(r, block_pwrite(b, r->off, r->buf, r->len, fua));
    case NBD_CMD_FLUSH: return send_done(r, block_flush(b));
    case NBD_CMD_TRIM: {
        int ret = block_discard(b, r->off, r->len);
        return send_done(r, !ret && fua ? block_flush(b) : ret);
    }
    case NBD_CMD_ZEROES: return send_done(r, block_zero(b, r->off, r->len, fua | unmap | fast));
    case NBD_CMD_CACHE: return send_done(r, 0);
    case NBD_CMD_STATUS: return do_status(r);
    default: return send_done(r, -EINVAL);
    }
}

/* 0, or what is wrong with it. */
static int check_req(const struct req *r)
{
    const struct nbd_export *e = r->c->export;
    static const uint16_t allowed[] = {
        [NBD_CMD_READ] = NBD_DF,   [NBD_CMD_WRITE] = NBD_FUA,
        [NBD_CMD_TRIM] = NBD_FUA,  [NBD_CMD_ZEROES] = NBD_FUA | NBD_NO_HOLE | NBD_FAST_ZERO,
        [NBD_CMD_FLUSH] = NBD_FUA, [NBD_CMD_STATUS] = NBD_REQ_ONE,
        [NBD_CMD_CACHE] = 0,
    };
    bool changes = r->cmd == NBD_CMD_WRITE || r->cmd == NBD_CMD_TRIM || r->cmd == NBD_CMD_ZEROES;
    uint64_t size = block_size(e->b);
    if (r->cmd > NBD_CMD_STATUS || r->flags & ~allowed[r->cmd] ||
        (r->flags & NBD_DF && !r->c->structured)) {
        return -EINVAL;
    }
    if (changes && e->flags & NBD_READ_ONLY) {
        return -EPERM;
    }
    if (r->cmd != NBD_CMD_FLUSH && (r->off > size || r->len > size - r->off)) {
        return changes ? -ENOSPC : -EINVAL;
    }
    if (r->cmd == NBD_CMD_STATUS && (!r->len || !r->c->selected)) {
        return -EINVAL;
    }
    return (r->cmd == NBD_CMD_READ || r->cmd == NBD_CMD_WRITE) && r->len > NBD_MAX_PAYLOAD ? -EINVAL
                                                                                           : 0;
}

static void req_main(void *opaque)
{
    struct req *r = opaque;
    struct nbd_server_client *c = r->c;
    if (do_req(r)) {
        channel_shut(&c->ch);
    }
    c->flying--;
    c->memory -= r->buf ? r->len : 0;
    free(r->buf);
    free(r);
    co_queue_all(&c->room);
}

static void wait_for_room(struct nbd_server_client *c, uint64_t bytes)
{
    while (c->flying >= NBD_MAX_FLYING || (c->memory && c->memory + bytes > NBD_MAX_MEMORY)) {
        co_queue_wait(&c->room);
    }
}

/* Reads one request and starts it. */
static int take_req(struct nbd_server_client *c)
{
    uint8_t head[28];
    int ret = channel_read(&c->ch, head, sizeof(head));
    struct req r = {c,
                    load_be16(head + 4),
                    load_be16(head + 6),
                    load_be64(head + 8),
                    load_be64(head + 16),
                    load_be32(head + 24),
                    NULL};
    if (ret || load_be32(head) != NBD_REQUEST_MAGIC || r.cmd == NBD_CMD_DISC) {
        return ret ? ret : -EPROTO;
    }
    int wrong = check_req(&r);
    bool data = r.cmd == NBD_CMD_READ || r.cmd == NBD_CMD_WRITE;
    if (!wrong && data) {
        wait_for_room(c, r.len);
        r.buf = block_alloc(r.len);
        wrong = r.buf ? 0 : -ENOMEM;
    } else {
        wait_for_room(c, 0);
    }
    if (r.cmd == NBD_CMD_WRITE) { /* what follows has to be read in any case */
        ret = wrong && r.len > NBD_MAX_PAYLOAD ? -EPROTO
              : wrong                          ? channel_skip(&c->ch, r.len)
                                               : channel_read(&c->ch, r.buf, r.len);
    }
    if (ret || wrong) {
        free(r.buf);
        return ret ? ret : send_done(&r, wrong);
    }
    struct req *own = alloc_zero(sizeof(*own));
    *own = r;
    c->flying++;
    c->memory += r.buf ? r.len : 0;
    co_start(block_graph_loop(c->s->graph), req_main, own);
    return 0;
}

void nbd_server_transmit(struct nbd_server_client *c)
{
    for (unsigned turn = 1; !take_req(c); turn++) {
        if (turn % TURN == 0) {
            co_yield (); /* one who never stops asking is not the only one */
        }
    }
    channel_shut(&c->ch);
    while (c->flying) {
        co_queue_wait(&c->room);
    }
}
