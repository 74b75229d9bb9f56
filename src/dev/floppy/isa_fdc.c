/* The floppy controller on the ISA bus, its bus, and the drives as -device names them. */
#include "dev/floppy/isa_fdc.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "core/machine.h"
#include "dev/isa/isa_bus.h"
#include "dev/pci/pci.h"
#include "state/field.h"

#define UNIT_NEXT UINT32_MAX

struct isa_fdc {
    struct dev dev;
    struct fdc fdc;
    struct bus bus;
    struct floppy_dev *unit[ISA_FDC_UNITS];
    uint32_t iobase, irq, dma;
    bool ready, has_dma;
};

/* ---- Controller ---- */

static const struct prop isa_fdc_props[] = {
    {"iobase", PROP_U32, offsetof(struct isa_fdc, iobase), "0x3f0", "first port"},
    {"irq", PROP_U32, offsetof(struct isa_fdc, irq), "6", "interrupt"},
    {"dma", PROP_U32, offsetof(struct isa_fdc, dma), "2", "DMA channel"},
    {0},
};

static int floppy_bus_attach(struct bus *bus, struct dev *dev, struct err *err)
{
    return 0; /* the device looks for its unit when it knows its options */
}

static const struct bus_type floppy_bus_type = {"floppy-bus", floppy_bus_attach};

static struct isa_fdc *as_isa_fdc(struct dev *dev)
{
    return container_of(dev, struct isa_fdc, dev);
}

static int isa_fdc_init(struct dev *dev, struct err *err)
{
    struct isa_fdc *s = as_isa_fdc(dev);
    s->fdc.clock = dev->machine->clock;
    fdc_init(&s->fdc);
    s->ready = true;
    if (bus_find(dev->machine, ISA_FDC_BUS)) {
        return err_set(err, EBUSY, "isa-fdc: the machine has a floppy controller already");
    }
    int ret = isa_connect_irq(dev, &s->fdc.irq, s->irq, err);
    ret = ret ? ret : isa_connect_dma(dev, s->dma, fdc_dma_ready, &s->fdc, err);
    s->has_dma = !ret;
    ret = ret ? ret : isa_add_ports(dev, s->iobase, 6, &fdc_ports, &s->fdc, err);
    ret = ret ? ret : isa_add_ports(dev, s->iobase + 7, 1, &fdc_port7, &s->fdc, err);
    if (ret) {
        return ret;
    }
    s->fdc.dma = isa_bus_of(dev)->dma;
    s->fdc.dma_channel = s->dma;
    s->bus = (struct bus){.type = &floppy_bus_type, .id = ISA_FDC_BUS, .owner = s};
    bus_add(dev->machine, &s->bus);
    return 0;
}

static void isa_fdc_reset(struct dev *dev, enum dev_reset how)
{
    fdc_reset(&as_isa_fdc(dev)->fdc);
}

static void isa_fdc_fini(struct dev *dev)
{
    struct isa_fdc *s = as_isa_fdc(dev);
    if (s->has_dma) {
        isa_leave_dma(dev, s->dma);
    }
    if (s->ready) {
        fdc_fini(&s->fdc);
    }
}

unsigned isa_fdc_cmos_type(struct machine *m, unsigned unit)
{
    static const uint8_t types[] = {[FDD_120] = 2, [FDD_144] = 4, [FDD_288] = 5};
    const struct bus *bus = bus_find(m, ISA_FDC_BUS);
    const struct isa_fdc *s = bus ? bus->owner : NULL;
    const struct floppy_dev *d = s && unit < ISA_FDC_UNITS ? s->unit[unit] : NULL;
    return d ? types[d->fdd.type] : 0;
}

/* ---- Drives ---- */

static const char *const types[] = {"auto", "120", "144", "288", NULL};

