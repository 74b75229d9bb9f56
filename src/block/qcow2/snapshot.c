/*
 * Internal snapshots: create, apply, delete, list, view, and the area for the machine's state
 * behind the end of the disk. Specification: "Qcow2 Image File Format", section "Snapshots".
 *
 * Order, so that a cut at any sync leaves only clusters too many, never a refcount too small:
 *   create: refcounts of the tree + 1, COPIED cleared, copy of L1 and new table  | header | free
 *   apply:  refcounts of the snapshot's tree + 1, COPIED cleared, new L1          | header | free
 *   delete: new table                                                             | header | free
 * At '|' all before it is durable. COPIED flags that may be set again are set at the very end.
 * Images with an external data file have no snapshots: there are no refcounts for what is there.
 */
#include "block/qcow2/tree.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"

/* ---- Finding and listing ---- */

static struct qcow2_snap *find_id(struct qcow2 *s, const char *id)
{
    for (uint32_t i = 0; i < s->snap_count; i++) {
        if (strcmp(s->snaps[i].s.id, id) == 0) {
            return &s->snaps[i];
        }
    }
    return NULL;
}

static struct qcow2_snap *find_name(struct qcow2 *s, const char *name)
{
    for (uint32_t i = 0; i < s->snap_count; i++) {
        if (strcmp(s->snaps[i].s.name, name) == 0) {
            return &s->snaps[i];
        }
    }
    return NULL;
}

static struct qcow2_snap *find(struct qcow2 *s, const char *which, bool name_first)
{
    struct qcow2_snap *n = name_first ? find_name(s, which) : find_id(s, which);
    return n ? n : name_first ? find_id(s, which) : find_name(s, which);
}

static int not_found(struct qcow2 *s, const char *which, struct err *err)
{
    return err_set(err, ENOENT, "%s: there is no snapshot '%s'", block_filename(s->b), which);
}

int qcow2_snapshots(struct block *b, struct block_snapshot **list, size_t *count)
{
    struct qcow2 *s = b->state;
    *count = s->snap_count;
    *list = alloc_array(s->snap_count ? s->snap_count : 1, sizeof(**list));
    for (uint32_t i = 0; i < s->snap_count; i++) {
        (*list)[i] = s->snaps[i].s;
        (*list)[i].id = alloc_text(s->snaps[i].s.id);
        (*list)[i].name = alloc_text(s->snaps[i].s.name);
    }
    return 0;
}

/* Also checks that the table can be used for its disk size. */
static int read_l1(struct qcow2 *s, const struct qcow2_snap *n, uint64_t **l1, struct err *err)
{
    if ((uint64_t)n->l1_size * 8 > QCOW2_MAX_L1_BYTES || !qcow2_aligned(s, n->l1_off) ||
        qcow2_l1_needed(s, n->s.disk_size) > n->l1_size) {
        return err_set(err, EINVAL, "%s: the L1 table of snapshot '%s' cannot be right",
                       block_filename(s->b), n->s.name);
    }
    int ret = qcow2_read_table(s, n->l1_off, n->l1_size, l1);
    return ret == 0 ? 0
                    : err_set(err, -ret, "%s: reading the L1 table of snapshot '%s' failed: %s",
                              block_filename(s->b), n->s.name, strerror(-ret));
}

static int may_change(struct qcow2 *s, const char *doing, struct err *err)
{
    if (s->incompatible & QCOW2_DATA_FILE) {
        return err_set(err, ENOTSUP, "%s: images with a data file have no snapshots",
                       block_filename(s->b));
    }
    if (block_readonly(s->b) || s->viewing || s->is_corrupt) {
        return err_set(err, EROFS, "%s: %s a snapshot needs an image that can be written",
                       block_filename(s->b), doing);
    }
    return 0;
}

static int failed(struct qcow2 *s, int ret, const char *doing, const char *name, struct err *err)
{
    return err_set(err, -ret, "%s: %s snapshot '%s' failed: %s", block_filename(s->b), doing, name,
                   strerror(-ret));
}

/* ---- Create ---- */

static char *next_id(const struct qcow2 *s)
{
    unsigned long last = 0;
    for (uint32_t i = 0; i < s->snap_count; i++) {
        unsigned long id = strtoul(s->snaps[i].s.id, NULL, 10);
        last = id > last && id < ULONG_MAX ? id : last;
    }
    return alloc_printf("%lu", last + 1);
}

