/*
 * SCSI host adapter: VIRTIO 1.2 section 5.6. Up to 14 request queues. Data moves straight between
 * the guest's memory and the image; only what the SCSI core makes up itself passes a buffer.
 *
 * Does not do: hot plug and its events, asynchronous notifications, bidirectional commands,
 * protection information, task attributes and priorities (taken, and all are simple).
 *
 * Commands begin on the thread that kicked, under the device's lock; those that need I/O go on as
 * jobs of their disk. A reset waits until none flies.
 */
#include "dev/virtio/virtio_scsi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/block.h"
#include "core/machine.h"
#include "dev/virtio/virtio_devices.h"
#include "loop/loop.h"
#include "state/field.h"

enum {
    REQ_HEAD = 19, /* lun, tag, attribute, priority, crn; then the CDB */
    RESP_HEAD = 12,
    CDB_MIN = 1,
    CDB_MAX = 255,
    CDB_PRESET = 32,
    SENSE_PRESET = 96,
    ALL_QUEUES = 16,
    MAX_QUEUES = ALL_QUEUES - VSCSI_FIRST_REQUEST,
    SEG_MAX = VQ_MAX_SEGS - 2,
    MAX_LUN = 16383,
    EVENT_BYTES = 16,
    CONFIG_SENSE = 20,
    CONFIG_CDB = 24,
    CONFIG_SIZE = 36,
    TAKE_AT_ONCE = VQ_MAX_SIZE, /* from one queue, before others have their turn */
    CD_USER = 2048,
    CD_RAW = 2352,
};

static const struct prop vscsi_props[] = {
    {"num_queues", PROP_U32, offsetof(struct vscsi, want_queues), "4294967295",
     "request queues, at most 14; preset: one for each vcpu"},
    {"max_sectors", PROP_U32, offsetof(struct vscsi, max_sectors), "65535",
     "most 512-byte sectors of a command"},
    {"cmd_per_lun", PROP_U32, offsetof(struct vscsi, cmd_per_lun), "128",
     "commands a driver should have at a unit"},
    {0},
};

/* ---- Ending ---- */

static struct iovs req_data(const struct vscsi_req *r, bool in)
{
    const struct vq_elem *e = &r->elem;
    struct iovs all = in ? iovs_of(e->in, e->in_count) : iovs_of(e->out, e->out_count);
    uint32_t head = in ? r->in_head : r->out_head;
    return iovs_part(&all, head, all.len - head);
}

static void req_unlink(struct vscsi *s, struct vscsi_req *r)
{
    if (r->prev) {
        r->prev->next = r->next;
    } else {
        s->flying = r->next;
    }
    if (r->next) {
        r->next->prev = r->prev;
    }
    s->flying_count--;
    r->next = s->spares;
    s->spares = r;
}

/* VIRTIO 1.2 5.6.6.1.2: `moved` bytes of data of those there was room for. */
static void vscsi_respond(struct vscsi_req *r, uint8_t response, uint64_t moved)
{
    struct vscsi *s = r->s;
    const struct vq_elem *e = &r->elem;
    uint8_t head[RESP_HEAD + VSCSI_MAX_SENSE] = {0};
    bool sense = response == VSCSI_S_OK && r->cmd.status == SCSI_CHECK;
    uint32_t room = s->sense_size < VSCSI_MAX_SENSE ? s->sense_size : VSCSI_MAX_SENSE;
    bool in = e->in_len > r->in_head;
    uint64_t all = in ? e->in_len - r->in_head : e->out_len - r->out_head;
    if (sense) {
        uint8_t full[SCSI_SENSE_BYTES];
        uint32_t n = room < sizeof(full) ? room : (uint32_t)sizeof(full);
        scsi_put_sense(full, &r->cmd.sense);
        memcpy(head + RESP_HEAD, full, n);
        store_le32(head, n);
    }
    store_le32(head + 4, moved < all ? (uint32_t)(all - moved) : 0);
    head[10] = response == VSCSI_S_OK ? r->cmd.status : 0;
    head[11] = response;
    uint64_t bytes = RESP_HEAD + (sense ? load_le32(head) : 0);
    iov_write(e->in, e->in_count, 0, head, bytes);
    /* What lies between counts as written, too. */
    vq_push(r->vq, e, (uint32_t)(in && moved ? r->in_head + moved : bytes));
}

