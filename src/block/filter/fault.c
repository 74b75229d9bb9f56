/*
 * Filter "blkdebug": makes requests fail, for tests. inject-error.N has iotype (read, write,
 * write-zeroes, discard, flush, block-status; default: any but block-status), sector (any), errno
 * (5), once (off), and our own: after (requests of that kind that succeed first).
 *
 * Does not do: events inside formats, states, suspending; configuration files.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/filter/pass.h"
#include "block/opts.h"

enum { MAX_RULES = 32 };
enum io_kind {
    IO_READ = 1,
    IO_WRITE = 2,
    IO_ZERO = 4,
    IO_DISCARD = 8,
    IO_FLUSH = 16,
    IO_STATUS = 32
};

struct rule {
    unsigned kinds;
    uint64_t sector; /* UINT64_MAX: any */
    uint64_t after;
    int error;
    bool once, done;
};

struct fault {
    struct rule rule[MAX_RULES];
    unsigned rules;
};

static int fault_at(struct block *b, enum io_kind kind, uint64_t off, uint64_t len)
{
    struct fault *f = b->state;
    for (unsigned i = 0; i < f->rules; i++) {
        struct rule *r = &f->rule[i];
        uint64_t at = r->sector * BLOCK_SECTOR;
        bool here = r->sector == UINT64_MAX || (at >= off && at < off + len);
        if (r->done || !(r->kinds & kind) || !here) {
            continue;
        }
        if (r->after) {
            r->after--;
            continue;
        }
        r->done = r->once;
        return -r->error;
    }
    return 0;
}

static int kind_from_name(const char *name, unsigned *kinds, struct err *err)
{
    static const char *const names[] = {"read",    "write", "write-zeroes",
                                        "discard", "flush", "block-status"};
    for (unsigned i = 0; i < 6; i++) {
        if (!strcmp(names[i], name)) {
            *kinds = 1u << i;
            return 0;
        }
    }
    return err_set(err, EINVAL, "blkdebug: there is no iotype '%s'", name);
}

static int take_rule(struct fault *f, const struct keyval *opts, struct err *err)
{
    struct rule *r = &f->rule[f->rules++];
    const char *kind = keyval_get(opts, "iotype"), *sector = keyval_get(opts, "sector"),
               *error = keyval_get(opts, "errno"), *after = keyval_get(opts, "after");
    uint64_t e = EIO;
    *r = (struct rule){.kinds = IO_READ | IO_WRITE | IO_ZERO | IO_DISCARD | IO_FLUSH,
                       .sector = UINT64_MAX};
    int ret = kind ? kind_from_name(kind, &r->kinds, err) : 0;
    ret = !ret && sector && strcmp(sector, "-1")
              ? value_u64("sector", sector, BLOCK_MAX_SIZE / BLOCK_SECTOR, &r->sector, err)
              : ret;
    ret = !ret && error ? value_u64("errno", error, 4095, &e, err) : ret;
    ret = !ret && after ? value_u64("after", after, UINT64_MAX, &r->after, err) : ret;
    r->error = (int)e;
    return ret ? ret : block_opt_bool(opts, "once", &r->once, err);
}

static int fault_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct fault *f = b->state;
    int ret = 0;
    for (unsigned i = 0; !ret && i < MAX_RULES; i++) {
        AUTO_FREE char *prefix = alloc_printf("inject-error.%u", i);
        struct keyval part = {0};
        opts_part(&part, opts, prefix);
        ret = part.count ? take_rule(f, &part, err) : 0;
        keyval_free(&part);
    }
    return ret ? ret : filter_open(b);
}

static int fault_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    int ret = fault_at(b, IO_READ, off, q->len);
    return ret ? ret : filter_preadv(b, off, q);
}

static int fault_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    int ret = fault_at(b, IO_WRITE, off, q->len);
    ret = ret ? ret : filter_pwritev(b, off, q, flags);
    b->size = block_size(b->file);
    return ret;
}

static int fault_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    int ret = fault_at(b, IO_ZERO, off, len);
    ret = ret ? ret : filter_zero(b, off, len, flags);
    b->size = block_size(b->file);
    return ret;
}

static int fault_discard(struct block *b, uint64_t off, uint64_t len)
{
    int ret = fault_at(b, IO_DISCARD, off, len);
    return ret ? ret : filter_discard(b, off, len);
}

static int fault_flush(struct block *b)
{
    return fault_at(b, IO_FLUSH, 0, UINT64_MAX);
}

static int fault_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    int ret = fault_at(b, IO_STATUS, off, len);
    return ret ? ret : filter_extent(b, off, len, e);
}

static const struct block_opt fault_opts[] = {
    {"inject-error.*", "str", "inject-error.N.iotype, .sector, .errno, .once, .after", NULL},
    {"image", "node", "the node below, as 'file'", NULL},
    {0},
};

const struct block_type fault_type = {
    .name = "blkdebug",
    .summary = "makes requests fail, for tests",
    .size = sizeof(struct fault),
    .filter = true,
    .grows = true,
    .open_opts = fault_opts,
    .open = fault_open,
    .preadv = fault_preadv,
    .pwritev = fault_pwritev,
    .flush = fault_flush,
    .zero = fault_zero,
    .discard = fault_discard,
    .extent = fault_extent,
    .truncate = filter_truncate,
};
