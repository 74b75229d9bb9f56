/*
 * SCSI buses: addresses, and what a target says itself. SAM-5 (r21) 4.7, SPC-4 (r36) 6.33.
 *
 * Does not do: well-known logical units other than REPORT LUNS, hot plug.
 */
#include "dev/scsi/scsi_bus.h"

#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/scsi/scsi_internal.h"

enum {
    OP_TEST_UNIT_READY = 0x00,
    OP_REQUEST_SENSE = 0x03,
    OP_INQUIRY = 0x12,
    OP_REPORT_LUNS = 0xa0,
    NO_SUCH_UNIT = 0x2500,
    QUALIFIER_NO_UNIT = 0x7f, /* never a unit here */
    LUN_BYTES = 8,
};

/* ---- Bus ---- */

static int scsi_bus_attach(struct bus *bus, struct dev *dev, struct err *err)
{
    return 0; /* the device looks for its address when it knows its options */
}

const struct bus_type scsi_bus_type = {"SCSI", scsi_bus_attach};

void scsi_bus_add(struct machine *m, struct scsi_bus *bus, const char *owner_id)
{
    unsigned n = 0;
    if (owner_id) {
        snprintf(bus->id, sizeof(bus->id), "%.32s.0", owner_id);
    } else {
        do {
            snprintf(bus->id, sizeof(bus->id), "scsi.%u", n++);
        } while (bus_find(m, bus->id));
    }
    bus->bus = (struct bus){.type = &scsi_bus_type, .id = bus->id, .owner = bus};
    bus_add(m, &bus->bus);
}

static bool same_target(const struct scsi_addr *a, const struct scsi_addr *b)
{
    return a->channel == b->channel && a->target == b->target;
}

struct scsi_dev *scsi_bus_find(const struct scsi_bus *bus, const struct scsi_addr *at)
{
    struct scsi_dev *d = bus->first;
    while (d && !(same_target(&d->at, at) && d->at.lun == at->lun)) {
        d = d->next;
    }
    return d;
}

bool scsi_bus_has_target(const struct scsi_bus *bus, const struct scsi_addr *at)
{
    const struct scsi_dev *d = bus->first;
    while (d && !same_target(&d->at, at)) {
        d = d->next;
    }
    return d;
}

/* ---- Logical unit numbers ---- */

uint32_t scsi_lun_parse(const uint8_t *lun)
{
    switch (lun[0] >> 6) {
    case 0: return lun[0] ? UINT32_MAX : lun[1];
    case 1: return load_be16(lun) & 0x3fff;
    default: return UINT32_MAX;
    }
}

void scsi_lun_put(uint8_t *at, uint32_t lun)
{
    memset(at, 0, LUN_BYTES);
    store_be16(at, (uint16_t)(lun < 256 ? lun : 0x4000 | (lun & 0x3fff)));
}

/* ---- What the target answers ---- */

static void target_put_lun(struct scsi_cmd *cmd, unsigned *len, uint32_t lun)
{
    if (*len <= SCSI_BUF - LUN_BYTES) {
        scsi_lun_put(cmd->buf + *len, lun);
        *len += LUN_BYTES;
    }
}

/* LUN 0 is always in the list (SPC-4 6.33.1); the others in ascending order. */
static void target_report_luns(const struct scsi_bus *bus, const struct scsi_addr *at,
                               struct scsi_cmd *cmd)
{
    uint32_t room = load_be32(cmd->cdb + 6);
    unsigned len = 8;
    if (cmd->cdb[2] > 2 || room < 16) {
        scsi_bad_field(cmd);
        return;
    }
    if (cmd->cdb[2] != 1) { /* 1: well-known units only */
        target_put_lun(cmd, &len, 0);
        for (uint32_t after = 0; after != UINT32_MAX;) {
            uint32_t next = UINT32_MAX;
            for (const struct scsi_dev *d = bus->first; d; d = d->next) {
                bool later = same_target(&d->at, at) && d->at.lun > after;
                next = later && d->at.lun < next ? d->at.lun : next;
            }
            if (next != UINT32_MAX) {
                target_put_lun(cmd, &len, next);
            }
            after = next;
        }
    }
    store_be32(cmd->buf, len - 8);
    scsi_reply(cmd, len, room);
}

static void target_inquiry(struct scsi_cmd *cmd)
{
    if (cmd->cdb[1] || cmd->cdb[2]) {
        scsi_bad_field(cmd);
        return;
    }
    cmd->buf[0] = QUALIFIER_NO_UNIT;
    cmd->buf[2] = 5;
    cmd->buf[3] = 0x12;
    cmd->buf[4] = 36 - 5;
    scsi_reply(cmd, 36, load_be16(cmd->cdb + 3));
}

static void target_request_sense(struct scsi_cmd *cmd)
{
    const struct scsi_sense sense = {SENSE_ILLEGAL, NO_SUCH_UNIT >> 8, 0};
    scsi_put_sense(cmd->buf, &sense);
    scsi_reply(cmd, SCSI_SENSE_BYTES, cmd->cdb[4]);
}

static void target_clear(struct scsi_cmd *cmd)
{
    uint8_t *buf = cmd->buf;
    uint8_t cdb[sizeof(cmd->cdb)];
    memcpy(cdb, cmd->cdb, sizeof(cdb));
    *cmd = (struct scsi_cmd){.buf = buf, .data = SCSI_NO_DATA, .status = SCSI_GOOD};
    memcpy(cmd->cdb, cdb, sizeof(cdb));
    memset(buf, 0, SCSI_BUF);
}

void scsi_target_begin(const struct scsi_bus *bus, const struct scsi_addr *at, struct scsi_dev *dev,
                       struct scsi_cmd *cmd)
{
    if (dev && cmd->cdb[0] != OP_REPORT_LUNS) {
        scsi_begin(&dev->lu, cmd);
        return;
    }
    target_clear(cmd);
    switch (cmd->cdb[0]) {
    case OP_REPORT_LUNS: target_report_luns(bus, at, cmd); break;
    case OP_INQUIRY: target_inquiry(cmd); break;
    case OP_REQUEST_SENSE: target_request_sense(cmd); break;
    default: scsi_fail(cmd, SENSE_ILLEGAL, NO_SUCH_UNIT);
    }
}
