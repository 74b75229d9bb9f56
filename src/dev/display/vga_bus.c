/*
 * A VGA on PCI: QEMU's "standard VGA" specification says where registers are in a BAR.
 *
 * Does not do: a big-endian frame buffer (the register keeps to little endian).
 */
#include "dev/display/vga_bus.h"

#include <stdlib.h>

#include "base/endian.h"
#include "core/machine.h"
#include "dev/display/vga.h"
#include "dev/firmware/firmware.h"
#include "dev/pci/pci.h"

enum {
    MMIO_PORTS = 0x400,
    MMIO_PORTS_SIZE = 0x20,
    MMIO_DISPI = 0x500,
    MMIO_DISPI_SIZE = 0x16,
    MMIO_EXTENDED = 0x600,
    MMIO_EXTENDED_SIZE = 8,
    ROM_MAX = 1 << 20,
};

#define LITTLE_ENDIAN_MARK 0x1e1e1e1eu

/* ---- Registers in a BAR ---- */

static enum mem_result extended_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    *val = off ? LITTLE_ENDIAN_MARK : MMIO_EXTENDED_SIZE;
    return MEM_OK;
}

static enum mem_result extended_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    return MEM_OK;
}

static const struct mmio extended_ops = {extended_read, extended_write, 4, 4};

void vga_bar_add_registers(struct pci_func *f, unsigned bar, struct vga *vga, bool ports)
{
    if (ports) {
        pci_bar_put_mmio(f, bar, MMIO_PORTS, MMIO_PORTS_SIZE, &vga_mmio_ports, vga);
    }
    pci_bar_put_mmio(f, bar, MMIO_DISPI, MMIO_DISPI_SIZE, &vga_mmio_dispi, vga);
    pci_bar_put_mmio(f, bar, MMIO_EXTENDED, MMIO_EXTENDED_SIZE, &extended_ops, vga);
}

/* ---- Legacy addresses ---- */

static struct mem_node *legacy_node(struct mem_map *map, struct mem_node *root, uint32_t at,
                                    uint32_t len, const struct mmio *ops, struct vga *vga)
{
    mem_map_begin(map);
    struct mem_node *n = mem_map_add_mmio(map, at, len, ops, vga);
    mem_node_place(n, root, at, 0);
    mem_node_enable(n, false);
    mem_map_commit(map);
    return n;
}

void vga_legacy_add(struct vga_legacy *l, struct pci_func *f, struct vga *vga)
{
    const struct machine *m = f->dev->machine;
    const struct pci_root *r = f->bus->root;
    l->memory = legacy_node(m->mem, r->mem, VGA_WINDOW, VGA_WINDOW_SIZE, &vga_memory, vga);
    l->ports = legacy_node(m->io, r->io, VGA_PORT_BASE, VGA_PORT_COUNT, &vga_ports, vga);
    l->dispi =
        legacy_node(m->io, r->io, VGA_DISPI_PORT, VGA_DISPI_PORT_COUNT, &vga_dispi_ports, vga);
}

void vga_legacy_update(struct vga_legacy *l, const struct pci_func *f)
{
    const struct machine *m = f->dev->machine;
    unsigned command = load_le16(f->config + PCI_COMMAND);
    mem_map_begin(m->mem);
    mem_map_begin(m->io);
    mem_node_enable(l->memory, command & PCI_COMMAND_MEMORY);
    mem_node_enable(l->ports, command & PCI_COMMAND_IO);
    mem_node_enable(l->dispi, command & PCI_COMMAND_IO);
    mem_map_commit(m->io);
    mem_map_commit(m->mem);
}

/* ---- The ROM ---- */

int vga_rom_add(struct pci_func *f, const char *name, struct err *err)
{
    struct firmware_file file = {0};
    if (!name || !*name) {
        return 0;
    }
    int ret = firmware_read(f->dev->machine, name, ROM_MAX, &file, err);
    ret = ret ? ret : pci_rom_add(f, file.bytes, file.len, err);
    free(file.bytes);
    return ret;
}
