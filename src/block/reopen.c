/*
 * Opening nodes anew for writing, or no longer for it, in place: those above them keep them. The
 * driver closes and opens what it has, by the options it had the first time; locks on files are
 * taken anew, so other processes that rely on the file are noticed.
 *
 * Does not do: nodes with requests in flight.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "block/core.h"

/* ---- A node that could be opened neither way ---- */

static int lost_open(struct block *b, const struct keyval *opts, struct err *err)
{
    return err_set(err, EIO, "'%s' could not be opened again", b->filename);
}

static int lost_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    return -EIO;
}

static int lost_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    return -EIO;
}

static const struct block_type lost_type = {
    .name = "lost",
    .summary = "an image that could not be opened again",
    .open = lost_open,
    .preadv = lost_preadv,
    .extent = lost_extent,
};

/* ---- Nodes ---- */

static unsigned reopen_flags(unsigned flags, bool write)
{
    unsigned more = BLOCK_RDWR | BLOCK_RESIZE;
    return write ? flags | more : flags & ~more;
}

static int node_start(struct block *b, unsigned flags, struct err *err)
{
    memset(b->state, 0, b->type->size);
    free(b->backing_name);
    free(b->backing_format);
    b->backing_name = b->backing_format = NULL;
    b->flags = flags;
    b->align = 1;
    b->granule = b->zero_flags = b->write_flags = 0;
    int ret = b->type->open(b, &b->opts, err);
    if (!ret && b->type->claim) {
        ret = b->type->claim(b, err);
        if (ret && b->type->close) {
            b->type->close(b);
        }
    }
    if (ret) {
        block_close(b->data);
        b->data = NULL;
    }
    return ret;
}

static int node_stop(struct block *b)
{
    int ret = b->type->close ? b->type->close(b) : 0;
    block_close(b->data);
    b->data = NULL;
    return ret;
}

/* With its files, which come first when it is to be written, and last when it is not. */
static int node_reopen(struct block *b, bool write, struct err *err)
{
    unsigned old = b->flags;
    bool file = b->file && block_readonly(b->file) == write;
    int ret = file && write ? node_reopen(b->file, true, err) : 0;
    if (ret) {
        return ret;
    }
    int closed = node_stop(b);
    if (file && !write) {
        ret = node_reopen(b->file, false, err);
    }
    ret = ret ? ret : node_start(b, reopen_flags(old, write), err);
    struct err ignored;
    if (ret && file && write) {
        node_reopen(b->file, false, &ignored);
    }
    if (ret && node_start(b, reopen_flags(old, false), &ignored)) {
        b->type = &lost_type;
    }
    return ret || !closed
               ? ret
               : err_set(err, -closed, "closing '%s': %s", b->filename, strerror(-closed));
}

int block_reopen(struct block *b, bool write, struct err *err)
{
    int ret = block_readonly(b) ? 0 : block_flush(b);
    if (ret) {
        return err_set(err, -ret, "cannot write '%s': %s", b->filename, strerror(-ret));
    }
    return node_reopen(b, write, err);
}
