/* Calls about images as a whole: what they are, where data lies, creating, snapshots, bitmaps. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/core.h"
#include "block/opts.h"

/* ---- What a node is ---- */

uint64_t block_size(const struct block *b)
{
    return b->size;
}

bool block_readonly(const struct block *b)
{
    return !(b->flags & BLOCK_RDWR);
}

const char *block_format(const struct block *b)
{
    return b->type->name;
}

const char *block_filename(const struct block *b)
{
    return b->filename;
}

struct block *block_file(const struct block *b)
{
    return b->file;
}

struct block *block_backing(const struct block *b)
{
    return b->backing;
}

const char *block_backing_name(const struct block *b, const char **format)
{
    if (format) {
        *format = b->backing_format;
    }
    return b->backing_name;
}

uint32_t block_granule(const struct block *b)
{
    uint32_t most = b->granule > b->align ? b->granule : b->align;
    return most > BLOCK_SECTOR ? most : BLOCK_SECTOR;
}

/* ---- One kind of call for all that is rare ---- */

enum image_op {
    IMAGE_INFO,
    IMAGE_TRUNCATE,
    IMAGE_EXTENT,
    IMAGE_EXTENT_CHAIN,
    IMAGE_AMEND,
    IMAGE_SET_BACKING,
    IMAGE_MAKE_EMPTY,
    IMAGE_CHECK,
    SNAPSHOT_LIST,
    SNAPSHOT_CREATE,
    SNAPSHOT_APPLY,
    SNAPSHOT_DELETE,
    SNAPSHOT_VIEW,
    VMSTATE_READ,
    VMSTATE_WRITE,
    BITMAP_CHANGE,
    BITMAP_MERGE,
};

struct image_call {
    enum image_op op;
    struct block *b, *base;
    uint64_t off, len;
    const char *name, *name2;
    void *out, *out2;
    const void *in;
    unsigned num, num2;
    bool flag;
    void (*progress)(void *, uint64_t, uint64_t);
    void *opaque;
    struct err *err;
    int ret;
};

static int not_here(struct image_call *c, const char *what)
{
    return err_set(c->err, ENOTSUP, "the format '%s' of '%s' has no %s", c->b->type->name,
                   c->b->filename, what);
}

static int must_write(struct image_call *c)
{
    return c->b->flags & BLOCK_RDWR
               ? 0
               : err_set(c->err, EPERM, "'%s' is open read-only", c->b->filename);
}

static int image_info(struct image_call *c)
{
    struct block_info *info = c->out;
    struct block *b = c->b;
    *info =
        (struct block_info){.size = b->size, .disk_size = UINT64_MAX, .encrypted = b->encrypted};
    if (b->file) {
        struct block_info below;
        int ret = block_get_info(b->file, &below, c->err);
        if (ret) {
            return ret;
        }
        info->disk_size = below.disk_size;
        info->remote = below.remote && !strcmp(b->type->name, "raw");
        block_info_free(&below);
    }
    info->remote |= b->type->protocol && !b->type->info;
    return b->type->info ? b->type->info(b, info, c->err) : 0;
}

static int image_truncate(struct image_call *c)
{
    struct block *b = c->b;
    if (c->len > BLOCK_MAX_SIZE) {
        return err_set(c->err, EFBIG, "%llu bytes are too many for '%s'",
                       (unsigned long long)c->len, b->filename);
    }
    int ret = must_write(c);
    if (ret || !b->type->truncate) {
        return ret ? ret
                   : err_set(c->err, ENOTSUP,
                             "Image format driver does not support resize ('%s' is %s)",
                             b->filename, b->type->name);
    }
    return b->type->truncate(b, c->len, c->num, c->err);
}

static int image_extent(struct image_call *c)
{
    struct block *b = c->b;
    struct block_extent *e = c->out;
    uint64_t end = b->type->grows ? BLOCK_MAX_SIZE : b->size;
    if (c->off >= end || !c->len) {
        return -EINVAL;
    }
    uint64_t len = c->len < end - c->off ? c->len : end - c->off;
    *e = (struct block_extent){len, EXTENT_DATA | EXTENT_ALLOCATED, 0, NULL, 0};
    if (b->type->extent) {
        return b->type->extent(b, c->off, len, e);
    }
    if (b->type->filter) {
        return block_extent(b->file, c->off, len, e);
    }
    return 0;
}

