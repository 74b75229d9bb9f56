/* map: where the data of an image lies, in it and in the images below. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img/img.h"

struct map {
    struct block *b;
    struct block_extent now; /* what has been found and may still grow */
    uint64_t start;
    bool any, json, first;
};

static bool map_continues(const struct map *m, const struct block_extent *e)
{
    const unsigned shown = EXTENT_DATA | EXTENT_ZERO | EXTENT_ALLOCATED | EXTENT_OFFSET;
    const struct block_extent *n = &m->now;
    if ((n->flags ^ e->flags) & shown || n->depth != e->depth) {
        return false;
    }
    return !(e->flags & EXTENT_OFFSET) ||
           (n->host == e->host && n->host_off + n->len == e->host_off);
}

static const char *map_bool(bool b)
{
    return b ? "true" : "false";
}

static void map_print_json(struct map *m)
{
    const struct block_extent *e = &m->now;
    printf("%s{ \"start\": %llu, \"length\": %llu, \"depth\": %u, \"present\": %s, \"zero\": %s, "
           "\"data\": %s",
           m->first ? "[" : ",\n", (unsigned long long)m->start, (unsigned long long)e->len,
           e->depth, map_bool(e->flags & (EXTENT_ALLOCATED)), map_bool(e->flags & EXTENT_ZERO),
           map_bool(e->flags & EXTENT_DATA));
    if (e->flags & EXTENT_OFFSET) {
        printf(", \"offset\": %llu", (unsigned long long)e->host_off);
    }
    printf("}");
    m->first = false;
}

static int map_print(struct map *m, struct err *err)
{
    const struct block_extent *e = &m->now;
    if (!m->any) {
        return 0;
    }
    if (m->json) {
        map_print_json(m);
        return 0;
    }
    if (!(e->flags & EXTENT_DATA) || e->flags & EXTENT_ZERO) {
        return 0;
    }
    if (!(e->flags & EXTENT_OFFSET)) {
        return err_set(err, EINVAL,
                       "File contains external, encrypted or compressed clusters at byte %llu; "
                       "--output=json shows those",
                       (unsigned long long)m->start);
    }
    printf("%#-16llx%#-16llx%#-16llx%s\n", (unsigned long long)m->start, (unsigned long long)e->len,
           (unsigned long long)e->host_off, e->host ? block_filename(e->host) : "");
    return 0;
}

static int map_walk(struct map *m, uint64_t at, uint64_t end, struct err *err)
{
    if (m->json) {
        m->first = true;
    } else {
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    }
    while (at < end) {
        struct block_extent e;
        int ret = block_extent_chain(m->b, NULL, at, end - at, &e);
        if (ret) {
            return err_set(err, -ret, "Failed to read image metadata of '%s': %s",
                           block_filename(m->b), strerror(-ret));
        }
        if (m->any && map_continues(m, &e)) {
            m->now.len += e.len;
        } else {
            ret = map_print(m, err);
            if (ret) {
                return ret;
            }
            m->now = e;
            m->start = at;
            m->any = true;
        }
        at += e.len;
    }
    int ret = map_print(m, err);
    if (!ret && m->json) {
        printf("%s]\n", m->first ? "[" : "");
    }
    return ret;
}

static int map_run(struct img *img, struct err *err)
{
    struct map m = {NULL};
    uint64_t start = 0, length = UINT64_MAX;
    int ret = img_operands(img, 1, "one image", err);
    ret = ret ? ret : img_wants_json(img, &m.json, err);
    ret = ret ? ret : img_number(img, "start-offset", 0, UINT64_MAX, &start, err);
    ret = ret ? ret : img_number(img, "max-length", 0, UINT64_MAX, &length, err);
    if (ret) {
        return ret;
    }
    m.b = img_open(img, img->args.operands[0], args_text(&img->args, "format"), NULL, 0, err);
    if (!m.b) {
        return -EINVAL;
    }
    uint64_t end = block_size(m.b);
    if (start < end && length < end - start) {
        end = start + length;
    }
    ret = map_walk(&m, start, end, err);
    block_close(m.b);
    return ret;
}

static const struct arg_row map_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_OUTPUT,
    ARG_SHARE,
    ARG_NO_BACKING,
    {"start-offset", 's', "OFFSET", "begin there"},
    {"max-length", 'l', "LEN", "and look at this many bytes"},
    ARG_END,
};

const struct img_command cmd_map = {
    .name = "map",
    .summary = "show where the data of an image lies",
    .operands = "FILENAME",
    .rows = map_rows,
    .run = map_run,
};
