/*
 * Protocol "nbd": disks that another program exports. Up to 16 requests are in flight; one
 * coroutine reads all answers, straight into the memory that waits for them.
 *
 * Everything the server says is checked against what was asked.
 */
#include "block/nbd/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/nbd/names.h"
#include "block/nbd/proto.h"
#include "block/opts.h"
#include "loop/clock.h"

/* LOST is no error that a server can send. */
enum { SLOTS = 16, MAX_READ = 32 << 20, MAX_RANGE = 1 << 30, TURN = 64, LOST = -ESTALE };

struct slot {
    struct co *co; /* whose it is; NULL: free */
    bool waiting;  /* in co_wait(), for done; not for its turn to send */
    bool done;     /* answered, or never will be: the server may say so before it is asked */
    bool disorder; /* of a read: pieces do not come one behind the other */
    uint64_t cookie;
    const struct iovs *q;        /* a read's memory */
    uint64_t off, got;           /* of a read: bytes that came */
    struct block_extent *extent; /* of a status request */
    uint64_t len;
    int ret;
};

struct nbd {
    struct block *b;
    struct channel ch;
    struct nbd_export_info info;
    struct sock_addr addr;
    char *export_name, *tls_creds, *tls_host, *bitmap, *where;
    uint64_t retry_ns, opening_ns; /* how long to try again */
    struct co_lock send, connecting;
    struct slot slots[SLOTS];
    struct co_queue slot_free, receiver_ended;
    uint64_t cookies;
    bool receiving, connected, closing;
};

/* ---- Answers ---- */

static struct slot *slot_find(struct nbd *n, uint64_t cookie)
{
    struct slot *s = &n->slots[cookie % SLOTS];
    return s->co && !s->done && s->cookie == cookie ? s : NULL;
}

static void slot_done(struct slot *s)
{
    s->done = true;
    if (s->waiting) {
        co_wake(s->co);
    }
}

/* Bytes of a read are going to come. Pieces that overlap leave gaps that the count does not show:
 * then what has not come is zero, not what was in this memory. */
static int slot_room(struct slot *s, uint64_t off, uint64_t len)
{
    if (!s->q || off < s->off || off - s->off > s->q->len || len > s->q->len - (off - s->off)) {
        return -EPROTO;
    }
    if (!s->disorder && off - s->off != s->got) {
        iovs_zero(s->q, s->got, s->q->len - s->got);
        s->disorder = true;
    }
    s->got += len;
    return s->got > s->q->len ? -EPROTO : 0;
}

static int take_data(struct nbd *n, struct slot *s, uint64_t off, uint64_t len)
{
    int ret = slot_room(s, off, len);
    if (ret) {
        return ret;
    }
    struct iovs part = iovs_part(s->q, off - s->off, len);
    return channel_readv(&n->ch, &part);
}

static int take_simple(struct nbd *n)
{
    uint8_t rest[12];
    int ret = channel_read(&n->ch, rest, sizeof(rest));
    struct slot *s = ret ? NULL : slot_find(n, load_be64(rest + 4));
    if (!s) {
        return ret ? ret : -EPROTO;
    }
    uint32_t error = load_be32(rest);
    s->ret = error ? nbd_error_from_wire(error) : 0;
    if (!error && s->q && n->info.structured) {
        return -EPROTO; /* reads are answered in chunks then */
    }
    if (!error && s->q) {
        ret = take_data(n, s, s->off, s->q->len);
    } else if (!error && s->extent) {
        ret = -EPROTO;
    }
    if (!ret) {
        slot_done(s);
    }
    return ret;
}

static int take_hole(struct nbd *n, struct slot *s, uint32_t len)
{
    uint8_t d[12];
    int ret = len == 12 ? channel_read(&n->ch, d, 12) : -EPROTO;
    if (ret) {
        return ret;
    }
    uint64_t off = load_be64(d), bytes = load_be32(d + 8);
    ret = bytes ? slot_room(s, off, bytes) : -EPROTO;
    if (!ret) {
        iovs_zero(s->q, off - s->off, bytes);
    }
    return ret;
}

