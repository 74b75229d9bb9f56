/*
 * Disk images, seen by those who use them: devices, image tools, exports. A disk is a graph of
 * nodes: formats (qcow2) on protocols (file, nbd), filters between. Nodes are described by options
 * with dotted names, as published for -blockdev ("driver", "file.filename", "backing.driver").
 *
 * All calls on one graph come from the thread that runs its loop. They work in coroutines, where
 * they let others go on while they wait, and outside, where they run the loop until they are done.
 * Unless it says otherwise they return 0 or -errno.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/iovs.h"

struct block;
struct block_graph;
struct copy_watch;
struct err;
struct json_t;
struct keyval;
struct loop;

#define BLOCK_SECTOR 512
/* The largest image and offset there is: so sums of an offset and a length do not overflow. */
#define BLOCK_MAX_SIZE ((uint64_t)INT64_MAX & ~(uint64_t)0xffff)

/* ---- Graphs ---- */

struct block_graph *block_graph_new(struct loop *loop);
void block_graph_free(struct block_graph *g); /* nodes must be gone */
struct loop *block_graph_loop(const struct block_graph *g);
/* Images may not name other files: opening one that does fails and says so. */
void block_graph_refuse_backing(struct block_graph *g);
/* --object: "qom-type" is secret (id=,data=|file=,format=raw|base64), throttle-group, or
 * tls-creds-x509, -psk, -anon. */
int block_add_object(struct block_graph *g, const struct keyval *opts, struct err *err);
bool block_has_object(struct block_graph *g, const char *id);

/* ---- Opening ---- */

enum block_open_flags {
    BLOCK_RDWR = 1 << 0,
    BLOCK_RESIZE = 1 << 1,        /* with RDWR: its size may be changed */
    BLOCK_DIRECT = 1 << 2,        /* past the host's page cache; also cache.direct */
    BLOCK_NO_FLUSH = 1 << 3,      /* flushes are not passed on; also cache.no-flush */
    BLOCK_NO_BACKING = 1 << 4,    /* the backing file is not opened; unallocated reads as zero */
    BLOCK_NO_IO = 1 << 5,         /* for looking at metadata: no key, no data file needed */
    BLOCK_CHECK = 1 << 6,         /* for check: open what is dirty or corrupt as it is */
    BLOCK_FORCE_SHARE = 1 << 7,   /* read beside a writer; also force-share */
    BLOCK_UNMAP = 1 << 8,         /* discards give space back; also discard=unmap */
    BLOCK_WRITETHROUGH = 1 << 9,  /* every write is flushed */
    BLOCK_EXCLUSIVE = 1 << 10,    /* nobody else may write: guests' disks */
    BLOCK_SHARE_WRITE = 1 << 11,  /* set by the core on files: others may write it, too */
    BLOCK_IS_BACKING = 1 << 12,   /* set by the core */
    BLOCK_DETECT_ZERO = 1 << 13,  /* writes of zeros become zero(); also detect-zeroes=on */
    BLOCK_DETECT_UNMAP = 1 << 14, /* and give the space back; detect-zeroes=unmap */
};

/* {"driver": "qcow2", "file": {...}} as options with dotted names. */
int block_opts_from_json(struct keyval *opts, const char *json, struct err *err);

/* NULL with a sentence. Without "driver": a protocol by the name's prefix and, above it, the
 * format its first bytes show; then writes to what was taken for raw may not make it look like
 * another format. Takes what it needs from `opts` and complains of what is left. */
struct block *block_open(struct block_graph *g, const struct keyval *opts, unsigned flags,
                         struct err *err);
/* `name`: a path, "json:{...}", "nbd://...", "http://..." and so on. `format` NULL: look. `more`:
 * further options, or NULL. */
struct block *block_open_name(struct block_graph *g, const char *name, const char *format,
                              const struct keyval *more, unsigned flags, struct err *err);
void block_close(struct block *b); /* gives one reference back; NULL is fine */
struct block *block_ref(struct block *b);
struct block_graph *block_graph_of(const struct block *b);
struct block *block_find(struct block_graph *g, const char *node_name);
const char *block_node_name(const struct block *b);
bool block_has_parents(const struct block *b); /* beside the one who asks */
/* Is writing out what only memory knows, and closing; block_close() has nobody to tell. */
int block_sync_close(struct block *b, struct err *err);

/* ---- What a node is ---- */

