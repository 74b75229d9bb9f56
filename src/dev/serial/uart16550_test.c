#include "dev/serial/uart16550.h"

#include <string.h>

#include "base/unit_test.h"

struct rig {
    struct uart u;
    struct clock *clock;
    struct mem_map *io;
    struct irq_pin pin;
    bool level, full;
    unsigned edges, rooms;
    char sent[64];
    size_t count;
};

static size_t rig_tx(void *opaque, const uint8_t *buf, size_t len)
{
    struct rig *r = opaque;
    if (r->full) {
        return 0;
    }
    memcpy(r->sent + r->count, buf, len);
    r->count += len;
    return len;
}

static void rig_room(void *opaque)
{
    ((struct rig *)opaque)->rooms++;
}

static const struct uart_wires wires = {rig_tx, rig_room};

static void see(void *opaque, unsigned n, bool level)
{
    struct rig *r = opaque;
    r->level = level;
    r->edges += level;
}

static void out8(struct rig *r, unsigned reg, unsigned val)
{
    mem_write(r->io, 0x3f8 + reg, 1, val);
}

static unsigned in8(struct rig *r, unsigned reg)
{
    uint64_t v;
    mem_read(r->io, 0x3f8 + reg, 1, &v);
    return (unsigned)v;
}

static int rig_up(void **state)
{
    static struct rig rig;
    memset(&rig, 0, sizeof(rig));
    rig.clock = clock_new_virtual();
    rig.io = mem_map_new("io", 0x10000);
    irq_pin_init(&rig.pin);
    irq_pin_add(&rig.pin, see, &rig, 4);
    uart_init(&rig.u, rig.clock, &wires, &rig);
    irq_connect(&rig.u.irq, &rig.pin);
    mem_map_add_mmio(rig.io, 0x3f8, 8, &uart_mmio, &rig.u);
    *state = &rig;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    uart_fini(&r->u);
    mem_map_free(r->io);
    irq_pin_fini(&r->pin);
    clock_free(r->clock);
    return 0;
}

static void kernels_see_a_16550a(void **state)
{
    struct rig *r = *state;
    out8(r, 1, 0);
    assert_int_equal(in8(r, 1), 0);
    out8(r, 1, 0xf);
    assert_int_equal(in8(r, 1), 0xf);
    out8(r, 1, 0);
    out8(r, 4, 0x1a); /* loopback, OUT2, RTS */
    assert_int_equal(in8(r, 6) & 0xf0, 0x90);
    out8(r, 4, 0);
    out8(r, 2, 1);
    assert_int_equal(in8(r, 2) >> 6, 3);
    out8(r, 7, 0x5a);
    assert_int_equal(in8(r, 7), 0x5a);
}

static void thre_interrupt_comes_and_is_read_away(void **state)
{
    struct rig *r = *state;
    out8(r, 4, 8);
    out8(r, 1, 2);
    assert_true(r->level);
    assert_int_equal(in8(r, 2) & 15, 2);
    assert_false(r->level);
    out8(r, 0, 'x');
    assert_true(r->level);
    assert_int_equal(r->count, 1);
    r->full = true;
    out8(r, 0, 'y');
    assert_false(r->level);
    assert_int_equal(in8(r, 5) & 0x60, 0);
    r->full = false;
    uart_tx_ready(&r->u);
    assert_true(r->level);
    assert_memory_equal(r->sent, "xy", 2);
}

static void receive_by_trigger_and_timeout(void **state)
{
    struct rig *r = *state;
    out8(r, 4, 8);
    out8(r, 2, 0x81); /* FIFO, trigger at 8 */
    out8(r, 1, 1);
    uart_rx(&r->u, (const uint8_t *)"1234567", 7);
    assert_false(r->level);
    clock_advance(r->clock, 10 * NS_PER_SEC / 1000);
    assert_int_equal(in8(r, 2) & 15, 12);
    uart_rx(&r->u, (const uint8_t *)"8", 1);
    assert_int_equal(in8(r, 2) & 15, 4);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(in8(r, 0), '1' + i);
    }
    assert_false(r->level);
    assert_int_equal(in8(r, 5) & 1, 0);
}

static void room_is_told_when_the_guest_has_read(void **state)
{
    struct rig *r = *state;
    assert_int_equal(uart_rx_room(&r->u), 1);
    uart_rx(&r->u, (const uint8_t *)"a", 1);
    assert_int_equal(uart_rx_room(&r->u), 0);
    in8(r, 0);
    assert_int_equal(r->rooms, 1);
    uart_break(&r->u);
    assert_int_equal(in8(r, 5) & 0x11, 0x11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kernels_see_a_16550a, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(thre_interrupt_comes_and_is_read_away, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(receive_by_trigger_and_timeout, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(room_is_told_when_the_guest_has_read, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
