/*
 * Format "vmdk": monolithicSparse, monolithicFlat, streamOptimized; split ones (twoGbMaxExtent...)
 * are read and written, not made.
 *
 * Does not do: ESX's COWD and SESPARSE extents, raw devices, vmfs.
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
#include "block/core.h"
#include "block/vmdk/vmdk.h"

enum { MAX_SAID = 1000 }; /* findings told one by one */

static int vmdk_probe(const uint8_t *head, size_t n, const char *name)
{
    static const char mark[] = "# Disk DescriptorFile";
    const char *text = (const char *)head;
    size_t at = 0;
    if (n >= 4 && load_le32(head) == VMDK_MAGIC) {
        return 100;
    }
    while (at < n && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r')) {
        at++;
    }
    return n - at >= sizeof(mark) - 1 && !strncasecmp(text + at, mark, sizeof(mark) - 1) ? 90 : 0;
}

/* ---- Opening ---- */

static int read_desc(struct block *b, char **desc, struct err *err)
{
    struct vmdk *v = b->state;
    if (v->desc_bytes > VMDK_MAX_DESCRIPTOR || v->desc_off > BLOCK_MAX_SIZE / 2) {
        return err_set(err, EINVAL, "'%s': its descriptor is too long", b->filename);
    }
    *desc = alloc_zero(v->desc_bytes + 1);
    int ret = v->desc_bytes ? block_pread(b->file, v->desc_off, *desc, v->desc_bytes) : 0;
    return ret ? err_set(err, -ret, "cannot read the descriptor of '%s': %s", b->filename,
                         strerror(-ret))
               : 0;
}

static int take_desc(struct block *b, const char *desc, struct err *err)
{
    struct vmdk *v = b->state;
    AUTO_FREE char *cid = vmdk_desc_get(desc, "CID"),
                   *parent_cid = vmdk_desc_get(desc, "parentCID"),
                   *type = vmdk_desc_get(desc, "createType"),
                   *parent = vmdk_desc_get(desc, "parentFileNameHint");
    v->cid = cid ? (uint32_t)strtoul(cid, NULL, 16) : 0;
    v->parent_cid = parent_cid ? (uint32_t)strtoul(parent_cid, NULL, 16) : UINT32_MAX;
    snprintf(v->create_type, sizeof(v->create_type), "%s", type ? type : "monolithicSparse");
    if (parent && v->parent_cid != UINT32_MAX) {
        b->backing_name = alloc_text(parent);
        b->backing_format = alloc_text("vmdk");
    }
    return 0;
}

/* A sparse file that holds its descriptor. */
static int open_monolithic(struct block *b, struct err *err)
{
    struct vmdk *v = b->state;
    struct vmdk_extent *x = &v->extent[0];
    *x = (struct vmdk_extent){.file = block_ref(b->file), .own_file = true};
    v->extents = 1;
    int ret = vmdk_sparse_open(b, x, err);
    AUTO_FREE char *desc = NULL;
    ret = ret ? ret : read_desc(b, &desc, err);
    b->size = x->bytes;
    return ret ? ret : take_desc(b, desc, err);
}

static int open_text(struct block *b, struct err *err)
{
    struct vmdk *v = b->state;
    uint64_t size = block_size(b->file);
    v->desc_bytes = size < VMDK_MAX_DESCRIPTOR ? size : VMDK_MAX_DESCRIPTOR;
    AUTO_FREE char *desc = NULL;
    int ret = read_desc(b, &desc, err);
    if (!ret && !strstr(desc, "createType")) {
        ret = err_set(err, EINVAL, "'%s' is no VMDK image: neither header nor descriptor",
                      b->filename);
    }
    ret = ret ? ret : take_desc(b, desc, err);
    return ret ? ret : vmdk_desc_extents(b, desc, err);
}

static int vmdk_close(struct block *b)
{
    struct vmdk *v = b->state;
    for (unsigned i = 0; i < v->extents; i++) {
        vmdk_sparse_close(&v->extent[i]);
        block_close(v->extent[i].file);
    }
    free(v->extent);
    return 0;
}

static int vmdk_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct vmdk *v = b->state;
    uint8_t magic[4] = {0};
    v->extent = alloc_array(VMDK_MAX_EXTENTS, sizeof(*v->extent));
    int ret = block_pread(b->file, 0, magic, 4);
    ret = ret ? err_set(err, -ret, "cannot read '%s': %s", b->filename, strerror(-ret))
          : load_le32(magic) == VMDK_MAGIC ? open_monolithic(b, err)
                                           : open_text(b, err);
    if (!ret && !v->extents) {
        ret = err_set(err, EINVAL, "'%s' names no extents", b->filename);
    }
    if (ret) {
        vmdk_close(b);
        return ret;
    }
    b->granule = v->extent[0].grain ? v->extent[0].grain : 0;
    b->write_flags = v->extent[0].compressed ? BLOCK_COMPRESSED : 0;
    b->zero_flags = BLOCK_MAY_UNMAP | BLOCK_NO_FALLBACK;
    b->align = VMDK_SECTOR;
    return 0;
}

