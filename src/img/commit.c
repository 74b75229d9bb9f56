/*
 * commit: what an image holds goes into the one below, or one further below (-b), which the layers
 * in between are then wrong about. The chain is put together here: only the base is written.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/copy.h"
#include "img/img.h"

#define CHAIN_MAX 200

struct commit {
    struct img *img;
    struct block *top, *base; /* base: borrowed from the layer above it */
    const char *base_name;
    const char *cache;
    uint64_t rate;
    bool drop; /* the image is not emptied afterwards */
};

/* Opens what is below `b`, and puts it there; it is the base when its name is. */
static int commit_open_below(struct commit *c, struct block *b, struct block **below,
                             struct err *err)
{
    const char *format;
    if (!block_backing_name(b, &format)) {
        return c->base_name ? err_set(err, EINVAL, "Did not find '%s' in the backing chain of '%s'",
                                      c->base_name, block_filename(c->top))
                            : err_set(err, EINVAL, "Image does not have a backing file: '%s'",
                                      block_filename(b));
    }
    char *path = block_backing_path(b, err);
    if (!path) {
        return -EINVAL;
    }
    bool is_base = !c->base_name || !strcmp(path, c->base_name);
    unsigned flags = is_base ? BLOCK_RDWR | BLOCK_RESIZE | BLOCK_UNMAP : BLOCK_NO_BACKING;
    int ret = img_cache_flags(c->cache, &flags, err);
    *below = ret ? NULL : block_open_name(c->img->graph, path, format, NULL, flags, err);
    free(path);
    if (!*below) {
        return ret ? ret : -EINVAL;
    }
    block_swap_backing(b, *below);
    block_close(*below); /* b has it now */
    c->base = is_base ? *below : NULL;
    return 0;
}

static int commit_open(struct commit *c, struct err *err)
{
    const struct args *a = &c->img->args;
    c->top = img_open(c->img, a->operands[0], args_text(a, "format"), c->cache,
                      BLOCK_RDWR | BLOCK_RESIZE | BLOCK_NO_BACKING | BLOCK_UNMAP, err);
    struct block *at = c->top;
    for (unsigned depth = 0; at && !c->base; depth++) {
        int ret = depth < CHAIN_MAX ? commit_open_below(c, at, &at, err)
                                    : err_set(err, ELOOP, "too many images on top of each other");
        if (ret) {
            return ret;
        }
    }
    return c->top ? 0 : -EINVAL;
}

static int commit_data(struct commit *c, struct err *err)
{
    const struct block_commit how = {
        .watch = &img_copy_watch, .opaque = c->img, .rate = c->rate, .keep = c->drop};
    return block_commit(c->top, c->base, &how, err);
}

static int commit_all(struct commit *c, struct err *err)
{
    struct progress *p = &c->img->progress;
    int ret = commit_open(c, err);
    if (ret) {
        block_close(c->top);
        return ret;
    }
    progress_start(p, args_has(&c->img->args, "progress") && !c->img->quiet, 1.0);
    ret = commit_data(c, err);
    progress_end(p, !ret);
    struct block *base = block_ref(c->base);
    ret = img_close(c->top, ret, err);
    ret = img_close(base, ret, err);
    if (!ret && !c->img->quiet) {
        printf("Image committed.\n");
    }
    return ret;
}

static int commit_run(struct img *img, struct err *err)
{
    const struct args *a = &img->args;
    struct commit c = {
        .img = img,
        .base_name = args_text(a, "base"),
        .cache = args_text(a, "cache"),
        .drop = args_has(a, "drop") || args_has(a, "base"),
    };
    int ret = img_operands(img, 1, "one image", err);
    ret = ret ? ret : img_number(img, "rate-limit", 1, BLOCK_MAX_SIZE, &c.rate, err);
    if (ret) {
        return ret;
    }
    img_hold(NULL);
    ret = commit_all(&c, err);
    img_release(false);
    return ret;
}

static const struct arg_row commit_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_CACHE,
    ARG_QUIET,
    ARG_PROGRESS,
    ARG_NO_BACKING,
    {"base", 'b', "BASE", "the image below that takes the data; implies -d"},
    {"rate-limit", 'r', "RATE", "bytes a second"},
    {"drop", 'd', NULL, "do not empty the image: it will be deleted"},
    ARG_END,
};

const struct img_command cmd_commit = {
    .name = "commit",
    .summary = "write what an image holds into the one below",
    .operands = "FILENAME",
    .rows = commit_rows,
    .run = commit_run,
};
