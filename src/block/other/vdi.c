/*
 * Format "vdi": VirtualBox's disk images, as QEMU and VirtualBox write them: a header, one map of
 * all blocks of 1 MiB, blocks in the order they were first written. The header was learnt from
 * images; there is no published specification.
 *
 * Does not do: differencing images, blocks of other sizes than 1 MiB, resizing.
 *
 * A new block goes to the end of the file: its data first, then the map's entry. When this is cut
 * short, an unused block is left.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

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
    HEADER = 512,
    SIGNATURE_AT = 0x40,
    VERSION_AT = 0x44,
    HEADER_SIZE_AT = 0x48,
    TYPE_AT = 0x4c,
    MAP_AT = 0x154,
    DATA_AT = 0x158,
    SECTOR_SIZE_AT = 0x168,
    SIZE_AT = 0x170,
    BLOCK_SIZE_AT = 0x178,
    BLOCKS_AT = 0x180,
    ALLOCATED_AT = 0x184,
    UUID_AT = 0x188,
    LINK_AT = 0x1a8,
    PARENT_AT = 0x1b8,
    TYPE_DYNAMIC = 1,
    TYPE_STATIC = 2,
    BLOCK_BYTES = 1 << 20,
    MAX_BLOCKS = 0x3fffffff / 4, /* a map of 1 GiB: 256 TiB of disk */
    MAP_PIECE = 64 << 10,        /* bytes of the map that check looks at at a time */
    MAX_SAID = 1000,             /* findings told one by one */
};
#define SIGNATURE 0xbeda107fu
#define VERSION 0x00010001u
#define UNALLOCATED 0xffffffffu
#define ZERO 0xfffffffeu
#define TEXT "<<< QEMU VM Virtual Disk Image >>>\n"

struct vdi {
    uint8_t header[HEADER];
    struct pages pages; /* of the map */
    uint32_t blocks, allocated;
    uint64_t map_off, data_off;
    struct co_lock lock; /* while a block is added */
};

static int vdi_probe(const uint8_t *head, size_t n, const char *name)
{
    return n >= HEADER && load_le32(head + SIGNATURE_AT) == SIGNATURE ? 100 : 0;
}

static int bad(struct block *b, struct err *err, const char *what)
{
    return err_set(err, EINVAL, "'%s' is no usable VDI image: %s", b->filename, what);
}

static bool all_zero(const uint8_t *at, size_t n)
{
    return mem_is_zero(at, n);
}

static int vdi_check_header(struct block *b, struct err *err)
{
    struct vdi *v = b->state;
    const uint8_t *h = v->header;
    uint64_t size = load_le64(h + SIZE_AT);
    v->blocks = load_le32(h + BLOCKS_AT);
    v->allocated = load_le32(h + ALLOCATED_AT);
    v->map_off = load_le32(h + MAP_AT);
    v->data_off = load_le32(h + DATA_AT);
    if (load_le32(h + SIGNATURE_AT) != SIGNATURE || load_le32(h + VERSION_AT) != VERSION) {
        return bad(b, err, "wrong signature or version");
    }
    if (v->map_off % 512 || v->data_off % 512 || v->map_off < HEADER) {
        return bad(b, err, "map or data at an odd place");
    }
    if (load_le32(h + SECTOR_SIZE_AT) != 512 || load_le32(h + BLOCK_SIZE_AT) != BLOCK_BYTES) {
        return bad(b, err, "sectors are not 512 bytes or blocks not 1 MiB");
    }
    if (v->blocks > MAX_BLOCKS || size > (uint64_t)v->blocks * BLOCK_BYTES) {
        return bad(b, err, "the size does not fit the number of blocks");
    }
    if (!all_zero(h + LINK_AT, 16) || !all_zero(h + PARENT_AT, 16)) {
        return bad(b, err, "differencing images are not supported");
    }
    if (v->map_off + 4 * (uint64_t)v->blocks > v->data_off) {
        return bad(b, err, "the map runs into the data");
    }
    b->size = round_up(size, 512);
    return 0;
}

