/* Multiboot kernels: the structure that the loaders of boards with and without firmware share. */
#ifndef BOARD_LOAD_MULTIBOOT_H
#define BOARD_LOAD_MULTIBOOT_H

#include "board/load_x86.h"

#define MULTIBOOT_LOADED_MAGIC 0x2badb002u

/* Bytes from the start of the information: what a board with firmware fills in. */
enum {
    MULTIBOOT_INFO = 0x10000, /* where it is when the kernel starts, and at most that large */
    MULTIBOOT_INFO_MAX = 0x70000,
    MULTIBOOT_INFO_MMAP_LENGTH = 44,
    MULTIBOOT_BOARD = 0x80, /* for the board's own use */
    MULTIBOOT_BOARD_SIZE = 0x80,
    MULTIBOOT_MMAP = 0x100,
    MULTIBOOT_MMAP_SIZE = 24 * 128,
    MULTIBOOT_MODULES = MULTIBOOT_MMAP + MULTIBOOT_MMAP_SIZE,
    MULTIBOOT_MAX_MODULES = 64,
    MULTIBOOT_STRINGS = MULTIBOOT_MODULES + 16 * MULTIBOOT_MAX_MODULES,
};

struct multiboot_module {
    char *text; /* file and arguments, as the guest reads it */
    uint32_t start, end;
};

struct multiboot {
    bool staged; /* the board moves the information to MULTIBOOT_INFO when the kernel starts */
    uint32_t entry, stage, size; /* results, guest addresses: the information as it is loaded */
    struct multiboot_module module[MULTIBOOT_MAX_MODULES];
    unsigned modules;
};

/*
 * Whether a kernel is to be started by its Multiboot header (a 32-bit ELF image, or one whose
 * header has addresses): 1, 0, or an error in reading. An image that has a PVH note as well is
 * one: users give it modules, which PVH boot here does not split.
 */
int x86_is_multiboot(const struct load_file *f, struct err *err);

/*
 * Loads the kernel, behind it the modules of `l->initrd`, behind these the information if it is
 * staged; all of it from 1 MiB to `limit` (exclusive, at most 4 GiB). `mb` is zero before, but for
 * `staged`; the caller frees it in any
 * case.
 */
int x86_load_multiboot(struct x86_load *l, const struct load_file *f, uint64_t limit,
                       struct multiboot *mb, struct err *err);
void multiboot_free(struct multiboot *mb);

/* The same, and the boot processor starts in it. */
int x86_boot_multiboot(struct x86_load *l, const struct load_file *f, struct err *err);

/* From `at` (page aligned): the files of `l->initrd`; `end`: the page behind them. */
int multiboot_load_modules(struct x86_load *l, struct multiboot *mb, uint64_t at, uint64_t limit,
                           uint64_t *end, struct err *err);

#endif
