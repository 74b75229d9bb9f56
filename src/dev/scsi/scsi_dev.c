/*
 * Devices "scsi-hd" and "scsi-cd": what options say becomes a logical unit on its bus.
 *
 * Does not do: logical blocks of other than 512 bytes, passing commands to the host's devices,
 * discard granularities.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "core/machine.h"
#include "dev/pci/pci.h"
#include "dev/scsi/scsi_bus.h"
#include "state/field.h"

enum { BLOCK = 512, MAX_PHYSICAL = 32768 };

#define NOT_GIVEN "4294967295"
#define SCSI_COMMON_PROPS                                                                          \
    {"drive", PROP_TEXT, offsetof(struct scsi_dev, drive_id), NULL, "id of the -drive"},           \
        {"channel", PROP_U32, offsetof(struct scsi_dev, at.channel), "0", "channel of the bus"},   \
        {"scsi-id", PROP_U32, offsetof(struct scsi_dev, at.target), NOT_GIVEN,                     \
         "target; preset: the first free one"},                                                    \
        {"lun", PROP_U32, offsetof(struct scsi_dev, at.lun), NOT_GIVEN,                            \
         "logical unit; preset: 0, or the first free one of the target"},                          \
        {"bootindex", PROP_U32, offsetof(struct scsi_dev, bootindex), NOT_GIVEN,                   \
         "place in the order of booting"},                                                         \
        {"serial", PROP_TEXT, offsetof(struct scsi_dev, serial), NULL, "serial number"},           \
        {"vendor", PROP_TEXT, offsetof(struct scsi_dev, vendor), NULL, "vendor, 8 characters"},    \
        {"product", PROP_TEXT, offsetof(struct scsi_dev, product), NULL, "product, 16"},           \
        {"ver", PROP_TEXT, offsetof(struct scsi_dev, version), NULL, "revision, 4 characters"},    \
        {"wwn", PROP_U64, offsetof(struct scsi_dev, wwn), "0", "world wide name"},                 \
        {"share-rw", PROP_BOOL, offsetof(struct scsi_dev, share), NULL,                            \
         "other devices may have the same drive"},                                                 \
        {"werror",                                                                                 \
         PROP_TEXT,                                                                                \
         offsetof(struct scsi_dev, werror),                                                        \
         NULL,                                                                                     \
         "report, ignore, stop, or enospc: stop when the host's disk is full",                     \
         on_error_names},                                                                          \
        {"rerror",      PROP_TEXT, offsetof(struct scsi_dev, rerror), NULL, "the same for reads",  \
         on_error_names},                                                                          \
        {"logical_block_size", PROP_U32, offsetof(struct scsi_dev, logical_block), "0",            \
         "bytes: 512 (2048 for a CD) or nothing"},                                                 \
    {                                                                                              \
        "physical_block_size", PROP_U32, offsetof(struct scsi_dev, physical_block), "0",           \
            "bytes, a power of two"                                                                \
    }

static const struct prop hd_props[] = {
    SCSI_COMMON_PROPS,
    {"removable", PROP_BOOL, offsetof(struct scsi_dev, removable), "off", "it says it is"},
    {"dpofua", PROP_BOOL, offsetof(struct scsi_dev, dpofua), "on", "taken; FUA always works"},
    {"rotation_rate", PROP_U32, offsetof(struct scsi_dev, rotation_rate), "0",
     "turns a minute; 1: none; 0: not told"},
    {0},
};

static const struct prop cd_props[] = {SCSI_COMMON_PROPS, {0}};

static struct scsi_bus *scsi_bus_of(const struct scsi_dev *d)
{
    return d->dev.bus->owner;
}

/* ---- Addresses ---- */

static int scsi_check_addr(const struct scsi_dev *d, const struct scsi_addr *at, struct err *err)
{
    const struct scsi_bus *b = scsi_bus_of(d);
    const char *name = d->dev.type->name;
    if (at->channel > b->max_channel || at->target > b->max_target || at->lun > b->max_lun) {
        return err_set(err, EINVAL,
                       "%s: bus '%s' has no free address like that; its channels go to %u, scsi-id "
                       "to %u, lun to %u",
                       name, b->id, b->max_channel, b->max_target, b->max_lun);
    }
    if (scsi_bus_find(b, at)) {
        return err_set(err, EBUSY, "%s: scsi-id %u, lun %u of bus '%s' is in use", name, at->target,
                       at->lun, b->id);
    }
    return 0;
}

