/*
 * A window by SDL 2. Its events are taken after each refresh, on the loop's thread. The picture is
 * a texture that the renderer scales to the window, keeping its shape. Ctrl-Alt-G takes and gives
 * the mouse and the keyboard, Ctrl-Alt-F is for the full screen, Ctrl-Alt-U for the guest's size;
 * a click takes the mouse, too, if the guest has no tablet.
 *
 * Does not do: several screens, the guest's cursor shape, clipboards, OpenGL of the guest.
 */
#include "display/sdl.h"

#include <dlfcn.h>
#include <errno.h>
#include <SDL2/SDL.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "base/keyval.h"
#include "display/display.h"
#include "display/sdl_keys.h"

enum { FIRST_WIDTH = 720, FIRST_HEIGHT = 400, EVENTS_MAX = 200, KEY_CODES = 256 };

struct fns {
    __typeof__(SDL_Init) *init;
    __typeof__(SDL_Quit) *quit;
    __typeof__(SDL_GetError) *error;
    __typeof__(SDL_GetCurrentVideoDriver) *driver;
    __typeof__(SDL_SetHint) *hint;
    __typeof__(SDL_CreateWindow) *window;
    __typeof__(SDL_DestroyWindow) *no_window;
    __typeof__(SDL_CreateRenderer) *renderer;
    __typeof__(SDL_DestroyRenderer) *no_renderer;
    __typeof__(SDL_CreateTexture) *texture;
    __typeof__(SDL_DestroyTexture) *no_texture;
    __typeof__(SDL_UpdateTexture) *update;
    __typeof__(SDL_RenderClear) *clear;
    __typeof__(SDL_RenderCopy) *copy;
    __typeof__(SDL_RenderPresent) *present;
    __typeof__(SDL_RenderSetLogicalSize) *logical;
    __typeof__(SDL_PollEvent) *poll;
    __typeof__(SDL_SetWindowTitle) *title;
    __typeof__(SDL_SetWindowSize) *size;
    __typeof__(SDL_SetWindowFullscreen) *full;
    __typeof__(SDL_SetWindowGrab) *grab;
    __typeof__(SDL_SetRelativeMouseMode) *relative;
    __typeof__(SDL_ShowCursor) *cursor;
};

#define FN(field, name)                                                                            \
    {                                                                                              \
        offsetof(struct fns, field), "SDL_" name                                                   \
    }
static const struct {
    size_t off;
    const char *name;
} names[] = {
    FN(init, "Init"),
    FN(quit, "Quit"),
    FN(error, "GetError"),
    FN(driver, "GetCurrentVideoDriver"),
    FN(hint, "SetHint"),
    FN(window, "CreateWindow"),
    FN(no_window, "DestroyWindow"),
    FN(renderer, "CreateRenderer"),
    FN(no_renderer, "DestroyRenderer"),
    FN(texture, "CreateTexture"),
    FN(no_texture, "DestroyTexture"),
    FN(update, "UpdateTexture"),
    FN(clear, "RenderClear"),
    FN(copy, "RenderCopy"),
    FN(present, "RenderPresent"),
    FN(logical, "RenderSetLogicalSize"),
    FN(poll, "PollEvent"),
    FN(title, "SetWindowTitle"),
    FN(size, "SetWindowSize"),
    FN(full, "SetWindowFullscreen"),
    FN(grab, "SetWindowGrab"),
    FN(relative, "SetRelativeMouseMode"),
    FN(cursor, "ShowCursor"),
};

struct sdl {
    struct fns f;
    void *library;
    struct display *display;
    struct viewer viewer;
    struct sdl_options o;
    SDL_Window *window;
    SDL_Renderer *renderer;
    SDL_Texture *texture;
    unsigned width, height; /* of the guest's screen */
    bool started, viewing, draw, grabbed, full, show_cursor, close_quits;
    unsigned held;
    uint8_t down[KEY_CODES / 8];
};

/* ---- The picture ---- */

static void sdl_resized(struct viewer *viewer, const struct surface *surface)
{
    struct sdl *s = container_of(viewer, struct sdl, viewer);
    if (s->texture) {
        s->f.no_texture(s->texture);
    }
    s->width = surface->width;
    s->height = surface->height;
    s->texture = s->f.texture(s->renderer, SDL_PIXELFORMAT_RGB888, SDL_TEXTUREACCESS_STREAMING,
                              (int)s->width, (int)s->height);
    s->f.logical(s->renderer, (int)s->width, (int)s->height);
    if (!s->full) {
        s->f.size(s->window, (int)s->width, (int)s->height);
    }
    s->draw = true;
}

static void sdl_changed(struct viewer *viewer, const struct surface *surface, const struct rect *r)
{
    struct sdl *s = container_of(viewer, struct sdl, viewer);
    const SDL_Rect to = {(int)r->x, (int)r->y, (int)r->width, (int)r->height};
    if (s->texture) { /* else: too large for the renderer */
        s->f.update(s->texture, &to, surface->pixels + r->y * surface->stride + r->x,
                    (int)(surface->stride * sizeof(*surface->pixels)));
    }
    s->draw = true;
}

