/*
 * qcow2, inside. Specification: "Qcow2 Image File Format" (docs/specs.md: qcow2), versions 2 and 3.
 *
 * All of struct qcow2 belongs to the graph's loop. `lock` is held while tables change or are looked
 * up and may be held across waits; guest data moves without it.
 */
#ifndef BLOCK_QCOW2_INTERNAL_H
#define BLOCK_QCOW2_INTERNAL_H

#include <pthread.h>

#include "block/driver.h"
#include "loop/co.h"

struct cipher;
struct table_cache;

enum {
    QCOW2_MAGIC = 0x514649fb,
    QCOW2_MIN_CLUSTER_BITS = 9,
    QCOW2_MAX_CLUSTER_BITS = 21,
    QCOW2_MAX_SNAPSHOTS = 65536,
    QCOW2_MAX_BITMAPS = 65535,
    QCOW2_SUBCLUSTERS = 32,
    QCOW2_BUFFERS = 8,
};
#define QCOW2_MAX_L1_BYTES (32u << 20)
#define QCOW2_MAX_REFTABLE_BYTES (8u << 20)
#define QCOW2_MAX_SNAPSHOT_BYTES (64u << 20) /* of the whole table */

enum qcow2_incompatible {
    QCOW2_DIRTY = 1 << 0,
    QCOW2_CORRUPT = 1 << 1,
    QCOW2_DATA_FILE = 1 << 2,
    QCOW2_COMPRESSION = 1 << 3,
    QCOW2_EXTL2 = 1 << 4,
};
enum qcow2_compatible { QCOW2_LAZY_REFCOUNTS = 1 << 0 };
enum qcow2_autoclear { QCOW2_BITMAPS = 1 << 0, QCOW2_DATA_FILE_RAW = 1 << 1 };
enum qcow2_crypt { QCOW2_CRYPT_NONE, QCOW2_CRYPT_AES, QCOW2_CRYPT_LUKS };

/* Of L1 and L2 entries. */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ULL
#define QCOW2_COPIED (1ULL << 63)
#define QCOW2_COMPRESSED (1ULL << 62)
#define QCOW2_ZERO 1ULL

/* A header extension that we do not know is kept as it is. */
struct qcow2_ext {
    uint32_t type, len;
    uint8_t *bytes;
    struct qcow2_ext *next;
};

struct qcow2_snap {
    struct block_snapshot s;
    uint64_t l1_off;
    uint32_t l1_size;
    uint8_t *extra; /* extra data behind what we know, kept */
    uint32_t extra_len;
};

enum qcow2_discard { QCOW2_DISCARD_OTHER, QCOW2_DISCARD_REQUEST, QCOW2_DISCARD_SNAPSHOT };

/* What open was told. */
struct qcow2_options {
    bool lazy_refcounts, discard_request, discard_snapshot, discard_other;
    uint64_t l2_cache, ref_cache; /* bytes */
    char *key_secret;
};

struct qcow2 {
    struct block *b;
    struct co_lock lock;

    /* The header, as on disk */
    unsigned version, cluster_bits, refcount_order, compression; /* 0 deflate, 1 zstd */
    uint32_t header_len, crypt;
    uint64_t incompatible, compatible, autoclear;
    uint64_t l1_off, reftable_off, snapshots_off;
    uint32_t reftable_clusters;
    struct qcow2_ext *unknown_ext;
    char *data_file_name; /* extension; NULL */
    uint64_t crypt_off, crypt_len;
    uint32_t bitmaps_count;
    uint64_t bitmaps_dir_off, bitmaps_dir_len;

    /* Derived */
    uint32_t cluster_size, l2_entry_bytes, l2_entries; /* entries in one L2 table */
    uint32_t subclusters, subcluster_size;             /* 1 without extended L2 */
    uint64_t *l1;                                      /* host byte order */
    uint32_t l1_size;                                  /* entries */
    uint64_t *reftable;
    uint64_t reftable_size; /* entries */
    struct table_cache *l2_cache, *ref_cache;
    uint64_t free_hint; /* cluster number below which nothing is free */
    struct cipher *cipher;

