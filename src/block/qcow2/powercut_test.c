/*
 * Power cuts: a disk in memory records what is written and synced while several coroutines use a
 * qcow2 image on it. Then the power fails at random moments: what was written before the last sync
 * began is there, of everything later each sector is there or not, in any order. The image must
 * open, check must find no corruption, and every sector of the guest must have what its flushes
 * promise. Leaks are fine.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "base/unit_test.h"
#include "block/core.h"
#include "block/qcow2/internal.h"
#include "block/qcow2/qcow2.h"
#include "loop/loop.h"

enum { SECTOR = 512, GUEST = 3 << 20, GUEST_SECTORS = GUEST / SECTOR, WORKERS = 4, CUTS = 25 };
#define DISK_MAX (64u << 20)

struct record {
    bool sync;
    uint64_t off, len, covers; /* sync: records before this one are durable */
    uint8_t *bytes;
};

struct version {
    uint32_t id;  /* 0: zeros */
    size_t begin; /* in records of the disk */
    size_t end;   /* in events of the guest; SIZE_MAX: has failed or is not at its end */
};

struct disk {
    struct record *recs;
    size_t n, room;
    uint8_t *bytes;
    bool recording, slow;
    unsigned fail_in; /* so many writes later one fails; 0: none */
};

struct world {
    struct loop *loop;
    struct block_graph *graph;
    struct block *file, *img;
    struct disk *disk;
    struct version *history[GUEST_SECTORS];
    size_t versions[GUEST_SECTORS];
    size_t flush_begin[4096], flush_end[4096], flushes; /* begin in events, end in records */
    size_t events;
    uint32_t next_id;
    unsigned seed, running, next_worker;
    struct co *waiter;
    const char *opts;
    bool failing;
};

/* Out of a coroutine: cmocka's own way, a long jump, is not for its stack. */
#define give_up(...) (printf(__VA_ARGS__), printf("\n"), fflush(stdout), _exit(1))

static unsigned rnd(struct world *w, unsigned n)
{
    w->seed = w->seed * 1664525u + 1013904223u;
    return (w->seed >> 8) % n;
}

/* ---- The disk ---- */

static struct disk *disk_of(struct block *b)
{
    return *(struct disk **)b->state;
}

static void disk_pause(struct block *b)
{
    struct disk *d = disk_of(b);
    for (size_t i = d->slow ? (d->n * 7 + d->room) % 4 : 0; i; i--) {
        co_yield ();
    }
}

static struct record *disk_record(struct disk *d)
{
    if (d->n == d->room) {
        d->room = d->room ? d->room * 2 : 64;
        d->recs = alloc_resize(d->recs, d->room, sizeof(*d->recs));
    }
    struct record *r = &d->recs[d->n++];
    *r = (struct record){0};
    return r;
}

static int disk_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    disk_pause(b);
    uint64_t have = off >= b->size ? 0 : b->size - off < q->len ? b->size - off : q->len;
    iovs_zero(q, have, q->len - have);
    if (have) {
        iovs_put(q, 0, disk_of(b)->bytes + off, have);
    }
    return 0;
}

static int disk_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    struct disk *d = disk_of(b);
    disk_pause(b);
    if (d->fail_in && !--d->fail_in) {
        return -EIO;
    }
    assert_true(off + q->len <= DISK_MAX);
    iovs_get(q, 0, d->bytes + off, q->len);
    b->size = off + q->len > b->size ? off + q->len : b->size;
    if (d->recording) {
        struct record *r = disk_record(d);
        r->off = off;
        r->len = q->len;
        r->bytes = malloc(q->len);
        iovs_get(q, 0, r->bytes, q->len);
    }
    disk_pause(b);
    return 0;
}

static int disk_flush(struct block *b)
{
    struct disk *d = disk_of(b);
    size_t covers = d->n;
    disk_pause(b);
    if (d->recording) {
        *disk_record(d) = (struct record){.sync = true, .covers = covers};
    }
    return 0;
}

static int disk_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc,
                         struct err *err)
{
    if (size < b->size) {
        memset(disk_of(b)->bytes + size, 0, b->size - size);
    }
    b->size = size;
    return 0;
}

static const struct block_type disk_type = {
    .name = "test",
    .protocol = true,
    .grows = true,
    .preadv = disk_preadv,
    .pwritev = disk_pwritev,
    .flush = disk_flush,
    .truncate = disk_truncate,
};

static struct block *node_new(struct world *w, const struct block_type *type, void *state)
{
    struct block *b = alloc_zero(sizeof(*b));
    b->type = type;
    b->graph = w->graph;
    b->state = state;
    b->refs = 1;
    b->align = 1;
    b->flags = BLOCK_RDWR | BLOCK_RESIZE | BLOCK_UNMAP;
    b->filename = alloc_text("image");
    b->requests = alloc_zero(sizeof(*b->requests));
    return b;
}

