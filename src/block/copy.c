/*
 * Copying the data of images. Each worker takes the next piece from the map of the source (one at a
 * time: looking up an extent may wait), reads it, and writes what is not zero. Unless told
 * otherwise, writes are begun in the order of the pieces, so that a growing target has its data in
 * the order of the guest's disk; they may end in another one.
 *
 * Pieces begin and end at clusters of the target, so that no two workers write to one cluster.
 */
#include "block/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/err.h"
#include "block/block.h"

struct piece {
    uint64_t off, len, sequence;
    enum copy_kind kind;
    const struct copy_source *source; /* the first it lies in */
};

static long long copy_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int copy_fail(struct copy *c, int ret, const char *what, uint64_t off)
{
    if (!c->ret) {
        c->ret = err_set(c->err, -ret, "error while %s at byte %llu: %s", what,
                         (unsigned long long)off, strerror(-ret));
    }
    return c->ret;
}

static void copy_tell(const struct copy *c)
{
    if (c->watch && c->watch->progress) {
        c->watch->progress(c->opaque, c->done, c->total);
    }
}

/* Has it failed, or is it not wanted any more? */
static bool copy_stopped(struct copy *c)
{
    if (!c->ret && c->watch && c->watch->stopped) {
        c->ret = c->watch->stopped(c->opaque, c->err);
    }
    return c->ret;
}

/* ---- What comes next ---- */

static const struct copy_source *copy_source_at(const struct copy *c, uint64_t off)
{
    const struct copy_source *s = c->sources;
    while (off - s->at >= s->len && s + 1 < c->sources + c->source_count) {
        s++;
    }
    return s;
}

static int copy_load_extent(struct copy *c, uint64_t off)
{
    const struct copy_source *s = copy_source_at(c, off);
    uint64_t local = s->from + off - s->at, size = block_size(s->b);
    c->extent_start = off;
    if (local >= size) { /* the rest of its last sector */
        c->extent_kind = COPY_ZERO;
        c->extent_end = s->at + s->len;
        return 0;
    }
    bool skip = c->skip && off < c->skip_end;
    uint64_t rest = s->at + s->len - off, len = size - local < rest ? size - local : rest;
    if (skip && len > c->skip_end - off) {
        len = c->skip_end - off;
    }
    struct block_extent e;
    int ret = block_extent_chain(s->b, skip ? c->base : NULL, local, len, &e);
    if (ret) {
        return copy_fail(c, ret, "looking for data", off);
    }
    c->extent_end = off + e.len;
    c->extent_packed = e.flags & EXTENT_COMPRESSED;
    if (skip && !(e.flags & EXTENT_ALLOCATED)) {
        c->extent_kind = COPY_SKIP;
    } else if (e.flags & EXTENT_ZERO || !(e.flags & EXTENT_DATA)) {
        c->extent_kind = c->min_zero ? COPY_ZERO : COPY_DATA;
    } else {
        c->extent_kind = COPY_DATA;
    }
    return 0;
}

/* Extends a run that begins at c->pos over extents of its kind, up to `most` bytes. */
static int copy_run_length(struct copy *c, uint64_t most, uint64_t *len)
{
    enum copy_kind kind = c->extent_kind;
    while (c->extent_end - c->pos < most && c->extent_end < c->total) {
        int ret = copy_load_extent(c, c->extent_end);
        if (ret || c->extent_kind != kind) {
            *len = ret ? 0 : *len;
            return ret;
        }
        *len = c->extent_end - c->pos;
    }
    *len = c->extent_end - c->pos;
    return 0;
}

