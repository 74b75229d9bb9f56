/*
 * commit: what a drive's overlay holds goes into its backing file, and the overlay is emptied.
 *
 * The vcpus stand still meanwhile and the devices have ended what they had begun: nothing may come
 * between, as the backing file is closed and opened again. The guest sees a pause as long as the
 * copy takes.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "block/block.h"
#include "core/device.h"
#include "core/machine.h"
#include "monitor/internal.h"

struct commit {
    struct block *block;
    int ret;
    struct err *err;
};

static void commit_here(void *opaque)
{
    struct commit *c = opaque;
    c->ret = block_commit_live(c->block, c->err);
}

/* ---- Standing still ---- */

static bool machine_still(struct machine *m)
{
    bool ran = m->state == MACHINE_RUNNING;
    machine_pause(m);
    for (struct dev *d = m->devs; d; d = d->next) {
        if (d->type->quiesce) {
            d->type->quiesce(d);
        }
    }
    return ran;
}

/* ---- Which ---- */

/* A device has the backing file as its disk, too: it would see it change. */
static int commit_check(const struct machine *m, const char *name, struct block *b, struct err *err)
{
    const struct block *base = block_backing(block_overlay(b));
    for (const struct backend *at = m->backends; base && at; at = at->next) {
        if (at->obj == base && at->taken) {
            return err_set(err, EBUSY, "Device '%s': its backing file is the disk of '%s'", name,
                           at->id);
        }
    }
    return base ? 0 : err_set(err, ENOTSUP, "Device '%s' has no backing file", name);
}

static int commit_one(struct machine *m, const char *name, struct block *b, struct err *err)
{
    struct commit c = {.block = b, .err = err};
    c.ret = commit_check(m, name, b, err);
    if (!c.ret) {
        errand_run(block_graph_of(b), commit_here, &c);
        c.ret = c.ret ? err_prefix(err, c.ret, "Device '%s'", name) : 0;
    }
    return c.ret;
}

/* Images that devices have: a node that another one is made of is not committed for itself. */
static bool commit_wants(const struct backend *b)
{
    bool image = !strcmp(b->kind, "drive") || !strcmp(b->kind, "medium") ||
                 (!strcmp(b->kind, "blockdev") && b->taken);
    return image && b->obj && block_backing(block_overlay(b->obj));
}

/* The first that fails is said; the others are done all the same. */
static int commit_all(struct machine *m, struct err *err)
{
    int ret = 0;
    struct err other;
    for (struct backend *b = m->backends; b; b = b->next) {
        int one = commit_wants(b) ? commit_one(m, b->id, b->obj, ret ? &other : err) : 0;
        ret = ret ? ret : one;
    }
    return ret;
}

int cmd_commit(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct machine *m = mon->machine;
    const char *name = args_need(a, 0, "device", err);
    bool all = name && !strcmp(name, "all");
    struct block *b = name && !all ? media_find(mon, name, err) : NULL;
    if (!name || (!all && !b)) {
        return -EINVAL;
    }
    bool ran = machine_still(m);
    int ret = all ? commit_all(m, err) : commit_one(m, name, b, err);
    if (ran) {
        machine_resume(m);
    }
    return ret;
}
