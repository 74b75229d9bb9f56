/* Kernel images, good and bad, made here byte by byte. */
#include "board/load_x86.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/err.h"
#include "base/unit_test.h"

#define MIB (1ull << 20)
#define RAM_SIZE (64 * MIB)

struct rig {
    struct ram_set set;
    struct mem_map *mem;
    struct x86_boot_state boot;
    struct x86_load l;
    struct err err;
    char path[32];
};

static int rig_up(void **state)
{
    static struct rig rig;
    memset(&rig, 0, sizeof(rig));
    struct ram *ram = ram_set_add(&rig.set, "ram", RAM_SIZE, &rig.err);
    rig.mem = mem_map_new("m", 0);
    mem_map_add_ram(rig.mem, 0, ram, 0, RAM_SIZE);
    rig.l = (struct x86_load){
        .mem = rig.mem, .cmdline = "quiet", .low_ram_end = RAM_SIZE, .boot = &rig.boot};
    strcpy(rig.path, "/tmp/load_test_XXXXXX");
    close(mkstemp(rig.path));
    rig.l.kernel = rig.path;
    *state = &rig;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    unlink(r->path);
    mem_map_free(r->mem);
    ram_set_free(&r->set);
    return 0;
}

static int load_bytes(struct rig *r, const void *bytes, size_t len)
{
    FILE *f = fopen(r->path, "wb");
    fwrite(bytes, 1, len, f);
    fclose(f);
    return x86_load_kernel(&r->l, &r->err);
}

struct image {
    Elf64_Ehdr head;
    Elf64_Phdr seg[2];
    uint32_t note[5];
    uint8_t code[64];
};

static struct image good_elf(void)
{
    struct image m = {0};
    memcpy(m.head.e_ident, ELFMAG, SELFMAG);
    m.head.e_ident[EI_CLASS] = ELFCLASS64;
    m.head.e_ident[EI_DATA] = ELFDATA2LSB;
    m.head.e_machine = EM_X86_64;
    m.head.e_phoff = offsetof(struct image, seg);
    m.head.e_phentsize = sizeof(Elf64_Phdr);
    m.head.e_phnum = 2;
    m.seg[0] = (Elf64_Phdr){.p_type = PT_LOAD,
                            .p_offset = offsetof(struct image, code),
                            .p_paddr = 0x200000,
                            .p_filesz = 64,
                            .p_memsz = 0x1000};
    m.seg[1] = (Elf64_Phdr){
        .p_type = PT_NOTE, .p_offset = offsetof(struct image, note), .p_filesz = 20, .p_align = 4};
    m.note[0] = 4;
    m.note[1] = 4;
    m.note[2] = 18;
    memcpy(&m.note[3], "Xen", 4);
    m.note[4] = 0x200010;
    memset(m.code, 0x90, sizeof(m.code));
    return m;
}

static void elf_by_its_pvh_note(void **state)
{
    struct rig *r = *state;
    struct image m = good_elf();
    uint8_t info[64], code[2];
    char text[6];
    r->l.map[0] = (struct x86_range){0, RAM_SIZE, X86_RANGE_RAM};
    r->l.map_count = 1;
    assert_int_equal(load_bytes(r, &m, sizeof(m)), 0);
    assert_int_equal(r->boot.mode, X86_BOOT_PVH32);
    assert_int_equal(r->boot.rip, 0x200010);
    assert_true(gmem_read(r->mem, r->boot.rbx, info, sizeof(info)));
    assert_int_equal(load_le32(info), 0x336ec578);
    assert_true(gmem_read(r->mem, load_le64(info + 24), text, 6));
    assert_string_equal(text, "quiet");
    assert_true(gmem_read(r->mem, 0x200000, code, 2));
    assert_int_equal(code[1], 0x90);
}

static void damaged_elf_is_refused(void **state)
{
    struct rig *r = *state;
    struct image m = good_elf();
    assert_true(load_bytes(r, &m, sizeof(m) - 70) < 0); /* cut inside of the note */
    m.head.e_machine = EM_AARCH64;
    assert_true(load_bytes(r, &m, sizeof(m)) < 0);
    assert_non_null(strstr(r->err.text, "another architecture"));
    m = good_elf();
    m.seg[0].p_paddr = ~0ull - 10;
    assert_true(load_bytes(r, &m, sizeof(m)) < 0);
    m = good_elf();
    m.seg[0].p_memsz = 1ull << 40;
    assert_true(load_bytes(r, &m, sizeof(m)) < 0);
    m = good_elf();
    m.seg[0].p_offset = ~0ull;
    assert_true(load_bytes(r, &m, sizeof(m)) < 0);
    m = good_elf();
    m.head.e_phoff = ~0ull - 8;
    assert_true(load_bytes(r, &m, sizeof(m)) < 0);
    m = good_elf();
    m.note[0] = 0xfffffff0;
    assert_true(load_bytes(r, &m, sizeof(m)) < 0);
    m = good_elf();
    m.note[4] = 0x100;
    assert_true(load_bytes(r, &m, sizeof(m)) < 0);
    assert_non_null(strstr(r->err.text, "outside of its segments"));
}

