/*
 * Memory, firmware and the common chips of boards with firmware and PCI.
 *
 * RAM from 0 with a hole from a0000h to fffffh that the host bridge fills (pam.c), up to the
 * board's limit below 4 GiB, the rest from 4 GiB; everything else is PCI's. Firmware ends at 4 GiB
 * and shows its last 128 KiB below 1 MiB, too.
 */
#include "board/pc_base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "dev/firmware/firmware.h"
#include "dev/firmware/fw_cfg.h"
#include "dev/firmware/pflash.h"
#include "dev/floppy/isa_fdc.h"
#include "dev/input/i8042.h"
#include "dev/irqchip/lapic.h"
#include "dev/misc/reset_ports.h"
#include "state/field.h"

enum { BIOS_MAX = 16 << 20, BIOS_LOW = 0x20000, PORT_SPACE = 0x10000 };
#define PC_DEFAULT_BIOS "bios-256k.bin"

static void pc_msi(void *opaque, gpa_t addr, uint32_t data)
{
    struct pc_base *b = opaque;
    lapic_bus_msi(b->x86.lapics, addr, data);
}

/* What is added later lies over it: RAM, APICs, the board's own ports. */
static void pc_add_pci_space(struct pc_base *b)
{
    struct machine *m = b->x86.machine;
    b->pci_mem = mem_map_add_container(m->mem, 0, 1ull << 52);
    b->pci_io = mem_map_add_container(m->io, 0, PORT_SPACE);
}

/* The end of firmware below 1 MiB, where the processor starts. */
static void pc_add_low_bios(struct pc_base *b)
{
    struct machine *m = b->x86.machine;
    uint64_t low = b->bios->size < BIOS_LOW ? b->bios->size : BIOS_LOW;
    struct mem_node *n = mem_map_add_rom(m->mem, 0x100000 - low, b->bios, b->bios->size - low, low);
    mem_node_place(n, b->pci_mem, 0x100000 - low, 0);
}

static int pc_add_bios(struct pc_base *b, struct err *err)
{
    struct machine *m = b->x86.machine;
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
    b->bios = ram_set_add(&m->ram, "bios", f.len, err);
    if (b->bios) {
        memcpy(b->bios->host, f.bytes, f.len);
        mem_map_add_rom(m->mem, (1ull << 32) - f.len, b->bios, 0, f.len);
        pc_add_low_bios(b);
    }
    free(f.bytes);
    return b->bios ? 0 : -ENOMEM;
}

/* The drive of flash n: -machine pflash0=, -drive if=pflash or -pflash. */
static const char *pc_flash_drive(const struct pc_base *b, unsigned n)
{
    static const char *const made[PC_FLASHES] = {"pflash0", "pflash1"};
    if (b->pflash[n]) {
        return b->pflash[n];
    }
    return machine_find_backend(b->x86.machine, "drive", made[n]) ? made[n] : NULL;
}

/* The first one ends at 4 GiB, the second lies below it. */
static int pc_add_flash(struct pc_base *b, struct err *err)
{
    uint64_t end = 1ull << 32;
    for (unsigned n = 0; n < PC_FLASHES && pc_flash_drive(b, n); n++) {
        struct keyval args = {0};
        char text[24];
        snprintf(text, sizeof(text), "%llu", (unsigned long long)end);
        keyval_add(&args, "drive", pc_flash_drive(b, n));
        keyval_add(&args, "end", text);
        const struct dev *d = dev_new(b->x86.machine, &pflash_type, &args, err);
        keyval_free(&args);
        if (!d) {
            return -EINVAL;
        }
        end -= pflash_ram(d)->size;
        b->bios = n ? b->bios : pflash_ram(d);
    }
    pc_add_low_bios(b);
    return 0;
}

int pc_add_memory(struct pc_base *b, uint64_t most, uint64_t split, struct err *err)
{
    pc_add_pci_space(b);
    uint64_t max = b->x86.machine->config.ram_size > most ? split : most;
    int ret = x86_board_add_ram(&b->x86, max, true, err);
    if (ret) {
        return ret;
    }
    return pc_flash_drive(b, 0) ? pc_add_flash(b, err) : pc_add_bios(b, err);
}

