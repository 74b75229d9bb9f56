/* fw_cfg by its ports and by DMA, and a guest that asks for what there is not. */
#include "dev/firmware/fw_cfg.h"

#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/err.h"
#include "base/unit_test.h"
#include "core/test_touch.h"

enum {
    RAM = 0x10000,
    COMMAND = 0x100, /* where the DMA structure lies */
    DATA = 0x1000,
    OWN = 0x8000, /* registers of a device that must not be reached by DMA */
    DMA_ERROR = 1,
    DMA_READ = 2,
    DMA_SKIP = 4,
    DMA_SELECT = 8,
    DMA_WRITE = 16,
};

struct rig {
    struct ram_set set;
    struct mem_map *mem, *io;
    uint8_t *ram;
    struct fw_cfg *f;
    unsigned touched, selected, written;
    uint8_t bytes[8];
};

static void see_written(void *opaque, const void *bytes, size_t len)
{
    struct rig *r = opaque;
    r->written++;
    memcpy(r->bytes, bytes, len < 8 ? len : 8);
}

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;
    struct ram *ram = ram_set_add(&r->set, "ram", RAM, &err);
    r->ram = ram->host;
    r->mem = mem_map_new("mem", 0);
    r->io = mem_map_new("io", 0x10000);
    mem_map_add_ram(r->mem, 0, ram, 0, RAM);
    mem_map_add_mmio(r->mem, OWN, 0x1000, &test_touch, &r->touched);
    r->f = fw_cfg_new(r->mem);
    fw_cfg_map(r->f, r->io);
    fw_cfg_add_u16(r->f, FW_CFG_NB_CPUS, 3);
    assert_int_equal(fw_cfg_add_file(r->f, "etc/zebra", "striped", 7, &err), 0);
    assert_int_equal(fw_cfg_add_file(r->f, "etc/ape", "hairy", 5, &err), 0);
    assert_int_equal(fw_cfg_add_writable(r->f, "etc/slate", 8, see_written, r, &err), 0);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    fw_cfg_free(r->f);
    mem_map_free(r->mem);
    mem_map_free(r->io);
    ram_set_free(&r->set);
    free(r);
    return 0;
}

static void pick(struct rig *r, unsigned key)
{
    mem_write(r->io, 0x510, 2, key);
}

static unsigned next(struct rig *r)
{
    uint64_t v;
    mem_read(r->io, 0x511, 1, &v);
    return (unsigned)v;
}

static uint32_t next_be32(struct rig *r)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 4; i++) {
        v = v << 8 | next(r);
    }
    return v;
}

/* As a guest does: two halves, big-endian. What the control word says afterwards. */
static uint32_t dma(struct rig *r, uint32_t control, uint32_t len, uint64_t addr)
{
    store_be32(r->ram + COMMAND, control);
    store_be32(r->ram + COMMAND + 4, len);
    store_be64(r->ram + COMMAND + 8, addr);
    mem_write(r->io, 0x514, 4, 0);
    mem_write(r->io, 0x518, 4, __builtin_bswap32(COMMAND));
    return load_be32(r->ram + COMMAND);
}

/* Its key and size, from the directory. */
static unsigned find(struct rig *r, const char *name, uint32_t *size)
{
    pick(r, FW_CFG_FILE_DIR);
    for (uint32_t n = next_be32(r); n; n--) {
        char text[56];
        *size = next_be32(r);
        unsigned key = next(r) << 8;
        key |= next(r);
        next(r);
        next(r);
        for (unsigned i = 0; i < sizeof(text); i++) {
            text[i] = (char)next(r);
        }
        if (!strcmp(text, name)) {
            return key;
        }
    }
    return 0;
}

/* ---- Tests ---- */

static void items_are_read_byte_by_byte(void **state)
{
    struct rig *r = *state;
    pick(r, FW_CFG_SIGNATURE);
    assert_int_equal(next_be32(r), 0x51454d55);
    assert_int_equal(next(r), 0); /* and then zeros */
    pick(r, FW_CFG_NB_CPUS);
    assert_int_equal(next(r), 3);
    assert_int_equal(next(r), 0);
    uint64_t v;
    mem_read(r->io, 0x514, 8, &v);
    assert_int_equal(v, __builtin_bswap64(0x51454d5520434647));
    fw_cfg_reset(r->f);
    assert_int_equal(next(r), 'Q');
}

static void the_directory_is_sorted(void **state)
{
    struct rig *r = *state;
    uint32_t size;
    pick(r, FW_CFG_FILE_DIR);
    assert_int_equal(next_be32(r), 3);
    for (unsigned i = 0; i < 8; i++) {
        next(r);
    }
    assert_int_equal(next(r), 'e');
    next(r);
    next(r);
    next(r);
    assert_int_equal(next(r), 'a');
    pick(r, find(r, "etc/zebra", &size));
    assert_int_equal(size, 7);
    assert_int_equal(next(r), 's');
}

static void selectors_that_are_none(void **state)
{
    struct rig *r = *state;
    for (unsigned key = 0; key < 0x10000; key++) {
        pick(r, key);
        unsigned byte = next(r);
        assert_true(key < 0x30 || !byte);
    }
    pick(r, 0xffff);
    assert_int_equal(dma(r, DMA_READ, 16, DATA), 0);
    assert_int_equal(load_be32(r->ram + DATA), 0);
    assert_int_equal(dma(r, 0xffff0000 | DMA_SELECT | DMA_WRITE, 1, DATA), DMA_ERROR);
    mem_write(r->io, 0x510, 1, 0x19); /* a byte selects nothing, nor writes */
    mem_write(r->io, 0x511, 1, 0x19);
    mem_write(r->io, 0x510, 4, 0x12345678);
}

