/*
 * -drive and -blockdev: opens images. Where a drive goes and its device: drive_place.c. What -drive
 * does not know itself is for the image's drivers ("file.locking=off", "l2-cache-size=1M").
 * Throttling and copy-on-read are nodes above the image.
 */
#include "vmm/drives.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/near.h"
#include "block/block.h"
#include "core/device.h"
#include "dev/virtio/drive_policy.h"
#include "vmm/drive_place.h"
#include "vmm/drive_thread.h"

#define THROTTLING "throttling."

/* Options that are not the image's. */
static const char *const own_keys[] = {
    "file",  "id",  "if",   "format", "readonly", "cache",    "aio",    "media",
    "index", "bus", "unit", "werror", "rerror",   "snapshot", "serial", "copy-on-read"};

struct cache_mode {
    const char *name;
    unsigned flags;
};

static const struct cache_mode cache_modes[] = {
    {"writeback", 0},
    {"none", BLOCK_DIRECT},
    {"unsafe", BLOCK_NO_FLUSH},
    {"writethrough", BLOCK_WRITETHROUGH},
    {"directsync", BLOCK_DIRECT | BLOCK_WRITETHROUGH},
};

static int drive_choice(const struct keyval *kv, const char *key, const char *const *list, size_t n,
                        struct err *err)
{
    const char *val = keyval_get(kv, key);
    for (size_t i = 0; val && i < n; i++) {
        if (!strcmp(list[i], val)) {
            return (int)i;
        }
    }
    return val ? err_set(err, EINVAL, "-drive: '%s' is no value of '%s'; the nearest is '%s'", val,
                         key, near_pick(val, list, n))
               : 0;
}

static int drive_cache(const struct keyval *kv, unsigned *flags, struct err *err)
{
    const char *names[ARRAY_LEN(cache_modes)];
    for (size_t i = 0; i < ARRAY_LEN(cache_modes); i++) {
        names[i] = cache_modes[i].name;
    }
    int n = drive_choice(kv, "cache", names, ARRAY_LEN(names), err);
    *flags |= n < 0 ? 0 : cache_modes[n].flags;
    return n < 0 ? n : 0;
}

static int drive_take_policy(const struct keyval *kv, struct drive_policy *p, struct err *err)
{
    static const char *const media[] = {"disk", "cdrom"};
    int w = drive_choice(kv, "werror", on_error_names, ON_ERROR_STOP + 1, err);
    int r = drive_choice(kv, "rerror", on_error_names, ON_ERROR_STOP + 1, err);
    p->write = w > 0 || keyval_get(kv, "werror") ? (enum on_error)w : ON_ERROR_ENOSPC;
    p->read = r > 0 ? (enum on_error)r : ON_ERROR_REPORT;
    int m = drive_choice(kv, "media", media, ARRAY_LEN(media), err);
    return w < 0 ? w : r < 0 ? r : m < 0 ? m : 0;
}

static bool is_own_key(const char *key)
{
    if (!strncmp(key, THROTTLING, strlen(THROTTLING))) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(own_keys); i++) {
        if (!strcmp(key, own_keys[i])) {
            return true;
        }
    }
    return false;
}

/* Nothing names an image: most likely a slip of the pen. */
static int drive_no_image(const struct keyval *kv, struct err *err)
{
    for (size_t i = 0; i < kv->count; i++) {
        const char *key = kv->pairs[i].key;
        const char *near = near_pick(key, own_keys, ARRAY_LEN(own_keys));
        if (strcmp(key, near) && !strchr(key, '.')) {
            return err_set(err, EINVAL, "has no option '%s'; the nearest is '%s'", key, near);
        }
    }
    return err_set(err, EINVAL, "needs file=FILE");
}

/* What the image's drivers get. */
static int drive_image_opts(const struct keyval *kv, struct keyval *out, struct err *err)
{
    const char *aio = keyval_get(kv, "aio"), *readonly = keyval_get(kv, "readonly");
    static const char *const aios[] = {"threads", "native", "io_uring"};
    bool on = false;
    for (size_t i = 0; i < kv->count; i++) {
        if (!is_own_key(kv->pairs[i].key)) {
            keyval_add(out, kv->pairs[i].key, kv->pairs[i].value);
        }
    }
    int ret = drive_choice(kv, "aio", aios, ARRAY_LEN(aios), err);
    ret = ret > 0 ? 0 : ret;
    if (!ret && readonly) {
        ret = value_bool("-drive: readonly", readonly, &on, err);
        keyval_add(out, "read-only", on ? "on" : "off");
    }
    if (!ret && aio) {
        keyval_add(out, "file.aio", aio);
    }
    return ret;
}

