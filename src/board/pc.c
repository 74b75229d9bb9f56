/*
 * pc: i440FX and PIIX3/PIIX4, with SeaBIOS or another firmware. Memory: pc_base.c; 3.5 GiB lie
 * below 4 GiB, or 3 if there is more. Interrupts: ISA lines to both PICs and the I/O APIC; PCI's by
 * PIIX3 to ISA lines.
 */
#include <string.h>

#include "board/acpi_pc.h"
#include "board/boards.h"
#include "board/pc_base.h"
#include "dev/ata/piix_ide.h"
#include "dev/chipset/i440fx.h"
#include "dev/chipset/piix3.h"
#include "dev/chipset/piix4_pm.h"
#include "dev/firmware/fw_cfg.h"
#include "state/field.h"

#define PC_LOW_RAM_MAX 0xe0000000ull
#define PC_LOW_RAM_SPLIT 0xc0000000ull

enum {
    PM_BASE = 0x600, /* where SeaBIOS puts it */
    PC_HPET_ROUTES = 1 << 2,
};

struct pc {
    struct pc_base base;
    struct i440fx host;
    struct piix3 isa_bridge;
    struct piix_ide ide;
    struct piix4_pm pm;
};

/* ---- State ---- */

static const struct field pc_list[] = {
    FIELD(struct pc, base, FIELD_GUEST, .sub = &pc_base_fields),
    FIELD(struct pc, host, FIELD_GUEST, .sub = &i440fx_fields),
    FIELD(struct pc, isa_bridge, FIELD_GUEST, .sub = &piix3_fields),
    FIELD(struct pc, ide, FIELD_GUEST, .sub = &piix_ide_fields),
    FIELD(struct pc, pm, FIELD_GUEST, .sub = &piix4_pm_fields),
};

FIELD_SET(pc_fields, "pc", struct pc, pc_list, 1);

static const struct prop pc_props[] = {PC_PROPS(struct pc, base), {0}};

static struct irq_pin *pc_route(void *opaque, unsigned slot, unsigned pin)
{
    struct pc *pc = opaque;
    return piix3_route(&pc->isa_bridge, slot, pin);
}

/* As firmware programs the PIIX3: PIRQA# and B# to 10, C# and D# to 11. */
static unsigned pc_gsi(unsigned slot, unsigned pin)
{
    if (slot == 1 && !pin) {
        return PC_ACPI_SCI; /* the PM function's, wired */
    }
    return (slot + pin + PIIX3_PIRQS - 1) % PIIX3_PIRQS < 2 ? 10 : 11;
}

static int pc_add_acpi(struct pc *pc, struct err *err)
{
    struct pc_base *b = &pc->base;
    uint16_t pm_base = piix4_pm_base(&pc->pm);
    const struct acpi_pc a = {
        .x86 = &b->x86,
        .fw_cfg = b->fw_cfg,
        .pm_base = pm_base ? pm_base : PM_BASE,
        .gpe_port = PIIX4_GPE_PORT,
        .gpe_len = PIIX4_GPE_LEN,
        .sci = PC_ACPI_SCI,
        .isa_bridge = 1 << 3,
        .pci_start = b->x86.low_ram > PC_LOW_RAM_SPLIT ? PC_LOW_RAM_MAX : b->x86.low_ram,
        .gsi = pc_gsi,
    };
    return b->acpi ? acpi_pc_add(&a, err) : 0;
}

/* Firmware is about to read the tables: it has placed the PM block. */
static void pc_tables_read(void *opaque)
{
    pc_add_acpi(opaque, NULL);
}

/* By -global. */
static const struct prop pm_props[] = {PC_SLEEP_PROPS(struct pc, base), {0}};

static int pc_init(struct machine *m, struct err *err)
{
    struct pc *pc = m->board_data;
    struct pc_base *b = &pc->base;
    b->x86.machine = m;
    b->product = "Standard PC (i440FX + PIIX, 1996)";
    int ret = pc_set_globals(b, "PIIX4_PM", pm_props, err);
    ret = ret ? ret : pc_add_memory(b, PC_LOW_RAM_MAX, PC_LOW_RAM_SPLIT, err);
    if (ret) {
        return ret;
    }
    pc_add_chips(b, PC_HPET_ROUTES);
    piix3_init_lines(&pc->isa_bridge, b->x86.gsi);
    pc_add_pci(b, "pci.0", false, pc_route, pc);
    i440fx_init(&pc->host, &b->pci.bus0, b->x86.ram);
    piix3_init(&pc->isa_bridge, &b->pci.bus0);
    piix_ide_init(&pc->ide, &b->pci.bus0, b->x86.gsi);
    piix4_pm_init(&pc->pm, &b->pci.bus0, &b->x86.gsi[PC_ACPI_SCI]);
    pc->host.smm = pc->pm.smm = b->smm;
    return pc_add_rest(b, &pc->isa_bridge.pci, true, err);
}

/* Also at each reset, after the devices' own. RAM keeps its bytes, as it does on a PC. */
static int pc_load(struct machine *m, struct err *err)
{
    struct pc *pc = m->board_data;
    memset(&m->boot, 0, sizeof(m->boot));
    pc_reset(&pc->base);
    i440fx_reset(&pc->host);
    piix3_reset(&pc->isa_bridge);
    piix_ide_reset(&pc->ide);
    piix4_pm_reset(&pc->pm);
    int ret = pc_configure(&pc->base, err);
    ret = ret ? ret : pc_add_kernel(&pc->base, err);
    ret = ret ? ret : pc_add_acpi(pc, err);
    if (!ret && pc->base.acpi) {
        fw_cfg_on_select(pc->base.fw_cfg, ACPI_PC_TABLES, pc_tables_read, pc);
    }
    return ret;
}

static void pc_fini_board(struct machine *m)
{
    struct pc *pc = m->board_data;
    piix4_pm_fini(&pc->pm);
    piix_ide_fini(&pc->ide);
    piix3_fini(&pc->isa_bridge);
    i440fx_fini(&pc->host);
    pc_fini(&pc->base);
}

static void pc_power_button(struct machine *m)
{
    struct pc *pc = m->board_data;
    acpi_pm_power_button(&pc->pm.pm);
}

static void pc_print_irqs(struct machine *m, bool counts, struct strbuf *out)
{
    x86_board_print_irqs(&((struct pc *)m->board_data)->base.x86, counts, out);
}

const struct board_type board_pc = {
    .name = "pc",
    .summary = "PC with i440FX and PIIX",
    .version = "pc-i440fx-7.2",
    .default_cpu = "qemu64",
    .default_ram = 128 << 20,
    .max_vcpus = MACHINE_MAX_VCPUS,
    .pci = true,
    .ide_units = 2,
    .props = pc_props,
    .size = sizeof(struct pc),
    .state = &pc_fields,
    .init = pc_init,
    .load = pc_load,
    .fini = pc_fini_board,
    .power_button = pc_power_button,
    .print_irqs = pc_print_irqs,
};