static int take_status(struct nbd *n, struct slot *s, uint32_t len)
{
    uint8_t d[12];
    int ret = len >= 12 && len % 8 == 4 && s->extent ? channel_read(&n->ch, d, 12) : -EPROTO;
    if (ret) {
        return ret;
    }
    uint32_t bytes = load_be32(d + 4), state = load_be32(d + 8);
    if (load_be32(d) != n->info.status_id || !bytes) {
        return -EPROTO;
    }
    struct block_extent *e = s->extent;
    e->len = bytes < s->len ? bytes : s->len;
    if (n->bitmap) {
        e->flags = EXTENT_ALLOCATED | (state & NBD_STATE_DIRTY ? EXTENT_ZERO : EXTENT_DATA);
    } else {
        e->flags = EXTENT_ALLOCATED | (state & NBD_STATE_ZERO ? EXTENT_ZERO : 0) |
                   (state & NBD_STATE_HOLE ? 0 : EXTENT_DATA);
    }
    s->got = 1;
    return channel_skip(&n->ch, len - 12);
}

static int take_error(struct nbd *n, struct slot *s, uint32_t len)
{
    uint8_t d[6];
    int ret = len >= 6 ? channel_read(&n->ch, d, 6) : -EPROTO;
    uint32_t error = ret ? 0 : load_be32(d);
    s->ret = error ? nbd_error_from_wire(error) : -EIO;
    return ret ? ret : channel_skip(&n->ch, len - 6);
}

static int take_chunk(struct nbd *n)
{
    uint8_t head[16], off[8];
    int ret = channel_read(&n->ch, head, sizeof(head));
    struct slot *s = ret ? NULL : slot_find(n, load_be64(head + 4));
    uint16_t flags = load_be16(head), type = load_be16(head + 2);
    uint32_t len = load_be32(head + 12);
    if (!s || len > NBD_MAX_PAYLOAD + 4096) {
        return ret ? ret : -EPROTO;
    }
    if (type == NBD_CHUNK_NONE) {
        ret = len || !(flags & NBD_CHUNK_DONE) ? -EPROTO : 0;
    } else if (type == NBD_CHUNK_DATA) {
        ret = len > 8 ? channel_read(&n->ch, off, 8) : -EPROTO;
        ret = ret ? ret : take_data(n, s, load_be64(off), len - 8);
    } else if (type == NBD_CHUNK_HOLE) {
        ret = take_hole(n, s, len);
    } else if (type == NBD_CHUNK_STATUS) {
        ret = take_status(n, s, len);
    } else if (type & NBD_CHUNK_IS_ERROR) {
        ret = take_error(n, s, len);
    } else {
        ret = -EPROTO;
    }
    if (!ret && flags & NBD_CHUNK_DONE) {
        bool short_read = s->q && s->got != s->q->len;
        s->ret = s->ret ? s->ret : short_read || (s->extent && !s->got) ? -EIO : 0;
        slot_done(s);
    }
    return ret;
}

static void receiver(void *opaque)
{
    struct nbd *n = opaque;
    int ret = 0;
    for (unsigned turn = 1; !ret; turn++) {
        uint8_t magic[4];
        if (turn % TURN == 0) {
            co_yield (); /* a server that never stops talking is not all there is */
        }
        ret = channel_read(&n->ch, magic, 4);
        if (!ret) {
            uint32_t m = load_be32(magic);
            ret = m == NBD_SIMPLE_MAGIC                        ? take_simple(n)
                  : m == NBD_CHUNK_MAGIC && n->info.structured ? take_chunk(n)
                                                               : -EPROTO;
        }
    }
    n->connected = false;
    channel_shut(&n->ch);
    for (unsigned i = 0; i < SLOTS; i++) {
        if (n->slots[i].co && !n->slots[i].done) {
            n->slots[i].ret = ret == -EPROTO ? -EPROTO : LOST;
            slot_done(&n->slots[i]);
        }
    }
    n->receiving = false;
    co_queue_all(&n->receiver_ended);
}

static void wait_for_receiver(struct nbd *n)
{
    while (n->receiving) {
        co_queue_wait(&n->receiver_ended);
    }
}

/* ---- Connecting ---- */

