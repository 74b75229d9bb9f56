/*
 * The table of internal snapshots: reading with all its bounds, and writing. Specification: "Qcow2
 * Image File Format", section "Snapshots". Extra data that we do not know is kept as it is. What
 * the snapshots refer to is not looked at here.
 */
#include "block/qcow2/tree.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"

enum {
    ENTRY_BYTES = 40,
    EXTRA_V3 = 16,    /* VM state size and disk size: version 3 must have them */
    EXTRA_KNOWN = 24, /* and the count of instructions */
    MAX_EXTRA = 1024, /* no published field comes near */
};

void qcow2_snap_free(struct qcow2_snap *snap)
{
    free(snap->s.id);
    free(snap->s.name);
    free(snap->extra);
}

void qcow2_free_snapshots(struct qcow2 *s)
{
    for (uint32_t i = 0; s->snaps && i < s->snap_count; i++) {
        qcow2_snap_free(&s->snaps[i]);
    }
    free(s->snaps);
    s->snaps = NULL;
    s->snap_count = 0;
}

static uint64_t entry_bytes(const struct qcow2_snap *n)
{
    return round_up(ENTRY_BYTES + EXTRA_KNOWN + (uint64_t)n->extra_len + strlen(n->s.id) +
                        strlen(n->s.name),
                    8);
}

uint64_t qcow2_snapshot_table_bytes(const struct qcow2_snap *snaps, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += entry_bytes(&snaps[i]);
    }
    return sum;
}

/* ---- Reading ---- */

struct table_reader {
    struct qcow2 *s;
    uint64_t off, start; /* the next byte, the first one */
    bool for_check;
};

static int reader_take(struct table_reader *r, void *buf, uint64_t len)
{
    if (r->off - r->start + len > QCOW2_MAX_SNAPSHOT_BYTES) {
        return -EFBIG;
    }
    int ret = qcow2_file_read(r->s, r->off, buf, len);
    r->off += len;
    return ret;
}

static int read_text(struct table_reader *r, unsigned len, char **out)
{
    *out = alloc_zero(len + 1u);
    return len ? reader_take(r, *out, len) : 0;
}

static int read_extra(struct table_reader *r, struct qcow2_snap *n, uint32_t len)
{
    uint8_t known[EXTRA_KNOWN];
    n->s.disk_size = r->s->b->size;
    n->s.icount = UINT64_MAX;
    bool v3_short = r->s->version >= 3 && len < EXTRA_V3;
    if (len > MAX_EXTRA || (v3_short && !r->for_check)) {
        return -EINVAL;
    }
    r->s->snapshots_bad = r->s->snapshots_bad || v3_short;
    uint32_t part = len < EXTRA_KNOWN ? len : EXTRA_KNOWN;
    int ret = part ? reader_take(r, known, part) : 0;
    if (ret < 0) {
        return ret;
    }
    n->s.vm_state_size = part >= 8 ? load_be64(known) : n->s.vm_state_size;
    n->s.disk_size = part >= 16 ? load_be64(known + 8) : n->s.disk_size;
    n->s.icount = part >= 24 ? load_be64(known + 16) : n->s.icount;
    if (len > part) {
        n->extra_len = len - part;
        n->extra = alloc_zero(n->extra_len);
        return reader_take(r, n->extra, n->extra_len);
    }
    return 0;
}

static bool snap_sane(const struct qcow2 *s, const struct qcow2_snap *n)
{
    return qcow2_aligned(s, n->l1_off) && n->l1_off <= BLOCK_MAX_SIZE &&
           (uint64_t)n->l1_size * sizeof(uint64_t) <= QCOW2_MAX_L1_BYTES &&
           n->s.disk_size <= BLOCK_MAX_SIZE && n->s.vm_state_size <= BLOCK_MAX_SIZE;
}

static int read_entry(struct table_reader *r, struct qcow2_snap *n)
{
    uint8_t h[ENTRY_BYTES];
    r->off = r->start + round_up(r->off - r->start, 8);
    bool behind = r->for_check && r->off >= block_size(r->s->b->file);
    int ret = behind ? -EINVAL : reader_take(r, h, sizeof(h));
    if (ret < 0) {
        return ret;
    }
    n->l1_off = load_be64(h);
    n->l1_size = load_be32(h + 8);
    n->s.date_sec = load_be32(h + 16);
    n->s.date_nsec = load_be32(h + 20);
    n->s.vm_clock_nsec = load_be64(h + 24);
    n->s.vm_state_size = load_be32(h + 32);
    ret = read_extra(r, n, load_be32(h + 36));
    if (ret == 0) {
        ret = read_text(r, load_be16(h + 12), &n->s.id);
    }
    if (ret == 0) {
        ret = read_text(r, load_be16(h + 14), &n->s.name);
    }
    if (ret == 0 && !r->for_check && !snap_sane(r->s, n)) {
        ret = -EINVAL;
    }
    return ret;
}

