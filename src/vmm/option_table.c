/*
 * The options and what each does with its argument. Names and syntax are those published for
 * qemu-system-x86_64; what is accepted without effect says so in its help.
 */
#include "vmm/option_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "base/log.h"
#include "base/near.h"
#include "block/block.h"
#include "board/boards.h"
#include "chardev/chardev.h"
#include "core/device.h"
#include "vmm/cpus.h"
#include "vmm/option_display.h"

static int unsupported(struct err *err, const char *option, const char *arg, const char *instead)
{
    return err_set(err, EINVAL, "%s: '%s' is not supported; the nearest is '%s'", option, arg,
                   instead);
}

static bool asks_help(const char *arg)
{
    return !strcmp(arg, "help") || !strcmp(arg, "?");
}

int option_list_push(struct option_list *l, const char *arg, const char *first, const char *option,
                     struct err *err)
{
    l->items = alloc_resize(l->items, l->count + 1, sizeof(*l->items));
    l->items[l->count] = (struct keyval){0};
    int ret = keyval_parse(&l->items[l->count++], arg, first, err);
    return ret ? err_prefix(err, ret, "%s", option) : 0;
}

/* ---- Machine ---- */

static int machine_find(struct options *o, const char *name, struct err *err)
{
    const char *names[16];
    size_t n = 0;
    for (; boards[n]; n++) {
        names[n] = boards[n]->name;
        const char *version = boards[n]->version;
        if (!strcmp(names[n], name) || (version && !strcmp(version, name))) {
            o->config.board = boards[n];
            return 0;
        }
    }
    return err_set(err, EINVAL, "-machine: there is no machine '%s'; the nearest is '%s'", name,
                   near_pick(name, names, n));
}

static int machine_help(struct options *o)
{
    printf("Machines:\n");
    for (size_t i = 0; boards[i]; i++) {
        const char *version = boards[i]->version;
        printf("  %-14s %s%s\n", boards[i]->name, boards[i]->summary, i ? "" : " (default)");
        if (version) {
            printf("  %-14s the same\n", version);
        }
    }
    o->action = OPTIONS_DONE;
    return 0;
}

static int take_accel(struct options *o, const char *arg, struct err *err);

/* Options of every machine that change nothing here. */
static void machine_drop_neutral(struct keyval *kv)
{
    static const char *const neutral[] = {"type", "accel",  "dump-guest-core", "mem-merge",
                                          "usb",  "vmport", "graphics",        "kernel-irqchip",
                                          "hmat"};
    for (size_t i = 0; i < ARRAY_LEN(neutral); i++) {
        keyval_remove(kv, neutral[i]);
    }
}

static int take_machine(struct options *o, const char *arg, struct err *err)
{
    struct keyval *kv = &o->config.board_args;
    if (asks_help(arg)) {
        return machine_help(o);
    }
    int ret = keyval_parse(kv, arg, "type", err);
    const char *type = keyval_get(kv, "type"), *accel = keyval_get(kv, "accel");
    ret = !ret && type ? machine_find(o, type, err) : ret;
    ret = !ret && accel ? take_accel(o, accel, err) : ret;
    if (!ret && keyval_wants_help(kv)) {
        printf("Options of machine '%s':\n", o->config.board->name);
        prop_help(o->config.board->props, stdout);
        o->action = OPTIONS_DONE;
    }
    machine_drop_neutral(kv);
    return ret;
}

static int take_accel(struct options *o, const char *arg, struct err *err)
{
    char name[32];
    const char *list = arg;
    if (asks_help(arg)) {
        cpus_accel_help(stdout);
        o->action = OPTIONS_DONE;
        return 0;
    }
    if (!strncmp(list, "accel=", 6)) {
        list += 6;
    }
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(list, ",:"), list);
    o->accel = cpus_accel_name(name, err);
    const char *rest = strchr(list, ',');
    o->config.accel_args = rest ? rest + 1 : NULL;
    if (o->accel && rest && asks_help(rest + 1)) {
        cpus_accel_options_help(stdout);
        o->action = OPTIONS_DONE;
    }
    return o->accel ? 0 : -EINVAL;
}

