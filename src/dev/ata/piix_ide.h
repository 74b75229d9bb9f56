/* IDE function of the PIIX3: two channels at the ports of a PC/AT. */
#ifndef DEV_ATA_PIIX_IDE_H
#define DEV_ATA_PIIX_IDE_H

#include "dev/ata/ide_channel.h"
#include "dev/ata/ide_dev.h"
#include "dev/pci/pci.h"

struct piix_ide {
    struct pci_func pci;
    struct ide_channel ch[2];
    struct ide_bus bus[2]; /* "ide.0", "ide.1" */
};

/* At 01.1, with ports 1F0h, 3F6h, 170h, 376h; lines 14 and 15 of `isa`. */
void piix_ide_init(struct piix_ide *p, struct pci_bus *bus, struct irq_pin *isa);
void piix_ide_reset(struct piix_ide *p); /* waits for jobs */
void piix_ide_fini(struct piix_ide *p);  /* its devices are gone */

extern const struct dev_type piix3_ide_type;

extern const struct field_set piix_ide_fields; /* struct piix_ide */

#endif
