/*
 * What check looks at in L1 and L2 tables. Specification: "Qcow2 Image File Format", sections
 * "Cluster mapping" and "Extended L2 Entries". A table that several snapshots share is read once
 * and counts as often as it is referred to, so that time is bounded by the number of tables.
 */
#include "block/qcow2/check.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/cleanup.h"

#define L1_RESERVED 0x7f000000000001ffULL
#define STD_RESERVED 0x3f000000000001feULL
#define MAX_L2_TABLES ((size_t)16 << 20)
#define ALL_ZERO_SUBCLUSTERS 0xffffffff00000000ULL

typedef unsigned long long ull;

/* ---- L1 ---- */

static int add_l2(struct check *c, uint64_t off)
{
    if (c->l2_count == c->l2_room) {
        size_t room = c->l2_room ? c->l2_room * 2 : 256;
        if (room > MAX_L2_TABLES) {
            return -EFBIG;
        }
        struct check_l2 *more = realloc(c->l2, room * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        c->l2 = more;
        c->l2_room = room;
    }
    c->l2[c->l2_count++] = (struct check_l2){.off = off, .refs = 1};
    return 0;
}

static int check_l1_entry(struct check *c, uint64_t *entry, uint64_t index, const char *of)
{
    uint64_t off = *entry & QCOW2_OFFSET_MASK, old = *entry;
    bool fix = check_fixing(c);
    if (*entry & L1_RESERVED) {
        check_found(c, fix, 1, "ERROR the L1 entry %llu of %s has reserved bits set (%#llx)",
                    (ull)index, of, (ull)old);
        *entry &= ~L1_RESERVED;
    }
    if (off == 0) {
        return 0;
    }
    bool aligned = qcow2_aligned(c->s, off);
    if (aligned && check_in_file(c, off, c->s->cluster_size)) {
        return add_l2(c, off);
    }
    check_found(c, fix, 1, "ERROR the L2 table at %#llx (L1 entry %llu of %s) %s%s", (ull)off,
                (ull)index, of, aligned ? "is outside of the image file" : "is not cluster aligned",
                fix ? "; what it described is given up" : "");
    *entry = 0;
    c->unseen = c->unseen || !fix;
    return 0;
}

/* The table itself has been counted; *changed if it is to be written. */
static int check_l1(struct check *c, uint64_t *l1, uint64_t size, const char *of, bool *changed)
{
    int ret = 0;
    *changed = false;
    for (uint64_t i = 0; i < size && ret == 0; i++) {
        uint64_t old = l1[i];
        uint64_t now = old;
        ret = check_l1_entry(c, &now, i, of);
        if (now != old && check_fixing(c)) {
            l1[i] = now;
            *changed = true;
        }
    }
    return ret;
}

static int write_back(struct check *c, uint64_t off, const uint64_t *l1, uint64_t size)
{
    AUTO_FREE uint64_t *copy = malloc(size * 8);
    if (!copy) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < size; i++) {
        copy[i] = htobe64(l1[i]);
    }
    return block_pwrite(c->s->b->file, off, copy, size * 8, 0);
}

static int check_active_l1(struct check *c)
{
    struct qcow2 *s = c->s;
    uint64_t bytes = (uint64_t)s->l1_size * 8;
    bool changed;
    if (s->l1_size == 0) {
        return 0;
    }
    if (!qcow2_aligned(s, s->l1_off) || !check_in_file(c, s->l1_off, bytes)) {
        check_found(c, false, 1, "ERROR the L1 table at %#llx is not in the file", (ull)s->l1_off);
        c->unseen = true;
        return 0;
    }
    int ret = check_count(c, s->l1_off, bytes, 1);
    if (ret == 0) {
        ret = check_l1(c, s->l1, s->l1_size, "the disk", &changed);
    }
    return ret == 0 && changed ? write_back(c, s->l1_off, s->l1, s->l1_size) : ret;
}