int pc_set_globals(struct pc_base *b, const char *name, const struct prop *props, struct err *err)
{
    struct machine *m = b->x86.machine;
    prop_presets(props, m->board_data);
    int ret = dev_set_globals(m, name, NULL, props, m->board_data, err);
    if (!ret && !(b->no_s3 && b->no_s4)) {
        ret = err_set(err, ENOTSUP,
                      "-global %s.disable_s3, disable_s4: the machine does not sleep; "
                      "leave them out, or give 1",
                      name);
    }
    return ret;
}

void pc_add_chips(struct pc_base *b, uint32_t hpet_routes)
{
    struct machine *m = b->x86.machine;
    x86_board_add_irqchips(&b->x86, true);
    x86_board_add_isa(&b->x86);
    x86_board_add_dma(&b->x86);
    x86_board_add_pit(&b->x86);
    if (b->hpet) {
        x86_board_add_hpet(&b->x86, hpet_routes);
    }
    reset_ports_map(m);
    b->keyboard = i8042_new(m, &b->x86.gsi[1], &b->x86.gsi[12]);
    b->fw_cfg = fw_cfg_new(m->mem);
    fw_cfg_map(b->fw_cfg, m->io);
}

void pc_add_pci(struct pc_base *b, const char *id, bool express,
                struct irq_pin *(*route)(void *, unsigned, unsigned), void *board)
{
    struct machine *m = b->x86.machine;
    b->pci.mem = b->pci_mem;
    b->pci.io = b->pci_io;
    b->pci.route = route;
    b->pci.msi = pc_msi;
    b->pci.msi_opaque = b;
    b->pci.opaque = board;
    pci_root_init(&b->pci, m, id, express);
    mem_map_add_mmio(m->io, 0xcf8, 8, &pci_host_ports, &b->pci);
}

static int pc_add_floppy(struct pc_base *b, struct err *err)
{
    return dev_new(b->x86.machine, &isa_fdc_type, NULL, err) ? 0 : -EINVAL;
}

int pc_add_rest(struct pc_base *b, const struct pci_func *isa_bridge, bool floppy, struct err *err)
{
    b->x86.isa.bridge = isa_bridge;
    int ret = x86_board_add_rtc(&b->x86, true, err);
    ret = ret ? ret : x86_board_add_cpus(&b->x86, err);
    ret = ret ? ret : x86_board_add_serial(&b->x86, err);
    ret = ret ? ret : x86_board_add_parallel(&b->x86, err);
    return ret || !floppy ? ret : pc_add_floppy(b, err);
}

void pc_reset(struct pc_base *b)
{
    x86_board_reset(&b->x86);
    i8042_reset(b->keyboard);
    fw_cfg_reset(b->fw_cfg);
}

void pc_fini(struct pc_base *b)
{
    fw_cfg_free(b->fw_cfg);
    i8042_free(b->keyboard);
    pci_root_fini(&b->pci);
    x86_board_fini(&b->x86);
}

/* ---- State ---- */

static const struct field pc_base_list[] = {
    FIELD(struct pc_base, acpi, FIELD_CONFIG),
    FIELD(struct pc_base, graphics, FIELD_CONFIG),
    FIELD(struct pc_base, hpet, FIELD_CONFIG),
    FIELD(struct pc_base, smm, FIELD_CONFIG),
    FIELD(struct pc_base, no_s3, FIELD_CONFIG),
    FIELD(struct pc_base, no_s4, FIELD_CONFIG),
    FIELD(struct pc_base, pflash, FIELD_HOST),
    FIELD(struct pc_base, product, FIELD_HOST),
    FIELD(struct pc_base, x86, FIELD_GUEST, .sub = &x86_board_fields),
    FIELD(struct pc_base, pci_mem, FIELD_HOST),
    FIELD(struct pc_base, pci_io, FIELD_HOST),
    FIELD(struct pc_base, pci, FIELD_GUEST, .sub = &pci_root_fields),
    FIELD_ONE(struct pc_base, keyboard, i8042_fields),
    FIELD_ONE(struct pc_base, fw_cfg, fw_cfg_fields),
    FIELD(struct pc_base, bios, FIELD_HOST),
    FIELD(struct pc_base, kernel_loaded, FIELD_HOST),
    FIELD(struct pc_base, started, FIELD_HOST),
};

FIELD_SET_SHARED(pc_base_fields, "pc-base", struct pc_base, pc_base_list, 1);
