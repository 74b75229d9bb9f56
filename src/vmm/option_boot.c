/* What the machine starts from: -boot, and short ways to name its disks. */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "vmm/option_table.h"

/* A comma in a value is written twice. */
static int add_drive(struct options *o, const char *file, const char *rest, const char *what,
                     struct err *err)
{
    struct strbuf sb = {0};
    strbuf_add(&sb, "%s,file=", rest);
    for (const char *p = file; *p; p++) {
        strbuf_add(&sb, *p == ',' ? ",," : "%c", *p);
    }
    int ret = option_list_push(&o->drives, strbuf_text(&sb), NULL, what, err);
    strbuf_free(&sb);
    return ret;
}

int option_hda(struct options *o, const char *arg, struct err *err)
{
    return add_drive(o, arg, "if=ide,index=0,media=disk", "-hda", err);
}

int option_hdb(struct options *o, const char *arg, struct err *err)
{
    return add_drive(o, arg, "if=ide,index=1,media=disk", "-hdb", err);
}

int option_hdc(struct options *o, const char *arg, struct err *err)
{
    return add_drive(o, arg, "if=ide,index=2,media=disk", "-hdc", err);
}

int option_hdd(struct options *o, const char *arg, struct err *err)
{
    return add_drive(o, arg, "if=ide,index=3,media=disk", "-hdd", err);
}

int option_fda(struct options *o, const char *arg, struct err *err)
{
    return add_drive(o, arg, "if=floppy,index=0", "-fda", err);
}

int option_fdb(struct options *o, const char *arg, struct err *err)
{
    return add_drive(o, arg, "if=floppy,index=1", "-fdb", err);
}

/* The same as -machine hpet=off. */
int option_no_hpet(struct options *o, const char *arg, struct err *err)
{
    keyval_add(&o->config.board_args, "hpet", "off");
    return 0;
}

int option_cdrom(struct options *o, const char *arg, struct err *err)
{
    return add_drive(o, arg, "if=ide,index=2,media=cdrom", "-cdrom", err);
}

int option_pflash(struct options *o, const char *arg, struct err *err)
{
    return add_drive(o, arg, "if=pflash,format=raw", "-pflash", err);
}

/* [name=]NAME,file=FILE or string=TEXT: a file for firmware and guest. */
int option_fw_cfg(struct options *o, const char *arg, struct err *err)
{
    int ret = option_list_push(&o->fw_cfgs, arg, "name", "-fw_cfg", err);
    const struct keyval *kv = ret ? NULL : &o->fw_cfgs.items[o->fw_cfgs.count - 1];
    if (kv && (!keyval_get(kv, "name") || !keyval_get(kv, "file") == !keyval_get(kv, "string"))) {
        return err_set(err, EINVAL,
                       "-fw_cfg: needs name=NAME and one of file=FILE and string=TEXT");
    }
    return ret;
}

/* A character device and the port that writes to it. */
int option_debugcon(struct options *o, const char *arg, struct err *err)
{
    if (o->debugcon) {
        return err_set(err, EINVAL, "-debugcon: there is one already; use -device isa-debugcon");
    }
    o->debugcon = arg;
    return option_list_push(&o->devices, "isa-debugcon,chardev=debugcon", "driver", "-debugcon",
                            err);
}

int option_no_acpi(struct options *o, const char *arg, struct err *err)
{
    keyval_add(&o->config.board_args, "acpi", "off");
    return 0;
}

static int boot_letters(const char *key, const char *letters, struct err *err)
{
    size_t n = strspn(letters, "abcdefghijklmnop");
    if (letters[n]) {
        return err_set(err, EINVAL,
                       "-boot: %s=%s: devices are letters: a floppy, c disk, d CD, n network", key,
                       letters);
    }
    return 0;
}

static int boot_number(const char *key, const char *text, uint32_t *to, struct err *err)
{
    uint64_t v = 0;
    AUTO_FREE char *what = alloc_printf("-boot: %s", key);
    int ret = value_u64(what, text, 65535, &v, err);
    *to = (uint32_t)v;
    return ret;
}

static int boot_take(struct options *o, const char *key, const char *val, struct err *err)
{
    struct machine_config *c = &o->config;
    bool once = !strcmp(key, "once");
    uint32_t unused;
    if (once || !strcmp(key, "order")) {
        *(once ? &c->boot_once : &c->boot_order) = val;
        return boot_letters(key, val, err);
    }
    if (!strcmp(key, "menu")) {
        return value_bool("-boot: menu", val, &c->boot_menu, err);
    }
    if (!strcmp(key, "strict")) {
        return value_bool("-boot: strict", val, &c->boot_strict, err);
    }
    if (!strcmp(key, "splash-time")) {
        return boot_number(key, val, &c->boot_splash_ms, err);
    }
    if (!strcmp(key, "reboot-timeout")) {
        return boot_number(key, val, &unused, err);
    }
    return err_set(err, EINVAL,
                   "-boot: there is no option '%s'; there are order, once, menu, splash-time, "
                   "reboot-timeout and strict",
                   key);
}

int option_boot(struct options *o, const char *arg, struct err *err)
{
    struct keyval *kv = &o->boot_args;
    int ret = keyval_parse(kv, arg, "order", err);
    for (size_t i = 0; !ret && i < kv->count; i++) {
        ret = boot_take(o, kv->pairs[i].key, kv->pairs[i].value, err);
    }
    return ret;
}
