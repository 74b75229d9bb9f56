/*
 * Dirty bitmaps kept in an image: the bits in memory, and what is done with them. Specification:
 * "Qcow2 Image File Format", sections "Bitmaps extension", "Bitmaps", "Dirty tracking bitmaps".
 *
 * On disk a bitmap is right, or marked in use: from the first write to the disk
 * (qcow2_bitmaps_begin) to the end (qcow2_bitmaps_store) only memory has the bits. One found in use
 * when opening is inconsistent: it is listed and can be removed, nothing else.
 */
#include "block/qcow2/bitmaps.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"

enum { PRESET_MIN = 4096, PRESET_MAX = 65536 };

uint64_t qcow2_bitmap_bits(uint64_t size, uint32_t granularity)
{
    return size / granularity + (size % granularity != 0);
}

uint64_t qcow2_bitmap_bytes(uint64_t size, uint32_t granularity)
{
    return (qcow2_bitmap_bits(size, granularity) + 7) / 8;
}

uint64_t qcow2_bitmap_entries(const struct qcow2 *s, uint64_t bytes)
{
    return (bytes >> s->cluster_bits) + ((bytes & (s->cluster_size - 1)) != 0);
}

uint64_t qcow2_bitmap_dir_entry(const struct qcow2_bitmap *m)
{
    return round_up((uint64_t)BITMAP_ENTRY_BYTES + m->extra_len + strlen(m->bm.name), 8);
}

uint64_t *qcow2_bitmap_words(struct qcow2 *s, uint64_t size, uint32_t granularity)
{
    uint64_t sum = qcow2_bitmap_bytes(size, granularity);
    if (sum > BITMAP_MAX_BYTES) {
        return NULL;
    }
    uint64_t words = sum / 8 + 1;
    for (struct block_bitmap *bm = s->bitmaps; bm; bm = bm->next) {
        sum += bm->bits ? qcow2_bitmap_bytes(bm->size, bm->granularity) : 0;
    }
    return sum > BITMAP_MAX_SUM ? NULL : calloc(words, 8);
}

void qcow2_bitmap_free(struct qcow2_bitmap *m)
{
    if (m) {
        free(m->bm.name);
        free(m->bm.bits);
        free(m->extra);
        free(m);
    }
}

void qcow2_bitmaps_drop(struct qcow2 *s)
{
    struct qcow2_bitmap *m = qcow2_bitmap_first(s);
    while (m) {
        struct qcow2_bitmap *next = qcow2_bitmap_next(m);
        qcow2_bitmap_free(m);
        m = next;
    }
    s->bitmaps = NULL;
}

struct block_bitmap *qcow2_bitmaps(struct block *b)
{
    struct qcow2 *s = b->state;
    return s->bitmaps;
}

/* ---- Bits ---- */

static void set_bits(uint64_t *words, uint64_t first, uint64_t end)
{
    while (first < end) {
        uint64_t in_word = 64 - first % 64;
        uint64_t n = end - first < in_word ? end - first : in_word;
        words[first / 64] |= mask_low((unsigned)n) << (first % 64);
        first += n;
    }
}

static void set_range(struct block_bitmap *bm, uint64_t off, uint64_t len)
{
    if (off >= bm->size || len == 0) {
        return;
    }
    len = len < bm->size - off ? len : bm->size - off;
    set_bits(bm->bits, off / bm->granularity, (off + len - 1) / bm->granularity + 1);
}

void qcow2_bitmaps_mark(struct qcow2 *s, uint64_t off, uint64_t len)
{
    for (struct qcow2_bitmap *m = qcow2_bitmap_first(s); m; m = qcow2_bitmap_next(m)) {
        if (m->bm.enabled && m->bm.bits) {
            set_range(&m->bm, off, len);
            m->changed = true;
        }
    }
}

static void resize_one(struct qcow2 *s, struct qcow2_bitmap *m, uint64_t size)
{
    uint64_t old_bits = qcow2_bitmap_bits(m->bm.size, m->bm.granularity);
    uint64_t bits = qcow2_bitmap_bits(size, m->bm.granularity);
    uint64_t *old = m->bm.bits;
    uint64_t keep = bits < old_bits ? bits : old_bits;
    m->bm.bits = NULL; /* not to be counted twice */
    uint64_t *words = old ? qcow2_bitmap_words(s, size, m->bm.granularity) : NULL;
    m->bm.size = size;
    if (old && !words) {
        m->bm.inconsistent = true; /* on disk it is marked in use, and stays so */
        m->flags |= BITMAP_IN_USE;
    }
    if (words) {
        memcpy(words, old, (keep + 63) / 64 * 8);
        if (keep % 64) {
            words[keep / 64] &= mask_low((unsigned)(keep % 64));
        }
        m->changed = true;
    }
    free(old);
    m->bm.bits = words;
}

void qcow2_bitmaps_resize(struct qcow2 *s, uint64_t size)
{
    for (struct qcow2_bitmap *m = qcow2_bitmap_first(s); m; m = qcow2_bitmap_next(m)) {
        resize_one(s, m, size);
    }
}