/* ---- Data ---- */

static struct vmdk_extent *extent_at(struct vmdk *v, uint64_t off)
{
    unsigned i = 0;
    while (off - v->extent[i].start >= v->extent[i].bytes) {
        i++;
    }
    return &v->extent[i];
}

static int sparse_extent(struct vmdk_extent *x, uint64_t at, uint64_t len, struct block_extent *e)
{
    uint32_t first = 0, next;
    uint64_t grain = at / x->grain, skip = at % x->grain, n = x->grain - skip;
    int ret = vmdk_look_up(x, grain, &first);
    bool zero = x->zero_grains && first == VMDK_GTE_ZERO, data = first && !zero;
    for (unsigned steps = 0; !ret && n < len && !(x->compressed && data) && steps < EXTENT_STEPS;
         steps++) {
        uint32_t table = 1;
        ret = data ? 0 : vmdk_table_of(x, ++grain, &table);
        if (!ret && !table && !first) { /* a whole table that is not there */
            uint64_t run = VMDK_GTES - grain % VMDK_GTES;
            n += run * x->grain;
            grain += run - 1;
            continue;
        }
        grain += data;
        ret = ret ? ret : vmdk_look_up(x, grain, &next);
        uint64_t want = data ? first + (n + skip) / VMDK_SECTOR : first;
        if (ret || next != want) {
            ret = 0; /* an error is told to who looks there */
            break;
        }
        n += x->grain;
    }
    e->len = n < len ? n : len;
    e->host = x->file;
    e->host_off = (uint64_t)first * VMDK_SECTOR + skip;
    e->flags = zero            ? EXTENT_ZERO | EXTENT_ALLOCATED
               : !data         ? 0
               : x->compressed ? EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_COMPRESSED
                               : EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_OFFSET;
    return ret;
}

static int vmdk_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    struct vmdk_extent *x = extent_at(b->state, off);
    uint64_t at = off - x->start, n = x->bytes - at < len ? x->bytes - at : len;
    e->len = n;
    e->host = x->file;
    e->host_off = x->flat_off + at;
    e->flags =
        x->zero ? EXTENT_ZERO | EXTENT_ALLOCATED : EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_OFFSET;
    return x->zero || x->flat ? 0 : sparse_extent(x, at, n, e);
}

static int read_grain(struct vmdk_extent *x, uint64_t at, const struct iovs *q)
{
    uint32_t sector;
    AUTO_FREE uint8_t *grain = malloc(x->grain);
    int ret = grain ? vmdk_look_up(x, at / x->grain, &sector) : -ENOMEM;
    ret = ret ? ret : vmdk_read_compressed(x, sector, grain);
    if (!ret) {
        iovs_put(q, 0, grain + at % x->grain, q->len);
    }
    return ret;
}

static int vmdk_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    int ret = 0;
    for (uint64_t done = 0; !ret && done < q->len;) {
        struct block_extent e;
        struct vmdk_extent *x = extent_at(b->state, off + done);
        ret = vmdk_extent(b, off + done, q->len - done, &e);
        if (ret) {
            return ret;
        }
        struct iovs part = iovs_part(q, done, e.len);
        if (e.flags & EXTENT_COMPRESSED) {
            ret = read_grain(x, off + done - x->start, &part);
        } else if (e.flags & EXTENT_DATA) {
            ret = block_preadv(e.host, e.host_off, &part);
        } else if (e.flags & EXTENT_ZERO) {
            iovs_zero(&part, 0, part.len);
        } else {
            ret = block_read_backing(b, off + done, &part);
        }
        done += e.len;
    }
    return ret;
}

static int vmdk_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    int ret = vmdk_desc_touch(b);
    for (uint64_t done = 0; !ret && done < q->len;) {
        struct vmdk_extent *x = extent_at(b->state, off + done);
        uint64_t at = off + done - x->start, n = x->bytes - at;
        n = n < q->len - done ? n : q->len - done;
        struct iovs part = iovs_part(q, done, n);
        ret = x->zero                    ? -EIO
              : !x->flat                 ? vmdk_sparse_write(b, x, at, &part, flags)
              : flags & BLOCK_COMPRESSED ? -ENOTSUP
                                         : block_pwritev(x->file, x->flat_off + at, &part, 0);
        done += n;
    }
    return ret;
}

