/*
 * The refcount table (spec "Host cluster management"): reading it, new refcount blocks, a longer
 * table, and making all of it anew. A block that counts itself may be where it counts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/qcow2/internal.h"

int qcow2_refcount_init(struct qcow2 *s, struct err *err)
{
    size_t bytes = (size_t)s->reftable_clusters << s->cluster_bits; /* at most 8 MiB */
    s->reftable_size = bytes / 8;
    s->reftable = calloc(s->reftable_size + 1, 8);
    s->reftable_dirty = calloc(bytes / BLOCK_SECTOR + 1, 1);
    if (!s->reftable || !s->reftable_dirty) {
        return err_set(err, ENOMEM, "no memory for the refcount table of '%s'", s->b->filename);
    }
    int ret = qcow2_file_read(s, s->reftable_off, s->reftable, bytes);
    if (ret) {
        return err_set(err, -ret, "cannot read the refcount table of '%s'", s->b->filename);
    }
    for (uint64_t i = 0; i < s->reftable_size; i++) {
        s->reftable[i] = be64toh(s->reftable[i]) & ~0x1ffULL;
    }
    s->fresh = UINT64_MAX;
    if (s->b->file->type->grows) { /* what it has never stored, it reads as zero */
        s->fresh = round_up(block_size(s->b->file), s->cluster_size);
    }
    return 0;
}

void qcow2_refcount_drop(struct qcow2 *s)
{
    free(s->reftable);
    free(s->reftable_dirty);
    free(s->discards);
    s->reftable = NULL;
    s->reftable_dirty = NULL;
    s->discards = NULL;
    s->reftable_size = 0;
}

int qcow2_write_reftable(struct qcow2 *s)
{
    if (!s->reftable_is_dirty) {
        return 0;
    }
    return qcow2_write_entries(s, s->reftable_off, s->reftable, s->reftable_size,
                               s->reftable_dirty);
}

static void reftable_set(struct qcow2 *s, uint64_t index, uint64_t off)
{
    s->reftable[index] = off;
    s->reftable_dirty[index * 8 / BLOCK_SECTOR] = 1;
    s->reftable_is_dirty = true;
    qcow2_meta_add(s, off);
}

/* ---- A longer table ---- */

struct reftable_plan {
    uint64_t at;        /* first cluster of what is new: blocks, then the table */
    uint64_t blocks;    /* that count the new clusters */
    uint64_t clusters;  /* of the table */
    uint64_t first_idx; /* of the first block in the table */
};

static int reftable_plan(const struct qcow2 *s, uint64_t entries, struct reftable_plan *p)
{
    uint64_t per_block = qcow2_refblock_entries(s), per_cluster = s->cluster_size / 8;
    *p = (struct reftable_plan){.first_idx = s->reftable_size, .blocks = 1};
    p->at = s->reftable_size * per_block;
    uint64_t want = s->reftable_size + s->reftable_size / 2 + 1;
    want = want > entries ? want : entries;
    for (;;) {
        uint64_t all = p->first_idx + p->blocks;
        all = all > want ? all : want;
        p->clusters = (all + per_cluster - 1) / per_cluster;
        uint64_t blocks = (p->blocks + p->clusters + per_block - 1) / per_block;
        if (p->clusters > QCOW2_MAX_REFTABLE_BYTES >> s->cluster_bits) {
            return -EFBIG;
        }
        if (blocks <= p->blocks) {
            return 0;
        }
        p->blocks = blocks;
    }
}

