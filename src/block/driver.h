/*
 * Disk images, seen by the drivers of formats, protocols and filters: one table each. The core has
 * checked every request first: it lies in the image (protocols that grow: below BLOCK_MAX_SIZE), is
 * aligned to b->align, is allowed, is not empty. Drivers are straight-line code: all calls of
 * block.h may wait. Between waits nobody else runs; across a wait everything may have changed.
 * Everything read from an image is hostile: bound it before believing it, allocate nothing by its
 * numbers without a limit.
 */
#ifndef BLOCK_DRIVER_H
#define BLOCK_DRIVER_H

#include "base/keyval.h"
#include "block/block.h"

struct block_type;

struct block {
    const struct block_type *type;
    struct block_graph *graph;
    void *state; /* type->size bytes, zeroed before open */
    char *node_name, *filename;
    unsigned refs, flags; /* enum block_open_flags */
    uint64_t size;        /* set by open and truncate */
    uint32_t align;       /* of requests: a power of two; 1 unless open says otherwise */
    uint32_t granule;     /* cluster size or the like; 0: none */
    unsigned zero_flags;  /* which of BLOCK_MAY_UNMAP, _NO_FALLBACK its zero() honours */
    unsigned write_flags; /* which of BLOCK_FUA, _COMPRESSED its pwritev() honours; the core
                             follows with a flush where FUA is not among them */
    struct block *file, *backing, *data;
    char *backing_name, *backing_format; /* as the image says; set by open */
    bool probed;                         /* the format was guessed */
    bool encrypted;
    struct block_requests *requests; /* in flight, for align and serialising; internal */
    struct keyval opts;              /* what open() got, to do it again; internal */
    struct block *next;              /* in the graph; internal */
};

/* What create has to do. `file` is there, open read-write, empty; size 0 unless preallocated. */
struct block_new {
    struct block_graph *graph;
    const char *name; /* for sentences */
    struct block *file;
    uint64_t size;             /* a multiple of BLOCK_SECTOR */
    const struct keyval *opts; /* only names of type->create_opts */
};

struct block_type {
    const char *name, *summary, *spec;
    size_t size;                       /* of b->state */
    bool protocol;                     /* has no file below */
    bool filter;                       /* shows what is below unchanged */
    bool grows;                        /* protocol: writing behind the end makes it longer */
    bool has_backing;                  /* the format can name a backing file */
    const char *const *prefixes;       /* protocol: "nbd:", "nbd+unix:"... NULL-terminated */
    const struct block_opt *open_opts; /* beside what every node has */
    const struct block_opt *create_opts;
    const struct block_opt *amend_opts;

