/* Sleep and reset registers of hardware-reduced ACPI. */
#ifndef DEV_MISC_ACPI_POWER_H
#define DEV_MISC_ACPI_POWER_H

#include "core/mem.h"

#define ACPI_POWER_SIZE 0x1000
#define ACPI_POWER_SLEEP_CONTROL 0
#define ACPI_POWER_SLEEP_STATUS 1
#define ACPI_POWER_RESET 2
#define ACPI_POWER_RESET_VALUE 0x42
#define ACPI_POWER_S5 5 /* SLP_TYP of soft off */

extern const struct mmio acpi_power_mmio; /* dev: struct machine */

#endif
