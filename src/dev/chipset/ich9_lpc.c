/*
 * ICH9, D31:F0: Intel data sheet 316972, chapters 13.1 and 13.8. PIRQA# to PIRQH# go to I/O APIC
 * inputs 16 to 23, and to ISA lines as the route registers say.
 * Does not do: the root complex registers (functions have their reset routing) but GCS, GPIO, SMIs
 * but by the APM port, LPC decoding.
 */
#include "dev/chipset/ich9_lpc.h"

#include <string.h>

#include "base/endian.h"
#include "core/machine.h"
#include "state/field.h"

enum {
    PMBASE = 0x40,
    ACPI_CNTL = 0x44,
    ACPI_EN = 0x80,
    PIRQA_ROUT = 0x60,
    PIRQE_ROUT = 0x68,
    RCBA = 0xf0,
    FIRST_INTERNAL_SLOT = 25, /* from here on: A# to D#, below: E# to H# */
    PM_LEN = 0x20,
    SMI_OFFSET = 0x30,
    SMI_LEN = 8,
    TCO_OFFSET = 0x60,
    GCS_OFFSET = 0x3410, /* in the root complex registers */
    RCBA_ENABLE = 1,
    SMI_EN_GLOBAL = 1,
    SMI_EN_APMC = 1 << 5,
    GEN_PMCON_1 = 0xa0,
    SMI_LOCK = 1 << 4, /* the global bit stays as it is until reset */
    S5 = 0,            /* as published for virtual machines */
};

static unsigned pirq_register(unsigned n)
{
    return n < 4 ? PIRQA_ROUT + n : PIRQE_ROUT + n - 4;
}

void ich9_lpc_init_lines(struct ich9_lpc *l, struct irq_pin *gsi)
{
    for (unsigned i = 0; i < ICH9_PIRQS; i++) {
        pirq_init(&l->pirq[i], gsi, &gsi[ICH9_FIRST_GSI + i]);
    }
}

unsigned ich9_lpc_pirq(unsigned slot, unsigned pin)
{
    return slot >= FIRST_INTERNAL_SLOT ? pin : 4 + (slot + pin) % 4;
}

struct irq_pin *ich9_lpc_route(void *ich9_lpc, unsigned slot, unsigned pin)
{
    struct ich9_lpc *l = ich9_lpc;
    return &l->pirq[ich9_lpc_pirq(slot, pin)].pin;
}

static void ich9_place(struct ich9_lpc *l)
{
    struct mem_map *io = l->pci.bus->machine->io;
    uint32_t base = load_le32(l->pci.config + PMBASE) & 0xff80;
    bool on = base && l->pci.config[ACPI_CNTL] & ACPI_EN;
    mem_map_begin(io);
    mem_node_move(l->pm_ports, base);
    mem_node_move(l->gpe_ports, base + ICH9_GPE_OFFSET);
    mem_node_move(l->smi_ports, base + SMI_OFFSET);
    mem_node_enable(l->pm_ports, on);
    mem_node_enable(l->gpe_ports, on);
    mem_node_enable(l->smi_ports, on);
    mem_node_move(l->tco_ports, base + TCO_OFFSET);
    mem_node_enable(l->tco_ports, on);
    mem_map_commit(io);
}

static void ich9_place_root_complex(struct ich9_lpc *l)
{
    struct mem_map *mem = l->pci.bus->machine->mem;
    uint32_t rcba = load_le32(l->pci.config + RCBA);
    mem_map_begin(mem);
    mem_node_move(l->gcs, (rcba & 0xffffc000) + GCS_OFFSET);
    mem_node_enable(l->gcs, rcba & RCBA_ENABLE);
    mem_map_commit(mem);
}

static void ich9_written(struct pci_func *f, unsigned off, unsigned len)
{
    struct ich9_lpc *l = (struct ich9_lpc *)f;
    for (unsigned i = 0; i < ICH9_PIRQS; i++) {
        unsigned reg = pirq_register(i);
        if (off <= reg && off + len > reg) {
            pirq_route(&l->pirq[i], f->config[reg]);
        }
    }
    if (f->config[GEN_PMCON_1] & SMI_LOCK) {
        f->writable[GEN_PMCON_1] = 0;
    }
    if (off <= ACPI_CNTL && off + len > PMBASE) {
        ich9_place(l);
    }
    if (off < RCBA + 4 && off + len > RCBA) {
        ich9_place_root_complex(l);
    }
}

/* Without system management mode SMI_EN says that SMIs are set up: firmware then leaves it alone.
 */
static enum mem_result smi_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    const struct ich9_lpc *l = opaque;
    *val = off ? 0 : l->smm ? l->smi_en : SMI_EN_APMC;
    return MEM_OK;
}

static enum mem_result smi_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct ich9_lpc *l = opaque;
    uint32_t locked = l->pci.config[GEN_PMCON_1] & SMI_LOCK ? SMI_EN_GLOBAL : 0;
    if (!off) {
        l->smi_en = ((uint32_t)val & ~locked) | (l->smi_en & locked);
    }
    return MEM_OK;
}

