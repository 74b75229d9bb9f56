/* Virtio over PCI: each device type here makes a virtio device of its own. */
#ifndef DEV_VIRTIO_VIRTIO_PCI_H
#define DEV_VIRTIO_VIRTIO_PCI_H

#include "dev/pci/pci.h"
#include "dev/virtio/virtio.h"

#define VIRTIO_NO_VECTOR 0xffff

struct virtio_pci {
    struct dev dev;
    struct pci_func pci;
    struct virtio_bus bus;
    /* Options. */
    char *disable_legacy;
    bool disable_modern, packed;
    uint32_t vectors;
    /* Registers; by the device's lock. */
    uint32_t device_features_sel, driver_features_sel;
    uint16_t queue_sel, config_vector;
    uint16_t queue_vector[VIRTIO_MAX_QUEUES];
    uint16_t legacy_sel;
};

extern const struct dev_type virtio_blk_pci_type, virtio_rng_pci_type, virtio_scsi_pci_type,
    virtio_serial_pci_type, virtio_balloon_pci_type, virtio_gpu_pci_type;

/* For device types that have more than this; the struct comes first in theirs. */
extern const char *const virtio_pci_on_off_auto[];
#define VIRTIO_PCI_PROPS                                                                           \
    PCI_PROPS(struct virtio_pci, pci),                                                             \
        {"disable-legacy",                                                                         \
         PROP_TEXT,                                                                                \
         offsetof(struct virtio_pci, disable_legacy),                                              \
         "auto",                                                                                   \
         "no legacy interface",                                                                    \
         virtio_pci_on_off_auto},                                                                  \
        {"disable-modern", PROP_BOOL, offsetof(struct virtio_pci, disable_modern), "off",          \
         "the legacy interface only"},                                                             \
        {"packed", PROP_BOOL, offsetof(struct virtio_pci, packed), "off",                          \
         "offer packed virtqueues"},                                                               \
    {                                                                                              \
        "vectors", PROP_U32, offsetof(struct virtio_pci, vectors), "4294967295",                   \
            "MSI-X vectors; by default one for each queue and one"                                 \
    }
int virtio_pci_init(struct dev *dev, struct err *err);
void virtio_pci_reset(struct dev *dev, enum dev_reset how);
void virtio_pci_fini(struct dev *dev);

extern const struct field_set virtio_pci_fields; /* struct virtio_pci */

/* The legacy interface (virtio_pci_legacy.c). */
extern const struct mmio virtio_pci_legacy_regs; /* dev: struct virtio_pci */
#define VIRTIO_PCI_LEGACY_SIZE 64

/* For both interfaces; the device's lock is held. */
uint16_t virtio_pci_set_vector(struct virtio_pci *p, uint16_t *to, uint16_t vector);
uint8_t virtio_pci_take_isr(struct virtio_pci *p);

#endif
