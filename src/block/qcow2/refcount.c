/*
 * Reference counts of host clusters (spec "Host cluster management") and finding free ones. A count
 * that goes up is believed at once. One that goes down is not written, nor is the cluster used
 * again, before references to it are gone from the disk: docs/qcow2.md, I3 and I4.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/qcow2/internal.h"

enum { MAX_DISCARDS = 4096 };

struct qcow2_range {
    uint64_t cluster, n;
};

uint64_t qcow2_refblock_entries(const struct qcow2 *s)
{
    return (uint64_t)s->cluster_size * 8 >> s->refcount_order;
}

static uint64_t refcount_max_cluster(const struct qcow2 *s)
{
    uint64_t max = 1ULL << 56;
    return (max < BLOCK_MAX_SIZE ? max : BLOCK_MAX_SIZE) >> s->cluster_bits;
}

int qcow2_refblock_get(struct qcow2 *s, uint64_t index, struct table **t)
{
    uint64_t off = s->reftable[index];
    if (off & (s->cluster_size - 1) || off >= BLOCK_MAX_SIZE) {
        return qcow2_corrupt(s, "refcount table entry %llu is %#llx, which is no cluster",
                             (unsigned long long)index, (unsigned long long)off);
    }
    int ret = qcow2_cache_get(s->ref_cache, off, false, t);
    if (!ret) {
        (*t)->first = index * qcow2_refblock_entries(s);
    }
    return ret;
}

int qcow2_refcount_get(struct qcow2 *s, uint64_t cluster, uint64_t *count)
{
    uint64_t n = qcow2_refblock_entries(s), index = cluster / n;
    *count = 0;
    if (index >= s->reftable_size || !s->reftable[index]) {
        return 0;
    }
    struct table *t;
    int ret = qcow2_refblock_get(s, index, &t);
    if (!ret) {
        *count = qcow2_count_load(t->data, s->refcount_order, cluster % n);
        qcow2_cache_put(t);
    }
    return ret;
}

/* ---- Passing on that clusters are free ---- */

void qcow2_note_discard(struct qcow2 *s, uint64_t cluster, uint64_t clusters)
{
    bool wanted = s->freeing == QCOW2_DISCARD_REQUEST    ? s->o.discard_request
                  : s->freeing == QCOW2_DISCARD_SNAPSHOT ? s->o.discard_snapshot
                                                         : s->o.discard_other;
    if (!wanted) {
        return;
    }
    struct qcow2_range *last = s->discard_count ? &s->discards[s->discard_count - 1] : NULL;
    if (last && last->cluster + last->n == cluster) {
        last->n += clusters;
        return;
    }
    if (!s->discards) {
        s->discards = alloc_array(MAX_DISCARDS, sizeof(*s->discards));
    }
    if (s->discard_count < MAX_DISCARDS) { /* beyond that the host keeps the space */
        s->discards[s->discard_count++] = (struct qcow2_range){cluster, clusters};
    }
}

void qcow2_pass_discards(struct qcow2 *s)
{
    unsigned n = s->discard_count;
    s->discard_count = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t first = s->discards[i].cluster, end = first + s->discards[i].n;
        while (first < end) {
            /* Only what nobody has taken meanwhile. */
            uint64_t at, run;
            if (qcow2_find_free(s, first, end - first, &at, &run) || at >= end) {
                break;
            }
            uint64_t off = at << s->cluster_bits, len = run << s->cluster_bits;
            uint64_t size = block_size(s->b->file);
            if (off < size) {
                block_discard(s->b->file, off, len < size - off ? len : size - off);
            }
            first = at + run;
        }
    }
}

/* ---- Changing ---- */

/* Entries [i, end) of the block may all take delta. */
static int refcount_check_range(struct qcow2 *s, struct table *t, uint64_t i, uint64_t end,
                                int64_t delta)
{
    uint64_t max = qcow2_count_max(s->refcount_order);
    const uint8_t *high = t->safe ? t->safe : t->data;
    for (; i < end; i++) {
        if (delta > 0 && (uint64_t)delta > max - qcow2_count_load(high, s->refcount_order, i)) {
            return -ERANGE;
        }
        if (delta < 0 &&
            qcow2_count_load(t->data, s->refcount_order, i) < (uint64_t)0 - (uint64_t)delta) {
            return qcow2_corrupt(s, "cluster %llu is freed more often than it is used",
                                 (unsigned long long)(t->first + i));
        }
    }
    return 0;
}

