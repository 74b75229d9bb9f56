/*
 * Reading and writing guest data. What is ours alone is overwritten in place without the lock. Else
 * clusters are allocated under the lock, data and what has to be copied around it go to the disk
 * without it, in one write, and the L2 entries are set under it again: docs/qcow2.md, "A write".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/qcow2/internal.h"

enum {
    READ_JOBS = 4,         /* of one request; several requests are many enough */
    CRYPT_CHUNK = 2 << 20, /* bytes of bounce buffer */
    ONE_READ = 16 << 10,   /* head and tail are read in one with what lies between */
};

/* ---- Reading ---- */

static int read_below(struct qcow2 *s, uint64_t off, const struct iovs *q)
{
    uint64_t size = s->b->size, have = off >= size ? 0 : size - off;
    have = have < q->len ? have : q->len;
    if (have < q->len) {
        iovs_zero(q, have, q->len - have); /* behind our end there is nothing of the backing file */
    }
    if (!have) {
        return 0;
    }
    struct iovs part = iovs_part(q, 0, have);
    return block_read_backing(s->b, off, &part);
}

static int read_encrypted(struct qcow2 *s, uint64_t off, uint64_t host, const struct iovs *q)
{
    AUTO_FREE uint8_t *buf = block_alloc(q->len < CRYPT_CHUNK ? q->len : CRYPT_CHUNK);
    if (!buf) {
        return -ENOMEM;
    }
    int ret = 0;
    unsigned side = qcow2_io_begin(s);
    for (uint64_t done = 0, n; done < q->len && !ret; done += n) {
        n = q->len - done < CRYPT_CHUNK ? q->len - done : CRYPT_CHUNK;
        struct iovec hold;
        struct iovs part = iovs_buf(&hold, buf, n);
        ret = qcow2_host_read(s, host + done, &part);
        ret = ret ? ret : qcow2_decrypt(s, off + done, host + done, buf, n);
        if (!ret) {
            iovs_put(q, done, buf, n);
        }
    }
    qcow2_io_end(s, side);
    return ret;
}

static int read_mapped(struct qcow2 *s, uint64_t off, const struct qcow2_map *m,
                       const struct iovs *q)
{
    switch (m->kind) {
    case QCOW2_NOTHING: return read_below(s, off, q);
    case QCOW2_ZEROS: iovs_zero(q, 0, q->len); return 0;
    case QCOW2_DEFLATED: return qcow2_read_compressed(s, m->entry, off & (s->cluster_size - 1), q);
    default: break;
    }
    return s->crypt ? read_encrypted(s, off, m->host, q) : qcow2_host_read(s, m->host, q);
}

struct read_job {
    struct qcow2 *s;
    struct qcow2_jobs *jobs;
    uint64_t off;
    struct qcow2_map map;
    struct iovs q;
};

static void read_job_run(void *opaque)
{
    struct read_job *j = opaque;
    int ret = read_mapped(j->s, j->off, &j->map, &j->q);
    qcow2_jobs_end(j->jobs, ret);
    free(j);
}

static void read_start(struct qcow2 *s, struct qcow2_jobs *jobs, uint64_t off,
                       const struct qcow2_map *m, struct iovs q)
{
    struct read_job *j = alloc_zero(sizeof(*j));
    *j = (struct read_job){s, jobs, off, *m, q};
    qcow2_jobs_start(jobs, read_job_run, j);
}

int qcow2_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    struct qcow2 *s = b->state;
    struct qcow2_jobs jobs = {.loop = block_graph_loop(b->graph), .max = READ_JOBS};
    int ret = 0;
    for (uint64_t done = 0; done < q->len && !ret && !jobs.ret;) {
        struct qcow2_map m;
        /* Before the look-up: between it and the I/O nobody may wait. */
        while (jobs.running >= jobs.max) {
            jobs.waiter = co_self();
            co_wait();
        }
        ret = qcow2_lookup(s, off + done, q->len - done, &m);
        if (ret) {
            break;
        }
        struct iovs part = iovs_part(q, done, m.len);
        if (m.len == q->len - done || !co_self()) {
            ret = read_mapped(s, off + done, &m, &part);
        } else if (m.kind == QCOW2_ZEROS) {
            iovs_zero(&part, 0, part.len);
        } else {
            read_start(s, &jobs, off + done, &m, part);
        }
        done += m.len;
    }
    int late = qcow2_jobs_wait(&jobs);
    return ret ? ret : late;
}

/* ---- Writing: what is to be done ---- */

struct write {
    struct qcow2_inflight flight;
    uint64_t off, len; /* the guest's data */
    uint64_t from, to; /* with what is copied around it */
    uint64_t host;     /* of flight.start */
    bool reuse;        /* the clusters were there already */
    bool zero_around;  /* around the data it reads as zero, and the host has zeros there */
    bool keep_bits;    /* extended L2: subclusters that are not written stay as they are */
    uint64_t clusters;
};

