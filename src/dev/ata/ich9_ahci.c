/*
 * ICH9 SATA controller in AHCI mode: Intel data sheet 316972, chapter 15. BAR 5 has the registers,
 * BAR 4 the ports of index and data; one MSI vector.
 *
 * Does not do: the IDE modes (map register), power management of the function.
 */
#include "dev/ata/ich9_ahci.h"

#include <errno.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/machine.h"
#include "state/field.h"

enum {
    BAR_IDP = 4,
    BAR_ABAR = 5,
    MAP = 0x90,
    MAP_AHCI = 0x40,
    SATA_CAP = 0x12,
    SATA_CAP_BYTES = 8
};

static const struct pci_ids ahci_ids = {
    .vendor = 0x8086, .device = 0x2922, .class_code = 0x010601, .revision = 2, .interrupt_pin = 1};

static void ich9_set_irq(void *opaque, bool level)
{
    struct ich9_ahci *a = opaque;
    pci_irq_or_msi(&a->pci, level);
}

static struct mem_map *ich9_dma(void *opaque)
{
    struct ich9_ahci *a = opaque;
    return pci_dma(&a->pci);
}

static const struct ahci_wires ich9_wires = {ich9_set_irq, ich9_dma};

static struct ich9_ahci *ich9_of(const struct ide_bus *bus)
{
    return bus->opaque;
}

static void ich9_attach(struct ide_bus *bus, unsigned unit, struct ata_drive *drive)
{
    struct ich9_ahci *a = ich9_of(bus);
    ahci_attach(&a->hba, (unsigned)(bus - a->bus), drive);
}

static int ich9_eject(struct ide_bus *bus, struct ata_drive *drive, bool force)
{
    return ahci_eject(&ich9_of(bus)->hba, drive, force);
}

static void ich9_insert(struct ide_bus *bus, struct ata_drive *drive, struct block *block)
{
    ahci_insert(&ich9_of(bus)->hba, drive, block);
}

static const struct ide_host ich9_host = {ich9_attach, ich9_eject, ich9_insert};

/* Registers, capabilities, buses: the function is in its slot. */
static void ich9_set_up(struct ich9_ahci *a, struct machine *m, const char *bus_prefix)
{
    pci_bar_add_mmio(&a->pci, BAR_IDP, PCI_BAR_IO, AHCI_IDP_SIZE, &ahci_idp, &a->hba);
    pci_bar_add_mmio(&a->pci, BAR_ABAR, PCI_BAR_MEM32, AHCI_ABAR_SIZE, &ahci_abar, &a->hba);
    pci_msi_add(&a->pci, 1);
    /* Serial ATA capability: index and data ports are in BAR 4, at 10h (AHCI 1.3.1 2.4). */
    unsigned cap = pci_cap_add(&a->pci, SATA_CAP, SATA_CAP_BYTES);
    a->pci.config[cap + 2] = 0x10;
    store_le32(a->pci.config + cap + 4, 0x48);
    for (unsigned n = 0; n < AHCI_PORTS; n++) {
        ide_bus_add(m, &a->bus[n], bus_prefix, n, 1, &ich9_host, a, &a->pci);
    }
}

void ich9_ahci_init(struct ich9_ahci *a, struct pci_bus *bus, uint8_t devfn)
{
    ahci_init(&a->hba, &ich9_wires, a);
    pci_func_place(&a->pci, bus, devfn, &ahci_ids);
    ich9_set_up(a, bus->machine, "ide");
}

void ich9_ahci_reset(struct ich9_ahci *a)
{
    ahci_reset(&a->hba);
    pci_func_reset(&a->pci);
    a->pci.config[MAP] = MAP_AHCI;
}

void ich9_ahci_fini(struct ich9_ahci *a)
{
    pci_func_fini(&a->pci);
    ahci_fini(&a->hba);
}

/* ---- As a device ---- */

struct ich9_dev {
    struct dev dev;
    struct ich9_ahci ahci;
};

static const struct prop ich9_props[] = {PCI_PROPS(struct ich9_dev, ahci.pci), {0}};

static int ich9_dev_init(struct dev *dev, struct err *err)
{
    struct ich9_dev *d = container_of(dev, struct ich9_dev, dev);
    ahci_init(&d->ahci.hba, &ich9_wires, &d->ahci);
    int ret = pci_func_init(&d->ahci.pci, dev, &ahci_ids, err);
    if (!ret) {
        ich9_set_up(&d->ahci, dev->machine, dev->id ? dev->id : "ahci");
    }
    return ret;
}

static void ich9_dev_reset(struct dev *dev, enum dev_reset how)
{
    ich9_ahci_reset(&container_of(dev, struct ich9_dev, dev)->ahci);
}

static void ich9_dev_fini(struct dev *dev)
{
    struct ich9_dev *d = container_of(dev, struct ich9_dev, dev);
    if (d->ahci.hba.wires) {
        ich9_ahci_fini(&d->ahci);
    }
}

/* ---- State ---- */

static const struct field ich9_ahci_list[] = {
    FIELD(struct ich9_ahci, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct ich9_ahci, hba, FIELD_GUEST, .sub = &ahci_fields),
    FIELD(struct ich9_ahci, bus, FIELD_HOST),
};

FIELD_SET_SHARED(ich9_ahci_fields, "ich9-ahci-function", struct ich9_ahci, ich9_ahci_list, 1);

static const struct field ich9_dev_list[] = {
    FIELD(struct ich9_dev, dev, FIELD_HOST),
    FIELD(struct ich9_dev, ahci, FIELD_GUEST, .sub = &ich9_ahci_fields),
};

FIELD_SET(ich9_dev_fields, "ich9-ahci", struct ich9_dev, ich9_dev_list, 1);

const struct dev_type ich9_ahci_type = {
    .name = "ich9-ahci",
    .summary = "AHCI SATA adapter, six ports",
    .spec = "AHCI 1.3.1",
    .bus = "PCI",
    .size = sizeof(struct ich9_dev),
    .state = &ich9_dev_fields,
    .props = ich9_props,
    .init = ich9_dev_init,
    .reset = ich9_dev_reset,
    .fini = ich9_dev_fini,
};