static int check_snapshot_l1(struct check *c, const struct qcow2_snap *n, uint64_t *budget)
{
    struct qcow2 *s = c->s;
    uint64_t bytes = (uint64_t)n->l1_size * 8;
    AUTO_FREE uint64_t *l1 = NULL;
    bool changed;
    if (!qcow2_aligned(s, n->l1_off) || bytes > QCOW2_MAX_L1_BYTES || bytes > *budget ||
        (bytes && !check_in_file(c, n->l1_off, bytes))) {
        check_found(c, false, 1, "ERROR the L1 table of snapshot %s (%s) at %#llx cannot be right",
                    n->s.id, n->s.name, (ull)n->l1_off);
        c->unseen = true;
        return 0;
    }
    *budget -= bytes;
    if (bytes == 0) {
        return 0;
    }
    int ret = check_count(c, n->l1_off, bytes, 1);
    ret = ret < 0 ? ret : qcow2_read_table(s, n->l1_off, n->l1_size, &l1);
    ret = ret < 0 ? ret : check_l1(c, l1, n->l1_size, "a snapshot", &changed);
    return ret == 0 && changed ? write_back(c, n->l1_off, l1, n->l1_size) : ret;
}

/* ---- L2 ---- */

static int by_offset(const void *a, const void *b)
{
    const struct check_l2 *x = a, *y = b;
    return x->off < y->off ? -1 : x->off > y->off;
}

static int merge_l2(struct check *c)
{
    size_t n = 0;
    int ret = 0;
    if (c->l2_count) {
        qsort(c->l2, c->l2_count, sizeof(*c->l2), by_offset);
    }
    for (size_t i = 0; i < c->l2_count; i++) {
        if (n && c->l2[n - 1].off == c->l2[i].off) {
            c->l2[n - 1].refs++;
        } else {
            c->l2[n++] = c->l2[i];
        }
    }
    c->l2_count = n;
    for (size_t i = 0; i < n && ret == 0; i++) {
        ret = check_count(c, c->l2[i].off, c->s->cluster_size, (int64_t)c->l2[i].refs);
    }
    return ret;
}

static struct check_l2 *find_l2(struct check *c, uint64_t off)
{
    struct check_l2 key = {.off = off};
    return c->l2_count ? bsearch(&key, c->l2, c->l2_count, sizeof(key), by_offset) : NULL;
}

/* One walk over one L2 table. */
struct l2_walk {
    struct check *c;
    uint8_t *table;
    uint64_t l2_off, refs;
    uint64_t *next; /* where the next cluster would not be fragmented; NULL: not of the disk */
    bool changed;
};

/* What an entry becomes that cannot be followed: zeros if the format can say so. */
static void give_up(struct l2_walk *w, uint8_t *at)
{
    bool ext = w->c->s->incompatible & QCOW2_EXTL2;
    store_be64(at, !ext && w->c->s->version >= 3 ? QCOW2_ZERO : 0);
    if (ext) {
        store_be64(at + 8, ALL_ZERO_SUBCLUSTERS);
    }
    w->changed = true;
}

static void bad_entry(struct l2_walk *w, uint8_t *at, uint64_t entry, const char *why)
{
    struct check *c = w->c;
    bool fix = check_fixing(c);
    check_found(c, fix, w->refs, "ERROR the L2 entry %#llx (in the table at %#llx) %s%s",
                (ull)entry, (ull)w->l2_off, why,
                fix ? "; what it described reads as zeros from now on" : "");
    if (fix) {
        give_up(w, at);
    }
}

static int check_compressed(struct l2_walk *w, uint8_t *at, uint64_t entry)
{
    struct check *c = w->c;
    uint64_t off, len;
    if (entry & QCOW2_COPIED) {
        check_found(c, check_fixing(c), w->refs,
                    "ERROR the compressed L2 entry %#llx (in the table at %#llx) has COPIED set",
                    (ull)entry, (ull)w->l2_off);
        if (check_fixing(c)) {
            store_be64(at, entry & ~QCOW2_COPIED);
            w->changed = true;
        }
    }
    if (c->s->incompatible & QCOW2_DATA_FILE) {
        bad_entry(w, at, entry, "is compressed, which data files do not have");
        return 0;
    }
    qcow2_compressed_range(c->s, entry & ~QCOW2_COPIED, &off, &len);
    if (w->next) {
        c->r->allocated++;
        c->r->compressed++;
        c->r->fragmented++; /* by nature */
    }
    if (off == 0 || !check_in_file(c, off, len)) {
        bad_entry(w, at, entry, "is outside of the image file");
        return 0;
    }
    return check_count(c, off, len, (int64_t)w->refs);
}

