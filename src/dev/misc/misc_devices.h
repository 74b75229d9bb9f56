/* Watchdogs and devices for tests of guests. */
#ifndef DEV_MISC_MISC_DEVICES_H
#define DEV_MISC_MISC_DEVICES_H

#include "core/device.h"

extern const struct dev_type edu_type, i6300esb_type, pc_testdev_type, pci_testdev_type;

#endif
