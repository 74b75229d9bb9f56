/*
 * Block device: VIRTIO 1.2 section 5.2, with one queue or several. Requests run as coroutines on
 * the image's own loop, many at a time, so that a vcpu never waits for a disk.
 *
 * Does not do: secure erase, zoned devices, resizing while running.
 *
 * The loop's thread takes requests under the device's lock and works on them without it; `flying`
 * counts those in flight. A reset waits until there are none.
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
#include "base/strbuf.h"
#include "block/block.h"
#include "core/machine.h"
#include "dev/pci/pci.h"
#include "dev/virtio/drive_policy.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtio_devices.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "state/field.h"

enum {
    F_SEG_MAX = 2,
    F_RO = 5,
    F_BLK_SIZE = 6,
    F_FLUSH = 9,
    F_MQ = 12,
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
    MAX_FLYING = 64,                /* requests at a time */
    TAKE_AT_ONCE = VQ_MAX_SIZE / 2, /* then others: a guest may give as fast as we take */
    MAX_QUEUES = 16,
    SIGNAL_EVERY = 8,
};

struct virtio_blk;

struct blk_req {
    struct virtio_blk *d;
    struct vq *vq;
    struct blk_req *next; /* free */
    struct vq_elem elem;
    int error; /* of the image, -errno */
    bool write;
};

struct virtio_blk {
    struct dev dev;
    struct virtio v;
    char *drive_id, *serial, *werror, *rerror;
    uint32_t queues, bootindex; /* UINT32_MAX: none */
    bool share;
    enum on_error on_read, on_write;
    struct backend *backend;
    struct block *block;
    struct loop *loop;
    unsigned flying;        /* by v.lock, as all below */
    bool posted, taking;    /* blk_run() will come; it is at work */
    struct blk_req *spares; /* made when first needed */
    struct blk_req *kept;   /* failed, to be tried again when the machine goes on */
    bool stopped;           /* it is paused, or will be, because of those */
    int stop_error;
    bool stop_write, resetting;
    unsigned unsignalled;
    pthread_cond_t idle;
};

const char *const on_error_names[] = {"report", "ignore", "enospc", "stop", NULL};

static const struct prop blk_props[] = {
    {"drive", PROP_TEXT, offsetof(struct virtio_blk, drive_id), NULL, "id of the -drive"},
    {"serial", PROP_TEXT, offsetof(struct virtio_blk, serial), NULL, "serial number"},
    {"bootindex", PROP_U32, offsetof(struct virtio_blk, bootindex), "4294967295",
     "place in the order of booting"},
    {"num-queues", PROP_U32, offsetof(struct virtio_blk, queues), "1",
     "request queues, at most 16"},
    {"share-rw", PROP_BOOL, offsetof(struct virtio_blk, share), NULL,
     "other devices may have the same drive"},
    {"werror", PROP_TEXT, offsetof(struct virtio_blk, werror), NULL,
     "report, ignore, stop, or enospc: stop when the host's disk is full", on_error_names},
    {"rerror", PROP_TEXT, offsetof(struct virtio_blk, rerror), NULL, "the same for reads",
     on_error_names},
    {0},
};

/* ---- Requests: coroutines on the loop's thread ---- */

static bool range_ok(const struct block *b, uint64_t sector, uint64_t bytes)
{
    uint64_t size = block_size(b);
    return sector <= size / BLOCK_SECTOR && bytes <= size - sector * BLOCK_SECTOR &&
           !(bytes % BLOCK_SECTOR);
}

/* Status of what the image said. */
static int blk_result(struct blk_req *r, bool write, int ret)
{
    r->error = ret;
    r->write = write;
    return ret ? S_IOERR : S_OK;
}

static int blk_read_write(struct blk_req *r, uint32_t type, uint64_t sector, uint32_t *written)
{
    struct virtio_blk *d = r->d;
    const struct vq_elem *e = &r->elem;
    bool in = type == T_IN;
    uint64_t bytes = in ? e->in_len - 1 : e->out_len - HEADER;
    if (!range_ok(d->block, sector, bytes) || (!in && block_readonly(d->block))) {
        return S_IOERR;
    }
    struct iovs all = in ? iovs_of(e->in, e->in_count) : iovs_of(e->out, e->out_count);
    struct iovs q = iovs_part(&all, in ? 0 : HEADER, bytes);
    int ret = in ? block_preadv(d->block, sector * BLOCK_SECTOR, &q)
                 : block_pwritev(d->block, sector * BLOCK_SECTOR, &q, 0);
    *written += in && !ret ? (uint32_t)bytes : 0;
    return blk_result(r, !in, ret);
}

