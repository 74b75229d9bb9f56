/*
 * Between virtio_gpu.c (queues, commands, life), virtio_gpu_resource.c (pictures of the driver)
 * and virtio_gpu_screen.c (what is shown of them). VIRTIO 1.2 §5.7. All by the device's lock.
 */
#ifndef DEV_VIRTIO_VIRTIO_GPU_INTERNAL_H
#define DEV_VIRTIO_VIRTIO_GPU_INTERNAL_H

#include "core/device.h"
#include "dev/display/edid.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtio_gpu.h"
#include "display/display.h"
#include "loop/clock.h"

/* Types of responses, 5.7.6.7. */
enum gpu_status {
    GPU_OK_NODATA = 0x1100,
    GPU_OK_DISPLAY_INFO,
    GPU_OK_CAPSET_INFO,
    GPU_OK_CAPSET,
    GPU_OK_EDID,
    GPU_ERR_UNSPEC = 0x1200,
    GPU_ERR_OUT_OF_MEMORY,
    GPU_ERR_INVALID_SCANOUT_ID,
    GPU_ERR_INVALID_RESOURCE_ID,
    GPU_ERR_INVALID_CONTEXT_ID,
    GPU_ERR_INVALID_PARAMETER,
};

enum {
    GPU_HEADER = 24,        /* of each request and response */
    GPU_REQUEST = 56,       /* the longest one, without the pieces of a backing */
    GPU_RESPONSE = 1056,    /* the longest one: EDID */
    GPU_SIDE_MAX = 16384,   /* of a resource, in pixels */
    GPU_PIECES_MAX = 16384, /* of guest memory behind a resource */
    GPU_RESOURCES_MAX = 16384,
    GPU_BUCKETS = 256,
    GPU_CURSOR = 64,
};

/* A run of guest memory; `at` is its offset in the backing. */
struct gpu_piece {
    uint64_t at;
    gpa_t addr;
    uint32_t len;
};

/* A picture that the driver has filled: 32 bits a pixel, 0xAARRGGBB in host order. */
struct gpu_resource {
    uint32_t id, width, height;
    const struct gpu_format *format;
    uint32_t *pixels;
    struct gpu_piece *piece; /* NULL: no backing */
    unsigned piece_count;
    uint64_t backing_len, cost;
    struct gpu_resource *next;
};

struct gpu_cursor {
    bool shown;
    int32_t x, y;                             /* of the top left corner; may lie outside */
    uint32_t pixels[GPU_CURSOR * GPU_CURSOR]; /* premultiplied by alpha */
};

struct virtio_gpu {
    struct dev dev;
    struct virtio v;
    /* Options. */
    uint32_t outputs, width, height; /* the size follows what a viewer wants */
    uint64_t max_memory;
    bool has_edid;

    uint32_t events; /* that the driver has not cleared */
    struct gpu_resource *bucket[GPU_BUCKETS];
    unsigned resources;
    uint64_t memory;    /* that resources cost */
    struct timer go_on; /* with what one kick left */
    uint64_t work;      /* bytes that the kick has moved */

    bool active;       /* a driver has shown something since the reset */
    uint32_t shown;    /* resource; 0: none */
    struct rect part;  /* of it */
    struct rect dirty; /* of the screen; width 0: nothing */
    struct gpu_cursor cursor;
    uint8_t edid[EDID_SIZE];

    struct virtio_gpu_behind behind;
    struct display_source source; /* by the display's lock */
    uint32_t line[DISPLAY_MAX_WIDTH];
};

/* A request, copied, and its answer. */
struct gpu_request {
    const struct vq_elem *elem;
    uint8_t in[GPU_REQUEST]; /* zero after its end */
    uint8_t out[GPU_RESPONSE];
    unsigned out_len;
};

struct rect gpu_rect(const uint8_t *at); /* struct virtio_gpu_rect */

/* ---- virtio_gpu_resource.c ---- */

struct gpu_resource *gpu_resource_find(struct virtio_gpu *g, uint32_t id); /* or NULL */
void gpu_resource_free_all(struct virtio_gpu *g);
/* Whether the rectangle, not empty, lies in the resource. */
bool gpu_resource_has(const struct gpu_resource *r, const struct rect *rect);

enum gpu_status gpu_create_2d(struct virtio_gpu *g, struct gpu_request *q);
enum gpu_status gpu_unref(struct virtio_gpu *g, struct gpu_request *q);
enum gpu_status gpu_attach_backing(struct virtio_gpu *g, struct gpu_request *q);
enum gpu_status gpu_detach_backing(struct virtio_gpu *g, struct gpu_request *q);
enum gpu_status gpu_transfer_to_host_2d(struct virtio_gpu *g, struct gpu_request *q);

/* ---- virtio_gpu_screen.c ---- */

enum gpu_status gpu_set_scanout(struct virtio_gpu *g, struct gpu_request *q);
enum gpu_status gpu_flush(struct virtio_gpu *g, struct gpu_request *q);
/* UPDATE_CURSOR and MOVE_CURSOR. */
void gpu_cursor(struct virtio_gpu *g, const uint8_t in[GPU_REQUEST], bool update);
void gpu_screen_forget(struct virtio_gpu *g, uint32_t resource); /* it goes */
void gpu_screen_reset(struct virtio_gpu *g);
extern const struct display_source_type gpu_source;

/* ---- virtio_gpu.c ---- */

/* For the loop's thread, which a driver that never rests must not hold up: false if the lock is not
 * to be had within so many milliseconds. */
bool gpu_lock(struct virtio_gpu *g, unsigned ms);
enum { GPU_PATIENCE_MS = 500 };
/* A viewer has another size; the driver is told. Takes the lock. */
void gpu_want_size(void *opaque, unsigned width, unsigned height);

#endif
