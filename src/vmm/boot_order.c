/* Devices with a bootindex, in its order, by the names that firmware has for them. */
#include "vmm/boot_order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "core/device.h"
#include "core/machine.h"

#define NO_BOOTINDEX UINT32_MAX

static uint32_t boot_index(const struct dev *d)
{
    const struct prop *p = d->type->props;
    while (d->type->boot_name && p && p->name) {
        if (!strcmp(p->name, "bootindex") && p->kind == PROP_U32) {
            return *(const uint32_t *)((const char *)d + p->offset);
        }
        p++;
    }
    return NO_BOOTINDEX;
}

/* The one with the least index that is not below `from`; two with it are refused. */
static int boot_next(const struct machine *m, uint32_t from, const struct dev **next,
                     struct err *err)
{
    uint32_t best = NO_BOOTINDEX;
    *next = NULL;
    for (const struct dev *d = m->devs; d; d = d->next) {
        uint32_t at = boot_index(d);
        if (at != NO_BOOTINDEX && at == best) {
            return err_set(err, EINVAL, "bootindex=%u is given twice, by %s and by %s", at,
                           d->type->name, (*next)->type->name);
        }
        if (at >= from && at < best) {
            best = at;
            *next = d;
        }
    }
    return 0;
}

/* A line end between two names, none after the last. */
static void boot_add(const struct dev *d, struct strbuf *sb)
{
    struct strbuf name = {0};
    d->type->boot_name(d, &name);
    if (name.len) { /* else firmware has no name for it */
        strbuf_add(sb, "%s%s", sb->len ? "\n" : "", name.text);
    }
    strbuf_free(&name);
}

int boot_order_set(struct machine *m, struct err *err)
{
    struct strbuf sb = {0};
    const struct dev *d = NULL;
    int ret = boot_next(m, 0, &d, err);
    while (!ret && d) {
        boot_add(d, &sb);
        ret = boot_next(m, boot_index(d) + 1, &d, err);
    }
    if (!ret && sb.len) {
        strbuf_add(&sb, m->config.boot_strict ? "\nHALT" : "");
        m->config.boot_order_devices = alloc_text(sb.text);
    }
    strbuf_free(&sb);
    return ret;
}
