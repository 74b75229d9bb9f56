/* -smp and -numa: how many processors, how they are arranged, which nodes they and memory are of.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "base/near.h"
#include "core/device.h"
#include "core/numa.h"
#include "vmm/option_table.h"

/* ---- -smp ---- */

enum { CPUS, MAXCPUS, SOCKETS, DIES, CLUSTERS, CORES, THREADS, SMP_KEYS };
static const char *const smp_keys[SMP_KEYS] = {"cpus",     "maxcpus", "sockets", "dies",
                                               "clusters", "cores",   "threads"};

static int key_of(const char *const *keys, size_t count, const char *key, const char *option,
                  size_t *n, struct err *err)
{
    for (*n = 0; *n < count; (*n)++) {
        if (!strcmp(keys[*n], key)) {
            return 0;
        }
    }
    return err_set(err, EINVAL, "%s has no option '%s'; the nearest is '%s'", option, key,
                   near_pick(key, keys, count));
}

static int smp_parse(const struct keyval *kv, uint64_t *v, struct err *err)
{
    for (size_t i = 0; i < kv->count; i++) {
        size_t n;
        int ret = key_of(smp_keys, SMP_KEYS, kv->pairs[i].key, "-smp", &n, err);
        ret = ret ? ret : value_u64("-smp", kv->pairs[i].value, 4096, &v[n], err);
        if (ret || !v[n]) {
            return ret ? ret : err_set(err, EINVAL, "-smp: %s must not be zero", smp_keys[n]);
        }
    }
    if (v[CLUSTERS] > 1) {
        return err_set(err, EINVAL, "-smp: no machine here has clusters; use dies=");
    }
    return 0;
}

static uint64_t or_one(uint64_t v)
{
    return v ? v : 1;
}

/* What is not given follows from the rest: cores before sockets before threads. */
static void smp_complete(uint64_t *v)
{
    uint64_t most = v[MAXCPUS] ? v[MAXCPUS] : v[CPUS];
    v[DIES] = or_one(v[DIES]);
    if (!most || !v[CORES]) {
        v[SOCKETS] = or_one(v[SOCKETS]);
        v[THREADS] = or_one(v[THREADS]);
    }
    if (!v[CORES]) {
        v[CORES] = most ? most / (v[SOCKETS] * v[DIES] * v[THREADS]) : 1;
    } else if (!v[SOCKETS]) {
        v[THREADS] = or_one(v[THREADS]);
        v[SOCKETS] = most / (v[DIES] * v[CORES] * v[THREADS]);
    } else if (!v[THREADS]) {
        v[THREADS] = most / (v[SOCKETS] * v[DIES] * v[CORES]);
    }
    uint64_t product = v[SOCKETS] * v[DIES] * v[CORES] * v[THREADS];
    v[MAXCPUS] = most ? most : product;
    v[CPUS] = v[CPUS] ? v[CPUS] : v[MAXCPUS];
}

static int smp_take(const struct keyval *kv, struct machine_config *c, struct err *err)
{
    uint64_t v[SMP_KEYS] = {0};
    int ret = smp_parse(kv, v, err);
    if (ret) {
        return ret;
    }
    smp_complete(v);
    if (v[CPUS] > v[MAXCPUS] || v[SOCKETS] * v[DIES] * v[CORES] * v[THREADS] != v[MAXCPUS]) {
        return err_set(err, EINVAL,
                       "-smp: %llu cpus of at most %llu do not fit the topology given, whose "
                       "sockets, dies, cores and threads must multiply to maxcpus=",
                       (unsigned long long)v[CPUS], (unsigned long long)v[MAXCPUS]);
    }
    c->vcpus = (unsigned)v[CPUS];
    c->topology = (struct topology){(unsigned)v[SOCKETS], (unsigned)v[DIES], (unsigned)v[CORES],
                                    (unsigned)v[THREADS], (unsigned)v[MAXCPUS]};
    return 0;
}

int option_smp(struct options *o, const char *arg, struct err *err)
{
    struct keyval kv = {0};
    int ret = keyval_parse(&kv, arg, "cpus", err);
    ret = ret ? ret : smp_take(&kv, &o->config, err);
    keyval_free(&kv);
    return ret;
}

static int smp_check(const struct machine_config *c, struct err *err)
{
    unsigned n = c->topology.max > c->vcpus ? c->topology.max : c->vcpus;
    return n <= c->board->max_vcpus
               ? 0
               : err_set(err, EINVAL, "-smp: machine '%s' takes at most %u vcpus, not %u",
                         c->board->name, c->board->max_vcpus, n);
}

