/* Building the machine from the options; the main loop; resets; signals. */
#include "vmm/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "board/boards.h"
#include "chardev/chardev.h"
#include "core/device.h"
#include "dev/display/vga_pci.h"
#include "dev/virtio/virtio_vga.h"
#include "display/display.h"
#include "loop/clock.h"
#include "loop/loop.h"
#include "vmm/boot_order.h"
#include "vmm/cpus.h"
#include "vmm/drive_place.h"
#include "vmm/drives.h"
#include "vmm/gdb_link.h"
#include "vmm/monitor_link.h"
#include "vmm/options.h"
#include "vmm/viewers.h"

struct run {
    struct options *o;
    struct loop *loop;
    struct clock *clock;
    struct machine *m;
    struct gdb_link *gdb; /* or NULL */
    struct viewers *viewers;
    struct monitor_links *monitors;
    int signals; /* signalfd */
};

static void run_quit(void *opaque)
{
    machine_ask(opaque, MACHINE_REQ_QUIT, 0);
}

static void run_signal(void *opaque, int fd, unsigned events)
{
    struct run *r = opaque;
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof(info)) != sizeof(info)) {
        return;
    }
    if (info.ssi_signo == SIGCONT) {
        if (r->m->io_stopped) {
            machine_resume(r->m);
        }
    } else {
        fprintf(stderr, "%s: ended by signal %u\n", r->o->program, info.ssi_signo);
        run_quit(r->m);
    }
}

/* Blocked in all threads and read by the loop; threads are made later and inherit the mask. */
static int run_take_signals(struct run *r, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCONT); /* after a disk was full: machine_pause_for_io() */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (r->signals < 0 || loop_watch(r->loop, r->signals, LOOP_IN, run_signal, r)) {
        return err_set(err, errno, "cannot wait for signals: %s", strerror(errno));
    }
    return 0;
}

/* ---- Backends ---- */

static int run_add_chardev(struct run *r, struct chardev *c, const char *id)
{
    if (!c) {
        return -EINVAL;
    }
    machine_add_backend(r->m, "chardev", id, c, chardev_free);
    return 0;
}

static int run_add_chardevs(struct run *r, struct err *err)
{
    for (size_t i = 0; i < r->o->chardevs.count; i++) {
        const struct keyval *kv = &r->o->chardevs.items[i];
        const char *id = keyval_get(kv, "id"), *mux = keyval_get(kv, "mux");
        bool keys = false;
        if (machine_find_backend(r->m, "chardev", id)) {
            return err_set(err, EEXIST, "-chardev: there are two with the id '%s'", id);
        }
        int ret = mux ? value_bool("-chardev: mux", mux, &keys, err) : 0;
        ret = ret ? ret : run_add_chardev(r, chardev_new(r->loop, kv, err), id);
        if (ret) {
            return ret;
        }
        if (keys) {
            chardev_add_mux(machine_find_backend(r->m, "chardev", id)->obj, run_quit, r->m);
        }
    }
    return 0;
}

static int run_alias_serial(struct run *r, const char *id, const char *serial, struct err *err)
{
    struct backend *b = machine_find_backend(r->m, "chardev", id);
    if (b && b->taken && chardev_is_mux(b->obj)) {
        return run_add_chardev(r, chardev_mux_port(b->obj, err), serial);
    }
    if (!b || b->taken) {
        return err_set(err, ENOENT, "-%.*s chardev:%s: %s", (int)strcspn(serial, "0123456789"),
                       serial, id, b ? "it is in use" : "there is no such -chardev");
    }
    b->taken = true;
    machine_add_backend(r->m, "chardev", serial, b->obj, NULL);
    return 0;
}

/* `port` is "serial" or "parallel". */
static int run_add_port(struct run *r, const char *port, const char *spec, unsigned n,
                        struct err *err)
{
    char id[16];
    snprintf(id, sizeof(id), "%s%u", port, n);
    if (!strcmp(spec, "none")) {
        return 0;
    }
    if (!strncmp(spec, "chardev:", 8)) {
        return run_alias_serial(r, spec + 8, id, err);
    }
    bool keys = !strncmp(spec, "mon:", 4);
    const char *what = spec + (keys ? 4 : 0);
    if (keys && !strcmp(what, "stdio")) {
        what = "stdio,signal=off"; /* Ctrl-C is the guest's; Ctrl-A x is ours */
    }
    struct chardev *c = chardev_new_legacy(r->loop, what, err);
    int ret = run_add_chardev(r, c, id);
    if (ret) {
        return err_prefix(err, ret, "-%s", port);
    }
    if (keys) {
        chardev_add_mux(c, run_quit, r->m);
    }
    return 0;
}

/* Without -serial: the terminal, unless -nodefaults or a -display ask for silence. */
static int run_add_serials(struct run *r, struct err *err)
{
    struct options *o = r->o;
    if (!o->serials.count && !o->nodefaults && (o->nographic || !o->display_given)) {
        return run_add_port(r, "serial", "mon:stdio", 0, err);
    }
    for (unsigned i = 0; i < o->serials.count; i++) {
        int ret = run_add_port(r, "serial", o->serials.items[i], i, err);
        if (ret) {
            return ret;
        }
    }
    return 0;
}