static void node_drop(struct block *b)
{
    free(b->requests);
    free(b->filename);
    free(b->state);
    free(b);
}

static struct block *disk_new(struct world *w, struct disk **out)
{
    struct disk *d = alloc_zero(sizeof(*d)), **state = alloc_zero(sizeof(*state));
    d->bytes = calloc(1, DISK_MAX);
    assert_non_null(d->bytes);
    *out = *state = d;
    return node_new(w, &disk_type, state);
}

static void disk_drop(struct block *file)
{
    struct disk *d = disk_of(file);
    for (size_t i = 0; i < d->n; i++) {
        free(d->recs[i].bytes);
    }
    free(d->recs);
    free(d->bytes);
    free(d);
    node_drop(file);
}

static struct block *image_open(struct world *w, struct block *file, unsigned more, struct err *err)
{
    struct block *b = node_new(w, &qcow2_type, alloc_zero(sizeof(struct qcow2)));
    struct keyval none = {0};
    b->file = file;
    b->flags |= more;
    int ret = qcow2_open_image(b->state, b, &none, err);
    if (ret) {
        node_drop(b);
        return NULL;
    }
    return b;
}

/* ---- The guest ---- */

static void note(struct world *w, uint64_t off, uint64_t len, uint32_t id, size_t begin)
{
    for (uint64_t i = off / SECTOR; i < (off + len) / SECTOR; i++) {
        w->history[i] = alloc_resize(w->history[i], w->versions[i] + 1, sizeof(struct version));
        w->history[i][w->versions[i]++] = (struct version){id, begin, SIZE_MAX};
    }
}

static void note_end(struct world *w, uint64_t off, uint64_t len)
{
    w->events++;
    for (uint64_t i = off / SECTOR; i < (off + len) / SECTOR; i++) {
        w->history[i][w->versions[i] - 1].end = w->events;
    }
}

static void check_ret(struct world *w, int ret)
{
    if (!w->failing) {
        assert_int_equal(ret, 0);
    }
}

static void guest_write(struct world *w, uint64_t off, uint64_t len, unsigned flags)
{
    uint32_t id = ++w->next_id, *buf = malloc(len);
    for (size_t i = 0; i < len / 4; i++) {
        buf[i] = id;
    }
    struct iovec v;
    struct iovs q = iovs_buf(&v, buf, len);
    note(w, off, len, id, w->disk->n);
    int ret = qcow2_type.pwritev(w->img, off, &q, flags);
    w->img->requests->writes++;
    check_ret(w, ret);
    if (!ret) {
        note_end(w, off, len);
    }
    free(buf);
}

static void guest_flush(struct world *w)
{
    size_t begin = ++w->events;
    int ret = block_flush(w->img);
    check_ret(w, ret);
    if (!ret && w->flushes < ARRAY_LEN(w->flush_end)) {
        w->flush_begin[w->flushes] = begin;
        w->flush_end[w->flushes++] = w->disk->n;
    }
}

/* Each worker has its own sectors, but they share clusters. */
static void worker(void *opaque)
{
    struct world *w = opaque;
    unsigned me = w->next_worker++;
    for (unsigned i = 0; i < 12; i++) {
        if (!rnd(w, 6)) {
            guest_flush(w);
            continue;
        }
        uint64_t stripe = 8 * SECTOR, n = GUEST / stripe / WORKERS;
        uint64_t at = (rnd(w, (unsigned)n) * WORKERS + me) * stripe;
        guest_write(w, at + rnd(w, 4) * SECTOR, (1 + rnd(w, 4)) * SECTOR, 0);
    }
    if (!--w->running) {
        co_wake(w->waiter);
    }
}

static void guest_zero(struct world *w, bool discard)
{
    uint64_t unit = ((struct qcow2 *)w->img->state)->cluster_size, n = GUEST / unit;
    uint64_t off = rnd(w, (unsigned)n) * unit, len = (1 + rnd(w, 4)) * unit;
    len = len < GUEST - off ? len : GUEST - off;
    note(w, off, len, 0, w->disk->n);
    int ret = discard ? qcow2_type.discard(w->img, off, len)
                      : qcow2_type.zero(w->img, off, len, rnd(w, 2) ? BLOCK_MAY_UNMAP : 0);
    w->img->requests->writes++;
    check_ret(w, ret);
    if (!ret) {
        note_end(w, off, len);
    }
}

