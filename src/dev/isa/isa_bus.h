/* The ISA bus: port space, sixteen interrupt lines, DMA channels. A device claims what its options
 * say. */
#ifndef DEV_ISA_ISA_BUS_H
#define DEV_ISA_ISA_BUS_H

#include "core/device.h"
#include "core/irq.h"
#include "core/mem.h"

struct i8237_pair;
struct pci_func;

struct isa_bus {
    struct bus bus;
    struct mem_map *io;
    struct irq_pin *pins;          /* 16 */
    struct i8237_pair *dma;        /* NULL: none */
    const struct pci_func *bridge; /* above it; NULL: none */
};

extern const struct bus_type isa_bus_type;

static inline struct isa_bus *isa_bus_of(const struct dev *dev)
{
    return (struct isa_bus *)dev->bus->owner;
}

/* Fail with a sentence when the range leaves the port space or is taken, or the line is none. */
int isa_add_ports(struct dev *dev, uint32_t base, uint32_t len, const struct mmio *ops,
                  void *opaque, struct err *err);
int isa_connect_irq(struct dev *dev, struct irq *irq, uint32_t line, struct err *err);
/* A DMA channel, with `ready` as in i8237_connect(); the device then moves its data by
 * i8237_to_memory() and i8237_from_memory(). isa_leave_dma() in fini(), if it had one. */
int isa_connect_dma(struct dev *dev, uint32_t channel, void (*ready)(void *), void *opaque,
                    struct err *err);
void isa_leave_dma(struct dev *dev, uint32_t channel);

#endif
