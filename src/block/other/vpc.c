/*
 * Format "vpc": Virtual PC's disk images, "Virtual Hard Disk Image Format Specification" 1.0: fixed
 * and dynamic ones. All big-endian. A dynamic image: a copy of the footer, a header, the block
 * allocation table (BAT), blocks with a bitmap of their sectors before the data, the footer.
 *
 * Does not do: differencing images, blocks of more than 256 MiB, resizing.
 *
 * A new block goes where the footer was: bitmap and data, the footer behind them, then the BAT's
 * entry. When this is cut short the copy of the footer at the beginning is what counts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/driver.h"
#include "block/other/other.h"
#include "block/pages.h"
#include "loop/co.h"

enum {
    FOOTER = 512,
    DYNAMIC = 1024, /* bytes of the dynamic header */
    TYPE_FIXED = 2,
    TYPE_DYNAMIC = 3,
    BLOCK_PRESET = 2 << 20,
    MAX_BLOCK = 256 << 20,
    MAX_ENTRIES = 0x7ffffff, /* of the BAT */
    EPOCH = 946684800,       /* 2000-01-01 */
    MAX_CYLINDERS = 65535,
    BAT_PIECE = 64 << 10, /* bytes of the BAT looked at at a time */
};
#define UNUSED 0xffffffffu
/* 2040 GiB: what BAT entries in sectors reach */
#define MAX_SIZE (2040ull << 30)

struct vpc {
    uint8_t footer[FOOTER];
    bool dynamic;
    struct pages pages;              /* of the BAT */
    uint32_t entries, block, bitmap; /* bytes of a block and of its bitmap */
    uint64_t bat_off, next;          /* where the next block goes: the footer's place */
    struct co_lock lock;
};

static int vpc_probe(const uint8_t *head, size_t n, const char *name)
{
    return n >= 8 && !memcmp(head, "conectix", 8) ? 100 : 0;
}

static uint32_t checksum(const uint8_t *at, size_t n, size_t field)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += i >= field && i < field + 4 ? 0 : at[i];
    }
    return ~sum;
}

static int bad(struct block *b, struct err *err, const char *what)
{
    return err_set(err, EINVAL, "'%s' is no usable VHD image: %s", b->filename, what);
}

/* The geometry decides, except for makers known to write the size right. */
static uint64_t disk_size(const uint8_t *f)
{
    static const char makers[][5] = {"win ", "qem2", "d2v ", "tap", "CTXS", "wa"};
    uint64_t chs = (uint64_t)load_be16(f + 56) * f[58] * f[59] * 512, now = load_be64(f + 48);
    for (size_t i = 0; i < ARRAY_LEN(makers); i++) {
        if (!memcmp(f + 28, makers[i], 4)) {
            return now;
        }
    }
    return chs == (uint64_t)MAX_CYLINDERS * 16 * 255 * 512 ? now : chs;
}

static int read_footer(struct block *b, struct err *err)
{
    struct vpc *v = b->state;
    uint64_t size = block_size(b->file);
    int ret = size >= FOOTER ? block_pread(b->file, 0, v->footer, FOOTER) : -EINVAL;
    if (!ret && memcmp(v->footer, "conectix", 8)) {
        /* Fixed images have it at the end only; 511 bytes in very old ones. */
        ret = block_pread(b->file, round_down(size - 1, 512), v->footer, FOOTER);
    }
    if (ret || memcmp(v->footer, "conectix", 8)) {
        return bad(b, err, "it has no footer");
    }
    if (checksum(v->footer, FOOTER, 64) != load_be32(v->footer + 64)) {
        return bad(b, err, "the footer's checksum is wrong");
    }
    uint32_t type = load_be32(v->footer + 60);
    v->dynamic = type == TYPE_DYNAMIC;
    b->size = disk_size(v->footer);
    if (type != TYPE_FIXED && type != TYPE_DYNAMIC) {
        return bad(b, err, "differencing images are not supported");
    }
    return b->size > MAX_SIZE || b->size % 512 ? bad(b, err, "impossible size of the disk") : 0;
}