static void guest_snapshot(struct world *w)
{
    struct err err;
    struct block_snapshot snap = {.name = "s", .icount = UINT64_MAX};
    struct qcow2 *s = w->img->state;
    int ret = s->snap_count > 1 ? qcow2_type.snapshot_delete(w->img, s->snaps[0].s.id, &err)
                                : qcow2_type.snapshot_create(w->img, &snap, &err);
    w->img->requests->writes++;
    check_ret(w, ret);
}

static void guest_round(struct world *w)
{
    w->running = WORKERS;
    w->next_worker = 0;
    w->waiter = co_self();
    for (int i = 0; i < WORKERS; i++) {
        co_start(w->loop, worker, w);
    }
    if (w->running) {
        co_wait();
    }
    uint64_t unit = ((struct qcow2 *)w->img->state)->cluster_size;
    switch (rnd(w, 7)) {
    case 0:
    case 1: guest_zero(w, true); break;
    case 2: guest_zero(w, false); break;
    case 3: guest_write(w, rnd(w, GUEST / (unsigned)unit) * unit, unit, BLOCK_COMPRESSED); break;
    case 4: guest_write(w, rnd(w, GUEST / (unsigned)unit) * unit, unit, 0); break;
    case 5: guest_snapshot(w); break;
    default: guest_flush(w); break;
    }
}

/* ---- The power fails ---- */

static struct block *cut_disk(struct world *w, size_t at)
{
    struct disk *d = w->disk, *now;
    struct block *file = disk_new(w, &now);
    size_t durable = 0;
    unsigned keep = rnd(w, 5); /* of 4 sectors */
    for (size_t i = 0; i < at; i++) {
        durable = d->recs[i].sync && d->recs[i].covers > durable ? d->recs[i].covers : durable;
    }
    for (size_t i = 0; i < at; i++) {
        struct record *r = &d->recs[i];
        for (uint64_t done = 0, n; done < r->len; done += n) {
            n = SECTOR - (r->off + done) % SECTOR;
            n = n < r->len - done ? n : r->len - done;
            if (i < durable || rnd(w, 4) < keep) {
                memcpy(now->bytes + r->off + done, r->bytes + done, n);
                uint64_t end = r->off + done + n;
                file->size = end > file->size ? end : file->size;
            }
        }
    }
    return file;
}

static bool may_have(struct world *w, size_t sector, uint32_t id, size_t at)
{
    size_t flushed = 0;
    for (size_t f = 0; f < w->flushes; f++) {
        if (w->flush_end[f] <= at && w->flush_begin[f] > flushed) {
            flushed = w->flush_begin[f];
        }
    }
    /* From the last that a flush covers on, each may be there. */
    bool any = id == 0;
    for (size_t i = 0; i < w->versions[sector]; i++) {
        struct version *v = &w->history[sector][i];
        if (v->end != SIZE_MAX && v->end < flushed) {
            any = v->id == id;
        } else if (v->begin <= at) {
            any |= v->id == id;
        }
    }
    return any;
}

/* Between the steps of a snapshot counts are already high while entries still say that a cluster is
 * theirs alone. No snapshot refers to it then: as harmless as a leak. */
static void say(void *opaque, const char *text)
{
    unsigned long long *harmless = opaque;
    if (strstr(text, "COPIED")) {
        ++*harmless;
    } else if (!strstr(text, "Leaked")) {
        printf("  %s\n", text);
    }
}

static void show_records(struct world *w, size_t at)
{
    for (size_t i = at > 40 ? at - 40 : 0; i < at; i++) {
        struct record *r = &w->disk->recs[i];
        if (r->sync) {
            printf("  %zu: sync, covers %llu\n", i, (unsigned long long)r->covers);
        } else {
            printf("  %zu: %#llx + %#llx\n", i, (unsigned long long)r->off,
                   (unsigned long long)r->len);
        }
    }
}

static void cut_check(struct world *w, struct block *file, size_t at)
{
    struct err err = {""};
    unsigned long long harmless = 0;
    struct check_report r = {.say = say, .opaque = &harmless};
    struct block *b = image_open(w, file, BLOCK_CHECK, &err);
    bool dirty = b && ((struct qcow2 *)b->state)->incompatible & QCOW2_DIRTY;
    if (!b || (!dirty &&
               (qcow2_type.check(b, 0, &r, &err) || r.check_errors || r.corruptions > harmless))) {
        give_up("%s: cut at %zu of %zu, seed %u: %s, %llu corruptions", w->opts, at, w->disk->n,
                w->seed, err.text, (unsigned long long)r.corruptions - harmless);
    }
    qcow2_type.close(b);
    node_drop(b);
}

