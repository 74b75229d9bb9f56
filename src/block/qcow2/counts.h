/* How often each cluster of a file is referred to: a sparse array, so that a file that only claims
 * to be huge costs little. */
#ifndef BLOCK_QCOW2_COUNTS_H
#define BLOCK_QCOW2_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COUNTS_CHUNK = 8192 }; /* clusters in one piece */

struct counts_chunk;

struct counts {
    struct counts_chunk **chunks;
    uint64_t clusters;
    size_t bytes; /* in use */
};

int counts_init(struct counts *c, uint64_t clusters); /* -EFBIG: too many */
void counts_free(struct counts *c);
/* Takes the count to count + delta; the cluster exists. -ENOMEM: beyond the limit. */
int counts_add(struct counts *c, uint64_t cluster, int64_t delta);
uint64_t counts_get(const struct counts *c, uint64_t cluster);
/* All clusters of this chunk have the count 0. */
bool counts_chunk_empty(const struct counts *c, uint64_t cluster);

#endif