static void sdl_draw(struct sdl *s)
{
    s->f.clear(s->renderer);
    if (s->texture) {
        s->f.copy(s->renderer, s->texture, NULL, NULL);
    }
    s->f.present(s->renderer);
    s->draw = false;
}

/* ---- Input ---- */

static void sdl_title(struct sdl *s)
{
    char text[256];
    snprintf(text, sizeof(text), "Lodge%s%s%s%s", s->o.name ? " (" : "", s->o.name ? s->o.name : "",
             s->o.name ? ")" : "", s->grabbed ? " - Ctrl-Alt-G gives the mouse back" : "");
    s->f.title(s->window, text);
}

static void sdl_grab(struct sdl *s, bool on)
{
    bool tablet = input_wants_place(s->display);
    s->grabbed = on;
    s->f.grab(s->window, on ? SDL_TRUE : SDL_FALSE);
    s->f.relative(on && !tablet ? SDL_TRUE : SDL_FALSE);
    s->f.cursor(s->show_cursor || !on ? SDL_ENABLE : SDL_DISABLE);
    sdl_title(s);
}

static void sdl_full(struct sdl *s, bool on)
{
    s->full = on;
    s->f.full(s->window, on ? SDL_WINDOW_FULLSCREEN_DESKTOP : 0);
    s->draw = true;
}

static void sdl_send_key(struct sdl *s, unsigned code, bool down)
{
    uint8_t bit = (uint8_t)(1u << (code & 7));
    if (code && code < KEY_CODES) {
        s->down[code / 8] = (uint8_t)(down ? s->down[code / 8] | bit : s->down[code / 8] & ~bit);
        input_key(s->display, code, down);
    }
}

/* What the window no longer hears of. */
static void sdl_release_keys(struct sdl *s)
{
    for (unsigned code = 1; code < KEY_CODES; code++) {
        if (s->down[code / 8] >> (code & 7) & 1) {
            sdl_send_key(s, code, false);
        }
    }
}

static bool sdl_hot_key(struct sdl *s, const SDL_KeyboardEvent *e)
{
    if ((e->keysym.mod & KMOD_CTRL) == 0 || (e->keysym.mod & KMOD_ALT) == 0) {
        return false;
    }
    switch (e->keysym.scancode) {
    case SDL_SCANCODE_G: sdl_grab(s, !s->grabbed); return true;
    case SDL_SCANCODE_F: sdl_full(s, !s->full); return true;
    case SDL_SCANCODE_U: s->f.size(s->window, (int)s->width, (int)s->height); return true;
    default: return false;
    }
}

static void sdl_key(struct sdl *s, const SDL_KeyboardEvent *e)
{
    bool down = e->type == SDL_KEYDOWN;
    if (down && sdl_hot_key(s, e)) {
        sdl_release_keys(s);
        return;
    }
    sdl_send_key(s, sdl_keys_code(e->keysym.scancode), down);
}

static void sdl_motion(struct sdl *s, const SDL_MouseMotionEvent *e)
{
    if (input_wants_place(s->display)) {
        int w = (int)s->width, h = (int)s->height;
        if (w > 1 && h > 1 && e->x >= 0 && e->y >= 0 && e->x < w && e->y < h) {
            input_place(s->display, (unsigned)(e->x * INPUT_ABS_MAX / (w - 1)),
                        (unsigned)(e->y * INPUT_ABS_MAX / (h - 1)));
        }
    } else if (s->grabbed) {
        input_move(s->display, e->xrel, e->yrel);
    }
}

static void sdl_button(struct sdl *s, const SDL_MouseButtonEvent *e)
{
    static const uint8_t buttons[] = {0, INPUT_LEFT, INPUT_MIDDLE, INPUT_RIGHT};
    unsigned bit = e->button < ARRAY_LEN(buttons) ? buttons[e->button] : 0;
    if (!s->grabbed && !input_wants_place(s->display)) {
        if (e->type == SDL_MOUSEBUTTONDOWN) {
            sdl_grab(s, true);
        }
        return;
    }
    s->held = e->type == SDL_MOUSEBUTTONDOWN ? s->held | bit : s->held & ~bit;
    input_buttons(s->display, s->held);
}

static void sdl_wheel(struct sdl *s, int y)
{
    unsigned bit = y > 0 ? INPUT_WHEEL_UP : INPUT_WHEEL_DOWN;
    if (y) {
        input_buttons(s->display, s->held | bit);
        input_buttons(s->display, s->held);
    }
}

static void sdl_window(struct sdl *s, const SDL_WindowEvent *e)
{
    if (e->event == SDL_WINDOWEVENT_FOCUS_LOST) {
        sdl_release_keys(s);
        if (s->grabbed) {
            sdl_grab(s, false);
        }
    } else if (e->event == SDL_WINDOWEVENT_RESIZED &&
               ((unsigned)e->data1 != s->width || (unsigned)e->data2 != s->height)) {
        display_want_size(s->display, (unsigned)e->data1, (unsigned)e->data2);
    } else if (e->event == SDL_WINDOWEVENT_EXPOSED || e->event == SDL_WINDOWEVENT_SIZE_CHANGED) {
        s->draw = true;
    }
}

