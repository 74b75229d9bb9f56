/*
 * Writing of persistent dirty bitmaps. Specification: "Qcow2 Image File Format", sections "Bitmaps
 * extension" and "Bitmaps". Tables, bits and directory go to new clusters, then the header is
 * switched over. Its extension may lie across two sectors, so the autoclear bit, which is in the
 * first one, is off in between: cut there, the image has no bitmaps, but is whole.
 */
#include "block/qcow2/bitmaps.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"

/* A table that nobody refers to any more, to be freed with all it refers to. */
struct old_table {
    uint64_t off;
    uint32_t size;
};

static void free_table(struct qcow2 *s, struct old_table old)
{
    AUTO_FREE uint64_t *table = NULL;
    if (old.off == 0 || old.size == 0 || !qcow2_aligned(s, old.off) ||
        old.off + (uint64_t)old.size * 8 > block_size(s->b->file) ||
        qcow2_read_table(s, old.off, old.size, &table) < 0) {
        return; /* a leak, which check finds */
    }
    for (uint32_t i = 0; i < old.size; i++) {
        uint64_t off = table[i] & QCOW2_OFFSET_MASK;
        if (off && qcow2_aligned(s, off)) {
            qcow2_free(s, off, s->cluster_size);
        }
    }
    qcow2_free(s, old.off, (uint64_t)old.size * 8);
}

/* ---- Bits ---- */

/* Bytes of the bits at `at`, as on disk, and the table entry if it needs no cluster. */
static bool cluster_bytes(const struct block_bitmap *bm, uint64_t at, uint64_t len, uint8_t *buf,
                          uint64_t *entry)
{
    bool zeros = true, ones = true;
    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t word = htole64(bm->bits[(at + i) / 8]);
        uint64_t part = len - i < 8 ? len - i : 8;
        memcpy(buf + i, &word, part);
    }
    for (uint64_t i = 0; i < len && (zeros || ones); i++) {
        zeros = zeros && buf[i] == 0;
        ones = ones && buf[i] == 0xff;
    }
    *entry = zeros ? 0 : BITMAP_ALL_ONES;
    return zeros || ones;
}

static int store_cluster(struct qcow2 *s, const struct block_bitmap *bm, uint64_t at, uint64_t len,
                         uint8_t *buf, uint64_t *entry)
{
    /* The unused end of the last cluster must be zero, so "all ones" needs a full one. */
    bool simple = cluster_bytes(bm, at, len, buf, entry);
    if (simple && (*entry == 0 || len == s->cluster_size)) {
        return 0;
    }
    return qcow2_store_bytes(s, buf, len, entry);
}

/* New table with the bits; `table` has what there is so far if it fails. */
static int store_bits(struct qcow2 *s, const struct block_bitmap *bm, uint64_t *table,
                      uint64_t entries)
{
    uint64_t bytes = qcow2_bitmap_bytes(bm->size, bm->granularity);
    AUTO_FREE uint8_t *buf = calloc(1, s->cluster_size);
    int ret = buf ? 0 : -ENOMEM;
    for (uint64_t i = 0; i < entries && ret == 0; i++) {
        uint64_t at = i * s->cluster_size;
        uint64_t len = bytes - at < s->cluster_size ? bytes - at : s->cluster_size;
        ret = store_cluster(s, bm, at, len, buf, &table[i]);
        table[i] = ret < 0 ? 0 : table[i];
    }
    return ret;
}

/* Without `bits` the table of an empty bitmap. */
static int store_table(struct qcow2 *s, const struct block_bitmap *bm, bool bits,
                       struct old_table *new)
{
    uint64_t entries = qcow2_bitmap_entries(s, qcow2_bitmap_bytes(bm->size, bm->granularity));
    AUTO_FREE uint64_t *table = calloc(entries ? entries : 1, 8);
    new->size = (uint32_t)entries;
    int ret = !table ? -ENOMEM : bits ? store_bits(s, bm, table, entries) : 0;
    uint64_t clusters = round_up(entries * 8, s->cluster_size) >> s->cluster_bits;
    new->off = 0;
    if (ret == 0 && clusters) { /* without a disk no table either */
        ret = qcow2_alloc(s, clusters, &new->off);
    }
    if (ret == 0 && clusters) {
        ret = qcow2_write_table(s, new->off, table, entries);
        if (ret < 0) {
            qcow2_free(s, new->off, clusters << s->cluster_bits);
        }
    }
    for (uint64_t i = 0; ret < 0 && table && i < entries; i++) {
        if (table[i] & QCOW2_OFFSET_MASK) {
            qcow2_free(s, table[i], s->cluster_size);
        }
    }
    return ret;
}

/* ---- Directory ---- */

static void put_entry(const struct qcow2_bitmap *m, bool in_use, uint8_t *h)
{
    size_t name = strlen(m->bm.name);
    uint32_t flags = m->flags & ~(uint32_t)(BITMAP_AUTO | BITMAP_IN_USE);
    flags |= m->bm.enabled ? BITMAP_AUTO : 0;
    /* What may not be used because of its extra data stays as it is. */
    flags |= in_use && !m->bm.inconsistent ? BITMAP_IN_USE : 0;
    flags |= m->bm.inconsistent ? m->flags & BITMAP_IN_USE : 0;
    store_be64(h, m->table_off);
    store_be32(h + 8, m->table_size);
    store_be32(h + 12, flags);
    h[16] = m->type;
    h[17] = (uint8_t)__builtin_ctz(m->bm.granularity);
    store_be16(h + 18, (uint16_t)name);
    store_be32(h + 20, m->extra_len);
    if (m->extra_len) {
        memcpy(h + BITMAP_ENTRY_BYTES, m->extra, m->extra_len);
    }
    memcpy(h + BITMAP_ENTRY_BYTES + m->extra_len, m->bm.name, name);
}

