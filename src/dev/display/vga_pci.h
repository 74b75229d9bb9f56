/* The VGA and frame buffers without it, on PCI. */
#ifndef DEV_DISPLAY_VGA_PCI_H
#define DEV_DISPLAY_VGA_PCI_H

extern const struct dev_type vga_pci_type;           /* "VGA" */
extern const struct dev_type vga_pci_secondary_type; /* "secondary-vga" */
extern const struct dev_type bochs_display_type;     /* "bochs-display" */

#endif
