/* Sparse extents of VMDK: the hosted sparse header, directory, tables, compressed grains. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/vmdk/vmdk.h"

enum {
    HEADER = 512,
    VERSION_AT = 4,
    FLAGS_AT = 8,
    CAPACITY_AT = 12,
    GRAIN_AT = 20,
    DESC_AT = 28,
    DESC_SIZE_AT = 36,
    GTES_AT = 44,
    RGD_AT = 48,
    GD_AT = 56,
    COMPRESS_AT = 77,
    MIN_GRAIN = 8, /* sectors */
    MAX_GRAIN = 8192,
    MAX_GD = 16 << 20, /* entries of a directory: 64 MiB */
    MARKER = 12,       /* bytes before a compressed grain: sector, size */
};

static int bad(struct block *b, struct err *err, const char *what)
{
    return err_set(err, EINVAL, "'%s' is no usable VMDK image: %s", b->filename, what);
}

static int read_directory(struct vmdk_extent *x, uint64_t sector, uint32_t **out)
{
    size_t bytes = 4 * (size_t)x->gd_count;
    *out = calloc(x->gd_count ? x->gd_count : 1, 4);
    int ret = *out ? sector > BLOCK_MAX_SIZE / VMDK_SECTOR / 2 ? -EINVAL
                     : bytes ? block_pread(x->file, sector * VMDK_SECTOR, *out, bytes)
                             : 0
                   : -ENOMEM;
    for (uint32_t i = 0; !ret && i < x->gd_count; i++) {
        (*out)[i] = le32toh((*out)[i]);
    }
    return ret;
}

/* Streams have the real header at the end, where its writer knew the directory's place. */
static int read_header(struct block *b, struct vmdk_extent *x, uint8_t *h, struct err *err)
{
    uint64_t size = block_size(x->file);
    int ret = size >= HEADER ? block_pread(x->file, 0, h, HEADER) : -EINVAL;
    if (!ret && load_le64(h + GD_AT) == VMDK_GD_AT_END) {
        ret = size >= 3 * HEADER && size % VMDK_SECTOR == 0
                  ? block_pread(x->file, size - 2 * HEADER, h, HEADER)
                  : -EINVAL;
    }
    if (ret || load_le32(h) != VMDK_MAGIC) {
        return bad(b, err, "a sparse extent has no header");
    }
    return 0;
}

static int check_header(struct block *b, struct vmdk_extent *x, const uint8_t *h, struct err *err)
{
    uint32_t flags = load_le32(h + FLAGS_AT), version = load_le32(h + VERSION_AT);
    uint64_t grain = load_le64(h + GRAIN_AT), capacity = load_le64(h + CAPACITY_AT);
    if (!version || version > 3) {
        return bad(b, err, "an unknown version");
    }
    if (grain < MIN_GRAIN || grain > MAX_GRAIN || grain & (grain - 1)) {
        return bad(b, err, "impossible size of grains");
    }
    if (load_le32(h + GTES_AT) != VMDK_GTES || capacity > BLOCK_MAX_SIZE / VMDK_SECTOR) {
        return bad(b, err, "impossible size of tables or of the disk");
    }
    x->compressed = flags & VMDK_FLAG_COMPRESSED;
    x->zero_grains = flags & VMDK_FLAG_ZERO_GRAIN;
    if (x->compressed && load_le16(h + COMPRESS_AT) != 1) {
        return bad(b, err, "an unknown compression");
    }
    x->grain = (uint32_t)grain * VMDK_SECTOR;
    x->bytes = capacity * VMDK_SECTOR;
    uint64_t reach = (uint64_t)x->grain * VMDK_GTES, count = (x->bytes + reach - 1) / reach;
    if (count > MAX_GD || count * 4 > round_up(block_size(x->file), VMDK_SECTOR)) {
        return bad(b, err, "the directory is longer than the file");
    }
    x->gd_count = (uint32_t)count;
    return 0;
}

int vmdk_sparse_open(struct block *b, struct vmdk_extent *x, struct err *err)
{
    uint8_t h[HEADER];
    int ret = read_header(b, x, h, err);
    ret = ret ? ret : check_header(b, x, h, err);
    if (ret) {
        return ret;
    }
    uint32_t flags = load_le32(h + FLAGS_AT);
    ret = read_directory(x, load_le64(h + GD_AT), &x->gd);
    if (!ret && flags & VMDK_FLAG_REDUNDANT) {
        ret = read_directory(x, load_le64(h + RGD_AT), &x->rgd);
    }
    if (ret) {
        vmdk_sparse_close(x);
        return bad(b, err, "the directory cannot be read");
    }
    struct vmdk *v = b->state;
    if (x->own_file) {
        v->desc_off = load_le64(h + DESC_AT) * VMDK_SECTOR;
        v->desc_bytes = load_le64(h + DESC_SIZE_AT) * VMDK_SECTOR;
    }
    x->next = round_up(block_size(x->file), x->compressed ? VMDK_SECTOR : x->grain);
    return 0;
}

