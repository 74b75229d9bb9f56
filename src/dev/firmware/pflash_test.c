/* Flash memory: commands, status, what reaches the image, and writes in a wrong order. */
#include "dev/firmware/pflash.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/unit_test.h"
#include "block/block.h"
#include "dev/misc/test_pc.h"
#include "dev/virtio/drive_policy.h"

enum { SIZE = 0x10000, BLOCK = 0x1000 };
#define BASE (0x100000000ull - SIZE)

struct rig {
    struct test_pc *t;
    struct loop *loop; /* the image's, on a thread of its own */
    pthread_t thread;
    struct block_graph *graph;
    struct block *block;
    struct drive_policy policy;
    struct dev *dev;
    int fd;
};

static void *run_loop(void *opaque)
{
    loop_run(opaque);
    return NULL;
}

/* Byte n of the image is n / 256. */
static int make_image(uint64_t size)
{
    int fd = memfd_create("flash", MFD_CLOEXEC);
    uint8_t bytes[256];
    for (unsigned i = 0; i < size / sizeof(bytes); i++) {
        memset(bytes, (int)i, sizeof(bytes));
        assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    }
    return fd;
}

static void open_image(struct rig *r, uint64_t size, unsigned flags)
{
    struct err err;
    char path[32];
    r->t = test_pc_new();
    r->loop = loop_new(&err);
    r->graph = block_graph_new(r->loop);
    r->fd = make_image(size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", r->fd);
    r->block = block_open_name(r->graph, path, "raw", NULL, flags, &err);
    assert_non_null(r->block);
    machine_add_backend(r->t->m, "drive", "flash", r->block, NULL);
    machine_add_backend(r->t->m, "drive-policy", "flash", &r->policy, NULL);
    pthread_create(&r->thread, NULL, run_loop, r->loop);
}

static int up(void **state, unsigned flags)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;
    open_image(r, SIZE, flags);
    r->dev = test_pc_add(r->t, &pflash_type, "drive=flash", &err);
    assert_non_null(r->dev);
    *state = r;
    return 0;
}

static int rig_up(void **state)
{
    return up(state, BLOCK_RDWR);
}

static int rig_up_readonly(void **state)
{
    return up(state, 0);
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    test_pc_free(r->t);
    loop_stop(r->loop);
    pthread_join(r->thread, NULL);
    block_close(r->block);
    close(r->fd);
    block_graph_free(r->graph);
    loop_free(r->loop);
    free(r);
    return 0;
}

static unsigned get(struct rig *r, uint64_t off)
{
    return test_pc_read(r->t, BASE + off, 1);
}

static void put(struct rig *r, uint64_t off, unsigned val)
{
    test_pc_write(r->t, BASE + off, 1, val);
}

static unsigned in_image(struct rig *r, uint64_t off)
{
    uint8_t b = 0;
    pflash_type.quiesce(r->dev);
    assert_int_equal(pread(r->fd, &b, 1, (off_t)off), 1);
    return b;
}

static void array(struct rig *r)
{
    put(r, 0, 0xff);
}

/* ---- Tests ---- */

static void shows_the_image(void **state)
{
    struct rig *r = *state;
    assert_int_equal(get(r, 0x1234), 0x12);
    assert_int_equal(test_pc_read(r->t, BASE + 0xfffc, 4), 0xffffffff);
    assert_int_equal(test_pc_read(r->t, BASE + 0x3fe, 4), 0x04040303);
    uint8_t buf[16];
    assert_true(gmem_read(r->t->m->mem, BASE, buf, sizeof(buf)));
    assert_false(gmem_write(r->t->m->mem, BASE, buf, sizeof(buf))); /* not by DMA */
}

