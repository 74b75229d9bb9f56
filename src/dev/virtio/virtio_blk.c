/*
 * Block device: VIRTIO 1.2 section 5.2, one queue. A thread of its own does the host's reads and
 * writes, so that a vcpu never waits for a disk.
 *
 * Does not do: several queues, secure erase, zoned devices, resizing while running.
 *
 * The worker takes requests under the device's lock and works on them without it; `busy` says
 * that one is in flight. A reset waits until it is not.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/block.h"
#include "core/machine.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtio_devices.h"

enum {
    F_SEG_MAX = 2,
    F_RO = 5,
    F_BLK_SIZE = 6,
    F_FLUSH = 9,
    F_DISCARD = 13,
    F_WRITE_ZEROES = 14,
    T_IN = 0,
    T_OUT = 1,
    T_FLUSH = 4,
    T_GET_ID = 8,
    T_DISCARD = 11,
    T_WRITE_ZEROES = 13,
    S_OK = 0,
    S_IOERR = 1,
    S_UNSUPP = 2,
    HEADER = 16,
    ID_BYTES = 20,
    RANGE_BYTES = 16,
    MAX_RANGES = 16,
    SEG_MAX = VQ_MAX_SEGS - 2,
    MAX_RANGE_SECTORS = 1 << 22,
};

struct virtio_blk {
    struct dev dev;
    struct virtio v;
    char *drive_id, *serial;
    struct backend *backend;
    struct block *block;
    pthread_t thread;
    bool started;
    bool stop, busy; /* by v.lock */
    pthread_cond_t work, idle;
    struct vq_elem elem; /* the request in flight */
};

static const struct prop blk_props[] = {
    {"drive", PROP_TEXT, offsetof(struct virtio_blk, drive_id), NULL, "id of the -drive"},
    {"serial", PROP_TEXT, offsetof(struct virtio_blk, serial), NULL, "serial number"},
    {0},
};

/* ---- Requests: on the worker's thread ---- */

/* The vectors without their first `skip` and last `tail` bytes; returns how many are left. */
static unsigned iov_cut(const struct iovec *iov, unsigned count, uint64_t skip, uint64_t len,
                        struct iovec *out)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count && len; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        uint64_t piece = iov[i].iov_len - skip;
        piece = piece < len ? piece : len;
        out[n++] = (struct iovec){(char *)iov[i].iov_base + skip, piece};
        len -= piece;
        skip = 0;
    }
    return n;
}

static bool range_ok(const struct block *b, uint64_t sector, uint64_t bytes)
{
    return sector <= b->size / BLOCK_SECTOR && bytes <= b->size - sector * BLOCK_SECTOR &&
           !(bytes % BLOCK_SECTOR);
}

static int blk_read_write(struct virtio_blk *d, uint32_t type, uint64_t sector, uint32_t *written)
{
    struct iovec iov[VQ_MAX_SEGS];
    const struct vq_elem *e = &d->elem;
    bool in = type == T_IN;
    uint64_t bytes = in ? e->in_len - 1 : e->out_len - HEADER;
    if (!range_ok(d->block, sector, bytes) || (!in && d->block->readonly)) {
        return S_IOERR;
    }
    unsigned n = in ? iov_cut(e->in, e->in_count, 0, bytes, iov)
                    : iov_cut(e->out, e->out_count, HEADER, bytes, iov);
    int ret = in ? block_preadv(d->block, sector * BLOCK_SECTOR, iov, n)
                 : block_pwritev(d->block, sector * BLOCK_SECTOR, iov, n);
    *written += in && !ret ? (uint32_t)bytes : 0;
    return ret ? S_IOERR : S_OK;
}

static int blk_one_range(struct virtio_blk *d, uint32_t type, const uint8_t *range)
{
    uint64_t sector = load_le64(range), bytes = (uint64_t)load_le32(range + 8) * BLOCK_SECTOR;
    uint32_t flags = load_le32(range + 12);
    bool zeroes = type == T_WRITE_ZEROES;
    if (flags & (zeroes ? ~1u : ~0u)) {
        return S_UNSUPP;
    }
    if (!range_ok(d->block, sector, bytes) || bytes / BLOCK_SECTOR > MAX_RANGE_SECTORS) {
        return S_IOERR;
    }
    int ret = zeroes ? block_zero(d->block, sector * BLOCK_SECTOR, bytes, flags & 1)
                     : block_discard(d->block, sector * BLOCK_SECTOR, bytes);
    return ret ? S_IOERR : S_OK;
}

