/*
 * GPU without acceleration: VIRTIO 1.2 §5.7, its 2D commands. The driver makes resources, fills
 * them from its memory and says which one is on the screen.
 *
 * One kick moves a bounded number of bytes; the loop goes on with what is left, so that the screen
 * and the monitor have their turn.
 *
 * Does not do: 3D (VIRGL), blobs, UUIDs of resources, contexts, more than one output.
 */
#include "dev/virtio/virtio_gpu.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_gpu_internal.h"
#include "state/field.h"

enum {
    F_EDID = 1,
    Q_CONTROL = 0,
    Q_CURSOR = 1,
    QUEUE_SIZE = 64,
    WORK_PER_KICK = 16 << 20, /* bytes */
    GO_ON_NS = 1000000,
    /* Configuration, 5.7.4. */
    EVENTS_READ = 0,
    EVENTS_CLEAR = 4,
    NUM_SCANOUTS = 8,
    CONFIG_SIZE = 16,
    EVENT_DISPLAY = 1,
    /* Headers, 5.7.6.7. */
    HEADER_TYPE = 0,
    HEADER_FLAGS = 4,
    HEADER_FENCE = 8, /* then the context */
    HEADER_FENCE_LEN = 12,
    FLAG_FENCE = 1,
    CMD_UPDATE_CURSOR = 0x300,
    CMD_MOVE_CURSOR = 0x301,
    SCANOUT_ID = 24,
    /* Responses. */
    MODE = 24, /* bytes of a display's mode: rectangle, enabled, flags */
    MODES = 16,
    EDID_SIZE_AT = 24,
    EDID_AT = 32,
    MONITOR_MIN = 64,
    MONITOR_MAX = 4095,
};

bool gpu_lock(struct virtio_gpu *g, unsigned ms)
{
    struct timespec end;
    if (!pthread_mutex_trylock(&g->v.lock)) {
        return true;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    uint64_t ns = (uint64_t)end.tv_nsec + (uint64_t)ms * 1000000;
    end.tv_sec += (time_t)(ns / NS_PER_SEC);
    end.tv_nsec = (long)(ns % NS_PER_SEC);
    return ms && !pthread_mutex_clocklock(&g->v.lock, CLOCK_MONOTONIC, &end);
}

/* ---- What the display is like ---- */

static enum gpu_status gpu_get_display_info(struct virtio_gpu *g, struct gpu_request *q)
{
    uint8_t *mode = q->out + GPU_HEADER;
    store_le32(mode + 8, g->width);
    store_le32(mode + 12, g->height);
    store_le32(mode + 16, true);
    q->out_len = GPU_HEADER + MODES * MODE;
    return GPU_OK_DISPLAY_INFO;
}

static enum gpu_status gpu_get_edid(struct virtio_gpu *g, struct gpu_request *q)
{
    if (!g->has_edid) {
        return GPU_ERR_UNSPEC;
    }
    if (load_le32(q->in + SCANOUT_ID) >= g->outputs) {
        return GPU_ERR_INVALID_SCANOUT_ID;
    }
    store_le32(q->out + EDID_SIZE_AT, EDID_SIZE);
    memcpy(q->out + EDID_AT, g->edid, EDID_SIZE);
    q->out_len = GPU_RESPONSE;
    return GPU_OK_EDID;
}

/* There are no capability sets. */
static enum gpu_status gpu_get_capset(struct virtio_gpu *g, struct gpu_request *q)
{
    return GPU_ERR_INVALID_PARAMETER;
}

static void config_fill(struct virtio_gpu *g)
{
    memset(g->v.config, 0, CONFIG_SIZE);
    store_le32(g->v.config + EVENTS_READ, g->events);
    store_le32(g->v.config + NUM_SCANOUTS, g->outputs);
}

void gpu_want_size(void *opaque, unsigned width, unsigned height)
{
    struct virtio_gpu *g = opaque;
    if (width < MONITOR_MIN || width > MONITOR_MAX || height < MONITOR_MIN ||
        height > MONITOR_MAX || !gpu_lock(g, GPU_PATIENCE_MS)) {
        return;
    }
    if (width != g->width || height != g->height) {
        g->width = width;
        g->height = height;
        edid_make(g->edid, width, height);
        g->events |= EVENT_DISPLAY;
        config_fill(g);
        virtio_config_changed(&g->v);
    }
    pthread_mutex_unlock(&g->v.lock);
}

/* The driver clears events by writing their bits; the rest is not its own. */
static void gpu_config_written(struct virtio *v, uint32_t off, uint32_t len)
{
    struct virtio_gpu *g = container_of(v, struct virtio_gpu, v);
    g->events &= ~load_le32(v->config + EVENTS_CLEAR);
    config_fill(g);
}

/* ---- The control queue; lock held ---- */

static const struct gpu_command {
    uint32_t type;
    unsigned size; /* of the request */
    enum gpu_status (*run)(struct virtio_gpu *g, struct gpu_request *q);
} commands[] = {
    {0x100, 24, gpu_get_display_info},
    {0x101, 40, gpu_create_2d},
    {0x102, 28, gpu_unref},
    {0x103, 48, gpu_set_scanout},
    {0x104, 44, gpu_flush},
    {0x105, 52, gpu_transfer_to_host_2d},
    {0x106, 32, gpu_attach_backing},
    {0x107, 28, gpu_detach_backing},
    {0x108, 28, gpu_get_capset},
    {0x109, 32, gpu_get_capset},
    {0x10a, 28, gpu_get_edid},
};

static enum gpu_status gpu_run(struct virtio_gpu *g, struct gpu_request *q)
{
    uint32_t type = load_le32(q->in + HEADER_TYPE);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (commands[i].type == type) {
            return q->elem->out_len < commands[i].size ? GPU_ERR_INVALID_PARAMETER
                                                       : commands[i].run(g, q);
        }
    }
    log_guest(&g->dev.rate, g->dev.type->name, "there is no command %#x\n", type);
    return GPU_ERR_UNSPEC;
}

