/* All drivers. */
#ifndef BLOCK_TYPES_H
#define BLOCK_TYPES_H

#include "block/driver.h"

extern const struct block_type nbd_type, raw_type;

#endif
