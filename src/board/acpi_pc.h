/* ACPI tables of boards with firmware, which puts them into memory and links them. */
#ifndef BOARD_ACPI_PC_H
#define BOARD_ACPI_PC_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct fw_cfg;
struct x86_board;

struct acpi_pc {
    const struct x86_board *x86;
    struct fw_cfg *fw_cfg;
    uint16_t pm_base, gpe_port; /* PM1 and timer; GPE0 */
    uint8_t gpe_len;
    uint8_t sci;
    uint64_t ecam;      /* 0: configuration space by ports only */
    uint8_t isa_bridge; /* devfn */
    uint64_t pci_start; /* of PCI's memory below 4 GiB */
    /* The interrupt (GSI) of a slot's pin, 0 for INTA#. */
    unsigned (*gsi)(unsigned slot, unsigned pin);
};

#define ACPI_PC_TABLES "etc/acpi/tables"

int acpi_pc_add(const struct acpi_pc *a, struct err *err);

#endif
