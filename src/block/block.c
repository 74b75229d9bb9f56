/* Raw images. A file whose size is no multiple of a sector reads as zero behind its end. */
#include "block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/keyval.h"
#include "base/near.h"

static int block_find_size(struct block *b, struct err *err)
{
    struct stat st;
    if (fstat(b->fd, &st)) {
        return err_set(err, errno, "cannot read the size of '%s': %s", b->path, strerror(errno));
    }
    if (S_ISBLK(st.st_mode)) {
        return ioctl(b->fd, BLKGETSIZE64, &b->size)
                   ? err_set(err, errno, "cannot read the size of '%s': %s", b->path,
                             strerror(errno))
                   : 0;
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, EINVAL, "'%s' is neither a file nor a block device", b->path);
    }
    b->size = round_up((uint64_t)st.st_size, BLOCK_SECTOR);
    return 0;
}

static int block_choice(const char *key, const char *val, const char *const *list, size_t n,
                        struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(list[i], val)) {
            return (int)i;
        }
    }
    return err_set(err, EINVAL, "-drive: '%s' is no value of '%s'; the nearest is '%s'", val, key,
                   near_pick(val, list, n));
}

static int block_take_arg(struct block *b, const char *key, const char *val, struct err *err)
{
    static const char *const formats[] = {"raw"};
    static const char *const caches[] = {"writeback", "none", "unsafe", "writethrough",
                                         "directsync"};
    static const char *const discards[] = {"ignore", "off", "unmap", "on"};
    static const char *const aios[] = {"threads", "native", "io_uring"};
    int n = 0;
    if (!strcmp(key, "format")) {
        n = block_choice(key, val, formats, ARRAY_LEN(formats), err);
    } else if (!strcmp(key, "cache")) {
        n = block_choice(key, val, caches, ARRAY_LEN(caches), err);
        b->unsafe = n == 2;
        b->writethrough = n >= 3;
    } else if (!strcmp(key, "discard")) {
        n = block_choice(key, val, discards, ARRAY_LEN(discards), err);
        b->discard = n >= 2;
    } else if (!strcmp(key, "aio")) {
        n = block_choice(key, val, aios, ARRAY_LEN(aios), err);
    } else if (!strcmp(key, "readonly") || !strcmp(key, "read-only")) {
        return value_bool("-drive: readonly", val, &b->readonly, err);
    }
    return n < 0 ? n : 0;
}

struct block *block_open(const struct keyval *args, struct err *err)
{
    struct block *b = alloc_zero(sizeof(*b));
    const char *path = keyval_get(args, "file");
    b->fd = -1;
    b->path = alloc_text(path ? path : "");
    int ret = path ? 0 : err_set(err, EINVAL, "-drive: needs file=FILE");
    for (size_t i = 0; !ret && i < args->count; i++) {
        ret = block_take_arg(b, args->pairs[i].key, args->pairs[i].value, err);
    }
    if (!ret) {
        b->fd = open(path, (b->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
        ret = b->fd < 0 ? err_set(err, errno, "cannot open the disk image '%s': %s", path,
                                  strerror(errno))
                        : block_find_size(b, err);
    }
    if (ret) {
        block_close(b);
        return NULL;
    }
    return b;
}

void block_close(void *block)
{
    struct block *b = block;
    if (b->fd >= 0) {
        close(b->fd);
    }
    free(b->path);
    free(b);
}

/* Drops `done` bytes from the front of the vectors. */
static void iov_skip(struct iovec **iov, unsigned *count, size_t done)
{
    while (*count && done >= (*iov)->iov_len) {
        done -= (*iov)->iov_len;
        (*iov)++;
        (*count)--;
    }
    if (*count && done) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + done;
        (*iov)->iov_len -= done;
    }
}

int block_preadv(struct block *b, uint64_t off, struct iovec *iov, unsigned count)
{
    while (count) {
        ssize_t n = preadv(b->fd, iov, (int)count, (off_t)off);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) { /* the end of a file that is no whole number of sectors */
            for (unsigned i = 0; i < count; i++) {
                memset(iov[i].iov_base, 0, iov[i].iov_len);
            }
            return 0;
        }
        off += (uint64_t)n;
        iov_skip(&iov, &count, (size_t)n);
    }
    return 0;
}

int block_pwritev(struct block *b, uint64_t off, struct iovec *iov, unsigned count)
{
    while (count) {
        ssize_t n = pwritev(b->fd, iov, (int)count, (off_t)off);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n ? -errno : -EIO;
        }
        off += (uint64_t)n;
        iov_skip(&iov, &count, (size_t)n);
    }
    return b->writethrough ? block_flush(b) : 0;
}

int block_flush(struct block *b)
{
    if (b->unsafe || b->readonly) {
        return 0;
    }
    return fdatasync(b->fd) ? -errno : 0;
}

int block_discard(struct block *b, uint64_t off, uint64_t len)
{
    if (b->discard && len) {
        fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
    }
    return 0; /* a discard is a hint */
}

static int block_zero_by_write(struct block *b, uint64_t off, uint64_t len)
{
    static const char zeros[65536];
    int ret = 0;
    while (len && !ret) {
        size_t n = len < sizeof(zeros) ? (size_t)len : sizeof(zeros);
        struct iovec iov = {(void *)zeros, n};
        ret = block_pwritev(b, off, &iov, 1);
        off += n;
        len -= n;
    }
    return ret;
}

int block_zero(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
    int mode = unmap && b->discard ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                                   : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    if (len && !fallocate(b->fd, mode, (off_t)off, (off_t)len)) {
        return b->writethrough ? block_flush(b) : 0;
    }
    return block_zero_by_write(b, off, len);
}
