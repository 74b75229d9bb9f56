/* The parallel port, the debug console and exit, and pvpanic. */
#include "base/bits.h"
#include "base/unit_test.h"
#include "chardev/chardev.h"
#include "dev/misc/isa_debug_exit.h"
#include "dev/misc/isa_debugcon.h"
#include "dev/misc/isa_parallel.h"
#include "dev/misc/pvpanic.h"
#include "dev/misc/test_pc.h"

enum { LPT1 = 0x378 };

struct rig {
    struct test_pc *t;
    struct chardev *ring;
};

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct keyval kv = {0};
    struct err err;
    r->t = test_pc_new();
    assert_int_equal(keyval_parse(&kv, "ringbuf,id=ring,size=64", "backend", &err), 0);
    r->ring = chardev_new(r->t->m->loop, &kv, &err);
    assert_non_null(r->ring);
    keyval_free(&kv);
    machine_add_backend(r->t->m, "chardev", "ring", r->ring, chardev_free);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    test_pc_free(r->t);
    free(r);
    return 0;
}

static unsigned in(struct rig *r, unsigned port)
{
    uint64_t v = 0;
    mem_read(r->t->m->io, port, 1, &v);
    return (unsigned)v;
}

static void out(struct rig *r, unsigned port, unsigned val)
{
    mem_write(r->t->m->io, port, 1, val);
}

static void heard(struct rig *r, const char *text)
{
    uint8_t buf[100];
    long n = chardev_ringbuf_read(r->ring, buf, sizeof(buf));
    assert_int_equal(n, strlen(text));
    assert_memory_equal(buf, text, strlen(text));
}

static void add(struct rig *r, const struct dev_type *type, const char *args)
{
    struct err err;
    assert_non_null(test_pc_add(r->t, type, args, &err));
}

static void refuse(struct rig *r, const struct dev_type *type, const char *args)
{
    struct err err;
    assert_null(test_pc_add(r->t, type, args, &err));
}

/* ---- Parallel port ---- */

static void prints_with_the_strobe(void **state)
{
    struct rig *r = *state;
    add(r, &isa_parallel_type, "chardev=ring");
    assert_int_equal(in(r, LPT1 + 1), 0xdf);
    assert_int_equal(in(r, LPT1 + 2), 0xcc);
    out(r, LPT1, 'x');
    assert_int_equal(in(r, LPT1), 'x');
    heard(r, "");
    out(r, LPT1 + 2, 0x0d);
    heard(r, "");
    out(r, LPT1 + 2, 0x0c);
    heard(r, "x");
    out(r, LPT1 + 2, 0x0c); /* no edge */
    heard(r, "");
    out(r, LPT1 + 2, 0x09); /* the printer is held in reset */
    out(r, LPT1 + 2, 0x08);
    heard(r, "");
    out(r, LPT1 + 2, 0xff);
    assert_int_equal(in(r, LPT1 + 2), 0xff);
    out(r, LPT1 + 1, 0); /* status is read only */
    assert_int_equal(in(r, LPT1 + 1), 0xdf);
    for (unsigned reg = 3; reg < 8; reg++) {
        out(r, LPT1 + reg, 0x55);
        assert_int_equal(in(r, LPT1 + reg), 0xff);
    }
    dev_reset_all(r->t->m, DEV_RESET_POWER);
    assert_int_equal(in(r, LPT1 + 2), 0xcc);
    assert_int_equal(in(r, LPT1), 0);
}

static void more_than_anybody_reads(void **state)
{
    struct rig *r = *state;
    uint8_t buf[100];
    add(r, &isa_parallel_type, "chardev=ring");
    for (unsigned i = 0; i < 10000; i++) {
        out(r, LPT1, i & 0xff);
        out(r, LPT1 + 2, 0x1d);
        out(r, LPT1 + 2, 0x1c);
    }
    assert_true(chardev_ringbuf_read(r->ring, buf, sizeof(buf)) <= 64);
    assert_false(r->t->line[7]); /* each was an edge */
}

