/* What VGAs on PCI share: legacy addresses, registers in a BAR, the ROM. */
#ifndef DEV_DISPLAY_VGA_BUS_H
#define DEV_DISPLAY_VGA_BUS_H

#include <stdbool.h>

struct err;
struct mem_node;
struct pci_func;
struct vga;

struct vga_legacy {
    struct mem_node *memory, *ports, *dispi;
};

/* A0000h and the ports; nothing is decoded before vga_legacy_update() lets it. */
void vga_legacy_add(struct vga_legacy *l, struct pci_func *f, struct vga *vga);
/* They follow the function's command register. The root's lock is held, or nothing runs. */
void vga_legacy_update(struct vga_legacy *l, const struct pci_func *f);
/* From 400h to 607h of a BAR that exists; without `ports` the Bochs registers only. */
void vga_bar_add_registers(struct pci_func *f, unsigned bar, struct vga *vga, bool ports);
/* The firmware file `name` as expansion ROM; NULL or empty: none. */
int vga_rom_add(struct pci_func *f, const char *name, struct err *err);

#endif
