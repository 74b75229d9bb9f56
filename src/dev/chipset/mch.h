/* Memory controller hub of Q35. */
#ifndef DEV_CHIPSET_MCH_H
#define DEV_CHIPSET_MCH_H

#include "dev/chipset/pam.h"
#include "dev/pci/pci.h"

struct mch {
    struct pci_func pci;
    struct pam pam;
    struct mem_node *ecam;
    struct mem_node *tseg[3]; /* in its place there is nothing, outside of SMM: 1, 2, 8 MiB */
    uint64_t tseg_end;        /* end of memory below 4 GiB */
    bool smm;                 /* set before the reset */
    uint64_t ecam_base;       /* 0: off; by the root's lock */
};

/* At 00.0 of the bus; the RAM holds the first MiB. */
void mch_init(struct mch *h, struct pci_bus *bus, struct ram *ram, uint64_t low_ram);
void mch_reset(struct mch *h);
void mch_fini(struct mch *h);
uint64_t mch_ecam(struct mch *h); /* where configuration space is mapped now; 0: nowhere */

extern const struct field_set mch_fields; /* struct mch */

#endif
