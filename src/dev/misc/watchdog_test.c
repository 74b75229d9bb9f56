/* Both watchdogs on virtual time: stages, reloads, locks, and what is kept over a reset. */
#include "base/unit_test.h"
#include "dev/chipset/ich9_tco.h"
#include "dev/misc/misc_devices.h"
#include "dev/misc/test_pc.h"

enum { R = TEST_PC_BAR, MS = 1000000 };

static int rig_up(void **state)
{
    struct err err;
    struct test_pc *t = test_pc_new();
    assert_non_null(test_pc_add(t, &i6300esb_type, "", &err));
    test_pc_enable(t);
    t->m->state = MACHINE_RUNNING;
    *state = t;
    return 0;
}

static int rig_down(void **state)
{
    test_pc_free(*state);
    return 0;
}

/* The default action is a reset; asked for since the last look? */
static bool bitten(struct test_pc *t)
{
    loop_step(t->m->loop, false);
    bool is = t->m->request == MACHINE_REQ_RESET;
    t->m->request = MACHINE_REQ_NONE;
    return is;
}

static void after(struct test_pc *t, uint64_t ms)
{
    clock_advance(t->m->clock, ms * MS);
}

static void open_write(struct test_pc *t, unsigned off, unsigned size, uint32_t v)
{
    test_pc_write(t, R + 0xc, 2, 0x80);
    test_pc_write(t, R + 0xc, 2, 0x86);
    test_pc_write(t, R + off, size, v);
}

static void esb_two_stages(void **state)
{
    struct test_pc *t = *state;
    after(t, 3600000);
    assert_false(bitten(t)); /* off until enabled */
    open_write(t, 0, 4, 1000);
    open_write(t, 4, 4, 500);
    assert_int_equal(test_pc_read(t, R, 4), 1000);
    test_pc_config(t, 0x68, 1, 2);
    after(t, 900);
    assert_int_equal(test_pc_read(t, R + 8, 2), 0);
    after(t, 100);
    assert_int_equal(test_pc_read(t, R + 8, 2), 1);
    after(t, 400);
    assert_false(bitten(t));
    open_write(t, 0xc, 2, 0x100); /* back to the first stage */
    after(t, 1300);
    assert_false(bitten(t));
    after(t, 300);
    assert_true(bitten(t));
    assert_int_equal(test_pc_read(t, R + 0xc, 2), 0x200);
    dev_reset_all(t->m, DEV_RESET_POWER);
    test_pc_enable(t);
    assert_int_equal(test_pc_read(t, R + 0xc, 2), 0x200); /* why it started anew */
    open_write(t, 0xc, 2, 0x200);
    assert_int_equal(test_pc_read(t, R + 0xc, 2), 0);
    after(t, 3600000);
    assert_false(bitten(t));
}

static void esb_registers_open_for_one_write(void **state)
{
    struct test_pc *t = *state;
    test_pc_write(t, R, 4, 7);
    assert_int_equal(test_pc_read(t, R, 4), 0xfffff);
    test_pc_write(t, R + 0xc, 2, 0x80);
    test_pc_write(t, R, 4, 7);
    test_pc_write(t, R + 0xc, 2, 0x86);
    test_pc_write(t, R, 4, 7);
    assert_int_equal(test_pc_read(t, R, 4), 0xfffff);
    open_write(t, 0, 4, 0xffffffff);
    test_pc_write(t, R, 4, 7);
    assert_int_equal(test_pc_read(t, R, 4), 0xfffff);
}

static void esb_lock_and_output(void **state)
{
    struct test_pc *t = *state;
    open_write(t, 0, 4, 10);
    open_write(t, 4, 4, 0);           /* the least there is */
    test_pc_config(t, 0x60, 2, 0x20); /* no output */
    test_pc_config(t, 0x68, 1, 3);
    test_pc_config(t, 0x68, 1, 0);
    assert_int_equal(test_pc_config_read(t, 0x68, 1), 3);
    after(t, 20);
    assert_false(bitten(t));
    assert_int_equal(test_pc_read(t, R + 0xc, 2), 0x200);
    dev_reset_all(t->m, DEV_RESET_POWER);
    assert_int_equal(test_pc_config_read(t, 0x68, 1), 0);
}

