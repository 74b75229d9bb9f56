/*
 * Direct boot of x86 kernels: ELF with a PVH note, Multiboot, and Linux bzImage by its 64-bit
 * entry. Fills guest memory and says in which state the boot processor starts.
 */
#ifndef BOARD_LOAD_X86_H
#define BOARD_LOAD_X86_H

#include "board/load_file.h"
#include "core/x86_boot.h"

enum x86_range_type { X86_RANGE_RAM = 1, X86_RANGE_RESERVED = 2, X86_RANGE_ACPI = 3 };

/* One line of the memory map; the numbers of `type` are those of e820 and of PVH. */
struct x86_range {
    uint64_t start, len;
    uint32_t type;
};

struct x86_load {
    struct mem_map *mem;
    const char *kernel, *initrd; /* initrd: NULL or a file */
    const char *cmdline;
    struct x86_range map[8];
    unsigned map_count;
    uint64_t low_ram_end; /* end of RAM below 4 GiB */
    uint64_t rsdp;        /* 0: no ACPI */
    /* Results, also between the loaders' own steps. */
    uint64_t kernel_start, kernel_end; /* what the kernel occupies */
    uint64_t initrd_start, initrd_size;
    struct x86_boot_state *boot;
};

/* Where the loader puts its own things: low RAM that kernels leave alone while they start. */
#define X86_LOAD_GDT 0x5000
#define X86_LOAD_START_INFO 0x6000
#define X86_LOAD_PAGE_TABLES 0x9000 /* six pages */
#define X86_LOAD_BOOT_PARAMS 0x10000
#define X86_LOAD_CMDLINE 0x20000
#define X86_LOAD_CMDLINE_MAX 0x10000

int x86_load_kernel(struct x86_load *l, struct err *err);

/* Parts. `head` are the first `n` bytes of the kernel. */
bool x86_is_elf(const uint8_t *head, size_t n);
bool x86_is_bzimage(const uint8_t *head, size_t n);
/* An ELF image's segments, zeros behind them, and its PVH entry. */
int x86_load_elf_segments(struct x86_load *l, const struct load_file *f, uint64_t *entry,
                          struct err *err);
/* An ELF image's segments, wholly between `start` and `limit`; `entry` is its own, as a guest
 * physical address, not checked. */
int x86_load_elf32(struct x86_load *l, const struct load_file *f, uint64_t start, uint64_t limit,
                   uint64_t *entry, struct err *err);
/* For 32-bit entries: at X86_LOAD_GDT, and selectors in it for the boot processor. */
int x86_load_flat_gdt(struct x86_load *l, struct err *err);
int x86_load_elf(struct x86_load *l, const struct load_file *f, struct err *err);
int x86_load_bzimage(struct x86_load *l, const struct load_file *f, struct err *err);
int x86_load_cmdline(struct x86_load *l, uint64_t max, struct err *err);
/* Highest place that is page aligned, in RAM, below `limit` (exclusive), clear of the kernel. */
int x86_load_initrd(struct x86_load *l, uint64_t limit, struct err *err);
int x86_load_put(struct x86_load *l, gpa_t gpa, const void *buf, uint64_t len, struct err *err);

#endif