static int connect_once(struct nbd *n, struct nbd_export_info *info, struct err *err)
{
    struct nbd_ask ask = {n->export_name, n->tls_creds, n->tls_host,
                          n->bitmap,      n->b->graph,  n->where};
    int fd = sock_connect(&n->addr, err);
    if (fd < 0) {
        return fd;
    }
    int ret = channel_open(&n->ch, fd);
    if (ret) {
        return err_set(err, -ret, "no descriptor for '%s': %s", n->where, strerror(-ret));
    }
    ret = nbd_negotiate(&n->ch, &ask, info, err);
    if (!ret && n->b->flags & BLOCK_RDWR && info->flags & NBD_READ_ONLY) {
        ret = err_set(err, EACCES, "the NBD export '%s' is read-only", n->where);
    }
    if (!ret && n->bitmap && !info->has_status) {
        ret = err_set(err, ENOENT, "the NBD export '%s' has no bitmap '%s'", n->where, n->bitmap);
    }
    if (ret) {
        channel_close(&n->ch);
    }
    return ret;
}

static int connect_until(struct nbd *n, uint64_t ns, struct nbd_export_info *info, struct err *err)
{
    uint64_t end = clock_now_ns() + ns;
    int ret = connect_once(n, info, err);
    while (ret && clock_now_ns() < end && !n->closing) {
        co_sleep_ns(100000000);
        ret = connect_once(n, info, err);
    }
    return ret;
}

static void start_receiver(struct nbd *n)
{
    n->connected = true;
    n->receiving = true;
    co_start(block_graph_loop(n->b->graph), receiver, n);
}

/* Requests are cut to what the first connection allowed. */
static bool same_export(const struct nbd *n, const struct nbd_export_info *info)
{
    uint32_t align = n->b->align;
    return info->size == n->info.size && info->min_block <= align &&
           (!info->max_block || info->max_block >= align);
}

static int reconnect(struct nbd *n)
{
    struct err err;
    struct nbd_export_info info;
    co_lock(&n->connecting);
    int ret = n->closing ? LOST : 0;
    if (!ret && !n->connected) {
        wait_for_receiver(n);
        co_lock(&n->send); /* somebody may still be about to find out */
        channel_close(&n->ch);
        co_unlock(&n->send);
        ret = connect_until(n, n->retry_ns, &info, &err);
        if (!ret && !same_export(n, &info)) {
            channel_close(&n->ch);
            ret = -EIO;
        }
        if (!ret) {
            n->info = info;
            start_receiver(n);
        }
    }
    co_unlock(&n->connecting);
    return ret;
}

/* ---- Requests ---- */

static struct slot *slot_take(struct nbd *n)
{
    for (;;) {
        for (unsigned i = 0; i < SLOTS; i++) {
            struct slot *s = &n->slots[i];
            if (!s->co) {
                *s = (struct slot){.co = co_self(), .cookie = n->cookies++ * SLOTS + i};
                return s;
            }
        }
        co_queue_wait(&n->slot_free);
    }
}

struct call {
    uint16_t cmd, flags;
    uint64_t off;
    uint32_t len;
    const struct iovs *in, *out;
    struct block_extent *extent;
};

static int call_once(struct nbd *n, const struct call *c)
{
    struct slot *s = slot_take(n);
    uint8_t head[28];
    s->q = c->in;
    s->off = c->off;
    s->len = c->len;
    s->extent = c->extent;
    store_be32(head, NBD_REQUEST_MAGIC);
    store_be16(head + 4, c->flags);
    store_be16(head + 6, c->cmd);
    store_be64(head + 8, s->cookie);
    store_be64(head + 16, c->off);
    store_be32(head + 24, c->len);
    co_lock(&n->send);
    int ret = n->connected && !s->done ? channel_writev(&n->ch, head, sizeof(head), c->out) : LOST;
    co_unlock(&n->send);
    if (ret && !s->done && n->receiving) {
        channel_shut(&n->ch); /* the receiver ends and tells everybody, us too */
        ret = 0;
    }
    if (!ret && !s->done) {
        s->waiting = true;
        co_wait();
    }
    ret = s->done ? s->ret : ret;
    s->co = NULL;
    co_queue_next(&n->slot_free);
    return ret;
}

