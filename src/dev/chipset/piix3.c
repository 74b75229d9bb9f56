/*
 * 82371SB (PIIX3), function 0: Intel data sheet 290550. PIRQA# to PIRQD# to ISA lines. Its timers,
 * interrupt controllers and reset ports are the board's own devices.
 * Does not do: DMA controller registers, X-bus chip selects, APM (that is in the PM function).
 */
#include "dev/chipset/piix3.h"

#include <string.h>

enum { PIRQRCA = 0x60, PIRQ_OFF = 0x80 };

static void pirq_changed(void *opaque, unsigned n, bool level)
{
    struct piix3 *p = opaque;
    irq_set(&p->out[n], level);
}

void piix3_init_lines(struct piix3 *p, struct irq_pin *isa)
{
    p->isa = isa;
    for (unsigned i = 0; i < PIIX3_PIRQS; i++) {
        irq_pin_init(&p->pirq[i]);
        irq_pin_add(&p->pirq[i], pirq_changed, p, i);
    }
}

/* Slots are one apart on the four lines, so that neighbours do not share. */
struct irq_pin *piix3_route(void *piix3, unsigned slot, unsigned pin)
{
    struct piix3 *p = piix3;
    return &p->pirq[(slot + pin + PIIX3_PIRQS - 1) % PIIX3_PIRQS];
}

/* Lines 0, 1, 2, 8 and 13 are none's to have (3.1.8). */
static void piix3_connect(struct piix3 *p, unsigned n)
{
    enum { RESERVED = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 13 };
    uint8_t reg = p->pci.config[PIRQRCA + n];
    bool on = !(reg & PIRQ_OFF) && !(RESERVED >> (reg & 15) & 1);
    struct irq_pin *to = on ? &p->isa[reg & 15] : NULL;
    if (p->out[n].pin == to) {
        return;
    }
    pthread_mutex_lock(&p->pirq[n].lock); /* no change meanwhile */
    irq_set(&p->out[n], false);
    irq_connect(&p->out[n], to);
    irq_set(&p->out[n], p->pirq[n].high > 0);
    pthread_mutex_unlock(&p->pirq[n].lock);
}

static void piix3_written(struct pci_func *f, unsigned off, unsigned len)
{
    struct piix3 *p = (struct piix3 *)f;
    for (unsigned i = 0; i < PIIX3_PIRQS; i++) {
        if (off <= PIRQRCA + i && off + len > PIRQRCA + i) {
            piix3_connect(p, i);
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
        piix3_connect(p, i);
    }
}

void piix3_fini(struct piix3 *p)
{
    pci_func_fini(&p->pci);
    for (unsigned i = 0; p->isa && i < PIIX3_PIRQS; i++) {
        irq_pin_fini(&p->pirq[i]);
    }
}