static int blk_ranges(struct virtio_blk *d, uint32_t type)
{
    const struct vq_elem *e = &d->elem;
    uint64_t bytes = e->out_len - HEADER;
    int status = S_OK;
    if (d->block->readonly || !bytes || bytes % RANGE_BYTES || bytes / RANGE_BYTES > MAX_RANGES) {
        return S_IOERR;
    }
    for (uint64_t at = 0; at < bytes && status == S_OK; at += RANGE_BYTES) {
        uint8_t range[RANGE_BYTES];
        iov_read(e->out, e->out_count, HEADER + at, range, sizeof(range));
        status = blk_one_range(d, type, range);
    }
    return status;
}

static int blk_get_id(struct virtio_blk *d, uint32_t *written)
{
    char id[ID_BYTES] = {0};
    const char *serial = d->serial ? d->serial : "";
    memcpy(id, serial, strnlen(serial, sizeof(id)));
    uint64_t room = d->elem.in_len - 1;
    *written += (uint32_t)iov_write(d->elem.in, d->elem.in_count, 0, id,
                                    room < sizeof(id) ? room : sizeof(id));
    return S_OK;
}

static int blk_do(struct virtio_blk *d, uint32_t *written)
{
    uint8_t header[HEADER];
    if (iov_read(d->elem.out, d->elem.out_count, 0, header, HEADER) < HEADER) {
        return S_IOERR;
    }
    uint32_t type = load_le32(header);
    uint64_t sector = load_le64(header + 8);
    switch (type) {
    case T_IN:
    case T_OUT: return blk_read_write(d, type, sector, written);
    case T_FLUSH: return block_flush(d->block) ? S_IOERR : S_OK;
    case T_GET_ID: return blk_get_id(d, written);
    case T_DISCARD:
    case T_WRITE_ZEROES: return blk_ranges(d, type);
    default: return S_UNSUPP;
    }
}

/* The status is the last byte that we may write; without it there is nowhere to complain. */
static uint32_t blk_request(struct virtio_blk *d)
{
    uint32_t written = 0;
    if (!d->elem.in_len || d->elem.in_len > UINT32_MAX) {
        return 0;
    }
    uint8_t status = (uint8_t)blk_do(d, &written);
    iov_write(d->elem.in, d->elem.in_count, d->elem.in_len - 1, &status, 1);
    /* The length covers all up to the status byte, so that it counts as written. */
    return status == S_OK && written + 1 == d->elem.in_len ? written + 1 : (uint32_t)d->elem.in_len;
}

/* ---- Worker ---- */

/* Takes and does requests until the queue is empty; lock held, released while working. */
static void blk_work(struct virtio_blk *d)
{
    struct vq *vq = &d->v.queue[0];
    unsigned since_signal = 0;
    vq_want_kick(vq, false);
    while (!d->stop && virtio_running(&d->v) && vq_pop(vq, &d->elem)) {
        d->busy = true;
        pthread_mutex_unlock(&d->v.lock);
        uint32_t len = blk_request(d);
        pthread_mutex_lock(&d->v.lock);
        d->busy = false;
        if (!virtio_running(&d->v)) {
            break; /* reset while it was in flight */
        }
        vq_push(vq, &d->elem, len);
        if (++since_signal == 8 || vq_empty(vq)) {
            virtio_signal(&d->v, vq);
            since_signal = 0;
        }
    }
    virtio_check_broken(&d->v, vq);
    vq_want_kick(vq, true);
}

static void *blk_thread(void *opaque)
{
    struct virtio_blk *d = opaque;
    AUTO_LOCK(&d->v.lock);
    while (!d->stop) {
        if (virtio_running(&d->v) && !vq_empty(&d->v.queue[0])) {
            blk_work(d);
        } else {
            pthread_cond_broadcast(&d->idle);
            pthread_cond_wait(&d->work, &d->v.lock);
        }
    }
    return NULL;
}

static void blk_kick(struct virtio *v, unsigned queue)
{
    struct virtio_blk *d = container_of(v, struct virtio_blk, v);
    AUTO_LOCK(&v->lock);
    pthread_cond_signal(&d->work);
}

