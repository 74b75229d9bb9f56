/* The microvm board. */
#ifndef BOARD_MICROVM_H
#define BOARD_MICROVM_H

#include "board/x86_board.h"
#include "core/machine.h"
#include "dev/virtio/virtio_mmio.h"

#define MICROVM_LOW_RAM_MAX 0xc0000000ull
#define MICROVM_ACPI_TABLES 0xe0000ull
#define MICROVM_ACPI_TABLES_SIZE 0x10000ull
#define MICROVM_POWER_BASE 0xfea00000ull
#define MICROVM_VIRTIO_BASE 0xfeb00000ull
#define MICROVM_VIRTIO_STRIDE 0x200ull
#define MICROVM_VIRTIO_COUNT 8
#define MICROVM_VIRTIO_GSI 16
#define MICROVM_VIRTIO_ISA_LINE 5

struct microvm {
    /* Options. */
    char *pit_opt, *pic_opt, *rtc_opt, *acpi_opt;
    bool isa_serial, auto_cmdline, option_roms;

    struct x86_board x86;
    struct virtio_mmio virtio[MICROVM_VIRTIO_COUNT];
    bool loaded; /* once: a further load is a reset */
};

bool microvm_has_rtc(const struct microvm *v);
unsigned microvm_virtio_gsi(const struct microvm *v, unsigned n);
bool microvm_virtio_used(const struct microvm *v, unsigned n);

extern const struct board_type board_microvm;

#endif
