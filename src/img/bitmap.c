/* bitmap: changes the dirty bitmaps kept in an image, in the order of the options. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "img/img.h"

struct bitmap_run {
    struct img *img;
    struct block *b, *source;
    const char *name;
    uint32_t granularity;
};

static int bitmap_merge(struct bitmap_run *r, const char *from, struct err *err)
{
    struct block_bitmap *m = block_bitmaps(r->source ? r->source : r->b);
    while (m && strcmp(m->name, from) != 0) {
        m = m->next;
    }
    if (!m) {
        return err_set(err, ENOENT, "Dirty bitmap '%s' not found", from);
    }
    if (m->inconsistent) {
        return err_set(err, EINVAL, "Bitmap '%s' is inconsistent and cannot be used", from);
    }
    return block_bitmap_merge(r->b, r->name, m, err);
}

static int bitmap_action(struct bitmap_run *r, const struct arg_given *g, struct err *err)
{
    static const struct {
        const char *name;
        enum bitmap_op op;
    } ops[] = {
        {"add", BITMAP_ADD},       {"remove", BITMAP_REMOVE},   {"clear", BITMAP_CLEAR},
        {"enable", BITMAP_ENABLE}, {"disable", BITMAP_DISABLE},
    };
    const char *what = g->row->name;
    int ret = 0;
    if (!strcmp(what, "merge")) {
        ret = bitmap_merge(r, g->value, err);
    }
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (!strcmp(what, ops[i].name)) {
            ret = block_bitmap_change(r->b, ops[i].op, r->name,
                                      ops[i].op == BITMAP_ADD ? r->granularity : 0, false, err);
        }
    }
    return ret ? err_prefix(err, ret, "Operation %s on bitmap %s failed", what, r->name) : 0;
}

static int bitmap_check(struct bitmap_run *r, struct err *err)
{
    static const char *const names[] = {"add", "remove", "clear", "enable", "disable", "merge"};
    const struct args *a = &r->img->args;
    uint64_t granularity = 0;
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        any = any || args_has(a, names[i]);
    }
    if (!any) {
        return err_set(err, EINVAL,
                       "Need at least one of --add, --remove, --clear, --enable, --disable, or "
                       "--merge");
    }
    if (args_has(a, "granularity") && !args_has(a, "add")) {
        return err_set(err, EINVAL, "granularity only supported with --add");
    }
    if (args_has(a, "source-file") && !args_has(a, "merge")) {
        return err_set(err, EINVAL, "Merge bitmap source file only supported with --merge");
    }
    if (args_has(a, "source-format") && !args_has(a, "source-file")) {
        return err_set(err, EINVAL, "-F only supported with -b");
    }
    int ret = img_number(r->img, "granularity", 512, 1u << 31, &granularity, err);
    if (!ret && granularity & (granularity - 1)) {
        ret = err_set(err, EINVAL, "-g: the granularity must be a power of two");
    }
    r->granularity = (uint32_t)granularity;
    return ret ? ret : img_operands(r->img, 2, "an image and the name of a bitmap", err);
}

static int bitmap_open(struct bitmap_run *r, struct err *err)
{
    const struct args *a = &r->img->args;
    const char *source = args_text(a, "source-file");
    r->name = a->operands[1];
    r->b = img_open(r->img, a->operands[0], args_text(a, "format"), NULL,
                    BLOCK_RDWR | BLOCK_RESIZE | BLOCK_NO_BACKING, err);
    if (!r->b) {
        return -EINVAL;
    }
    if (source) {
        r->source = block_open_name(r->img->graph, source, args_text(a, "source-format"), NULL,
                                    BLOCK_NO_BACKING, err);
    }
    return source && !r->source ? -EINVAL : 0;
}

static int bitmap_run(struct img *img, struct err *err)
{
    struct bitmap_run r = {.img = img};
    int ret = bitmap_check(&r, err);
    ret = ret ? ret : bitmap_open(&r, err);
    img_hold(NULL);
    for (size_t i = 0; !ret && i < img->args.count; i++) {
        ret = bitmap_action(&r, &img->args.given[i], err);
    }
    block_close(r.source);
    ret = r.b ? img_close(r.b, ret, err) : ret;
    img_release(false);
    return ret;
}

static const struct arg_row bitmap_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_NO_BACKING,
    {"add", 0, NULL, "make the bitmap; it records from now on"},
    {"remove", 0, NULL, "delete it"},
    {"clear", 0, NULL, "forget what it has recorded"},
    {"enable", 0, NULL, "record from now on"},
    {"disable", 0, NULL, "record no more"},
    {"merge", 0, "SOURCE", "add what the bitmap SOURCE has"},
    {"granularity", 'g', "GRANULARITY", "with --add: bytes for each bit"},
    {"source-file", 'b', "SOURCE_FILE", "SOURCE is in this image"},
    {"source-format", 'F', "SOURCE_FMT", "which has this format"},
    ARG_END,
};

const struct img_command cmd_bitmap = {
    .name = "bitmap",
    .summary = "change the dirty bitmaps kept in an image",
    .operands = "FILENAME BITMAP",
    .rows = bitmap_rows,
    .run = bitmap_run,
};
