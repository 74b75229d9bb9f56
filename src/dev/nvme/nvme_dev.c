/*
 * "nvme": the controller as a PCI device, 1b36:0010. Registers, doorbells and the MSI-X table are
 * in BAR 0. Does not do: several namespaces (nvme-ns), MSI without X.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "core/machine.h"
#include "dev/nvme/nvme_internal.h"
#include "dev/pci/pci.h"
#include "state/field.h"

enum { BAR_BYTES = 0x4000, MSIX_TABLE = 0x2000, MSIX_PBA = 0x3000 };

struct nvme_dev {
    struct dev dev;
    struct pci_func pci;
    struct nvme nvme;
    /* Options. */
    char *drive_id, *serial, *werror, *rerror;
    uint32_t bootindex, max_ioqpairs, logical_block;
    bool share;
};

static const struct prop nvme_props[] = {
    PCI_PROPS(struct nvme_dev, pci),
    {"drive", PROP_TEXT, offsetof(struct nvme_dev, drive_id), NULL, "id of the -drive"},
    {"serial", PROP_TEXT, offsetof(struct nvme_dev, serial), NULL, "serial number; needed"},
    {"bootindex", PROP_U32, offsetof(struct nvme_dev, bootindex), "4294967295",
     "place in the order of booting"},
    {"max_ioqpairs", PROP_U32, offsetof(struct nvme_dev, max_ioqpairs), "64",
     "pairs of I/O queues; more than 16 are 16"},
    {"logical_block_size", PROP_U32, offsetof(struct nvme_dev, logical_block), "0",
     "bytes: 512 or nothing"},
    {"share-rw", PROP_BOOL, offsetof(struct nvme_dev, share), NULL,
     "other devices may have the same drive"},
    {"werror", PROP_TEXT, offsetof(struct nvme_dev, werror), NULL,
     "report, ignore, stop, or enospc: stop when the host's disk is full", on_error_names},
    {"rerror", PROP_TEXT, offsetof(struct nvme_dev, rerror), NULL, "the same for reads",
     on_error_names},
    {0},
};

static const struct pci_ids nvme_ids = {.vendor = NVME_VENDOR,
                                        .device = 0x0010,
                                        .subvendor = 0x1af4,
                                        .subdevice = 0x1100,
                                        .class_code = 0x010802,
                                        .revision = 2,
                                        .interrupt_pin = 1};

static struct mem_map *nvme_dev_dma(void *opaque)
{
    struct nvme_dev *d = opaque;
    return pci_dma(&d->pci);
}

static bool nvme_dev_msix(void *opaque)
{
    struct nvme_dev *d = opaque;
    return pci_msix_on(&d->pci);
}

static void nvme_dev_notify(void *opaque, unsigned vector)
{
    struct nvme_dev *d = opaque;
    pci_msix_notify(&d->pci, vector);
}

static void nvme_dev_line(void *opaque, bool level)
{
    struct nvme_dev *d = opaque;
    pci_irq_set(&d->pci, level);
}

static const struct nvme_wires nvme_dev_wires = {nvme_dev_dma, nvme_dev_msix, nvme_dev_notify,
                                                 nvme_dev_line};

static int nvme_check_props(const struct nvme_dev *d, struct err *err)
{
    if (!d->drive_id) {
        return err_set(err, EINVAL, "nvme: needs drive=ID");
    }
    if (!d->serial || !*d->serial || strlen(d->serial) > 20) {
        return err_set(err, EINVAL, "nvme: needs serial=TEXT of at most 20 characters");
    }
    if (!d->max_ioqpairs || d->max_ioqpairs > 65535) {
        return err_set(err, EINVAL, "nvme: max_ioqpairs is 1 to 65535, not %u", d->max_ioqpairs);
    }
    if (d->logical_block && d->logical_block != NVME_LBA) {
        return err_set(err, EINVAL, "nvme: logical_block_size is 512, not %u", d->logical_block);
    }
    return 0;
}