static int vdi_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct vdi *v = b->state;
    int ret = block_pread(b->file, 0, v->header, HEADER);
    ret =
        ret ? err_set(err, -ret, "cannot read the header of '%s': %s", b->filename, strerror(-ret))
            : vdi_check_header(b, err);
    if (ret) {
        return ret;
    }
    uint64_t bytes = 4 * (uint64_t)v->blocks;
    if (v->map_off + bytes > round_up(block_size(b->file), 512)) {
        return bad(b, err, "the map lies behind the end of the file");
    }
    v->pages.file = b->file;
    b->granule = BLOCK_BYTES;
    return 0;
}

static int vdi_close(struct block *b)
{
    pages_free(&((struct vdi *)b->state)->pages);
    return 0;
}

static bool is_data(const struct vdi *v, uint32_t entry)
{
    return entry < v->blocks;
}

static int map_get(struct vdi *v, uint64_t i, uint32_t *entry)
{
    return pages_le32(&v->pages, v->map_off + 4 * i, entry);
}

static int vdi_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    struct vdi *v = b->state;
    uint64_t i = off / BLOCK_BYTES, skip = off % BLOCK_BYTES, n = BLOCK_BYTES - skip;
    uint32_t first, prev, next;
    int ret = map_get(v, i, &first);
    bool data = is_data(v, first);
    if (ret || (!data && first != UNALLOCATED && first != ZERO)) {
        return ret ? ret : -EIO;
    }
    if (data && v->data_off + (uint64_t)first * BLOCK_BYTES >= block_size(b->file)) {
        return -EIO; /* behind the end of the file: nobody has written that */
    }
    prev = first;
    for (unsigned steps = 0; n < len && i + 1 < v->blocks && steps < EXTENT_STEPS; steps++) {
        ret = map_get(v, ++i, &next);
        if (ret ||
            (data ? next != prev + 1 || !is_data(v, next) : next != UNALLOCATED && next != ZERO)) {
            break; /* an error is told to who looks there */
        }
        prev = next;
        n += BLOCK_BYTES;
    }
    e->len = n < len ? n : len;
    e->flags =
        data ? EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_OFFSET : EXTENT_ZERO | EXTENT_ALLOCATED;
    e->host = b->file;
    e->host_off = v->data_off + (uint64_t)first * BLOCK_BYTES + skip;
    return 0;
}

/* ---- Writing ---- */

static int write_entry(struct block *b, uint32_t i, uint32_t val)
{
    struct vdi *v = b->state;
    uint8_t entry[4];
    store_le32(entry, val);
    return pages_write(&v->pages, v->map_off + 4 * (uint64_t)i, entry, 4);
}

static int add_block(struct block *b, uint32_t i, uint64_t skip, const struct iovs *q)
{
    struct vdi *v = b->state;
    struct err ignored;
    uint64_t at = v->data_off + (uint64_t)v->allocated * BLOCK_BYTES;
    if (v->allocated >= v->blocks) {
        return -EIO; /* the header counts wrongly: check repairs it */
    }
    int ret = block_size(b->file) > at ? block_zero(b->file, at, BLOCK_BYTES, BLOCK_MAY_UNMAP) : 0;
    if (!ret && block_size(b->file) < at + BLOCK_BYTES) {
        ret = block_truncate(b->file, at + BLOCK_BYTES, PREALLOC_OFF, &ignored);
    }
    ret = ret ? ret : block_pwritev(b->file, at + skip, q, 0);
    if (ret) {
        return ret;
    }
    store_le32(v->header + ALLOCATED_AT, v->allocated + 1);
    ret = block_pwrite(b->file, 0, v->header, HEADER, 0);
    if (!ret) {
        ret = write_entry(b, i, v->allocated++);
    }
    return ret;
}

