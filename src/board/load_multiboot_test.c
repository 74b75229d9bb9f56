/* Multiboot kernels, good and bad, made here byte by byte. */
#include "board/load_multiboot.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/err.h"
#include "base/unit_test.h"

#define MIB (1u << 20)
#define RAM_SIZE (16 * MIB)

struct rig {
    struct ram_set set;
    struct mem_map *mem;
    struct x86_boot_state boot;
    struct x86_load l;
    struct err err;
    char path[32], module[32];
};

static void write_file(const char *path, const void *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    fwrite(bytes, 1, len, f);
    fclose(f);
}

static int rig_up(void **state)
{
    static struct rig rig;
    memset(&rig, 0, sizeof(rig));
    struct ram *ram = ram_set_add(&rig.set, "ram", RAM_SIZE, &rig.err);
    rig.mem = mem_map_new("m", 0);
    mem_map_add_ram(rig.mem, 0, ram, 0, RAM_SIZE);
    strcpy(rig.path, "/tmp/load_test_XXXXXX");
    close(mkstemp(rig.path));
    strcpy(rig.module, "/tmp/load_test_XXXXXX");
    close(mkstemp(rig.module));
    write_file(rig.module, "module", 6);
    rig.l = (struct x86_load){
        .mem = rig.mem,
        .kernel = rig.path,
        .cmdline = "quiet",
        .low_ram_end = RAM_SIZE,
        .boot = &rig.boot,
        .map = {{0, 0x9fc00, X86_RANGE_RAM}, {MIB, RAM_SIZE - MIB, X86_RANGE_RAM}},
        .map_count = 2,
    };
    *state = &rig;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    unlink(r->path);
    unlink(r->module);
    mem_map_free(r->mem);
    ram_set_free(&r->set);
    return 0;
}

static int load_bytes(struct rig *r, const void *bytes, size_t len)
{
    write_file(r->path, bytes, len);
    return x86_load_kernel(&r->l, &r->err);
}

static bool refused(struct rig *r, const void *bytes, size_t len, const char *words)
{
    bool ok = load_bytes(r, bytes, len) < 0 && strstr(r->err.text, words);
    if (!ok) {
        printf("'%s' does not have '%s'\n", r->err.text, words);
    }
    return ok;
}

static uint32_t guest32(struct rig *r, uint64_t at)
{
    uint8_t b[4];
    assert_true(gmem_read(r->mem, at, b, 4));
    return load_le32(b);
}

static void assert_text(struct rig *r, uint64_t at, const char *text)
{
    char buf[128];
    assert_true(strlen(text) < sizeof(buf));
    assert_true(gmem_read(r->mem, at, buf, strlen(text) + 1));
    assert_string_equal(buf, text);
}

struct head {
    uint32_t magic, flags, checksum;
    uint32_t header_addr, load_addr, load_end, bss_end, entry;
};

static struct head good_head(uint32_t flags)
{
    return (struct head){0x1badb002, flags, 0u - 0x1badb002u - flags, 0, 0, 0, 0, 0};
}

struct elf_image {
    Elf32_Ehdr head;
    Elf32_Phdr seg[2];
    struct head mb;
    uint8_t code[64];
};

/* Linked to c0200000h, loaded at 2 MiB; the second segment has no bytes. */
static struct elf_image good_elf(void)
{
    struct elf_image m = {.mb = good_head(7)};
    memcpy(m.head.e_ident, ELFMAG, SELFMAG);
    m.head.e_ident[EI_CLASS] = ELFCLASS32;
    m.head.e_ident[EI_DATA] = ELFDATA2LSB;
    m.head.e_machine = EM_386;
    m.head.e_entry = 0xc0200010;
    m.head.e_phoff = offsetof(struct elf_image, seg);
    m.head.e_phentsize = sizeof(Elf32_Phdr);
    m.head.e_phnum = 2;
    m.seg[0] = (Elf32_Phdr){.p_type = PT_LOAD,
                            .p_offset = offsetof(struct elf_image, code),
                            .p_vaddr = 0xc0200000,
                            .p_paddr = 0x200000,
                            .p_filesz = 64,
                            .p_memsz = 0x1800};
    m.seg[1] = (Elf32_Phdr){.p_type = PT_LOAD};
    memset(m.code, 0x90, sizeof(m.code));
    return m;
}