/* Lock held. */
static void vscsi_end(struct vscsi_req *r, uint8_t response, uint64_t moved)
{
    struct vscsi *s = r->s;
    struct vq *vq = r->vq;
    if (virtio_running(&s->v)) { /* else it was reset meanwhile */
        vscsi_respond(r, r->given_up ? r->given_up : response, r->given_up ? 0 : moved);
        virtio_signal(&s->v, vq);
    }
    if (r->given_up) {
        vscsi_tmf_ended(s, r);
    }
    req_unlink(s, r);
    if (!s->flying_count) {
        pthread_cond_broadcast(&s->idle);
    }
}

/* ---- Jobs: coroutines on the disk's loop ---- */

static uint64_t frame_bytes(const struct scsi_frame *f)
{
    return (uint64_t)f->before + f->user + f->after;
}

/* What the command moves, as the initiator counts it. */
static uint64_t cmd_bytes(const struct scsi_cmd *c)
{
    uint64_t row = frame_bytes(&c->frame);
    return row ? c->bytes / CD_USER * row : c->bytes;
}

static int job_read_frames(struct vscsi_req *r, const struct iovs *q)
{
    const struct scsi_cmd *c = &r->cmd;
    uint8_t user[CD_USER], raw[CD_RAW];
    uint64_t row = frame_bytes(&c->frame);
    int ret = 0;
    for (uint64_t i = 0; !ret && i < c->bytes / CD_USER; i++) {
        ret = disk_read(&r->dev->disk, c->off + i * CD_USER, user, CD_USER);
        if (!ret) {
            scsi_cd_frame(&c->frame, (uint32_t)(c->off / CD_USER + i), user, raw);
            iovs_put(q, i * row, raw, row);
        }
    }
    return ret;
}

static int job_move(struct vscsi_req *r)
{
    struct scsi_cmd *c = &r->cmd;
    bool in = c->data == SCSI_READ;
    struct iovs all = req_data(r, in), q = iovs_part(&all, 0, cmd_bytes(c));
    if (in && frame_bytes(&c->frame)) {
        return job_read_frames(r, &q);
    }
    return disk_io(&r->dev->disk, in ? DISK_READ : DISK_WRITE, c->off, c->bytes, &q,
                   !in && c->fua ? BLOCK_FUA : 0);
}

static void vscsi_job(void *opaque)
{
    struct vscsi_req *r = opaque;
    struct vscsi *s = r->s;
    struct scsi_cmd *c = &r->cmd;
    struct scsi_lu *lu = &r->dev->lu;
    bool moves = c->data == SCSI_READ || c->data == SCSI_WRITE;
    uint64_t moved = moves ? cmd_bytes(c) : c->len;
    int ret = moves ? job_move(r) : 0;
    ret = !ret && c->work ? c->work(lu, c) : ret;
    AUTO_LOCK(&s->v.lock);
    bool full = s->flying_count == VSCSI_MAX_FLYING;
    scsi_end(lu, c, ret);
    vscsi_end(r, VSCSI_S_OK, ret ? 0 : moved);
    if (full) {
        vscsi_take_all(s);
    }
}

/* ---- Beginning; lock held ---- */

bool vscsi_parse_lun(const struct vscsi *s, const uint8_t *lun, struct scsi_addr *at)
{
    *at = (struct scsi_addr){.target = lun[1], .lun = scsi_lun_parse(lun + 2)};
    return lun[0] == 1 && scsi_bus_has_target(&s->bus, at);
}

/* The parameter list or the reply of a command that was begun; true: all is done. */
static bool vscsi_small_data(struct vscsi_req *r, uint64_t *moved)
{
    struct scsi_cmd *c = &r->cmd;
    if (c->data == SCSI_DATA_OUT) {
        struct iovs q = req_data(r, false);
        uint32_t n = q.len < c->len ? (uint32_t)q.len : c->len;
        iovs_get(&q, 0, c->buf, n);
        c->len = n;
        *moved = n;
        scsi_received(&r->dev->lu, c);
        c->len = n;
    } else if (c->data == SCSI_DATA_IN) {
        struct iovs q = req_data(r, true);
        *moved = q.len < c->len ? q.len : c->len;
        iovs_put(&q, 0, c->buf, *moved);
    }
    return !c->work;
}

