/*
 * Devices "ide-hd" and "ide-cd": what options say becomes a drive (ata.h) on its bus.
 *
 * Does not do: bios-chs-trans and the lcyls family (the translation is SeaBIOS's own choice),
 * logical blocks of other than 512 bytes, discard granularities.
 */
#include "dev/ata/ide_dev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "core/machine.h"
#include "dev/pci/pci.h"
#include "state/field.h"

static const char *const auto_on_off[] = {"auto", "on", "off", NULL};
static const char *const translations[] = {"auto", "none", "lba", "large", "rechs", NULL};

#define UNIT_NEXT UINT32_MAX
#define IDE_COMMON_PROPS                                                                           \
    {"drive", PROP_TEXT, offsetof(struct ide_dev, drive_id), NULL, "id of the -drive"},            \
        {"unit", PROP_U32, offsetof(struct ide_dev, unit), "4294967295",                           \
         "0 or 1 on its bus; preset: the next free one"},                                          \
        {"bootindex", PROP_U32, offsetof(struct ide_dev, bootindex), "4294967295",                 \
         "place in the order of booting"},                                                         \
        {"serial", PROP_TEXT, offsetof(struct ide_dev, ident.serial), NULL, "serial number"},      \
        {"model", PROP_TEXT, offsetof(struct ide_dev, ident.model), NULL, "model name"},           \
        {"ver", PROP_TEXT, offsetof(struct ide_dev, ident.version), NULL, "firmware revision"},    \
        {"wwn", PROP_U64, offsetof(struct ide_dev, ident.wwn), "0", "world wide name"},            \
        {"share-rw", PROP_BOOL, offsetof(struct ide_dev, share), NULL,                             \
         "other devices may have the same drive"},                                                 \
        {"werror",                                                                                 \
         PROP_TEXT,                                                                                \
         offsetof(struct ide_dev, werror),                                                         \
         NULL,                                                                                     \
         "report, ignore, stop, or enospc: stop when the host's disk is full",                     \
         on_error_names},                                                                          \
        {"rerror",      PROP_TEXT, offsetof(struct ide_dev, rerror), NULL, "the same for reads",   \
         on_error_names},                                                                          \
        {"write-cache",                                                                            \
         PROP_TEXT,                                                                                \
         offsetof(struct ide_dev, write_cache),                                                    \
         "auto",                                                                                   \
         "whether the drive says it has one",                                                      \
         auto_on_off},                                                                             \
        {"logical_block_size", PROP_U32, offsetof(struct ide_dev, logical_block), "0",             \
         "bytes: 512 or nothing"},                                                                 \
    {                                                                                              \
        "physical_block_size", PROP_U32, offsetof(struct ide_dev, ident.physical_block), "0",      \
            "bytes, a power of two"                                                                \
    }

static const struct prop hd_props[] = {
    IDE_COMMON_PROPS,
    {"cyls", PROP_U32, offsetof(struct ide_dev, ident.cyls), "0", "cylinders; preset: by size"},
    {"heads", PROP_U32, offsetof(struct ide_dev, ident.heads), "0", "heads, at most 16"},
    {"secs", PROP_U32, offsetof(struct ide_dev, ident.secs), "0", "sectors a track, at most 255"},
    {"bios-chs-trans", PROP_TEXT, offsetof(struct ide_dev, chs_trans), "auto",
     "taken and not used: firmware chooses", translations},
    {"rotation_rate", PROP_U32, offsetof(struct ide_dev, ident.rotation_rate), "0",
     "turns a minute; 1: none; 0: not told"},
    {0},
};

static const struct prop cd_props[] = {IDE_COMMON_PROPS, {0}};

/* ---- Buses ---- */

static int ide_bus_attach(struct bus *bus, struct dev *dev, struct err *err)
{
    return 0; /* the device looks for its unit when it knows its options */
}

const struct bus_type ide_bus_type = {"IDE", ide_bus_attach};

