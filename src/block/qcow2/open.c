/*
 * Opening and closing qcow2 images, and their options. What is dirty is repaired before it is
 * written; what is corrupt is not written at all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "block/cipher.h"
#include "block/core.h"
#include "block/qcow2/internal.h"

#define DEFAULT_L2_CACHE (32ull << 20)
#define DEFAULT_REF_CACHE (4ull << 20)
#define MAX_CACHE (1ull << 40)

const struct block_opt qcow2_open_opts[] = {
    {"lazy-refcounts", "bool (on/off)", "postpone refcount updates", NULL},
    {"pass-discard-request", "bool (on/off)", "pass guests' discards to the file", NULL},
    {"pass-discard-snapshot", "bool (on/off)", "discard what deleted snapshots held", NULL},
    {"pass-discard-other", "bool (on/off)", "discard clusters freed otherwise", NULL},
    {"overlap-check", "str", "accepted: metadata is always kept from being overwritten", NULL},
    {"overlap-check.*", "str", "accepted", NULL},
    {"l2-cache-size", "size", "memory for L2 tables", NULL},
    {"l2-cache-entry-size", "size", "accepted: tables are kept whole", NULL},
    {"refcount-cache-size", "size", "memory for refcount blocks", NULL},
    {"cache-size", "size", "memory for both", NULL},
    {"cache-clean-interval", "num", "accepted", NULL},
    {"data-file", "node", "the external data file", NULL},
    {"encrypt.format", "str", "'luks' or 'aes'", NULL},
    {"encrypt.key-secret", "str", "ID of the secret with the passphrase", NULL},
    {0},
};

/* ---- Options ---- */

static int open_cache_opts(struct qcow2 *s, const struct keyval *opts, struct err *err)
{
    bool all_given = keyval_get(opts, "cache-size"), l2_given = keyval_get(opts, "l2-cache-size");
    bool ref_given = keyval_get(opts, "refcount-cache-size");
    uint64_t all = 0;
    s->o.l2_cache = DEFAULT_L2_CACHE;
    s->o.ref_cache = DEFAULT_REF_CACHE;
    int ret = block_opt_size(opts, "cache-size", &all, err);
    ret = ret ? ret : block_opt_size(opts, "l2-cache-size", &s->o.l2_cache, err);
    ret = ret ? ret : block_opt_size(opts, "refcount-cache-size", &s->o.ref_cache, err);
    if (ret) {
        return ret;
    }
    if (all_given && l2_given && ref_given) {
        return err_set(err, EINVAL,
                       "cache-size, l2-cache-size and refcount-cache-size may not be "
                       "set at the same time");
    }
    if (all_given && ((l2_given && s->o.l2_cache > all) || (ref_given && s->o.ref_cache > all))) {
        return err_set(err, EINVAL,
                       "l2-cache-size and refcount-cache-size may not exceed "
                       "cache-size");
    }
    if (s->o.l2_cache > MAX_CACHE || s->o.ref_cache > MAX_CACHE || all > MAX_CACHE) {
        return err_set(err, EINVAL, "a cache of more than 1 TiB for '%s' is too much",
                       s->b->filename);
    }
    if (all_given) {
        s->o.ref_cache = ref_given ? s->o.ref_cache : l2_given ? all - s->o.l2_cache : all / 5;
        s->o.l2_cache = l2_given ? s->o.l2_cache : all - s->o.ref_cache;
    }
    return 0;
}

static int open_take_opts(struct qcow2 *s, const struct keyval *opts, struct err *err)
{
    s->o.lazy_refcounts = s->compatible & QCOW2_LAZY_REFCOUNTS;
    s->o.discard_request = s->b->flags & BLOCK_UNMAP;
    s->o.discard_snapshot = true;
    int ret = block_opt_bool(opts, "lazy-refcounts", &s->o.lazy_refcounts, err);
    if (!ret) {
        ret = block_opt_bool(opts, "pass-discard-request", &s->o.discard_request, err);
    }
    if (!ret) {
        ret = block_opt_bool(opts, "pass-discard-snapshot", &s->o.discard_snapshot, err);
    }
    if (!ret) {
        ret = block_opt_bool(opts, "pass-discard-other", &s->o.discard_other, err);
    }
    if (!ret && s->o.lazy_refcounts && s->version < 3) {
        ret = err_set(err, EINVAL,
                      "Lazy refcounts require a qcow2 image with at least version 3 "
                      "(compat 1.1): '%s' is older",
                      s->b->filename);
    }
    return ret ? ret : open_cache_opts(s, opts, err);
}

