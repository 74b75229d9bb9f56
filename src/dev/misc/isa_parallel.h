/* A parallel port as LPT1 to LPT3 of a PC. */
#ifndef DEV_MISC_ISA_PARALLEL_H
#define DEV_MISC_ISA_PARALLEL_H

#include "core/device.h"

extern const struct dev_type isa_parallel_type;

#endif
