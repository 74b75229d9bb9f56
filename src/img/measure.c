/* measure: how large a file a new image needs. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img/img.h"

static void measure_print(const struct block_measure *m, bool json)
{
    if (!json) {
        printf("required size: %llu\nfully allocated size: %llu\n", (unsigned long long)m->required,
               (unsigned long long)m->fully_allocated);
        if (m->has_bitmaps) {
            printf("bitmaps size: %llu\n", (unsigned long long)m->bitmaps);
        }
        return;
    }
    json_t *j = json_pack("{s:I s:I}", "required", (json_int_t)m->required, "fully-allocated",
                          (json_int_t)m->fully_allocated);
    if (m->has_bitmaps) {
        json_object_set_new(j, "bitmaps", json_integer((json_int_t)m->bitmaps));
    }
    img_print_json(j);
    json_decref(j);
}

static int measure_source(struct img *img, struct keyval *opts, struct block **from,
                          struct err *err)
{
    const struct args *a = &img->args;
    const char *size = args_text(a, "size"), *snapshot = args_text(a, "snapshot");
    if ((size != NULL) == (a->operand_count == 1) || a->operand_count > 1) {
        return err_set(err, EINVAL, "measure needs either --size N or one image");
    }
    if (size && (snapshot || args_has(a, "format") || args_has(a, "image-opts"))) {
        return err_set(err, EINVAL, "--object, --image-opts, -f and -l need an image, not --size");
    }
    if (size) {
        uint64_t bytes;
        int ret = img_size("--size", size, &bytes, err);
        char text[32];
        snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
        keyval_remove(opts, "size");
        keyval_add(opts, "size", text);
        return ret;
    }
    *from = img_open(img, a->operands[0], args_text(a, "format"), NULL, 0, err);
    if (!*from) {
        return -EINVAL;
    }
    return snapshot ? img_view_snapshot(*from, snapshot, err) : 0;
}

static int measure_run(struct img *img, struct err *err)
{
    const char *format = args_text(&img->args, "target-format");
    struct keyval opts = {NULL};
    struct block *from = NULL;
    struct block_measure m;
    bool json;
    format = format ? format : "raw";
    int ret = img_wants_json(img, &json, err);
    ret = ret ? ret : img_check_format(format, err);
    ret = ret ? ret : img_collect_options(img, &opts, err);
    if (!ret && keyval_get(&opts, "help")) {
        img_print_options("Supported options:", block_create_opts(format));
        keyval_free(&opts);
        return 0;
    }
    ret = ret ? ret : measure_source(img, &opts, &from, err);
    ret = ret ? ret : img_check_options(&opts, block_create_opts(format), format, err);
    ret = ret ? ret : block_measure(format, &opts, from, &m, err);
    if (!ret) {
        measure_print(&m, json);
    }
    block_close(from);
    keyval_free(&opts);
    return ret;
}

static const struct arg_row measure_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_OUTPUT,
    ARG_SHARE,
    ARG_NO_BACKING,
    {"target-format", 'O', "FMT", "format of the new image (raw)"},
    {"options", 'o', "OPTIONS", "options of the new image; 'help' lists them"},
    {"size", 0, "N", "for an empty image of this size"},
    {"snapshot", 'l', "SNAPSHOT_PARAM", "for this snapshot of the image"},
    ARG_END,
};

const struct img_command cmd_measure = {
    .name = "measure",
    .summary = "how large a file a new image needs",
    .operands = "[FILENAME]",
    .rows = measure_rows,
    .run = measure_run,
};
