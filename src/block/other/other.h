/* What formats of others share. */
#ifndef BLOCK_OTHER_OTHER_H
#define BLOCK_OTHER_OTHER_H

#include <stdint.h>

void other_make_uuid(uint8_t *uuid); /* 16 bytes, RFC 4122 version 4 */

#endif
