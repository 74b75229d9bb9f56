/*
 * Commands of an AHCI port: AHCI 1.3.1 clauses 4.2.2 (command list), 5.3 and 5.4 (operation), 6.2
 * (errors).
 *
 * A bit in PxCI is fetched when the device is not busy; one that is not queued waits until the
 * queued ones have ended. All data of a command moves through its PRD table in one job.
 * After an error nothing more is fetched, and what flies is dead, until ST is cleared.
 *
 * Does not do: port multipliers (FBS), interrupts of single PRDs (DPS), DMA setup FIS.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "dev/ata/ahci_internal.h"

enum { HEADER_BYTES = 32, TABLE_PRDT = 0x80, TABLE_ACMD = 0x40, PRD_BYTES = 16, ACMD_BYTES = 16 };

static bool ahci_entry(const struct ata_sg *sg, uint32_t index, gpa_t *gpa, uint32_t *len,
                       bool *last)
{
    uint8_t prd[PRD_BYTES];
    if (!gmem_read(sg->mem, sg->table + (uint64_t)index * PRD_BYTES, prd, sizeof(prd))) {
        return false;
    }
    *gpa = load_le64(prd) & ~1ull;
    *len = (load_le32(prd + 12) & 0x3fffff) + 1;
    *len += *len & 1; /* it has to be even */
    *last = false;
    return true;
}

/* ---- Ends ---- */

static void ahci_raise(struct ahci_port *p, uint32_t is)
{
    p->is |= is;
    ahci_update_irq(p);
}

static void ahci_set_tfd(struct ahci_port *p, const struct ata_tf *tf)
{
    p->tfd = (uint32_t)tf->error << 8 | tf->status;
}

static uint32_t ahci_error_bits(const struct ahci_slot *s)
{
    int result = s->req.result;
    bool error = s->req.tf.status & ATA_ERR;
    return (error ? (uint32_t)IS_TFES : 0) | (result == -EFAULT ? (uint32_t)IS_HBFS : 0) |
           (result == -ENOBUFS ? (uint32_t)IS_OFS : 0);
}

/* A queued command. One that fails takes the others with it (SATA 13.6.3). */
static uint32_t ahci_end_queued(struct ahci_port *p, struct ahci_slot *s)
{
    struct ata_tf *tf = &s->req.tf;
    bool error = tf->status & ATA_ERR;
    if (error) {
        p->drive->queue_error.valid = true;
        p->drive->queue_error.tag = (uint8_t)s->n;
        p->drive->queue_error.tf = *tf;
    } else {
        p->sact &= ~(1u << s->n);
    }
    ahci_post_set_bits(p, tf, error ? 0 : 1u << s->n);
    ahci_set_tfd(p, tf);
    return IS_SDBS;
}

static uint32_t ahci_end_plain(struct ahci_port *p, struct ahci_slot *s)
{
    struct ata_req *req = &s->req;
    uint8_t moved[4];
    bool pio_in = req->proto == PROTO_IN && !req->dma && !req->atapi;
    store_le32(moved, (uint32_t)req->moved);
    ahci_mem_write(p->hba, s->header + 4, moved, sizeof(moved)); /* PRDBC */
    ahci_set_tfd(p, &req->tf);
    p->ci &= ~(1u << s->n);
    if (pio_in && req->moved && !(req->tf.status & ATA_ERR)) {
        ahci_post_pio_setup(p, req);
        return IS_PSS;
    }
    ahci_post_d2h(p, &req->tf, true);
    return IS_DHRS;
}

/* The command is over; proto still says how its data went. */
static void ahci_complete(struct ahci_port *p, struct ahci_slot *s)
{
    p->issued &= ~(1u << s->n);
    uint32_t is = s->req.ncq ? ahci_end_queued(p, s) : ahci_end_plain(p, s);
    uint32_t error = ahci_error_bits(s);
    if (error) {
        p->halted = true;
        ahci_give_up(p);
    }
    ahci_raise(p, is | error);
}

void ahci_give_up(struct ahci_port *p)
{
    for (unsigned n = 0; n < AHCI_SLOTS; n++) {
        struct ahci_slot *s = p->slot[n];
        if (s && s->flying && !s->dead) {
            s->dead = true;
            s->req.cancelled = true;
            p->dead++;
        }
    }
    p->issued = 0;
}

/* ---- Steps ---- */

static void ahci_end(struct ahci_port *p, struct ahci_slot *s)
{
    enum ata_proto proto = s->req.proto;
    ata_end(&s->req);
    s->req.proto = proto;
    ahci_complete(p, s);
}

static void ahci_run(struct ahci_port *p, struct ahci_slot *s, enum ata_step step);

static void ahci_step_done(struct ahci_port *p, struct ahci_slot *s)
{
    struct ata_req *req = &s->req;
    bool list = req->step == STEP_TRANSFER && req->proto == PROTO_OUT && !req->media;
    if (req->result || !list) {
        ahci_end(p, s);
        return;
    }
    ata_received(req); /* a parameter list is there */
    if (req->proto == PROTO_WORK) {
        ahci_run(p, s, STEP_WORK);
    } else {
        ahci_complete(p, s);
    }
}

static void ahci_run(struct ahci_port *p, struct ahci_slot *s, enum ata_step step)
{
    if (ata_run(&s->req, step)) {
        ahci_step_done(p, s);
        return;
    }
    s->flying = true;
    p->flying++;
}

