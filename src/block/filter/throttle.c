/*
 * Filter "throttle": no more bytes and requests a second than its group allows; several disks can
 * share one. Each limit is a bucket that leaks at the allowed rate: a request that finds it too
 * full waits, in order, until it has leaked enough.
 *
 * Limits: bps-total, bps-read, bps-write, iops-total, iops-read, iops-write, each with -max (a
 * burst's rate) and -max-length (its seconds), and iops-size: bytes that count as one request.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/filter/pass.h"
#include "block/opts.h"
#include "loop/clock.h"
#include "loop/co.h"

enum { BUCKETS = 6 };

static const struct {
    const char *name;
    bool bytes, read, write;
} kinds[BUCKETS] = {
    {"bps-total", true, true, true},   {"bps-read", true, true, false},
    {"bps-write", true, false, true},  {"iops-total", false, true, true},
    {"iops-read", false, true, false}, {"iops-write", false, false, true},
};

struct bucket {
    double avg, max, length; /* units a second; of a burst; seconds of it. avg 0: no limit */
    double level, burst;     /* units */
};

struct throttle_group {
    struct bucket bucket[BUCKETS];
    double iops_size;
    uint64_t then_ns;
    struct co_lock turn; /* who waits goes first */
};

struct throttle {
    struct throttle_group *group, own;
};

/* ---- Buckets ---- */

static void leak(struct throttle_group *g)
{
    uint64_t now = clock_now_ns();
    double seconds = (double)(now - g->then_ns) / 1e9;
    g->then_ns = now;
    for (unsigned i = 0; i < BUCKETS; i++) {
        struct bucket *k = &g->bucket[i];
        k->level -= k->avg * seconds;
        k->level = k->level > 0 ? k->level : 0;
        k->burst -= k->max * seconds;
        k->burst = k->burst > 0 ? k->burst : 0;
    }
}

/* Seconds until there is room. */
static double bucket_wait(const struct bucket *k)
{
    if (k->avg <= 0) {
        return 0;
    }
    double room = k->max > 0 ? k->max * k->length : k->avg / 10;
    double wait = k->level > room ? (k->level - room) / k->avg : 0;
    if (k->max > 0 && k->length > 1 && k->burst > k->max / 10) {
        double burst = (k->burst - k->max / 10) / k->max;
        wait = burst > wait ? burst : wait;
    }
    return wait;
}

static double group_wait(struct throttle_group *g, bool write)
{
    double most = 0;
    leak(g);
    for (unsigned i = 0; i < BUCKETS; i++) {
        double wait = (write ? kinds[i].write : kinds[i].read) ? bucket_wait(&g->bucket[i]) : 0;
        most = wait > most ? wait : most;
    }
    return most;
}

static void account(struct throttle_group *g, bool write, uint64_t bytes)
{
    double requests =
        g->iops_size > 0 && (double)bytes > g->iops_size ? (double)bytes / g->iops_size : 1;
    for (unsigned i = 0; i < BUCKETS; i++) {
        if (write ? kinds[i].write : kinds[i].read) {
            double units = kinds[i].bytes ? (double)bytes : requests;
            g->bucket[i].level += units;
            g->bucket[i].burst += units;
        }
    }
}

static void throttle_wait(struct throttle *t, bool write, uint64_t bytes)
{
    struct throttle_group *g = t->group;
    double wait;
    co_lock(&g->turn);
    while ((wait = group_wait(g, write)) > 0) {
        co_sleep_ns((long long)(wait * 1e9) + 1000);
    }
    account(g, write, bytes);
    co_unlock(&g->turn);
}

/* ---- Options ---- */

static int take_limit(const struct keyval *opts, const char *prefix, const char *name,
                      const char *suffix, double *out, struct err *err)
{
    AUTO_FREE char *key = alloc_printf("%s%s%s", prefix, name, suffix);
    uint64_t n = 0;
    int ret = block_opt_size(opts, key, &n, err);
    if (keyval_get(opts, key)) {
        *out = (double)n;
    }
    return ret;
}

