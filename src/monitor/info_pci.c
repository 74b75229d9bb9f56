/* info pci: all functions, with what firmware and guest have made of their registers. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "core/machine.h"
#include "dev/pci/pci.h"
#include "monitor/internal.h"

static const struct {
    uint16_t code; /* class and subclass: PCI Code and ID Assignment 1.11 */
    const char *name;
} classes[] = {
    {0x0001, "VGA controller"},
    {0x0100, "SCSI controller"},
    {0x0101, "IDE controller"},
    {0x0102, "Floppy controller"},
    {0x0104, "RAID controller"},
    {0x0106, "SATA controller"},
    {0x0108, "NVMe controller"},
    {0x0180, "Storage controller"},
    {0x0200, "Ethernet controller"},
    {0x0280, "Network controller"},
    {0x0300, "VGA controller"},
    {0x0380, "Display controller"},
    {0x0400, "Video controller"},
    {0x0401, "Audio controller"},
    {0x0403, "Audio controller"},
    {0x0500, "RAM controller"},
    {0x0580, "Memory controller"},
    {0x0600, "Host bridge"},
    {0x0601, "ISA bridge"},
    {0x0604, "PCI bridge"},
    {0x0680, "Bridge"},
    {0x0700, "Serial port"},
    {0x0780, "Communication controller"},
    {0x0c03, "USB controller"},
    {0x0c05, "SMBus"},
};

static void show_class(struct monitor *mon, uint32_t code)
{
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        if (classes[i].code == code) {
            monitor_put(mon, "    %s", classes[i].name);
            return;
        }
    }
    monitor_put(mon, "    Class %04" PRIx32, code);
}

/* As published: all ones where it decodes nothing. */
static uint64_t bar_address(struct pci_func *f, unsigned n)
{
    const struct pci_bar *bar = &f->bar[n];
    unsigned reg = n == PCI_BAR_ROM ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4 * n;
    uint32_t command = pci_config_read(f, PCI_COMMAND, 2);
    uint64_t v = pci_config_read(f, reg, 4);
    bool on = command & (bar->kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
    if (bar->kind & PCI_BAR_MEM64) {
        v |= (uint64_t)pci_config_read(f, reg + 4, 4) << 32;
    }
    if (n == PCI_BAR_ROM) {
        on &= v & 1;
    }
    v &= ~(bar->size - 1);
    return on && v ? v : UINT64_MAX;
}

static void show_bar(struct monitor *mon, struct pci_func *f, unsigned n)
{
    const struct pci_bar *bar = &f->bar[n];
    uint64_t addr = bar_address(f, n), last = addr + bar->size - 1;
    if (bar->kind == PCI_BAR_IO) {
        monitor_put(mon, "      BAR%u: I/O at 0x%04" PRIx64 " [0x%04" PRIx64 "].\n", n, addr, last);
    } else {
        monitor_put(mon, "      BAR%u: %d bit%s memory at 0x%08" PRIx64 " [0x%08" PRIx64 "].\n", n,
                    bar->kind & PCI_BAR_MEM64 ? 64 : 32,
                    bar->kind & PCI_BAR_PREFETCH ? " prefetchable" : "", addr, last);
    }
}

static void show_function(struct monitor *mon, unsigned bus, struct pci_func *f)
{
    unsigned pin = pci_config_read(f, PCI_INTERRUPT_PIN, 1);
    uint32_t subvendor = pci_config_read(f, PCI_SUBSYSTEM_VENDOR_ID, 2);
    monitor_put(mon, "  Bus %2u, device %3u, function %u:\n", bus, f->devfn >> 3, f->devfn & 7);
    show_class(mon, pci_config_read(f, PCI_CLASS_PROG + 1, 2));
    monitor_put(mon, ": PCI device %04x:%04x\n", pci_config_read(f, PCI_VENDOR_ID, 2),
                pci_config_read(f, PCI_DEVICE_ID, 2));
    if (subvendor) {
        monitor_put(mon, "      PCI subsystem %04x:%04x\n", subvendor,
                    pci_config_read(f, PCI_SUBSYSTEM_ID, 2));
    }
    if (pin) {
        monitor_put(mon, "      IRQ %u, pin %c\n", pci_config_read(f, PCI_INTERRUPT_LINE, 1),
                    (char)('A' + (pin - 1) % 4));
    }
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        if (f->bar[i].node) {
            show_bar(mon, f, i);
        }
    }
    monitor_put(mon, "      id \"%s\"\n", f->dev && f->dev->id ? f->dev->id : "");
}

static void show_bus(struct monitor *mon, unsigned number, struct pci_bus *b)
{
    for (unsigned i = 0; i < ARRAY_LEN(b->func); i++) {
        if (b->func[i]) {
            show_function(mon, number, b->func[i]);
        }
    }
}

int info_pci(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct bus *bus = bus_find(mon->machine, "pci.0");
    bus = bus ? bus : bus_find(mon->machine, "pcie.0");
    if (!bus) {
        monitor_put(mon, "No PCI buses\n");
        return 0;
    }
    struct pci_root *r = ((struct pci_bus *)bus->owner)->root;
    AUTO_LOCK(&r->lock);
    show_bus(mon, 0, &r->bus0);
    for (unsigned i = 0; i < r->behind_count; i++) {
        struct pci_func *bridge = r->behind[i]->bridge;
        show_bus(mon, bridge ? bridge->config[0x19] : 0, r->behind[i]);
    }
    return 0;
}
