/*
 * convert: images, one after the other, as a new image. With copy offloading (-C) the host copies
 * between raw images in files if it can; otherwise data is read and written as ever, but not looked
 * at to leave zeros out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "block/block.h"
#include "block/copy.h"
#include "img/img.h"

#define SPARSE_MAX (16u << 20)

struct convert {
    struct img *img;
    const char *target_name, *target_format, *cache, *src_cache, *snapshot;
    struct copy_source *sources;
    size_t count;
    struct copy copy;
    struct keyval opts;
    bool keep, target_opts, quiet; /* keep: the target is there */
    bool made;
};

/* ---- Sources ---- */

int img_view_snapshot(struct block *b, const char *param, struct err *err)
{
    struct keyval kv = {NULL};
    const char *which = param;
    if (!strncmp(param, "snapshot.", 9)) {
        int ret = keyval_parse(&kv, param, NULL, err);
        const char *id = keyval_get(&kv, "snapshot.id"), *name = keyval_get(&kv, "snapshot.name");
        if (ret || (!id && !name)) {
            keyval_free(&kv);
            return ret ? ret
                       : err_set(err, EINVAL, "-l: '%s' has neither snapshot.id nor snapshot.name",
                                 param);
        }
        which = id ? id : name;
    }
    int ret = block_snapshot_view(b, which, err);
    keyval_free(&kv);
    return ret ? err_prefix(err, ret, "Failed to load snapshot") : 0;
}

static int convert_open_sources(struct convert *v, struct err *err)
{
    const struct args *a = &v->img->args;
    v->sources = alloc_array(v->count, sizeof(*v->sources));
    for (size_t i = 0; i < v->count; i++) {
        struct copy_source *s = &v->sources[i];
        s->b = img_open(v->img, a->operands[i], args_text(a, "format"), v->src_cache, 0, err);
        if (!s->b) {
            return -EINVAL;
        }
        int ret = v->snapshot ? img_view_snapshot(s->b, v->snapshot, err) : 0;
        if (ret) {
            return ret;
        }
        s->at = v->copy.total;
        s->len = round_up(block_size(s->b), BLOCK_SECTOR);
        if (s->len > BLOCK_MAX_SIZE - s->at) {
            return err_set(err, EFBIG, "the images together are larger than an image can be");
        }
        v->copy.total += s->len;
    }
    return 0;
}

/* ---- Target ---- */

static int convert_create(struct convert *v, struct err *err)
{
    const struct args *a = &v->img->args;
    struct img_create c = {
        .name = v->target_name,
        .format = v->target_format,
        .backing = args_text(a, "backing"),
        .backing_format = args_text(a, "backing-format"),
        .quiet = true,
        .size = keyval_get(&v->opts, "size") ? UINT64_MAX : v->copy.total,
    };
    v->made = img_made_zero(c.name);
    img_hold(v->made ? c.name : NULL);
    int ret = img_create(v->img, &c, &v->opts, err);
    if (ret) {
        v->made = false;
        img_release(false);
    }
    return ret;
}

/* What is made encrypted is opened with the same key. */
static void convert_key(const struct convert *v, struct keyval *out)
{
    static const char *const names[] = {"encrypt.key-secret", "key-secret"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *id = keyval_get(&v->opts, names[i]);
        if (id) {
            keyval_add(out, names[i], id);
        }
    }
}

static int convert_open_target(struct convert *v, struct err *err)
{
    unsigned flags = BLOCK_RDWR | BLOCK_UNMAP;
    const char *name = v->target_name;
    if (v->target_opts) {
        v->copy.target = img_open_opts(v->img, name, v->cache, flags, err);
    } else if (!img_cache_flags(v->cache, &flags, err)) {
        struct keyval key = {NULL};
        convert_key(v, &key);
        v->copy.target = block_open_name(v->img->graph, name, v->target_format, &key, flags, err);
        keyval_free(&key);
    }
    if (!v->copy.target) {
        return -EINVAL;
    }
    if (block_size(v->copy.target) < v->copy.total) {
        return err_set(err, EFBIG, "'%s' is smaller than what it should hold: %llu of %llu bytes",
                       name, (unsigned long long)block_size(v->copy.target),
                       (unsigned long long)v->copy.total);
    }
    return 0;
}