static void dma_reads(void **state)
{
    struct rig *r = *state;
    uint32_t size;
    unsigned key = find(r, "etc/zebra", &size);
    memset(r->ram + DATA, 0xee, 16);
    assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_READ, 10, DATA), 0);
    assert_memory_equal(r->ram + DATA, "striped\0\0\0\xee", 11);
    assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_SKIP, 2, 0), 0);
    assert_int_equal(dma(r, DMA_READ, 3, DATA), 0);
    assert_memory_equal(r->ram + DATA, "rip", 3);
    assert_int_equal(next(r), 'e');
    /* A structure that is nowhere: nothing happens, and the address is forgotten. */
    mem_write(r->io, 0x514, 4, 0xffffffff);
    mem_write(r->io, 0x518, 4, 0xffffffff);
    mem_write(r->io, 0x514, 8, __builtin_bswap64(RAM - 15));
    assert_int_equal(next(r), 'd');
}

/* The offset saturates: it never comes round to what was skipped. */
static void offsets_do_not_wrap(void **state)
{
    struct rig *r = *state;
    uint32_t size;
    unsigned key = find(r, "etc/slate", &size);
    pick(r, key);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(dma(r, DMA_SKIP, 0xfffffffe, 0), 0);
        assert_int_equal(next(r), 0);
        assert_int_equal(dma(r, DMA_WRITE, 1, DATA), DMA_ERROR);
        assert_int_equal(dma(r, DMA_WRITE, 0, DATA), DMA_ERROR);
        assert_int_equal(dma(r, DMA_READ, 4, DATA), 0);
    }
    assert_int_equal(r->written, 0);
}

static void dma_only_to_memory(void **state)
{
    struct rig *r = *state;
    static const struct {
        uint64_t at;
        uint32_t len;
    } bad[] = {{RAM, 4},       {RAM - 2, 4},    {OWN, 4},        {OWN - 2, 4},
               {~0ull - 1, 4}, {0, 0xffffffff}, {0, OWN + 1},    {1ull << 63, 0x80000000},
               {~0ull, 1},     {RAM - 1, 2},    {OWN + 0xfff, 2}};
    uint32_t size;
    unsigned key = find(r, "etc/zebra", &size);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_READ, bad[i].len, bad[i].at),
                         DMA_ERROR);
    }
    key = find(r, "etc/slate", &size);
    assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_WRITE, 8, OWN), DMA_ERROR);
    assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_WRITE, 8, RAM - 4), DMA_ERROR);
    mem_write(r->io, 0x514, 8, __builtin_bswap64(OWN)); /* the structure itself */
    assert_int_equal(r->touched, 0);
    assert_int_equal(r->written, 0);
}

static void writes_of_whole_pieces(void **state)
{
    struct rig *r = *state;
    uint32_t size;
    unsigned key = find(r, "etc/slate", &size);
    memcpy(r->ram + DATA, "abcdefghij", 10);
    assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_WRITE, 9, DATA), DMA_ERROR);
    assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_WRITE, 8, DATA), 0);
    assert_memory_equal(r->bytes, "abcdefgh", 8);
    assert_int_equal(dma(r, DMA_WRITE, 1, DATA), DMA_ERROR); /* behind its end */
    assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_SKIP, 6, 0), 0);
    assert_int_equal(dma(r, DMA_WRITE, 3, DATA), DMA_ERROR);
    assert_int_equal(dma(r, DMA_WRITE, 2, DATA), 0);
    assert_memory_equal(r->bytes, "abcdefab", 8);
    assert_int_equal(r->written, 2);
    key = find(r, "etc/ape", &size);
    assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_WRITE, 1, DATA), DMA_ERROR);
    assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_READ, 5, DATA), 0);
    assert_memory_equal(r->ram + DATA, "hairy", 5);
}

static void count(void *opaque)
{
    struct rig *r = opaque;
    struct err err;
    r->selected++;
    fw_cfg_add_file(r->f, "etc/ape", "naked", 5, &err);
}

/* The file is made anew as it is selected, by the transfer that then reads it. */
static void selected_files_may_change(void **state)
{
    struct rig *r = *state;
    uint32_t size;
    unsigned key = find(r, "etc/ape", &size);
    fw_cfg_on_select(r->f, "etc/ape", count, r);
    assert_int_equal(dma(r, key << 16 | DMA_SELECT | DMA_READ, 5, DATA), 0);
    assert_memory_equal(r->ram + DATA, "naked", 5);
    for (unsigned i = 0; i < 1000; i++) {
        pick(r, key);
        assert_int_equal(next(r), 'n');
    }
    assert_int_equal(r->selected, 1001);
    pick(r, FW_CFG_FILE_DIR);
    assert_int_equal(next_be32(r), 3); /* no new ones came */
}

static void room_for_files_ends(void **state)
{
    struct rig *r = *state;
    struct err err;
    char name[80] = "etc/";
    unsigned n = 0;
    for (; n < 1000; n++) {
        name[4] = (char)('a' + n % 26);
        name[5] = (char)('a' + n / 26 % 26);
        name[6] = (char)('a' + n / 676);
        if (fw_cfg_add_file(r->f, name, "x", 1, &err)) {
            break;
        }
    }
    assert_true(n > 200 && n < 256);
    memset(name, 'x', 56);
    assert_int_not_equal(fw_cfg_add_file(r->f, name, "x", 1, &err), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(items_are_read_byte_by_byte), T(the_directory_is_sorted),
        T(selectors_that_are_none),     T(dma_reads),
        T(offsets_do_not_wrap),         T(dma_only_to_memory),
        T(writes_of_whole_pieces),      T(selected_files_may_change),
        T(room_for_files_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