/* ---- In use, and stored again ---- */

int qcow2_bitmaps_begin(struct qcow2 *s)
{
    int ret = 0;
    if (!s->bitmaps || s->bitmaps_in_use) {
        return 0;
    }
    co_lock(&s->lock);
    if (s->bitmaps && !s->bitmaps_in_use) { /* somebody else may have done it meanwhile */
        ret = qcow2_bitmaps_mark_in_use(s);
        s->bitmaps_in_use = ret == 0;
    }
    co_unlock(&s->lock);
    return ret;
}

int qcow2_bitmaps_store(struct qcow2 *s)
{
    int ret = 0;
    bool changed = s->bitmaps_in_use;
    for (struct qcow2_bitmap *m = qcow2_bitmap_first(s); m; m = qcow2_bitmap_next(m)) {
        changed = changed || m->changed;
    }
    if (changed && !block_readonly(s->b)) {
        co_lock(&s->lock);
        ret = qcow2_bitmaps_write(s, false, NULL);
        s->bitmaps_in_use = s->bitmaps_in_use && ret < 0;
        co_unlock(&s->lock);
    }
    return ret;
}

/* ---- Changes ---- */

static struct qcow2_bitmap *find(struct qcow2 *s, const char *name)
{
    struct qcow2_bitmap *m = qcow2_bitmap_first(s);
    while (m && strcmp(m->bm.name, name) != 0) {
        m = qcow2_bitmap_next(m);
    }
    return m;
}

static void unlink_bitmap(struct qcow2 *s, struct qcow2_bitmap *m)
{
    struct block_bitmap **at = &s->bitmaps;
    while (*at != &m->bm) {
        at = &(*at)->next;
    }
    *at = m->bm.next;
}

static void append(struct qcow2 *s, struct qcow2_bitmap *m)
{
    struct block_bitmap **at = &s->bitmaps;
    while (*at) {
        at = &(*at)->next;
    }
    m->bm.next = NULL;
    *at = &m->bm;
}

static int check_new(struct qcow2 *s, const char *name, uint32_t granularity, struct err *err)
{
    uint32_t count = 0;
    for (struct block_bitmap *bm = s->bitmaps; bm; bm = bm->next) {
        count++;
    }
    if (s->version < 3) {
        return err_set(err, ENOTSUP,
                       "%s: images of version 2 cannot keep dirty bitmaps; amend it "
                       "to compat=1.1 first",
                       block_filename(s->b));
    }
    if (!*name) {
        return err_set(err, EINVAL, "Bitmap name cannot be empty");
    }
    if (strlen(name) > BITMAP_MAX_NAME) {
        return err_set(err, EINVAL, "the name of a bitmap has at most %d bytes", BITMAP_MAX_NAME);
    }
    if (find(s, name)) {
        return err_set(err, EEXIST, "Bitmap already exists: %s", name);
    }
    if (granularity < BIT(BITMAP_MIN_BITS) || (granularity & (granularity - 1))) {
        return err_set(err, EINVAL, "Granularity must be power of 2 and at least 512");
    }
    if (count >= QCOW2_MAX_BITMAPS) {
        return err_set(err, EFBIG, "%s: there are %u bitmaps, which is the most possible",
                       block_filename(s->b), count);
    }
    return 0;
}

static uint32_t preset_granularity(const struct qcow2 *s)
{
    uint32_t g = s->cluster_size < PRESET_MIN ? PRESET_MIN : s->cluster_size;
    return g > PRESET_MAX ? PRESET_MAX : g;
}

static int failed(struct qcow2 *s, int ret, const char *name, struct err *err)
{
    return err_set(err, -ret, "%s: storing the dirty bitmap '%s' failed: %s", block_filename(s->b),
                   name, strerror(-ret));
}

static int add(struct qcow2 *s, const char *name, uint32_t granularity, bool disabled,
               struct err *err)
{
    granularity = granularity ? granularity : preset_granularity(s);
    int ret = check_new(s, name, granularity, err);
    if (ret < 0) {
        return ret;
    }
    uint64_t *words = qcow2_bitmap_words(s, s->b->size, granularity);
    if (!words) {
        return err_set(err, EFBIG,
                       "the bitmap '%s' would take too much memory; take a larger "
                       "granularity",
                       name);
    }
    struct qcow2_bitmap *m = alloc_zero(sizeof(*m));
    m->bm = (struct block_bitmap){alloc_text(name), granularity, !disabled, false,
                                  s->b->size,       words,       NULL};
    m->type = BITMAP_TYPE_DIRTY;
    append(s, m);
    ret = qcow2_bitmaps_write(s, s->bitmaps_in_use, NULL);
    if (ret < 0) {
        unlink_bitmap(s, m);
        qcow2_bitmap_free(m);
        return failed(s, ret, name, err);
    }
    return 0;
}