    int (*probe)(const uint8_t *head, size_t n, const char *name); /* 0 no, 100 sure */
    /* "nbd://..." to options; for protocols with prefixes. */
    int (*parse_name)(const char *name, struct keyval *opts, struct err *err);
    /* b->file is open (not for protocols); opts has this node's own. Sets size, align and so on,
     * backing_name; the core opens the backing file afterwards. `data`: the driver opens itself
     * with block_open_child(). When it fails it has freed what it had: close() is not called. */
    int (*open)(struct block *b, const struct keyval *opts, struct err *err);
    /* Files: tells other processes of the use, by b->flags; called when the parent is known. */
    int (*claim)(struct block *b, struct err *err);
    int (*close)(struct block *b); /* writes what is left; everything is freed in any case */
    /* NULL: the core reads what extent() says: DATA at host_off of host, ZERO, else backing. */
    int (*preadv)(struct block *b, uint64_t off, const struct iovs *q);
    int (*pwritev)(struct block *b, uint64_t off, const struct iovs *q, unsigned flags);
    int (*flush)(struct block *b); /* own caches; the core flushes file and data afterwards */
    int (*discard)(struct block *b, uint64_t off, uint64_t len); /* any bytes: rounds inward */
    /* Any bytes; -ENOTSUP for ranges it can't do cheaply, the core writes zeros then. */
    int (*zero)(struct block *b, uint64_t off, uint64_t len, unsigned flags);
    int (*extent)(struct block *b, uint64_t off, uint64_t len, struct block_extent *e);
    /* Formats whose bytes are those of b->file, moved by *shift, reading and writing. */
    int (*plain)(struct block *b, uint64_t *shift);
    /* Protocols: `from` has the same function; both ranges are aligned. May do nothing and fail. */
    int (*copy)(struct block *b, uint64_t off, struct block *from, uint64_t from_off, uint64_t len);
    int (*truncate)(struct block *b, uint64_t size, enum block_prealloc prealloc, struct err *err);
    int (*create)(const struct block_new *n, struct err *err); /* formats */
    int (*create_file)(struct block_graph *g, const char *name, const struct keyval *opts,
                       struct err *err); /* protocols: makes it empty, or with "size" */
    int (*info)(struct block *b, struct block_info *info, struct err *err);
    int (*check)(struct block *b, unsigned repair, struct check_report *r, struct err *err);
    int (*amend)(struct block *b, const struct keyval *opts, bool force,
                 void (*progress)(void *, uint64_t, uint64_t), void *opaque, struct err *err);
    int (*measure)(const struct keyval *opts, struct block *from, struct block_measure *m,
                   struct err *err);
    int (*set_backing)(struct block *b, const char *name, const char *format, struct err *err);
    int (*make_empty)(struct block *b, struct err *err);
    int (*snapshots)(struct block *b, struct block_snapshot **list, size_t *count);
    int (*snapshot_create)(struct block *b, const struct block_snapshot *s, struct err *err);
    int (*snapshot_apply)(struct block *b, const char *which, struct err *err);
    int (*snapshot_delete)(struct block *b, const char *which, struct err *err);
    int (*snapshot_view)(struct block *b, const char *which, struct err *err);
    int (*vmstate_read)(struct block *b, uint64_t off, void *buf, size_t len);
    int (*vmstate_write)(struct block *b, uint64_t off, const void *buf, size_t len);
    struct block_bitmap *(*bitmaps)(struct block *b);
    int (*bitmap_change)(struct block *b, enum bitmap_op op, const char *name, uint32_t granularity,
                         bool disabled, struct err *err);
    int (*bitmap_merge)(struct block *b, const char *name, const struct block_bitmap *from,
                        struct err *err);
};

extern const struct block_type *const block_types[]; /* NULL-terminated; types.c */
const struct block_type *block_type_find(const char *name);

/* Opens what the dotted options below `prefix` ("data-file") describe, or `name` if they give
 * none; a string under `prefix` itself names a node there is. Flags as for the parent's own file.
 */
struct block *block_open_child(struct block *parent, const struct keyval *opts, const char *prefix,
                               const char *name, unsigned flags, struct err *err);

/* A name found in an image: in the image's own folder, unless it says where. Freed by the caller.
 */
char *block_resolve_name(const struct block *b, const char *name, struct err *err);

/* Bytes of the secret with this id; freed by the caller. */
int block_get_secret(struct block_graph *g, const char *id, uint8_t **bytes, size_t *len,
                     struct err *err);

/* Options of another object (tls-creds-*), borrowed; NULL: none with that id. */
const struct keyval *block_find_object(struct block_graph *g, const char *id);
/* What a driver keeps with an object, freed with the graph; NULL: nothing yet, or another type. */
void *block_object_state(struct block_graph *g, const char *type, const char *id);
void block_object_set_state(struct block_graph *g, const char *id, void *state,
                            void (*free_fn)(void *));

/* Reads from the backing file, zeros where there is none or it ends. */
int block_read_backing(struct block *b, uint64_t off, const struct iovs *q);

/* Options of create: presets filled in by the core. */
const char *block_opt_text(const struct keyval *opts, const char *name); /* NULL: not given */
int block_opt_size(const struct keyval *opts, const char *name, uint64_t *out, struct err *err);
int block_opt_bool(const struct keyval *opts, const char *name, bool *out, struct err *err);
int block_opt_prealloc(const struct keyval *opts, enum block_prealloc *out, struct err *err);

#endif
