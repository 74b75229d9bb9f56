/*
 * Filter "copy-on-read": what is read from backing files is kept in the image itself, so that it is
 * read from far away once only.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/core.h"
#include "block/filter/pass.h"

enum { MAX_COPY = 1 << 20 };

static int cor_open(struct block *b, const struct keyval *opts, struct err *err)
{
    filter_open(b);
    if (!b->file->type->has_backing) {
        return err_set(err, EINVAL, "copy-on-read: the format '%s' has no backing files",
                       b->file->type->name);
    }
    if (!(b->file->flags & BLOCK_RDWR)) {
        return err_set(err, EINVAL, "copy-on-read: '%s' cannot be written", b->filename);
    }
    return 0;
}

/* A piece that lies below: whole clusters are read, written, and what was asked for handed out. */
static int cor_copy(struct block *b, uint64_t off, uint64_t len, const struct iovs *q)
{
    uint64_t unit = block_granule(b->file), from = round_down(off, unit),
             to = round_up(off + len, unit);
    to = to < b->size ? to : b->size;
    AUTO_FREE char *buf = block_alloc(to - from);
    if (!buf) {
        return -ENOMEM;
    }
    struct block_range r;
    block_range_lock(b, &r, from, to - from);
    int ret = block_pread(b->file, from, buf, to - from);
    /* Failing to keep it is no reason not to give it. */
    if (!ret) {
        (void)block_pwrite(b->file, from, buf, to - from, 0);
        iovs_put(q, 0, buf + (off - from), len);
    }
    block_range_unlock(b, &r);
    return ret;
}

static int cor_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    int ret = 0;
    for (uint64_t done = 0; !ret && done < q->len;) {
        struct block_extent e;
        uint64_t left = q->len - done;
        ret = block_extent(b->file, off + done, left < MAX_COPY ? left : MAX_COPY, &e);
        if (ret) {
            break;
        }
        struct iovs part = iovs_part(q, done, e.len);
        ret = e.flags & EXTENT_ALLOCATED ? block_preadv(b->file, off + done, &part)
                                         : cor_copy(b, off + done, e.len, &part);
        done += e.len;
    }
    return ret;
}

/* A write waits for a copy of the same place, which would undo it. */
static int cor_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    struct block_range r;
    block_range_lock(b, &r, off, q->len);
    int ret = filter_pwritev(b, off, q, flags);
    block_range_unlock(b, &r);
    return ret;
}

static int cor_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    struct block_range r;
    block_range_lock(b, &r, off, len);
    int ret = filter_zero(b, off, len, flags);
    block_range_unlock(b, &r);
    return ret;
}

static int cor_discard(struct block *b, uint64_t off, uint64_t len)
{
    struct block_range r;
    block_range_lock(b, &r, off, len);
    int ret = filter_discard(b, off, len);
    block_range_unlock(b, &r);
    return ret;
}

const struct block_type copy_on_read_type = {
    .name = "copy-on-read",
    .summary = "keeps what is read from backing files",
    .filter = true,
    .open = cor_open,
    .preadv = cor_preadv,
    .pwritev = cor_pwritev,
    .zero = cor_zero,
    .discard = cor_discard,
    .extent = filter_extent,
    .truncate = filter_truncate,
};
