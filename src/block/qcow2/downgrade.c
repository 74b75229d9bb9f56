/*
 * For version 2: clusters marked as zero become unallocated where that reads as zero, else clusters
 * full of zeros. Specification: "Qcow2 Image File Format", section "Cluster mapping". Works on the
 * tables of the disk and of all snapshots; what an image says stays the same at every moment.
 */
#include "block/qcow2/amend.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/cipher.h"

enum { MAX_TABLES = 16 << 20 };

/* An L2 table that is referred to `refs` times, first from this L1 index. */
struct shared_l2 {
    uint64_t off;
    uint32_t l1_index, refs;
};

struct l2_list {
    struct shared_l2 *v;
    size_t count, room;
};

static int list_add(struct l2_list *l, const uint64_t *l1, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        if (!(l1[i] & QCOW2_OFFSET_MASK)) {
            continue;
        }
        if (l->count == l->room) {
            size_t room = l->room ? l->room * 2 : 256;
            struct shared_l2 *v = room > MAX_TABLES ? NULL : realloc(l->v, room * sizeof(*v));
            if (!v) {
                return -ENOMEM;
            }
            l->v = v;
            l->room = room;
        }
        l->v[l->count++] = (struct shared_l2){l1[i] & QCOW2_OFFSET_MASK, i, 1};
    }
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct shared_l2 *x = a, *y = b;
    return x->off < y->off ? -1 : x->off > y->off;
}

static void list_merge(struct l2_list *l)
{
    size_t n = 0;
    if (l->count) {
        qsort(l->v, l->count, sizeof(*l->v), by_offset);
    }
    for (size_t i = 0; i < l->count; i++) {
        if (n && l->v[n - 1].off == l->v[i].off) {
            l->v[n - 1].refs++;
        } else {
            l->v[n++] = l->v[i];
        }
    }
    l->count = n;
}

static int list_all(struct qcow2 *s, struct l2_list *l)
{
    int ret = list_add(l, s->l1, s->l1_size);
    for (uint32_t i = 0; i < s->snap_count && ret == 0; i++) {
        AUTO_FREE uint64_t *l1 = NULL;
        ret = qcow2_read_table(s, s->snaps[i].l1_off, s->snaps[i].l1_size, &l1);
        ret = ret < 0 ? ret : list_add(l, l1, s->snaps[i].l1_size);
    }
    list_merge(l);
    return ret;
}

/* A new cluster that reads as zeros at this guest offset. */
static int zero_cluster(struct qcow2 *s, uint64_t guest_off, uint64_t *off)
{
    AUTO_FREE uint8_t *buf = calloc(1, s->cluster_size);
    if (!buf) {
        return -ENOMEM;
    }
    int ret = qcow2_alloc(s, 1, off);
    if (ret == 0 && s->cipher) {
        ret = cipher_encrypt(s->cipher, s->crypt == QCOW2_CRYPT_LUKS ? *off : guest_off, buf,
                             s->cluster_size);
    }
    return ret < 0 ? ret : block_pwrite(s->b->file, *off, buf, s->cluster_size, 0);
}

/* With `refs` paths to this entry. */
static int convert_entry(struct qcow2 *s, uint8_t *at, uint64_t guest_off, uint32_t refs)
{
    uint64_t entry = load_be64(at), old = entry & QCOW2_OFFSET_MASK, off = 0;
    int ret = 0;
    if (s->b->backing_name) {
        ret = zero_cluster(s, guest_off, &off);
        if (ret == 0 && refs > 1) {
            ret = qcow2_refcount_add(s, off, s->cluster_size, refs - 1);
        }
    }
    if (ret < 0) {
        return ret;
    }
    store_be64(at, off ? off | (refs == 1 ? QCOW2_COPIED : 0) : 0);
    return old ? qcow2_refcount_add(s, old, s->cluster_size, -(int64_t)refs) : 0;
}

static int convert_table(struct qcow2 *s, const struct shared_l2 *t)
{
    void *table;
    bool changed = false;
    if (!qcow2_aligned(s, t->off)) {
        return -EIO;
    }
    int ret = qcow2_l2_get(s, t->off, &table);
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < s->l2_entries && ret == 0; i++) {
        uint8_t *at = (uint8_t *)table + (size_t)i * 8;
        uint64_t entry = load_be64(at);
        if (!(entry & QCOW2_COMPRESSED) && (entry & QCOW2_ZERO)) {
            uint64_t cluster = (uint64_t)t->l1_index * s->l2_entries + i;
            ret = convert_entry(s, at, cluster << s->cluster_bits, t->refs);
            changed = true;
        }
    }
    qcow2_l2_put(s, table, changed);
    return ret;
}

static int table_packed(struct qcow2 *s, uint64_t off, bool *any)
{
    void *table;
    int ret = qcow2_aligned(s, off) ? qcow2_l2_get(s, off, &table) : -EIO;
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < s->l2_entries; i++) {
        *any |=
            (load_be64((uint8_t *)table + (size_t)i * s->l2_entry_bytes) & QCOW2_COMPRESSED) != 0;
    }
    qcow2_l2_put(s, table, false);
    return 0;
}

int downgrade_find_packed(struct amend *a, bool *any)
{
    struct l2_list l = {0};
    *any = false;
    co_lock(&a->s->lock);
    int ret = list_all(a->s, &l);
    for (size_t i = 0; i < l.count && ret == 0 && !*any; i++) {
        ret = table_packed(a->s, l.v[i].off, any);
    }
    co_unlock(&a->s->lock);
    free(l.v);
    return ret;
}

int downgrade_zero_clusters(struct amend *a)
{
    struct l2_list l = {0};
    int ret = list_all(a->s, &l);
    for (size_t i = 0; i < l.count && ret == 0; i++) {
        ret = convert_table(a->s, &l.v[i]);
        if (a->progress) {
            a->progress(a->opaque, i + 1, l.count);
        }
    }
    free(l.v);
    ret = ret < 0 ? ret : qcow2_barrier(a->s);
    return ret == 0 ? 0
                    : err_set(a->err, -ret, "Failed to turn zero into data clusters: %s",
                              strerror(-ret));
}
