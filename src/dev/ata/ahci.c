/*
 * The adapter's own registers: AHCI 1.3.1 clause 3.1, interrupts 10.6, HBA reset 10.4.3. AHCI only
 * (SAM), 32 slots, native queueing, 64-bit addresses, 3 Gb/s.
 *
 * Does not do: staggered spin-up, command completion coalescing, enclosure management, hand-off.
 */
#include "dev/ata/ahci.h"

#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "dev/ata/ahci_internal.h"
#include "state/field.h"

enum {
    R_CAP = 0x00,
    R_GHC = 0x04,
    R_IS = 0x08,
    R_PI = 0x0c,
    R_VS = 0x10,
    R_PORTS = 0x100,
    PORT_BYTES = 0x80,
    GHC_HR = 1,
    GHC_IE = 2,
    IDP_INDEX = 0x10,
    IDP_DATA = 0x14,
};

#define GHC_AE (1u << 31)
/* S64A, SNCQ, SCLO, 3 Gb/s, SAM, 32 slots, 6 ports */
#define CAP_VALUE                                                                                  \
    (1u << 31 | 1u << 30 | 1u << 24 | 2u << 20 | 1u << 18 | 31u << 8 | (AHCI_PORTS - 1))

/* ---- Interrupts ---- */

static void ahci_output(struct ahci *h, bool event)
{
    bool level = (h->ghc & GHC_IE) && h->is;
    if (level != h->level || (level && event)) {
        h->level = level;
        h->wires->set_irq(h->opaque, level);
    }
}

bool ahci_mem_write(struct ahci *h, gpa_t at, const void *buf, unsigned len)
{
    struct mem_map *mem = h->wires->dma(h->opaque);
    return mem && gmem_write(mem, at, buf, len);
}

static bool ahci_port_wants(struct ahci_port *p)
{
    return ahci_port_read(p, 0x10) & p->ie;
}

void ahci_update_irq(struct ahci_port *p)
{
    if (ahci_port_wants(p)) {
        p->hba->is |= 1u << p->n;
        ahci_output(p->hba, true);
    }
}

/* A bit comes back at once while its port has something left. */
static void ahci_write_is(struct ahci *h, uint32_t val)
{
    h->is &= ~val;
    for (unsigned n = 0; n < AHCI_PORTS; n++) {
        h->is |= ahci_port_wants(&h->port[n]) ? 1u << n : 0;
    }
    ahci_output(h, true);
}

/* ---- Resets ---- */

static bool ahci_flying(const struct ahci *h)
{
    for (unsigned n = 0; n < AHCI_PORTS; n++) {
        if (h->port[n].flying) {
            return true;
        }
    }
    return false;
}

void ahci_port_settled(struct ahci_port *p)
{
    struct ahci *h = p->hba;
    if (h->resetting) {
        if (ahci_flying(h)) {
            return;
        }
        h->resetting = false;
        for (unsigned n = 0; n < AHCI_PORTS; n++) {
            ahci_port_finish_reset(&h->port[n], false);
        }
    } else if (p->reset_asked) {
        ahci_port_finish_reset(p, false);
    } else if (!p->issued && (p->tfd & ATA_BSY)) {
        p->tfd = ATA_DRDY | ATA_DSC; /* ST was cleared; the device has ended its command */
    }
}

static void ahci_reset_hba(struct ahci *h)
{
    h->resetting = true;
    h->is = 0;
    h->ghc = GHC_AE;
    for (unsigned n = 0; n < AHCI_PORTS; n++) {
        ahci_port_reset(&h->port[n]);
    }
    ahci_port_settled(&h->port[0]);
    ahci_output(h, false);
}

/* ---- Registers ---- */