static void vscsi_begin(struct vscsi_req *r)
{
    struct vscsi *s = r->s;
    struct scsi_cmd *c = &r->cmd;
    uint64_t moved = 0;
    scsi_target_begin(&s->bus, &r->at, r->dev, c);
    if (c->data == SCSI_READ || c->data == SCSI_WRITE) {
        struct iovs room = req_data(r, c->data == SCSI_READ);
        if (cmd_bytes(c) > room.len) {
            vscsi_end(r, VSCSI_S_OVERRUN, 0);
            return;
        }
    } else if (vscsi_small_data(r, &moved)) {
        vscsi_end(r, VSCSI_S_OK, moved);
        return;
    }
    if (!r->dev->disk.loop) { /* there never was a medium to work on */
        scsi_end(&r->dev->lu, c, -ENOMEDIUM);
        vscsi_end(r, VSCSI_S_OK, 0);
        return;
    }
    disk_start(&r->dev->disk, &r->job, vscsi_job, r);
}

/* False: the driver left no room for what every request has. */
static bool vscsi_parse(struct vscsi_req *r)
{
    struct vscsi *s = r->s;
    const struct vq_elem *e = &r->elem;
    uint8_t head[REQ_HEAD + CDB_MAX];
    uint32_t cdb = s->cdb_size < sizeof(r->cmd.cdb) ? s->cdb_size : sizeof(r->cmd.cdb);
    r->out_head = REQ_HEAD + s->cdb_size;
    r->in_head = RESP_HEAD + s->sense_size;
    if (e->out_len < r->out_head || e->in_len < r->in_head || e->in_len > UINT32_MAX ||
        e->out_len > UINT32_MAX) {
        return false;
    }
    iov_read(e->out, e->out_count, 0, head, r->out_head);
    r->tag = load_le64(head + 8);
    r->cmd = (struct scsi_cmd){.buf = r->buf};
    memcpy(r->cmd.cdb, head + REQ_HEAD, cdb);
    if (!vscsi_parse_lun(s, head, &r->at)) {
        r->given_up = 0;
        vscsi_end(r, VSCSI_S_BAD_TARGET, 0);
        return true;
    }
    r->dev = scsi_bus_find(&s->bus, &r->at);
    if (e->out_len > r->out_head && e->in_len > r->in_head) {
        vscsi_end(r, VSCSI_S_FAILURE, 0); /* both ways: not offered */
        return true;
    }
    vscsi_begin(r);
    return true;
}

static struct vscsi_req *vscsi_pop(struct vscsi *s, struct vq *vq)
{
    struct vscsi_req *r = s->spares;
    if (!r) {
        r = alloc_zero(sizeof(*r));
        r->s = s;
        s->spares = r;
    }
    if (!vq_pop(vq, &r->elem)) {
        return NULL;
    }
    s->spares = r->next;
    r->vq = vq;
    r->dev = NULL;
    r->given_up = 0;
    r->prev = NULL;
    r->next = s->flying;
    if (r->next) {
        r->next->prev = r;
    }
    s->flying = r;
    s->flying_count++;
    return r;
}

/* On the machine's loop. */
static void vscsi_run_later(void *opaque)
{
    struct vscsi *s = opaque;
    AUTO_LOCK(&s->v.lock);
    s->posted = false;
    vscsi_take_all(s);
    if (!s->posted) {
        pthread_cond_broadcast(&s->idle);
    }
}

static bool vscsi_may_take(struct vscsi *s, struct vq *vq)
{
    return virtio_running(&s->v) && !s->quiet && s->flying_count < VSCSI_MAX_FLYING &&
           !vq_empty(vq);
}

