/*
 * Making images longer and shorter, and empty. Longer: what comes new reads as zero, whatever
 * tables or the backing file have there. Shorter: the header decides first, then clusters are given
 * up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/qcow2/internal.h"

static int resize_err(const struct qcow2 *s, struct err *err, int ret)
{
    return ret ? err_set(err, -ret, "cannot resize '%s': %s", s->b->filename,
                         ret == -EFBIG ? "the image would be too large for its cluster size"
                                       : strerror(-ret))
               : 0;
}

/* Zeros, by entries if that is possible. */
static int resize_zero(struct block *b, uint64_t off, uint64_t len)
{
    enum { PIECE = 2 << 20 };
    int ret = len ? qcow2_zero(b, off, len, 0) : 0;
    if (ret != -ENOTSUP) {
        return ret;
    }
    AUTO_FREE uint8_t *buf = block_alloc(PIECE);
    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, PIECE);
    ret = 0;
    for (uint64_t done = 0, n; done < len && !ret; done += n) {
        struct iovec hold;
        n = len - done < PIECE ? len - done : PIECE;
        struct iovs q = iovs_buf(&hold, buf, n);
        ret = qcow2_pwritev(b, off + done, &q, 0);
    }
    return ret;
}

static int resize_write_size(struct qcow2 *s, uint64_t size)
{
    uint64_t old = s->b->size;
    int ret = qcow2_barrier(s);
    ret = ret ? ret : block_flush(s->b->file);
    s->b->size = size;
    ret = ret ? ret : qcow2_commit_header(s);
    if (ret) {
        s->b->size = old;
    }
    return ret;
}

/* L2 tables from that L1 entry on, all of whose entries are empty. */
static int resize_drop_l2(struct qcow2 *s, uint64_t first)
{
    int ret = 0;
    for (uint64_t i = first; i < s->l1_size && !ret; i++) {
        uint64_t off = s->l1[i] & QCOW2_OFFSET_MASK;
        if (s->l1[i]) {
            s->l1[i] = 0;
            qcow2_write_l1_entry(s, (uint32_t)i);
            ret = off ? qcow2_free(s, off, s->cluster_size) : 0;
        }
    }
    return ret;
}

/* Behind the last cluster in use. */
static int resize_find_end(struct qcow2 *s, uint64_t *end)
{
    uint64_t n = qcow2_refblock_entries(s);
    for (uint64_t i = s->reftable_size; i-- > 0;) {
        if (!s->reftable[i]) {
            continue;
        }
        struct table *t;
        int ret = qcow2_refblock_get(s, i, &t);
        if (ret) {
            return ret;
        }
        for (uint64_t k = n; k-- > 0;) {
            if (qcow2_count_load(t->data, s->refcount_order, k)) {
                *end = (i * n + k + 1) << s->cluster_bits;
                qcow2_cache_put(t);
                return 0;
            }
        }
        qcow2_cache_put(t);
    }
    return -EIO;
}

/* Gives back what lies behind the last cluster in use; no harm if that is not possible. */
static void resize_cut_file(struct qcow2 *s)
{
    uint64_t end;
    struct err ignored;
    int ret = qcow2_barrier(s);
    ret = ret ? ret : qcow2_write_refcounts(s);
    ret = ret ? ret : resize_find_end(s, &end);
    if (ret || end >= block_size(s->b->file)) {
        return;
    }
    if (!block_truncate(s->b->file, end, PREALLOC_OFF, &ignored) && s->b->file->type->grows) {
        s->fresh = end;
    }
}

static int resize_shrink(struct qcow2 *s, uint64_t size, struct err *err)
{
    struct block *b = s->b;
    uint64_t unit = s->cluster_size, old = b->size, whole = round_up(size, unit);
    int ret = resize_zero(b, size, (whole < old ? whole : old) - size);
    if (ret) {
        return resize_err(s, err, ret);
    }
    co_lock(&s->lock);
    qcow2_inflight_wait(s, 0, UINT64_MAX);
    ret = resize_write_size(s, size);
    if (!ret) {
        uint64_t covers = qcow2_l2_covers(s);
        ret = whole < old ? qcow2_unmap(s, whole, old - whole) : 0;
        ret = ret ? ret : resize_drop_l2(s, (size + covers - 1) / covers);
        resize_cut_file(s);
    }
    co_unlock(&s->lock);
    ret = resize_err(s, err, ret);
    return ret || !b->data ? ret : block_truncate(b->data, size, PREALLOC_OFF, err);
}

