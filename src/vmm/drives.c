/*
 * -drive: opens images and gives those with if=virtio a device. An id that is not given is made
 * from interface and number, as published: virtio0, none1.
 */
#include "vmm/drives.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/near.h"
#include "block/block.h"
#include "core/device.h"
#include "dev/virtio/virtio_devices.h"

static int drive_check_keys(const struct keyval *kv, struct err *err)
{
    static const char *const names[] = {"file",      "id",     "if",     "format",       "readonly",
                                        "read-only", "cache",  "aio",    "discard",      "media",
                                        "index",     "werror", "rerror", "detect-zeroes"};
    for (size_t i = 0; i < kv->count; i++) {
        const char *key = kv->pairs[i].key, *near = near_pick(key, names, ARRAY_LEN(names));
        if (strcmp(key, near)) {
            return err_set(err, EINVAL, "-drive has no option '%s'; the nearest is '%s'", key,
                           near);
        }
    }
    return 0;
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

static int drive_add(struct machine *m, const struct keyval *kv, unsigned n, struct err *err)
{
    const char *interface, *given = keyval_get(kv, "id");
    char made[32];
    int ret = drive_check_keys(kv, err);
    ret = ret ? ret : drive_interface(kv, &interface, err);
    if (ret) {
        return ret;
    }
    snprintf(made, sizeof(made), "%s%u", interface, n);
    const char *id = given ? given : made;
    if (machine_find_backend(m, "drive", id)) {
        return err_set(err, EEXIST, "-drive: there are two with the id '%s'", id);
    }
    struct block *b = block_open(kv, err);
    if (!b) {
        return -EINVAL;
    }
    machine_add_backend(m, "drive", id, b, block_close);
    return 0;
}

int drives_add(struct machine *m, const struct option_list *drives, struct err *err)
{
    int ret = 0;
    for (size_t i = 0; !ret && i < drives->count; i++) {
        ret = drive_add(m, &drives->items[i], (unsigned)i, err);
    }
    return ret;
}

/* Those with if=virtio, in order; drives named by a -device are taken already. */
int drives_add_devices(struct machine *m, const struct option_list *drives, struct err *err)
{
    for (size_t i = 0; i < drives->count; i++) {
        const char *interface, *given = keyval_get(&drives->items[i], "id");
        char id[32];
        if (drive_interface(&drives->items[i], &interface, err) || strcmp(interface, "virtio")) {
            continue;
        }
        snprintf(id, sizeof(id), "%s%zu", interface, i);
        struct keyval args = {0};
        keyval_add(&args, "drive", given ? given : id);
        struct dev *d = dev_new(m, &virtio_blk_type, &args, err);
        keyval_free(&args);
        if (!d) {
            return err_prefix(err, -EINVAL, "-drive");
        }
    }
    return 0;
}