static void refcount_went_down(struct qcow2 *s, struct table *t, uint64_t i, uint64_t count)
{
    uint64_t cluster = t->first + i;
    if (count) {
        return;
    }
    if (s->packed_at && s->packed_at >> s->cluster_bits == cluster) {
        s->packed_at = 0;
    }
    /* If it was a table: nobody may write it any more. */
    qcow2_cache_forget(s->l2_cache, cluster << s->cluster_bits);
    qcow2_cache_forget(s->ref_cache, cluster << s->cluster_bits);
    qcow2_meta_remove(s, cluster << s->cluster_bits);
    qcow2_note_discard(s, cluster, 1);
}

static void refcount_apply(struct qcow2 *s, struct table *t, uint64_t i, uint64_t end,
                           int64_t delta)
{
    unsigned order = s->refcount_order;
    uint32_t lo = (uint32_t)(i << order >> 3), hi = (uint32_t)(((end << order) + 7) >> 3);
    for (uint64_t k = i; k < end; k++) {
        uint64_t count = qcow2_count_load(t->data, order, k) + (uint64_t)delta;
        qcow2_count_store(t->data, order, k, count);
        if (delta < 0) {
            refcount_went_down(s, t, k, count);
        } else if (t->safe) {
            qcow2_count_store(t->safe, order, k,
                              qcow2_count_load(t->safe, order, k) + (uint64_t)delta);
        }
    }
    if (delta > 0) {
        qcow2_cache_dirty(s->ref_cache, t, lo, hi);
        return;
    }
    t->down_lo = t->down_hi && t->down_lo < lo ? t->down_lo : lo;
    t->down_hi = t->down_hi > hi ? t->down_hi : hi;
}

/* Within one refcount block. */
static int refcount_add_block(struct qcow2 *s, uint64_t cluster, uint64_t n, int64_t delta)
{
    uint64_t entries = qcow2_refblock_entries(s), index = cluster / entries;
    if (delta > 0) {
        int ret = qcow2_need_refblock(s, cluster);
        if (ret) {
            return ret;
        }
    } else if (index >= s->reftable_size || !s->reftable[index]) {
        return qcow2_corrupt(s, "cluster %llu is freed but was never in use",
                             (unsigned long long)cluster);
    }
    struct table *t;
    int ret = qcow2_refblock_get(s, index, &t);
    if (ret) {
        return ret;
    }
    uint64_t i = cluster % entries;
    ret = refcount_check_range(s, t, i, i + n, delta);
    if (ret == -ERANGE && t->safe) { /* counts only look high until what went down is durable */
        ret = qcow2_barrier(s);
        ret = ret ? ret : refcount_check_range(s, t, i, i + n, delta);
    }
    if (!ret && delta < 0) {
        ret = qcow2_cache_make_safe(s->ref_cache, t);
    }
    if (!ret) {
        refcount_apply(s, t, i, i + n, delta);
    }
    qcow2_cache_put(t);
    return ret;
}

int qcow2_mark_dirty(struct qcow2 *s)
{
    if (s->lazy_marked || !s->o.lazy_refcounts || s->version < 3) {
        return 0;
    }
    s->incompatible |= QCOW2_DIRTY;
    int ret = qcow2_commit_header(s);
    if (ret) {
        s->incompatible &= ~(uint64_t)QCOW2_DIRTY;
        return ret;
    }
    s->lazy_marked = true;
    return 0;
}

int qcow2_refcount_add(struct qcow2 *s, uint64_t off, uint64_t len, int64_t delta)
{
    if (!len) {
        return 0;
    }
    uint64_t first = off >> s->cluster_bits, last = (off + len - 1) >> s->cluster_bits;
    if (off + len < off || last >= refcount_max_cluster(s)) {
        return delta < 0
                   ? qcow2_corrupt(s, "the cluster at %#llx can not be", (unsigned long long)off)
                   : -EFBIG;
    }
    int ret = qcow2_mark_dirty(s);
    uint64_t entries = qcow2_refblock_entries(s), at = first;
    while (!ret && at <= last) {
        uint64_t n = entries - at % entries;
        n = n < last - at + 1 ? n : last - at + 1;
        ret = refcount_add_block(s, at, n, delta);
        at += ret ? 0 : n;
    }
    if (ret && at > first) { /* as it was */
        qcow2_refcount_add(s, first << s->cluster_bits, (at - first) << s->cluster_bits, -delta);
    }
    return ret;
}

int qcow2_free(struct qcow2 *s, uint64_t off, uint64_t len)
{
    return qcow2_refcount_add(s, off, len, -1);
}

void qcow2_compressed_range(const struct qcow2 *s, uint64_t l2_entry, uint64_t *off, uint64_t *len)
{
    unsigned x = 62 - (s->cluster_bits - 8);
    *off = l2_entry & mask_low(x) & mask_low(56);
    uint64_t sectors = (l2_entry >> x & mask_low(s->cluster_bits - 8)) + 1;
    *len = sectors * BLOCK_SECTOR - (*off & (BLOCK_SECTOR - 1));
}

