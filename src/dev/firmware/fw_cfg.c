/*
 * The firmware configuration device of virtual PCs (specification: QEMU, docs/specs/fw_cfg): items
 * by number, files by a directory, byte-wise at ports or by DMA. Does not do: the memory-mapped
 * variant of other boards.
 */
#include "dev/firmware/fw_cfg.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "state/field.h"

enum {
    SELECTOR_PORT = 0x510,
    DMA_PORT = 0x514,
    MAX_ITEMS = 256,
    DIR_ENTRY = 64,
    DIR_NAME = 8,
    DMA_ERROR = 1,
    DMA_READ = 2,
    DMA_SKIP = 4,
    DMA_SELECT = 8,
    DMA_WRITE = 16,
    ID_PORTS_AND_DMA = 3,
};
#define DMA_SIGNATURE 0x51454d5520434647ull /* "QEMU CFG" */

struct fw_item {
    unsigned key;
    char name[FW_CFG_NAME_MAX + 1]; /* empty: no file */
    uint8_t *bytes;
    size_t len;
    uint8_t *guest; /* `bytes`, if the guest may write them; else NULL */
    unsigned guest_len;
    void (*written)(void *opaque, const void *bytes, size_t len);
    void (*selected)(void *opaque);
    void *opaque;
};

struct fw_cfg {
    struct mem_map *mem;
    pthread_mutex_t lock; /* all below */
    struct fw_item item[MAX_ITEMS];
    unsigned count, next_file;
    unsigned selected;
    uint32_t at;
    uint64_t dma;
};

/* ---- Contents ---- */

static struct fw_item *fw_find(struct fw_cfg *f, unsigned key)
{
    for (unsigned i = 0; i < f->count; i++) {
        if (f->item[i].key == key) {
            return &f->item[i];
        }
    }
    return NULL;
}

static struct fw_item *fw_find_file(struct fw_cfg *f, const char *name)
{
    for (unsigned i = 0; i < f->count; i++) {
        if (!strcmp(f->item[i].name, name)) {
            return &f->item[i];
        }
    }
    return NULL;
}

static struct fw_item *fw_put(struct fw_cfg *f, struct fw_item *it, unsigned key, const void *bytes,
                              size_t len)
{
    if (!it) {
        if (f->count == MAX_ITEMS) {
            return NULL;
        }
        it = &f->item[f->count++];
    }
    free(it->bytes);
    it->key = key;
    it->bytes = alloc_zero(len ? len : 1);
    it->len = len;
    it->guest = NULL;
    if (bytes && len) {
        memcpy(it->bytes, bytes, len);
    }
    return it;
}

void fw_cfg_add(struct fw_cfg *f, unsigned key, const void *bytes, size_t len)
{
    AUTO_LOCK(&f->lock);
    fw_put(f, fw_find(f, key), key, bytes, len);
}

void fw_cfg_add_u16(struct fw_cfg *f, unsigned key, uint16_t v)
{
    uint8_t b[2];
    store_le16(b, v);
    fw_cfg_add(f, key, b, sizeof(b));
}

void fw_cfg_add_u32(struct fw_cfg *f, unsigned key, uint32_t v)
{
    uint8_t b[4];
    store_le32(b, v);
    fw_cfg_add(f, key, b, sizeof(b));
}

void fw_cfg_add_u64(struct fw_cfg *f, unsigned key, uint64_t v)
{
    uint8_t b[8];
    store_le64(b, v);
    fw_cfg_add(f, key, b, sizeof(b));
}

/* Firmware wants the files in the order of their names. */
static int fw_by_name(const void *a, const void *b)
{
    return strcmp((*(struct fw_item *const *)a)->name, (*(struct fw_item *const *)b)->name);
}

static void fw_make_directory(struct fw_cfg *f)
{
    struct fw_item *files[MAX_ITEMS];
    unsigned n = 0;
    for (unsigned i = 0; i < f->count; i++) {
        if (f->item[i].name[0]) {
            files[n++] = &f->item[i];
        }
    }
    qsort(files, n, sizeof(files[0]), fw_by_name);
    AUTO_FREE uint8_t *dir = alloc_zero(4 + n * DIR_ENTRY);
    store_be32(dir, n);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *e = dir + 4 + i * DIR_ENTRY;
        store_be32(e, (uint32_t)files[i]->len);
        store_be16(e + 4, (uint16_t)files[i]->key);
        memcpy(e + DIR_NAME, files[i]->name, strlen(files[i]->name));
    }
    fw_put(f, fw_find(f, FW_CFG_FILE_DIR), FW_CFG_FILE_DIR, dir, 4 + n * DIR_ENTRY);
}