/* What is not given is the first free one. Lock held. */
static void scsi_pick_addr(const struct scsi_dev *d, struct scsi_addr *at)
{
    const struct scsi_bus *b = scsi_bus_of(d);
    bool any_target = at->target == UINT32_MAX, any_lun = at->lun == UINT32_MAX;
    at->target = any_target ? 0 : at->target;
    at->lun = any_lun ? 0 : at->lun;
    while (any_target && at->target <= b->max_target && scsi_bus_find(b, at)) {
        at->target++;
    }
    while (!any_target && any_lun && at->lun <= b->max_lun && scsi_bus_find(b, at)) {
        at->lun++;
    }
}

static int scsi_take_addr(struct scsi_dev *d, struct err *err)
{
    struct scsi_bus *b = scsi_bus_of(d);
    struct scsi_addr at = d->at;
    AUTO_LOCK(b->lock);
    scsi_pick_addr(d, &at);
    int ret = scsi_check_addr(d, &at, err);
    if (ret) {
        return ret;
    }
    struct scsi_dev **end = &b->first;
    while (*end) {
        end = &(*end)->next;
    }
    d->at = at;
    d->linked = true;
    *end = d;
    return 0;
}

/* ---- Life ---- */

static int scsi_check_props(const struct scsi_dev *d, bool cd, struct err *err)
{
    const char *name = d->dev.type->name;
    uint32_t physical = d->physical_block, block = cd ? 2048 : BLOCK;
    if (!cd && !d->drive_id) {
        return err_set(err, EINVAL, "%s: needs drive=ID", name);
    }
    if (d->logical_block && d->logical_block != block) {
        return err_set(err, EINVAL, "%s: logical_block_size is %u, not %u", name, block,
                       d->logical_block);
    }
    if (physical && (physical & (physical - 1) || physical < block || physical > MAX_PHYSICAL)) {
        return err_set(err, EINVAL,
                       "%s: physical_block_size %u is no power of two between %u and %u", name,
                       physical, block, MAX_PHYSICAL);
    }
    if (d->rotation_rate > 0xffff) {
        return err_set(err, EINVAL, "%s: rotation_rate is at most 65535", name);
    }
    return 0;
}

static void scsi_fill_lu(struct scsi_dev *d, bool cd)
{
    struct scsi_lu *lu = &d->lu;
    scsi_lu_init(lu, cd ? &scsi_cd_type : &scsi_disk_type, &d->disk);
    lu->vendor = d->vendor;
    lu->product = d->product ? d->product : cd ? "CD-ROM" : NULL;
    lu->revision = d->version;
    lu->serial = d->serial;
    lu->wwn = d->wwn;
    lu->rotation_rate = (uint16_t)d->rotation_rate;
    lu->removable = d->removable;
    while (!cd && d->physical_block > (uint32_t)BLOCK << lu->physical_exp) {
        lu->physical_exp++;
    }
}

static int scsi_dev_init(struct scsi_dev *d, bool cd, struct err *err)
{
    struct disk_opts opts = {.owner = d->dev.type->name,
                             .drive = d->drive_id,
                             .werror = d->werror,
                             .rerror = d->rerror,
                             .share = d->share,
                             .readonly = cd};
    disk_init(&d->disk, &d->dev, NULL);
    int ret = scsi_check_props(d, cd, err);
    ret = ret || !d->drive_id ? ret : disk_take(&d->disk, &opts, err);
    if (ret) {
        return ret;
    }
    scsi_fill_lu(d, cd);
    return scsi_take_addr(d, err);
}

static int scsi_hd_init(struct dev *dev, struct err *err)
{
    return scsi_dev_init(container_of(dev, struct scsi_dev, dev), false, err);
}

static int scsi_cd_init(struct dev *dev, struct err *err)
{
    return scsi_dev_init(container_of(dev, struct scsi_dev, dev), true, err);
}

static void scsi_dev_quiesce(struct dev *dev)
{
    disk_quiesce(&container_of(dev, struct scsi_dev, dev)->disk);
}

