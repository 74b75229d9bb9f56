/* The qcow2 driver's table, for the list of drivers. */
#ifndef BLOCK_QCOW2_QCOW2_H
#define BLOCK_QCOW2_QCOW2_H

#include "block/driver.h"

extern const struct block_type qcow2_type;

#endif