static int nvme_dev_init(struct dev *dev, struct err *err)
{
    struct nvme_dev *d = container_of(dev, struct nvme_dev, dev);
    struct disk_opts opts = {.owner = "nvme",
                             .drive = d->drive_id,
                             .werror = d->werror,
                             .rerror = d->rerror,
                             .share = d->share};
    unsigned queues = d->max_ioqpairs < NVME_QUEUES - 1 ? d->max_ioqpairs : NVME_QUEUES - 1;
    disk_init(&d->nvme.disk, dev, NULL);
    nvme_init(&d->nvme, &nvme_dev_wires, d, d->serial, queues);
    int ret = nvme_check_props(d, err);
    ret = ret ? ret : disk_take(&d->nvme.disk, &opts, err);
    ret = ret ? ret : pci_func_init(&d->pci, dev, &nvme_ids, err);
    if (ret) {
        return ret;
    }
    pci_bar_add(&d->pci, 0, PCI_BAR_MEM64, BAR_BYTES);
    pci_bar_put_mmio(&d->pci, 0, 0, NVME_REGS_SIZE, &nvme_regs, &d->nvme);
    pci_msix_add(&d->pci, NVME_QUEUES, 0, MSIX_TABLE, MSIX_PBA);
    pci_express_add(&d->pci);
    return 0;
}

static void nvme_dev_reset(struct dev *dev, enum dev_reset how)
{
    struct nvme_dev *d = container_of(dev, struct nvme_dev, dev);
    nvme_reset(&d->nvme);
    pci_func_reset(&d->pci);
}

static void nvme_dev_quiesce(struct dev *dev)
{
    nvme_quiesce(&container_of(dev, struct nvme_dev, dev)->nvme);
}

static void nvme_dev_resume(struct dev *dev)
{
    nvme_resume(&container_of(dev, struct nvme_dev, dev)->nvme);
}

static void nvme_dev_fini(struct dev *dev)
{
    struct nvme_dev *d = container_of(dev, struct nvme_dev, dev);
    if (!d->nvme.wires) {
        return; /* its options were wrong: init() never came */
    }
    nvme_reset(&d->nvme);
    disk_fini(&d->nvme.disk);
    nvme_fini(&d->nvme);
    pci_func_fini(&d->pci);
}

static void nvme_dev_boot_name(const struct dev *dev, struct strbuf *sb)
{
    pci_boot_name(&container_of(dev, struct nvme_dev, dev)->pci, sb);
    strbuf_add(sb, "/namespace@1,0");
}

/* ---- State ---- */

static const struct field nvme_dev_list[] = {
    FIELD(struct nvme_dev, dev, FIELD_HOST),
    FIELD(struct nvme_dev, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct nvme_dev, nvme, FIELD_GUEST, .sub = &nvme_fields),
    FIELD(struct nvme_dev, drive_id, FIELD_HOST),
    FIELD(struct nvme_dev, serial, FIELD_HOST),
    FIELD(struct nvme_dev, werror, FIELD_HOST),
    FIELD(struct nvme_dev, rerror, FIELD_HOST),
    FIELD(struct nvme_dev, bootindex, FIELD_HOST),
    FIELD(struct nvme_dev, max_ioqpairs, FIELD_CONFIG),
    FIELD(struct nvme_dev, logical_block, FIELD_CONFIG),
    FIELD(struct nvme_dev, share, FIELD_HOST),
};

FIELD_SET(nvme_dev_fields, "nvme", struct nvme_dev, nvme_dev_list, 1);

const struct dev_type nvme_type = {
    .name = "nvme",
    .summary = "NVM Express disk",
    .spec = "NVMe 1.4",
    .bus = "PCI",
    .size = sizeof(struct nvme_dev),
    .state = &nvme_dev_fields,
    .props = nvme_props,
    .init = nvme_dev_init,
    .reset = nvme_dev_reset,
    .quiesce = nvme_dev_quiesce,
    .resume = nvme_dev_resume,
    .boot_name = nvme_dev_boot_name,
    .fini = nvme_dev_fini,
};
