/*
 * 82371SB (PIIX3), function 1: Intel data sheet 290550, 2.3 and 2.7. Timing registers keep what is
 * written and mean nothing.
 *
 * Does not do: IDETIM's decode enable and the command register for the channels' ports, which
 * always decode; native mode.
 */
#include "dev/ata/piix_ide.h"

#include <errno.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/isa/isa_bus.h"
#include "state/field.h"

enum { IDETIM = 0x40, SIDETIM = 0x44, UDMACTL = 0x48, UDMATIM = 0x4a, BAR_BMIBA = 4 };

static void piix_attach(struct ide_bus *bus, unsigned unit, struct ata_drive *drive)
{
    ide_channel_attach(bus->opaque, unit, drive);
}

static int piix_eject(struct ide_bus *bus, struct ata_drive *drive, bool force)
{
    return ide_channel_eject(bus->opaque, drive, force);
}

static void piix_insert(struct ide_bus *bus, struct ata_drive *drive, struct block *block)
{
    ide_channel_insert(bus->opaque, drive, block);
}

static const struct ide_host piix_host = {piix_attach, piix_eject, piix_insert};

static struct mem_map *piix_dma(void *opaque)
{
    struct piix_ide *p = opaque;
    return pci_dma(&p->pci);
}

static const struct pci_ids piix_ids = {.vendor = 0x8086, .device = 0x7010, .class_code = 0x010180};

/* Registers, ports, buses: the function is in its slot. */
static void piix_set_up(struct piix_ide *p, struct machine *m, struct irq_pin *isa,
                        const char *prefix)
{
    static const uint16_t ports[] = {0x1f0, 0x170}, controls[] = {0x3f6, 0x376};
    store_le32(p->pci.writable + IDETIM, ~0u);
    p->pci.writable[SIDETIM] = 0xff;
    p->pci.writable[UDMACTL] = 0x0f;
    store_le16(p->pci.writable + UDMATIM, 0x3333);
    pci_bar_add(&p->pci, BAR_BMIBA, PCI_BAR_IO, 16);
    for (unsigned n = 0; n < 2; n++) {
        struct ide_channel *ch = &p->ch[n];
        ide_channel_init(ch, piix_dma, p);
        irq_connect(&ch->irq, &isa[14 + n]);
        mem_map_add_mmio(m->io, ports[n], 8, &ide_command_block, ch);
        mem_map_add_mmio(m->io, controls[n], 1, &ide_control_block, ch);
        pci_bar_put_mmio(&p->pci, BAR_BMIBA, 8 * n, 8, &ide_bus_master, ch);
        ide_bus_add(m, &p->bus[n], prefix, n, 2, &piix_host, ch, &p->pci);
    }
}

void piix_ide_init(struct piix_ide *p, struct pci_bus *bus, struct irq_pin *isa)
{
    pci_func_place(&p->pci, bus, 1 << 3 | 1, &piix_ids);
    piix_set_up(p, bus->machine, isa, "ide");
}

void piix_ide_reset(struct piix_ide *p)
{
    ide_channel_reset(&p->ch[0]);
    ide_channel_reset(&p->ch[1]);
    pci_func_reset(&p->pci);
    store_le32(p->pci.config + IDETIM, 0);
    p->pci.config[SIDETIM] = p->pci.config[UDMACTL] = 0;
    store_le16(p->pci.config + UDMATIM, 0);
}

void piix_ide_fini(struct piix_ide *p)
{
    pci_func_fini(&p->pci);
    ide_channel_fini(&p->ch[0]);
    ide_channel_fini(&p->ch[1]);
}

/* ---- As a device, on a board that has no such channels ---- */

struct piix_dev {
    struct dev dev;
    struct piix_ide ide;
    bool made;
};

static const struct prop piix_props[] = {PCI_PROPS(struct piix_dev, ide.pci), {0}};

static int piix_dev_init(struct dev *dev, struct err *err)
{
    struct piix_dev *d = container_of(dev, struct piix_dev, dev);
    struct bus *isa = bus_find(dev->machine, "isa.0");
    struct mem_hit hit;
    if (!isa || mem_lookup(dev->machine->io, 0x1f0, &hit)) {
        return err_set(err, EBUSY, "%s: ports 1F0h to 1F7h are the board's own IDE channel's",
                       dev->type->name);
    }
    int ret = pci_func_init(&d->ide.pci, dev, &piix_ids, err);
    if (!ret) {
        struct isa_bus *lines = isa->owner;
        piix_set_up(&d->ide, dev->machine, lines->pins, dev->id ? dev->id : "pata");
        d->made = true;
    }
    return ret;
}

static void piix_dev_reset(struct dev *dev, enum dev_reset how)
{
    struct piix_ide *p = &container_of(dev, struct piix_dev, dev)->ide;
    piix_ide_reset(p);
    /* Both channels decode: firmware of such a board does not look for it, and a driver leaves out
     * those that do not. */
    store_le32(p->pci.config + IDETIM, 0x80008000);
}

static void piix_dev_fini(struct dev *dev)
{
    struct piix_dev *d = container_of(dev, struct piix_dev, dev);
    if (d->made) {
        piix_ide_fini(&d->ide);
    }
}

/* ---- State ---- */

static const struct field piix_ide_list[] = {
    FIELD(struct piix_ide, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD_ARRAY(struct piix_ide, ch, FIELD_GUEST, .sub = &ide_channel_fields),
    FIELD(struct piix_ide, bus, FIELD_HOST),
};

FIELD_SET_SHARED(piix_ide_fields, "piix-ide", struct piix_ide, piix_ide_list, 1);

static const struct field piix_dev_list[] = {
    FIELD(struct piix_dev, dev, FIELD_HOST),
    FIELD(struct piix_dev, ide, FIELD_GUEST, .sub = &piix_ide_fields),
    FIELD(struct piix_dev, made, FIELD_HOST),
};

FIELD_SET(piix_dev_fields, "piix3-ide", struct piix_dev, piix_dev_list, 1);

const struct dev_type piix3_ide_type = {
    .name = "piix3-ide",
    .summary = "two IDE channels at the ports of a PC/AT",
    .spec = "Intel 290550",
    .bus = "PCI",
    .size = sizeof(struct piix_dev),
    .state = &piix_dev_fields,
    .props = piix_props,
    .init = piix_dev_init,
    .reset = piix_dev_reset,
    .fini = piix_dev_fini,
};