static void ich9_apm(void *opaque)
{
    struct ich9_lpc *l = opaque;
    uint32_t both = SMI_EN_APMC | SMI_EN_GLOBAL;
    if (l->smm && (l->smi_en & both) == both) {
        machine_smi(l->pci.bus->machine, l->smi_for_all);
    }
}

static const struct mmio smi_regs = {smi_read, smi_write, 4, 4};

void ich9_lpc_init(struct ich9_lpc *l, struct pci_bus *bus, struct irq_pin *sci)
{
    static const struct pci_ids ids = {
        .vendor = 0x8086, .device = 0x2918, .class_code = 0x060100, .revision = 2};
    struct machine *m = bus->machine;
    pci_func_place(&l->pci, bus, ICH9_LPC_DEVFN, &ids);
    l->pci.config[PCI_HEADER_TYPE] = PCI_HEADER_MULTI;
    for (unsigned i = 0; i < ICH9_PIRQS; i++) {
        l->pci.writable[pirq_register(i)] = 0x8f;
    }
    store_le32(l->pci.writable + PMBASE, 0xff80);
    l->pci.writable[ACPI_CNTL] = ACPI_EN | 7;
    store_le32(l->pci.writable + RCBA, 0xffffc001);
    l->pci.written = ich9_written;
    acpi_pm_init(&l->pm, m, S5, ICH9_GPE_LEN);
    l->pm.smi = ich9_apm;
    l->pm.smi_opaque = l;
    irq_connect(&l->pm.sci, sci);
    l->pm_ports = mem_map_add_mmio(m->io, 0, PM_LEN, &acpi_pm_block, &l->pm);
    l->gpe_ports = mem_map_add_mmio(m->io, 0, ICH9_GPE_LEN, &acpi_pm_gpe, &l->pm);
    l->smi_ports = mem_map_add_mmio(m->io, 0, SMI_LEN, &smi_regs, l);
    ich9_tco_init(&l->tco, m);
    l->tco_ports = mem_map_add_mmio(m->io, 0, ICH9_TCO_PORTS, &ich9_tco_ports, &l->tco);
    l->gcs = mem_map_add_mmio(m->mem, GCS_OFFSET, 4, &ich9_tco_gcs, &l->tco);
    mem_map_add_mmio(m->io, ACPI_PM_SMI_CMD, 2, &acpi_pm_apm, &l->pm);
}

void ich9_lpc_reset(struct ich9_lpc *l)
{
    pci_func_reset(&l->pci);
    l->pci.config[PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    store_le32(l->pci.config + PMBASE, 1);
    l->pci.config[ACPI_CNTL] = 0;
    l->pci.config[GEN_PMCON_1] = 0;
    l->pci.writable[GEN_PMCON_1] = SMI_LOCK;
    l->smi_en = 0;
    l->smi_for_all = false;
    store_le32(l->pci.config + RCBA, 0);
    for (unsigned i = 0; i < ICH9_PIRQS; i++) {
        l->pci.config[pirq_register(i)] = PIRQ_OFF;
        pirq_route(&l->pirq[i], PIRQ_OFF);
    }
    ich9_place(l);
    ich9_place_root_complex(l);
    acpi_pm_reset(&l->pm);
    ich9_tco_reset(&l->tco);
}

void ich9_lpc_fini(struct ich9_lpc *l)
{
    ich9_tco_fini(&l->tco);
    acpi_pm_fini(&l->pm);
    pci_func_fini(&l->pci);
    for (unsigned i = 0; i < ICH9_PIRQS; i++) {
        pirq_fini(&l->pirq[i]);
    }
}

/* ---- State ---- */

static const struct field ich9_lpc_list[] = {
    FIELD_ARRAY(struct ich9_lpc, pirq, FIELD_GUEST, .sub = &pirq_fields), /* before their routes */
    FIELD(struct ich9_lpc, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct ich9_lpc, pm, FIELD_GUEST, .sub = &acpi_pm_fields),
    FIELD(struct ich9_lpc, tco, FIELD_GUEST, .sub = &ich9_tco_fields),
    FIELD(struct ich9_lpc, pm_ports, FIELD_HOST),
    FIELD(struct ich9_lpc, gpe_ports, FIELD_HOST),
    FIELD(struct ich9_lpc, smi_ports, FIELD_HOST),
    FIELD(struct ich9_lpc, tco_ports, FIELD_HOST),
    FIELD(struct ich9_lpc, gcs, FIELD_HOST),
    FIELD(struct ich9_lpc, smm, FIELD_CONFIG),
    FIELD(struct ich9_lpc, smi_en, FIELD_GUEST),
    FIELD(struct ich9_lpc, smi_for_all, FIELD_GUEST),
};

FIELD_SET_SHARED(ich9_lpc_fields, "ich9-lpc", struct ich9_lpc, ich9_lpc_list, 1);