int qcow2_begin_change(struct qcow2 *s, uint64_t off, uint64_t len)
{
    if (s->is_corrupt || s->viewing) {
        return -EIO;
    }
    if (!s->bitmaps) {
        return 0;
    }
    int ret = s->bitmaps_in_use ? 0 : qcow2_bitmaps_begin(s); /* takes the lock itself */
    if (ret) {
        return ret;
    }
    if (len && off < s->b->size) {
        qcow2_bitmaps_mark(s, off, len < s->b->size - off ? len : s->b->size - off);
    }
    return 0;
}

/* In how many clusters from the first on can the same be done? */
static uint64_t write_run(struct qcow2 *s, struct table *t, uint32_t i, uint64_t max,
                          uint64_t first_entry)
{
    bool ours = qcow2_entry_ours(s, first_entry);
    if (ours && s->subclusters > 1 && !(s->incompatible & QCOW2_DATA_FILE)) {
        return 1;
    }
    uint64_t n = 1;
    for (; n < max && i + n < s->l2_entries; n++) {
        uint64_t bits, e = qcow2_entry_get(s, t, i + (uint32_t)n, &bits);
        bool e_ours = qcow2_entry_ours(s, e);
        bool zero = e & QCOW2_ZERO && s->subclusters == 1;
        if (e_ours != ours ||
            (ours && (!zero || (e & QCOW2_OFFSET_MASK) !=
                                   (first_entry & QCOW2_OFFSET_MASK) + (n << s->cluster_bits)))) {
            break;
        }
    }
    return n;
}

static uint32_t write_sub(const struct qcow2 *s, uint64_t off)
{
    return (uint32_t)((off & (s->cluster_size - 1)) / s->subcluster_size);
}

/* Where copying has to begin before `off`, or end behind it (`up`). */
static uint64_t write_edge(const struct qcow2 *s, const struct write *w, uint64_t off, bool up,
                           uint64_t entry, uint64_t bits)
{
    uint64_t unit = s->cluster_size;
    if (s->subclusters > 1) {
        bool shared_data = !w->reuse && (entry & QCOW2_COMPRESSED || bits & mask_low(32));
        unit = shared_data ? s->cluster_size : s->subcluster_size;
        if (w->reuse && bits >> write_sub(s, up ? off - 1 : off) & 1) {
            return off; /* is data already: nothing around it has to be right */
        }
    }
    return up ? round_up(off, unit) : off & ~(unit - 1);
}

static bool write_reads_zero(struct qcow2 *s, uint64_t off, uint64_t entry, uint64_t bits)
{
    if (entry & QCOW2_COMPRESSED || (s->subclusters > 1 && bits & mask_low(32))) {
        return false;
    }
    if (s->subclusters == 1 && s->version >= 3 && entry & QCOW2_ZERO) {
        return true;
    }
    bool nothing = !(entry & QCOW2_OFFSET_MASK) || s->subclusters > 1;
    return nothing && (!s->b->backing || off >= block_size(s->b->backing));
}

/* Clusters for as much of the request as can be done at once. The lock is held. */
static int write_prepare(struct qcow2 *s, struct write *w)
{
    struct table *t;
    uint32_t i;
    int ret = qcow2_l2_for_write(s, w->off, &t, &i);
    if (ret) {
        return ret;
    }
    uint64_t in = w->off & (s->cluster_size - 1), bits, last_bits;
    uint64_t max = (in + w->len + s->cluster_size - 1) >> s->cluster_bits;
    uint64_t entry = qcow2_entry_get(s, t, i, &bits);
    ret = qcow2_entry_check(s, w->off, entry, bits);
    uint64_t n = ret ? 0 : write_run(s, t, i, max, entry), fresh = s->fresh;
    w->reuse = qcow2_entry_ours(s, entry);
    w->flight.start = w->off - in;
    if (ret) {
    } else if (w->reuse) {
        w->host = entry & QCOW2_OFFSET_MASK;
        if (!s->b->data && qcow2_overlaps_meta(s, w->host, n << s->cluster_bits)) {
            ret = qcow2_corrupt(s, "guest offset %#llx has its data in metadata at %#llx",
                                (unsigned long long)w->off, (unsigned long long)w->host);
        }
    } else if (s->incompatible & QCOW2_DATA_FILE) {
        w->host = w->flight.start;
    } else {
        ret = qcow2_alloc_some(s, n, &w->host, &n);
    }
    if (ret) {
        qcow2_cache_put(t);
        return ret;
    }
    w->clusters = n;
    w->flight.end = w->flight.start + (n << s->cluster_bits);
    w->len = w->len < w->flight.end - w->off ? w->len : w->flight.end - w->off;
    uint64_t end = w->off + w->len;
    uint64_t last = qcow2_entry_get(s, t, i + (uint32_t)n - 1, &last_bits);
    w->from = write_edge(s, w, w->off, false, entry, bits);
    w->to = write_edge(s, w, end, true, last, last_bits);
    bool host_zero =
        !w->reuse && !s->crypt && !(s->incompatible & QCOW2_DATA_FILE) && w->host >= fresh;
    w->zero_around = host_zero &&
                     (w->from == w->off || write_reads_zero(s, w->from, entry, bits)) &&
                     (w->to == end || write_reads_zero(s, end, last, last_bits));
    qcow2_cache_put(t);
    qcow2_inflight_add(s, &w->flight);
    return 0;
}

