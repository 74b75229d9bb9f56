/*
 * What the virtio GPU shows: one scanout, VIRTIO 1.2 §5.7.6.8, and the cursor over it, §5.7.6.9.
 * A refresh composes the lines that were flushed and compares them with the surface: only what
 * differs is dirty, however much a driver flushes.
 *
 * The cursor is drawn into the picture. Its place is that of its top left corner, as Linux's driver
 * has it; the hot spot is of no use here.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "dev/virtio/virtio_gpu_internal.h"

enum {
    SCANOUT_RECT = 24,
    SCANOUT_ID = 40,
    SCANOUT_RESOURCE = 44,
    FLUSH_RECT = 24,
    FLUSH_RESOURCE = 40,
    CURSOR_X = 28,
    CURSOR_Y = 32,
    CURSOR_RESOURCE = 40,
    FIRST_WIDTH = 640, /* before a driver shows anything */
    FIRST_HEIGHT = 480,
    RGB = 0xffffff,
};

struct rect gpu_rect(const uint8_t *at)
{
    return (struct rect){load_le32(at), load_le32(at + 4), load_le32(at + 8), load_le32(at + 12)};
}

/* ---- The scanout ---- */

static void dirty_all(struct virtio_gpu *g)
{
    g->dirty = (struct rect){0, 0, DISPLAY_MAX_WIDTH, DISPLAY_MAX_HEIGHT};
}

enum gpu_status gpu_set_scanout(struct virtio_gpu *g, struct gpu_request *q)
{
    const struct rect part = gpu_rect(q->in + SCANOUT_RECT);
    uint32_t id = load_le32(q->in + SCANOUT_RESOURCE);
    const struct gpu_resource *r = gpu_resource_find(g, id);
    if (load_le32(q->in + SCANOUT_ID) >= g->outputs) {
        return GPU_ERR_INVALID_SCANOUT_ID;
    }
    if (id && !r) {
        return GPU_ERR_INVALID_RESOURCE_ID;
    }
    if (id && (!gpu_resource_has(r, &part) || part.width > DISPLAY_MAX_WIDTH ||
               part.height > DISPLAY_MAX_HEIGHT)) {
        return GPU_ERR_INVALID_PARAMETER;
    }
    g->shown = id;
    g->part = part;
    g->active |= id != 0;
    dirty_all(g);
    return GPU_OK_NODATA;
}

void gpu_screen_forget(struct virtio_gpu *g, uint32_t resource)
{
    if (g->shown == resource) {
        g->shown = 0;
        dirty_all(g);
    }
}

void gpu_screen_reset(struct virtio_gpu *g)
{
    g->active = false;
    g->shown = 0;
    g->cursor.shown = false;
    dirty_all(g);
}

/* The overlap of [at, at + len) with [from, from + size), from `from`. */
static void overlap(unsigned *at, unsigned *len, unsigned from, unsigned size)
{
    uint64_t first = *at > from ? *at : from, end = (uint64_t)*at + *len;
    end = end < (uint64_t)from + size ? end : (uint64_t)from + size;
    *at = (unsigned)(first - from);
    *len = end > first ? (unsigned)(end - first) : 0;
}

enum gpu_status gpu_flush(struct virtio_gpu *g, struct gpu_request *q)
{
    struct rect rect = gpu_rect(q->in + FLUSH_RECT);
    uint32_t id = load_le32(q->in + FLUSH_RESOURCE);
    const struct gpu_resource *r = gpu_resource_find(g, id);
    if (!r) {
        return GPU_ERR_INVALID_RESOURCE_ID;
    }
    if (!gpu_resource_has(r, &rect)) {
        return GPU_ERR_INVALID_PARAMETER;
    }
    if (id == g->shown) {
        overlap(&rect.x, &rect.width, g->part.x, g->part.width);
        overlap(&rect.y, &rect.height, g->part.y, g->part.height);
        if (rect.width && rect.height) {
            rect_join(&g->dirty, &rect);
        }
    }
    return GPU_OK_NODATA;
}

/* ---- The cursor ---- */

static void cursor_dirty(struct virtio_gpu *g)
{
    const struct gpu_cursor *c = &g->cursor;
    int64_t right = (int64_t)c->x + GPU_CURSOR, end = (int64_t)c->y + GPU_CURSOR;
    unsigned x = c->x > 0 ? (unsigned)c->x : 0, y = c->y > 0 ? (unsigned)c->y : 0;
    if (c->shown && right > 0 && end > 0 && x < DISPLAY_MAX_WIDTH && y < DISPLAY_MAX_HEIGHT) {
        const struct rect r = {x, y, (unsigned)right - x, (unsigned)end - y};
        rect_join(&g->dirty, &r);
    }
}