    struct qcow2_snap *snaps;
    uint32_t snap_count;
    uint64_t snapshot_bytes; /* of the table on disk */
    bool snapshots_bad;      /* for check: what snaps[] has is not all */
    bool viewing;            /* l1 is a snapshot's: block_snapshot_view */

    struct block_bitmap *bitmaps; /* bitmaps.c */
    bool bitmaps_in_use;          /* marked so on disk */

    bool is_corrupt; /* found something that must not be: only reads from now on */

    /* cluster.c: allocations whose L2 entry is not yet set, and who waits for one of them */
    struct qcow2_inflight *inflight;
    struct co_queue inflight_done;
    uint8_t *l1_dirty; /* a byte for each 512 bytes of the L1 table that differ from the disk */
    bool l1_is_dirty;

    /* refcount.c, reftable.c */
    uint8_t *reftable_dirty;
    bool reftable_is_dirty;
    uint64_t fresh; /* from this byte of the file on nothing was ever stored: it reads as zero */
    struct cluster_set *meta; /* overlap.c: clusters of L2 tables and refcount blocks */

    /* rw.c: guest I/O on host clusters, by the parity of `epoch` in which it began */
    unsigned epoch, io_count[2];
    struct co *io_waiter;

    /* header.c */
    uint8_t *header_copy; /* as last read or written, one cluster */
    uint8_t *header_more; /* fields behind those we know */
    uint32_t header_more_len;
    bool header_unsure; /* the one on disk may have what was taken back here */

    /* compress.c */
    pthread_mutex_t codec_lock;   /* for `codecs`, which workers take themselves */
    struct qcow2_codec *codecs;   /* not in use; the last one used first, as its tables are near */
    void *buffers[QCOW2_BUFFERS]; /* not in use, of two clusters each */
    unsigned buffer_count;
    uint64_t packed_at; /* where the next compressed cluster goes; 0: in a new cluster */

    enum qcow2_sparse { QCOW2_SPARSE_UNKNOWN, QCOW2_SPARSE, QCOW2_NOT_SPARSE } sparse; /* zero.c */

    enum qcow2_discard freeing;   /* why clusters are being freed; set under lock */
    struct qcow2_range *discards; /* to be passed on after the next barrier */
    unsigned discard_count;

    struct qcow2_options o;
    bool lazy_marked; /* the dirty bit is set on disk: refcounts there may be old */
};

/* ---- header.c ---- */
/* Fills what the header says, b->size and the backing name; every number is bounded. */
int qcow2_read_header(struct qcow2 *s, struct err *err);
void qcow2_free_header(struct qcow2 *s);
/* `off` is aligned and n entries of `bytes` from it on lie below any limit. */
int qcow2_check_table(const struct qcow2 *s, uint64_t off, uint64_t n, size_t bytes, uint64_t max,
                      const char *what, struct err *err);
/* From the image file; what is behind its end reads as zero. */
int qcow2_file_read(struct qcow2 *s, uint64_t off, void *buf, size_t len);
/* Writes the header with all its extensions as the struct says, in place; the first cluster is
 * written whole. The caller has made what it points to durable. */
int qcow2_write_header(struct qcow2 *s);
/* The same and a sync. After a failure nobody knows what is on disk: the caller puts the fields
 * back as they were, and the next barrier writes them before anything else (I6). */
int qcow2_commit_header(struct qcow2 *s);
/* Writes it again at once if the last commit failed. */
int qcow2_settle_header(struct qcow2 *s);