static int call(struct nbd *n, const struct call *c)
{
    int ret = call_once(n, c);
    while (ret == LOST && n->retry_ns && !n->closing) {
        ret = reconnect(n);
        ret = ret ? -EIO : call_once(n, c);
    }
    return ret == LOST ? -EIO : ret;
}

static uint64_t max_of(const struct nbd *n, uint64_t most)
{
    uint64_t max = n->info.max_block && n->info.max_block < most ? n->info.max_block : most;
    return round_down(max, n->b->align);
}

static int nbd_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    struct nbd *n = b->state;
    uint64_t max = max_of(n, MAX_READ);
    int ret = 0;
    for (uint64_t done = 0; !ret && done < q->len;) {
        uint64_t len = q->len - done < max ? q->len - done : max;
        struct iovs part = iovs_part(q, done, len);
        struct call c = {.cmd = NBD_CMD_READ, .off = off + done, .len = (uint32_t)len, .in = &part};
        ret = call(n, &c);
        done += len;
    }
    return ret;
}

static int nbd_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    struct nbd *n = b->state;
    uint64_t max = max_of(n, MAX_READ);
    int ret = 0;
    for (uint64_t done = 0; !ret && done < q->len;) {
        uint64_t len = q->len - done < max ? q->len - done : max;
        struct iovs part = iovs_part(q, done, len);
        struct call c = {.cmd = NBD_CMD_WRITE,
                         .flags = flags & BLOCK_FUA ? NBD_FUA : 0,
                         .off = off + done,
                         .len = (uint32_t)len,
                         .out = &part};
        ret = call(n, &c);
        done += len;
    }
    return ret;
}

static int call_range(struct nbd *n, uint16_t cmd, uint16_t flags, uint64_t off, uint64_t len)
{
    int ret = 0;
    for (uint64_t done = 0; !ret && done < len;) {
        uint64_t piece = len - done < MAX_RANGE ? len - done : MAX_RANGE;
        struct call c = {cmd, flags, off + done, (uint32_t)piece, NULL, NULL, NULL};
        ret = call(n, &c);
        done += piece;
    }
    return ret;
}

static int nbd_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    struct nbd *n = b->state;
    bool fast = flags & BLOCK_NO_FALLBACK;
    if (!(n->info.flags & NBD_SEND_ZEROES) || (fast && !(n->info.flags & NBD_SEND_FAST_ZERO))) {
        return -ENOTSUP;
    }
    uint16_t f = (flags & BLOCK_MAY_UNMAP ? 0 : NBD_NO_HOLE) | (fast ? NBD_FAST_ZERO : 0);
    return call_range(n, NBD_CMD_ZEROES, f, off, len);
}

static int nbd_discard(struct block *b, uint64_t off, uint64_t len)
{
    struct nbd *n = b->state;
    return n->info.flags & NBD_SEND_TRIM ? call_range(n, NBD_CMD_TRIM, 0, off, len) : 0;
}

static int nbd_flush(struct block *b)
{
    struct nbd *n = b->state;
    struct call c = {.cmd = NBD_CMD_FLUSH};
    return n->info.flags & NBD_SEND_FLUSH && !(b->flags & BLOCK_NO_FLUSH) ? call(n, &c) : 0;
}

static int nbd_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    struct nbd *n = b->state;
    *e = (struct block_extent){len, EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_OFFSET, off, b, 0};
    if (!n->info.has_status) {
        return 0;
    }
    uint64_t from = round_down(off, b->align);
    uint64_t want = round_up(off + len, b->align) - from;
    want = want < MAX_RANGE ? want : MAX_RANGE;
    struct block_extent got = *e;
    struct call c = {NBD_CMD_STATUS, NBD_REQ_ONE, from, (uint32_t)want, NULL, NULL, &got};
    int ret = call(n, &c);
    if (!ret && got.len <= off - from) {
        return 0; /* less than a block: not to be told apart */
    }
    if (!ret) {
        e->flags = got.flags | EXTENT_OFFSET;
        e->len = got.len - (off - from) < len ? got.len - (off - from) : len;
    }
    return ret;
}

/* ---- Life ---- */

