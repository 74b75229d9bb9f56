/*
 * ACPI power management timer (ACPI 6.4 §4.8.3.3). Guests that cannot measure their TSC by the
 * PIT, because the host took the processor away meanwhile, measure it by this one.
 *
 * Does not do: the overflow interrupt (there is no PM1 event block).
 */
#include "dev/timer/acpi_pm_timer.h"

#include "core/machine.h"
#include "loop/clock.h"

uint32_t acpi_pm_timer_value(struct clock *clock)
{
    return muldiv64(clock_ns(clock), ACPI_PM_TIMER_HZ, NS_PER_SEC) & 0xffffff;
}

static enum mem_result pm_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    const struct machine *m = dev;
    *val = acpi_pm_timer_value(m->clock);
    return MEM_OK;
}

static enum mem_result pm_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    return MEM_OK; /* read only */
}

static const struct mmio pm_ports = {pm_read, pm_write, 4, 4};

void acpi_pm_timer_map(struct machine *machine)
{
    mem_map_add_mmio(machine->io, ACPI_PM_TIMER_PORT, 4, &pm_ports, machine);
}