static int image_extent_chain(struct image_call *c)
{
    struct block_extent *e = c->out;
    unsigned depth = 0;
    struct block *b = c->b;
    uint64_t len = c->len;
    for (;;) {
        int ret = block_extent(b, c->off, len, e);
        if (ret) {
            return ret;
        }
        e->depth = depth;
        len = e->len;
        struct block *below = b->type->filter ? NULL : b->backing;
        if (e->flags & EXTENT_ALLOCATED || !below || below == c->base) {
            break;
        }
        if (c->off >= below->size) { /* it ends before: zeros, which this layer gives */
            e->flags |= EXTENT_ZERO;
            break;
        }
        len = len < below->size - c->off ? len : below->size - c->off;
        b = below;
        depth++;
    }
    if (!(e->flags & (EXTENT_DATA | EXTENT_ZERO)) && !b->backing) {
        e->flags |= EXTENT_ZERO;
    }
    return 0;
}

static int image_do_rw(struct image_call *c)
{
    const struct block_type *t = c->b->type;
    int ret = must_write(c);
    if (ret) {
        return ret;
    }
    switch (c->op) {
    case IMAGE_AMEND:
        return t->amend ? t->amend(c->b, c->in, c->flag, c->progress, c->opaque, c->err)
                        : not_here(c, "options that can be amended");
    case IMAGE_SET_BACKING:
        return t->set_backing ? t->set_backing(c->b, c->name, c->name2, c->err)
                              : not_here(c, "backing files");
    case IMAGE_MAKE_EMPTY:
        return t->make_empty ? t->make_empty(c->b, c->err) : not_here(c, "way to be emptied");
    case SNAPSHOT_CREATE:
        return t->snapshot_create ? t->snapshot_create(c->b, c->in, c->err)
                                  : not_here(c, "snapshots");
    case SNAPSHOT_APPLY:
        return t->snapshot_apply ? t->snapshot_apply(c->b, c->name, c->err)
                                 : not_here(c, "snapshots");
    case SNAPSHOT_DELETE:
        return t->snapshot_delete ? t->snapshot_delete(c->b, c->name, c->err)
                                  : not_here(c, "snapshots");
    case BITMAP_CHANGE:
        return t->bitmap_change ? t->bitmap_change(c->b, c->num2, c->name, c->num, c->flag, c->err)
                                : not_here(c, "bitmaps");
    case BITMAP_MERGE:
        return t->bitmap_merge ? t->bitmap_merge(c->b, c->name, c->in, c->err)
                               : not_here(c, "bitmaps");
    default: return -ENOTSUP;
    }
}

static int image_do(struct image_call *c)
{
    const struct block_type *t = c->b->type;
    switch (c->op) {
    case IMAGE_INFO: return image_info(c);
    case IMAGE_TRUNCATE: return image_truncate(c);
    case IMAGE_EXTENT: return image_extent(c);
    case IMAGE_EXTENT_CHAIN: return image_extent_chain(c);
    case IMAGE_CHECK:
        return t->check ? t->check(c->b, c->num, c->out, c->err) : not_here(c, "checks");
    case SNAPSHOT_LIST: return t->snapshots ? t->snapshots(c->b, c->out, c->out2) : -ENOTSUP;
    case SNAPSHOT_VIEW:
        return t->snapshot_view ? t->snapshot_view(c->b, c->name, c->err)
                                : not_here(c, "snapshots");
    case VMSTATE_READ:
        return t->vmstate_read ? t->vmstate_read(c->b, c->off, c->out, c->len) : -ENOTSUP;
    case VMSTATE_WRITE:
        return t->vmstate_write ? t->vmstate_write(c->b, c->off, c->in, c->len) : -ENOTSUP;
    default: return image_do_rw(c);
    }
}

static void image_called(void *opaque)
{
    struct image_call *c = opaque;
    bool looks = c->op == IMAGE_INFO || c->op == IMAGE_EXTENT || c->op == IMAGE_EXTENT_CHAIN ||
                 c->op == SNAPSHOT_LIST || c->op == SNAPSHOT_VIEW || c->op == VMSTATE_READ;
    c->ret = image_do(c);
    if (!looks) { /* afterwards: a flush meanwhile does not cover it */
        c->b->requests->writes++;
    }
}

static int image_call(struct image_call c)
{
    struct err ignored;
    c.err = c.err ? c.err : &ignored;
    co_run(c.b->graph->loop, image_called, &c);
    return c.ret;
}

int block_get_info(struct block *b, struct block_info *info, struct err *err)
{
    return image_call((struct image_call){.op = IMAGE_INFO, .b = b, .out = info, .err = err});
}