static void nbd_free(struct nbd *n)
{
    sock_addr_free(&n->addr);
    free(n->export_name);
    free(n->tls_creds);
    free(n->tls_host);
    free(n->bitmap);
    free(n->where);
}

static int nbd_take_opts(struct nbd *n, const struct keyval *opts, struct err *err)
{
    uint64_t retry = 0, opening = 0;
    const char *name = keyval_get(opts, "export");
    int ret = nbd_addr_from_opts(&n->addr, opts, err);
    ret = ret ? ret : block_opt_size(opts, "reconnect-delay", &retry, err);
    ret = ret ? ret : block_opt_size(opts, "open-timeout", &opening, err);
    if (ret) {
        return ret;
    }
    n->retry_ns = retry * NS_PER_SEC;
    n->opening_ns = opening * NS_PER_SEC;
    n->export_name = alloc_text(name ? name : "");
    n->tls_creds = alloc_text(keyval_get(opts, "tls-creds"));
    n->tls_host = alloc_text(keyval_get(opts, "tls-hostname"));
    n->tls_host = n->tls_host ? n->tls_host : alloc_text(n->addr.host);
    n->bitmap = alloc_text(keyval_get(opts, "x-dirty-bitmap"));
    n->where = nbd_uri(&n->addr, n->export_name);
    return 0;
}

static int nbd_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct nbd *n = b->state;
    n->b = b;
    n->ch = (struct channel){.in = -1, .out = -1};
    int ret = nbd_take_opts(n, opts, err);
    ret = ret ? ret : connect_until(n, n->opening_ns, &n->info, err);
    if (ret) {
        nbd_free(n);
        return ret;
    }
    free(b->filename);
    b->filename = alloc_text(n->where);
    b->size = n->info.size;
    b->align = n->info.min_block ? n->info.min_block : 1;
    b->write_flags = n->info.flags & NBD_SEND_FUA ? BLOCK_FUA : 0;
    b->zero_flags = BLOCK_MAY_UNMAP | BLOCK_NO_FALLBACK;
    start_receiver(n);
    return 0;
}

static int nbd_close(struct block *b)
{
    struct nbd *n = b->state;
    uint8_t head[28] = {0};
    n->closing = true;
    store_be32(head, NBD_REQUEST_MAGIC);
    store_be16(head + 6, NBD_CMD_DISC);
    co_lock(&n->send);
    if (n->connected) {
        channel_write(&n->ch, head, sizeof(head));
    }
    co_unlock(&n->send);
    channel_shut(&n->ch);
    wait_for_receiver(n);
    channel_close(&n->ch);
    nbd_free(n);
    return 0;
}

static const struct block_opt nbd_open_opts[] = {
    {"server", "node", "server.type=inet|unix, server.host, server.port, server.path", NULL},
    {"host", "str", "TCP host", NULL},
    {"port", "str", "TCP port", "10809"},
    {"path", "str", "unix socket", NULL},
    {"export", "str", "name of the export", ""},
    {"tls-creds", "str", "id of a tls-creds object", NULL},
    {"tls-hostname", "str", "name in the server's certificate", NULL},
    {"reconnect-delay", "size", "seconds to try again when the connection is lost", "0"},
    {"open-timeout", "size", "seconds to try to connect", "0"},
    {"x-dirty-bitmap", "str", "show this bitmap instead of what is allocated", NULL},
    {0},
};

static const char *const nbd_prefixes[] = {
    "nbd:", "nbd+tcp:", "nbd+unix:", "nbds:", "nbds+tcp:", "nbds+unix:", NULL};

const struct block_type nbd_type = {
    .name = "nbd",
    .summary = "exports of NBD servers",
    .spec = "nbd",
    .size = sizeof(struct nbd),
    .protocol = true,
    .prefixes = nbd_prefixes,
    .open_opts = nbd_open_opts,
    .parse_name = nbd_parse_name,
    .open = nbd_open,
    .close = nbd_close,
    .preadv = nbd_preadv,
    .pwritev = nbd_pwritev,
    .flush = nbd_flush,
    .discard = nbd_discard,
    .zero = nbd_zero,
    .extent = nbd_extent,
};
