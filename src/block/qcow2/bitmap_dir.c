/*
 * Reading of the bitmap directory and of the bits of the bitmaps in it. Specification: "Qcow2 Image
 * File Format", sections "Bitmaps extension" and "Bitmaps". What was left in use, has extra data
 * that forbids using it, or does not fit the disk is listed as inconsistent and not loaded.
 */
#include "block/qcow2/bitmaps.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"

/* One data cluster into the words; `at` and `len` in bytes. */
static int load_cluster(struct qcow2 *s, uint64_t entry, uint8_t *bits, uint64_t at, uint64_t len)
{
    uint64_t off = entry & QCOW2_OFFSET_MASK;
    if ((entry & ~(QCOW2_OFFSET_MASK | BITMAP_ALL_ONES)) || !qcow2_aligned(s, off) ||
        (off && (entry & BITMAP_ALL_ONES))) {
        return -EINVAL;
    }
    if (off) {
        return qcow2_file_read(s, off, bits + at, len);
    }
    if (entry & BITMAP_ALL_ONES) {
        memset(bits + at, 0xff, len);
    }
    return 0;
}

/* From little-endian bytes to words, without the bits behind the end of the disk. */
static void to_words(struct block_bitmap *bm, uint64_t bytes)
{
    uint64_t bits = qcow2_bitmap_bits(bm->size, bm->granularity);
    for (uint64_t i = 0; i < (bytes + 7) / 8; i++) {
        if (bm->bits[i]) {
            bm->bits[i] = le64toh(bm->bits[i]);
        }
    }
    if (bits % 64) {
        bm->bits[bits / 64] &= mask_low((unsigned)(bits % 64));
    }
}

static int load_bits(struct qcow2 *s, struct qcow2_bitmap *m)
{
    uint64_t bytes = qcow2_bitmap_bytes(m->bm.size, m->bm.granularity);
    uint64_t end = block_size(s->b->file);
    AUTO_FREE uint64_t *table = NULL;
    if (m->table_size != qcow2_bitmap_entries(s, bytes) || !qcow2_aligned(s, m->table_off) ||
        m->table_off > end || (uint64_t)m->table_size * 8 > end - m->table_off) {
        return -EINVAL;
    }
    m->bm.bits = qcow2_bitmap_words(s, m->bm.size, m->bm.granularity);
    if (!m->bm.bits) {
        return -EFBIG;
    }
    int ret = qcow2_read_table(s, m->table_off, m->table_size, &table);
    for (uint32_t i = 0; i < m->table_size && ret == 0; i++) {
        uint64_t at = (uint64_t)i * s->cluster_size;
        uint64_t len = bytes - at < s->cluster_size ? bytes - at : s->cluster_size;
        ret = load_cluster(s, table[i], (uint8_t *)m->bm.bits, at, len);
    }
    if (ret < 0) {
        free(m->bm.bits);
        m->bm.bits = NULL;
        return ret;
    }
    to_words(&m->bm, bytes);
    return 0;
}

static bool header_sane(const uint8_t *h)
{
    unsigned name = load_be16(h + 18);
    return h[17] >= BITMAP_MIN_BITS && h[17] <= BITMAP_MAX_BITS && name >= 1 &&
           name <= BITMAP_MAX_NAME && !(load_be32(h + 12) & ~(uint32_t)BITMAP_FLAGS_KNOWN) &&
           h[16] == BITMAP_TYPE_DIRTY;
}

