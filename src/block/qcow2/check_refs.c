/*
 * The refcount structure as check sees it: read from the file without the caches, for it may make
 * no sense. Specification: "Qcow2 Image File Format", section "Host cluster management".
 */
#include "block/qcow2/check.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"

/* In the copy of the table: readable, but with reserved bits, so that nothing is said to refer to
 * the block. */
enum { UNCOUNTED = 1 };

/* ---- The table ---- */

/* True if the entry can be used; if not, it is taken out. */
static bool entry_usable(struct check *c, uint64_t i)
{
    struct qcow2 *s = c->s;
    uint64_t entry = c->refs.table[i], off = entry & ~0x1ffULL;
    bool reserved = entry & 0x1ff, aligned = qcow2_aligned(s, off);
    bool inside = !aligned || check_in_file(c, off, s->cluster_size);
    c->refs.table[i] = aligned && inside ? off : 0;
    if (reserved && c->refs.table[i]) {
        check_found(c, check_fixing(c), 1,
                    "ERROR refcount table entry %llu (%#llx) has reserved bits set",
                    (unsigned long long)i, (unsigned long long)entry);
        c->rebuild = true;
        c->refs.table[i] |= UNCOUNTED;
        return false;
    }
    if (!aligned || !inside) {
        check_found(c, check_fixing(c), 1, "ERROR refcount block %llu at %#llx %s",
                    (unsigned long long)i, (unsigned long long)off,
                    aligned ? "is outside of the image file" : "is not cluster aligned");
        c->rebuild = true;
    }
    return c->refs.table[i] != 0;
}

static int count_block(struct check *c, uint64_t i)
{
    uint64_t off = c->refs.table[i];
    int ret = check_count(c, off, c->s->cluster_size, 1);
    if (ret == 0 && counts_get(&c->counts, off >> c->s->cluster_bits) != 1) {
        check_found(c, check_fixing(c), 1, "ERROR refcount block %llu at %#llx is used %llu times",
                    (unsigned long long)i, (unsigned long long)off,
                    (unsigned long long)counts_get(&c->counts, off >> c->s->cluster_bits));
        c->rebuild = true;
    }
    return ret;
}

static uint64_t table_bytes(const struct qcow2 *s)
{
    return (uint64_t)s->reftable_clusters << s->cluster_bits;
}

int check_refs_init(struct check *c)
{
    struct qcow2 *s = c->s;
    c->refs.size = table_bytes(s) / 8;
    c->refs.block = malloc(s->cluster_size);
    if (!c->refs.block || table_bytes(s) > QCOW2_MAX_REFTABLE_BYTES + s->cluster_size) {
        return -ENOMEM;
    }
    if (!qcow2_aligned(s, s->reftable_off) || s->reftable_off == 0 ||
        !check_in_file(c, s->reftable_off, table_bytes(s))) {
        check_found(c, check_fixing(c), 1, "ERROR the refcount table at %#llx is not in the file",
                    (unsigned long long)s->reftable_off);
        c->rebuild = c->table_bad = true;
        c->refs.size = 0;
    }
    int ret = qcow2_read_table(s, s->reftable_off, c->refs.size, &c->refs.table);
    if (ret == 0 && !c->table_bad) {
        ret = check_count(c, s->reftable_off, table_bytes(s), 1);
    }
    for (uint64_t i = 0; i < c->refs.size && ret == 0; i++) {
        if (c->refs.table[i] && entry_usable(c, i)) {
            ret = count_block(c, i);
        }
    }
    return ret;
}

int check_refs_uncount(struct check *c)
{
    int ret = c->table_bad ? 0 : check_count(c, c->s->reftable_off, table_bytes(c->s), -1);
    for (uint64_t i = 0; i < c->refs.size && ret == 0; i++) {
        if (c->refs.table[i] && !(c->refs.table[i] & UNCOUNTED)) {
            ret = check_count(c, c->refs.table[i], c->s->cluster_size, -1);
        }
    }
    return ret;
}

void check_refs_free(struct check *c)
{
    free(c->refs.table);
    free(c->refs.block);
}

int check_refs_get(struct check *c, uint64_t cluster, uint64_t *count)
{
    uint64_t n = qcow2_refblock_entries(c->s), i = cluster / n;
    *count = 0;
    if (i >= c->refs.size || !c->refs.table[i]) {
        return 0;
    }
    if (!c->refs.loaded || c->refs.index != i) {
        int ret = qcow2_file_read(c->s, c->refs.table[i] & ~(uint64_t)UNCOUNTED, c->refs.block,
                                  c->s->cluster_size);
        c->refs.loaded = ret == 0;
        c->refs.index = i;
        if (ret < 0) {
            return ret;
        }
    }
    *count = qcow2_count_load(c->refs.block, c->s->refcount_order, cluster % n);
    return 0;
}

/* ---- Comparing ---- */

static void compare_one(struct check *c, uint64_t cluster, uint64_t have, uint64_t want)
{
    bool leak = have > want;
    bool fixes = leak ? (c->repair & REPAIR_LEAKS) && !c->unseen : check_fixing(c);
    if (have || want) {
        c->high = cluster + 1;
    }
    if (have == want) {
        return;
    }
    if (leak) {
        c->r->leaks += !fixes;
        c->r->leaks_fixed += fixes;
    }
    check_found(c, fixes, !leak, "%s cluster %llu refcount=%llu reference=%llu",
                !leak   ? fixes ? "Repairing" : "ERROR"
                : fixes ? "Repairing leaked"
                        : "Leaked",
                (unsigned long long)cluster, (unsigned long long)have, (unsigned long long)want);
}

/* From this cluster on nothing is counted on either side, up to the one returned. */
static uint64_t skip_empty(struct check *c, uint64_t cluster)
{
    uint64_t n = qcow2_refblock_entries(c->s), i = cluster / n;
    if ((i < c->refs.size && c->refs.table[i]) || !counts_chunk_empty(&c->counts, cluster)) {
        return cluster;
    }
    uint64_t block_end = (i + 1) * n;
    uint64_t chunk_end = (cluster / COUNTS_CHUNK + 1) * COUNTS_CHUNK;
    return i >= c->refs.size || chunk_end < block_end ? chunk_end : block_end;
}

int check_compare(struct check *c)
{
    for (uint64_t k = 0; k < c->clusters;) {
        uint64_t next = skip_empty(c, k), have;
        if (next != k) {
            k = next;
            continue;
        }
        int ret = check_refs_get(c, k, &have);
        if (ret < 0) {
            check_error(c, "ERROR reading the refcount of cluster %llu: %s", (unsigned long long)k,
                        strerror(-ret));
            c->rebuild = true;
            have = 0;
        }
        compare_one(c, k, have, counts_get(&c->counts, k));
        k++;
    }
    return 0;
}
