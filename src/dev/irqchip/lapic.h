/* Local APICs, one per vcpu, and the bus between them and the I/O APIC. */
#ifndef DEV_IRQCHIP_LAPIC_H
#define DEV_IRQCHIP_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"

struct clock;
struct irq_ctrl;
struct lapic;
struct lapic_bus;
struct strbuf;
struct vcpu;

#define LAPIC_BASE 0xfee00000ull
#define LAPIC_SIZE 0x1000
#define LAPIC_TIMER_HZ 1000000000ull /* before the divider; also the crystal of CPUID leaf 15h */

enum apic_mode {
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_SIPI = 6,
    APIC_EXTINT = 7,
};

struct apic_msg {
    uint32_t dest;
    bool logical, level;
    uint8_t mode, vector;
};

struct lapic_bus *lapic_bus_new(struct clock *clock);
void lapic_bus_free(struct lapic_bus *bus); /* and its APICs */
/* The PIC behind LINT0, and who hears of EOIs of level interrupts. Before any vcpu runs. */
void lapic_bus_set_pic(struct lapic_bus *bus, int (*inta)(void *), void *pic);
void lapic_bus_set_eoi(struct lapic_bus *bus, void (*eoi)(void *, uint8_t vector), void *opaque);

/* `id` is 0 for the boot processor, below FFh. The vcpu is set once it exists. */
struct lapic *lapic_new(struct lapic_bus *bus, uint32_t id);
void lapic_set_vcpu(struct lapic *l, struct vcpu *vcpu);
struct irq_ctrl *lapic_ctrl(struct lapic *l);
struct lapic *lapic_of(struct irq_ctrl *ic); /* NULL: it is none */
void lapic_reset_all(struct lapic_bus *bus);
void lapic_print(const struct lapic *l, struct strbuf *out);

/* Any thread. False if nobody took it. */
bool lapic_bus_send(struct lapic_bus *bus, const struct apic_msg *msg);
/* A message-signalled interrupt (Intel SDM Vol. 3A 11.11). */
void lapic_bus_msi(struct lapic_bus *bus, gpa_t addr, uint32_t data);
/* The PIC's output, wired to LINT0 of all. Any thread. */
void lapic_bus_lint0(void *bus, unsigned n, bool level);

extern const struct mmio lapic_mmio; /* dev: struct lapic_bus; the APIC of this thread's vcpu */

extern const struct field_set lapic_bus_fields; /* struct lapic_bus */

#endif
