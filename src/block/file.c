/*
 * Protocol "file" and "host_device": files and block devices of the host. Requests past the end of
 * a file read as zero and make it longer.
 *
 * Does not do: SCSI pass-through, persistent reservations, CD-ROM of the host.
 */
#include "block/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/aio.h"
#include "block/core.h"
#include "block/file.h"

enum { MAX_SEGS = 256, ZERO_STEP = 1 << 20 };

struct file {
    struct aio_file io;
    bool device, lock, no_zero_range, no_punch;
    uint32_t memory_align;
    off_t data_at, data_end; /* of the data or hole last found: sequential looks ask once */
    bool data_is_hole;
};

/* ---- Opening ---- */

static int file_find_size(struct block *b, int fd, struct err *err)
{
    struct file *f = b->state;
    struct stat st;
    if (fstat(fd, &st)) {
        return err_set(err, errno, "cannot read the size of '%s': %s", b->filename,
                       strerror(errno));
    }
    f->device = S_ISBLK(st.st_mode);
    b->size = (uint64_t)st.st_size;
    if (f->device && ioctl(fd, BLKGETSIZE64, &b->size)) {
        return err_set(err, errno, "cannot read the size of '%s': %s", b->filename,
                       strerror(errno));
    }
    if (!f->device && !S_ISREG(st.st_mode)) {
        return err_set(err, S_ISDIR(st.st_mode) ? EISDIR : EINVAL,
                       "'%s' is neither a file nor a block device", b->filename);
    }
    return b->size <= BLOCK_MAX_SIZE ? 0 : err_set(err, EFBIG, "'%s' is too large", b->filename);
}

/* What O_DIRECT wants here: tried, as no call says so for every file system. */
static uint32_t file_probe_align(int fd)
{
    uint32_t device = 0;
    struct stat st;
    if (!fstat(fd, &st) && S_ISBLK(st.st_mode) && !ioctl(fd, BLKSSZGET, &device) && device) {
        return device;
    }
    AUTO_FREE void *buf = block_alloc(65536);
    for (uint32_t align = 512; buf && align < 65536; align *= 2) {
        if (pread(fd, buf, align, 0) >= 0) {
            return align;
        }
    }
    return 4096;
}

static int file_open_flags(const struct block *b)
{
    return (b->flags & BLOCK_RDWR ? O_RDWR : O_RDONLY) | O_CLOEXEC |
           (b->flags & BLOCK_DIRECT ? O_DIRECT : 0);
}

static int file_open_fd(struct block *b, struct err *err)
{
    struct file *f = b->state;
    f->io.fd = open(b->filename, file_open_flags(b) | O_NONBLOCK);
    if (f->io.fd < 0) {
        const char *hint = errno == EINVAL && f->io.direct ? " (its file system has no O_DIRECT: "
                                                             "use cache=writeback)"
                                                           : "";
        return err_set(err, errno, "Could not open '%s': %s%s", b->filename, strerror(errno), hint);
    }
    struct statfs fs;
    f->io.memory = !fstatfs(f->io.fd, &fs) && fs.f_type == TMPFS_MAGIC;
    fcntl(f->io.fd, F_SETFL, file_open_flags(b)); /* not waiting was for FIFOs */
    return file_find_size(b, f->io.fd, err);
}

static int file_take_opts(struct block *b, const struct keyval *opts, bool *lock, struct err *err)
{
    struct file *f = b->state;
    const char *name = keyval_get(opts, "filename"), *aio = keyval_get(opts, "aio"),
               *locking = keyval_get(opts, "locking");
    if (!name || !*name) {
        return err_set(err, EINVAL, "The '%s' block driver requires a file name", b->type->name);
    }
    if (strlen(name) >= PATH_MAX) {
        return err_set(err, ENAMETOOLONG, "the file name '%.40s...' is too long", name);
    }
    free(b->filename);
    b->filename = alloc_text(!strncmp(name, "file:", 5) ? name + 5 : name);
    if (aio && strcmp(aio, "threads") && strcmp(aio, "native") && strcmp(aio, "io_uring")) {
        return err_set(err, EINVAL, "'%s': aio is threads, native or io_uring, not '%s'", name,
                       aio);
    }
    f->io.threads = aio && !strcmp(aio, "threads");
    *lock = !locking || strcmp(locking, "off");
    return 0;
}

