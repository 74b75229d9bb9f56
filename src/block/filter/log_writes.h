/* The log that blklogwrites writes, little-endian: a sector with magic, version 1, number of
 * entries (64 bits each) and sector size (32 bits); then entries, each a sector with the place in
 * sectors, the number of sectors, flags, bytes of data (64 bits each), and the data behind it. */
#ifndef BLOCK_FILTER_LOG_WRITES_H
#define BLOCK_FILTER_LOG_WRITES_H

#include <stdint.h>

struct block;

#define LOG_MAGIC 0x6a736677736872ULL
enum { LOG_FLUSH = 1, LOG_FUA = 2, LOG_DISCARD = 4, LOG_MARK = 8 };

uint64_t block_log_entries(struct block *b); /* so far; b is a blklogwrites node */

#endif
