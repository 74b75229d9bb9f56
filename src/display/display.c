/* Refreshes, and who gets what. */
#include "display/display.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "loop/clock.h"

#define REFRESH_NS 30000000ull

struct display {
    struct clock *clock;
    struct timer tick;
    pthread_mutex_t lock; /* sources and their surfaces */
    struct display_source *sources, *last_source;
    struct viewer *viewers;
    struct input_sink *sinks; /* newest first */
    uint8_t held[INPUT_KEYS / 8];
    unsigned want_width, want_height; /* 0: nothing new; loop's thread */
};

/* ---- Sources ---- */

void display_add_source(struct display *d, struct display_source *s,
                        const struct display_source_type *type, void *opaque)
{
    AUTO_LOCK(&d->lock);
    *s = (struct display_source){.type = type, .opaque = opaque};
    struct display_source **at = &d->sources;
    while (*at) {
        at = &(*at)->next;
    }
    *at = s;
}

void display_remove_source(struct display *d, struct display_source *s)
{
    AUTO_LOCK(&d->lock);
    for (struct display_source **at = &d->sources; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            free(s->surface.pixels);
            s->surface = (struct surface){0};
            return;
        }
    }
}

static void dirty_all(struct display_source *s)
{
    s->dirty[0] = (struct rect){0, 0, s->surface.width, s->surface.height};
    s->dirty_count = 1;
}

bool display_resize(struct display_source *s, unsigned width, unsigned height)
{
    if (!width || !height || width > DISPLAY_MAX_WIDTH || height > DISPLAY_MAX_HEIGHT) {
        return false;
    }
    uint32_t *pixels = calloc((size_t)width * height, sizeof(*pixels));
    if (!pixels) {
        return false;
    }
    free(s->surface.pixels);
    s->surface = (struct surface){width, height, width, pixels};
    dirty_all(s);
    s->resized = true;
    return true;
}

static unsigned larger(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

void rect_join(struct rect *r, const struct rect *other)
{
    if (!r->width) {
        *r = *other;
        return;
    }
    unsigned right = larger(r->x + r->width, other->x + other->width);
    unsigned end = larger(r->y + r->height, other->y + other->height);
    r->x = smaller(r->x, other->x);
    r->y = smaller(r->y, other->y);
    r->width = right - r->x;
    r->height = end - r->y;
}

/* Lines that touch the last rectangle join it; so does what there is no more room for. */
void display_dirty(struct display_source *s, unsigned x, unsigned y, unsigned width,
                   unsigned height)
{
    const struct surface *to = &s->surface;
    if (x >= to->width || y >= to->height || !width || !height) {
        return;
    }
    const struct rect r = {x, y, smaller(width, to->width - x), smaller(height, to->height - y)};
    struct rect *last = s->dirty_count ? &s->dirty[s->dirty_count - 1] : NULL;
    bool touches = last && r.y <= last->y + last->height && last->y <= r.y + r.height;
    if (last && (touches || s->dirty_count == DISPLAY_MAX_DIRTY)) {
        rect_join(last, &r);
    } else {
        s->dirty[s->dirty_count++] = r;
    }
}

void display_put_line(struct display_source *s, const uint32_t *from, unsigned y)
{
    const struct surface *to = &s->surface;
    uint32_t *at = to->pixels + y * to->stride;
    unsigned first = 0, end = to->width;
    if (!memcmp(at, from, end * sizeof(*at))) {
        return;
    }
    while (at[first] == from[first]) {
        first++;
    }
    while (at[end - 1] == from[end - 1]) {
        end--;
    }
    memcpy(at + first, from + first, (end - first) * sizeof(*at));
    display_dirty(s, first, y, end - first, 1);
}

/* ---- Viewers ---- */

static void viewers_tell(struct display *d, struct display_source *s)
{
    for (struct viewer *v = d->viewers, *next; v; v = next) {
        next = v->next; /* one may go while it is told */
        if (s->resized) {
            v->resized(v, &s->surface);
        }
        for (unsigned i = 0; i < s->dirty_count; i++) {
            v->changed(v, &s->surface, &s->dirty[i]);
        }
        if (v->refreshed) {
            v->refreshed(v);
        }
    }
    s->resized = false;
    s->dirty_count = 0;
}

static struct display_source *display_refresh(struct display *d, bool all)
{
    struct display_source *s = d->sources;
    if (d->want_width && display_takes_size(d)) {
        s->type->want_size(s->opaque, d->want_width, d->want_height);
        d->want_width = 0;
    }
    if (s) {
        s->type->update(s->opaque, all);
        viewers_tell(d, s);
    }
    return s;
}

/* At most half of the loop's time goes into refreshes, however large a guest's screen is. */
static void display_arm(struct display *d, uint64_t begun)
{
    uint64_t now = clock_ns(d->clock), took = now - begun;
    timer_set(&d->tick, now + (took > REFRESH_NS ? took : REFRESH_NS));
}

static void display_tick(void *opaque)
{
    struct display *d = opaque;
    uint64_t begun = clock_ns(d->clock);
    AUTO_LOCK(&d->lock);
    if (d->viewers) {
        display_refresh(d, false);
        display_arm(d, begun);
    }
}

void display_add_viewer(struct display *d, struct viewer *v)
{
    AUTO_LOCK(&d->lock);
    struct display_source *s = d->sources;
    v->next = d->viewers;
    d->viewers = v;
    if (s && s->surface.pixels) {
        s->resized = true;
        dirty_all(s);
    }
    display_refresh(d, true);
    display_arm(d, clock_ns(d->clock));
}

void display_remove_viewer(struct display *d, struct viewer *v)
{
    for (struct viewer **at = &d->viewers; *at; at = &(*at)->next) {
        if (*at == v) {
            *at = v->next;
            return;
        }
    }
}

void display_look(struct display *d, void (*use)(void *opaque, const struct surface *s),
                  void *opaque)
{
    AUTO_LOCK(&d->lock);
    const struct display_source *s = display_refresh(d, true);
    use(opaque, s && s->surface.pixels ? &s->surface : NULL);
}

void display_want_size(struct display *d, unsigned width, unsigned height)
{
    d->want_width = width;
    d->want_height = height;
}

bool display_takes_size(const struct display *d)
{
    return d->sources && d->sources->type->want_size;
}

/* ---- Input ---- */

void display_add_sink(struct display *d, struct input_sink *s)
{
    s->next = d->sinks;
    d->sinks = s;
}

void display_remove_sink(struct display *d, struct input_sink *s)
{
    for (struct input_sink **at = &d->sinks; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            return;
        }
    }
}