static const struct prop floppy_props[] = {
    {"drive", PROP_TEXT, offsetof(struct floppy_dev, drive_id), NULL, "id of the -drive"},
    {"unit", PROP_U32, offsetof(struct floppy_dev, unit), "4294967295",
     "0 or 1; preset: the next free one"},
    {"drive-type", PROP_TEXT, offsetof(struct floppy_dev, type), "auto",
     "120, 144, 288, or auto: as its medium wants it", types},
    {"bootindex", PROP_U32, offsetof(struct floppy_dev, bootindex), "4294967295",
     "place in the order of booting"},
    {"share-rw", PROP_BOOL, offsetof(struct floppy_dev, share), NULL,
     "other devices may have the same drive"},
    {"werror", PROP_TEXT, offsetof(struct floppy_dev, werror), NULL,
     "report, ignore, stop, or enospc: stop when the host's disk is full", on_error_names},
    {"rerror", PROP_TEXT, offsetof(struct floppy_dev, rerror), NULL, "the same for reads",
     on_error_names},
    {0},
};

static struct floppy_dev *as_floppy(struct dev *dev)
{
    return container_of(dev, struct floppy_dev, dev);
}

static struct isa_fdc *floppy_fdc(const struct floppy_dev *d)
{
    return d->dev.bus->owner;
}

static int floppy_take_unit(struct floppy_dev *d, struct err *err)
{
    struct isa_fdc *s = floppy_fdc(d);
    if (d->unit == UNIT_NEXT) {
        d->unit = s->unit[0] ? 1 : 0;
    }
    if (d->unit >= ISA_FDC_UNITS) {
        return err_set(err, EINVAL, "floppy: there are units 0 and 1, and no unit %u", d->unit);
    }
    if (s->unit[d->unit]) {
        return err_set(err, EBUSY, "floppy: unit %u is in use", d->unit);
    }
    s->unit[d->unit] = d;
    s->bus.full = s->unit[0] && s->unit[1];
    d->attached = true;
    return 0;
}

static enum fdd_type floppy_type_of(const struct floppy_dev *d)
{
    unsigned n = 0; /* "auto": FDD_NONE */
    while (d->type && types[n] && strcmp(types[n], d->type)) {
        n++;
    }
    return types[n] ? (enum fdd_type)n : FDD_NONE;
}

/* A medium that is there from the start fits the drive. */
static int floppy_check_medium(const struct floppy_dev *d, struct err *err)
{
    uint64_t size = disk_size(&d->fdd.disk);
    if (size && !d->fdd.medium) {
        return err_set(err, EINVAL,
                       "floppy: image '%s' has %llu bytes, more than any floppy disk; the largest "
                       "has 2949120",
                       d->fdd.disk.name, (unsigned long long)size);
    }
    if (d->fdd.medium && !fdd_fits(d->fdd.type, d->fdd.medium)) {
        return err_set(err, EINVAL,
                       "floppy: image '%s' does not fit a drive of type %s; use drive-type=auto",
                       d->fdd.disk.name, d->type);
    }
    return 0;
}

static int floppy_init(struct dev *dev, struct err *err)
{
    struct floppy_dev *d = as_floppy(dev);
    struct disk_opts opts = {.owner = "floppy",
                             .drive = d->drive_id,
                             .werror = d->werror,
                             .rerror = d->rerror,
                             .share = d->share};
    disk_init(&d->fdd.disk, dev, NULL);
    int ret = d->drive_id ? disk_take(&d->fdd.disk, &opts, err) : 0;
    if (ret) {
        return ret;
    }
    fdd_init(&d->fdd, floppy_type_of(d));
    ret = floppy_check_medium(d, err);
    ret = ret ? ret : floppy_take_unit(d, err);
    if (!ret) {
        fdc_attach(&floppy_fdc(d)->fdc, d->unit, &d->fdd);
    }
    return ret;
}

static void floppy_quiesce(struct dev *dev)
{
    disk_quiesce(&as_floppy(dev)->fdd.disk);
}

