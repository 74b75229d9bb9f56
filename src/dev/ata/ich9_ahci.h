/* AHCI function of the ICH9, as part of a board or as "-device ich9-ahci". */
#ifndef DEV_ATA_ICH9_AHCI_H
#define DEV_ATA_ICH9_AHCI_H

#include "dev/ata/ahci.h"
#include "dev/ata/ide_dev.h"
#include "dev/pci/pci.h"

struct ich9_ahci {
    struct pci_func pci;
    struct ahci hba;
    struct ide_bus bus[AHCI_PORTS];
};

/* Of a board: at devfn (1F.2 on a q35), buses "ide.0" to "ide.5". */
void ich9_ahci_init(struct ich9_ahci *a, struct pci_bus *bus, uint8_t devfn);
void ich9_ahci_reset(struct ich9_ahci *a); /* waits for jobs */
void ich9_ahci_fini(struct ich9_ahci *a);  /* its devices are gone */

extern const struct dev_type ich9_ahci_type;

extern const struct field_set ich9_ahci_fields; /* struct ich9_ahci */

#endif