static void esb_fast_and_free_running(void **state)
{
    struct test_pc *t = *state;
    open_write(t, 4, 4, 1000);
    test_pc_config(t, 0x60, 2, 4); /* microseconds */
    test_pc_config(t, 0x68, 1, 6);
    after(t, 1);
    assert_true(bitten(t));
    after(t, 1);
    assert_true(bitten(t));
    test_pc_config(t, 0x68, 1, 4);
    after(t, 100);
    assert_false(bitten(t));
}

/* Who stops the machine to look at it finds it as it was. */
static void esb_waits_for_a_stopped_machine(void **state)
{
    struct test_pc *t = *state;
    open_write(t, 0, 4, 100);
    open_write(t, 4, 4, 100);
    test_pc_config(t, 0x68, 1, 2);
    after(t, 150);
    t->m->state = MACHINE_PAUSED;
    after(t, 3600000);
    assert_false(bitten(t));
    t->m->state = MACHINE_RUNNING;
    i6300esb_type.resume(t->m->devs);
    after(t, 190);
    assert_false(bitten(t));
    after(t, 20);
    assert_true(bitten(t));
}

/* ---- TCO ---- */

struct tco_rig {
    struct test_pc *pc;
    struct ich9_tco tco;
};

static int tco_up(void **state)
{
    struct tco_rig *r = calloc(1, sizeof(*r));
    r->pc = test_pc_new();
    r->pc->m->state = MACHINE_RUNNING;
    ich9_tco_init(&r->tco, r->pc->m);
    ich9_tco_reset(&r->tco);
    *state = r;
    return 0;
}

static int tco_down(void **state)
{
    struct tco_rig *r = *state;
    ich9_tco_fini(&r->tco);
    test_pc_free(r->pc);
    free(r);
    return 0;
}

static unsigned tco_read(struct tco_rig *r, unsigned off, unsigned size)
{
    uint64_t v = 0;
    ich9_tco_ports.read(&r->tco, off, size, &v);
    return (unsigned)(v & (size == 1 ? 0xff : 0xffff));
}

static void tco_write(struct tco_rig *r, unsigned off, unsigned size, unsigned v)
{
    ich9_tco_ports.write(&r->tco, off, size, v);
}

static void tco_bites_the_second_time(void **state)
{
    struct tco_rig *r = *state;
    after(r->pc, 3600000);
    assert_int_equal(tco_read(r, 4, 2), 0); /* nobody has started it */
    tco_write(r, 0x12, 2, 10);
    tco_write(r, 0, 2, 1);
    assert_int_equal(tco_read(r, 0, 2), 10);
    after(r->pc, 1300);
    assert_int_equal(tco_read(r, 0, 2), 8);
    after(r->pc, 4700);
    assert_int_equal(tco_read(r, 4, 2), 8);
    tco_write(r, 0, 2, 1); /* fed: it counts from the start */
    tco_write(r, 4, 2, 8);
    assert_int_equal(tco_read(r, 4, 2), 0);
    after(r->pc, 11900);
    assert_false(bitten(r->pc));
    after(r->pc, 100);
    assert_true(bitten(r->pc));
    assert_true(tco_read(r, 6, 2) & 2);
    ich9_tco_reset(&r->tco);
    assert_int_equal(tco_read(r, 6, 1), 2);
    tco_write(r, 6, 1, 2);
    assert_int_equal(tco_read(r, 6, 2), 0);
}

