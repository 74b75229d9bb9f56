/* Host bridge of the 440FX. */
#ifndef DEV_CHIPSET_I440FX_H
#define DEV_CHIPSET_I440FX_H

#include "dev/chipset/pam.h"
#include "dev/pci/pci.h"

struct i440fx {
    struct pci_func pci;
    struct pam pam;
    bool smm; /* set before the reset */
};

/* At 00.0 of the bus; the RAM holds the first MiB. */
void i440fx_init(struct i440fx *h, struct pci_bus *bus, struct ram *ram);
void i440fx_reset(struct i440fx *h);
void i440fx_fini(struct i440fx *h);

extern const struct field_set i440fx_fields; /* struct i440fx */

#endif
