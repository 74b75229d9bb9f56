/*
 * Virtio GPU with a VGA in front: firmware and boot loaders draw by the VGA until a driver of the
 * GPU (VIRTIO 1.2 §5.7.7) shows a picture; after a reset of the device the VGA is seen again.
 * BAR 0 is the VGA's memory, BAR 2 has its registers and, from 1000h, virtio's; BAR 4 is MSI-X's.
 */
#include "dev/virtio/virtio_vga.h"

#include "base/bits.h"
#include "core/machine.h"
#include "dev/display/vga.h"
#include "dev/display/vga_bus.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_gpu.h"
#include "dev/virtio/virtio_pci.h"
#include "state/field.h"

enum { VRAM_BAR = 0, VRAM_SIZE = 8 << 20, REGISTER_BAR = 2 };

struct virtio_vga {
    struct virtio_pci virtio;
    struct vga vga;
    struct vga_legacy legacy;
    char *rom;
};

static struct virtio_vga *of(struct dev *dev)
{
    return container_of(dev, struct virtio_vga, virtio.dev);
}

static void vga_written(struct pci_func *f, unsigned off, unsigned len)
{
    if (off <= PCI_COMMAND && off + len > PCI_COMMAND) {
        vga_legacy_update(&container_of(f, struct virtio_vga, virtio.pci)->legacy, f);
    }
}

static void vga_behind(void *opaque, struct display_source *s, bool all)
{
    vga_draw_surface(opaque, s, all);
}

static int virtio_vga_init(struct dev *dev, struct err *err)
{
    struct virtio_vga *p = of(dev);
    struct machine *m = dev->machine;
    int ret = virtio_pci_init(dev, err);
    if (ret) {
        return ret;
    }
    struct ram *ram = ram_set_add(&m->ram, dev->type->name, VRAM_SIZE, err);
    if (!ram) {
        return -1;
    }
    struct pci_func *f = &p->virtio.pci;
    const struct virtio_gpu_behind behind = {vga_behind, &p->vga};
    vga_init(&p->vga, ram, m->clock, NULL);
    virtio_gpu_set_behind(p->virtio.bus.vdev, &behind);
    pci_bar_add(f, VRAM_BAR, PCI_BAR_MEM32 | PCI_BAR_PREFETCH, VRAM_SIZE);
    pci_bar_put_ram(f, VRAM_BAR, 0, ram);
    vga_bar_add_registers(f, REGISTER_BAR, &p->vga, true);
    vga_legacy_add(&p->legacy, f, &p->vga);
    f->written = vga_written;
    return vga_rom_add(f, p->rom, err);
}

static void virtio_vga_reset(struct dev *dev, enum dev_reset how)
{
    struct virtio_vga *p = of(dev);
    virtio_pci_reset(dev, how);
    vga_legacy_update(&p->legacy, &p->virtio.pci);
    vga_reset(&p->vga);
}

static void virtio_vga_fini(struct dev *dev)
{
    struct virtio_vga *p = of(dev);
    vga_fini(&p->vga);
    virtio_pci_fini(dev);
}

static const struct prop virtio_vga_props[] = {
    VIRTIO_PCI_PROPS,
    {"romfile", PROP_TEXT, offsetof(struct virtio_vga, rom), "vgabios-virtio.bin", "its firmware"},
    {0},
};

static const struct field virtio_vga_list[] = {
    FIELD(struct virtio_vga, virtio, FIELD_GUEST, .sub = &virtio_pci_fields),
    FIELD(struct virtio_vga, vga, FIELD_GUEST, .sub = &vga_fields),
    FIELD(struct virtio_vga, legacy, FIELD_HOST),
    FIELD(struct virtio_vga, rom, FIELD_HOST),
};

FIELD_SET(virtio_vga_fields, "virtio-vga", struct virtio_vga, virtio_vga_list, 1);

const struct dev_type virtio_vga_type = {
    .name = "virtio-vga",
    .summary = "virtio GPU that is a VGA until its driver starts",
    .spec = "VIRTIO 1.2",
    .bus = "PCI",
    .size = sizeof(struct virtio_vga),
    .state = &virtio_vga_fields,
    .props = virtio_vga_props,
    .child = &virtio_gpu_type,
    .init = virtio_vga_init,
    .reset = virtio_vga_reset,
    .fini = virtio_vga_fini,
};
