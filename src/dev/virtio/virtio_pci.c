/*
 * The PCI transport: VIRTIO 1.2 section 4.1. BAR 4 has the modern registers, BAR 1 the MSI-X table,
 * BAR 0 the legacy ports. Does not do: the PCI configuration access capability, shared memory.
 */
#include "dev/virtio/virtio_pci.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/virtio/virtio_devices.h"
#include "state/field.h"

enum {
    COMMON = 0,
    ISR = 0x1000,
    DEVICE = 0x2000,
    NOTIFY = 0x3000,
    PART = 0x1000,
    NOTIFY_STEP = 4,
    LEGACY_BAR = 0,
    CAP_COMMON = 1,
    CAP_NOTIFY,
    CAP_ISR,
    CAP_DEVICE,
    CAP_LEN = 16,
    CAP_NOTIFY_LEN = 20,
    MODERN_ID = 0x1040,
    MSIX_PBA = 0x800,
};

/* Common configuration structure, 4.1.4.3. */
enum {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_MSIX_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    DEVICE_STATUS = 0x14,
    CONFIG_GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_MSIX_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
    COMMON_END = 0x38,
};

/* ---- Interrupts ---- */

static void virtio_pci_interrupt(struct virtio_bus *bus, int event)
{
    struct virtio_pci *p = container_of(bus, struct virtio_pci, bus);
    if (!pci_msix_on(&p->pci)) {
        pci_irq_set(&p->pci, bus->vdev->isr != 0);
        return;
    }
    pci_irq_set(&p->pci, false);
    if (event != VIRTIO_NO_EVENT) {
        pci_msix_notify(&p->pci,
                        event == VIRTIO_CONFIG_EVENT ? p->config_vector : p->queue_vector[event]);
    }
}

uint16_t virtio_pci_set_vector(struct virtio_pci *p, uint16_t *to, uint16_t vector)
{
    *to = vector < p->pci.msix.count ? vector : VIRTIO_NO_VECTOR;
    return *to;
}

uint8_t virtio_pci_take_isr(struct virtio_pci *p)
{
    struct virtio *v = p->bus.vdev;
    uint8_t isr = v->isr;
    v->isr = 0;
    pci_irq_set(&p->pci, false);
    return isr;
}

/* ---- Common configuration ---- */

static uint32_t half(uint64_t v, uint32_t sel)
{
    return sel < 2 ? (uint32_t)(v >> sel * 32) : 0;
}

static uint64_t queue_read(const struct virtio_pci *p, unsigned off)
{
    const struct virtio *v = p->bus.vdev;
    if (p->queue_sel >= v->queues) {
        return 0;
    }
    const struct vq *vq = &v->queue[p->queue_sel];
    switch (off) {
    case QUEUE_SIZE: return vq->size ? vq->size : vq->max;
    case QUEUE_MSIX_VECTOR: return p->queue_vector[p->queue_sel];
    case QUEUE_ENABLE: return vq->ready;
    case QUEUE_NOTIFY_OFF: return p->queue_sel;
    case QUEUE_DESC: return vq->desc;
    case QUEUE_DESC + 4: return vq->desc >> 32;
    case QUEUE_DRIVER: return vq->avail;
    case QUEUE_DRIVER + 4: return vq->avail >> 32;
    case QUEUE_DEVICE: return vq->used;
    case QUEUE_DEVICE + 4: return vq->used >> 32;
    }
    return 0;
}

static uint64_t common_read(const struct virtio_pci *p, unsigned off)
{
    const struct virtio *v = p->bus.vdev;
    switch (off) {
    case DEVICE_FEATURE_SELECT: return p->device_features_sel;
    case DEVICE_FEATURE: return half(v->offered, p->device_features_sel);
    case DRIVER_FEATURE_SELECT: return p->driver_features_sel;
    case DRIVER_FEATURE: return half(v->accepted, p->driver_features_sel);
    case CONFIG_MSIX_VECTOR: return p->config_vector;
    case NUM_QUEUES: return v->queues;
    case DEVICE_STATUS: return v->status;
    case CONFIG_GENERATION: return v->config_generation & 0xff;
    case QUEUE_SELECT: return p->queue_sel;
    default: return queue_read(p, off);
    }
}

static void put_half(uint64_t *to, unsigned off, uint64_t val, unsigned size)
{
    unsigned shift = off & 4 ? 32 : 0;
    *to = size == 8 ? val : (*to & ~(0xffffffffull << shift)) | (val & 0xffffffff) << shift;
}

