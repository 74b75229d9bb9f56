/*
 * From guest offsets to host clusters (spec "Cluster mapping", "Extended L2 Entries"): looking up
 * in L1 and L2 tables, making and copying L2 tables, a longer L1 table, and the list of allocations
 * that are on their way.
 *
 * A table in memory is whole at every wait, so whoever finds it in the cache reads it without the
 * lock; all changes are made under it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/qcow2/internal.h"

/* ---- L1 ---- */

int qcow2_l1_init(struct qcow2 *s, struct err *err)
{
    s->l1 = calloc((size_t)s->l1_size + 1, 8); /* at most 32 MiB */
    s->l1_dirty = calloc((size_t)s->l1_size * 8 / BLOCK_SECTOR + 1, 1);
    if (!s->l1 || !s->l1_dirty) {
        return err_set(err, ENOMEM, "no memory for the L1 table of '%s'", s->b->filename);
    }
    int ret = s->l1_size ? qcow2_file_read(s, s->l1_off, s->l1, (size_t)s->l1_size * 8) : 0;
    if (ret) {
        return err_set(err, -ret, "cannot read the L1 table of '%s'", s->b->filename);
    }
    for (uint32_t i = 0; i < s->l1_size; i++) {
        s->l1[i] = be64toh(s->l1[i]);
    }
    return 0;
}

int qcow2_write_l1_entry(struct qcow2 *s, uint32_t index)
{
    assert(index < s->l1_size);
    s->l1_dirty[(uint64_t)index * 8 / BLOCK_SECTOR] = 1;
    s->l1_is_dirty = true;
    return 0;
}

static uint64_t l1_clusters(const struct qcow2 *s, uint64_t entries)
{
    return (entries * 8 + s->cluster_size - 1) >> s->cluster_bits;
}

/* Writes the whole table to a new place and makes the header refer to it, all of it durable. */
static int l1_move(struct qcow2 *s, const uint64_t *l1, uint32_t entries, uint64_t off)
{
    uint64_t bytes = l1_clusters(s, entries) << s->cluster_bits;
    AUTO_FREE uint8_t *all = calloc(bytes / BLOCK_SECTOR + 1, 1);
    if (!all) {
        return -ENOMEM;
    }
    memset(all, 1, bytes / BLOCK_SECTOR);
    int ret = qcow2_write_entries(s, off, l1, entries, all);
    ret = ret ? ret : qcow2_barrier(s); /* the new clusters' refcounts */
    ret = ret ? ret : block_flush(s->b->file);
    if (ret) {
        return ret;
    }
    uint64_t old_off = s->l1_off;
    uint32_t old_size = s->l1_size;
    s->l1_off = off;
    s->l1_size = entries;
    ret = qcow2_commit_header(s);
    if (ret) {
        s->l1_off = old_off;
        s->l1_size = old_size;
    }
    return ret;
}

int qcow2_grow_l1(struct qcow2 *s, uint32_t entries)
{
    if (entries <= s->l1_size) {
        return 0;
    }
    if (entries > QCOW2_MAX_L1_BYTES / 8) {
        return -EFBIG;
    }
    uint64_t off, old_off = s->l1_off;
    uint32_t old_size = s->l1_size;
    int ret = qcow2_barrier(s); /* what is copied is on disk, too */
    ret = ret ? ret : qcow2_alloc(s, l1_clusters(s, entries), &off);
    if (ret) {
        return ret;
    }
    uint64_t *l1 = calloc((size_t)entries + 1, 8);
    uint8_t *dirty = calloc((size_t)entries * 8 / BLOCK_SECTOR + 1, 1);
    ret = l1 && dirty ? 0 : -ENOMEM;
    if (!ret) {
        memcpy(l1, s->l1, (size_t)old_size * 8);
        ret = l1_move(s, l1, entries, off);
    }
    if (ret) {
        free(l1);
        free(dirty);
        qcow2_free(s, off, l1_clusters(s, entries) << s->cluster_bits);
        return ret;
    }
    free(s->l1);
    free(s->l1_dirty);
    s->l1 = l1;
    s->l1_dirty = dirty;
    return old_size ? qcow2_free(s, old_off, l1_clusters(s, old_size) << s->cluster_bits) : 0;
}

