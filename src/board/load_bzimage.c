/*
 * Linux bzImage by its 64-bit entry: Linux Documentation/arch/x86/boot.rst (boot protocol 2.12)
 * and zero-page.rst.
 *
 * Does not do: protocols before 2.12, the 16-bit and 32-bit entries, EFI handover.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "board/load_x86.h"

enum {
    HDR_SETUP_SECTS = 0x1f1, /* the header begins here */
    HDR_SYSSIZE = 0x1f4,     /* of the protected-mode part, in 16 bytes */
    HDR_BOOT_FLAG = 0x1fe,
    HDR_JUMP = 0x200,
    HDR_MAGIC = 0x202,
    HDR_VERSION = 0x206,
    HDR_TYPE_OF_LOADER = 0x210,
    HDR_LOADFLAGS = 0x211,
    HDR_RAMDISK_IMAGE = 0x218,
    HDR_RAMDISK_SIZE = 0x21c,
    HDR_CMD_LINE_PTR = 0x228,
    HDR_INITRD_ADDR_MAX = 0x22c,
    HDR_KERNEL_ALIGNMENT = 0x230,
    HDR_RELOCATABLE = 0x234,
    HDR_XLOADFLAGS = 0x236,
    HDR_CMDLINE_SIZE = 0x238,
    HDR_PREF_ADDRESS = 0x258,
    HDR_INIT_SIZE = 0x260,
    HDR_END = 0x290,
    ZP_ACPI_RSDP = 0x070,
    ZP_EXT_RAMDISK_IMAGE = 0x0c0,
    ZP_E820_ENTRIES = 0x1e8,
    ZP_E820_TABLE = 0x2d0,
    ZP_SIZE = 0x1000,
    XLF_KERNEL_64 = 1,
    LOADED_HIGH = 1,
};

bool x86_is_bzimage(const uint8_t *head, size_t n)
{
    return n >= HDR_END && load_le16(head + HDR_BOOT_FLAG) == 0xaa55 &&
           !memcmp(head + HDR_MAGIC, "HdrS", 4);
}

static int bz_check(const uint8_t *h, const struct load_file *f, struct err *err)
{
    if (load_le16(h + HDR_VERSION) < 0x20c || !(h[HDR_LOADFLAGS] & LOADED_HIGH)) {
        return err_set(err, ENOEXEC, "the kernel '%s' is too old: boot protocol %x.%02x, need 2.12",
                       f->path, h[HDR_VERSION + 1], h[HDR_VERSION]);
    }
    if (!(load_le16(h + HDR_XLOADFLAGS) & XLF_KERNEL_64)) {
        return err_set(err, ENOEXEC, "the kernel '%s' has no 64-bit entry", f->path);
    }
    return 0;
}

/* The protected-mode part goes to its preferred address. */
static int bz_load_code(struct x86_load *l, const struct load_file *f, const uint8_t *h,
                        struct err *err)
{
    uint64_t sects = h[HDR_SETUP_SECTS] ? h[HDR_SETUP_SECTS] : 4;
    uint64_t skip = (sects + 1) * 512;
    uint64_t pref = load_le64(h + HDR_PREF_ADDRESS), need = load_le32(h + HDR_INIT_SIZE);
    uint64_t want = (uint64_t)load_le32(h + HDR_SYSSIZE) * 16;
    uint64_t size = f->size > skip ? f->size - skip : 0;
    if (size <= 0x200 || size + 15 < want) {
        return err_set(err, ENOEXEC, "the kernel '%s' is truncated: %llu bytes of code, not %llu",
                       f->path, (unsigned long long)size, (unsigned long long)want);
    }
    need = need > size ? need : size;
    if (pref < 1 << 20 || pref > l->low_ram_end || need > l->low_ram_end - pref) {
        return err_set(err, ENOMEM,
                       "the kernel '%s' wants %llu MiB of memory at %llx, there is less (see -m)",
                       f->path, (unsigned long long)(need >> 20), (unsigned long long)pref);
    }
    l->kernel_start = pref;
    l->kernel_end = pref + need;
    return load_file_to_guest(f, skip, l->mem, pref, size, err);
}

