/* What a filter hands on unchanged. */
#ifndef BLOCK_FILTER_PASS_H
#define BLOCK_FILTER_PASS_H

#include "block/driver.h"

int filter_open(struct block *b); /* size, flags and so on as the node below */
int filter_preadv(struct block *b, uint64_t off, const struct iovs *q);
int filter_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags);
int filter_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags);
int filter_discard(struct block *b, uint64_t off, uint64_t len);
int filter_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e);
int filter_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc, struct err *err);

#endif
