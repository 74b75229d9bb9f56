/*
 * Debug exit: a write of n ends the process with status (n << 1) | 1. Not real hardware; the
 * behaviour is what test suites of kernels expect under this name.
 */
#include "dev/misc/isa_debug_exit.h"

#include "base/bits.h"
#include "core/machine.h"
#include "dev/isa/isa_bus.h"
#include "state/field.h"

struct isa_debug_exit {
    struct dev dev;
    uint32_t iobase, iosize;
};

static const struct prop debug_exit_props[] = {
    {"iobase", PROP_U32, offsetof(struct isa_debug_exit, iobase), "0x501", "port"},
    {"iosize", PROP_U32, offsetof(struct isa_debug_exit, iosize), "2", "number of ports"},
    {0},
};

static enum mem_result debug_exit_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    *val = 0;
    return MEM_OK;
}

static enum mem_result debug_exit_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct isa_debug_exit *d = opaque;
    machine_ask(d->dev.machine, MACHINE_REQ_EXIT, (int)(val << 1 | 1) & 0xff);
    return MEM_OK;
}

static const struct mmio debug_exit_ports = {debug_exit_read, debug_exit_write, 1, 4};

static int debug_exit_init(struct dev *dev, struct err *err)
{
    struct isa_debug_exit *d = container_of(dev, struct isa_debug_exit, dev);
    return isa_add_ports(dev, d->iobase, d->iosize, &debug_exit_ports, d, err);
}

/* ---- State ---- */

static const struct field isa_debug_exit_list[] = {
    FIELD(struct isa_debug_exit, dev, FIELD_HOST),
    FIELD(struct isa_debug_exit, iobase, FIELD_CONFIG),
    FIELD(struct isa_debug_exit, iosize, FIELD_CONFIG),
};

FIELD_SET(isa_debug_exit_fields, "isa-debug-exit", struct isa_debug_exit, isa_debug_exit_list, 1);

const struct dev_type isa_debug_exit_type = {
    .name = "isa-debug-exit",
    .summary = "a write of n ends the process with status 2n+1",
    .bus = "isa",
    .size = sizeof(struct isa_debug_exit),
    .state = &isa_debug_exit_fields,
    .props = debug_exit_props,
    .init = debug_exit_init,
};