/* ---- L2 tables ---- */

static int l2_check_off(struct qcow2 *s, uint64_t off)
{
    if (off & (s->cluster_size - 1) || !off || off >= BLOCK_MAX_SIZE) {
        return qcow2_corrupt(s, "an L2 table is said to be at %#llx, which is no cluster",
                             (unsigned long long)off);
    }
    return 0;
}

static int l2_get(struct qcow2 *s, uint64_t off, struct table **t)
{
    int ret = l2_check_off(s, off);
    return ret ? ret : qcow2_cache_get(s->l2_cache, off, false, t);
}

int qcow2_l2_get(struct qcow2 *s, uint64_t l2_off, void **table)
{
    struct table *t;
    int ret = l2_get(s, l2_off, &t);
    if (!ret) {
        *table = t->data;
        qcow2_cache_lend(s->l2_cache, t);
    }
    return ret;
}

void qcow2_l2_put(struct qcow2 *s, void *table, bool changed)
{
    struct table *t = qcow2_cache_lent(s->l2_cache, table);
    if (changed) {
        qcow2_cache_dirty(s->l2_cache, t, 0, s->cluster_size);
    }
    qcow2_cache_put(t);
}

uint64_t qcow2_entry_get(const struct qcow2 *s, const struct table *t, uint32_t i, uint64_t *bits)
{
    const uint8_t *at = t->data + (size_t)i * s->l2_entry_bytes;
    *bits = s->l2_entry_bytes == 16 ? load_be64(at + 8) : 0;
    return load_be64(at);
}

void qcow2_entry_set(struct qcow2 *s, struct table *t, uint32_t i, uint64_t entry, uint64_t bits)
{
    uint32_t lo = i * s->l2_entry_bytes;
    store_be64(t->data + lo, entry);
    if (s->l2_entry_bytes == 16) {
        store_be64(t->data + lo + 8, bits);
    }
    qcow2_cache_dirty(s->l2_cache, t, lo, lo + s->l2_entry_bytes);
}

/* A new table in place of none, or of one that snapshots use, too. */
static int l2_make(struct qcow2 *s, uint32_t l1_index, struct table **t)
{
    uint64_t old_off = s->l1[l1_index] & QCOW2_OFFSET_MASK, off;
    struct table *old = NULL;
    int ret = old_off ? l2_get(s, old_off, &old) : 0;
    ret = ret ? ret : qcow2_alloc(s, 1, &off);
    if (!ret) {
        ret = qcow2_cache_get(s->l2_cache, off, true, t);
        if (ret) {
            qcow2_free(s, off, s->cluster_size);
        }
    }
    if (!ret) {
        if (old) {
            memcpy((*t)->data, old->data, s->cluster_size);
        }
        qcow2_cache_dirty(s->l2_cache, *t, 0, s->cluster_size);
        s->l1[l1_index] = off | QCOW2_COPIED;
        qcow2_write_l1_entry(s, l1_index);
        qcow2_meta_add(s, off);
    }
    if (old) {
        qcow2_cache_put(old);
    }
    if (!ret && old_off) {
        qcow2_free(s, old_off, s->cluster_size); /* on failure it is lost space only */
    }
    return ret;
}

