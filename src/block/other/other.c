/* What formats of others share. */
#include "block/other/other.h"

#include <string.h>
#include <sys/random.h>

void other_make_uuid(uint8_t *uuid)
{
    if (getrandom(uuid, 16, 0) != 16) {
        memset(uuid, 0x5a, 16);
    }
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
}
