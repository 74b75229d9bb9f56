/*
 * Copying the data of images into another: the heart of convert and commit. Several coroutines take
 * one piece of the source after the other; ranges known to be zero are never read, and not written
 * where the target is zero already.
 */
#ifndef BLOCK_COPY_H
#define BLOCK_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/block.h"
#include "loop/co.h"

struct err;

#define COPY_BUFFER (1u << 20)
/* The largest cluster that is written whole. */
#define COPY_MAX_UNIT (2u << 20)
/* Where the source is compressed: unpacking needs memory beside it. */
#define COPY_PACKED (256u << 10)
#define COPY_WORKERS_MAX 16

struct copy_source {
    struct block *b;
    uint64_t from;    /* its first byte that is copied */
    uint64_t at, len; /* where in the target; a multiple of a sector */
};

/* What whoever asked for the copy wants to know; NULL members: nothing. */
struct copy_watch {
    void (*progress)(void *opaque, uint64_t done, uint64_t all);
    int (*stopped)(void *opaque, struct err *err);       /* not 0: the copy ends with that */
    void (*lost)(void *opaque, uint64_t off, int error); /* salvage: a sector taken for zeros */
};

enum copy_kind { COPY_DATA, COPY_ZERO, COPY_SKIP };

struct copy {
    const struct copy_watch *watch; /* or NULL */
    void *opaque;
    const struct copy_source *sources;
    size_t source_count;
    struct block *target;
    uint64_t total;
    uint64_t rate;     /* bytes a second; 0: no limit */
    uint32_t min_zero; /* zeros found in data that are worth leaving out; 0: write everything */
    unsigned workers;
    bool target_zero; /* reads as zero all over */
    /* What no layer of the source above `base` has, is not copied, up to skip_end. */
    bool skip;
    struct block *base;
    uint64_t skip_end;
    bool zero_behind; /* there the target reads as zero */
    bool compressed, out_of_order, salvage;
    bool offload; /* let the host copy; data is not looked at for zeros, even where it can't */

    /* internal */
    uint32_t unit, step, piece;
    bool host_refused; /* to copy */
    uint64_t pos, extent_start, extent_end, done, sequence, turn;
    bool extent_packed; /* it is compressed */
    enum copy_kind extent_kind;
    struct co_lock map_lock;
    struct co_queue turns, ended;
    unsigned running;
    long long start_ns;
    int ret;
    struct err *err;
};

/* In a coroutine. 0 or -errno with a sentence; the target may then hold part of it. */
int copy_run(struct copy *c, struct err *err);

#endif