uint64_t block_size(const struct block *b); /* bytes; what is read behind the end is zero */
bool block_readonly(const struct block *b);
const char *block_format(const struct block *b);    /* "qcow2" */
const char *block_filename(const struct block *b);  /* as given; "json:{...}" if it takes more */
struct block *block_file(const struct block *b);    /* the node below, or NULL */
struct block *block_backing(const struct block *b); /* NULL: none, or not opened */
/* What the image says its backing file is, or NULL; the format may be NULL with a name. */
const char *block_backing_name(const struct block *b, const char **format);
/* That name as it is opened: relative to the image's own folder. Freed by the caller. */
char *block_backing_path(const struct block *b, struct err *err);

struct block_info {
    uint64_t size, disk_size; /* virtual; taken on the host, UINT64_MAX: not known */
    uint32_t cluster_size;    /* 0: has none */
    uint32_t subcluster_size; /* the unit in which it can tell data from none; or 0 */
    bool encrypted, compressed, dirty, corrupt;
    bool needs_compressed;   /* it is only written in compressed units */
    bool remote;             /* raw, by a protocol that knows nothing but bytes */
    struct json_t *specific; /* {"type": ..., "data": {...}} as published, or NULL; owned */
};
int block_get_info(struct block *b, struct block_info *info, struct err *err);
void block_info_free(struct block_info *info);

/* ---- Data. Ranges must lie in the image. ---- */

enum block_io_flags {
    BLOCK_FUA = 1 << 0,         /* on the medium when it returns */
    BLOCK_MAY_UNMAP = 1 << 1,   /* zero: without keeping the space */
    BLOCK_NO_FALLBACK = 1 << 2, /* zero: -ENOTSUP rather than writing zeros */
    BLOCK_COMPRESSED = 1 << 3,  /* write: compressed, whole clusters; -ENOTSUP where it can't */
};

int block_preadv(struct block *b, uint64_t off, const struct iovs *q);
int block_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags);
int block_pread(struct block *b, uint64_t off, void *buf, size_t len);
int block_pwrite(struct block *b, uint64_t off, const void *buf, size_t len, unsigned flags);
int block_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags);
int block_discard(struct block *b, uint64_t off, uint64_t len);
/* Copies by the host without the data coming here. Any error: read and write it instead. */
int block_copy(struct block *from, uint64_t from_off, struct block *to, uint64_t to_off,
               uint64_t len);
int block_flush(struct block *b);

enum block_prealloc { PREALLOC_OFF, PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL };
extern const char *const block_prealloc_names[]; /* NULL-terminated */
int block_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc, struct err *err);

enum block_extent_flags {
    EXTENT_DATA = 1 << 0,      /* reads what is stored; neither DATA nor ZERO: nothing here */
    EXTENT_ZERO = 1 << 1,      /* reads as zero */
    EXTENT_ALLOCATED = 1 << 2, /* this layer says what is here, not the backing file */
    EXTENT_OFFSET = 1 << 3,    /* host_off is where it is in `host` */
    EXTENT_COMPRESSED = 1 << 4,
};
struct block_extent {
    uint64_t len; /* what holds for that many bytes, at least 1 */
    unsigned flags;
    uint64_t host_off;
    struct block *host; /* borrowed */
    unsigned depth;     /* block_extent_chain: 0 is b itself */
};
/* What this layer has at `off`, for at most `len` bytes. */
int block_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e);
/* Also looks below, down to but without `base` (NULL: to the end). */
int block_extent_chain(struct block *b, struct block *base, uint64_t off, uint64_t len,
                       struct block_extent *e);

/* ---- Making images ---- */

/* One option of create, amend or open. Type as in -o help: "size", "str", "bool (on/off)"... */
struct block_opt {
    const char *name, *type, *help, *preset;
};
const struct block_opt *block_create_opts(const char *format); /* NULL: no such, or can't */
const struct block_opt *block_amend_opts(const char *format);
bool block_format_exists(const char *format);
/* All, each followed by NULL at the end: for --help. */
const char **block_format_names(void); /* freed by the caller */
/* Opts have what was given after -o, and "size" in bytes. An existing file is replaced; a name
 * with protocol goes there. On failure there is no file, or the one that was there. */
int block_create(struct block_graph *g, const char *format, const char *name,
                 const struct keyval *opts, struct err *err);
int block_amend(struct block *b, const struct keyval *opts, bool force,
                void (*progress)(void *opaque, uint64_t done, uint64_t all), void *opaque,
                struct err *err);
/* Bytes a new image needs, and if all of it were allocated. `from` may be NULL: then opts' size */
struct block_measure {
    uint64_t required, fully_allocated, bitmaps;
    bool has_bitmaps;
};
int block_measure(const char *format, const struct keyval *opts, struct block *from,
                  struct block_measure *m, struct err *err);
