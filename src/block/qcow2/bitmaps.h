/* Persistent dirty bitmaps, inside: bitmaps.c has the bits and the operations, bitmap_dir.c reads
 * the directory, bitmap_store.c writes it. */
#ifndef BLOCK_QCOW2_BITMAPS_H
#define BLOCK_QCOW2_BITMAPS_H

#include "block/qcow2/tree.h"

enum bitmap_flags {
    BITMAP_IN_USE = 1 << 0,
    BITMAP_AUTO = 1 << 1,
    BITMAP_EXTRA_COMPATIBLE = 1 << 2,
    BITMAP_FLAGS_KNOWN = 7,
};

enum {
    BITMAP_ENTRY_BYTES = 24,
    BITMAP_TYPE_DIRTY = 1,
    BITMAP_MIN_BITS = 9, /* of granularity */
    BITMAP_MAX_BITS = 31,
    BITMAP_MAX_NAME = 1023,
};
#define BITMAP_ALL_ONES 1ULL             /* table entry without a cluster */
#define BITMAP_MAX_DIR_BYTES (64u << 20) /* of the directory */
#define BITMAP_MAX_BYTES (512u << 20)    /* of the bits of one */
#define BITMAP_MAX_SUM (1024u << 20)     /* of the bits of all */

struct qcow2_bitmap {
    struct block_bitmap bm; /* first; bm.next leads to the next struct qcow2_bitmap */
    uint64_t table_off;     /* 0: none on disk yet */
    uint32_t table_size, flags;
    uint8_t type;
    uint8_t *extra;
    uint32_t extra_len;
    bool changed; /* the bits are not those on disk */
    bool broken;  /* for check */
};

static inline struct qcow2_bitmap *qcow2_bitmap_first(struct qcow2 *s)
{
    return (struct qcow2_bitmap *)s->bitmaps;
}

static inline struct qcow2_bitmap *qcow2_bitmap_next(struct qcow2_bitmap *m)
{
    return (struct qcow2_bitmap *)m->bm.next;
}

/* Bits, and bytes of bits, for a disk of that size; table entries for so many bytes. */
uint64_t qcow2_bitmap_bits(uint64_t size, uint32_t granularity);
uint64_t qcow2_bitmap_bytes(uint64_t size, uint32_t granularity);
uint64_t qcow2_bitmap_entries(const struct qcow2 *s, uint64_t bytes);
uint64_t qcow2_bitmap_dir_entry(const struct qcow2_bitmap *m); /* bytes in the directory */
/* Zeroed words for the bits; NULL: too many, or no memory. */
uint64_t *qcow2_bitmap_words(struct qcow2 *s, uint64_t size, uint32_t granularity);

void qcow2_bitmap_free(struct qcow2_bitmap *m);

/* ---- bitmap_store.c; with the lock held ---- */
/* Writes the directory, and the bits too unless they stay in use. `gone`: taken off the list
 * before, its clusters are freed; or NULL. */
int qcow2_bitmaps_write(struct qcow2 *s, bool in_use, const struct qcow2_bitmap *gone);
/* The flags alone, in place: all in use. */
int qcow2_bitmaps_mark_in_use(struct qcow2 *s);
/* For repairing: the directory without some, in its place; nothing is allocated or freed. */
int qcow2_bitmaps_shrink_dir(struct qcow2 *s);

#endif
