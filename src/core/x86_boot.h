/*
 * The processor state in which a loader wants the boot processor to start. The board's loader
 * fills it in (tables in guest memory are written already), the ISA's reset code consumes it.
 */
#ifndef CORE_X86_BOOT_H
#define CORE_X86_BOOT_H

#include <stdint.h>

enum x86_boot_mode {
    X86_BOOT_RESET, /* no loader: the architectural reset state (real mode, f000:fff0) */
    X86_BOOT_PVH32, /* Xen PVH ABI: 32-bit protected mode, flat segments, paging off */
    X86_BOOT_LONG64 /* Linux 64-bit boot protocol: long mode, paging on, flat segments */
};

/*
 * Common to PVH32 and LONG64: interrupts off, RFLAGS = 2, all other general registers zero,
 * the segment registers loaded with the selectors below and these hidden parts: base 0,
 * limit 4 GiB - 1, present, accessed; code readable (L set and D clear in LONG64, D set in
 * PVH32), data writable. TR: busy 32-bit TSS (PVH32: base 0, limit 0x67), LDTR unusable.
 * CR0: PE, ET (LONG64: also PG, WP is left clear). LONG64: CR4.PAE, EFER.LME and LMA.
 */
struct x86_boot_state {
    enum x86_boot_mode mode;
    uint64_t rip, rsp;
    uint64_t rax; /* Multiboot, which starts as PVH does: its magic number */
    uint64_t rbx; /* PVH: address of hvm_start_info; Multiboot: of its information */
    uint64_t rsi; /* LONG64: address of boot_params */
    uint64_t cr3; /* LONG64 */
    uint64_t gdt_base, idt_base;
    uint16_t gdt_limit, idt_limit;
    uint16_t cs, ds, tr; /* selectors; ds is used for ds, es, ss, fs and gs */
};

#endif
