/* The guest's kernel says that it has panicked. */
#ifndef DEV_MISC_PVPANIC_H
#define DEV_MISC_PVPANIC_H

#include "core/device.h"

extern const struct dev_type pvpanic_isa_type, pvpanic_pci_type;

#endif