static int run_add_debugcon(struct run *r, struct err *err)
{
    const char *spec = r->o->debugcon;
    int ret = spec ? run_add_chardev(r, chardev_new_legacy(r->loop, spec, err), "debugcon") : 0;
    return ret ? err_prefix(err, ret, "-debugcon") : 0;
}

static int run_add_parallels(struct run *r, struct err *err)
{
    int ret = 0;
    for (unsigned i = 0; !ret && i < r->o->parallels.count; i++) {
        ret = run_add_port(r, "parallel", r->o->parallels.items[i], i, err);
    }
    return ret;
}

/* A further user of a multiplexed -chardev gets a port of it, as a backend of its own. */
static int run_share_chardev(struct run *r, struct keyval *kv, struct err *err)
{
    const char *id = keyval_get(kv, "chardev");
    const struct backend *b = id ? machine_find_backend(r->m, "chardev", id) : NULL;
    if (!b || !b->taken || !chardev_is_mux(b->obj)) {
        return 0;
    }
    char name[64];
    struct chardev *port = chardev_mux_port(b->obj, err);
    snprintf(name, sizeof(name), "%s#%p", id, (void *)port);
    keyval_add(kv, "chardev", name);
    return run_add_chardev(r, port, name);
}

static int run_add_devices(struct run *r, struct err *err)
{
    for (size_t i = 0; i < r->o->devices.count; i++) {
        struct keyval *kv = &r->o->devices.items[i];
        if (run_share_chardev(r, kv, err)) {
            return err_prefix(err, -EINVAL, "-device");
        }
        if (!dev_new(r->m, dev_type_find(keyval_get(kv, "driver")), kv, err)) {
            return err_prefix(err, -EINVAL, "-device");
        }
    }
    return 0;
}

/* A disk or CD drive that is asked for by name takes the place of the one that is there anyway. */
static bool run_wants_default_cd(const struct options *o)
{
    bool named = o->nodefaults;
    for (size_t i = 0; i < o->devices.count; i++) {
        const char *driver = keyval_get(&o->devices.items[i], "driver");
        named |= !strcmp(driver, "ide-cd") || !strcmp(driver, "ide-hd") ||
                 !strcmp(driver, "scsi-cd") || !strcmp(driver, "scsi-hd");
    }
    return !named;
}

static int run_add_drive_devices(struct run *r, struct err *err)
{
    const struct drive_defaults defaults = {.cd = run_wants_default_cd(r->o),
                                            .floppy = !r->o->nodefaults};
    return drives_add_devices(r->m, &r->o->drives, &defaults, err);
}

static bool run_names_vga(const struct options *o)
{
    for (size_t i = 0; i < o->devices.count; i++) {
        const char *driver = keyval_get(&o->devices.items[i], "driver");
        if (!strcmp(driver, vga_pci_type.name) || !strcmp(driver, virtio_vga_type.name)) {
            return true;
        }
    }
    return false;
}

/* One, unless -vga or -device say otherwise. */
static int run_add_vga(struct run *r, struct err *err)
{
    const struct options *o = r->o;
    if (o->vga ? !strcmp(o->vga, "none") : o->nodefaults || !r->m->board->pci) {
        return 0;
    }
    const struct dev_type *type =
        o->vga && !strcmp(o->vga, "virtio") ? &virtio_vga_type : &vga_pci_type;
    if (run_names_vga(o)) {
        return 0;
    }
    return dev_new(r->m, type, NULL, err) ? 0 : err_prefix(err, -EINVAL, "-vga");
}

static int run_build(struct run *r, struct err *err)
{
    struct options *o = r->o;
    const struct machine_cpus *cpus = cpus_find(o->accel);
    r->loop = loop_new(err);
    if (!r->loop) {
        return -EIO;
    }
    r->clock = clock_new_host();
    loop_add_clock(r->loop, r->clock);
    r->m = machine_new(&o->config, r->loop, r->clock, cpus);
    r->m->display = display_new(r->clock);
    int ret = run_take_signals(r, err);
    ret = ret ? ret : run_add_chardevs(r, err);
    ret = ret ? ret : run_add_serials(r, err);
    ret = ret ? ret : run_add_debugcon(r, err);
    ret = ret ? ret : run_add_parallels(r, err);
    ret = ret ? ret : drives_add(r->m, o, err);
    ret = ret ? ret : machine_build(r->m, err);
    ret = ret ? ret : run_add_vga(r, err);
    ret = ret ? ret : run_add_devices(r, err);
    ret = ret ? ret : run_add_drive_devices(r, err);
    ret = ret ? ret : boot_order_set(r->m, err);
    ret = ret ? ret : machine_load(r->m, err);
    if (!ret) {
        r->viewers = viewers_new(r->m, o, err);
        ret = r->viewers ? 0 : -EINVAL;
    }
    return ret;
}

