/*
 * amend: options of an image that may change afterwards. Specification: "Qcow2 Image File Format".
 * All options are looked at before anything is changed. Each step leaves a whole image: what is new
 * is durable before the header refers to it. The backing file is not changed here (rebase does).
 */
#include "block/qcow2/amend.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/cipher.h"
#include "block/qcow2/counts.h"

/* ---- Looking at the options ---- */

static int want_version(struct amend *a)
{
    const char *compat = block_opt_text(a->opts, "compat");
    a->version = a->s->version;
    if (compat && (!strcmp(compat, "0.10") || !strcmp(compat, "v2"))) {
        a->version = 2;
    } else if (compat && (!strcmp(compat, "1.1") || !strcmp(compat, "v3"))) {
        a->version = 3;
    } else if (compat) {
        return err_set(a->err, EINVAL, "Unknown compatibility level %s", compat);
    }
    return 0;
}

static int want_refcounts(struct amend *a)
{
    const char *text = block_opt_text(a->opts, "refcount_bits");
    uint64_t bits = 1u << a->s->refcount_order;
    int ret = text ? value_u64("refcount_bits", text, UINT32_MAX, &bits, a->err) : 0;
    if (ret < 0) {
        return ret;
    }
    if (bits == 0 || bits > 64 || (bits & (bits - 1))) {
        return err_set(a->err, EINVAL,
                       "Refcount width must be a power of two and may not exceed 64 bits");
    }
    a->refcount_order = (unsigned)__builtin_ctzll(bits);
    if (text && bits != 16 && a->version < 3) {
        return err_set(a->err, EINVAL,
                       "Refcount widths other than 16 bits require compatibility level 1.1 or "
                       "above (use compat=1.1 or greater)");
    }
    if (bits != 16 && a->version < 3) {
        return err_set(a->err, EINVAL, "compat=0.10 requires refcount_bits=16");
    }
    return 0;
}

static int want_lazy(struct amend *a)
{
    a->lazy = a->s->compatible & QCOW2_LAZY_REFCOUNTS;
    if (!block_opt_text(a->opts, "lazy_refcounts")) {
        a->lazy = a->lazy && a->version >= 3;
        return 0;
    }
    int ret = block_opt_bool(a->opts, "lazy_refcounts", &a->lazy, a->err);
    if (ret == 0 && a->lazy && a->version < 3) {
        return err_set(a->err, EINVAL,
                       "Lazy refcounts only supported with compatibility level 1.1 "
                       "and above (use compat=1.1 or greater)");
    }
    return ret;
}

static bool text_differs(const char *wanted, const char *is)
{
    return strcmp(wanted ? wanted : "", is ? is : "") != 0;
}

static int want_backing(struct amend *a)
{
    const char *name = block_opt_text(a->opts, "backing_file");
    const char *format = block_opt_text(a->opts, "backing_fmt");
    if (!name && !format) {
        return 0;
    }
    if (!name || !format || text_differs(name, a->s->b->backing_name) ||
        text_differs(format, a->s->b->backing_format)) {
        return err_set(a->err, EINVAL, "Cannot amend the backing file; use 'rebase' instead");
    }
    return 0;
}

static int want_data_file(struct amend *a)
{
    bool has = a->s->incompatible & QCOW2_DATA_FILE, raw = false;
    if (block_opt_text(a->opts, "data_file") && !has) {
        return err_set(a->err, EINVAL,
                       "data-file can only be set for images that use an external data file");
    }
    int ret = block_opt_text(a->opts, "data_file_raw")
                  ? block_opt_bool(a->opts, "data_file_raw", &raw, a->err)
                  : 0;
    if (ret == 0 && raw && !(a->s->autoclear & QCOW2_DATA_FILE_RAW)) {
        return err_set(a->err, EINVAL, "data-file-raw cannot be set on existing images");
    }
    return ret;
}

static int want_size(struct amend *a)
{
    a->size = a->s->b->size;
    if (!block_opt_text(a->opts, "size")) {
        return 0;
    }
    int ret = block_opt_size(a->opts, "size", &a->size, a->err);
    if (ret == 0 && a->size % BLOCK_SECTOR) {
        return err_set(a->err, EINVAL, "The new size must be a multiple of 512");
    }
    if (ret == 0 && a->size > BLOCK_MAX_SIZE) {
        return err_set(a->err, EFBIG, "The new size is too large");
    }
    return ret;
}