static int write_block(struct block *b, uint32_t i, uint64_t skip, const struct iovs *q)
{
    struct vdi *v = b->state;
    uint32_t entry;
    int ret = map_get(v, i, &entry);
    if (!ret && !is_data(v, entry)) {
        co_lock(&v->lock);
        ret = map_get(v, i, &entry);
        bool still = !ret && !is_data(v, entry);
        ret = still ? add_block(b, i, skip, q) : ret;
        co_unlock(&v->lock);
        if (still) {
            return ret;
        }
    }
    return ret ? ret
               : block_pwritev(b->file, v->data_off + (uint64_t)entry * BLOCK_BYTES + skip, q, 0);
}

static int vdi_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    int ret = 0;
    for (uint64_t done = 0; !ret && done < q->len;) {
        uint64_t skip = (off + done) % BLOCK_BYTES, n = BLOCK_BYTES - skip;
        n = n < q->len - done ? n : q->len - done;
        struct iovs part = iovs_part(q, done, n);
        ret = write_block(b, (uint32_t)((off + done) / BLOCK_BYTES), skip, &part);
        done += n;
    }
    return ret;
}

/* ---- Making, checking ---- */

static void fill_header(uint8_t *h, uint64_t size, uint32_t blocks, uint64_t data_off, bool fixed)
{
    memcpy(h, TEXT, sizeof(TEXT));
    store_le32(h + SIGNATURE_AT, SIGNATURE);
    store_le32(h + VERSION_AT, VERSION);
    store_le32(h + HEADER_SIZE_AT, 0x180);
    store_le32(h + TYPE_AT, fixed ? TYPE_STATIC : TYPE_DYNAMIC);
    store_le32(h + MAP_AT, HEADER);
    store_le32(h + DATA_AT, (uint32_t)data_off);
    store_le32(h + SECTOR_SIZE_AT, 512);
    store_le64(h + SIZE_AT, size);
    store_le32(h + BLOCK_SIZE_AT, BLOCK_BYTES);
    store_le32(h + BLOCKS_AT, blocks);
    store_le32(h + ALLOCATED_AT, fixed ? blocks : 0);
    other_make_uuid(h + UUID_AT);
    other_make_uuid(h + UUID_AT + 16);
}

static int vdi_create(const struct block_new *n, struct err *err)
{
    enum block_prealloc prealloc;
    bool fixed = false;
    int ret = block_opt_prealloc(n->opts, &prealloc, err);
    ret = ret ? ret : block_opt_bool(n->opts, "static", &fixed, err);
    fixed |= prealloc == PREALLOC_METADATA;
    uint64_t blocks = round_up(n->size, BLOCK_BYTES) / BLOCK_BYTES;
    if (ret || blocks > MAX_BLOCKS) {
        return ret ? ret : err_set(err, EFBIG, "Unsupported VDI image size (at most 256 TiB)");
    }
    uint64_t map_bytes = round_up(4 * blocks, 512), data = HEADER + map_bytes;
    AUTO_FREE uint8_t *head = calloc(1, data);
    if (!head || (prealloc != PREALLOC_OFF && prealloc != PREALLOC_METADATA)) {
        return err_set(err, head ? EINVAL : ENOMEM,
                       "VDI: preallocation is off or metadata, or there is no memory");
    }
    fill_header(head, n->size, (uint32_t)blocks, data, fixed);
    for (uint64_t i = 0; i < blocks; i++) {
        store_le32(head + HEADER + 4 * i, fixed ? (uint32_t)i : UNALLOCATED);
    }
    ret = block_pwrite(n->file, 0, head, data, 0);
    if (ret) {
        return err_set(err, -ret, "cannot write '%s': %s", n->name, strerror(-ret));
    }
    return fixed ? block_truncate(n->file, data + blocks * BLOCK_BYTES, PREALLOC_OFF, err) : 0;
}

