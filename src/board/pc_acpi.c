/* ACPI of the pc board: what its chipset has where. */
#include "board/acpi_pc.h"
#include "board/pc.h"

enum { PM_BASE = 0x600 }; /* where firmware puts it */

/* As firmware programs the PIIX3: PIRQA# and B# to 10, C# and D# to 11. */
static unsigned pc_gsi(unsigned slot, unsigned pin)
{
    if (slot == 1 && !pin) {
        return PC_ACPI_SCI; /* the PM function's, wired */
    }
    return (slot + pin + PIIX3_PIRQS - 1) % PIIX3_PIRQS < 2 ? 10 : 11;
}

int pc_add_acpi(struct pc *pc, struct err *err)
{
    const struct acpi_pc a = {
        .x86 = &pc->x86,
        .fw_cfg = pc->fw_cfg,
        .pm_base = PM_BASE,
        .gpe_port = PIIX4_GPE_PORT,
        .gpe_len = ACPI_PM_GPE_LEN,
        .sci = PC_ACPI_SCI,
        .isa_bridge = 1 << 3,
        .pci_start = pc->x86.low_ram > PC_PCI_HOLE_SPLIT ? PC_PCI_HOLE_MAX : pc->x86.low_ram,
        .gsi = pc_gsi,
    };
    return acpi_pc_add(&a, err);
}
