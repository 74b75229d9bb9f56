/*
 * Hardware-reduced ACPI: ACPI 6.4 section 4.8.3.7 (sleep control and status registers) and
 * 4.8.3.6 (reset register).
 * Does not do: sleep states other than soft off; wake events; power and sleep buttons.
 */
#include "dev/misc/acpi_power.h"

#include "core/machine.h"

#define SLP_EN 0x20

static enum mem_result acpi_power_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    *val = 0;
    return MEM_OK;
}

static enum mem_result acpi_power_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    if (off == ACPI_POWER_SLEEP_CONTROL && (val & SLP_EN) && (val >> 2 & 7) == ACPI_POWER_S5) {
        machine_ask(dev, MACHINE_REQ_POWEROFF, 0);
    } else if (off == ACPI_POWER_RESET && val == ACPI_POWER_RESET_VALUE) {
        machine_ask(dev, MACHINE_REQ_RESET, 0);
    }
    return MEM_OK;
}

const struct mmio acpi_power_mmio = {acpi_power_read, acpi_power_write, 1, 1};
