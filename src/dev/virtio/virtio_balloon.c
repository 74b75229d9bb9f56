/*
 * Memory balloon: VIRTIO 1.2 section 5.5. Pages that the guest puts into it, or reports as free,
 * go back to the host; they are there again, and zero, when the guest touches them.
 *
 * Does not do: free page hints (they are of use to migration), telling the host before use
 * (not needed here).
 */
#include "dev/virtio/virtio_balloon.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "core/fields.h"
#include "core/machine.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtio_devices.h"
#include "loop/clock.h"

enum {
    F_STATS_VQ = 1,
    F_DEFLATE_ON_OOM = 2,
    F_PAGE_POISON = 4,
    F_REPORTING = 5,
    Q_INFLATE = 0,
    Q_DEFLATE = 1,
    Q_STATS = 2,
    Q_REPORTING = 3,
    /* Configuration, 5.5.4. */
    NUM_PAGES = 0,
    ACTUAL = 4,
    POISON_VAL = 12,
    CONFIG_SIZE = 16,
    PAGE_SHIFT = 12,
    PFNS_AT_ONCE = 1024, /* of a request; Linux has 256 */
    STAT_LEN = 10,
    STATS = 10,
    QUEUE_SIZE = 128,
};

struct virtio_balloon {
    struct dev dev;
    struct virtio v;
    bool deflate_on_oom, reporting, page_poison; /* options */
    uint32_t interval;                           /* option: seconds between statistics */
    /* By v.lock. */
    uint8_t target[4]; /* what NUM_PAGES says */
    struct timer timer;
    bool stats_held; /* the driver's buffer, which we give back to ask for more */
    struct vq_elem stats_elem;
    uint64_t stat[STATS];
    unsigned stats_known; /* a bit each */
};

/* ---- Pages; lock held ---- */

/* 5.5.6: an array of page numbers. What is no RAM is left alone. */
static void balloon_inflate(struct virtio_balloon *b, const struct vq_elem *e)
{
    uint8_t pfns[PFNS_AT_ONCE * 4];
    uint64_t len = iov_read(e->out, e->out_count, 0, pfns, sizeof(pfns));
    for (uint64_t i = 0; i + 4 <= len; i += 4) {
        gpa_t gpa = (gpa_t)load_le32(pfns + i) << PAGE_SHIFT;
        if (!gmem_discard(b->v.bus->mem, gpa, 1 << PAGE_SHIFT)) {
            log_guest(&b->dev.rate, b->dev.type->name, "page %#" PRIx64 " is not RAM\n", gpa);
        }
    }
}

/* 5.5.6.7: free pages as buffers. With a poison value they would have to keep it. */
static void balloon_report(struct virtio_balloon *b, const struct vq_elem *e)
{
    if (b->v.accepted & BIT(F_PAGE_POISON) && load_le32(b->v.config + POISON_VAL)) {
        return;
    }
    for (unsigned i = 0; i < e->in_count; i++) {
        struct ram *ram = e->in_ram[e->out_count + i];
        ram_discard(ram, (uint64_t)((uint8_t *)e->in[i].iov_base - ram->host), e->in[i].iov_len);
    }
}

static void balloon_take(struct virtio_balloon *b, unsigned queue)
{
    struct vq_elem e;
    struct vq *vq = &b->v.queue[queue];
    for (unsigned n = 0; virtio_running(&b->v) && n < QUEUE_SIZE && vq_pop(vq, &e); n++) {
        if (queue == Q_INFLATE) {
            balloon_inflate(b, &e);
        } else if (queue == Q_REPORTING) {
            balloon_report(b, &e);
        }
        vq_push(vq, &e, 0);
    }
    vq_want_kick(vq, true);
    virtio_check_broken(&b->v, vq);
    virtio_signal(&b->v, vq);
}

/* ---- Statistics, 5.5.6.3; lock held ---- */

static void stats_parse(struct virtio_balloon *b)
{
    uint8_t buf[STAT_LEN * 64];
    const struct vq_elem *e = &b->stats_elem;
    uint64_t len = iov_read(e->out, e->out_count, 0, buf, sizeof(buf));
    for (uint64_t i = 0; i + STAT_LEN <= len; i += STAT_LEN) {
        uint16_t tag = load_le16(buf + i);
        if (tag < STATS) {
            b->stat[tag] = load_le64(buf + i + 2);
            b->stats_known |= 1u << tag;
        }
    }
}