static int file_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct file *f = b->state;
    bool lock = true;
    f->io = (struct aio_file){.aio = b->graph->aio, .fd = -1, .direct = b->flags & BLOCK_DIRECT};
    int ret = file_take_opts(b, opts, &lock, err);
    ret = ret ? ret : file_open_fd(b, err);
    if (ret) {
        cleanup_close(&f->io.fd);
        return ret;
    }
    b->zero_flags = BLOCK_MAY_UNMAP | BLOCK_NO_FALLBACK;
    b->write_flags = BLOCK_FUA;
    if (f->io.direct) {
        b->align = file_probe_align(f->io.fd);
        f->memory_align = b->align > 512 ? b->align : 512;
    }
    f->lock = lock;
    return 0;
}

static int file_claim(struct block *b, struct err *err)
{
    struct file *f = b->state;
    return f->lock ? file_lock(f->io.fd, b->flags, b->flags & BLOCK_SHARE_WRITE, b->filename, err)
                   : 0;
}

static int file_close(struct block *b)
{
    struct file *f = b->state;
    cleanup_close(&f->io.fd);
    return 0;
}

/* ---- Data ---- */

static bool file_memory_ok(const struct file *f, const struct iovs *q)
{
    struct iovec v[MAX_SEGS];
    uint64_t bytes;
    unsigned n = iovs_list(q, v, MAX_SEGS, &bytes);
    for (unsigned i = 0; i < n; i++) {
        if (((uintptr_t)v[i].iov_base | v[i].iov_len) & (f->memory_align - 1)) {
            return false;
        }
    }
    return true;
}

static int file_read(struct file *f, uint64_t off, const struct iovs *q)
{
    struct iovec v[MAX_SEGS];
    for (uint64_t done = 0; done < q->len;) {
        struct iovs left = iovs_part(q, done, q->len - done);
        uint64_t bytes;
        unsigned n = iovs_list(&left, v, MAX_SEGS, &bytes);
        ssize_t got = aio_preadv(&f->io, v, n, off + done);
        if (got < 0) {
            return (int)got;
        }
        if (!got) {
            iovs_zero(q, done, q->len - done);
            return 0;
        }
        done += (uint64_t)got;
    }
    return 0;
}

static int file_write(struct file *f, uint64_t off, const struct iovs *q, bool durable)
{
    struct iovec v[MAX_SEGS];
    for (uint64_t done = 0; done < q->len;) {
        struct iovs left = iovs_part(q, done, q->len - done);
        uint64_t bytes;
        unsigned n = iovs_list(&left, v, MAX_SEGS, &bytes);
        ssize_t put = aio_pwritev(&f->io, v, n, off + done, durable);
        if (put <= 0) {
            return put ? (int)put : -ENOSPC;
        }
        done += (uint64_t)put;
    }
    return 0;
}

/* O_DIRECT wants memory at multiples of a sector. */
static int file_bounce(struct file *f, uint64_t off, const struct iovs *q, bool write, bool durable)
{
    AUTO_FREE void *buf = block_alloc(q->len < ZERO_STEP ? q->len : ZERO_STEP);
    int ret = buf ? 0 : -ENOMEM;
    for (uint64_t done = 0; !ret && done < q->len; done += ZERO_STEP) {
        size_t n = q->len - done < ZERO_STEP ? q->len - done : ZERO_STEP;
        struct iovec v;
        struct iovs part = iovs_buf(&v, buf, n);
        if (write) {
            iovs_get(q, done, buf, n);
        }
        ret = write ? file_write(f, off + done, &part, durable) : file_read(f, off + done, &part);
        if (!ret && !write) {
            iovs_put(q, done, buf, n);
        }
    }
    return ret;
}

static int file_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    struct file *f = b->state;
    if (f->io.direct && !file_memory_ok(f, q)) {
        return file_bounce(f, off, q, false, false);
    }
    return file_read(f, off, q);
}

static void file_grown(struct block *b, uint64_t end)
{
    struct file *f = b->state;
    f->data_end = 0;
    b->size = end > b->size ? end : b->size;
}

static int file_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    struct file *f = b->state;
    int ret = f->io.direct && !file_memory_ok(f, q)
                  ? file_bounce(f, off, q, true, flags & BLOCK_FUA)
                  : file_write(f, off, q, flags & BLOCK_FUA);
    if (!ret) {
        file_grown(b, off + q->len);
    }
    return ret;
}

