/*
 * Kernels with a Multiboot header: Multiboot 0.6.96 (§3.1 header, §3.2 machine state, §3.3 boot
 * information). A 32-bit ELF image goes to the physical addresses of its program headers, any
 * other file where the header's address fields say.
 *
 * Does not do: video modes (a header that asks for one gets no information about it), symbols,
 * drives, APM, 64-bit ELF images without address fields, anything below 1 MiB.
 */
#include "board/load_multiboot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"

enum {
    HEADER_MAGIC = 0x1badb002,
    SEARCH = 8192, /* the header is wholly in these first bytes */
    FLAGS_KNOWN = 7,
    FLAGS_REQUIRED = 0xffff, /* the others may be ignored */
    FLAG_ADDRESSES = 1 << 16,
    HEADER_SIZE = 12,
    HEADER_ADDRESSES_SIZE = 32,
    INFO_MEMORY = 1 << 0,
    INFO_CMDLINE = 1 << 2,
    INFO_MODS = 1 << 3,
    INFO_MMAP = 1 << 6,
    INFO_LOADER_NAME = 1 << 9,
    INFO_MEM_LOWER = 4,
    INFO_MEM_UPPER = 8,
    INFO_CMDLINE_ADDR = 16,
    INFO_MODS_COUNT = 20,
    INFO_MODS_ADDR = 24,
    INFO_MMAP_ADDR = 48,
    INFO_LOADER_NAME_ADDR = 64,
    MIB = 1 << 20,
};

struct header {
    uint64_t off; /* in the file */
    uint32_t flags;
    uint32_t header_addr, load_addr, load_end, bss_end, entry;
};

/* 1: there is one. */
static int find_header(const struct load_file *f, struct header *h, struct err *err)
{
    uint8_t head[SEARCH] = {0};
    uint64_t n = f->size < SEARCH ? f->size : SEARCH;
    int ret = load_file_read(f, 0, head, n, err);
    for (uint64_t at = 0; !ret && at + HEADER_SIZE <= n; at += 4) {
        const uint8_t *p = head + at;
        uint32_t sum = load_le32(p) + load_le32(p + 4) + load_le32(p + 8);
        bool addresses = load_le32(p + 4) & FLAG_ADDRESSES;
        if (load_le32(p) != HEADER_MAGIC || sum || (addresses && at + HEADER_ADDRESSES_SIZE > n)) {
            continue;
        }
        *h = (struct header){.off = at, .flags = load_le32(p + 4)};
        if (addresses) {
            h->header_addr = load_le32(p + 12);
            h->load_addr = load_le32(p + 16);
            h->load_end = load_le32(p + 20);
            h->bss_end = load_le32(p + 24);
            h->entry = load_le32(p + 28);
        }
        return 1;
    }
    return ret;
}

int x86_is_multiboot(const struct load_file *f, struct err *err)
{
    struct header h;
    uint8_t ident[16] = {0};
    int ret = find_header(f, &h, err);
    if (ret <= 0 || h.flags & FLAG_ADDRESSES) {
        return ret;
    }
    ret = load_file_read(f, 0, ident, f->size < 16 ? f->size : 16, err);
    return ret ? ret : x86_is_elf(ident, 16) && ident[4] == 1; /* ELFCLASS32 */
}

static int bad_addresses(const struct load_file *f, struct err *err)
{
    return err_set(err, ENOEXEC, "the kernel '%s' has impossible addresses in its Multiboot header",
                   f->path);
}

static int no_room(const struct load_file *f, struct err *err)
{
    return err_set(
        err, ENOMEM,
        "the Multiboot kernel '%s' does not fit into guest memory from 1 MiB on (see -m)", f->path);
}

/* By the address fields, §3.1.3. Ends of 0: the file's, and no bss. */
static int load_by_addresses(struct x86_load *l, const struct load_file *f, const struct header *h,
                             uint64_t limit, struct err *err)
{
    uint64_t before = (uint64_t)h->header_addr - h->load_addr;
    if (h->load_addr > h->header_addr || before > h->off) {
        return bad_addresses(f, err);
    }
    uint64_t off = h->off - before, size = f->size - off;
    if (h->load_end) {
        size = (uint64_t)h->load_end - h->load_addr;
    }
    uint64_t end = h->load_addr + size;
    if ((h->load_end && h->load_end < h->load_addr) || (h->bss_end && h->bss_end < end)) {
        return bad_addresses(f, err);
    }
    l->kernel_start = h->load_addr;
    l->kernel_end = h->bss_end ? h->bss_end : end;
    if (l->kernel_start < MIB || l->kernel_end > limit) {
        return no_room(f, err);
    }
    int ret = load_file_to_guest(f, off, l->mem, h->load_addr, size, err);
    if (!ret && !gmem_fill(l->mem, end, 0, l->kernel_end - end)) {
        return no_room(f, err);
    }
    return ret;
}

static int load_kernel(struct x86_load *l, const struct load_file *f, uint64_t limit,
                       uint64_t *entry, struct err *err)
{
    struct header h = {0};
    int ret = find_header(f, &h, err);
    if (ret < 0) {
        return ret;
    }
    if (h.flags & FLAGS_REQUIRED & ~FLAGS_KNOWN) {
        return err_set(err, ENOTSUP, "the kernel '%s' requires unknown Multiboot features (%x)",
                       f->path, h.flags & FLAGS_REQUIRED);
    }
    if (h.flags & FLAG_ADDRESSES) {
        ret = load_by_addresses(l, f, &h, limit, err);
        *entry = h.entry;
    } else {
        ret = x86_load_elf32(l, f, MIB, limit, entry, err);
    }
    if (!ret && (*entry < l->kernel_start || *entry >= l->kernel_end)) {
        return err_set(err, ENOEXEC, "the kernel '%s' has its entry outside of itself", f->path);
    }
    return ret;
}