static int blk_one_range(struct blk_req *r, uint32_t type, const uint8_t *range)
{
    struct virtio_blk *d = r->d;
    uint64_t sector = load_le64(range), bytes = (uint64_t)load_le32(range + 8) * BLOCK_SECTOR;
    uint32_t flags = load_le32(range + 12);
    bool zeroes = type == T_WRITE_ZEROES;
    if (flags & (zeroes ? ~1u : ~0u)) {
        return S_UNSUPP;
    }
    if (!range_ok(d->block, sector, bytes) || bytes / BLOCK_SECTOR > MAX_RANGE_SECTORS) {
        return S_IOERR;
    }
    int ret =
        zeroes ? block_zero(d->block, sector * BLOCK_SECTOR, bytes, flags & 1 ? BLOCK_MAY_UNMAP : 0)
               : block_discard(d->block, sector * BLOCK_SECTOR, bytes);
    return blk_result(r, true, ret);
}

static int blk_ranges(struct blk_req *r, uint32_t type)
{
    struct virtio_blk *d = r->d;
    const struct vq_elem *e = &r->elem;
    uint64_t bytes = e->out_len - HEADER;
    int status = S_OK;
    if (block_readonly(d->block) || !bytes || bytes % RANGE_BYTES ||
        bytes / RANGE_BYTES > MAX_RANGES) {
        return S_IOERR;
    }
    for (uint64_t at = 0; at < bytes && status == S_OK; at += RANGE_BYTES) {
        uint8_t range[RANGE_BYTES];
        iov_read(e->out, e->out_count, HEADER + at, range, sizeof(range));
        status = blk_one_range(r, type, range);
    }
    return status;
}

static int blk_get_id(struct virtio_blk *d, const struct vq_elem *e, uint32_t *written)
{
    char id[ID_BYTES] = {0};
    const char *serial = d->serial ? d->serial : "";
    memcpy(id, serial, strnlen(serial, sizeof(id)));
    uint64_t room = e->in_len - 1;
    *written +=
        (uint32_t)iov_write(e->in, e->in_count, 0, id, room < sizeof(id) ? room : sizeof(id));
    return S_OK;
}

static int blk_do(struct blk_req *r, uint32_t *written)
{
    struct virtio_blk *d = r->d;
    const struct vq_elem *e = &r->elem;
    uint8_t header[HEADER];
    if (iov_read(e->out, e->out_count, 0, header, HEADER) < HEADER) {
        return S_IOERR;
    }
    uint32_t type = load_le32(header);
    uint64_t sector = load_le64(header + 8);
    switch (type) {
    case T_IN:
    case T_OUT: return blk_read_write(r, type, sector, written);
    case T_FLUSH: return blk_result(r, true, block_flush(d->block));
    case T_GET_ID: return blk_get_id(d, e, written);
    case T_DISCARD:
    case T_WRITE_ZEROES: return blk_ranges(r, type);
    default: return S_UNSUPP;
    }
}

/* The status is the last byte that we may write; without it there is nowhere to complain. */
static uint32_t blk_request(struct blk_req *r, bool *keep)
{
    const struct vq_elem *e = &r->elem;
    uint32_t written = 0;
    if (!e->in_len || e->in_len > UINT32_MAX) {
        return 0;
    }
    r->error = 0;
    uint8_t status = (uint8_t)blk_do(r, &written);
    enum on_error what = r->write ? r->d->on_write : r->d->on_read;
    *keep = r->error && (what == ON_ERROR_STOP || (what == ON_ERROR_ENOSPC && r->error == -ENOSPC));
    if (*keep) {
        return 0;
    }
    status = r->error && what == ON_ERROR_IGNORE ? S_OK : status;
    iov_write(e->in, e->in_count, e->in_len - 1, &status, 1);
    /* The length covers all up to the status byte, so that it counts as written. */
    return status == S_OK && written + 1 == e->in_len ? written + 1 : (uint32_t)e->in_len;
}

/* ---- Taking requests and giving them back: on the loop's thread ---- */

static void blk_post(struct virtio_blk *d);

static void blk_signal(struct virtio_blk *d, struct vq *vq)
{
    virtio_signal(&d->v, vq);
    d->unsignalled = 0;
}

