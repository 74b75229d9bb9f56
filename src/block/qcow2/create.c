/*
 * New images: header, refcount table, one refcount block, and all else - L1 table, encryption
 * header, data file, preallocation - by opening that and making it longer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/cipher.h"
#include "block/qcow2/internal.h"
#include "block/qcow2/qcow2.h"

const struct block_opt qcow2_create_opts[] = {
    {"backing_file", "str", "File name of a base image", NULL},
    {"backing_fmt", "str", "Image format of the base image", NULL},
    {"cluster_size", "size", "qcow2 cluster size", "65536"},
    {"compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])", "v3"},
    {"compression_type", "str", "Compression method used for image cluster compression", "zlib"},
    {"data_file", "str", "File name of an external data file", NULL},
    {"data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image",
     "off"},
    {"encrypt.cipher-alg", "str", "Name of encryption cipher algorithm", NULL},
    {"encrypt.cipher-mode", "str", "Name of encryption cipher mode", NULL},
    {"encrypt.format", "str", "Encrypt the image, format choices: 'aes', 'luks'", NULL},
    {"encrypt.hash-alg", "str", "Name of encryption hash algorithm", NULL},
    {"encrypt.iter-time", "num", "Time to spend in PBKDF in milliseconds", NULL},
    {"encrypt.ivgen-alg", "str", "Name of IV generator algorithm", NULL},
    {"encrypt.ivgen-hash-alg", "str", "Name of IV generator hash algorithm", NULL},
    {"encrypt.key-secret", "str", "ID of secret providing qcow AES key or LUKS passphrase", NULL},
    {"encryption", "bool (on/off)",
     "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)", NULL},
    {"extended_l2", "bool (on/off)", "Extended L2 tables", "off"},
    {"extent_size_hint", "size", "Extent size hint for the image file, 0 to disable", NULL},
    {"lazy_refcounts", "bool (on/off)", "Postpone refcount updates", "off"},
    {"nocow", "bool (on/off)", "Turn off copy-on-write (valid only on btrfs)", NULL},
    {"preallocation", "str", "Preallocation mode (allowed values: off, metadata, falloc, full)",
     "off"},
    {"refcount_bits", "num", "Width of a reference count entry in bits", "16"},
    {"size", "size", "Virtual disk size", NULL},
    {0},
};

const struct block_opt qcow2_amend_opts[] = {
    {"backing_file", "str", "File name of a base image", NULL},
    {"backing_fmt", "str", "Image format of the base image", NULL},
    {"compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])", NULL},
    {"data_file", "str", "File name of an external data file", NULL},
    {"data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image",
     NULL},
    {"encrypt.iter-time", "num", "Time to spend in PBKDF in milliseconds", NULL},
    {"encrypt.keyslot", "num", "Select a single keyslot to modify explicitly", NULL},
    {"encrypt.new-secret", "str",
     "New secret to set in the matching keyslots. Empty string to erase", NULL},
    {"encrypt.old-secret", "str", "Select all keyslots that match this password", NULL},
    {"encrypt.state", "str", "Select new state of affected keyslots (active/inactive)", NULL},
    {"lazy_refcounts", "bool (on/off)", "Postpone refcount updates", NULL},
    {"refcount_bits", "num", "Width of a reference count entry in bits", NULL},
    {"size", "size", "Virtual disk size", NULL},
    {0},
};

struct create {
    const struct block_new *n;
    struct err *err;
    struct block *tmp; /* stands for the image while it is made */
    struct keyval opts;
    enum block_prealloc prealloc;
    const char *data_file;
    bool raw;
};

/* ---- Options ---- */

static int create_choice(struct create *c, const char *name, const char *const *list, unsigned *out)
{
    const char *text = keyval_get(&c->opts, name);
    for (unsigned i = 0; text && list[i]; i++) {
        if (!strcmp(list[i], text)) {
            *out = i;
            return 0;
        }
    }
    return text ? err_set(c->err, EINVAL, "%s does not accept value '%s'", name, text) : 0;
}

static int create_cluster_size(struct create *c, struct qcow2 *s)
{
    uint64_t size = 65536;
    int ret = block_opt_size(&c->opts, "cluster_size", &size, c->err);
    if (ret) {
        return ret;
    }
    if (size < 1u << QCOW2_MIN_CLUSTER_BITS || size > 1u << QCOW2_MAX_CLUSTER_BITS ||
        size & (size - 1)) {
        return err_set(c->err, EINVAL, "Cluster size must be a power of two between %d and %dk",
                       1 << QCOW2_MIN_CLUSTER_BITS, 1 << (QCOW2_MAX_CLUSTER_BITS - 10));
    }
    s->cluster_size = (uint32_t)size;
    s->cluster_bits = (unsigned)__builtin_ctz(s->cluster_size);
    return 0;
}

