/*
 * q35: Q35 memory controller hub and ICH9. Memory: pc_base.c; 2.75 GiB lie below 4 GiB, or 2 if
 * there is more, so that configuration space and PCI's memory have room. PCI's interrupts go to I/O
 * APIC inputs of their own.
 */
#include <string.h>

#include "base/endian.h"
#include "board/acpi_pc.h"
#include "board/boards.h"
#include "board/pc_base.h"
#include "dev/ata/ich9_ahci.h"
#include "dev/chipset/ich9_lpc.h"
#include "dev/chipset/mch.h"
#include "dev/firmware/fw_cfg.h"
#include "state/field.h"

#define Q35_LOW_RAM_MAX 0xb0000000ull
#define Q35_LOW_RAM_SPLIT 0x80000000ull

enum {
    PM_BASE = 0x600, /* where firmware puts it */
    AHCI_DEVFN = 0x1f << 3 | 2,
    SMI_FOR_ALL = 1 << 0,       /* in the features of SMIs, as UEFI's firmware for Q35 knows them */
    Q35_HPET_ROUTES = 0xff0104, /* 2, 8 and PCI's own */
};

struct q35 {
    struct pc_base base;
    struct mch host;
    struct ich9_lpc lpc;
    struct ich9_ahci ahci;
    uint64_t smi_features; /* asked for by firmware; little endian */
};

/* ---- State ---- */

static const struct field q35_list[] = {
    FIELD(struct q35, base, FIELD_GUEST, .sub = &pc_base_fields),
    FIELD(struct q35, host, FIELD_GUEST, .sub = &mch_fields),
    FIELD(struct q35, lpc, FIELD_GUEST, .sub = &ich9_lpc_fields),
    FIELD(struct q35, ahci, FIELD_GUEST, .sub = &ich9_ahci_fields),
    FIELD(struct q35, smi_features, FIELD_GUEST),
};

FIELD_SET(q35_fields, "q35", struct q35, q35_list, 1);

static const struct prop q35_props[] = {PC_PROPS(struct q35, base), {0}};

static struct irq_pin *q35_route(void *opaque, unsigned slot, unsigned pin)
{
    struct q35 *q = opaque;
    return ich9_lpc_route(&q->lpc, slot, pin);
}

static unsigned q35_gsi(unsigned slot, unsigned pin)
{
    return ICH9_FIRST_GSI + ich9_lpc_pirq(slot, pin);
}

static int q35_add_acpi(struct q35 *q, struct err *err)
{
    struct pc_base *b = &q->base;
    uint64_t ecam = mch_ecam(&q->host);
    const struct acpi_pc a = {
        .x86 = &b->x86,
        .fw_cfg = b->fw_cfg,
        .pm_base = PM_BASE,
        .gpe_port = PM_BASE + ICH9_GPE_OFFSET,
        .gpe_len = ICH9_GPE_LEN,
        .sci = PC_ACPI_SCI,
        .ecam = ecam ? ecam : Q35_LOW_RAM_MAX,
        .isa_bridge = ICH9_LPC_DEVFN,
        .pci_start = b->x86.low_ram,
        .gsi = q35_gsi,
    };
    return b->acpi ? acpi_pc_add(&a, err) : 0;
}

/* Firmware is about to read the tables: it has chosen where configuration space lies. */
static void q35_tables_read(void *opaque)
{
    q35_add_acpi(opaque, NULL);
}

/* Little endian words, but the last one's byte: it says 1 to those who ask for no more than there
 * is. */
#define SMI_OFFERED "etc/smi/supported-features"
#define SMI_WANTED "etc/smi/requested-features"
#define SMI_ACCEPTED "etc/smi/features-ok"

static void q35_smi_wanted(void *opaque, const void *bytes, size_t len)
{
    struct q35 *q = opaque;
    if (len == sizeof(q->smi_features)) {
        q->smi_features = load_le64(bytes);
    }
}

static void q35_smi_asked(void *opaque)
{
    struct q35 *q = opaque;
    uint8_t ok = !(q->smi_features & ~(uint64_t)SMI_FOR_ALL);
    q->lpc.smi_for_all = ok && q->smi_features & SMI_FOR_ALL;
    fw_cfg_add_file(q->base.fw_cfg, SMI_ACCEPTED, &ok, 1, NULL);
}

