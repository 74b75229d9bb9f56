/*
 * Ranges without data: zeroing and discarding by L2 entries, cutting off, and telling what lies
 * where. Entries change under the lock; ranges that allocations are on their way in are waited for.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/qcow2/internal.h"

enum change { CHANGE_ZERO, CHANGE_ZERO_UNMAP, CHANGE_DISCARD, CHANGE_UNMAP };

/* Space that entries have given up, in a row as long as possible. */
struct given_up {
    uint64_t off, len;
};

static int given_up_free(struct qcow2 *s, struct given_up *g)
{
    if (!g->len) {
        return 0;
    }
    int ret = 0;
    if (!(s->incompatible & QCOW2_DATA_FILE)) {
        ret = qcow2_free(s, g->off, g->len);
    } else if (s->o.discard_request) {
        block_discard(s->b->data, g->off, g->len); /* space only */
    }
    g->len = 0;
    return ret;
}

static int given_up_add(struct qcow2 *s, struct given_up *g, uint64_t entry)
{
    if (entry & QCOW2_COMPRESSED) {
        return qcow2_free_entry(s, entry, 0);
    }
    if (!qcow2_entry_has_host(s, entry)) {
        return 0;
    }
    uint64_t host = entry & QCOW2_OFFSET_MASK;
    int ret = g->len && g->off + g->len == host ? 0 : given_up_free(s, g);
    g->off = g->len ? g->off : host;
    g->len += s->cluster_size;
    return ret;
}

/* What a whole cluster becomes; *drop: its space is given up. */
static void change_cluster(const struct qcow2 *s, enum change how, uint64_t *entry, uint64_t *bits,
                           bool *drop)
{
    bool below = s->b->backing || s->b->backing_name;
    bool data = *entry & QCOW2_COMPRESSED || qcow2_entry_has_host(s, *entry);
    bool zero = how != CHANGE_UNMAP && (how != CHANGE_DISCARD || below);
    bool is_zero = s->subclusters > 1 ? *bits >> 32 == mask_low(32)
                                      : *entry & QCOW2_ZERO && !(*entry & QCOW2_COMPRESSED);
    if (s->version < 3) {
        zero = false;
    } else if (how == CHANGE_DISCARD && is_zero && !data) {
        zero = true; /* stays */
    }
    *drop = data && (how != CHANGE_ZERO || *entry & QCOW2_COMPRESSED || !zero);
    if (*drop || !data) {
        *entry = 0;
    }
    if (s->subclusters > 1) {
        *bits = zero ? mask_low(32) << 32 : 0;
    } else if (zero) {
        *entry |= QCOW2_ZERO;
    }
}

/* Subclusters [first, end) of one cluster are zero from now on. */
static int change_subclusters(struct qcow2 *s, uint64_t off, uint64_t len)
{
    struct table *t;
    uint32_t i;
    int ret = qcow2_l2_for_write(s, off, &t, &i);
    if (ret) {
        return ret;
    }
    uint64_t bits, entry = qcow2_entry_get(s, t, i, &bits);
    uint64_t first = (off & (s->cluster_size - 1)) / s->subcluster_size;
    uint64_t mask = mask_low((unsigned)(len / s->subcluster_size)) << first;
    ret = entry & QCOW2_COMPRESSED ? -ENOTSUP : qcow2_entry_check(s, off, entry, bits);
    if (!ret) {
        qcow2_entry_set(s, t, i, entry, (bits & ~mask) | mask << 32);
    }
    qcow2_cache_put(t);
    return ret;
}

/* Whole clusters of one L2 table. */
static int change_table(struct qcow2 *s, enum change how, uint64_t off, uint64_t n)
{
    bool must = how == CHANGE_ZERO || how == CHANGE_ZERO_UNMAP ||
                (how == CHANGE_DISCARD && (s->b->backing || s->b->backing_name) && s->version >= 3);
    uint64_t l1_index = off / qcow2_l2_covers(s);
    if (l1_index >= s->l1_size || (!must && !(s->l1[l1_index] & QCOW2_OFFSET_MASK))) {
        return 0;
    }
    struct table *t;
    uint32_t i;
    int ret = qcow2_l2_for_write(s, off, &t, &i);
    if (ret) {
        return ret;
    }
    struct given_up gone = {0};
    for (uint64_t k = 0; k < n && !ret; k++) {
        uint64_t bits, entry = qcow2_entry_get(s, t, i + (uint32_t)k, &bits);
        uint64_t new_entry = entry, new_bits = bits;
        bool drop;
        ret = qcow2_entry_check(s, off + (k << s->cluster_bits), entry, bits);
        if (ret) {
            break;
        }
        change_cluster(s, how, &new_entry, &new_bits, &drop);
        if (new_entry == entry && new_bits == bits) {
            continue;
        }
        qcow2_entry_set(s, t, i + (uint32_t)k, new_entry, new_bits); /* I4: before it is freed */
        ret = drop ? given_up_add(s, &gone, entry) : 0;
    }
    int freed = given_up_free(s, &gone);
    qcow2_cache_put(t);
    return ret ? ret : freed;
}

