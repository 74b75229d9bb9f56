#include "core/mem.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/unit_test.h"

struct dev_log {
    uint64_t off[16], val[16];
    unsigned size[16], count;
};

static enum mem_result log_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct dev_log *l = dev;
    l->off[l->count] = off;
    l->size[l->count++] = size;
    *val = 0x8877665544332211ull >> off * 8;
    return MEM_OK;
}

static enum mem_result log_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct dev_log *l = dev;
    l->off[l->count] = off;
    l->val[l->count] = val;
    l->size[l->count++] = size;
    return MEM_OK;
}

static const struct mmio any = {log_read, log_write, 1, 8};
static const struct mmio words = {log_read, log_write, 4, 4};

static void ram_and_holes(void **state)
{
    struct ram_set set = {0};
    struct err err;
    struct ram *ram = ram_set_add(&set, "ram", 0x3000, &err);
    struct mem_map *map = mem_map_new("m", 0);
    uint64_t v;
    mem_map_add_ram(map, 0x1000, ram, 0, 0x3000);
    assert_int_equal(mem_write(map, 0x1ffe, 4, 0x12345678), MEM_OK);
    assert_int_equal(mem_read(map, 0x1ffe, 8, &v), MEM_OK);
    assert_int_equal(v, 0x12345678);
    assert_int_equal(mem_read(map, 0x800, 4, &v), MEM_NONE);
    assert_int_equal(v, 0xffffffff);
    mem_write(map, 0x3fff, 1, 0x7e);
    assert_int_equal(mem_read(map, 0x3fff, 4, &v), MEM_NONE);
    assert_int_equal(v, 0xffffff7e);
    struct mem_hit hit;
    assert_false(mem_lookup(map, 0x4000, &hit));
    assert_int_equal(hit.start, 0x4000);
    assert_int_equal(hit.last, UINT64_MAX);
    assert_true(mem_lookup(map, 0x2345, &hit));
    assert_ptr_equal(hit.host, ram->host + 0x1345);
    assert_int_equal(hit.off, 0x1345);
    mem_map_free(map);
    ram_set_free(&set);
}

static void newest_and_priority_win(void **state)
{
    struct ram_set set = {0};
    struct err err;
    struct ram *ram = ram_set_add(&set, "ram", 0x10000, &err);
    struct mem_map *map = mem_map_new("m", 0);
    struct dev_log l = {0};
    struct mem_hit hit;
    struct mem_node *r = mem_map_add_ram(map, 0, ram, 0, 0x10000);
    struct mem_node *d = mem_map_add_mmio(map, 0x4000, 0x100, &any, &l);
    assert_true(mem_lookup(map, 0x4080, &hit) && hit.kind == MEM_KIND_MMIO);
    assert_int_equal(hit.dev_off, 0x80);
    assert_true(mem_lookup(map, 0x4100, &hit) && hit.kind == MEM_KIND_RAM);
    assert_int_equal(hit.start, 0x4100);
    assert_int_equal(hit.off, 0x4100);
    mem_node_place(r, NULL, 0, 5);
    assert_true(mem_lookup(map, 0x4080, &hit) && hit.kind == MEM_KIND_RAM);
    mem_node_enable(r, false);
    assert_true(mem_lookup(map, 0x4080, &hit) && hit.kind == MEM_KIND_MMIO);
    mem_map_remove(d);
    assert_false(mem_lookup(map, 0x4080, &hit));
    mem_map_free(map);
    ram_set_free(&set);
}

static void alias_and_container(void **state)
{
    struct ram_set set = {0};
    struct err err;
    struct ram *ram = ram_set_add(&set, "ram", 0x10000, &err);
    struct mem_map *map = mem_map_new("m", 0);
    struct mem_hit hit;
    struct mem_node *r = mem_map_add_ram(map, 0x100000, ram, 0, 0x10000);
    struct mem_node *c = mem_map_add_container(map, 0x200000, 0x4000);
    struct mem_node *a = mem_map_add_alias(map, 0, r, 0x8000, 0x8000);
    mem_node_place(a, c, 0x1000, 0);
    assert_true(mem_lookup(map, 0x201010, &hit));
    assert_int_equal(hit.off, 0x8010);
    assert_int_equal(hit.last, 0x203fff); /* cut by the container */
    assert_false(mem_lookup(map, 0x200fff, &hit));
    mem_map_free(map);
    ram_set_free(&set);
}

