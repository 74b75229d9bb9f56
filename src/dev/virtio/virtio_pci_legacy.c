/*
 * The legacy interface of transitional devices: VIRTIO 1.2 section 4.1.4.10, at ports. A queue is
 * one run of pages: descriptors, available ring, used ring at the next page (2.7.2).
 */
#include "base/bits.h"
#include "base/cleanup.h"
#include "dev/virtio/virtio_pci.h"

enum {
    HOST_FEATURES = 0x00,
    GUEST_FEATURES = 0x04,
    QUEUE_PFN = 0x08,
    QUEUE_NUM = 0x0c,
    QUEUE_SEL = 0x0e,
    QUEUE_NOTIFY = 0x10,
    STATUS = 0x12,
    ISR = 0x13,
    CONFIG_VECTOR = 0x14,
    QUEUE_VECTOR = 0x16,
    PAGE = 4096,
};

/* With MSI-X on, two registers come before the device's own. */
static unsigned config_start(struct virtio_pci *p)
{
    return pci_msix_on(&p->pci) ? 0x18 : 0x14;
}

static struct vq *selected(struct virtio_pci *p)
{
    struct virtio *v = p->bus.vdev;
    return p->legacy_sel < v->queues ? &v->queue[p->legacy_sel] : NULL;
}

static uint64_t legacy_reg_read(struct virtio_pci *p, unsigned off)
{
    struct virtio *v = p->bus.vdev;
    struct vq *vq = selected(p);
    switch (off) {
    case HOST_FEATURES: return (uint32_t)v->offered;
    case GUEST_FEATURES: return (uint32_t)v->accepted;
    case QUEUE_PFN: return vq && vq->ready ? vq->desc / PAGE : 0;
    case QUEUE_NUM: return vq ? vq->max : 0;
    case QUEUE_SEL: return p->legacy_sel;
    case STATUS: return v->status;
    case ISR: return virtio_pci_take_isr(p);
    case CONFIG_VECTOR: return p->config_vector;
    case QUEUE_VECTOR: return vq ? p->queue_vector[p->legacy_sel] : VIRTIO_NO_VECTOR;
    default: return 0;
    }
}

static void legacy_queue_pfn(struct virtio_pci *p, struct vq *vq, uint32_t pfn)
{
    if (!pfn) {
        virtio_queue_ready(p->bus.vdev, p->legacy_sel, false);
        return;
    }
    if (vq->ready) {
        return;
    }
    vq->size = vq->max;
    vq->desc = (gpa_t)pfn * PAGE;
    vq->avail = vq->desc + 16ull * vq->size;
    vq->used = round_up(vq->avail + 6 + 2ull * vq->size, PAGE);
    virtio_queue_ready(p->bus.vdev, p->legacy_sel, true);
}

static void legacy_reg_write(struct virtio_pci *p, unsigned off, uint32_t val)
{
    struct virtio *v = p->bus.vdev;
    struct vq *vq = selected(p);
    switch (off) {
    case GUEST_FEATURES: v->accepted = val & v->offered; break;
    case QUEUE_PFN:
        if (vq) {
            legacy_queue_pfn(p, vq, val);
        }
        break;
    case QUEUE_SEL: p->legacy_sel = (uint16_t)val; break;
    case STATUS:
        virtio_set_status(v, (uint8_t)val);
        v->legacy = val != 0;
        break;
    case CONFIG_VECTOR: virtio_pci_set_vector(p, &p->config_vector, (uint16_t)val); break;
    case QUEUE_VECTOR:
        if (vq) {
            virtio_pci_set_vector(p, &p->queue_vector[p->legacy_sel], (uint16_t)val);
        }
        break;
    }
}

static enum mem_result legacy_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct virtio_pci *p = opaque;
    struct virtio *v = p->bus.vdev;
    AUTO_LOCK(&v->lock);
    unsigned config = config_start(p);
    *val = off >= config ? virtio_config_read(v, off - config, size)
                         : legacy_reg_read(p, (unsigned)off);
    return MEM_OK;
}

static enum mem_result legacy_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct virtio_pci *p = opaque;
    struct virtio *v = p->bus.vdev;
    if (off == QUEUE_NOTIFY) {
        if (val < v->queues) {
            v->type->kick(v, (unsigned)val);
        }
        return MEM_OK;
    }
    AUTO_LOCK(&v->lock);
    unsigned config = config_start(p);
    if (off >= config) {
        virtio_config_write(v, off - config, size, val);
    } else {
        legacy_reg_write(p, (unsigned)off, (uint32_t)val);
    }
    return MEM_OK;
}

const struct mmio virtio_pci_legacy_regs = {legacy_read, legacy_write, 1, 4};