static void warn_probed(const struct keyval *kv, struct block *b)
{
    if (!keyval_get(kv, "format") && !keyval_get(kv, "driver") && !strcmp(block_format(b), "raw") &&
        !block_readonly(b)) {
        fprintf(stderr,
                "lodge: warning: Image format was not specified for '%s' and probing guessed raw.\n"
                "         Automatically detecting the format is dangerous for raw images, write "
                "operations on block 0 will be restricted.\n"
                "         Specify the 'raw' format explicitly (format=raw) to remove the "
                "restrictions.\n",
                block_filename(b));
    }
}

/* ---- Filters ---- */

/* A filter above `b`, whose reference it takes; `opts` has what it needs. */
static struct block *drive_wrap(struct block_graph *g, struct block *b, struct keyval *opts,
                                struct err *err)
{
    keyval_add(opts, "file", block_node_name(b));
    unsigned flags = BLOCK_EXCLUSIVE | (block_readonly(b) ? 0 : BLOCK_RDWR);
    struct block *filter = block_open(g, opts, flags, err);
    block_close(b);
    return filter;
}

/* Drives that name one group share the limits that the first of them gives. */
static int drive_make_group(struct block_graph *g, const struct keyval *kv, const char *group,
                            struct err *err)
{
    struct keyval opts = {0};
    AUTO_FREE char *id = alloc_printf("drive-group:%s", group);
    keyval_add(&opts, "qom-type", "throttle-group");
    keyval_add(&opts, "id", id);
    for (size_t i = 0; i < kv->count; i++) {
        const char *key = kv->pairs[i].key;
        if (!strncmp(key, THROTTLING, strlen(THROTTLING)) && strcmp(key, THROTTLING "group")) {
            keyval_add(&opts, key + strlen(THROTTLING), kv->pairs[i].value);
        }
    }
    int ret = block_has_object(g, id) ? 0 : block_add_object(g, &opts, err);
    keyval_free(&opts);
    return ret;
}

static struct block *drive_throttle(struct block_graph *g, const struct keyval *kv, struct block *b,
                                    struct err *err)
{
    struct keyval opts = {0};
    const char *group = keyval_get(kv, THROTTLING "group");
    bool any = false;
    for (size_t i = 0; i < kv->count; i++) {
        const char *key = kv->pairs[i].key;
        if (!strncmp(key, THROTTLING, strlen(THROTTLING))) {
            any = true;
            AUTO_FREE char *limit = alloc_printf("limits.%s", key + strlen(THROTTLING));
            if (!group) {
                keyval_add(&opts, limit, kv->pairs[i].value);
            }
        }
    }
    if (any) {
        AUTO_FREE char *id = alloc_printf("drive-group:%s", group ? group : "");
        keyval_add(&opts, "driver", "throttle");
        if (group) {
            keyval_add(&opts, "throttle-group", id);
        }
        if (group && drive_make_group(g, kv, group, err)) {
            block_close(b);
            b = NULL;
        } else {
            b = drive_wrap(g, b, &opts, err);
        }
    }
    keyval_free(&opts);
    return b;
}

static struct block *drive_add_filters(struct block_graph *g, const struct keyval *kv,
                                       struct block *b, struct err *err)
{
    const char *text = keyval_get(kv, "copy-on-read");
    bool copy = false;
    if (text && value_bool("-drive: copy-on-read", text, &copy, err)) {
        block_close(b);
        return NULL;
    }
    if (copy && block_readonly(b)) {
        err_set(err, EINVAL, "copy-on-read writes to the image, which is read-only here");
        block_close(b);
        return NULL;
    }
    if (copy) {
        struct keyval opts = {0};
        keyval_add(&opts, "driver", "copy-on-read");
        b = drive_wrap(g, b, &opts, err);
        keyval_free(&opts);
    }
    return b ? drive_throttle(g, kv, b, err) : NULL;
}