void ide_bus_add(struct machine *m, struct ide_bus *bus, const char *prefix, unsigned n,
                 unsigned units, const struct ide_host *host, void *opaque, struct pci_func *pci)
{
    *bus =
        (struct ide_bus){.units = units, .number = n, .pci = pci, .host = host, .opaque = opaque};
    snprintf(bus->id, sizeof(bus->id), "%.20s.%u", prefix, n);
    bus->bus = (struct bus){.type = &ide_bus_type, .id = bus->id, .owner = bus};
    bus_add(m, &bus->bus);
}

static struct ide_bus *ide_bus_of(const struct ide_dev *d)
{
    return d->dev.bus->owner;
}

static int ide_take_unit(struct ide_dev *d, struct err *err)
{
    struct ide_bus *b = ide_bus_of(d);
    const char *name = d->dev.type->name;
    if (d->unit == UNIT_NEXT) {
        d->unit = b->unit[0] ? 1 : 0;
    }
    if (d->unit > 1 || d->unit >= b->units) {
        return err_set(err, EINVAL, "%s: bus '%s' has %u unit%s, and no free unit %u", name, b->id,
                       b->units, b->units == 1 ? "" : "s", d->unit);
    }
    if (b->unit[d->unit]) {
        return err_set(err, EBUSY, "%s: unit %u of bus '%s' is in use", name, d->unit, b->id);
    }
    b->unit[d->unit] = &d->dev;
    b->bus.full = b->unit[0] && (b->units == 1 || b->unit[1]);
    d->taken = true;
    return 0;
}

/* ---- Life ---- */

/* As published: QM00001, QM00002 in the order in which they are made. */
static void ide_preset_serial(struct ide_dev *d)
{
    unsigned n = 1;
    for (const struct dev *o = d->dev.machine->devs; o; o = o->next) {
        n += o != &d->dev && (o->type == &ide_hd_type || o->type == &ide_cd_type);
    }
    snprintf(d->serial, sizeof(d->serial), "QM%05u", n);
}

static int ide_check_props(const struct ide_dev *d, bool cd, struct err *err)
{
    const char *name = d->dev.type->name;
    const struct ata_ident *i = &d->ident;
    if (!cd && !d->drive_id) {
        return err_set(err, EINVAL, "%s: needs drive=ID", name);
    }
    if (i->heads > 16 || i->secs > 255 || i->cyls > 65535) {
        return err_set(err, EINVAL, "%s: at most 65535 cylinders, 16 heads, 255 sectors", name);
    }
    if (d->logical_block && d->logical_block != ATA_SECTOR) {
        return err_set(err, EINVAL, "%s: logical_block_size is 512, not %u", name,
                       d->logical_block);
    }
    if (i->physical_block & (i->physical_block - 1)) {
        return err_set(err, EINVAL, "%s: physical_block_size %u is no power of two", name,
                       i->physical_block);
    }
    return 0;
}

static int ide_dev_init(struct ide_dev *d, bool cd, struct err *err)
{
    struct disk_opts opts = {.owner = d->dev.type->name,
                             .drive = d->drive_id,
                             .werror = d->werror,
                             .rerror = d->rerror,
                             .share = d->share,
                             .readonly = cd};
    struct ata_ident ident = d->ident;
    disk_init(&d->drive.disk, &d->dev, NULL);
    int ret = ide_check_props(d, cd, err);
    ret = ret || !d->drive_id ? ret : disk_take(&d->drive.disk, &opts, err);
    ret = ret ? ret : ide_take_unit(d, err);
    if (ret) {
        return ret;
    }
    ide_preset_serial(d);
    ident.serial = ident.serial ? ident.serial : d->serial;
    ata_drive_init(&d->drive, cd, &ident);
    d->drive.no_write_cache = d->write_cache && !strcmp(d->write_cache, "off");
    struct ide_bus *b = ide_bus_of(d);
    b->host->attach(b, d->unit, &d->drive);
    return 0;
}

static int ide_hd_init(struct dev *dev, struct err *err)
{
    return ide_dev_init(container_of(dev, struct ide_dev, dev), false, err);
}