/* On the machine's loop. */
static void blk_stop_machine(void *opaque)
{
    struct virtio_blk *d = opaque;
    pthread_mutex_lock(&d->v.lock);
    bool still = d->stopped; /* no reset came between */
    int error = d->stop_error;
    bool write = d->stop_write;
    pthread_mutex_unlock(&d->v.lock);
    if (still) {
        AUTO_FREE char *why = alloc_printf("drive '%s': %s failed: %s", d->drive_id,
                                           write ? "writing" : "reading", strerror(-error));
        machine_pause_for_io(d->dev.machine, why);
    }
}

/* Lock held. It stays the guest's until the machine goes on, and nothing new is begun. */
static void blk_keep(struct virtio_blk *d, struct blk_req *r)
{
    r->next = d->kept;
    d->kept = r;
    if (!d->stopped) {
        d->stopped = true;
        d->stop_error = r->error;
        d->stop_write = r->write;
        loop_post(d->dev.machine->loop, blk_stop_machine, d);
    }
}

static void blk_req_free(struct virtio_blk *d, struct blk_req *r)
{
    r->next = d->spares;
    d->spares = r;
}

static void blk_req_start(void *opaque)
{
    struct blk_req *r = opaque;
    struct virtio_blk *d = r->d;
    bool keep = false;
    uint32_t len = blk_request(r, &keep);
    AUTO_LOCK(&d->v.lock);
    if (keep && virtio_running(&d->v) && !d->resetting) {
        blk_keep(d, r);
        r = NULL;
    } else if (virtio_running(&d->v)) { /* else it was reset meanwhile */
        vq_push(r->vq, &r->elem, len);
        if (++d->unsignalled >= SIGNAL_EVERY || !d->taking) {
            blk_signal(d, r->vq);
        }
    }
    if (r) {
        blk_req_free(d, r);
    }
    if (d->flying-- == MAX_FLYING) {
        blk_post(d);
    }
    if (!d->flying) {
        pthread_cond_broadcast(&d->idle);
    }
}

static struct blk_req *blk_take_req(struct virtio_blk *d, struct vq *vq)
{
    struct blk_req *r = d->spares;
    if (!r) {
        r = alloc_zero(sizeof(*r));
        r->d = d;
        r->next = NULL;
        d->spares = r;
    }
    if (!vq_pop(vq, &r->elem)) {
        return NULL;
    }
    d->spares = r->next;
    r->vq = vq;
    d->flying++;
    return r;
}

/* Lock held, released while a request runs until it first waits. */
static void blk_take(struct virtio_blk *d, struct vq *vq, unsigned *budget)
{
    struct blk_req *r;
    vq_want_kick(vq, false);
    for (; *budget && d->flying < MAX_FLYING && virtio_running(&d->v) && !d->stopped &&
           (r = blk_take_req(d, vq));
         --*budget) {
        pthread_mutex_unlock(&d->v.lock);
        co_start(d->loop, blk_req_start, r);
        pthread_mutex_lock(&d->v.lock);
    }
    virtio_check_broken(&d->v, vq);
    if (d->unsignalled && virtio_running(&d->v)) {
        blk_signal(d, vq);
    }
    vq_want_kick(vq, true);
}

/* Lock held, as for blk_take(). */
static void blk_try_again(struct virtio_blk *d)
{
    struct blk_req *r;
    while (!d->stopped && (r = d->kept)) {
        struct vq *vq = r->vq;
        d->kept = r->next;
        d->flying++;
        pthread_mutex_unlock(&d->v.lock);
        co_start(d->loop, blk_req_start, r);
        pthread_mutex_lock(&d->v.lock);
        if (d->unsignalled && virtio_running(&d->v)) {
            blk_signal(d, vq); /* done at once: nobody else will */
        }
    }
}

static void blk_run(void *opaque)
{
    struct virtio_blk *d = opaque;
    AUTO_LOCK(&d->v.lock);
    unsigned budget = TAKE_AT_ONCE;
    d->posted = false;
    d->taking = true;
    blk_try_again(d);
    for (unsigned i = 0; i < d->v.queues; i++) {
        struct vq *vq = &d->v.queue[i];
        while (budget && d->flying < MAX_FLYING && virtio_running(&d->v) && !d->stopped &&
               !vq_empty(vq)) {
            blk_take(d, vq, &budget); /* again if there came some while kicks were not wanted */
        }
    }
    d->taking = false;
    if (!budget) {
        blk_post(d); /* other work of the loop first */
    }
    if (!d->flying) {
        pthread_cond_broadcast(&d->idle);
    }
}

/* Lock held; any thread. */
static void blk_post(struct virtio_blk *d)
{
    if (!d->posted && d->loop) {
        d->posted = true;
        loop_post(d->loop, blk_run, d);
    }
}

