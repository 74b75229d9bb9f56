/*
 * PCI as devices and boards see it: PCI Local Bus 3.0, PCI Express Base 2.0 for the large
 * configuration space. A device contains a `struct pci_func`; a board has a root bus and gives it
 * its windows, its interrupt pins and the way of MSI messages.
 *
 * Locks: the configuration space of all functions is under the root's `lock`; hooks of functions
 * are called with it held, so a device takes its own lock inside. pci_irq_set() and the notify
 * functions take only the function's own leaf lock: they may be called with any device lock held.
 *
 * Does not do: bridges' windows (a function behind a bridge decodes what its own command register
 * allows while the bridge forwards at all), PME, hot plug, INTx of multi-root systems.
 */
#ifndef DEV_PCI_PCI_H
#define DEV_PCI_PCI_H

#include <pthread.h>

#include "core/device.h"
#include "core/irq.h"
#include "core/mem.h"

/* Configuration registers; PCI Local Bus 3.0 6.1. */
enum {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION_ID = 0x08,
    PCI_CLASS_PROG = 0x09, /* then subclass and class */
    PCI_CACHE_LINE_SIZE = 0x0c,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BASE_ADDRESS_0 = 0x10,
    PCI_SUBSYSTEM_VENDOR_ID = 0x2c,
    PCI_SUBSYSTEM_ID = 0x2e,
    PCI_ROM_ADDRESS = 0x30,
    PCI_CAPABILITY_LIST = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,

    PCI_COMMAND_IO = 1,
    PCI_COMMAND_MEMORY = 2,
    PCI_COMMAND_MASTER = 4,
    PCI_COMMAND_INTX_DISABLE = 0x400,
    PCI_STATUS_INTERRUPT = 8,
    PCI_STATUS_CAP_LIST = 0x10,
    PCI_HEADER_MULTI = 0x80,
    PCI_BAR_COUNT = 7, /* the last one is the expansion ROM */
    PCI_BAR_ROM = 6,

    PCI_CAP_MSI = 5,
    PCI_CAP_VENDOR = 9,
    PCI_CAP_EXPRESS = 0x10,
    PCI_CAP_MSIX = 0x11,
};

enum pci_bar_kind {
    PCI_BAR_MEM32 = 0,
    PCI_BAR_IO = 1,
    PCI_BAR_MEM64 = 4,
    PCI_BAR_PREFETCH = 8, /* with MEM32 or MEM64 */
};

struct strbuf;

struct pci_ids {
    uint16_t vendor, device, subvendor, subdevice; /* subvendor 0: 1af4:1100 */
    uint32_t class_code;                           /* class, subclass, interface: 0x010180 */
    uint8_t revision;
    uint8_t interrupt_pin; /* 0: none, 1: INTA# ... */
};

struct pci_bar {
    struct mem_node *node; /* a container; NULL: no such BAR */
    uint64_t size;
    uint8_t kind;
};

struct pci_msix {
    unsigned count, cap;
    uint8_t *table; /* 16 bytes each */
    uint8_t *pending;
    unsigned table_len, pending_len; /* bytes */
    struct pci_func *func;
};

struct pci_func {
    struct dev *dev;
    struct pci_bus *bus;
    uint8_t devfn;
    unsigned config_size; /* 256 or 4096 */
    uint8_t *config;
    uint8_t *writable;  /* bits the guest can change */
    uint8_t *clearable; /* bits a written one clears */
    struct pci_bar bar[PCI_BAR_COUNT];
    unsigned next_cap, next_ext_cap;

    pthread_mutex_t lock; /* the line and messages; a leaf */
    struct irq intx;
    bool level;   /* what the device says, before INTX_DISABLE */
    unsigned msi; /* offset of the capability; 0: none */
    struct pci_msix msix;

    /* After a write to the configuration space; the root's lock is held. May be NULL. */
    void (*written)(struct pci_func *f, unsigned off, unsigned len);

    /* Options. */
    char *addr;
    bool multifunction;
    struct ram *rom;
};

/* Options all PCI devices have; `member` is the device's struct pci_func. */
#define PCI_PROPS(type, member)                                                                    \
    {"addr", PROP_TEXT, offsetof(type, member.addr), NULL, "slot, or slot.function"},              \
    {                                                                                              \
        "multifunction", PROP_BOOL, offsetof(type, member.multifunction), "off",                   \
            "there are more functions in this slot"                                                \
    }

struct pci_bus {
    struct bus bus;
    char id[24];
    struct machine *machine;
    struct pci_root *root;
    struct pci_func *bridge; /* that this bus is behind; NULL: a root bus */
    struct pci_func *func[256];
    bool express;
    bool one_slot; /* a link */
};

