/* dd: copies part of an image into a new one; operands are those of dd(1). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/near.h"
#include "block/copy.h"
#include "img/img.h"

struct dd {
    struct img *img;
    const char *in, *out, *format;
    uint64_t bs, count, skip;
    bool counted;
};

static int dd_number(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *out,
                     struct err *err)
{
    int ret = img_size(name, text, out, err);
    if (!ret && (*out < min || *out > max)) {
        return err_set(err, ERANGE, "%s must be between %llu and %llu, not %s", name,
                       (unsigned long long)min, (unsigned long long)max, text);
    }
    return ret;
}

static int dd_operand(struct dd *d, char *word, struct err *err)
{
    static const char *const names[] = {"bs", "count", "if", "of", "skip"};
    char *value = strchr(word, '=');
    size_t i = 0;
    if (value) {
        *value++ = 0;
    }
    while (i < ARRAY_LEN(names) && strcmp(word, names[i]) != 0) {
        i++;
    }
    if (!value || i == ARRAY_LEN(names)) {
        return err_set(err, EINVAL, "unrecognized operand '%s'; the nearest is '%s='", word,
                       near_pick(word, names, ARRAY_LEN(names)));
    }
    switch (i) {
    case 0: return dd_number("bs", value, 1, INT32_MAX, &d->bs, err);
    case 1: d->counted = true; return dd_number("count", value, 0, BLOCK_MAX_SIZE, &d->count, err);
    case 2: d->in = value; return 0;
    case 3: d->out = value; return 0;
    default: return dd_number("skip", value, 0, BLOCK_MAX_SIZE, &d->skip, err);
    }
}

/* Which bytes: count blocks from the start, of which skip are left out, as published. */
static uint64_t dd_range(const struct dd *d, uint64_t size, uint64_t *from)
{
    uint64_t end = size, bytes;
    if (d->counted && mul_ok(d->count, d->bs, &bytes) && bytes < size) {
        end = bytes;
    }
    if (!mul_ok(d->skip, d->bs, from) || *from > end) {
        *from = end;
    }
    return end - *from;
}

static int dd_copy(struct dd *d, struct block *in, uint64_t from, uint64_t len, struct err *err)
{
    struct img_create create = {
        .name = d->out, .format = d->format, .quiet = true, .size = round_up(len, BLOCK_SECTOR)};
    struct keyval opts = {NULL};
    struct copy_source source = {.b = in, .from = from, .len = len};
    struct copy copy = {.watch = &img_copy_watch,
                        .opaque = d->img,
                        .sources = &source,
                        .source_count = 1,
                        .total = len,
                        .min_zero = 4096,
                        .workers = 8};
    int ret = img_create(d->img, &create, &opts, err);
    keyval_free(&opts);
    if (ret) {
        return ret;
    }
    copy.target = block_open_name(d->img->graph, d->out, d->format, NULL,
                                  BLOCK_RDWR | BLOCK_RESIZE | BLOCK_UNMAP, err);
    if (!copy.target) {
        return -EINVAL;
    }
    copy.target_zero = img_made_zero(d->out);
    ret = copy_run(&copy, err);
    return img_close(copy.target, ret, err);
}

static int dd_image(struct dd *d, struct err *err)
{
    const struct args *a = &d->img->args;
    struct block *in = img_open(d->img, d->in, args_text(a, "format"), NULL, 0, err);
    uint64_t from;
    if (!in) {
        return -EINVAL;
    }
    bool beyond = d->skip && d->skip > block_size(in) / d->bs;
    uint64_t len = dd_range(d, block_size(in), &from);
    if (beyond) {
        img_warn(d->img, "%s: cannot skip to specified offset", d->in);
    }
    img_hold(img_made_zero(d->out) ? d->out : NULL);
    int ret = dd_copy(d, in, from, len, err);
    img_release(ret == -EINTR);
    block_close(in);
    return ret;
}

static int dd_run(struct img *img, struct err *err)
{
    struct dd d = {.img = img, .bs = 512, .format = args_text(&img->args, "target-format")};
    d.format = d.format ? d.format : "raw";
    for (size_t i = 0; i < img->args.operand_count; i++) {
        int ret = dd_operand(&d, img->args.operands[i], err);
        if (ret) {
            return ret;
        }
    }
    if (!d.in || !d.out) {
        return err_set(err, EINVAL, "Must specify both input and output files: if= and of=");
    }
    int ret = img_check_format(d.format, err);
    return ret ? ret : dd_image(&d, err);
}

static const struct arg_row dd_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_SHARE,
    ARG_NO_BACKING,
    {"target-format", 'O', "FMT", "format of the new image (raw)"},
    ARG_END,
};

const struct img_command cmd_dd = {
    .name = "dd",
    .summary = "copy part of an image into a new one",
    .operands = "[bs=SIZE] [count=BLOCKS] [skip=BLOCKS] if=INPUT of=OUTPUT",
    .rows = dd_rows,
    .run = dd_run,
};
