/* Keysyms by name. */
#ifndef DISPLAY_KEYSYMS_H
#define DISPLAY_KEYSYMS_H

#include <stdint.h>

uint32_t keysym_from_name(const char *name); /* 0: there is none */

#endif
