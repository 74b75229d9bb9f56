/*
 * Reading and writing compressed clusters. Packing and unpacking runs on worker threads, several
 * clusters at once. Compressed clusters lie one behind the other, whichever is ready first, and
 * share host clusters and even sectors; each counts once in every host cluster it touches.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "block/qcow2/internal.h"

enum { WRITE_JOBS = 8 };

/* ---- Reading ---- */

struct unpack {
    struct qcow2 *s; /* only what does not change */
    const uint8_t *in;
    uint8_t *out;
    size_t in_len;
};

static int unpack_run(void *opaque)
{
    struct unpack *u = opaque;
    struct qcow2_codec *codec = qcow2_codec_take(u->s);
    int ret =
        qcow2_decompress(codec, u->s->compression, u->in, u->in_len, u->out, u->s->cluster_size);
    qcow2_codec_give(u->s, codec);
    return ret;
}

static int unpack_to(struct qcow2 *s, uint64_t host, uint64_t len, uint8_t *packed, uint8_t *out)
{
    struct iovec hold;
    struct iovs p = iovs_buf(&hold, packed, len);
    int ret = qcow2_host_read(s, host, &p);
    struct unpack u = {s, packed, out, len};
    return ret ? ret : co_compute(unpack_run, &u);
}

int qcow2_read_compressed(struct qcow2 *s, uint64_t entry, uint64_t in, const struct iovs *q)
{
    uint64_t host, len; /* len is two clusters at most */
    qcow2_compressed_range(s, entry, &host, &len);
    uint8_t *packed = qcow2_buffer_take(s);
    void *flat = !in && q->len == s->cluster_size ? iovs_flat(q) : NULL;
    uint8_t *own = flat ? NULL : qcow2_buffer_take(s), *out = flat ? flat : own;
    int ret = packed && out ? unpack_to(s, host, len, packed, out) : -ENOMEM;
    if (!ret && out == own) {
        iovs_put(q, 0, out + in, q->len);
    }
    qcow2_buffer_give(s, packed);
    qcow2_buffer_give(s, own);
    return ret;
}

/* ---- Writing ---- */

struct pack {
    struct qcow2 *s;
    struct qcow2_jobs *jobs;
    uint64_t off;
    struct iovs q;
    const uint8_t *in;
    uint8_t *out;
    int n;
};

static int pack_run(void *opaque)
{
    struct pack *p = opaque;
    struct qcow2 *s = p->s; /* only what does not change */
    struct qcow2_codec *codec = qcow2_codec_take(s);
    p->n =
        qcow2_compress(codec, s->compression, p->in, s->cluster_size, p->out, s->cluster_size - 1);
    qcow2_codec_give(s, codec);
    return p->n < 0 ? p->n : 0;
}

static uint64_t pack_limit(const struct qcow2 *s)
{
    unsigned x = 62 - (s->cluster_bits - 8);
    return 1ULL << (x < 56 ? x : 56);
}

/* A place for `len` bytes, counted; the lock is held. */
static int pack_place(struct qcow2 *s, uint64_t len, uint64_t *off)
{
    uint64_t unit = s->cluster_size, in = s->packed_at & (unit - 1);
    if (s->packed_at && len <= unit - in && in) {
        int ret = qcow2_refcount_add(s, s->packed_at, len, 1);
        if (!ret) {
            *off = s->packed_at;
            s->packed_at += len;
            return 0;
        }
        if (ret != -ERANGE) {
            return ret;
        }
        s->packed_at = 0; /* counts are too narrow for so many in one cluster */
    }
    uint64_t at;
    int ret = qcow2_alloc(s, 1, &at);
    if (ret) {
        return ret;
    }
    /* Goes on where the last one ended if the new cluster follows it. */
    in = s->packed_at & (unit - 1);
    if (s->packed_at && in && round_up(s->packed_at, unit) == at) {
        ret = qcow2_refcount_add(s, s->packed_at, 1, 1);
        if (!ret) {
            *off = s->packed_at;
            s->packed_at += len;
            return 0;
        }
    }
    *off = at;
    s->packed_at = at + len;
    return 0;
}