static uint8_t *good_bzimage(size_t *len)
{
    static uint8_t b[0x2000];
    memset(b, 0, sizeof(b));
    b[0x1f1] = 1;
    store_le32(b + 0x1f4, (sizeof(b) - 1024) / 16);
    store_le16(b + 0x1fe, 0xaa55);
    b[0x201] = 0x6a;
    memcpy(b + 0x202, "HdrS", 4);
    store_le16(b + 0x206, 0x20f);
    b[0x211] = 1;
    store_le32(b + 0x22c, 0x7fffffff);
    store_le16(b + 0x236, 1);
    store_le32(b + 0x238, 2047);
    store_le64(b + 0x258, 16 * MIB);
    store_le32(b + 0x260, 2 * MIB);
    *len = sizeof(b);
    return b;
}

static void bzimage_by_its_64_bit_entry(void **state)
{
    struct rig *r = *state;
    size_t len;
    uint8_t *b = good_bzimage(&len), zp[4096];
    r->l.map_count = 1;
    r->l.initrd = r->path; /* any file */
    assert_int_equal(load_bytes(r, b, len), 0);
    assert_int_equal(r->boot.mode, X86_BOOT_LONG64);
    assert_int_equal(r->boot.rip, 16 * MIB + 0x200);
    assert_true(gmem_read(r->mem, r->boot.rsi, zp, sizeof(zp)));
    assert_memory_equal(zp + 0x202, "HdrS", 4);
    assert_int_equal(load_le32(zp + 0x21c), len);
    assert_int_equal(load_le32(zp + 0x218), RAM_SIZE - len);
    assert_int_equal(zp[0x1e8], 1);
}

static void damaged_bzimage_is_refused(void **state)
{
    struct rig *r = *state;
    size_t len;
    uint8_t *b = good_bzimage(&len);
    assert_true(load_bytes(r, b, len / 2) < 0);
    assert_non_null(strstr(r->err.text, "truncated"));
    store_le64(b + 0x258, 60 * MIB);
    store_le32(b + 0x260, 0xffffffff);
    assert_true(load_bytes(r, b, len) < 0);
    assert_non_null(strstr(r->err.text, "-m"));
    b = good_bzimage(&len);
    store_le16(b + 0x206, 0x204);
    assert_true(load_bytes(r, b, len) < 0);
    b = good_bzimage(&len);
    store_le32(b + 0x238, 2);
    assert_true(load_bytes(r, b, len) < 0);
    assert_non_null(strstr(r->err.text, "-append"));
}

static void other_files_are_refused(void **state)
{
    struct rig *r = *state;
    uint8_t noise[5000];
    uint32_t x = 1;
    assert_true(load_bytes(r, "", 0) < 0);
    assert_non_null(strstr(r->err.text, "empty"));
    for (size_t i = 0; i < sizeof(noise); i++) {
        x = x * 1103515245 + 12345;
        noise[i] = (uint8_t)(x >> 16);
    }
    assert_true(load_bytes(r, noise, sizeof(noise)) < 0);
    r->l.kernel = "/";
    assert_true(x86_load_kernel(&r->l, &r->err) < 0);
    r->l.kernel = "/nonexistent";
    assert_true(x86_load_kernel(&r->l, &r->err) < 0);
}

static void ramdisk_must_fit(void **state)
{
    struct rig *r = *state;
    struct image m = good_elf();
    m.seg[0].p_memsz = RAM_SIZE - 2 * MIB;
    r->l.initrd = r->path;
    assert_true(load_bytes(r, &m, sizeof(m)) < 0);
    assert_non_null(strstr(r->err.text, "ramdisk"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(elf_by_its_pvh_note, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(damaged_elf_is_refused, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(bzimage_by_its_64_bit_entry, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(damaged_bzimage_is_refused, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(other_files_are_refused, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(ramdisk_must_fit, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
