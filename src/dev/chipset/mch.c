/*
 * 82Q35 MCH, DRAM controller: Intel data sheet 316966, chapter 5.1. What firmware uses: PCIEXBAR,
 * PAM, SMRAM, TSEG. Does not do: DRAM registers, other windows (MCHBAR, DMIBAR, EPBAR).
 */
#include "dev/chipset/mch.h"

#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "core/machine.h"
#include "state/field.h"

enum {
    PCIEXBAR = 0x60,
    PCIEXBAR_EN = 1,
    GBSM = 0xa4, /* then BGSM, and TSEGMB: where graphics memory, its table and TSEG begin */
    TSEGMB = 0xac,
    TOLUD = 0xb0,
    EXT_TSEG = 0x50, /* keeps what is written: firmware takes that for "no larger TSEG" */
    PAM0 = 0x90,
    SMRAM = 0x9d,
    ESMRAMC = 0x9e,
    T_EN = 1,
    ESMRAMC_FIXED = 0x38, /* caches are off */
    ESMRAMC_WRITABLE = 7,
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

/* The top of memory, for system management mode only. */
static void mch_update_tseg(struct mch *h)
{
    static const uint8_t mib[4] = {1, 2, 8, 0};
    struct machine *m = h->pci.bus->machine;
    uint8_t e = h->pci.config[ESMRAMC];
    unsigned n = e >> 1 & 3;
    uint64_t size = (uint64_t)mib[n] << 20;
    bool on = h->smm && (e & T_EN) && (h->pci.config[SMRAM] & SMRAM_G_SMRAME) && size &&
              size < h->tseg_end;
    mem_map_begin(m->mem);
    for (unsigned i = 0; i < ARRAY_LEN(h->tseg); i++) {
        mem_node_enable(h->tseg[i], on && i == n);
    }
    if (on) {
        mem_node_move(h->tseg[n], h->tseg_end - size);
    }
    mem_map_commit(m->mem);
    machine_set_smram(m, 1, on ? h->tseg_end - size : 0, on ? h->tseg_end : 0);
}

static void mch_update(struct mch *h)
{
    pam_update(&h->pam, h->pci.config + PAM0, h->pci.config[SMRAM], h->smm);
    mch_update_tseg(h);
}

static void mch_written(struct pci_func *f, unsigned off, unsigned len)
{
    struct mch *h = (struct mch *)f;
    if (off <= SMRAM && off + len > SMRAM && f->config[SMRAM] & SMRAM_D_LCK) {
        f->config[SMRAM] &= ~SMRAM_D_OPEN;
        f->writable[SMRAM] = f->writable[ESMRAMC] = 0;
    }
    if (off <= ESMRAMC && off + len > PAM0) {
        mch_update(h);
    }
    if (off < PCIEXBAR + 8 && off + len > PCIEXBAR) {
        mch_update_ecam(h);
    }
}

static enum mem_result no_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    return MEM_NONE;
}

static enum mem_result no_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    return MEM_NONE;
}

static const struct mmio nothing = {no_read, no_write, 1, 8};

void mch_init(struct mch *h, struct pci_bus *bus, struct ram *ram, uint64_t low_ram)
{
    static const struct pci_ids ids = {
        .vendor = 0x8086, .device = 0x29c0, .class_code = 0x060000, .revision = 2};
    struct mem_map *mem = bus->machine->mem;
    pci_func_place(&h->pci, bus, 0, &ids);
    memset(h->pci.writable + PAM0, 0x33, PAM_REGISTERS);
    h->pci.writable[PAM0] = 0x30;
    store_le64(h->pci.writable + PCIEXBAR, 0xff0000000ull | PCIEXBAR_EN);
    store_le16(h->pci.writable + EXT_TSEG, 0xffff);
    /* Firmware keeps its map of memory here, and finds the place of TSEG again. */
    store_le16(h->pci.writable + TOLUD, 0xfff0);
    for (unsigned reg = GBSM; reg <= TSEGMB; reg += 4) {
        store_le32(h->pci.writable + reg, 0xfff00000);
    }
    h->pci.written = mch_written;
    h->ecam = mem_map_add_mmio(mem, 0, ECAM_SIZE, &pci_ecam, bus->root);
    mem_node_enable(h->ecam, false);
    for (unsigned i = 0; i < ARRAY_LEN(h->tseg); i++) {
        static const unsigned mib[] = {1, 2, 8};
        h->tseg[i] = mem_map_add_mmio(mem, 0, (uint64_t)mib[i] << 20, &nothing, h);
        mem_node_enable(h->tseg[i], false);
    }
    h->tseg_end = low_ram;
    pam_init(&h->pam, bus->machine, ram);
}

void mch_reset(struct mch *h)
{
    pci_func_reset(&h->pci);
    memset(h->pci.config + PAM0, 0, PAM_REGISTERS);
    store_le64(h->pci.config + PCIEXBAR, 0);
    h->pci.config[SMRAM] = SMRAM_C_BASE_SEG;
    h->pci.writable[SMRAM] = SMRAM_WRITABLE;
    h->pci.config[ESMRAMC] = h->smm ? ESMRAMC_FIXED : 0;
    h->pci.writable[ESMRAMC] = h->smm ? ESMRAMC_WRITABLE : 0;
    memset(h->pci.config + GBSM, 0, TSEGMB + 4 - GBSM);
    store_le16(h->pci.config + TOLUD, 0x10);
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

/* ---- State ---- */

static const struct field mch_list[] = {
    FIELD(struct mch, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct mch, pam, FIELD_DERIVED),
    FIELD(struct mch, ecam, FIELD_HOST),
    FIELD(struct mch, tseg, FIELD_HOST),
    FIELD(struct mch, tseg_end, FIELD_CONFIG),
    FIELD(struct mch, smm, FIELD_CONFIG),
    FIELD(struct mch, ecam_base, FIELD_DERIVED),
};

FIELD_SET_SHARED(mch_fields, "mch", struct mch, mch_list, 1);
