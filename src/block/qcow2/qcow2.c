/* The driver of qcow2 images: its table. What the parts do is in docs/qcow2.md. */
#include "block/qcow2/qcow2.h"

#include <errno.h>

#include "base/endian.h"
#include "block/qcow2/internal.h"

static int qcow2_probe(const uint8_t *head, size_t n, const char *name)
{
    bool ours = n >= 8 && load_be32(head) == QCOW2_MAGIC && load_be32(head + 4) >= 2;
    return ours ? 100 : 0;
}

static int qcow2_open(struct block *b, const struct keyval *opts, struct err *err)
{
    return qcow2_open_image(b->state, b, opts, err);
}

static int qcow2_close(struct block *b)
{
    return qcow2_close_image(b->state);
}

/* Guest data is synced here only if tables have to follow it; else the core does it. */
static int qcow2_flush(struct block *b)
{
    struct qcow2 *s = b->state;
    if (s->is_corrupt || !(b->flags & BLOCK_RDWR)) {
        return 0;
    }
    if (!s->header_unsure && !s->l1_is_dirty && !s->reftable_is_dirty &&
        !qcow2_cache_is_dirty(s->l2_cache) &&
        (s->lazy_marked || !qcow2_cache_is_dirty(s->ref_cache))) {
        return 0;
    }
    co_lock(&s->lock);
    int ret = qcow2_barrier(s);
    co_unlock(&s->lock);
    return ret;
}

const struct block_type qcow2_type = {
    .name = "qcow2",
    .summary = "qcow2 images: grow as needed, snapshots, backing files, compression, encryption",
    .spec = "qcow2",
    .size = sizeof(struct qcow2),
    .has_backing = true,
    .open_opts = qcow2_open_opts,
    .create_opts = qcow2_create_opts,
    .amend_opts = qcow2_amend_opts,
    .probe = qcow2_probe,
    .open = qcow2_open,
    .close = qcow2_close,
    .preadv = qcow2_preadv,
    .pwritev = qcow2_pwritev,
    .flush = qcow2_flush,
    .discard = qcow2_discard,
    .zero = qcow2_zero,
    .extent = qcow2_extent,
    .truncate = qcow2_truncate,
    .create = qcow2_create,
    .info = qcow2_info,
    .check = qcow2_check,
    .amend = qcow2_amend,
    .measure = qcow2_measure,
    .set_backing = qcow2_set_backing,
    .make_empty = qcow2_make_empty,
    .snapshots = qcow2_snapshots,
    .snapshot_create = qcow2_snapshot_create,
    .snapshot_apply = qcow2_snapshot_apply,
    .snapshot_delete = qcow2_snapshot_delete,
    .snapshot_view = qcow2_snapshot_view,
    .vmstate_read = qcow2_vmstate_read,
    .vmstate_write = qcow2_vmstate_write,
    .bitmaps = qcow2_bitmaps,
    .bitmap_change = qcow2_bitmap_change,
    .bitmap_merge = qcow2_bitmap_merge,
};