/* Is all of it known to read as zero? */
static bool convert_target_is_zero(const struct convert *v)
{
    struct block *t = v->copy.target;
    struct block_extent e;
    if (v->made && !block_backing(t) && strcmp(block_format(t), "luks")) {
        return true; /* in a new file there are no zeros that are encrypted */
    }
    uint64_t at = 0, size = block_size(t);
    for (unsigned i = 0; at < size && i < 64; i++) {
        if (block_extent_chain(t, NULL, at, size - at, &e) || !(e.flags & EXTENT_ZERO)) {
            return false;
        }
        at += e.len;
    }
    return at >= size;
}

static int convert_prepare_target(struct convert *v, struct err *err)
{
    struct copy *c = &v->copy;
    int ret = v->keep ? 0 : convert_create(v, err);
    if (!v->made) {
        img_hold(NULL);
    }
    ret = ret ? ret : convert_open_target(v, err);
    if (ret) {
        return ret;
    }
    struct block *backing = block_backing(c->target);
    c->target_zero = args_has(&v->img->args, "target-is-zero") || convert_target_is_zero(v);
    c->skip = backing && keyval_get(&v->opts, "backing_file");
    c->base = v->count == 1 ? block_backing(v->sources[0].b) : NULL;
    c->skip_end = backing ? block_size(backing) : 0;
    if (c->skip) {
        c->zero_behind = v->made;
        c->target_zero = false;
    }
    return 0;
}

/* ---- Options ---- */

static int convert_numbers(struct convert *v, struct err *err)
{
    struct img *img = v->img;
    uint64_t sparse = 4096, workers = 8;
    int ret = img_number(img, "coroutines", 1, COPY_WORKERS_MAX, &workers, err);
    ret = ret ? ret : img_number(img, "sparse", 0, UINT64_MAX, &sparse, err);
    ret = ret ? ret : img_number(img, "rate-limit", 1, BLOCK_MAX_SIZE, &v->copy.rate, err);
    if (!ret && (sparse % BLOCK_SECTOR || sparse > SPARSE_MAX)) {
        ret =
            err_set(err, EINVAL, "-S: %llu is no multiple of 512 up to %u; 0 writes all zeros out",
                    (unsigned long long)sparse, SPARSE_MAX);
    }
    v->copy.min_zero = (uint32_t)sparse;
    v->copy.workers = (unsigned)workers;
    return ret;
}

static int convert_check(struct convert *v, struct err *err)
{
    const struct args *a = &v->img->args;
    unsigned ignored = 0;
    int ret = img_cache_flags(v->cache, &ignored, err);
    ret = ret ? ret : img_cache_flags(v->src_cache, &ignored, err);
    ret = ret ? ret : convert_numbers(v, err);
    if (ret) {
        return ret;
    }
    if (v->target_opts && !v->keep) {
        return err_set(err, EINVAL, "--target-image-opts needs -n: the target has to be there");
    }
    if (v->target_opts && args_has(a, "target-format")) {
        return err_set(err, EINVAL, "--target-image-opts and -O exclude each other");
    }
    if (args_has(a, "target-is-zero") && !v->keep) {
        return err_set(err, EINVAL, "--target-is-zero needs -n: a new target is zero anyway");
    }
    if (args_has(a, "target-is-zero") && args_has(a, "backing")) {
        return err_set(err, EINVAL, "--target-is-zero and -B exclude each other");
    }
    if (args_has(a, "backing") && !args_has(a, "backing-format") &&
        !keyval_get(&v->opts, "backing_fmt")) {
        return err_set(err, EINVAL, "-B needs the format of the backing file, as -F");
    }
    if (v->snapshot && v->count > 1) {
        return err_set(err, EINVAL, "-l takes one image, not several");
    }
    if (v->copy.offload && (v->copy.compressed || v->copy.salvage || args_has(a, "sparse"))) {
        return err_set(err, EINVAL, "Cannot enable copy offloading when %s is used",
                       v->copy.compressed ? "-c"
                       : v->copy.salvage  ? "--salvage"
                                          : "-S");
    }
    if (args_has(a, "skip-broken-bitmaps") && !args_has(a, "bitmaps")) {
        return err_set(err, EINVAL, "--skip-broken-bitmaps needs --bitmaps");
    }
    return v->target_opts ? 0 : img_check_format(v->target_format, err);
}

