/*
 * Interrupt lines. A source drives its own `struct irq`, which remembers its level; several
 * sources may end in one `struct irq_pin`, which is high while at least one of them is.
 * irq_set() is safe from any thread and never calls back into the source.
 *
 * Lock order: lock of the source's device, then the pin's, then the controller's.
 */
#ifndef CORE_IRQ_H
#define CORE_IRQ_H

#include <pthread.h>
#include <stdbool.h>

/* The pin's lock is held in `set`; it is called for changes only. */
typedef void irq_pin_fn(void *opaque, unsigned n, bool level);

struct irq_pin {
    pthread_mutex_t lock;
    unsigned high; /* sources that are high; by `lock` */
    struct {
        irq_pin_fn *set;
        void *opaque;
        unsigned n;
    } to[2]; /* a line may end at two controllers (PIC and I/O APIC) */
};

struct irq {
    struct irq_pin *pin; /* NULL: not connected */
    bool level;          /* by the pin's lock */
    bool driven;         /* as the source said last: what is saved of a line */
};

void irq_pin_init(struct irq_pin *pin);
void irq_pin_add(struct irq_pin *pin, irq_pin_fn *set, void *opaque, unsigned n);
void irq_pin_fini(struct irq_pin *pin);

void irq_connect(struct irq *irq, struct irq_pin *pin); /* low at first */
void irq_set(struct irq *irq, bool level);
void irq_pulse(struct irq *irq); /* high, then low: one edge */
/* `driven` was loaded: the line is at that level, and nobody is told, for what it ends in has been
 * loaded, too. */
void irq_restore(struct irq *irq);

#endif