/* Writes into the image what its backing file is; NULL: none. */
int block_set_backing(struct block *b, const char *name, const char *format, struct err *err);
/* A qcow2 image without a name on top of `base` (referenced), which takes all writes; in TMPDIR. */
struct block *block_temporary_overlay(struct block *base, struct err *err);
/* What is below `b` is another node from now on (takes a reference) or nothing. */
void block_swap_backing(struct block *b, struct block *backing);
/* Drops all its data at once, as after a commit; -ENOTSUP. */
int block_make_empty(struct block *b, struct err *err);

/* ---- Commit: what an image holds goes into one below. In a coroutine. ---- */

struct block_commit {
    const struct copy_watch *watch; /* block/copy.h, or NULL */
    void *opaque;
    uint64_t rate; /* bytes a second; 0: no limit */
    bool keep;     /* the image is not emptied afterwards */
};
/* `base` is below `top` and can be written; it grows to the size of `top` if it is smaller. */
int block_commit(struct block *top, struct block *base, const struct block_commit *how,
                 struct err *err);
/* The image of a disk in use: into its backing file, which is opened for writing meanwhile. Filters
 * above the image are looked through. No request may be in flight or come. -ENOTSUP: it has no
 * backing file; -EBUSY: another node has the same one. */
int block_commit_live(struct block *b, struct err *err);
struct block *block_overlay(struct block *b); /* the image that filters show; NULL for NULL */

/* ---- Check ---- */

struct check_report {
    uint64_t corruptions, leaks, check_errors; /* leaks in clusters */
    uint64_t corruptions_fixed, leaks_fixed;
    uint64_t image_end;                                         /* behind the last byte in use */
    uint64_t total_clusters, allocated, fragmented, compressed; /* of guest data; 0: not counted */
    /* Each finding as a sentence; may be NULL. */
    void (*say)(void *opaque, const char *text);
    void *opaque;
};
enum block_repair { REPAIR_LEAKS = 1, REPAIR_ERRORS = 2 };
int block_check(struct block *b, unsigned repair, struct check_report *r, struct err *err);

/* ---- Snapshots inside an image ---- */

struct block_snapshot {
    char *id, *name;
    uint64_t vm_state_size;
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec;
    uint64_t icount; /* UINT64_MAX: none */
    uint64_t disk_size;
};
/* -ENOTSUP: the format has none. *list freed with block_snapshots_free. */
int block_snapshots(struct block *b, struct block_snapshot **list, size_t *count);
void block_snapshots_free(struct block_snapshot *list, size_t count);
/* id NULL: the next free one. */
int block_snapshot_create(struct block *b, const struct block_snapshot *s, struct err *err);
/* `which`: an id or a name. */
int block_snapshot_apply(struct block *b, const char *which, struct err *err);
int block_snapshot_delete(struct block *b, const char *which, struct err *err);
/* Shows the snapshot in place of the disk; the node must be read-only. */
int block_snapshot_view(struct block *b, const char *which, struct err *err);
/* The machine's state beside the disk: bytes, from 0, of the snapshot made next or applied last. */
int block_vmstate_read(struct block *b, uint64_t off, void *buf, size_t len);
int block_vmstate_write(struct block *b, uint64_t off, const void *buf, size_t len);

/* ---- Dirty bitmaps kept in an image ---- */

struct block_bitmap {
    char *name;
    uint32_t granularity; /* bytes of disk for each bit: a power of two */
    bool enabled, inconsistent;
    uint64_t size;  /* bytes of disk */
    uint64_t *bits; /* word 0 bit 0 first; NULL while inconsistent */
    struct block_bitmap *next;
};
enum bitmap_op { BITMAP_ADD, BITMAP_REMOVE, BITMAP_CLEAR, BITMAP_ENABLE, BITMAP_DISABLE };
/* Bitmaps of the node, borrowed; they change with every write. NULL: none. */
struct block_bitmap *block_bitmaps(struct block *b);
/* granularity: for ADD, 0 for the preset. ADD with `disabled` starts not recording. */
int block_bitmap_change(struct block *b, enum bitmap_op op, const char *name, uint32_t granularity,
                        bool disabled, struct err *err);
/* Adds the bits of `from`, which may have another granularity. */
int block_bitmap_merge(struct block *b, const char *name, const struct block_bitmap *from,
                       struct err *err);
bool block_can_bitmaps(const struct block *b);
bool block_can_compress(const struct block *b); /* BLOCK_COMPRESSED */

/* Memory for data: aligned for any host disk; NULL without. free() it. */
void *block_alloc(size_t bytes);

/* Bytes that cluster-wise work should be a multiple of, at least a sector. */
uint32_t block_granule(const struct block *b);

#endif