static int create_refcount_bits(struct create *c, struct qcow2 *s)
{
    const char *text = keyval_get(&c->opts, "refcount_bits");
    uint64_t bits = 16;
    int ret = text ? value_u64("refcount_bits", text, UINT32_MAX, &bits, c->err) : 0;
    if (!ret && (!bits || bits > 64 || bits & (bits - 1))) {
        ret = err_set(c->err, EINVAL,
                      "Refcount width must be a power of two and may not exceed 64 bits");
    }
    if (!ret) {
        s->refcount_order = (unsigned)__builtin_ctzll(bits);
    }
    return ret;
}

static int create_take(struct create *c, struct qcow2 *s)
{
    static const char *const compat[] = {"0.10", "v2", "1.1", "v3", NULL};
    static const char *const compression[] = {"zlib", "zstd", NULL};
    unsigned level = 3;
    bool lazy = false, ext = false;
    int ret = create_choice(c, "compat", compat, &level);
    s->version = level < 2 ? 2 : 3;
    ret = ret ? ret : create_cluster_size(c, s);
    ret = ret ? ret : create_refcount_bits(c, s);
    ret = ret ? ret : create_choice(c, "compression_type", compression, &s->compression);
    ret = ret ? ret : block_opt_bool(&c->opts, "lazy_refcounts", &lazy, c->err);
    ret = ret ? ret : block_opt_bool(&c->opts, "extended_l2", &ext, c->err);
    ret = ret ? ret : block_opt_bool(&c->opts, "data_file_raw", &c->raw, c->err);
    ret = ret ? ret : block_opt_prealloc(&c->opts, &c->prealloc, c->err);
    c->data_file = keyval_get(&c->opts, "data_file");
    s->compatible = lazy ? QCOW2_LAZY_REFCOUNTS : 0;
    s->incompatible = (ext ? QCOW2_EXTL2 : 0) | (s->compression ? QCOW2_COMPRESSION : 0) |
                      (c->data_file ? QCOW2_DATA_FILE : 0);
    s->autoclear = c->raw ? QCOW2_DATA_FILE_RAW : 0;
    return ret;
}

static int create_check_v2(struct create *c, const struct qcow2 *s)
{
    const char *what = s->version >= 3                 ? NULL
                       : s->refcount_order != 4        ? "Different refcount widths than 16 bits"
                       : s->compatible                 ? "Lazy refcounts"
                       : s->incompatible & QCOW2_EXTL2 ? "Extended L2 entries"
                       : s->compression                ? "Non-zlib compression type"
                       : s->incompatible & QCOW2_DATA_FILE ? "External data files"
                                                           : NULL;
    return what ? err_set(c->err, EINVAL,
                          "%s require compatibility level 1.1 or above (use compat=v3)", what)
                : 0;
}

static int create_check(struct create *c, const struct qcow2 *s)
{
    const char *backing = keyval_get(&c->opts, "backing_file");
    if (create_check_v2(c, s)) {
        return -EINVAL;
    }
    if (s->incompatible & QCOW2_EXTL2 && s->cluster_size < 16384) {
        return err_set(c->err, EINVAL,
                       "Extended L2 entries are only supported with cluster sizes "
                       "of at least 16384 bytes");
    }
    if (c->raw && !c->data_file) {
        return err_set(c->err, EINVAL, "data-file-raw requires data-file");
    }
    if (backing && c->raw) {
        return err_set(c->err, EINVAL,
                       "Backing file and data-file-raw cannot be used at the same "
                       "time");
    }
    if (backing && c->prealloc && !(s->incompatible & QCOW2_EXTL2)) {
        return err_set(c->err, EINVAL,
                       "Backing file and preallocation can only be used at the "
                       "same time if extended_l2 is on");
    }
    if (!backing && keyval_get(&c->opts, "backing_fmt")) {
        return err_set(c->err, EINVAL, "Backing format cannot be used without backing file");
    }
    if (backing && strlen(backing) > 1023) {
        return err_set(c->err, EINVAL, "a backing file name may have 1023 bytes, this has more");
    }
    uint64_t covers =
        (uint64_t)s->cluster_size / (s->incompatible & QCOW2_EXTL2 ? 16 : 8) * s->cluster_size;
    if (c->n->size / covers >= QCOW2_MAX_L1_BYTES / 8) {
        return err_set(c->err, EFBIG,
                       "The image size is too large for file format 'qcow2' (try "
                       "using a larger cluster size)");
    }
    return 0;
}

