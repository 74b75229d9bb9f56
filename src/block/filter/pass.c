/* What a filter hands on unchanged. */
#include "block/filter/pass.h"

int filter_open(struct block *b)
{
    b->size = block_size(b->file);
    b->granule = b->file->granule;
    b->zero_flags = b->file->zero_flags;
    b->write_flags = b->file->write_flags;
    b->encrypted = b->file->encrypted;
    return 0;
}

int filter_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    return block_preadv(b->file, off, q);
}

int filter_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    return block_pwritev(b->file, off, q, flags);
}

int filter_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    return block_zero(b->file, off, len, flags);
}

int filter_discard(struct block *b, uint64_t off, uint64_t len)
{
    return block_discard(b->file, off, len);
}

int filter_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    return block_extent(b->file, off, len, e);
}

int filter_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc, struct err *err)
{
    int ret = block_truncate(b->file, size, prealloc, err);
    b->size = block_size(b->file);
    return ret;
}
