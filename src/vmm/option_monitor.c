/* -monitor, -mon, -parallel: what is on which character device. */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "vmm/option_table.h"

static void text_push(struct text_list *l, const char *arg)
{
    l->items = alloc_resize((void *)l->items, l->count + 1, sizeof(*l->items));
    l->items[l->count++] = arg;
}

int option_monitor(struct options *o, const char *arg, struct err *err)
{
    o->monitor_given = true;
    if (strcmp(arg, "none")) {
        text_push(&o->monitors, arg);
    }
    return 0;
}

/* [chardev=]ID[,mode=readline][,id=NAME] */
int option_mon(struct options *o, const char *arg, struct err *err)
{
    o->monitor_given = true;
    int ret = option_list_push(&o->mons, arg, "chardev", "-mon", err);
    const struct keyval *kv = ret ? NULL : &o->mons.items[o->mons.count - 1];
    const char *mode = kv ? keyval_get(kv, "mode") : NULL;
    if (kv && !keyval_get(kv, "chardev")) {
        return err_set(err, EINVAL, "-mon: needs chardev=ID");
    }
    if (mode && strcmp(mode, "readline")) {
        return err_set(err, EINVAL, "-mon: mode '%s' is not supported; the nearest is 'readline'",
                       mode);
    }
    return ret;
}

int option_parallel(struct options *o, const char *arg, struct err *err)
{
    text_push(&o->parallels, arg);
    return 0;
}
