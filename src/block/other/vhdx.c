/*
 * Format "vhdx", read-only: "[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format", version 8.0. Two
 * headers, of which the newer good one counts; regions; metadata; the block allocation table (BAT).
 *
 * Does not do: writing, replaying a log (such an image is refused), differencing images.
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
    HEADER_AT = 64 << 10,
    HEADER_STEP = 64 << 10,
    HEADER_BYTES = 4096,
    REGIONS_AT = 192 << 10,
    REGION_BYTES = 64 << 10,
    METADATA_BYTES = 64 << 10, /* of its table */
    MAX_REGIONS = 2047,
    MAX_ITEMS = 2047,
    MIN_BLOCK = 1 << 20,
    MAX_BLOCK = 256 << 20,
    UNIT = 1 << 20, /* of offsets in the BAT */
    HAS_PARENT = 2,
    REQUIRED = 4,       /* of an item's flags */
    STATE_UNMAPPED = 3, /* it and those before read as zero */
    STATE_FULL = 6,
};
#define MAX_DISK (64ull << 40)

struct vhdx {
    struct pages pages; /* of the BAT */
    uint64_t bat_off, bat_bytes, meta_off, meta_bytes;
    uint32_t block, sector, chunk_ratio;
};

/* GUIDs as they lie in files: the first three numbers little-endian. */
static const uint8_t guid_bat[16] = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                                     0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08};
static const uint8_t guid_metadata[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                          0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
static const uint8_t guid_file[16] = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                                      0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b};
static const uint8_t guid_size[16] = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                                      0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};
static const uint8_t guid_sector[16] = {0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
                                        0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f};
static const uint8_t guid_physical[16] = {0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44,
                                          0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56};
static const uint8_t guid_page83[16] = {0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45,
                                        0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46};

static int vhdx_probe(const uint8_t *head, size_t n, const char *name)
{
    return n >= 8 && !memcmp(head, "vhdxfile", 8) ? 100 : 0;
}

static int bad(struct block *b, struct err *err, const char *what)
{
    return err_set(err, EINVAL, "'%s' is no usable VHDX image: %s", b->filename, what);
}

/* CRC-32C (Castagnoli), with the four bytes at 4 taken as zero. */
static uint32_t checksum(const uint8_t *at, size_t n)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        crc ^= i >= 4 && i < 8 ? 0 : at[i];
        for (int k = 0; k < 8; k++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
    }
    return ~crc;
}

static bool good(const uint8_t *at, size_t n, const char *signature)
{
    return !memcmp(at, signature, 4) && load_le32(at + 4) == checksum(at, n);
}

static int read_header(struct block *b, struct err *err)
{
    uint8_t h[2][HEADER_BYTES];
    int best = -1;
    for (int i = 0; i < 2; i++) {
        if (!block_pread(b->file, HEADER_AT + (uint64_t)i * HEADER_STEP, h[i], HEADER_BYTES) &&
            good(h[i], HEADER_BYTES, "head") &&
            (best < 0 || load_le64(h[i] + 8) > load_le64(h[best] + 8))) {
            best = i;
        }
    }
    if (best < 0) {
        return bad(b, err, "no header is good");
    }
    if (load_le16(h[best] + 66) != 1) {
        return bad(b, err, "an unknown version");
    }
    return mem_is_zero(h[best] + 48, 16)
               ? 0
               : err_set(err, EPERM,
                         "VHDX image file '%s' opened read-only, but contains a log that needs to "
                         "be replayed",
                         b->filename);
}

static int take_region(struct block *b, const uint8_t *e, struct err *err)
{
    struct vhdx *v = b->state;
    uint64_t off = load_le64(e + 16), size = round_up(block_size(b->file), UNIT);
    uint32_t len = load_le32(e + 24);
    bool bat = !memcmp(e, guid_bat, 16), meta = !memcmp(e, guid_metadata, 16);
    if (!bat && !meta) {
        return load_le32(e + 28) & 1 ? bad(b, err, "a required region that is not known") : 0;
    }
    if (off % UNIT || off < UNIT || off > size || len > size - off) {
        return bad(b, err, "a region lies outside of the file");
    }
    v->bat_off = bat ? off : v->bat_off;
    v->bat_bytes = bat ? len : v->bat_bytes;
    v->meta_off = meta ? off : v->meta_off;
    v->meta_bytes = meta ? len : v->meta_bytes;
    return 0;
}

static int read_regions(struct block *b, struct err *err)
{
    struct vhdx *v = b->state;
    AUTO_FREE uint8_t *t = alloc_zero(REGION_BYTES);
    bool found = false;
    for (int i = 0; !found && i < 2; i++) {
        found = !block_pread(b->file, REGIONS_AT + (uint64_t)i * REGION_BYTES, t, REGION_BYTES) &&
                good(t, REGION_BYTES, "regi");
    }
    uint32_t count = load_le32(t + 8);
    if (!found || count > MAX_REGIONS) {
        return bad(b, err, "no table of regions is good");
    }
    int ret = 0;
    for (uint32_t i = 0; !ret && i < count; i++) {
        ret = take_region(b, t + 16 + 32 * (size_t)i, err);
    }
    if (!ret && (!v->bat_off || v->meta_bytes < METADATA_BYTES)) {
        ret = bad(b, err, "the BAT or the metadata is missing");
    }
    return ret;
}

