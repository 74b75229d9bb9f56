/*
 * Repairing what check found: refcounts, the COPIED flags that follow from them, and the marks in
 * the header. Counts that are too small are raised first, those that are too large are lowered
 * last, so that a cut in between leaves at worst what was there. If the refcount structure itself
 * is broken, a new one is written behind the end of the file and switched over to.
 */
#include "block/qcow2/check.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"

/* In the block of this index: raises or lowers, as `raise` says, to what was counted. */
static int fix_block(struct check *c, uint64_t index, uint8_t *block, bool raise)
{
    struct qcow2 *s = c->s;
    uint64_t n = qcow2_refblock_entries(s), first = index * n;
    bool changed = false;
    int ret = qcow2_file_read(s, c->refs.table[index], block, s->cluster_size);
    for (uint64_t i = 0; i < n && first + i < c->clusters && ret == 0; i++) {
        uint64_t have = qcow2_count_load(block, s->refcount_order, i);
        uint64_t want = counts_get(&c->counts, first + i);
        if (raise ? have < want : have > want) {
            ret = want > qcow2_count_max(s->refcount_order) ? -ERANGE : 0;
            qcow2_count_store(block, s->refcount_order, i, want);
            changed = true;
        }
    }
    if (ret == 0 && changed) {
        ret = block_pwrite(s->b->file, c->refs.table[index], block, s->cluster_size, 0);
    }
    return ret;
}

static int fix_blocks(struct check *c, bool raise)
{
    AUTO_FREE uint8_t *block = malloc(c->s->cluster_size);
    int ret = block ? 0 : -ENOMEM;
    for (uint64_t i = 0; i < c->refs.size && ret == 0; i++) {
        ret = c->refs.table[i] ? fix_block(c, i, block, raise) : 0;
    }
    c->refs.loaded = false;
    return ret < 0 ? ret : block_flush(c->s->b->file);
}

/* Something is in use that no refcount block counts. */
static bool lacks_block(struct check *c)
{
    uint64_t n = qcow2_refblock_entries(c->s);
    for (uint64_t k = 0; k < c->clusters; k++) {
        uint64_t i = k / n;
        if (counts_chunk_empty(&c->counts, k)) {
            k = (k / COUNTS_CHUNK + 1) * COUNTS_CHUNK - 1;
        } else if (counts_get(&c->counts, k) && (i >= c->refs.size || !c->refs.table[i])) {
            return true;
        }
    }
    return false;
}

static int count_of(void *opaque, uint64_t cluster, uint64_t *count)
{
    struct check *c = opaque;
    *count = counts_get(&c->counts, cluster);
    return 0;
}

static int rebuild(struct check *c, struct err *err)
{
    struct qcow2 *s = c->s;
    int ret = check_refs_uncount(c);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_rebuild_refcounts(s, s->refcount_order, count_of, c, c->clusters, err);
    ret = ret < 0 ? ret : qcow2_barrier(s);
    if (ret == 0 && c->r->say) {
        c->r->say(c->r->opaque, "The refcount structure was broken and has been rebuilt");
    }
    c->rebuilt = ret == 0;
    return ret;
}

int repair_refcounts(struct check *c, struct err *err)
{
    if (c->unseen) {
        check_error(c, "Refcounts are not repaired: parts of the image could not be looked at");
        return 0;
    }
    if (c->rebuild || lacks_block(c)) {
        return rebuild(c, err);
    }
    return fix_blocks(c, true);
}

int repair_leaks(struct check *c)
{
    bool structure_bad = c->rebuild && !c->rebuilt;
    if (!(c->repair & REPAIR_LEAKS) || c->rebuilt || c->unseen || structure_bad) {
        return 0;
    }
    return fix_blocks(c, false);
}

/* With sound refcounts: a new snapshot table, and the marks in the header. */
int repair_finish(struct check *c)
{
    struct qcow2 *s = c->s;
    bool sound = c->r->corruptions == 0 && c->r->check_errors == 0;
    bool marked = s->incompatible & (QCOW2_DIRTY | QCOW2_CORRUPT);
    if (!check_fixing(c) || !sound) {
        return 0;
    }
    qcow2_cache_forget_all(s->l2_cache);
    if (!c->rebuilt) {
        qcow2_cache_forget_all(s->ref_cache);
    }
    s->free_hint = 0;
    int ret = 0;
    if (s->snapshots_bad) {
        struct qcow2_snap *old = s->snaps;
        ret = qcow2_write_snapshots(s, old, s->snap_count);
        ret = ret < 0 ? ret : qcow2_barrier(s);
        s->snapshots_bad = ret < 0;
    }
    if (ret == 0 && marked) {
        s->incompatible &= ~(uint64_t)(QCOW2_DIRTY | QCOW2_CORRUPT);
        ret = qcow2_commit_header(s);
        s->lazy_marked = s->lazy_marked && ret < 0;
        s->is_corrupt = s->is_corrupt && ret < 0;
    }
    return ret;
}
