/*
 * 82Q35 MCH, DRAM controller: Intel data sheet 316966, chapter 5.1. What firmware uses: PCIEXBAR,
 * PAM, SMRAM. Does not do: TSEG, DRAM registers, other windows (MCHBAR, DMIBAR, EPBAR).
 */
#include "dev/chipset/mch.h"

#include <string.h>

#include "base/endian.h"
#include "core/machine.h"

enum {
    PCIEXBAR = 0x60,
    PCIEXBAR_EN = 1,
    PAM0 = 0x90,
    SMRAM = 0x9d,
    D_OPEN = 0x40,
    D_CLS = 0x20,
    D_LCK = 0x10,
    G_SMRAME = 0x08,
    C_BASE_SEG = 0x02,
    ECAM_SIZE = 256 << 20,
};

static void mch_update_ecam(struct mch *h)
{
    uint64_t v = load_le64(h->pci.config + PCIEXBAR), base = v & 0xff0000000ull;
    h->ecam_base = v & PCIEXBAR_EN ? base : 0;
    if (h->ecam_base) {
        mem_node_move(h->ecam, base);
    }
    mem_node_enable(h->ecam, h->ecam_base != 0);
}

static void mch_update(struct mch *h)
{
    uint8_t smram = h->pci.config[SMRAM];
    pam_update(&h->pam, h->pci.config + PAM0);
    pam_open_smram(&h->pam, (smram & (D_OPEN | D_CLS | G_SMRAME)) == (D_OPEN | G_SMRAME));
}

static void mch_written(struct pci_func *f, unsigned off, unsigned len)
{
    struct mch *h = (struct mch *)f;
    if (off <= SMRAM && off + len > SMRAM && f->config[SMRAM] & D_LCK) {
        f->config[SMRAM] &= ~D_OPEN;
        f->writable[SMRAM] = 0;
    }
    if (off <= SMRAM && off + len > PAM0) {
        mch_update(h);
    }
    if (off < PCIEXBAR + 8 && off + len > PCIEXBAR) {
        mch_update_ecam(h);
    }
}

void mch_init(struct mch *h, struct pci_bus *bus, struct ram *ram)
{
    static const struct pci_ids ids = {
        .vendor = 0x8086, .device = 0x29c0, .class_code = 0x060000, .revision = 2};
    struct mem_map *mem = bus->machine->mem;
    pci_func_place(&h->pci, bus, 0, &ids);
    memset(h->pci.writable + PAM0, 0x33, PAM_REGISTERS);
    h->pci.writable[PAM0] = 0x30;
    store_le64(h->pci.writable + PCIEXBAR, 0xff0000000ull | PCIEXBAR_EN);
    h->pci.written = mch_written;
    h->ecam = mem_map_add_mmio(mem, 0, ECAM_SIZE, &pci_ecam, bus->root);
    mem_node_enable(h->ecam, false);
    pam_init(&h->pam, bus->machine, ram);
}

void mch_reset(struct mch *h)
{
    pci_func_reset(&h->pci);
    memset(h->pci.config + PAM0, 0, PAM_REGISTERS);
    store_le64(h->pci.config + PCIEXBAR, 0);
    h->pci.config[SMRAM] = C_BASE_SEG;
    h->pci.writable[SMRAM] = D_OPEN | D_CLS | D_LCK | G_SMRAME;
    mch_update(h);
    mch_update_ecam(h);
}

void mch_fini(struct mch *h)
{
    pci_func_fini(&h->pci);
}

uint64_t mch_ecam(struct mch *h)
{
    pthread_mutex_lock(&h->pci.bus->root->lock);
    uint64_t base = h->ecam_base;
    pthread_mutex_unlock(&h->pci.bus->root->lock);
    return base;
}