/* 1: here is one; 0: there is nothing left. */
static int copy_take(struct copy *c, struct piece *p)
{
    if (c->pos >= c->total) {
        return 0;
    }
    int ret = c->pos >= c->extent_end || !c->extent_end ? copy_load_extent(c, c->pos) : 0;
    if (ret) {
        return ret;
    }
    uint64_t rest = c->total - c->pos;
    uint64_t most = c->extent_kind == COPY_DATA ? c->piece : rest;
    if (c->extent_packed && most > COPY_PACKED) {
        most = COPY_PACKED;
    }
    *p = (struct piece){.off = c->pos, .kind = c->extent_kind};
    p->len = c->extent_end - c->pos;
    ret = copy_run_length(c, most, &p->len);
    if (ret) {
        return ret;
    }
    p->len = p->len < most ? p->len : most;
    if (p->len < rest && p->len < c->unit) { /* a cluster of several kinds */
        p->kind = COPY_DATA;
        p->len = c->unit < rest ? c->unit : rest;
    } else if (p->len < rest) {
        p->len = round_down(p->len, c->unit);
    }
    p->source = copy_source_at(c, p->off);
    p->sequence = c->sequence++;
    c->pos += p->len;
    if (c->pos < c->extent_start || c->pos >= c->extent_end) {
        c->extent_end = 0;
    }
    return 1;
}

/* ---- Reading ---- */

static int copy_read_source(struct copy *c, const struct copy_source *s, uint64_t local,
                            uint8_t *buf, uint64_t len)
{
    uint64_t size = block_size(s->b);
    uint64_t there = local >= size ? 0 : size - local < len ? size - local : len;
    memset(buf + there, 0, len - there);
    int ret = there ? block_pread(s->b, local, buf, there) : 0;
    if (!ret || !c->salvage) {
        return ret;
    }
    if (len <= BLOCK_SECTOR) {
        memset(buf, 0, len);
        if (c->watch && c->watch->lost) {
            c->watch->lost(c->opaque, s->at + local - s->from, ret);
        }
        return 0;
    }
    uint64_t half = round_up(len / 2, BLOCK_SECTOR);
    ret = copy_read_source(c, s, local, buf, half);
    return ret ? ret : copy_read_source(c, s, local + half, buf + half, len - half);
}

static int copy_read(struct copy *c, const struct piece *p, uint8_t *buf)
{
    const struct copy_source *s = p->source;
    uint64_t done = 0;
    while (done < p->len) {
        uint64_t local = p->off + done - s->at;
        uint64_t n = s->len - local < p->len - done ? s->len - local : p->len - done;
        int ret = n ? copy_read_source(c, s, s->from + local, buf + done, n) : 0;
        if (ret) {
            return copy_fail(c, ret, "reading", p->off + done);
        }
        done += n;
        s++;
    }
    return 0;
}

/* ---- Writing ---- */

static void copy_pass_turn(struct copy *c, const struct piece *p)
{
    if (!c->out_of_order && c->turn == p->sequence) {
        c->turn++;
        co_queue_all(&c->turns);
    }
}

static void copy_await_turn(struct copy *c, const struct piece *p)
{
    while (!c->out_of_order && c->turn < p->sequence && !c->ret) {
        co_queue_wait(&c->turns);
    }
}

/* Bytes of one kind, zero or not, from `at` on. */
static uint64_t copy_same(const struct copy *c, const struct piece *p, const uint8_t *buf,
                          uint64_t at, bool *zero)
{
    uint64_t start = at;
    *zero = false;
    if (!c->min_zero || c->offload) {
        return p->len - at;
    }
    while (at < p->len) {
        /* Steps end where the target's clusters do. */
        uint64_t n = c->step - (p->off + at) % c->step;
        n = n < p->len - at ? n : p->len - at;
        bool now = mem_is_zero(buf + at, n);
        if (at > start && now != *zero) {
            break;
        }
        *zero = now;
        at += n;
    }
    return at - start;
}

static int copy_write_zero(struct copy *c, uint64_t off, uint64_t len)
{
    bool done = c->target_zero || (c->zero_behind && off >= c->skip_end);
    int ret = done ? 0 : block_zero(c->target, off, len, BLOCK_MAY_UNMAP);
    return ret ? copy_fail(c, ret, "writing zeros", off) : 0;
}