/* Whole clusters; the lock is held and nothing is in flight there. */
static int change_range(struct qcow2 *s, enum change how, uint64_t off, uint64_t end)
{
    int ret = 0;
    while (off < end && !ret) {
        uint64_t covers = qcow2_l2_covers(s), n = covers - off % covers;
        n = n < end - off ? n : end - off;
        ret = change_table(s, how, off, (n + s->cluster_size - 1) >> s->cluster_bits);
        off += n;
    }
    return ret;
}

static int change_waiting(struct qcow2 *s, enum change how, uint64_t off, uint64_t end)
{
    if (off >= end) {
        return 0;
    }
    co_lock(&s->lock);
    qcow2_inflight_wait(s, off, end);
    s->freeing = QCOW2_DISCARD_REQUEST;
    int ret = s->is_corrupt ? -EIO : change_range(s, how, off, end);
    s->freeing = QCOW2_DISCARD_OTHER;
    co_unlock(&s->lock);
    return ret;
}

int qcow2_unmap(struct qcow2 *s, uint64_t off, uint64_t len)
{
    qcow2_inflight_wait(s, off, off + len);
    return change_range(s, CHANGE_UNMAP, off, off + len);
}

/* ---- Zeroing ---- */

static bool edge_is_zero(struct qcow2 *s, uint64_t off, uint64_t len)
{
    struct qcow2_map m;
    for (uint64_t done = 0; done < len; done += m.len) {
        if (qcow2_lookup(s, off + done, len - done, &m)) {
            return false;
        }
        bool below = s->b->backing && off + done < block_size(s->b->backing);
        if (m.kind != QCOW2_ZEROS && (m.kind != QCOW2_NOTHING || below)) {
            return false;
        }
    }
    return true;
}

/* Less than a cluster, in one. */
static int zero_edge(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    struct qcow2 *s = b->state;
    if (!len || edge_is_zero(s, off, len)) {
        return 0;
    }
    bool subs = s->subclusters > 1 && !((off | len) & (s->subcluster_size - 1));
    if (subs && !(s->autoclear & QCOW2_DATA_FILE_RAW)) {
        co_lock(&s->lock);
        qcow2_inflight_wait(s, off, off + len);
        int ret = change_subclusters(s, off, len);
        co_unlock(&s->lock);
        if (ret != -ENOTSUP) {
            return ret;
        }
    }
    if (flags & BLOCK_NO_FALLBACK) {
        return -ENOTSUP;
    }
    AUTO_FREE uint8_t *buf = block_alloc(len);
    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, len);
    struct iovec hold;
    struct iovs q = iovs_buf(&hold, buf, len);
    return qcow2_pwritev(b, off, &q, 0);
}

/* With extended L2 a part that subclusters can say, and one that must be written. */
static int zero_edges(struct block *b, uint64_t off, uint64_t end, unsigned flags)
{
    struct qcow2 *s = b->state;
    uint64_t sub = s->subcluster_size, first = round_up(off, sub), last = end & ~(sub - 1);
    if (s->subclusters == 1 || first >= last) {
        return zero_edge(b, off, end - off, flags);
    }
    int ret = zero_edge(b, off, first - off, flags);
    ret = ret ? ret : zero_edge(b, first, last - first, flags);
    return ret ? ret : zero_edge(b, last, end - last, flags);
}

static int zero_raw_data(struct qcow2 *s, uint64_t off, uint64_t len, unsigned flags)
{
    uint64_t size = block_size(s->b->data), have = off >= size ? 0 : size - off;
    have = have < len ? have : len;
    return have ? block_zero(s->b->data, off, have, flags) : 0;
}

