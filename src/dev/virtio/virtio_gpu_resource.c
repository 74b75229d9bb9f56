/*
 * Resources of the virtio GPU, VIRTIO 1.2 §5.7.6.8: pictures on our side, and the guest's memory
 * that they are filled from. All that a driver has us keep counts towards `max_hostmem`.
 *
 * Backing is kept as guest addresses and looked at when it is read: what is no RAM by then is
 * left out.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "dev/virtio/virtio_gpu_internal.h"

enum {
    /* Offsets in requests, from the header's start. */
    RESOURCE_ID = 24,
    CREATE_FORMAT = 28,
    CREATE_WIDTH = 32,
    CREATE_HEIGHT = 36,
    ATTACH_COUNT = 28,
    ATTACH_PIECES = 32,
    TRANSFER_RECT = 24,
    TRANSFER_OFFSET = 40,
    TRANSFER_RESOURCE = 48,
    PIECE = 16, /* bytes of struct virtio_gpu_mem_entry */
    PIECE_LEN = 8,
    PIECES_AT_ONCE = 256,
    PIXEL = 4,
    OVERHEAD = 256, /* of a resource, about */
};

/* Names as in the specification: bytes in memory. Shifts in a little-endian word. */
struct gpu_format {
    uint32_t number;
    uint8_t red, green, blue;
    int8_t alpha; /* -1: none, opaque */
};

static const struct gpu_format formats[] = {
    {1, 16, 8, 0, 24},   /* B8G8R8A8 */
    {2, 16, 8, 0, -1},   /* B8G8R8X8 */
    {3, 8, 16, 24, 0},   /* A8R8G8B8 */
    {4, 8, 16, 24, -1},  /* X8R8G8B8 */
    {67, 0, 8, 16, 24},  /* R8G8B8A8 */
    {68, 24, 16, 8, -1}, /* X8B8G8R8 */
    {121, 24, 16, 8, 0}, /* A8B8G8R8 */
    {134, 0, 8, 16, -1}, /* R8G8B8X8 */
};

static const struct gpu_format *format_find(uint32_t number)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (formats[i].number == number) {
            return &formats[i];
        }
    }
    return NULL;
}

/* ---- The set of them ---- */

static struct gpu_resource **resource_place(struct virtio_gpu *g, uint32_t id)
{
    struct gpu_resource **at = &g->bucket[id % GPU_BUCKETS];
    while (*at && (*at)->id != id) {
        at = &(*at)->next;
    }
    return at;
}

struct gpu_resource *gpu_resource_find(struct virtio_gpu *g, uint32_t id)
{
    return id ? *resource_place(g, id) : NULL;
}

static bool memory_take(struct virtio_gpu *g, uint64_t bytes)
{
    if (bytes > g->max_memory || g->memory > g->max_memory - bytes) {
        return false;
    }
    g->memory += bytes;
    return true;
}

static void backing_free(struct virtio_gpu *g, struct gpu_resource *r)
{
    g->memory -= r->piece ? r->piece_count * sizeof(*r->piece) : 0;
    free(r->piece);
    r->piece = NULL;
    r->piece_count = 0;
    r->backing_len = 0;
}

static void resource_free(struct virtio_gpu *g, struct gpu_resource **at)
{
    struct gpu_resource *r = *at;
    *at = r->next;
    backing_free(g, r);
    g->memory -= r->cost;
    g->resources--;
    free(r->pixels);
    free(r);
}

void gpu_resource_free_all(struct virtio_gpu *g)
{
    for (unsigned i = 0; i < GPU_BUCKETS; i++) {
        while (g->bucket[i]) {
            resource_free(g, &g->bucket[i]);
        }
    }
}

static bool range_has(uint32_t size, uint32_t at, uint32_t len)
{
    return len && at < size && len <= size - at;
}

bool gpu_resource_has(const struct gpu_resource *r, const struct rect *rect)
{
    return range_has(r->width, rect->x, rect->width) && range_has(r->height, rect->y, rect->height);
}

static struct gpu_resource *resource_new(struct virtio_gpu *g, uint32_t width, uint32_t height)
{
    uint64_t bytes = (uint64_t)width * height * PIXEL; /* sides are bounded */
    if (g->resources == GPU_RESOURCES_MAX || !memory_take(g, bytes + OVERHEAD)) {
        return NULL;
    }
    struct gpu_resource *r = calloc(1, sizeof(*r));
    uint32_t *pixels = r ? calloc(height, (size_t)width * PIXEL) : NULL;
    if (!pixels) {
        g->memory -= bytes + OVERHEAD;
        free(r);
        return NULL;
    }
    g->resources++;
    r->width = width;
    r->height = height;
    r->pixels = pixels;
    r->cost = bytes + OVERHEAD;
    return r;
}

enum gpu_status gpu_create_2d(struct virtio_gpu *g, struct gpu_request *q)
{
    uint32_t id = load_le32(q->in + RESOURCE_ID);
    uint32_t width = load_le32(q->in + CREATE_WIDTH), height = load_le32(q->in + CREATE_HEIGHT);
    const struct gpu_format *format = format_find(load_le32(q->in + CREATE_FORMAT));
    struct gpu_resource **at = resource_place(g, id);
    if (!id || *at) {
        return GPU_ERR_INVALID_RESOURCE_ID;
    }
    if (!format || !width || !height || width > GPU_SIDE_MAX || height > GPU_SIDE_MAX) {
        return GPU_ERR_INVALID_PARAMETER;
    }
    struct gpu_resource *r = resource_new(g, width, height);
    if (!r) {
        return GPU_ERR_OUT_OF_MEMORY;
    }
    r->id = id;
    r->format = format;
    *at = r;
    return GPU_OK_NODATA;
}