static void elf_by_its_program_headers(void **state)
{
    struct rig *r = *state;
    struct elf_image m = good_elf();
    char line[64];
    uint8_t b = 0xff;
    gmem_write(r->mem, 0x201000, &b, 1);
    assert_int_equal(load_bytes(r, &m, sizeof(m)), 0);
    assert_int_equal(r->boot.mode, X86_BOOT_PVH32);
    assert_int_equal(r->boot.rax, 0x2badb002);
    assert_int_equal(r->boot.rip, 0x200010);
    assert_int_equal(guest32(r, 0x20003c), 0x90909090);
    assert_int_equal(guest32(r, 0x201000), 0); /* what the file does not have is zero */
    uint64_t info = r->boot.rbx;
    assert_int_equal(info, MULTIBOOT_INFO);
    assert_int_equal(guest32(r, info), 0x24d);
    assert_int_equal(guest32(r, info + 4), 639);
    assert_int_equal(guest32(r, info + 8), 15 << 10);
    assert_int_equal(guest32(r, info + 20), 0);
    snprintf(line, sizeof(line), "%s quiet", r->path);
    assert_text(r, guest32(r, info + 16), line);
    assert_int_equal(guest32(r, info + 44), 48);
    uint32_t map = guest32(r, info + 48);
    assert_int_equal(guest32(r, map + 24), 20);
    assert_int_equal(guest32(r, map + 28), MIB);
    assert_int_equal(guest32(r, map + 36), 15 * MIB);
    assert_int_equal(guest32(r, map + 44), 1);
}

static void modules_and_their_arguments(void **state)
{
    struct rig *r = *state;
    struct elf_image m = good_elf();
    char list[128], line[64];
    snprintf(list, sizeof(list), "%s a=1,,2 b,%s", r->module, r->module);
    r->l.initrd = list;
    assert_int_equal(load_bytes(r, &m, sizeof(m)), 0);
    uint64_t info = r->boot.rbx, mods = guest32(r, info + 24);
    assert_int_equal(guest32(r, info + 20), 2);
    assert_int_equal(guest32(r, mods), 0x202000);
    assert_int_equal(guest32(r, mods + 4), 0x202006);
    assert_int_equal(guest32(r, mods + 16), 0x203000);
    snprintf(line, sizeof(line), "%s a=1,2 b", r->module);
    assert_text(r, guest32(r, mods + 8), line);
    assert_text(r, guest32(r, mods + 24), r->module);
    assert_text(r, 0x203000, "module");
}

static void bad_modules_are_refused(void **state)
{
    struct rig *r = *state;
    struct elf_image m = good_elf();
    char many[70 * 32] = "";
    r->l.initrd = "/nonexistent arguments";
    assert_true(refused(r, &m, sizeof(m), "'/nonexistent'"));
    r->l.initrd = "";
    assert_true(refused(r, &m, sizeof(m), "module"));
    for (unsigned i = 0; i < 65; i++) {
        strcat(strcat(many, i ? "," : ""), r->module);
    }
    r->l.initrd = many;
    assert_true(refused(r, &m, sizeof(m), "64 modules"));
    r->l.initrd = r->module;
    assert_int_equal(truncate(r->module, 14 * MIB), 0);
    assert_true(refused(r, &m, sizeof(m), "does not fit"));
    assert_int_equal(truncate(r->module, 14 * MIB - 0x2000), 0);
    assert_int_equal(load_bytes(r, &m, sizeof(m)), 0);
}

struct raw_image {
    uint8_t before[16];
    struct head mb;
    uint8_t code[64];
};

static struct raw_image good_raw(void)
{
    struct raw_image m = {.mb = good_head(0x10003)};
    m.mb.header_addr = 2 * MIB + 16;
    m.mb.load_addr = 2 * MIB;
    m.mb.bss_end = 2 * MIB + 0x1000;
    m.mb.entry = 2 * MIB + 48;
    memset(m.code, 0x90, sizeof(m.code));
    return m;
}

static void image_by_its_addresses(void **state)
{
    struct rig *r = *state;
    struct raw_image m = good_raw();
    assert_int_equal(load_bytes(r, &m, sizeof(m)), 0);
    assert_int_equal(r->boot.rip, 2 * MIB + 48);
    assert_int_equal(guest32(r, 2 * MIB + 16), 0x1badb002);
    assert_int_equal(guest32(r, 2 * MIB + 48), 0x90909090);
    assert_int_equal(guest32(r, r->boot.rbx), 0x24d);
    m.mb.load_addr += 16; /* without what is before the header */
    m.mb.load_end = m.mb.load_addr + 36;
    m.mb.bss_end = 0;
    gmem_fill(r->mem, 2 * MIB, 0, 0x1000);
    assert_int_equal(load_bytes(r, &m, sizeof(m)), 0);
    assert_int_equal(guest32(r, 2 * MIB + 16), 0x1badb002);
    assert_int_equal(guest32(r, 2 * MIB + 48), 0x90909090);
    assert_int_equal(guest32(r, 2 * MIB + 52), 0);
}

