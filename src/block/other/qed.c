/*
 * Format "qed", read-only: "QED image format" (docs/interop/qed_spec of QEMU's documentation). A
 * header, tables of two levels, clusters.
 *
 * Does not do: writing; checking images that were not closed (they are only read, which is safe).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/driver.h"
#include "block/pages.h"

enum {
    HEADER = 64,
    MAGIC = 0x00444551,
    F_BACKING = 1,
    F_NEED_CHECK = 2,
    F_RAW_BACKING = 4,
    MIN_CLUSTER = 1 << 12,
    MAX_CLUSTER = 1 << 26,
    MAX_TABLE = 16, /* clusters */
    MAX_TABLE_BYTES = 16 << 20,
    MAX_NAME = 1023,
};

struct qed {
    uint32_t cluster, entries; /* of a table */
    uint64_t l1_off;
    struct pages pages; /* of the tables */
};

static int qed_probe(const uint8_t *head, size_t n, const char *name)
{
    return n >= HEADER && load_le32(head) == MAGIC ? 100 : 0;
}

static int bad(struct block *b, struct err *err, const char *what)
{
    return err_set(err, EINVAL, "'%s' is no usable QED image: %s", b->filename, what);
}

static int qed_read_backing(struct block *b, const uint8_t *h, struct err *err)
{
    uint64_t features = load_le64(h + 16);
    uint32_t off = load_le32(h + 56), len = load_le32(h + 60);
    if (!(features & F_BACKING)) {
        return 0;
    }
    if (!len || len > MAX_NAME || off < HEADER || off > MAX_CLUSTER) {
        return bad(b, err, "the backing file's name is at an impossible place");
    }
    b->backing_name = alloc_zero(len + 1);
    b->backing_format = features & F_RAW_BACKING ? alloc_text("raw") : NULL;
    int ret = block_pread(b->file, off, b->backing_name, len);
    return ret ? err_set(err, -ret, "cannot read the header of '%s': %s", b->filename,
                         strerror(-ret))
               : 0;
}

static int qed_check_header(struct block *b, const uint8_t *h, struct err *err)
{
    struct qed *q = b->state;
    uint32_t table = load_le32(h + 8);
    q->cluster = load_le32(h + 4);
    q->l1_off = load_le64(h + 40);
    b->size = load_le64(h + 48);
    if (load_le64(h + 16) & ~(uint64_t)(F_BACKING | F_NEED_CHECK | F_RAW_BACKING)) {
        return bad(b, err, "it uses features that are not known");
    }
    if (q->cluster < MIN_CLUSTER || q->cluster > MAX_CLUSTER || q->cluster & (q->cluster - 1) ||
        !table || table > MAX_TABLE || table & (table - 1) ||
        (uint64_t)table * q->cluster > MAX_TABLE_BYTES) {
        return bad(b, err, "impossible sizes of clusters or tables");
    }
    q->entries = table * q->cluster / 8;
    uint64_t most = (uint64_t)q->entries * q->entries;
    if (b->size % 512 || b->size > BLOCK_MAX_SIZE ||
        (b->size + q->cluster - 1) / q->cluster > most) {
        return bad(b, err, "impossible size of the disk");
    }
    if (q->l1_off % q->cluster || !q->l1_off || q->l1_off >= block_size(b->file)) {
        return bad(b, err, "the L1 table is at an impossible place");
    }
    return 0;
}

static int qed_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct qed *q = b->state;
    uint8_t h[HEADER];
    if (b->flags & BLOCK_RDWR) {
        return err_set(err, EROFS,
                       "QED images can only be read: open '%s' read-only, or convert "
                       "it to qcow2",
                       b->filename);
    }
    int ret = block_pread(b->file, 0, h, sizeof(h));
    if (ret) {
        return err_set(err, -ret, "cannot read the header of '%s': %s", b->filename,
                       strerror(-ret));
    }
    ret = qed_check_header(b, h, err);
    ret = ret ? ret : qed_read_backing(b, h, err);
    if (ret) {
        return ret;
    }
    q->pages.file = b->file;
    b->granule = q->cluster;
    return 0;
}

static int qed_close(struct block *b)
{
    pages_free(&((struct qed *)b->state)->pages);
    return 0;
}

/* The entry of one cluster: 0 not allocated, 1 zero. *run: clusters from it that are not allocated
 * as their table is not. */
static int look_up(struct qed *q, uint64_t cluster, uint64_t *entry, uint64_t *run)
{
    uint64_t at, i = cluster % q->entries;
    int ret = pages_le64(&q->pages, q->l1_off + 8 * (cluster / q->entries), &at);
    *entry = 0;
    *run = 1;
    if (ret || !at) {
        *run = q->entries - i;
        return ret;
    }
    if (at % q->cluster || at > BLOCK_MAX_SIZE - MAX_TABLE_BYTES) {
        return -EIO;
    }
    ret = pages_le64(&q->pages, at + 8 * i, entry);
    bool place = !ret && *entry > 1;
    return place && (*entry % q->cluster || *entry > BLOCK_MAX_SIZE - q->cluster) ? -EIO : ret;
}

static int qed_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    struct qed *q = b->state;
    uint64_t first, entry, run, skip = off % q->cluster, i = off / q->cluster;
    int ret = look_up(q, i, &first, &run);
    if (ret) {
        return ret;
    }
    uint64_t clusters = run, most = (skip + len + q->cluster - 1) / q->cluster;
    for (unsigned steps = 0; clusters < most && steps < EXTENT_STEPS; steps++) {
        ret = look_up(q, i + clusters, &entry, &run);
        if (ret || entry != (first > 1 ? first + clusters * q->cluster : first)) {
            break; /* an error is told to who looks there */
        }
        clusters += run;
    }
    uint64_t n = clusters < most ? clusters * q->cluster - skip : len;
    e->len = n < len ? n : len;
    e->host = b->file;
    e->host_off = first + skip;
    e->flags = first > 1 ? EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_OFFSET
               : first   ? EXTENT_ZERO | EXTENT_ALLOCATED
                         : 0;
    return 0;
}

static int qed_info(struct block *b, struct block_info *info, struct err *err)
{
    info->cluster_size = ((struct qed *)b->state)->cluster;
    return 0;
}

const struct block_type qed_type = {
    .name = "qed",
    .summary = "QEMU's older format, read-only",
    .spec = "qed",
    .size = sizeof(struct qed),
    .has_backing = true,
    .probe = qed_probe,
    .open = qed_open,
    .close = qed_close,
    .extent = qed_extent,
    .info = qed_info,
};