static int take_cpu(struct options *o, const char *arg, struct err *err)
{
    if (asks_help(arg)) {
        cpus_model_help(stdout);
        o->action = OPTIONS_DONE;
        return 0;
    }
    o->config.cpu = arg;
    return 0;
}

static int take_m(struct options *o, const char *arg, struct err *err)
{
    static const char *const names[] = {"size", "slots", "maxmem"};
    struct keyval kv = {0};
    int ret = keyval_parse(&kv, arg, "size", err);
    for (size_t i = 0; !ret && i < kv.count; i++) {
        const struct keyval_pair *p = &kv.pairs[i];
        uint64_t v;
        if (!strcmp(p->key, "size")) {
            ret = value_size("-m", p->value, 1 << 20, &o->config.ram_size, err);
            o->config.ram_size = round_up(o->config.ram_size, 4096);
            if (!ret && !o->config.ram_size) {
                ret = err_set(err, EINVAL, "-m: the size must not be zero");
            }
        } else if (!strcmp(p->key, "slots") || !strcmp(p->key, "maxmem")) {
            ret = value_size("-m", p->value, 1 << 20, &v, err); /* no hot plug: no effect */
        } else {
            ret = err_set(err, EINVAL, "-m has no option '%s'; the nearest is '%s'", p->key,
                          near_pick(p->key, names, ARRAY_LEN(names)));
        }
    }
    keyval_free(&kv);
    return ret;
}

static int take_kernel(struct options *o, const char *arg, struct err *err)
{
    o->config.kernel = arg;
    return 0;
}

static int take_initrd(struct options *o, const char *arg, struct err *err)
{
    o->config.initrd = arg;
    return 0;
}

static int take_append(struct options *o, const char *arg, struct err *err)
{
    o->config.append = arg;
    return 0;
}

static int take_bios(struct options *o, const char *arg, struct err *err)
{
    o->config.firmware = arg;
    return 0;
}

static int take_firmware_dir(struct options *o, const char *arg, struct err *err)
{
    o->config.firmware_dir = arg;
    return 0;
}

static int take_rtc(struct options *o, const char *arg, struct err *err)
{
    return keyval_parse(&o->config.rtc_args, arg, "base", err);
}

/* "name" or "guest=name,process=...,debug-threads=on" */
static int take_name(struct options *o, const char *arg, struct err *err)
{
    o->config.name = arg;
    return 0;
}

static int take_uuid(struct options *o, const char *arg, struct err *err)
{
    size_t n = strlen(arg);
    bool ok = n == 36;
    for (size_t i = 0; ok && i < n; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        ok = dash ? arg[i] == '-' : strchr("0123456789abcdefABCDEF", arg[i]) != NULL;
    }
    if (!ok) {
        return err_set(err, EINVAL,
                       "-uuid: '%s' is not of the form "
                       "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
                       arg);
    }
    o->config.uuid = arg;
    return 0;
}

static int take_no_reboot(struct options *o, const char *arg, struct err *err)
{
    o->config.no_reboot = true;
    return 0;
}

static int take_no_shutdown(struct options *o, const char *arg, struct err *err)
{
    o->config.no_shutdown = true;
    return 0;
}

/* ---- Devices and what is behind them ---- */

static int device_help_all(struct options *o)
{
    printf("Devices:\n");
    for (size_t i = 0; dev_types[i]; i++) {
        const struct dev_type *t = dev_types[i];
        printf("  %-24s %s (bus %s)", t->name, t->summary, t->bus ? t->bus : "none");
        printf(t->alias ? ", also called %s\n" : "\n", t->alias);
    }
    o->action = OPTIONS_DONE;
    return 0;
}

static int device_check(struct options *o, const struct keyval *kv, struct err *err)
{
    const char *names[128], *name = keyval_get(kv, "driver");
    size_t n = 0;
    if (!name) {
        return err_set(err, EINVAL, "-device: needs the name of a device first");
    }
    const struct dev_type *type = dev_type_find(name);
    if (type && keyval_wants_help(kv)) {
        printf("Options of device '%s':\n", type->name);
        prop_help(type->props, stdout);
        prop_help(type->child ? type->child->props : NULL, stdout);
        o->action = OPTIONS_DONE;
    }
    if (type) {
        return 0;
    }
    for (; dev_types[n] && n < ARRAY_LEN(names); n++) {
        names[n] = dev_types[n]->name;
    }
    return err_set(err, EINVAL, "-device: there is no device '%s'; the nearest is '%s'", name,
                   near_pick(name, names, n));
}

