/* New VMDK images: header, descriptor, both directories with all their tables; or a descriptor and
 * a flat file beside it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/core.h"
#include "block/vmdk/vmdk.h"

enum {
    GRAIN_SECTORS = 128,
    DESC_SECTOR = 1,
    DESC_SECTORS = 20,
    TABLE_SECTORS = VMDK_GTES * 4 / VMDK_SECTOR,
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

struct layout {
    uint64_t tables, gd_sectors, rgd, gd, end; /* sectors, but for the number of tables */
};

static void lay_out(struct layout *l, uint64_t size)
{
    uint64_t reach = (uint64_t)GRAIN_SECTORS * VMDK_SECTOR * VMDK_GTES;
    l->tables = (size + reach - 1) / reach;
    l->gd_sectors = (4 * l->tables + VMDK_SECTOR - 1) / VMDK_SECTOR;
    l->rgd = DESC_SECTOR + DESC_SECTORS;
    l->gd = l->rgd + l->gd_sectors + l->tables * TABLE_SECTORS;
    l->end = round_up(l->gd + l->gd_sectors + l->tables * TABLE_SECTORS, GRAIN_SECTORS);
}

static void fill_header(uint8_t *h, const struct layout *l, uint64_t size, bool compressed,
                        bool zero_grain)
{
    uint32_t flags = VMDK_FLAG_NEWLINE | VMDK_FLAG_REDUNDANT;
    flags |= compressed ? VMDK_FLAG_COMPRESSED | VMDK_FLAG_MARKERS : 0;
    flags |= zero_grain ? VMDK_FLAG_ZERO_GRAIN : 0;
    store_le32(h, VMDK_MAGIC);
    store_le32(h + 4, compressed ? 3 : zero_grain ? 2 : 1);
    store_le32(h + 8, flags);
    store_le64(h + 12, size / VMDK_SECTOR);
    store_le64(h + 20, GRAIN_SECTORS);
    store_le64(h + 28, DESC_SECTOR);
    store_le64(h + 36, DESC_SECTORS);
    store_le32(h + 44, VMDK_GTES);
    store_le64(h + 48, l->rgd);
    store_le64(h + 56, l->gd);
    store_le64(h + 64, l->end);
    memcpy(h + 73, "\n \r\n", 4);
    store_le16(h + 77, compressed ? 1 : 0);
}

static int write_directory(struct block *file, uint64_t at, const struct layout *l)
{
    AUTO_FREE uint8_t *d = calloc(l->gd_sectors ? l->gd_sectors : 1, VMDK_SECTOR);
    for (uint64_t i = 0; d && i < l->tables; i++) {
        store_le32(d + 4 * i, (uint32_t)(at + l->gd_sectors + i * TABLE_SECTORS));
    }
    return d ? block_pwrite(file, at * VMDK_SECTOR, d, l->gd_sectors * VMDK_SECTOR, 0) : -ENOMEM;
}

static int create_sparse(const struct block_new *n, const char *desc, bool compressed,
                         bool zero_grain, struct err *err)
{
    struct layout l;
    uint8_t head[(DESC_SECTOR + DESC_SECTORS) * VMDK_SECTOR] = {0};
    lay_out(&l, n->size);
    if (l.end > UINT32_MAX || strlen(desc) > DESC_SECTORS * VMDK_SECTOR) {
        return err_set(err, EFBIG, "the image '%s' would be too large for VMDK", n->name);
    }
    fill_header(head, &l, n->size, compressed, zero_grain);
    memcpy(head + DESC_SECTOR * VMDK_SECTOR, desc, strlen(desc));
    int ret = block_truncate(n->file, l.end * VMDK_SECTOR, PREALLOC_OFF, err);
    if (ret) {
        return ret;
    }
    ret = write_directory(n->file, l.rgd, &l);
    ret = ret ? ret : write_directory(n->file, l.gd, &l);
    ret = ret ? ret : block_pwrite(n->file, 0, head, sizeof(head), 0);
    return ret ? err_set(err, -ret, "cannot write '%s': %s", n->name, strerror(-ret)) : 0;
}