/* What a board gives. */
struct pci_root {
    pthread_mutex_t lock;
    struct pci_bus bus0;
    struct pci_bus *behind[32]; /* buses behind bridges */
    unsigned behind_count;
    struct mem_node *mem, *io; /* containers that BARs are placed in */
    /* The pin for INTA# (0) to INTD# of a slot on bus 0. */
    struct irq_pin *(*route)(void *opaque, unsigned slot, unsigned pin);
    void *opaque;
    void (*msi)(void *opaque, gpa_t addr, uint32_t data);
    void *msi_opaque;
    uint32_t address; /* CONFIG_ADDRESS, port CF8h */
};

extern const struct bus_type pci_bus_type; /* "PCI" */

/* ---- Boards ---- */

/* `id` "pci.0" or "pcie.0". The caller has filled in mem, io, route, msi and their arguments. */
void pci_root_init(struct pci_root *r, struct machine *m, const char *id, bool express);
void pci_root_fini(struct pci_root *r);
extern const struct mmio pci_host_ports; /* CF8h to CFFh; dev: struct pci_root */
extern const struct mmio pci_ecam;       /* memory-mapped, 1 MiB for each bus; dev: pci_root */

/* A function of the board itself, in the slot the board says. `f` is zero before. */
void pci_func_place(struct pci_func *f, struct pci_bus *bus, uint8_t devfn,
                    const struct pci_ids *ids);

/* ---- Devices ---- */

/* In init(): takes the slot that option "addr" names, or the first free one. */
int pci_func_init(struct pci_func *f, struct dev *dev, const struct pci_ids *ids, struct err *err);
void pci_func_fini(struct pci_func *f); /* also after a failed init */
/* In reset(): registers to their first values, BARs decode nothing, lines low, messages off. */
void pci_func_reset(struct pci_func *f);

/* A BAR as a container, to put nodes into with mem_node_place(); size is a power of 2, at least
 * 4 KiB for memory and 4 for ports. */
struct mem_node *pci_bar_add(struct pci_func *f, unsigned n, unsigned kind, uint64_t size);
/* One block of registers that fills it. */
void pci_bar_add_mmio(struct pci_func *f, unsigned n, unsigned kind, uint64_t size,
                      const struct mmio *ops, void *opaque);
/* In a BAR that exists, at `off`. */
struct mem_node *pci_bar_put_mmio(struct pci_func *f, unsigned n, uint64_t off, uint64_t len,
                                  const struct mmio *ops, void *opaque);
struct mem_node *pci_bar_put_ram(struct pci_func *f, unsigned n, uint64_t off, struct ram *ram);
/* An expansion ROM from a firmware file that was read. */
int pci_rom_add(struct pci_func *f, const void *image, size_t len, struct err *err);

/* Adds a capability of `len` bytes and returns its offset; read only until `writable` is set. */
unsigned pci_cap_add(struct pci_func *f, uint8_t id, unsigned len);
void pci_msi_add(struct pci_func *f, unsigned vectors); /* 64-bit addresses, 1 to 32 vectors */
/* Table and pending bits in BAR `n`, which exists, from `off`: count * 16 bytes, then the bits at
 * `pba_off`. */
void pci_msix_add(struct pci_func *f, unsigned count, unsigned n, uint32_t off, uint32_t pba_off);
/* Express capability of an endpoint (integrated into a root complex on its bus). */
void pci_express_add(struct pci_func *f);

/* Any thread, any device lock held. */
void pci_irq_set(struct pci_func *f, bool level); /* INTx#, whatever MSI is */
bool pci_msi_on(struct pci_func *f);
void pci_msi_notify(struct pci_func *f, unsigned vector);
bool pci_msix_on(struct pci_func *f);
void pci_msix_notify(struct pci_func *f, unsigned vector);
/* An interrupt by MSI if it is on, or as a level of INTx#. */
void pci_irq_or_msi(struct pci_func *f, bool level);

/* Firmware's name for it, to which a device adds what it has behind. */
void pci_boot_name(const struct pci_func *f, struct strbuf *sb);

/* Guest memory for DMA, or NULL while the guest does not let the function be a bus master. */
struct mem_map *pci_dma(struct pci_func *f);

/* ---- Between the files of this folder ---- */

uint32_t pci_config_read(struct pci_func *f, unsigned off, unsigned size);
void pci_config_write(struct pci_func *f, unsigned off, unsigned size, uint32_t val);
struct pci_func *pci_find(struct pci_root *r, unsigned bus, unsigned devfn);
void pci_bars_update(struct pci_func *f);
bool pci_cap_written(struct pci_func *f, unsigned off, unsigned len); /* MSI and MSI-X */
void pci_cap_reset(struct pci_func *f);
void pci_cap_fini(struct pci_func *f);

extern const struct field_set pci_msix_fields; /* struct pci_msix */

extern const struct field_set pci_func_fields; /* struct pci_func */

extern const struct field_set pci_root_fields; /* struct pci_root */

#endif
