/* What a monitor says of itself: VESA E-EDID 1.4, one block. */
#ifndef DEV_DISPLAY_EDID_H
#define DEV_DISPLAY_EDID_H

#include <stdint.h>

enum { EDID_SIZE = 128 };

/* A monitor that would like `width` times `height`, both 64 to 4095. */
void edid_make(uint8_t edid[EDID_SIZE], unsigned width, unsigned height);

#endif
