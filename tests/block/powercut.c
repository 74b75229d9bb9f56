/*
 * Power cuts. A random workload runs on an image whose writes are logged; then the log is cut,
 * again and again, between any two writes: what a flush covers is there, of everything after it a
 * random part, torn at sectors. The image must open, check must find nothing wrong (unused clusters
 * are allowed: they are what an interruption costs), and every sector must hold what it held at the
 * last flush or something written since.
 *
 *   powercut SEED WORKLOADS CUTS       CUTS of each workload
 *
 * Options of the image follow from the seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/keyval.h"
#include "block/block.h"
#include "block/filter/log_writes.h"
#include "loop/co.h"
#include "loop/loop.h"

enum { WORKERS = 4, MAX_SECTORS = 16384, OPS = 300, SECTOR = 512 };
#define NEVER UINT64_MAX

/* ---- Random numbers ---- */

static uint64_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static uint64_t below(uint64_t *s, uint64_t n)
{
    return rnd(s) % n;
}

/* ---- What each sector has held ---- */

struct version {
    uint64_t id;           /* what its bytes say; 0: zeros */
    uint64_t start;        /* entries in the log when it was begun */
    uint64_t done, stable; /* number of the operation's end; entries when a flush had covered it */
};

struct sector {
    struct version *v;
    unsigned n;
};

struct snapshot {
    char name[16];
    uint64_t *ids;
};

struct work {
    struct loop *loop;
    struct block_graph *graph;
    struct block *b, *log;
    uint64_t seed, sectors, cluster, next_id, ended;
    struct sector sector[MAX_SECTORS];
    unsigned running, left;
    struct snapshot snap[8];
    unsigned snaps;
    uint64_t next_snap;
    bool lazy, failing, compress;
    uint64_t first; /* what every sector holds in the beginning */
    char image[96], log_name[96], below[96];
};

static void die(struct work *w, const char *what)
{
    fprintf(stderr, "powercut: seed %llu (cluster %llu%s%s%s%s): %s\n", (unsigned long long)w->seed,
            (unsigned long long)w->cluster, w->lazy ? ", lazy" : "", w->first ? ", backing" : "",
            w->failing ? ", writes fail" : "", w->compress ? ", compressed" : "", what);
    exit(1);
}

static struct version *version_add(struct work *w, uint64_t sector, uint64_t id)
{
    struct sector *s = &w->sector[sector];
    s->v = alloc_resize(s->v, s->n + 1, sizeof(*s->v));
    s->v[s->n] = (struct version){id, block_log_entries(w->log), NEVER, NEVER};
    return &s->v[s->n++];
}

static uint64_t version_now(struct work *w, uint64_t sector)
{
    struct sector *s = &w->sector[sector];
    return s->n ? s->v[s->n - 1].id : w->first;
}

static void range_begin(struct work *w, uint64_t from, uint64_t n, uint64_t id)
{
    for (uint64_t i = from; i < from + n; i++) {
        version_add(w, i, id);
    }
}

static void range_end(struct work *w, uint64_t from, uint64_t n)
{
    for (uint64_t i = from; i < from + n; i++) {
        w->sector[i].v[w->sector[i].n - 1].done = w->ended;
    }
    w->ended++;
}

/* A request that failed never ends: its sectors have the old contents or the new ones until they
 * are written again. True if it did not fail. */
static bool went_well(struct work *w, int ret, const char *what)
{
    if (ret && !w->failing) {
        die(w, what);
    }
    return !ret;
}

/* Everything that had ended before the flush began. */
static void flushed(struct work *w, uint64_t covers)
{
    for (uint64_t i = 0; i < w->sectors; i++) {
        struct sector *s = &w->sector[i];
        for (unsigned k = 0; k < s->n; k++) {
            if (s->v[k].done < covers && s->v[k].stable == NEVER) {
                s->v[k].stable = block_log_entries(w->log);
            }
        }
    }
}

/* ---- The workload ---- */

static void fill(uint8_t *buf, uint64_t sectors, uint64_t id)
{
    for (uint64_t i = 0; i < sectors * SECTOR; i += 8) {
        store_le64(buf + i, id);
    }
}