/* ---- Information ---- */

/* Strings follow one another from MULTIBOOT_STRINGS on. */
struct writer {
    uint8_t *bytes;
    uint32_t info; /* guest address of `bytes` when the kernel starts */
    uint64_t len;  /* in use */
};

static uint32_t put_text(struct writer *w, const char *text)
{
    uint64_t at = w->len, n = strlen(text) + 1;
    memcpy(w->bytes + at, text, n);
    w->len += n;
    return w->info + (uint32_t)at;
}

static void put_modules(struct writer *w, const struct multiboot *mb)
{
    for (unsigned i = 0; i < mb->modules; i++) {
        uint8_t *m = w->bytes + MULTIBOOT_MODULES + (size_t)i * 16;
        store_le32(m, mb->module[i].start);
        store_le32(m + 4, mb->module[i].end);
        store_le32(m + 8, put_text(w, mb->module[i].text));
    }
    store_le32(w->bytes + INFO_MODS_COUNT, mb->modules);
    store_le32(w->bytes + INFO_MODS_ADDR, w->info + MULTIBOOT_MODULES);
}

/* The size of an entry does not count itself. Memory in KiB: from 0, and from 1 MiB to a hole. */
static void put_map(struct writer *w, const struct x86_load *l)
{
    for (unsigned i = 0; i < l->map_count; i++) {
        uint8_t *e = w->bytes + MULTIBOOT_MMAP + (size_t)i * 24;
        const struct x86_range *r = &l->map[i];
        store_le32(e, 20);
        store_le64(e + 4, r->start);
        store_le64(e + 12, r->len);
        store_le32(e + 20, r->type);
        if (r->type == X86_RANGE_RAM && (!r->start || r->start == MIB)) {
            store_le32(w->bytes + (r->start ? INFO_MEM_UPPER : INFO_MEM_LOWER),
                       (uint32_t)(r->len >> 10));
        }
    }
    store_le32(w->bytes + MULTIBOOT_INFO_MMAP_LENGTH, l->map_count * 24);
    store_le32(w->bytes + INFO_MMAP_ADDR, w->info + MULTIBOOT_MMAP);
}

static uint64_t info_size(const struct multiboot *mb, const char *cmdline, const char *name)
{
    uint64_t size = MULTIBOOT_STRINGS + strlen(cmdline) + strlen(name) + 2;
    for (unsigned i = 0; i < mb->modules; i++) {
        size += strlen(mb->module[i].text) + 1;
    }
    return size;
}

static int put_info(struct x86_load *l, struct multiboot *mb, uint64_t at, uint64_t limit,
                    const char *cmdline, struct err *err)
{
    static const char name[] = "lodge";
    uint64_t size = info_size(mb, cmdline, name);
    if (size > MULTIBOOT_INFO_MAX) {
        return err_set(err, E2BIG,
                       "-append, -initrd: the texts for a Multiboot kernel are too long");
    }
    if (mb->staged && (at > limit || size > limit - at)) {
        return err_set(err, ENOMEM, "too little guest memory to start a Multiboot kernel (see -m)");
    }
    struct writer w = {alloc_zero(size), MULTIBOOT_INFO, MULTIBOOT_STRINGS};
    mb->stage = mb->staged ? (uint32_t)at : MULTIBOOT_INFO;
    mb->size = (uint32_t)size;
    store_le32(w.bytes, INFO_MEMORY | INFO_CMDLINE | INFO_MODS | INFO_MMAP | INFO_LOADER_NAME);
    store_le32(w.bytes + INFO_CMDLINE_ADDR, put_text(&w, cmdline));
    store_le32(w.bytes + INFO_LOADER_NAME_ADDR, put_text(&w, name));
    put_modules(&w, mb);
    put_map(&w, l);
    int ret = x86_load_put(l, mb->stage, w.bytes, size, err);
    free(w.bytes);
    return ret;
}

int x86_load_multiboot(struct x86_load *l, const struct load_file *f, uint64_t limit,
                       struct multiboot *mb, struct err *err)
{
    uint64_t entry = 0, end = 0;
    int ret = load_kernel(l, f, limit, &entry, err);
    if (ret) {
        return ret;
    }
    ret = multiboot_load_modules(l, mb, round_up(l->kernel_end, 4096), limit, &end, err);
    if (!ret) {
        char *cmdline = alloc_printf("%s%s%s", l->kernel, *l->cmdline ? " " : "", l->cmdline);
        ret = put_info(l, mb, end, limit, cmdline, err);
        free(cmdline);
    }
    mb->entry = (uint32_t)entry;
    return ret;
}

int x86_boot_multiboot(struct x86_load *l, const struct load_file *f, struct err *err)
{
    struct multiboot mb = {0};
    int ret = x86_load_multiboot(l, f, l->low_ram_end, &mb, err);
    multiboot_free(&mb);
    ret = ret ? ret : x86_load_flat_gdt(l, err);
    if (!ret) {
        l->boot->mode = X86_BOOT_PVH32; /* the same state but for two registers */
        l->boot->rip = mb.entry;
        l->boot->rax = MULTIBOOT_LOADED_MAGIC;
        l->boot->rbx = MULTIBOOT_INFO;
        l->boot->rsp =
            X86_LOAD_GDT; /* §3.2 promises none; some kernels push before they have one */
    }
    return ret;
}
