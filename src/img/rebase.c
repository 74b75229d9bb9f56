/*
 * rebase: another backing file for an image. Where the old one and the new one differ, and the
 * image has no data of its own, it gets what it showed before (not with -u).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/block.h"
#include "img/img.h"

#define REBASE_BUFFER (2u << 20)

struct rebase {
    struct img *img;
    struct block *top, *old, *new; /* old, new: may be NULL, which reads as zero */
    const char *name, *format;     /* of the new one; NULL: none */
    uint8_t *old_buf, *new_buf;
    uint32_t unit; /* what is compared and written as a whole */
    struct err *err;
};

static int rebase_fail(struct rebase *r, const char *what, uint64_t off, int ret)
{
    return err_set(r->err, -ret, "error while %s at byte %llu: %s", what, (unsigned long long)off,
                   strerror(-ret));
}

/* Reads a layer that may end earlier, or not be there. */
static int rebase_read(struct block *b, uint64_t off, uint8_t *buf, uint64_t len)
{
    uint64_t size = b ? block_size(b) : 0;
    uint64_t there = off >= size ? 0 : size - off < len ? size - off : len;
    memset(buf + there, 0, len - there);
    return there ? block_pread(b, off, buf, there) : 0;
}

/* Is it zero for some bytes, by its map? *len may become less. */
static int rebase_known_zero(struct block *b, uint64_t off, uint64_t *len, bool *zero)
{
    uint64_t size = b ? block_size(b) : 0;
    struct block_extent e;
    *zero = true;
    if (off >= size) {
        return 0;
    }
    uint64_t most = size - off < *len ? size - off : *len;
    int ret = block_extent_chain(b, NULL, off, most, &e);
    if (!ret) {
        *zero = e.flags & EXTENT_ZERO || !(e.flags & EXTENT_DATA);
        *len = e.len < most ? e.len : most;
    }
    return ret;
}

/* Zeros that hide what lies below. Version 2 of qcow2 takes zeroing for done where nothing is
 * allocated and nothing lies below yet: there they are written. `zeros` has as many. */
static int rebase_zero(struct rebase *r, uint64_t off, uint64_t len, const void *zeros)
{
    int ret = block_zero(r->top, off, len, 0);
    for (uint64_t at = off, end = off + len; !ret && at < end;) {
        struct block_extent e;
        ret = block_extent(r->top, at, end - at, &e);
        uint64_t n = ret || e.len > end - at ? end - at : e.len;
        if (!ret && !(e.flags & EXTENT_ALLOCATED)) {
            ret = block_pwrite(r->top, at, zeros, n, 0);
        }
        at += n;
    }
    return ret;
}

/* Writes the units of a range whose old and new contents differ. */
static int rebase_write(struct rebase *r, uint64_t off, uint64_t len)
{
    uint64_t at = 0;
    while (at < len) {
        uint64_t start = at;
        bool differs = false;
        while (at < len) { /* a run of units that do, or do not */
            uint64_t n = r->unit - (off + at) % r->unit;
            n = n < len - at ? n : len - at;
            bool now = memcmp(r->old_buf + at, r->new_buf + at, n) != 0;
            if (at > start && now != differs) {
                break;
            }
            differs = now;
            at += n;
        }
        if (!differs) {
            continue;
        }
        int ret = mem_is_zero(r->old_buf + start, at - start)
                      ? rebase_zero(r, off + start, at - start, r->old_buf + start)
                      : block_pwrite(r->top, off + start, r->old_buf + start, at - start, 0);
        if (ret) {
            return rebase_fail(r, "writing the image", off + start, ret);
        }
    }
    return 0;
}

static int rebase_range(struct rebase *r, uint64_t off, uint64_t *len)
{
    bool old_zero, new_zero;
    uint64_t n = *len;
    int ret = rebase_known_zero(r->old, off, &n, &old_zero);
    ret = ret ? ret : rebase_known_zero(r->new, off, &n, &new_zero);
    if (ret) {
        return rebase_fail(r, "looking for data", off, ret);
    }
    if (old_zero && new_zero && (n >= r->unit || n == *len)) {
        *len = n == *len ? n : round_down(off + n, r->unit) - off;
        if (*len) {
            return 0;
        }
        *len = n;
        return 0;
    }
    n = *len < REBASE_BUFFER ? *len : REBASE_BUFFER;
    if (n < *len) { /* ends with a unit */
        uint64_t end = round_down(off + n, r->unit);
        n = end > off ? end - off : n;
    }
    ret = rebase_read(r->old, off, r->old_buf, n);
    if (ret) {
        return rebase_fail(r, "reading the old backing file", off, ret);
    }
    ret = rebase_read(r->new, off, r->new_buf, n);
    if (ret) {
        return rebase_fail(r, "reading the new backing file", off, ret);
    }
    *len = n;
    return rebase_write(r, off, n);
}