static void do_write(struct work *w, uint64_t from, uint64_t n, unsigned flags)
{
    AUTO_FREE uint8_t *buf = malloc(n * SECTOR);
    uint64_t id = w->next_id++;
    fill(buf, n, id);
    range_begin(w, from, n, id);
    if (went_well(w, block_pwrite(w->b, from * SECTOR, buf, n * SECTOR, flags), "a write failed")) {
        range_end(w, from, n);
    }
}

static void do_zero(struct work *w, uint64_t from, uint64_t n, unsigned flags)
{
    range_begin(w, from, n, 0);
    if (went_well(w, block_zero(w->b, from * SECTOR, n * SECTOR, flags), "a zero request failed")) {
        range_end(w, from, n);
    }
}

/* One of the things that the sector may have held before its last version. */
static bool held_before(const struct work *w, const struct sector *s, uint64_t id)
{
    bool any = id == w->first; /* a discard may show what lies below */
    for (unsigned k = w->failing || s->n < 5 ? 0 : s->n - 5; k + 1 < s->n; k++) {
        any |= s->v[k].id == id;
    }
    return any;
}

static void discard_seen(struct work *w, uint64_t sector, uint64_t id)
{
    struct sector *s = &w->sector[sector];
    if (!id) {
        return;
    }
    if (!held_before(w, s, id)) {
        die(w, "a discard changed data into something else");
    }
    uint64_t start = s->v[s->n - 1].start;
    version_add(w, sector, id)->start = start;
}

/* A discard is a hint: before or after it, the old contents, zeros, or what lies below. */
static void do_discard(struct work *w, uint64_t from, uint64_t n)
{
    AUTO_FREE uint8_t *buf = malloc(n * SECTOR);
    range_begin(w, from, n, 0);
    if (w->first) {
        range_begin(w, from, n, w->first);
        range_begin(w, from, n, 0);
    }
    if (!went_well(w, block_discard(w->b, from * SECTOR, n * SECTOR), "a discard failed") ||
        !went_well(w, block_pread(w->b, from * SECTOR, buf, n * SECTOR), "a read failed")) {
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        discard_seen(w, from + i, load_le64(buf + i * SECTOR));
    }
    range_end(w, from, n);
    for (uint64_t i = 0; i < n; i++) { /* the versions before the last ended with it */
        struct sector *s = &w->sector[from + i];
        for (unsigned k = s->n < 4 ? 0 : s->n - 4; k + 1 < s->n && !w->failing; k++) {
            s->v[k].done = s->v[k].done == NEVER ? w->ended - 1 : s->v[k].done;
        }
    }
}

static void do_flush(struct work *w)
{
    uint64_t covers = w->ended;
    if (went_well(w, block_flush(w->b), "a flush failed")) {
        flushed(w, covers);
    }
}

/* A whole cluster, if it is this worker's alone. */
static void do_compressed(struct work *w, uint64_t base, uint64_t each, uint64_t from)
{
    uint64_t n = w->cluster / SECTOR, at = round_up(base + from, n);
    if (w->compress && at + n <= base + each) {
        do_write(w, at, n, BLOCK_COMPRESSED);
    }
}

static void worker(void *opaque)
{
    struct work *w = opaque;
    unsigned me = w->running++;
    uint64_t each = w->sectors / WORKERS, base = me * each, s = w->seed * 77 + me * 1001 + 1;
    uint64_t most = 3 * w->cluster / SECTOR;
    while (w->left) {
        w->left--;
        uint64_t n = 1 + below(&s, below(&s, 4) ? most : 4), from = below(&s, each - 1);
        n = n < each - from ? n : each - from;
        if (!below(&s, 3)) { /* whole clusters */
            from = round_down(from, w->cluster / SECTOR);
            n = round_up(n, w->cluster / SECTOR);
            n = n < each - from ? n : each - from;
        }
        switch (below(&s, 13)) {
        case 0: do_zero(w, base + from, n, BLOCK_MAY_UNMAP); break;
        case 1: do_zero(w, base + from, n, 0); break;
        case 2: do_discard(w, base + from, n); break;
        case 3:
        case 4: do_flush(w); break;
        case 5: do_compressed(w, base, each, from); break;
        default: do_write(w, base + from, n, 0);
        }
    }
    w->running--;
}

