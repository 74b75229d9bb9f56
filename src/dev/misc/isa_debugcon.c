/* The debug console of Bochs and QEMU: writes print, a read says that it is there. */
#include "dev/misc/isa_debugcon.h"

#include <errno.h>

#include "base/bits.h"
#include "base/err.h"
#include "chardev/chardev.h"
#include "core/machine.h"
#include "dev/isa/isa_bus.h"
#include "state/field.h"

struct isa_debugcon {
    struct dev dev;
    char *chardev_id;
    uint32_t iobase, readback;
    struct chardev *chardev;
};

static const struct prop debugcon_props[] = {
    {"chardev", PROP_TEXT, offsetof(struct isa_debugcon, chardev_id), NULL, "character device"},
    {"iobase", PROP_U32, offsetof(struct isa_debugcon, iobase), "0xe9", "port"},
    {"readback", PROP_U32, offsetof(struct isa_debugcon, readback), "0xe9", "what a read gives"},
    {0},
};

static enum mem_result debugcon_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    const struct isa_debugcon *d = opaque;
    *val = d->readback;
    return MEM_OK;
}

/* What the other side does not take now is lost: firmware does not wait. */
static enum mem_result debugcon_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct isa_debugcon *d = opaque;
    uint8_t byte = (uint8_t)val;
    chardev_write(d->chardev, &byte, 1);
    return MEM_OK;
}

static const struct mmio debugcon_ports = {debugcon_read, debugcon_write, 1, 1};

static int debugcon_init(struct dev *dev, struct err *err)
{
    struct isa_debugcon *d = container_of(dev, struct isa_debugcon, dev);
    struct backend *b =
        d->chardev_id ? machine_find_backend(dev->machine, "chardev", d->chardev_id) : NULL;
    if (!b || b->taken) {
        return err_set(err, EINVAL, "isa-debugcon: chardev=%s: %s",
                       d->chardev_id ? d->chardev_id : "",
                       b ? "it is in use" : "there is no such -chardev");
    }
    b->taken = true;
    d->chardev = b->obj;
    return isa_add_ports(dev, d->iobase, 1, &debugcon_ports, d, err);
}

/* ---- State ---- */

static const struct field isa_debugcon_list[] = {
    FIELD(struct isa_debugcon, dev, FIELD_HOST),
    FIELD(struct isa_debugcon, chardev_id, FIELD_HOST),
    FIELD(struct isa_debugcon, iobase, FIELD_CONFIG),
    FIELD(struct isa_debugcon, readback, FIELD_CONFIG),
    FIELD(struct isa_debugcon, chardev, FIELD_HOST),
};

FIELD_SET(isa_debugcon_fields, "isa-debugcon", struct isa_debugcon, isa_debugcon_list, 1);

const struct dev_type isa_debugcon_type = {
    .name = "isa-debugcon",
    .summary = "bytes written to a port go to a character device",
    .bus = "isa",
    .size = sizeof(struct isa_debugcon),
    .state = &isa_debugcon_fields,
    .props = debugcon_props,
    .init = debugcon_init,
};