static struct block *drive_open(struct block_graph *g, const struct options *o,
                                const struct keyval *kv, bool cdrom, struct err *err)
{
    struct keyval opts = {0};
    bool snapshot = o->snapshot;
    unsigned flags = BLOCK_RDWR | BLOCK_EXCLUSIVE;
    const char *file = keyval_get(kv, "file"), *snap = keyval_get(kv, "snapshot");
    int ret = snap ? value_bool("-drive: snapshot", snap, &snapshot, err) : 0;
    ret = ret ? ret : drive_cache(kv, &flags, err);
    ret = ret ? ret : drive_image_opts(kv, &opts, err);
    if (cdrom) {
        keyval_add(&opts, "read-only", "on");
    }
    flags &= snapshot ? ~(unsigned)(BLOCK_RDWR | BLOCK_WRITETHROUGH) : ~0u;
    struct block *b = NULL;
    if (!ret && file) {
        b = block_open_name(g, file, keyval_get(kv, "format"), &opts, flags, err);
    } else if (!ret && !keyval_get(kv, "driver") && !keyval_get(kv, "file.driver")) {
        ret = drive_no_image(kv, err);
    } else if (!ret) {
        b = block_open(g, &opts, flags, err);
    }
    keyval_free(&opts);
    if (b && snapshot) {
        struct block *over = block_temporary_overlay(b, err);
        block_close(b);
        return over ? drive_add_filters(g, kv, over, err) : NULL;
    }
    if (b) {
        warn_probed(kv, b);
        b = drive_add_filters(g, kv, b, err);
    }
    return b;
}

static void drive_close(void *b)
{
    struct err err;
    if (block_sync_close(b, &err)) {
        fprintf(stderr, "lodge: %s\n", err.text);
    }
}

static void drive_add_policy(struct machine *m, const char *id, struct drive_policy p)
{
    struct drive_policy *own = alloc_zero(sizeof(*own));
    *own = p;
    machine_add_backend(m, "drive-policy", id, own, free);
}

static int drive_add(struct machine *m, struct block_graph *g, const struct options *o, unsigned n,
                     struct err *err)
{
    const struct keyval *kv = &o->drives.items[n];
    struct drive_place place;
    int ret = drive_place(m, &o->drives, n, &place, err);
    if (ret) {
        return ret;
    }
    const char *id = place.id;
    if (machine_find_backend(m, "drive", id)) {
        return err_set(err, EEXIST, "-drive: there are two with the id '%s'", id);
    }
    struct drive_policy policy = {0};
    ret = drive_take_policy(kv, &policy, err);
    struct block *b = ret ? NULL : drive_open(g, o, kv, place.cdrom, err);
    if (!b) {
        return ret ? ret : err_prefix(err, -EINVAL, "-drive");
    }
    drive_add_policy(m, id, policy);
    machine_add_backend(m, "drive", id, b, drive_close);
    return 0;
}

static int blockdev_add(struct machine *m, struct block_graph *g, const struct keyval *kv,
                        struct err *err)
{
    const char *name = keyval_get(kv, "node-name");
    if (!name) {
        return err_set(err, EINVAL, "-blockdev: node-name must be given");
    }
    struct block *b = block_open(g, kv, BLOCK_RDWR | BLOCK_EXCLUSIVE, err);
    if (!b) {
        return err_prefix(err, -EINVAL, "-blockdev");
    }
    drive_add_policy(m, name, (struct drive_policy){.write = ON_ERROR_ENOSPC});
    machine_add_backend(m, "blockdev", name, b, drive_close);
    return 0;
}

int drives_add(struct machine *m, const struct options *o, struct err *err)
{
    if (!o->drives.count && !o->blockdevs.count) {
        return 0;
    }
    struct drive_thread *t = drive_thread_new(m, err);
    if (!t) {
        return -ENOMEM;
    }
    struct block_graph *g = drive_thread_graph(t);
    int ret = 0;
    for (size_t i = 0; !ret && i < o->objects.count; i++) {
        ret = block_add_object(g, &o->objects.items[i], err);
    }
    for (size_t i = 0; !ret && i < o->blockdevs.count; i++) {
        ret = blockdev_add(m, g, &o->blockdevs.items[i], err);
    }
    for (size_t i = 0; !ret && i < o->drives.count; i++) {
        ret = drive_add(m, g, o, (unsigned)i, err);
    }
    return ret ? ret : drive_thread_start(t, m, err);
}

struct block_graph *drives_graph(struct machine *m, struct err *err)
{
    struct backend *b = machine_find_backend(m, "drive-loop", "drives");
    struct drive_thread *t = b ? b->obj : drive_thread_new(m, err);
    if (!t || (!b && drive_thread_start(t, m, err))) {
        return NULL;
    }
    return drive_thread_graph(t);
}

/* Behind the thread in the list: it is closed when the thread has ended. */
void drives_keep(struct machine *m, void *block)
{
    struct backend *thread = machine_find_backend(m, "drive-thread", "drives");
    struct backend *b = machine_add_backend(m, "medium", "", block, drive_close);
    m->backends = b->next;
    b->next = thread->next;
    thread->next = b;
}