static void sdl_event(struct sdl *s, const SDL_Event *e)
{
    switch (e->type) {
    case SDL_KEYDOWN:
    case SDL_KEYUP: sdl_key(s, &e->key); break;
    case SDL_MOUSEMOTION: sdl_motion(s, &e->motion); break;
    case SDL_MOUSEBUTTONDOWN:
    case SDL_MOUSEBUTTONUP: sdl_button(s, &e->button); break;
    case SDL_MOUSEWHEEL: sdl_wheel(s, e->wheel.y); break;
    case SDL_WINDOWEVENT: sdl_window(s, &e->window); break;
    case SDL_QUIT:
        if (s->close_quits) {
            s->o.closed(s->o.opaque);
        }
        break;
    }
}

static void sdl_refreshed(struct viewer *viewer)
{
    struct sdl *s = container_of(viewer, struct sdl, viewer);
    SDL_Event e;
    for (unsigned n = 0; n < EVENTS_MAX && s->f.poll(&e); n++) {
        sdl_event(s, &e);
    }
    if (s->draw) {
        sdl_draw(s);
    }
}

/* ---- Life ---- */

static int sdl_load(struct sdl *s, struct err *err)
{
    s->library = dlopen("libSDL2-2.0.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!s->library) {
        return err_set(err, ENOTSUP,
                       "-display sdl needs the library SDL2 (Debian: libsdl2-2.0-0): %s",
                       dlerror());
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        void *at = dlsym(s->library, names[i].name);
        if (!at) {
            return err_set(err, ENOTSUP, "-display sdl: the library SDL2 has no %s", names[i].name);
        }
        memcpy((char *)&s->f + names[i].off, &at, sizeof(at));
    }
    return 0;
}

static int sdl_args(struct sdl *s, const struct keyval *args, struct err *err)
{
    const char *quits = keyval_get(args, "window-close"), *cursor = keyval_get(args, "show-cursor");
    s->close_quits = true;
    int ret = quits ? value_bool("-display sdl: window-close", quits, &s->close_quits, err) : 0;
    return !ret && cursor ? value_bool("-display sdl: show-cursor", cursor, &s->show_cursor, err)
                          : ret;
}

static int sdl_open(struct sdl *s, struct err *err)
{
    s->f.hint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    s->f.hint(SDL_HINT_VIDEO_X11_NET_WM_BYPASS_COMPOSITOR, "0");
    s->f.hint(SDL_HINT_GRAB_KEYBOARD, "1");
    if (s->f.init(SDL_INIT_VIDEO)) {
        return err_set(err, EIO, "-display sdl: %s", s->f.error());
    }
    s->started = true;
    const char *driver = s->f.driver();
    if (!strcmp(driver, "offscreen") && !getenv("SDL_VIDEODRIVER")) { /* where nobody sees it */
        return err_set(err, EIO,
                       "-display sdl: there is no screen to open a window on; set DISPLAY"
                       " or WAYLAND_DISPLAY, or use -vnc");
    }
    s->window = s->f.window("Lodge", SDL_WINDOWPOS_UNDEFINED, SDL_WINDOWPOS_UNDEFINED, FIRST_WIDTH,
                            FIRST_HEIGHT, SDL_WINDOW_RESIZABLE);
    s->renderer = s->window ? s->f.renderer(s->window, -1, 0) : NULL;
    if (!s->renderer) {
        return err_set(err, EIO, "-display sdl: cannot open a window: %s", s->f.error());
    }
    sdl_title(s);
    if (s->o.full_screen) {
        sdl_full(s, true);
    }
    display_add_viewer(s->display, &s->viewer);
    s->viewing = true;
    return 0;
}

struct sdl *sdl_new(struct display *d, const struct sdl_options *o, const struct keyval *args,
                    struct err *err)
{
    struct sdl *s = alloc_zero(sizeof(*s));
    s->display = d;
    s->o = *o;
    s->viewer =
        (struct viewer){.resized = sdl_resized, .changed = sdl_changed, .refreshed = sdl_refreshed};
    int ret = sdl_load(s, err);
    ret = ret ? ret : sdl_args(s, args, err);
    ret = ret ? ret : sdl_open(s, err);
    if (ret) {
        sdl_free(s);
        return NULL;
    }
    return s;
}

void sdl_free(struct sdl *s)
{
    if (!s) {
        return;
    }
    if (s->viewing) {
        display_remove_viewer(s->display, &s->viewer);
    }
    if (s->texture) {
        s->f.no_texture(s->texture);
    }
    if (s->renderer) {
        s->f.no_renderer(s->renderer);
    }
    if (s->window) {
        s->f.no_window(s->window);
    }
    if (s->started) {
        s->f.quit();
    }
    free(s); /* the library stays: its own threads and libraries do not all go */
}
