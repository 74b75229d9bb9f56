/*
 * Walks over whole L1/L2 trees, which snapshots share: each path from an L1 table to a cluster
 * counts as one reference, of the cluster and of the L2 table on the way. Specification: "Qcow2
 * Image File Format", sections "Host cluster management", "Cluster mapping" and "Snapshots".
 * Does not repair anything: what makes no sense ends the walk with -EIO.
 */
#include "block/qcow2/tree.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"

int qcow2_read_table(struct qcow2 *s, uint64_t off, uint64_t entries, uint64_t **table)
{
    *table = calloc(entries ? entries : 1, sizeof(uint64_t));
    if (!*table) {
        return -ENOMEM;
    }
    int ret = entries ? qcow2_file_read(s, off, *table, entries * sizeof(uint64_t)) : 0;
    if (ret < 0) {
        free(*table);
        *table = NULL;
        return ret;
    }
    for (uint64_t i = 0; i < entries; i++) {
        (*table)[i] = be64toh((*table)[i]);
    }
    return 0;
}

int qcow2_write_table(struct qcow2 *s, uint64_t off, const uint64_t *table, uint64_t entries)
{
    uint64_t bytes = entries * sizeof(uint64_t);
    uint64_t room = round_up(bytes, s->cluster_size);
    uint64_t *copy = calloc(1, room ? room : 1);
    if (!copy) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < entries; i++) {
        copy[i] = htobe64(table[i]);
    }
    int ret = room ? block_pwrite(s->b->file, off, copy, room, 0) : 0;
    free(copy);
    return ret;
}

int qcow2_store_bytes(struct qcow2 *s, const void *bytes, uint64_t len, uint64_t *off)
{
    uint64_t room = round_up(len, s->cluster_size);
    char *copy = calloc(1, room);
    if (!copy) {
        return -ENOMEM;
    }
    memcpy(copy, bytes, len);
    int ret = qcow2_alloc(s, room >> s->cluster_bits, off);
    if (ret == 0) {
        ret = block_pwrite(s->b->file, *off, copy, room, 0);
        if (ret < 0) {
            qcow2_free(s, *off, room);
        }
    }
    free(copy);
    return ret;
}

bool qcow2_entry_range(const struct qcow2 *s, uint64_t entry, uint64_t *off, uint64_t *len)
{
    if (entry & QCOW2_COMPRESSED) {
        qcow2_compressed_range(s, entry, off, len);
        return true;
    }
    *off = entry & QCOW2_OFFSET_MASK;
    *len = s->cluster_size;
    return *off != 0;
}

uint64_t qcow2_guest_clusters(const struct qcow2 *s, uint64_t size)
{
    return (size >> s->cluster_bits) + ((size & (s->cluster_size - 1)) != 0);
}

uint64_t qcow2_l1_needed(const struct qcow2 *s, uint64_t size)
{
    uint64_t clusters = qcow2_guest_clusters(s, size);
    return clusters / s->l2_entries + (clusters % s->l2_entries != 0);
}

/* Entries first..end of one L2 table; *done is how far it came. */
static int table_refs(struct qcow2 *s, uint64_t l2_off, int delta, uint32_t end, uint32_t *done)
{
    void *table;
    int first = 0;
    *done = 0;
    int ret = qcow2_l2_get(s, l2_off, &table);
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < end; i++) {
        uint64_t off, len;
        uint64_t entry = load_be64((char *)table + (size_t)i * s->l2_entry_bytes);
        if (!qcow2_entry_range(s, entry, &off, &len)) {
            continue;
        }
        bool bad = !(entry & QCOW2_COMPRESSED) && !qcow2_aligned(s, off);
        ret = bad ? -EIO : qcow2_refcount_add(s, off, len, delta);
        if (ret < 0) {
            first = first ? first : ret;
            if (delta > 0) {
                *done = i;
                break;
            }
        }
    }
    if (!first) {
        *done = end;
    }
    qcow2_l2_put(s, table, false);
    return first;
}

static int l1_entry_refs(struct qcow2 *s, uint64_t l2_off, int delta)
{
    uint32_t done, ignored;
    if (!qcow2_aligned(s, l2_off)) {
        return -EIO;
    }
    int ret = table_refs(s, l2_off, delta, s->l2_entries, &done);
    if (ret < 0 && delta > 0) {
        table_refs(s, l2_off, -delta, done, &ignored);
        return ret;
    }
    int own = qcow2_refcount_add(s, l2_off, s->cluster_size, delta);
    if (own < 0 && delta > 0) {
        table_refs(s, l2_off, -delta, s->l2_entries, &ignored);
    }
    return ret < 0 ? ret : own;
}

int qcow2_tree_refs(struct qcow2 *s, const uint64_t *l1, uint32_t l1_size, int delta)
{
    int first = 0;
    for (uint32_t i = 0; i < l1_size; i++) {
        uint64_t l2_off = l1[i] & QCOW2_OFFSET_MASK;
        int ret = l2_off ? l1_entry_refs(s, l2_off, delta) : 0;
        if (ret < 0 && delta > 0) {
            qcow2_tree_refs(s, l1, i, -delta);
            return ret;
        }
        first = first ? first : ret;
    }
    return first;
}

static int is_copied(struct qcow2 *s, uint64_t off, bool *copied)
{
    uint64_t count;
    int ret = qcow2_refcount_get(s, off >> s->cluster_bits, &count);
    *copied = ret == 0 && count == 1;
    return ret;
}

static int table_flags(struct qcow2 *s, uint64_t l2_off)
{
    void *table;
    bool changed = false;
    int ret = qcow2_l2_get(s, l2_off, &table);
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < s->l2_entries && ret == 0; i++) {
        char *at = (char *)table + (size_t)i * s->l2_entry_bytes;
        uint64_t entry = load_be64(at);
        uint64_t want = entry & ~QCOW2_COPIED;
        bool copied = false;
        if (!(entry & QCOW2_COMPRESSED) && (entry & QCOW2_OFFSET_MASK)) {
            ret = is_copied(s, entry & QCOW2_OFFSET_MASK, &copied);
        }
        want |= copied ? QCOW2_COPIED : 0;
        if (ret == 0 && want != entry) {
            store_be64(at, want);
            changed = true;
        }
    }
    qcow2_l2_put(s, table, changed);
    return ret;
}

int qcow2_tree_flags(struct qcow2 *s, uint64_t *l1, uint32_t l1_size, bool active)
{
    for (uint32_t i = 0; i < l1_size; i++) {
        bool copied = false;
        uint64_t l2_off = l1[i] & QCOW2_OFFSET_MASK;
        if (!l2_off) {
            continue;
        }
        int ret = qcow2_aligned(s, l2_off) ? table_flags(s, l2_off) : -EIO;
        if (ret == 0) {
            ret = is_copied(s, l2_off, &copied);
        }
        uint64_t want = (l1[i] & ~QCOW2_COPIED) | (copied ? QCOW2_COPIED : 0);
        if (ret == 0 && want != l1[i]) {
            l1[i] = want;
            ret = active ? qcow2_write_l1_entry(s, i) : 0;
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}
