/*
 * 82371SB (PIIX3), function 1: Intel data sheet 290550, 2.3 and 2.7. Timing registers keep what is
 * written and mean nothing.
 *
 * Does not do: IDETIM's decode enable and the command register for the channels' ports, which
 * always decode; native mode.
 */
#include "dev/ata/piix_ide.h"

#include "base/bits.h"
#include "base/endian.h"
#include "core/machine.h"

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

void piix_ide_init(struct piix_ide *p, struct pci_bus *bus, struct irq_pin *isa)
{
    static const struct pci_ids ids = {.vendor = 0x8086, .device = 0x7010, .class_code = 0x010180};
    static const uint16_t ports[] = {0x1f0, 0x170}, controls[] = {0x3f6, 0x376};
    struct machine *m = bus->machine;
    pci_func_place(&p->pci, bus, 1 << 3 | 1, &ids);
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
        ide_bus_add(m, &p->bus[n], "ide", n, 2, &piix_host, ch, &p->pci);
    }
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