static int read_dynamic(struct block *b, struct err *err)
{
    struct vpc *v = b->state;
    uint8_t h[DYNAMIC];
    uint64_t at = load_be64(v->footer + 16);
    if (at > BLOCK_MAX_SIZE - DYNAMIC || block_pread(b->file, at, h, DYNAMIC) ||
        memcmp(h, "cxsparse", 8)) {
        return bad(b, err, "it has no dynamic header");
    }
    v->bat_off = load_be64(h + 16);
    v->entries = load_be32(h + 28);
    v->block = load_be32(h + 32);
    if (v->block < 512 || v->block > MAX_BLOCK || v->block & (v->block - 1)) {
        return bad(b, err, "impossible size of blocks");
    }
    if (v->entries > MAX_ENTRIES || b->size > (uint64_t)v->entries * v->block) {
        return bad(b, err, "the size does not fit the number of blocks");
    }
    if (v->bat_off > block_size(b->file) ||
        4 * (uint64_t)v->entries > block_size(b->file) - v->bat_off) {
        return bad(b, err, "the table of blocks lies behind the end of the file");
    }
    v->bitmap = (uint32_t)round_up((v->block / 512 + 7) / 8, 512);
    return 0;
}

/* Behind everything that is used. */
static int find_end(struct block *b)
{
    struct vpc *v = b->state;
    AUTO_FREE uint8_t *piece = malloc(BAT_PIECE);
    int ret = piece ? 0 : -ENOMEM;
    v->next = round_up(v->bat_off + 4 * (uint64_t)v->entries, 512);
    for (uint32_t i = 0; !ret && i < v->entries; i++) {
        uint32_t k = i % (BAT_PIECE / 4), left = v->entries - i;
        size_t n = left < BAT_PIECE / 4 ? 4 * (size_t)left : BAT_PIECE;
        ret = k ? 0 : block_pread(b->file, v->bat_off + 4 * (uint64_t)i, piece, n);
        uint32_t at = ret ? UNUSED : load_be32(piece + 4 * (size_t)k);
        uint64_t end = (uint64_t)at * 512 + v->bitmap + v->block;
        if (at != UNUSED && end > v->next) {
            v->next = end;
        }
    }
    return ret;
}

static int vpc_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct vpc *v = b->state;
    int ret = read_footer(b, err);
    if (ret || !v->dynamic) {
        if (!ret && b->size > block_size(b->file)) {
            ret = bad(b, err, "the file is too short");
        }
        return ret;
    }
    ret = read_dynamic(b, err);
    if (ret) {
        return ret;
    }
    v->pages.file = b->file;
    ret = b->flags & BLOCK_RDWR ? find_end(b) : 0;
    if (ret) {
        return err_set(err, -ret, "cannot read the table of blocks of '%s': %s", b->filename,
                       strerror(-ret));
    }
    b->granule = v->block;
    return 0;
}

static int vpc_close(struct block *b)
{
    pages_free(&((struct vpc *)b->state)->pages);
    return 0;
}

static int bat_get(struct vpc *v, uint64_t i, uint32_t *entry)
{
    return pages_be32(&v->pages, v->bat_off + 4 * i, entry);
}

static int vpc_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    struct vpc *v = b->state;
    e->host = b->file;
    e->flags = EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_OFFSET;
    e->host_off = off;
    e->len = len;
    if (!v->dynamic) {
        return 0;
    }
    uint64_t i = off / v->block, skip = off % v->block, n = v->block - skip;
    uint32_t first, next;
    int ret = bat_get(v, i, &first);
    if (!ret && (uint64_t)first * 512 < FOOTER + DYNAMIC) {
        ret = -EIO; /* no block can lie there */
    }
    if (ret) {
        return ret;
    }
    for (unsigned steps = 0; first == UNUSED && n < len && steps < EXTENT_STEPS; steps++) {
        if (bat_get(v, ++i, &next) || next != UNUSED) {
            break;
        }
        n += v->block;
    }
    e->len = n < len ? n : len;
    if (first == UNUSED) {
        e->flags = EXTENT_ZERO | EXTENT_ALLOCATED;
    } else {
        e->host_off = (uint64_t)first * 512 + v->bitmap + skip;
    }
    return 0;
}

/* ---- Writing ---- */