/* The monitor's "gdbserver". */
static int run_gdbserver(void *opaque, const char *spec, struct err *err)
{
    struct run *r = opaque;
    if (r->gdb) {
        return gdb_link_move(r->gdb, spec, err);
    }
    if (!strcmp(spec, "none")) {
        return 0;
    }
    bool running = r->m->state == MACHINE_RUNNING;
    r->m->cpus->park(r->m);
    r->gdb = gdb_link_new(r->m, spec, err);
    if (r->gdb && r->m->cpus->debug_changed) {
        r->m->cpus->debug_changed(r->m);
    }
    if (running) {
        r->m->cpus->unpark(r->m);
    }
    return r->gdb ? 0 : -EINVAL;
}

static struct vnc *run_vnc(void *opaque)
{
    const struct run *r = opaque;
    return viewers_vnc(r->viewers);
}

static int run_add_monitors(struct run *r, struct err *err)
{
    const struct monitor_hooks hooks = {run_gdbserver, run_quit, run_vnc, r};
    r->monitors = monitor_links_new(r->m, r->o, &hooks, err);
    return r->monitors ? 0 : -EINVAL;
}

/* ---- Running ---- */

static int run_reset(struct run *r, struct err *err)
{
    struct machine *m = r->m;
    m->cpus->park(m);
    for (struct dev *d = m->devs; d; d = d->next) {
        if (d->type->quiesce) {
            d->type->quiesce(d);
        }
    }
    dev_reset_all(m, DEV_RESET_POWER);
    int ret = machine_load(m, err);
    m->powered_off = false;
    if (!ret) {
        m->cpus->reset(m);
        if (m->state == MACHINE_RUNNING) {
            m->cpus->unpark(m);
        }
    }
    return ret;
}

static enum machine_request run_take_request(struct machine *m)
{
    AUTO_LOCK(&m->lock);
    enum machine_request req = m->request;
    m->request = MACHINE_REQ_NONE;
    return req;
}

/* Handles what ended the loop; true when the process shall end. */
static bool run_request(struct run *r, int *status, struct err *err)
{
    struct machine *m = r->m;
    enum machine_request req = run_take_request(m);
    *status = 0;
    switch (req) {
    case MACHINE_REQ_NONE: return false;
    case MACHINE_REQ_RESET:
    case MACHINE_REQ_CRASH:
        if (m->config.no_reboot) {
            return true;
        }
        *status = run_reset(r, err);
        return *status != 0;
    case MACHINE_REQ_POWEROFF:
        if (m->config.no_shutdown) {
            machine_pause(m);
            m->powered_off = true;
            return false;
        }
        return true;
    case MACHINE_REQ_EXIT: *status = m->exit_status; return true;
    case MACHINE_REQ_QUIT: return true;
    }
    return true;
}

static int run_loop(struct run *r, struct err *err)
{
    struct machine *m = r->m;
    int status = 0;
    if (!m->cpus) {
        return err_set(err, ENOSYS, "this build has no accelerator");
    }
    dev_reset_all(m, DEV_RESET_POWER);
    m->cpus->reset(m);
    int ret = m->cpus->start(m, err);
    if (!ret && r->o->gdb) {
        r->gdb = gdb_link_new(m, r->o->gdb, err);
        ret = r->gdb ? 0 : -EINVAL;
    }
    ret = ret ? ret : run_add_monitors(r, err);
    if (ret) {
        return ret;
    }
    if (!r->o->paused) {
        machine_resume(m);
    }
    loop_prompt();
    do {
        loop_run(r->loop);
    } while (!run_request(r, &status, err));
    gdb_link_exited(r->gdb, status);
    return status;
}

/* A guest that has ended leaves its memory to the host's kernel, which is done with it sooner. */
static void run_free(struct run *r, bool ended)
{
    monitor_links_free(r->monitors);
    if (ended && !VMM_FREE_ALL) {
        viewers_leave(r->viewers);
        machine_leave(r->m);
        gdb_link_free(r->gdb);
        return;
    }
    struct display *display = r->m ? r->m->display : NULL;
    viewers_free(r->viewers);
    machine_free(r->m);
    gdb_link_free(r->gdb);
    if (r->signals >= 0) {
        close(r->signals);
    }
    display_free(display);
    loop_free(r->loop);
    clock_free(r->clock);
}

static int run_write_pid(const char *path, struct err *err)
{
    FILE *f = path ? fopen(path, "we") : NULL;
    if (path && !f) {
        return err_set(err, errno, "-pidfile: cannot write '%s': %s", path, strerror(errno));
    }
    if (f) {
        fprintf(f, "%ld\n", (long)getpid());
        fclose(f);
    }
    return 0;
}

int run_machine(struct options *o, struct err *err)
{
    struct run r = {.o = o, .signals = -1};
    int ret = o->log_file ? log_open(o->log_file, err) : 0;
    ret = ret ? ret : run_write_pid(o->pidfile, err);
    ret = ret ? ret : run_build(&r, err);
    bool ended = !ret;
    ret = ret ? ret : run_loop(&r, err);
    run_free(&r, ended && ret >= 0);
    if (o->pidfile) {
        unlink(o->pidfile);
    }
    log_close();
    return ret;
}
