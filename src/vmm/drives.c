/*
 * -drive and -blockdev: opens images and gives those with if=virtio a device. An id that is not
 * given is made from interface and number, as published: virtio0, none1. What -drive does not know
 * itself is for the image's drivers ("file.locking=off", "l2-cache-size=1M").
 *
 * Does not do: werror and rerror other than report and ignore; they take effect with a monitor that
 * can let the guest go on.
 */
#include "vmm/drives.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/near.h"
#include "block/block.h"
#include "core/device.h"
#include "dev/virtio/virtio_devices.h"
#include "vmm/drive_thread.h"

/* Options that are not the image's. */
static const char *const own_keys[] = {"file",   "id",       "if",    "format", "readonly",
                                       "cache",  "aio",      "media", "index",  "werror",
                                       "rerror", "snapshot", "serial"};

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

static int drive_check_policies(const struct keyval *kv, struct err *err)
{
    static const char *const policies[] = {"report", "ignore", "enospc", "stop"};
    static const char *const media[] = {"disk", "cdrom"};
    int w = drive_choice(kv, "werror", policies, ARRAY_LEN(policies), err);
    int r = drive_choice(kv, "rerror", policies, ARRAY_LEN(policies), err);
    int m = drive_choice(kv, "media", media, ARRAY_LEN(media), err);
    return w < 0 ? w : r < 0 ? r : m < 0 ? m : 0;
}

/* The interface: "virtio" is this board's default. */
static int drive_interface(const struct keyval *kv, const char **interface, struct err *err)
{
    static const char *const names[] = {"virtio", "none"};
    const char *want = keyval_get(kv, "if");
    *interface = want ? want : names[0];
    const char *near = near_pick(*interface, names, ARRAY_LEN(names));
    if (strcmp(near, *interface)) {
        return err_set(err, EINVAL, "-drive: there is no interface '%s'; the nearest is '%s'", want,
                       near);
    }
    return 0;
}

static bool is_own_key(const char *key)
{
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

static struct block *drive_open(struct block_graph *g, const struct options *o,
                                const struct keyval *kv, struct err *err)
{
    struct keyval opts = {0};
    bool snapshot = o->snapshot;
    unsigned flags = BLOCK_RDWR | BLOCK_EXCLUSIVE;
    const char *file = keyval_get(kv, "file"), *snap = keyval_get(kv, "snapshot");
    int ret = snap ? value_bool("-drive: snapshot", snap, &snapshot, err) : 0;
    ret = ret ? ret : drive_cache(kv, &flags, err);
    ret = ret ? ret : drive_check_policies(kv, err);
    ret = ret ? ret : drive_image_opts(kv, &opts, err);
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
        return over;
    }
    if (b) {
        warn_probed(kv, b);
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

static int drive_add(struct machine *m, struct block_graph *g, const struct options *o, unsigned n,
                     struct err *err)
{
    const struct keyval *kv = &o->drives.items[n];
    const char *interface, *given = keyval_get(kv, "id");
    char made[32];
    int ret = drive_interface(kv, &interface, err);
    if (ret) {
        return ret;
    }
    snprintf(made, sizeof(made), "%s%u", interface, n);
    const char *id = given ? given : made;
    if (machine_find_backend(m, "drive", id)) {
        return err_set(err, EEXIST, "-drive: there are two with the id '%s'", id);
    }
    struct block *b = drive_open(g, o, kv, err);
    if (!b) {
        return err_prefix(err, -EINVAL, "-drive");
    }
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
    for (size_t i = 0; !ret && i < o->secrets.count; i++) {
        ret = block_add_object(g, &o->secrets.items[i], err);
    }
    for (size_t i = 0; !ret && i < o->blockdevs.count; i++) {
        ret = blockdev_add(m, g, &o->blockdevs.items[i], err);
    }
    for (size_t i = 0; !ret && i < o->drives.count; i++) {
        ret = drive_add(m, g, o, (unsigned)i, err);
    }
    return ret ? ret : drive_thread_start(t, m, err);
}

/* Those with if=virtio, in order; drives named by a -device are taken already. */
int drives_add_devices(struct machine *m, const struct option_list *drives, struct err *err)
{
    for (size_t i = 0; i < drives->count; i++) {
        const char *interface, *given = keyval_get(&drives->items[i], "id"),
                               *serial = keyval_get(&drives->items[i], "serial");
        char id[32];
        if (drive_interface(&drives->items[i], &interface, err) || strcmp(interface, "virtio")) {
            continue;
        }
        snprintf(id, sizeof(id), "%s%zu", interface, i);
        struct keyval args = {0};
        keyval_add(&args, "drive", given ? given : id);
        if (serial) {
            keyval_add(&args, "serial", serial);
        }
        struct dev *d = dev_new(m, &virtio_blk_type, &args, err);
        keyval_free(&args);
        if (!d) {
            return err_prefix(err, -EINVAL, "-drive");
        }
    }
    return 0;
}