static int ide_cd_init(struct dev *dev, struct err *err)
{
    return ide_dev_init(container_of(dev, struct ide_dev, dev), true, err);
}

static void ide_dev_quiesce(struct dev *dev)
{
    disk_quiesce(&container_of(dev, struct ide_dev, dev)->drive.disk);
}

static void ide_dev_resume(struct dev *dev)
{
    disk_resume(&container_of(dev, struct ide_dev, dev)->drive.disk);
}

static void ide_dev_fini(struct dev *dev)
{
    struct ide_dev *d = container_of(dev, struct ide_dev, dev);
    if (!d->drive.disk.dev) {
        return; /* its options were wrong: init() never came */
    }
    disk_drain(&d->drive.disk);
    if (d->taken) {
        struct ide_bus *b = ide_bus_of(d);
        b->host->attach(b, d->unit, NULL);
        b->unit[d->unit] = NULL;
        b->bus.full = false;
    }
    disk_fini(&d->drive.disk);
}

static void ide_dev_boot_name(const struct dev *dev, struct strbuf *sb)
{
    const struct ide_dev *d = container_of(dev, struct ide_dev, dev);
    const struct ide_bus *b = ide_bus_of(d);
    if (b->pci) {
        pci_boot_name(b->pci, sb);
        strbuf_add(sb, "/drive@%x/disk@%x", b->number, d->unit);
    }
}

/* ---- Media ---- */

int ide_dev_eject(struct ide_dev *d, bool force)
{
    struct ide_bus *b = ide_bus_of(d);
    return d->drive.cd ? b->host->eject(b, &d->drive, force) : -ENOTSUP;
}

void ide_dev_insert(struct ide_dev *d, struct block *block)
{
    struct ide_bus *b = ide_bus_of(d);
    b->host->insert(b, &d->drive, block);
}

/* ---- State ---- */

static const struct field ide_dev_list[] = {
    FIELD(struct ide_dev, dev, FIELD_HOST),
    FIELD(struct ide_dev, drive, FIELD_GUEST, .sub = &ata_drive_fields),
    FIELD(struct ide_dev, ident, FIELD_HOST),
    FIELD(struct ide_dev, drive_id, FIELD_HOST),
    FIELD(struct ide_dev, werror, FIELD_HOST),
    FIELD(struct ide_dev, rerror, FIELD_HOST),
    FIELD(struct ide_dev, write_cache, FIELD_HOST),
    FIELD(struct ide_dev, chs_trans, FIELD_HOST),
    FIELD(struct ide_dev, unit, FIELD_CONFIG),
    FIELD(struct ide_dev, bootindex, FIELD_HOST),
    FIELD(struct ide_dev, logical_block, FIELD_CONFIG),
    FIELD(struct ide_dev, share, FIELD_HOST),
    FIELD(struct ide_dev, taken, FIELD_HOST),
    FIELD(struct ide_dev, serial, FIELD_HOST),
};

FIELD_SET(ide_dev_fields, "ide-device", struct ide_dev, ide_dev_list, 1);

const struct dev_type ide_hd_type = {
    .name = "ide-hd",
    .summary = "ATA disk",
    .spec = "ATA8-ACS",
    .bus = "IDE",
    .size = sizeof(struct ide_dev),
    .state = &ide_dev_fields,
    .props = hd_props,
    .init = ide_hd_init,
    .quiesce = ide_dev_quiesce,
    .resume = ide_dev_resume,
    .boot_name = ide_dev_boot_name,
    .fini = ide_dev_fini,
};

const struct dev_type ide_cd_type = {
    .name = "ide-cd",
    .summary = "ATAPI CD and DVD drive",
    .spec = "MMC-6",
    .bus = "IDE",
    .size = sizeof(struct ide_dev),
    .state = &ide_dev_fields,
    .props = cd_props,
    .init = ide_cd_init,
    .quiesce = ide_dev_quiesce,
    .resume = ide_dev_resume,
    .boot_name = ide_dev_boot_name,
    .fini = ide_dev_fini,
};
