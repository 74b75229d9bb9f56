/*
 * What PC firmware calls a function: a path in the style of IEEE 1275 (Open Firmware), as
 * "bootorder" has it. Names of nodes go by class, else by vendor and device.
 */
#include "base/bits.h"
#include "base/endian.h"
#include "base/strbuf.h"
#include "dev/pci/pci.h"

static const struct {
    uint16_t class_code;
    const char *name;
} classes[] = {
    {0x0100, "scsi"},    {0x0101, "ide"}, {0x0200, "ethernet"},
    {0x0300, "display"}, {0x0601, "isa"}, {0x0604, "pci-bridge"},
};

static void name_node(const struct pci_func *f, struct strbuf *sb)
{
    uint16_t code = load_le16(f->config + PCI_CLASS_PROG + 1);
    const char *name = NULL;
    for (unsigned i = 0; i < ARRAY_LEN(classes); i++) {
        name = classes[i].class_code == code ? classes[i].name : name;
    }
    if (name) {
        strbuf_add(sb, "/%s@%x", name, f->devfn >> 3);
    } else {
        strbuf_add(sb, "/pci%04x,%04x@%x", load_le16(f->config + PCI_VENDOR_ID),
                   load_le16(f->config + PCI_DEVICE_ID), f->devfn >> 3);
    }
    if (f->devfn & 7) {
        strbuf_add(sb, ",%x", f->devfn & 7);
    }
}

void pci_boot_name(const struct pci_func *f, struct strbuf *sb)
{
    const struct pci_func *above[32];
    unsigned n = 0;
    for (const struct pci_func *b = f; b && n < ARRAY_LEN(above); b = b->bus->bridge) {
        above[n++] = b;
    }
    strbuf_add(sb, "/pci@i0cf8");
    while (n) {
        name_node(above[--n], sb);
    }
}
