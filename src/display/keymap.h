/*
 * Keyboard layouts, for viewers that say which character was typed and not which key: where a
 * layout has it.
 */
#ifndef DISPLAY_KEYMAP_H
#define DISPLAY_KEYMAP_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct keymap;

/* What is held when a key goes down or up. */
struct keymap_held {
    bool shift, altgr;
    bool (*key)(const void *opaque, unsigned code); /* this one; Linux's KEY_* number */
    const void *opaque;
};

/* The layout `language` ("de") in a file of that name, in folder `first` (or NULL) and the usual
 * ones. "en-us" needs no file. NULL with a sentence if there is none. */
struct keymap *keymap_load(const char *language, const char *first, struct err *err);
void keymap_free(struct keymap *k); /* NULL is fine */
/* The key of an X11 keysym, or 0. If several have it: on the way up the one that is held, on the
 * way down the one that gives it with Shift and AltGr as they are. `k` NULL: a US keyboard. */
unsigned keymap_code(const struct keymap *k, uint32_t keysym, bool down,
                     const struct keymap_held *held);

#endif