/* The directory as bytes; *len 0 and NULL without bitmaps. */
static int build_dir(struct qcow2 *s, bool in_use, uint8_t **dir, uint64_t *len, uint32_t *count)
{
    uint64_t at = 0;
    *len = *count = 0;
    for (struct qcow2_bitmap *m = qcow2_bitmap_first(s); m; m = qcow2_bitmap_next(m)) {
        *len += qcow2_bitmap_dir_entry(m);
        (*count)++;
    }
    if (*len > BITMAP_MAX_DIR_BYTES || *count > QCOW2_MAX_BITMAPS) {
        return -EFBIG;
    }
    *dir = calloc(1, *len + 1);
    if (!*dir) {
        return -ENOMEM;
    }
    for (struct qcow2_bitmap *m = qcow2_bitmap_first(s); m; m = qcow2_bitmap_next(m)) {
        put_entry(m, in_use, *dir + at);
        at += qcow2_bitmap_dir_entry(m);
    }
    return 0;
}

int qcow2_bitmaps_mark_in_use(struct qcow2 *s)
{
    AUTO_FREE uint8_t *dir = NULL;
    uint64_t len;
    uint32_t count;
    int ret = build_dir(s, true, &dir, &len, &count);
    if (ret == 0 && (len != s->bitmaps_dir_len || count != s->bitmaps_count)) {
        ret = -EIO;
    }
    if (ret == 0) {
        ret = block_pwrite(s->b->file, s->bitmaps_dir_off, dir, len, 0);
    }
    return ret < 0 ? ret : block_flush(s->b->file);
}

static int switch_dir(struct qcow2 *s, uint64_t off, uint64_t len, uint32_t count)
{
    int ret = 0;
    if (s->autoclear & QCOW2_BITMAPS) {
        s->autoclear &= ~(uint64_t)QCOW2_BITMAPS;
        ret = qcow2_commit_header(s);
    }
    s->bitmaps_dir_off = off;
    s->bitmaps_dir_len = len;
    s->bitmaps_count = count;
    if (ret == 0) {
        ret = qcow2_commit_header(s);
    }
    if (ret == 0 && count) {
        s->autoclear |= QCOW2_BITMAPS;
        ret = qcow2_commit_header(s);
    }
    return ret;
}

int qcow2_bitmaps_shrink_dir(struct qcow2 *s)
{
    AUTO_FREE uint8_t *dir = NULL;
    uint64_t len;
    uint32_t count;
    int ret = build_dir(s, false, &dir, &len, &count);
    s->autoclear &= ~(uint64_t)QCOW2_BITMAPS;
    ret = ret < 0 ? ret : qcow2_commit_header(s);
    if (ret == 0 && count) {
        ret = block_pwrite(s->b->file, s->bitmaps_dir_off, dir, len, 0);
    }
    return ret < 0 ? ret : switch_dir(s, count ? s->bitmaps_dir_off : 0, len, count);
}

static int store_dir(struct qcow2 *s, bool in_use)
{
    AUTO_FREE uint8_t *dir = NULL;
    uint64_t len, off = 0, old_off = s->bitmaps_dir_off, old_len = s->bitmaps_dir_len;
    uint64_t old_autoclear = s->autoclear;
    uint32_t count, old_count = s->bitmaps_count;
    int ret = build_dir(s, in_use, &dir, &len, &count);
    if (ret == 0 && count) {
        ret = qcow2_store_bytes(s, dir, len, &off);
    }
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_barrier(s);
    ret = ret < 0 ? ret : block_flush(s->b->file); /* with lazy refcounts nobody has done that */
    if (ret == 0) {
        ret = switch_dir(s, off, len, count);
    }
    if (ret < 0) { /* which of both is on disk is not known: the new one stays, as a leak */
        s->bitmaps_dir_off = old_off;
        s->bitmaps_dir_len = old_len;
        s->bitmaps_count = old_count;
        s->autoclear = old_autoclear;
    } else if (old_count) {
        qcow2_free(s, old_off, old_len);
    }
    return ret;
}

/* ---- All together ---- */

static uint32_t list_length(struct qcow2 *s)
{
    uint32_t n = 0;
    for (struct block_bitmap *bm = s->bitmaps; bm; bm = bm->next) {
        n++;
    }
    return n;
}

/* New tables for all that need one; what they had is in old[], by position. */
static int store_tables(struct qcow2 *s, bool in_use, struct old_table *old)
{
    struct old_table new;
    uint32_t i = 0;
    for (struct qcow2_bitmap *m = qcow2_bitmap_first(s); m; m = qcow2_bitmap_next(m), i++) {
        bool fresh = m->table_off == 0;
        if (m->bm.inconsistent || !m->bm.bits || !(fresh || (m->changed && !in_use))) {
            continue;
        }
        int ret = store_table(s, &m->bm, !in_use, &new);
        if (ret < 0) {
            return ret;
        }
        old[i] = (struct old_table){m->table_off, m->table_size};
        m->table_off = new.off;
        m->table_size = new.size;
        m->changed = in_use;
    }
    return 0;
}

int qcow2_bitmaps_write(struct qcow2 *s, bool in_use, const struct qcow2_bitmap *gone)
{
    uint32_t n = list_length(s);
    AUTO_FREE struct old_table *old = alloc_array(n + 1u, sizeof(*old));
    int ret = store_tables(s, in_use, old);
    if (ret == 0) {
        ret = store_dir(s, in_use);
    }
    if (ret == 0 && gone) {
        free_table(s, (struct old_table){gone->table_off, gone->table_size});
    }
    for (uint32_t i = 0; ret == 0 && i < n; i++) {
        free_table(s, old[i]);
    }
    return ret;
}