/* One by one, so that no more than a cluster of memory is needed. */
static int reftable_write_plan(struct qcow2 *s, const struct reftable_plan *p,
                               const uint64_t *table)
{
    AUTO_FREE uint8_t *buf = block_alloc(s->cluster_size);
    if (!buf) {
        return -ENOMEM;
    }
    uint64_t per_block = qcow2_refblock_entries(s), left = p->blocks + p->clusters;
    int ret = 0;
    for (uint64_t i = 0; i < p->blocks && !ret; i++) {
        memset(buf, 0, s->cluster_size);
        for (uint64_t k = 0; k < per_block && left; k++, left--) {
            qcow2_count_store(buf, s->refcount_order, k, 1);
        }
        ret = block_pwrite(s->b->file, (p->at + i) << s->cluster_bits, buf, s->cluster_size, 0);
    }
    uint64_t off = (p->at + p->blocks) << s->cluster_bits, per_cluster = s->cluster_size / 8;
    for (uint64_t i = 0; i < p->clusters && !ret; i++) {
        for (uint64_t k = 0; k < per_cluster; k++) {
            store_be64(buf + k * 8, table[i * per_cluster + k]);
        }
        ret = block_pwrite(s->b->file, off + i * s->cluster_size, buf, s->cluster_size, 0);
    }
    return ret;
}

/* The header's sector decides; before it everything new is durable, afterwards itself. */
static int reftable_commit(struct qcow2 *s, uint64_t off, uint32_t clusters, unsigned order)
{
    uint64_t old_off = s->reftable_off;
    uint32_t old_clusters = s->reftable_clusters;
    unsigned old_order = s->refcount_order;
    int ret = block_flush(s->b->file);
    if (ret) {
        return ret;
    }
    s->reftable_off = off;
    s->reftable_clusters = clusters;
    s->refcount_order = order;
    ret = qcow2_commit_header(s);
    if (ret) {
        s->reftable_off = old_off;
        s->reftable_clusters = old_clusters;
        s->refcount_order = old_order;
    }
    return ret;
}

/* On disk and in memory; `table` is the caller's still if that fails. */
static int reftable_switch(struct qcow2 *s, uint64_t off, uint64_t *table, uint64_t size,
                           unsigned order)
{
    uint8_t *dirty = calloc(size * 8 / BLOCK_SECTOR + 1, 1);
    int ret =
        dirty ? reftable_commit(s, off, (uint32_t)(size * 8 >> s->cluster_bits), order) : -ENOMEM;
    if (ret) {
        free(dirty);
        return ret;
    }
    free(s->reftable);
    free(s->reftable_dirty);
    s->reftable = table;
    s->reftable_size = size;
    s->reftable_dirty = dirty;
    s->reftable_is_dirty = false;
    return 0;
}

static int reftable_grow(struct qcow2 *s, uint64_t entries)
{
    struct reftable_plan p;
    int ret = reftable_plan(s, entries, &p);
    uint64_t len = (p.blocks + p.clusters) << s->cluster_bits;
    if (ret || (p.at << s->cluster_bits) > BLOCK_MAX_SIZE - len) {
        return -EFBIG;
    }
    if (qcow2_overlaps_meta(s, p.at << s->cluster_bits, len)) {
        return qcow2_corrupt(s, "metadata lies behind what the refcount table covers");
    }
    ret = qcow2_settle_header(s); /* if an earlier one on disk refers to the same place */
    ret = ret ? ret : qcow2_write_refcounts(s); /* the new table refers to all blocks there are */
    if (ret) {
        return ret;
    }
    uint64_t size = p.clusters << s->cluster_bits >> 3, old_off = s->reftable_off;
    uint64_t old_len = (uint64_t)s->reftable_clusters << s->cluster_bits;
    uint64_t *table = calloc(size + 1, 8);
    if (!table) {
        return -ENOMEM;
    }
    memcpy(table, s->reftable, s->reftable_size * 8);
    for (uint64_t i = 0; i < p.blocks; i++) {
        table[p.first_idx + i] = (p.at + i) << s->cluster_bits;
    }
    ret = reftable_write_plan(s, &p, table);
    ret = ret ? ret
              : reftable_switch(s, (p.at + p.blocks) << s->cluster_bits, table, size,
                                s->refcount_order);
    if (ret) {
        free(table);
        return ret;
    }
    for (uint64_t i = 0; i < p.blocks; i++) {
        qcow2_meta_add(s, table[p.first_idx + i]);
    }
    uint64_t end = (p.at << s->cluster_bits) + len;
    s->fresh = end > s->fresh ? end : s->fresh;
    return qcow2_free(s, old_off, old_len);
}

/* ---- A new block ---- */

