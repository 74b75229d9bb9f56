/* amend: changes options of an image that is there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "img/img.h"

static void amend_progress(void *opaque, uint64_t done, uint64_t all)
{
    progress_set(opaque, done, all);
}

static int amend_help(const char *format, struct err *err)
{
    int ret = format ? img_check_format(format, err)
                     : err_set(err, EINVAL, "amend -o help needs a format, as -f");
    const struct block_opt *list = ret ? NULL : block_amend_opts(format);
    if (!ret && !list) {
        ret = err_set(err, ENOTSUP, "Format driver '%s' does not support option amendment", format);
    }
    if (!ret) {
        AUTO_FREE char *title = alloc_printf("Amend options for '%s':", format);
        img_print_options(title, list);
    }
    return ret;
}

static int amend_image(struct img *img, struct block *b, const struct keyval *opts, struct err *err)
{
    const struct block_opt *list = block_amend_opts(block_format(b));
    if (!list) {
        return err_set(err, ENOTSUP, "Format driver '%s' does not support option amendment",
                       block_format(b));
    }
    int ret = img_check_options(opts, list, block_format(b), err);
    if (ret) {
        struct err other;
        bool create = !img_check_options(opts, block_create_opts(block_format(b)), "", &other);
        return create ? err_set(err, EINVAL,
                                "an option in -o is only supported for image "
                                "creation; -o help lists those that can be amended")
                      : ret;
    }
    progress_start(&img->progress, args_has(&img->args, "progress") && !img->quiet, 1.0);
    ret = block_amend(b, opts, args_has(&img->args, "force"), amend_progress, &img->progress, err);
    progress_end(&img->progress, !ret);
    return ret;
}

static int amend_open(struct img *img, const struct keyval *opts, struct err *err)
{
    const struct args *a = &img->args;
    const char *format = args_text(a, "format");
    if (!args_has(a, "options")) {
        return err_set(err, EINVAL, "Must specify options (-o)");
    }
    if (keyval_get(opts, "help")) {
        return amend_help(format, err);
    }
    int ret = img_operands(img, 1, "one image", err);
    if (ret) {
        return ret;
    }
    struct block *b = img_open(img, a->operands[0], format, args_text(a, "cache"),
                               BLOCK_RDWR | BLOCK_RESIZE, err);
    if (!b) {
        return -EINVAL;
    }
    img_hold(NULL);
    ret = amend_image(img, b, opts, err);
    ret = img_close(b, ret, err);
    img_release(false);
    return ret;
}

static int amend_run(struct img *img, struct err *err)
{
    struct keyval opts = {NULL};
    int ret = img_collect_options(img, &opts, err);
    ret = ret ? ret : amend_open(img, &opts, err);
    keyval_free(&opts);
    return ret;
}

static const struct arg_row amend_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_CACHE,
    ARG_QUIET,
    ARG_PROGRESS,
    ARG_NO_BACKING,
    {"options", 'o', "OPTIONS", "the new values: NAME=VALUE,...; 'help' lists them"},
    {"force", 0, NULL, "allow what can lose access to the data"},
    ARG_END,
};

const struct img_command cmd_amend = {
    .name = "amend",
    .summary = "change options of an image",
    .operands = "FILENAME",
    .rows = amend_rows,
    .run = amend_run,
};
