/* LPC bridge of ICH9: interrupt routing and power management. */
#ifndef DEV_CHIPSET_ICH9_LPC_H
#define DEV_CHIPSET_ICH9_LPC_H

#include <stdatomic.h>

#include "dev/chipset/acpi_pm.h"
#include "dev/chipset/ich9_tco.h"
#include "dev/chipset/pirq.h"
#include "dev/pci/pci.h"

#define ICH9_PIRQS 8
#define ICH9_FIRST_GSI 16
#define ICH9_LPC_DEVFN (0x1f << 3)
#define ICH9_GPE_OFFSET 0x20
#define ICH9_GPE_LEN 16

struct ich9_lpc {
    struct pci_func pci;
    struct pirq pirq[ICH9_PIRQS];
    struct acpi_pm pm;
    struct ich9_tco tco;
    struct mem_node *pm_ports, *gpe_ports, *smi_ports, *tco_ports, *gcs;
    bool smm; /* set before the reset */
    _Atomic uint32_t smi_en;
    atomic_bool smi_for_all; /* firmware wants SMIs to stop every processor */
};

void ich9_lpc_init_lines(struct ich9_lpc *l, struct irq_pin *gsi);
void ich9_lpc_init(struct ich9_lpc *l, struct pci_bus *bus, struct irq_pin *sci);
void ich9_lpc_reset(struct ich9_lpc *l);
void ich9_lpc_fini(struct ich9_lpc *l);
unsigned ich9_lpc_pirq(unsigned slot, unsigned pin); /* which of the eight */
struct irq_pin *ich9_lpc_route(void *ich9_lpc, unsigned slot, unsigned pin);

extern const struct field_set ich9_lpc_fields; /* struct ich9_lpc */

#endif
