/*
 * The header of qcow2 images and its extensions (spec "Header", "Header extensions"), versions 2
 * and 3. Everything is bounded here before anybody believes it. What is not known but may be
 * ignored - fields behind ours, extensions - is kept and written again.
 *
 * A header is written so that a crash leaves the old or the new one wherever one sector decides:
 * sectors behind the first go first and are synced, the first sector goes alone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/qcow2/internal.h"

enum {
    V2_LEN = 72,
    V3_LEN = 104,
    OUR_LEN = 112, /* with compression_type and its padding */
    MAX_NAME = 1023,
    FEATURE_BYTES = 48,
};

enum ext_type {
    EXT_END = 0,
    EXT_BACKING_FORMAT = 0xe2792aca,
    EXT_FEATURES = 0x6803f857,
    EXT_BITMAPS = 0x23852875,
    EXT_CRYPT = 0x0537be77,
    EXT_DATA_FILE = 0x44415441,
};

struct feature {
    uint8_t kind, bit;
    const char *name;
};

static const struct feature features[] = {
    {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
    {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},          {2, 1, "raw external data"},
};

int qcow2_file_read(struct qcow2 *s, uint64_t off, void *buf, size_t len)
{
    uint64_t size = block_size(s->b->file);
    size_t have = off >= size ? 0 : size - off < len ? size - off : len;
    memset((uint8_t *)buf + have, 0, len - have);
    return have ? block_pread(s->b->file, off, buf, have) : 0;
}

int qcow2_check_table(const struct qcow2 *s, uint64_t off, uint64_t n, size_t bytes, uint64_t max,
                      const char *what, struct err *err)
{
    if (n > max / bytes) {
        return err_set(err, EFBIG, "the %s of '%s' is too large", what, s->b->filename);
    }
    if (off & (s->cluster_size - 1) || off > BLOCK_MAX_SIZE - n * bytes) {
        return err_set(err, EINVAL, "the %s of '%s' has an invalid offset", what, s->b->filename);
    }
    return 0;
}

/* ---- Reading ---- */

static char *text_of(const uint8_t *at, size_t len)
{
    char *text = alloc_zero(len + 1);
    memcpy(text, at, len);
    return text;
}

static const char *header_unknown_name(const uint8_t *table, uint32_t len, unsigned bit, char *buf)
{
    for (uint32_t i = 0; table && i + FEATURE_BYTES <= len; i += FEATURE_BYTES) {
        if (table[i] == 0 && table[i + 1] == bit) {
            memcpy(buf, table + i + 2, FEATURE_BYTES - 2);
            buf[FEATURE_BYTES - 2] = 0;
            return buf;
        }
    }
    return NULL;
}

/* All features that we do not know in one sentence, by the names that the image has for them. */
static int header_refuse_features(struct qcow2 *s, uint64_t unknown, const uint8_t *table,
                                  uint32_t len, struct err *err)
{
    char list[256] = "", name[FEATURE_BYTES];
    size_t used = 0;
    for (unsigned bit = 0; bit < 64 && used < sizeof(list) - 64; bit++) {
        if (!(unknown >> bit & 1)) {
            continue;
        }
        const char *known = header_unknown_name(table, len, bit, name);
        used +=
            known ? snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", known)
                  : snprintf(list + used, sizeof(list) - used,
                             "%sUnknown incompatible feature: %llx", used ? ", " : "", 1ULL << bit);
    }
    return err_set(err, ENOTSUP, "'%s' has unsupported qcow2 features: %s", s->b->filename, list);
}

static int header_ext_crypt(struct qcow2 *s, const uint8_t *d, uint32_t len, struct err *err)
{
    if (s->crypt != QCOW2_CRYPT_LUKS) {
        return err_set(err, EINVAL, "'%s' has an encryption header that its method does not need",
                       s->b->filename);
    }
    if (len != 16) {
        return err_set(err, EINVAL, "the encryption header extension of '%s' has a wrong length",
                       s->b->filename);
    }
    s->crypt_off = load_be64(d);
    s->crypt_len = load_be64(d + 8);
    return qcow2_check_table(s, s->crypt_off, s->crypt_len, 1, UINT32_MAX, "encryption header",
                             err);
}

static int header_ext_bitmaps(struct qcow2 *s, const uint8_t *d, uint32_t len, struct err *err)
{
    if (len != 24) {
        return err_set(err, EINVAL, "the bitmaps extension of '%s' has a wrong length",
                       s->b->filename);
    }
    if (!(s->autoclear & QCOW2_BITMAPS)) {
        return 0; /* not to be trusted: something wrote to the image that knows no bitmaps */
    }
    s->bitmaps_count = load_be32(d);
    s->bitmaps_dir_len = load_be64(d + 8);
    s->bitmaps_dir_off = load_be64(d + 16);
    if (load_be32(d + 4)) {
        return err_set(err, EINVAL, "the bitmaps extension of '%s' has a reserved field set",
                       s->b->filename);
    }
    if (!s->bitmaps_count || s->bitmaps_count > QCOW2_MAX_BITMAPS || !s->bitmaps_dir_len) {
        return err_set(err, EINVAL, "the bitmaps extension of '%s' has an invalid count",
                       s->b->filename);
    }
    return qcow2_check_table(s, s->bitmaps_dir_off, s->bitmaps_dir_len, 1, 64u << 20,
                             "bitmap directory", err);
}

static void header_ext_keep(struct qcow2 *s, uint32_t type, const uint8_t *d, uint32_t len)
{
    struct qcow2_ext *e = alloc_zero(sizeof(*e)), **end = &s->unknown_ext;
    *e = (struct qcow2_ext){.type = type, .len = len, .bytes = alloc_zero(len + 1)};
    memcpy(e->bytes, d, len);
    while (*end) {
        end = &(*end)->next;
    }
    *end = e;
}

static int header_read_ext(struct qcow2 *s, uint32_t type, const uint8_t *d, uint32_t len,
                           struct err *err)
{
    switch (type) {
    case EXT_BACKING_FORMAT:
        if (len > 255) {
            return err_set(err, EINVAL, "the backing format of '%s' is too long", s->b->filename);
        }
        free(s->b->backing_format);
        s->b->backing_format = text_of(d, len);
        return 0;
    case EXT_DATA_FILE:
        if (len > MAX_NAME) {
            return err_set(err, EINVAL, "the data file name of '%s' is too long", s->b->filename);
        }
        free(s->data_file_name);
        s->data_file_name = text_of(d, len);
        return 0;
    case EXT_CRYPT: return header_ext_crypt(s, d, len, err);
    case EXT_BITMAPS: return header_ext_bitmaps(s, d, len, err);
    case EXT_FEATURES: return 0; /* ours is written instead */
    default: header_ext_keep(s, type, d, len); return 0;
    }
}

/* Calls fn for the extension at *at and moves on; 0 at the end, 1 for more. */
static int header_next_ext(struct qcow2 *s, const uint8_t *h, uint32_t *at, uint32_t end,
                           uint32_t *type, uint32_t *len, struct err *err)
{
    if (*at > end || end - *at < 8) {
        return 0;
    }
    *type = load_be32(h + *at);
    *len = load_be32(h + *at + 4);
    if (*type == EXT_END) {
        return 0;
    }
    *at += 8;
    if (*len > end - *at) {
        return err_set(err, EINVAL, "a header extension of '%s' is too long", s->b->filename);
    }
    return 1;
}

static int header_read_exts(struct qcow2 *s, const uint8_t *h, uint32_t end, struct err *err)
{
    uint32_t at = s->header_len, type, len;
    int ret;
    while ((ret = header_next_ext(s, h, &at, end, &type, &len, err)) > 0) {
        ret = header_read_ext(s, type, h + at, len, err);
        if (ret) {
            return ret;
        }
        at += (uint32_t)round_up(len, 8);
    }
    return ret;
}

static const uint8_t *header_find_features(struct qcow2 *s, const uint8_t *h, uint32_t end,
                                           uint32_t *len)
{
    uint32_t at = s->header_len, type;
    struct err ignored;
    while (header_next_ext(s, h, &at, end, &type, len, &ignored) > 0) {
        if (type == EXT_FEATURES) {
            return h + at;
        }
        at += (uint32_t)round_up(*len, 8);
    }
    *len = 0;
    return NULL;
}

static int header_read_v3(struct qcow2 *s, const uint8_t *h, struct err *err)
{
    if (s->version == 2) {
        s->refcount_order = 4;
        s->header_len = V2_LEN;
        return 0;
    }
    s->incompatible = load_be64(h + 72);
    s->compatible = load_be64(h + 80);
    s->autoclear = load_be64(h + 88);
    s->refcount_order = load_be32(h + 96);
    s->header_len = load_be32(h + 100);
    if (s->header_len < V3_LEN || s->header_len > s->cluster_size || s->header_len & 7) {
        return err_set(err, EINVAL, "'%s' has an invalid header length", s->b->filename);
    }
    if (s->refcount_order > 6) {
        return err_set(err, EINVAL, "'%s' has refcounts of more than 64 bits", s->b->filename);
    }
    s->compression = s->header_len > V3_LEN ? h[104] : 0;
    if (s->header_len > OUR_LEN) {
        s->header_more_len = s->header_len - OUR_LEN;
        s->header_more = alloc_zero(s->header_more_len);
        memcpy(s->header_more, h + OUR_LEN, s->header_more_len);
    }
    return 0;
}

static int header_check_features(struct qcow2 *s, const uint8_t *h, uint32_t end, struct err *err)
{
    uint64_t known =
        QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_DATA_FILE | QCOW2_COMPRESSION | QCOW2_EXTL2;
    const char *name = s->b->filename;
    if (s->incompatible & ~known) {
        uint32_t len;
        const uint8_t *table = header_find_features(s, h, end, &len);
        return header_refuse_features(s, s->incompatible & ~known, table, len, err);
    }
    if (!(s->incompatible & QCOW2_COMPRESSION) != !s->compression) {
        return err_set(err, EINVAL, "'%s' has a compression type that contradicts its features",
                       name);
    }
    if (s->compression > 1) {
        return err_set(err, ENOTSUP, "'%s' has the unknown compression type %u", name,
                       s->compression);
    }
    if (s->incompatible & QCOW2_EXTL2 && s->cluster_bits < 14) {
        return err_set(err, EINVAL, "'%s' has extended L2 entries but clusters below 16 KiB", name);
    }
    if (s->autoclear & QCOW2_DATA_FILE_RAW && !(s->incompatible & QCOW2_DATA_FILE)) {
        s->autoclear &= ~(uint64_t)QCOW2_DATA_FILE_RAW;
    }
    return 0;
}

static void header_derive(struct qcow2 *s)
{
    bool ext = s->incompatible & QCOW2_EXTL2;
    s->l2_entry_bytes = ext ? 16 : 8;
    s->l2_entries = s->cluster_size / s->l2_entry_bytes;
    s->subclusters = ext ? QCOW2_SUBCLUSTERS : 1;
    s->subcluster_size = s->cluster_size / s->subclusters;
}

static int header_read_start(struct qcow2 *s, struct err *err)
{
    uint8_t h[24];
    int ret = qcow2_file_read(s, 0, h, sizeof(h));
    if (ret) {
        return err_set(err, -ret, "cannot read the header of '%s': %s", s->b->filename,
                       strerror(-ret));
    }
    if (load_be32(h) != QCOW2_MAGIC) {
        return err_set(err, EINVAL, "'%s' is not in qcow2 format", s->b->filename);
    }
    s->version = load_be32(h + 4);
    if (s->version != 2 && s->version != 3) {
        return err_set(err, ENOTSUP, "'%s' has the unsupported qcow2 version %u", s->b->filename,
                       s->version);
    }
    s->cluster_bits = load_be32(h + 20);
    if (s->cluster_bits < QCOW2_MIN_CLUSTER_BITS || s->cluster_bits > QCOW2_MAX_CLUSTER_BITS) {
        return err_set(err, EINVAL, "'%s' has an unsupported cluster size of 2^%u", s->b->filename,
                       s->cluster_bits);
    }
    s->cluster_size = 1u << s->cluster_bits;
    return 0;
}

static int header_check_tables(struct qcow2 *s, struct err *err)
{
    int ret = qcow2_check_table(s, s->reftable_off, s->reftable_clusters, s->cluster_size,
                                QCOW2_MAX_REFTABLE_BYTES, "refcount table", err);
    if (!ret && (!s->reftable_clusters || !s->reftable_off) && !(s->b->flags & BLOCK_CHECK)) {
        ret = err_set(err, EINVAL, "'%s' has no refcount table", s->b->filename);
    }
    if (!ret) {
        ret = qcow2_check_table(s, s->l1_off, s->l1_size, 8, QCOW2_MAX_L1_BYTES, "L1 table", err);
    }
    if (!ret && s->snap_count > QCOW2_MAX_SNAPSHOTS) {
        ret = err_set(err, EINVAL, "'%s' has too many snapshots", s->b->filename);
    }
    if (!ret && s->snap_count) {
        ret = qcow2_check_table(s, s->snapshots_off, s->snap_count, 40, QCOW2_MAX_SNAPSHOT_BYTES,
                                "snapshot table", err);
    }
    uint64_t covers = (uint64_t)s->l2_entries << s->cluster_bits; /* below 2^42 */
    if (!ret && (s->b->size > BLOCK_MAX_SIZE ||
                 s->b->size / covers + !!(s->b->size % covers) > s->l1_size)) {
        ret =
            err_set(err, EINVAL, "the L1 table of '%s' is too small for its size", s->b->filename);
    }
    return ret;
}

static int header_read_backing(struct qcow2 *s, const uint8_t *h, uint64_t off, uint32_t len,
                               struct err *err)
{
    if (!off || !len) {
        free(s->b->backing_format);
        s->b->backing_format = NULL;
        return 0;
    }
    if (len > MAX_NAME || off > s->cluster_size || len > s->cluster_size - off) {
        return err_set(err, EINVAL, "the backing file name of '%s' is too long or misplaced",
                       s->b->filename);
    }
    s->b->backing_name = text_of(h + off, len);
    return 0;
}

int qcow2_read_header(struct qcow2 *s, struct err *err)
{
    int ret = header_read_start(s, err);
    if (ret) {
        return ret;
    }
    uint8_t *h = s->header_copy = alloc_zero(s->cluster_size);
    ret = qcow2_file_read(s, 0, h, s->cluster_size);
    if (ret) {
        return err_set(err, -ret, "cannot read the header of '%s'", s->b->filename);
    }
    uint64_t backing_off = load_be64(h + 8);
    s->b->size = load_be64(h + 24);
    s->crypt = load_be32(h + 32);
    s->l1_size = load_be32(h + 36);
    s->l1_off = load_be64(h + 40);
    s->reftable_off = load_be64(h + 48);
    s->reftable_clusters = load_be32(h + 56);
    s->snap_count = load_be32(h + 60);
    s->snapshots_off = load_be64(h + 64);
    if (s->crypt > QCOW2_CRYPT_LUKS) {
        return err_set(err, EINVAL, "'%s' has the unknown encryption method %u", s->b->filename,
                       s->crypt);
    }
    ret = header_read_v3(s, h, err);
    uint32_t end =
        backing_off && backing_off < s->cluster_size ? (uint32_t)backing_off : s->cluster_size;
    if (!ret) {
        ret = header_check_features(s, h, end, err);
    }
    if (ret) {
        return ret;
    }
    header_derive(s);
    ret = header_read_exts(s, h, end, err);
    if (!ret) {
        ret = header_check_tables(s, err);
    }
    if (!ret && s->crypt == QCOW2_CRYPT_LUKS && !s->crypt_off) {
        ret = err_set(err, EINVAL, "'%s' lacks its encryption header", s->b->filename);
    }
    return ret ? ret : header_read_backing(s, h, backing_off, load_be32(h + 16), err);
}

void qcow2_free_header(struct qcow2 *s)
{
    while (s->unknown_ext) {
        struct qcow2_ext *e = s->unknown_ext;
        s->unknown_ext = e->next;
        free(e->bytes);
        free(e);
    }
    free(s->header_copy);
    free(s->header_more);
    free(s->data_file_name);
    s->header_copy = s->header_more = NULL;
    s->data_file_name = NULL;
}

/* ---- Writing ---- */

struct header_out {
    uint8_t *h;
    uint32_t at, room;
};

static int header_put_ext(struct header_out *o, uint32_t type, const void *d, uint32_t len)
{
    uint64_t need = 8 + round_up(len, 8);
    if (need > o->room - o->at) {
        return -ENOSPC;
    }
    store_be32(o->h + o->at, type);
    store_be32(o->h + o->at + 4, len);
    if (len) {
        memcpy(o->h + o->at + 8, d, len);
    }
    o->at += (uint32_t)need;
    return 0;
}

static int header_put_text(struct header_out *o, uint32_t type, const char *text)
{
    return text && *text ? header_put_ext(o, type, text, (uint32_t)strlen(text)) : 0;
}

static int header_put_features(struct header_out *o)
{
    uint8_t table[ARRAY_LEN(features) * FEATURE_BYTES] = {0};
    for (size_t i = 0; i < ARRAY_LEN(features); i++) {
        uint8_t *e = table + i * FEATURE_BYTES;
        e[0] = features[i].kind;
        e[1] = features[i].bit;
        memcpy(e + 2, features[i].name, strlen(features[i].name));
    }
    return header_put_ext(o, EXT_FEATURES, table, sizeof(table));
}

static int header_put_exts(struct qcow2 *s, struct header_out *o, bool with_features)
{
    int ret = s->b->backing_name ? header_put_text(o, EXT_BACKING_FORMAT, s->b->backing_format) : 0;
    if (!ret) {
        ret = header_put_text(o, EXT_DATA_FILE, s->data_file_name);
    }
    if (!ret && s->crypt == QCOW2_CRYPT_LUKS) {
        uint8_t d[16];
        store_be64(d, s->crypt_off);
        store_be64(d + 8, s->crypt_len);
        ret = header_put_ext(o, EXT_CRYPT, d, sizeof(d));
    }
    if (!ret && with_features && s->version >= 3) {
        ret = header_put_features(o);
    }
    if (!ret && s->bitmaps_count) {
        uint8_t d[24] = {0};
        store_be32(d, s->bitmaps_count);
        store_be64(d + 8, s->bitmaps_dir_len);
        store_be64(d + 16, s->bitmaps_dir_off);
        ret = header_put_ext(o, EXT_BITMAPS, d, sizeof(d));
    }
    for (struct qcow2_ext *e = s->unknown_ext; e && !ret; e = e->next) {
        ret = header_put_ext(o, e->type, e->bytes, e->len);
    }
    return ret ? ret : header_put_ext(o, EXT_END, NULL, 0);
}

static void header_put_fields(struct qcow2 *s, uint8_t *h)
{
    store_be32(h, QCOW2_MAGIC);
    store_be32(h + 4, s->version);
    store_be32(h + 20, s->cluster_bits);
    store_be64(h + 24, s->b->size);
    store_be32(h + 32, s->crypt);
    store_be32(h + 36, s->l1_size);
    store_be64(h + 40, s->l1_off);
    store_be64(h + 48, s->reftable_off);
    store_be32(h + 56, s->reftable_clusters);
    store_be32(h + 60, s->snap_count);
    store_be64(h + 64, s->snapshots_off);
    if (s->version == 2) {
        return;
    }
    store_be64(h + 72, s->incompatible);
    store_be64(h + 80, s->compatible);
    store_be64(h + 88, s->autoclear);
    store_be32(h + 96, s->refcount_order);
    store_be32(h + 100, s->header_len);
    h[104] = (uint8_t)s->compression;
    if (s->header_more_len) {
        memcpy(h + OUR_LEN, s->header_more, s->header_more_len);
    }
}

/* Where the backing file's name goes. In the first sector if it fits, for that is written at once;
 * else behind all that an older header has there, so that either first sector finds its own. */
static uint32_t header_place_name(struct qcow2 *s, const struct header_out *o, uint32_t len)
{
    const uint8_t *old = s->header_copy;
    uint32_t end = s->cluster_size;
    if (o->at > BLOCK_SECTOR || o->at + len <= BLOCK_SECTOR || !old) {
        return o->at;
    }
    uint64_t was = load_be64(old + 8);
    if (was >= BLOCK_SECTOR && was + len <= s->cluster_size && load_be32(old + 16) == len &&
        !memcmp(old + was, s->b->backing_name, len)) {
        return (uint32_t)was;
    }
    while (end > BLOCK_SECTOR && !old[end - 1]) {
        end--;
    }
    return len <= s->cluster_size - end ? end : o->at;
}

static int header_put_name(struct qcow2 *s, struct header_out *o)
{
    size_t len = strlen(s->b->backing_name);
    if (len > MAX_NAME || len > s->cluster_size - o->at) {
        return -ENOSPC;
    }
    uint32_t at = header_place_name(s, o, (uint32_t)len);
    store_be64(o->h + 8, at);
    store_be32(o->h + 16, (uint32_t)len);
    memcpy(o->h + at, s->b->backing_name, len);
    return 0;
}

static int header_build(struct qcow2 *s, uint8_t *h, bool with_features, uint32_t room)
{
    s->header_len = s->version == 2 ? V2_LEN : OUR_LEN + s->header_more_len;
    memset(h, 0, s->cluster_size);
    header_put_fields(s, h);
    struct header_out o = {h, s->header_len, room};
    int ret = s->header_len > room ? -ENOSPC : header_put_exts(s, &o, with_features);
    if (ret) {
        return ret;
    }
    if (room == BLOCK_SECTOR && s->header_copy && s->cluster_size > BLOCK_SECTOR) {
        /* What the old first sector refers to stays until there is a new one. */
        memcpy(h + BLOCK_SECTOR, s->header_copy + BLOCK_SECTOR, s->cluster_size - BLOCK_SECTOR);
    }
    return s->b->backing_name ? header_put_name(s, &o) : 0;
}

/* The later part first: until the first sector is there, its old contents hold. */
static int header_store(struct qcow2 *s, const uint8_t *h)
{
    const uint8_t *old = s->header_copy;
    uint32_t n = s->cluster_size, at = BLOCK_SECTOR;
    if (n > at && (!old || memcmp(h + at, old + at, n - at))) {
        int ret = block_pwrite(s->b->file, at, h + at, n - at, 0);
        ret = ret ? ret : block_flush(s->b->file);
        if (ret) {
            return ret;
        }
    }
    return block_pwrite(s->b->file, 0, h, at, 0);
}

int qcow2_write_header(struct qcow2 *s)
{
    AUTO_FREE uint8_t *h = block_alloc(s->cluster_size);
    if (!h) {
        return -ENOMEM;
    }
    /* All extensions in the first sector, rather without names of features: then a cut between the
     * two writes leaves a header that is whole. */
    int ret = header_build(s, h, true, BLOCK_SECTOR);
    if (ret == -ENOSPC) {
        ret = header_build(s, h, false, BLOCK_SECTOR);
    }
    if (ret == -ENOSPC) {
        ret = header_build(s, h, false, s->cluster_size);
    }
    if (!ret) {
        ret = header_store(s, h);
    }
    if (!ret) {
        if (!s->header_copy) {
            s->header_copy = alloc_zero(s->cluster_size);
        }
        memcpy(s->header_copy, h, s->cluster_size);
    }
    return ret;
}