static void floppy_resume(struct dev *dev)
{
    disk_resume(&as_floppy(dev)->fdd.disk);
}

static void floppy_fini(struct dev *dev)
{
    struct floppy_dev *d = as_floppy(dev);
    if (!d->fdd.disk.dev) {
        return; /* its options were wrong: init() never came */
    }
    disk_drain(&d->fdd.disk);
    if (d->attached) {
        struct isa_fdc *s = floppy_fdc(d);
        fdc_attach(&s->fdc, d->unit, NULL);
        s->unit[d->unit] = NULL;
        s->bus.full = false;
    }
    disk_fini(&d->fdd.disk);
}

static void floppy_boot_name(const struct dev *dev, struct strbuf *sb)
{
    const struct floppy_dev *d = container_of(dev, struct floppy_dev, dev);
    const struct isa_fdc *s = floppy_fdc(d);
    const struct isa_bus *isa = isa_bus_of(&s->dev);
    if (isa->bridge) {
        pci_boot_name(isa->bridge, sb);
        strbuf_add(sb, "/fdc@%04x/floppy@%x", s->iobase, d->unit);
    }
}

void floppy_dev_change(struct floppy_dev *d, struct block *block)
{
    fdc_change_medium(&floppy_fdc(d)->fdc, &d->fdd, block);
}

/* ---- State ---- */

static const struct field isa_fdc_list[] = {
    FIELD(struct isa_fdc, dev, FIELD_HOST),
    FIELD(struct isa_fdc, fdc, FIELD_GUEST, .sub = &fdc_fields),
    FIELD(struct isa_fdc, bus, FIELD_HOST),
    FIELD(struct isa_fdc, unit, FIELD_HOST),
    FIELD(struct isa_fdc, iobase, FIELD_CONFIG),
    FIELD(struct isa_fdc, irq, FIELD_CONFIG),
    FIELD(struct isa_fdc, dma, FIELD_CONFIG),
    FIELD(struct isa_fdc, ready, FIELD_HOST),
    FIELD(struct isa_fdc, has_dma, FIELD_CONFIG),
};

FIELD_SET(isa_fdc_fields, "isa-fdc", struct isa_fdc, isa_fdc_list, 1);

static const struct field floppy_list[] = {
    FIELD(struct floppy_dev, dev, FIELD_HOST),
    FIELD(struct floppy_dev, fdd, FIELD_GUEST, .sub = &fdd_fields),
    FIELD(struct floppy_dev, drive_id, FIELD_HOST),
    FIELD(struct floppy_dev, type, FIELD_HOST),
    FIELD(struct floppy_dev, werror, FIELD_HOST),
    FIELD(struct floppy_dev, rerror, FIELD_HOST),
    FIELD(struct floppy_dev, unit, FIELD_CONFIG),
    FIELD(struct floppy_dev, bootindex, FIELD_HOST),
    FIELD(struct floppy_dev, share, FIELD_HOST),
    FIELD(struct floppy_dev, attached, FIELD_HOST),
};

FIELD_SET(floppy_fields, "floppy", struct floppy_dev, floppy_list, 1);

const struct dev_type isa_fdc_type = {
    .name = "isa-fdc",
    .summary = "floppy controller",
    .spec = "82077AA",
    .bus = "isa",
    .size = sizeof(struct isa_fdc),
    .state = &isa_fdc_fields,
    .props = isa_fdc_props,
    .init = isa_fdc_init,
    .reset = isa_fdc_reset,
    .fini = isa_fdc_fini,
};

const struct dev_type floppy_type = {
    .name = "floppy",
    .summary = "floppy disk drive",
    .spec = "82077AA",
    .bus = "floppy-bus",
    .size = sizeof(struct floppy_dev),
    .state = &floppy_fields,
    .props = floppy_props,
    .init = floppy_init,
    .quiesce = floppy_quiesce,
    .resume = floppy_resume,
    .boot_name = floppy_boot_name,
    .fini = floppy_fini,
};