/* What version 2 cannot say. */
static int may_downgrade(struct amend *a)
{
    struct qcow2 *s = a->s;
    uint64_t in_the_way = s->incompatible & ~(uint64_t)(QCOW2_DIRTY | QCOW2_COMPRESSION);
    bool packed = false;
    if (a->version >= s->version) {
        return 0;
    }
    if (in_the_way) {
        return err_set(a->err, ENOTSUP,
                       "Cannot downgrade an image with incompatible features %#llx set",
                       (unsigned long long)in_the_way);
    }
    int ret = s->compression ? downgrade_find_packed(a, &packed) : 0;
    if (ret < 0 || packed) {
        return err_set(a->err, ret < 0 ? -ret : ENOTSUP,
                       ret < 0
                           ? "Cannot downgrade an image whose tables cannot be read"
                           : "Cannot downgrade an image with zstd compression type and existing "
                             "compressed clusters");
    }
    if (s->bitmaps_count) {
        return err_set(a->err, ENOTSUP,
                       "Cannot downgrade an image with dirty bitmaps; remove them "
                       "first");
    }
    for (uint32_t i = 0; i < s->snap_count; i++) { /* version 2 knows one size for all */
        if (s->snaps[i].s.disk_size != a->size) {
            return err_set(a->err, ENOTSUP,
                           "Internal snapshots prevent downgrade of image; '%s' has another size",
                           s->snaps[i].s.name);
        }
    }
    return 0;
}

static bool has_encrypt_opts(const struct keyval *opts)
{
    for (size_t i = 0; i < opts->count; i++) {
        if (strncmp(opts->pairs[i].key, "encrypt.", 8) == 0) {
            return true;
        }
    }
    return false;
}

static int want_encrypt(struct amend *a)
{
    if (!has_encrypt_opts(a->opts)) {
        return 0;
    }
    if (a->s->crypt == QCOW2_CRYPT_NONE) {
        return err_set(a->err, EINVAL, "Can't amend encryption options - encryption not present");
    }
    if (a->s->crypt != QCOW2_CRYPT_LUKS) {
        return err_set(a->err, ENOTSUP,
                       "Only LUKS encryption options can be amended for qcow2 with amend");
    }
    return 0;
}

