/* The block core, inside. */
#ifndef BLOCK_CORE_H
#define BLOCK_CORE_H

#include "block/driver.h"
#include "loop/co.h"

struct aio;

struct block_secret {
    char *id;
    uint8_t *bytes;
    size_t len;
    struct block_secret *next;
};

struct block_object {
    struct keyval opts;
    void *state;
    void (*free)(void *);
    struct block_object *next;
};

struct block_graph {
    struct loop *loop;
    struct aio *aio;
    struct block *nodes;
    struct block_secret *secrets;
    struct block_object *objects;
    bool refuse_backing;
    unsigned made; /* for names of nodes that were given none */
};

/* A range that somebody works on and others must wait for: alignment, copy on read. */
struct block_range {
    uint64_t off, end;
    struct co_queue waiting;
    struct block_range *next;
};

struct block_requests {
    struct block_range *ranges;
    uint64_t writes, flushed; /* writes so far; those that the last flush covers */
    bool flushing;
    struct co_queue flush_waiting;
};

void block_range_lock(struct block *b, struct block_range *r, uint64_t off, uint64_t len);
void block_range_unlock(struct block *b, struct block_range *r);

bool block_name_has_protocol(const char *name); /* "nbd:x", but not "./a:b" */
bool block_head_is_format(const uint8_t *head, size_t n);

/* Only the protocol's node of a name. */
struct block *block_open_protocol(struct block_graph *g, const char *name, unsigned flags,
                                  struct err *err);
/* Makes what `name` stands for, empty. */
int block_protocol_create(struct block_graph *g, const char *name, const struct keyval *opts,
                          struct err *err);

/* ---- uses.c: several parents of one node ---- */
/* -EPERM if one writes what another relies on. `as`: how `parent` is about to use it, or NULL. */
int block_check_uses(const struct block *b, const struct block *parent, const char *as,
                     struct err *err);

/* ---- reopen.c ---- */
/* For writing and resizing, or for reading, in place. In a coroutine, with no request in flight to
 * `b` or what it alone uses. If it fails the node is as it was, or only fails from now on when not
 * even that can be opened again. */
int block_reopen(struct block *b, bool write, struct err *err);

#define BLOCK_MAX_DEPTH 100 /* of a backing chain */

/* ---- locks.c: other processes with the same file, as QEMU tells them ---- */
/* What this node will do and lets others do, from its flags. `shares_write`: raw images of tools */
int file_lock(int fd, unsigned flags, bool shares_write, const char *name, struct err *err);

#endif