int qcow2_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    struct qcow2 *s = b->state;
    uint64_t unit = s->cluster_size, end = off + len;
    uint64_t first = round_up(off, unit),
             last = end == b->size ? round_up(end, unit) : end & ~(unit - 1);
    bool below = b->backing || b->backing_name;
    if ((s->version < 3 && below) || (s->crypt && (off | len) & (BLOCK_SECTOR - 1))) {
        return -ENOTSUP; /* there is no way to say it, or less than a sector to encrypt */
    }
    int ret = qcow2_begin_change(s, off, len);
    if (ret) {
        return ret;
    }
    if (first >= last) {
        uint64_t cut = first < end ? first : end;
        ret = zero_edges(b, off, cut, flags);
        return ret || cut == end ? ret : zero_edges(b, cut, end, flags);
    }
    ret = zero_edges(b, off, first, flags);
    if (!ret && s->autoclear & QCOW2_DATA_FILE_RAW) {
        ret = zero_raw_data(s, first, last - first, flags);
    }
    enum change how = flags & BLOCK_MAY_UNMAP ? CHANGE_ZERO_UNMAP : CHANGE_ZERO;
    ret = ret ? ret : change_waiting(s, how, first, last);
    return ret || last >= end ? ret : zero_edges(b, last, end, flags);
}

int qcow2_discard(struct block *b, uint64_t off, uint64_t len)
{
    struct qcow2 *s = b->state;
    uint64_t unit = s->cluster_size, end = off + len;
    uint64_t first = round_up(off, unit),
             last = end == b->size ? round_up(end, unit) : end & ~(unit - 1);
    bool below = b->backing || b->backing_name;
    if ((s->version < 3 && below) || s->autoclear & QCOW2_DATA_FILE_RAW || first >= last) {
        return 0; /* data may stay */
    }
    int ret = qcow2_begin_change(s, first, last - first);
    return ret ? ret : change_waiting(s, CHANGE_DISCARD, first, last);
}

/* ---- What lies where ---- */

static void extent_of(struct qcow2 *s, const struct qcow2_map *m, struct block_extent *e)
{
    static const unsigned flags[] = {
        [QCOW2_NOTHING] = 0,
        [QCOW2_ZEROS] = EXTENT_ZERO | EXTENT_ALLOCATED,
        [QCOW2_DATA] = EXTENT_DATA | EXTENT_ALLOCATED,
        [QCOW2_DEFLATED] = EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_COMPRESSED,
    };
    *e = (struct block_extent){.len = m->len, .flags = flags[m->kind]};
    if (m->has_host && !s->crypt) {
        e->flags |= EXTENT_OFFSET;
        e->host_off = m->host;
        e->host = s->b->data ? s->b->data : s->b->file;
    }
}

static int extent_in_row(struct qcow2 *s, uint64_t off, uint64_t len, struct block_extent *e)
{
    struct qcow2_map m;
    int ret = qcow2_lookup(s, off, len, &m);
    if (ret) {
        return ret;
    }
    extent_of(s, &m, e);
    while (e->len < len) {
        struct block_extent next;
        if (qcow2_lookup(s, off + e->len, len - e->len, &m)) {
            break; /* told when somebody asks from there */
        }
        extent_of(s, &m, &next);
        if (next.flags != e->flags ||
            (e->flags & EXTENT_OFFSET && next.host_off != e->host_off + e->len)) {
            break;
        }
        e->len += next.len;
    }
    return 0;
}

enum { SPARSE_MAX_CLUSTERS = 1 << 28 }; /* half a second; larger images are not asked about */

/* True if more than `limit` clusters are in use. Lock held. */
static bool extent_uses_more(struct qcow2 *s, uint64_t clusters, uint64_t limit)
{
    uint64_t entries = qcow2_refblock_entries(s), used = 0;
    clusters = clusters < SPARSE_MAX_CLUSTERS ? clusters : SPARSE_MAX_CLUSTERS;
    for (uint64_t i = 0; i < s->reftable_size && i * entries < clusters; i++) {
        struct table *t;
        if (!s->reftable[i]) {
            continue;
        }
        if (qcow2_refblock_get(s, i, &t)) {
            return false;
        }
        for (uint64_t k = 0; k < entries; k++) {
            used += qcow2_count_load(t->data, s->refcount_order, k) != 0;
        }
        qcow2_cache_put(t);
        if (used > limit) {
            return true;
        }
    }
    return false;
}

