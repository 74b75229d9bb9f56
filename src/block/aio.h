/*
 * The host's file I/O for coroutines: io_uring, or worker threads where there is none. In no
 * coroutine the calls just wait. -errno on failure.
 */
#ifndef BLOCK_AIO_H
#define BLOCK_AIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct aio;
struct loop;

struct aio *aio_new(struct loop *loop);
void aio_free(struct aio *a);

struct aio_file {
    struct aio *aio;
    int fd;
    bool threads; /* not by io_uring */
    bool direct;  /* opened with O_DIRECT */
    bool memory;  /* on a file system that is memory: never waits */
};

/* Bytes done, which may be fewer than asked for; 0 at the end. */
ssize_t aio_preadv(const struct aio_file *f, const struct iovec *v, unsigned n, uint64_t off);
ssize_t aio_pwritev(const struct aio_file *f, const struct iovec *v, unsigned n, uint64_t off,
                    bool durable);
int aio_sync(const struct aio_file *f); /* fdatasync */
int aio_fallocate(const struct aio_file *f, int mode, uint64_t off, uint64_t len);

#endif
