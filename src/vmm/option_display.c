/* Options about screens: which device makes the picture, and who shows it. */
#include "vmm/option_display.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/near.h"
#include "vmm/options.h"

static const char *const vga_kinds[] = {"std", "virtio", "none"};
/* Other emulators' graphics devices, which are not here. */
static const char *const vga_absent[] = {"cirrus", "vmware", "qxl", "xenfb", "tcx", "cg3"};
static const char *const display_kinds[] = {"none", "sdl", "vnc"};

static bool asks_help(const char *arg)
{
    return !strcmp(arg, "help") || !strcmp(arg, "?");
}

static int list(struct options *o, const char *title, const char *const *names, size_t n)
{
    printf("%s:\n", title);
    for (size_t i = 0; i < n; i++) {
        printf("  %s\n", names[i]);
    }
    o->action = OPTIONS_DONE;
    return 0;
}

int option_take_vga(struct options *o, const char *arg, struct err *err)
{
    if (asks_help(arg)) {
        return list(o, "Graphics devices", vga_kinds, ARRAY_LEN(vga_kinds));
    }
    for (size_t i = 0; i < ARRAY_LEN(vga_absent); i++) {
        if (!strcmp(arg, vga_absent[i])) {
            return err_set(err, ENOTSUP, "-vga: '%s' is not supported; use 'std' or 'virtio'", arg);
        }
    }
    const char *near = near_pick(arg, vga_kinds, ARRAY_LEN(vga_kinds));
    if (strcmp(arg, near)) {
        return err_set(err, EINVAL, "-vga: there is no '%s'; the nearest is '%s'", arg, near);
    }
    o->vga = near;
    return 0;
}

int option_take_keymap(struct options *o, const char *arg, struct err *err)
{
    o->keymap = arg;
    return 0;
}

int option_take_vnc(struct options *o, const char *arg, struct err *err)
{
    o->display_given = true;
    keyval_free(&o->vnc);
    o->vnc = (struct keyval){0};
    if (!strcmp(arg, "none")) {
        return 0;
    }
    int ret = keyval_parse(&o->vnc, arg, "vnc", err);
    return ret ? err_prefix(err, ret, "-vnc") : 0;
}

/* "none", "sdl[,option=value]", "vnc=ADDRESS[,option=value]" */
int option_take_display(struct options *o, const char *arg, struct err *err)
{
    char kind[16];
    if (asks_help(arg)) {
        return list(o, "Displays", display_kinds, ARRAY_LEN(display_kinds));
    }
    snprintf(kind, sizeof(kind), "%.*s", (int)strcspn(arg, ",="), arg);
    o->display_given = true;
    if (!strcmp(kind, "vnc") && arg[3] == '=') {
        return option_take_vnc(o, arg + 4, err);
    }
    const char *near = near_pick(kind, display_kinds, ARRAY_LEN(display_kinds));
    if (strcmp(kind, near) || !strcmp(kind, "vnc")) {
        return err_set(err, EINVAL, "-display: '%s' is not supported; the nearest is '%s'", arg,
                       strcmp(near, "vnc") ? near : "vnc=HOST:N");
    }
    keyval_free(&o->window);
    o->window = (struct keyval){0};
    int ret = strcmp(kind, "none") ? keyval_parse(&o->window, arg, "window", err) : 0;
    return ret ? err_prefix(err, ret, "-display") : 0;
}

int option_take_full_screen(struct options *o, const char *arg, struct err *err)
{
    o->full_screen = true;
    return 0;
}