static void blk_kick(struct virtio *v, unsigned queue)
{
    AUTO_LOCK(&v->lock);
    blk_post(container_of(v, struct virtio_blk, v));
}

static void blk_ready(struct virtio *v)
{
    blk_post(container_of(v, struct virtio_blk, v));
}

static void blk_reset(struct virtio *v)
{
    struct virtio_blk *d = container_of(v, struct virtio_blk, v);
    d->resetting = true;
    while (d->flying) {
        pthread_cond_wait(&d->idle, &v->lock);
    }
    d->resetting = d->stopped = false;
    while (d->kept) {
        struct blk_req *r = d->kept;
        d->kept = r->next;
        blk_req_free(d, r);
    }
}

/* ---- Life ---- */

static const struct virtio_type blk_virtio = {.id = 2,
                                              .queues = MAX_QUEUES,
                                              .queue_size = VQ_MAX_SIZE,
                                              .config_size = 60,
                                              .kick = blk_kick,
                                              .reset = blk_reset,
                                              .ready = blk_ready};

/* VIRTIO 1.2 5.2.4 */
static void blk_fill_config(struct virtio_blk *d)
{
    uint8_t *c = d->v.config;
    store_le64(c + 0, block_size(d->block) / BLOCK_SECTOR);
    store_le32(c + 12, SEG_MAX);
    store_le32(c + 20, BLOCK_SECTOR);
    store_le16(c + 34, (uint16_t)d->queues);
    store_le32(c + 36, MAX_RANGE_SECTORS);
    store_le32(c + 40, MAX_RANGES);
    store_le32(c + 44, 1);
    store_le32(c + 48, MAX_RANGE_SECTORS);
    store_le32(c + 52, MAX_RANGES);
    c[56] = 1;
}

static enum on_error blk_on_error(const char *name, enum on_error preset)
{
    for (unsigned i = 0; name && on_error_names[i]; i++) {
        preset = strcmp(name, on_error_names[i]) ? preset : (enum on_error)i;
    }
    return preset;
}

static int blk_take_drive(struct virtio_blk *d, struct err *err)
{
    if (!d->drive_id) {
        return err_set(err, EINVAL, "virtio-blk-device: needs drive=ID");
    }
    d->backend = machine_find_backend(d->dev.machine, "drive", d->drive_id);
    d->backend =
        d->backend ? d->backend : machine_find_backend(d->dev.machine, "blockdev", d->drive_id);
    struct backend *policy = machine_find_backend(d->dev.machine, "drive-policy", d->drive_id);
    if (!d->backend || !policy) {
        return err_set(err, ENOENT, "virtio-blk-device: drive '%s' does not exist", d->drive_id);
    }
    d->block = d->backend->obj;
    struct drive_policy *p = policy->obj;
    bool alone = !d->share && !block_readonly(d->block);
    if (p->used && (alone || !p->shared)) {
        return err_set(err, EBUSY,
                       "virtio-blk-device: drive '%s' is in use; share-rw=on on all its devices "
                       "lets them share it",
                       d->drive_id);
    }
    if (alone && block_has_parents(d->block)) {
        return err_set(err, EBUSY,
                       "virtio-blk-device: drive '%s' is part of another node; share-rw=on lets "
                       "both write it",
                       d->drive_id);
    }
    p->used = d->backend->taken = true;
    p->shared = !alone;
    d->on_read = blk_on_error(d->rerror, p->read);
    d->on_write = blk_on_error(d->werror, p->write);
    return 0;
}

static int blk_init(struct dev *dev, struct err *err)
{
    struct virtio_blk *d = container_of(dev, struct virtio_blk, dev);
    int ret = blk_take_drive(d, err);
    if (ret) {
        return ret;
    }
    if (!d->queues || d->queues > MAX_QUEUES) {
        return err_set(err, EINVAL, "virtio-blk-device: num-queues is 1 to %u, not %u", MAX_QUEUES,
                       d->queues);
    }
    d->v.queues = d->queues;
    uint64_t features =
        (d->queues > 1 ? BIT(F_MQ) : 0) | BIT(F_SEG_MAX) | BIT(F_BLK_SIZE) | BIT(F_FLUSH) |
        (block_readonly(d->block) ? BIT(F_RO) : BIT(F_DISCARD) | BIT(F_WRITE_ZEROES));
    ret = virtio_init(&d->v, dev, &blk_virtio, features, err);
    if (ret) {
        return ret;
    }
    blk_fill_config(d);
    pthread_cond_init(&d->idle, NULL);
    d->loop = block_graph_loop(block_graph_of(d->block));
    return 0;
}