static void say(struct check_report *r, const char *text, uint32_t i, uint32_t entry)
{
    if (r->say && r->corruptions < MAX_SAID) {
        AUTO_FREE char *line = alloc_printf("ERROR: block %u -> %u: %s", i, entry, text);
        r->say(r->opaque, line);
    }
}

/* 1: it is in use. */
static uint32_t check_entry(const struct vdi *v, uint32_t i, uint32_t e, uint8_t *seen,
                            struct check_report *r)
{
    if (e == UNALLOCATED || e == ZERO) {
        return 0;
    }
    if (e >= v->blocks) {
        say(r, "behind the last block", i, e);
        r->corruptions++;
    } else if (seen[e / 8] >> (e % 8) & 1) {
        say(r, "used twice", i, e);
        r->corruptions++;
    } else {
        seen[e / 8] |= (uint8_t)(1u << (e % 8));
    }
    return 1;
}

static int vdi_check(struct block *b, unsigned repair, struct check_report *r, struct err *err)
{
    struct vdi *v = b->state;
    AUTO_FREE uint8_t *seen = calloc(v->blocks / 8 + 1, 1), *piece = malloc(MAP_PIECE);
    uint32_t used = 0;
    if (repair) {
        return err_set(err, ENOTSUP, "VDI images cannot be repaired ('%s')", b->filename);
    }
    if (!seen || !piece) {
        return err_set(err, ENOMEM, "no memory to check '%s'", b->filename);
    }
    for (uint32_t i = 0; i < v->blocks; i++) {
        uint32_t k = i % (MAP_PIECE / 4), left = v->blocks - i;
        size_t n = left < MAP_PIECE / 4 ? 4 * (size_t)left : MAP_PIECE;
        int ret = k ? 0 : block_pread(b->file, v->map_off + 4 * (uint64_t)i, piece, n);
        if (ret) {
            return err_set(err, -ret, "cannot read the map of '%s': %s", b->filename,
                           strerror(-ret));
        }
        used += check_entry(v, i, load_le32(piece + 4 * (size_t)k), seen, r);
    }
    if (used != v->allocated) {
        say(r, "is the number of blocks used, not", used, v->allocated);
        r->corruptions++;
    }
    r->total_clusters = v->blocks;
    r->allocated = used;
    r->image_end = v->data_off + (uint64_t)v->allocated * BLOCK_BYTES;
    return 0;
}

static int vdi_info(struct block *b, struct block_info *info, struct err *err)
{
    info->cluster_size = BLOCK_BYTES;
    return 0;
}

static int vdi_measure(const struct keyval *opts, struct block *from, struct block_measure *m,
                       struct err *err)
{
    uint64_t size = from ? block_size(from) : 0;
    int ret = from ? 0 : block_opt_size(opts, "size", &size, err);
    uint64_t blocks = round_up(size, BLOCK_BYTES) / BLOCK_BYTES;
    m->required = HEADER + round_up(4 * blocks, 512);
    m->fully_allocated = m->required + blocks * BLOCK_BYTES;
    return ret;
}

static const struct block_opt vdi_create_opts[] = {
    {"size", "size", "Virtual disk size", NULL},
    {"static", "bool (on/off)", "VDI static (pre-allocated) image", "off"},
    {"preallocation", "str", "Preallocation mode (allowed values: off, metadata)", "off"},
    {0},
};

const struct block_type vdi_type = {
    .name = "vdi",
    .summary = "VirtualBox's images",
    .spec = "vdi",
    .size = sizeof(struct vdi),
    .create_opts = vdi_create_opts,
    .probe = vdi_probe,
    .open = vdi_open,
    .close = vdi_close,
    .pwritev = vdi_pwritev,
    .extent = vdi_extent,
    .create = vdi_create,
    .check = vdi_check,
    .info = vdi_info,
    .measure = vdi_measure,
};
