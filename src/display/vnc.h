/* A VNC server that shows the first screen. The library behind it is loaded when one is made. */
#ifndef DISPLAY_VNC_H
#define DISPLAY_VNC_H

#include <stdint.h>

struct display;
struct err;
struct keymap;
struct keyval;
struct loop;
struct vnc;

/* Options: "vnc" ([HOST]:N or unix:PATH), "to", "share", "password". `name` is the desktop's, or
 * NULL. All calls are the loop's thread's. `keymap` says where characters are that clients send,
 * and stays the caller's; NULL: a US keyboard. */
struct vnc *vnc_new(struct display *d, struct loop *loop, const char *name,
                    const struct keymap *keymap, const struct keyval *options, struct err *err);
void vnc_free(struct vnc *v); /* NULL is fine */
/* In its place when the process ends: the thread, which may be waiting for a client, is left. */
void vnc_leave(struct vnc *v);
/* With password=on: nobody comes in before this. NULL: nobody again. Who is in stays in. */
int vnc_set_password(struct vnc *v, const char *password, struct err *err);
/* From `when` on, in seconds since 1970, nobody comes in; INT64_MAX: never so. */
int vnc_expire_password(struct vnc *v, int64_t when, struct err *err);

#endif