static bool blk_busy(struct virtio_blk *d)
{
    bool busy = d->flying || d->posted || d->taking;
    for (unsigned i = 0; virtio_running(&d->v) && !d->stopped && i < d->v.queues; i++) {
        busy |= !vq_empty(&d->v.queue[i]);
    }
    return busy;
}

static void blk_quiesce(struct dev *dev)
{
    struct virtio_blk *d = container_of(dev, struct virtio_blk, dev);
    AUTO_LOCK(&d->v.lock);
    while (blk_busy(d)) {
        blk_post(d);
        pthread_cond_wait(&d->idle, &d->v.lock);
    }
}

static void blk_resume(struct dev *dev)
{
    struct virtio_blk *d = container_of(dev, struct virtio_blk, dev);
    AUTO_LOCK(&d->v.lock);
    if (d->stopped) {
        d->stopped = false;
        blk_post(d);
    }
}

static void blk_fini(struct dev *dev)
{
    struct virtio_blk *d = container_of(dev, struct virtio_blk, dev);
    if (d->loop) {
        pthread_mutex_lock(&d->v.lock);
        while (d->flying || d->posted || d->taking) {
            pthread_cond_wait(&d->idle, &d->v.lock);
        }
        pthread_mutex_unlock(&d->v.lock);
        pthread_cond_destroy(&d->idle);
    }
    while (d->kept) {
        struct blk_req *r = d->kept;
        d->kept = r->next;
        blk_req_free(d, r);
    }
    while (d->spares) {
        struct blk_req *r = d->spares;
        d->spares = r->next;
        free(r);
    }
    virtio_fini(&d->v);
}

static void blk_boot_name(const struct dev *dev, struct strbuf *sb)
{
    const struct pci_func *pci = container_of(dev, struct virtio_blk, dev)->v.bus->pci;
    if (pci) {
        pci_boot_name(pci, sb);
        strbuf_add(sb, "/disk@0,0");
    }
}

/* ---- State ---- */

static const struct field virtio_blk_list[] = {
    FIELD(struct virtio_blk, dev, FIELD_HOST),
    FIELD(struct virtio_blk, v, FIELD_GUEST, .sub = &virtio_fields),
    FIELD(struct virtio_blk, drive_id, FIELD_HOST),
    FIELD(struct virtio_blk, serial, FIELD_HOST),
    FIELD(struct virtio_blk, werror, FIELD_HOST),
    FIELD(struct virtio_blk, rerror, FIELD_HOST),
    FIELD(struct virtio_blk, queues, FIELD_CONFIG),
    FIELD(struct virtio_blk, bootindex, FIELD_HOST),
    FIELD(struct virtio_blk, share, FIELD_HOST),
    FIELD(struct virtio_blk, on_read, FIELD_HOST),
    FIELD(struct virtio_blk, on_write, FIELD_HOST),
    FIELD(struct virtio_blk, backend, FIELD_HOST),
    FIELD(struct virtio_blk, block, FIELD_HOST),
    FIELD(struct virtio_blk, loop, FIELD_HOST),
    FIELD(struct virtio_blk, flying, FIELD_HOST),
    FIELD(struct virtio_blk, posted, FIELD_HOST),
    FIELD(struct virtio_blk, taking, FIELD_HOST),
    FIELD(struct virtio_blk, spares, FIELD_HOST),
    FIELD(struct virtio_blk, kept, FIELD_HOST),
    FIELD(struct virtio_blk, stopped, FIELD_HOST),
    FIELD(struct virtio_blk, stop_error, FIELD_HOST),
    FIELD(struct virtio_blk, stop_write, FIELD_HOST),
    FIELD(struct virtio_blk, resetting, FIELD_HOST),
    FIELD(struct virtio_blk, unsignalled, FIELD_HOST),
    FIELD(struct virtio_blk, idle, FIELD_HOST),
};

FIELD_SET(virtio_blk_fields, "virtio-blk", struct virtio_blk, virtio_blk_list, 1);

const struct dev_type virtio_blk_type = {
    .name = "virtio-blk-device",
    .summary = "disk",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-bus",
    .size = sizeof(struct virtio_blk),
    .state = &virtio_blk_fields,
    .props = blk_props,
    .init = blk_init,
    .quiesce = blk_quiesce,
    .resume = blk_resume,
    .boot_name = blk_boot_name,
    .fini = blk_fini,
};