/* A slip of the pen must not be no limit. */
static int check_names(const struct keyval *opts, const char *prefix, struct err *err)
{
    static const char *const suffixes[] = {"", "-max", "-max-length"};
    size_t n = strlen(prefix);
    for (size_t i = 0; i < opts->count; i++) {
        const char *key = opts->pairs[i].key, *name = key + n;
        bool known = strncmp(key, prefix, n) || !strcmp(name, "iops-size");
        known |= !strcmp(key, "id") || !strcmp(key, "qom-type");
        known |= !*prefix && (!strncmp(key, "x-", 2) || !strncmp(key, "limits.", 7));
        for (size_t k = 0; !known && k < BUCKETS * ARRAY_LEN(suffixes); k++) {
            const char *kind = kinds[k / ARRAY_LEN(suffixes)].name;
            size_t m = strlen(kind);
            known = !strncmp(name, kind, m) && !strcmp(name + m, suffixes[k % ARRAY_LEN(suffixes)]);
        }
        if (!known) {
            return err_set(err, EINVAL, "there is no limit '%s'", name);
        }
    }
    return 0;
}

static int take_limits(struct throttle_group *g, const struct keyval *opts, const char *prefix,
                       struct err *err)
{
    int ret = check_names(opts, prefix, err);
    ret = ret ? ret : take_limit(opts, prefix, "iops-size", "", &g->iops_size, err);
    for (unsigned i = 0; !ret && i < BUCKETS; i++) {
        struct bucket *k = &g->bucket[i];
        k->length = k->length > 0 ? k->length : 1;
        ret = take_limit(opts, prefix, kinds[i].name, "", &k->avg, err);
        ret = ret ? ret : take_limit(opts, prefix, kinds[i].name, "-max", &k->max, err);
        ret = ret ? ret : take_limit(opts, prefix, kinds[i].name, "-max-length", &k->length, err);
        if (!ret && k->max > 0 && k->max < k->avg) {
            ret = err_set(err, EINVAL, "%s-max must not be below %s", kinds[i].name, kinds[i].name);
        }
    }
    for (unsigned i = 0; !ret && i < BUCKETS; i += 3) {
        const struct bucket *k = &g->bucket[i];
        if (k[0].avg > 0 && (k[1].avg > 0 || k[2].avg > 0)) {
            ret = err_set(err, EINVAL, "%s cannot be used beside %s or %s", kinds[i].name,
                          kinds[i + 1].name, kinds[i + 2].name);
        }
    }
    return ret;
}

/* The group's state, made when the first node asks for it. */
static struct throttle_group *group_find(struct block_graph *g, const char *id, struct err *err)
{
    struct throttle_group *group = block_object_state(g, "throttle-group", id);
    const struct keyval *opts = block_find_object(g, id);
    if (group || !opts || strcmp(keyval_get(opts, "qom-type"), "throttle-group")) {
        if (!group) {
            err_set(err, ENOENT, "there is no throttle-group '%s'", id);
        }
        return group;
    }
    group = alloc_zero(sizeof(*group));
    group->then_ns = clock_now_ns();
    int ret = take_limits(group, opts, "x-", err);
    ret = ret ? ret : take_limits(group, opts, "limits.", err);
    ret = ret ? ret : take_limits(group, opts, "", err); /* as the machine's -drive names them */
    if (ret) {
        free(group);
        return NULL;
    }
    block_object_set_state(g, id, group, free);
    return group;
}

static int throttle_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct throttle *t = b->state;
    const char *id = keyval_get(opts, "throttle-group");
    t->own.then_ns = clock_now_ns();
    t->group = id ? group_find(b->graph, id, err) : &t->own;
    int ret = t->group ? take_limits(&t->own, opts, "limits.", err) : -ENOENT;
    return ret ? ret : filter_open(b);
}

/* ---- Requests ---- */

static int throttle_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    throttle_wait(b->state, false, q->len);
    return filter_preadv(b, off, q);
}

static int throttle_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    throttle_wait(b->state, true, q->len);
    return filter_pwritev(b, off, q, flags);
}

static int throttle_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    throttle_wait(b->state, true, len);
    return filter_zero(b, off, len, flags);
}

static int throttle_discard(struct block *b, uint64_t off, uint64_t len)
{
    throttle_wait(b->state, true, len);
    return filter_discard(b, off, len);
}

static const struct block_opt throttle_opts[] = {
    {"throttle-group", "str", "id of the group whose limits it shares", NULL},
    {"limits.*", "size", "limits of its own: limits.bps-total, limits.iops-read-max, ...", NULL},
    {0},
};

const struct block_type throttle_type = {
    .name = "throttle",
    .summary = "limits of bytes and requests a second",
    .size = sizeof(struct throttle),
    .filter = true,
    .open_opts = throttle_opts,
    .open = throttle_open,
    .preadv = throttle_preadv,
    .pwritev = throttle_pwritev,
    .zero = throttle_zero,
    .discard = throttle_discard,
    .extent = filter_extent,
    .truncate = filter_truncate,
};
