/* resize: another size for an image; what lies behind a new, smaller end is lost. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/near.h"
#include "img/img.h"

static int resize_prealloc(const char *text, enum block_prealloc *out, struct err *err)
{
    size_t n = 0;
    *out = PREALLOC_OFF;
    for (; block_prealloc_names[n]; n++) {
        if (text && !strcmp(text, block_prealloc_names[n])) {
            *out = (enum block_prealloc)n;
            return 0;
        }
    }
    return text ? err_set(err, EINVAL, "Invalid preallocation mode '%s'; the nearest is '%s'", text,
                          near_pick(text, block_prealloc_names, n))
                : 0;
}

/* "+1G", "-1G" or "10G". */
static int resize_target(struct block *b, const char *text, uint64_t *size, struct err *err)
{
    char sign = *text == '+' || *text == '-' ? *text : 0;
    uint64_t n, old = block_size(b);
    int ret = img_size("size", text + (sign != 0), &n, err);
    if (ret) {
        return ret;
    }
    *size = sign == '-' ? old - n : sign == '+' ? old + n : n;
    if (sign == '-' && n >= old) {
        return err_set(err, EINVAL, "New image size must be positive: '%s' has %llu bytes",
                       block_filename(b), (unsigned long long)old);
    }
    if (*size > BLOCK_MAX_SIZE) {
        return err_set(err, EFBIG, "%s: an image has less than 8 EiB", text);
    }
    *size = round_up(*size, BLOCK_SECTOR);
    return 0;
}

static int resize_image(struct img *img, struct block *b, enum block_prealloc prealloc,
                        struct err *err)
{
    uint64_t size, old = block_size(b);
    int ret = resize_target(b, img->args.operands[1], &size, err);
    if (ret) {
        return ret;
    }
    if (size < old && prealloc != PREALLOC_OFF) {
        return err_set(err, EINVAL, "Preallocation can only be used for growing images");
    }
    if (size < old && !args_has(&img->args, "shrink")) {
        return err_set(err, EINVAL,
                       "Use the --shrink option to perform a shrink operation: it will delete all "
                       "data beyond the new end of '%s'",
                       block_filename(b));
    }
    if (size == old) {
        if (!img->quiet) {
            printf("Image did not change size.\n");
        }
        return 0;
    }
    ret = block_truncate(b, size, prealloc, err);
    if (!ret && !img->quiet) {
        printf("Image resized.\n");
    }
    return ret;
}

static int resize_run(struct img *img, struct err *err)
{
    const struct args *a = &img->args;
    enum block_prealloc prealloc;
    int ret = img_operands(img, 2, "an image and a size", err);
    ret = ret ? ret : resize_prealloc(args_text(a, "preallocation"), &prealloc, err);
    if (ret) {
        return ret;
    }
    struct block *b =
        img_open(img, a->operands[0], args_text(a, "format"), NULL, BLOCK_RDWR | BLOCK_RESIZE, err);
    if (!b) {
        return -EINVAL;
    }
    img_hold(NULL);
    ret = resize_image(img, b, prealloc, err);
    ret = img_close(b, ret, err);
    img_release(false);
    return ret;
}

static const struct arg_row resize_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_QUIET,
    ARG_NO_BACKING,
    {"preallocation", 0, "PREALLOC", "of what is new: off, metadata, falloc or full"},
    {"shrink", 0, NULL, "allow it to become smaller"},
    ARG_END,
};

const struct img_command cmd_resize = {
    .name = "resize",
    .summary = "give an image another size",
    .operands = "FILENAME [+|-]SIZE",
    .rows = resize_rows,
    .run = resize_run,
    .signed_operand = true,
};
