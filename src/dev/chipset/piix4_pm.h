/* Power management function of the PIIX4. */
#ifndef DEV_CHIPSET_PIIX4_PM_H
#define DEV_CHIPSET_PIIX4_PM_H

#include "dev/chipset/acpi_pm.h"
#include "dev/pci/pci.h"

#define PIIX4_GPE_PORT 0xafe0
#define PIIX4_GPE_LEN 4

struct piix4_pm {
    struct pci_func pci;
    struct acpi_pm pm;
    bool smm; /* set before the reset */
    struct mem_node *ports;
};

void piix4_pm_init(struct piix4_pm *p, struct pci_bus *bus, struct irq_pin *sci);
void piix4_pm_reset(struct piix4_pm *p);
uint16_t piix4_pm_base(struct piix4_pm *p); /* 0: not placed */
void piix4_pm_fini(struct piix4_pm *p);

extern const struct field_set piix4_pm_fields; /* struct piix4_pm */

#endif