/* ---- Bitmaps ---- */

static int convert_bitmap(struct convert *v, const struct block_bitmap *m, struct err *err)
{
    struct block *t = v->copy.target;
    int ret = block_bitmap_change(t, BITMAP_ADD, m->name, m->granularity, true, err);
    ret = ret ? ret : block_bitmap_merge(t, m->name, m, err);
    if (!ret && m->enabled) {
        ret = block_bitmap_change(t, BITMAP_ENABLE, m->name, 0, false, err);
    }
    return ret ? err_prefix(err, ret, "Failed to copy the bitmap '%s'", m->name) : 0;
}

static int convert_check_bitmaps(struct convert *v, struct err *err)
{
    const struct args *a = &v->img->args;
    if (!args_has(a, "bitmaps")) {
        return 0;
    }
    if (v->count > 1 || !block_can_bitmaps(v->sources[0].b)) {
        return err_set(err, ENOTSUP, "--bitmaps needs one source, of a format that has bitmaps");
    }
    for (struct block_bitmap *m = block_bitmaps(v->sources[0].b); m; m = m->next) {
        if (m->inconsistent && !args_has(a, "skip-broken-bitmaps")) {
            return err_set(err, EINVAL,
                           "Cannot copy inconsistent bitmap '%s': remove it, or say "
                           "--skip-broken-bitmaps",
                           m->name);
        }
    }
    return 0;
}

static int convert_bitmaps(struct convert *v, struct err *err)
{
    if (!args_has(&v->img->args, "bitmaps")) {
        return 0;
    }
    if (!block_can_bitmaps(v->copy.target)) {
        return err_set(err, ENOTSUP, "Format driver '%s' does not support bitmaps",
                       block_format(v->copy.target));
    }
    for (struct block_bitmap *m = block_bitmaps(v->sources[0].b); m; m = m->next) {
        if (m->inconsistent) {
            img_warn(v->img, "Skipping inconsistent bitmap '%s'", m->name);
            continue;
        }
        int ret = convert_bitmap(v, m, err);
        if (ret) {
            return ret;
        }
    }
    return 0;
}

/* ---- All of it ---- */

static int convert_no_packing(struct convert *v, bool encrypted, struct err *err)
{
    const char *format = block_format(v->copy.target);
    if (encrypted) {
        return err_set(err, ENOTSUP, "Compression and encryption not supported at the same time");
    }
    return strcmp(format, "qcow2")
               ? err_set(err, ENOTSUP, "Compression not supported for this file format: '%s'",
                         format)
               : err_set(err, ENOTSUP,
                         "Compression not supported for '%s', whose data is in a data file",
                         v->target_name);
}

static int convert_copy(struct convert *v, struct err *err)
{
    struct copy *c = &v->copy;
    c->watch = &img_copy_watch;
    c->opaque = v->img;
    c->sources = v->sources;
    c->source_count = v->count;
    struct block_info info;
    int got = block_get_info(c->target, &info, err);
    if (got) {
        return got;
    }
    c->compressed |= info.needs_compressed;
    c->out_of_order &= !info.needs_compressed;
    bool encrypted = info.encrypted;
    block_info_free(&info);
    if (c->compressed && !block_can_compress(c->target)) {
        return convert_no_packing(v, encrypted, err);
    }
    progress_start(&v->img->progress, args_has(&v->img->args, "progress") && !v->quiet, 1.0);
    int ret = copy_run(c, err);
    ret = ret ? ret : convert_bitmaps(v, err);
    progress_end(&v->img->progress, !ret);
    return ret;
}

