/* Opening and closing, and what the image as a whole is. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/near.h"
#include "base/strbuf.h"
#include "img/io.h"

int io_discard_flags(const char *mode, unsigned *flags, struct err *err)
{
    static const char *const names[] = {"ignore", "unmap", "off", "on"};
    if (!mode) {
        return 0;
    }
    *flags &= ~(unsigned)BLOCK_UNMAP;
    if (!strcmp(mode, "unmap") || !strcmp(mode, "on")) {
        *flags |= BLOCK_UNMAP;
        return 0;
    }
    return !strcmp(mode, "ignore") || !strcmp(mode, "off")
               ? 0
               : err_set(err, EINVAL, "Invalid discard option: '%s'; the nearest is '%s'", mode,
                         near_pick(mode, names, 4));
}

/* -s: writes go to a file that goes away with the program. */
static struct block *io_open_snapshot(struct io *io, struct block *below, unsigned flags,
                                      struct err *err)
{
    const char *tmp = getenv("TMPDIR");
    AUTO_FREE char *name = alloc_printf("%s/lodge-io-XXXXXX", tmp ? tmp : "/var/tmp");
    AUTO_CLOSE int fd = mkstemp(name);
    if (fd < 0) {
        err_set(err, errno, "cannot make the file '%s': %s", name, strerror(errno));
        return NULL;
    }
    struct keyval opts = {NULL};
    AUTO_FREE char *size = alloc_printf("%llu", (unsigned long long)block_size(below));
    keyval_add(&opts, "size", size);
    int ret = block_create(io->img.graph, "qcow2", name, &opts, err);
    keyval_free(&opts);
    struct block *b =
        ret ? NULL : block_open_name(io->img.graph, name, "qcow2", NULL, flags | BLOCK_RDWR, err);
    unlink(name);
    if (b) {
        block_swap_backing(b, below);
    }
    return b;
}

/* -C: takes the reference. */
static struct block *io_copy_on_read(struct io *io, struct block *b, unsigned flags,
                                     struct err *err)
{
    struct keyval opts = {NULL};
    keyval_add(&opts, "driver", "copy-on-read");
    keyval_add(&opts, "file", block_node_name(b));
    struct block *top = NULL;
    if (block_readonly(b)) {
        err_set(err, EINVAL, "copy-on-read writes to the image, which is opened read-only");
    } else {
        top = block_open(io->img.graph, &opts, flags, err);
    }
    keyval_free(&opts);
    block_close(b);
    return top;
}

int io_open(struct io *io, struct keyval *opts, unsigned flags, bool snapshot, bool copy)
{
    struct err err;
    if (io->b) {
        fprintf(stderr, "%s: file open already, try 'help close'\n", io->img.program);
        return -EBUSY;
    }
    struct block *b =
        block_open(io->img.graph, opts, snapshot ? flags & ~(unsigned)BLOCK_RDWR : flags, &err);
    if (b && snapshot) {
        struct block *top = io_open_snapshot(io, b, flags | BLOCK_NO_FLUSH, &err);
        block_close(b);
        b = top;
    }
    b = b && copy ? io_copy_on_read(io, b, flags, &err) : b;
    if (!b) {
        const char *name = keyval_get(opts, "filename");
        fprintf(stderr, "%s: can't open%s%s: %s\n", io->img.program, name ? " device " : "",
                name ? name : "", err.text);
        return -EINVAL;
    }
    io->b = b;
    io->flags = flags;
    if (opts != &io->opts) {
        keyval_free(&io->opts);
        io->opts = *opts;
        *opts = (struct keyval){NULL};
    }
    return 0;
}

int io_close(struct io *io)
{
    struct err err;
    io_drain(io);
    int ret = io->b ? block_sync_close(io->b, &err) : 0;
    io->b = NULL;
    if (ret) {
        fprintf(stderr, "%s: %s\n", io->img.program, err.text);
    }
    return ret;
}

int io_open_run(struct io_call *c)
{
    struct keyval opts = {NULL};
    struct err err;
    unsigned flags = BLOCK_UNMAP | (c->has['r'] ? 0 : BLOCK_RDWR | BLOCK_RESIZE) |
                     (c->has['n'] ? BLOCK_DIRECT : 0) | (c->has['U'] ? BLOCK_FORCE_SHARE : 0);
    int ret = c->value['o'] ? keyval_parse(&opts, c->value['o'], NULL, &err) : 0;
    ret = ret ? ret : img_cache_flags(c->value['t'], &flags, &err);
    ret = ret ? ret : io_discard_flags(c->value['d'], &flags, &err);
    if (ret) {
        fprintf(stderr, "%s: %s\n", c->io->img.program, err.text);
    } else if (!c->count && !opts.count) {
        ret = io_usage(c);
    } else {
        if (c->count) {
            keyval_add(&opts, "filename", c->words[0]);
        }
        ret = io_open(c->io, &opts, flags, c->has['s'], c->has['C']);
    }
    keyval_free(&opts);
    return ret;
}