void block_info_free(struct block_info *info)
{
    json_decref(info->specific);
    info->specific = NULL;
}

int block_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc, struct err *err)
{
    return image_call((struct image_call){
        .op = IMAGE_TRUNCATE, .b = b, .len = size, .num = prealloc, .err = err});
}

int block_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    return image_call(
        (struct image_call){.op = IMAGE_EXTENT, .b = b, .off = off, .len = len, .out = e});
}

int block_extent_chain(struct block *b, struct block *base, uint64_t off, uint64_t len,
                       struct block_extent *e)
{
    return image_call((struct image_call){
        .op = IMAGE_EXTENT_CHAIN, .b = b, .base = base, .off = off, .len = len, .out = e});
}

int block_amend(struct block *b, const struct keyval *opts, bool force,
                void (*progress)(void *, uint64_t, uint64_t), void *opaque, struct err *err)
{
    int ret = opts_check(opts, b->type->amend_opts, NULL, b->type->name, err);
    return ret ? ret
               : image_call((struct image_call){.op = IMAGE_AMEND,
                                                .b = b,
                                                .in = opts,
                                                .flag = force,
                                                .progress = progress,
                                                .opaque = opaque,
                                                .err = err});
}

int block_set_backing(struct block *b, const char *name, const char *format, struct err *err)
{
    return image_call((struct image_call){
        .op = IMAGE_SET_BACKING, .b = b, .name = name, .name2 = format, .err = err});
}

void block_swap_backing(struct block *b, struct block *backing)
{
    struct block *old = b->backing;
    b->backing = backing ? block_ref(backing) : NULL;
    block_close(old);
}

int block_make_empty(struct block *b, struct err *err)
{
    return image_call((struct image_call){.op = IMAGE_MAKE_EMPTY, .b = b, .err = err});
}

int block_check(struct block *b, unsigned repair, struct check_report *r, struct err *err)
{
    return image_call(
        (struct image_call){.op = IMAGE_CHECK, .b = b, .num = repair, .out = r, .err = err});
}

int block_snapshots(struct block *b, struct block_snapshot **list, size_t *count)
{
    *list = NULL;
    *count = 0;
    return image_call((struct image_call){.op = SNAPSHOT_LIST, .b = b, .out = list, .out2 = count});
}

void block_snapshots_free(struct block_snapshot *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(list[i].id);
        free(list[i].name);
    }
    free(list);
}

int block_snapshot_create(struct block *b, const struct block_snapshot *s, struct err *err)
{
    return image_call((struct image_call){.op = SNAPSHOT_CREATE, .b = b, .in = s, .err = err});
}

int block_snapshot_apply(struct block *b, const char *which, struct err *err)
{
    return image_call((struct image_call){.op = SNAPSHOT_APPLY, .b = b, .name = which, .err = err});
}

int block_snapshot_delete(struct block *b, const char *which, struct err *err)
{
    return image_call(
        (struct image_call){.op = SNAPSHOT_DELETE, .b = b, .name = which, .err = err});
}

int block_snapshot_view(struct block *b, const char *which, struct err *err)
{
    return image_call((struct image_call){.op = SNAPSHOT_VIEW, .b = b, .name = which, .err = err});
}

int block_vmstate_read(struct block *b, uint64_t off, void *buf, size_t len)
{
    return image_call(
        (struct image_call){.op = VMSTATE_READ, .b = b, .off = off, .out = buf, .len = len});
}

int block_vmstate_write(struct block *b, uint64_t off, const void *buf, size_t len)
{
    return image_call(
        (struct image_call){.op = VMSTATE_WRITE, .b = b, .off = off, .in = buf, .len = len});
}

struct block_bitmap *block_bitmaps(struct block *b)
{
    return b->type->bitmaps ? b->type->bitmaps(b) : NULL;
}

bool block_can_bitmaps(const struct block *b)
{
    return b->type->bitmap_change;
}

int block_bitmap_change(struct block *b, enum bitmap_op op, const char *name, uint32_t granularity,
                        bool disabled, struct err *err)
{
    return image_call((struct image_call){.op = BITMAP_CHANGE,
                                          .b = b,
                                          .num2 = op,
                                          .name = name,
                                          .num = granularity,
                                          .flag = disabled,
                                          .err = err});
}

int block_bitmap_merge(struct block *b, const char *name, const struct block_bitmap *from,
                       struct err *err)
{
    return image_call(
        (struct image_call){.op = BITMAP_MERGE, .b = b, .name = name, .in = from, .err = err});
}