static void vscsi_take(struct vscsi *s, struct vq *vq)
{
    unsigned n = 0;
    while (vscsi_may_take(s, vq) && n < TAKE_AT_ONCE) {
        struct vscsi_req *r;
        vq_want_kick(vq, false);
        while (vscsi_may_take(s, vq) && n++ < TAKE_AT_ONCE && (r = vscsi_pop(s, vq))) {
            if (!vscsi_parse(r)) {
                vq->broken = true;
                req_unlink(s, r);
            }
        }
        virtio_check_broken(&s->v, vq);
        vq_want_kick(vq, true);
    }
    if (vscsi_may_take(s, vq) && !s->posted) {
        s->posted = true;
        loop_post(s->dev.machine->loop, vscsi_run_later, s);
    }
}

void vscsi_take_all(struct vscsi *s)
{
    vscsi_take_control(s);
    for (unsigned i = VSCSI_FIRST_REQUEST; i < s->v.queues; i++) {
        vscsi_take(s, &s->v.queue[i]);
    }
}

/* ---- The virtio device ---- */

/* Events: the driver's buffers stay where they are. */
static void vscsi_kick(struct virtio *v, unsigned queue)
{
    struct vscsi *s = container_of(v, struct vscsi, v);
    AUTO_LOCK(&v->lock);
    if (queue == VSCSI_CONTROL) {
        vscsi_take_control(s);
    } else if (queue != VSCSI_EVENT) {
        vscsi_take(s, &v->queue[queue]);
    }
}

static void vscsi_ready(struct virtio *v)
{
    vscsi_take_all(container_of(v, struct vscsi, v));
}

/* VIRTIO 1.2 5.6.4 */
static void vscsi_fill_config(struct vscsi *s)
{
    uint8_t *c = s->v.config;
    store_le32(c + 0, s->v.queues - VSCSI_FIRST_REQUEST);
    store_le32(c + 4, SEG_MAX);
    store_le32(c + 8, s->max_sectors);
    store_le32(c + 12, s->cmd_per_lun);
    store_le32(c + 16, EVENT_BYTES);
    store_le32(c + CONFIG_SENSE, s->sense_size);
    store_le32(c + CONFIG_CDB, s->cdb_size);
    store_le16(c + 28, (uint16_t)s->bus.max_channel);
    store_le16(c + 30, (uint16_t)s->bus.max_target);
    store_le32(c + 32, s->bus.max_lun);
}

/* Sizes of sense data and CDBs are the driver's choice, within bounds, before it is ready. */
static void vscsi_config_written(struct virtio *v, uint32_t off, uint32_t len)
{
    struct vscsi *s = container_of(v, struct vscsi, v);
    uint32_t sense = load_le32(v->config + CONFIG_SENSE), cdb = load_le32(v->config + CONFIG_CDB);
    if (!(v->status & VIRTIO_STATUS_DRIVER_OK) && sense <= VSCSI_MAX_SENSE && cdb >= CDB_MIN &&
        cdb <= CDB_MAX) {
        s->sense_size = sense;
        s->cdb_size = cdb;
    }
    vscsi_fill_config(s);
}

static void vscsi_preset(struct vscsi *s)
{
    s->sense_size = SENSE_PRESET;
    s->cdb_size = CDB_PRESET;
    vscsi_fill_config(s);
}

/* Disks are drained without the lock, which their jobs need to end. No unit goes away meanwhile:
 * the machine is there. */
static void vscsi_reset(struct virtio *v)
{
    struct vscsi *s = container_of(v, struct vscsi, v);
    while (s->flying_count) {
        pthread_mutex_unlock(&v->lock);
        for (struct scsi_dev *d = s->bus.first; d; d = d->next) {
            disk_drain(&d->disk);
        }
        pthread_mutex_lock(&v->lock);
    }
    s->tmf.busy = false;
    s->quiet = false; /* a quiesced machine that is reset just goes on */
    for (struct scsi_dev *d = s->bus.first; d; d = d->next) {
        scsi_lu_reset(&d->lu);
    }
    vscsi_preset(s);
}

static const struct virtio_type vscsi_virtio = {.id = 8,
                                                .queues = ALL_QUEUES,
                                                .queue_size = VQ_MAX_SIZE,
                                                .config_size = CONFIG_SIZE,
                                                .kick = vscsi_kick,
                                                .reset = vscsi_reset,
                                                .ready = vscsi_ready,
                                                .config_written = vscsi_config_written};

