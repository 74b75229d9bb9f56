/* What exists. */
#include "board/boards.h"

#include <stddef.h>
#include <string.h>

#include "board/microvm.h"
#include "core/device.h"
#include "core/machine.h"
#include "dev/ata/ich9_ahci.h"
#include "dev/ata/ide_dev.h"
#include "dev/ata/piix_ide.h"
#include "dev/display/ramfb.h"
#include "dev/display/vga_pci.h"
#include "dev/floppy/isa_fdc.h"
#include "dev/misc/isa_debug_exit.h"
#include "dev/misc/isa_debugcon.h"
#include "dev/misc/isa_parallel.h"
#include "dev/misc/misc_devices.h"
#include "dev/misc/pvpanic.h"
#include "dev/misc/vmgenid.h"
#include "dev/nvme/nvme.h"
#include "dev/pci/pci_bridge.h"
#include "dev/scsi/scsi_bus.h"
#include "dev/serial/isa_serial.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_pci.h"
#include "dev/virtio/virtio_vga.h"

const struct board_type *const boards[] = {&board_pc, &board_q35, &board_microvm, NULL};

/* clang-format off */
const struct dev_type *const dev_types[] = {
    &bochs_display_type,
    &edu_type,
    &i6300esb_type,
    &floppy_type,
    &ich9_ahci_type,
    &ide_cd_type,
    &ide_hd_type,
    &isa_debug_exit_type,
    &isa_debugcon_type,
    &isa_fdc_type,
    &isa_parallel_type,
    &isa_serial_type,
    &ioh3420_type,
    &nvme_type,
    &pc_testdev_type,
    &pci_bridge_type,
    &pci_testdev_type,
    &pcie_root_port_type,
    &piix3_ide_type,
    &pvpanic_isa_type,
    &pvpanic_pci_type,
    &ramfb_type,
    &scsi_cd_dev_type,
    &scsi_hd_type,
    &vga_pci_secondary_type,
    &vga_pci_type,
    &virtconsole_type,
    &virtio_balloon_pci_type,
    &virtio_balloon_type,
    &virtio_blk_pci_type,
    &virtio_blk_type,
    &virtio_gpu_pci_type,
    &virtio_gpu_type,
    &virtio_rng_pci_type,
    &virtio_rng_type,
    &virtio_scsi_pci_type,
    &virtio_scsi_type,
    &virtio_serial_pci_type,
    &virtio_serial_type,
    &virtio_vga_type,
    &virtserialport_type,
    &vmgenid_type,
    NULL,
};
/* clang-format on */

const struct dev_type *dev_type_find(const char *name)
{
    size_t i = 0;
    for (; dev_types[i]; i++) {
        const struct dev_type *t = dev_types[i];
        if (!strcmp(t->name, name) || (t->alias && !strcmp(t->alias, name))) {
            break;
        }
    }
    return dev_types[i];
}
