/*
 * 82371AB (PIIX4), function 3: Intel data sheet 290562, chapter 7. The PM block lies where
 * firmware puts it. Does not do: SMBus (its registers decode nothing), SMIs but by the APM port,
 * device monitors.
 */
#include "dev/chipset/piix4_pm.h"

#include "base/endian.h"
#include "core/machine.h"
#include "state/field.h"

enum {
    PMBASE = 0x40,
    DEVACTB = 0x58,
    APMC_EN = 1 << 25,
    PMREGMISC = 0x80,
    PMIOSE = 1,
    SMBBA = 0x90,
    SMBHSTCFG = 0xd2,
    S5 = 0,
};

static void piix4_written(struct pci_func *f, unsigned off, unsigned len)
{
    struct piix4_pm *p = (struct piix4_pm *)f;
    struct mem_map *io = f->bus->machine->io;
    uint32_t base = load_le32(f->config + PMBASE) & 0xffc0;
    mem_map_begin(io);
    mem_node_move(p->ports, base);
    mem_node_enable(p->ports, base && f->config[PMREGMISC] & PMIOSE);
    mem_map_commit(io);
}

static void piix4_apm(void *opaque)
{
    struct piix4_pm *p = opaque;
    if (p->smm && (load_le32(p->pci.config + DEVACTB) & APMC_EN)) {
        machine_smi(p->pci.bus->machine, false);
    }
}

void piix4_pm_init(struct piix4_pm *p, struct pci_bus *bus, struct irq_pin *sci)
{
    static const struct pci_ids ids = {.vendor = 0x8086,
                                       .device = 0x7113,
                                       .class_code = 0x068000,
                                       .revision = 3,
                                       .interrupt_pin = 1};
    struct machine *m = bus->machine;
    pci_func_place(&p->pci, bus, 1 << 3 | 3, &ids);
    store_le32(p->pci.writable + PMBASE, 0xffc0);
    store_le32(p->pci.writable + DEVACTB, ~0u);
    p->pci.writable[PMREGMISC] = PMIOSE;
    store_le32(p->pci.writable + SMBBA, 0xfff0);
    p->pci.writable[SMBHSTCFG] = 0x0f;
    p->pci.written = piix4_written;
    acpi_pm_init(&p->pm, m, S5, PIIX4_GPE_LEN);
    p->pm.smi = piix4_apm;
    p->pm.smi_opaque = p;
    irq_connect(&p->pm.sci, sci);
    p->ports = mem_map_add_mmio(m->io, 0, ACPI_PM_BLOCK, &acpi_pm_block, &p->pm);
    mem_node_enable(p->ports, false);
    mem_map_add_mmio(m->io, PIIX4_GPE_PORT, PIIX4_GPE_LEN, &acpi_pm_gpe, &p->pm);
    mem_map_add_mmio(m->io, ACPI_PM_SMI_CMD, 2, &acpi_pm_apm, &p->pm);
}

void piix4_pm_reset(struct piix4_pm *p)
{
    pci_func_reset(&p->pci);
    store_le32(p->pci.config + PMBASE, 1);
    /* Where firmware that does not place it leaves it. */
    store_le32(p->pci.config + SMBBA, 0xb100 | 1);
    p->pci.config[SMBHSTCFG] = 0x09; /* on; interrupts by line 9 */
    p->pci.config[PMREGMISC] = 0;
    /* Firmware that finds this set leaves system management mode alone. */
    store_le32(p->pci.config + DEVACTB, p->smm ? 0 : APMC_EN);
    piix4_written(&p->pci, PMBASE, 4);
    acpi_pm_reset(&p->pm);
}

uint16_t piix4_pm_base(struct piix4_pm *p)
{
    pthread_mutex_lock(&p->pci.bus->root->lock);
    uint32_t base = load_le32(p->pci.config + PMBASE) & 0xffc0;
    bool on = p->pci.config[PMREGMISC] & PMIOSE;
    pthread_mutex_unlock(&p->pci.bus->root->lock);
    return on ? (uint16_t)base : 0;
}

void piix4_pm_fini(struct piix4_pm *p)
{
    acpi_pm_fini(&p->pm);
    pci_func_fini(&p->pci);
}

/* ---- State ---- */

static const struct field piix4_pm_list[] = {
    FIELD(struct piix4_pm, pci, FIELD_GUEST, .sub = &pci_func_fields),
    FIELD(struct piix4_pm, pm, FIELD_GUEST, .sub = &acpi_pm_fields),
    FIELD(struct piix4_pm, smm, FIELD_CONFIG),
    FIELD(struct piix4_pm, ports, FIELD_HOST),
};

FIELD_SET_SHARED(piix4_pm_fields, "piix4-pm", struct piix4_pm, piix4_pm_list, 1);
