/* A port that ends the process. */
#ifndef DEV_MISC_ISA_DEBUG_EXIT_H
#define DEV_MISC_ISA_DEBUG_EXIT_H

#include "core/device.h"

extern const struct dev_type isa_debug_exit_type;

#endif
