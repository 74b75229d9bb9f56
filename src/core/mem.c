/*
 * Memory maps: building, flattening and access. See mem.h for the contract.
 *
 * Flattening paints the tree from the highest priority down: a node takes only what nothing
 * above it has taken. Trees are small (tens of nodes) and change rarely, so the simple
 * quadratic way is enough; lookups are a binary search over the result.
 */
#include "core/mem.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/mem_internal.h"

/* ---- Tree ---- */

struct mem_map *mem_map_new(const char *name, uint64_t size)
{
    struct mem_map *map = alloc_zero(sizeof(*map));
    map->name = name;
    map->last = size - 1; /* size 0 gives the whole 2^64 */
    pthread_mutex_init(&map->lock, NULL);
    map->root.kind = MEM_NODE_CONTAINER;
    map->root.map = map;
    map->root.last = map->last;
    map->root.enabled = true;
    mem_view_rebuild(map);
    return map;
}

static void mem_node_free_tree(struct mem_node *node)
{
    while (node->children) {
        struct mem_node *child = node->children;
        node->children = child->next;
        mem_node_free_tree(child);
        free(child);
    }
}

void mem_map_free(struct mem_map *map)
{
    if (!map) {
        return;
    }
    mem_node_free_tree(&map->root);
    for (unsigned i = 0; i < MEM_VIEWS; i++) {
        for (struct mem_view *v = map->views[i], *smaller; v; v = smaller) {
            smaller = v->smaller;
            free(v);
        }
    }
    pthread_mutex_destroy(&map->lock);
    free(map);
}

/* Children are sorted: highest priority first, and the newest first among equals. */
static void mem_node_link(struct mem_node *parent, struct mem_node *node)
{
    struct mem_node **at = &parent->children;
    while (*at && (*at)->priority > node->priority) {
        at = &(*at)->next;
    }
    node->next = *at;
    *at = node;
    node->parent = parent;
}

static void mem_node_unlink(struct mem_node *node)
{
    struct mem_node **at = &node->parent->children;
    while (*at != node) {
        at = &(*at)->next;
    }
    *at = node->next;
}

static struct mem_node *mem_node_new(struct mem_map *map, enum mem_node_kind kind, gpa_t gpa,
                                     uint64_t len)
{
    assert(len && gpa <= map->last && len - 1 <= map->last - gpa);
    struct mem_node *node = alloc_zero(sizeof(*node));
    node->map = map;
    node->kind = kind;
    node->off = gpa;
    node->last = len - 1;
    node->enabled = true;
    return node;
}

static struct mem_node *mem_node_insert(struct mem_map *map, struct mem_node *node)
{
    mem_map_begin(map);
    mem_node_link(&map->root, node);
    map->stale = true;
    mem_map_commit(map);
    return node;
}

static struct mem_node *mem_map_add_block(struct mem_map *map, enum mem_node_kind kind, gpa_t gpa,
                                          struct ram *ram, uint64_t off, uint64_t len)
{
    assert(!((gpa | off | len) & 0xfff) && off <= ram->size && len <= ram->size - off);
    struct mem_node *node = mem_node_new(map, kind, gpa, len);
    node->ram = ram;
    node->ram_off = off;
    return mem_node_insert(map, node);
}

struct mem_node *mem_map_add_ram(struct mem_map *map, gpa_t gpa, struct ram *ram, uint64_t off,
                                 uint64_t len)
{
    return mem_map_add_block(map, MEM_NODE_RAM, gpa, ram, off, len);
}

struct mem_node *mem_map_add_rom(struct mem_map *map, gpa_t gpa, struct ram *ram, uint64_t off,
                                 uint64_t len)
{
    return mem_map_add_block(map, MEM_NODE_ROM, gpa, ram, off, len);
}

