/* From what viewers call keys to Linux's KEY_* numbers. */
#ifndef DISPLAY_KEYS_H
#define DISPLAY_KEYS_H

#include <stdbool.h>
#include <stdint.h>

/* X11 keysyms on a US keyboard; 0: no such key. Shifted ones give the key they are on. */
unsigned keys_from_keysym(uint32_t keysym);
/* A PC's scan codes of set 1, with 80h added for the ones after E0h. */
unsigned keys_from_scan_code(uint32_t code);
unsigned keys_to_scan_code(unsigned key); /* the other way; 0: none */

#endif