/* A cluster for the block `index`, counted unless it lies where that block itself counts. */
static int reftable_place_block(struct qcow2 *s, uint64_t index, uint64_t *cluster)
{
    uint64_t per_block = qcow2_refblock_entries(s), n;
    for (;;) {
        int ret = qcow2_find_free(s, s->free_hint, 1, cluster, &n);
        if (ret) {
            return ret;
        }
        uint64_t at = *cluster / per_block;
        if (at == index) {
            break;
        }
        if (at < s->reftable_size && s->reftable[at]) {
            ret = qcow2_refcount_add(s, *cluster << s->cluster_bits, s->cluster_size, 1);
            if (ret) {
                return ret;
            }
            break;
        }
        ret = qcow2_need_refblock(s, *cluster);
        if (ret) {
            return ret;
        }
    }
    uint64_t off = *cluster << s->cluster_bits;
    if (qcow2_overlaps_meta(s, off, s->cluster_size)) {
        return qcow2_corrupt(s, "metadata at %#llx is not counted as used",
                             (unsigned long long)off);
    }
    return 0;
}

int qcow2_need_refblock(struct qcow2 *s, uint64_t cluster)
{
    uint64_t per_block = qcow2_refblock_entries(s), index = cluster / per_block, at;
    if (index >= s->reftable_size) {
        int ret = reftable_grow(s, index + 1);
        if (ret) {
            return ret;
        }
    }
    if (s->reftable[index]) {
        return 0;
    }
    int ret = reftable_place_block(s, index, &at);
    if (ret || s->reftable[index]) {
        return ret;
    }
    struct table *t;
    uint64_t off = at << s->cluster_bits;
    ret = qcow2_cache_get(s->ref_cache, off, true, &t);
    if (ret) {
        return ret;
    }
    t->first = index * per_block;
    if (at / per_block == index) {
        qcow2_count_store(t->data, s->refcount_order, at % per_block, 1);
    }
    qcow2_cache_dirty(s->ref_cache, t, 0, s->cluster_size);
    qcow2_cache_put(t);
    reftable_set(s, index, off);
    s->free_hint = at + 1;
    s->fresh = off + s->cluster_size > s->fresh ? off + s->cluster_size : s->fresh;
    return 0;
}

/* ---- All of it anew ---- */

struct reftable_rebuild {
    struct qcow2 *s;
    unsigned order;
    int (*count_of)(void *opaque, uint64_t cluster, uint64_t *count);
    void *opaque;
    uint64_t clusters; /* that count_of knows */
    uint64_t start;    /* of what is new; table first */
    uint64_t end, table_clusters, blocks;
    uint64_t *table;
    struct err *err;
};

static uint64_t rebuild_per_block(const struct reftable_rebuild *r)
{
    return (uint64_t)r->s->cluster_size * 8 >> r->order;
}

static int rebuild_count(struct reftable_rebuild *r, uint64_t cluster, uint64_t *count)
{
    *count = 0;
    if (cluster >= r->start && cluster < r->end) {
        *count = 1;
        return 0;
    }
    int ret = cluster < r->clusters ? r->count_of(r->opaque, cluster, count) : 0;
    if (ret) {
        return err_set(r->err, -ret, "cannot find out how often cluster %llu is used",
                       (unsigned long long)cluster);
    }
    if (*count > qcow2_count_max(r->order)) {
        return err_set(r->err, ERANGE,
                       "cluster %llu of '%s' is used %llu times, more than %u bits can count",
                       (unsigned long long)cluster, r->s->b->filename, (unsigned long long)*count,
                       1u << r->order);
    }
    return 0;
}

/* Room for every block up to the end, needed or not: the end moves with it. */
static int rebuild_plan(struct reftable_rebuild *r)
{
    struct qcow2 *s = r->s;
    uint64_t file = (block_size(s->b->file) + s->cluster_size - 1) >> s->cluster_bits;
    r->start = r->clusters > file ? r->clusters : file;
    r->end = r->start;
    for (;;) {
        uint64_t per_block = rebuild_per_block(r);
        r->blocks = (r->end + per_block - 1) / per_block;
        uint64_t bytes = (r->blocks ? r->blocks : 1) * 8;
        if (bytes > QCOW2_MAX_REFTABLE_BYTES) {
            return err_set(r->err, EFBIG, "the refcount table of '%s' would be too large",
                           s->b->filename);
        }
        r->table_clusters = (bytes + s->cluster_size - 1) >> s->cluster_bits;
        uint64_t end = r->start + r->table_clusters + r->blocks;
        if (end == r->end) {
            return 0;
        }
        r->end = end;
    }
}

