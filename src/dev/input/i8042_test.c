/* The keyboard controller with keyboard and mouse, driven by commands and by keys. */
#include "dev/input/i8042.h"

#include <linux/input-event-codes.h>

#include "base/bits.h"
#include "base/unit_test.h"
#include "dev/input/ps2.h"
#include "dev/misc/test_pc.h"

enum { OBF = 1, AUX = 0x20 };

struct rig {
    struct test_pc *t;
    struct display *display;
    struct i8042 *c;
};

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    r->t = test_pc_new();
    r->display = r->t->m->display = display_new(r->t->m->clock);
    r->c = i8042_new(r->t->m, &r->t->lines[1], &r->t->lines[12]);
    i8042_reset(r->c);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    i8042_free(r->c);
    display_free(r->display);
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

static unsigned status(struct rig *r)
{
    return in(r, 0x64);
}

/* -1: there is no byte. */
static int take(struct rig *r)
{
    return status(r) & OBF ? (int)in(r, 0x60) : -1;
}

static void command(struct rig *r, unsigned cmd, unsigned val)
{
    out(r, 0x64, cmd);
    out(r, 0x60, val);
}

static void drain(struct rig *r)
{
    for (unsigned i = 0; i < 2 * PS2_QUEUE + 2; i++) {
        if (take(r) < 0) {
            return;
        }
    }
    fail_msg("it never ends");
}

static void expect(struct rig *r, const int *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(take(r), bytes[i]);
    }
    assert_int_equal(take(r), -1);
}

#define EXPECT(r, ...)                                                                             \
    expect(r, (const int[]){__VA_ARGS__}, ARRAY_LEN(((const int[]){__VA_ARGS__})))

static void mouse(struct rig *r, unsigned byte)
{
    command(r, 0xd4, byte);
}

/* ---- The controller ---- */

static void commands_answer(void **state)
{
    struct rig *r = *state;
    assert_int_equal(take(r), -1);
    out(r, 0x64, 0xaa);
    assert_int_equal(status(r) & (OBF | AUX | 4), OBF | 4);
    EXPECT(r, 0x55);
    out(r, 0x64, 0xab);
    EXPECT(r, 0);
    out(r, 0x64, 0xa9);
    EXPECT(r, 0);
    command(r, 0x60, 0x47);
    out(r, 0x64, 0x20);
    EXPECT(r, 0x47);
    out(r, 0x64, 0xa7);
    out(r, 0x64, 0xad);
    out(r, 0x64, 0x20);
    EXPECT(r, 0x77);
    out(r, 0x64, 0xa8);
    out(r, 0x64, 0xae);
    out(r, 0x64, 0x20);
    EXPECT(r, 0x47);
    out(r, 0x64, 0xc0);
    EXPECT(r, 0x80);
    command(r, 0xd2, 0x12);
    EXPECT(r, 0x12);
    command(r, 0xd3, 0x34);
    assert_int_equal(status(r) & (OBF | AUX), OBF | AUX);
    assert_true(r->t->line[12]);
    EXPECT(r, 0x34);
    assert_false(r->t->line[12]);
}

/* Whatever comes: nothing hangs, the queue is bounded, and a self test still answers. */
static void any_commands_in_any_order(void **state)
{
    struct rig *r = *state;
    uint32_t seed = 1;
    for (unsigned i = 0; i < 100000; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned val = seed >> 16 & 0xff;
        out(r, seed >> 28 & 1 ? 0x64 : 0x60, val);
        if (seed >> 29 == 7) {
            input_key(r->display, val, seed >> 24 & 1);
            input_move(r->display, (int)(seed >> 8), -(int)(seed >> 4));
            input_buttons(r->display, val & 31);
        }
        if (seed >> 29 == 3) {
            take(r);
        }
    }
    i8042_reset(r->c);
    drain(r);
    out(r, 0x64, 0xaa);
    EXPECT(r, 0x55);
}

static void a20_and_reset(void **state)
{
    struct rig *r = *state;
    struct machine *m = r->t->m;
    out(r, 0x64, 0xdd);
    assert_true(m->a20_off);
    out(r, 0x64, 0xd0);
    EXPECT(r, 1);
    command(r, 0xd1, 3);
    assert_false(m->a20_off);
    out(r, 0x64, 0xd0);
    EXPECT(r, 3);
    out(r, 0x64, 0xff); /* pulses nothing */
    assert_int_equal(m->request, MACHINE_REQ_NONE);
    out(r, 0x64, 0xf0);
    assert_int_equal(m->request, MACHINE_REQ_RESET);
    m->request = MACHINE_REQ_NONE;
    command(r, 0xd1, 2);
    assert_int_equal(m->request, MACHINE_REQ_RESET);
}