static int vmdk_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    struct vmdk_extent *x = extent_at(b->state, off);
    if (off - x->start + len > x->bytes || x->zero) {
        return -ENOTSUP;
    }
    int ret = vmdk_desc_touch(b);
    return ret       ? ret
           : x->flat ? block_zero(x->file, x->flat_off + (off - x->start), len, flags)
                     : vmdk_sparse_zero(b, x, off - x->start, len);
}

static int vmdk_flush(struct block *b)
{
    struct vmdk *v = b->state;
    int ret = 0;
    for (unsigned i = 0; !ret && i < v->extents; i++) {
        ret = v->extent[i].file && !v->extent[i].own_file ? block_flush(v->extent[i].file) : 0;
    }
    return ret;
}

/* ---- What it is ---- */

static int vmdk_info(struct block *b, struct block_info *info, struct err *err)
{
    struct vmdk *v = b->state;
    json_t *list = json_array();
    info->cluster_size = v->extent[0].grain;
    info->compressed = v->extent[0].compressed;
    info->needs_compressed = v->extent[0].compressed;
    for (unsigned i = 0; i < v->extents; i++) {
        const struct vmdk_extent *x = &v->extent[i];
        json_t *j = json_object();
        json_object_set_new(j, "virtual-size", json_integer((json_int_t)x->bytes));
        json_object_set_new(j, "filename", json_string(x->file ? x->file->filename : ""));
        if (x->grain) {
            json_object_set_new(j, "cluster-size", json_integer(x->grain));
        }
        json_object_set_new(j, "format", json_string(x->flat ? "FLAT" : x->zero ? "ZERO" : ""));
        if (x->compressed) {
            json_object_set_new(j, "compressed", json_true());
        }
        json_array_append_new(list, j);
        if (!x->own_file && x->file && info->disk_size != UINT64_MAX) {
            struct block_info below;
            if (!block_get_info(x->file, &below, err)) {
                info->disk_size += below.disk_size;
                block_info_free(&below);
            }
        }
    }
    info->specific = json_pack("{s:s, s:{s:I, s:I, s:s, s:o}}", "type", "vmdk", "data", "cid",
                               (json_int_t)v->cid, "parent-cid", (json_int_t)v->parent_cid,
                               "create-type", v->create_type, "extents", list);
    return 0;
}

/* Goes over tables that are not there. */
static void check_grain(struct vmdk_extent *x, uint64_t *g, uint64_t size, struct check_report *r)
{
    uint32_t sector, table;
    int ret = vmdk_table_of(x, *g, &table);
    if (!ret && !table) {
        uint64_t run = VMDK_GTES - *g % VMDK_GTES, left = (x->bytes + x->grain - 1) / x->grain - *g;
        r->total_clusters += run < left ? run : left;
        *g += run - 1;
        return;
    }
    ret = ret ? ret : vmdk_look_up(x, *g, &sector);
    r->check_errors += ret != 0;
    r->total_clusters++;
    bool data = !ret && sector && !(x->zero_grains && sector == VMDK_GTE_ZERO);
    r->allocated += data;
    if (data && (uint64_t)sector * VMDK_SECTOR >= size && r->corruptions++ < MAX_SAID && r->say) {
        r->say(r->opaque, "ERROR: a grain lies behind the end of the file");
    }
}

static int vmdk_check(struct block *b, unsigned repair, struct check_report *r, struct err *err)
{
    struct vmdk *v = b->state;
    if (repair) {
        return err_set(err, ENOTSUP, "VMDK images cannot be repaired ('%s')", b->filename);
    }
    for (unsigned i = 0; i < v->extents; i++) {
        struct vmdk_extent *x = &v->extent[i];
        uint64_t size = x->file ? block_size(x->file) : 0;
        for (uint64_t g = 0; x->grain && g < (x->bytes + x->grain - 1) / x->grain; g++) {
            check_grain(x, &g, size, r);
        }
    }
    return 0;
}

const struct block_type vmdk_type = {
    .name = "vmdk",
    .summary = "VMware's images",
    .spec = "vmdk",
    .size = sizeof(struct vmdk),
    .has_backing = true,
    .create_opts = vmdk_create_opts,
    .probe = vmdk_probe,
    .open = vmdk_open,
    .close = vmdk_close,
    .preadv = vmdk_preadv,
    .pwritev = vmdk_pwritev,
    .flush = vmdk_flush,
    .zero = vmdk_zero,
    .extent = vmdk_extent,
    .create = vmdk_create,
    .info = vmdk_info,
    .check = vmdk_check,
};
