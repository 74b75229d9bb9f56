/*
 * 82371SB (PIIX3), function 0: Intel data sheet 290550. PIRQA# to PIRQD# to ISA lines. Its timers,
 * interrupt and DMA controllers and reset ports are the board's own devices.
 * Does not do: X-bus chip selects, APM (that is in the PM function).
 */
#include "dev/chipset/piix3.h"
#include "state/field.h"

#include <string.h>

enum { PIRQRCA = 0x60 };

void piix3_init_lines(struct piix3 *p, struct irq_pin *isa)
{
    for (unsigned i = 0; i < PIIX3_PIRQS; i++) {
        pirq_init(&p->pirq[i], isa, NULL);
    }
}

/* Slots are one apart on the four lines, so that neighbours do not share. */
struct irq_pin *piix3_route(void *piix3, unsigned slot, unsigned pin)
{
    struct piix3 *p = piix3;
    return &p->pirq[(slot + pin + PIIX3_PIRQS - 1) % PIIX3_PIRQS].pin;
}

static void piix3_written(struct pci_func *f, unsigned off, unsigned len)
{
    struct piix3 *p = (struct piix3 *)f;
    for (unsigned i = 0; i < PIIX3_PIRQS; i++) {
        if (off <= PIRQRCA + i && off + len > PIRQRCA + i) {
            pirq_route(&p->pirq[i], p->pci.config[PIRQRCA + i]);
        }
    }
}

void piix3_init(struct piix3 *p, struct pci_bus *bus)
{
    static const struct pci_ids ids = {.vendor = 0x8086, .device = 0x7000, .class_code = 0x060100};
    pci_func_place(&p->pci, bus, 1 << 3, &ids);
    p->pci.config[PCI_HEADER_TYPE] = PCI_HEADER_MULTI;
    memset(p->pci.writable + PIRQRCA, 0x8f, PIIX3_PIRQS);
    p->pci.written = piix3_written;
}

void piix3_reset(struct piix3 *p)
{
    pci_func_reset(&p->pci);
    p->pci.config[PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    memset(p->pci.config + PIRQRCA, PIRQ_OFF, PIIX3_PIRQS);
    for (unsigned i = 0; i < PIIX3_PIRQS; i++) {
        pirq_route(&p->pirq[i], p->pci.config[PIRQRCA + i]);
    }
}

void piix3_fini(struct piix3 *p)
{
    pci_func_fini(&p->pci);
    for (unsigned i = 0; i < PIIX3_PIRQS; i++) {
        pirq_fini(&p->pirq[i]);
    }
}

/* ---- State ---- */

static const struct field piix3_list[] = {
    FIELD_ARRAY(struct piix3, pirq, FIELD_GUEST, .sub = &pirq_fields), /* before their routes */
    FIELD(struct piix3, pci, FIELD_GUEST, .sub = &pci_func_fields),
};

FIELD_SET_SHARED(piix3_fields, "piix3", struct piix3, piix3_list, 1);