/* ---- -numa ---- */

/* What the options have said; done by numa_finish() when all are known. */
struct numa_build {
    struct numa *numa;
    const struct topology *t;
    const struct option_list *mems; /* -object memory-backend-ram */
    bool given[NUMA_MAX_NODES], placed[MACHINE_MAX_VCPUS];
    bool any_placed, any_mem, any_dist;
};

static int numa_number(const char *key, const char *text, uint64_t max, uint64_t *v,
                       struct err *err)
{
    char what[32] = "-numa: ";
    strncat(what, key, sizeof(what) - 8);
    return value_u64(what, text, max, v, err);
}

static int numa_place(struct numa_build *b, unsigned cpu, unsigned node, struct err *err)
{
    if (b->placed[cpu] && b->numa->node_of[cpu] != node) {
        return err_set(err, EINVAL, "-numa: cpu %u is of node %u and cannot be of node %u, too",
                       cpu, b->numa->node_of[cpu], node);
    }
    b->placed[cpu] = b->any_placed = true;
    b->numa->node_of[cpu] = (uint8_t)node;
    return 0;
}

/* "3" or "0-3" */
static int numa_cpus(struct numa_build *b, unsigned node, const char *text, struct err *err)
{
    char *end;
    unsigned long first = strtoul(text, &end, 10), last = first;
    bool ok = end != text;
    if (ok && *end == '-') {
        const char *second = end + 1;
        last = strtoul(second, &end, 10);
        ok = end != second;
    }
    if (!ok || *end || last < first || last >= b->t->max) {
        return err_set(err, EINVAL, "-numa: cpus=%s is no range of cpus from 0 to %u", text,
                       b->t->max - 1);
    }
    int ret = 0;
    for (unsigned i = (unsigned)first; !ret && i <= last; i++) {
        ret = numa_place(b, i, node, err);
    }
    return ret;
}

static int numa_size(const char *text, uint64_t unit, uint64_t *size, struct err *err)
{
    return value_size("-numa", text, unit, size, err);
}

static int numa_memdev(struct numa_build *b, const char *id, uint64_t *size, struct err *err)
{
    for (size_t i = 0; i < b->mems->count; i++) {
        const struct keyval *kv = &b->mems->items[i];
        if (!strcmp(keyval_get(kv, "id"), id)) {
            return value_size("-object", keyval_get(kv, "size"), 1, size, err);
        }
    }
    return err_set(err, EINVAL,
                   "-numa: there is no memory '%s'; -object memory-backend-ram,id=%s,size=SIZE "
                   "makes it",
                   id, id);
}

/* The node an option is about, a new one unless it is named. */
static int numa_node_id(struct numa_build *b, const struct keyval *kv, unsigned *node,
                        struct err *err)
{
    const char *text = keyval_get(kv, "nodeid");
    uint64_t n = 0;
    while (!text && n < NUMA_MAX_NODES && b->given[n]) {
        n++;
    }
    int ret = text ? numa_number("nodeid", text, NUMA_MAX_NODES - 1, &n, err) : 0;
    if (ret) {
        return ret;
    }
    if (n >= NUMA_MAX_NODES || b->given[n]) {
        return n < NUMA_MAX_NODES
                   ? err_set(err, EINVAL, "-numa: node %u is there twice", (unsigned)n)
                   : err_set(err, EINVAL, "-numa: there are at most %u nodes", NUMA_MAX_NODES);
    }
    *node = (unsigned)n;
    return 0;
}

static int numa_node(struct numa_build *b, const struct keyval *kv, struct err *err)
{
    static const char *const keys[] = {"type", "nodeid", "cpus", "mem", "memdev"};
    unsigned node = 0;
    int ret = numa_node_id(b, kv, &node, err);
    for (size_t i = 0, n; !ret && i < kv->count; i++) {
        const char *value = kv->pairs[i].value;
        ret = key_of(keys, ARRAY_LEN(keys), kv->pairs[i].key, "-numa node", &n, err);
        if (!ret && n == 2) {
            ret = numa_cpus(b, node, value, err);
        } else if (!ret && n > 2) {
            b->any_mem = true;
            ret = n == 3 ? numa_size(value, 1 << 20, &b->numa->mem[node], err)
                         : numa_memdev(b, value, &b->numa->mem[node], err);
        }
    }
    if (!ret) {
        b->given[node] = true;
        b->numa->nodes = node >= b->numa->nodes ? node + 1 : b->numa->nodes;
    }
    return ret;
}