static void run_workers(struct work *w, unsigned ops)
{
    w->left = ops;
    w->running = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        co_start(w->loop, worker, w);
    }
    while (w->running) {
        loop_step(w->loop, true);
    }
}

/* What every sector holds; what it ought to hold is not known after failures. */
static uint64_t *read_ids(struct work *w)
{
    uint64_t *ids = alloc_array(w->sectors, sizeof(*ids));
    AUTO_FREE uint8_t *buf = malloc(w->sectors * SECTOR);
    if (block_pread(w->b, 0, buf, w->sectors * SECTOR)) {
        die(w, "reading failed");
    }
    for (uint64_t i = 0; i < w->sectors; i++) {
        ids[i] = load_le64(buf + i * SECTOR);
        if (!w->failing && ids[i] != version_now(w, i)) {
            die(w, "a sector does not hold what was written last");
        }
    }
    return ids;
}

static void snapshot_create(struct work *w)
{
    struct err err;
    struct snapshot *s = &w->snap[w->snaps++];
    snprintf(s->name, sizeof(s->name), "s%llu", (unsigned long long)w->next_snap++);
    struct block_snapshot bs = {
        .name = s->name, .icount = UINT64_MAX, .disk_size = w->sectors * SECTOR};
    s->ids = read_ids(w);
    int ret = block_snapshot_create(w->b, &bs, &err);
    if (ret == -ERANGE || (ret && w->failing)) { /* narrow refcounts */
        free(s->ids);
        w->snaps--;
    } else if (ret) {
        die(w, err.text);
    }
}

static void snapshot_delete(struct work *w, unsigned i)
{
    struct err err;
    went_well(w, block_snapshot_delete(w->b, w->snap[i].name, &err), err.text);
    free(w->snap[i].ids);
    w->snap[i] = w->snap[--w->snaps];
}

static void snapshot_apply(struct work *w, unsigned i)
{
    struct err err;
    for (uint64_t k = 0; k < w->sectors; k++) {
        version_add(w, k, w->snap[i].ids[k]);
    }
    int ret = block_snapshot_apply(w->b, w->snap[i].name, &err);
    for (uint64_t k = 0; k < w->sectors && ret == -ERANGE; k++) { /* narrow refcounts */
        w->sector[k].n--;
    }
    if (ret != -ERANGE && went_well(w, ret, err.text)) {
        range_end(w, 0, w->sectors);
    }
}

/* Larger and back again, so that nothing of the guest changes. */
static void grow_and_shrink(struct work *w, uint64_t *s)
{
    struct err err;
    uint64_t size = w->sectors * SECTOR, more = (1 + below(s, 40)) * 8 * SECTOR << below(s, 8);
    int ret = block_truncate(w->b, size + more, PREALLOC_OFF, &err);
    if (!ret) {
        ret = block_truncate(w->b, size, PREALLOC_OFF, &err);
    }
    if (ret != -ENOTSUP) { /* version 2 with snapshots */
        went_well(w, ret, err.text);
    }
}

static void bitmap_change(struct work *w, uint64_t *s)
{
    static const enum bitmap_op ops[] = {BITMAP_ADD,    BITMAP_ADD,     BITMAP_CLEAR,
                                         BITMAP_REMOVE, BITMAP_DISABLE, BITMAP_ENABLE};
    char name[8] = {'b', (char)('0' + below(s, 4))};
    struct err err;
    /* May not be there, or be there already. */
    block_bitmap_change(w->b, ops[below(s, ARRAY_LEN(ops))], name, 4096, false, &err);
}

static void between(struct work *w, uint64_t *s)
{
    switch (below(s, 8)) {
    case 0:
        if (w->snaps < ARRAY_LEN(w->snap)) {
            snapshot_create(w);
        }
        break;
    case 1:
        if (w->snaps) {
            snapshot_delete(w, (unsigned)below(s, w->snaps));
        }
        break;
    case 2:
        if (w->snaps && !block_bitmaps(w->b)) { /* which prevent it */
            snapshot_apply(w, (unsigned)below(s, w->snaps));
        }
        break;
    case 3:
    case 4: grow_and_shrink(w, s); break;
    case 5:
    case 6: bitmap_change(w, s); break;
    default: break;
    }
}

