/* Inside of memory maps, shared by mem.c (building) and mem_access.c. */
#ifndef CORE_MEM_INTERNAL_H
#define CORE_MEM_INTERNAL_H

#include <pthread.h>

#include "core/mem.h"

enum mem_node_kind {
    MEM_NODE_RAM,
    MEM_NODE_ROM,
    MEM_NODE_MMIO,
    MEM_NODE_ALIAS,
    MEM_NODE_CONTAINER,
};

struct mem_node {
    enum mem_node_kind kind;
    bool enabled;
    int priority;
    struct mem_map *map;
    struct mem_node *parent, *next, *children;
    uint64_t off;  /* in the parent */
    uint64_t last; /* length minus one */
    struct ram *ram;
    uint64_t ram_off;
    const struct mmio *ops;
    void *dev;
    struct mem_node *target;
    uint64_t target_off;
};

/* One piece of the flat view; `off` is the offset of `start` in the RAM block or device. */
struct mem_ext {
    gpa_t start, last;
    enum mem_node_kind node;
    const struct mmio *ops;
    void *dev;
    struct ram *ram;
    uint64_t off;
    uint64_t ram_off; /* ROM: where the node begins in its block */
};

/*
 * Readers take no lock: they copy what they found and look whether the view is still the same. So
 * views are used again, oldest first, and never freed while the map lives: a guest that moves
 * things about costs no more memory than a handful of views.
 */
enum { MEM_VIEWS = 8 };

struct mem_view {
    _Atomic uint64_t turn; /* odd while it is being made */
    size_t room, count;
    struct mem_view *smaller; /* what it has replaced, for the end */
    struct mem_ext ext[];
};

struct mem_map {
    const char *name;
    uint64_t last;
    pthread_mutex_t lock; /* the tree and what follows; not the view */
    unsigned depth;
    bool stale;
    struct mem_node root;
    void (*changed)(void *opaque);
    void *changed_opaque;
    struct mem_view *_Atomic view;
    struct mem_view *views[MEM_VIEWS]; /* by the lock, in turn */
    unsigned next_view;
};

void mem_view_rebuild(struct mem_map *map);

#endif