static int take_device(struct options *o, const char *arg, struct err *err)
{
    if (asks_help(arg)) {
        return device_help_all(o);
    }
    int ret = option_list_push(&o->devices, arg, "driver", "-device", err);
    return ret ? ret : device_check(o, &o->devices.items[o->devices.count - 1], err);
}

/* The same, or an object in JSON. */
static int list_push_json(struct option_list *l, const char *arg, const char *first,
                          const char *option, struct err *err)
{
    if (*arg != '{') {
        return option_list_push(l, arg, first, option, err);
    }
    l->items = alloc_resize(l->items, l->count + 1, sizeof(*l->items));
    l->items[l->count] = (struct keyval){0};
    int ret = block_opts_from_json(&l->items[l->count++], arg, err);
    return ret ? err_prefix(err, ret, "%s", option) : 0;
}

static int take_drive(struct options *o, const char *arg, struct err *err)
{
    return option_list_push(&o->drives, arg, NULL, "-drive", err);
}

static int take_blockdev(struct options *o, const char *arg, struct err *err)
{
    return list_push_json(&o->blockdevs, arg, "driver", "-blockdev", err);
}

static int take_snapshot(struct options *o, const char *arg, struct err *err)
{
    o->snapshot = true;
    return 0;
}

static int take_object(struct options *o, const char *arg, struct err *err)
{
    static const char *const types[] = {"secret",        "throttle-group", "tls-creds-x509",
                                        "tls-creds-psk", "tls-creds-anon", "memory-backend-ram"};
    if (option_is_memory(arg)) {
        return option_memory_object(o, arg, err);
    }
    int ret = list_push_json(&o->objects, arg, "qom-type", "-object", err);
    const char *type = ret ? NULL : keyval_get(&o->objects.items[o->objects.count - 1], "qom-type");
    const char *near = near_pick(type ? type : "", types, ARRAY_LEN(types));
    return ret || (type && !strcmp(type, near))
               ? ret
               : err_set(err, ENOTSUP, "-object: there is no type '%s'; the nearest is '%s'",
                         type ? type : "", near);
}

static int take_chardev(struct options *o, const char *arg, struct err *err)
{
    if (asks_help(arg)) {
        chardev_help(stdout);
        o->action = OPTIONS_DONE;
        return 0;
    }
    int ret = option_list_push(&o->chardevs, arg, "backend", "-chardev", err);
    if (!ret && !keyval_get(&o->chardevs.items[o->chardevs.count - 1], "id")) {
        return err_set(err, EINVAL, "-chardev: needs id=ID");
    }
    return ret;
}

static int take_serial(struct options *o, const char *arg, struct err *err)
{
    o->serials.items =
        alloc_resize((void *)o->serials.items, o->serials.count + 1, sizeof(*o->serials.items));
    o->serials.items[o->serials.count++] = arg;
    return 0;
}

static int take_net(struct options *o, const char *arg, struct err *err)
{
    return strcmp(arg, "none") ? unsupported(err, "-net", arg, "none") : 0;
}

static int take_nic(struct options *o, const char *arg, struct err *err)
{
    return strcmp(arg, "none") ? unsupported(err, "-nic", arg, "none") : 0;
}

static int take_nographic(struct options *o, const char *arg, struct err *err)
{
    o->nographic = true;
    return 0;
}

static int take_nodefaults(struct options *o, const char *arg, struct err *err)
{
    o->nodefaults = true;
    return 0;
}

static int take_nothing(struct options *o, const char *arg, struct err *err)
{
    return 0;
}

/* ---- Debugging and the process ---- */

static int take_d(struct options *o, const char *arg, struct err *err)
{
    if (asks_help(arg)) {
        log_help(stdout);
        o->action = OPTIONS_DONE;
        return 0;
    }
    return log_enable(arg, err);
}

static int take_log_file(struct options *o, const char *arg, struct err *err)
{
    o->log_file = arg;
    return 0;
}

static int take_dfilter(struct options *o, const char *arg, struct err *err)
{
    return log_filter(arg, err);
}

