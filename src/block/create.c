/* New images: the file first, then the format in it; what fails leaves no file behind. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/core.h"
#include "block/opts.h"

struct create_call {
    struct block_graph *g;
    const struct block_type *type;
    const char *name;
    struct keyval opts;
    uint64_t size;
    struct err *err;
    int ret;
};

static int create_in_file(struct create_call *c, struct block *file)
{
    struct block_new n = {c->g, c->name, file, c->size, &c->opts};
    int ret = c->type->create(&n, c->err);
    int flushed = ret ? 0 : block_flush(file);
    return flushed ? err_set(c->err, -flushed, "cannot write '%s': %s", c->name, strerror(-flushed))
                   : ret;
}

static void create_called(void *opaque)
{
    struct create_call *c = opaque;
    struct stat st;
    bool was_there = !stat(c->name, &st);
    c->ret = block_protocol_create(c->g, c->name, &c->opts, c->err);
    if (c->ret) {
        return;
    }
    struct block *file = block_open_protocol(c->g, c->name, BLOCK_RDWR | BLOCK_RESIZE, c->err);
    c->ret = file ? create_in_file(c, file) : -EIO;
    block_close(file);
    if (c->ret && !was_there) {
        unlink(c->name);
    }
}

static void create_presets(struct keyval *opts, const struct block_opt *list)
{
    for (; list && list->name; list++) {
        if (list->preset && !keyval_get(opts, list->name)) {
            keyval_add(opts, list->name, list->preset);
        }
    }
}

int block_create(struct block_graph *g, const char *format, const char *name,
                 const struct keyval *opts, struct err *err)
{
    const struct block_type *t = block_type_find(format);
    if (!t || !t->create) {
        return err_set(err, ENOTSUP,
                       t ? "Format driver '%s' does not support image creation"
                         : "Unknown file format '%s'",
                       format);
    }
    int ret = opts_check(opts, t->create_opts, NULL, t->name, err);
    struct create_call c = {g, t, name, {0}, 0, err, 0};
    ret = ret ? ret : block_opt_size(opts, "size", &c.size, err);
    if (!ret && c.size > BLOCK_MAX_SIZE) {
        ret = err_set(err, EFBIG, "Image size must be less than 8 EiB!");
    }
    if (ret) {
        return ret;
    }
    c.size = round_up(c.size, BLOCK_SECTOR);
    opts_copy(&c.opts, opts);
    create_presets(&c.opts, t->create_opts);
    co_run(g->loop, create_called, &c);
    keyval_free(&c.opts);
    return c.ret;
}

int block_measure(const char *format, const struct keyval *opts, struct block *from,
                  struct block_measure *m, struct err *err)
{
    const struct block_type *t = block_type_find(format);
    if (!t || !t->measure) {
        return err_set(err, ENOTSUP,
                       t ? "Block driver '%s' does not support size measurement"
                         : "Unknown file format '%s'",
                       format);
    }
    *m = (struct block_measure){0};
    struct keyval all = {0};
    int ret = opts_check(opts, t->create_opts, NULL, t->name, err);
    opts_copy(&all, opts);
    create_presets(&all, t->create_opts);
    ret = ret ? ret : t->measure(&all, from, m, err);
    keyval_free(&all);
    return ret;
}

struct block *block_temporary_overlay(struct block *base, struct err *err)
{
    const char *dir = getenv("TMPDIR");
    AUTO_FREE char *path = alloc_printf("%s/lodge-XXXXXX", dir ? dir : "/var/tmp"),
                   *size = alloc_printf("%llu", (unsigned long long)base->size);
    struct keyval opts = {0};
    int fd = mkstemp(path);
    if (fd < 0) {
        err_set(err, errno, "cannot make a temporary image '%s': %s", path, strerror(errno));
        return NULL;
    }
    close(fd);
    keyval_add(&opts, "size", size);
    struct block *b = NULL;
    if (!block_create(base->graph, "qcow2", path, &opts, err)) {
        unsigned flags = BLOCK_RDWR | BLOCK_NO_FLUSH | BLOCK_UNMAP;
        b = block_open_name(base->graph, path, "qcow2", NULL, flags, err);
    }
    unlink(path);
    keyval_free(&opts);
    if (b) {
        block_swap_backing(b, base);
    }
    return b;
}