/* ---- The first clusters ---- */

enum { AT_HEADER, AT_REFTABLE, AT_REFBLOCK, FIRST_CLUSTERS };

static int create_first(struct create *c, struct qcow2 *s)
{
    AUTO_FREE uint8_t *buf = block_alloc(s->cluster_size);
    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, s->cluster_size);
    store_be64(buf, (uint64_t)AT_REFBLOCK << s->cluster_bits);
    int ret =
        block_pwrite(c->n->file, (uint64_t)AT_REFTABLE << s->cluster_bits, buf, s->cluster_size, 0);
    memset(buf, 0, s->cluster_size);
    for (unsigned i = 0; i < FIRST_CLUSTERS; i++) {
        qcow2_count_store(buf, s->refcount_order, i, 1);
    }
    ret = ret ? ret
              : block_pwrite(c->n->file, (uint64_t)AT_REFBLOCK << s->cluster_bits, buf,
                             s->cluster_size, 0);
    s->reftable_off = (uint64_t)AT_REFTABLE << s->cluster_bits;
    s->reftable_clusters = 1;
    return ret ? ret : qcow2_write_header(s);
}

static int create_header(struct create *c)
{
    struct qcow2 s = {.b = c->tmp};
    int ret = create_take(c, &s);
    ret = ret ? ret : create_check(c, &s);
    if (ret) {
        return ret;
    }
    c->tmp->backing_name = alloc_text(keyval_get(&c->opts, "backing_file"));
    c->tmp->backing_format = alloc_text(keyval_get(&c->opts, "backing_fmt"));
    s.data_file_name = alloc_text(c->data_file);
    ret = create_first(c, &s);
    qcow2_free_header(&s);
    free(c->tmp->backing_name);
    free(c->tmp->backing_format);
    c->tmp->backing_name = c->tmp->backing_format = NULL;
    return ret ? err_set(c->err, -ret, "cannot write '%s': %s", c->n->name,
                         ret == -ENOSPC ? "its header has not enough room" : strerror(-ret))
               : 0;
}

static int create_data_file(struct create *c)
{
    if (!c->data_file) {
        return 0;
    }
    AUTO_FREE char *path = block_resolve_name(c->tmp, c->data_file, c->err);
    struct keyval opts = {0};
    keyval_add(&opts, "size", "0");
    int ret = path ? block_create(c->n->graph, "raw", path, &opts, c->err) : -EINVAL;
    keyval_free(&opts);
    return ret;
}

/* ---- All of it ---- */

static int create_rest(struct create *c)
{
    struct qcow2 *s = alloc_zero(sizeof(*s));
    struct keyval none = {0};
    int ret = qcow2_open_image(s, c->tmp, &none, c->err);
    if (!ret) {
        ret = qcow2_crypt_create(s, &c->opts, c->err);
        ret = ret ? ret : qcow2_truncate(c->tmp, c->n->size, c->prealloc, c->err);
        int closed = qcow2_close_image(s);
        if (!ret && closed) {
            ret = err_set(c->err, -closed, "cannot write '%s': %s", c->n->name, strerror(-closed));
        }
    }
    free(s);
    return ret;
}

int qcow2_create(const struct block_new *n, struct err *err)
{
    struct block tmp = {
        .type = &qcow2_type,
        .graph = n->graph,
        .filename = (char *)n->name,
        .flags = BLOCK_RDWR | BLOCK_RESIZE,
        .align = 1,
        .file = n->file,
        .refs = 1,
    };
    struct create c = {.n = n, .err = err, .tmp = &tmp};
    bool old_aes = false;
    for (size_t i = 0; i < n->opts->count; i++) {
        keyval_add(&c.opts, n->opts->pairs[i].key, n->opts->pairs[i].value);
    }
    int ret = block_opt_bool(&c.opts, "encryption", &old_aes, err);
    if (!ret && old_aes) {
        keyval_add(&c.opts, "encrypt.format", "aes");
    }
    ret = ret ? ret : create_header(&c);
    ret = ret ? ret : create_data_file(&c);
    ret = ret ? ret : create_rest(&c);
    block_close(tmp.data);
    free(tmp.backing_name);
    free(tmp.backing_format);
    keyval_free(&c.opts);
    return ret;
}