static int fw_add_file(struct fw_cfg *f, const char *name, const void *bytes, size_t len,
                       struct fw_item **made, struct err *err)
{
    if (strlen(name) > FW_CFG_NAME_MAX) {
        return err_set(err, ENAMETOOLONG, "fw_cfg: the name '%s' is longer than %d characters",
                       name, FW_CFG_NAME_MAX);
    }
    if (len > UINT32_MAX) {
        return err_set(err, EFBIG, "fw_cfg: file '%s' is larger than 4 GiB", name);
    }
    AUTO_LOCK(&f->lock);
    struct fw_item *it = fw_find_file(f, name);
    unsigned key = it ? it->key : f->next_file;
    bool fresh = !it;
    it = fw_put(f, it, key, bytes, len);
    if (!it) {
        return err_set(err, ENOSPC, "fw_cfg: there is no room for file '%s'", name);
    }
    f->next_file += fresh;
    memcpy(it->name, name, strlen(name) + 1);
    fw_make_directory(f);
    if (made) {
        *made = it;
    }
    return 0;
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *bytes, size_t len,
                    struct err *err)
{
    return fw_add_file(f, name, bytes, len, NULL, err);
}

int fw_cfg_add_writable(struct fw_cfg *f, const char *name, size_t len,
                        void (*written)(void *opaque, const void *bytes, size_t len), void *opaque,
                        struct err *err)
{
    struct fw_item *it = NULL;
    int ret = fw_add_file(f, name, NULL, len, &it, err);
    if (!ret) {
        it->written = written;
        it->opaque = opaque;
        it->guest = it->bytes;
        it->guest_len = (unsigned)len;
    }
    return ret;
}

void fw_cfg_on_select(struct fw_cfg *f, const char *name, void (*selected)(void *), void *opaque)
{
    AUTO_LOCK(&f->lock);
    struct fw_item *it = fw_find_file(f, name);
    if (it) {
        it->selected = selected;
        it->opaque = opaque;
    }
}

/* ---- Ports ---- */

static void fw_select(struct fw_cfg *f, unsigned key)
{
    const struct fw_item *it = fw_find(f, key);
    f->selected = key;
    f->at = 0;
    if (it && it->selected) {
        it->selected(it->opaque); /* the lock is recursive for this */
    }
}

/* Past the end there are zeros. Returns how many bytes are of the item. */
static size_t fw_here(struct fw_cfg *f, uint32_t len, const uint8_t **bytes)
{
    const struct fw_item *it = fw_find(f, f->selected);
    size_t left = it && f->at < it->len ? it->len - f->at : 0;
    *bytes = left ? it->bytes + f->at : NULL;
    return left < len ? left : len;
}

static void fw_advance(struct fw_cfg *f, uint32_t len)
{
    f->at = f->at + (uint64_t)len > UINT32_MAX ? UINT32_MAX : f->at + len;
}

static bool fw_dma_read(struct fw_cfg *f, gpa_t gpa, uint32_t len)
{
    const uint8_t *bytes;
    size_t n = fw_here(f, len, &bytes);
    bool ok = (!n || gmem_write(f->mem, gpa, bytes, n)) &&
              (n == len || gmem_fill(f->mem, gpa + n, 0, len - n));
    fw_advance(f, len);
    return ok;
}

/* Only whole pieces of files that may be written. */
static bool fw_dma_write(struct fw_cfg *f, gpa_t gpa, uint32_t len)
{
    struct fw_item *it = fw_find(f, f->selected);
    if (!it || !it->written || f->at > it->len || len > it->len - f->at ||
        !gmem_read(f->mem, gpa, it->bytes + f->at, len)) {
        return false;
    }
    fw_advance(f, len);
    it->written(it->opaque, it->bytes, it->len);
    return true;
}

static void fw_dma(struct fw_cfg *f)
{
    uint8_t d[16];
    gpa_t at = f->dma;
    f->dma = 0;
    if (!gmem_read(f->mem, at, d, sizeof(d))) {
        return;
    }
    uint32_t control = load_be32(d), len = load_be32(d + 4);
    gpa_t gpa = load_be64(d + 8);
    bool ok = true;
    if (control & DMA_SELECT) {
        fw_select(f, control >> 16);
    }
    if (control & DMA_READ) {
        ok = fw_dma_read(f, gpa, len);
    } else if (control & DMA_WRITE) {
        ok = fw_dma_write(f, gpa, len);
    } else if (control & DMA_SKIP) {
        fw_advance(f, len);
    }
    store_be32(d, ok ? 0 : DMA_ERROR);
    gmem_write(f->mem, at, d, 4);
}

