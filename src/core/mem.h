/*
 * Guest physical memory and port I/O: one map type for both.
 *
 * A map is built as a tree of nodes (RAM, ROM, MMIO, alias, container; priority counts only
 * among the children of one container) and flattened to an immutable sorted view. The view is
 * swapped whole; readers take no lock.
 *
 * Guest addresses become host pointers in mem.c and nowhere else.
 */
#ifndef CORE_MEM_H
#define CORE_MEM_H

#include "base/types.h"

struct err;

/* ---- RAM blocks ---- */

/*
 * A block of host memory that the guest can see. `base` is where its bytes lie in the space of
 * RAM offsets (ram_off_t), which names each byte of guest RAM and ROM once.
 */
struct ram {
    const char *name;
    uint8_t *host;
    uint64_t size;
    ram_off_t base;
    /*
     * Set by the accelerator before a guest runs: a bit for each vcpu, in `code_stride` bytes per
     * 4 KiB page of this block, set while translations of the page exist; and who wants to know
     * when such a page is written by anybody else (any thread; `off` and `len` lie inside one
     * block).
     */
    _Atomic uint8_t *code_pages;
    unsigned code_stride;
    void (*code_written)(void *opaque, ram_off_t off, uint64_t len);
    void *code_opaque;
    struct ram *next;
};

struct ram_set {
    struct ram *first; /* in order of `base` */
    ram_off_t next_base;
};

/* Anonymous, zeroed; size is rounded up to whole pages. NULL with a sentence without memory. */
struct ram *ram_set_add(struct ram_set *set, const char *name, uint64_t size, struct err *err);
void ram_set_free(struct ram_set *set);
/* The block that holds `off`, or NULL. */
struct ram *ram_set_find(const struct ram_set *set, ram_off_t off);
/* Gives all pages back to the host, so that they read as zero. */
void ram_clear(struct ram *ram);
/* For who stores to `host` itself: translations of these bytes go. */
void ram_wrote(struct ram *ram, uint64_t off, uint64_t len);
/* Gives the whole pages inside of a range back to the host: they read as zero until written. */
void ram_discard(struct ram *ram, uint64_t off, uint64_t len);

/* ---- Device registers ---- */

enum mem_result {
    MEM_OK,
    MEM_NONE,     /* nothing there: reads give all ones, writes vanish */
    MEM_READONLY, /* a write to ROM: it vanishes */
    MEM_REFUSED,  /* the device does not take this size or alignment */
};

/*
 * `off` is relative to the region. Called on any thread without a lock: the device takes its
 * own. An access larger than `max` or not naturally aligned is split, low address first; a read
 * smaller than `min` is cut out of an aligned one of `min`; such a write is refused.
 */
struct mmio {
    enum mem_result (*read)(void *dev, uint64_t off, unsigned size, uint64_t *val);
    enum mem_result (*write)(void *dev, uint64_t off, unsigned size, uint64_t val);
    uint8_t min, max; /* bytes: 1, 2, 4 or 8 */
};

/* ---- Building ---- */

struct mem_map;
struct mem_node;

struct mem_map *mem_map_new(const char *name, uint64_t size); /* size 0: the whole 2^64 */
void mem_map_free(struct mem_map *map);

/* These put one node into the root; the last one added wins where two overlap. */
struct mem_node *mem_map_add_ram(struct mem_map *map, gpa_t gpa, struct ram *ram, uint64_t off,
                                 uint64_t len);
struct mem_node *mem_map_add_rom(struct mem_map *map, gpa_t gpa, struct ram *ram, uint64_t off,
                                 uint64_t len);
/* ROM whose writes go to a device: `off` in ops->write is relative to the node. */
struct mem_node *mem_map_add_flash(struct mem_map *map, gpa_t gpa, struct ram *ram, uint64_t off,
                                   uint64_t len, const struct mmio *ops, void *dev);
struct mem_node *mem_map_add_mmio(struct mem_map *map, gpa_t gpa, uint64_t len,
                                  const struct mmio *ops, void *dev);
/* A second place for `len` bytes of another node, from `off` in it. */
struct mem_node *mem_map_add_alias(struct mem_map *map, gpa_t gpa, struct mem_node *of,
                                   uint64_t off, uint64_t len);
struct mem_node *mem_map_add_container(struct mem_map *map, gpa_t gpa, uint64_t len);
/* Moves a node below a container, at `off` in it; higher priority wins there. */
void mem_node_place(struct mem_node *node, struct mem_node *container, uint64_t off, int priority);
void mem_node_move(struct mem_node *node, uint64_t off); /* in the container where it is */
void mem_node_enable(struct mem_node *node, bool on);
void mem_map_remove(struct mem_node *node); /* frees it; aliases of it must go first */

/* Between these, changes are collected and one view is made. They nest. */
void mem_map_begin(struct mem_map *map);
void mem_map_commit(struct mem_map *map);

/* Called with the new view in force, on the thread that changed the map. One listener. */
void mem_map_on_change(struct mem_map *map, void (*changed)(void *opaque), void *opaque);
void mem_map_changed(struct mem_map *map); /* tells it of what the map does not show */

/* ---- Access ---- */

/* size 1, 2, 4 or 8; little endian; any alignment. RAM accesses are not ordered. */
enum mem_result mem_read(struct mem_map *map, gpa_t gpa, unsigned size, uint64_t *val);
enum mem_result mem_write(struct mem_map *map, gpa_t gpa, unsigned size, uint64_t val);

enum mem_kind { MEM_KIND_NONE, MEM_KIND_RAM, MEM_KIND_ROM, MEM_KIND_MMIO };

/* What lies at an address. `start` to `last` is the extent in which the answer is the same. */
struct mem_hit {
    enum mem_kind kind;
    bool writable;     /* plain stores to `host` are allowed */
    gpa_t start, last; /* both included */
    uint8_t *host;     /* RAM, ROM: of `gpa` itself */
    ram_off_t off;     /* RAM, ROM: of `gpa` itself */
    struct ram *ram;   /* RAM, ROM */
    const struct mmio *ops;
    void *dev;
    uint64_t dev_off; /* MMIO: of `gpa` itself */
};

/* False (and MEM_KIND_NONE with the extent of the hole) when nothing is there. */
bool mem_lookup(struct mem_map *map, gpa_t gpa, struct mem_hit *hit);

/* ---- Bulk access to guest RAM: loaders and DMA ---- */

/* All or nothing is checked first: false when a byte is not RAM (writes) or RAM/ROM (reads). */
bool gmem_read(struct mem_map *map, gpa_t gpa, void *buf, uint64_t len);
bool gmem_write(struct mem_map *map, gpa_t gpa, const void *buf, uint64_t len);
bool gmem_fill(struct mem_map *map, gpa_t gpa, uint8_t byte, uint64_t len);

/* As ram_discard(); false, and nothing is done, when not all of it is one piece of RAM. */
bool gmem_discard(struct mem_map *map, gpa_t gpa, uint64_t len);

struct gmem_span {
    uint8_t *host;
    uint64_t len; /* at most what was asked for */
    struct ram *ram;
    ram_off_t off;
};
/* Writable RAM only. False when the first byte is not. Writers call gmem_wrote() afterwards. */
bool gmem_span(struct mem_map *map, gpa_t gpa, uint64_t len, struct gmem_span *span);
void gmem_wrote(const struct gmem_span *span);

#endif