static uint32_t ahci_read32(struct ahci *h, unsigned off)
{
    if (off >= R_PORTS) {
        unsigned n = (off - R_PORTS) / PORT_BYTES;
        return n < AHCI_PORTS ? ahci_port_read(&h->port[n], off % PORT_BYTES) : 0;
    }
    switch (off) {
    case R_CAP: return CAP_VALUE;
    case R_GHC: return h->ghc | (h->resetting ? GHC_HR : 0);
    case R_IS: return h->is;
    case R_PI: return (1u << AHCI_PORTS) - 1;
    case R_VS: return 0x00010301;
    default: return 0;
    }
}

static void ahci_write32(struct ahci *h, unsigned off, uint32_t val)
{
    if (off >= R_PORTS) {
        unsigned n = (off - R_PORTS) / PORT_BYTES;
        if (n < AHCI_PORTS) {
            ahci_port_write(&h->port[n], off % PORT_BYTES, val);
        }
    } else if (off == R_IS) {
        ahci_write_is(h, val);
    } else if (off == R_GHC && (val & GHC_HR)) {
        ahci_reset_hba(h);
    } else if (off == R_GHC) {
        h->ghc = GHC_AE | (val & GHC_IE);
        ahci_output(h, false);
    }
}

static enum mem_result ahci_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct ahci *h = dev;
    AUTO_LOCK(&h->lock);
    *val = ahci_read32(h, (unsigned)off & (AHCI_ABAR_SIZE - 4));
    return MEM_OK;
}

static enum mem_result ahci_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct ahci *h = dev;
    AUTO_LOCK(&h->lock);
    ahci_write32(h, (unsigned)off & (AHCI_ABAR_SIZE - 4), (uint32_t)val);
    return MEM_OK;
}

const struct mmio ahci_abar = {ahci_read, ahci_write, 4, 4};

/* The same registers by index and data (AHCI 1.3.1 2.1.9). */
static enum mem_result idp_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct ahci *h = dev;
    AUTO_LOCK(&h->lock);
    *val = off == IDP_INDEX ? h->idp_index : off == IDP_DATA ? ahci_read32(h, h->idp_index) : 0;
    return MEM_OK;
}

static enum mem_result idp_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct ahci *h = dev;
    AUTO_LOCK(&h->lock);
    if (off == IDP_INDEX) {
        h->idp_index = (uint32_t)val & (AHCI_ABAR_SIZE - 4);
    } else if (off == IDP_DATA) {
        ahci_write32(h, h->idp_index, (uint32_t)val);
    }
    return MEM_OK;
}

const struct mmio ahci_idp = {idp_read, idp_write, 4, 4};

/* ---- Media ---- */

/* With the lock held, no job of the drive is at work and none can start. */
static void ahci_lock_idle(struct ahci *h, struct ata_drive *drive)
{
    pthread_mutex_lock(&h->lock);
    while (disk_busy(&drive->disk)) {
        pthread_mutex_unlock(&h->lock);
        disk_drain(&drive->disk);
        pthread_mutex_lock(&h->lock);
    }
}

int ahci_eject(struct ahci *h, struct ata_drive *drive, bool force)
{
    ahci_lock_idle(h, drive);
    int ret = ata_drive_eject(drive, force);
    pthread_mutex_unlock(&h->lock);
    return ret;
}

void ahci_insert(struct ahci *h, struct ata_drive *drive, struct block *block)
{
    ahci_lock_idle(h, drive);
    ata_drive_insert(drive, block);
    pthread_mutex_unlock(&h->lock);
}

/* ---- Life ---- */

void ahci_init(struct ahci *h, const struct ahci_wires *wires, void *opaque)
{
    *h = (struct ahci){.wires = wires, .opaque = opaque, .ghc = GHC_AE};
    pthread_mutex_init(&h->lock, NULL);
    for (unsigned n = 0; n < AHCI_PORTS; n++) {
        h->port[n].hba = h;
        h->port[n].n = n;
        ahci_port_reset(&h->port[n]);
    }
}