int qcow2_read_snapshots(struct qcow2 *s, bool for_check, struct err *err)
{
    uint32_t count = s->snap_count;
    struct table_reader r = {s, s->snapshots_off, s->snapshots_off, for_check};
    s->snap_count = 0;
    s->snaps = NULL;
    if (count == 0) {
        return 0;
    }
    if (count > QCOW2_MAX_SNAPSHOTS || !qcow2_aligned(s, r.start) || r.start == 0 ||
        r.start > BLOCK_MAX_SIZE - QCOW2_MAX_SNAPSHOT_BYTES) {
        s->snapshots_bad = for_check;
        return for_check ? 0
                         : err_set(err, EINVAL,
                                   "%s: the snapshot table (%u entries at %#llx) cannot be right",
                                   block_filename(s->b), count, (unsigned long long)r.start);
    }
    s->snaps = calloc(count, sizeof(*s->snaps));
    if (!s->snaps) {
        return err_set(err, ENOMEM, "%s: no memory for %u snapshots", block_filename(s->b), count);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t end = r.off;
        int ret = read_entry(&r, &s->snaps[i]);
        s->snap_count = i + 1;
        if (ret < 0 && for_check) {
            qcow2_snap_free(&s->snaps[i]);
            s->snap_count = i;
            s->snapshots_bad = true;
            r.off = end;
            break;
        }
        if (ret < 0) {
            qcow2_free_snapshots(s);
            return err_set(err, -ret,
                           "%s: entry %u of the snapshot table cannot be used; 'check -r all' may "
                           "repair it",
                           block_filename(s->b), i);
        }
    }
    s->snapshot_bytes = r.off - r.start;
    return 0;
}

/* ---- Writing ---- */

static size_t put_entry(const struct qcow2_snap *n, uint8_t *at)
{
    size_t id = strlen(n->s.id), name = strlen(n->s.name);
    uint8_t *p = at + ENTRY_BYTES;
    bool large = n->s.vm_state_size > UINT32_MAX;
    store_be64(at, n->l1_off);
    store_be32(at + 8, n->l1_size);
    store_be16(at + 12, (uint16_t)id);
    store_be16(at + 14, (uint16_t)name);
    store_be32(at + 16, n->s.date_sec);
    store_be32(at + 20, n->s.date_nsec);
    store_be64(at + 24, n->s.vm_clock_nsec);
    store_be32(at + 32, large ? 0 : (uint32_t)n->s.vm_state_size);
    store_be32(at + 36, EXTRA_KNOWN + n->extra_len);
    store_be64(p, n->s.vm_state_size);
    store_be64(p + 8, n->s.disk_size);
    store_be64(p + 16, n->s.icount);
    p += EXTRA_KNOWN;
    if (n->extra_len) {
        memcpy(p, n->extra, n->extra_len);
    }
    memcpy(p + n->extra_len, n->s.id, id);
    memcpy(p + n->extra_len + id, n->s.name, name);
    return entry_bytes(n);
}

static int store_table(struct qcow2 *s, const struct qcow2_snap *snaps, uint32_t count,
                       uint64_t *off, uint64_t *bytes)
{
    *off = 0;
    *bytes = qcow2_snapshot_table_bytes(snaps, count);
    if (*bytes > QCOW2_MAX_SNAPSHOT_BYTES) {
        return -EFBIG;
    }
    if (count == 0) {
        return 0;
    }
    uint8_t *buf = calloc(1, *bytes);
    if (!buf) {
        return -ENOMEM;
    }
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        at += put_entry(&snaps[i], buf + at);
    }
    int ret = qcow2_store_bytes(s, buf, *bytes, off);
    free(buf);
    return ret;
}

int qcow2_write_snapshots(struct qcow2 *s, struct qcow2_snap *snaps, uint32_t count)
{
    uint64_t off, bytes;
    uint64_t old_off = s->snapshots_off, old_bytes = s->snapshot_bytes;
    uint32_t old_count = s->snap_count;
    int ret = store_table(s, snaps, count, &off, &bytes);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_barrier(s);
    ret = ret < 0 ? ret : block_flush(s->b->file); /* with lazy refcounts nobody has done that */
    if (ret == 0) {
        s->snapshots_off = off;
        s->snap_count = count;
        ret = qcow2_commit_header(s);
    }
    if (ret < 0) {
        s->snapshots_off = old_off;
        s->snap_count = old_count;
        /* Not freed, as this may fail, too: then nobody knows which table the header has. */
        qcow2_settle_header(s);
        return ret;
    }
    s->snaps = snaps;
    s->snapshot_bytes = bytes;
    if (old_count) {
        qcow2_free(s, old_off, old_bytes);
    }
    return 0;
}
