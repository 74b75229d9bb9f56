/* From SDL's scan codes, which are those of USB keyboards, to Linux's KEY_* numbers. */
#ifndef DISPLAY_SDL_KEYS_H
#define DISPLAY_SDL_KEYS_H

unsigned sdl_keys_code(unsigned scan_code); /* 0: no such key */

#endif