/* The driver has one buffer, which it fills and we keep until we want to know again. */
static void stats_take(struct virtio_balloon *b)
{
    struct vq *vq = &b->v.queue[Q_STATS];
    if (!virtio_running(&b->v)) {
        return;
    }
    if (b->stats_held && !vq_empty(vq)) { /* there is to be one only */
        vq_push(vq, &b->stats_elem, 0);
        b->stats_held = false;
    }
    if (vq_pop(vq, &b->stats_elem)) {
        b->stats_held = true;
        stats_parse(b);
    }
    vq_want_kick(vq, true);
    virtio_check_broken(&b->v, vq);
}

static void stats_timer(void *opaque)
{
    struct virtio_balloon *b = opaque;
    AUTO_LOCK(&b->v.lock);
    struct vq *vq = &b->v.queue[Q_STATS];
    if (b->stats_held && virtio_running(&b->v)) {
        b->stats_held = false;
        vq_push(vq, &b->stats_elem, 0);
        virtio_signal(&b->v, vq);
    }
    timer_set(&b->timer, clock_ns(b->dev.machine->clock) + b->interval * NS_PER_SEC);
}

/* ---- The virtio device ---- */

static void balloon_kick(struct virtio *v, unsigned queue)
{
    struct virtio_balloon *b = container_of(v, struct virtio_balloon, v);
    AUTO_LOCK(&v->lock);
    if (queue == Q_STATS) {
        stats_take(b);
    } else {
        balloon_take(b, queue);
    }
}

/* The guest that starts anew has all its memory. */
static void balloon_reset(struct virtio *v)
{
    struct virtio_balloon *b = container_of(v, struct virtio_balloon, v);
    b->stats_held = false;
    b->stats_known = 0;
    store_le32(v->config + ACTUAL, 0);
    store_le32(v->config + POISON_VAL, 0);
}

static void balloon_ready(struct virtio *v)
{
    stats_take(container_of(v, struct virtio_balloon, v));
}

/* Two fields are the driver's; the rest goes back to what it was. */
static void balloon_config_written(struct virtio *v, uint32_t off, uint32_t len)
{
    struct virtio_balloon *b = container_of(v, struct virtio_balloon, v);
    memcpy(v->config + NUM_PAGES, b->target, sizeof(b->target));
    memset(v->config + 8, 0, 4);
}

static const struct virtio_type balloon_virtio = {.id = 5,
                                                  .queues = Q_REPORTING + 1,
                                                  .queue_size = QUEUE_SIZE,
                                                  .config_size = CONFIG_SIZE,
                                                  .kick = balloon_kick,
                                                  .reset = balloon_reset,
                                                  .ready = balloon_ready,
                                                  .config_written = balloon_config_written};

/* ---- For the monitor ---- */

struct virtio_balloon *virtio_balloon_find(struct machine *m)
{
    for (struct dev *d = m->devs; d; d = d->next) {
        if (d->type == &virtio_balloon_type) {
            return container_of(d, struct virtio_balloon, dev);
        }
    }
    return NULL;
}

void virtio_balloon_set_target(struct virtio_balloon *b, uint64_t bytes)
{
    uint64_t all = b->dev.machine->config.ram_size;
    AUTO_LOCK(&b->v.lock);
    store_le32(b->target, (uint32_t)((all - (bytes < all ? bytes : all)) >> PAGE_SHIFT));
    memcpy(b->v.config + NUM_PAGES, b->target, sizeof(b->target));
    virtio_config_changed(&b->v);
}

uint64_t virtio_balloon_actual(struct virtio_balloon *b)
{
    AUTO_LOCK(&b->v.lock);
    uint64_t in = (uint64_t)load_le32(b->v.config + ACTUAL) << PAGE_SHIFT;
    uint64_t all = b->dev.machine->config.ram_size;
    return in < all ? all - in : 0;
}