void ahci_attach(struct ahci *h, unsigned port, struct ata_drive *drive)
{
    AUTO_LOCK(&h->lock);
    h->port[port].drive = drive;
    if (drive) {
        drive->sata = true;
    }
    ahci_port_reset(&h->port[port]);
}

void ahci_reset(struct ahci *h)
{
    pthread_mutex_lock(&h->lock);
    for (unsigned n = 0; n < AHCI_PORTS; n++) {
        ahci_give_up(&h->port[n]);
        h->port[n].cmd = 0; /* no kicks */
    }
    pthread_mutex_unlock(&h->lock);
    for (unsigned n = 0; n < AHCI_PORTS; n++) {
        if (h->port[n].drive) {
            disk_drain(&h->port[n].drive->disk);
        }
    }
    AUTO_LOCK(&h->lock);
    h->idp_index = 0;
    ahci_reset_hba(h);
    for (unsigned n = 0; n < AHCI_PORTS; n++) {
        if (h->port[n].drive) {
            ata_drive_reset(h->port[n].drive, true);
        }
    }
}

void ahci_fini(struct ahci *h)
{
    for (unsigned n = 0; n < AHCI_PORTS; n++) {
        ahci_port_free(&h->port[n]);
    }
    pthread_mutex_destroy(&h->lock);
}

/* ---- State ---- */

static const struct field ahci_port_list[] = {
    FIELD(struct ahci_port, hba, FIELD_HOST),
    FIELD(struct ahci_port, n, FIELD_CONFIG),
    FIELD(struct ahci_port, drive, FIELD_HOST),
    FIELD(struct ahci_port, slot, FIELD_HOST),
    FIELD(struct ahci_port, clb, FIELD_GUEST),
    FIELD(struct ahci_port, fb, FIELD_GUEST),
    FIELD(struct ahci_port, is, FIELD_GUEST),
    FIELD(struct ahci_port, ie, FIELD_GUEST),
    FIELD(struct ahci_port, cmd, FIELD_GUEST),
    FIELD(struct ahci_port, tfd, FIELD_GUEST),
    FIELD(struct ahci_port, sig, FIELD_GUEST),
    FIELD(struct ahci_port, ssts, FIELD_GUEST),
    FIELD(struct ahci_port, sctl, FIELD_GUEST),
    FIELD(struct ahci_port, serr, FIELD_GUEST),
    FIELD(struct ahci_port, sact, FIELD_GUEST),
    FIELD(struct ahci_port, ci, FIELD_GUEST),
    FIELD(struct ahci_port, issued, FIELD_HOST),
    FIELD(struct ahci_port, flying, FIELD_HOST),
    FIELD(struct ahci_port, dead, FIELD_HOST),
    FIELD(struct ahci_port, last, FIELD_GUEST, .max = AHCI_SLOTS - 1),
    FIELD(struct ahci_port, halted, FIELD_GUEST),
    FIELD(struct ahci_port, srst, FIELD_GUEST),
    FIELD(struct ahci_port, reset_asked, FIELD_HOST),
};

FIELD_SET(ahci_port_fields, "ahci-port", struct ahci_port, ahci_port_list, 1);

static const struct field ahci_list[] = {
    FIELD(struct ahci, lock, FIELD_HOST),
    FIELD(struct ahci, wires, FIELD_HOST),
    FIELD(struct ahci, opaque, FIELD_HOST),
    FIELD(struct ahci, ghc, FIELD_GUEST),
    FIELD(struct ahci, is, FIELD_GUEST),
    FIELD(struct ahci, idp_index, FIELD_GUEST, .max = AHCI_ABAR_SIZE - 4),
    FIELD(struct ahci, level, FIELD_GUEST),
    FIELD(struct ahci, resetting, FIELD_HOST),
    FIELD_ARRAY(struct ahci, port, FIELD_GUEST, .sub = &ahci_port_fields),
};

FIELD_SET_SHARED(ahci_fields, "ahci", struct ahci, ahci_list, 1);
