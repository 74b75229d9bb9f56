/* Where file I/O goes: io_uring, worker threads, or, outside coroutines, this thread. */
#include "block/aio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "block/aio_internal.h"
#include "loop/co.h"

/* Up to here the page cache copies faster than anybody else could be asked to. */
enum { SMALL_BYTES = 256 << 10 };

struct aio {
    struct loop *loop;
    struct uring *uring;
    bool looked; /* for io_uring */
};

struct aio *aio_new(struct loop *loop)
{
    struct aio *a = alloc_zero(sizeof(*a));
    a->loop = loop;
    return a;
}

void aio_free(struct aio *a)
{
    uring_free(a->uring);
    free(a);
}

static bool aio_has_uring(struct aio *a)
{
    if (!a->looked) {
        a->looked = true;
        a->uring = uring_new(a->loop);
    }
    return a->uring;
}

static ssize_t aio_once(const struct aio_req *r)
{
    switch (r->op) {
    case AIO_READ: return preadv(r->fd, r->v, (int)r->n, (off_t)r->off);
    case AIO_WRITE:
        return pwritev2(r->fd, r->v, (int)r->n, (off_t)r->off, r->durable ? RWF_DSYNC : 0);
    case AIO_SYNC: return fdatasync(r->fd);
    case AIO_FALLOCATE: return fallocate(r->fd, r->mode, (off_t)r->off, (off_t)r->len);
    }
    return 0;
}

struct aio_call {
    const struct aio_req *r;
    ssize_t ret;
};

static int aio_call(void *opaque)
{
    struct aio_call *c = opaque;
    do {
        c->ret = aio_once(c->r);
    } while (c->ret < 0 && errno == EINTR);
    c->ret = c->ret < 0 ? -errno : c->ret;
    return 0;
}

static ssize_t aio_do(const struct aio_file *f, const struct aio_req *r)
{
    if (co_self() && !f->threads && aio_has_uring(f->aio)) {
        ssize_t ret = uring_do(f->aio->uring, r);
        if (ret != -EINTR && ret != -EAGAIN && ret != -EINVAL && ret != -EOPNOTSUPP) {
            return ret;
        } /* older kernels lack some of it: the system call knows better */
    }
    struct aio_call c = {r, 0};
    co_offload(aio_call, &c);
    return c.ret;
}

static uint64_t aio_bytes(const struct iovec *v, unsigned n)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        bytes += v[i].iov_len;
    }
    return bytes;
}

ssize_t aio_preadv(const struct aio_file *f, const struct iovec *v, unsigned n, uint64_t off)
{
    uint64_t len = aio_bytes(v, n);
    struct aio_req r = {
        .op = AIO_READ, .fd = f->fd, .v = v, .n = n, .off = off, .len = len, .cached = !f->direct};
    if (!f->direct && len <= SMALL_BYTES) { /* in the page cache: no need to wait */
        ssize_t ret = preadv2(f->fd, v, (int)n, (off_t)off, f->memory ? 0 : RWF_NOWAIT);
        if (ret > 0) {
            return ret;
        }
    }
    return aio_do(f, &r);
}

ssize_t aio_pwritev(const struct aio_file *f, const struct iovec *v, unsigned n, uint64_t off,
                    bool durable)
{
    uint64_t len = aio_bytes(v, n);
    struct aio_req r = {.op = AIO_WRITE,
                        .fd = f->fd,
                        .v = v,
                        .n = n,
                        .off = off,
                        .len = len,
                        .durable = durable,
                        .cached = !f->direct};
    if (!f->direct && !durable && len <= SMALL_BYTES) {
        struct aio_call c = {&r, 0};
        aio_call(&c);
        return c.ret;
    }
    return aio_do(f, &r);
}

int aio_sync(const struct aio_file *f)
{
    struct aio_req r = {.op = AIO_SYNC, .fd = f->fd};
    return (int)aio_do(f, &r);
}

int aio_fallocate(const struct aio_file *f, int mode, uint64_t off, uint64_t len)
{
    struct aio_req r = {.op = AIO_FALLOCATE, .fd = f->fd, .mode = mode, .off = off, .len = len};
    return (int)aio_do(f, &r);
}
