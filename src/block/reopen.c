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

#include "base/alloc.h"
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

static int node_reopen(struct block *b, bool write, struct err *err);

/* What a driver's open() makes of a node. */
struct opened {
    void *state;
    char *backing_name, *backing_format;
    uint64_t size;
    uint32_t align, granule;
    unsigned zero_flags, write_flags, flags;
};

static struct opened node_get(const struct block *b)
{
    return (struct opened){b->state,   b->backing_name, b->backing_format, b->size, b->align,
                           b->granule, b->zero_flags,   b->write_flags,    b->flags};
}

static void node_put(struct block *b, const struct opened *o)
{
    b->state = o->state;
    b->backing_name = o->backing_name;
    b->backing_format = o->backing_format;
    b->size = o->size;
    b->align = o->align;
    b->granule = o->granule;
    b->zero_flags = o->zero_flags;
    b->write_flags = o->write_flags;
    b->flags = o->flags;
}

static void opened_free(const struct opened *o)
{
    free(o->state);
    free(o->backing_name);
    free(o->backing_format);
}

static void node_close_data(struct block *b)
{
    block_close(b->data);
    b->data = NULL;
}

/* As if there had been nothing. What there was is the caller's to free. */
static int node_open(struct block *b, unsigned flags, struct err *err)
{
    const struct opened none = {
        .state = alloc_zero(b->type->size ? b->type->size : 1), .align = 1, .flags = flags};
    node_put(b, &none);
    int ret = b->type->open(b, &b->opts, err);
    if (ret) {
        node_close_data(b);
    }
    return ret;
}

static int node_close(struct block *b)
{
    int ret = b->type->close ? b->type->close(b) : 0;
    node_close_data(b);
    return ret;
}

static int node_claim(struct block *b, struct err *err)
{
    int ret = b->type->claim ? b->type->claim(b, err) : 0;
    if (ret) {
        node_close(b);
    }
    return ret;
}

/* After a failure: for reading, or not at all. */
static void node_recover(struct block *b, unsigned flags)
{
    struct err ignored;
    const struct opened failed = node_get(b);
    int ret = node_open(b, reopen_flags(flags, false), &ignored);
    opened_free(&failed);
    if (ret || node_claim(b, &ignored)) {
        b->type = &lost_type;
    }
}

/* The old one is closed only when the new one is open: a file that has gone stays what it was. */
static int node_replace(struct block *b, bool write, struct err *err)
{
    const struct opened old = node_get(b);
    int ret = node_open(b, reopen_flags(old.flags, write), err);
    const struct opened new = node_get(b);
    node_put(b, &old);
    if (ret) {
        opened_free(&new);
        return ret;
    }
    int closed = b->type->close ? b->type->close(b) : 0;
    node_put(b, &new);
    opened_free(&old);
    ret = node_claim(b, err);
    if (ret) {
        node_recover(b, old.flags);
    }
    return ret || !closed ? ret : err_set(err, -closed, "closing '%s'", b->filename);
}

/* The old one is closed first: it has something to write, or a file of its own that is locked. */
static int node_renew(struct block *b, bool write, struct err *err)
{
    const struct opened old = node_get(b);
    int closed = node_close(b);
    struct block *file = b->file && block_readonly(b->file) == write ? b->file : NULL;
    int ret = file ? node_reopen(file, write, err) : 0;
    ret = ret ? ret : node_open(b, reopen_flags(old.flags, write), err);
    if (b->state != old.state) {
        opened_free(&old);
    }
    ret = ret ? ret : node_claim(b, err);
    if (ret) {
        struct err ignored;
        node_recover(b, old.flags);
        if (file && write) {
            node_reopen(file, false, &ignored);
        }
    }
    return ret || !closed ? ret : err_set(err, -closed, "closing '%s'", b->filename);
}

static int node_reopen(struct block *b, bool write, struct err *err)
{
    if (b->data || (!write && !b->type->protocol)) {
        return node_renew(b, write, err);
    }
    bool file = b->file && block_readonly(b->file);
    int ret = file ? node_reopen(b->file, true, err) : 0;
    if (ret) {
        return ret;
    }
    ret = node_replace(b, write, err);
    struct err ignored;
    if (ret && file) {
        node_reopen(b->file, false, &ignored);
    }
    return ret;
}

int block_reopen(struct block *b, bool write, struct err *err)
{
    int ret = block_readonly(b) ? 0 : block_flush(b);
    if (ret) {
        return err_set(err, -ret, "cannot write '%s': %s", b->filename, strerror(-ret));
    }
    return node_reopen(b, write, err);
}
