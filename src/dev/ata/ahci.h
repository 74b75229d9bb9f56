/*
 * AHCI host bus adapter (AHCI 1.3.1), six ports, without the PCI function around it: registers
 * (ABAR, 4 KiB), the pair of index and data ports, an output for the interrupt.
 */
#ifndef DEV_ATA_AHCI_H
#define DEV_ATA_AHCI_H

#include "core/mem.h"
#include "dev/ata/ata.h"

enum { AHCI_PORTS = 6, AHCI_SLOTS = 32, AHCI_ABAR_SIZE = 4096, AHCI_IDP_SIZE = 32 };

struct ahci;
struct ahci_port;

/* A slot of a command list, from the moment its command is fetched. */
struct ahci_slot {
    struct ata_req req;
    struct ahci_port *port;
    unsigned n;
    gpa_t header;
    bool dead; /* given up by a reset or an error: nobody hears of its end */
    bool flying;
};

struct ahci_port {
    struct ahci *hba;
    unsigned n;
    struct ata_drive *drive;            /* NULL: none */
    struct ahci_slot *slot[AHCI_SLOTS]; /* made when first needed */
    uint64_t clb, fb;                   /* registers, by the manual's names */
    uint32_t is, ie, cmd, tfd, sig, ssts, sctl, serr, sact, ci;
    uint32_t issued; /* slots whose commands are at work and not dead */
    unsigned flying, dead;
    unsigned last;    /* slot fetched last */
    bool halted;      /* by an error, until ST is cleared */
    bool srst;        /* the device is held in software reset */
    bool reset_asked; /* reset and signature, when nothing flies any more */
};

/* What the PCI function around it gives. Called with the adapter's lock held. */
struct ahci_wires {
    /* True while it is true already: another event came (for MSI, one more message). */
    void (*set_irq)(void *opaque, bool level);
    struct mem_map *(*dma)(void *opaque); /* NULL: not now */
};

struct ahci {
    pthread_mutex_t lock;
    const struct ahci_wires *wires;
    void *opaque;
    uint32_t ghc, is;
    uint32_t idp_index;
    bool level, resetting;
    struct ahci_port port[AHCI_PORTS];
};

void ahci_init(struct ahci *h, const struct ahci_wires *wires, void *opaque);
void ahci_fini(struct ahci *h); /* after the drives' jobs have ended */
/* NULL takes it off; then no job of it is at work. */
void ahci_attach(struct ahci *h, unsigned port, struct ata_drive *drive);
void ahci_reset(struct ahci *h); /* power or system reset: waits for jobs */

extern const struct mmio ahci_abar, ahci_idp; /* dev: struct ahci; idp: its I/O BAR of 32 bytes */

/* As ide_channel_eject() and ide_channel_insert(). */
int ahci_eject(struct ahci *h, struct ata_drive *drive, bool force);
void ahci_insert(struct ahci *h, struct ata_drive *drive, struct block *block);

extern const struct field_set ahci_fields; /* struct ahci */

#endif
