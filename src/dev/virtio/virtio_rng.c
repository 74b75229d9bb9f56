/* Entropy device: VIRTIO 1.2 section 5.4. Bytes come from the host kernel's generator. */
#include "dev/virtio/virtio_devices.h"

#include <sys/random.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "dev/virtio/virtio.h"
#include "state/field.h"

#define RNG_MAX_PER_REQUEST 4096

struct virtio_rng {
    struct dev dev;
    struct virtio v;
};

static uint32_t rng_fill(const struct vq_elem *e)
{
    uint8_t buf[RNG_MAX_PER_REQUEST];
    size_t want = e->in_len < sizeof(buf) ? (size_t)e->in_len : sizeof(buf);
    ssize_t n = getrandom(buf, want, 0);
    return n > 0 ? (uint32_t)iov_write(e->in, e->in_count, 0, buf, (uint64_t)n) : 0;
}

static void rng_kick(struct virtio *v, unsigned queue)
{
    struct vq_elem e;
    AUTO_LOCK(&v->lock);
    struct vq *vq = &v->queue[0];
    for (unsigned n = 0; virtio_running(v) && n < VQ_MAX_SIZE && vq_pop(vq, &e); n++) {
        vq_push(vq, &e, rng_fill(&e));
    }
    vq_want_kick(vq, true);
    virtio_check_broken(v, vq);
    virtio_signal(v, vq);
}

static const struct virtio_type rng_virtio = {
    .id = 4, .queues = 1, .queue_size = 64, .kick = rng_kick};

static int rng_init(struct dev *dev, struct err *err)
{
    struct virtio_rng *r = container_of(dev, struct virtio_rng, dev);
    return virtio_init(&r->v, dev, &rng_virtio, 0, err);
}

static void rng_fini(struct dev *dev)
{
    virtio_fini(&container_of(dev, struct virtio_rng, dev)->v);
}

/* ---- State ---- */

static const struct field virtio_rng_list[] = {
    FIELD(struct virtio_rng, dev, FIELD_HOST),
    FIELD(struct virtio_rng, v, FIELD_GUEST, .sub = &virtio_fields),
};

FIELD_SET(virtio_rng_fields, "virtio-rng", struct virtio_rng, virtio_rng_list, 1);

const struct dev_type virtio_rng_type = {
    .name = "virtio-rng-device",
    .summary = "random numbers",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-bus",
    .size = sizeof(struct virtio_rng),
    .state = &virtio_rng_fields,
    .init = rng_init,
    .fini = rng_fini,
};