static void queue_write(struct virtio_pci *p, unsigned off, unsigned size, uint64_t val)
{
    struct virtio *v = p->bus.vdev;
    if (p->queue_sel >= v->queues) {
        return;
    }
    struct vq *vq = &v->queue[p->queue_sel];
    if (off == QUEUE_MSIX_VECTOR) {
        virtio_pci_set_vector(p, &p->queue_vector[p->queue_sel], (uint16_t)val);
    } else if (off == QUEUE_ENABLE && val & 1) {
        vq->size = vq->size ? vq->size : vq->max;
        virtio_queue_ready(v, p->queue_sel, true);
    }
    if (vq->ready) {
        return;
    }
    switch (off & ~4u) { /* the halves of addresses */
    case QUEUE_SIZE: vq->size = val <= vq->max ? (uint16_t)val : 0; break;
    case QUEUE_DESC: put_half(&vq->desc, off, val, size); break;
    case QUEUE_DRIVER: put_half(&vq->avail, off, val, size); break;
    case QUEUE_DEVICE: put_half(&vq->used, off, val, size); break;
    }
}

static void virtio_pci_status(struct virtio_pci *p, uint8_t status)
{
    virtio_set_status(p->bus.vdev, status);
    if (!status) {
        p->config_vector = VIRTIO_NO_VECTOR;
        memset(p->queue_vector, 0xff, sizeof(p->queue_vector));
    }
}

static void common_write(struct virtio_pci *p, unsigned off, unsigned size, uint64_t val)
{
    struct virtio *v = p->bus.vdev;
    switch (off) {
    case DEVICE_FEATURE_SELECT: p->device_features_sel = (uint32_t)val; break;
    case DRIVER_FEATURE_SELECT: p->driver_features_sel = (uint32_t)val; break;
    case DRIVER_FEATURE:
        if (p->driver_features_sel < 2 && !(v->status & VIRTIO_STATUS_FEATURES_OK)) {
            put_half(&v->accepted, p->driver_features_sel * 4, val, 4);
        }
        break;
    case CONFIG_MSIX_VECTOR: virtio_pci_set_vector(p, &p->config_vector, (uint16_t)val); break;
    case DEVICE_STATUS: virtio_pci_status(p, (uint8_t)val); break;
    case QUEUE_SELECT: p->queue_sel = (uint16_t)val; break;
    default: queue_write(p, off, size, val);
    }
}

/* ---- The BAR ---- */

static enum mem_result modern_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct virtio_pci *p = opaque;
    struct virtio *v = p->bus.vdev;
    AUTO_LOCK(&v->lock);
    *val = 0;
    if (off < ISR) {
        *val = off < COMMON_END ? common_read(p, (unsigned)off) : 0;
    } else if (off < DEVICE) {
        *val = off == ISR ? virtio_pci_take_isr(p) : 0;
    } else if (off < NOTIFY) {
        *val = virtio_config_read(v, off - DEVICE, size);
    }
    return MEM_OK;
}

static enum mem_result modern_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct virtio_pci *p = opaque;
    struct virtio *v = p->bus.vdev;
    if (off >= NOTIFY) {
        uint64_t n = (off - NOTIFY) / NOTIFY_STEP;
        if (n < v->queues) {
            v->type->kick(v, (unsigned)n);
        }
        return MEM_OK;
    }
    AUTO_LOCK(&v->lock);
    if (off < COMMON_END) {
        common_write(p, (unsigned)off, size, val);
    } else if (off >= DEVICE) {
        virtio_config_write(v, off - DEVICE, size, val);
    }
    return MEM_OK;
}

static const struct mmio modern_regs = {modern_read, modern_write, 1, 4};

/*
 * Where things are. Beside a VGA's registers, which take the first part of the BAR, the common
 * ones and the interrupt status share a part.
 */
static const struct virtio_pci_layout {
    unsigned modern_bar, msix_bar;
    uint32_t first;    /* of the BAR: common configuration */
    uint32_t isr, len; /* where the status is, and how much of the BAR these two have */
} plain_layout = {4, 1, COMMON, ISR, PART}, vga_layout = {2, 4, PART, PART + PART / 2, PART / 2};

static uint64_t from_shared(uint64_t off)
{
    off += PART;
    return off >= DEVICE ? off : off < vga_layout.isr ? off - PART : off - vga_layout.isr + ISR;
}

static enum mem_result shared_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    return modern_read(opaque, from_shared(off), size, val);
}

static enum mem_result shared_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    return modern_write(opaque, from_shared(off), size, val);
}

static const struct mmio shared_regs = {shared_read, shared_write, 1, 4};

struct virtio_pci_cap {
    uint8_t type, len;
    uint32_t off, size; /* in the BAR */
};

static void add_cap(struct virtio_pci *p, unsigned bar, const struct virtio_pci_cap *cap)
{
    unsigned at = pci_cap_add(&p->pci, PCI_CAP_VENDOR, cap->len);
    uint8_t *c = p->pci.config + at;
    c[2] = cap->len;
    c[3] = cap->type;
    c[4] = (uint8_t)bar;
    store_le32(c + 8, cap->off);
    store_le32(c + 12, cap->size);
    if (cap->len == CAP_NOTIFY_LEN) {
        store_le32(c + 16, NOTIFY_STEP);
    }
}