/* ---- Steps ---- */

static int open_data_file(struct qcow2 *s, const struct keyval *opts, struct err *err)
{
    struct block *b = s->b;
    bool given = false;
    for (size_t i = 0; i < opts->count; i++) {
        given |= !strncmp(opts->pairs[i].key, "data-file", 9);
    }
    if (!(s->incompatible & QCOW2_DATA_FILE)) {
        return given ? err_set(err, EINVAL,
                               "'data-file' can only be set for images with an "
                               "external data file, which '%s' is not",
                               b->filename)
                     : 0;
    }
    if (b->flags & BLOCK_NO_IO) {
        return 0;
    }
    if (!given && !s->data_file_name) {
        return err_set(err, EINVAL, "'data-file' is required for the image '%s'", b->filename);
    }
    /* It is going to be written: whoever made the image does not choose more than a file beside
     * it, and not even that where images may not name files. */
    if (!given && b->graph->refuse_backing) {
        return err_set(err, EPERM, "'%s' names the data file '%s', which is not allowed here",
                       b->filename, s->data_file_name);
    }
    if (!given && block_name_has_protocol(s->data_file_name)) {
        return err_set(err, EINVAL,
                       "'%s' names a data file with a protocol, '%s': if that is right, give it "
                       "as option data-file.filename",
                       b->filename, s->data_file_name);
    }
    AUTO_FREE char *name = NULL;
    if (s->data_file_name) {
        name = block_resolve_name(b, s->data_file_name, err);
        if (!name && !given) {
            return -EINVAL;
        }
    }
    unsigned flags = b->flags & (BLOCK_RDWR | BLOCK_DIRECT | BLOCK_NO_FLUSH | BLOCK_FORCE_SHARE |
                                 BLOCK_EXCLUSIVE | BLOCK_IS_BACKING);
    flags |= BLOCK_UNMAP | (flags & BLOCK_RDWR ? BLOCK_RESIZE : 0);
    b->data = block_open_child(b, opts, "data-file", name, flags, err);
    return b->data ? 0 : err_prefix(err, -EINVAL, "Could not open 'data-file'");
}

static int open_tables(struct qcow2 *s, const struct keyval *opts, struct err *err)
{
    int ret = qcow2_l1_init(s, err);
    ret = ret ? ret : qcow2_refcount_init(s, err);
    if (ret) {
        return ret;
    }
    s->l2_cache = qcow2_cache_new(s, s->o.l2_cache);
    s->ref_cache = qcow2_cache_new(s, s->o.ref_cache);
    ret = open_data_file(s, opts, err);
    ret = ret ? ret : qcow2_crypt_open(s, opts, err);
    ret = ret ? ret : qcow2_read_snapshots(s, s->b->flags & BLOCK_CHECK, err);
    if (!ret && s->autoclear & QCOW2_BITMAPS) {
        ret = qcow2_read_bitmaps(s, err);
    }
    if (!ret && s->b->flags & BLOCK_RDWR && qcow2_meta_init(s)) {
        ret = err_set(err, ENOMEM, "no memory for '%s'", s->b->filename);
    }
    return ret;
}

/* Before the first write: what others may have meant by autoclear bits no longer holds. */
static int open_autoclear(struct qcow2 *s, struct err *err)
{
    uint64_t known = QCOW2_BITMAPS | QCOW2_DATA_FILE_RAW;
    if (!(s->autoclear & ~known)) {
        return 0;
    }
    s->autoclear &= known;
    int ret = qcow2_commit_header(s);
    return ret ? err_set(err, -ret, "cannot write the header of '%s'", s->b->filename) : 0;
}

