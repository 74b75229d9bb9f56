/* Between what asks for file I/O and who does it. */
#ifndef BLOCK_AIO_INTERNAL_H
#define BLOCK_AIO_INTERNAL_H

#include "block/aio.h"

enum aio_op { AIO_READ, AIO_WRITE, AIO_SYNC, AIO_FALLOCATE };

struct aio_req {
    enum aio_op op;
    int fd, mode;
    const struct iovec *v;
    unsigned n;
    uint64_t off, len;
    bool durable;
    bool cached; /* through the page cache: the kernel copies */
};

struct uring;
struct uring *uring_new(struct loop *loop); /* NULL: not here */
void uring_free(struct uring *u);
ssize_t uring_do(struct uring *u, const struct aio_req *r); /* in a coroutine */

#endif