static void count_guest(struct l2_walk *w, uint64_t off)
{
    if (w->next) {
        w->c->r->allocated++;
        w->c->r->fragmented += *w->next && off != *w->next;
        *w->next = off + w->c->s->cluster_size;
    }
}

static void check_reserved(struct l2_walk *w, uint8_t *at, uint64_t *entry)
{
    struct qcow2 *s = w->c->s;
    bool zero_flag = s->version >= 3 && !(s->incompatible & QCOW2_EXTL2);
    uint64_t reserved = STD_RESERVED | (zero_flag ? 0 : QCOW2_ZERO);
    if (!(*entry & reserved)) {
        return;
    }
    check_found(w->c, check_fixing(w->c), w->refs,
                "ERROR the L2 entry %#llx (in the table at %#llx) has reserved bits set",
                (ull)*entry, (ull)w->l2_off);
    *entry &= ~reserved;
    if (check_fixing(w->c)) {
        store_be64(at, *entry);
        w->changed = true;
    }
}

/* Subclusters that are both data and zero, or data without a cluster. */
static void check_subclusters(struct l2_walk *w, uint8_t *at, uint64_t entry)
{
    uint64_t map = load_be64(at + 8);
    uint64_t data = map & UINT32_MAX, zero = map >> 32;
    bool has_cluster = (entry & QCOW2_OFFSET_MASK) || (w->c->s->incompatible & QCOW2_DATA_FILE);
    uint64_t good = has_cluster ? data & ~zero : 0;
    if (good == data) {
        return;
    }
    check_found(w->c, check_fixing(w->c), w->refs,
                "ERROR the subclusters %#llx of the L2 entry %#llx (in the table at %#llx) make no "
                "sense",
                (ull)map, (ull)entry, (ull)w->l2_off);
    if (check_fixing(w->c)) {
        store_be64(at + 8, good | zero << 32);
        w->changed = true;
    }
}

static int check_entry(struct l2_walk *w, uint32_t index)
{
    struct check *c = w->c;
    struct qcow2 *s = c->s;
    uint8_t *at = w->table + (size_t)index * s->l2_entry_bytes;
    uint64_t entry = load_be64(at);
    if (entry & QCOW2_COMPRESSED) {
        return check_compressed(w, at, entry);
    }
    check_reserved(w, at, &entry);
    if (s->incompatible & QCOW2_EXTL2) {
        check_subclusters(w, at, entry);
    }
    uint64_t off = entry & QCOW2_OFFSET_MASK;
    if (s->incompatible & QCOW2_DATA_FILE) {
        /* Zeros over the data file's first cluster: allocated, but other programs do not count it.
         */
        bool zeros = entry & QCOW2_ZERO && !(s->incompatible & QCOW2_EXTL2);
        if (off || (entry & QCOW2_COPIED && !zeros)) {
            count_guest(w, off);
        }
        return 0;
    }
    if (off == 0) {
        return 0;
    }
    count_guest(w, off);
    bool aligned = qcow2_aligned(s, off), inside = check_in_file(c, off, s->cluster_size);
    if (!aligned || !inside) {
        bad_entry(w, at, entry,
                  aligned ? "is outside of the image file" : "is not cluster aligned");
    }
    if (!inside || (!aligned && check_fixing(c))) {
        return 0;
    }
    return check_count(c, off, s->cluster_size, (int64_t)w->refs);
}

static int walk_l2(struct check *c, struct check_l2 *t, bool of_disk)
{
    AUTO_FREE uint8_t *table = malloc(c->s->cluster_size);
    uint64_t next = 0;
    struct l2_walk w = {c, table, t->off, t->refs, of_disk ? &next : NULL, false};
    if (!table) {
        return -ENOMEM;
    }
    t->walked = true;
    int ret = qcow2_file_read(c->s, t->off, table, c->s->cluster_size);
    if (ret < 0) {
        check_error(c, "ERROR reading the L2 table at %#llx: %s", (ull)t->off, strerror(-ret));
        c->unseen = true;
        return 0;
    }
    for (uint32_t i = 0; i < c->s->l2_entries && ret == 0; i++) {
        ret = check_entry(&w, i);
    }
    if (ret == 0 && w.changed) {
        ret = block_pwrite(c->s->b->file, t->off, table, c->s->cluster_size, 0);
    }
    return ret;
}

