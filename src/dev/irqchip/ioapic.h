/* I/O APIC. */
#ifndef DEV_IRQCHIP_IOAPIC_H
#define DEV_IRQCHIP_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"

#define IOAPIC_BASE 0xfec00000ull
#define IOAPIC_SIZE 0x1000
#define IOAPIC_PINS 24

struct apic_msg;
struct ioapic;
struct strbuf;

struct ioapic *ioapic_new(uint32_t id, bool (*send)(void *, const struct apic_msg *), void *opaque);
void ioapic_free(struct ioapic *io);
void ioapic_reset(struct ioapic *io);
void ioapic_set_pin(void *io, unsigned n, bool level); /* irq_pin_fn; any thread */
void ioapic_eoi(void *io, uint8_t vector);             /* any thread */
void ioapic_print(struct ioapic *io, struct strbuf *out);
void ioapic_print_risen(struct ioapic *io, struct strbuf *out); /* interrupts by pin */

extern const struct mmio ioapic_mmio;

extern const struct field_set ioapic_fields; /* struct ioapic */

#endif