static uint64_t pack_entry(const struct qcow2 *s, uint64_t off, uint64_t len)
{
    unsigned x = 62 - (s->cluster_bits - 8);
    uint64_t sectors = ((off + len - 1) / BLOCK_SECTOR) - off / BLOCK_SECTOR;
    return QCOW2_COMPRESSED | sectors << x | off;
}

static int pack_link(struct qcow2 *s, uint64_t guest, uint64_t host, uint64_t len)
{
    struct table *t;
    uint32_t i;
    int ret = qcow2_l2_for_write(s, guest, &t, &i);
    if (ret) {
        return ret;
    }
    uint64_t bits, old = qcow2_entry_get(s, t, i, &bits);
    ret = qcow2_entry_check(s, guest, old, bits);
    if (!ret) {
        qcow2_entry_set(s, t, i, pack_entry(s, host, len), 0);
        qcow2_free_entry(s, old, bits);
    }
    qcow2_cache_put(t);
    return ret;
}

/* What is packed goes to the disk and into the L2 table. */
static int pack_store(struct pack *p)
{
    struct qcow2 *s = p->s;
    struct qcow2_inflight f = {p->off, p->off + s->cluster_size, NULL};
    uint64_t host, len = (uint64_t)p->n;
    co_lock(&s->lock);
    qcow2_inflight_wait(s, f.start, f.end);
    int ret = s->is_corrupt ? -EIO : pack_place(s, len, &host);
    if (!ret && host + len > pack_limit(s)) {
        qcow2_free(s, host, len);
        ret = -EFBIG;
    }
    if (!ret) {
        qcow2_inflight_add(s, &f);
    }
    co_unlock(&s->lock);
    if (ret) {
        return ret;
    }
    struct iovec hold;
    struct iovs q = iovs_buf(&hold, p->out, len);
    ret = qcow2_host_write(s, host, &q);
    co_lock(&s->lock);
    ret = ret ? ret : pack_link(s, p->off, host, len);
    if (ret) {
        qcow2_free(s, host, len);
    }
    qcow2_inflight_remove(s, &f);
    co_unlock(&s->lock);
    return ret;
}

/* The cluster in one piece, with zeros behind the end of the disk. */
static const uint8_t *pack_input(const struct pack *p, uint8_t *own)
{
    iovs_get(&p->q, 0, own, p->q.len);
    memset(own + p->q.len, 0, p->s->cluster_size - p->q.len);
    return own;
}

/* `buf`: the cluster if it has to be copied, and what comes out. */
static int pack_one(struct pack *p, uint8_t *buf)
{
    struct qcow2 *s = p->s;
    p->in = p->q.len == s->cluster_size ? iovs_flat(&p->q) : NULL;
    p->in = p->in ? p->in : pack_input(p, buf);
    p->out = buf + s->cluster_size;
    int ret = co_compute(pack_run, p);
    if (ret) {
        return ret;
    }
    return p->n ? pack_store(p) : qcow2_pwritev(s->b, p->off, &p->q, 0);
}

static void pack_job(void *opaque)
{
    struct pack *p = opaque;
    uint8_t *buf = qcow2_buffer_take(p->s);
    int ret = buf ? pack_one(p, buf) : -ENOMEM;
    qcow2_buffer_give(p->s, buf);
    qcow2_jobs_end(p->jobs, ret);
    free(p);
}

int qcow2_write_compressed(struct qcow2 *s, uint64_t off, const struct iovs *q)
{
    uint64_t unit = s->cluster_size;
    bool whole = !(off & (unit - 1)) && (!(q->len & (unit - 1)) || off + q->len == s->b->size);
    if (!whole) {
        return -ENOTSUP;
    }
    struct qcow2_jobs jobs = {.loop = block_graph_loop(s->b->graph), .max = WRITE_JOBS};
    for (uint64_t done = 0, n; done < q->len && !jobs.ret; done += n) {
        n = q->len - done < unit ? q->len - done : unit;
        struct pack *p = alloc_zero(sizeof(*p));
        *p = (struct pack){.s = s, .jobs = &jobs, .off = off + done, .q = iovs_part(q, done, n)};
        if (n == q->len || !co_self()) {
            jobs.running++;
            pack_job(p);
        } else {
            qcow2_jobs_start(&jobs, pack_job, p);
        }
    }
    return qcow2_jobs_wait(&jobs);
}