static void blk_ready(struct virtio *v)
{
    pthread_cond_signal(&container_of(v, struct virtio_blk, v)->work);
}

static void blk_reset(struct virtio *v)
{
    struct virtio_blk *d = container_of(v, struct virtio_blk, v);
    while (d->busy) {
        pthread_cond_signal(&d->work);
        pthread_cond_wait(&d->idle, &v->lock);
    }
}

/* ---- Life ---- */

static const struct virtio_type blk_virtio = {.id = 2,
                                              .queues = 1,
                                              .queue_size = VQ_MAX_SIZE,
                                              .config_size = 60,
                                              .kick = blk_kick,
                                              .reset = blk_reset,
                                              .ready = blk_ready};

/* VIRTIO 1.2 5.2.4 */
static void blk_fill_config(struct virtio_blk *d)
{
    uint8_t *c = d->v.config;
    store_le64(c + 0, d->block->size / BLOCK_SECTOR);
    store_le32(c + 12, SEG_MAX);
    store_le32(c + 20, BLOCK_SECTOR);
    store_le16(c + 34, 1);
    store_le32(c + 36, MAX_RANGE_SECTORS);
    store_le32(c + 40, MAX_RANGES);
    store_le32(c + 44, 1);
    store_le32(c + 48, MAX_RANGE_SECTORS);
    store_le32(c + 52, MAX_RANGES);
    c[56] = 1;
}

static int blk_take_drive(struct virtio_blk *d, struct err *err)
{
    if (!d->drive_id) {
        return err_set(err, EINVAL, "virtio-blk-device: needs drive=ID");
    }
    d->backend = machine_find_backend(d->dev.machine, "drive", d->drive_id);
    if (!d->backend || d->backend->taken) {
        return err_set(err, ENOENT, "virtio-blk-device: drive '%s' %s", d->drive_id,
                       d->backend ? "is in use" : "does not exist");
    }
    d->backend->taken = true;
    d->block = d->backend->obj;
    return 0;
}

static int blk_init(struct dev *dev, struct err *err)
{
    struct virtio_blk *d = container_of(dev, struct virtio_blk, dev);
    int ret = blk_take_drive(d, err);
    if (ret) {
        return ret;
    }
    uint64_t features = BIT(F_SEG_MAX) | BIT(F_BLK_SIZE) | BIT(F_FLUSH) |
                        (d->block->readonly ? BIT(F_RO) : BIT(F_DISCARD) | BIT(F_WRITE_ZEROES));
    ret = virtio_init(&d->v, dev, &blk_virtio, features, err);
    if (ret) {
        return ret;
    }
    blk_fill_config(d);
    pthread_cond_init(&d->work, NULL);
    pthread_cond_init(&d->idle, NULL);
    ret = pthread_create(&d->thread, NULL, blk_thread, d);
    d->started = !ret;
    return ret ? err_set(err, ret, "virtio-blk-device: cannot start a thread: %s", strerror(ret))
               : 0;
}

static void blk_quiesce(struct dev *dev)
{
    struct virtio_blk *d = container_of(dev, struct virtio_blk, dev);
    AUTO_LOCK(&d->v.lock);
    while (d->busy || (virtio_running(&d->v) && !vq_empty(&d->v.queue[0]))) {
        pthread_cond_signal(&d->work);
        pthread_cond_wait(&d->idle, &d->v.lock);
    }
}

static void blk_fini(struct dev *dev)
{
    struct virtio_blk *d = container_of(dev, struct virtio_blk, dev);
    if (d->started) {
        pthread_mutex_lock(&d->v.lock);
        d->stop = true;
        pthread_cond_signal(&d->work);
        pthread_mutex_unlock(&d->v.lock);
        pthread_join(d->thread, NULL);
        pthread_cond_destroy(&d->work);
        pthread_cond_destroy(&d->idle);
    }
    virtio_fini(&d->v);
}

const struct dev_type virtio_blk_type = {
    .name = "virtio-blk-device",
    .summary = "disk",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-bus",
    .size = sizeof(struct virtio_blk),
    .props = blk_props,
    .init = blk_init,
    .quiesce = blk_quiesce,
    .fini = blk_fini,
};