/* On the image's loop. */
static void ahci_done(struct ata_req *req)
{
    struct ahci_slot *s = req->opaque;
    struct ahci_port *p = s->port;
    AUTO_LOCK(&p->hba->lock);
    s->flying = false;
    p->flying--;
    if (s->dead) {
        s->dead = false;
        p->dead--;
    } else {
        ahci_step_done(p, s);
    }
    if (!p->flying) {
        ahci_port_settled(p);
    }
    ahci_kick(p);
}

/* ---- Fetching ---- */

static struct ahci_slot *ahci_slot_at(struct ahci_port *p, unsigned n)
{
    if (!p->slot[n]) {
        struct ahci_slot *s = alloc_zero(sizeof(*s));
        s->port = p;
        s->n = n;
        s->req.done = ahci_done;
        s->req.opaque = s;
        p->slot[n] = s;
    }
    return p->slot[n];
}

/* C is clear: only the device control register changes. SRST up and down resets the device. */
static void ahci_control_fis(struct ahci_port *p, unsigned n, uint8_t control)
{
    p->ci &= ~(1u << n);
    if (control & FIS_SRST) {
        p->srst = true;
    } else if (p->srst) {
        p->srst = false;
        ahci_give_up(p);
        p->tfd = ATA_BSY;
        p->reset_asked = true;
        if (!p->flying) {
            ahci_port_settled(p);
        }
    }
}

static void ahci_begin(struct ahci_port *p, struct ahci_slot *s, const uint8_t *table)
{
    struct ata_req *req = &s->req;
    ata_begin(p->drive, req);
    if (req->ncq && req->proto != PROTO_DONE && req->tf.count >> 3 != s->n) {
        req->proto = PROTO_DONE; /* the tag has to be the slot */
        req->tf.status = ATA_DRDY | ATA_DSC | ATA_ERR;
        req->tf.error = ATA_ABRT;
    } else if (req->proto == PROTO_PACKET) {
        memcpy(req->scsi.cdb, table + TABLE_ACMD, ACMD_BYTES);
        ata_packet(req);
    }
    if (req->ncq) { /* accepted, or failed: the slot is the device's from here */
        p->ci &= ~(1u << s->n);
    } else {
        p->tfd = ATA_BSY;
    }
    switch (req->proto) {
    case PROTO_WORK: ahci_run(p, s, STEP_WORK); break;
    case PROTO_IN:
    case PROTO_OUT: ahci_run(p, s, STEP_TRANSFER); break;
    default: ahci_complete(p, s);
    }
}

static bool ahci_is_queued(const uint8_t *fis)
{
    return fis[2] == 0x60 || fis[2] == 0x61;
}

static void ahci_bus_error(struct ahci_port *p)
{
    p->halted = true;
    ahci_give_up(p);
    ahci_raise(p, IS_HBFS);
}

/* False: not yet, or not any more. */
static bool ahci_fetch(struct ahci_port *p, unsigned n)
{
    struct mem_map *mem = p->hba->wires->dma(p->hba->opaque);
    uint8_t head[HEADER_BYTES], table[TABLE_ACMD + ACMD_BYTES];
    gpa_t header = p->clb + n * HEADER_BYTES;
    if (!mem) {
        return false; /* no bus master: as if nothing were there */
    }
    if (!gmem_read(mem, header, head, sizeof(head))) {
        ahci_bus_error(p);
        return false;
    }
    gpa_t ctba = load_le64(head + 8) & ~0x7full;
    if (!gmem_read(mem, ctba, table, sizeof(table))) {
        ahci_bus_error(p);
        return false;
    }
    if (p->issued && !ahci_is_queued(table)) {
        return false;
    }
    p->last = n;
    if (table[0] != FIS_H2D || !(table[1] & FIS_COMMAND)) {
        ahci_control_fis(p, n, table[0] == FIS_H2D ? table[15] : 0);
        return true;
    }
    struct ahci_slot *s = ahci_slot_at(p, n);
    s->header = header;
    ahci_parse_fis(table, &s->req.tf);
    s->req.sg = (struct ata_sg){
        .mem = mem, .entry = ahci_entry, .table = ctba + TABLE_PRDT, .count = load_le16(head + 2)};
    p->issued |= 1u << n;
    ahci_begin(p, s, table);
    return true;
}

static bool ahci_ready(const struct ahci_port *p)
{
    return (p->cmd & CMD_ST) && p->drive && !p->halted && !p->dead && !p->reset_asked &&
           !p->hba->resetting && !(p->tfd & (ATA_BSY | ATA_DRQ));
}

/* Each turn takes a bit out of CI or adds one to issued: it ends. */
void ahci_kick(struct ahci_port *p)
{
    uint32_t todo;
    while (ahci_ready(p) && (todo = p->ci & ~p->issued)) {
        unsigned n = (p->last + 1) % AHCI_SLOTS;
        while (!(todo >> n & 1)) {
            n = (n + 1) % AHCI_SLOTS;
        }
        if (!ahci_fetch(p, n)) {
            return;
        }
    }
}

void ahci_port_free(struct ahci_port *p)
{
    for (unsigned n = 0; n < AHCI_SLOTS; n++) {
        if (p->slot[n]) {
            ata_req_free(&p->slot[n]->req);
            free(p->slot[n]);
        }
    }
}