/* ---- Writing: data ---- */

static int read_for_copy(struct qcow2 *s, uint64_t off, uint8_t *buf, uint64_t len)
{
    if (!len) {
        return 0;
    }
    struct iovec hold;
    struct iovs q = iovs_buf(&hold, buf, len);
    return qcow2_preadv(s->b, off, &q);
}

/* Head and tail from what is there now, in one read if they are near each other. */
static int read_around(struct qcow2 *s, const struct write *w, uint8_t *head, uint8_t *tail)
{
    uint64_t head_len = w->off - w->from, end = w->off + w->len, tail_len = w->to - end;
    if (head_len && tail_len && w->len <= ONE_READ) {
        uint64_t all = w->to - w->from;
        AUTO_FREE uint8_t *buf = block_alloc(all);
        int ret = buf ? read_for_copy(s, w->from, buf, all) : -ENOMEM;
        if (!ret) {
            memcpy(head, buf, head_len);
            memcpy(tail, buf + all - tail_len, tail_len);
        }
        return ret;
    }
    int ret = read_for_copy(s, w->from, head, head_len);
    return ret ? ret : read_for_copy(s, end, tail, tail_len);
}

/* Head, guest data and tail as one list of vectors. */
static int write_joined(struct qcow2 *s, uint64_t host, struct iovs head, const struct iovs *q,
                        struct iovs tail)
{
    unsigned max = q->n + 2, n = 0;
    AUTO_FREE struct iovec *v = alloc_array(max, sizeof(*v));
    uint64_t bytes;
    n += iovs_list(&head, v, max, &bytes);
    n += iovs_list(q, v + n, max - n, &bytes);
    n += iovs_list(&tail, v + n, max - n, &bytes);
    struct iovs all = iovs_of(v, n);
    return qcow2_host_write(s, host, &all);
}

static int write_encrypted(struct qcow2 *s, uint64_t off, uint64_t host, struct iovs head,
                           const struct iovs *q, struct iovs tail)
{
    uint64_t len = head.len + q->len + tail.len;
    AUTO_FREE uint8_t *buf = block_alloc(len);
    if (!buf) {
        return -ENOMEM;
    }
    if (head.len) {
        iovs_get(&head, 0, buf, head.len);
    }
    iovs_get(q, 0, buf + head.len, q->len);
    if (tail.len) {
        iovs_get(&tail, 0, buf + head.len + q->len, tail.len);
    }
    int ret = qcow2_encrypt(s, off, host, buf, len);
    struct iovec hold;
    struct iovs all = iovs_buf(&hold, buf, len);
    return ret ? ret : qcow2_host_write(s, host, &all);
}

static int write_data(struct qcow2 *s, const struct write *w, const struct iovs *q)
{
    if (w->zero_around || (w->from == w->off && w->to == w->off + w->len && !s->crypt)) {
        return qcow2_host_write(s, w->host + (w->off - w->flight.start), q);
    }
    uint64_t head_len = w->off - w->from, tail_len = w->to - w->off - w->len;
    AUTO_FREE uint8_t *around = block_alloc(head_len + tail_len + 1);
    if (!around) {
        return -ENOMEM;
    }
    int ret = read_around(s, w, around, around + head_len);
    if (ret) {
        return ret;
    }
    struct iovec hold[2];
    struct iovs head = iovs_buf(&hold[0], around, head_len);
    struct iovs tail = iovs_buf(&hold[1], around + head_len, tail_len);
    uint64_t host = w->host + (w->from - w->flight.start);
    return s->crypt ? write_encrypted(s, w->from, host, head, q, tail)
                    : write_joined(s, host, head, q, tail);
}

/* ---- Writing: entries ---- */