static void cut_read(struct world *w, struct block *file, size_t at)
{
    struct err err = {""};
    struct block *b = image_open(w, file, 0, &err);
    if (!b) {
        give_up("%s: cut at %zu: %s", w->opts, at, err.text);
    }
    uint32_t *buf = malloc(GUEST);
    struct iovec v;
    struct iovs q = iovs_buf(&v, buf, GUEST);
    assert_int_equal(qcow2_type.preadv(b, 0, &q), 0);
    for (size_t i = 0; i < GUEST_SECTORS; i++) {
        uint32_t *s = buf + i * SECTOR / 4;
        for (size_t k = 1; k < SECTOR / 4; k++) {
            assert_int_equal(s[k], s[0]);
        }
        if (!may_have(w, i, s[0], at)) {
            for (size_t k = 0; k < w->versions[i]; k++) {
                struct version *u = &w->history[i][k];
                printf("  version %u: from record %zu to event %zd\n", u->id, u->begin,
                       (ssize_t)u->end);
            }
            show_records(w, at);
            for (size_t k = 0; k < w->flushes && w->flush_end[k] <= at; k++) {
                printf("  flush: from event %zu to record %zu\n", w->flush_begin[k],
                       w->flush_end[k]);
            }
            give_up("%s: cut at %zu of %zu: sector %zu has %u", w->opts, at, w->disk->n, i, s[0]);
        }
    }
    free(buf);
    assert_int_equal(qcow2_type.close(b), 0);
    node_drop(b);
}

/* ---- All of it ---- */

static void world_make(struct world *w, const char *opts)
{
    struct err err = {""};
    w->file = disk_new(w, &w->disk);
    struct keyval kv = {0};
    w->opts = opts;
    assert_int_equal(keyval_parse(&kv, opts, NULL, &err), 0);
    struct block_new n = {w->graph, "image", w->file, GUEST, &kv};
    if (qcow2_type.create(&n, &err)) {
        give_up("%s: %s", opts, err.text);
    }
    keyval_free(&kv);
    /* The image is there when recording starts. */
    struct iovec v;
    w->disk->recording = true;
    uint8_t *all = malloc(w->file->size);
    memcpy(all, w->disk->bytes, w->file->size);
    assert_int_equal(block_pwrite(w->file, 0, all, w->file->size, 0), 0);
    assert_int_equal(block_flush(w->file), 0);
    free(all);
    (void)v;
    w->disk->slow = true;
    w->img = image_open(w, w->file, 0, &err);
    assert_non_null(w->img);
}

static void world_free(struct world *w)
{
    for (size_t i = 0; i < GUEST_SECTORS; i++) {
        free(w->history[i]);
        w->history[i] = NULL;
        w->versions[i] = 0;
    }
    node_drop(w->img);
    disk_drop(w->file);
    w->flushes = w->events = 0;
}

static void run_opts(struct world *w, const char *opts)
{
    world_make(w, opts);
    for (int i = 0; i < 12; i++) {
        w->disk->fail_in = w->failing ? 1 + rnd(w, 60) : 0;
        guest_round(w);
    }
    w->disk->fail_in = 0;
    qcow2_type.close(w->img);
    for (int i = 0; i < CUTS; i++) {
        size_t at = i ? 2 + rnd(w, (unsigned)w->disk->n - 1) : w->disk->n;
        struct block *file = cut_disk(w, at);
        cut_check(w, file, at);
        cut_read(w, file, at);
        disk_drop(file);
    }
    world_free(w);
}

static void in_coroutine(void *opaque)
{
    static const char *const opts[] = {
        "cluster_size=65536",
        "cluster_size=4096",
        "cluster_size=512,refcount_bits=64",
        "cluster_size=16384,extended_l2=on",
        "cluster_size=4096,lazy_refcounts=on",
        "cluster_size=1024,compat=0.10",
        "cluster_size=2048,refcount_bits=4",
        "cluster_size=65536,extended_l2=on,lazy_refcounts=on",
    };
    struct world *w = opaque;
    const char *rounds = getenv("POWERCUT_ROUNDS");
    for (int k = rounds ? atoi(rounds) : 1; k > 0; k--) {
        for (size_t i = 0; i < ARRAY_LEN(opts); i++) {
            run_opts(w, opts[i]);
        }
    }
}

static void run_world(bool failing)
{
    struct err err;
    struct world *w = alloc_zero(sizeof(*w));
    const char *seed = getenv("POWERCUT_SEED");
    w->seed = seed ? (unsigned)atoi(seed) : 1;
    w->failing = failing;
    w->loop = loop_new(&err);
    w->graph = block_graph_new(w->loop);
    co_run(w->loop, in_coroutine, w);
    block_graph_free(w->graph);
    loop_free(w->loop);
    free(w);
}

static void test_powercut(void **state)
{
    run_world(false);
}

static void test_failing_disk(void **state)
{
    run_world(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_powercut),
        cmocka_unit_test(test_failing_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
