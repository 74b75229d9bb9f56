/* Bridges: each has a bus behind it that is called as the device's id says. */
#ifndef DEV_PCI_PCI_BRIDGE_H
#define DEV_PCI_PCI_BRIDGE_H

#include "core/device.h"

extern const struct dev_type pcie_root_port_type, ioh3420_type, pci_bridge_type;

#endif
