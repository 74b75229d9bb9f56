/* PCI-ISA bridge of the PIIX3: where PCI's interrupt lines end. */
#ifndef DEV_CHIPSET_PIIX3_H
#define DEV_CHIPSET_PIIX3_H

#include "dev/chipset/pirq.h"
#include "dev/pci/pci.h"

#define PIIX3_PIRQS 4

struct piix3 {
    struct pci_func pci;
    struct pirq pirq[PIIX3_PIRQS];
};

/* First the pins, which functions are connected to as they are made; then the function, 01.0. */
void piix3_init_lines(struct piix3 *p, struct irq_pin *isa);
void piix3_init(struct piix3 *p, struct pci_bus *bus);
void piix3_reset(struct piix3 *p);
void piix3_fini(struct piix3 *p);
/* For pci_root.route: the line of INTA# (0) and so on of a slot. */
struct irq_pin *piix3_route(void *piix3, unsigned slot, unsigned pin);

extern const struct field_set piix3_fields; /* struct piix3 */

#endif
