/* A port whose bytes go to a character device: how firmware tells what it does. */
#ifndef DEV_MISC_ISA_DEBUGCON_H
#define DEV_MISC_ISA_DEBUGCON_H

#include "core/device.h"

extern const struct dev_type isa_debugcon_type;

#endif