static void accesses_are_split_and_widened(void **state)
{
    struct mem_map *map = mem_map_new("m", 0);
    struct dev_log l = {0};
    uint64_t v;
    mem_map_add_mmio(map, 0x1000, 0x100, &words, &l);
    assert_int_equal(mem_read(map, 0x1000, 8, &v), MEM_OK);
    assert_int_equal(l.count, 2);
    assert_int_equal(l.size[1], 4);
    assert_int_equal(v, 0x8877665544332211ull);
    l.count = 0;
    assert_int_equal(mem_read(map, 0x1002, 1, &v), MEM_OK);
    assert_int_equal(v, 0x33);
    assert_int_equal(l.off[0], 0);
    l.count = 0;
    assert_int_equal(mem_write(map, 0x1002, 1, 5), MEM_REFUSED);
    assert_int_equal(l.count, 0);
    mem_map_add_mmio(map, 0x2001, 1, &any, &l); /* holes at both sides */
    assert_int_equal(mem_write(map, 0x2000, 4, 0x44332211), MEM_NONE);
    assert_int_equal(l.count, 1);
    assert_int_equal(l.val[0], 0x22);
    assert_int_equal(mem_read(map, 0x1fff, 8, &v), MEM_NONE);
    assert_int_equal(l.count, 2);
    assert_int_equal(v, 0xffffffffff11ffff);
    assert_int_equal(mem_read(map, UINT64_MAX - 3, 8, &v), MEM_NONE);
    mem_map_free(map);
}

static void note_code(void *opaque, ram_off_t off, uint64_t len)
{
    *(ram_off_t *)opaque = off;
}

static void writes_to_code_are_told(void **state)
{
    struct ram_set set = {0};
    struct err err;
    struct ram *ram = ram_set_add(&set, "ram", 0x4000, &err);
    struct mem_map *map = mem_map_new("m", 0);
    _Atomic uint8_t pages[4] = {0, 0, 1, 0};
    ram_off_t seen = 1;
    ram->code_pages = pages;
    ram->code_stride = 1;
    ram->code_written = note_code;
    ram->code_opaque = &seen;
    mem_map_add_ram(map, 0, ram, 0, 0x4000);
    uint8_t buf[0x1001] = {0};
    assert_true(gmem_write(map, 0x800, buf, 0x1001));
    assert_int_equal(seen, 1);
    assert_true(gmem_write(map, 0x1000, buf, 0x1001));
    assert_int_equal(seen, 0x1000);
    assert_false(gmem_write(map, 0x3800, buf, 0x1001));
    assert_false(gmem_read(map, ~0ull, buf, 2));
    mem_map_free(map);
    ram_set_free(&set);
}

/* ---- One moves things about, others look ---- */

struct mover {
    struct mem_map *map;
    struct mem_node *node;
    _Atomic bool done;
    _Atomic unsigned wrong, looks;
};

static void *look_on(void *opaque)
{
    struct mover *m = opaque;
    while (!m->done) {
        struct mem_hit hit;
        bool there = mem_lookup(m->map, 0x1800, &hit); /* RAM at 0, then what moves or nothing */
        bool wrong = there ? hit.kind != MEM_KIND_MMIO || hit.last - hit.start != 0xfff
                           : hit.last < hit.start;
        wrong |= !mem_lookup(m->map, 0x10, &hit) || hit.kind != MEM_KIND_RAM || hit.last != 0xfff;
        m->wrong += wrong;
        m->looks++;
    }
    return NULL;
}

static void views_are_used_again(void **state)
{
    struct ram_set set = {0};
    struct err err;
    struct ram *ram = ram_set_add(&set, "ram", 0x1000, &err);
    struct mover m = {.map = mem_map_new("m", 0)};
    mem_map_add_ram(m.map, 0, ram, 0, 0x1000);
    m.node = mem_map_add_mmio(m.map, 0x1000, 0x1000, &any, NULL);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, look_on, &m), 0);
    struct mallinfo2 before = mallinfo2();
    for (unsigned i = 0; i < 50000 || m.looks < 1000; i++) {
        mem_node_move(m.node, 0x1000 + (i % 7) * 0x400);
        mem_node_enable(m.node, i % 3);
    }
    assert_true(mallinfo2().uordblks < before.uordblks + 65536);
    m.done = true;
    pthread_join(thread, NULL);
    assert_int_equal(m.wrong, 0);
    mem_map_free(m.map);
    ram_set_free(&set);
}

/* Reads of flash are memory, writes the device's. */
static void flash(void **state)
{
    struct ram_set set = {0};
    struct err err;
    struct ram *ram = ram_set_add(&set, "flash", 0x2000, &err);
    struct mem_map *map = mem_map_new("m", 0);
    struct dev_log l = {.count = 0};
    mem_map_add_flash(map, 0x8000, ram, 0x1000, 0x1000, &any, &l);
    ram->host[0x1010] = 0x5a;
    uint64_t v = 0;
    assert_int_equal(mem_read(map, 0x8010, 1, &v), MEM_OK);
    assert_int_equal(v, 0x5a);
    assert_int_equal(mem_write(map, 0x8010, 1, 0xf0), MEM_OK);
    assert_int_equal(l.count, 1);
    assert_int_equal(l.off[0], 0x10);
    assert_int_equal(l.val[0], 0xf0);
    assert_false(gmem_write(map, 0x8010, &v, 1));
    mem_map_free(map);
    ram_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ram_and_holes),
        cmocka_unit_test(newest_and_priority_win),
        cmocka_unit_test(alias_and_container),
        cmocka_unit_test(accesses_are_split_and_widened),
        cmocka_unit_test(writes_to_code_are_told),
        cmocka_unit_test(views_are_used_again),
        cmocka_unit_test(flash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