static void impossible_addresses_are_refused(void **state)
{
    static const struct {
        uint32_t header_addr, load_addr, load_end, bss_end, entry;
        const char *words;
    } bad[] = {
        {2 * MIB, 2 * MIB + 4, 0, 0, 2 * MIB, "impossible addresses"},
        {2 * MIB + 20, 2 * MIB, 0, 0, 2 * MIB, "impossible addresses"},
        {2 * MIB, 2 * MIB, MIB, 0, 2 * MIB, "impossible addresses"},
        {2 * MIB, 2 * MIB, 0, 2 * MIB + 8, 2 * MIB, "impossible addresses"},
        {2 * MIB, 2 * MIB, 2 * MIB + 4096, 0, 2 * MIB, "truncated"},
        {2 * MIB, 2 * MIB, ~0u, 0, 2 * MIB, "-m"},
        {2 * MIB, 2 * MIB, 0, ~0u, 2 * MIB, "-m"},
        {0x1000, 0x1000, 0, 0, 0x1000, "from 1 MiB on"},
        {~0u - 8, ~0u - 8, 0, 0, ~0u - 8, "-m"},
        {2 * MIB, 2 * MIB, 0, 0, 3 * MIB, "entry"},
        {2 * MIB, 2 * MIB, 0, 0, 2 * MIB - 1, "entry"},
    };
    struct rig *r = *state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct raw_image m = good_raw();
        m.mb.header_addr = bad[i].header_addr;
        m.mb.load_addr = bad[i].load_addr;
        m.mb.load_end = bad[i].load_end;
        m.mb.bss_end = bad[i].bss_end;
        m.mb.entry = bad[i].entry;
        assert_true(refused(r, &m, sizeof(m), bad[i].words));
    }
}

static void damaged_elf_is_refused(void **state)
{
    struct rig *r = *state;
    struct elf_image m = good_elf();
    m.seg[0].p_paddr = 0x80000;
    assert_true(refused(r, &m, sizeof(m), "does not fit"));
    m.seg[0].p_paddr = 0xfffff000;
    assert_true(refused(r, &m, sizeof(m), "does not fit"));
    m = good_elf();
    m.seg[0].p_memsz = 0xffffffff;
    assert_true(refused(r, &m, sizeof(m), "does not fit"));
    m = good_elf();
    m.seg[0].p_memsz = 10;
    assert_true(refused(r, &m, sizeof(m), "damaged"));
    m = good_elf();
    m.seg[0].p_offset = 0xfffffff0;
    assert_true(refused(r, &m, sizeof(m), "truncated"));
    m = good_elf();
    m.head.e_entry = 0xc0201800;
    assert_true(refused(r, &m, sizeof(m), "entry"));
    m = good_elf();
    m.head.e_phnum = 1;
    m.seg[0].p_type = PT_NULL;
    assert_true(refused(r, &m, sizeof(m), "entry"));
    m = good_elf();
    m.mb = good_head(8); /* a requirement of later versions */
    assert_true(refused(r, &m, sizeof(m), "requires"));
}

/* Elsewhere it is not a header: other alignment, past 8 KiB, a wrong sum. */
static void headers_in_the_wrong_place(void **state)
{
    struct rig *r = *state;
    static uint8_t file[8192 + 64];
    struct raw_image m = good_raw();
    struct head h = m.mb;
    h.header_addr = h.load_addr = 2 * MIB;
    h.entry = 2 * MIB;
    memcpy(file + 8160, &h, sizeof(h));
    assert_int_equal(load_bytes(r, file, sizeof(file)), 0);
    for (unsigned at = 8161; at < 8192; at++) {
        memset(file, 0, sizeof(file));
        memcpy(file + at, &h, sizeof(h));
        assert_true(refused(r, file, sizeof(file), "neither"));
    }
    h.checksum++;
    memcpy(file, &h, sizeof(h));
    assert_true(refused(r, file, sizeof(file), "neither"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(elf_by_its_program_headers, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(modules_and_their_arguments, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(bad_modules_are_refused, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(image_by_its_addresses, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(impossible_addresses_are_refused, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(damaged_elf_is_refused, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(headers_in_the_wrong_place, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