/* Subclusters of the cluster at `at` that have data now. */
static uint64_t write_new_bits(const struct qcow2 *s, const struct write *w, uint64_t at)
{
    uint64_t lo = w->from > at ? w->from - at : 0;
    uint64_t hi = w->to < at + s->cluster_size ? w->to - at : s->cluster_size;
    uint64_t first = lo / s->subcluster_size;
    uint64_t end = (hi + s->subcluster_size - 1) / s->subcluster_size;
    return mask_low((unsigned)end) & ~mask_low((unsigned)first);
}

static void write_set_entry(struct qcow2 *s, const struct write *w, struct table *t, uint32_t i,
                            uint64_t k)
{
    uint64_t bits, old = qcow2_entry_get(s, t, i, &bits);
    uint64_t at = w->flight.start + (k << s->cluster_bits), entry;
    if (w->reuse) {
        entry = s->subclusters > 1 ? old : old & ~QCOW2_ZERO;
    } else {
        entry = (w->host + (k << s->cluster_bits)) | QCOW2_COPIED;
    }
    if (s->subclusters > 1) {
        uint64_t now = write_new_bits(s, w, at);
        uint64_t stay = old & QCOW2_COMPRESSED ? 0 : bits;
        bits = (stay & ~(now << 32)) | now;
    }
    qcow2_entry_set(s, t, i, entry, bits);
    if (!w->reuse) {
        /* On failure it is lost space only. Its references are gone from memory: I4. */
        qcow2_free_entry(s, old, bits);
    }
}

static int write_link(struct qcow2 *s, const struct write *w)
{
    struct table *t;
    uint32_t i;
    int ret = qcow2_l2_for_write(s, w->flight.start, &t, &i);
    if (ret) {
        return ret;
    }
    for (uint64_t k = 0; k < w->clusters; k++) {
        write_set_entry(s, w, t, i + (uint32_t)k, k);
    }
    qcow2_cache_put(t);
    return 0;
}

static int write_allocating(struct qcow2 *s, uint64_t off, const struct iovs *q, uint64_t *done)
{
    struct write w = {.off = off, .len = q->len};
    uint64_t unit = s->cluster_size - 1;
    co_lock(&s->lock);
    qcow2_inflight_wait(s, off & ~unit, (off + q->len + unit) & ~unit);
    struct qcow2_map m;
    int ret = qcow2_lookup_locked(s, off, q->len, &m);
    if (ret || (m.kind == QCOW2_DATA && m.copied)) {
        *done = 0; /* somebody was quicker: in place, then */
        co_unlock(&s->lock);
        return ret;
    }
    ret = write_prepare(s, &w);
    co_unlock(&s->lock);
    if (ret) {
        return ret;
    }
    struct iovs part = iovs_part(q, 0, w.len);
    ret = write_data(s, &w, &part);
    co_lock(&s->lock);
    ret = ret ? ret : s->is_corrupt ? -EIO : write_link(s, &w);
    if (ret && !w.reuse && !(s->incompatible & QCOW2_DATA_FILE)) {
        qcow2_free(s, w.host, w.clusters << s->cluster_bits);
    }
    qcow2_inflight_remove(s, &w.flight);
    co_unlock(&s->lock);
    *done = w.len;
    return ret;
}

static int write_in_place(struct qcow2 *s, uint64_t off, const struct qcow2_map *m,
                          const struct iovs *q)
{
    if (!s->b->data && qcow2_overlaps_meta(s, m->host, q->len)) {
        return qcow2_corrupt(s, "guest offset %#llx would be written over metadata at %#llx",
                             (unsigned long long)off, (unsigned long long)m->host);
    }
    if (!s->crypt) {
        return qcow2_host_write(s, m->host, q);
    }
    struct iovs none = {0};
    unsigned side = qcow2_io_begin(s);
    int ret = write_encrypted(s, off, m->host, none, q, none);
    qcow2_io_end(s, side);
    return ret;
}

int qcow2_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    struct qcow2 *s = b->state;
    int ret = qcow2_begin_change(s, off, q->len);
    if (!ret && flags & BLOCK_COMPRESSED) {
        return qcow2_write_compressed(s, off, q);
    }
    for (uint64_t done = 0, n; done < q->len && !ret; done += n) {
        struct qcow2_map m;
        uint64_t left = q->len - done;
        left = s->crypt && left > CRYPT_CHUNK ? CRYPT_CHUNK : left;
        n = 0;
        ret = qcow2_lookup(s, off + done, left, &m);
        if (ret) {
            break;
        }
        struct iovs part = iovs_part(q, done, left);
        if (m.kind == QCOW2_DATA && m.copied) {
            n = m.len;
            part = iovs_part(q, done, n);
            ret = write_in_place(s, off + done, &m, &part);
        } else {
            ret = write_allocating(s, off + done, &part, &n);
        }
    }
    return ret;
}
