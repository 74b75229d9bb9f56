/*
 * Tables of one cluster each - L2 tables, refcount blocks - in memory, and the order in which they
 * are written back: docs/qcow2.md has the invariants I1 to I6 named here. Memory is bounded: tables
 * that are as on disk go, the oldest first; if there are none, a barrier makes some.
 *
 * A table counts as changed until a sync has succeeded after it was written, so a failed write or
 * sync loses nothing.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "block/qcow2/internal.h"

enum { MIN_TABLES = 8, MAX_SAFE_BYTES = 16 << 20 };

struct table_list {
    struct table *oldest, *newest;
};

struct table_cache {
    struct qcow2 *s;
    uint32_t max, count, safe;
    uint64_t hash_mask;
    struct table **hash;
    struct table_list clean, dirty;
    struct table *lent;
};

/* ---- Lists and hash ---- */

static void list_add(struct table_list *l, struct table *t)
{
    t->newer = NULL;
    t->older = l->newest;
    *(l->newest ? &l->newest->newer : &l->oldest) = t;
    l->newest = t;
}

static void list_remove(struct table_list *l, struct table *t)
{
    *(t->older ? &t->older->newer : &l->oldest) = t->newer;
    *(t->newer ? &t->newer->older : &l->newest) = t->older;
    t->older = t->newer = NULL;
}

static struct table **cache_slot(struct table_cache *c, uint64_t off)
{
    uint64_t h = (off >> c->s->cluster_bits) * 0x9e3779b97f4a7c15ULL >> 32;
    struct table **p = &c->hash[h & c->hash_mask];
    while (*p && (*p)->off != off) {
        p = &(*p)->hash_next;
    }
    return p;
}

struct table_cache *qcow2_cache_new(struct qcow2 *s, uint64_t bytes)
{
    struct table_cache *c = alloc_zero(sizeof(*c));
    uint64_t max = bytes >> s->cluster_bits;
    c->s = s;
    c->max = (uint32_t)(max < MIN_TABLES ? MIN_TABLES : max > 1u << 20 ? 1u << 20 : max);
    uint64_t slots = 16;
    while (slots < c->max) {
        slots *= 2;
    }
    c->hash_mask = slots - 1;
    c->hash = alloc_array(slots, sizeof(*c->hash));
    return c;
}

static void table_free(struct table_cache *c, struct table *t)
{
    c->safe -= t->safe != NULL;
    c->count--;
    free(t->safe);
    free(t->data);
    free(t);
}

static void cache_remove(struct table_cache *c, struct table *t)
{
    *cache_slot(c, t->off) = t->hash_next;
    list_remove(t->dirty ? &c->dirty : &c->clean, t);
    table_free(c, t);
}

void qcow2_cache_forget(struct table_cache *c, uint64_t off)
{
    struct table *t = c ? *cache_slot(c, off) : NULL;
    if (t && !t->pins) {
        cache_remove(c, t);
    } else if (t && t->dirty && !t->safe) {
        t->dirty = false; /* its last user does not matter any more */
        t->dirty_hi = t->down_hi = 0;
        list_remove(&c->dirty, t);
        list_add(&c->clean, t);
    }
}

void qcow2_cache_forget_all(struct table_cache *c)
{
    for (struct table *t = c->clean.oldest, *next; t; t = next) {
        next = t->newer;
        cache_remove(c, t);
    }
    for (struct table *t = c->dirty.oldest, *next; t; t = next) {
        next = t->newer;
        cache_remove(c, t);
    }
}

void qcow2_cache_free(struct table_cache *c)
{
    if (c) {
        qcow2_cache_forget_all(c);
        free(c->hash);
        free(c);
    }
}

/* ---- Use ---- */

struct table *qcow2_cache_peek(struct table_cache *c, uint64_t off)
{
    struct table *t = *cache_slot(c, off);
    if (t && !t->dirty && t->newer) {
        list_remove(&c->clean, t);
        list_add(&c->clean, t);
    }
    return t;
}

void qcow2_cache_lend(struct table_cache *c, struct table *t)
{
    if (!t->lent++) {
        t->lent_next = c->lent;
        c->lent = t;
    }
}

struct table *qcow2_cache_lent(struct table_cache *c, const void *data)
{
    struct table **p = &c->lent;
    while ((*p)->data != data) {
        p = &(*p)->lent_next;
    }
    struct table *t = *p;
    if (!--t->lent) {
        *p = t->lent_next;
    }
    return t;
}

static int cache_make_room(struct table_cache *c)
{
    for (int tries = 0; c->count >= c->max && tries < 2; tries++) {
        struct table *t = c->clean.oldest;
        while (t && t->pins) {
            t = t->newer;
        }
        if (t) {
            cache_remove(c, t);
            return 0;
        }
        int ret = qcow2_barrier(c->s);
        ret = ret ? ret : qcow2_write_refcounts(c->s);
        if (ret) {
            return ret;
        }
    }
    return 0; /* all are in use just now: a few more, then */
}