struct mem_node *mem_map_add_flash(struct mem_map *map, gpa_t gpa, struct ram *ram, uint64_t off,
                                   uint64_t len, const struct mmio *ops, void *dev)
{
    mem_map_begin(map);
    struct mem_node *node = mem_map_add_block(map, MEM_NODE_ROM, gpa, ram, off, len);
    node->ops = ops;
    node->dev = dev;
    mem_map_commit(map);
    return node;
}

struct mem_node *mem_map_add_mmio(struct mem_map *map, gpa_t gpa, uint64_t len,
                                  const struct mmio *ops, void *dev)
{
    assert(ops->min && ops->min <= ops->max && ops->max <= 8);
    struct mem_node *node = mem_node_new(map, MEM_NODE_MMIO, gpa, len);
    node->ops = ops;
    node->dev = dev;
    return mem_node_insert(map, node);
}

struct mem_node *mem_map_add_alias(struct mem_map *map, gpa_t gpa, struct mem_node *of,
                                   uint64_t off, uint64_t len)
{
    assert(of->map == map && off <= of->last && len - 1 <= of->last - off);
    struct mem_node *node = mem_node_new(map, MEM_NODE_ALIAS, gpa, len);
    node->target = of;
    node->target_off = off;
    return mem_node_insert(map, node);
}

struct mem_node *mem_map_add_container(struct mem_map *map, gpa_t gpa, uint64_t len)
{
    return mem_node_insert(map, mem_node_new(map, MEM_NODE_CONTAINER, gpa, len));
}

void mem_node_place(struct mem_node *node, struct mem_node *container, uint64_t off, int priority)
{
    struct mem_map *map = node->map;
    if (!container) {
        container = &map->root;
    }
    assert(container->kind == MEM_NODE_CONTAINER && container->map == map);
    mem_map_begin(map);
    mem_node_unlink(node);
    node->off = off;
    node->priority = priority;
    mem_node_link(container, node);
    map->stale = true;
    mem_map_commit(map);
}

void mem_node_move(struct mem_node *node, uint64_t off)
{
    struct mem_map *map = node->map;
    mem_map_begin(map);
    if (node->off != off) {
        node->off = off;
        map->stale |= node->enabled;
    }
    mem_map_commit(map);
}

void mem_node_enable(struct mem_node *node, bool on)
{
    struct mem_map *map = node->map;
    mem_map_begin(map);
    if (node->enabled != on) {
        node->enabled = on;
        map->stale = true;
    }
    mem_map_commit(map);
}

void mem_map_remove(struct mem_node *node)
{
    struct mem_map *map = node->map;
    mem_map_begin(map);
    mem_node_unlink(node);
    mem_node_free_tree(node);
    free(node);
    map->stale = true;
    mem_map_commit(map);
}

void mem_map_begin(struct mem_map *map)
{
    pthread_mutex_lock(&map->lock);
    map->depth++;
    pthread_mutex_unlock(&map->lock);
}

void mem_map_commit(struct mem_map *map)
{
    pthread_mutex_lock(&map->lock);
    assert(map->depth);
    map->depth--;
    bool stale = map->stale && !map->depth;
    if (stale) {
        mem_view_rebuild(map);
    }
    pthread_mutex_unlock(&map->lock);
    if (stale && map->changed) {
        map->changed(map->changed_opaque);
    }
}

void mem_map_on_change(struct mem_map *map, void (*changed)(void *opaque), void *opaque)
{
    map->changed = changed;
    map->changed_opaque = opaque;
}

void mem_map_changed(struct mem_map *map)
{
    if (map->changed) {
        map->changed(map->changed_opaque);
    }
}

/* ---- Flattening ---- */

struct mem_paint {
    struct mem_ext *ext;
    size_t count, room;
};

static void mem_paint_put(struct mem_paint *p, size_t at, const struct mem_ext *ext)
{
    if (p->count == p->room) {
        p->room = p->room ? p->room * 2 : 32;
        p->ext = alloc_resize(p->ext, p->room, sizeof(*p->ext));
    }
    memmove(p->ext + at + 1, p->ext + at, (p->count - at) * sizeof(*p->ext));
    p->ext[at] = *ext;
    p->count++;
}