static int convert_all(struct convert *v, struct err *err)
{
    int ret = convert_check(v, err);
    ret = ret ? ret : convert_open_sources(v, err);
    ret = ret ? ret : convert_check_bitmaps(v, err);
    ret = ret ? ret : convert_prepare_target(v, err);
    ret = ret ? ret : convert_copy(v, err);
    ret = v->copy.target ? img_close(v->copy.target, ret, err) : ret;
    img_release(ret && v->made);
    for (size_t i = 0; v->sources && i < v->count; i++) {
        block_close(v->sources[i].b);
    }
    free(v->sources);
    return ret;
}

static int convert_run(struct img *img, struct err *err)
{
    const struct args *a = &img->args;
    const char *cache = args_text(a, "cache"), *format = args_text(a, "target-format");
    struct convert v = {
        .img = img,
        .target_format = format ? format : "raw",
        .cache = cache ? cache : "unsafe",
        .src_cache = args_text(a, "src-cache"),
        .snapshot = args_text(a, "snapshot"),
        .keep = args_has(a, "no-create"),
        .target_opts = args_has(a, "target-image-opts"),
        .quiet = img->quiet,
        .copy = {.compressed = args_has(a, "compress"),
                 .out_of_order = args_has(a, "out-of-order"),
                 .salvage = args_has(a, "salvage"),
                 .offload = args_has(a, "copy-offload")},
    };
    int ret = img_collect_options(img, &v.opts, err);
    if (!ret && keyval_get(&v.opts, "help")) {
        const struct block_opt *list = block_create_opts(v.target_format);
        ret = img_check_format(v.target_format, err);
        if (!ret) {
            img_print_options("Supported options:", list);
        }
    } else if (!ret && a->operand_count < 2) {
        ret = err_set(err, EINVAL, "convert needs the image to convert and the new one's name");
    } else if (!ret) {
        v.count = a->operand_count - 1;
        v.target_name = a->operands[v.count];
        ret = convert_all(&v, err);
    }
    keyval_free(&v.opts);
    return ret;
}

static const struct arg_row convert_rows[] = {
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
    {"target-image-opts", 0, NULL, "OUTPUT_FILENAME is a list of options; needs -n"},
    {"target-is-zero", 0, NULL, "the target that is there reads as zero; needs -n"},
    {"target-format", 'O', "FMT", "format of the new image (raw)"},
    {"backing", 'B', "BACKING_FILE", "the new image holds what differs from this one"},
    {"backing-format", 'F', "BACKING_FMT", "format of that image"},
    {"options", 'o', "OPTIONS", "options of the new image; 'help' lists them"},
    {"snapshot", 'l', "SNAPSHOT_PARAM", "convert this snapshot, not the disk"},
    {"compress", 'c', NULL, "compress the data"},
    {"no-create", 'n', NULL, "write to an image that is there"},
    {"sparse", 'S', "SPARSE_SIZE", "leave out zeros of this length (4k); 0: write them"},
    {"coroutines", 'm', "NUM", "how many pieces are under way at a time (8)"},
    {"out-of-order", 'W', NULL, "writes need not begin in order"},
    {"copy-offload", 'C', NULL, "let the host copy raw files; no looking for zeros in data"},
    {"rate-limit", 'r', "RATE", "bytes a second"},
    {"salvage", 0, NULL, "go on where the source cannot be read: zeros"},
    {"bitmaps", 0, NULL, "also copy the bitmaps of the source"},
    {"skip-broken-bitmaps", 0, NULL, "but not those that are inconsistent"},
    ARG_END,
};

const struct img_command cmd_convert = {
    .name = "convert",
    .summary = "copy images into a new one, of any format",
    .operands = "FILENAME [FILENAME2 ...] OUTPUT_FILENAME",
    .rows = convert_rows,
    .run = convert_run,
};