static int add_block(struct block *b, uint32_t i, uint64_t skip, const struct iovs *q)
{
    struct vpc *v = b->state;
    struct err ignored;
    uint64_t at = v->next, end = at + v->bitmap + v->block;
    uint8_t entry[4];
    AUTO_FREE uint8_t *bitmap = block_alloc(v->bitmap);
    if (!bitmap || end / 512 >= UNUSED) {
        return bitmap ? -EFBIG : -ENOMEM;
    }
    memset(bitmap, 0xff, v->bitmap);
    int ret = block_size(b->file) > at ? block_zero(b->file, at, end - at, BLOCK_MAY_UNMAP) : 0;
    ret = !ret && block_size(b->file) < end ? block_truncate(b->file, end, PREALLOC_OFF, &ignored)
                                            : ret;
    ret = ret ? ret : block_pwrite(b->file, at, bitmap, v->bitmap, 0);
    ret = ret ? ret : block_pwritev(b->file, at + v->bitmap + skip, q, 0);
    ret = ret ? ret : block_pwrite(b->file, end, v->footer, FOOTER, 0);
    store_be32(entry, (uint32_t)(at / 512));
    ret = ret ? ret : pages_write(&v->pages, v->bat_off + 4 * (uint64_t)i, entry, 4);
    v->next = ret ? v->next : end;
    return ret;
}

static int write_block(struct block *b, uint32_t i, uint64_t skip, const struct iovs *q)
{
    struct vpc *v = b->state;
    uint32_t entry;
    int ret = bat_get(v, i, &entry);
    if (!ret && entry == UNUSED) {
        co_lock(&v->lock);
        ret = bat_get(v, i, &entry);
        bool still = !ret && entry == UNUSED;
        ret = still ? add_block(b, i, skip, q) : ret;
        co_unlock(&v->lock);
        if (still) {
            return ret;
        }
    }
    return ret ? ret : block_pwritev(b->file, (uint64_t)entry * 512 + v->bitmap + skip, q, 0);
}

static int vpc_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    struct vpc *v = b->state;
    int ret = 0;
    if (!v->dynamic) {
        return block_pwritev(b->file, off, q, 0);
    }
    for (uint64_t done = 0; !ret && done < q->len;) {
        uint64_t skip = (off + done) % v->block, n = v->block - skip;
        n = n < q->len - done ? n : q->len - done;
        struct iovs part = iovs_part(q, done, n);
        ret = write_block(b, (uint32_t)((off + done) / v->block), skip, &part);
        done += n;
    }
    return ret;
}

/* ---- Making ---- */

/* The specification's appendix: cylinders, heads and sectors for a number of sectors. */
static void geometry(uint64_t sectors, uint32_t *cyl, uint32_t *heads, uint32_t *spt)
{
    uint64_t most = (uint64_t)MAX_CYLINDERS * 16 * 255, ch;
    sectors = sectors < most ? sectors : most;
    if (sectors >= (uint64_t)MAX_CYLINDERS * 16 * 63) {
        *spt = 255;
        *heads = 16;
        ch = sectors / *spt;
    } else {
        *spt = 17;
        ch = sectors / *spt;
        *heads = (uint32_t)((ch + 1023) / 1024);
        *heads = *heads < 4 ? 4 : *heads;
        if (ch >= *heads * 1024ull || *heads > 16) {
            *spt = 31;
            *heads = 16;
            ch = sectors / *spt;
        }
        if (ch >= *heads * 1024ull) {
            *spt = 63;
            *heads = 16;
            ch = sectors / *spt;
        }
    }
    *cyl = (uint32_t)(ch / *heads);
}

/* The smallest geometry that holds them. */
static void geometry_up(uint64_t sectors, uint32_t *cyl, uint32_t *heads, uint32_t *spt)
{
    uint64_t most = (uint64_t)MAX_CYLINDERS * 16 * 255;
    for (uint64_t i = 0;; i++) {
        geometry(sectors + i, cyl, heads, spt);
        if ((uint64_t)*cyl * *heads * *spt >= sectors || sectors + i >= most) {
            return;
        }
    }
}

static void fill_footer(uint8_t *f, uint64_t size, bool dynamic, bool force, const uint32_t *chs)
{
    memset(f, 0, FOOTER);
    memcpy(f, "conectix", 8);
    store_be32(f + 8, 2);
    store_be32(f + 12, 0x00010000);
    store_be64(f + 16, dynamic ? FOOTER : UINT64_MAX);
    store_be32(f + 24, (uint32_t)(time(NULL) - EPOCH));
    memcpy(f + 28, force ? "qem2" : "qemu", 4);
    store_be16(f + 32, 5);
    store_be16(f + 34, 3);
    memcpy(f + 36, "Wi2k", 4);
    store_be64(f + 40, size);
    store_be64(f + 48, size);
    store_be16(f + 56, (uint16_t)chs[0]);
    f[58] = (uint8_t)chs[1];
    f[59] = (uint8_t)chs[2];
    store_be32(f + 60, dynamic ? TYPE_DYNAMIC : TYPE_FIXED);
    other_make_uuid(f + 68);
    store_be32(f + 64, checksum(f, FOOTER, 64));
}