static int file_flush(struct block *b)
{
    struct file *f = b->state;
    return b->flags & BLOCK_NO_FLUSH ? 0 : aio_sync(&f->io);
}

static int file_discard(struct block *b, uint64_t off, uint64_t len)
{
    struct file *f = b->state;
    uint64_t range[2] = {off, len};
    int ret = -ENOTSUP;
    f->data_end = 0;
    if (f->device) {
        ret = ioctl(f->io.fd, BLKDISCARD, range) ? -errno : 0;
    } else if (!f->no_punch) {
        ret = aio_fallocate(&f->io, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
        f->no_punch = ret == -EOPNOTSUPP || ret == -ENOSYS;
    }
    return 0; /* a discard is a hint */
}

/* A hole behind the end: the file gets longer, that is all. */
static int file_zero_end(struct block *b, uint64_t off, uint64_t len)
{
    struct file *f = b->state;
    if (off + len > b->size) {
        if (ftruncate(f->io.fd, (off_t)(off + len))) {
            return -errno;
        }
        file_grown(b, off + len);
    }
    return 0;
}

static int file_zero(struct block *b, uint64_t off, uint64_t len, unsigned flags)
{
    struct file *f = b->state;
    uint64_t inside = off < b->size ? b->size - off : 0, range[2] = {off, len};
    inside = inside < len ? inside : len;
    f->data_end = 0;
    if (f->device) {
        return ioctl(f->io.fd, BLKZEROOUT, range) ? -ENOTSUP : 0;
    }
    int ret = -ENOTSUP;
    if (!inside) {
        ret = flags & BLOCK_MAY_UNMAP ? 0 : aio_fallocate(&f->io, FALLOC_FL_ZERO_RANGE, off, len);
        return ret && ret != -ENOSPC ? -ENOTSUP : file_zero_end(b, off, len);
    }
    if (flags & BLOCK_MAY_UNMAP && !f->no_punch) {
        ret = aio_fallocate(&f->io, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, inside);
        f->no_punch = ret == -EOPNOTSUPP || ret == -ENOSYS;
    } else if (!f->no_zero_range) {
        ret = aio_fallocate(&f->io, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, inside);
        f->no_zero_range = ret == -EOPNOTSUPP || ret == -ENOSYS;
    }
    if (ret) {
        return ret == -ENOSPC || ret == -EIO ? ret : -ENOTSUP;
    }
    return file_zero_end(b, off, len);
}

struct file_copy_job {
    int from, to;
    off_t from_off, to_off;
    size_t left;
};

static int file_copy_work(void *opaque)
{
    struct file_copy_job *j = opaque;
    while (j->left) {
        ssize_t n = copy_file_range(j->from, &j->from_off, j->to, &j->to_off, j->left, 0);
        if (n <= 0) {
            return n && errno != EINTR ? -errno : n ? 0 : -EIO;
        }
        j->left -= (size_t)n;
    }
    return 0;
}

static int file_copy(struct block *b, uint64_t off, struct block *from, uint64_t from_off,
                     uint64_t len)
{
    struct file *f = b->state, *other = from->state;
    if (f->device || other->device || from_off + len > from->size) {
        return -ENOTSUP;
    }
    struct file_copy_job j = {other->io.fd, f->io.fd, (off_t)from_off, (off_t)off, len};
    int ret = co_offload(file_copy_work, &j);
    if (!ret) {
        file_grown(b, off + len);
    }
    f->data_end = 0;
    return ret;
}

/* ---- Holes ---- */

/* Where the data or hole that holds `off` ends; false: the file system does not know. */
static bool file_look(struct block *b, uint64_t off)
{
    struct file *f = b->state;
    if ((off_t)off >= f->data_at && (off_t)off < f->data_end) {
        return true;
    }
    off_t data = lseek(f->io.fd, (off_t)off, SEEK_DATA);
    if (data < 0 && errno != ENXIO) {
        return false;
    }
    f->data_at = (off_t)off;
    f->data_is_hole = data != (off_t)off;
    if (f->data_is_hole) {
        f->data_end = data < 0 ? (off_t)b->size : data;
    } else {
        f->data_end = lseek(f->io.fd, (off_t)off, SEEK_HOLE);
    }
    return f->data_end > (off_t)off;
}

static int file_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    struct file *f = b->state;
    *e = (struct block_extent){len, EXTENT_ALLOCATED | EXTENT_DATA | EXTENT_OFFSET, off, b, 0};
    if (off >= b->size) {
        e->flags = EXTENT_ZERO | EXTENT_ALLOCATED;
        return 0;
    }
    if (!f->device && file_look(b, off)) {
        uint64_t there = (uint64_t)f->data_end - off;
        e->len = there < len ? there : len;
        e->flags = EXTENT_ALLOCATED | EXTENT_OFFSET | (f->data_is_hole ? EXTENT_ZERO : EXTENT_DATA);
    }
    return 0;
}

