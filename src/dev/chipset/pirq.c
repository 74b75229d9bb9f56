/* PIRQ route control: Intel data sheets 290550 (PIIX3) 2.2.7, 316972 (ICH9) 13.1.17; the same in
 * both. */
#include "dev/chipset/pirq.h"

#include <stddef.h>

#include "core/fields.h"

static void pirq_changed(void *opaque, unsigned n, bool level)
{
    struct pirq *p = opaque;
    irq_set(&p->apic_out, level);
    irq_set(&p->isa_out, level);
}

void pirq_init(struct pirq *p, struct irq_pin *isa_pins, struct irq_pin *apic)
{
    p->isa_pins = isa_pins;
    p->route = PIRQ_OFF;
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
static struct irq_pin *pirq_target(const struct pirq *p)
{
    enum { RESERVED = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 13 };
    bool on = !(p->route & PIRQ_OFF) && !(RESERVED >> (p->route & 15) & 1);
    return on ? &p->isa_pins[p->route & 15] : NULL;
}

void pirq_route(struct pirq *p, uint8_t reg)
{
    p->route = reg;
    struct irq_pin *to = pirq_target(p);
    if (p->isa_out.pin == to) {
        return;
    }
    pthread_mutex_lock(&p->pin.lock); /* no change meanwhile */
    irq_set(&p->isa_out, false);
    irq_connect(&p->isa_out, to);
    irq_set(&p->isa_out, p->pin.high > 0);
    pthread_mutex_unlock(&p->pin.lock);
}

/* ---- State ---- */

static const struct field pirq_list[] = {
    FIELD(struct pirq, pin, FIELD_DERIVED),
    FIELD(struct pirq, isa_out, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct pirq, apic_out, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct pirq, isa_pins, FIELD_HOST),
    FIELD(struct pirq, route, FIELD_GUEST),
};

/* Before the function's registers are looked at, which then change no route. */
static int pirq_loaded(void *obj, struct err *err)
{
    struct pirq *p = obj;
    bool level = p->isa_out.driven;
    p->isa_out.driven = false;
    irq_restore(&p->isa_out);
    irq_connect(&p->isa_out, pirq_target(p));
    p->isa_out.driven = level;
    irq_restore(&p->isa_out);
    return 0;
}

FIELD_SET_SHARED(pirq_fields, "pirq", struct pirq, pirq_list, 1, .loaded = pirq_loaded);
