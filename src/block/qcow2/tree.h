/* Walks over whole L1/L2 trees, and bytes of the image file, for snapshots, check and amend. */
#ifndef BLOCK_QCOW2_TREE_H
#define BLOCK_QCOW2_TREE_H

#include "block/qcow2/internal.h"

#include <string.h>

#include "base/endian.h"

static inline bool qcow2_aligned(const struct qcow2 *s, uint64_t off)
{
    return (off & (s->cluster_size - 1)) == 0;
}

/* A table of 64-bit numbers, in host byte order; freed by the caller. `entries` must be bounded. */
int qcow2_read_table(struct qcow2 *s, uint64_t off, uint64_t entries, uint64_t **table);
int qcow2_write_table(struct qcow2 *s, uint64_t off, const uint64_t *table, uint64_t entries);

/* New clusters that hold these bytes (the rest of the last one is zero), refcount 1. */
int qcow2_store_bytes(struct qcow2 *s, const void *bytes, uint64_t len, uint64_t *off);

/* The host bytes an L2 entry refers to; false: none. */
bool qcow2_entry_range(const struct qcow2 *s, uint64_t entry, uint64_t *off, uint64_t *len);

/* Adds delta (1 or -1) to the refcounts of everything that this L1 table refers to. If adding
 * fails, all is as before; removing goes on after failures and returns the first. */
int qcow2_tree_refs(struct qcow2 *s, const uint64_t *l1, uint32_t l1_size, int delta);

/* Sets or clears COPIED in the L2 tables and in l1[] itself, as the refcounts say. With `active`
 * changed L1 entries are also written. */
int qcow2_tree_flags(struct qcow2 *s, uint64_t *l1, uint32_t l1_size, bool active);

/* Guest clusters of the disk, and L1 entries they need. */
uint64_t qcow2_guest_clusters(const struct qcow2 *s, uint64_t size);
uint64_t qcow2_l1_needed(const struct qcow2 *s, uint64_t size);

/* ---- snapshot_table.c ---- */
/* Bytes of the snapshot table with these entries. */
uint64_t qcow2_snapshot_table_bytes(const struct qcow2_snap *snaps, uint32_t count);
/* Writes a new table and switches the header over to it, durably; the old table is freed. Takes
 * `snaps` over as s->snaps on success (the entries of the old array belong to the caller). */
int qcow2_write_snapshots(struct qcow2 *s, struct qcow2_snap *snaps, uint32_t count);
void qcow2_snap_free(struct qcow2_snap *snap); /* what it points to */

#endif