/* ---- The devices ---- */

/* What transitional devices are called (4.1.2.1), and the class that goes with the kind. */
static const struct virtio_pci_kind {
    const char *type;
    uint16_t legacy_id, id; /* legacy_id 0: there never was a legacy interface */
    uint32_t class_code;
    unsigned vectors; /* 0: one for each queue, and one */
    const struct virtio_pci_layout *layout;
} kinds[] = {
    {"virtio-blk-pci", 0x1001, 2, 0x010000, 0, &plain_layout},
    {"virtio-balloon-pci", 0x1002, 5, 0x00ff00, 0, &plain_layout},
    {"virtio-serial-pci", 0x1003, 3, 0x078000, 2, &plain_layout},
    {"virtio-scsi-pci", 0x1004, 8, 0x010000, 0, &plain_layout},
    {"virtio-rng-pci", 0x1005, 4, 0x00ff00, 0, &plain_layout},
    {"virtio-gpu-pci", 0, 16, 0x038000, 0, &plain_layout},
    {"virtio-vga", 0, 16, 0x030000, 0, &vga_layout},
};

static const struct virtio_pci_kind *virtio_pci_find(const char *type)
{
    size_t i = 0;
    while (strcmp(kinds[i].type, type)) {
        i++;
    }
    return &kinds[i];
}

static void virtio_pci_add_modern(struct virtio_pci *p, const struct virtio_pci_layout *l)
{
    const struct virtio_pci_cap caps[] = {{CAP_COMMON, CAP_LEN, l->first, l->len},
                                          {CAP_ISR, CAP_LEN, l->isr, l->len},
                                          {CAP_DEVICE, CAP_LEN, DEVICE, PART},
                                          {CAP_NOTIFY, CAP_NOTIFY_LEN, NOTIFY, PART}};
    pci_bar_add(&p->pci, l->modern_bar, PCI_BAR_MEM64 | PCI_BAR_PREFETCH, 4 * PART);
    pci_bar_put_mmio(&p->pci, l->modern_bar, l->first, 4 * PART - l->first,
                     l->first ? &shared_regs : &modern_regs, p);
    for (unsigned i = 0; i < ARRAY_LEN(caps); i++) {
        add_cap(p, l->modern_bar, &caps[i]);
    }
}

static void virtio_pci_add_bars(struct virtio_pci *p, const struct virtio_pci_layout *l,
                                bool legacy)
{
    if (legacy) {
        pci_bar_add_mmio(&p->pci, LEGACY_BAR, PCI_BAR_IO, VIRTIO_PCI_LEGACY_SIZE,
                         &virtio_pci_legacy_regs, p);
    }
    pci_bar_add(&p->pci, l->msix_bar, PCI_BAR_MEM32, 4096);
    pci_msix_add(&p->pci, p->vectors, l->msix_bar, 0, MSIX_PBA);
    if (!p->disable_modern) {
        virtio_pci_add_modern(p, l);
    }
    pci_express_add(&p->pci);
}

/* Whether there is a legacy interface; an error if there would be none at all. */
static int virtio_pci_choose(const struct virtio_pci *p, const struct virtio_pci_kind *k,
                             bool express, bool *legacy, struct err *err)
{
    bool off = !strcmp(p->disable_legacy, "off");
    if (!k->legacy_id && (off || p->disable_modern)) {
        return err_set(err, EINVAL, "%s: it has no legacy interface", k->type);
    }
    *legacy = k->legacy_id && (!strcmp(p->disable_legacy, "auto") ? !express : off);
    if (!*legacy && p->disable_modern) {
        return err_set(err, EINVAL, "%s: disable-legacy=on and disable-modern=on leave nothing",
                       k->type);
    }
    return 0;
}

