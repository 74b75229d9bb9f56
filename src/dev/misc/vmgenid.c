/*
 * VM generation ID: "Virtual Machine Generation ID" of Microsoft (2012); docs/specs/vmgenid of
 * QEMU. 16 bytes in the guest's memory that differ between copies of a machine. The board's ACPI
 * tables have the device and firmware finds room for the bytes.
 *
 * Does not do: another ID while the guest runs, and its notification: no state is ever restored.
 */
#include "dev/misc/vmgenid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/bits.h"
#include "base/err.h"
#include "core/device.h"
#include "core/machine.h"
#include "state/field.h"

struct vmgenid {
    struct dev dev;
    char *guid;
    uint8_t bytes[VMGENID_BYTES];
};

/* Where the pairs of digits of the text go: the first three groups are numbers, little endian. */
static const uint8_t places[VMGENID_BYTES] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

static bool guid_parse(const char *text, uint8_t *bytes)
{
    static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    unsigned n = 0;
    if (strlen(text) != strlen(shape)) {
        return false;
    }
    for (unsigned i = 0; shape[i]; i++) {
        static const char digits[] = "0123456789abcdef0123456789ABCDEF";
        const char *d = strchr(digits, text[i]);
        if (shape[i] == '-' ? text[i] != '-' : !d) {
            return false;
        }
        if (shape[i] == 'x') {
            uint8_t *to = &bytes[places[n++ / 2]];
            *to = (uint8_t)(*to << 4 | ((d - digits) & 15));
        }
    }
    return true;
}

static const struct vmgenid *vmgenid_find(const struct machine *m)
{
    const struct dev *d = m->devs;
    while (d && d->type != &vmgenid_type) {
        d = d->next;
    }
    return d ? container_of(d, struct vmgenid, dev) : NULL;
}

const uint8_t *vmgenid_bytes(const struct machine *m)
{
    const struct vmgenid *v = vmgenid_find(m);
    return v ? v->bytes : NULL;
}

bool vmgenid_text(const struct machine *m, char text[VMGENID_TEXT])
{
    const struct vmgenid *v = vmgenid_find(m);
    unsigned at = 0;
    for (unsigned i = 0; v && i < VMGENID_BYTES; i++) {
        bool dash = i == 4 || i == 6 || i == 8 || i == 10;
        at += (unsigned)snprintf(text + at, VMGENID_TEXT - at, dash ? "-%02x" : "%02x",
                                 v->bytes[places[i]]);
    }
    return v != NULL;
}

static int vmgenid_init(struct dev *dev, struct err *err)
{
    struct vmgenid *v = container_of(dev, struct vmgenid, dev);
    for (const struct dev *d = dev->next; d; d = d->next) {
        if (d->type == dev->type) {
            return err_set(err, EEXIST, "vmgenid: there is one already, and a machine has one");
        }
    }
    if (!dev->machine->board->pci) {
        return err_set(err, EINVAL, "vmgenid: needs firmware; use machine 'pc' or 'q35'");
    }
    if (strcmp(v->guid, "auto")) {
        return guid_parse(v->guid, v->bytes)
                   ? 0
                   : err_set(err, EINVAL,
                             "vmgenid: '%s' is no GUID; give 'auto' or one like "
                             "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87",
                             v->guid);
    }
    if (getrandom(v->bytes, sizeof(v->bytes), 0) != sizeof(v->bytes)) {
        return err_set(err, errno, "vmgenid: the host gives no random numbers");
    }
    v->bytes[7] = (v->bytes[7] & 0x0f) | 0x40; /* RFC 4122 4.4: a random one */
    v->bytes[8] = (v->bytes[8] & 0x3f) | 0x80;
    return 0;
}

static const struct prop vmgenid_props[] = {
    {"guid", PROP_TEXT, offsetof(struct vmgenid, guid), "auto", "the ID, or 'auto': a random one"},
    {0},
};

/* ---- State ---- */

static const struct field vmgenid_list[] = {
    FIELD(struct vmgenid, dev, FIELD_HOST),
    FIELD(struct vmgenid, guid, FIELD_HOST),
    FIELD(struct vmgenid, bytes, FIELD_HOST),
};

FIELD_SET(vmgenid_fields, "vmgenid", struct vmgenid, vmgenid_list, 1);

const struct dev_type vmgenid_type = {
    .name = "vmgenid",
    .summary = "an ID that tells the guest from its copies",
    .spec = "VM generation ID",
    .size = sizeof(struct vmgenid),
    .state = &vmgenid_fields,
    .props = vmgenid_props,
    .init = vmgenid_init,
};