/* One entry at dir[at]; its length, or -EINVAL. */
static int64_t parse_entry(struct qcow2 *s, const uint8_t *dir, uint64_t at, uint64_t len,
                           struct qcow2_bitmap **out)
{
    const uint8_t *h = dir + at;
    if (len - at < BITMAP_ENTRY_BYTES || !header_sane(h)) {
        return -EINVAL;
    }
    uint64_t name = load_be16(h + 18), extra = load_be32(h + 20);
    uint64_t all = round_up(BITMAP_ENTRY_BYTES + extra + name, 8);
    if (all > len - at || memchr(h + BITMAP_ENTRY_BYTES + extra, 0, name)) {
        return -EINVAL;
    }
    struct qcow2_bitmap *m = alloc_zero(sizeof(*m));
    m->table_off = load_be64(h);
    m->table_size = load_be32(h + 8);
    m->flags = load_be32(h + 12);
    m->type = h[16];
    m->bm.granularity = 1u << h[17];
    m->bm.enabled = m->flags & BITMAP_AUTO;
    m->bm.inconsistent =
        (m->flags & BITMAP_IN_USE) || (extra && !(m->flags & BITMAP_EXTRA_COMPATIBLE));
    m->bm.size = s->b->size;
    m->extra_len = (uint32_t)extra;
    m->extra = alloc_zero(extra + 1);
    memcpy(m->extra, h + BITMAP_ENTRY_BYTES, extra);
    m->bm.name = alloc_zero(name + 1);
    memcpy(m->bm.name, h + BITMAP_ENTRY_BYTES + extra, name);
    *out = m;
    return (int64_t)all;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool names_unique(struct qcow2 *s, uint32_t count)
{
    AUTO_FREE char **names = alloc_array(count, sizeof(*names));
    uint32_t n = 0;
    for (struct block_bitmap *bm = s->bitmaps; bm && n < count; bm = bm->next) {
        names[n++] = bm->name;
    }
    qsort(names, n, sizeof(*names), by_name);
    for (uint32_t i = 1; i < n; i++) {
        if (strcmp(names[i - 1], names[i]) == 0) {
            return false;
        }
    }
    return true;
}

static int parse_dir(struct qcow2 *s, const uint8_t *dir)
{
    struct block_bitmap **tail = &s->bitmaps;
    uint64_t at = 0;
    for (uint32_t i = 0; i < s->bitmaps_count; i++) {
        struct qcow2_bitmap *m;
        int64_t len = parse_entry(s, dir, at, s->bitmaps_dir_len, &m);
        if (len < 0) {
            return (int)len;
        }
        *tail = &m->bm;
        tail = &m->bm.next;
        at += (uint64_t)len;
    }
    return at == s->bitmaps_dir_len && names_unique(s, s->bitmaps_count) ? 0 : -EINVAL;
}

static int read_dir(struct qcow2 *s)
{
    uint64_t off = s->bitmaps_dir_off, len = s->bitmaps_dir_len, end = block_size(s->b->file);
    if (s->bitmaps_count > QCOW2_MAX_BITMAPS || len > BITMAP_MAX_DIR_BYTES || off == 0 ||
        len < (uint64_t)s->bitmaps_count * BITMAP_ENTRY_BYTES || !qcow2_aligned(s, off) ||
        off > end || len > end - off) {
        return -EINVAL;
    }
    AUTO_FREE uint8_t *dir = calloc(1, len + 1);
    if (!dir) {
        return -ENOMEM;
    }
    int ret = qcow2_file_read(s, off, dir, len);
    return ret < 0 ? ret : parse_dir(s, dir);
}

static int load_all(struct qcow2 *s, struct err *err)
{
    for (struct qcow2_bitmap *m = qcow2_bitmap_first(s); m; m = qcow2_bitmap_next(m)) {
        int ret = m->bm.inconsistent ? 0 : load_bits(s, m);
        if (ret == -EINVAL || (ret == -EFBIG && block_readonly(s->b))) {
            m->bm.inconsistent = true; /* what is there can't be its bits */
        } else if (ret < 0) {
            return err_set(err, -ret, "%s: loading the dirty bitmap '%s' failed: %s",
                           block_filename(s->b), m->bm.name, strerror(-ret));
        }
    }
    return 0;
}

int qcow2_read_bitmaps(struct qcow2 *s, struct err *err)
{
    if (!(s->autoclear & QCOW2_BITMAPS) || s->bitmaps_count == 0) {
        /* Somebody who did not know of the extension wrote to the image: it is of no use now. */
        s->autoclear &= ~(uint64_t)QCOW2_BITMAPS;
        s->bitmaps_count = 0;
        s->bitmaps_dir_off = s->bitmaps_dir_len = 0;
        return 0;
    }
    int ret = read_dir(s);
    if (ret < 0) {
        qcow2_bitmaps_drop(s);
        if (s->b->flags & BLOCK_CHECK) {
            return 0; /* check says so itself */
        }
        return err_set(err, -ret, "%s: the directory of dirty bitmaps cannot be used: %s",
                       block_filename(s->b), strerror(-ret));
    }
    ret = s->b->flags & (BLOCK_NO_IO | BLOCK_CHECK) ? 0 : load_all(s, err);
    if (ret < 0) {
        qcow2_bitmaps_drop(s);
    }
    return ret;
}
