/* Objects of one size, many of them, without a header each. Memory goes back with the pool only. */
#ifndef JIT_POOL_H
#define JIT_POOL_H

#include <stddef.h>

struct pool_chunk;
struct pool {
    struct pool_chunk *chunks;
    void *free;  /* list of objects given back */
    size_t used; /* bytes of the first chunk */
};

void *pool_take(struct pool *, size_t size); /* zeroed; the same size every time */
/* All but its first word stays as it was until it is taken again. */
void pool_give(struct pool *, void *object);
void pool_free(struct pool *);

#endif