void vmdk_sparse_close(struct vmdk_extent *x)
{
    free(x->gd);
    free(x->rgd);
    for (unsigned i = 0; i < VMDK_KEPT; i++) {
        free(x->kept[i]);
        x->kept[i] = NULL;
    }
    x->gd = x->rgd = NULL;
}

static struct vmdk_table *table_slot(struct vmdk_extent *x, uint32_t at)
{
    unsigned oldest = 0;
    for (unsigned i = 0; i < VMDK_KEPT; i++) {
        if (!x->kept[i]) {
            x->kept[i] = calloc(1, sizeof(struct vmdk_table));
            return x->kept[i];
        }
        if (x->kept[i]->at == at) {
            return x->kept[i];
        }
        oldest = x->kept[i]->used < x->kept[oldest]->used ? i : oldest;
    }
    return x->kept[oldest];
}

static int table_read(struct vmdk_extent *x, struct vmdk_table *t, uint32_t at)
{
    t->at = 0;
    int ret = block_pread(x->file, (uint64_t)at * VMDK_SECTOR, t->entries, sizeof(t->entries));
    for (unsigned i = 0; !ret && i < VMDK_GTES; i++) {
        t->entries[i] = le32toh(t->entries[i]);
    }
    t->at = ret ? 0 : at;
    return ret;
}

int vmdk_look_up_locked(struct vmdk_extent *x, uint64_t grain, uint32_t *sector)
{
    uint32_t at = x->gd[grain / VMDK_GTES];
    *sector = 0;
    if (!at) {
        return 0;
    }
    struct vmdk_table *t = table_slot(x, at);
    int ret = !t ? -ENOMEM : t->at != at ? table_read(x, t, at) : 0;
    if (!ret) {
        t->used = ++x->clock;
        *sector = t->entries[grain % VMDK_GTES];
    }
    return ret;
}

int vmdk_look_up(struct vmdk_extent *x, uint64_t grain, uint32_t *sector)
{
    co_lock(&x->lock);
    int ret = vmdk_look_up_locked(x, grain, sector);
    co_unlock(&x->lock);
    return ret;
}

int vmdk_set_entry(struct vmdk_extent *x, uint64_t grain, uint32_t sector)
{
    uint64_t i = grain / VMDK_GTES, k = grain % VMDK_GTES;
    uint8_t entry[4];
    store_le32(entry, sector);
    int ret = x->rgd && x->rgd[i]
                  ? block_pwrite(x->file, (uint64_t)x->rgd[i] * VMDK_SECTOR + 4 * k, entry, 4, 0)
                  : 0;
    ret = ret ? ret : block_pwrite(x->file, (uint64_t)x->gd[i] * VMDK_SECTOR + 4 * k, entry, 4, 0);
    struct vmdk_table *t = ret ? NULL : table_slot(x, x->gd[i]);
    if (t && t->at == x->gd[i]) {
        t->entries[k] = sector;
    }
    return ret;
}

struct inflate_job {
    const uint8_t *from;
    uint32_t len, want;
    uint8_t *to;
};

static int inflate_work(void *opaque)
{
    struct inflate_job *j = opaque;
    uLongf got = j->want;
    int ret = uncompress(j->to, &got, j->from, j->len);
    if (ret != Z_OK) {
        return -EIO;
    }
    memset(j->to + got, 0, j->want - got);
    return 0;
}

int vmdk_read_compressed(struct vmdk_extent *x, uint32_t sector, uint8_t *grain)
{
    uint8_t marker[MARKER];
    uint64_t at = (uint64_t)sector * VMDK_SECTOR;
    int ret = block_pread(x->file, at, marker, MARKER);
    uint32_t len = load_le32(marker + 8);
    if (ret || !len || len > 2 * x->grain) {
        return ret ? ret : -EIO;
    }
    AUTO_FREE uint8_t *data = malloc(len);
    ret = data ? block_pread(x->file, at + MARKER, data, len) : -ENOMEM;
    struct inflate_job j = {data, len, x->grain, grain};
    return ret ? ret : co_compute(inflate_work, &j);
}