static int copy_write_data(struct copy *c, const struct piece *p, uint8_t *buf)
{
    uint64_t at = 0;
    while (at < p->len && !c->ret) {
        bool zero;
        uint64_t n = copy_same(c, p, buf, at, &zero);
        if (at + n == p->len) {
            copy_pass_turn(c, p); /* others run when this one waits */
        }
        int ret = zero ? copy_write_zero(c, p->off + at, n)
                       : block_pwrite(c->target, p->off + at, buf + at, n,
                                      c->compressed ? BLOCK_COMPRESSED : 0);
        if (ret) {
            return copy_fail(c, ret, "writing", p->off + at);
        }
        at += n;
    }
    return c->ret;
}

/* True: the host has done it. */
static bool copy_on_host(struct copy *c, const struct piece *p)
{
    const struct copy_source *s = p->source;
    uint64_t local = p->off - s->at;
    if (!c->offload || c->host_refused || p->kind != COPY_DATA || p->len > s->len - local) {
        return false;
    }
    copy_await_turn(c, p);
    copy_pass_turn(c, p);
    c->host_refused = c->ret || block_copy(s->b, s->from + local, c->target, p->off, p->len);
    return !c->host_refused;
}

static int copy_piece_here(struct copy *c, const struct piece *p, uint8_t **buf)
{
    int ret = 0;
    if (p->kind == COPY_DATA && !*buf) {
        *buf = block_alloc(c->piece > c->unit ? c->piece : c->unit);
    }
    if (p->kind == COPY_DATA) {
        ret = *buf ? copy_read(c, p, *buf) : copy_fail(c, -ENOMEM, "reading", p->off);
    }
    copy_await_turn(c, p);
    if (!ret && !c->ret && p->kind == COPY_DATA) {
        ret = copy_write_data(c, p, *buf);
    } else if (!ret && !c->ret && p->kind == COPY_ZERO) {
        copy_pass_turn(c, p);
        ret = copy_write_zero(c, p->off, p->len);
    }
    copy_pass_turn(c, p);
    return ret;
}

static int copy_piece(struct copy *c, const struct piece *p, uint8_t **buf)
{
    int ret = copy_on_host(c, p) ? 0 : copy_piece_here(c, p, buf);
    c->done += p->len;
    copy_tell(c);
    return ret;
}

/* ---- Workers ---- */

static void copy_limit_rate(struct copy *c)
{
    const long long slice = 100000000; /* signals want an answer meanwhile */
    while (c->rate && !copy_stopped(c)) {
        double due = (double)c->pos / (double)c->rate * 1e9;
        long long wait = c->start_ns + (long long)due - copy_now();
        if (wait <= 0) {
            break;
        }
        co_sleep_ns(wait < slice ? wait : slice);
        copy_tell(c);
    }
}

static void copy_worker(void *opaque)
{
    struct copy *c = opaque;
    uint8_t *buf = NULL;
    struct piece p = {0};
    while (!c->ret) {
        copy_limit_rate(c);
        co_lock(&c->map_lock);
        int ret = copy_stopped(c) ? 0 : copy_take(c, &p);
        co_unlock(&c->map_lock);
        if (ret <= 0 || copy_piece(c, &p, &buf)) {
            break;
        }
    }
    free(buf);
    co_queue_all(&c->turns);
    if (!--c->running) {
        co_queue_all(&c->ended);
    }
}

static void copy_measure_out(struct copy *c)
{
    uint32_t granule = block_granule(c->target);
    c->unit = granule <= COPY_MAX_UNIT ? granule : BLOCK_SECTOR;
    c->piece = c->compressed ? c->unit : COPY_BUFFER;
    c->step = c->min_zero ? c->min_zero : BLOCK_SECTOR;
    if (c->compressed || c->step < c->unit) {
        c->step = c->unit;
    }
}

int copy_run(struct copy *c, struct err *err)
{
    c->err = err;
    c->start_ns = copy_now();
    copy_measure_out(c);
    if (!c->source_count) {
        return 0;
    }
    c->running = c->workers + 1;
    for (unsigned i = 0; i < c->workers; i++) {
        co_start(block_graph_loop(block_graph_of(c->target)), copy_worker, c);
    }
    c->running--;
    while (c->running) {
        co_queue_wait(&c->ended);
    }
    return c->ret;
}