/* ---- Opening ---- */

static void add(struct keyval *kv, const char *key, const char *val)
{
    keyval_add(kv, key, val);
}

/* Under some images lies one that says the same everywhere. */
static void create_below(struct work *w, struct keyval *o)
{
    size_t bytes = w->sectors * SECTOR;
    AUTO_FREE uint8_t *buf = malloc(bytes);
    w->first = w->next_id++;
    fill(buf, w->sectors, w->first);
    int fd = open(w->below, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd < 0 || write(fd, buf, bytes) != (ssize_t)bytes) {
        die(w, "the backing file cannot be written");
    }
    close(fd);
    add(o, "backing_file", w->below);
    add(o, "backing_fmt", "raw");
}

static void create(struct work *w)
{
    static const char *const clusters[] = {"512", "4096", "16384", "65536"}, *const widths[] = {
                                                                                 "1",  "2",  "8",
                                                                                 "16", "32", "64"};
    uint64_t s = w->seed * 31 + 7;
    struct keyval o = {0};
    struct err err;
    const char *cluster = clusters[below(&s, 4)], *width = widths[below(&s, 6)];
    bool v3 = below(&s, 8), ext = v3 && below(&s, 4) == 0 && atoi(cluster) >= 16384;
    w->cluster = (uint64_t)atoi(cluster);
    w->lazy = v3 && below(&s, 4) == 0;
    w->sectors = round_up(2048 + below(&s, 4096), 8);
    AUTO_FREE char *size = alloc_printf("%llu", (unsigned long long)w->sectors * SECTOR);
    add(&o, "size", size);
    add(&o, "cluster_size", cluster);
    add(&o, "compat", v3 ? "1.1" : "0.10");
    if (v3) {
        add(&o, "refcount_bits", width);
        add(&o, "lazy_refcounts", w->lazy ? "on" : "off");
        add(&o, "extended_l2", ext ? "on" : "off");
    }
    if (below(&s, 4) == 0) {
        create_below(w, &o);
    }
    w->compress = below(&s, 2);
    w->failing = below(&s, 4) == 0;
    if (block_create(w->graph, "qcow2", w->image, &o, &err)) {
        die(w, err.text);
    }
    keyval_free(&o);
}

/* Some writes, and few of anything else, fail once; with every second seed as many flushes do. */
static void add_faults(struct work *w, struct keyval *o)
{
    static const char *const kinds[] = {"write", "write", "write-zeroes", "discard", "flush"};
    uint64_t s = w->seed * 53 + 11, after = 0, synced = 0;
    for (unsigned i = 0; i < 16 + (w->seed % 2 ? 0 : 12); i++) {
        const char *kind = kinds[i < 12 ? 0 : i < 16 ? below(&s, ARRAY_LEN(kinds)) : 4];
        synced += i < 16 ? 0 : below(&s, 30);
        after = i < 12 ? after + below(&s, 150) : i < 16 ? below(&s, 150) : synced;
        AUTO_FREE char *type = alloc_printf("file.inject-error.%u.iotype", i);
        AUTO_FREE char *once = alloc_printf("file.inject-error.%u.once", i);
        AUTO_FREE char *later = alloc_printf("file.inject-error.%u.after", i);
        AUTO_FREE char *count = alloc_printf("%llu", (unsigned long long)after);
        add(o, type, kind);
        add(o, once, "on");
        add(o, later, count);
    }
}

static void open_logged(struct work *w)
{
    struct keyval o = {0};
    struct err err;
    close(open(w->log_name, O_CREAT | O_TRUNC | O_WRONLY, 0600));
    add(&o, "driver", "qcow2");
    if (w->failing) {
        add(&o, "file.driver", "blkdebug");
        add_faults(w, &o);
        add(&o, "file.image.driver", "blklogwrites");
        add(&o, "file.image.file.filename", w->image);
        add(&o, "file.image.log.filename", w->log_name);
    } else {
        add(&o, "file.driver", "blklogwrites");
        add(&o, "file.file.filename", w->image);
        add(&o, "file.log.filename", w->log_name);
    }
    w->b = block_open(w->graph, &o, BLOCK_RDWR | BLOCK_UNMAP, &err);
    keyval_free(&o);
    if (!w->b) {
        die(w, err.text);
    }
    w->log = w->failing ? block_file(block_file(w->b)) : block_file(w->b);
}

