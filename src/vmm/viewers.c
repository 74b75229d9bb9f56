/* Viewers from options. */
#include "vmm/viewers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "base/near.h"
#include "core/machine.h"
#include "display/keymap.h"
#include "display/sdl.h"
#include "display/vnc.h"
#include "vmm/options.h"

struct viewers {
    struct keymap *keymap; /* of -k, or NULL */
    struct vnc *vnc;
    struct sdl *sdl;
};

static int check_names(const char *what, const struct keyval *kv, const char *const *names,
                       size_t n, struct err *err)
{
    for (size_t i = 0; i < kv->count; i++) {
        const char *key = kv->pairs[i].key, *near = near_pick(key, names, n);
        if (strcmp(key, near)) {
            return err_set(err, EINVAL, "%s has no option '%s'; the nearest is '%s'", what, key,
                           near);
        }
    }
    return 0;
}

static int viewers_add_vnc(struct viewers *v, struct machine *m, const struct options *o,
                           struct err *err)
{
    static const char *const names[] = {"vnc", "to", "share", "password"};
    int ret = check_names("-vnc", &o->vnc, names, ARRAY_LEN(names), err);
    if (!ret && o->keymap) {
        v->keymap = keymap_load(o->keymap, m->config.firmware_dir, err);
        ret = v->keymap ? 0 : -EINVAL;
    }
    if (!ret && o->vnc.count) {
        v->vnc = vnc_new(m->display, m->loop, m->config.name, v->keymap, &o->vnc, err);
        ret = v->vnc ? 0 : -EINVAL;
    }
    return ret;
}

static void window_closed(void *opaque)
{
    machine_ask(opaque, MACHINE_REQ_QUIT, 0);
}

static int viewers_add_window(struct viewers *v, struct machine *m, const struct options *o,
                              struct err *err)
{
    static const char *const names[] = {"window", "window-close", "show-cursor"};
    const struct sdl_options how = {m->config.name, o->full_screen, window_closed, m};
    int ret = check_names("-display sdl", &o->window, names, ARRAY_LEN(names), err);
    if (!ret && o->window.count) {
        v->sdl = sdl_new(m->display, &how, &o->window, err);
        ret = v->sdl ? 0 : -EINVAL;
    }
    return ret;
}

struct viewers *viewers_new(struct machine *m, const struct options *o, struct err *err)
{
    struct viewers *v = alloc_zero(sizeof(*v));
    int ret = viewers_add_vnc(v, m, o, err);
    ret = ret ? ret : viewers_add_window(v, m, o, err);
    if (ret) {
        viewers_free(v);
        return NULL;
    }
    return v;
}

struct vnc *viewers_vnc(const struct viewers *v)
{
    return v->vnc;
}

void viewers_free(struct viewers *v)
{
    if (v) {
        vnc_free(v->vnc);
        keymap_free(v->keymap);
        sdl_free(v->sdl);
        free(v);
    }
}

void viewers_leave(struct viewers *v)
{
    if (v) {
        vnc_leave(v->vnc);
        sdl_free(v->sdl);
    }
}