static int bz_put_zero_page(struct x86_load *l, const uint8_t *h, struct err *err)
{
    uint8_t zp[ZP_SIZE] = {0};
    size_t end = 0x202u + h[0x201];
    if (end > HDR_END) {
        end = HDR_END;
    }
    memcpy(zp + HDR_SETUP_SECTS, h + HDR_SETUP_SECTS, end - HDR_SETUP_SECTS);
    zp[HDR_TYPE_OF_LOADER] = 0xff; /* undefined loader */
    store_le32(zp + HDR_CMD_LINE_PTR, X86_LOAD_CMDLINE);
    store_le32(zp + HDR_RAMDISK_IMAGE, (uint32_t)l->initrd_start);
    store_le32(zp + HDR_RAMDISK_SIZE, (uint32_t)l->initrd_size);
    store_le64(zp + ZP_ACPI_RSDP, l->rsdp);
    zp[ZP_E820_ENTRIES] = (uint8_t)l->map_count;
    for (unsigned i = 0; i < l->map_count; i++) {
        uint8_t *e = zp + ZP_E820_TABLE + i * 20;
        store_le64(e, l->map[i].start);
        store_le64(e + 8, l->map[i].len);
        store_le32(e + 16, l->map[i].type);
    }
    return x86_load_put(l, X86_LOAD_BOOT_PARAMS, zp, sizeof(zp), err);
}

/* The first 4 GiB one to one, with 2 MiB pages: one page each of levels 4 and 3, four of 2. */
static int bz_put_page_tables(struct x86_load *l, struct err *err)
{
    uint64_t table[6][512] = {0};
    uint64_t at = X86_LOAD_PAGE_TABLES;
    table[0][0] = (at + 0x1000) | 3;
    for (uint64_t i = 0; i < 4; i++) {
        table[1][i] = (at + 0x2000 + i * 0x1000) | 3;
    }
    for (uint64_t i = 0; i < 2048; i++) {
        table[2 + i / 512][i % 512] = i << 21 | 0x83;
    }
    l->boot->cr3 = at;
    return x86_load_put(l, at, table, sizeof(table), err);
}

/* __BOOT_CS and __BOOT_DS of the protocol. */
static int bz_put_gdt(struct x86_load *l, struct err *err)
{
    static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00008b0000000067,
                                   0};
    l->boot->gdt_base = X86_LOAD_GDT;
    l->boot->gdt_limit = sizeof(gdt) - 1;
    l->boot->cs = 0x10;
    l->boot->ds = 0x18;
    l->boot->tr = 0x20;
    return x86_load_put(l, X86_LOAD_GDT, gdt, sizeof(gdt), err);
}

int x86_load_bzimage(struct x86_load *l, const struct load_file *f, struct err *err)
{
    uint8_t h[HDR_END];
    int ret = load_file_read(f, 0, h, sizeof(h), err);
    ret = ret ? ret : bz_check(h, f, err);
    ret = ret ? ret : bz_load_code(l, f, h, err);
    ret = ret ? ret : x86_load_cmdline(l, load_le32(h + HDR_CMDLINE_SIZE), err);
    ret = ret ? ret : x86_load_initrd(l, (uint64_t)load_le32(h + HDR_INITRD_ADDR_MAX) + 1, err);
    ret = ret ? ret : bz_put_zero_page(l, h, err);
    ret = ret ? ret : bz_put_page_tables(l, err);
    ret = ret ? ret : bz_put_gdt(l, err);
    if (ret) {
        return ret;
    }
    l->boot->mode = X86_BOOT_LONG64;
    l->boot->rip = l->kernel_start + 0x200;
    l->boot->rsi = X86_LOAD_BOOT_PARAMS;
    l->boot->rsp = X86_LOAD_BOOT_PARAMS;
    return 0;
}
