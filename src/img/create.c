/* create: a new image; also for the commands that make their target. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "img/img.h"

/* The backing file as the new image will see it: is it there, of which format and size? */
static int create_look_at_backing(struct img *img, const struct img_create *c, uint64_t *size,
                                  struct err *err)
{
    AUTO_FREE char *path = img_path_beside(c->name, c->backing);
    unsigned flags = c->backing_format ? BLOCK_NO_IO : 0;
    struct block *b = block_open_name(img->graph, path, c->backing_format, NULL, flags, err);
    if (!b) {
        return err_prefix(err, -EINVAL, "%s: Could not open backing image", c->name);
    }
    if (!c->backing_format) {
        err_set(err, EINVAL,
                "%s: Backing file specified without backing format; say -F %s for '%s'", c->name,
                block_format(b), c->backing);
        block_close(b);
        return -EINVAL;
    }
    *size = block_size(b);
    block_close(b);
    return 0;
}

/* In the order in which users know them, with what was not given but is always shown. */
static void create_report(const struct img_create *c, const struct keyval *opts,
                          const struct block_opt *list)
{
    static const char *const first[] = {"cluster_size", "extended_l2", "compression_type", "size",
                                        "backing_file", "backing_fmt", "lazy_refcounts"};
    struct strbuf sb = {NULL};
    const size_t n = sizeof(first) / sizeof(first[0]);
    for (size_t pass = 0; pass <= n; pass++) {
        for (const struct block_opt *o = list; o && o->name; o++) {
            size_t rank = 0;
            while (rank < n && strcmp(first[rank], o->name) != 0) {
                rank++;
            }
            const char *given = keyval_get(opts, o->name);
            const char *value = given ? given : o->preset;
            bool hidden =
                !given && (!strcmp(o->name, "preallocation") || !strcmp(o->name, "compat") ||
                           strchr(o->name, '.') || !strcmp(o->name, "data_file_raw"));
            uint64_t bytes;
            struct err ignored;
            if (rank != pass || !value || hidden) {
                continue;
            }
            if (!strcmp(o->type, "size") && !img_size(o->name, value, &bytes, &ignored)) {
                strbuf_add(&sb, " %s=%llu", o->name, (unsigned long long)bytes);
            } else {
                strbuf_add(&sb, " %s=%s", o->name, value);
            }
        }
    }
    printf("Formatting '%s', fmt=%s%s\n", c->name, c->format, strbuf_text(&sb));
    strbuf_free(&sb);
}

static void create_set(struct keyval *opts, const char *name, const char *value)
{
    if (value) {
        keyval_remove(opts, name);
        keyval_add(opts, name, value);
    }
}

static int create_fill(struct img *img, struct img_create *c, struct keyval *opts, struct err *err)
{
    uint64_t backing_size = UINT64_MAX;
    create_set(opts, "backing_file", c->backing && *c->backing ? c->backing : NULL);
    create_set(opts, "backing_fmt", c->backing_format);
    c->backing = keyval_get(opts, "backing_file");
    c->backing_format = keyval_get(opts, "backing_fmt");
    if (c->backing && !c->unsafe) {
        int ret = create_look_at_backing(img, c, &backing_size, err);
        if (ret) {
            return ret;
        }
    }
    const char *text = keyval_get(opts, "size");
    if (c->size == UINT64_MAX && text) {
        int ret = img_size("size", text, &c->size, err);
        if (ret) {
            return ret;
        }
    }
    c->size = c->size == UINT64_MAX ? backing_size : c->size;
    if (c->size == UINT64_MAX) {
        return err_set(err, EINVAL, "%s: Image creation needs a size parameter", c->name);
    }
    AUTO_FREE char *bytes = alloc_printf("%llu", (unsigned long long)c->size);
    create_set(opts, "size", bytes);
    return 0;
}

int img_create(struct img *img, const struct img_create *create, struct keyval *opts,
               struct err *err)
{
    struct img_create c = *create;
    int ret = img_check_format(c.format, err);
    const struct block_opt *list = ret ? NULL : block_create_opts(c.format);
    if (!ret && !list) {
        ret = err_set(err, ENOTSUP, "Format driver '%s' does not support image creation", c.format);
    }
    ret = ret ? ret : create_fill(img, &c, opts, err);
    ret = ret ? ret : img_check_options(opts, list, c.format, err);
    if (ret) {
        return ret;
    }
    if (!c.quiet) {
        create_report(&c, opts, list);
    }
    ret = block_create(img->graph, c.format, c.name, opts, err);
    return ret ? err_prefix(err, ret, "%s", c.name) : 0;
}

static int create_help(const char *format, struct err *err)
{
    const struct block_opt *list = block_create_opts(format);
    int ret = img_check_format(format, err);
    if (!ret && !list) {
        ret = err_set(err, ENOTSUP, "Format driver '%s' does not support image creation", format);
    }
    if (!ret) {
        AUTO_FREE char *title = alloc_printf("Supported %s options:", format);
        img_print_options(title, list);
    }
    return ret;
}

static int create_run_with(struct img *img, struct keyval *opts, struct err *err)
{
    const struct args *a = &img->args;
    struct img_create c = {
        .format = args_text(a, "format"),
        .backing = args_text(a, "backing"),
        .backing_format = args_text(a, "backing-format"),
        .unsafe = args_has(a, "backing-unsafe"),
        .quiet = img->quiet,
        .size = UINT64_MAX,
    };
    c.format = c.format ? c.format : "raw";
    if (keyval_get(opts, "help")) {
        return create_help(c.format, err);
    }
    if (!a->operand_count) {
        return err_set(err, EINVAL, "create needs the name of the new image");
    }
    if (a->operand_count > 2) {
        return err_set(err, EINVAL, "unexpected argument '%s'; create takes a name and a size",
                       a->operands[2]);
    }
    c.name = a->operands[0];
    if (a->operand_count == 2) {
        int ret = img_size("size", a->operands[1], &c.size, err);
        if (ret) {
            return ret;
        }
    }
    return img_create(img, &c, opts, err);
}

static int create_run(struct img *img, struct err *err)
{
    struct keyval opts = {NULL};
    int ret = img_collect_options(img, &opts, err);
    ret = ret ? ret : create_run_with(img, &opts, err);
    keyval_free(&opts);
    return ret;
}

static const struct arg_row create_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_QUIET,
    ARG_NO_BACKING,
    {"format", 'f', "FMT", "format of the new image (raw)"},
    {"backing", 'b', "BACKING_FILE", "it holds what differs from this image"},
    {"backing-format", 'F', "BACKING_FMT", "format of the backing file"},
    {"backing-unsafe", 'u', NULL, "do not look whether the backing file is there"},
    {"options", 'o', "OPTIONS", "options of the format: NAME=VALUE,...; 'help' lists them"},
    ARG_END,
};

const struct img_command cmd_create = {
    .name = "create",
    .summary = "make a new image",
    .operands = "FILENAME [SIZE]",
    .rows = create_rows,
    .run = create_run,
};
