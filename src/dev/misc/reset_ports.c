/*
 * Reset by port: the command feh of the keyboard controller at 64h (IBM PC/AT technical
 * reference), fast reset and A20 of port 92h, reset control register cf9h (Intel ICH data sheets).
 * Does not do: the keyboard controller itself; its status reads as "nothing there" (all ones).
 */
#include "dev/misc/reset_ports.h"

#include "core/machine.h"

enum { PORT92_RESET = 1, PORT92_A20 = 2 };

static enum mem_result none_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    return MEM_NONE;
}

static enum mem_result kbc_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    if (val == 0xfe) {
        machine_ask(dev, MACHINE_REQ_RESET, 0);
    }
    return MEM_OK;
}

static enum mem_result port92_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    const struct machine *m = dev;
    *val = m->a20_off ? 0 : PORT92_A20;
    return MEM_OK;
}

static enum mem_result port92_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    if (val & PORT92_RESET) {
        machine_ask(dev, MACHINE_REQ_RESET, 0);
    }
    machine_set_a20(dev, val & PORT92_A20);
    return MEM_OK;
}

static enum mem_result cf9_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    *val = 0;
    return MEM_OK;
}

static enum mem_result cf9_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    if (val & 4) {
        machine_ask(dev, MACHINE_REQ_RESET, 0);
    }
    return MEM_OK;
}

static const struct mmio kbc_ports = {none_read, kbc_write, 1, 1};
static const struct mmio port92_ports = {port92_read, port92_write, 1, 1};
static const struct mmio cf9_ports = {cf9_read, cf9_write, 1, 1};

void reset_ports_map(struct machine *machine)
{
    mem_map_add_mmio(machine->io, 0x64, 1, &kbc_ports, machine);
    mem_map_add_mmio(machine->io, 0x92, 1, &port92_ports, machine);
    mem_map_add_mmio(machine->io, 0xcf9, 1, &cf9_ports, machine);
}
