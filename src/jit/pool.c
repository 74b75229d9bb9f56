#include "jit/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define CHUNK_BYTES (64u << 10)

struct pool_chunk {
    struct pool_chunk *next;
    _Alignas(16) char room[CHUNK_BYTES - 48]; /* 48: with malloc's own, whole pages */
};

void *pool_take(struct pool *p, size_t size)
{
    void *object = p->free;
    if (object) {
        memcpy(&p->free, object, sizeof(p->free));
        return memset(object, 0, size);
    }
    if (!p->chunks || p->used + size > sizeof(p->chunks->room)) {
        struct pool_chunk *c = alloc_zero(sizeof(*c));
        c->next = p->chunks;
        p->chunks = c;
        p->used = 0;
    }
    object = p->chunks->room + p->used;
    p->used += size;
    return object;
}

void pool_give(struct pool *p, void *object)
{
    memcpy(object, &p->free, sizeof(p->free));
    p->free = object;
}

void pool_free(struct pool *p)
{
    while (p->chunks) {
        struct pool_chunk *c = p->chunks;
        p->chunks = c->next;
        free(c);
    }
    *p = (struct pool){0};
}
