/* Serial port on the ISA bus. */
#ifndef DEV_SERIAL_ISA_SERIAL_H
#define DEV_SERIAL_ISA_SERIAL_H

#include "core/device.h"

extern const struct dev_type isa_serial_type;

#endif