static void scsi_dev_resume(struct dev *dev)
{
    disk_resume(&container_of(dev, struct scsi_dev, dev)->disk);
}

/* From here on no command finds it; those that run are waited for. */
static void scsi_unlink(struct scsi_dev *d)
{
    struct scsi_bus *b = scsi_bus_of(d);
    AUTO_LOCK(b->lock);
    struct scsi_dev **at = &b->first;
    while (*at != d) {
        at = &(*at)->next;
    }
    *at = d->next;
    d->linked = false;
}

static void scsi_dev_fini(struct dev *dev)
{
    struct scsi_dev *d = container_of(dev, struct scsi_dev, dev);
    if (d->linked) {
        scsi_unlink(d);
    }
    if (d->disk.dev) { /* else its options were wrong: init() never came */
        disk_fini(&d->disk);
    }
}

static void scsi_dev_boot_name(const struct dev *dev, struct strbuf *sb)
{
    const struct scsi_dev *d = container_of(dev, struct scsi_dev, dev);
    const struct scsi_bus *b = scsi_bus_of(d);
    if (b->pci) {
        pci_boot_name(b->pci, sb);
        strbuf_add(sb, "/channel@%x/disk@%x,%x", d->at.channel, d->at.target, d->at.lun);
    }
}

/* ---- State ---- */

static const struct field scsi_dev_list[] = {
    FIELD(struct scsi_dev, dev, FIELD_HOST),
    FIELD(struct scsi_dev, disk, FIELD_HOST),
    FIELD(struct scsi_dev, lu, FIELD_GUEST, .sub = &scsi_lu_fields),
    FIELD(struct scsi_dev, at.channel, FIELD_CONFIG),
    FIELD(struct scsi_dev, at.target, FIELD_CONFIG),
    FIELD(struct scsi_dev, at.lun, FIELD_CONFIG),
    FIELD(struct scsi_dev, next, FIELD_HOST),
    FIELD(struct scsi_dev, linked, FIELD_HOST),
    FIELD(struct scsi_dev, drive_id, FIELD_HOST),
    FIELD(struct scsi_dev, werror, FIELD_HOST),
    FIELD(struct scsi_dev, rerror, FIELD_HOST),
    FIELD(struct scsi_dev, serial, FIELD_HOST),
    FIELD(struct scsi_dev, vendor, FIELD_HOST),
    FIELD(struct scsi_dev, product, FIELD_HOST),
    FIELD(struct scsi_dev, version, FIELD_HOST),
    FIELD(struct scsi_dev, wwn, FIELD_CONFIG),
    FIELD(struct scsi_dev, bootindex, FIELD_HOST),
    FIELD(struct scsi_dev, logical_block, FIELD_CONFIG),
    FIELD(struct scsi_dev, physical_block, FIELD_CONFIG),
    FIELD(struct scsi_dev, rotation_rate, FIELD_CONFIG),
    FIELD(struct scsi_dev, share, FIELD_HOST),
    FIELD(struct scsi_dev, removable, FIELD_CONFIG),
    FIELD(struct scsi_dev, dpofua, FIELD_CONFIG),
};

FIELD_SET(scsi_dev_fields, "scsi-device", struct scsi_dev, scsi_dev_list, 1);

const struct dev_type scsi_hd_type = {
    .name = "scsi-hd",
    .summary = "SCSI disk",
    .spec = "SBC-3",
    .bus = "SCSI",
    .size = sizeof(struct scsi_dev),
    .state = &scsi_dev_fields,
    .props = hd_props,
    .init = scsi_hd_init,
    .quiesce = scsi_dev_quiesce,
    .resume = scsi_dev_resume,
    .boot_name = scsi_dev_boot_name,
    .fini = scsi_dev_fini,
};

const struct dev_type scsi_cd_dev_type = {
    .name = "scsi-cd",
    .summary = "SCSI CD and DVD drive",
    .spec = "MMC-6",
    .bus = "SCSI",
    .size = sizeof(struct scsi_dev),
    .state = &scsi_dev_fields,
    .props = cd_props,
    .init = scsi_cd_init,
    .quiesce = scsi_dev_quiesce,
    .resume = scsi_dev_resume,
    .boot_name = scsi_dev_boot_name,
    .fini = scsi_dev_fini,
};
