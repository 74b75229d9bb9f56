/* The ISA bus. */
#include "dev/isa/isa_bus.h"

#include <errno.h>

#include "base/err.h"
#include "dev/dma/i8237.h"

static int isa_attach(struct bus *bus, struct dev *dev, struct err *err)
{
    return 0;
}

const struct bus_type isa_bus_type = {"isa", isa_attach};

int isa_add_ports(struct dev *dev, uint32_t base, uint32_t len, const struct mmio *ops,
                  void *opaque, struct err *err)
{
    struct isa_bus *bus = isa_bus_of(dev);
    struct mem_hit hit;
    if (!len || base > 0xffff || len > 0x10000 - base) {
        return err_set(err, EINVAL, "%s: ports %x to %x are outside of the port space",
                       dev->type->name, base, base + len - 1);
    }
    if (mem_lookup(bus->io, base, &hit) || hit.last < base + len - 1) {
        return err_set(err, EBUSY, "%s: port %x is taken by another device", dev->type->name, base);
    }
    mem_map_add_mmio(bus->io, base, len, ops, opaque);
    return 0;
}

int isa_connect_irq(struct dev *dev, struct irq *irq, uint32_t line, struct err *err)
{
    if (line > 15) {
        return err_set(err, EINVAL, "%s: there is no interrupt %u, the highest is 15",
                       dev->type->name, line);
    }
    irq_connect(irq, &isa_bus_of(dev)->pins[line]);
    return 0;
}

int isa_connect_dma(struct dev *dev, uint32_t channel, void (*ready)(void *), void *opaque,
                    struct err *err)
{
    struct isa_bus *bus = isa_bus_of(dev);
    if (!bus->dma) {
        return err_set(err, ENOTSUP, "%s: this machine has no DMA controller", dev->type->name);
    }
    if (!i8237_connect(bus->dma, channel, ready, opaque)) {
        return err_set(err, EBUSY, "%s: DMA channel %u does not exist or is taken", dev->type->name,
                       channel);
    }
    return 0;
}

void isa_leave_dma(struct dev *dev, uint32_t channel)
{
    i8237_connect(isa_bus_of(dev)->dma, channel, NULL, NULL);
}