static int take_item(struct block *b, const uint8_t *e, struct err *err)
{
    struct vhdx *v = b->state;
    uint8_t value[16] = {0};
    uint32_t off = load_le32(e + 16), len = load_le32(e + 20);
    bool file = !memcmp(e, guid_file, 16), size = !memcmp(e, guid_size, 16),
         sector = !memcmp(e, guid_sector, 16),
         known = !memcmp(e, guid_physical, 16) || !memcmp(e, guid_page83, 16);
    if (!file && !size && !sector) {
        return !known && load_le32(e + 24) & REQUIRED
                   ? bad(b, err, "required metadata that are not known")
                   : 0;
    }
    if (off < METADATA_BYTES || off > v->meta_bytes || len > v->meta_bytes - off ||
        len < (sector ? 4 : 8)) {
        return bad(b, err, "metadata at an impossible place");
    }
    if (block_pread(b->file, v->meta_off + off, value, sector ? 4 : 8)) {
        return bad(b, err, "metadata cannot be read");
    }
    if (file && load_le32(value + 4) & HAS_PARENT) {
        return bad(b, err, "differencing images are not supported");
    }
    v->block = file ? load_le32(value) : v->block;
    b->size = size ? load_le64(value) : b->size;
    v->sector = sector ? load_le32(value) : v->sector;
    return 0;
}

static int read_metadata(struct block *b, struct err *err)
{
    struct vhdx *v = b->state;
    AUTO_FREE uint8_t *t = alloc_zero(METADATA_BYTES);
    int ret = block_pread(b->file, v->meta_off, t, METADATA_BYTES);
    uint16_t count = load_le16(t + 10);
    if (ret || memcmp(t, "metadata", 8) || count > MAX_ITEMS) {
        return bad(b, err, "the table of metadata is not good");
    }
    for (uint16_t i = 0; !ret && i < count; i++) {
        ret = take_item(b, t + 32 + 32 * (size_t)i, err);
    }
    if (ret) {
        return ret;
    }
    if (v->block < MIN_BLOCK || v->block > MAX_BLOCK || v->block & (v->block - 1)) {
        return bad(b, err, "impossible size of blocks");
    }
    if ((v->sector != 512 && v->sector != 4096) || !b->size || b->size > MAX_DISK ||
        b->size % v->sector) {
        return bad(b, err, "impossible size of the disk or its sectors");
    }
    v->chunk_ratio = (uint32_t)(((uint64_t)v->sector << 23) / v->block);
    return 0;
}

static int check_bat(struct block *b, struct err *err)
{
    struct vhdx *v = b->state;
    uint64_t blocks = (b->size + v->block - 1) / v->block,
             entries = blocks + (blocks - 1) / v->chunk_ratio;
    if (entries * 8 > v->bat_bytes) {
        return bad(b, err, "the BAT is too short");
    }
    v->pages.file = b->file;
    return 0;
}

static int vhdx_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct vhdx *v = b->state;
    if (b->flags & BLOCK_RDWR) {
        return err_set(err, EROFS,
                       "VHDX images can only be read: open '%s' read-only, or convert "
                       "it to qcow2",
                       b->filename);
    }
    int ret = read_header(b, err);
    ret = ret ? ret : read_regions(b, err);
    ret = ret ? ret : read_metadata(b, err);
    ret = ret ? ret : check_bat(b, err);
    b->granule = v->block;
    return ret;
}

static int vhdx_close(struct block *b)
{
    pages_free(&((struct vhdx *)b->state)->pages);
    return 0;
}

static int bat_get(struct vhdx *v, uint64_t block, uint64_t *entry)
{
    return pages_le64(&v->pages, v->bat_off + 8 * (block + block / v->chunk_ratio), entry);
}

static bool is_zero(uint64_t entry)
{
    return (entry & 7) <= STATE_UNMAPPED;
}

static int vhdx_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    struct vhdx *v = b->state;
    uint64_t i = off / v->block, skip = off % v->block, n = v->block - skip, entry, next;
    int ret = bat_get(v, i, &entry);
    uint64_t at = entry & ~(uint64_t)(UNIT - 1);
    if (ret || (!is_zero(entry) &&
                ((entry & 7) != STATE_FULL || !at || at > BLOCK_MAX_SIZE - MAX_BLOCK))) {
        return ret ? ret : -EIO;
    }
    for (unsigned steps = 0; is_zero(entry) && n < len && steps < EXTENT_STEPS; steps++) {
        if (bat_get(v, ++i, &next) || !is_zero(next)) {
            break;
        }
        n += v->block;
    }
    e->len = n < len ? n : len;
    e->host = b->file;
    e->host_off = at + skip;
    e->flags = EXTENT_ALLOCATED | (is_zero(entry) ? EXTENT_ZERO : EXTENT_DATA | EXTENT_OFFSET);
    return 0;
}

static int vhdx_info(struct block *b, struct block_info *info, struct err *err)
{
    info->cluster_size = ((struct vhdx *)b->state)->block;
    return 0;
}

const struct block_type vhdx_type = {
    .name = "vhdx",
    .summary = "Hyper-V's images, read-only",
    .spec = "vhdx",
    .size = sizeof(struct vhdx),
    .probe = vhdx_probe,
    .open = vhdx_open,
    .close = vhdx_close,
    .extent = vhdx_extent,
    .info = vhdx_info,
};