/* ---- overlap.c ---- */
/* Metadata that cannot be: marks the image corrupt, on disk too if it can be; returns -EIO. */
int qcow2_corrupt(struct qcow2 *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Is there metadata of the image in this host range? Then nobody may write data there. */
bool qcow2_overlaps_meta(struct qcow2 *s, uint64_t off, uint64_t len);
int qcow2_meta_init(struct qcow2 *s); /* after L1 and refcount table are read */
void qcow2_meta_free(struct qcow2 *s);
void qcow2_meta_add(struct qcow2 *s, uint64_t off);
void qcow2_meta_remove(struct qcow2 *s, uint64_t off);

/* ---- refcount_bits.c: entries of 1 << order bits ---- */
uint64_t qcow2_count_load(const void *block, unsigned order, uint64_t i);
void qcow2_count_store(void *block, unsigned order, uint64_t i, uint64_t count);
/* The first entry from `i` below `end` that is zero (or, `used`, is not); `end`: none. */
uint64_t qcow2_count_find(const void *block, unsigned order, uint64_t i, uint64_t end, bool used);
static inline uint64_t qcow2_count_max(unsigned order)
{
    return order == 6 ? UINT64_MAX : (1ULL << (1u << order)) - 1;
}

/* ---- refcount.c, reftable.c ---- */
int qcow2_refcount_init(struct qcow2 *s, struct err *err); /* reads the refcount table */
void qcow2_refcount_drop(struct qcow2 *s);
/* Like qcow2_alloc, but as many as lie free in a row, at least one. */
int qcow2_alloc_some(struct qcow2 *s, uint64_t max, uint64_t *off, uint64_t *got);
/* For refcount.c: makes sure that there is a refcount block for this cluster. */
int qcow2_need_refblock(struct qcow2 *s, uint64_t cluster);
uint64_t qcow2_refblock_entries(const struct qcow2 *s);
int qcow2_write_reftable(struct qcow2 *s); /* the parts that changed */
/* Was freed, references are gone durably: passes it on to the host if it is to be. */
void qcow2_note_discard(struct qcow2 *s, uint64_t cluster, uint64_t clusters);
void qcow2_pass_discards(struct qcow2 *s);
int qcow2_mark_dirty(struct qcow2 *s); /* lazy refcounts: before the first of them gets old */
/* The first free cluster from `at` on, at most `max` in a row. */
int qcow2_find_free(struct qcow2 *s, uint64_t at, uint64_t max, uint64_t *first, uint64_t *n);
/* A refcount block in the cache: entry of the reftable must not be 0. */
struct table;
int qcow2_refblock_get(struct qcow2 *s, uint64_t index, struct table **t);
int qcow2_refcount_get(struct qcow2 *s, uint64_t cluster, uint64_t *count);
/* Adds delta (not 0) to every cluster that [off, off+len) touches; -ERANGE: would not fit.
 * What falls to 0 is free, but is not used again before qcow2_barrier(). */
int qcow2_refcount_add(struct qcow2 *s, uint64_t off, uint64_t len, int64_t delta);
/* New clusters in a row, refcount 1. Their contents are not cleared. -ENOSPC, -EFBIG. */
int qcow2_alloc(struct qcow2 *s, uint64_t clusters, uint64_t *off);
int qcow2_free(struct qcow2 *s, uint64_t off, uint64_t len);
/* Drops the reference that an L2 entry holds, compressed or not. */
int qcow2_free_entry(struct qcow2 *s, uint64_t l2_entry, uint64_t subcluster_bitmap);
/* Host range of a compressed entry. */
void qcow2_compressed_range(const struct qcow2 *s, uint64_t l2_entry, uint64_t *off, uint64_t *len);
/* Replaces reftable and refcount blocks by new ones (check's repair, amend), which lie behind the
 * end of the file. What count_of says leaves out the clusters that hold refcounts now, so those
 * are free afterwards. */
int qcow2_rebuild_refcounts(struct qcow2 *s, unsigned order,
                            int (*count_of)(void *opaque, uint64_t cluster, uint64_t *count),
                            void *opaque, uint64_t clusters, struct err *err);

/* ---- cache.c: tables of one cluster each, written back in order ---- */
/* All changed tables to disk, refcounts before what refers to the clusters, synced in between:
 * when it returns, all is durable and what was freed may be used again. */
int qcow2_barrier(struct qcow2 *s);
/* Forgets unchanged tables and -EBUSY if there are changed ones (call qcow2_barrier before). */
int qcow2_drop_caches(struct qcow2 *s);

struct table {
    uint64_t off;
    uint8_t *data;
    /* Refcount blocks: before a count went down, and with every count that went up since: what may
     * be written while references on disk may still be there. NULL: the same as data. */
    uint8_t *safe;
    uint32_t pins;
    uint32_t dirty_lo, dirty_hi; /* bytes of `safe` that differ from the disk; hi 0: none */
    uint32_t down_lo, down_hi;   /* entries of `data` that differ from `safe` */
    uint64_t first;              /* refcount blocks: the first cluster they count */
    bool dirty;                  /* in the list of those */
    uint32_t lent;               /* to users of qcow2_l2_get */
    struct table *hash_next, *older, *newer, *lent_next;
};
struct table_cache *qcow2_cache_new(struct qcow2 *s, uint64_t bytes);
void qcow2_cache_free(struct table_cache *c);
/* Pinned until put. `fresh`: do not read, it is new and all zero. */
int qcow2_cache_get(struct table_cache *c, uint64_t off, bool fresh, struct table **t);
struct table *qcow2_cache_peek(struct table_cache *c, uint64_t off); /* NULL: not there */
void qcow2_cache_put(struct table *t);
/* Of which table is this the data? lend before, lent once for each. */
void qcow2_cache_lend(struct table_cache *c, struct table *t);
struct table *qcow2_cache_lent(struct table_cache *c, const void *data);
void qcow2_cache_dirty(struct table_cache *c, struct table *t, uint32_t lo, uint32_t hi);
void qcow2_cache_forget(struct table_cache *c, uint64_t off); /* it is freed */
void qcow2_cache_forget_all(struct table_cache *c);           /* changed or not */
/* Those sectors of a table of n entries that `dirty` has a byte for. */
int qcow2_write_entries(struct qcow2 *s, uint64_t off, const uint64_t *v, uint64_t n,
                        const uint8_t *dirty);
/* Before an entry goes down: from now on `safe` is what is written. */
int qcow2_cache_make_safe(struct table_cache *c, struct table *t);
bool qcow2_cache_is_dirty(const struct table_cache *c);
/* Refcounts that went up to disk, without what goes down as long as references may be there. */
int qcow2_write_refcounts(struct qcow2 *s);
int qcow2_sync(struct qcow2 *s); /* image file and data file */
/* Waits until guest I/O on host clusters that is going on now has ended. The lock is held. */
void qcow2_wait_io(struct qcow2 *s);

/* ---- cluster.c ---- */
/* One table of one cluster, big-endian as on disk; pinned until qcow2_l2_put. */
int qcow2_l2_get(struct qcow2 *s, uint64_t l2_off, void **table);
void qcow2_l2_put(struct qcow2 *s, void *table, bool changed);
/* Room for that many L1 entries, in a new place, switched over durably. */
int qcow2_grow_l1(struct qcow2 *s, uint32_t entries);
/* s->l1[index] was changed: the next barrier writes it. */
int qcow2_write_l1_entry(struct qcow2 *s, uint32_t index);
int qcow2_l1_init(struct qcow2 *s, struct err *err); /* reads the active L1 table */

enum qcow2_kind {
    QCOW2_NOTHING,  /* the backing file's */
    QCOW2_ZEROS,    /* reads as zero */
    QCOW2_DATA,     /* at `host` */
    QCOW2_DEFLATED, /* compressed; `entry` says where */
};
struct qcow2_map {
    enum qcow2_kind kind;
    uint64_t len;  /* for which it holds, `host` going on in a row */
    uint64_t host; /* of the first byte; DATA, and others where has_host */
    bool has_host; /* there is a cluster behind it */
    bool copied;   /* and it is ours alone */
    uint64_t entry;
};
/* What is at `off`; at most one L2 table's worth. Takes the lock only if it must read. */
int qcow2_lookup(struct qcow2 *s, uint64_t off, uint64_t len, struct qcow2_map *m);
int qcow2_lookup_locked(struct qcow2 *s, uint64_t off, uint64_t len, struct qcow2_map *m);
/* The L2 table for `off` to change entries in, pinned; makes or copies it if need be. `i`: of the
 * entry. */
int qcow2_l2_for_write(struct qcow2 *s, uint64_t off, struct table **t, uint32_t *i);
static inline uint64_t qcow2_l2_covers(const struct qcow2 *s)
{
    return (uint64_t)s->l2_entries << s->cluster_bits;
}
uint64_t qcow2_entry_get(const struct qcow2 *s, const struct table *t, uint32_t i, uint64_t *bits);
void qcow2_entry_set(struct qcow2 *s, struct table *t, uint32_t i, uint64_t entry, uint64_t bits);
bool qcow2_entry_has_host(const struct qcow2 *s, uint64_t entry);
/* It has a cluster that nobody else uses. */
bool qcow2_entry_ours(const struct qcow2 *s, uint64_t entry);
/* -EIO for entries that cannot be. */
int qcow2_entry_check(struct qcow2 *s, uint64_t guest, uint64_t entry, uint64_t bits);

/* Allocations in flight: guest ranges in whole clusters. The lock is held for all three. */
struct qcow2_inflight {
    uint64_t start, end;
    struct qcow2_inflight *next;
};
void qcow2_inflight_wait(struct qcow2 *s, uint64_t start, uint64_t end); /* drops the lock */
void qcow2_inflight_add(struct qcow2 *s, struct qcow2_inflight *f);
void qcow2_inflight_remove(struct qcow2 *s, struct qcow2_inflight *f);

/* ---- rw.c, zero.c: also for offsets behind the end of the disk (the machine's state) ---- */
int qcow2_preadv(struct block *b, uint64_t off, const struct iovs *q);
int qcow2_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags);
int qcow2_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags);
int qcow2_discard(struct block *b, uint64_t off, uint64_t len);
/* Unallocates whole clusters, for cutting off and emptying: what is below shows. Lock held. */
int qcow2_unmap(struct qcow2 *s, uint64_t off, uint64_t len);
int qcow2_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e);
/* Data of the range on the host, guest I/O on it is counted. */
int qcow2_host_read(struct qcow2 *s, uint64_t host, const struct iovs *q);
int qcow2_host_write(struct qcow2 *s, uint64_t host, const struct iovs *q);
/* Around what uses host clusters that a look-up told of, with no wait in between; whoever has begun
 * must not wait for the lock. */