/* Puts the parts of `whole` that are still free; p->ext stays sorted. */
static void mem_paint_free_parts(struct mem_paint *p, const struct mem_ext *whole)
{
    gpa_t from = whole->start;
    for (size_t i = 0; i <= p->count; i++) {
        if (i < p->count && p->ext[i].last < from) {
            continue;
        }
        bool blocked = i < p->count && p->ext[i].start <= whole->last;
        gpa_t end = blocked ? p->ext[i].start : whole->last;
        if (!blocked || from < end) {
            struct mem_ext part = *whole;
            part.off += from - whole->start;
            part.start = from;
            part.last = blocked ? end - 1 : end;
            mem_paint_put(p, i, &part);
            i++;
        }
        if (!blocked || p->ext[i].last >= whole->last) {
            return;
        }
        from = p->ext[i].last + 1;
    }
}

/*
 * Paints `node` where its byte `skip` lies at `gpa`, cut to gpa..last.
 * An alias paints its target's subtree from the offset in question.
 */
static void mem_paint_node(struct mem_paint *p, const struct mem_node *node, uint64_t skip,
                           gpa_t gpa, gpa_t last, unsigned depth)
{
    if (!node->enabled || depth > 8 || skip > node->last) {
        return;
    }
    if (last - gpa > node->last - skip) {
        last = gpa + (node->last - skip);
    }
    switch (node->kind) {
    case MEM_NODE_ALIAS:
        mem_paint_node(p, node->target, node->target_off + skip, gpa, last, depth + 1);
        return;
    case MEM_NODE_CONTAINER:
        for (const struct mem_node *c = node->children; c; c = c->next) {
            uint64_t window_last = skip + (last - gpa); /* in this container's offsets */
            if (c->off > window_last || c->off + c->last < skip) {
                continue;
            }
            uint64_t child_skip = c->off < skip ? skip - c->off : 0;
            mem_paint_node(p, c, child_skip, gpa + (c->off + child_skip - skip), last, depth + 1);
        }
        return;
    case MEM_NODE_RAM:
    case MEM_NODE_ROM:
    case MEM_NODE_MMIO: {
        struct mem_ext ext = {.start = gpa,
                              .last = last,
                              .node = node->kind,
                              .ops = node->ops,
                              .dev = node->dev,
                              .ram = node->ram,
                              .off = node->ram_off + skip,
                              .ram_off = node->ram_off};
        mem_paint_free_parts(p, &ext);
        return;
    }
    }
}

/* The oldest view, if it has room; else a new one, twice as large as needed, in its place. */
static struct mem_view *mem_view_take(struct mem_map *map, size_t count)
{
    struct mem_view **slot = &map->views[map->next_view++ % MEM_VIEWS], *v = *slot;
    if (!v || v->room < count) {
        size_t room = count * 2 + 16;
        struct mem_view *larger = alloc_zero(sizeof(*v) + room * sizeof(v->ext[0]));
        larger->room = room;
        larger->smaller = v;
        *slot = v = larger;
    }
    return v;
}

void mem_view_rebuild(struct mem_map *map)
{
    struct mem_paint p = {0};
    mem_paint_node(&p, &map->root, 0, 0, map->last, 0);
    struct mem_view *view = mem_view_take(map, p.count);
    atomic_fetch_add(&view->turn, 1);
    atomic_thread_fence(memory_order_seq_cst);
    view->count = p.count;
    if (p.count) {
        memcpy(view->ext, p.ext, p.count * sizeof(view->ext[0]));
    }
    free(p.ext);
    atomic_fetch_add_explicit(&view->turn, 1, memory_order_release);
    atomic_store_explicit(&map->view, view, memory_order_release);
    map->stale = false;
}