/* The tree gets its second reference; on failure it has lost it again. */
static int share_active(struct qcow2 *s, struct qcow2_snap *n)
{
    int ret = qcow2_tree_refs(s, s->l1, s->l1_size, 1);
    if (ret < 0) {
        return ret;
    }
    uint64_t bytes = round_up((uint64_t)s->l1_size * 8, s->cluster_size);
    uint64_t clusters = bytes >> s->cluster_bits;
    ret = qcow2_tree_flags(s, s->l1, s->l1_size, true);
    qcow2_wait_io(s); /* nobody writes in place any more */
    if (ret == 0 && clusters) {
        ret = qcow2_alloc(s, clusters, &n->l1_off);
    }
    n->l1_size = s->l1_size;
    if (ret == 0 && clusters) {
        ret = qcow2_write_table(s, n->l1_off, s->l1, s->l1_size);
        if (ret < 0) {
            qcow2_free(s, n->l1_off, bytes);
        }
    }
    if (ret < 0) {
        qcow2_tree_refs(s, s->l1, s->l1_size, -1);
        qcow2_tree_flags(s, s->l1, s->l1_size, true);
    }
    return ret;
}

static void unshare_active(struct qcow2 *s, const struct qcow2_snap *n)
{
    qcow2_tree_refs(s, s->l1, s->l1_size, -1);
    qcow2_tree_flags(s, s->l1, s->l1_size, true);
    if (n->l1_size) {
        qcow2_free(s, n->l1_off, (uint64_t)n->l1_size * 8);
    }
}

static int append(struct qcow2 *s, const struct qcow2_snap *n)
{
    struct qcow2_snap *old = s->snaps;
    struct qcow2_snap *all = calloc(s->snap_count + 1u, sizeof(*all));
    if (!all) {
        return -ENOMEM;
    }
    if (s->snap_count) {
        memcpy(all, old, s->snap_count * sizeof(*all));
    }
    all[s->snap_count] = *n;
    int ret = qcow2_write_snapshots(s, all, s->snap_count + 1);
    free(ret == 0 ? old : all);
    return ret;
}

static int check_new(struct qcow2 *s, const struct block_snapshot *snap, struct err *err)
{
    if (s->snap_count >= QCOW2_MAX_SNAPSHOTS) {
        return err_set(err, EFBIG, "%s: there are %u snapshots, which is the most possible",
                       block_filename(s->b), s->snap_count);
    }
    if (snap->id && find_id(s, snap->id)) {
        return err_set(err, EEXIST, "%s: there is a snapshot with id '%s' already",
                       block_filename(s->b), snap->id);
    }
    if ((snap->name && strlen(snap->name) > UINT16_MAX) ||
        (snap->id && strlen(snap->id) > UINT16_MAX)) {
        return err_set(err, EINVAL, "%s: the name of the snapshot is too long",
                       block_filename(s->b));
    }
    return 0;
}

static int create_locked(struct qcow2 *s, const struct block_snapshot *snap, struct err *err)
{
    struct qcow2_snap n = {.s = *snap};
    int ret = check_new(s, snap, err);
    if (ret < 0) {
        return ret;
    }
    n.s.id = snap->id ? alloc_text(snap->id) : next_id(s);
    n.s.name = alloc_text(snap->name ? snap->name : "");
    n.s.disk_size = s->b->size;
    ret = share_active(s, &n);
    if (ret == 0) {
        ret = append(s, &n);
        /* Unsure: the snapshot may be there on disk, and what it refers to must stay. */
        if (ret < 0 && !s->header_unsure) {
            unshare_active(s, &n);
        }
    }
    if (ret < 0) {
        failed(s, ret, "creating", n.s.name, err);
        qcow2_snap_free(&n);
    }
    return ret;
}

/* What the machine wrote belongs to the snapshot alone now; the disk need not keep it. Errors leave
 * it there, which does no harm. */
static void drop_vmstate(struct qcow2 *s)
{
    uint32_t first = (uint32_t)qcow2_l1_needed(s, s->b->size);
    uint32_t n = s->l1_size > first ? s->l1_size - first : 0;
    AUTO_FREE uint64_t *old = calloc(n ? n : 1, sizeof(*old));
    int ret = old ? 0 : -ENOMEM;
    for (uint32_t i = 0; i < n && ret == 0; i++) {
        if (s->l1[first + i]) {
            old[i] = s->l1[first + i];
            s->l1[first + i] = 0;
            ret = qcow2_write_l1_entry(s, first + i);
        }
    }
    if (ret == 0 && qcow2_barrier(s) == 0) {
        qcow2_tree_refs(s, old, n, -1);
    }
}

int qcow2_snapshot_create(struct block *b, const struct block_snapshot *snap, struct err *err)
{
    struct qcow2 *s = b->state;
    int ret = may_change(s, "creating", err);
    if (ret == 0) {
        co_lock(&s->lock);
        qcow2_inflight_wait(s, 0, UINT64_MAX);
        ret = create_locked(s, snap, err);
        if (ret == 0 && snap->vm_state_size) {
            drop_vmstate(s);
        }
        co_unlock(&s->lock);
    }
    return ret;
}