static int take_s(struct options *o, const char *arg, struct err *err)
{
    o->gdb = "tcp::1234";
    return 0;
}

static int take_gdb(struct options *o, const char *arg, struct err *err)
{
    o->gdb = strcmp(arg, "none") ? arg : NULL;
    return 0;
}

static int take_paused(struct options *o, const char *arg, struct err *err)
{
    o->paused = true;
    return 0;
}

static int take_pidfile(struct options *o, const char *arg, struct err *err)
{
    o->pidfile = arg;
    return 0;
}

static int take_daemonize(struct options *o, const char *arg, struct err *err)
{
    return err_set(err, EINVAL,
                   "-daemonize is not supported; start the program with '&' or by a "
                   "service manager, and use -pidfile");
}

static int take_version(struct options *o, const char *arg, struct err *err)
{
    options_print_version();
    o->action = OPTIONS_DONE;
    return 0;
}

static int take_help(struct options *o, const char *arg, struct err *err)
{
    options_print_help(o->program);
    o->action = OPTIONS_DONE;
    return 0;
}

const struct option_row option_rows[] = {
    {"h", NULL, take_help, NULL},
    {"help", NULL, take_help, "print this and exit"},
    {"version", NULL, take_version, "print the version and exit"},
    {"machine", "[type=]NAME[,OPTION=VALUE...]", take_machine,
     "the machine; 'help' lists machines, 'NAME,help' its options"},
    {"M", "[type=]NAME[,...]", take_machine, "same as -machine"},
    {"accel", "NAME[,OPTION=VALUE...]", take_accel, "the accelerator: jit, also called tcg"},
    {"cpu", "MODEL[,+FEATURE][,-FEATURE]", take_cpu, "processor model; 'help' lists them"},
    {"smp", "[cpus=]N[,maxcpus=][,sockets=][,dies=][,cores=][,threads=]", option_smp,
     "number of processors and how they are arranged"},
    {"numa", "node|cpu|dist[,OPTION=VALUE...]", option_numa, "nodes of memory and processors"},
    {"m", "[size=]MEGS", take_m, "guest memory; suffixes k, M, G"},
    {"kernel", "FILE", take_kernel, "kernel: Linux bzImage, ELF with a PVH note, or Multiboot"},
    {"initrd", "FILE", take_initrd,
     "initial ramdisk for the kernel, or a Multiboot kernel's modules"},
    {"append", "TEXT", take_append, "command line for the kernel"},
    {"bios", "FILE", take_bios, "firmware in place of the machine's own"},
    {"L", "FOLDER", take_firmware_dir, "where to look for firmware first"},
    {"drive",
     "[file=FILE][,id=ID][,if=none|ide|virtio|floppy|pflash][,media=disk|cdrom][,index=N][,format="
     "FORMAT]["
     ","
     "readonly=on|off][,cache=MODE]"
     "[,discard=unmap][,snapshot=on][,OPTION=VALUE...]",
     take_drive, "a disk image"},
    {"blockdev", "driver=DRIVER,node-name=NAME[,OPTION=VALUE...]", take_blockdev,
     "a node of a disk image, or '{...}' in JSON"},
    {"hda", "FILE", option_hda, "first IDE disk; -hdb, -hdc, -hdd: the others"},
    {"hdb", "FILE", option_hdb, NULL},
    {"hdc", "FILE", option_hdc, NULL},
    {"hdd", "FILE", option_hdd, NULL},
    {"fda", "FILE", option_fda, "floppy disk in the first drive; -fdb: in the second"},
    {"fdb", "FILE", option_fdb, NULL},
    {"cdrom", "FILE", option_cdrom, "CD or DVD image in the IDE drive"},
    {"pflash", "FILE", option_pflash, "firmware in flash memory; the second one: its variables"},
    {"fw_cfg", "[name=]NAME,file=FILE|string=TEXT", option_fw_cfg, "a file for the firmware"},
    {"debugcon", "DEV", option_debugcon, "what firmware writes to port e9h"},
    {"no-acpi", NULL, option_no_acpi, "same as -machine acpi=off"},
    {"no-hpet", NULL, option_no_hpet, "same as -machine hpet=off"},
    {"boot", "[order=]acdn[,once=LETTERS][,menu=on|off][,splash-time=MS][,strict=on|off]",
     option_boot, "what firmware starts: a floppy, c disk, d CD, n network"},
    {"snapshot", NULL, take_snapshot, "write to temporary files instead of the disk images"},
    {"object", "TYPE,id=ID[,OPTION=VALUE...]", take_object,
     "what disks refer to: secret, throttle-group, tls-creds-x509, tls-creds-psk"},
    {"global", "NAME.OPTION=VALUE", option_global,
     "an option of every device of that name, also of built-in ones"},
    {"device", "NAME[,OPTION=VALUE...]", take_device,
     "add a device; 'help' lists devices, 'NAME,help' its options"},
    {"chardev", "KIND,id=ID[,OPTION=VALUE...]", take_chardev,
     "a character device; 'help' lists kinds"},
    {"serial", "DEV", take_serial,
     "serial port: stdio, mon:stdio, file:PATH, null, none, pty, unix:PATH, tcp:HOST:PORT, "
     "chardev:ID"},
    {"parallel", "DEV", option_parallel, "parallel port, on what -serial takes; 'none': none"},
    {"monitor", "DEV", option_monitor, "a monitor, on what -serial takes; 'none': none"},
    {"mon", "[chardev=]ID[,mode=readline]", option_mon, "a monitor on a character device"},
    {"nographic", NULL, take_nographic, "serial port on the terminal, Ctrl-A h for keys"},
    {"display", "none|sdl[,OPTION=VALUE...]|vnc=ADDRESS[,...]", option_take_display,
     "who shows the screen; without it, nobody"},
    {"vnc", "[HOST]:N|unix:PATH|none[,OPTION=VALUE...]", option_take_vnc,
     "show the screen to VNC viewers"},
    {"full-screen", NULL, option_take_full_screen, "start the window on the full screen"},
    {"watchdog-action", "ACTION", option_watchdog_action,
     "when a watchdog expires: reset, shutdown, poweroff, pause, debug, none, inject-nmi"},
    {"action", "[reboot=reset|shutdown][,shutdown=poweroff|pause][,watchdog=ACTION]", option_action,
     "what becomes of the machine at these events"},
    {"k", "LANGUAGE", option_take_keymap,
     "keyboard layout of VNC viewers that send characters: de, fr ..."},
    {"vga", "std|virtio|none", option_take_vga, "the graphics device"},
    {"net", "none", take_net, "accepted: there is no network"},
    {"nic", "none", take_nic, "accepted: there is no network"},
    {"rtc", "[base=utc|localtime|DATETIME][,clock=host]", take_rtc, "the clock's start"},
    {"name", "TEXT", take_name, "name of the guest"},
    {"uuid", "UUID", take_uuid, "UUID of the guest"},
    {"no-reboot", NULL, take_no_reboot, "exit (status 0) when the guest resets itself"},
    {"no-shutdown", NULL, take_no_shutdown, "stop, but do not exit, when the guest powers off"},
    {"nodefaults", NULL, take_nodefaults, "no default devices and serial port connection"},
    {"no-user-config", NULL, take_nothing, "accepted: there are no configuration files"},
    {"no-fd-bootchk", NULL, take_nothing, NULL},
    {"win2k-hack", NULL, take_nothing, NULL},
    {"mem-prealloc", NULL, take_nothing, NULL},
    {"overcommit", "mem-lock=off", take_nothing, NULL},
    {"compat", "POLICY", take_nothing, NULL},
    {"enable-fips", NULL, take_nothing, NULL},
    {"msg", "TEXT", take_nothing, NULL},
    {"pidfile", "FILE", take_pidfile, "write the process ID to a file"},
    {"daemonize", NULL, take_daemonize, NULL},
    {"S", NULL, take_paused, "do not start the processors: a debugger does"},
    {"s", NULL, take_s, "same as -gdb tcp::1234"},
    {"gdb", "DEV", take_gdb,
     "let gdb connect: tcp:[HOST]:PORT, unix:PATH, stdio, chardev:ID, none"},
    {"d", "ITEM[,...]", take_d, "log these; 'help' lists them"},
    {"D", "FILE", take_log_file, "log to a file, not to stderr"},
    {"dfilter", "RANGE[,...]", take_dfilter, "log only blocks in START..END, START+LENGTH"},
    {0},
};
