/*
 * 82441FX PCI and memory controller: Intel data sheet 290549. What firmware uses: PAM registers and
 * SMRAM. Does not do: DRAM timing, error reporting; memory size comes from CMOS and fw_cfg.
 */
#include "dev/chipset/i440fx.h"
#include "state/field.h"

#include <string.h>

enum {
    PAM0 = 0x59,
    SMRAM = 0x72,
};

static void i440fx_update(struct i440fx *h)
{
    pam_update(&h->pam, h->pci.config + PAM0, h->pci.config[SMRAM], h->smm);
}

/* Once locked, SMRAM_D_OPEN is 0 and the register stays as it is until reset. */
static void i440fx_written(struct pci_func *f, unsigned off, unsigned len)
{
    struct i440fx *h = (struct i440fx *)f;
    if (off <= SMRAM && off + len > SMRAM && f->config[SMRAM] & SMRAM_D_LCK) {
        f->config[SMRAM] &= ~SMRAM_D_OPEN;
        f->writable[SMRAM] = 0;
    }
    if (off <= SMRAM && off + len > PAM0) {
        i440fx_update(h);
    }
}

void i440fx_init(struct i440fx *h, struct pci_bus *bus, struct ram *ram)
{
    static const struct pci_ids ids = {
        .vendor = 0x8086, .device = 0x1237, .class_code = 0x060000, .revision = 2};
    pci_func_place(&h->pci, bus, 0, &ids);
    memset(h->pci.writable + PAM0, 0x33, PAM_REGISTERS);
    h->pci.writable[PAM0] = 0x30;
    h->pci.written = i440fx_written;
    pam_init(&h->pam, bus->machine, ram);
}

void i440fx_reset(struct i440fx *h)
{
    pci_func_reset(&h->pci);
    memset(h->pci.config + PAM0, 0, PAM_REGISTERS);
    h->pci.config[SMRAM] = SMRAM_C_BASE_SEG;
    h->pci.writable[SMRAM] = SMRAM_WRITABLE;
    i440fx_update(h);
}

void i440fx_fini(struct i440fx *h)
{
    pci_func_fini(&h->pci);
}

/* ---- State ---- */

static const struct field i440fx_list[] = {
    FIELD(struct i440fx, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct i440fx, pam, FIELD_DERIVED),
    FIELD(struct i440fx, smm, FIELD_CONFIG),
};

FIELD_SET_SHARED(i440fx_fields, "i440fx", struct i440fx, i440fx_list, 1);
