/*
 * -kernel on boards with firmware, ELF images with a PVH note: segments go to guest memory, which
 * firmware leaves alone there, at each reset anew, as the guest has written over them. An option
 * ROM (Debian's package qemu-system-data) fetches the initial ramdisk and the command line from
 * fw_cfg and starts the kernel.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "board/load_file.h"
#include "board/load_x86.h"
#include "board/pc_base.h"
#include "dev/firmware/firmware.h"
#include "dev/firmware/fw_cfg.h"

enum {
    CMDLINE_MAX = 2048, /* the ROM's room */
    ACPI_ROOM = 0x40000 /* firmware's tables, at the end of low memory */
};

static void pvh_to_fw_cfg(struct fw_cfg *f, const struct x86_load *l, uint64_t entry)
{
    size_t len = strlen(l->cmdline) + 1;
    fw_cfg_add_u32(f, FW_CFG_KERNEL_ENTRY, (uint32_t)entry);
    fw_cfg_add_u32(f, FW_CFG_KERNEL_ADDR, (uint32_t)l->kernel_start);
    fw_cfg_add_u32(f, FW_CFG_KERNEL_SIZE, (uint32_t)(l->kernel_end - l->kernel_start));
    fw_cfg_add_u32(f, FW_CFG_CMDLINE_SIZE, (uint32_t)len);
    fw_cfg_add(f, FW_CFG_CMDLINE_DATA, l->cmdline, len);
    fw_cfg_add_u32(f, FW_CFG_INITRD_ADDR, (uint32_t)l->initrd_start);
    fw_cfg_add_u32(f, FW_CFG_INITRD_SIZE, (uint32_t)l->initrd_size);
}

/* The ROM fetches it from there once more, to the same place. */
static int pvh_add_initrd(struct fw_cfg *f, const struct x86_load *l, struct err *err)
{
    uint8_t *bytes = alloc_zero(l->initrd_size);
    bool ok = gmem_read(l->mem, l->initrd_start, bytes, l->initrd_size);
    if (ok) {
        fw_cfg_add(f, FW_CFG_INITRD_DATA, bytes, l->initrd_size);
    }
    free(bytes);
    return ok ? 0 : err_set(err, EFAULT, "the initial ramdisk '%s' cannot be read", l->initrd);
}

static int pvh_add_rom(struct pc_base *b, struct err *err)
{
    struct firmware_file rom;
    int ret = firmware_read(b->x86.machine, "pvh.bin", 1 << 16, &rom, err);
    if (!ret) {
        ret = fw_cfg_add_file(b->fw_cfg, PC_PVH_ROM, rom.bytes, rom.len, err);
        free(rom.bytes);
    }
    return ret;
}

int pc_add_pvh(struct pc_base *b, const struct load_file *kernel, struct err *err)
{
    const struct machine_config *c = &b->x86.machine->config;
    struct x86_load l = {.mem = b->x86.machine->mem,
                         .kernel = c->kernel,
                         .initrd = c->initrd,
                         .cmdline = c->append ? c->append : "",
                         .low_ram_end = b->x86.low_ram};
    uint64_t entry = 0;
    if (strlen(l.cmdline) >= CMDLINE_MAX) {
        return err_set(err, E2BIG, "-append: the command line of an ELF kernel is at most %u bytes",
                       CMDLINE_MAX - 1);
    }
    int ret = x86_load_elf_segments(&l, kernel, &entry, err);
    ret = ret ? ret : x86_load_initrd(&l, b->x86.low_ram - ACPI_ROOM, err);
    if (!ret && !b->kernel_loaded) {
        pvh_to_fw_cfg(b->fw_cfg, &l, entry);
        ret = l.initrd_size ? pvh_add_initrd(b->fw_cfg, &l, err) : 0;
        ret = ret ? ret : pvh_add_rom(b, err);
    }
    return ret;
}
