/*
 * Registers of an AHCI port: AHCI 1.3.1 clause 3.3, resets 10.4.
 *
 *   ST falls, COMRESET, HBA reset: what flies is dead (ahci_give_up); CR, BSY or HR stay set until
 *   it has landed (ahci_port_settled), and then the signature comes (ahci_port_finish_reset).
 *
 * Does not do: power management of the link, hot plug, cold presence detection.
 */
#include "base/bits.h"
#include "dev/ata/ahci_internal.h"

enum {
    PX_CLB = 0x00,
    PX_CLBU = 0x04,
    PX_FB = 0x08,
    PX_FBU = 0x0c,
    PX_IS = 0x10,
    PX_IE = 0x14,
    PX_CMD = 0x18,
    PX_TFD = 0x20,
    PX_SIG = 0x24,
    PX_SSTS = 0x28,
    PX_SCTL = 0x2c,
    PX_SERR = 0x30,
    PX_SACT = 0x34,
    PX_CI = 0x38,
    IE_MASK = 0x7dc0007f,
    CMD_POWERED = 6, /* SUD, POD: always on */
    CMD_WRITABLE = CMD_ST | CMD_FRE | 0x0f000000,
    DET_NONE = 0,
    DET_RESET = 1,
    DET_OFF = 4,
    SSTS_LINK = 0x103, /* active, device present */
};

/* ---- Resets ---- */

/* The device is there again and says what it is. */
void ahci_port_finish_reset(struct ahci_port *p, bool power)
{
    struct ata_tf tf = {0};
    p->reset_asked = false;
    if (p->drive) {
        ata_drive_reset(p->drive, power);
        ata_signature(p->drive, &tf);
        p->sig = (uint32_t)(tf.lba << 8 | (tf.count & 0xff));
        p->tfd = (uint32_t)tf.error << 8 | tf.status;
        ahci_post_d2h(p, &tf, false);
    }
}

static void ahci_link_up(struct ahci_port *p)
{
    unsigned limit = p->sctl >> 4 & 15, speed = limit == 1 ? 1 : 2;
    p->ssts = p->drive ? SSTS_LINK | speed << 4 : 0;
    p->serr |= p->drive ? (uint32_t)SERR_X | SERR_N : 0;
}

/* COMRESET: at once, or when what flies has landed. */
static void ahci_comreset(struct ahci_port *p)
{
    ahci_give_up(p);
    p->sact = p->ci = 0;
    p->halted = p->srst = false;
    ahci_link_up(p);
    p->tfd = p->drive ? ATA_BSY : TFD_NONE;
    p->sig = UINT32_MAX;
    p->reset_asked = p->drive;
    if (!p->flying && !p->hba->resetting) {
        ahci_port_settled(p);
    }
    ahci_update_irq(p);
}

void ahci_port_reset(struct ahci_port *p)
{
    p->clb = p->fb = 0;
    p->is = p->ie = p->cmd = p->sctl = p->serr = 0;
    p->last = AHCI_SLOTS - 1;
    ahci_comreset(p);
}

/* ---- Registers ---- */

/* Two bits show what SERR has. */
static uint32_t ahci_port_is(const struct ahci_port *p)
{
    return p->is | (p->serr & SERR_X ? (uint32_t)IS_PCS : 0) |
           (p->serr & SERR_N ? (uint32_t)IS_PRCS : 0);
}

static void ahci_write_cmd(struct ahci_port *p, uint32_t val)
{
    uint32_t old = p->cmd;
    p->cmd = val & CMD_WRITABLE;
    if ((val & CMD_CLO) && !(p->cmd & CMD_ST)) {
        p->tfd &= ~(uint32_t)(ATA_BSY | ATA_DRQ);
    }
    if ((old & CMD_ST) && !(val & CMD_ST)) {
        ahci_give_up(p);
        p->sact = p->ci = 0;
        p->halted = false;
    }
    if (!(old & CMD_ST) && (val & CMD_ST)) {
        p->last = AHCI_SLOTS - 1;
        ahci_kick(p);
    }
}

static void ahci_write_sctl(struct ahci_port *p, uint32_t val)
{
    unsigned was = p->sctl & 15, now = val & 15;
    p->sctl = val & 0xfff;
    if (now == DET_RESET || now == DET_OFF) {
        ahci_give_up(p);
        p->ssts = now == DET_OFF ? DET_OFF : 0;
        p->tfd = TFD_NONE;
        p->reset_asked = false;
    } else if (was != DET_NONE) {
        ahci_comreset(p);
    }
}

static uint32_t ahci_read_cmd(const struct ahci_port *p)
{
    bool runs = (p->cmd & CMD_ST) || p->flying;
    return p->cmd | CMD_POWERED | (p->cmd & CMD_FRE ? CMD_FR : 0) | (runs ? CMD_CR : 0) |
           (p->cmd & CMD_ST ? (p->last & 31) << 8 : 0);
}

uint32_t ahci_port_read(struct ahci_port *p, unsigned off)
{
    switch (off) {
    case PX_CLB: return (uint32_t)p->clb;
    case PX_CLBU: return (uint32_t)(p->clb >> 32);
    case PX_FB: return (uint32_t)p->fb;
    case PX_FBU: return (uint32_t)(p->fb >> 32);
    case PX_IS: return ahci_port_is(p);
    case PX_IE: return p->ie;
    case PX_CMD: return ahci_read_cmd(p);
    case PX_TFD: return p->tfd;
    case PX_SIG: return p->sig;
    case PX_SSTS: return p->ssts;
    case PX_SCTL: return p->sctl;
    case PX_SERR: return p->serr;
    case PX_SACT: return p->sact;
    case PX_CI: return p->ci;
    default: return 0;
    }
}

static void put_half(uint64_t *reg, bool high, uint32_t val, uint32_t mask)
{
    *reg = high ? (*reg & UINT32_MAX) | (uint64_t)val << 32
                : (*reg & ~(uint64_t)UINT32_MAX) | (val & mask);
}

void ahci_port_write(struct ahci_port *p, unsigned off, uint32_t val)
{
    switch (off) {
    case PX_CLB:
    case PX_CLBU: put_half(&p->clb, off == PX_CLBU, val, ~0x3ffu); break;
    case PX_FB:
    case PX_FBU: put_half(&p->fb, off == PX_FBU, val, ~0xffu); break;
    case PX_IS: p->is &= ~val; break;
    case PX_IE: p->ie = val & IE_MASK; break;
    case PX_CMD: ahci_write_cmd(p, val); break;
    case PX_SCTL: ahci_write_sctl(p, val); break;
    case PX_SERR: p->serr &= ~val; break;
    case PX_SACT: p->sact |= p->cmd & CMD_ST ? val : 0; break;
    case PX_CI:
        p->ci |= p->cmd & CMD_ST ? val : 0;
        ahci_kick(p);
        break;
    }
    if (off == PX_IE) {
        ahci_update_irq(p);
    }
}