int qcow2_l2_for_write(struct qcow2 *s, uint64_t off, struct table **t, uint32_t *i)
{
    uint64_t l1_index = off / qcow2_l2_covers(s);
    *i = (uint32_t)(off % qcow2_l2_covers(s) >> s->cluster_bits);
    if (l1_index >= QCOW2_MAX_L1_BYTES / 8) {
        return -EFBIG;
    }
    if (l1_index >= s->l1_size) { /* the machine's state, behind the disk */
        int ret = qcow2_grow_l1(s, (uint32_t)l1_index + 1);
        if (ret) {
            return ret;
        }
    }
    uint64_t entry = s->l1[l1_index];
    if (entry & QCOW2_COPIED && entry & QCOW2_OFFSET_MASK) {
        return l2_get(s, entry & QCOW2_OFFSET_MASK, t);
    }
    return l2_make(s, (uint32_t)l1_index, t);
}

/* ---- Looking up ---- */

bool qcow2_entry_has_host(const struct qcow2 *s, uint64_t entry)
{
    return entry & QCOW2_OFFSET_MASK || (s->incompatible & QCOW2_DATA_FILE && entry & QCOW2_COPIED);
}

bool qcow2_entry_ours(const struct qcow2 *s, uint64_t entry)
{
    return entry & QCOW2_COPIED && !(entry & QCOW2_COMPRESSED) && qcow2_entry_has_host(s, entry);
}

int qcow2_entry_check(struct qcow2 *s, uint64_t guest, uint64_t entry, uint64_t bits)
{
    bool data_file = s->incompatible & QCOW2_DATA_FILE;
    uint64_t host = entry & QCOW2_OFFSET_MASK;
    guest &= ~((uint64_t)s->cluster_size - 1);
    if (entry & QCOW2_COMPRESSED) {
        return data_file ? qcow2_corrupt(s, "guest offset %#llx is compressed beside a data file",
                                         (unsigned long long)guest)
                         : 0;
    }
    if (host & (s->cluster_size - 1)) {
        return qcow2_corrupt(s, "the data of guest offset %#llx is at %#llx, which is no cluster",
                             (unsigned long long)guest, (unsigned long long)host);
    }
    if (data_file && qcow2_entry_has_host(s, entry) && host != guest) {
        return qcow2_corrupt(s, "guest offset %#llx is elsewhere in the data file",
                             (unsigned long long)guest);
    }
    if (s->subclusters > 1 && (bits & bits >> 32 & mask_low(32))) {
        return qcow2_corrupt(s, "a subcluster of guest offset %#llx is data and zero at once",
                             (unsigned long long)guest);
    }
    if (s->subclusters > 1 && bits & mask_low(32) && !qcow2_entry_has_host(s, entry)) {
        return qcow2_corrupt(s, "guest offset %#llx has subclusters but no cluster",
                             (unsigned long long)guest);
    }
    return 0;
}

static enum qcow2_kind entry_kind(const struct qcow2 *s, uint64_t entry, uint64_t bits,
                                  uint32_t sub)
{
    if (entry & QCOW2_COMPRESSED) {
        return QCOW2_DEFLATED;
    }
    if (s->subclusters > 1) {
        return bits >> sub & 1 ? QCOW2_DATA : bits >> (32 + sub) & 1 ? QCOW2_ZEROS : QCOW2_NOTHING;
    }
    if (entry & QCOW2_ZERO && s->version >= 3) {
        return QCOW2_ZEROS;
    }
    return qcow2_entry_has_host(s, entry) ? QCOW2_DATA : QCOW2_NOTHING;
}

/* One subcluster, or cluster where there are none; len up to its end. */
static int map_one(struct qcow2 *s, const struct table *t, uint64_t off, struct qcow2_map *m)
{
    uint64_t bits, in = off & (s->cluster_size - 1);
    uint32_t i = (uint32_t)(off % qcow2_l2_covers(s) >> s->cluster_bits);
    uint64_t entry = qcow2_entry_get(s, t, i, &bits);
    int ret = qcow2_entry_check(s, off, entry, bits);
    if (ret) {
        return ret;
    }
    uint32_t sub = (uint32_t)(in / s->subcluster_size);
    *m = (struct qcow2_map){.kind = entry_kind(s, entry, bits, sub), .entry = entry};
    m->len = m->kind == QCOW2_DEFLATED ? s->cluster_size - in
                                       : s->subcluster_size - in % s->subcluster_size;
    m->has_host = m->kind != QCOW2_DEFLATED && qcow2_entry_has_host(s, entry);
    m->copied = m->has_host && entry & QCOW2_COPIED;
    m->host = m->has_host ? (entry & QCOW2_OFFSET_MASK) + in : 0;
    return 0;
}

