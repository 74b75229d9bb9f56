/* ACPI fixed hardware: PM1 event and control registers, PM timer, GPE0, and the SMI command port.
 */
#ifndef DEV_CHIPSET_ACPI_PM_H
#define DEV_CHIPSET_ACPI_PM_H

#include <pthread.h>

#include "core/irq.h"
#include "core/mem.h"
#include "loop/clock.h"

struct machine;

#define ACPI_PM_BLOCK                                                                              \
    64 /* bytes of ports of the PM block, in which PM1 and the timer come first                    \
        */
#define ACPI_PM_GPE_MAX 16
#define ACPI_PM_SMI_CMD 0xb2
#define ACPI_PM_ENABLE 0xf1 /* values for the SMI command port */
#define ACPI_PM_DISABLE 0xf0

struct acpi_pm {
    struct machine *machine;
    pthread_mutex_t lock; /* all below */
    uint16_t pm1_sts, pm1_en, pm1_cnt;
    uint8_t gpe[ACPI_PM_GPE_MAX]; /* status, then enable, half of gpe_len each */
    unsigned gpe_len;
    uint8_t apm[2];
    unsigned s5_type; /* SLP_TYP of soft off */
    struct irq sci;
    struct timer overflow;
    /* A write to the SMI command port; without the lock. NULL: there are no SMIs. */
    void (*smi)(void *opaque);
    void *smi_opaque;
};

void acpi_pm_init(struct acpi_pm *pm, struct machine *m, unsigned s5_type, unsigned gpe_len);
void acpi_pm_reset(struct acpi_pm *pm);
void acpi_pm_fini(struct acpi_pm *pm);
void acpi_pm_power_button(struct acpi_pm *pm); /* any thread */

extern const struct mmio acpi_pm_block; /* dev: struct acpi_pm, as are the others */
extern const struct mmio acpi_pm_gpe;
extern const struct mmio acpi_pm_apm; /* ports b2h and b3h */

extern const struct field_set acpi_pm_fields; /* struct acpi_pm */

#endif
