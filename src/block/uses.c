/*
 * Who may use a node together: a node that several have as their child must not be written by one
 * while another relies on what is in it. Formats and backing files rely; raw and filters do if
 * those above them do. A raw or filter that can be written counts as written, whoever may be going
 * to.
 *
 * Does not do: users that are no nodes. Devices and exports look at block_has_parents() themselves.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "block/core.h"

struct use {
    const struct block *parent;
    const char *as;
};

/* Calls fn for every use of `b`, and for `more` if that is one; the first result that is not 0. */
static int uses_walk(const struct block *b, const struct use *more,
                     int (*fn)(const struct use *, void *), void *opaque)
{
    int ret = more ? fn(more, opaque) : 0;
    for (const struct block *n = b->graph->nodes; !ret && n; n = n->next) {
        const struct use in[] = {{n, n->file == b ? "file" : NULL},
                                 {n, n->data == b ? "data-file" : NULL},
                                 {n, n->backing == b ? "backing" : NULL}};
        for (int i = 0; !ret && i < 3; i++) {
            ret = in[i].as ? fn(&in[i], opaque) : 0;
        }
    }
    return ret;
}

static bool use_is_backing(const struct use *u)
{
    return !strcmp(u->as, "backing");
}

static bool use_writes(const struct use *u)
{
    return !use_is_backing(u) && u->parent->flags & BLOCK_RDWR;
}

static int use_relies(const struct use *u, void *unused)
{
    const struct block *p = u->parent;
    if (p->flags & BLOCK_FORCE_SHARE) {
        return 0;
    }
    bool plain = p->type->filter || p->type->plain;
    if (use_is_backing(u) || !plain || p->flags & BLOCK_EXCLUSIVE) {
        return 1;
    }
    return uses_walk(p, NULL, use_relies, NULL);
}

struct pair {
    const struct block *b;
    const struct use *first;
    const struct use *more;
    struct err *err;
};

static bool use_same(const struct use *a, const struct use *b)
{
    return a->parent == b->parent && !strcmp(a->as, b->as);
}

static int pair_check(const struct use *relies, void *opaque)
{
    const struct pair *p = opaque;
    if (use_same(p->first, relies) || !use_relies(relies, NULL)) {
        return 0;
    }
    const char *name = p->b->node_name;
    return err_set(p->err, EPERM,
                   "Permission conflict on node '%s': permissions 'write' are both required by "
                   "node '%s' (uses node '%s' as '%s' child) and unshared by node '%s' (uses node "
                   "'%s' as '%s' child)",
                   name, p->first->parent->node_name, name, p->first->as, relies->parent->node_name,
                   name, relies->as);
}

static int use_check(const struct use *u, void *opaque)
{
    struct pair p = *(struct pair *)opaque;
    p.first = u;
    return use_writes(u) ? uses_walk(p.b, p.more, pair_check, &p) : 0;
}

int block_check_uses(const struct block *b, const struct block *parent, const char *as,
                     struct err *err)
{
    const struct use more = {parent, as};
    struct pair p = {.b = b, .more = as ? &more : NULL, .err = err};
    int ret = b->refs > 1 ? uses_walk(b, p.more, use_check, &p) : 0;
    /* What relies on this one now relies on what is below. */
    bool plain = b->type->filter || b->type->plain;
    return ret || !plain || !b->file ? ret : block_check_uses(b->file, NULL, NULL, err);
}