static int rebase_data(struct rebase *r)
{
    uint64_t size = block_size(r->top);
    struct block_extent e;
    for (uint64_t off = 0, len; off < size; off += len) {
        if (img_stopped()) {
            return img_stop_error(r->err);
        }
        int ret = block_extent(r->top, off, size - off, &e);
        if (ret) {
            return rebase_fail(r, "looking for data", off, ret);
        }
        len = e.len;
        ret = e.flags & EXTENT_ALLOCATED ? 0 : rebase_range(r, off, &len);
        if (ret) {
            return ret;
        }
        progress_set(&r->img->progress, off + len, size);
    }
    return 0;
}

static int rebase_open_new(struct rebase *r, bool unsafe)
{
    const struct args *a = &r->img->args;
    unsigned flags = 0;
    int ret = img_cache_flags(args_text(a, "src-cache"), &flags, r->err);
    if (ret || !r->name || unsafe) {
        return ret;
    }
    char *path = img_path_beside(block_filename(r->top), r->name);
    r->new = block_open_name(r->img->graph, path, r->format, NULL, flags, r->err);
    free(path);
    return r->new ? 0 : err_prefix(r->err, -EINVAL, "Could not open new backing file");
}

static int rebase_safely(struct rebase *r)
{
    r->old = block_backing(r->top);
    r->unit = block_granule(r->top) <= REBASE_BUFFER ? block_granule(r->top) : BLOCK_SECTOR;
    r->old_buf = block_alloc(REBASE_BUFFER);
    r->new_buf = block_alloc(REBASE_BUFFER);
    int ret = r->old_buf && r->new_buf ? rebase_data(r)
                                       : err_set(r->err, ENOMEM, "no memory for two buffers");
    free(r->old_buf);
    free(r->new_buf);
    return ret;
}

static int rebase_image(struct rebase *r, bool unsafe)
{
    int ret = rebase_open_new(r, unsafe);
    if (ret) {
        return ret;
    }
    progress_start(&r->img->progress, args_has(&r->img->args, "progress") && !r->img->quiet, 1.0);
    ret = unsafe ? 0 : rebase_safely(r);
    if (!ret) {
        /* Data first: with the new name on the medium the old backing file is not needed. */
        ret = block_flush(r->top);
        ret = ret ? err_set(r->err, -ret, "cannot write '%s': %s", block_filename(r->top),
                            strerror(-ret))
                  : block_set_backing(r->top, r->name, r->name ? r->format : NULL, r->err);
    }
    progress_end(&r->img->progress, !ret);
    block_close(r->new);
    return ret;
}

static int rebase_run(struct img *img, struct err *err)
{
    const struct args *a = &img->args;
    const char *name = args_text(a, "backing");
    bool unsafe = args_has(a, "unsafe");
    struct rebase r = {.img = img, .err = err, .format = args_text(a, "backing-format")};
    int ret = img_operands(img, 1, "one image", err);
    if (!ret && !name && !unsafe) {
        ret = err_set(err, EINVAL, "Must specify backing file (-b) or use unsafe mode (-u)");
    }
    ret = ret || !r.format ? ret : img_check_format(r.format, err);
    if (ret) {
        return ret;
    }
    r.name = name && *name ? name : NULL;
    r.top =
        img_open(img, a->operands[0], args_text(a, "format"), args_text(a, "cache"),
                 BLOCK_RDWR | BLOCK_RESIZE | BLOCK_UNMAP | (unsafe ? BLOCK_NO_BACKING : 0), err);
    if (!r.top) {
        return -EINVAL;
    }
    img_hold(NULL);
    ret = rebase_image(&r, unsafe);
    ret = img_close(r.top, ret, err);
    img_release(false);
    return ret;
}

static const struct arg_row rebase_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_CACHE,
    ARG_SRC_CACHE,
    ARG_SHARE,
    ARG_QUIET,
    ARG_PROGRESS,
    ARG_NO_BACKING,
    {"backing", 'b', "BACKING_FILE", "the new one; \"\": none"},
    {"backing-format", 'F', "BACKING_FMT", "its format"},
    {"unsafe", 'u', NULL, "change the name only: the data is the same"},
    ARG_END,
};

const struct img_command cmd_rebase = {
    .name = "rebase",
    .summary = "give an image another backing file",
    .operands = "FILENAME",
    .rows = rebase_rows,
    .run = rebase_run,
};