/* ---- Apply ---- */

/* The active L1 table and the size of the disk, as a unit that the header switches. */
struct active {
    uint64_t *l1, l1_off, size;
    uint32_t l1_size;
    uint8_t *l1_dirty;
};

static struct active get_active(const struct qcow2 *s)
{
    return (struct active){s->l1, s->l1_off, s->b->size, s->l1_size, s->l1_dirty};
}

static void set_active(struct qcow2 *s, const struct active *a)
{
    s->l1 = a->l1;
    s->l1_off = a->l1_off;
    s->l1_size = a->l1_size;
    s->l1_dirty = a->l1_dirty;
    s->b->size = a->size;
}

static int switch_active(struct qcow2 *s, struct active *to)
{
    uint64_t bytes = round_up((uint64_t)to->l1_size * 8, s->cluster_size);
    struct active old = get_active(s);
    int ret = bytes ? qcow2_alloc(s, bytes >> s->cluster_bits, &to->l1_off) : 0;
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_write_table(s, to->l1_off, to->l1, to->l1_size);
    if (ret == 0) {
        ret = qcow2_barrier(s);
        ret =
            ret < 0 ? ret : block_flush(s->b->file); /* with lazy refcounts nobody has done that */
    }
    if (ret == 0) {
        set_active(s, to);
        ret = qcow2_commit_header(s);
        if (ret < 0) {
            set_active(s, &old);
            qcow2_settle_header(s); /* which may fail, too, and so the new L1 stays a leak */
            return ret;
        }
    } else if (bytes) {
        qcow2_free(s, to->l1_off, bytes);
    }
    return ret;
}

/* The old tree loses its references; errors leave leaks only. */
static int drop_tree(struct qcow2 *s, const uint64_t *l1, uint32_t l1_size, uint64_t l1_off)
{
    int ret = qcow2_tree_refs(s, l1, l1_size, -1);
    int own = l1_size ? qcow2_free(s, l1_off, (uint64_t)l1_size * 8) : 0;
    /* COPIED before the counts go down on disk: it fits the references then, as counts too high do.
     */
    int flags = qcow2_tree_flags(s, s->l1, s->l1_size, true);
    int flush = qcow2_barrier(s);
    int again = qcow2_barrier(s);
    return ret < 0 ? ret : own < 0 ? own : flush < 0 ? flush : flags < 0 ? flags : again;
}

static int apply_locked(struct qcow2 *s, const char *which, struct err *err)
{
    struct qcow2_snap *n = find(s, which, false);
    struct active old = get_active(s), to = {0};
    if (!n) {
        return not_found(s, which, err);
    }
    int ret = read_l1(s, n, &to.l1, err);
    if (ret < 0) {
        return ret;
    }
    to.l1_size = n->l1_size;
    to.size = n->s.disk_size;
    to.l1_dirty = alloc_zero((size_t)to.l1_size * 8 / BLOCK_SECTOR + 1);
    ret = qcow2_tree_refs(s, to.l1, to.l1_size, 1);
    if (ret == 0) {
        ret = qcow2_tree_flags(s, to.l1, to.l1_size, false);
        ret = ret < 0 ? ret : switch_active(s, &to);
        if (ret < 0 && !s->header_unsure) {
            qcow2_tree_refs(s, to.l1, to.l1_size, -1);
        }
    }
    if (ret < 0) {
        free(to.l1);
        free(to.l1_dirty);
        return failed(s, ret, "applying", which, err);
    }
    for (uint32_t i = 0; i < s->l1_size; i++) {
        if (s->l1[i] & QCOW2_OFFSET_MASK) {
            qcow2_meta_add(s, s->l1[i] & QCOW2_OFFSET_MASK);
        }
    }
    ret = drop_tree(s, old.l1, old.l1_size, old.l1_off);
    free(old.l1);
    free(old.l1_dirty);
    if (to.size != old.size) {
        qcow2_bitmaps_resize(s, to.size);
    }
    return ret < 0 ? failed(s, ret, "freeing what was there before", which, err) : 0;
}

int qcow2_snapshot_apply(struct block *b, const char *which, struct err *err)
{
    struct qcow2 *s = b->state;
    int ret = may_change(s, "applying", err);
    if (ret < 0) {
        return ret;
    }
    if (s->bitmaps) {
        return err_set(err, ENOTSUP,
                       "%s: has dirty bitmaps, which cannot follow to another snapshot; remove "
                       "them first",
                       block_filename(b));
    }
    co_lock(&s->lock);
    qcow2_inflight_wait(s, 0, UINT64_MAX);
    qcow2_wait_io(s);
    ret = apply_locked(s, which, err);
    co_unlock(&s->lock);
    return ret;
}

