/* Commands for devices by which host and guest agree: balloon, watchdog, generation ID. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/near.h"
#include "core/machine.h"
#include "dev/misc/vmgenid.h"
#include "dev/virtio/virtio_balloon.h"
#include "monitor/internal.h"

static struct virtio_balloon *need_balloon(struct monitor *mon, struct err *err)
{
    struct virtio_balloon *b = virtio_balloon_find(mon->machine);
    if (!b) {
        err_set(err, ENODEV, "No balloon device has been activated");
    }
    return b;
}

int cmd_balloon(struct monitor *mon, struct command_args *a, struct err *err)
{
    long long mib;
    struct virtio_balloon *b;
    int ret = args_number(a, 0, "target", &mib, err);
    if (!ret && (mib <= 0 || mib > INT64_MAX >> 20)) {
        ret = err_set(err, EINVAL, "Parameter 'target' expects a size");
    }
    b = ret ? NULL : need_balloon(mon, err);
    if (!b) {
        return ret ? ret : -ENODEV;
    }
    virtio_balloon_set_target(b, (uint64_t)mib << 20);
    return 0;
}

int info_balloon(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct virtio_balloon *b = need_balloon(mon, err);
    struct strbuf sb = {0};
    if (!b) {
        return -ENODEV;
    }
    monitor_put(mon, "balloon: actual=%" PRIu64 "\n", virtio_balloon_actual(b) >> 20);
    virtio_balloon_print_stats(b, &sb);
    monitor_put(mon, "%s", strbuf_text(&sb));
    strbuf_free(&sb);
    return 0;
}

int cmd_watchdog_action(struct monitor *mon, struct command_args *a, struct err *err)
{
    const char *name = args_need(a, 0, "action", err);
    for (unsigned i = 0; name && i < WATCHDOG_ACTIONS; i++) {
        if (!strcmp(name, watchdog_action_names[i])) {
            mon->machine->config.watchdog = i;
            return 0;
        }
    }
    return name ? err_set(err, EINVAL, "there is no action '%s'; the nearest is '%s'", name,
                          near_pick(name, watchdog_action_names, WATCHDOG_ACTIONS))
                : -EINVAL;
}

int info_vmgenid(struct monitor *mon, struct command_args *a, struct err *err)
{
    char guid[VMGENID_TEXT];
    if (!vmgenid_text(mon->machine, guid)) {
        return err_set(err, ENODEV, "VM Generation ID device not found");
    }
    monitor_put(mon, "%s\n", guid);
    return 0;
}