static void cursor_copy(struct gpu_cursor *c, const struct gpu_resource *r)
{
    unsigned width = r->width < GPU_CURSOR ? r->width : GPU_CURSOR;
    memset(c->pixels, 0, sizeof(c->pixels));
    for (unsigned y = 0; y < GPU_CURSOR && y < r->height; y++) {
        memcpy(c->pixels + y * GPU_CURSOR, r->pixels + (size_t)y * r->width,
               width * sizeof(*c->pixels));
    }
}

/* A cursor without a resource, or with one that is not there, is none. */
void gpu_cursor(struct virtio_gpu *g, const uint8_t in[GPU_REQUEST], bool update)
{
    struct gpu_cursor *c = &g->cursor;
    cursor_dirty(g);
    c->x = (int32_t)load_le32(in + CURSOR_X);
    c->y = (int32_t)load_le32(in + CURSOR_Y);
    if (update) {
        const struct gpu_resource *r = gpu_resource_find(g, load_le32(in + CURSOR_RESOURCE));
        c->shown = r != NULL;
        if (r) {
            cursor_copy(c, r);
        }
    }
    cursor_dirty(g);
}

/* Colours are premultiplied; a sum that is too large is cut. */
static uint32_t blend(uint32_t under, uint32_t over)
{
    uint32_t rest = 255 - (over >> 24), v = 0;
    for (unsigned shift = 0; shift < 24; shift += 8) {
        uint32_t c = (over >> shift & 255) + ((under >> shift & 255) * rest + 127) / 255;
        v |= (c > 255 ? 255 : c) << shift;
    }
    return v;
}

/* Of screen line `y`, `width` pixels wide. */
static void cursor_draw(const struct gpu_cursor *c, uint32_t *line, unsigned y, unsigned width)
{
    int64_t row = (int64_t)y - c->y;
    if (!c->shown || row < 0 || row >= GPU_CURSOR) {
        return;
    }
    const uint32_t *from = c->pixels + row * GPU_CURSOR;
    for (int64_t i = 0, x = c->x; i < GPU_CURSOR; i++, x++) {
        if (x >= 0 && x < width && from[i]) {
            line[x] = blend(line[x], from[i]);
        }
    }
}

/* ---- A refresh ---- */

static void compose(struct virtio_gpu *g, const struct gpu_resource *r, unsigned y, unsigned width)
{
    uint32_t *line = g->line;
    if (!r) {
        memset(line, 0, width * sizeof(*line));
        return;
    }
    const uint32_t *from = r->pixels + (size_t)(g->part.y + y) * r->width + g->part.x;
    for (unsigned x = 0; x < width; x++) {
        line[x] = from[x] & RGB;
    }
    cursor_draw(&g->cursor, line, y, width);
}

/* Without a picture the surface keeps its size. */
static bool fit(struct virtio_gpu *g, const struct gpu_resource *r)
{
    const struct surface *is = &g->source.surface;
    unsigned width = r ? g->part.width : is->pixels ? is->width : FIRST_WIDTH;
    unsigned height = r ? g->part.height : is->pixels ? is->height : FIRST_HEIGHT;
    if (is->pixels && is->width == width && is->height == height) {
        return true;
    }
    dirty_all(g);
    return display_resize(&g->source, width, height);
}

static void gpu_draw(struct virtio_gpu *g)
{
    struct display_source *s = &g->source;
    const struct gpu_resource *r = gpu_resource_find(g, g->shown);
    if (!fit(g, r)) {
        return;
    }
    unsigned height = s->surface.height;
    uint64_t end = (uint64_t)g->dirty.y + g->dirty.height;
    for (unsigned y = g->dirty.y; g->dirty.width && y < end && y < height; y++) {
        compose(g, r, y, s->surface.width);
        display_put_line(s, g->line, y);
    }
    g->dirty.width = 0;
}

static void gpu_update(void *opaque, bool all)
{
    struct virtio_gpu *g = opaque;
    if (!gpu_lock(g, all ? GPU_PATIENCE_MS : 0)) {
        return; /* the next time */
    }
    bool ours = g->active || !g->behind.draw;
    if (ours) {
        gpu_draw(g);
    }
    pthread_mutex_unlock(&g->v.lock);
    if (!ours) {
        g->behind.draw(g->behind.opaque, &g->source, all);
    } else if (all) {
        display_dirty(&g->source, 0, 0, g->source.surface.width, g->source.surface.height);
    }
}

const struct display_source_type gpu_source = {.update = gpu_update, .want_size = gpu_want_size};
