/*
 * Images that contradict themselves: what is found while running is marked in the image (spec,
 * incompatible feature "corrupt") and ends all writing. And the check that keeps guest data from
 * being written over metadata. It knows the header, the active tables and the directories; L1 and
 * L2 tables that only snapshots use are left to `check`.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "block/qcow2/internal.h"

int qcow2_corrupt(struct qcow2 *s, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (s->is_corrupt) {
        return -EIO;
    }
    s->is_corrupt = true;
    log_put(LOG_ALWAYS, "qcow2: '%s' is corrupt: %s\n", s->b->filename, text);
    if (s->version >= 3 && s->b->flags & BLOCK_RDWR && !(s->incompatible & QCOW2_CORRUPT)) {
        s->incompatible |= QCOW2_CORRUPT;
        qcow2_commit_header(s);
    }
    return -EIO;
}

/* ---- Clusters of L2 tables and refcount blocks: open addressing, no tombstones ---- */

struct cluster_set {
    uint64_t *at; /* 0: empty */
    uint64_t mask, count;
};

static uint64_t set_home(const struct cluster_set *m, uint64_t off)
{
    return (off * 0x9e3779b97f4a7c15ULL >> 20) & m->mask;
}

static uint64_t set_find(const struct cluster_set *m, uint64_t off)
{
    uint64_t i = set_home(m, off);
    while (m->at[i] && m->at[i] != off) {
        i = (i + 1) & m->mask;
    }
    return i;
}

static bool set_grow(struct cluster_set *m)
{
    struct cluster_set n = {.mask = m->mask * 2 + 1, .count = m->count};
    n.at = calloc(n.mask + 1, 8);
    if (!n.at) {
        return false;
    }
    for (uint64_t i = 0; i <= m->mask; i++) {
        if (m->at[i]) {
            n.at[set_find(&n, m->at[i])] = m->at[i];
        }
    }
    free(m->at);
    *m = n;
    return true;
}

void qcow2_meta_add(struct qcow2 *s, uint64_t off)
{
    struct cluster_set *m = s->meta;
    if (!m || !off || (m->count * 2 > m->mask && !set_grow(m))) {
        return; /* without memory there is a check less */
    }
    uint64_t i = set_find(m, off);
    m->count += !m->at[i];
    m->at[i] = off;
}

void qcow2_meta_remove(struct qcow2 *s, uint64_t off)
{
    struct cluster_set *m = s->meta;
    uint64_t i = m ? set_find(m, off) : 0;
    if (!m || !m->at[i]) {
        return;
    }
    m->count--;
    m->at[i] = 0;
    /* Those behind it that were pushed past it move up. */
    for (uint64_t k = (i + 1) & m->mask; m->at[k]; k = (k + 1) & m->mask) {
        uint64_t v = m->at[k];
        m->at[k] = 0;
        m->at[set_find(m, v)] = v;
    }
}

int qcow2_meta_init(struct qcow2 *s)
{
    struct cluster_set *m = s->meta = alloc_zero(sizeof(*m));
    m->mask = 1023;
    m->at = calloc(m->mask + 1, 8);
    if (!m->at) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < s->reftable_size; i++) {
        qcow2_meta_add(s, s->reftable[i]);
    }
    for (uint32_t i = 0; i < s->l1_size; i++) {
        qcow2_meta_add(s, s->l1[i] & QCOW2_OFFSET_MASK);
    }
    return 0;
}

void qcow2_meta_free(struct qcow2 *s)
{
    if (s->meta) {
        free(s->meta->at);
        free(s->meta);
        s->meta = NULL;
    }
}

/* The set is only a hint: tables may have been given up since. */
static bool meta_is_used(const struct qcow2 *s, uint64_t off)
{
    for (uint64_t i = 0; i < s->reftable_size; i++) {
        if (s->reftable[i] == off) {
            return true;
        }
    }
    for (uint32_t i = 0; i < s->l1_size; i++) {
        if ((s->l1[i] & QCOW2_OFFSET_MASK) == off) {
            return true;
        }
    }
    return false;
}

static bool ranges_meet(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return a_len && b_len && a < b + b_len && b < a + a_len;
}

bool qcow2_overlaps_meta(struct qcow2 *s, uint64_t off, uint64_t len)
{
    uint64_t cluster = s->cluster_size;
    if (off < cluster || ranges_meet(off, len, s->l1_off, (uint64_t)s->l1_size * 8) ||
        ranges_meet(off, len, s->reftable_off, (uint64_t)s->reftable_clusters * cluster) ||
        ranges_meet(off, len, s->snapshots_off, s->snap_count ? cluster : 0) ||
        ranges_meet(off, len, s->bitmaps_dir_off, s->bitmaps_count ? cluster : 0) ||
        ranges_meet(off, len, s->crypt_off, s->crypt_len)) {
        return true;
    }
    if (!s->meta) {
        return false;
    }
    for (uint64_t at = off & ~(cluster - 1); at < off + len; at += cluster) {
        if (s->meta->at[set_find(s->meta, at)]) {
            if (meta_is_used(s, at)) {
                return true;
            }
            qcow2_meta_remove(s, at);
        }
    }
    return false;
}