/* Fewer than nine tenths of what is in use, and by more than a cluster: one is rarely full. */
static bool extent_find_sparse(struct qcow2 *s)
{
    struct block_info info;
    struct err ignored;
    if (block_get_info(s->b->file, &info, &ignored)) {
        return false;
    }
    uint64_t disk = info.disk_size, file = info.size;
    block_info_free(&info);
    if (disk >= file) { /* or not known */
        return false;
    }
    uint64_t slack = disk / 9 > s->cluster_size ? disk / 9 : s->cluster_size;
    co_lock(&s->lock);
    bool sparse = extent_uses_more(s, file >> s->cluster_bits, (disk + slack) >> s->cluster_bits);
    co_unlock(&s->lock);
    return sparse;
}

/* Clusters that were made ahead of their data are holes of the file. Asking it costs something with
 * every range: only where much of what is in use is not on the host's disk. Looked at once. */
static bool extent_file_is_sparse(struct qcow2 *s)
{
    if (s->crypt || s->incompatible & QCOW2_DATA_FILE) {
        return false;
    }
    if (s->sparse == QCOW2_SPARSE_UNKNOWN) {
        s->sparse = extent_find_sparse(s) ? QCOW2_SPARSE : QCOW2_NOT_SPARSE;
    }
    return s->sparse == QCOW2_SPARSE;
}

int qcow2_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    struct qcow2 *s = b->state;
    int ret = extent_in_row(s, off, len, e);
    bool stored = e->flags & EXTENT_DATA && e->flags & EXTENT_OFFSET;
    if (ret || !stored || !extent_file_is_sparse(s)) {
        return ret;
    }
    struct block_extent below;
    if (!block_extent(s->b->file, e->host_off, e->len, &below) && below.len) {
        e->flags |= below.flags & EXTENT_ZERO;
        e->len = below.len < e->len ? below.len : e->len;
    }
    return 0;
}

/* ---- Space ahead of data ---- */

/* Where the table cannot say it: what reads as zeros. */
static int write_zeros(struct qcow2 *s, uint64_t guest, uint64_t host, uint64_t len)
{
    if (!s->crypt) {
        return block_zero(s->b->file, host, len, 0);
    }
    uint64_t most = s->cluster_size > 1 << 20 ? s->cluster_size : 1 << 20;
    most = most < len ? most : len;
    AUTO_FREE uint8_t *buf = block_alloc(most);
    int ret = buf ? 0 : -ENOMEM;
    for (uint64_t done = 0, n; done < len && !ret; done += n) {
        n = len - done < most ? len - done : most;
        memset(buf, 0, n);
        ret = qcow2_encrypt(s, guest + done, host + done, buf, n);
        ret = ret ? ret : block_pwrite(s->b->file, host + done, buf, n, 0);
    }
    return ret;
}

/* What is there already stays. New clusters that may hold something are marked as zero. */
static int preallocate_run(struct qcow2 *s, struct table *t, uint32_t i, uint64_t guest, uint64_t n)
{
    bool data_file = s->incompatible & QCOW2_DATA_FILE;
    uint64_t host = guest, fresh = s->fresh;
    int ret = data_file ? 0 : qcow2_alloc(s, n, &host);
    if (ret) {
        return ret;
    }
    bool zero = (data_file || host >= fresh) && !s->crypt;
    for (uint64_t k = 0; k < n; k++) {
        uint64_t entry = (host + (k << s->cluster_bits)) | QCOW2_COPIED, bits = 0;
        if (s->subclusters > 1) {
            bits = s->b->backing_name ? 0 : zero ? mask_low(32) : mask_low(32) << 32;
        } else if (!zero && s->version >= 3) {
            entry |= QCOW2_ZERO;
        }
        qcow2_entry_set(s, t, i + (uint32_t)k, entry, bits);
    }
    if (zero || s->version >= 3) {
        return 0;
    }
    return write_zeros(s, guest, host, n << s->cluster_bits);
}

int qcow2_preallocate(struct qcow2 *s, uint64_t off, uint64_t len)
{
    struct table *t;
    uint32_t i;
    int ret = qcow2_l2_for_write(s, off, &t, &i);
    if (ret) {
        return ret;
    }
    uint64_t all = (len + s->cluster_size - 1) >> s->cluster_bits;
    for (uint64_t k = 0, n; k < all && !ret; k += n) {
        uint64_t bits;
        for (n = 0; k + n < all && !qcow2_entry_get(s, t, i + (uint32_t)(k + n), &bits); n++) {
        }
        if (n) {
            ret = preallocate_run(s, t, i + (uint32_t)k, off + (k << s->cluster_bits), n);
        } else {
            n = 1;
        }
    }
    qcow2_cache_put(t);
    return ret;
}
