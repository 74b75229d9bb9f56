/*
 * Disk images. For now one format, raw files and block devices, read and written with plain
 * system calls on the caller's thread.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct err;
struct keyval;

#define BLOCK_SECTOR 512

struct block {
    char *path;
    int fd;
    uint64_t size; /* bytes the guest sees: a multiple of BLOCK_SECTOR */
    bool readonly;
    bool unsafe;       /* cache=unsafe: flushes are not passed on */
    bool writethrough; /* every write is flushed */
    bool discard;      /* discard=unmap: discards give space back to the host */
};

/* -drive: file, format, readonly, cache, discard, aio. NULL with a sentence. */
struct block *block_open(const struct keyval *args, struct err *err);
void block_close(void *block);

/* 0 or -errno. The caller has checked the range against `size`. Changes the vectors. */
int block_preadv(struct block *b, uint64_t off, struct iovec *iov, unsigned count);
int block_pwritev(struct block *b, uint64_t off, struct iovec *iov, unsigned count);
int block_flush(struct block *b);
int block_discard(struct block *b, uint64_t off, uint64_t len);
int block_zero(struct block *b, uint64_t off, uint64_t len, bool unmap);

#endif
