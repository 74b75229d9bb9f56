/*
 * Memory for generated code: one anonymous file mapped twice, writable here and executable there,
 * cut into arenas of hot and cold room; each has data in memory that is not executable. Arenas are
 * used round robin; the owner drops the blocks of an arena before it is used again. One object per
 * vCPU, used by its thread only.
 */
#ifndef JIT_CODEMEM_H
#define JIT_CODEMEM_H

#include "ir/host.h"

#define CODEMEM_ARENA (1u << 20)
#define CODEMEM_HOT (CODEMEM_ARENA / 16 * 11)
#define CODEMEM_DATA (CODEMEM_ARENA / 4 * 3)
#define CODEMEM_FIRST 8           /* arenas used while nobody calls codemem_grow() */
#define CODEMEM_CHUNK (16u << 10) /* gets its pages at once, */
#define CODEMEM_AHEAD (4u << 10)  /* when less than this is left */

struct codemem {
    uint8_t *rw, *rx; /* both views of the whole reserve; equal when mapped once */
    uint8_t *data;    /* CODEMEM_DATA bytes for each arena */
    size_t size;
    unsigned narenas, nused; /* the first nused ones are used, round robin */
    unsigned arena;          /* current */
    unsigned next;
    bool grew;                  /* next is not in the order of use */
    size_t keep_hot, keep_cold; /* of arena 0, for stubs */
    struct ir_codebuf cur;
    uint8_t *hot_ready, *cold_ready, *data_ready; /* up to here the current arena has pages */
};

struct err;
/* `size` is a multiple of CODEMEM_ARENA. Arena 0 starts as the current one. */
int codemem_open(struct codemem *, size_t size, struct err *);
void codemem_close(struct codemem *);
/* Is there room for a block? If not, drop the blocks of arena codemem_next(), then advance. */
bool codemem_has_room(const struct codemem *);
unsigned codemem_next(const struct codemem *);
void codemem_grow(struct codemem *); /* codemem_next() will be a fresh arena, if there is one */
void codemem_advance(struct codemem *);
/* Keeps what was used of arena 0 so far (stubs) out of reuse. */
void codemem_keep(struct codemem *);
unsigned codemem_arena_of(const struct codemem *, const void *rw);
/* Single-mapping fallback: make writable / executable around changes. No-ops otherwise. */
void codemem_begin_write(struct codemem *);
void codemem_end_write(struct codemem *);

#endif