enum gpu_status gpu_unref(struct virtio_gpu *g, struct gpu_request *q)
{
    uint32_t id = load_le32(q->in + RESOURCE_ID);
    struct gpu_resource **at = resource_place(g, id);
    if (!*at) {
        return GPU_ERR_INVALID_RESOURCE_ID;
    }
    gpu_screen_forget(g, id);
    resource_free(g, at);
    return GPU_OK_NODATA;
}

/* ---- Backing ---- */

static void backing_copy(struct gpu_resource *r, const struct vq_elem *e, unsigned count)
{
    uint8_t raw[PIECES_AT_ONCE * PIECE];
    for (unsigned i = 0; i < count; i++) {
        if (i % PIECES_AT_ONCE == 0) {
            iov_read(e->out, e->out_count, ATTACH_PIECES + (uint64_t)i * PIECE, raw, sizeof(raw));
        }
        const uint8_t *from = raw + i % PIECES_AT_ONCE * PIECE;
        uint32_t len = load_le32(from + PIECE_LEN);
        r->piece[i] = (struct gpu_piece){r->backing_len, load_le64(from), len};
        r->backing_len += len;
    }
}

enum gpu_status gpu_attach_backing(struct virtio_gpu *g, struct gpu_request *q)
{
    struct gpu_resource *r = gpu_resource_find(g, load_le32(q->in + RESOURCE_ID));
    uint32_t count = load_le32(q->in + ATTACH_COUNT);
    if (!r) {
        return GPU_ERR_INVALID_RESOURCE_ID;
    }
    if (r->piece) {
        return GPU_ERR_UNSPEC;
    }
    if (!count || count > GPU_PIECES_MAX ||
        q->elem->out_len < ATTACH_PIECES + (uint64_t)count * PIECE) {
        return GPU_ERR_INVALID_PARAMETER;
    }
    uint64_t bytes = count * sizeof(*r->piece);
    if (!memory_take(g, bytes)) {
        return GPU_ERR_OUT_OF_MEMORY;
    }
    r->piece = malloc(bytes);
    if (!r->piece) {
        g->memory -= bytes;
        return GPU_ERR_OUT_OF_MEMORY;
    }
    r->piece_count = count;
    backing_copy(r, q->elem, count);
    return GPU_OK_NODATA;
}

enum gpu_status gpu_detach_backing(struct virtio_gpu *g, struct gpu_request *q)
{
    struct gpu_resource *r = gpu_resource_find(g, load_le32(q->in + RESOURCE_ID));
    if (!r || !r->piece) {
        return GPU_ERR_INVALID_RESOURCE_ID;
    }
    backing_free(g, r);
    return GPU_OK_NODATA;
}

/* Reads from `off` on, which does not go down from call to call; `at` is where the last one was.
 * What is not there, or is no RAM, leaves `buf` as it is. */
static void backing_read(const struct virtio_gpu *g, const struct gpu_resource *r, unsigned *at,
                         uint64_t off, uint8_t *buf, uint64_t len)
{
    while (*at < r->piece_count && r->piece[*at].at + r->piece[*at].len <= off) {
        ++*at;
    }
    for (unsigned i = *at; i < r->piece_count && len; i++) {
        const struct gpu_piece *p = &r->piece[i];
        uint64_t skip = off - p->at, n = p->len - skip < len ? p->len - skip : len;
        gmem_read(g->v.bus->mem, p->addr + skip, buf, n);
        off += n;
        buf += n;
        len -= n;
    }
}

/* ---- Transfers ---- */

/* From the format's bytes, in place. */
static void convert(uint32_t *p, unsigned count, const struct gpu_format *f)
{
    for (unsigned i = 0; i < count; i++) {
        uint32_t v = le32toh(p[i]);
        uint32_t alpha = f->alpha < 0 ? 0xff : v >> f->alpha & 0xff;
        p[i] = alpha << 24 | (v >> f->red & 0xff) << 16 | (v >> f->green & 0xff) << 8 |
               (v >> f->blue & 0xff);
    }
}

enum gpu_status gpu_transfer_to_host_2d(struct virtio_gpu *g, struct gpu_request *q)
{
    const struct rect rect = gpu_rect(q->in + TRANSFER_RECT);
    uint64_t off = load_le64(q->in + TRANSFER_OFFSET);
    struct gpu_resource *r = gpu_resource_find(g, load_le32(q->in + TRANSFER_RESOURCE));
    if (!r) {
        return GPU_ERR_INVALID_RESOURCE_ID;
    }
    if (!r->piece) {
        return GPU_ERR_UNSPEC;
    }
    if (!gpu_resource_has(r, &rect) || off >= r->backing_len) {
        return GPU_ERR_INVALID_PARAMETER;
    }
    uint64_t stride = (uint64_t)r->width * PIXEL, len = (uint64_t)rect.width * PIXEL;
    uint32_t *to = r->pixels + (size_t)rect.y * r->width + rect.x;
    unsigned at = 0;
    for (unsigned y = 0; y < rect.height; y++, off += stride, to += r->width) {
        memset(to, 0, len);
        backing_read(g, r, &at, off, (uint8_t *)to, len);
        convert(to, rect.width, r->format);
    }
    g->work += rect.height * len;
    return GPU_OK_NODATA;
}