static int q35_add_smi(struct q35 *q, struct err *err)
{
    struct fw_cfg *f = q->base.fw_cfg;
    uint8_t offered[8] = {SMI_FOR_ALL}, ok = 0;
    q->smi_features = 0;
    int ret = fw_cfg_add_file(f, SMI_OFFERED, offered, sizeof(offered), err);
    ret = ret ? ret : fw_cfg_add_writable(f, SMI_WANTED, sizeof(offered), q35_smi_wanted, q, err);
    ret = ret ? ret : fw_cfg_add_file(f, SMI_ACCEPTED, &ok, 1, err);
    if (!ret) {
        fw_cfg_on_select(f, SMI_ACCEPTED, q35_smi_asked, q);
    }
    return ret;
}

/* By -global. */
static const struct prop lpc_props[] = {
    PC_SLEEP_PROPS(struct q35, base),
    {"noreboot", PROP_BOOL, offsetof(struct q35, lpc.tco.no_reboot), "off",
     "the watchdog resets nothing until the guest allows it"},
    {0},
};

static int q35_init(struct machine *m, struct err *err)
{
    struct q35 *q = m->board_data;
    struct pc_base *b = &q->base;
    b->x86.machine = m;
    b->product = "Standard PC (Q35 + ICH9, 2009)";
    int ret = pc_set_globals(b, "ICH9-LPC", lpc_props, err);
    ret = ret ? ret : pc_add_memory(b, Q35_LOW_RAM_MAX, Q35_LOW_RAM_SPLIT, err);
    if (ret) {
        return ret;
    }
    pc_add_chips(b, Q35_HPET_ROUTES);
    ich9_lpc_init_lines(&q->lpc, b->x86.gsi);
    pc_add_pci(b, "pcie.0", true, q35_route, q);
    mch_init(&q->host, &b->pci.bus0, b->x86.ram, b->x86.low_ram);
    q->host.smm = q->lpc.smm = b->smm;
    ich9_lpc_init(&q->lpc, &b->pci.bus0, &b->x86.gsi[PC_ACPI_SCI]);
    ich9_ahci_init(&q->ahci, &b->pci.bus0, AHCI_DEVFN);
    return pc_add_rest(b, &q->lpc.pci, false, err);
}

static int q35_load(struct machine *m, struct err *err)
{
    struct q35 *q = m->board_data;
    memset(&m->boot, 0, sizeof(m->boot));
    pc_reset(&q->base);
    mch_reset(&q->host);
    ich9_lpc_reset(&q->lpc);
    ich9_ahci_reset(&q->ahci);
    int ret = pc_configure(&q->base, err);
    ret = ret ? ret : pc_add_kernel(&q->base, err);
    ret = ret ? ret : q35_add_acpi(q, err);
    if (!ret && q->base.smm) {
        ret = q35_add_smi(q, err);
    }
    if (!ret && q->base.acpi) {
        fw_cfg_on_select(q->base.fw_cfg, ACPI_PC_TABLES, q35_tables_read, q);
    }
    return ret;
}

static void q35_fini(struct machine *m)
{
    struct q35 *q = m->board_data;
    ich9_ahci_fini(&q->ahci);
    ich9_lpc_fini(&q->lpc);
    mch_fini(&q->host);
    pc_fini(&q->base);
}

static void q35_power_button(struct machine *m)
{
    struct q35 *q = m->board_data;
    acpi_pm_power_button(&q->lpc.pm);
}

static void q35_print_irqs(struct machine *m, bool counts, struct strbuf *out)
{
    x86_board_print_irqs(&((struct q35 *)m->board_data)->base.x86, counts, out);
}

const struct board_type board_q35 = {
    .name = "q35",
    .summary = "PC with Q35 and ICH9, PCI Express",
    .version = "pc-q35-7.2",
    .default_cpu = "qemu64",
    .default_ram = 128 << 20,
    .max_vcpus = MACHINE_MAX_VCPUS,
    .pci = true,
    .ide_units = 1,
    .props = q35_props,
    .size = sizeof(struct q35),
    .state = &q35_fields,
    .init = q35_init,
    .load = q35_load,
    .fini = q35_fini,
    .power_button = q35_power_button,
    .print_irqs = q35_print_irqs,
};
