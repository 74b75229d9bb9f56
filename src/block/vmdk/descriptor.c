/* VMDK's descriptor: lines of text. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "block/core.h"
#include "block/vmdk/vmdk.h"

char *vmdk_desc_get(const char *desc, const char *key)
{
    size_t n = strlen(key);
    for (const char *line = desc; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        const char *at = line;
        if (strncmp(at, key, n)) {
            continue;
        }
        at += n + strspn(at + n, " \t");
        if (*at != '=') {
            continue;
        }
        at += 1 + strspn(at + 1, " \t");
        size_t len = *at == '"' ? strcspn(at + 1, "\"\n") : strcspn(at, "\r\n");
        return alloc_printf("%.*s", (int)len, at + (*at == '"'));
    }
    return NULL;
}

/* Beside the descriptor, unless it says where. */
static char *beside(const struct block *b, const char *name)
{
    const char *own = b->file->filename, *slash = strrchr(own, '/');
    return *name == '/' || !slash ? alloc_text(name)
                                  : alloc_printf("%.*s/%s", (int)(slash - own), own, name);
}

static struct block *open_extent_file(struct block *b, const char *name, struct err *err)
{
    AUTO_FREE char *path = beside(b, name);
    if (!strcmp(path, b->file->filename)) {
        return block_ref(b->file);
    }
    if (b->graph->refuse_backing) {
        err_set(err, EPERM, "'%s' names the file '%s', which is not allowed here", b->filename,
                name);
        return NULL;
    }
    if (block_name_has_protocol(name)) {
        err_set(err, EINVAL, "'%s' names an extent with a protocol: '%s'", b->filename, name);
        return NULL;
    }
    struct keyval none = {0};
    unsigned flags = b->file->flags & (BLOCK_RDWR | BLOCK_RESIZE | BLOCK_DIRECT | BLOCK_NO_FLUSH |
                                       BLOCK_FORCE_SHARE | BLOCK_UNMAP);
    return block_open_child(b, &none, "extent", path, flags, err);
}

/* "RW 4192256 SPARSE "name" 0" */
static int one_extent(struct block *b, const char *line, struct err *err)
{
    struct vmdk *v = b->state;
    char access[8] = "", type[16] = "", name[1024] = "";
    int64_t sectors = 0, off = 0;
    int n = sscanf(line, "%7s %" SCNd64 " %15s \"%1023[^\"\r\n]\" %" SCNd64, access, &sectors, type,
                   name, &off);
    bool flat = !strcmp(type, "FLAT"), sparse = !strcmp(type, "SPARSE"),
         zero = !strcmp(type, "ZERO");
    if (n < 3 || sectors <= 0 || off < 0 || (n < 4 && !zero) || (!flat && !sparse && !zero) ||
        (uint64_t)sectors > BLOCK_MAX_SIZE / VMDK_SECTOR - b->size / VMDK_SECTOR ||
        (uint64_t)off > BLOCK_MAX_SIZE / VMDK_SECTOR / 2) {
        return err_set(err, EINVAL, "'%s': unusable extent line '%.60s'", b->filename, line);
    }
    if (v->extents == VMDK_MAX_EXTENTS) {
        return err_set(err, EINVAL, "'%s' has more than %u extents", b->filename, VMDK_MAX_EXTENTS);
    }
    struct vmdk_extent *x = &v->extent[v->extents];
    *x = (struct vmdk_extent){.flat = flat,
                              .zero = zero,
                              .start = b->size,
                              .bytes = (uint64_t)sectors * VMDK_SECTOR,
                              .flat_off = (uint64_t)off * VMDK_SECTOR};
    if (!zero) {
        x->file = open_extent_file(b, name, err);
        if (!x->file) {
            return err_prefix(err, -EINVAL, "'%s'", b->filename);
        }
        x->own_file = x->file == b->file;
    }
    v->extents++;
    b->size += x->bytes;
    if (flat && x->flat_off + x->bytes > block_size(x->file)) {
        return err_set(err, EINVAL, "'%s': the extent '%s' is shorter than it says", b->filename,
                       name);
    }
    uint64_t said = x->bytes;
    int ret = sparse ? vmdk_sparse_open(b, x, err) : 0;
    if (!ret && said > x->bytes) {
        ret = err_set(err, EINVAL, "'%s': the extent '%s' is shorter than it says", b->filename,
                      name);
    }
    x->bytes = said;
    return ret;
}

int vmdk_desc_extents(struct block *b, const char *desc, struct err *err)
{
    int ret = 0;
    for (const char *line = desc; !ret && line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, "RW ", 3) || !strncmp(line, "RDONLY ", 7)) {
            ret = one_extent(b, line, err);
        }
    }
    return ret;
}

char *vmdk_desc_make(const struct keyval *opts, uint64_t size, const char *type,
                     const char *extent_line, uint32_t cid, uint32_t parent_cid, const char *parent)
{
    struct strbuf sb = {0};
    const char *adapter = block_opt_text(opts, "adapter_type"),
               *hw = block_opt_text(opts, "hwversion"),
               *tools = block_opt_text(opts, "toolsversion");
    bool compat6 = false;
    struct err ignored;
    block_opt_bool(opts, "compat6", &compat6, &ignored);
    adapter = adapter ? adapter : "ide";
    unsigned heads = strcmp(adapter, "ide") ? 255 : 16;
    strbuf_add(&sb,
               "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n",
               cid, parent_cid, type);
    if (parent) {
        strbuf_add(&sb, "parentFileNameHint=\"%s\"\n", parent);
    }
    strbuf_add(&sb,
               "\n# Extent description\n%s\n# The Disk Data Base\n#DDB\n\n"
               "ddb.virtualHWVersion = \"%s\"\nddb.geometry.cylinders = \"%llu\"\n"
               "ddb.geometry.heads = \"%u\"\nddb.geometry.sectors = \"63\"\n"
               "ddb.adapterType = \"%s\"\nddb.toolsVersion = \"%s\"\n",
               extent_line,
               hw        ? hw
               : compat6 ? "6"
                         : "4",
               (unsigned long long)(size / (63ull * heads * VMDK_SECTOR)), heads, adapter,
               tools ? tools : "2147483647");
    return sb.text;
}

int vmdk_desc_touch(struct block *b)
{
    struct vmdk *v = b->state;
    if (v->cid_written || !v->desc_bytes || v->desc_bytes > VMDK_MAX_DESCRIPTOR) {
        return 0;
    }
    AUTO_FREE char *desc = alloc_zero(v->desc_bytes + 1);
    int ret = block_pread(b->file, v->desc_off, desc, v->desc_bytes);
    char *at = ret ? NULL : strstr(desc, "\nCID="), text[9];
    v->cid_written = true;
    if (!at || strspn(at + 5, "0123456789abcdefABCDEF") != 8) {
        return ret;
    }
    snprintf(text, sizeof(text), "%08x", v->cid + 1 == UINT32_MAX ? 1 : v->cid + 1);
    return block_pwrite(b->file, v->desc_off + (uint64_t)(at + 5 - desc), text, 8, 0);
}
