/*
 * Filter "blklogwrites": every write, zero, discard and flush also goes into a log, in the format
 * of Linux's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst; struct
 * log_write_super and log_write_entry): so a power cut at any point can be played afterwards.
 *
 * The entry is in the log before the write is done, as a write may reach the disk from then on. A
 * flush is logged when it has succeeded, after a mark that says what it covers: how many entries
 * there were when it began, then the numbers of those that were still being written (64 bits each).
 * Changes of the size are not in the log.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/filter/log_writes.h"
#include "block/filter/pass.h"
#include "block/opts.h"
#include "loop/co.h"

enum { MAX_FLYING = 4096 };

struct log {
    struct block *to;
    uint64_t flying[MAX_FLYING]; /* entries whose write is not done */
    unsigned flying_count;
    uint64_t entries, next; /* where the next entry goes */
    uint64_t sector;        /* bytes */
    struct co_lock order;
};

static int log_super(struct log *l)
{
    AUTO_FREE uint8_t *s = alloc_zero(l->sector);
    store_le64(s, LOG_MAGIC);
    store_le64(s + 8, 1);
    store_le64(s + 16, l->entries);
    store_le32(s + 24, (uint32_t)l->sector);
    return block_pwrite(l->to, 0, s, l->sector, 0);
}

static int log_append(struct log *l, uint64_t off, uint64_t len, uint64_t flags,
                      const struct iovs *q)
{
    AUTO_FREE uint8_t *head = alloc_zero(l->sector);
    store_le64(head, off / l->sector);
    store_le64(head + 8, len / l->sector);
    store_le64(head + 16, flags);
    store_le64(head + 24, q ? q->len : 0);
    int ret = block_pwrite(l->to, l->next, head, l->sector, 0);
    ret = !ret && q ? block_pwritev(l->to, l->next + l->sector, q, 0) : ret;
    if (!ret) {
        l->next += l->sector + (q ? round_up(q->len, l->sector) : 0);
        l->entries++;
    }
    return ret;
}

/* A write or zero, in order: the log says what came first. */
static int log_change(struct log *l, uint64_t off, uint64_t len, uint64_t flags,
                      const struct iovs *q, uint64_t *number)
{
    co_lock(&l->order);
    int ret = l->flying_count == MAX_FLYING ? -EBUSY : log_append(l, off, len, flags, q);
    if (!ret) {
        *number = l->entries - 1;
        l->flying[l->flying_count++] = *number;
    }
    co_unlock(&l->order);
    return ret;
}

static void log_landed(struct log *l, uint64_t number)
{
    unsigned i = 0;
    while (l->flying[i] != number) {
        i++;
    }
    l->flying[i] = l->flying[--l->flying_count];
}

static int log_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct log *l = b->state;
    l->sector = BLOCK_SECTOR;
    /* Also so that an image cannot name a file to be overwritten, as its backing file's log. */
    if (!(b->flags & BLOCK_RDWR)) {
        return err_set(err, EACCES, "blklogwrites is for nodes that are written: '%s' is read-only",
                       b->filename);
    }
    int ret = block_opt_size(opts, "log-sector-size", &l->sector, err);
    if (ret || l->sector < 512 || l->sector > 65536 || l->sector & (l->sector - 1)) {
        return ret ? ret : err_set(err, EINVAL, "log-sector-size is a power of two from 512");
    }
    l->to =
        block_open_child(b, opts, "log", NULL, BLOCK_RDWR | BLOCK_RESIZE | BLOCK_SHARE_WRITE, err);
    if (!l->to) {
        return -EINVAL;
    }
    l->next = l->sector;
    filter_open(b);
    b->align = (uint32_t)l->sector;
    ret = log_super(l);
    if (ret) {
        block_close(l->to);
        return err_set(err, -ret, "cannot write the log: %s", strerror(-ret));
    }
    return 0;
}

static int log_close(struct block *b)
{
    struct log *l = b->state;
    int ret = log_super(l);
    block_close(l->to);
    return ret;
}

uint64_t block_log_entries(struct block *b)
{
    return ((struct log *)b->state)->entries;
}

static int log_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    uint64_t n;
    int ret = log_change(b->state, off, q->len, flags & BLOCK_FUA ? LOG_FUA : 0, q, &n);
    if (!ret) {
        ret = filter_pwritev(b, off, q, flags);
        log_landed(b->state, n);
    }
    b->size = block_size(b->file);
    return ret;
}

static int log_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    uint64_t n;
    int ret = log_change(b->state, off, len, LOG_DISCARD, NULL, &n);
    if (!ret) {
        ret = filter_zero(b, off, len, flags);
        log_landed(b->state, n);
    }
    b->size = block_size(b->file);
    return ret;
}

static int log_discard(struct block *b, uint64_t off, uint64_t len)
{
    uint64_t n;
    int ret = log_change(b->state, off, len, LOG_DISCARD, NULL, &n);
    if (!ret) {
        ret = filter_discard(b, off, len);
        log_landed(b->state, n);
    }
    return ret;
}

static int log_flush(struct block *b)
{
    struct log *l = b->state;
    unsigned count = l->flying_count;
    AUTO_FREE uint8_t *mark = alloc_zero(8 * ((size_t)count + 1));
    struct iovec v;
    struct iovs q = iovs_buf(&v, mark, 8 * ((size_t)count + 1));
    store_le64(mark, l->entries);
    for (unsigned i = 0; i < count; i++) {
        store_le64(mark + 8 + 8 * (size_t)i, l->flying[i]);
    }
    int ret = block_flush(b->file);
    co_lock(&l->order);
    ret = ret ? ret : log_append(l, 0, 0, LOG_MARK, &q);
    ret = ret ? ret : log_append(l, 0, 0, LOG_FLUSH, NULL);
    ret = ret ? ret : log_super(l);
    co_unlock(&l->order);
    return ret;
}

/* What is cut off reads as zeros when the file grows again; the log has no other word for it. */
static int log_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc,
                        struct err *err)
{
    struct log *l = b->state;
    uint64_t from = round_up(size, l->sector), n = 0;
    bool shrinks = from < b->size;
    int ret = shrinks
                  ? log_change(l, from, round_up(b->size, l->sector) - from, LOG_DISCARD, NULL, &n)
                  : 0;
    if (ret) {
        return err_set(err, -ret, "cannot write the log: %s", strerror(-ret));
    }
    ret = filter_truncate(b, size, prealloc, err);
    if (shrinks) {
        log_landed(l, n);
    }
    return ret;
}

static const struct block_opt log_opts[] = {
    {"log", "node", "the node that the log is written to", NULL},
    {"log-sector-size", "size", "unit of the log", "512"},
    {0},
};

const struct block_type log_writes_type = {
    .name = "blklogwrites",
    .summary = "logs writes, for tests of power cuts",
    .spec = "dm-log-writes",
    .size = sizeof(struct log),
    .filter = true,
    .grows = true,
    .open_opts = log_opts,
    .open = log_open,
    .close = log_close,
    .preadv = filter_preadv,
    .pwritev = log_pwritev,
    .flush = log_flush,
    .zero = log_zero,
    .discard = log_discard,
    .extent = filter_extent,
    .truncate = log_truncate,
};
