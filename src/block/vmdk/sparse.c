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

static bool directory_fits(const struct vmdk_extent *x, uint64_t sector)
{
    uint64_t size = round_up(block_size(x->file), VMDK_SECTOR), bytes = 4 * (uint64_t)x->gd_count;
    return sector <= size / VMDK_SECTOR && bytes <= size - sector * VMDK_SECTOR;
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
    uint64_t gd = load_le64(h + GD_AT), rgd = load_le64(h + RGD_AT);
    bool redundant = flags & VMDK_FLAG_REDUNDANT;
    if (!directory_fits(x, gd) || (redundant && !directory_fits(x, rgd))) {
        return bad(b, err, "the directory lies behind the end of the file");
    }
    x->gd_at = gd * VMDK_SECTOR;
    x->rgd_at = redundant ? rgd * VMDK_SECTOR : 0;
    x->pages.file = x->file;
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
    pages_free(&x->pages);
}

int vmdk_table_of(struct vmdk_extent *x, uint64_t grain, uint32_t *sector)
{
    return pages_le32(&x->pages, x->gd_at + 4 * (grain / VMDK_GTES), sector);
}

int vmdk_look_up(struct vmdk_extent *x, uint64_t grain, uint32_t *sector)
{
    uint32_t at;
    int ret = vmdk_table_of(x, grain, &at);
    *sector = 0;
    return ret || !at ? ret
                      : pages_le32(&x->pages, (uint64_t)at * VMDK_SECTOR + 4 * (grain % VMDK_GTES),
                                   sector);
}

int vmdk_set_entry(struct vmdk_extent *x, uint64_t grain, uint32_t sector)
{
    uint64_t i = grain / VMDK_GTES, k = grain % VMDK_GTES;
    uint32_t at, other = 0;
    uint8_t entry[4];
    int ret = vmdk_table_of(x, grain, &at);
    ret = !ret && x->rgd_at ? pages_le32(&x->pages, x->rgd_at + 4 * i, &other) : ret;
    if (ret || !at) {
        return ret ? ret : -EIO;
    }
    store_le32(entry, sector);
    ret = other ? pages_write(&x->pages, (uint64_t)other * VMDK_SECTOR + 4 * k, entry, 4) : 0;
    return ret ? ret : pages_write(&x->pages, (uint64_t)at * VMDK_SECTOR + 4 * k, entry, 4);
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