void virtio_balloon_print_stats(struct virtio_balloon *b, struct strbuf *out)
{
    static const char *const names[STATS] = {
        "stat-swap-in",      "stat-swap-out",     "stat-major-faults",     "stat-minor-faults",
        "stat-free-memory",  "stat-total-memory", "stat-available-memory", "stat-disk-caches",
        "stat-htlb-pgalloc", "stat-htlb-pgfail"};
    AUTO_LOCK(&b->v.lock);
    for (unsigned i = 0; i < STATS; i++) {
        if (b->stats_known & 1u << i) {
            strbuf_add(out, "%s=%" PRIu64 "\n", names[i], b->stat[i]);
        }
    }
}

/* ---- Life ---- */

static int balloon_init(struct dev *dev, struct err *err)
{
    struct virtio_balloon *b = container_of(dev, struct virtio_balloon, dev);
    for (const struct dev *d = dev->next; d; d = d->next) {
        if (d->type == dev->type) {
            return err_set(err, EEXIST, "%s: there is one already, and a machine has one at most",
                           dev->type->name);
        }
    }
    b->v.queues = b->reporting ? Q_REPORTING + 1 : Q_STATS + 1;
    uint64_t features = BIT(F_STATS_VQ) | (b->deflate_on_oom ? BIT(F_DEFLATE_ON_OOM) : 0) |
                        (b->page_poison ? BIT(F_PAGE_POISON) : 0) |
                        (b->reporting ? BIT(F_REPORTING) : 0);
    timer_init(&b->timer, dev->machine->clock, stats_timer, b);
    int ret = virtio_init(&b->v, dev, &balloon_virtio, features, err);
    if (!ret && b->interval) {
        timer_set(&b->timer, clock_ns(dev->machine->clock) + b->interval * NS_PER_SEC);
    }
    return ret;
}

static void balloon_fini(struct dev *dev)
{
    struct virtio_balloon *b = container_of(dev, struct virtio_balloon, dev);
    if (b->v.type) {
        timer_unset(&b->timer);
    }
    virtio_fini(&b->v);
}

static const struct prop balloon_props[] = {
    {"deflate-on-oom", PROP_BOOL, offsetof(struct virtio_balloon, deflate_on_oom), "off",
     "the guest may take pages back when it runs out of memory"},
    {"free-page-reporting", PROP_BOOL, offsetof(struct virtio_balloon, reporting), "off",
     "the guest tells of free pages, which go back to the host"},
    {"page-poison", PROP_BOOL, offsetof(struct virtio_balloon, page_poison), "on",
     "the guest says what its free pages are filled with"},
    {"guest-stats-polling-interval", PROP_U32, offsetof(struct virtio_balloon, interval), "0",
     "seconds between statistics; 0: none"},
    {0},
};

/* ---- State ---- */

static const struct field virtio_balloon_list[] = {
    FIELD(struct virtio_balloon, dev, FIELD_HOST),
    FIELD(struct virtio_balloon, v, FIELD_GUEST, .sub = &virtio_fields),
    FIELD(struct virtio_balloon, deflate_on_oom, FIELD_CONFIG),
    FIELD(struct virtio_balloon, reporting, FIELD_CONFIG),
    FIELD(struct virtio_balloon, page_poison, FIELD_CONFIG),
    FIELD(struct virtio_balloon, interval, FIELD_HOST),
    FIELD_ARRAY(struct virtio_balloon, target, FIELD_GUEST),
    FIELD(struct virtio_balloon, timer, FIELD_GUEST, .sub = &timer_fields),
    FIELD(struct virtio_balloon, stats_held, FIELD_GUEST),
    FIELD(struct virtio_balloon, stats_elem, FIELD_GUEST, .sub = &vq_elem_fields),
    FIELD_ARRAY(struct virtio_balloon, stat, FIELD_GUEST),
    FIELD(struct virtio_balloon, stats_known, FIELD_GUEST),
};

FIELD_SET(virtio_balloon_fields, "virtio-balloon", struct virtio_balloon, virtio_balloon_list, 1);

const struct dev_type virtio_balloon_type = {
    .name = "virtio-balloon-device",
    .summary = "gives memory back to the host",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-bus",
    .size = sizeof(struct virtio_balloon),
    .state = &virtio_balloon_fields,
    .props = balloon_props,
    .init = balloon_init,
    .fini = balloon_fini,
};
