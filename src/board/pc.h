/* The classic PC: board "pc". */
#ifndef BOARD_PC_H
#define BOARD_PC_H

#include "board/x86_board.h"
#include "core/machine.h"
#include "dev/ata/piix_ide.h"
#include "dev/chipset/i440fx.h"
#include "dev/chipset/piix3.h"
#include "dev/chipset/piix4_pm.h"
#include "dev/pci/pci.h"

struct fw_cfg;

#define PC_PCI_HOLE_MAX 0xe0000000ull   /* RAM below 4 GiB ends here at the latest */
#define PC_PCI_HOLE_SPLIT 0xc0000000ull /* or here, when some is above 4 GiB anyway */
#define PC_ACPI_SCI 9
#define PC_KERNEL_ROM "genroms/linuxboot_dma.bin"

struct pc {
    /* Options. */
    bool acpi, graphics;

    struct x86_board x86;
    struct mem_node *pci_mem, *pci_io;
    struct pci_root pci;
    struct i440fx host;
    struct piix3 isa_bridge;
    struct piix_ide ide;
    struct piix4_pm pm;
    struct fw_cfg *fw_cfg;
    struct ram *bios;
    bool loaded;
};

/* What firmware is told, by CMOS and fw_cfg. */
int pc_configure(struct pc *pc, struct err *err);
/* -kernel, -initrd and -append, for an option ROM that starts them after firmware. */
int pc_add_kernel(struct pc *pc, struct err *err);
/* ACPI tables as files for firmware to put into memory. */
int pc_add_acpi(struct pc *pc, struct err *err);

extern const struct board_type board_pc;

#endif
