/*
 * check: counts what refers to each cluster of an image and compares with the refcounts in it.
 * Specification: "Qcow2 Image File Format". Looks at the header, the refcount structure, L1 and L2
 * tables of the disk and all snapshots, the snapshot table, bitmaps and the encryption header.
 * Does not look at guest data, nor whether compressed data can be unpacked.
 */
#include "block/qcow2/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/qcow2/bitmaps.h"

typedef unsigned long long ull;

static void say(struct check *c, const char *fmt, va_list ap)
{
    char text[512];
    if (c->r->say) {
        vsnprintf(text, sizeof(text), fmt, ap);
        c->r->say(c->r->opaque, text);
    }
}

void check_found(struct check *c, bool fixed, uint64_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(c, fmt, ap);
    va_end(ap);
    if (fixed) {
        c->r->corruptions_fixed += n;
    } else {
        c->r->corruptions += n;
    }
}

void check_error(struct check *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(c, fmt, ap);
    va_end(ap);
    c->r->check_errors++;
}

bool check_in_file(const struct check *c, uint64_t off, uint64_t len)
{
    uint64_t end;
    return add_ok(off, len, &end) && (end >> c->s->cluster_bits) <= c->clusters &&
           end <= c->clusters << c->s->cluster_bits;
}

int check_count(struct check *c, uint64_t off, uint64_t len, int64_t n)
{
    uint64_t last = (off + len - 1) >> c->s->cluster_bits;
    for (uint64_t k = off >> c->s->cluster_bits; k <= last; k++) {
        int ret = counts_add(&c->counts, k, n);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* A part of the file that the header or a table names: counted, or complained of. */
static int check_region(struct check *c, uint64_t off, uint64_t len, const char *what)
{
    if (len == 0) {
        return 0;
    }
    if (!qcow2_aligned(c->s, off) || !check_in_file(c, off, len)) {
        check_found(c, false, 1, "ERROR %s at %#llx is %s", what, (ull)off,
                    qcow2_aligned(c->s, off) ? "outside of the image file" : "not cluster aligned");
        return 0;
    }
    return check_count(c, off, len, 1);
}

/* ---- Bitmaps ---- */

/* Its table in host order, or NULL if it cannot be used. */
static int read_bitmap_table(struct check *c, const struct qcow2_bitmap *m, uint64_t **table)
{
    uint64_t bytes = (uint64_t)m->table_size * 8;
    *table = NULL;
    if (m->table_off == 0 || bytes == 0 || !qcow2_aligned(c->s, m->table_off) ||
        !check_in_file(c, m->table_off, bytes)) {
        return 0;
    }
    return qcow2_read_table(c->s, m->table_off, m->table_size, table);
}

static bool bitmap_entry_sane(struct check *c, uint64_t entry)
{
    uint64_t off = entry & QCOW2_OFFSET_MASK;
    return !(entry & ~(QCOW2_OFFSET_MASK | BITMAP_ALL_ONES)) &&
           !(off && (entry & BITMAP_ALL_ONES)) && qcow2_aligned(c->s, off) &&
           (off == 0 || check_in_file(c, off, c->s->cluster_size));
}

/* Looks at the table first: one that is to be dropped must not be counted. */
static int look_at_bitmap(struct check *c, struct qcow2_bitmap *m)
{
    AUTO_FREE uint64_t *table = NULL;
    int ret = read_bitmap_table(c, m, &table);
    bool empty = m->table_size == 0 && m->table_off == 0;
    uint64_t bad = table || empty ? 0 : 1;
    for (uint32_t i = 0; table && i < m->table_size; i++) {
        bad += !bitmap_entry_sane(c, table[i]);
    }
    m->broken = bad;
    if (bad) {
        check_found(c, check_fixing(c), bad,
                    "ERROR the table of the dirty bitmap '%s' is damaged%s", m->bm.name,
                    check_fixing(c) ? "; the bitmap is dropped" : "");
    }
    return ret;
}

static int count_bitmap(struct check *c, const struct qcow2_bitmap *m)
{
    AUTO_FREE uint64_t *table = NULL;
    int ret = read_bitmap_table(c, m, &table);
    if (ret == 0 && table) {
        ret = check_count(c, m->table_off, (uint64_t)m->table_size * 8, 1);
    }
    for (uint32_t i = 0; table && i < m->table_size && ret == 0; i++) {
        if ((table[i] & QCOW2_OFFSET_MASK) && bitmap_entry_sane(c, table[i])) {
            ret = check_count(c, table[i] & QCOW2_OFFSET_MASK, c->s->cluster_size, 1);
        }
    }
    return ret;
}

/* Takes broken ones off the list, and off the directory on disk. */
static int drop_broken_bitmaps(struct check *c)
{
    bool any = false;
    for (struct block_bitmap **at = &c->s->bitmaps; *at;) {
        struct qcow2_bitmap *m = (struct qcow2_bitmap *)*at;
        if (m->broken) {
            *at = m->bm.next;
            qcow2_bitmap_free(m);
            any = true;
        } else {
            at = &m->bm.next;
        }
    }
    return any || !c->s->bitmaps ? qcow2_bitmaps_shrink_dir(c->s) : 0;
}

static int check_bitmaps(struct check *c)
{
    struct qcow2 *s = c->s;
    int ret = 0;
    if (s->bitmaps_count == 0) {
        return 0;
    }
    if (!s->bitmaps) {
        check_found(c, check_fixing(c), 1, "ERROR the directory of dirty bitmaps cannot be used%s",
                    check_fixing(c) ? "; all are dropped" : "");
        c->unseen = c->unseen || !check_fixing(c);
    }
    for (struct qcow2_bitmap *m = qcow2_bitmap_first(s); m && ret == 0; m = qcow2_bitmap_next(m)) {
        ret = look_at_bitmap(c, m);
    }
    if (ret == 0 && check_fixing(c)) {
        ret = drop_broken_bitmaps(c);
    }
    for (struct qcow2_bitmap *m = qcow2_bitmap_first(s); m && ret == 0; m = qcow2_bitmap_next(m)) {
        ret = count_bitmap(c, m);
    }
    return ret < 0 || s->bitmaps_count == 0
               ? ret
               : check_region(c, s->bitmaps_dir_off, s->bitmaps_dir_len, "the bitmap directory");
}

/* ---- All ---- */

static int check_snapshot_table(struct check *c)
{
    struct qcow2 *s = c->s;
    if (s->snapshots_bad) {
        check_found(c, check_fixing(c), 1,
                    "ERROR the snapshot table is damaged; %u snapshots in it can be used",
                    s->snap_count);
        c->unseen = c->unseen || !check_fixing(c);
    }
    return s->snap_count
               ? check_region(c, s->snapshots_off, s->snapshot_bytes, "the snapshot table")
               : 0;
}

static int count_all(struct check *c)
{
    struct qcow2 *s = c->s;
    int ret = check_count(c, 0, s->cluster_size, 1);
    ret = ret < 0 ? ret : check_tree(c);
    ret = ret < 0 ? ret : check_snapshot_table(c);
    if (ret == 0 && s->crypt_len) {
        ret = check_region(c, s->crypt_off, s->crypt_len, "the encryption header");
    }
    ret = ret < 0 ? ret : check_bitmaps(c);
    return ret < 0 ? ret : check_refs_init(c);
}

/* Repairs write in an order that a cut leaves no worse image: what refers to nonsense has gone
 * already, then refcounts rise, then COPIED, at last refcounts fall. */
static int check_and_repair(struct check *c, struct err *err)
{
    int ret = count_all(c);
    if (ret == 0 && check_fixing(c)) {
        ret = block_flush(c->s->b->file);
    }
    c->unseen = c->unseen || c->r->check_errors;
    ret = ret < 0 ? ret : check_compare(c);
    if (ret == 0 && check_fixing(c)) {
        ret = repair_refcounts(c, err);
    }
    ret = ret < 0 ? ret : check_flags(c);
    if (ret == 0 && c->repair) {
        ret = block_flush(c->s->b->file);
        ret = ret < 0 ? ret : repair_leaks(c);
        ret = ret < 0 ? ret : repair_finish(c);
    }
    c->r->image_end = c->high << c->s->cluster_bits;
    return ret;
}

static int begin(struct check *c, struct err *err)
{
    struct qcow2 *s = c->s;
    uint64_t end = block_size(s->b->file);
    c->clusters = (end >> s->cluster_bits) + ((end & (s->cluster_size - 1)) != 0);
    if (c->clusters == 0) {
        return err_set(err, EINVAL, "%s: the image file is empty", block_filename(s->b));
    }
    int ret = counts_init(&c->counts, c->clusters);
    if (ret < 0) {
        return err_set(err, -ret,
                       "%s: the image file claims %llu clusters, too many to keep count of",
                       block_filename(s->b), (ull)c->clusters);
    }
    c->r->total_clusters = qcow2_guest_clusters(s, s->b->size);
    return 0;
}

static int check_locked(struct check *c, struct err *err)
{
    struct qcow2 *s = c->s;
    if (!block_readonly(s->b)) {
        int ret = qcow2_barrier(s);
        ret = ret < 0 ? ret : qcow2_drop_caches(s);
        if (ret < 0) {
            return err_set(err, -ret, "%s: writing what was changed failed: %s",
                           block_filename(s->b), strerror(-ret));
        }
    }
    int ret = begin(c, err);
    if (ret < 0) {
        return ret;
    }
    err->text[0] = 0;
    ret = check_and_repair(c, err);
    if (ret < 0 && !err->text[0]) {
        err_set(err, -ret, "%s: checking failed: %s", block_filename(s->b),
                ret == -ENOMEM ? "too much memory would be needed" : strerror(-ret));
    }
    if (c->repair && !block_readonly(s->b)) {
        qcow2_drop_caches(s);
    }
    return ret;
}

int qcow2_check(struct block *b, unsigned repair, struct check_report *r, struct err *err)
{
    struct check c = {.s = b->state, .r = r, .repair = repair};
    if (repair && block_readonly(b)) {
        return err_set(err, EROFS, "%s: repairing needs an image that can be written",
                       block_filename(b));
    }
    if (c.s->viewing) {
        return err_set(err, EINVAL, "%s: shows a snapshot; checking takes the whole image",
                       block_filename(b));
    }
    co_lock(&c.s->lock);
    int ret = check_locked(&c, err);
    co_unlock(&c.s->lock);
    check_refs_free(&c);
    counts_free(&c.counts);
    free(c.l2);
    return ret;
}