static void identifies_itself(void **state)
{
    struct rig *r = *state;
    put(r, 0x55, 0x98);
    assert_int_equal(get(r, 0x10), 'Q');
    assert_int_equal(get(r, 0x11), 'R');
    assert_int_equal(get(r, 0x12), 'Y');
    assert_int_equal(get(r, 0x13), 1);
    assert_int_equal(get(r, 0x27), 16); /* 2^16 bytes */
    assert_int_equal(get(r, 0x2a), 5);  /* buffer of 2^5 */
    assert_int_equal(get(r, 0x2d), SIZE / BLOCK - 1);
    assert_int_equal(get(r, 0x2f), BLOCK >> 8);
    assert_int_equal(get(r, 0x31), 0);
    for (unsigned off = 0x32; off < SIZE; off += 0x11) {
        assert_int_equal(get(r, off), 0);
    }
    put(r, 0, 0x90);
    assert_int_equal(get(r, 0), 0x89);
    assert_int_equal(get(r, 1), 0x18);
    uint8_t buf[4];
    assert_false(gmem_read(r->t->m->mem, BASE, buf, sizeof(buf))); /* no memory now */
    array(r);
    assert_int_equal(get(r, 0x1234), 0x12);
}

static void programs_and_erases(void **state)
{
    struct rig *r = *state;
    put(r, 0x5500, 0x40);
    put(r, 0x5500, 0x0f); /* it held 0x55 */
    assert_int_equal(get(r, 0), 0x80);
    array(r);
    assert_int_equal(get(r, 0x5500), 0x05); /* bits only fall */
    assert_int_equal(get(r, 0x5501), 0x55);
    assert_int_equal(in_image(r, 0x5500), 0x05);
    put(r, 0x5678, 0x20);
    put(r, 0x5678, 0xd0);
    assert_int_equal(get(r, 0), 0x80);
    array(r);
    assert_int_equal(test_pc_read(r->t, BASE + 0x4ffe, 4), 0xffff4f4f);
    assert_int_equal(test_pc_read(r->t, BASE + 0x5ffe, 4), 0x6060ffff);
    assert_int_equal(in_image(r, 0x5000), 0xff);
    assert_int_equal(in_image(r, 0x5fff), 0xff);
    assert_int_equal(in_image(r, 0x6000), 0x60);
    put(r, 0x5000, 0x10);
    put(r, 0x5000, 0x77);
    array(r);
    assert_int_equal(get(r, 0x5000), 0x77);
}

static void write_buffer(struct rig *r, uint64_t at, unsigned count, unsigned val)
{
    put(r, at, 0xe8);
    assert_int_equal(get(r, at) & 0x80, 0x80);
    put(r, at, count - 1);
    for (unsigned i = 0; i < count; i++) {
        put(r, (at + i) % SIZE, val);
    }
}

static void buffers(void **state)
{
    struct rig *r = *state;
    put(r, 0x2000, 0x20);
    put(r, 0x2000, 0xd0);
    write_buffer(r, 0x2010, 32, 0xa5);
    put(r, 0x2010, 0xd0);
    assert_int_equal(get(r, 0), 0x80);
    array(r);
    assert_int_equal(test_pc_read(r->t, BASE + 0x200e, 4), 0xa5a5ffff);
    assert_int_equal(test_pc_read(r->t, BASE + 0x202e, 4), 0xffffa5a5);
    assert_int_equal(in_image(r, 0x202f), 0xa5);
}

/* Counts above the buffer, no confirmation, an address so near the end that it would leave. */
static void hostile_buffers(void **state)
{
    struct rig *r = *state;
    put(r, 0x2000, 0x20);
    put(r, 0x2000, 0xd0);
    for (unsigned count = 33; count <= 256; count++) {
        put(r, 0x2000, 0x50);
        put(r, 0x2000, 0xe8);
        put(r, 0x2000, count - 1);
        assert_int_equal(get(r, 0) & 0x30, 0x30);
        put(r, 0x2000, 0xff);
    }
    write_buffer(r, 0x2000, 8, 0);
    put(r, 0x2000, 0xff); /* no confirmation */
    assert_int_equal(get(r, 0) & 0x30, 0x30);
    put(r, 0, 0x50);
    write_buffer(r, SIZE - 4, 8, 0);
    put(r, 0x2000, 0xd0);
    array(r);
    assert_int_equal(test_pc_read(r->t, BASE + 0x2000, 4), 0xffffffff);
    assert_int_equal(test_pc_read(r->t, BASE + SIZE - 4, 4), 0xffffffff);
    put(r, 0, 0xe8);
    put(r, 0, 31);
    for (unsigned i = 0; i < 32; i++) { /* all over the chip: it is the first one's place */
        put(r, i ? (i * 0x7f1) % SIZE : SIZE - 32, 0);
    }
    put(r, 0, 0xd0);
    array(r);
    assert_int_equal(test_pc_read(r->t, BASE + SIZE - 4, 4), 0);
    assert_int_equal(test_pc_read(r->t, BASE + 0x7f1, 1), 7);
    assert_int_equal(test_pc_read(r->t, 0, 4), 0);
}