static void ports_by_number(void **state)
{
    struct rig *r = *state;
    add(r, &isa_parallel_type, "");
    add(r, &isa_parallel_type, "irq=5");
    add(r, &isa_parallel_type, "index=2,irq=6");
    assert_int_equal(in(r, 0x279), 0xcf); /* nobody there: not selected */
    assert_int_equal(in(r, 0x3bd), 0xcf);
    assert_int_equal(in(r, 0x3c0), 0xff);
    refuse(r, &isa_parallel_type, "");
    refuse(r, &isa_parallel_type, "index=3");
    refuse(r, &isa_parallel_type, "index=0,iobase=0x200,irq=16");
    refuse(r, &isa_parallel_type, "index=0,iobase=0x200,chardev=none");
    refuse(r, &isa_parallel_type, "index=0,iobase=0xffff");
}

/* ---- For debugging ---- */

static void console_prints(void **state)
{
    struct rig *r = *state;
    refuse(r, &isa_debugcon_type, "");
    refuse(r, &isa_debugcon_type, "chardev=other");
    add(r, &isa_debugcon_type, "chardev=ring");
    refuse(r, &isa_debugcon_type, "chardev=ring,iobase=0x402");
    assert_int_equal(in(r, 0xe9), 0xe9);
    out(r, 0xe9, 'h');
    mem_write(r->t->m->io, 0xe9, 2, 'i'); /* the port behind it is none */
    mem_write(r->t->m->io, 0xe8, 4, 0x21212121);
    heard(r, "hi!");
}

static void exit_says_how(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->t->m;
    static const struct {
        unsigned size;
        uint32_t val;
        int status;
    } cases[] = {{1, 0, 1}, {1, 0x10, 0x21}, {2, 0x80, 1}, {1, 0xff, 0xff}};
    add(r, &isa_debug_exit_type, "");
    assert_int_equal(in(r, 0x501), 0);
    assert_int_equal(m->request, MACHINE_REQ_NONE);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        m->request = MACHINE_REQ_NONE;
        mem_write(m->io, 0x501 + i % 2, 1, cases[i].val);
        assert_int_equal(m->request, MACHINE_REQ_EXIT);
        assert_int_equal(m->exit_status, cases[i].status);
    }
    refuse(r, &isa_debug_exit_type, "iobase=0xfffe,iosize=4");
    refuse(r, &isa_debug_exit_type, "iobase=0xffffffff,iosize=4294967295");
    refuse(r, &isa_debug_exit_type, "iosize=0");
}

static void panic_ends_the_machine(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->t->m;
    add(r, &pvpanic_isa_type, "");
    assert_int_equal(in(r, 0x505), 3);
    out(r, 0x505, 2);
    out(r, 0x505, 0xfc);
    assert_int_equal(m->request, MACHINE_REQ_NONE);
    out(r, 0x505, 1);
    assert_int_equal(m->request, MACHINE_REQ_POWEROFF);
    m->request = MACHINE_REQ_NONE;
    refuse(r, &pvpanic_isa_type, "events=4");
    add(r, &pvpanic_isa_type, "ioport=0x600,events=2");
    assert_int_equal(in(r, 0x600), 2);
    out(r, 0x600, 3); /* it does not take that one */
    assert_int_equal(m->request, MACHINE_REQ_NONE);
}

static void panic_in_a_bar(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->t->m;
    add(r, &pvpanic_pci_type, "");
    test_pc_enable(r->t);
    assert_int_equal(test_pc_read(r->t, TEST_PC_BAR, 1), 3);
    assert_int_equal(test_pc_read(r->t, TEST_PC_BAR + 0xffc, 4), 0);
    test_pc_write(r->t, TEST_PC_BAR + 1, 1, 1);
    test_pc_write(r->t, TEST_PC_BAR + 4, 4, ~0u);
    assert_int_equal(m->request, MACHINE_REQ_NONE);
    test_pc_write(r->t, TEST_PC_BAR, 4, 1);
    assert_int_equal(m->request, MACHINE_REQ_POWEROFF);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(prints_with_the_strobe), T(more_than_anybody_reads), T(ports_by_number),
        T(console_prints),         T(exit_says_how),           T(panic_ends_the_machine),
        T(panic_in_a_bar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
