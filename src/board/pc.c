/*
 * pc: i440FX and PIIX3/PIIX4, with SeaBIOS or another firmware.
 *
 * Memory: RAM from 0 with a hole from a0000h to fffffh that the host bridge fills (pam.c), up to
 * 3.5 GiB (3 GiB if there is more), the rest from 4 GiB; everything else is PCI's. Firmware ends at
 * 4 GiB and shows its last 128 KiB below 1 MiB, too.
 * Interrupts: ISA lines to both PICs and the I/O APIC; PCI's by PIIX3 to ISA lines.
 */
#include "board/pc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "board/firmware.h"
#include "dev/firmware/fw_cfg.h"
#include "dev/irqchip/lapic.h"
#include "dev/misc/reset_ports.h"

enum { BIOS_MAX = 16 << 20, BIOS_LOW = 0x20000, PORT_SPACE = 0x10000 };
#define PC_DEFAULT_BIOS "bios-256k.bin"

static const struct prop pc_props[] = {
    {"acpi", PROP_BOOL, offsetof(struct pc, acpi), "on", "ACPI tables"},
    {"graphics", PROP_BOOL, offsetof(struct pc, graphics), "on", "firmware uses the screen"},
    {0},
};

static void pc_msi(void *opaque, gpa_t addr, uint32_t data)
{
    struct pc *pc = opaque;
    lapic_bus_msi(pc->x86.lapics, addr, data);
}

static struct irq_pin *pc_route(void *opaque, unsigned slot, unsigned pin)
{
    struct pc *pc = opaque;
    return piix3_route(&pc->isa_bridge, slot, pin);
}

/* What is added later lies over it: RAM, APICs, the board's own ports. */
static void pc_add_pci_space(struct pc *pc)
{
    struct machine *m = pc->x86.machine;
    pc->pci_mem = mem_map_add_container(m->mem, 0, 1ull << 52);
    pc->pci_io = mem_map_add_container(m->io, 0, PORT_SPACE);
}

static int pc_add_bios(struct pc *pc, struct err *err)
{
    struct machine *m = pc->x86.machine;
    const char *name = m->config.firmware ? m->config.firmware : PC_DEFAULT_BIOS;
    struct firmware_file f;
    int ret = firmware_read(m, name, BIOS_MAX, &f, err);
    if (ret) {
        return ret;
    }
    if (f.len & 0xffff) {
        free(f.bytes);
        return err_set(err, EINVAL, "firmware '%s': its size is no multiple of 64 KiB", name);
    }
    pc->bios = ram_set_add(&m->ram, "bios", f.len, err);
    if (pc->bios) {
        uint64_t low = f.len < BIOS_LOW ? f.len : BIOS_LOW;
        memcpy(pc->bios->host, f.bytes, f.len);
        mem_map_add_rom(m->mem, (1ull << 32) - f.len, pc->bios, 0, f.len);
        struct mem_node *n = mem_map_add_rom(m->mem, 0x100000 - low, pc->bios, f.len - low, low);
        mem_node_place(n, pc->pci_mem, 0x100000 - low, 0);
    }
    free(f.bytes);
    return pc->bios ? 0 : -ENOMEM;
}

static void pc_add_chipset(struct pc *pc)
{
    struct machine *m = pc->x86.machine;
    piix3_init_lines(&pc->isa_bridge, pc->x86.gsi);
    pc->pci.mem = pc->pci_mem;
    pc->pci.io = pc->pci_io;
    pc->pci.route = pc_route;
    pc->pci.msi = pc_msi;
    pc->pci.opaque = pc;
    pci_root_init(&pc->pci, m, "pci.0", false);
    mem_map_add_mmio(m->io, 0xcf8, 8, &pci_host_ports, &pc->pci);
    i440fx_init(&pc->host, &pc->pci.bus0, pc->x86.ram);
    piix3_init(&pc->isa_bridge, &pc->pci.bus0);
    piix_ide_init(&pc->ide, &pc->pci.bus0, pc->x86.gsi);
    piix4_pm_init(&pc->pm, &pc->pci.bus0, &pc->x86.gsi[PC_ACPI_SCI]);
}

static int pc_add_memory(struct pc *pc, struct err *err)
{
    bool much = pc->x86.machine->config.ram_size > PC_PCI_HOLE_MAX;
    pc_add_pci_space(pc);
    int ret = x86_board_add_ram(&pc->x86, much ? PC_PCI_HOLE_SPLIT : PC_PCI_HOLE_MAX, true, err);
    return ret ? ret : pc_add_bios(pc, err);
}

static int pc_init(struct machine *m, struct err *err)
{
    struct pc *pc = m->board_data;
    pc->x86.machine = m;
    int ret = pc_add_memory(pc, err);
    if (ret) {
        return ret;
    }
    x86_board_add_irqchips(&pc->x86, true);
    x86_board_add_isa(&pc->x86);
    x86_board_add_pit(&pc->x86);
    reset_ports_map(m); /* cf9h lies in the middle of PCI's ports */
    pc_add_chipset(pc);
    pc->fw_cfg = fw_cfg_new(m->mem);
    fw_cfg_map(pc->fw_cfg, m->io);
    ret = x86_board_add_rtc(&pc->x86, true, err);
    ret = ret ? ret : x86_board_add_cpus(&pc->x86, err);
    return ret ? ret : x86_board_add_serial(&pc->x86, err);
}

static void pc_reset_chips(struct pc *pc)
{
    x86_board_reset(&pc->x86);
    i440fx_reset(&pc->host);
    piix3_reset(&pc->isa_bridge);
    piix_ide_reset(&pc->ide);
    piix4_pm_reset(&pc->pm);
    fw_cfg_reset(pc->fw_cfg);
}

/* Also at each reset, after the devices' own. RAM keeps its bytes, as it does on a PC. */
static int pc_load(struct machine *m, struct err *err)
{
    struct pc *pc = m->board_data;
    memset(&m->boot, 0, sizeof(m->boot));
    pc_reset_chips(pc);
    int ret = pc_configure(pc, err);
    ret = ret ? ret : pc_add_kernel(pc, err);
    return ret || !pc->acpi ? ret : pc_add_acpi(pc, err);
}

static void pc_fini(struct machine *m)
{
    struct pc *pc = m->board_data;
    fw_cfg_free(pc->fw_cfg);
    piix4_pm_fini(&pc->pm);
    piix_ide_fini(&pc->ide);
    piix3_fini(&pc->isa_bridge);
    i440fx_fini(&pc->host);
    pci_root_fini(&pc->pci);
    x86_board_fini(&pc->x86);
}

const struct board_type board_pc = {
    .name = "pc",
    .summary = "PC with i440FX and PIIX",
    .default_cpu = "qemu64",
    .default_ram = 128 << 20,
    .max_vcpus = MACHINE_MAX_VCPUS,
    .pci = true,
    .props = pc_props,
    .size = sizeof(struct pc),
    .init = pc_init,
    .load = pc_load,
    .fini = pc_fini,
};
