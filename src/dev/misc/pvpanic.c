/*
 * pvpanic: one register by which a guest tells of its end, on an ISA port or in a PCI BAR.
 * docs/specs/pvpanic.rst of QEMU. A panic switches the machine off, or stops it under
 * -no-shutdown.
 *
 * Does not do: the ACPI device QEMU0001 of the ISA form, by which Linux finds it (PCI it finds
 * itself).
 */
#include <errno.h>
#include <stdio.h>

#include "base/bits.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/isa/isa_bus.h"
#include "dev/misc/pvpanic.h"
#include "dev/pci/pci.h"
#include "state/field.h"

enum {
    PVPANIC_PANICKED = 1,
    PVPANIC_CRASH_LOADED = 2, /* the guest handles it: kexec */
    PVPANIC_ALL = 3,
    PVPANIC_BAR = 4096,
};

struct pvpanic {
    struct machine *machine;
    uint32_t events;
};

static const struct field pvpanic_list[] = {
    FIELD(struct pvpanic, machine, FIELD_HOST),
    FIELD(struct pvpanic, events, FIELD_CONFIG),
};

FIELD_SET(pvpanic_fields, "pvpanic", struct pvpanic, pvpanic_list, 1);

static enum mem_result pvpanic_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    *val = off ? 0 : ((const struct pvpanic *)opaque)->events;
    return MEM_OK;
}

static enum mem_result pvpanic_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    const struct pvpanic *p = opaque;
    uint64_t event = off ? 0 : val & p->events;
    if (event & PVPANIC_PANICKED) {
        log_put(LOG_ALWAYS, "pvpanic: the guest has panicked\n");
        machine_ask(p->machine, MACHINE_REQ_POWEROFF, 0);
    }
    return MEM_OK;
}

static const struct mmio pvpanic_mmio = {pvpanic_read, pvpanic_write, 1, 1};

static int pvpanic_start(struct pvpanic *p, struct dev *dev, struct err *err)
{
    p->machine = dev->machine;
    return p->events <= PVPANIC_ALL
               ? 0
               : err_set(err, EINVAL, "%s: events is 0 to 3, not %u", dev->type->name, p->events);
}

/* ---- ISA ---- */

struct pvpanic_isa {
    struct dev dev;
    struct pvpanic p;
    uint32_t ioport;
};

static const struct field pvpanic_isa_list[] = {
    FIELD(struct pvpanic_isa, dev, FIELD_HOST),
    FIELD(struct pvpanic_isa, p, FIELD_GUEST, .sub = &pvpanic_fields),
    FIELD(struct pvpanic_isa, ioport, FIELD_CONFIG),
};

FIELD_SET(pvpanic_isa_fields, "pvpanic-isa", struct pvpanic_isa, pvpanic_isa_list, 1);

static const struct prop isa_props[] = {
    {"ioport", PROP_U32, offsetof(struct pvpanic_isa, ioport), "1285", "port"},
    {"events", PROP_U32, offsetof(struct pvpanic_isa, p.events), "3", "what it takes"},
    {0},
};

static int pvpanic_isa_init(struct dev *dev, struct err *err)
{
    struct pvpanic_isa *d = container_of(dev, struct pvpanic_isa, dev);
    int ret = pvpanic_start(&d->p, dev, err);
    return ret ? ret : isa_add_ports(dev, d->ioport, 1, &pvpanic_mmio, &d->p, err);
}

const struct dev_type pvpanic_isa_type = {
    .name = "pvpanic",
    .summary = "a port on which the guest tells of a panic",
    .bus = "isa",
    .size = sizeof(struct pvpanic_isa),
    .state = &pvpanic_isa_fields,
    .props = isa_props,
    .init = pvpanic_isa_init,
};

/* ---- PCI ---- */

struct pvpanic_pci {
    struct dev dev;
    struct pvpanic p;
    struct pci_func pci;
};

static const struct field pvpanic_pci_list[] = {
    FIELD(struct pvpanic_pci, dev, FIELD_HOST),
    FIELD(struct pvpanic_pci, p, FIELD_GUEST, .sub = &pvpanic_fields),
    FIELD(struct pvpanic_pci, pci, FIELD_GUEST, .sub = &pci_func_fields),
};

FIELD_SET(pvpanic_pci_fields, "pvpanic-pci", struct pvpanic_pci, pvpanic_pci_list, 1);

static const struct prop pci_props[] = {
    PCI_PROPS(struct pvpanic_pci, pci),
    {"events", PROP_U32, offsetof(struct pvpanic_pci, p.events), "3", "what it takes"},
    {0},
};

static int pvpanic_pci_init(struct dev *dev, struct err *err)
{
    static const struct pci_ids ids = {
        .vendor = 0x1b36, .device = 0x0011, .class_code = 0x088000, .revision = 1};
    struct pvpanic_pci *d = container_of(dev, struct pvpanic_pci, dev);
    int ret = pvpanic_start(&d->p, dev, err);
    ret = ret ? ret : pci_func_init(&d->pci, dev, &ids, err);
    if (!ret) {
        pci_bar_add_mmio(&d->pci, 0, PCI_BAR_MEM32, PVPANIC_BAR, &pvpanic_mmio, &d->p);
    }
    return ret;
}

static void pvpanic_pci_reset(struct dev *dev, enum dev_reset how)
{
    pci_func_reset(&container_of(dev, struct pvpanic_pci, dev)->pci);
}

static void pvpanic_pci_fini(struct dev *dev)
{
    pci_func_fini(&container_of(dev, struct pvpanic_pci, dev)->pci);
}

const struct dev_type pvpanic_pci_type = {
    .name = "pvpanic-pci",
    .summary = "a register in which the guest tells of a panic",
    .bus = "PCI",
    .size = sizeof(struct pvpanic_pci),
    .state = &pvpanic_pci_fields,
    .props = pci_props,
    .init = pvpanic_pci_init,
    .reset = pvpanic_pci_reset,
    .fini = pvpanic_pci_fini,
};
