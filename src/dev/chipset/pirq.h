/* PCI's interrupt lines of an Intel south bridge: which ISA line a route register sends them to. */
#ifndef DEV_CHIPSET_PIRQ_H
#define DEV_CHIPSET_PIRQ_H

#include <stdint.h>

#include "core/irq.h"

#define PIRQ_OFF 0x80 /* in a route register: to no ISA line */

struct pirq {
    struct irq_pin pin;       /* what functions drive */
    struct irq isa_out;       /* where the register says it goes */
    struct irq apic_out;      /* an I/O APIC input of its own; or not connected */
    struct irq_pin *isa_pins; /* 16 lines */
    uint8_t route;            /* as the register says */
};

/* `apic` may be NULL. */
void pirq_init(struct pirq *p, struct irq_pin *isa_pins, struct irq_pin *apic);
void pirq_fini(struct pirq *p);
void pirq_route(struct pirq *p, uint8_t reg); /* the register's new value */

extern const struct field_set pirq_fields; /* struct pirq */

#endif