static int walk_all(struct check *c)
{
    struct qcow2 *s = c->s;
    int ret = 0;
    for (uint32_t i = 0; i < s->l1_size && ret == 0; i++) {
        struct check_l2 *t = find_l2(c, s->l1[i] & QCOW2_OFFSET_MASK);
        if (t && !t->walked) {
            ret = walk_l2(c, t, true);
        }
    }
    for (size_t i = 0; i < c->l2_count && ret == 0; i++) {
        ret = c->l2[i].walked ? 0 : walk_l2(c, &c->l2[i], false);
    }
    return ret;
}

int check_tree(struct check *c)
{
    /* L1 tables do not overlap in a sound image, so together they are no larger than the file. */
    uint64_t budget = c->clusters << c->s->cluster_bits;
    int ret = check_active_l1(c);
    for (uint32_t i = 0; i < c->s->snap_count && ret == 0; i++) {
        ret = check_snapshot_l1(c, &c->s->snaps[i], &budget);
    }
    ret = ret < 0 ? ret : merge_l2(c);
    return ret < 0 ? ret : walk_all(c);
}

/* ---- COPIED ---- */

/* What is on disk, or will be after the repair. */
static int flag_count(struct check *c, uint64_t off, uint64_t *count)
{
    uint64_t cluster = off >> c->s->cluster_bits;
    if (check_fixing(c)) {
        *count = counts_get(&c->counts, cluster);
        return 0;
    }
    return check_refs_get(c, cluster, count);
}

/* A count too high is a leak, and COPIED that fits the one reference there is does no harm: so an
 * interrupted snapshot leaves it. */
static bool part_of_leak(struct check *c, uint64_t entry, uint64_t count)
{
    uint64_t cluster = (entry & QCOW2_OFFSET_MASK) >> c->s->cluster_bits;
    return entry & QCOW2_COPIED && count > 1 && counts_get(&c->counts, cluster) == 1;
}

/* True: *entry was wrong and has changed. */
static bool check_flag(struct check *c, uint64_t *entry, const char *what)
{
    uint64_t off = *entry & QCOW2_OFFSET_MASK, count;
    if (flag_count(c, off, &count) < 0 || (count == 1) == !!(*entry & QCOW2_COPIED) ||
        part_of_leak(c, *entry, count)) {
        return false;
    }
    check_found(c, check_fixing(c), 1,
                "ERROR COPIED of the %s entry %#llx does not fit refcount %llu", what, (ull)*entry,
                (ull)count);
    *entry ^= QCOW2_COPIED;
    return true;
}

static int check_l2_flags(struct check *c, uint64_t l2_off)
{
    struct qcow2 *s = c->s;
    AUTO_FREE uint8_t *table = malloc(s->cluster_size);
    bool changed = false;
    int ret = table ? qcow2_file_read(s, l2_off, table, s->cluster_size) : -ENOMEM;
    for (uint32_t i = 0; i < s->l2_entries && ret == 0; i++) {
        uint8_t *at = table + (size_t)i * s->l2_entry_bytes;
        uint64_t entry = load_be64(at), off = entry & QCOW2_OFFSET_MASK;
        if (!(entry & QCOW2_COMPRESSED) && off && check_flag(c, &entry, "L2")) {
            store_be64(at, entry);
            changed = true;
        }
    }
    if (ret == 0 && changed && check_fixing(c)) {
        ret = block_pwrite(s->b->file, l2_off, table, s->cluster_size, 0);
    }
    return ret;
}

int check_flags(struct check *c)
{
    struct qcow2 *s = c->s;
    bool changed = false;
    int ret = 0;
    for (uint32_t i = 0; i < s->l1_size && ret == 0; i++) {
        uint64_t entry = s->l1[i];
        struct check_l2 *t = find_l2(c, entry & QCOW2_OFFSET_MASK);
        if ((entry & QCOW2_OFFSET_MASK) && check_flag(c, &entry, "L1") && check_fixing(c)) {
            s->l1[i] = entry;
            changed = true;
        }
        if (t && !t->flags_done && !(s->incompatible & QCOW2_DATA_FILE)) {
            t->flags_done = true;
            ret = check_l2_flags(c, t->off);
        }
    }
    return ret == 0 && changed ? write_back(c, s->l1_off, s->l1, s->l1_size) : ret;
}