unsigned qcow2_io_begin(struct qcow2 *s);
void qcow2_io_end(struct qcow2 *s, unsigned side);
/* Host clusters for the guest range, which lies in one L2 table: data will read as zero. */
int qcow2_preallocate(struct qcow2 *s, uint64_t off, uint64_t len);
/* Before anything changes: -EIO if nothing may. Takes the lock if there are bitmaps. */
int qcow2_begin_change(struct qcow2 *s, uint64_t off, uint64_t len);

/* Work in several coroutines at once; the first error is kept. */
struct qcow2_jobs {
    struct loop *loop;
    unsigned running, max;
    int ret;
    struct co *waiter;
};
void qcow2_jobs_start(struct qcow2_jobs *j, co_fn *fn, void *job); /* fn calls jobs_end */
void qcow2_jobs_end(struct qcow2_jobs *j, int ret);
int qcow2_jobs_wait(struct qcow2_jobs *j);

/* ---- compress.c, codec.c ---- */
int qcow2_read_compressed(struct qcow2 *s, uint64_t entry, uint64_t off_in_cluster,
                          const struct iovs *q);
int qcow2_write_compressed(struct qcow2 *s, uint64_t off, const struct iovs *q);
/* Any thread; who takes one gives it back. */
struct qcow2_codec *qcow2_codec_take(struct qcow2 *s);
void qcow2_codec_give(struct qcow2 *s, struct qcow2_codec *c);
/* Memory of two clusters, kept for the next: malloc would give it back to the host every time. */
void *qcow2_buffer_take(struct qcow2 *s); /* NULL: there is none */
void qcow2_buffer_give(struct qcow2 *s, void *buf);
void qcow2_codec_init(struct qcow2 *s);
void qcow2_codec_free_all(struct qcow2 *s);
/* Any thread. Returns the bytes, 0: does not get smaller than `room`; -errno. */
int qcow2_compress(struct qcow2_codec *c, unsigned type, const void *in, size_t len, void *out,
                   size_t room);
