#include "jit/pool.h"

#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

#define CHUNK_BYTES (64u << 10)

struct pool_chunk {
    struct pool_chunk *next;
    _Alignas(16) char room[CHUNK_BYTES - 16];
};

/* All its pages at once: sixteen faults cost ten times this call. */
static struct pool_chunk *chunk_new(void)
{
    void *p = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (p == MAP_FAILED) {
        abort();
    }
    return p;
}

void *pool_take(struct pool *p, size_t size)
{
    void *object = p->free;
    if (object) {
        memcpy(&p->free, object, sizeof(p->free));
        return memset(object, 0, size);
    }
    if (!p->chunks || p->used + size > sizeof(p->chunks->room)) {
        struct pool_chunk *c = chunk_new();
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
        munmap(c, CHUNK_BYTES);
    }
    *p = (struct pool){0};
}