/* Everything is done when it is answered, so a fence is only repeated (5.7.6.7). */
static uint32_t gpu_answer(struct virtio_gpu *g, const struct vq_elem *e)
{
    struct gpu_request q = {.elem = e, .out_len = GPU_HEADER};
    iov_read(e->out, e->out_count, 0, q.in, sizeof(q.in));
    store_le32(q.out + HEADER_TYPE, gpu_run(g, &q));
    if (load_le32(q.in + HEADER_FLAGS) & FLAG_FENCE) {
        store_le32(q.out + HEADER_FLAGS, FLAG_FENCE);
        memcpy(q.out + HEADER_FENCE, q.in + HEADER_FENCE, HEADER_FENCE_LEN);
    }
    return (uint32_t)iov_write(e->in, e->in_count, 0, q.out, q.out_len);
}

static void gpu_control(struct virtio_gpu *g)
{
    struct vq_elem e;
    struct vq *vq = &g->v.queue[Q_CONTROL];
    unsigned n = 0;
    g->work = 0;
    while (virtio_running(&g->v) && n++ < QUEUE_SIZE && g->work < WORK_PER_KICK && vq_pop(vq, &e)) {
        vq_push(vq, &e, gpu_answer(g, &e));
    }
    vq_want_kick(vq, true);
    virtio_check_broken(&g->v, vq);
    virtio_signal(&g->v, vq);
    if (virtio_running(&g->v) && !vq_empty(vq)) {
        timer_set(&g->go_on, clock_ns(g->dev.machine->clock) + GO_ON_NS);
    }
}

static void gpu_go_on(void *opaque)
{
    struct virtio_gpu *g = opaque;
    if (!gpu_lock(g, 0)) { /* a vcpu is at it */
        timer_set(&g->go_on, clock_ns(g->dev.machine->clock) + GO_ON_NS);
        return;
    }
    gpu_control(g);
    pthread_mutex_unlock(&g->v.lock);
}

/* ---- The cursor queue; lock held ---- */

static void gpu_cursors(struct virtio_gpu *g)
{
    struct vq_elem e;
    struct vq *vq = &g->v.queue[Q_CURSOR];
    for (unsigned n = 0; virtio_running(&g->v) && n < QUEUE_SIZE && vq_pop(vq, &e); n++) {
        uint8_t in[GPU_REQUEST] = {0};
        bool whole = iov_read(e.out, e.out_count, 0, in, sizeof(in)) == sizeof(in);
        uint32_t type = load_le32(in + HEADER_TYPE), scanout = load_le32(in + SCANOUT_ID);
        if (whole && scanout < g->outputs &&
            (type == CMD_UPDATE_CURSOR || type == CMD_MOVE_CURSOR)) {
            gpu_cursor(g, in, type == CMD_UPDATE_CURSOR);
        }
        vq_push(vq, &e, 0);
    }
    vq_want_kick(vq, true);
    virtio_check_broken(&g->v, vq);
    virtio_signal(&g->v, vq);
}

static void gpu_kick(struct virtio *v, unsigned queue)
{
    struct virtio_gpu *g = container_of(v, struct virtio_gpu, v);
    AUTO_LOCK(&v->lock);
    if (queue == Q_CONTROL) {
        gpu_control(g);
    } else {
        gpu_cursors(g);
    }
}

/* ---- Life ---- */

static void gpu_reset(struct virtio *v)
{
    struct virtio_gpu *g = container_of(v, struct virtio_gpu, v);
    timer_unset(&g->go_on);
    gpu_screen_reset(g);
    gpu_resource_free_all(g);
    g->events = 0;
    config_fill(g);
}