/* A key that is not held is not let go: set 1's code for the left shift key would read as the end
 * of the keyboard's self-test, and its driver would begin again. */
static bool input_key_news(struct display *d, unsigned code, bool down)
{
    uint8_t *byte = &d->held[code / 8], bit = (uint8_t)(1u << code % 8);
    bool was = *byte & bit;
    *byte = (uint8_t)(down ? *byte | bit : *byte & ~bit);
    return down || was;
}

void input_key(struct display *d, unsigned code, bool down)
{
    if (code >= INPUT_KEYS || !input_key_news(d, code, down)) {
        return;
    }
    for (struct input_sink *s = d->sinks; s; s = s->next) {
        if (s->key) {
            s->key(s->opaque, code, down);
            return;
        }
    }
}

void input_move(struct display *d, int dx, int dy)
{
    for (struct input_sink *s = d->sinks; s; s = s->next) {
        if (s->move) {
            s->move(s->opaque, dx, dy);
            return;
        }
    }
}

static struct input_sink *tablet(struct display *d)
{
    struct input_sink *s = d->sinks;
    while (s && !s->place) {
        s = s->next;
    }
    return s;
}

bool input_wants_place(struct display *d)
{
    return tablet(d) != NULL;
}

void input_place(struct display *d, unsigned x, unsigned y)
{
    struct input_sink *s = tablet(d);
    if (s) {
        s->place(s->opaque, smaller(x, INPUT_ABS_MAX), smaller(y, INPUT_ABS_MAX));
    }
}

/* Buttons belong to the device that points. */
void input_buttons(struct display *d, unsigned held)
{
    struct input_sink *t = tablet(d);
    for (struct input_sink *s = t ? t : d->sinks; s; s = s->next) {
        if (s->buttons) {
            s->buttons(s->opaque, held);
            return;
        }
    }
}

/* ---- Life ---- */

struct display *display_new(struct clock *clock)
{
    struct display *d = alloc_zero(sizeof(*d));
    d->clock = clock;
    pthread_mutex_init(&d->lock, NULL);
    timer_init(&d->tick, d->clock, display_tick, d);
    return d;
}

void display_free(struct display *d)
{
    if (d) {
        timer_unset(&d->tick);
        pthread_mutex_destroy(&d->lock);
        free(d);
    }
}
