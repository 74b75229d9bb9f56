/* The ACPI power management timer: 24 bits at 3.579545 MHz, at an I/O port. */
#ifndef DEV_TIMER_ACPI_PM_TIMER_H
#define DEV_TIMER_ACPI_PM_TIMER_H

#define ACPI_PM_TIMER_PORT 0x608

struct machine;

void acpi_pm_timer_map(struct machine *machine);

#endif
