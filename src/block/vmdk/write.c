/*
 * Writing sparse extents of VMDK. A new grain goes to the end of the file: its data, then its entry
 * in both tables. When this is cut short an unused grain is left. Tables are all there from the
 * beginning (create.c); images without some of them can be written where they have them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "block/vmdk/vmdk.h"

enum { MARKER = 12 };

/* ---- Compressed: whole grains, each once ---- */

struct deflate_job {
    const uint8_t *from;
    uint32_t len;
    uint8_t *to;
    uLongf room;
};

static int deflate_work(void *opaque)
{
    struct deflate_job *j = opaque;
    return compress2(j->to, &j->room, j->from, j->len, Z_DEFAULT_COMPRESSION) == Z_OK ? 0 : -EIO;
}

static int write_compressed(struct vmdk_extent *x, uint64_t grain, const uint8_t *data)
{
    struct deflate_job j = {.from = data, .len = x->grain, .room = compressBound(x->grain)};
    AUTO_FREE uint8_t *buf = calloc(1, MARKER + j.room + VMDK_SECTOR);
    uint32_t old, table;
    if (!buf) {
        return -ENOMEM;
    }
    j.to = buf + MARKER;
    int ret = co_compute(deflate_work, &j);
    if (ret) {
        return ret;
    }
    store_le64(buf, grain * (x->grain / VMDK_SECTOR));
    store_le32(buf + 8, (uint32_t)j.room);
    uint64_t bytes = round_up(MARKER + j.room, VMDK_SECTOR);
    co_lock(&x->lock);
    ret = vmdk_look_up(x, grain, &old);
    ret = ret ? ret : vmdk_table_of(x, grain, &table);
    if (!ret && (old || !table)) {
        ret = -EIO; /* a stream's grains are written once */
    }
    if (!ret) {
        uint64_t at = x->next;
        x->next += bytes;
        ret = at / VMDK_SECTOR > UINT32_MAX ? -EFBIG : block_pwrite(x->file, at, buf, bytes, 0);
        ret = ret ? ret : vmdk_set_entry(x, grain, (uint32_t)(at / VMDK_SECTOR));
    }
    co_unlock(&x->lock);
    return ret;
}

static int compressed_grains(struct vmdk_extent *x, uint64_t off, const struct iovs *q)
{
    int ret = off % x->grain ? -EINVAL : 0;
    AUTO_FREE uint8_t *buf = calloc(1, x->grain);
    ret = buf ? ret : -ENOMEM;
    for (uint64_t done = 0; !ret && done < q->len; done += x->grain) {
        size_t n = q->len - done < x->grain ? q->len - done : x->grain;
        if (n < x->grain && off + done + n != x->bytes) {
            return -EINVAL;
        }
        memset(buf, 0, x->grain);
        iovs_get(q, done, buf, n);
        ret = mem_is_zero(buf, x->grain) ? 0 : write_compressed(x, (off + done) / x->grain, buf);
    }
    return ret;
}

/* ---- Plain ---- */

/* A new grain with what the backing file has around the new data. */
static int add_grain(struct block *b, struct vmdk_extent *x, uint64_t grain, uint64_t skip,
                     const struct iovs *q, bool was_zero)
{
    AUTO_FREE uint8_t *buf = block_alloc(x->grain);
    struct iovec v;
    uint64_t at = x->next;
    uint32_t table;
    int ret = buf ? vmdk_table_of(x, grain, &table) : -ENOMEM;
    if (ret || !table || at / VMDK_SECTOR > UINT32_MAX) {
        return ret ? ret : -EFBIG;
    }
    struct iovs all = iovs_buf(&v, buf, x->grain);
    if (was_zero) {
        iovs_zero(&all, 0, x->grain);
    } else if (q->len < x->grain) {
        ret = block_read_backing(b, x->start + grain * x->grain, &all);
    }
    if (ret) {
        return ret;
    }
    iovs_get(q, 0, buf + skip, q->len);
    ret = block_pwritev(x->file, at, &all, 0);
    if (!ret) {
        x->next += x->grain;
        ret = vmdk_set_entry(x, grain, (uint32_t)(at / VMDK_SECTOR));
    }
    return ret;
}

static int write_grain(struct block *b, struct vmdk_extent *x, uint64_t grain, uint64_t skip,
                       const struct iovs *q)
{
    uint32_t sector;
    co_lock(&x->lock);
    int ret = vmdk_look_up(x, grain, &sector);
    bool zero = x->zero_grains && sector == VMDK_GTE_ZERO;
    if (!ret && (!sector || zero)) {
        ret = add_grain(b, x, grain, skip, q, zero);
        co_unlock(&x->lock);
        return ret;
    }
    co_unlock(&x->lock);
    return ret ? ret : block_pwritev(x->file, (uint64_t)sector * VMDK_SECTOR + skip, q, 0);
}

int vmdk_sparse_write(struct block *b, struct vmdk_extent *x, uint64_t off, const struct iovs *q,
                      unsigned flags)
{
    if (x->compressed) {
        return compressed_grains(x, off, q);
    }
    int ret = flags & BLOCK_COMPRESSED ? -ENOTSUP : 0;
    for (uint64_t done = 0; !ret && done < q->len;) {
        uint64_t skip = (off + done) % x->grain, n = x->grain - skip;
        n = n < q->len - done ? n : q->len - done;
        struct iovs part = iovs_part(q, done, n);
        ret = write_grain(b, x, (off + done) / x->grain, skip, &part);
        done += n;
    }
    return ret;
}

int vmdk_sparse_zero(struct block *b, struct vmdk_extent *x, uint64_t off, uint64_t len)
{
    if (!x->zero_grains || x->compressed || off % x->grain ||
        (len % x->grain && off + len != x->bytes)) {
        return -ENOTSUP;
    }
    int ret = 0;
    for (uint64_t at = off; !ret && at < off + len; at += x->grain) {
        uint64_t grain = at / x->grain;
        co_lock(&x->lock);
        uint32_t table;
        ret = vmdk_table_of(x, grain, &table);
        ret = ret ? ret : table ? vmdk_set_entry(x, grain, VMDK_GTE_ZERO) : -ENOTSUP;
        co_unlock(&x->lock);
    }
    return ret;
}
