/*
 * -kernel on boards with firmware: the parts of a bzImage go to fw_cfg, an option ROM (Debian's
 * package qemu-system-data) takes them from there when firmware has set up the machine. The
 * Linux/x86 boot protocol, Documentation/arch/x86/boot.rst.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/endian.h"
#include "base/err.h"
#include "board/load_file.h"
#include "board/load_multiboot.h"
#include "board/load_x86.h"
#include "board/pc_base.h"
#include "dev/firmware/firmware.h"
#include "dev/firmware/fw_cfg.h"

enum {
    SETUP_SECTS = 0x1f1,
    VERSION = 0x206,
    TYPE_OF_LOADER = 0x210,
    LOADFLAGS = 0x211,
    RAMDISK_IMAGE = 0x218,
    RAMDISK_SIZE = 0x21c,
    HEAP_END_PTR = 0x224,
    CMD_LINE_PTR = 0x228,
    INITRD_ADDR_MAX = 0x22c,
    HEADER_END = 0x230,
    LOADED_HIGH = 1,
    CAN_USE_HEAP = 0x80,
    LOADER_UNDEFINED = 0xff,
    SETUP_ADDR = 0x10000,
    CMDLINE_ADDR = 0x20000,
    CMDLINE_MAX = 0x10000,
    KERNEL_ADDR = 0x100000,
    OLD_INITRD_MAX = 0x37ffffff,
    ACPI_ROOM = 0x40000, /* firmware's tables, at the end of low memory */
    MAX_FILE = 1 << 30,
};

struct pc_kernel {
    uint8_t *image, *initrd; /* whole files */
    uint64_t size, setup_size, initrd_size, initrd_addr;
};

static int read_whole(const char *what, const char *path, uint8_t **bytes, uint64_t *size,
                      struct err *err)
{
    struct load_file f;
    int ret = load_file_open(&f, what, path, err);
    if (ret) {
        return ret;
    }
    if (f.size > MAX_FILE) {
        ret = err_set(err, EFBIG, "%s '%s' is larger than 1 GiB", what, path);
    } else {
        *size = f.size;
        *bytes = alloc_zero(f.size ? f.size : 1);
        ret = load_file_read(&f, 0, *bytes, f.size, err);
    }
    load_file_close(&f);
    return ret;
}

static int kernel_check(const struct pc_base *b, struct pc_kernel *k, struct err *err)
{
    const char *name = b->x86.machine->config.kernel;
    bool linux_image = k->size > HEADER_END && x86_is_bzimage(k->image, k->size);
    if (!linux_image || load_le16(k->image + VERSION) < 0x202 ||
        !(k->image[LOADFLAGS] & LOADED_HIGH)) {
        return err_set(err, ENOEXEC,
                       "kernel '%s' is neither a bzImage with boot protocol 2.02 or later, an ELF "
                       "image with a PVH note, nor a Multiboot kernel",
                       name);
    }
    unsigned sects = k->image[SETUP_SECTS] ? k->image[SETUP_SECTS] : 4;
    k->setup_size = (sects + 1) * 512u;
    return k->setup_size < k->size ? 0 : err_set(err, EINVAL, "kernel '%s' is truncated", name);
}

static int kernel_place_initrd(const struct pc_base *b, struct pc_kernel *k, struct err *err)
{
    uint64_t max = OLD_INITRD_MAX, top = b->x86.low_ram - ACPI_ROOM - 1;
    if (load_le16(k->image + VERSION) >= 0x203) {
        max = load_le32(k->image + INITRD_ADDR_MAX);
    }
    max = max < top ? max : top;
    if (k->initrd_size > max || max - k->initrd_size < KERNEL_ADDR + k->size) {
        return err_set(err, ENOMEM,
                       "initial ramdisk '%s' does not fit into guest memory; give more with -m",
                       b->x86.machine->config.initrd);
    }
    k->initrd_addr = (max - k->initrd_size) & ~4095ull;
    return 0;
}

static void kernel_set_header(const struct pc_kernel *k)
{
    uint8_t *h = k->image;
    h[TYPE_OF_LOADER] = LOADER_UNDEFINED;
    h[LOADFLAGS] |= CAN_USE_HEAP;
    store_le16(h + HEAP_END_PTR, CMDLINE_ADDR - SETUP_ADDR - 0x200);
    store_le32(h + CMD_LINE_PTR, CMDLINE_ADDR);
    store_le32(h + RAMDISK_IMAGE, (uint32_t)k->initrd_addr);
    store_le32(h + RAMDISK_SIZE, (uint32_t)k->initrd_size);
}

