/* What is known of an image, for people: the layout that tools and people are used to read. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "img/img.h"

#define DEPTH_MAX 16

static void value_human(struct strbuf *sb, const json_t *v, unsigned depth);

static void entry_human(struct strbuf *sb, const char *name, const json_t *v, unsigned depth)
{
    bool nested = json_is_object(v) || json_is_array(v);
    strbuf_add(sb, "%*s%s:%s", (int)depth * 4, "", name, nested ? "\n" : " ");
    value_human(sb, v, depth + 1);
    if (!nested) {
        strbuf_add(sb, "\n");
    }
}

static void value_human(struct strbuf *sb, const json_t *v, unsigned depth)
{
    if (depth > DEPTH_MAX) {
        return;
    }
    switch (json_typeof(v)) {
    case JSON_STRING: strbuf_add(sb, "%s", json_string_value(v)); break;
    case JSON_INTEGER: strbuf_add(sb, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL: strbuf_add(sb, "%g", json_real_value(v)); break;
    case JSON_TRUE: strbuf_add(sb, "true"); break;
    case JSON_FALSE: strbuf_add(sb, "false"); break;
    case JSON_NULL: strbuf_add(sb, "null"); break;
    case JSON_ARRAY:
        for (size_t i = 0; i < json_array_size(v); i++) {
            AUTO_FREE char *name = alloc_printf("[%zu]", i);
            entry_human(sb, name, json_array_get(v, i), depth);
        }
        break;
    case JSON_OBJECT: {
        const char *key;
        json_t *member;
        json_object_foreach((json_t *)v, key, member)
        {
            AUTO_FREE char *name = alloc_text(key);
            for (char *c = name; *c; c++) {
                *c = *c == '-' ? ' ' : *c;
            }
            entry_human(sb, name, member, depth);
        }
        break;
    }
    }
}

void img_specific_human(struct strbuf *sb, const struct json_t *specific)
{
    const json_t *data = specific ? json_object_get(specific, "data") : NULL;
    if (data && json_object_size(data)) {
        strbuf_add(sb, "Format specific information:\n");
        value_human(sb, data, 1);
    }
}

/* ---- Snapshots ---- */

static void snapshot_line(struct strbuf *sb, const struct block_snapshot *s)
{
    struct strbuf size = {NULL};
    char date[32] = "", clock[32];
    time_t t = s->date_sec;
    struct tm tm;
    if (localtime_r(&t, &tm)) {
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    }
    uint64_t secs = s->vm_clock_nsec / 1000000000;
    snprintf(clock, sizeof(clock), "%02u:%02u:%02u.%03u", (unsigned)(secs / 3600),
             (unsigned)(secs / 60 % 60), (unsigned)(secs % 60),
             (unsigned)(s->vm_clock_nsec / 1000000 % 1000));
    img_human_size(&size, s->vm_state_size);
    strbuf_add(sb, "%-9s %-16s %8s %19s %12s ", s->id, s->name, strbuf_text(&size), date, clock);
    if (s->icount != UINT64_MAX) {
        strbuf_add(sb, "%10llu", (unsigned long long)s->icount);
    } else {
        strbuf_add(sb, "%10s", "");
    }
    strbuf_add(sb, "\n");
    strbuf_free(&size);
}

int img_snapshot_list(struct block *b, struct strbuf *sb, bool titled, struct err *err)
{
    struct block_snapshot *list;
    size_t count;
    int ret = block_snapshots(b, &list, &count);
    if (ret == -ENOTSUP) {
        return 0;
    }
    if (ret) {
        return err_set(err, -ret, "cannot read the snapshots of '%s': %s", block_filename(b),
                       strerror(-ret));
    }
    if (count) {
        strbuf_add(sb, "Snapshot list:\n%-9s %-16s %8s %19s %12s %10s\n", "ID", "TAG", "VM SIZE",
                   "DATE", "VM CLOCK", "ICOUNT");
    }
    for (size_t i = 0; i < count; i++) {
        snapshot_line(sb, &list[i]);
    }
    block_snapshots_free(list, count);
    return 0;
}

/* ---- An image ---- */

static void backing_human(struct block *b, struct strbuf *sb)
{
    const char *format, *name = block_backing_name(b, &format);
    struct err ignored;
    if (!name) {
        return;
    }
    AUTO_FREE char *path = block_backing_path(b, &ignored);
    strbuf_add(sb, "backing file: %s", name);
    if (!path) {
        strbuf_add(sb, " (cannot determine actual path)");
    } else if (strcmp(path, name) != 0) {
        strbuf_add(sb, " (actual path: %s)", path);
    }
    strbuf_add(sb, "\n");
    if (format) {
        strbuf_add(sb, "backing file format: %s\n", format);
    }
}

int img_info_human(struct block *b, struct strbuf *sb, struct err *err)
{
    struct block_info info;
    int ret = block_get_info(b, &info, err);
    if (ret) {
        return ret;
    }
    strbuf_add(sb, "image: %s\nfile format: %s\nvirtual size: ", block_filename(b),
               block_format(b));
    img_human_size(sb, info.size);
    strbuf_add(sb, " (%llu bytes)\ndisk size: ", (unsigned long long)info.size);
    if (info.disk_size == UINT64_MAX) {
        strbuf_add(sb, "unavailable");
    } else {
        img_human_size(sb, info.disk_size);
    }
    strbuf_add(sb, "\n");
    if (info.encrypted) {
        strbuf_add(sb, "encrypted: yes\n");
    }
    if (info.cluster_size) {
        strbuf_add(sb, "cluster_size: %u\n", info.cluster_size);
    }
    if (info.dirty) {
        strbuf_add(sb, "cleanly shut down: no\n");
    }
    backing_human(b, sb);
    ret = img_snapshot_list(b, sb, true, err);
    img_specific_human(sb, info.specific);
    block_info_free(&info);
    return ret;
}
