/* info: what an image is, and what lies below it. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "img/img.h"

#define CHAIN_MAX 200

static json_t *snapshots_json(struct block *b)
{
    struct block_snapshot *list;
    size_t count;
    if (block_snapshots(b, &list, &count)) {
        return NULL;
    }
    json_t *all = count ? json_array() : NULL;
    for (size_t i = 0; i < count; i++) {
        const struct block_snapshot *s = &list[i];
        json_t *j = json_pack("{s:s s:s s:I s:I s:I s:I s:I}", "id", s->id, "name", s->name,
                              "vm-state-size", (json_int_t)s->vm_state_size, "date-sec",
                              (json_int_t)s->date_sec, "date-nsec", (json_int_t)s->date_nsec,
                              "vm-clock-sec", (json_int_t)(s->vm_clock_nsec / 1000000000),
                              "vm-clock-nsec", (json_int_t)(s->vm_clock_nsec % 1000000000));
        if (j && s->icount != UINT64_MAX) {
            json_object_set_new(j, "icount", json_integer((json_int_t)s->icount));
        }
        json_array_append_new(all, j);
    }
    block_snapshots_free(list, count);
    return all;
}

static void backing_json(struct block *b, json_t *j)
{
    const char *format, *name = block_backing_name(b, &format);
    struct err ignored;
    if (!name) {
        return;
    }
    AUTO_FREE char *path = block_backing_path(b, &ignored);
    json_object_set_new(j, "backing-filename", json_string(name));
    if (path) {
        json_object_set_new(j, "full-backing-filename", json_string(path));
    }
    if (format) {
        json_object_set_new(j, "backing-filename-format", json_string(format));
    }
}

static json_t *info_json(struct block *b, struct err *err)
{
    struct block_info info;
    if (block_get_info(b, &info, err)) {
        return NULL;
    }
    json_t *j = json_pack("{s:s s:s s:I}", "filename", block_filename(b), "format", block_format(b),
                          "virtual-size", (json_int_t)info.size);
    if (!j) {
        block_info_free(&info);
        err_set(err, EINVAL, "the name of '%s' is not UTF-8, which JSON needs", block_filename(b));
        return NULL;
    }
    if (info.disk_size != UINT64_MAX) {
        json_object_set_new(j, "actual-size", json_integer((json_int_t)info.disk_size));
    }
    if (info.cluster_size) {
        json_object_set_new(j, "cluster-size", json_integer(info.cluster_size));
    }
    if (info.encrypted) {
        json_object_set_new(j, "encrypted", json_true());
    }
    if (info.compressed) {
        json_object_set_new(j, "compressed", json_true());
    }
    backing_json(b, j);
    json_t *snapshots = snapshots_json(b);
    if (snapshots) {
        json_object_set_new(j, "snapshots", snapshots);
    }
    if (!info.remote) {
        json_object_set_new(j, "dirty-flag", json_boolean(info.dirty));
    }
    if (info.specific) {
        json_object_set(j, "format-specific", info.specific);
    }
    block_info_free(&info);
    return j;
}

/* Each image is opened alone: one that is broken or not there spoils only what is below. */
struct chain {
    char *names[CHAIN_MAX]; /* against loops */
    size_t count;
};

static int chain_step(struct chain *c, const char *name, struct err *err)
{
    for (size_t i = 0; i < c->count; i++) {
        if (!strcmp(c->names[i], name)) {
            return err_set(err, ELOOP, "Backing file '%s' creates an infinite loop.", name);
        }
    }
    if (c->count == CHAIN_MAX) {
        return err_set(err, ELOOP, "more than %d images on top of each other", CHAIN_MAX);
    }
    c->names[c->count++] = strdup(name);
    return 0;
}

static int info_one(struct block *b, bool json, json_t *all, struct strbuf *sb, struct err *err)
{
    if (!json) {
        if (sb->len) {
            strbuf_add(sb, "\n");
        }
        return img_info_human(b, sb, err);
    }
    json_t *j = info_json(b, err);
    return j && !json_array_append_new(all, j) ? 0 : -EINVAL;
}

static int info_chain(struct img *img, struct block *b, bool json, json_t *all, struct strbuf *sb,
                      struct err *err)
{
    struct chain c = {.count = 0};
    bool chain = args_has(&img->args, "backing-chain");
    int ret = chain_step(&c, block_filename(b), err);
    while (!ret && b) {
        const char *format;
        ret = info_one(b, json, all, sb, err);
        bool more = !ret && chain && block_backing_name(b, &format);
        char *path = more ? block_backing_path(b, err) : NULL;
        struct block *below = NULL;
        if (more) {
            ret = path ? chain_step(&c, path, err) : -EINVAL;
            below = ret ? NULL
                        : block_open_name(
                              img->graph, path, format, NULL,
                              BLOCK_NO_BACKING | BLOCK_NO_IO |
                                  (args_has(&img->args, "force-share") ? BLOCK_FORCE_SHARE : 0),
                              err);
            ret = below || ret ? ret : -EINVAL;
        }
        free(path);
        block_close(b);
        b = below;
    }
    while (c.count) {
        free(c.names[--c.count]);
    }
    block_close(b);
    return ret;
}

static int info_run(struct img *img, struct err *err)
{
    bool json;
    int ret = img_operands(img, 1, "one image", err);
    ret = ret ? ret : img_wants_json(img, &json, err);
    if (ret) {
        return ret;
    }
    struct block *b = img_open(img, img->args.operands[0], args_text(&img->args, "format"), NULL,
                               BLOCK_NO_BACKING | BLOCK_NO_IO, err);
    if (!b) {
        return -EINVAL;
    }
    json_t *all = json_array();
    struct strbuf sb = {NULL};
    ret = info_chain(img, b, json, all, &sb, err);
    if (!ret && json) {
        img_print_json(args_has(&img->args, "backing-chain") ? all : json_array_get(all, 0));
    } else if (!ret) {
        printf("%s", strbuf_text(&sb));
    }
    strbuf_free(&sb);
    json_decref(all);
    return ret;
}

static const struct arg_row info_rows[] = {
    ARG_HELP,       ARG_OBJECT,
    ARG_IMAGE_OPTS, ARG_FORMAT,
    ARG_OUTPUT,     ARG_SHARE,
    ARG_NO_BACKING, {"backing-chain", 0, NULL, "also show the images below"},
    ARG_END,
};

const struct img_command cmd_info = {
    .name = "info",
    .summary = "show what an image is",
    .operands = "FILENAME",
    .rows = info_rows,
    .run = info_run,
};
