/* PIRQ route control: Intel data sheets 290550 (PIIX3) 2.2.7, 316972 (ICH9) 13.1.17; the same in
 * both. */
#include "dev/chipset/pirq.h"

#include <stddef.h>

static void pirq_changed(void *opaque, unsigned n, bool level)
{
    struct pirq *p = opaque;
    irq_set(&p->apic_out, level);
    irq_set(&p->isa_out, level);
}

void pirq_init(struct pirq *p, struct irq_pin *isa_pins, struct irq_pin *apic)
{
    p->isa_pins = isa_pins;
    irq_pin_init(&p->pin);
    irq_pin_add(&p->pin, pirq_changed, p, 0);
    irq_connect(&p->apic_out, apic);
}

void pirq_fini(struct pirq *p)
{
    if (p->isa_pins) {
        irq_pin_fini(&p->pin);
    }
}

/* Lines 0, 1, 2, 8 and 13 are none's to have. */
void pirq_route(struct pirq *p, uint8_t reg)
{
    enum { RESERVED = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 13 };
    bool on = !(reg & PIRQ_OFF) && !(RESERVED >> (reg & 15) & 1);
    struct irq_pin *to = on ? &p->isa_pins[reg & 15] : NULL;
    if (p->isa_out.pin == to) {
        return;
    }
    pthread_mutex_lock(&p->pin.lock); /* no change meanwhile */
    irq_set(&p->isa_out, false);
    irq_connect(&p->isa_out, to);
    irq_set(&p->isa_out, p->pin.high > 0);
    pthread_mutex_unlock(&p->pin.lock);
}