/* Blocks that count nothing stay away, and their clusters are counted as free at the end. */
static int rebuild_block(struct reftable_rebuild *r, uint64_t index, uint64_t *at, uint8_t *buf)
{
    struct qcow2 *s = r->s;
    uint64_t n = rebuild_per_block(r);
    bool used = false;
    memset(buf, 0, s->cluster_size);
    for (uint64_t k = 0; k < n; k++) {
        uint64_t count;
        int ret = rebuild_count(r, index * n + k, &count);
        if (ret) {
            return ret;
        }
        if (count) {
            qcow2_count_store(buf, r->order, k, count);
            used = true;
        }
    }
    if (!used) {
        return 0;
    }
    r->table[index] = *at << s->cluster_bits;
    *at += 1;
    int ret = block_pwrite(s->b->file, r->table[index], buf, s->cluster_size, 0);
    return ret ? err_set(r->err, -ret, "cannot write refcounts of '%s'", s->b->filename) : 0;
}

static int rebuild_write(struct reftable_rebuild *r)
{
    struct qcow2 *s = r->s;
    AUTO_FREE uint8_t *buf = block_alloc(s->cluster_size);
    uint64_t at = r->start + r->table_clusters, per_cluster = s->cluster_size / 8;
    int ret = buf ? 0 : err_set(r->err, ENOMEM, "no memory for refcounts");
    for (uint64_t i = 0; i < r->blocks && !ret; i++) {
        ret = rebuild_block(r, i, &at, buf);
    }
    for (uint64_t i = 0; i < r->table_clusters && !ret; i++) {
        for (uint64_t k = 0; k < per_cluster; k++) {
            store_be64(buf + k * 8, r->table[i * per_cluster + k]);
        }
        ret = block_pwrite(s->b->file, (r->start + i) << s->cluster_bits, buf, s->cluster_size, 0);
    }
    return ret;
}

int qcow2_rebuild_refcounts(struct qcow2 *s, unsigned order,
                            int (*count_of)(void *opaque, uint64_t cluster, uint64_t *count),
                            void *opaque, uint64_t clusters, struct err *err)
{
    struct reftable_rebuild r = {s, order, count_of, opaque, clusters, .err = err};
    int ret = rebuild_plan(&r);
    if (ret) {
        return ret;
    }
    uint64_t size = r.table_clusters << s->cluster_bits >> 3;
    r.table = calloc(size + 1, 8);
    if (!r.table) {
        return err_set(err, ENOMEM, "no memory for the refcount table of '%s'", s->b->filename);
    }
    ret = rebuild_write(&r);
    if (!ret) {
        ret = reftable_switch(s, r.start << s->cluster_bits, r.table, size, order);
        if (ret) {
            err_set(err, -ret, "cannot switch '%s' to new refcounts: %s", s->b->filename,
                    strerror(-ret));
        }
    }
    if (ret) {
        free(r.table);
        return ret;
    }
    qcow2_cache_forget_all(s->ref_cache);
    s->free_hint = 0;
    s->packed_at = 0;
    s->fresh = s->fresh == UINT64_MAX ? s->fresh : r.end << s->cluster_bits;
    for (uint64_t i = 0; i < size; i++) {
        if (s->reftable[i]) {
            qcow2_meta_add(s, s->reftable[i]);
        }
    }
    /* What was set aside for blocks that were not needed. */
    uint64_t used = r.start + r.table_clusters;
    for (uint64_t i = 0; i < size; i++) {
        used += s->reftable[i] != 0;
    }
    return used < r.end ? qcow2_free(s, used << s->cluster_bits, (r.end - used) << s->cluster_bits)
                        : 0;
}