static void tco_no_reboot_and_halt(void **state)
{
    struct tco_rig *r = *state;
    uint64_t gcs;
    ich9_tco_gcs.write(&r->tco, 0, 4, 0xffffffff);
    ich9_tco_gcs.read(&r->tco, 0, 4, &gcs);
    assert_int_equal(gcs, 0x20);
    tco_write(r, 0x12, 2, 0); /* 2 at least */
    tco_write(r, 0, 2, 1);
    after(r->pc, 2400);
    assert_false(bitten(r->pc));
    assert_true(tco_read(r, 6, 2) & 2);
    ich9_tco_gcs.write(&r->tco, 0, 4, 0);
    tco_write(r, 9, 1, 8); /* halt, by the byte */
    assert_int_equal(tco_read(r, 8, 2), 0x800);
    after(r->pc, 3600000);
    assert_false(bitten(r->pc));
    tco_write(r, 8, 2, 0x1000); /* on, and locked */
    tco_write(r, 8, 2, 0);
    assert_int_equal(tco_read(r, 8, 2), 0x1000);
    after(r->pc, 2400);
    assert_true(bitten(r->pc));
}

static void tco_waits_for_a_stopped_machine(void **state)
{
    struct tco_rig *r = *state;
    tco_write(r, 0, 2, 1);
    r->pc->m->state = MACHINE_PAUSED;
    after(r->pc, 3600000);
    assert_false(bitten(r->pc));
    assert_int_equal(tco_read(r, 4, 2), 0);
    r->pc->m->state = MACHINE_RUNNING;
    after(r->pc, 4900);
    assert_true(bitten(r->pc));
}

static void tco_keeps_what_is_written(void **state)
{
    struct tco_rig *r = *state;
    for (unsigned off = 0xc; off <= 0xe; off++) {
        tco_write(r, off, 1, 0x30 + off);
    }
    assert_int_equal(tco_read(r, 0xc, 2), 0x3d3c);
    assert_int_equal(tco_read(r, 0xe, 1), 0x3e);
    tco_write(r, 2, 2, 0x1234);
    assert_int_equal(tco_read(r, 3, 1), 0x12);
    tco_write(r, 0x12, 2, 0xffff);
    assert_int_equal(tco_read(r, 0x12, 2), 0x3ff);
    assert_int_equal(tco_read(r, 0x1e, 2), 0);
}

/* ---- Actions ---- */

static enum machine_request acted(struct test_pc *t, enum watchdog_action a)
{
    t->m->config.watchdog = a;
    t->m->request = MACHINE_REQ_NONE;
    watchdog_expired(t->m);
    loop_step(t->m->loop, false);
    enum machine_request req = t->m->request;
    t->m->request = MACHINE_REQ_NONE;
    return req;
}

static void actions(void **state)
{
    struct test_pc *t = *state;
    assert_int_equal(acted(t, WATCHDOG_RESET), MACHINE_REQ_RESET);
    assert_int_equal(acted(t, WATCHDOG_POWEROFF), MACHINE_REQ_QUIT);
    assert_int_equal(acted(t, WATCHDOG_NONE), MACHINE_REQ_NONE);
    assert_int_equal(acted(t, WATCHDOG_SHUTDOWN), MACHINE_REQ_NONE); /* no button on this board */
    assert_int_equal(acted(t, WATCHDOG_INJECT_NMI), MACHINE_REQ_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(esb_two_stages, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(esb_registers_open_for_one_write, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(esb_lock_and_output, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(esb_waits_for_a_stopped_machine, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(tco_waits_for_a_stopped_machine, tco_up, tco_down),
        cmocka_unit_test_setup_teardown(esb_fast_and_free_running, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(tco_bites_the_second_time, tco_up, tco_down),
        cmocka_unit_test_setup_teardown(tco_no_reboot_and_halt, tco_up, tco_down),
        cmocka_unit_test_setup_teardown(tco_keeps_what_is_written, tco_up, tco_down),
        cmocka_unit_test_setup_teardown(actions, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
