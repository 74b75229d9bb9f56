/*
 * measure: how large a new qcow2 file becomes. Specification: "Qcow2 Image File Format". Counted is
 * the image with all its metadata: header, refcounts of everything, L1 and all L2 tables, whether
 * or not there is data below them, as for an image with preallocated metadata. Not counted is what
 * compression would save.
 */
#include "block/qcow2/internal.h"
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "block/cipher.h"
#include "block/opts.h"

/* What the options say about the new image. */
struct plan {
    unsigned cluster_bits, refcount_order, version;
    bool ext_l2, whole; /* whole: everything counts as allocated */
    uint64_t size, crypt_bytes;
};

static int plan_clusters(struct plan *p, const struct keyval *opts, struct err *err)
{
    uint64_t size = 65536;
    int ret =
        block_opt_text(opts, "cluster_size") ? block_opt_size(opts, "cluster_size", &size, err) : 0;
    if (ret < 0) {
        return ret;
    }
    if (size < BIT(QCOW2_MIN_CLUSTER_BITS) || size > BIT(QCOW2_MAX_CLUSTER_BITS) ||
        (size & (size - 1))) {
        return err_set(err, EINVAL, "Cluster size must be a power of two between 512 and 2048k");
    }
    p->cluster_bits = (unsigned)__builtin_ctzll(size);
    ret = block_opt_text(opts, "extended_l2") ? block_opt_bool(opts, "extended_l2", &p->ext_l2, err)
                                              : 0;
    if (ret == 0 && p->ext_l2 && p->cluster_bits < 14) {
        return err_set(err, EINVAL,
                       "Extended L2 entries are only supported with cluster sizes of "
                       "at least 16384 bytes");
    }
    return ret;
}

static int plan_refcounts(struct plan *p, const struct keyval *opts, struct err *err)
{
    const char *compat = block_opt_text(opts, "compat");
    uint64_t bits = 16;
    p->version = compat && (!strcmp(compat, "0.10") || !strcmp(compat, "v2")) ? 2 : 3;
    if (compat && p->version == 3 && strcmp(compat, "1.1") && strcmp(compat, "v3")) {
        return err_set(err, EINVAL, "Unknown compatibility level %s", compat);
    }
    const char *text = block_opt_text(opts, "refcount_bits");
    int ret = text ? value_u64("refcount_bits", text, UINT32_MAX, &bits, err) : 0;
    if (ret < 0) {
        return ret;
    }
    if (bits == 0 || bits > 64 || (bits & (bits - 1))) {
        return err_set(err, EINVAL,
                       "Refcount width must be a power of two and may not exceed 64 bits");
    }
    p->refcount_order = (unsigned)__builtin_ctzll(bits);
    if (p->version == 2 && bits != 16) {
        return err_set(err, EINVAL,
                       "Different refcount widths than 16 bits require compatibility "
                       "level 1.1 or above (use compat=1.1 or greater)");
    }
    if (p->version == 2 && p->ext_l2) {
        return err_set(err, EINVAL,
                       "Extended L2 entries are only supported with compatibility "
                       "level 1.1 and above (use compat=1.1 or greater)");
    }
    return 0;
}

static int plan_crypt(struct plan *p, const struct keyval *opts, struct err *err)
{
    const char *format = block_opt_text(opts, "encrypt.format");
    struct keyval luks = {0};
    if (!format || strcmp(format, "luks") != 0) {
        return 0;
    }
    opts_part(&luks, opts, "encrypt");
    keyval_remove(&luks, "format");
    keyval_remove(&luks, "key-secret");
    int ret = luks_header_bytes(&luks, &p->crypt_bytes, err);
    keyval_free(&luks);
    return ret;
}

static int plan_size(struct plan *p, const struct keyval *opts, struct block *from, struct err *err)
{
    int ret = 0;
    if (from) {
        p->size = block_size(from);
    } else {
        ret = block_opt_size(opts, "size", &p->size, err);
    }
    if (ret == 0 && p->size > BLOCK_MAX_SIZE) {
        ret = err_set(err, EFBIG, "The image size is too large (try using a larger cluster size)");
    }
    p->size = round_up(p->size, BLOCK_SECTOR);
    return ret;
}

