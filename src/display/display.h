/*
 * Screens and input of a machine. A display device owns a surface and says which parts of it have
 * changed; viewers (a window, VNC, screendump) pull. Input goes the other way, as events to whoever
 * took the kind: keyboards, mice, tablets.
 *
 * Pulling is by a refresh on the loop's thread: each source brings its surface up to date, then the
 * viewers are told what is dirty. No viewer, no refresh, no cost.
 */
#ifndef DISPLAY_DISPLAY_H
#define DISPLAY_DISPLAY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct clock;

/* ---- Surfaces: 32 bits a pixel, 0x00RRGGBB in host order ---- */

#define DISPLAY_MAX_WIDTH 8192
#define DISPLAY_MAX_HEIGHT 8192

struct surface {
    unsigned width, height; /* pixels */
    size_t stride;          /* pixels from one line to the next */
    uint32_t *pixels;
};

struct rect {
    unsigned x, y, width, height;
};

/* Makes `r` the rectangle around both; an `r` of width 0 is none. */
void rect_join(struct rect *r, const struct rect *other);

/* ---- Sources: display devices ---- */

#define DISPLAY_MAX_DIRTY 16

struct display_source_type {
    /* Brings the surface up to date: display_resize(), display_dirty(). The loop's thread, the
     * display's lock held; takes the device's lock inside. `all`: everything, whatever changed. */
    void (*update)(void *opaque, bool all);
    /* A viewer would like this size; may be NULL. */
    void (*want_size)(void *opaque, unsigned width, unsigned height);
};

struct display_source {
    const struct display_source_type *type;
    void *opaque;
    struct surface surface;
    struct rect dirty[DISPLAY_MAX_DIRTY]; /* from the top down, as they were named */
    unsigned dirty_count;
    bool resized;
    struct display_source *next;
};

struct display;

struct display *display_new(struct clock *clock); /* that the loop runs */
void display_free(struct display *d);

void display_add_source(struct display *d, struct display_source *s,
                        const struct display_source_type *type, void *opaque);
void display_remove_source(struct display *d, struct display_source *s);
/* For update(): a surface of this size, black, all of it dirty; what it was before is gone. Sizes
 * are bounded by DISPLAY_MAX_*; false: too large or no memory, and the surface stays. */
bool display_resize(struct display_source *s, unsigned width, unsigned height);
void display_dirty(struct display_source *s, unsigned x, unsigned y, unsigned width,
                   unsigned height); /* cut to the surface; best named from the top down */

/* For update(): line `y` is to be these pixels; what differs of it is dirty. Their upper bytes are
 * 0. */
void display_put_line(struct display_source *s, const uint32_t *from, unsigned y);

/* ---- Viewers ---- */

struct viewer {
    void (*resized)(struct viewer *v, const struct surface *s);
    void (*changed)(struct viewer *v, const struct surface *s, const struct rect *r);
    void (*refreshed)(struct viewer *v); /* after each refresh; may be NULL */
    struct viewer *next;
};

/* From now on refreshes come about every 30 ms; the first one is of everything. Loop's thread, as
 * are the calls to the viewer. A viewer shows the first source. */
void display_add_viewer(struct display *d, struct viewer *v);
void display_remove_viewer(struct display *d, struct viewer *v);
/* One refresh now; then `use` gets the first source's surface, or NULL. Loop's thread. */
void display_look(struct display *d, void (*use)(void *opaque, const struct surface *s),
                  void *opaque);

/* A viewer has room for this size, in pixels: at the next refresh the first source hears of it, and
 * may take it. Loop's thread; also from calls to viewers. */
void display_want_size(struct display *d, unsigned width, unsigned height);
bool display_takes_size(const struct display *d); /* whether the first source listens */

/* ---- Input ---- */

enum input_button {
    INPUT_LEFT = 1,
    INPUT_RIGHT = 2,
    INPUT_MIDDLE = 4,
    INPUT_WHEEL_UP = 8,
    INPUT_WHEEL_DOWN = 16
};

#define INPUT_ABS_MAX 0x7fff
#define INPUT_KEYS 768

/* A device that takes input. NULL members: not that kind. Loop's thread. */
struct input_sink {
    void (*key)(void *opaque, unsigned code, bool down); /* Linux's KEY_* numbers */
    void (*move)(void *opaque, int dx, int dy);          /* pixels, down is positive */
    void (*place)(void *opaque, unsigned x, unsigned y); /* 0 to INPUT_ABS_MAX */
    void (*buttons)(void *opaque, unsigned held);        /* enum input_button */
    void *opaque;
    struct input_sink *next;
};

/* The last one added takes each kind it has. Before the machine runs. */
void display_add_sink(struct display *d, struct input_sink *s);
void display_remove_sink(struct display *d, struct input_sink *s);

void input_key(struct display *d, unsigned code, bool down);
void input_move(struct display *d, int dx, int dy);
void input_place(struct display *d, unsigned x, unsigned y);
void input_buttons(struct display *d, unsigned held);
bool input_wants_place(struct display *d); /* a tablet is there */

#endif
