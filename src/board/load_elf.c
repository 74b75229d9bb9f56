/*
 * ELF kernels, by their PVH entry or by their own (for Multiboot): Xen docs/misc/pvh "x86/HVM
 * direct boot ABI", the note XEN_ELFNOTE_PHYS32_ENTRY of xen/include/public/elfnote.h, start_info
 * of xen/include/public/arch-x86/hvm/start_info.h; ELF: gABI 4.1.
 *
 * Does not do: relocation (segments go to their physical addresses), section headers.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "board/load_x86.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define START_INFO_MAGIC 0x336ec578
#define MAX_SEGMENTS 64
#define MAX_NOTE_BYTES 0x10000

/* What both ELF classes say, in one form. */
struct elf_head {
    bool is64;
    uint64_t phoff, entry;
    unsigned phentsize, phnum;
};

struct elf_seg {
    uint32_t type;
    uint64_t off, vaddr, paddr, filesz, memsz, align;
};

bool x86_is_elf(const uint8_t *head, size_t n)
{
    return n >= EI_NIDENT && !memcmp(head, ELFMAG, SELFMAG);
}

static int elf_wrong_machine(const struct load_file *f, struct err *err)
{
    return err_set(err, ENOEXEC, "the kernel '%s' is an ELF image for another architecture",
                   f->path);
}