/* After a crash with lazy refcounts. */
static int open_repair(struct qcow2 *s, struct err *err)
{
    if (!(s->incompatible & QCOW2_DIRTY)) {
        return 0;
    }
    struct check_report r = {0};
    int ret = qcow2_check(s->b, REPAIR_LEAKS | REPAIR_ERRORS, &r, err);
    if (ret) {
        return err_prefix(err, ret, "cannot repair the dirty image '%s'", s->b->filename);
    }
    if (r.check_errors || r.corruptions > r.corruptions_fixed) {
        return err_set(err, EIO, "'%s' was not closed properly and could not be repaired",
                       s->b->filename);
    }
    s->incompatible &= ~(uint64_t)QCOW2_DIRTY;
    ret = qcow2_barrier(s);
    ret = ret ? ret : qcow2_write_refcounts(s);
    ret = ret ? ret : block_flush(s->b->file);
    ret = ret ? ret : qcow2_commit_header(s);
    return ret ? err_set(err, -ret, "cannot repair the dirty image '%s'", s->b->filename) : 0;
}

static int open_steps(struct qcow2 *s, const struct keyval *opts, struct err *err)
{
    struct block *b = s->b;
    int ret = qcow2_read_header(s, err);
    ret = ret ? ret : open_take_opts(s, opts, err);
    if (ret) {
        return ret;
    }
    bool writes = b->flags & BLOCK_RDWR && !(b->flags & BLOCK_CHECK);
    if (s->incompatible & QCOW2_CORRUPT && writes) {
        return err_set(err, EACCES, "'%s': Image is corrupt; cannot be opened read/write",
                       b->filename);
    }
    ret = open_tables(s, opts, err);
    if (!ret && writes) {
        ret = open_autoclear(s, err);
        ret = ret ? ret : open_repair(s, err);
    }
    b->granule = s->cluster_size;
    b->align = s->crypt ? BLOCK_SECTOR : 1;
    b->zero_flags = BLOCK_MAY_UNMAP | BLOCK_NO_FALLBACK;
    bool packs = !s->crypt && !(s->incompatible & QCOW2_DATA_FILE);
    b->write_flags = packs ? BLOCK_COMPRESSED : 0;
    return ret;
}

static void open_free(struct qcow2 *s)
{
    qcow2_bitmaps_drop(s);
    qcow2_free_snapshots(s);
    qcow2_cache_free(s->l2_cache);
    qcow2_cache_free(s->ref_cache);
    qcow2_refcount_drop(s);
    qcow2_meta_free(s);
    qcow2_codec_free_all(s);
    free(s->l1);
    free(s->l1_dirty);
    if (s->cipher) {
        cipher_free(s->cipher);
    }
    free(s->o.key_secret);
    qcow2_free_header(s);
}

int qcow2_open_image(struct qcow2 *s, struct block *b, const struct keyval *opts, struct err *err)
{
    s->b = b;
    b->state = s;
    qcow2_codec_init(s);
    int ret = open_steps(s, opts, err);
    if (ret) {
        open_free(s);
    }
    return ret;
}

/* ---- Closing ---- */

/* The dirty bit goes last: until then the refcounts are not believed. */
static int close_write(struct qcow2 *s)
{
    int stored = qcow2_barrier(s);
    stored = stored ? stored : qcow2_write_refcounts(s);
    if (!stored && s->lazy_marked) {
        stored = block_flush(s->b->file);
        s->incompatible &= ~(uint64_t)QCOW2_DIRTY;
        stored = stored ? stored : qcow2_commit_header(s);
        s->lazy_marked = false;
    }
    return stored;
}

int qcow2_close_image(struct qcow2 *s)
{
    bool writes = s->b->flags & BLOCK_RDWR && !s->is_corrupt && !s->viewing;
    int ret = 0;
    if (writes) {
        ret = s->bitmaps ? qcow2_bitmaps_store(s) : 0; /* takes the lock itself */
        co_lock(&s->lock);
        int stored = close_write(s);
        co_unlock(&s->lock);
        ret = ret ? ret : stored;
    }
    if (ret) {
        log_put(LOG_ALWAYS, "qcow2: cannot write metadata of '%s' when closing it: %s\n",
                s->b->filename, strerror(-ret));
    }
    open_free(s);
    return ret;
}