/* ---- Life ---- */

static int vscsi_init(struct dev *dev, struct err *err)
{
    struct vscsi *s = container_of(dev, struct vscsi, dev);
    uint32_t vcpus = dev->machine->config.vcpus;
    if (s->want_queues == UINT32_MAX) {
        s->want_queues = vcpus < 1 ? 1 : vcpus > MAX_QUEUES ? MAX_QUEUES : vcpus;
    }
    if (!s->want_queues || s->want_queues > MAX_QUEUES) {
        return err_set(err, EINVAL, "virtio-scsi-device: num_queues is 1 to %d, not %u",
                       (int)MAX_QUEUES, s->want_queues);
    }
    s->v.queues = s->want_queues + VSCSI_FIRST_REQUEST;
    int ret = virtio_init(&s->v, dev, &vscsi_virtio, 0, err);
    if (ret) {
        return ret;
    }
    pthread_cond_init(&s->idle, NULL);
    struct pci_func *pci = s->v.bus->pci;
    s->bus.lock = &s->v.lock;
    s->bus.max_target = 255;
    s->bus.max_lun = MAX_LUN;
    s->bus.pci = pci;
    vscsi_preset(s);
    scsi_bus_add(dev->machine, &s->bus, dev->id ? dev->id : s->v.bus->dev_id);
    return 0;
}

/* The disks' jobs may begin others when they end: all of them are waited for here, once that is
 * ruled out. */
static void vscsi_quiesce(struct dev *dev)
{
    struct vscsi *s = container_of(dev, struct vscsi, dev);
    pthread_mutex_lock(&s->v.lock);
    s->quiet = true;
    pthread_mutex_unlock(&s->v.lock);
    for (struct scsi_dev *d = s->bus.first; d; d = d->next) {
        disk_quiesce(&d->disk);
    }
}

static void vscsi_resume(struct dev *dev)
{
    struct vscsi *s = container_of(dev, struct vscsi, dev);
    AUTO_LOCK(&s->v.lock);
    s->quiet = false;
    vscsi_take_all(s);
}

/* Its disks are gone, and with them what flew. */
static void vscsi_fini(struct dev *dev)
{
    struct vscsi *s = container_of(dev, struct vscsi, dev);
    while (s->spares) {
        struct vscsi_req *r = s->spares;
        s->spares = r->next;
        free(r);
    }
    if (s->bus.lock) {
        pthread_cond_destroy(&s->idle);
    }
    virtio_fini(&s->v);
}

/* ---- State ---- */

static const struct field vscsi_list[] = {
    FIELD(struct vscsi, dev, FIELD_HOST),
    FIELD(struct vscsi, v, FIELD_GUEST, .sub = &virtio_fields),
    FIELD(struct vscsi, bus, FIELD_HOST),
    FIELD(struct vscsi, want_queues, FIELD_CONFIG),
    FIELD(struct vscsi, max_sectors, FIELD_CONFIG),
    FIELD(struct vscsi, cmd_per_lun, FIELD_CONFIG),
    FIELD(struct vscsi, sense_size, FIELD_GUEST),
    FIELD(struct vscsi, cdb_size, FIELD_GUEST),
    FIELD(struct vscsi, spares, FIELD_HOST),
    FIELD(struct vscsi, flying, FIELD_HOST),
    FIELD(struct vscsi, flying_count, FIELD_HOST),
    FIELD(struct vscsi, quiet, FIELD_HOST),
    FIELD(struct vscsi, posted, FIELD_HOST),
    FIELD(struct vscsi, tmf, FIELD_HOST),
    FIELD(struct vscsi, idle, FIELD_HOST),
};

FIELD_SET(vscsi_fields, "virtio-scsi", struct vscsi, vscsi_list, 1);

const struct dev_type virtio_scsi_type = {
    .name = "virtio-scsi-device",
    .summary = "SCSI host adapter",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-bus",
    .size = sizeof(struct vscsi),
    .state = &vscsi_fields,
    .props = vscsi_props,
    .init = vscsi_init,
    .quiesce = vscsi_quiesce,
    .resume = vscsi_resume,
    .fini = vscsi_fini,
};