static const struct virtio_type gpu_virtio = {.id = 16,
                                              .queues = 2,
                                              .queue_size = QUEUE_SIZE,
                                              .config_size = CONFIG_SIZE,
                                              .kick = gpu_kick,
                                              .reset = gpu_reset,
                                              .config_written = gpu_config_written};

void virtio_gpu_set_behind(struct virtio *v, const struct virtio_gpu_behind *behind)
{
    container_of(v, struct virtio_gpu, v)->behind = *behind;
}

static int gpu_check(const struct virtio_gpu *g, struct err *err)
{
    const char *name = g->dev.type->name;
    if (g->outputs != 1) {
        return err_set(err, EINVAL, "%s: it has one output; max_outputs=%u is not supported", name,
                       g->outputs);
    }
    if (g->width < MONITOR_MIN || g->width > MONITOR_MAX || g->height < MONITOR_MIN ||
        g->height > MONITOR_MAX) {
        return err_set(err, EINVAL, "%s: xres and yres go from %u to %u", name, MONITOR_MIN,
                       MONITOR_MAX);
    }
    return 0;
}

static int gpu_init(struct dev *dev, struct err *err)
{
    struct virtio_gpu *g = container_of(dev, struct virtio_gpu, dev);
    int ret = gpu_check(g, err);
    timer_init(&g->go_on, dev->machine->clock, gpu_go_on, g);
    edid_make(g->edid, g->width, g->height);
    ret = ret ? ret : virtio_init(&g->v, dev, &gpu_virtio, g->has_edid ? BIT(F_EDID) : 0, err);
    if (!ret && dev->machine->display) {
        display_add_source(dev->machine->display, &g->source, &gpu_source, g);
    }
    return ret;
}

static void gpu_fini(struct dev *dev)
{
    struct virtio_gpu *g = container_of(dev, struct virtio_gpu, dev);
    if (g->v.type) {
        timer_unset(&g->go_on);
        if (g->source.type) {
            display_remove_source(dev->machine->display, &g->source);
        }
        gpu_resource_free_all(g);
    }
    virtio_fini(&g->v);
}

static const struct prop gpu_props[] = {
    {"max_outputs", PROP_U32, offsetof(struct virtio_gpu, outputs), "1", "screens; 1 only"},
    {"edid", PROP_BOOL, offsetof(struct virtio_gpu, has_edid), "on", "the monitor says its size"},
    {"xres", PROP_U32, offsetof(struct virtio_gpu, width), "1280", "preferred width"},
    {"yres", PROP_U32, offsetof(struct virtio_gpu, height), "800", "preferred height"},
    {"max_hostmem", PROP_SIZE, offsetof(struct virtio_gpu, max_memory), "256M",
     "memory that the driver's pictures may take"},
    {0},
};

/* Not carried yet: the driver's pictures and its pointer. What is shown is gone with them. */
static const struct field gpu_list[] = {
    FIELD(struct virtio_gpu, dev, FIELD_HOST),
    FIELD(struct virtio_gpu, v, FIELD_GUEST, .sub = &virtio_fields),
    FIELD(struct virtio_gpu, outputs, FIELD_CONFIG),
    FIELD(struct virtio_gpu, width, FIELD_HOST),
    FIELD(struct virtio_gpu, height, FIELD_HOST),
    FIELD(struct virtio_gpu, max_memory, FIELD_CONFIG),
    FIELD(struct virtio_gpu, has_edid, FIELD_CONFIG),
    FIELD(struct virtio_gpu, events, FIELD_GUEST),
    FIELD(struct virtio_gpu, bucket, FIELD_HOST),
    FIELD(struct virtio_gpu, resources, FIELD_HOST),
    FIELD(struct virtio_gpu, memory, FIELD_HOST),
    FIELD(struct virtio_gpu, go_on, FIELD_HOST),
    FIELD(struct virtio_gpu, work, FIELD_HOST),
    FIELD(struct virtio_gpu, active, FIELD_HOST),
    FIELD(struct virtio_gpu, shown, FIELD_HOST),
    FIELD(struct virtio_gpu, part, FIELD_HOST),
    FIELD(struct virtio_gpu, dirty, FIELD_HOST),
    FIELD(struct virtio_gpu, cursor, FIELD_HOST),
    FIELD(struct virtio_gpu, edid, FIELD_HOST),
    FIELD(struct virtio_gpu, behind, FIELD_HOST),
    FIELD(struct virtio_gpu, source, FIELD_HOST),
    FIELD(struct virtio_gpu, line, FIELD_HOST),
};

FIELD_SET(gpu_fields, "virtio-gpu", struct virtio_gpu, gpu_list, 1);

const struct dev_type virtio_gpu_type = {
    .name = "virtio-gpu-device",
    .summary = "graphics without acceleration",
    .spec = "VIRTIO 1.2",
    .bus = "virtio-bus",
    .size = sizeof(struct virtio_gpu),
    .state = &gpu_fields,
    .props = gpu_props,
    .init = gpu_init,
    .fini = gpu_fini,
};
