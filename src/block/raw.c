/*
 * Format "raw": the file as it is, or a part of it (offset, size). A size that is no multiple of a
 * sector reads as zero behind its end.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "block/core.h"

struct raw {
    uint64_t off;
    bool part; /* with a size or offset of its own */
};

static int raw_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct raw *r = b->state;
    uint64_t all = block_size(b->file), size = 0;
    int ret = block_opt_size(opts, "offset", &r->off, err);
    ret = ret ? ret : block_opt_size(opts, "size", &size, err);
    if (ret) {
        return ret;
    }
    bool sized = keyval_get(opts, "size");
    r->part = sized || r->off;
    if (r->off > all || size > all - r->off) {
        return err_set(err, EINVAL, "'%s' has only %llu bytes: offset and size do not fit",
                       b->filename, (unsigned long long)all);
    }
    b->size = round_up(sized ? size : all - r->off, BLOCK_SECTOR);
    b->align = 1;
    b->zero_flags = b->file->zero_flags;
    b->write_flags = b->file->write_flags & BLOCK_FUA;
    return 0;
}

static int raw_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    return block_preadv(b->file, ((struct raw *)b->state)->off + off, q);
}

static int raw_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    return block_pwritev(b->file, ((struct raw *)b->state)->off + off, q, flags);
}

static int raw_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    return block_zero(b->file, ((struct raw *)b->state)->off + off, len, flags);
}

static int raw_discard(struct block *b, uint64_t off, uint64_t len)
{
    return block_discard(b->file, ((struct raw *)b->state)->off + off, len);
}

static int raw_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    struct raw *r = b->state;
    return block_extent(b->file, r->off + off, len, e);
}

static int raw_plain(struct block *b, uint64_t *shift)
{
    *shift = ((struct raw *)b->state)->off;
    return 0;
}

static int raw_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc,
                        struct err *err)
{
    struct raw *r = b->state;
    if (r->part) {
        return err_set(err, ENOTSUP, "cannot resize '%s', which is a part of a file", b->filename);
    }
    int ret = block_truncate(b->file, size, prealloc, err);
    b->size = ret ? b->size : round_up(size, BLOCK_SECTOR);
    return ret;
}

static int raw_create(const struct block_new *n, struct err *err)
{
    enum block_prealloc prealloc;
    int ret = block_opt_prealloc(n->opts, &prealloc, err);
    return ret ? ret : block_truncate(n->file, n->size, prealloc, err);
}

static int raw_measure(const struct keyval *opts, struct block *from, struct block_measure *m,
                       struct err *err)
{
    m->required = from ? block_size(from) : 0;
    int ret = from ? 0 : block_opt_size(opts, "size", &m->required, err);
    m->required = round_up(m->required, BLOCK_SECTOR);
    m->fully_allocated = m->required;
    return ret;
}

static const struct block_opt raw_open_opts[] = {
    {"offset", "size", "where the image begins in the file", NULL},
    {"size", "size", "bytes of the image", NULL},
    {0},
};

static const struct block_opt raw_create_opts[] = {
    {"size", "size", "Virtual disk size", NULL},
    {"preallocation", "str", "Preallocation mode (allowed values: off, falloc, full)", "off"},
    {0},
};

const struct block_type raw_type = {
    .name = "raw",
    .summary = "plain image",
    .size = sizeof(struct raw),
    .open_opts = raw_open_opts,
    .create_opts = raw_create_opts,
    .open = raw_open,
    .preadv = raw_preadv,
    .pwritev = raw_pwritev,
    .zero = raw_zero,
    .discard = raw_discard,
    .extent = raw_extent,
    .plain = raw_plain,
    .truncate = raw_truncate,
    .create = raw_create,
    .measure = raw_measure,
};