/* Closes it and opens it again. */
int io_reopen_run(struct io_call *c)
{
    struct io *io = c->io;
    struct keyval more = {NULL};
    struct err err;
    unsigned flags = io->flags;
    int ret = c->value['o'] ? keyval_parse(&more, c->value['o'], NULL, &err) : 0;
    if (c->value['c']) {
        flags &= ~(unsigned)(BLOCK_DIRECT | BLOCK_NO_FLUSH | BLOCK_WRITETHROUGH);
        ret = ret ? ret : img_cache_flags(c->value['c'], &flags, &err);
    }
    if (ret) {
        fprintf(stderr, "%s: %s\n", io->img.program, err.text);
    } else if (c->has['r'] && c->has['w']) {
        ret = io_usage(c);
    } else {
        flags = c->has['r'] ? flags & ~(unsigned)(BLOCK_RDWR | BLOCK_RESIZE) : flags;
        flags |= c->has['w'] ? BLOCK_RDWR | BLOCK_RESIZE : 0;
        for (size_t i = 0; i < more.count; i++) {
            keyval_remove(&io->opts, more.pairs[i].key);
            keyval_add(&io->opts, more.pairs[i].key, more.pairs[i].value);
        }
        ret = io_close(io);
        ret = ret ? ret : io_open(io, &io->opts, flags, false, false);
    }
    keyval_free(&more);
    return ret;
}

/* ---- Showing ---- */

static int io_extent_fail(int ret)
{
    printf("Failed to query allocation status: %s\n", strerror(-ret));
    return ret;
}

int io_alloc_run(struct io_call *c)
{
    uint64_t off, len = BLOCK_SECTOR, sum = 0, size = block_size(c->io->b);
    int ret = io_number(c->words[0], &off);
    if (!ret && c->count > 1) {
        ret = io_number(c->words[1], &len);
    }
    if (ret) {
        return ret;
    }
    if (off >= size || len > size - off) {
        len = off < size ? size - off : 0;
    }
    for (uint64_t at = off; at < off + len;) {
        struct block_extent e;
        ret = block_extent(c->io->b, at, off + len - at, &e);
        if (ret) {
            return io_extent_fail(ret);
        }
        sum += e.flags & EXTENT_ALLOCATED ? e.len : 0;
        at += e.len;
    }
    struct strbuf sb = {NULL};
    io_size_text(&sb, (double)off);
    printf("%llu/%llu bytes allocated at offset %s\n", (unsigned long long)sum,
           (unsigned long long)len, strbuf_text(&sb));
    strbuf_free(&sb);
    return 0;
}

static void map_line(uint64_t start, uint64_t len, bool allocated)
{
    struct strbuf a = {NULL}, b = {NULL};
    io_size_text(&a, (double)len);
    io_size_text(&b, (double)start);
    printf("%s (0x%llx) bytes %s allocated at offset %s (0x%llx)\n", strbuf_text(&a),
           (unsigned long long)len, allocated ? "   " : "not", strbuf_text(&b),
           (unsigned long long)start);
    strbuf_free(&a);
    strbuf_free(&b);
}

int io_map_run(struct io_call *c)
{
    uint64_t size = block_size(c->io->b), start = 0, at = 0;
    bool was = false;
    while (at < size) {
        struct block_extent e;
        int ret = block_extent(c->io->b, at, size - at, &e);
        if (ret) {
            return io_extent_fail(ret);
        }
        bool now = e.flags & EXTENT_ALLOCATED;
        if (at > start && now != was) {
            map_line(start, at - start, was);
            start = at;
        }
        was = now;
        at += e.len;
    }
    if (at > start) {
        map_line(start, at - start, was);
    }
    return 0;
}

/* The machine's state lies behind what the top table's entries for the disk reach. */
static uint64_t vmstate_offset(const struct block_info *info)
{
    const json_t *data = info->specific ? json_object_get(info->specific, "data") : NULL;
    if (!data || !json_object_get(data, "refcount-bits")) {
        return 0;
    }
    bool extended = json_is_true(json_object_get(data, "extended-l2"));
    uint64_t reach = (uint64_t)info->cluster_size * (info->cluster_size / (extended ? 16 : 8));
    return reach ? (info->size + reach - 1) / reach * reach : 0;
}

int io_info_run(struct io_call *c)
{
    struct block_info info;
    struct err err;
    struct strbuf sb = {NULL};
    int ret = block_get_info(c->io->b, &info, &err);
    if (ret) {
        fprintf(stderr, "%s: %s\n", c->io->img.program, err.text);
        return ret;
    }
    strbuf_add(&sb, "format name: %s\ncluster size: ", block_format(c->io->b));
    io_size_text(&sb, info.cluster_size);
    strbuf_add(&sb, "\nvm state offset: ");
    io_size_text(&sb, (double)vmstate_offset(&info));
    strbuf_add(&sb, "\n");
    img_specific_human(&sb, info.specific);
    printf("%s", strbuf_text(&sb));
    strbuf_free(&sb);
    block_info_free(&info);
    return 0;
}