/* Clusters for all of it, and the host's space for them. */
static int resize_preallocate(struct qcow2 *s, uint64_t from, uint64_t size,
                              enum block_prealloc prealloc, struct err *err)
{
    int ret = 0;
    uint64_t covers = qcow2_l2_covers(s);
    for (uint64_t off = round_up(from, s->cluster_size), n; off < size && !ret; off += n) {
        n = covers - off % covers;
        n = n < size - off ? n : size - off;
        ret = qcow2_preallocate(s, off, n);
    }
    if (ret || s->b->data || s->fresh == UINT64_MAX || s->fresh <= block_size(s->b->file)) {
        return resize_err(s, err, ret);
    }
    enum block_prealloc how = prealloc == PREALLOC_METADATA ? PREALLOC_OFF : prealloc;
    return block_truncate(s->b->file, s->fresh, how, err);
}

static int resize_grow_locked(struct qcow2 *s, uint64_t size, enum block_prealloc prealloc,
                              struct err *err)
{
    uint64_t covers = qcow2_l2_covers(s), old = s->b->size;
    uint64_t entries = size / covers + !!(size % covers), whole = round_up(old, s->cluster_size);
    if (entries > QCOW2_MAX_L1_BYTES / 8) {
        return resize_err(s, err, -EFBIG);
    }
    qcow2_inflight_wait(s, 0, UINT64_MAX);
    int ret = qcow2_grow_l1(s, (uint32_t)entries);
    if (!ret && whole < size) { /* whatever was left there */
        ret = qcow2_unmap(s, whole, size - whole);
    }
    if (ret) {
        return resize_err(s, err, ret);
    }
    if (prealloc) {
        ret = resize_preallocate(s, old, size, prealloc, err);
    }
    return ret;
}

static int resize_grow(struct qcow2 *s, uint64_t size, enum block_prealloc prealloc,
                       struct err *err)
{
    struct block *b = s->b;
    uint64_t old = b->size;
    if (b->data && size > block_size(b->data)) {
        enum block_prealloc how = prealloc == PREALLOC_METADATA ? PREALLOC_OFF : prealloc;
        int ret = block_truncate(b->data, size, how, err);
        if (ret) {
            return ret;
        }
    }
    co_lock(&s->lock);
    int ret = resize_grow_locked(s, size, prealloc, err);
    co_unlock(&s->lock);
    /* What the backing file has there must not show, nor what others left behind the old end. */
    uint64_t below = b->backing ? block_size(b->backing) : 0;
    uint64_t dirty = round_up(old, s->cluster_size), end = dirty > below ? dirty : below;
    end = end < size ? end : size;
    if (!ret && end > old) {
        b->size = end; /* so that its last cluster counts as whole */
        ret = resize_zero(b, old, end - old);
        b->size = old;
        resize_err(s, err, ret);
    }
    if (!ret) {
        co_lock(&s->lock);
        ret = resize_err(s, err, resize_write_size(s, size));
        co_unlock(&s->lock);
    }
    return ret;
}

int qcow2_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc, struct err *err)
{
    struct qcow2 *s = b->state;
    if (size & (BLOCK_SECTOR - 1)) {
        return err_set(err, EINVAL, "The new size must be a multiple of %d bytes", BLOCK_SECTOR);
    }
    if (s->snap_count && s->version < 3 && size != b->size) {
        return err_set(err, ENOTSUP,
                       "'%s' has snapshots; only images of version 3 can be resized "
                       "with them",
                       b->filename);
    }
    bool below = b->backing || b->backing_name;
    if (prealloc && size > b->size && below && s->subclusters == 1) {
        return err_set(err, ENOTSUP,
                       "Backing file and preallocation can only be used at the same "
                       "time if extended_l2 is on");
    }
    if (prealloc && size < b->size) {
        return err_set(err, ENOTSUP, "Preallocation can't be used for shrinking an image");
    }
    int ret = resize_err(s, err, qcow2_begin_change(s, size, 0));
    if (ret || size == b->size) {
        return ret;
    }
    ret = size < b->size ? resize_shrink(s, size, err) : resize_grow(s, size, prealloc, err);
    if (!ret && s->bitmaps) {
        qcow2_bitmaps_resize(s, size);
    }
    return ret;
}

int qcow2_make_empty(struct block *b, struct err *err)
{
    struct qcow2 *s = b->state;
    int ret = qcow2_begin_change(s, 0, b->size);
    if (ret) {
        return err_set(err, -ret, "'%s' may not be changed", b->filename);
    }
    co_lock(&s->lock);
    qcow2_inflight_wait(s, 0, UINT64_MAX);
    s->freeing = QCOW2_DISCARD_REQUEST;
    ret = b->size ? qcow2_unmap(s, 0, round_up(b->size, s->cluster_size)) : 0;
    ret = ret ? ret : resize_drop_l2(s, 0);
    s->freeing = QCOW2_DISCARD_OTHER;
    resize_cut_file(s);
    co_unlock(&s->lock);
    return ret ? err_set(err, -ret, "cannot empty '%s': %s", b->filename, strerror(-ret)) : 0;
}
