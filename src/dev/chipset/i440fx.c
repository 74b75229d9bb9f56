/*
 * 82441FX PCI and memory controller: Intel data sheet 290549. What firmware uses: PAM registers and
 * SMRAM. Does not do: DRAM timing, error reporting; memory size comes from CMOS and fw_cfg.
 */
#include "dev/chipset/i440fx.h"

#include <string.h>

enum {
    PAM0 = 0x59,
    SMRAM = 0x72,
    D_OPEN = 0x40,
    D_CLS = 0x20,
    D_LCK = 0x10,
    G_SMRAME = 0x08,
    C_BASE_SEG = 0x02,
};

static void i440fx_update(struct i440fx *h)
{
    uint8_t smram = h->pci.config[SMRAM];
    pam_update(&h->pam, h->pci.config + PAM0);
    pam_open_smram(&h->pam, (smram & (D_OPEN | D_CLS | G_SMRAME)) == (D_OPEN | G_SMRAME));
    pam_smm_sees(&h->pam, h->smm && (smram & G_SMRAME));
}

/* Once locked, D_OPEN is 0 and the register stays as it is until reset. */
static void i440fx_written(struct pci_func *f, unsigned off, unsigned len)
{
    struct i440fx *h = (struct i440fx *)f;
    if (off <= SMRAM && off + len > SMRAM && f->config[SMRAM] & D_LCK) {
        f->config[SMRAM] &= ~D_OPEN;
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
    h->pci.config[SMRAM] = C_BASE_SEG;
    h->pci.writable[SMRAM] = D_OPEN | D_CLS | D_LCK | G_SMRAME;
    i440fx_update(h);
}

void i440fx_fini(struct i440fx *h)
{
    pci_func_fini(&h->pci);
}