/* ---- Size ---- */

static int file_fill(struct block *b, uint64_t from, uint64_t to, struct err *err)
{
    AUTO_FREE uint8_t *zeros = calloc(1, ZERO_STEP);
    int ret = zeros ? 0 : -ENOMEM;
    for (uint64_t at = from; !ret && at < to; at += ZERO_STEP) {
        ret = block_pwrite(b, at, zeros, to - at < ZERO_STEP ? to - at : ZERO_STEP, 0);
    }
    return ret ? err_set(err, -ret, "could not write zeros for preallocation to '%s': %s",
                         b->filename, strerror(-ret))
               : 0;
}

static int file_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc,
                         struct err *err)
{
    struct file *f = b->state;
    uint64_t old = b->size;
    if (f->device) {
        return size <= old
                   ? 0
                   : err_set(err, ENOTSUP, "the device '%s' has %llu bytes, not %llu", b->filename,
                             (unsigned long long)old, (unsigned long long)size);
    }
    if (prealloc == PREALLOC_METADATA || (prealloc && size < old)) {
        return err_set(err, ENOTSUP, "preallocation mode '%s' does not fit the file '%s'",
                       block_prealloc_names[prealloc], b->filename);
    }
    int ret = 0;
    if (prealloc == PREALLOC_FALLOC && size > old) {
        ret = posix_fallocate(f->io.fd, (off_t)old, (off_t)(size - old));
    }
    if (ret || ftruncate(f->io.fd, (off_t)size)) {
        ret = ret ? ret : errno;
        return err_set(err, ret, "cannot make '%s' %llu bytes long: %s", b->filename,
                       (unsigned long long)size, strerror(ret));
    }
    f->data_end = 0;
    b->size = size;
    return prealloc == PREALLOC_FULL && size > old ? file_fill(b, old, size, err) : 0;
}

static int file_info(struct block *b, struct block_info *info, struct err *err)
{
    struct file *f = b->state;
    struct stat st;
    if (!fstat(f->io.fd, &st)) {
        info->disk_size = (uint64_t)st.st_blocks * 512;
    }
    return 0;
}

static int file_create(struct block_graph *g, const char *name, const struct keyval *opts,
                       struct err *err)
{
    AUTO_CLOSE int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_set(err, errno, "Could not create '%s': %s", name, strerror(errno));
    }
    struct stat st;
    bool plain = !fstat(fd, &st) && S_ISREG(st.st_mode);
    int ret = file_lock(fd, BLOCK_RDWR | BLOCK_RESIZE, false, name, err);
    if (!ret && plain && ftruncate(fd, 0)) {
        ret = err_set(err, errno, "cannot empty '%s': %s", name, strerror(errno));
    }
    return ret;
}

static const struct block_opt file_open_opts[] = {
    {"filename", "str", "path of the image file", NULL},
    {"aio", "str", "threads, native or io_uring", NULL},
    {"locking", "str", "on, off or auto: tell other processes of the use", "auto"},
    {"drop-cache", "bool (on/off)", "accepted", NULL},
    {0},
};

/* What files and devices have in common: all but growing. */
#define FILE_DRIVER                                                                                \
    .size = sizeof(struct file), .protocol = true, .open_opts = file_open_opts, .open = file_open, \
    .claim = file_claim, .close = file_close, .preadv = file_preadv, .pwritev = file_pwritev,      \
    .flush = file_flush, .discard = file_discard, .zero = file_zero, .extent = file_extent,        \
    .copy = file_copy, .truncate = file_truncate, .create_file = file_create, .info = file_info

const struct block_type file_type = {
    .name = "file", .summary = "files of the host", .grows = true, FILE_DRIVER};

const struct block_type host_device_type = {
    .name = "host_device", .summary = "block devices of the host", FILE_DRIVER};