static int make_plan(struct plan *p, const struct keyval *opts, struct block *from, struct err *err)
{
    enum block_prealloc prealloc = PREALLOC_OFF;
    int ret = plan_size(p, opts, from, err);
    ret = ret < 0 ? ret : plan_clusters(p, opts, err);
    ret = ret < 0 ? ret : plan_refcounts(p, opts, err);
    ret = ret < 0 ? ret : plan_crypt(p, opts, err);
    if (ret == 0 && block_opt_text(opts, "preallocation")) {
        ret = block_opt_prealloc(opts, &prealloc, err);
    }
    p->whole = prealloc == PREALLOC_FALLOC || prealloc == PREALLOC_FULL;
    if (from && block_opt_text(opts, "backing_file")) {
        p->whole = true; /* nobody knows how the two differ */
    }
    return ret;
}

static uint64_t clusters_of(const struct plan *p, uint64_t bytes)
{
    return (bytes >> p->cluster_bits) + ((bytes & mask_low(p->cluster_bits)) != 0);
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* Clusters of everything but the guest's data: refcounts count themselves, too. */
static int metadata_clusters(const struct plan *p, uint64_t *out, struct err *err)
{
    uint64_t cluster = BIT(p->cluster_bits), data = clusters_of(p, p->size);
    uint64_t l2 = divide_up(data, cluster / (p->ext_l2 ? 16 : 8));
    uint64_t block_entries = cluster * 8 >> p->refcount_order;
    uint64_t fixed = 1 + l2 + clusters_of(p, l2 * 8) + clusters_of(p, p->crypt_bytes);
    uint64_t blocks = 0, table = 0, need;
    if (l2 * 8 > QCOW2_MAX_L1_BYTES) {
        return err_set(err, EFBIG, "The image size is too large (try using a larger cluster size)");
    }
    while ((need = divide_up(data + fixed + blocks + table, block_entries)) != blocks) {
        blocks = need;
        table = clusters_of(p, blocks * 8);
    }
    *out = fixed + blocks + table;
    return 0;
}

/* Clusters of the new image that hold data of `from`, including what is below it. */
static int data_clusters(const struct plan *p, struct block *from, uint64_t *out)
{
    uint64_t off = 0, end = block_size(from), counted = 0; /* up to cluster `counted` */
    *out = 0;
    while (off < end) {
        struct block_extent e;
        int ret = block_extent_chain(from, NULL, off, end - off, &e);
        if (ret < 0) {
            return ret;
        }
        if ((e.flags & EXTENT_DATA) && !(e.flags & EXTENT_ZERO)) {
            uint64_t first = off >> p->cluster_bits, last = clusters_of(p, off + e.len);
            first = first < counted ? counted : first;
            *out += last > first ? last - first : 0;
            counted = last > counted ? last : counted;
        }
        off += e.len;
    }
    return 0;
}

/* All bitmaps that can be copied, with all their bits stored. */
static uint64_t bitmap_bytes(const struct plan *p, struct block *from)
{
    uint64_t clusters = 0, directory = 0;
    for (struct block_bitmap *bm = block_bitmaps(from); bm; bm = bm->next) {
        if (!bm->inconsistent) {
            uint64_t bits = divide_up(p->size, bm->granularity);
            uint64_t data = clusters_of(p, divide_up(bits, 8));
            clusters += data + clusters_of(p, data * 8);
            directory += round_up(24 + strlen(bm->name), 8);
        }
    }
    return (clusters + clusters_of(p, directory)) << p->cluster_bits;
}

/* Images of version 2 have none. */
static bool can_bitmaps(const struct block *from)
{
    const struct qcow2 *s = from->state;
    return block_can_bitmaps(from) && (from->type != &qcow2_type || s->version >= 3);
}

int qcow2_measure(const struct keyval *opts, struct block *from, struct block_measure *m,
                  struct err *err)
{
    struct plan p = {0};
    uint64_t metadata = 0, data = 0;
    int ret = make_plan(&p, opts, from, err);
    ret = ret < 0 ? ret : metadata_clusters(&p, &metadata, err);
    if (ret < 0) {
        return ret;
    }
    if (p.whole) {
        data = clusters_of(&p, p.size);
    } else if (from) {
        ret = data_clusters(&p, from, &data);
        if (ret < 0) {
            return err_set(err, -ret, "Unable to get block status: %s", strerror(-ret));
        }
    }
    m->required = (metadata + data) << p.cluster_bits;
    m->fully_allocated = (metadata + clusters_of(&p, p.size)) << p.cluster_bits;
    m->has_bitmaps = from && p.version >= 3 && can_bitmaps(from);
    m->bitmaps = m->has_bitmaps ? bitmap_bytes(&p, from) : 0;
    return 0;
}