static int drop(struct qcow2 *s, struct qcow2_bitmap *m, struct err *err)
{
    unlink_bitmap(s, m);
    int ret = qcow2_bitmaps_write(s, s->bitmaps_in_use, m);
    if (ret < 0) {
        failed(s, ret, m->bm.name, err);
        append(s, m);
        return ret;
    }
    qcow2_bitmap_free(m);
    return 0;
}

static int usable(const struct block_bitmap *bm, struct err *err)
{
    if (bm->inconsistent || !bm->bits) {
        return err_set(err, EINVAL,
                       "Bitmap '%s' is inconsistent and cannot be used; it can only "
                       "be removed",
                       bm->name);
    }
    return 0;
}

static int change(struct qcow2 *s, struct qcow2_bitmap *m, enum bitmap_op op, struct err *err)
{
    if (op == BITMAP_REMOVE) {
        return drop(s, m, err);
    }
    int ret = usable(&m->bm, err);
    if (ret < 0) {
        return ret;
    }
    if (op == BITMAP_CLEAR) {
        memset(m->bm.bits, 0, (qcow2_bitmap_bytes(m->bm.size, m->bm.granularity) / 8 + 1) * 8);
        m->changed = true;
    } else {
        m->bm.enabled = op == BITMAP_ENABLE;
    }
    ret = qcow2_bitmaps_write(s, s->bitmaps_in_use, NULL);
    return ret < 0 ? failed(s, ret, m->bm.name, err) : 0;
}

static int may_change(struct qcow2 *s, struct err *err)
{
    if (block_readonly(s->b) || s->viewing || s->is_corrupt) {
        return err_set(err, EACCES, "%s: changing dirty bitmaps needs an image that can be written",
                       block_filename(s->b));
    }
    return 0;
}

static struct qcow2_bitmap *find_or_say(struct qcow2 *s, const char *name, struct err *err)
{
    struct qcow2_bitmap *m = find(s, name);
    if (!m) {
        err_set(err, ENOENT, "Dirty bitmap '%s' not found", name);
    }
    return m;
}

int qcow2_bitmap_change(struct block *b, enum bitmap_op op, const char *name, uint32_t granularity,
                        bool disabled, struct err *err)
{
    struct qcow2 *s = b->state;
    int ret = may_change(s, err);
    if (ret < 0) {
        return ret;
    }
    co_lock(&s->lock);
    if (op == BITMAP_ADD) {
        ret = add(s, name, granularity, disabled, err);
    } else {
        struct qcow2_bitmap *m = find_or_say(s, name, err);
        ret = m ? change(s, m, op, err) : -ENOENT;
    }
    co_unlock(&s->lock);
    return ret;
}

static void merge_bits(struct block_bitmap *to, const struct block_bitmap *from)
{
    uint64_t bits = qcow2_bitmap_bits(from->size, from->granularity);
    for (uint64_t i = 0; i < bits;) {
        uint64_t word = from->bits[i / 64] >> (i % 64);
        if (!word) {
            i = (i / 64 + 1) * 64;
        } else if (!(word & 1)) {
            i += (uint64_t)__builtin_ctzll(word);
        } else {
            set_range(to, i * from->granularity, from->granularity);
            i++;
        }
    }
}

int qcow2_bitmap_merge(struct block *b, const char *name, const struct block_bitmap *from,
                       struct err *err)
{
    struct qcow2 *s = b->state;
    struct qcow2_bitmap *m = find_or_say(s, name, err);
    int ret = m ? may_change(s, err) : -ENOENT;
    ret = ret < 0 ? ret : usable(&m->bm, err);
    ret = ret < 0 ? ret : usable(from, err);
    if (ret < 0) {
        return ret;
    }
    if (m->bm.size != from->size) {
        return err_set(err, EINVAL,
                       "Bitmaps are of different sizes (destination size is %llu, source size is "
                       "%llu) and can't be merged",
                       (unsigned long long)m->bm.size, (unsigned long long)from->size);
    }
    co_lock(&s->lock);
    merge_bits(&m->bm, from);
    m->changed = true;
    ret = qcow2_bitmaps_write(s, s->bitmaps_in_use, NULL);
    co_unlock(&s->lock);
    return ret < 0 ? failed(s, ret, name, err) : 0;
}

/* ---- For info ---- */

struct json_t *qcow2_bitmaps_info(struct qcow2 *s)
{
    if (!s->bitmaps) {
        return NULL;
    }
    json_t *list = json_array();
    for (struct qcow2_bitmap *m = qcow2_bitmap_first(s); m; m = qcow2_bitmap_next(m)) {
        json_t *flags = json_array();
        if (s->bitmaps_in_use || (m->flags & BITMAP_IN_USE)) {
            json_array_append_new(flags, json_string("in-use"));
        }
        if (m->bm.enabled) {
            json_array_append_new(flags, json_string("auto"));
        }
        json_t *name = json_string(m->bm.name);
        json_array_append_new(list, json_pack("{s:o,s:o,s:I}", "flags", flags, "name",
                                              name ? name : json_string("(not UTF-8)"),
                                              "granularity", (json_int_t)m->bm.granularity));
    }
    return list;
}