static int elf_read_head(const struct load_file *f, struct elf_head *h, struct err *err)
{
    union {
        uint8_t ident[EI_NIDENT];
        Elf32_Ehdr e32;
        Elf64_Ehdr e64;
    } u;
    int ret = load_file_read(f, 0, u.ident, EI_NIDENT, err);
    if (ret) {
        return ret;
    }
    h->is64 = u.ident[EI_CLASS] == ELFCLASS64;
    if (u.ident[EI_DATA] != ELFDATA2LSB || (!h->is64 && u.ident[EI_CLASS] != ELFCLASS32)) {
        return elf_wrong_machine(f, err);
    }
    ret = load_file_read(f, 0, &u, h->is64 ? sizeof(u.e64) : sizeof(u.e32), err);
    if (ret) {
        return ret;
    }
    unsigned machine = h->is64 ? u.e64.e_machine : u.e32.e_machine;
    if (machine != (h->is64 ? EM_X86_64 : EM_386)) {
        return elf_wrong_machine(f, err);
    }
    h->phoff = h->is64 ? u.e64.e_phoff : u.e32.e_phoff;
    h->entry = h->is64 ? u.e64.e_entry : u.e32.e_entry;
    h->phentsize = h->is64 ? u.e64.e_phentsize : u.e32.e_phentsize;
    h->phnum = h->is64 ? u.e64.e_phnum : u.e32.e_phnum;
    if (h->phentsize != (h->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || !h->phnum ||
        h->phnum > MAX_SEGMENTS) {
        return err_set(err, ENOEXEC, "the kernel '%s' has no valid ELF program headers", f->path);
    }
    return 0;
}

static int elf_read_seg(const struct load_file *f, const struct elf_head *h, unsigned i,
                        struct elf_seg *s, struct err *err)
{
    union {
        Elf32_Phdr p32;
        Elf64_Phdr p64;
    } u;
    uint64_t off;
    if (!add_ok(h->phoff, (uint64_t)i * h->phentsize, &off)) {
        off = UINT64_MAX;
    }
    int ret = load_file_read(f, off, &u, h->phentsize, err);
    if (ret) {
        return ret;
    }
    if (h->is64) {
        *s = (struct elf_seg){u.p64.p_type,   u.p64.p_offset, u.p64.p_vaddr, u.p64.p_paddr,
                              u.p64.p_filesz, u.p64.p_memsz,  u.p64.p_align};
    } else {
        *s = (struct elf_seg){u.p32.p_type,   u.p32.p_offset, u.p32.p_vaddr, u.p32.p_paddr,
                              u.p32.p_filesz, u.p32.p_memsz,  u.p32.p_align};
    }
    return 0;
}

static int elf_load_seg(struct x86_load *l, const struct load_file *f, const struct elf_seg *s,
                        struct err *err)
{
    uint64_t end;
    if (s->filesz > s->memsz || !add_ok(s->paddr, s->memsz, &end)) {
        return err_set(err, ENOEXEC, "the kernel '%s' has a damaged ELF segment", f->path);
    }
    int ret = load_file_to_guest(f, s->off, l->mem, s->paddr, s->filesz, err);
    if (ret) {
        return ret;
    }
    struct gmem_span span;
    if (s->memsz && (!gmem_span(l->mem, s->paddr, s->memsz, &span) || span.len < s->memsz ||
                     !gmem_fill(l->mem, s->paddr + s->filesz, 0, s->memsz - s->filesz))) {
        return err_set(err, ENOMEM, "the kernel '%s' does not fit into guest memory (see -m)",
                       f->path);
    }
    l->kernel_start = s->paddr < l->kernel_start ? s->paddr : l->kernel_start;
    l->kernel_end = end > l->kernel_end ? end : l->kernel_end;
    return 0;
}

/* Notes: name size, description size, type; name and description padded to the alignment. */
static bool elf_find_entry(const uint8_t *note, uint64_t len, uint64_t align, uint64_t *entry)
{
    uint64_t pad = align == 8 ? 8 : 4;
    uint64_t at = 0;
    while (at <= len && len - at >= 12) {
        uint64_t namesz = load_le32(note + at), descsz = load_le32(note + at + 4);
        uint64_t type = load_le32(note + at + 8);
        uint64_t name = at + 12, desc = name + round_up(namesz, pad);
        uint64_t next = desc + round_up(descsz, pad);
        if (desc + descsz > len) {
            return false;
        }
        if (type == XEN_ELFNOTE_PHYS32_ENTRY && namesz == 4 && !memcmp(note + name, "Xen", 4) &&
            (descsz == 4 || descsz == 8)) {
            *entry = descsz == 8 ? load_le64(note + desc) : load_le32(note + desc);
            return true;
        }
        if (next > len) {
            return false;
        }
        at = next;
    }
    return false;
}

static int elf_scan_note(const struct load_file *f, const struct elf_seg *s, uint64_t *entry,
                         bool *found, struct err *err)
{
    uint8_t note[MAX_NOTE_BYTES];
    uint64_t len = s->filesz < sizeof(note) ? s->filesz : sizeof(note);
    int ret = load_file_read(f, s->off, note, len, err);
    if (!ret && !*found) {
        *found = elf_find_entry(note, len, s->align, entry);
    }
    return ret;
}

/* The entry is where the kernel links itself to; its segments may lie elsewhere. */
static void elf_move_entry(const struct elf_seg *s, uint64_t linked, uint64_t *entry)
{
    if (linked >= s->vaddr && linked - s->vaddr < s->memsz) {
        *entry = s->paddr + (linked - s->vaddr);
    }
}

int x86_load_elf32(struct x86_load *l, const struct load_file *f, uint64_t start, uint64_t limit,
                   uint64_t *entry, struct err *err)
{
    struct elf_head h = {0};
    struct elf_seg s;
    int ret = elf_read_head(f, &h, err);
    l->kernel_start = UINT64_MAX;
    l->kernel_end = 0;
    *entry = h.entry;
    for (unsigned i = 0; !ret && i < h.phnum; i++) {
        ret = elf_read_seg(f, &h, i, &s, err);
        if (ret || s.type != PT_LOAD || !s.memsz) {
            continue;
        }
        if (s.paddr < start || s.paddr > limit || s.memsz > limit - s.paddr) {
            return err_set(err, ENOMEM,
                           "the kernel '%s' does not fit: it wants addresses %llx to %llx of guest "
                           "memory, %llx to %llx can be had (see -m)",
                           f->path, (unsigned long long)s.paddr,
                           (unsigned long long)(s.paddr + s.memsz), (unsigned long long)start,
                           (unsigned long long)limit);
        }
        ret = elf_load_seg(l, f, &s, err);
        elf_move_entry(&s, h.entry, entry);
    }
    return ret;
}

int x86_load_elf_segments(struct x86_load *l, const struct load_file *f, uint64_t *entry,
                          struct err *err)
{
    struct elf_head h = {0};
    struct elf_seg s;
    bool found = false;
    int ret = elf_read_head(f, &h, err);
    l->kernel_start = UINT64_MAX;
    l->kernel_end = 0;
    for (unsigned i = 0; !ret && i < h.phnum; i++) {
        ret = elf_read_seg(f, &h, i, &s, err);
        if (!ret && s.type == PT_NOTE) {
            ret = elf_scan_note(f, &s, entry, &found, err);
        } else if (!ret && s.type == PT_LOAD) {
            ret = elf_load_seg(l, f, &s, err);
        }
    }
    if (!ret && !found) {
        return err_set(err, ENOEXEC, "the kernel '%s' is an ELF image without a PVH entry note",
                       f->path);
    }
    if (!ret && (*entry < l->kernel_start || *entry >= l->kernel_end || *entry >> 32)) {
        return err_set(err, ENOEXEC, "the kernel '%s' has its PVH entry outside of its segments",
                       f->path);
    }
    return ret;
}

/* start_info, the module list (one entry) and the memory map, one after the other. */
static int pvh_put_start_info(struct x86_load *l, struct err *err)
{
    enum { MODLIST = 64, MEMMAP = 96 };
    uint8_t buf[MEMMAP + sizeof(l->map) / sizeof(l->map[0]) * 24] = {0};
    store_le32(buf, START_INFO_MAGIC);
    store_le32(buf + 4, 1); /* version */
    store_le32(buf + 12, l->initrd_size ? 1 : 0);
    store_le64(buf + 16, l->initrd_size ? X86_LOAD_START_INFO + MODLIST : 0);
    store_le64(buf + 24, X86_LOAD_CMDLINE);
    store_le64(buf + 32, l->rsdp);
    store_le64(buf + 40, X86_LOAD_START_INFO + MEMMAP);
    store_le32(buf + 48, l->map_count);
    store_le64(buf + MODLIST, l->initrd_start);
    store_le64(buf + MODLIST + 8, l->initrd_size);
    for (unsigned i = 0; i < l->map_count; i++) {
        store_le64(buf + MEMMAP + i * 24, l->map[i].start);
        store_le64(buf + MEMMAP + i * 24 + 8, l->map[i].len);
        store_le32(buf + MEMMAP + i * 24 + 16, l->map[i].type);
    }
    return x86_load_put(l, X86_LOAD_START_INFO, buf, sizeof(buf), err);
}

/* Null, code, data, TSS: neither PVH nor Multiboot needs a table, but one that matches costs
 * nothing. */
int x86_load_flat_gdt(struct x86_load *l, struct err *err)
{
    static const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00008b0000000067};
    l->boot->gdt_base = X86_LOAD_GDT;
    l->boot->gdt_limit = sizeof(gdt) - 1;
    l->boot->cs = 0x08;
    l->boot->ds = 0x10;
    l->boot->tr = 0x18;
    return x86_load_put(l, X86_LOAD_GDT, gdt, sizeof(gdt), err);
}

int x86_load_elf(struct x86_load *l, const struct load_file *f, struct err *err)
{
    uint64_t entry = 0;
    int ret = x86_load_elf_segments(l, f, &entry, err);
    ret = ret ? ret : x86_load_cmdline(l, X86_LOAD_CMDLINE_MAX, err);
    ret = ret ? ret : x86_load_initrd(l, l->low_ram_end, err);
    ret = ret ? ret : pvh_put_start_info(l, err);
    ret = ret ? ret : x86_load_flat_gdt(l, err);
    if (ret) {
        return ret;
    }
    l->boot->mode = X86_BOOT_PVH32;
    l->boot->rip = entry;
    l->boot->rbx = X86_LOAD_START_INFO;
    return 0;
}
