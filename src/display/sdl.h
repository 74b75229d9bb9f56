/* A window that shows the first screen. SDL is loaded when one is made. */
#ifndef DISPLAY_SDL_H
#define DISPLAY_SDL_H

#include <stdbool.h>

struct display;
struct err;
struct keyval;
struct sdl;

struct sdl_options {
    const char *name; /* of the guest, or NULL */
    bool full_screen;
    void (*closed)(void *opaque); /* the user has closed the window */
    void *opaque;
};

/* `args`: "window" (that is "sdl"), "window-close", "show-cursor". All calls on one
 * thread, the display's loop's. */
struct sdl *sdl_new(struct display *d, const struct sdl_options *o, const struct keyval *args,
                    struct err *err);
void sdl_free(struct sdl *s); /* NULL is fine */

#endif
