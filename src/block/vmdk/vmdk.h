/*
 * Format "vmdk", inside: "VMware Virtual Disks: Virtual Disk Format 5.0". A descriptor, text, names
 * one extent or several; each is flat or sparse (grains found through a directory of tables).
 */
#ifndef BLOCK_VMDK_VMDK_H
#define BLOCK_VMDK_VMDK_H

#include "block/driver.h"
#include "block/pages.h"
#include "loop/co.h"

enum {
    VMDK_MAGIC = 0x564d444b, /* "KDMV" */
    VMDK_SECTOR = 512,
    VMDK_GTES = 512, /* entries of a grain table */
    VMDK_FLAG_NEWLINE = 1 << 0,
    VMDK_FLAG_REDUNDANT = 1 << 1,
    VMDK_FLAG_ZERO_GRAIN = 1 << 2,
    VMDK_FLAG_COMPRESSED = 1 << 16,
    VMDK_FLAG_MARKERS = 1 << 17,
    VMDK_MAX_DESCRIPTOR = 1 << 20,
    VMDK_MAX_EXTENTS = 256,
    VMDK_GTE_ZERO = 1,
};
#define VMDK_GD_AT_END UINT64_MAX

struct vmdk_extent {
    struct block *file;    /* referenced */
    bool flat, zero;       /* zero: no file, reads as zero */
    bool own_file;         /* the descriptor's own file */
    uint64_t start, bytes; /* of the disk */
    uint64_t flat_off;     /* of a flat one in its file */

    /* Sparse */
    bool compressed, zero_grains;
    uint32_t grain; /* bytes */
    uint32_t gd_count;
    uint64_t gd_at, rgd_at; /* of the directories in the file; rgd_at 0: there is one only */
    struct pages pages;     /* of directories and tables */
    uint64_t next;          /* where the next grain goes, bytes */
    struct co_lock lock;
};

struct vmdk {
    struct vmdk_extent *extent;
    unsigned extents;
    char create_type[32];
    uint32_t cid, parent_cid;
    uint64_t desc_off, desc_bytes; /* where the descriptor lies in the file */
    bool cid_written;
};

/* ---- descriptor.c ---- */
/* Value of "key=value" or "key = value", quotes taken off; freed by the caller; NULL. */
char *vmdk_desc_get(const char *desc, const char *key);
/* Opens every extent that the text names. */
int vmdk_desc_extents(struct block *b, const char *desc, struct err *err);
/* The text of a new image. */
char *vmdk_desc_make(const struct keyval *opts, uint64_t size, const char *type,
                     const char *extent_line, uint32_t cid, uint32_t parent_cid,
                     const char *parent);
/* A new content id, so that overlays notice; once for each opening. */
int vmdk_desc_touch(struct block *b);

/* ---- sparse.c ---- */
/* Reads header and directory of the extent's file. */
int vmdk_sparse_open(struct block *b, struct vmdk_extent *x, struct err *err);
void vmdk_sparse_close(struct vmdk_extent *x);
/* Entry of a grain: 0 unallocated, VMDK_GTE_ZERO where those are used, else its sector. */
int vmdk_look_up(struct vmdk_extent *x, uint64_t grain, uint32_t *sector);
/* Where the grain's table is, a sector; 0: it has none. */
int vmdk_table_of(struct vmdk_extent *x, uint64_t grain, uint32_t *sector);
/* Writes it, to the redundant table too; x->lock held; the table is there. */
int vmdk_set_entry(struct vmdk_extent *x, uint64_t grain, uint32_t sector);
int vmdk_read_compressed(struct vmdk_extent *x, uint32_t sector, uint8_t *grain);

/* ---- write.c ---- */
int vmdk_sparse_write(struct block *b, struct vmdk_extent *x, uint64_t off, const struct iovs *q,
                      unsigned flags);
int vmdk_sparse_zero(struct block *b, struct vmdk_extent *x, uint64_t off, uint64_t len);

/* ---- create.c ---- */
extern const struct block_opt vmdk_create_opts[];
int vmdk_create(const struct block_new *n, struct err *err);

#endif
