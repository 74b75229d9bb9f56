/* Pieces of one request in several coroutines, and counting guest I/O on host clusters. */
#include "block/qcow2/internal.h"

void qcow2_jobs_start(struct qcow2_jobs *j, co_fn *fn, void *job)
{
    while (j->running >= j->max) {
        j->waiter = co_self();
        co_wait();
    }
    j->running++;
    co_start(j->loop, fn, job);
}

void qcow2_jobs_end(struct qcow2_jobs *j, int ret)
{
    j->ret = j->ret ? j->ret : ret;
    j->running--;
    if (j->waiter) {
        struct co *co = j->waiter;
        j->waiter = NULL;
        co_wake(co);
    }
}

int qcow2_jobs_wait(struct qcow2_jobs *j)
{
    while (j->running) {
        j->waiter = co_self();
        co_wait();
    }
    return j->ret;
}

/* ---- Guest I/O: what began before a moment can be waited for ---- */

unsigned qcow2_io_begin(struct qcow2 *s)
{
    unsigned side = s->epoch & 1;
    s->io_count[side]++;
    return side;
}

void qcow2_io_end(struct qcow2 *s, unsigned side)
{
    if (!--s->io_count[side] && s->io_waiter && side != (s->epoch & 1)) {
        struct co *co = s->io_waiter;
        s->io_waiter = NULL;
        co_wake(co);
    }
}

/* The other side is empty at the start: the last call waited for that, and since then I/O has
 * only begun on this side. */
void qcow2_wait_io(struct qcow2 *s)
{
    unsigned old = s->epoch & 1;
    if (!s->io_count[old]) {
        return;
    }
    s->epoch ^= 1;
    while (s->io_count[old]) {
        s->io_waiter = co_self();
        co_wait();
    }
}

int qcow2_host_read(struct qcow2 *s, uint64_t host, const struct iovs *q)
{
    struct block *f = s->b->data ? s->b->data : s->b->file;
    uint64_t size = block_size(f), have = host >= size ? 0 : size - host;
    if (have < q->len) {
        iovs_zero(q, have, q->len - have);
    }
    if (!have) {
        return 0;
    }
    struct iovs part = iovs_part(q, 0, have < q->len ? have : q->len);
    unsigned side = qcow2_io_begin(s);
    int ret = block_preadv(f, host, &part);
    qcow2_io_end(s, side);
    return ret;
}

int qcow2_host_write(struct qcow2 *s, uint64_t host, const struct iovs *q)
{
    struct block *f = s->b->data ? s->b->data : s->b->file;
    unsigned side = qcow2_io_begin(s);
    int ret = block_pwritev(f, host, q, 0);
    qcow2_io_end(s, side);
    return ret;
}
