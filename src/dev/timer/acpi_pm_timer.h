/* The ACPI power management timer: 24 bits at 3.579545 MHz, at an I/O port. */
#ifndef DEV_TIMER_ACPI_PM_TIMER_H
#define DEV_TIMER_ACPI_PM_TIMER_H

#include <stdint.h>

#define ACPI_PM_TIMER_PORT 0x608
#define ACPI_PM_TIMER_HZ 3579545

struct clock;
struct machine;

uint32_t acpi_pm_timer_value(struct clock *clock);
void acpi_pm_timer_map(struct machine *machine); /* the timer alone */

#endif