static int cache_load(struct table_cache *c, uint64_t off, bool fresh, struct table **out)
{
    struct table *t = alloc_zero(sizeof(*t));
    t->off = off;
    t->data = block_alloc(c->s->cluster_size);
    int ret = t->data ? 0 : -ENOMEM;
    if (!ret && fresh) {
        memset(t->data, 0, c->s->cluster_size);
    } else if (!ret) {
        ret = qcow2_file_read(c->s, off, t->data, c->s->cluster_size);
    }
    if (ret) {
        free(t->data);
        free(t);
        return ret;
    }
    c->count++;
    *cache_slot(c, off) = t;
    list_add(&c->clean, t);
    *out = t;
    return 0;
}

int qcow2_cache_get(struct table_cache *c, uint64_t off, bool fresh, struct table **out)
{
    struct table *t = *cache_slot(c, off);
    if (!t) {
        int ret = cache_make_room(c);
        ret = ret ? ret : cache_load(c, off, fresh, &t);
        if (ret) {
            return ret;
        }
    } else if (fresh) {
        memset(t->data, 0, c->s->cluster_size);
    }
    if (!t->dirty) {
        list_remove(&c->clean, t);
        list_add(&c->clean, t);
    }
    t->pins++;
    *out = t;
    return 0;
}

void qcow2_cache_put(struct table *t)
{
    assert(t->pins);
    t->pins--;
}

static void cache_to_dirty(struct table_cache *c, struct table *t)
{
    if (!t->dirty) {
        list_remove(&c->clean, t);
        list_add(&c->dirty, t);
        t->dirty = true;
    }
}

void qcow2_cache_dirty(struct table_cache *c, struct table *t, uint32_t lo, uint32_t hi)
{
    cache_to_dirty(c, t);
    t->dirty_lo = t->dirty_hi && t->dirty_lo < lo ? t->dirty_lo : lo;
    t->dirty_hi = t->dirty_hi > hi ? t->dirty_hi : hi;
}

int qcow2_cache_make_safe(struct table_cache *c, struct table *t)
{
    if (t->safe) {
        return 0;
    }
    uint64_t bytes = (uint64_t)c->safe << c->s->cluster_bits;
    if (bytes >= MAX_SAFE_BYTES || c->safe >= c->max / 2) {
        int ret = qcow2_barrier(c->s);
        if (ret) {
            return ret;
        }
    }
    t->safe = block_alloc(c->s->cluster_size);
    if (!t->safe) {
        return -ENOMEM;
    }
    memcpy(t->safe, t->data, c->s->cluster_size);
    c->safe++;
    t->down_lo = t->down_hi = 0;
    cache_to_dirty(c, t);
    return 0;
}

bool qcow2_cache_is_dirty(const struct table_cache *c)
{
    return c->dirty.oldest;
}

/* ---- Writing back ---- */

int qcow2_write_entries(struct qcow2 *s, uint64_t off, const uint64_t *v, uint64_t n,
                        const uint8_t *dirty)
{
    enum { PER_SECTOR = BLOCK_SECTOR / 8, MOST = 128 };
    uint64_t sectors = (n + PER_SECTOR - 1) / PER_SECTOR;
    AUTO_FREE uint8_t *buf = block_alloc(MOST * BLOCK_SECTOR);
    if (!buf) {
        return -ENOMEM;
    }
    for (uint64_t i = 0, run; i < sectors; i += run) {
        for (run = 0; i + run < sectors && run < MOST && dirty[i + run]; run++) {
        }
        if (!run) {
            run = 1;
            continue;
        }
        for (uint64_t k = 0; k < run * PER_SECTOR; k++) {
            uint64_t at = i * PER_SECTOR + k;
            store_be64(buf + k * 8, at < n ? v[at] : 0);
        }
        int ret = block_pwrite(s->b->file, off + i * BLOCK_SECTOR, buf, run * BLOCK_SECTOR, 0);
        if (ret) {
            return ret;
        }
    }
    return 0;
}

/* Whole pages, where the cluster has them, so that the host need not read first. */
static int table_write(struct table_cache *c, struct table *t)
{
    uint32_t size = c->s->cluster_size, page = size < 4096 ? BLOCK_SECTOR : 4096;
    if (!t->dirty_hi) {
        return 0;
    }
    uint32_t lo = t->dirty_lo & ~(page - 1), hi = (uint32_t)round_up(t->dirty_hi, page);
    return block_pwrite(c->s->b->file, t->off + lo, (t->safe ? t->safe : t->data) + lo, hi - lo, 0);
}