static int numa_known(const struct numa_build *b, uint64_t node, struct err *err)
{
    return node < b->numa->nodes && b->given[node]
               ? 0
               : err_set(err, EINVAL, "-numa: there is no node %u; -numa node makes it",
                         (unsigned)node);
}

/* All processors of a place, as far as it is given. */
static int numa_cpu(struct numa_build *b, const struct keyval *kv, struct err *err)
{
    enum { NODE = 1, SOCKET, DIE, CORE, THREAD };
    static const char *const keys[] = {"type",   "node-id", "socket-id",
                                       "die-id", "core-id", "thread-id"};
    uint64_t want[ARRAY_LEN(keys)];
    bool is[ARRAY_LEN(keys)] = {false}, any = false;
    int ret = 0;
    for (size_t i = 0, n; !ret && i < kv->count; i++) {
        ret = key_of(keys, ARRAY_LEN(keys), kv->pairs[i].key, "-numa cpu", &n, err);
        if (!ret && n) {
            is[n] = true;
            ret = numa_number(keys[n], kv->pairs[i].value, 4096, &want[n], err);
        }
    }
    if (!ret && !is[NODE]) {
        ret = err_set(err, EINVAL, "-numa cpu needs node-id=");
    }
    ret = ret ? ret : numa_known(b, want[NODE], err);
    for (unsigned i = 0; !ret && i < b->t->max; i++) {
        struct topology_place p = topology_place(b->t, i);
        if ((!is[SOCKET] || want[SOCKET] == p.socket) && (!is[DIE] || want[DIE] == p.die) &&
            (!is[CORE] || want[CORE] == p.core) && (!is[THREAD] || want[THREAD] == p.thread)) {
            any = true;
            ret = numa_place(b, i, (unsigned)want[NODE], err);
        }
    }
    return ret || any ? ret : err_set(err, EINVAL, "-numa cpu: there is no such processor");
}

/* Told as src and dst, kept in rows of all nodes there can be. */
static int numa_dist(struct numa_build *b, const struct keyval *kv, uint8_t *all, struct err *err)
{
    static const char *const keys[] = {"type", "src", "dst", "val"};
    uint64_t v[ARRAY_LEN(keys)] = {0};
    int ret = 0;
    for (size_t i = 0, n; !ret && i < kv->count; i++) {
        ret = key_of(keys, ARRAY_LEN(keys), kv->pairs[i].key, "-numa dist", &n, err);
        ret = ret || !n ? ret : numa_number(keys[n], kv->pairs[i].value, 255, &v[n], err);
    }
    ret = ret ? ret : numa_known(b, v[1], err);
    ret = ret ? ret : numa_known(b, v[2], err);
    if (!ret && (v[3] < NUMA_HERE || (v[1] == v[2]) != (v[3] == NUMA_HERE))) {
        ret = err_set(err, EINVAL, "-numa dist: val= is %u of a node to itself and more to others",
                      NUMA_HERE);
    }
    if (!ret) {
        all[v[1] * NUMA_MAX_NODES + v[2]] = (uint8_t)v[3];
        b->any_dist = true;
    }
    return ret;
}

static int numa_dists(struct numa_build *b, const struct option_list *l, struct err *err)
{
    uint8_t *all = alloc_zero(NUMA_MAX_NODES * NUMA_MAX_NODES);
    unsigned nodes = b->numa->nodes;
    int ret = 0;
    for (size_t i = 0; !ret && i < l->count; i++) {
        if (!strcmp(keyval_get(&l->items[i], "type"), "dist")) {
            ret = numa_dist(b, &l->items[i], all, err);
        }
    }
    if (!ret && b->any_dist) {
        b->numa->dist = alloc_zero((size_t)nodes * nodes);
        for (unsigned i = 0; i < nodes * nodes; i++) {
            unsigned from = i / nodes, to = i % nodes;
            uint8_t there = all[from * NUMA_MAX_NODES + to], back = all[to * NUMA_MAX_NODES + from];
            b->numa->dist[i] = from == to ? NUMA_HERE : there ? there : back ? back : NUMA_THERE;
        }
    }
    free(all);
    return ret;
}