int qcow2_free_entry(struct qcow2 *s, uint64_t l2_entry, uint64_t subcluster_bitmap)
{
    if (s->incompatible & QCOW2_DATA_FILE) {
        return 0; /* clusters of data files are not counted */
    }
    if (l2_entry & QCOW2_COMPRESSED) {
        uint64_t off, len;
        qcow2_compressed_range(s, l2_entry, &off, &len);
        return qcow2_free(s, off, len);
    }
    uint64_t off = l2_entry & QCOW2_OFFSET_MASK;
    if (off & (s->cluster_size - 1)) {
        return qcow2_corrupt(s, "the data cluster at %#llx is not aligned",
                             (unsigned long long)off);
    }
    return off ? qcow2_free(s, off, s->cluster_size) : 0;
}

/* ---- Finding free clusters ---- */

int qcow2_find_free(struct qcow2 *s, uint64_t at, uint64_t max, uint64_t *first, uint64_t *n)
{
    uint64_t entries = qcow2_refblock_entries(s);
    for (; at < refcount_max_cluster(s); at += entries - at % entries) {
        uint64_t index = at / entries, i = at % entries, end = entries;
        if (index < s->reftable_size && s->reftable[index]) {
            struct table *t;
            int ret = qcow2_refblock_get(s, index, &t);
            if (ret) {
                return ret;
            }
            const uint8_t *counts = t->safe ? t->safe : t->data;
            i = qcow2_count_find(counts, s->refcount_order, i, entries, false);
            uint64_t limit = max < entries - i ? i + max : entries;
            end = qcow2_count_find(counts, s->refcount_order, i, limit, true);
            qcow2_cache_put(t);
            if (i == entries) {
                continue;
            }
        }
        *first = index * entries + i;
        *n = end - i < max ? end - i : max;
        return 0;
    }
    return -EFBIG;
}

static int refcount_take(struct qcow2 *s, uint64_t first, uint64_t n, uint64_t *off)
{
    *off = first << s->cluster_bits;
    uint64_t len = n << s->cluster_bits;
    if (qcow2_overlaps_meta(s, *off, len)) {
        return qcow2_corrupt(s, "metadata at %#llx is not counted as used",
                             (unsigned long long)*off);
    }
    int ret = qcow2_refcount_add(s, *off, len, 1);
    if (!ret && *off + len > s->fresh) {
        s->fresh = *off + len;
    }
    return ret;
}

int qcow2_alloc_some(struct qcow2 *s, uint64_t max, uint64_t *off, uint64_t *got)
{
    for (;;) {
        uint64_t first, n;
        int ret = qcow2_find_free(s, s->free_hint, max, &first, &n);
        if (ret) {
            return ret;
        }
        /* The block that counts them may itself take the first of them. */
        ret = qcow2_need_refblock(s, first);
        if (ret) {
            return ret;
        }
        uint64_t again, m;
        ret = qcow2_find_free(s, first, n, &again, &m);
        if (ret) {
            return ret;
        }
        if (again != first || m < n) {
            continue;
        }
        ret = refcount_take(s, first, n, off);
        if (!ret) {
            s->free_hint = first + n;
            *got = n;
        }
        return ret;
    }
}

/* The first free run of that length, whether or not there are refcount blocks for it. */
static int refcount_find_run(struct qcow2 *s, uint64_t clusters, uint64_t *first)
{
    uint64_t at = s->free_hint, have = 0;
    *first = at;
    while (have < clusters) {
        uint64_t f, n;
        int ret = qcow2_find_free(s, at, clusters - have, &f, &n);
        if (ret) {
            return ret;
        }
        if (f != at || !have) {
            *first = f;
            have = 0;
        }
        have += n;
        at = f + n;
    }
    return 0;
}

int qcow2_alloc(struct qcow2 *s, uint64_t clusters, uint64_t *off)
{
    uint64_t entries = qcow2_refblock_entries(s), first, again;
    if (!clusters || clusters > refcount_max_cluster(s)) {
        return -EFBIG;
    }
    for (;;) {
        int ret = refcount_find_run(s, clusters, &first);
        for (uint64_t c = first; !ret && c < first + clusters; c += entries - c % entries) {
            ret = qcow2_need_refblock(s, c);
        }
        ret = ret ? ret : refcount_find_run(s, clusters, &again);
        if (ret) {
            return ret;
        }
        if (again != first) {
            continue;
        }
        uint64_t lowest, n;
        ret = qcow2_find_free(s, s->free_hint, 1, &lowest, &n);
        ret = ret ? ret : refcount_take(s, first, clusters, off);
        if (!ret && lowest == first) {
            s->free_hint = first + clusters;
        }
        return ret;
    }
}