static int map_run(struct qcow2 *s, const struct table *t, uint64_t off, uint64_t len,
                   struct qcow2_map *m)
{
    int ret = map_one(s, t, off, m);
    while (!ret && m->len < len && m->kind != QCOW2_DEFLATED) {
        struct qcow2_map next;
        ret = map_one(s, t, off + m->len, &next);
        if (ret) {
            break;
        }
        if (next.kind != m->kind || next.has_host != m->has_host || next.copied != m->copied ||
            (m->has_host && next.host != m->host + m->len)) {
            break;
        }
        m->len += next.len;
    }
    m->len = m->len < len ? m->len : len;
    return ret;
}

/* Where the L2 table is; 0: none. Cuts len to what it covers. */
static uint64_t lookup_l1(const struct qcow2 *s, uint64_t off, uint64_t *len)
{
    uint64_t covers = qcow2_l2_covers(s), index = off / covers;
    uint64_t left = covers - off % covers;
    *len = *len < left ? *len : left;
    return index < s->l1_size ? s->l1[index] & QCOW2_OFFSET_MASK : 0;
}

int qcow2_lookup_locked(struct qcow2 *s, uint64_t off, uint64_t len, struct qcow2_map *m)
{
    uint64_t l2_off = lookup_l1(s, off, &len);
    if (!l2_off) {
        *m = (struct qcow2_map){.kind = QCOW2_NOTHING, .len = len};
        return 0;
    }
    struct table *t;
    int ret = l2_get(s, l2_off, &t);
    if (!ret) {
        ret = map_run(s, t, off, len, m);
        qcow2_cache_put(t);
    }
    return ret;
}

int qcow2_lookup(struct qcow2 *s, uint64_t off, uint64_t len, struct qcow2_map *m)
{
    uint64_t cut = len, l2_off = lookup_l1(s, off, &cut);
    struct table *t = l2_off ? qcow2_cache_peek(s->l2_cache, l2_off) : NULL;
    if (t) {
        return map_run(s, t, off, cut, m);
    }
    if (!l2_off) {
        *m = (struct qcow2_map){.kind = QCOW2_NOTHING, .len = cut};
        return 0;
    }
    co_lock(&s->lock);
    int ret = qcow2_lookup_locked(s, off, len, m);
    co_unlock(&s->lock);
    return ret;
}

/* ---- Allocations on their way ---- */

static bool inflight_meets(const struct qcow2 *s, uint64_t start, uint64_t end)
{
    for (const struct qcow2_inflight *f = s->inflight; f; f = f->next) {
        if (start < f->end && f->start < end) {
            return true;
        }
    }
    return false;
}

void qcow2_inflight_wait(struct qcow2 *s, uint64_t start, uint64_t end)
{
    while (inflight_meets(s, start, end)) {
        co_unlock(&s->lock);
        co_queue_wait(&s->inflight_done);
        co_lock(&s->lock);
    }
}

void qcow2_inflight_add(struct qcow2 *s, struct qcow2_inflight *f)
{
    assert(!inflight_meets(s, f->start, f->end));
    f->next = s->inflight;
    s->inflight = f;
}

void qcow2_inflight_remove(struct qcow2 *s, struct qcow2_inflight *f)
{
    struct qcow2_inflight **p = &s->inflight;
    while (*p != f) {
        p = &(*p)->next;
    }
    *p = f->next;
    co_queue_all(&s->inflight_done);
}