/* Without sizes all nodes have the same, the last one the rest. */
static int numa_memory(struct numa_build *b, uint64_t ram, struct err *err)
{
    struct numa *numa = b->numa;
    uint64_t sum = 0;
    if (!b->any_mem) {
        uint64_t part = ram / numa->nodes & ~0x7fffffull;
        for (unsigned i = 0; i < numa->nodes; i++) {
            numa->mem[i] = i + 1 < numa->nodes ? part : ram - part * i;
        }
    }
    for (unsigned i = 0; i < numa->nodes; i++) {
        if (numa->mem[i] > ram || (numa->mem[i] & 0xfff)) {
            sum = ~0ull;
            break;
        }
        sum += numa->mem[i];
    }
    return sum == ram ? 0
                      : err_set(err, EINVAL,
                                "-numa: memory of the nodes must sum up to the %llu MiB of -m, in "
                                "whole pages",
                                (unsigned long long)(ram >> 20));
}

/* Where nothing is said of processors, sockets go round. */
static void numa_rest(struct numa_build *b)
{
    for (unsigned i = 0; i < b->t->max && !b->any_placed; i++) {
        b->numa->node_of[i] = (uint8_t)(topology_place(b->t, i).socket % b->numa->nodes);
    }
}

static int numa_nodes(struct numa_build *b, const struct option_list *l, struct err *err)
{
    static const char *const types[] = {"node", "cpu", "dist"};
    int ret = 0;
    for (size_t i = 0, n; !ret && i < l->count; i++) {
        const char *type = keyval_get(&l->items[i], "type");
        ret = key_of(types, ARRAY_LEN(types), type ? type : "", "-numa", &n, err);
        ret = !ret && n == 0 ? numa_node(b, &l->items[i], err) : ret;
    }
    for (unsigned i = 0; !ret && i < b->numa->nodes; i++) {
        ret = b->given[i] ? 0 : err_set(err, EINVAL, "-numa: nodeid=%u is missing", i);
    }
    for (size_t i = 0; !ret && i < l->count; i++) {
        if (!strcmp(keyval_get(&l->items[i], "type"), "cpu")) {
            ret = numa_cpu(b, &l->items[i], err);
        }
    }
    return ret || b->numa->nodes ? ret : err_set(err, EINVAL, "-numa: there is no node");
}

static int numa_finish(struct options *o, struct err *err)
{
    struct machine_config *c = &o->config;
    struct numa_build b = {.t = &c->topology, .mems = &o->numa_mems};
    if (!o->numas.count) {
        return o->numa_mems.count ? err_set(err, EINVAL,
                                            "-object memory-backend-ram: no -numa node has it as "
                                            "memdev=")
                                  : 0;
    }
    b.numa = alloc_zero(sizeof(*b.numa));
    b.numa->node_of = alloc_zero(c->topology.max);
    c->numa = b.numa;
    int ret = numa_nodes(&b, &o->numas, err);
    ret = ret ? ret : numa_dists(&b, &o->numas, err);
    ret = ret ? ret : numa_memory(&b, c->ram_size, err);
    if (!ret) {
        numa_rest(&b);
    }
    return ret;
}

int option_numa(struct options *o, const char *arg, struct err *err)
{
    return option_list_push(&o->numas, arg, "type", "-numa", err);
}

bool option_is_memory(const char *arg)
{
    static const char *const starts[] = {"memory-backend-ram,", "qom-type=memory-backend-ram,"};
    return !strncmp(arg, starts[0], strlen(starts[0])) ||
           !strncmp(arg, starts[1], strlen(starts[1]));
}

int option_memory_object(struct options *o, const char *arg, struct err *err)
{
    int ret = option_list_push(&o->numa_mems, arg, "qom-type", "-object", err);
    const struct keyval *kv = &o->numa_mems.items[o->numa_mems.count - 1];
    if (!ret && (!keyval_get(kv, "id") || !keyval_get(kv, "size"))) {
        ret = err_set(err, EINVAL, "-object memory-backend-ram needs id= and size=");
    }
    return ret;
}

int options_finish_cpus(struct options *o, struct err *err)
{
    struct machine_config *c = &o->config;
    if (!c->topology.max) {
        c->topology = (struct topology){1, 1, c->vcpus, 1, c->vcpus};
    }
    int ret = smp_check(c, err);
    return ret ? ret : numa_finish(o, err);
}

void options_free_cpus(struct options *o)
{
    struct numa *numa = (struct numa *)o->config.numa;
    if (numa) {
        free(numa->node_of);
        free(numa->dist);
        free(numa);
    }
}