/* Exactly `len` bytes come out, or -EIO. */
int qcow2_decompress(struct qcow2_codec *c, unsigned type, const void *in, size_t in_len, void *out,
                     size_t len);

/* ---- crypt.c ---- */
int qcow2_crypt_open(struct qcow2 *s, const struct keyval *opts, struct err *err);
int qcow2_crypt_create(struct qcow2 *s, const struct keyval *opts, struct err *err);
/* In place; `guest` and `host` are where it is. On a worker thread if that is worth it. */
int qcow2_encrypt(struct qcow2 *s, uint64_t guest, uint64_t host, void *buf, size_t len);
int qcow2_decrypt(struct qcow2 *s, uint64_t guest, uint64_t host, void *buf, size_t len);
/* Where the LUKS header is; `io` refers to s. */
struct luks_io;
void qcow2_luks_io(struct qcow2 *s, struct luks_io *io);

/* ---- create.c, open.c, resize.c, info.c ---- */
extern const struct block_opt qcow2_create_opts[], qcow2_open_opts[], qcow2_amend_opts[];
int qcow2_create(const struct block_new *n, struct err *err);
/* Also for create, on a node that is not in the graph. */
int qcow2_open_image(struct qcow2 *s, struct block *b, const struct keyval *opts, struct err *err);
int qcow2_close_image(struct qcow2 *s);
int qcow2_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc, struct err *err);
int qcow2_info(struct block *b, struct block_info *info, struct err *err);
int qcow2_set_backing(struct block *b, const char *name, const char *format, struct err *err);
int qcow2_make_empty(struct block *b, struct err *err);