/* ---- Delete ---- */

static int remove_entry(struct qcow2 *s, uint32_t index)
{
    struct qcow2_snap *old = s->snaps;
    uint32_t left = s->snap_count - 1;
    struct qcow2_snap *all = calloc(left ? left : 1, sizeof(*all));
    if (!all) {
        return -ENOMEM;
    }
    memcpy(all, old, index * sizeof(*all));
    memcpy(all + index, old + index + 1, (left - index) * sizeof(*all));
    int ret = qcow2_write_snapshots(s, all, left);
    free(ret == 0 ? old : all);
    return ret;
}

static int delete_locked(struct qcow2 *s, const char *which, struct err *err)
{
    struct qcow2_snap *n = find(s, which, true);
    AUTO_FREE uint64_t *l1 = NULL;
    if (!n) {
        return not_found(s, which, err);
    }
    int ret = read_l1(s, n, &l1, err);
    if (ret < 0) {
        return ret;
    }
    struct qcow2_snap gone = *n;
    ret = remove_entry(s, (uint32_t)(n - s->snaps));
    if (ret < 0) {
        return failed(s, ret, "deleting", which, err);
    }
    ret = drop_tree(s, l1, gone.l1_size, gone.l1_off);
    qcow2_snap_free(&gone);
    return ret < 0 ? failed(s, ret, "freeing clusters of the deleted", which, err) : 0;
}

int qcow2_snapshot_delete(struct block *b, const char *which, struct err *err)
{
    struct qcow2 *s = b->state;
    int ret = may_change(s, "deleting", err);
    if (ret == 0) {
        co_lock(&s->lock);
        s->freeing = QCOW2_DISCARD_SNAPSHOT;
        ret = delete_locked(s, which, err);
        s->freeing = QCOW2_DISCARD_OTHER;
        co_unlock(&s->lock);
    }
    return ret;
}

/* ---- View ---- */

int qcow2_snapshot_view(struct block *b, const char *which, struct err *err)
{
    struct qcow2 *s = b->state;
    struct qcow2_snap *n = find(s, which, false);
    uint64_t *l1;
    if (!block_readonly(b)) {
        return err_set(err, EINVAL, "%s: snapshots can only be looked at read-only",
                       block_filename(b));
    }
    if (!n) {
        return not_found(s, which, err);
    }
    int ret = read_l1(s, n, &l1, err);
    if (ret < 0) {
        return ret;
    }
    co_lock(&s->lock);
    free(s->l1);
    free(s->l1_dirty);
    s->l1_dirty = alloc_zero((size_t)n->l1_size * 8 / BLOCK_SECTOR + 1);
    s->l1 = l1;
    s->l1_size = n->l1_size;
    s->l1_off = n->l1_off;
    b->size = n->s.disk_size;
    s->viewing = true;
    co_unlock(&s->lock);
    return 0;
}

/* ---- The machine's state ---- */

/* Guest offset of its first byte: of the first L1 entry without a part of the disk. */
static uint64_t vmstate_base(const struct qcow2 *s)
{
    return qcow2_l1_needed(s, s->b->size) * s->l2_entries * s->cluster_size;
}

static int vmstate_range(const struct qcow2 *s, uint64_t off, size_t len, uint64_t *at)
{
    uint64_t end;
    if (!add_ok(vmstate_base(s), off, at) || !add_ok(*at, len, &end) || end > BLOCK_MAX_SIZE) {
        return -EFBIG;
    }
    return 0;
}

int qcow2_vmstate_read(struct block *b, uint64_t off, void *buf, size_t len)
{
    struct iovec hold;
    uint64_t at;
    int ret = vmstate_range(b->state, off, len, &at);
    if (ret < 0) {
        return ret;
    }
    struct iovs q = iovs_buf(&hold, buf, len);
    return qcow2_preadv(b, at, &q);
}

int qcow2_vmstate_write(struct block *b, uint64_t off, const void *buf, size_t len)
{
    struct qcow2 *s = b->state;
    struct iovec hold;
    uint64_t at;
    int ret = vmstate_range(s, off, len, &at);
    uint64_t l1_size = ret < 0 ? 0 : qcow2_l1_needed(s, at + len);
    if (ret == 0 && l1_size > QCOW2_MAX_L1_BYTES / 8) {
        ret = -EFBIG;
    }
    if (ret == 0 && l1_size > s->l1_size) {
        co_lock(&s->lock);
        ret = qcow2_grow_l1(s, (uint32_t)l1_size);
        co_unlock(&s->lock);
    }
    if (ret < 0) {
        return ret;
    }
    struct iovs q = iovs_buf(&hold, (void *)(uintptr_t)buf, len);
    return qcow2_pwritev(b, at, &q, 0);
}
