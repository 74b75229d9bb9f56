/* What the boards with firmware and PCI share: "pc" and "q35". */
#ifndef BOARD_PC_BASE_H
#define BOARD_PC_BASE_H

#include "board/x86_board.h"
#include "core/machine.h"
#include "dev/pci/pci.h"

struct fw_cfg;
struct i8042;
struct load_file;

#define PC_ACPI_SCI 9
#define PC_FLASHES 2
#define PC_KERNEL_ROM "genroms/linuxboot_dma.bin"
#define PC_PVH_ROM "genroms/pvh.bin"
#define PC_MULTIBOOT_ROM "genroms/multiboot.bin"

struct pc_base {
    /* Options. */
    bool acpi, graphics, hpet, smm;
    uint32_t no_s3, no_s4;    /* ACPI's sleep states, which are not offered: 0 is refused */
    char *pflash[PC_FLASHES]; /* names of drives or nodes */

    const char *product; /* as guests are told */
    struct x86_board x86;
    struct mem_node *pci_mem, *pci_io;
    struct pci_root pci;
    struct i8042 *keyboard;
    struct fw_cfg *fw_cfg;
    struct ram *bios;
    bool kernel_loaded, started; /* once: what follows is a reset */
};

/* Options that both have, at the start of the board's list. */
#define PC_PROPS(type, member)                                                                     \
    {"acpi", PROP_BOOL, offsetof(type, member.acpi), "on", "ACPI tables"},                         \
        {"hpet", PROP_BOOL, offsetof(type, member.hpet), "on", "high precision event timer"},      \
        {"pflash0", PROP_TEXT, offsetof(type, member.pflash[0]), NULL, "node with firmware"},      \
        {"pflash1", PROP_TEXT, offsetof(type, member.pflash[1]), NULL, "node with its variables"}, \
        {"smm", PROP_BOOL, offsetof(type, member.smm), "off", "SMIs, SMRAM"},                      \
    {                                                                                              \
        "graphics", PROP_BOOL, offsetof(type, member.graphics), "on", "firmware uses the screen"   \
    }

/* Options of the chip with power management, by -global. */
#define PC_SLEEP_PROPS(type, member)                                                               \
    {"disable_s3", PROP_U32, offsetof(type, member.no_s3), "1", "no suspend to RAM"},              \
    {                                                                                              \
        "disable_s4", PROP_U32, offsetof(type, member.no_s4), "1", "no suspend to disk"            \
    }

/* In this order, after the -global options of a chip. RAM below 4 GiB ends at `split` when there is
 * more than `most`. */
int pc_set_globals(struct pc_base *b, const char *name, const struct prop *props, struct err *err);
int pc_add_memory(struct pc_base *b, uint64_t most, uint64_t split, struct err *err);
void pc_add_chips(struct pc_base *b, uint32_t hpet_routes);
/* `route` as in struct pci_root; `board` is its argument. */
void pc_add_pci(struct pc_base *b, const char *id, bool express,
                struct irq_pin *(*route)(void *, unsigned, unsigned), void *board);
/* Clock, processors, serial ports, perhaps the floppy controller; `isa_bridge` has the ISA bus. */
int pc_add_rest(struct pc_base *b, const struct pci_func *isa_bridge, bool floppy, struct err *err);
void pc_reset(struct pc_base *b);
void pc_fini(struct pc_base *b);

/* What firmware is told, by CMOS and fw_cfg. */
int pc_configure(struct pc_base *b, struct err *err);
/* -kernel, -initrd and -append, for an option ROM that starts them after firmware. */
int pc_add_kernel(struct pc_base *b, struct err *err);
int pc_add_pvh(struct pc_base *b, const struct load_file *kernel, struct err *err);
int pc_add_multiboot(struct pc_base *b, const struct load_file *kernel, struct err *err);

extern const struct field_set pc_base_fields; /* struct pc_base */

#endif