/* ---- rw.c; offsets may lie behind the disk, where the machine's state is ---- */
int qcow2_preadv(struct block *b, uint64_t off, const struct iovs *q);
int qcow2_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags);

/* ---- snapshot.c ---- */
int qcow2_read_snapshots(struct qcow2 *s, bool for_check, struct err *err);
void qcow2_free_snapshots(struct qcow2 *s);
int qcow2_snapshots(struct block *b, struct block_snapshot **list, size_t *count);
int qcow2_snapshot_create(struct block *b, const struct block_snapshot *snap, struct err *err);
int qcow2_snapshot_apply(struct block *b, const char *which, struct err *err);
int qcow2_snapshot_delete(struct block *b, const char *which, struct err *err);
int qcow2_snapshot_view(struct block *b, const char *which, struct err *err);
int qcow2_vmstate_read(struct block *b, uint64_t off, void *buf, size_t len);
int qcow2_vmstate_write(struct block *b, uint64_t off, const void *buf, size_t len);

/* ---- bitmaps.c ---- */
/* Parses the directory (header fields set) and loads the bits of all that are not in use. */
int qcow2_read_bitmaps(struct qcow2 *s, struct err *err);
/* Before the first guest write of a node that has any: marks them in use on disk. */
int qcow2_bitmaps_begin(struct qcow2 *s);
void qcow2_bitmaps_mark(struct qcow2 *s, uint64_t off, uint64_t len); /* sets bits; no I/O */
int qcow2_bitmaps_store(struct qcow2 *s);                             /* at close, and changes */
void qcow2_bitmaps_resize(struct qcow2 *s, uint64_t size);
void qcow2_bitmaps_drop(struct qcow2 *s); /* frees memory */
struct block_bitmap *qcow2_bitmaps(struct block *b);
int qcow2_bitmap_change(struct block *b, enum bitmap_op op, const char *name, uint32_t granularity,
                        bool disabled, struct err *err);
int qcow2_bitmap_merge(struct block *b, const char *name, const struct block_bitmap *from,
                       struct err *err);
struct json_t *qcow2_bitmaps_info(struct qcow2 *s); /* for info; NULL: none */

/* ---- check.c, repair.c ---- */
int qcow2_check(struct block *b, unsigned repair, struct check_report *r, struct err *err);

/* ---- amend.c, measure.c ---- */
int qcow2_amend(struct block *b, const struct keyval *opts, bool force,
                void (*progress)(void *, uint64_t, uint64_t), void *opaque, struct err *err);
int qcow2_measure(const struct keyval *opts, struct block *from, struct block_measure *m,
                  struct err *err);

#endif