static int create_dynamic(const struct block_new *n, const uint8_t *footer, uint64_t size,
                          struct err *err)
{
    uint64_t entries = (size + BLOCK_PRESET - 1) / BLOCK_PRESET, bat = round_up(4 * entries, 512),
             all = FOOTER + DYNAMIC + bat + FOOTER;
    AUTO_FREE uint8_t *image = calloc(1, all);
    if (!image) {
        return err_set(err, ENOMEM, "no memory for the table of blocks");
    }
    uint8_t *h = image + FOOTER;
    memcpy(image, footer, FOOTER);
    memcpy(image + all - FOOTER, footer, FOOTER);
    memcpy(h, "cxsparse", 8);
    store_be64(h + 8, UINT64_MAX);
    store_be64(h + 16, FOOTER + DYNAMIC);
    store_be32(h + 24, 0x00010000);
    store_be32(h + 28, (uint32_t)entries);
    store_be32(h + 32, BLOCK_PRESET);
    store_be32(h + 36, checksum(h, DYNAMIC, 36));
    memset(h + DYNAMIC, 0xff, bat);
    int ret = block_pwrite(n->file, 0, image, all, 0);
    return ret ? err_set(err, -ret, "cannot write '%s': %s", n->name, strerror(-ret)) : 0;
}

static int vpc_create(const struct block_new *n, struct err *err)
{
    const char *kind = block_opt_text(n->opts, "subformat");
    bool dynamic = !kind || !strcmp(kind, "dynamic"), force = false;
    uint8_t footer[FOOTER];
    uint32_t chs[3];
    uint64_t size = n->size;
    int ret = block_opt_bool(n->opts, "force_size", &force, err);
    if (ret || (!dynamic && strcmp(kind, "fixed"))) {
        return ret ? ret : err_set(err, EINVAL, "subformat is dynamic or fixed, not '%s'", kind);
    }
    geometry_up(size / 512, &chs[0], &chs[1], &chs[2]);
    if (force) {
        geometry((uint64_t)MAX_CYLINDERS * 16 * 255, &chs[0], &chs[1], &chs[2]);
    } else {
        size = (uint64_t)chs[0] * chs[1] * chs[2] * 512;
    }
    if (size > MAX_SIZE || (!force && size < n->size)) {
        return err_set(err, EFBIG, "The image size is too large%s",
                       force ? "" : " (try using the force_size option)");
    }
    fill_footer(footer, size, dynamic, force, chs);
    if (dynamic) {
        return create_dynamic(n, footer, size, err);
    }
    ret = block_truncate(n->file, size, PREALLOC_OFF, err);
    int wrote = ret ? 0 : block_pwrite(n->file, size, footer, FOOTER, 0);
    return wrote ? err_set(err, -wrote, "cannot write '%s': %s", n->name, strerror(-wrote)) : ret;
}

static int vpc_info(struct block *b, struct block_info *info, struct err *err)
{
    info->cluster_size = ((struct vpc *)b->state)->block;
    return 0;
}

static const struct block_opt vpc_open_opts[] = {
    {"force_size_calc", "str", "accepted", NULL},
    {0},
};

static const struct block_opt vpc_create_opts[] = {
    {"size", "size", "Virtual disk size", NULL},
    {"subformat", "str",
     "Type of virtual hard disk format. Supported formats are "
     "{dynamic (default) | fixed} ",
     NULL},
    {"force_size", "bool (on/off)",
     "Force disk size calculation to use the actual size specified, rather than using the nearest "
     "CHS-based calculation",
     NULL},
    {0},
};

const struct block_type vpc_type = {
    .name = "vpc",
    .summary = "Virtual PC's images (VHD)",
    .spec = "vhd",
    .size = sizeof(struct vpc),
    .open_opts = vpc_open_opts,
    .create_opts = vpc_create_opts,
    .probe = vpc_probe,
    .open = vpc_open,
    .close = vpc_close,
    .pwritev = vpc_pwritev,
    .extent = vpc_extent,
    .create = vpc_create,
    .info = vpc_info,
};
