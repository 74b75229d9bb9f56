/* The parts of boards that have state and are no devices of -device. */
#include <stddef.h>

#include "board/boards.h"
#include "dev/ata/ich9_ahci.h"
#include "dev/ata/piix_ide.h"
#include "dev/chipset/i440fx.h"
#include "dev/chipset/ich9_lpc.h"
#include "dev/chipset/mch.h"
#include "dev/chipset/piix3.h"
#include "dev/chipset/piix4_pm.h"
#include "dev/dma/i8237.h"
#include "dev/firmware/fw_cfg.h"
#include "dev/firmware/pflash.h"
#include "dev/input/i8042.h"
#include "dev/irqchip/ioapic.h"
#include "dev/irqchip/lapic.h"
#include "dev/irqchip/pic8259.h"
#include "dev/timer/cmos_rtc.h"
#include "dev/timer/hpet.h"
#include "dev/timer/pit8254.h"
#include "dev/virtio/virtio_mmio.h"
#include "state/field.h"

const struct field_set *const board_parts[] = {
    &pic_fields,      &rtc_fields,       &ioapic_fields, &lapic_bus_fields,
    &hpet_fields,     &pit_fields,       &i8237_fields,  &i8042_fields,
    &pci_root_fields, &ich9_lpc_fields,  &mch_fields,    &i440fx_fields,
    &piix3_fields,    &piix4_pm_fields,  &fw_cfg_fields, &virtio_mmio_fields,
    &piix_ide_fields, &ich9_ahci_fields, NULL,
};