static void kernel_to_fw_cfg(struct pc_base *b, const struct pc_kernel *k, const char *cmdline)
{
    struct fw_cfg *f = b->fw_cfg;
    size_t len = strlen(cmdline) + 1;
    fw_cfg_add_u32(f, FW_CFG_SETUP_ADDR, SETUP_ADDR);
    fw_cfg_add_u32(f, FW_CFG_SETUP_SIZE, (uint32_t)k->setup_size);
    fw_cfg_add(f, FW_CFG_SETUP_DATA, k->image, k->setup_size);
    fw_cfg_add_u32(f, FW_CFG_CMDLINE_ADDR, CMDLINE_ADDR);
    fw_cfg_add_u32(f, FW_CFG_CMDLINE_SIZE, (uint32_t)len);
    fw_cfg_add(f, FW_CFG_CMDLINE_DATA, cmdline, len);
    fw_cfg_add_u32(f, FW_CFG_KERNEL_ADDR, KERNEL_ADDR);
    fw_cfg_add_u32(f, FW_CFG_KERNEL_SIZE, (uint32_t)(k->size - k->setup_size));
    fw_cfg_add(f, FW_CFG_KERNEL_DATA, k->image + k->setup_size, k->size - k->setup_size);
    fw_cfg_add_u32(f, FW_CFG_INITRD_ADDR, (uint32_t)k->initrd_addr);
    fw_cfg_add_u32(f, FW_CFG_INITRD_SIZE, (uint32_t)k->initrd_size);
    fw_cfg_add(f, FW_CFG_INITRD_DATA, k->initrd, k->initrd_size);
}

static int kernel_add_rom(struct pc_base *b, struct err *err)
{
    struct firmware_file rom;
    int ret = firmware_read(b->x86.machine, "linuxboot_dma.bin", 1 << 16, &rom, err);
    if (!ret) {
        ret = fw_cfg_add_file(b->fw_cfg, PC_KERNEL_ROM, rom.bytes, rom.len, err);
        free(rom.bytes);
    }
    return ret;
}

static int kernel_load(struct pc_base *b, struct pc_kernel *k, struct err *err)
{
    const struct machine_config *c = &b->x86.machine->config;
    const char *cmdline = c->append ? c->append : "";
    int ret = read_whole("kernel", c->kernel, &k->image, &k->size, err);
    ret = ret ? ret : kernel_check(b, k, err);
    if (!ret && strlen(cmdline) >= CMDLINE_MAX) {
        ret = err_set(err, E2BIG, "-append: the command line is longer than 64 KiB");
    }
    if (!ret && c->initrd) {
        ret = read_whole("initial ramdisk", c->initrd, &k->initrd, &k->initrd_size, err);
        ret = ret ? ret : kernel_place_initrd(b, k, err);
    }
    if (!ret) {
        kernel_set_header(k);
        kernel_to_fw_cfg(b, k, cmdline);
        ret = kernel_add_rom(b, err);
    }
    return ret;
}

/* 1: it is an ELF image or has a Multiboot header, and is loaded. */
static int kernel_try_direct(struct pc_base *b, struct err *err)
{
    struct load_file f;
    uint8_t head[0x400] = {0};
    int ret = load_file_open(&f, "kernel", b->x86.machine->config.kernel, err);
    if (ret) {
        return ret;
    }
    ret = load_file_read(&f, 0, head, f.size < sizeof(head) ? f.size : sizeof(head), err);
    if (!ret && !x86_is_bzimage(head, sizeof(head))) {
        int multiboot = x86_is_multiboot(&f, err);
        bool elf = x86_is_elf(head, sizeof(head));
        ret = multiboot > 0 ? pc_add_multiboot(b, &f, err) : multiboot;
        ret = ret || multiboot || !elf ? ret : pc_add_pvh(b, &f, err);
        ret = ret ? ret : multiboot || elf;
    }
    load_file_close(&f);
    return ret;
}

int pc_add_kernel(struct pc_base *b, struct err *err)
{
    struct pc_kernel k = {0};
    if (!b->x86.machine->config.kernel) {
        return 0;
    }
    int ret = kernel_try_direct(b, err);
    if (!ret && !b->kernel_loaded) { /* a reset starts the same bytes again */
        ret = kernel_load(b, &k, err);
        free(k.image);
        free(k.initrd);
    }
    b->kernel_loaded |= ret >= 0;
    return ret < 0 ? ret : 0;
}
