/*
 * io_uring. Requests are collected while coroutines run and handed in together; what the kernel has
 * done at once is collected in the same turn of the loop, without sleeping.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "block/aio_internal.h"
#include "loop/co.h"
#include "loop/loop.h"

enum {
    ENTRIES = 128,
    /* From here on copying from and to the page cache takes longer than waking a worker, and two
     * processors do it at the same time. */
    LARGE = 256 << 10,
};

struct uring {
    struct io_uring ring;
    struct loop *loop;
    unsigned waiting; /* not handed in yet */
};

struct uring_wait {
    struct co *co;
    int res;
};

static bool uring_turn(void *opaque)
{
    struct uring *u = opaque;
    struct io_uring_cqe *cqe;
    bool any = false;
    if (u->waiting) {
        int n = io_uring_submit(&u->ring);
        u->waiting -= n > 0 ? (unsigned)n : 0;
    }
    while (!io_uring_peek_cqe(&u->ring, &cqe)) {
        struct uring_wait *w = io_uring_cqe_get_data(cqe);
        w->res = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        co_wake(w->co);
        any = true;
    }
    return any;
}

static void uring_ready(void *opaque, int fd, unsigned events)
{
    uring_turn(opaque);
}

struct uring *uring_new(struct loop *loop)
{
    struct uring *u = alloc_zero(sizeof(*u));
    if (io_uring_queue_init(ENTRIES, &u->ring, 0)) {
        free(u); /* forbidden here, or an old kernel */
        return NULL;
    }
    u->loop = loop;
    loop_watch(loop, u->ring.ring_fd, LOOP_IN, uring_ready, u);
    loop_add_poll(loop, uring_turn, u);
    return u;
}

void uring_free(struct uring *u)
{
    if (u) {
        loop_unwatch(u->loop, u->ring.ring_fd);
        loop_remove_poll(u->loop, u);
        io_uring_queue_exit(&u->ring);
        free(u);
    }
}

static void uring_prepare(struct io_uring_sqe *sqe, const struct aio_req *r)
{
    switch (r->op) {
    case AIO_READ: io_uring_prep_readv(sqe, r->fd, r->v, r->n, r->off); break;
    case AIO_WRITE:
        io_uring_prep_writev2(sqe, r->fd, r->v, r->n, r->off, r->durable ? RWF_DSYNC : 0);
        break;
    case AIO_SYNC: io_uring_prep_fsync(sqe, r->fd, IORING_FSYNC_DATASYNC); break;
    case AIO_FALLOCATE:
        io_uring_prep_fallocate(sqe, r->fd, r->mode, (off_t)r->off, (off_t)r->len);
        break;
    }
}

ssize_t uring_do(struct uring *u, const struct aio_req *r)
{
    struct uring_wait w = {co_self(), 0};
    struct io_uring_sqe *sqe;
    while (!(sqe = io_uring_get_sqe(&u->ring))) {
        uring_turn(u);
        co_yield ();
    }
    uring_prepare(sqe, r);
    if (r->cached && r->len >= LARGE)
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
    io_uring_sqe_set_data(sqe, &w);
    u->waiting++;
    co_wait();
    return w.res;
}