/* "disk.vmdk" has its data in "disk-flat.vmdk". */
static char *flat_name(const char *name)
{
    const char *base = base_name(name), *dot = strrchr(base, '.');
    return dot ? alloc_printf("%.*s-flat%s", (int)(dot - name), name, dot)
               : alloc_printf("%s-flat", name);
}

static int create_flat(const struct block_new *n, const char *flat, const char *desc,
                       struct err *err)
{
    struct keyval none = {0};
    int ret = block_protocol_create(n->graph, flat, &none, err);
    struct block *f =
        ret ? NULL : block_open_protocol(n->graph, flat, BLOCK_RDWR | BLOCK_RESIZE, err);
    ret = f ? block_truncate(f, n->size, PREALLOC_OFF, err) : -EIO;
    block_close(f);
    if (ret) {
        return ret;
    }
    ret = block_pwrite(n->file, 0, desc, strlen(desc), 0);
    return ret ? err_set(err, -ret, "cannot write '%s': %s", n->name, strerror(-ret)) : 0;
}

/* What an overlay remembers of its backing file's contents. */
static int parent_cid(const struct block_new *n, const char *name, uint32_t *cid, struct err *err)
{
    const char *slash = strrchr(n->name, '/');
    AUTO_FREE char *path = *name == '/' || !slash
                               ? alloc_text(name)
                               : alloc_printf("%.*s/%s", (int)(slash - n->name), n->name, name);
    struct block *b = block_open_name(n->graph, path, "vmdk", NULL, BLOCK_NO_BACKING, err);
    if (!b) {
        return err_prefix(err, -EINVAL, "Could not open backing file");
    }
    *cid = ((struct vmdk *)b->state)->cid;
    block_close(b);
    return 0;
}

int vmdk_create(const struct block_new *n, struct err *err)
{
    const char *type = block_opt_text(n->opts, "subformat"),
               *backing = block_opt_text(n->opts, "backing_file");
    type = type ? type : "monolithicSparse";
    bool flat = !strcmp(type, "monolithicFlat"), stream = !strcmp(type, "streamOptimized"),
         zero_grain = false;
    uint32_t cid = 0, parent = UINT32_MAX;
    if (!flat && !stream && strcmp(type, "monolithicSparse")) {
        return err_set(err, ENOTSUP,
                       "subformat is monolithicSparse, monolithicFlat or "
                       "streamOptimized, not '%s'",
                       type);
    }
    int ret = block_opt_bool(n->opts, "zeroed_grain", &zero_grain, err);
    if (!ret && backing && flat) {
        ret = err_set(err, EINVAL, "Flat image can't have backing file");
    }
    ret = !ret && backing ? parent_cid(n, backing, &parent, err) : ret;
    if (ret) {
        return ret;
    }
    if (getrandom(&cid, sizeof(cid), 0) != sizeof(cid) || cid == UINT32_MAX) {
        cid = 1;
    }
    AUTO_FREE char *data = flat ? flat_name(n->name) : alloc_text(n->name);
    AUTO_FREE char *line =
        alloc_printf("RW %llu %s \"%s\"%s\n", (unsigned long long)(n->size / VMDK_SECTOR),
                     flat ? "FLAT" : "SPARSE", base_name(data), flat ? " 0" : "");
    AUTO_FREE char *desc = vmdk_desc_make(n->opts, n->size, type, line, cid, parent, backing);
    return flat ? create_flat(n, data, desc, err)
                : create_sparse(n, desc, stream, zero_grain && !stream, err);
}

const struct block_opt vmdk_create_opts[] = {
    {"size", "size", "Virtual disk size", NULL},
    {"adapter_type", "str",
     "Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX", NULL},
    {"backing_file", "str", "File name of a base image", NULL},
    {"backing_fmt", "str", "Must be 'vmdk' if present", NULL},
    {"compat6", "bool (on/off)", "VMDK version 6 image", "off"},
    {"hwversion", "str", "VMDK hardware version", NULL},
    {"toolsversion", "str", "VMware guest tools version", NULL},
    {"subformat", "str",
     "VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | "
     "streamOptimized}",
     NULL},
    {"zeroed_grain", "bool (on/off)", "Enable efficient zero writes using the zeroed-grain GTE",
     "off"},
    {0},
};