static void wrong_orders_are_errors(void **state)
{
    struct rig *r = *state;
    put(r, 0x3000, 0x20);
    put(r, 0x3000, 0x40);
    assert_int_equal(get(r, 0) & 0x30, 0x30);
    put(r, 0, 0x70);
    assert_int_equal(get(r, 0x1234) & 0x30, 0x30);
    put(r, 0, 0x50);
    put(r, 0, 0x70);
    assert_int_equal(get(r, 0), 0);
    array(r);
    assert_int_equal(get(r, 0x3000), 0x30);
    put(r, 0x3000, 0x60); /* locks are taken and do nothing */
    put(r, 0x3000, 0x01);
    array(r);
    put(r, 0x3000, 0x40);
    put(r, 0x3000, 0);
    array(r);
    assert_int_equal(get(r, 0x3000), 0);
}

/* Every command with every second write, wide writes, and resets between them. */
static void any_commands_in_any_order(void **state)
{
    struct rig *r = *state;
    uint32_t seed = 1;
    for (unsigned i = 0; i < 30000; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned size = 1u << (seed >> 30);
        uint64_t at = BASE - 8 + (seed >> 9) % (SIZE + 8), v;
        mem_write(r->t->m->mem, at, size, seed >> 16);
        mem_read(r->t->m->mem, at, size, &v);
        if (i % 1000 == 0) {
            dev_reset_all(r->t->m, DEV_RESET_POWER);
        }
    }
    dev_reset_all(r->t->m, DEV_RESET_POWER);
    pflash_type.quiesce(r->dev);
    for (unsigned off = 0; off < SIZE; off += 64) { /* the image is what the guest sees */
        assert_int_equal(get(r, off), in_image(r, off));
    }
}

static void reset_leaves_the_command(void **state)
{
    struct rig *r = *state;
    put(r, 0, 0xe8);
    put(r, 0, 3);
    put(r, 0, 0);
    dev_reset_all(r->t->m, DEV_RESET_POWER);
    assert_int_equal(get(r, 0x1234), 0x12);
    put(r, 0x100, 0xd0); /* is no confirmation any more */
    assert_int_equal(get(r, 0x100), 1);
}

/* -drive readonly=on: ROM. */
static void write_protected(void **state)
{
    struct rig *r = *state;
    put(r, 0, 0x90);
    assert_int_equal(get(r, 0), 0);
    put(r, 0x5000, 0x20);
    put(r, 0x5000, 0xd0);
    put(r, 0x5000, 0x40);
    put(r, 0x5000, 0);
    assert_int_equal(get(r, 0x5000), 0x50);
    assert_int_equal(in_image(r, 0x5000), 0x50);
}

static void sizes_that_are_none(void **state)
{
    static const uint64_t sizes[] = {256, 0x1100, (8 << 20) + 4096};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        struct rig *r = calloc(1, sizeof(*r));
        struct err err;
        open_image(r, sizes[i], BLOCK_RDWR);
        assert_null(test_pc_add(r->t, &pflash_type, "drive=flash", &err));
        rig_down((void **)&r);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(shows_the_image),
        T(identifies_itself),
        T(programs_and_erases),
        T(buffers),
        T(hostile_buffers),
        T(wrong_orders_are_errors),
        T(any_commands_in_any_order),
        T(reset_leaves_the_command),
        cmocka_unit_test_setup_teardown(write_protected, rig_up_readonly, rig_down),
        cmocka_unit_test(sizes_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