static int cache_write(struct table_cache *c, bool *any)
{
    for (struct table *t = c->dirty.oldest; t; t = t->newer) {
        *any |= t->dirty_hi != 0;
        int ret = table_write(c, t);
        if (ret) {
            return ret;
        }
    }
    return 0;
}

/* After the sync. What has a safe copy still has something to write. */
static void cache_written(struct table_cache *c)
{
    for (struct table *t = c->dirty.oldest, *next; t; t = next) {
        next = t->newer;
        t->dirty_lo = t->dirty_hi = 0;
        if (!t->safe) {
            t->dirty = false;
            list_remove(&c->dirty, t);
            list_add(&c->clean, t);
        }
    }
}

/* I4: references are gone from the disk and nobody uses the clusters any more: what went down may
 * be written, what is free may be used. */
static void cache_release(struct table_cache *c)
{
    struct qcow2 *s = c->s;
    for (struct table *t = c->dirty.oldest; t; t = t->newer) {
        if (!t->safe) {
            continue;
        }
        free(t->safe);
        t->safe = NULL;
        c->safe--;
        uint64_t lowest = t->first + ((uint64_t)t->down_lo * 8 >> s->refcount_order);
        s->free_hint = lowest < s->free_hint ? lowest : s->free_hint;
        if (t->down_hi) {
            qcow2_cache_dirty(c, t, t->down_lo, t->down_hi);
        }
        t->down_lo = t->down_hi = 0;
    }
}

int qcow2_sync(struct qcow2 *s)
{
    int ret = s->b->data ? block_flush(s->b->data) : 0;
    return ret ? ret : block_flush(s->b->file);
}

int qcow2_commit_header(struct qcow2 *s)
{
    int ret = qcow2_write_header(s);
    ret = ret ? ret : block_flush(s->b->file);
    s->header_unsure = ret != 0;
    return ret;
}

int qcow2_settle_header(struct qcow2 *s)
{
    return s->header_unsure ? qcow2_commit_header(s) : 0;
}

static void reftable_written(struct qcow2 *s)
{
    memset(s->reftable_dirty, 0, s->reftable_size * 8 / BLOCK_SECTOR);
    s->reftable_is_dirty = false;
}

/* *synced: there was something to write, and so guest data is durable, too. */
static int write_refcounts(struct qcow2 *s, bool *synced)
{
    bool any = false;
    int ret = cache_write(s->ref_cache, &any);
    if (!ret && s->reftable_is_dirty) { /* I5: a block before the entry that refers to it */
        ret = any ? block_flush(s->b->file) : 0;
        ret = ret ? ret : qcow2_write_reftable(s);
        any = true;
    }
    ret = ret || !any ? ret : qcow2_sync(s);
    if (!ret && any) {
        cache_written(s->ref_cache);
        reftable_written(s);
        *synced = true;
    }
    return ret;
}

int qcow2_write_refcounts(struct qcow2 *s)
{
    bool synced;
    return write_refcounts(s, &synced);
}

static int write_mapping(struct qcow2 *s)
{
    bool any = false;
    int ret = cache_write(s->l2_cache, &any);
    if (!ret && s->l1_is_dirty) { /* I5 */
        ret = any ? block_flush(s->b->file) : 0;
        ret = ret ? ret : qcow2_write_entries(s, s->l1_off, s->l1, s->l1_size, s->l1_dirty);
        any = true;
    }
    ret = ret || !any ? ret : block_flush(s->b->file);
    if (!ret && any) {
        cache_written(s->l2_cache);
        memset(s->l1_dirty, 0, (uint64_t)s->l1_size * 8 / BLOCK_SECTOR + 1);
        s->l1_is_dirty = false;
    }
    return ret;
}

int qcow2_barrier(struct qcow2 *s)
{
    bool mapping = qcow2_cache_is_dirty(s->l2_cache) || s->l1_is_dirty, synced = false;
    int ret = qcow2_settle_header(s);                                /* I4, I6 */
    ret = ret || s->lazy_marked ? ret : write_refcounts(s, &synced); /* I3 */
    if (!ret && mapping) {
        ret = synced ? 0 : qcow2_sync(s); /* I2: guest data */
        ret = ret ? ret : write_mapping(s);
    }
    if (!ret && s->ref_cache->safe) {
        ret = mapping ? 0 : qcow2_sync(s); /* references may have been elsewhere */
        if (!ret) {
            qcow2_wait_io(s);
            cache_release(s->ref_cache);
            qcow2_pass_discards(s);
        }
    }
    return ret;
}

int qcow2_drop_caches(struct qcow2 *s)
{
    if (qcow2_cache_is_dirty(s->l2_cache) || qcow2_cache_is_dirty(s->ref_cache)) {
        return -EBUSY;
    }
    qcow2_cache_forget_all(s->l2_cache);
    qcow2_cache_forget_all(s->ref_cache);
    return 0;
}
