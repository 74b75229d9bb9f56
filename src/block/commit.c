/* Committing: what an image holds goes into the one below it, or one further below. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "block/copy.h"
#include "block/core.h"

static int commit_copy(struct block *top, struct block *base, const struct block_commit *how,
                       struct err *err)
{
    uint64_t size = block_size(top);
    struct copy_source source = {.b = top, .len = size};
    struct copy copy = {
        .watch = how->watch,
        .opaque = how->opaque,
        .sources = &source,
        .source_count = 1,
        .target = base,
        .total = size,
        .rate = how->rate,
        .min_zero = 4096,
        .workers = 4,
        .skip = true,
        .base = base,
        .skip_end = size,
    };
    int ret = block_size(base) < size ? block_truncate(base, size, PREALLOC_OFF, err) : 0;
    ret = ret ? ret : copy_run(&copy, err);
    int flushed = ret ? 0 : block_flush(base);
    return flushed ? err_set(err, -flushed, "cannot write '%s': %s", block_filename(base),
                             strerror(-flushed))
                   : ret;
}

/* Only after the data is safe below is the image emptied. */
int block_commit(struct block *top, struct block *base, const struct block_commit *how,
                 struct err *err)
{
    int ret = commit_copy(top, base, how, err);
    if (ret || how->keep) {
        return ret;
    }
    ret = block_make_empty(top, err);
    return ret ? err_prefix(err, ret, "Could not empty %s", block_filename(top)) : 0;
}

struct block *block_overlay(struct block *b)
{
    while (b && b->type->filter && b->file) {
        b = b->file;
    }
    return b;
}

/* Whoever else sees the base would find other data there than it wants. */
static int commit_alone(const struct block *top, const struct block *base, struct err *err)
{
    for (const struct block *n = base->graph->nodes; n; n = n->next) {
        bool uses = n->file == base || n->data == base || n->backing == base;
        if (n != top && uses) {
            return err_set(err, EBUSY,
                           "the backing file '%s' of '%s' is also used by the node '%s'",
                           base->filename, top->filename, n->node_name);
        }
    }
    return base->file ? commit_alone(base, base->file, err) : 0;
}

int block_commit_live(struct block *b, struct err *err)
{
    struct block *top = block_overlay(b), *base = top->backing;
    if (!base) {
        return err_set(err, ENOTSUP, "'%s' has no backing file", top->filename);
    }
    bool reopen = block_readonly(base);
    int ret = commit_alone(top, base, err);
    ret = ret || !reopen ? ret : block_reopen(base, true, err);
    if (ret) {
        return ret;
    }
    /* What cannot be emptied shows the same as before. */
    const struct block_commit how = {.keep = block_readonly(top) || !top->type->make_empty};
    ret = block_commit(top, base, &how, err);
    struct err late;
    int closed = reopen ? block_reopen(base, false, ret ? &late : err) : 0;
    return ret ? ret : closed;
}