int virtio_pci_init(struct dev *dev, struct err *err)
{
    struct virtio_pci *p = container_of(dev, struct virtio_pci, dev);
    const struct virtio_pci_kind *k = virtio_pci_find(dev->type->name);
    struct pci_bus *on = dev->bus->owner;
    bool legacy = false;
    int ret = virtio_pci_choose(p, k, on->express, &legacy, err);
    if (ret) {
        return ret;
    }
    struct pci_ids ids = {.vendor = 0x1af4,
                          .device = legacy ? k->legacy_id : (uint16_t)(MODERN_ID + k->id),
                          .subvendor = 0x1af4,
                          .subdevice = legacy ? k->id : 0x1100,
                          .class_code = k->class_code,
                          .revision = !legacy,
                          .interrupt_pin = 1};
    ret = pci_func_init(&p->pci, dev, &ids, err);
    if (ret) {
        return ret;
    }
    char id[32];
    snprintf(id, sizeof(id), "virtio-pci-bus.%s.%02x", on->id, p->pci.devfn);
    virtio_bus_init(&p->bus, id, dev->machine->mem, virtio_pci_interrupt);
    p->bus.pci = &p->pci;
    p->bus.packed = p->packed;
    p->bus.dev_id = dev->id;
    bus_add(dev->machine, &p->bus.bus);
    keyval_add(&dev->child_args, "bus", p->bus.id);
    if (!dev_new(dev->machine, dev->type->child, &dev->child_args, err)) {
        return -EINVAL;
    }
    unsigned want = k->vectors ? k->vectors : p->bus.vdev->queues + 1;
    p->vectors = p->vectors == UINT32_MAX || p->vectors > 128 ? want : p->vectors;
    p->vectors = p->vectors ? p->vectors : 1;
    virtio_pci_add_bars(p, k->layout, legacy);
    return 0;
}

void virtio_pci_reset(struct dev *dev, enum dev_reset how)
{
    struct virtio_pci *p = container_of(dev, struct virtio_pci, dev);
    struct virtio *v = p->bus.vdev;
    virtio_reset(v);
    AUTO_LOCK(&v->lock);
    virtio_pci_status(p, 0);
    p->device_features_sel = p->driver_features_sel = 0;
    p->queue_sel = p->legacy_sel = 0;
    pci_func_reset(&p->pci);
}

void virtio_pci_fini(struct dev *dev)
{
    struct virtio_pci *p = container_of(dev, struct virtio_pci, dev);
    pci_func_fini(&p->pci);
}

const char *const virtio_pci_on_off_auto[] = {"on", "off", "auto", NULL};

static const struct prop virtio_pci_props[] = {VIRTIO_PCI_PROPS, {0}};

/* ---- State ---- */

static const struct field virtio_pci_list[] = {
    FIELD(struct virtio_pci, dev, FIELD_HOST),
    FIELD(struct virtio_pci, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct virtio_pci, bus, FIELD_HOST),
    FIELD(struct virtio_pci, disable_legacy, FIELD_HOST),
    FIELD(struct virtio_pci, disable_modern, FIELD_CONFIG),
    FIELD(struct virtio_pci, packed, FIELD_CONFIG),
    FIELD(struct virtio_pci, vectors, FIELD_CONFIG),
    FIELD(struct virtio_pci, device_features_sel, FIELD_GUEST),
    FIELD(struct virtio_pci, driver_features_sel, FIELD_GUEST),
    FIELD(struct virtio_pci, queue_sel, FIELD_GUEST),
    FIELD(struct virtio_pci, config_vector, FIELD_GUEST),
    FIELD_ARRAY(struct virtio_pci, queue_vector, FIELD_GUEST),
    FIELD(struct virtio_pci, legacy_sel, FIELD_GUEST),
};

FIELD_SET_SHARED(virtio_pci_fields, "virtio-pci", struct virtio_pci, virtio_pci_list, 1);

#define VIRTIO_PCI(symbol, type, other, what, made)                                                \
    const struct dev_type symbol = {.name = type,                                                  \
                                    .alias = other,                                                \
                                    .summary = what,                                               \
                                    .spec = "VIRTIO 1.2",                                          \
                                    .bus = "PCI",                                                  \
                                    .size = sizeof(struct virtio_pci),                             \
                                    .state = &virtio_pci_fields,                                   \
                                    .props = virtio_pci_props,                                     \
                                    .child = made,                                                 \
                                    .init = virtio_pci_init,                                       \
                                    .reset = virtio_pci_reset,                                     \
                                    .fini = virtio_pci_fini}

VIRTIO_PCI(virtio_blk_pci_type, "virtio-blk-pci", "virtio-blk", "disk", &virtio_blk_type);
VIRTIO_PCI(virtio_rng_pci_type, "virtio-rng-pci", "virtio-rng", "random numbers", &virtio_rng_type);
VIRTIO_PCI(virtio_scsi_pci_type, "virtio-scsi-pci", "virtio-scsi", "SCSI host adapter",
           &virtio_scsi_type);
VIRTIO_PCI(virtio_serial_pci_type, "virtio-serial-pci", "virtio-serial",
           "console device with ports", &virtio_serial_type);
VIRTIO_PCI(virtio_balloon_pci_type, "virtio-balloon-pci", "virtio-balloon",
           "gives memory back to the host", &virtio_balloon_type);
VIRTIO_PCI(virtio_gpu_pci_type, "virtio-gpu-pci", "virtio-gpu", "graphics without acceleration",
           &virtio_gpu_type);