static enum mem_result fw_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct fw_cfg *f = opaque;
    AUTO_LOCK(&f->lock);
    const uint8_t *byte;
    if (off != 1 || size != 1) {
        *val = 0;
        return MEM_OK;
    }
    *val = fw_here(f, 1, &byte) ? *byte : 0;
    fw_advance(f, 1);
    return MEM_OK;
}

static enum mem_result fw_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct fw_cfg *f = opaque;
    AUTO_LOCK(&f->lock);
    if (!off && size == 2) {
        fw_select(f, (unsigned)val);
    }
    return MEM_OK;
}

static enum mem_result fw_dma_port_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    uint8_t b[8];
    store_be64(b, DMA_SIGNATURE);
    *val = 0;
    for (unsigned i = 0; i < size && off + i < 8; i++) {
        *val |= (uint64_t)b[off + i] << 8 * i;
    }
    return MEM_OK;
}

/* The address is big-endian; its low half, written last, starts the transfer. */
static enum mem_result fw_dma_port_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct fw_cfg *f = opaque;
    AUTO_LOCK(&f->lock);
    if (size == 8) {
        f->dma = __builtin_bswap64(val);
        fw_dma(f);
    } else if (size == 4 && !off) {
        f->dma = (uint64_t)__builtin_bswap32((uint32_t)val) << 32;
    } else if (size == 4 && off == 4) {
        f->dma |= __builtin_bswap32((uint32_t)val);
        fw_dma(f);
    }
    return MEM_OK;
}

static const struct mmio fw_ports = {fw_read, fw_write, 1, 2};
static const struct mmio fw_dma_ports = {fw_dma_port_read, fw_dma_port_write, 1, 8};

struct fw_cfg *fw_cfg_new(struct mem_map *mem)
{
    struct fw_cfg *f = alloc_zero(sizeof(*f));
    f->mem = mem;
    f->next_file = FW_CFG_FILE_FIRST;
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&f->lock, &recursive);
    pthread_mutexattr_destroy(&recursive);
    fw_cfg_add(f, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_add_u32(f, FW_CFG_ID, ID_PORTS_AND_DMA);
    fw_make_directory(f);
    return f;
}

void fw_cfg_free(struct fw_cfg *f)
{
    if (f) {
        for (unsigned i = 0; i < f->count; i++) {
            free(f->item[i].bytes);
        }
        pthread_mutex_destroy(&f->lock);
        free(f);
    }
}

void fw_cfg_reset(struct fw_cfg *f)
{
    AUTO_LOCK(&f->lock);
    fw_select(f, FW_CFG_SIGNATURE);
    f->dma = 0;
}

void fw_cfg_map(struct fw_cfg *f, struct mem_map *io)
{
    mem_map_add_mmio(io, SELECTOR_PORT, 2, &fw_ports, f);
    mem_map_add_mmio(io, DMA_PORT, 8, &fw_dma_ports, f);
}

/* ---- State ---- */

static const struct field fw_item_list[] = {
    FIELD(struct fw_item, key, FIELD_CONFIG),
    FIELD(struct fw_item, name, FIELD_HOST),
    FIELD(struct fw_item, bytes, FIELD_HOST),
    FIELD(struct fw_item, len, FIELD_HOST),
    FIELD_AT(struct fw_item, guest, guest_len, FIELD_GUEST),
    FIELD(struct fw_item, guest_len, FIELD_CONFIG),
    FIELD(struct fw_item, written, FIELD_HOST),
    FIELD(struct fw_item, selected, FIELD_HOST),
    FIELD(struct fw_item, opaque, FIELD_HOST),
};

static int fw_item_loaded(void *obj, struct err *err)
{
    struct fw_item *it = obj;
    if (it->guest && it->written) {
        it->written(it->opaque, it->bytes, it->len);
    }
    return 0;
}

FIELD_SET(fw_item_fields, "fw-cfg-item", struct fw_item, fw_item_list, 1, .loaded = fw_item_loaded);

static const struct field fw_cfg_list[] = {
    FIELD(struct fw_cfg, mem, FIELD_HOST),
    FIELD(struct fw_cfg, lock, FIELD_HOST),
    FIELD_FIRST(struct fw_cfg, item, count, FIELD_GUEST, .sub = &fw_item_fields),
    FIELD(struct fw_cfg, count, FIELD_CONFIG),
    FIELD(struct fw_cfg, next_file, FIELD_CONFIG),
    FIELD(struct fw_cfg, selected, FIELD_GUEST),
    FIELD(struct fw_cfg, at, FIELD_GUEST),
    FIELD(struct fw_cfg, dma, FIELD_GUEST),
};

FIELD_SET_SHARED(fw_cfg_fields, "fw-cfg", struct fw_cfg, fw_cfg_list, 1);
