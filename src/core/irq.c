/* Interrupt lines. */
#include "core/irq.h"

#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"

void irq_pin_init(struct irq_pin *pin)
{
    memset(pin, 0, sizeof(*pin));
    pthread_mutex_init(&pin->lock, NULL);
}

void irq_pin_fini(struct irq_pin *pin)
{
    pthread_mutex_destroy(&pin->lock);
}

void irq_pin_add(struct irq_pin *pin, irq_pin_fn *set, void *opaque, unsigned n)
{
    unsigned i = pin->to[0].set ? 1 : 0;
    assert(i < ARRAY_LEN(pin->to) && !pin->to[i].set);
    pin->to[i].set = set;
    pin->to[i].opaque = opaque;
    pin->to[i].n = n;
}

void irq_connect(struct irq *irq, struct irq_pin *pin)
{
    irq->pin = pin;
    irq->level = irq->driven = false;
}

static void irq_pin_tell(struct irq_pin *pin, bool level)
{
    for (unsigned i = 0; i < ARRAY_LEN(pin->to) && pin->to[i].set; i++) {
        pin->to[i].set(pin->to[i].opaque, pin->to[i].n, level);
    }
}

void irq_set(struct irq *irq, bool level)
{
    struct irq_pin *pin = irq->pin;
    if (!pin) {
        irq->level = irq->driven = level;
        return;
    }
    AUTO_LOCK(&pin->lock);
    irq->driven = level;
    if (irq->level == level) {
        return;
    }
    irq->level = level;
    if (level) {
        if (pin->high++ == 0) {
            irq_pin_tell(pin, true);
        }
    } else if (--pin->high == 0) {
        irq_pin_tell(pin, false);
    }
}

void irq_restore(struct irq *irq)
{
    struct irq_pin *pin = irq->pin;
    if (!pin) {
        irq->level = irq->driven;
        return;
    }
    AUTO_LOCK(&pin->lock);
    pin->high += (unsigned)irq->driven - (unsigned)irq->level;
    irq->level = irq->driven;
}

void irq_pulse(struct irq *irq)
{
    irq_set(irq, true);
    irq_set(irq, false);
}
