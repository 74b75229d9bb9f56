/* Reference counts of clusters, sparse: chunks of 16-bit counts, which become 64-bit ones where
 * they overflow. Memory is bounded. */
#include "block/qcow2/counts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define MAX_CHUNKS (8u << 20)
#define MAX_BYTES ((size_t)1 << 30)

struct counts_chunk {
    uint64_t *wide; /* instead of `small`, if not NULL */
    uint16_t small[COUNTS_CHUNK];
};

int counts_init(struct counts *c, uint64_t clusters)
{
    uint64_t n = clusters / COUNTS_CHUNK + 1;
    *c = (struct counts){.clusters = clusters};
    if (n > MAX_CHUNKS) {
        return -EFBIG;
    }
    c->chunks = calloc(n, sizeof(*c->chunks));
    return c->chunks ? 0 : -ENOMEM;
}

void counts_free(struct counts *c)
{
    for (uint64_t i = 0; c->chunks && i <= c->clusters / COUNTS_CHUNK; i++) {
        if (c->chunks[i]) {
            free(c->chunks[i]->wide);
            free(c->chunks[i]);
        }
    }
    free(c->chunks);
    c->chunks = NULL;
}

static void *take(struct counts *c, size_t bytes)
{
    if (c->bytes + bytes > MAX_BYTES) {
        return NULL;
    }
    c->bytes += bytes;
    return calloc(1, bytes);
}

static int widen(struct counts *c, struct counts_chunk *k)
{
    k->wide = take(c, COUNTS_CHUNK * sizeof(*k->wide));
    if (!k->wide) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < COUNTS_CHUNK; i++) {
        k->wide[i] = k->small[i];
    }
    return 0;
}

int counts_add(struct counts *c, uint64_t cluster, int64_t delta)
{
    assert(cluster < c->clusters);
    struct counts_chunk **at = &c->chunks[cluster / COUNTS_CHUNK];
    uint64_t sum = counts_get(c, cluster) + (uint64_t)delta;
    if (!*at) {
        *at = take(c, sizeof(**at));
        if (!*at) {
            return -ENOMEM;
        }
    }
    if (!(*at)->wide && sum > UINT16_MAX) {
        int ret = widen(c, *at);
        if (ret < 0) {
            return ret;
        }
    }
    if ((*at)->wide) {
        (*at)->wide[cluster % COUNTS_CHUNK] = sum;
    } else {
        (*at)->small[cluster % COUNTS_CHUNK] = (uint16_t)sum;
    }
    return 0;
}

uint64_t counts_get(const struct counts *c, uint64_t cluster)
{
    if (cluster >= c->clusters) {
        return 0;
    }
    const struct counts_chunk *k = c->chunks[cluster / COUNTS_CHUNK];
    return !k ? 0 : k->wide ? k->wide[cluster % COUNTS_CHUNK] : k->small[cluster % COUNTS_CHUNK];
}

bool counts_chunk_empty(const struct counts *c, uint64_t cluster)
{
    return cluster >= c->clusters || !c->chunks[cluster / COUNTS_CHUNK];
}