/* ---- The log ---- */

struct entry {
    uint64_t off, len, flags;
    const uint8_t *data;
    bool durable; /* by a flush before the cut */
};

struct log {
    const uint8_t *map;
    size_t bytes;
    struct entry *e;
    uint64_t n;
};

static void log_load(struct work *w, struct log *l, uint64_t entries)
{
    int fd = open(w->log_name, O_RDONLY);
    off_t size = lseek(fd, 0, SEEK_END);
    l->bytes = (size_t)size;
    l->map = mmap(NULL, l->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (l->map == MAP_FAILED || load_le64(l->map) != LOG_MAGIC) {
        die(w, "the log cannot be read");
    }
    l->e = alloc_array(entries + 1, sizeof(*l->e));
    size_t at = SECTOR;
    for (l->n = 0; l->n < entries; l->n++) {
        const uint8_t *h = l->map + at;
        uint64_t data = load_le64(h + 24);
        l->e[l->n] = (struct entry){load_le64(h) * SECTOR, load_le64(h + 8) * SECTOR,
                                    load_le64(h + 16), h + SECTOR, false};
        l->e[l->n].len = l->e[l->n].flags & LOG_MARK ? data : l->e[l->n].len;
        at += SECTOR + round_up(data, SECTOR);
    }
}

/* What flushes before the cut cover; returns the number of entries up to which that is all. */
static uint64_t mark_durable(struct log *l, uint64_t cut)
{
    for (uint64_t i = 0; i < cut; i++) {
        l->e[i].durable = false;
    }
    for (uint64_t i = 0; i < cut; i++) {
        const struct entry *m = &l->e[i];
        if (!(m->flags & LOG_MARK) || i + 1 >= cut || !(l->e[i + 1].flags & LOG_FLUSH)) {
            continue;
        }
        uint64_t covers = load_le64(m->data);
        for (uint64_t k = 0; k < covers; k++) {
            bool flying = false;
            for (uint64_t f = 1; f < m->len / 8; f++) {
                flying |= load_le64(m->data + 8 * f) == k;
            }
            l->e[k].durable |= !flying;
        }
    }
    uint64_t all = 0;
    while (all < cut && l->e[all].durable) {
        all++;
    }
    return all;
}

static void apply(uint8_t *disk, size_t room, const struct entry *e, uint64_t sector)
{
    uint64_t at = e->off + sector * SECTOR;
    if (e->flags & (LOG_FLUSH | LOG_MARK) || at + SECTOR > room) {
        return;
    }
    if (e->flags & LOG_DISCARD) {
        memset(disk + at, 0, SECTOR);
    } else {
        memcpy(disk + at, e->data + sector * SECTOR, SECTOR);
    }
}

static void apply_all(uint8_t *disk, size_t room, const struct entry *e)
{
    for (uint64_t k = 0; !(e->flags & (LOG_FLUSH | LOG_MARK)) && k < e->len / SECTOR; k++) {
        apply(disk, room, e, k);
    }
}

/* Whole, not at all, or torn. */
static void apply_some(uint8_t *disk, size_t room, const struct entry *e, uint64_t *s)
{
    unsigned how = (unsigned)below(s, 3);
    for (uint64_t k = 0; !(e->flags & (LOG_FLUSH | LOG_MARK)) && how && k < e->len / SECTOR; k++) {
        if (how == 1 || below(s, 2)) {
            apply(disk, room, e, k);
        }
    }
}

/* ---- Cutting ---- */

struct cutter {
    struct work *w;
    struct log log;
    uint8_t *base, *disk; /* all durable up to `based`; the image of this cut, shared with fd */
    size_t room;
    uint64_t based;
    int fd;
};

static void say(void *opaque, const char *text)
{
    fprintf(stderr, "  %s\n", text);
}

static bool sector_ok(const struct work *w, uint64_t sector, uint64_t cut, uint64_t id)
{
    const struct sector *s = &w->sector[sector];
    unsigned from = 0;
    bool any = false;
    for (unsigned k = 0; k < s->n; k++) {
        from = s->v[k].stable <= cut ? k : from;
        any |= s->v[k].stable <= cut;
    }
    if (!any && id == w->first) {
        return true; /* what it was at first */
    }
    for (unsigned k = from; k < s->n; k++) {
        if (s->v[k].start <= cut && s->v[k].id == id) {
            return true;
        }
    }
    return false;
}

static void print_log(struct cutter *c, uint64_t cut)
{
    for (uint64_t i = 0; i < cut; i++) {
        const struct entry *e = &c->log.e[i];
        fprintf(
            stderr, "  %4llu %s %8llx+%llx %s %llu\n", (unsigned long long)i,
            e->flags & LOG_FLUSH     ? "flush"
            : e->flags & LOG_MARK    ? "mark "
            : e->flags & LOG_DISCARD ? "zero "
                                     : "write",
            (unsigned long long)e->off, (unsigned long long)e->len, e->durable ? "durable" : "",
            (unsigned long long)(e->flags & (LOG_FLUSH | LOG_DISCARD) ? 0 : load_le64(e->data)));
    }
}

static void save_failed(struct cutter *c)
{
    FILE *f = fopen("powercut-failed.qcow2", "w");
    if (f) {
        fwrite(c->disk, 1, c->room, f);
        fclose(f);
    }
}

static void check_data(struct cutter *c, struct block *b, uint64_t cut)
{
    struct work *w = c->w;
    AUTO_FREE uint8_t *buf = malloc(w->sectors * SECTOR);
    if (block_pread(b, 0, buf, w->sectors * SECTOR)) {
        save_failed(c);
        die(w, "the image cannot be read after the cut");
    }
    for (uint64_t i = 0; i < w->sectors; i++) {
        uint64_t id = load_le64(buf + i * SECTOR);
        bool whole = true;
        for (unsigned k = 8; k < SECTOR; k += 8) {
            whole &= load_le64(buf + i * SECTOR + k) == id;
        }
        if (!whole || !sector_ok(w, i, cut, id)) {
            fprintf(stderr, "powercut: seed %llu: cut %llu: sector %llu holds %llu\n",
                    (unsigned long long)w->seed, (unsigned long long)cut, (unsigned long long)i,
                    (unsigned long long)id);
            for (unsigned k = 0; k < w->sector[i].n; k++) {
                struct version *v = &w->sector[i].v[k];
                fprintf(stderr, "  version %llu begun at %lld, stable at %lld\n",
                        (unsigned long long)v->id, (long long)v->start, (long long)v->stable);
            }
            save_failed(c);
            if (getenv("POWERCUT_LOG")) {
                print_log(c, cut);
            }
            die(w, "a sector has what it must not have");
        }
    }
}

static void check_cut(struct cutter *c, uint64_t cut)
{
    struct work *w = c->w;
    char path[48];
    struct err err;
    struct check_report r = {.say = NULL};
    snprintf(path, sizeof(path), "/proc/self/fd/%d", c->fd);
    struct block *b =
        block_open_name(w->graph, path, "qcow2", NULL, w->lazy ? BLOCK_RDWR : 0, &err);
    if (!b) {
        save_failed(c);
        die(w, err.text);
    }
    int ret = block_check(b, 0, &r, &err);
    if (ret || r.corruptions || r.check_errors) {
        fprintf(stderr, "powercut: seed %llu: cut %llu of %llu: check: %llu errors\n",
                (unsigned long long)w->seed, (unsigned long long)cut, (unsigned long long)c->log.n,
                (unsigned long long)r.corruptions);
        r = (struct check_report){.say = say};
        block_check(b, 0, &r, &err);
        save_failed(c);
        exit(1);
    }
    check_data(c, b, cut);
    block_close(b);
}

static void cut_at(struct cutter *c, uint64_t cut, uint64_t *s)
{
    uint64_t all = mark_durable(&c->log, cut);
    for (; c->based < all; c->based++) {
        apply_all(c->base, c->room, &c->log.e[c->based]);
    }
    memcpy(c->disk, c->base, c->room);
    for (uint64_t i = c->based; i < cut; i++) {
        if (c->log.e[i].durable) {
            apply_all(c->disk, c->room, &c->log.e[i]);
        } else {
            apply_some(c->disk, c->room, &c->log.e[i], s);
        }
    }
    check_cut(c, cut);
}

static void cut_all(struct work *w, const uint8_t *first, size_t first_bytes, uint64_t entries,
                    uint64_t cuts)
{
    struct cutter c = {.w = w};
    uint64_t s = w->seed * 13 + 5;
    log_load(w, &c.log, entries);
    c.room = first_bytes;
    for (uint64_t i = 0; i < c.log.n; i++) {
        const struct entry *e = &c.log.e[i];
        uint64_t end = e->flags & (LOG_FLUSH | LOG_MARK) ? 0 : e->off + e->len;
        c.room = end > c.room && !(e->flags & LOG_DISCARD) ? end : c.room;
    }
    c.fd = memfd_create("cut", MFD_CLOEXEC);
    if (c.fd < 0 || ftruncate(c.fd, (off_t)c.room)) {
        die(w, "no memory for the image");
    }
    c.disk = mmap(NULL, c.room, PROT_READ | PROT_WRITE, MAP_SHARED, c.fd, 0);
    c.base = calloc(1, c.room);
    memcpy(c.base, first, first_bytes);
    for (uint64_t i = 1; i <= cuts; i++) { /* ascending, so that the durable part only grows */
        uint64_t from = (i - 1) * c.log.n / cuts, to = i * c.log.n / cuts;
        cut_at(&c, from + below(&s, to - from + 1), &s);
    }
    munmap(c.disk, c.room);
    munmap((void *)c.log.map, c.log.bytes);
    close(c.fd);
    free(c.base);
    free(c.log.e);
}

/* ---- */

static uint8_t *slurp(struct work *w, size_t *bytes)
{
    int fd = open(w->image, O_RDONLY);
    off_t size = lseek(fd, 0, SEEK_END);
    uint8_t *at = malloc((size_t)size + 1);
    *bytes = (size_t)size;
    if (fd < 0 || pread(fd, at, *bytes, 0) != size) {
        die(w, "the image cannot be read");
    }
    close(fd);
    return at;
}

static void workload(struct loop *loop, struct block_graph *g, const char *dir, uint64_t seed,
                     uint64_t cuts)
{
    struct work *w = alloc_zero(sizeof(*w));
    uint64_t s = seed * 3 + 1;
    size_t bytes;
    *w = (struct work){.loop = loop, .graph = g, .seed = seed, .next_id = 1};
    snprintf(w->image, sizeof(w->image), "%s/image", dir);
    snprintf(w->log_name, sizeof(w->log_name), "%s/log", dir);
    snprintf(w->below, sizeof(w->below), "%s/below", dir);
    create(w);
    AUTO_FREE uint8_t *first = slurp(w, &bytes);
    open_logged(w);
    for (unsigned round = 0; round < 6; round++) {
        run_workers(w, OPS / 6);
        between(w, &s);
    }
    do_flush(w);
    uint64_t entries = block_log_entries(w->log);
    block_close(w->b);
    cut_all(w, first, bytes, entries, cuts);
    for (uint64_t i = 0; i < w->sectors; i++) {
        free(w->sector[i].v);
    }
    while (w->snaps) {
        free(w->snap[--w->snaps].ids);
    }
    unlink(w->image);
    unlink(w->log_name);
    unlink(w->below);
    free(w);
}

int main(int argc, char **argv)
{
    struct err err;
    char dir[] = "/dev/shm/powercut-XXXXXX";
    if (argc != 4 || !mkdtemp(dir)) {
        fprintf(stderr, "usage: powercut SEED WORKLOADS CUTS\n");
        return 2;
    }
    uint64_t seed = strtoull(argv[1], NULL, 0), n = strtoull(argv[2], NULL, 0),
             cuts = strtoull(argv[3], NULL, 0);
    struct loop *loop = loop_new(&err);
    struct block_graph *g = block_graph_new(loop);
    for (uint64_t i = 0; i < n; i++) {
        workload(loop, g, dir, seed + i, cuts);
    }
    block_graph_free(g);
    loop_free(loop);
    rmdir(dir);
    printf("%llu cuts of %llu workloads: all opened, checked and had what was flushed\n",
           (unsigned long long)(n * cuts), (unsigned long long)n);
    return 0;
}