static int look_at_all(struct amend *a)
{
    int (*const looks[])(struct amend *) = {want_version, want_lazy,      want_refcounts,
                                            want_backing, want_data_file, want_size,
                                            want_encrypt, may_downgrade};
    for (size_t i = 0; i < ARRAY_LEN(looks); i++) {
        int ret = looks[i](a);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* ---- Changing ---- */

static int write_header(struct qcow2 *s)
{
    int ret = qcow2_barrier(s);
    ret = ret < 0 ? ret : qcow2_commit_header(s);
    s->header_unsure = ret < 0; /* the barrier may have written what is now taken back */
    return ret;
}

static int failed(struct amend *a, int ret, const char *what)
{
    return err_set(a->err, -ret, "%s: %s failed: %s", block_filename(a->s->b), what,
                   strerror(-ret));
}

static int upgrade(struct amend *a)
{
    struct qcow2 *s = a->s;
    if (a->version <= s->version) {
        return 0;
    }
    /* Version 3 wants more in each snapshot; version 2 allows it. */
    int ret = s->snap_count ? qcow2_write_snapshots(s, s->snaps, s->snap_count) : 0;
    if (ret == 0) {
        s->version = 3;
        ret = write_header(s);
        s->version = ret < 0 ? 2 : 3;
    }
    return ret < 0 ? failed(a, ret, "raising the version") : 0;
}

static int get_secret(struct amend *a, const char *opt, uint8_t **bytes, size_t *len)
{
    const char *id = block_opt_text(a->opts, opt);
    *bytes = NULL;
    *len = 0;
    return id && *id ? block_get_secret(a->s->b->graph, id, bytes, len, a->err) : 0;
}

static void free_secret(uint8_t *bytes, size_t len)
{
    if (bytes) {
        explicit_bzero(bytes, len);
        free(bytes);
    }
}

static int parse_slot_change(struct amend *a, struct luks_slot_change *ch)
{
    const char *state = block_opt_text(a->opts, "encrypt.state");
    const char *slot = block_opt_text(a->opts, "encrypt.keyslot");
    const char *time = block_opt_text(a->opts, "encrypt.iter-time");
    uint64_t n = 0;
    ch->keyslot = -1;
    ch->force = a->force;
    if (!state || (strcmp(state, "active") && strcmp(state, "inactive"))) {
        return err_set(a->err, EINVAL,
                       state ? "encrypt.state is 'active' or 'inactive', not '%s'"
                             : "encrypt.state is missing",
                       state);
    }
    ch->activate = !strcmp(state, "active");
    int ret =
        time ? value_u64("encrypt.iter-time", time, UINT32_MAX, &ch->iter_time_ms, a->err) : 0;
    if (ret == 0 && slot) {
        ret = value_u64("encrypt.keyslot", slot, 7, &n, a->err);
        ch->keyslot = (int)n;
    }
    return ret;
}

static int change_keys(struct amend *a)
{
    struct qcow2 *s = a->s;
    struct luks_io io;
    struct luks_slot_change ch = {0};
    uint8_t *new = NULL, *old = NULL;
    if (!has_encrypt_opts(a->opts)) {
        return 0;
    }
    if (!s->cipher) {
        return err_set(a->err, EACCES, "%s: changing keys needs the image to be opened with a key",
                       block_filename(s->b));
    }
    int ret = parse_slot_change(a, &ch);
    ret = ret < 0 ? ret : get_secret(a, "encrypt.new-secret", &new, &ch.new_len);
    ret = ret < 0 ? ret : get_secret(a, "encrypt.old-secret", &old, &ch.old_len);
    qcow2_luks_io(s, &io);
    ch.new_secret = new;
    ch.old_secret = old;
    ret = ret < 0 ? ret : luks_change_slot(s->cipher, &io, &ch, a->err);
    free_secret(new, ch.new_len);
    free_secret(old, ch.old_len);
    return ret < 0 ? ret : block_flush(s->b->file);
}

/* ---- Width of refcounts ---- */

/* The clusters that hold the refcounts themselves. */
static int count_structure(struct qcow2 *s, struct counts *c)
{
    uint64_t first = s->reftable_off >> s->cluster_bits;
    int ret = 0;
    for (uint32_t i = 0; i < s->reftable_clusters && ret == 0; i++) {
        ret = first + i < c->clusters ? counts_add(c, first + i, 1) : -EIO;
    }
    for (uint64_t i = 0; i < s->reftable_size && ret == 0; i++) {
        uint64_t k = s->reftable[i] >> s->cluster_bits;
        if (s->reftable[i]) {
            ret = k < c->clusters ? counts_add(c, k, 1) : -EIO;
        }
    }
    return ret;
}

/* Behind the last cluster with a refcount. */
static int clusters_in_use(struct qcow2 *s, uint64_t *end)
{
    uint64_t per_block = qcow2_refblock_entries(s), count;
    *end = 0;
    for (uint64_t i = s->reftable_size; i-- > 0;) {
        for (uint64_t k = per_block; s->reftable[i] && k-- > 0;) {
            int ret = qcow2_refcount_get(s, i * per_block + k, &count);
            if (ret < 0 || count) {
                *end = i * per_block + k + 1;
                return ret;
            }
        }
    }
    return 0;
}

struct width_change {
    struct qcow2 *s;
    struct counts own;
};

static int count_of(void *opaque, uint64_t cluster, uint64_t *count)
{
    struct width_change *w = opaque;
    int ret = qcow2_refcount_get(w->s, cluster, count);
    uint64_t own = counts_get(&w->own, cluster);
    *count = *count > own ? *count - own : 0;
    return ret;
}

static int change_width(struct amend *a)
{
    struct width_change w = {a->s};
    uint64_t end;
    if (a->refcount_order == a->s->refcount_order) {
        return 0;
    }
    int ret = qcow2_barrier(a->s);
    ret = ret < 0 ? ret : clusters_in_use(a->s, &end);
    ret = ret < 0 ? ret : counts_init(&w.own, end);
    if (ret == 0) {
        ret = count_structure(a->s, &w.own);
    }
    if (ret < 0) {
        counts_free(&w.own);
        return failed(a, ret, "reading the refcounts");
    }
    ret = qcow2_rebuild_refcounts(a->s, a->refcount_order, count_of, &w, end, a->err);
    counts_free(&w.own);
    if (ret == 0) {
        ret = qcow2_barrier(a->s);
        ret = ret < 0 ? failed(a, ret, "writing the refcounts") : 0;
    }
    return ret;
}

/* ---- The header ---- */

/* All refcounts on disk are right, so the image need not be called dirty. */
static int clean(struct qcow2 *s)
{
    int ret = qcow2_write_refcounts(s);
    s->lazy_marked = s->lazy_marked && ret < 0;
    ret = ret < 0 ? ret : qcow2_barrier(s);
    if (ret == 0) {
        s->incompatible &= ~(uint64_t)QCOW2_DIRTY;
    }
    return ret;
}

static int change_lazy(struct amend *a)
{
    struct qcow2 *s = a->s;
    bool is = s->compatible & QCOW2_LAZY_REFCOUNTS;
    if (a->lazy == is) {
        return 0;
    }
    int ret = a->lazy ? 0 : clean(s);
    if (ret == 0) {
        s->compatible ^= QCOW2_LAZY_REFCOUNTS;
        ret = write_header(s);
        s->compatible ^= ret < 0 ? QCOW2_LAZY_REFCOUNTS : 0;
    }
    s->o.lazy_refcounts = s->compatible & QCOW2_LAZY_REFCOUNTS;
    return ret < 0 ? failed(a, ret, "changing lazy refcounts") : 0;
}

static int change_data_file(struct amend *a)
{
    struct qcow2 *s = a->s;
    const char *name = block_opt_text(a->opts, "data_file");
    bool raw = true, changed = false;
    if (block_opt_text(a->opts, "data_file_raw") &&
        block_opt_bool(a->opts, "data_file_raw", &raw, a->err) == 0 && !raw) {
        changed = s->autoclear & QCOW2_DATA_FILE_RAW;
        s->autoclear &= ~(uint64_t)QCOW2_DATA_FILE_RAW;
    }
    if (name) {
        free(s->data_file_name);
        s->data_file_name = *name ? alloc_text(name) : NULL;
        changed = true;
    }
    int ret = changed ? write_header(s) : 0;
    return ret < 0 ? failed(a, ret, "writing the header") : 0;
}

static int change_size(struct amend *a)
{
    struct block *b = a->s->b;
    return a->size == b->size ? 0 : b->type->truncate(b, a->size, PREALLOC_OFF, a->err);
}

static int downgrade(struct amend *a)
{
    struct qcow2 *s = a->s;
    if (a->version >= s->version) {
        return 0;
    }
    int ret = downgrade_zero_clusters(a);
    if (ret < 0) {
        return ret;
    }
    ret = clean(s);
    uint64_t compatible = s->compatible, autoclear = s->autoclear, incompatible = s->incompatible;
    unsigned compression = s->compression;
    s->version = 2;
    s->compatible = s->autoclear = 0;
    s->incompatible &= ~(uint64_t)QCOW2_COMPRESSION; /* nothing is compressed */
    s->compression = 0;
    ret = ret < 0 ? ret : write_header(s);
    if (ret < 0) {
        s->version = 3;
        s->compatible = compatible;
        s->autoclear = autoclear;
        s->incompatible = incompatible;
        s->compression = compression;
        return failed(a, ret, "lowering the version");
    }
    return 0;
}

/* The lock is held, except while the size changes, which takes it itself. */
static int change_all(struct amend *a)
{
    int ret;
    co_lock(&a->s->lock);
    ret = upgrade(a);
    ret = ret < 0 ? ret : change_keys(a);
    ret = ret < 0 ? ret : change_width(a);
    ret = ret < 0 ? ret : change_lazy(a);
    ret = ret < 0 ? ret : change_data_file(a);
    co_unlock(&a->s->lock);
    ret = ret < 0 ? ret : change_size(a);
    if (ret == 0) {
        co_lock(&a->s->lock);
        ret = downgrade(a);
        co_unlock(&a->s->lock);
    }
    return ret;
}

int qcow2_amend(struct block *b, const struct keyval *opts, bool force,
                void (*progress)(void *, uint64_t, uint64_t), void *opaque, struct err *err)
{
    struct amend a = {b->state, opts, force, progress, opaque, err};
    if (block_readonly(b) || a.s->viewing || a.s->is_corrupt) {
        return err_set(err, EROFS, "%s: amending needs an image that can be written",
                       block_filename(b));
    }
    int ret = look_at_all(&a);
    ret = ret < 0 ? ret : change_all(&a);
    if (ret == 0 && progress) {
        progress(opaque, 1, 1);
    }
    return ret;
}