static void interrupts_by_the_mode(void **state)
{
    struct rig *r = *state;
    command(r, 0x60, 0x44);
    input_key(r->display, KEY_A, true);
    assert_false(r->t->line[1]);
    command(r, 0x60, 0x45); /* on, with a byte there */
    assert_true(r->t->line[1]);
    assert_int_equal(take(r), 0x1e);
    assert_false(r->t->line[1]);
    command(r, 0x60, 0x55); /* the keyboard off: bytes wait */
    input_key(r->display, KEY_A, false);
    assert_int_equal(take(r), -1);
    out(r, 0x64, 0xae);
    assert_int_equal(take(r), 0x9e);
}

/* ---- The keyboard ---- */

static void scan_codes(void **state)
{
    struct rig *r = *state;
    command(r, 0x60, 0x01); /* as they come */
    input_key(r->display, KEY_A, true);
    input_key(r->display, KEY_A, false);
    EXPECT(r, 0x1c, 0xf0, 0x1c);
    input_key(r->display, KEY_RIGHT, true);
    input_key(r->display, KEY_RIGHT, false);
    EXPECT(r, 0xe0, 0x74, 0xe0, 0xf0, 0x74);
    input_key(r->display, KEY_PAUSE, true);
    input_key(r->display, KEY_PAUSE, false);
    EXPECT(r, 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77);
    command(r, 0x60, 0x41); /* translated */
    input_key(r->display, KEY_A, true);
    input_key(r->display, KEY_A, false);
    EXPECT(r, 0x1e, 0x9e);
    input_key(r->display, KEY_RIGHT, true);
    input_key(r->display, KEY_RIGHT, false);
    EXPECT(r, 0xe0, 0x4d, 0xe0, 0xcd);
    input_key(r->display, KEY_PAUSE, true);
    EXPECT(r, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
    command(r, 0x60, 0x01);
    out(r, 0x60, 0xf0);
    out(r, 0x60, 1);
    EXPECT(r, 0xfa, 0xfa);
    input_key(r->display, KEY_A, true);
    input_key(r->display, KEY_A, false);
    input_key(r->display, KEY_DOWN, true);
    EXPECT(r, 0x1e, 0x9e, 0xe0, 0x50);
    out(r, 0x60, 0xf0);
    out(r, 0x60, 0);
    EXPECT(r, 0xfa, 0xfa, 1);
    out(r, 0x60, 0xf0);
    out(r, 0x60, 3); /* there is no set 3 */
    EXPECT(r, 0xfa, 0xfa);
    out(r, 0x60, 0xf0);
    out(r, 0x60, 0);
    EXPECT(r, 0xfa, 0xfa, 1);
}

static void every_key_and_number(void **state)
{
    struct rig *r = *state;
    for (unsigned mode = 0; mode < 2; mode++) {
        command(r, 0x60, mode ? 0x41 : 0x01);
        for (unsigned key = 0; key < INPUT_KEYS + 300; key++) {
            input_key(r->display, key, true);
            input_key(r->display, key, false);
            drain(r);
        }
    }
    for (unsigned code = 0; code < 256; code++) {
        unsigned set1 = ps2_translate((uint8_t)code);
        assert_true(set1 == code || (set1 && set1 < 0x80));
    }
}

static void keyboard_commands(void **state)
{
    struct rig *r = *state;
    command(r, 0x60, 0x01);
    out(r, 0x60, 0xff);
    EXPECT(r, 0xfa, 0xaa);
    out(r, 0x60, 0xf2);
    EXPECT(r, 0xfa, 0xab, 0x83);
    out(r, 0x60, 0xee);
    EXPECT(r, 0xee);
    out(r, 0x60, 0xfe);
    EXPECT(r, 0xee); /* again */
    out(r, 0x60, 0xed);
    out(r, 0x60, 7);
    EXPECT(r, 0xfa, 0xfa);
    out(r, 0x60, 0xed);
    out(r, 0x60, 0xf2); /* a command in place of the argument */
    EXPECT(r, 0xfa, 0xfa, 0xab, 0x83);
    out(r, 0x60, 0x01);
    EXPECT(r, 0xfe);
    out(r, 0x60, 0xf5);
    EXPECT(r, 0xfa);
    input_key(r->display, KEY_A, true);
    assert_int_equal(take(r), -1);
    out(r, 0x60, 0xf4);
    EXPECT(r, 0xfa);
    input_key(r->display, KEY_A, true);
    EXPECT(r, 0x1c);
}

/* What does not fit is lost, whole keys at a time; then it goes on. */
static void keys_that_nobody_reads(void **state)
{
    struct rig *r = *state;
    command(r, 0x60, 0x01);
    for (unsigned i = 0; i < 2000; i++) {
        input_key(r->display, KEY_RIGHT, i & 1);
        out(r, 0x60, 0xee);
    }
    unsigned prefixes = 0, codes = 0;
    for (int byte; (byte = take(r)) >= 0;) {
        prefixes += byte == 0xe0;
        codes += byte == 0x74;
    }
    assert_int_equal(prefixes, codes);
    assert_true(codes > 0 && codes < PS2_QUEUE);
    input_key(r->display, KEY_A, true);
    EXPECT(r, 0x1c);
}

/* ---- The mouse ---- */

static void mouse_packets(void **state)
{
    struct rig *r = *state;
    command(r, 0x60, 0x03);
    input_move(r->display, 3, 4);
    assert_int_equal(take(r), -1); /* not enabled */
    mouse(r, 0xff);
    EXPECT(r, 0xfa, 0xaa, 0);
    mouse(r, 0xf4);
    EXPECT(r, 0xfa);
    input_move(r->display, 3, 4);
    assert_true(r->t->line[12]);
    assert_true(status(r) & AUX);
    EXPECT(r, 0x28, 3, 0xfc);
    input_buttons(r->display, INPUT_LEFT);
    EXPECT(r, 0x09, 0, 0);
    input_buttons(r->display, INPUT_LEFT | INPUT_WHEEL_DOWN); /* it has no wheel */
    EXPECT(r, 0x09, 0, 0);
    mouse(r, 0xe9);
    EXPECT(r, 0xfa, 0x24, 2, 100);
    mouse(r, 0xf0);
    EXPECT(r, 0xfa);
    input_move(r->display, 1, 0);
    assert_int_equal(take(r), -1); /* when asked only */
    mouse(r, 0xeb);
    EXPECT(r, 0xfa, 0x09, 1, 0);
}

static void wheel_by_three_rates(void **state)
{
    struct rig *r = *state;
    static const uint8_t rates[] = {200, 100, 80};
    for (unsigned i = 0; i < 3; i++) {
        mouse(r, 0xf3);
        mouse(r, rates[i]);
        EXPECT(r, 0xfa, 0xfa);
    }
    mouse(r, 0xf2);
    EXPECT(r, 0xfa, 3);
    mouse(r, 0xf4);
    EXPECT(r, 0xfa);
    input_buttons(r->display, INPUT_WHEEL_DOWN);
    EXPECT(r, 0x08, 0, 0, 1);
    mouse(r, 0xee); /* wrap: everything comes back */
    EXPECT(r, 0xfa);
    mouse(r, 0x12);
    EXPECT(r, 0x12);
    mouse(r, 0xec);
    EXPECT(r, 0xfa);
}

/* Motion that nobody reads, or that comes before the mouse is on, adds up to a bounded number. */
static void motion_that_nobody_reads(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < 3; i++) {
        mouse(r, 0xf3);
        mouse(r, i == 0 ? 200 : i == 1 ? 100 : 80);
    }
    drain(r);
    for (unsigned i = 0; i < 100000; i++) {
        input_move(r->display, INT32_MAX, INT32_MIN);
        input_buttons(r->display, INPUT_WHEEL_DOWN);
    }
    mouse(r, 0xf4);
    input_buttons(r->display, 0);
    unsigned packets = 0;
    for (unsigned i = 0; i < 100000 && status(r) & OBF; i++) {
        drain(r);
        packets++;
        input_move(r->display, 0, 0);
    }
    assert_true(packets < 100);
    mouse(r, 0xe9);
    assert_int_equal(take(r), 0xfa);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(commands_answer),
        T(any_commands_in_any_order),
        T(a20_and_reset),
        T(interrupts_by_the_mode),
        T(scan_codes),
        T(every_key_and_number),
        T(keyboard_commands),
        T(keys_that_nobody_reads),
        T(mouse_packets),
        T(wheel_by_three_rates),
        T(motion_that_nobody_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
