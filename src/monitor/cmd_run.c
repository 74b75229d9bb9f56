/* Commands that run, stop and end the machine. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "chardev/chardev.h"
#include "core/machine.h"
#include "core/vcpu.h"
#include "display/screendump.h"
#include "monitor/internal.h"

int cmd_stop(struct monitor *mon, struct command_args *a, struct err *err)
{
    if (mon->machine->state == MACHINE_RUNNING) {
        machine_pause(mon->machine);
    }
    return 0;
}

int cmd_cont(struct monitor *mon, struct command_args *a, struct err *err)
{
    if (mon->machine->powered_off) {
        return err_set(err, EINVAL, "Resetting the Virtual Machine is required");
    }
    if (mon->machine->state == MACHINE_PAUSED) {
        machine_resume(mon->machine);
    }
    return 0;
}

int cmd_quit(struct monitor *mon, struct command_args *a, struct err *err)
{
    machine_ask(mon->machine, MACHINE_REQ_QUIT, 0);
    return 0;
}

int cmd_reset(struct monitor *mon, struct command_args *a, struct err *err)
{
    machine_ask(mon->machine, MACHINE_REQ_RESET, 0);
    return 0;
}

int cmd_powerdown(struct monitor *mon, struct command_args *a, struct err *err)
{
    const struct board_type *b = mon->machine->board;
    if (!b->power_button) {
        return err_set(err, ENOTSUP, "machine '%s' has no power button", b->name);
    }
    b->power_button(mon->machine);
    return 0;
}

int cmd_nmi(struct monitor *mon, struct command_args *a, struct err *err)
{
    for (unsigned i = 0; i < mon->machine->vcpu_count; i++) {
        if (mon->machine->vcpu[i]) {
            vcpu_post(mon->machine->vcpu[i], VCPU_EV_NMI, 0);
        }
    }
    return 0;
}

int cmd_cpu(struct monitor *mon, struct command_args *a, struct err *err)
{
    long long n;
    int ret = args_number(a, 0, "index", &n, err);
    if (!ret && (n < 0 || n >= mon->machine->vcpu_count)) {
        ret = err_set(err, EINVAL, "invalid CPU index");
    }
    mon->cpu = ret ? mon->cpu : (unsigned)n;
    return ret;
}

int cmd_gdbserver(struct monitor *mon, struct command_args *a, struct err *err)
{
    const char *spec = args_word(a, 0) ? args_word(a, 0) : "tcp::1234";
    int ret = mon->control->gdbserver ? mon->control->gdbserver(mon->opaque, spec, err)
                                      : err_set(err, ENOTSUP, "there is no gdb stub here");
    if (!ret && !strcmp(spec, "none")) {
        monitor_put(mon, "Disabled gdbserver\n");
    } else if (!ret) {
        monitor_put(mon, "Waiting for gdb connection on device '%s'\n", spec);
    }
    return ret;
}

/* Takes "-f FORMAT" out of the words. */
static int screendump_format(struct command_args *a, enum screendump_format *format,
                             struct err *err)
{
    for (unsigned i = 0; i + 1 < a->words.count; i++) {
        if (!strcmp(a->words.word[i], "-f")) {
            const char *name = a->words.word[i + 1];
            if (strcmp(name, "png") && strcmp(name, "ppm")) {
                return err_set(err, EINVAL, "screendump: the format is ppm or png, not '%s'", name);
            }
            *format = !strcmp(name, "png") ? SCREENDUMP_PNG : SCREENDUMP_PPM;
            a->words.count -= 2;
            memmove(&a->words.word[i], &a->words.word[i + 2],
                    (a->words.count - i) * sizeof(a->words.word[0]));
        }
    }
    return 0;
}

int cmd_screendump(struct monitor *mon, struct command_args *a, struct err *err)
{
    enum screendump_format format = SCREENDUMP_PPM;
    int ret = screendump_format(a, &format, err);
    const char *path = ret ? NULL : args_need(a, 0, "filename", err);
    return path ? display_screendump(mon->machine->display, path, format, err) : -EINVAL;
}

/* ---- Ring buffers ---- */

static struct chardev *ringbuf_find(struct monitor *mon, struct command_args *a, struct err *err)
{
    const char *id = args_need(a, 0, "device", err);
    struct backend *b = id ? machine_find_backend(mon->machine, "chardev", id) : NULL;
    if (id && !b) {
        err_set(err, ENOENT, "there is no character device '%s'", id);
    }
    return b ? b->obj : NULL;
}

static int ringbuf_kind(long n, struct err *err)
{
    return n < 0 ? err_set(err, ENOTSUP, "that character device is no ring buffer") : 0;
}

int cmd_ringbuf_read(struct monitor *mon, struct command_args *a, struct err *err)
{
    uint8_t buf[65536 + 1];
    struct chardev *c = ringbuf_find(mon, a, err);
    long long size;
    int ret = c ? args_number(a, 1, "size", &size, err) : -EINVAL;
    if (ret) {
        return ret;
    }
    size = size < 0 ? 0 : size > 65536 ? 65536 : size;
    long n = chardev_ringbuf_read(c, buf, (size_t)size);
    for (long i = 0; i < n; i++) {
        if (buf[i] == '\\') {
            monitor_put(mon, "\\\\");
        } else if ((buf[i] < ' ' && buf[i] != '\n' && buf[i] != '\t') || buf[i] >= 127) {
            monitor_put(mon, "\\u%04X", buf[i]);
        } else {
            monitor_put(mon, "%c", buf[i]);
        }
    }
    monitor_put(mon, n >= 0 ? "\n" : "");
    return ringbuf_kind(n, err);
}

int cmd_ringbuf_write(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct chardev *c = ringbuf_find(mon, a, err);
    const char *data = c ? args_need(a, 1, "data", err) : NULL;
    return data ? ringbuf_kind(chardev_ringbuf_write(c, (const uint8_t *)data, strlen(data)), err)
                : -EINVAL;
}
