#include "dev/irqchip/lapic.h"

#include <stdlib.h>

#include "base/unit_test.h"
#include "core/irq_ctrl.h"
#include "core/vcpu.h"
#include "dev/irqchip/ioapic.h"
#include "ir/rt.h"
#include "loop/clock.h"

struct rig {
    struct clock *clock;
    struct mem_map *mem;
    struct lapic_bus *bus;
    struct ioapic *io;
    struct vcpu vcpu[2];
    struct irq_ctrl *ic[2];
};

static bool rig_send(void *bus, const struct apic_msg *msg)
{
    return lapic_bus_send(bus, msg);
}

static void rig_write(struct rig *r, unsigned cpu, gpa_t addr, uint32_t val)
{
    irq_ctrl_enter(r->ic[cpu]);
    assert_int_equal(mem_write(r->mem, addr, 4, val), MEM_OK);
}

static uint32_t rig_read(struct rig *r, unsigned cpu, gpa_t addr)
{
    uint64_t v;
    irq_ctrl_enter(r->ic[cpu]);
    assert_int_equal(mem_read(r->mem, addr, 4, &v), MEM_OK);
    return (uint32_t)v;
}

static int rig_up(void **state)
{
    static struct rig rig;
    struct rig *r = &rig;
    r->clock = clock_new_virtual();
    r->mem = mem_map_new("m", 0);
    r->bus = lapic_bus_new(r->clock);
    mem_map_add_mmio(r->mem, LAPIC_BASE, LAPIC_SIZE, &lapic_mmio, r->bus);
    r->io = ioapic_new(0, rig_send, r->bus);
    mem_map_add_mmio(r->mem, IOAPIC_BASE, IOAPIC_SIZE, &ioapic_mmio, r->io);
    lapic_bus_set_eoi(r->bus, ioapic_eoi, r->io);
    for (unsigned i = 0; i < 2; i++) {
        struct lapic *l = lapic_new(r->bus, i);
        vcpu_init(&r->vcpu[i], i);
        r->vcpu[i].env = calloc(1, sizeof(struct rt_env));
        lapic_set_vcpu(l, &r->vcpu[i]);
        r->ic[i] = lapic_ctrl(l);
        rig_write(r, i, LAPIC_BASE + 0xf0, 0x1ff);
        r->vcpu[i].events = 0;
    }
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    irq_ctrl_enter(NULL);
    free(r->vcpu[0].env);
    free(r->vcpu[1].env);
    vcpu_fini(&r->vcpu[0]);
    vcpu_fini(&r->vcpu[1]);
    ioapic_free(r->io);
    lapic_bus_free(r->bus);
    mem_map_free(r->mem);
    clock_free(r->clock);
    return 0;
}

static void self_ipi(struct rig *r, uint8_t vector)
{
    rig_write(r, 0, LAPIC_BASE + 0x300, 0x44000u | vector);
}

static void priorities_nest_and_eoi_unnests(void **state)
{
    struct rig *r = *state;
    self_ipi(r, 0x41);
    assert_true(r->vcpu[0].events & VCPU_EV_INTR);
    assert_int_equal(irq_ctrl_ack(r->ic[0]), 0x41);
    self_ipi(r, 0x4f); /* the same class: waits */
    assert_false(irq_ctrl_pending(r->ic[0]));
    self_ipi(r, 0x52);
    assert_int_equal(irq_ctrl_ack(r->ic[0]), 0x52);
    assert_int_equal(rig_read(r, 0, LAPIC_BASE + 0xa0), 0x50);
    rig_write(r, 0, LAPIC_BASE + 0xb0, 0);
    assert_false(irq_ctrl_pending(r->ic[0]));
    r->vcpu[0].events = 0;
    rig_write(r, 0, LAPIC_BASE + 0xb0, 0);
    assert_true(r->vcpu[0].events & VCPU_EV_INTR);
    assert_int_equal(irq_ctrl_ack(r->ic[0]), 0x4f);
    rig_write(r, 0, LAPIC_BASE + 0xb0, 0);
    assert_int_equal(irq_ctrl_ack(r->ic[0]), -1);
}

static void task_priority_holds_back(void **state)
{
    struct rig *r = *state;
    irq_ctrl_set_tpr(r->ic[0], 0x50);
    self_ipi(r, 0x58);
    assert_false(irq_ctrl_pending(r->ic[0]));
    irq_ctrl_set_tpr(r->ic[0], 0x40);
    assert_true(irq_ctrl_pending(r->ic[0]));
}

static void init_and_sipi_reach_the_other(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, LAPIC_BASE + 0x310, 1u << 24);
    rig_write(r, 0, LAPIC_BASE + 0x300, 0xc500); /* INIT, assert, level */
    assert_int_equal(r->vcpu[1].events, VCPU_EV_INIT);
    rig_write(r, 0, LAPIC_BASE + 0x300, 0x8500); /* de-assert: ignored */
    r->vcpu[1].events = 0;
    rig_write(r, 0, LAPIC_BASE + 0x300, 0x469a);
    assert_int_equal(r->vcpu[1].events, VCPU_EV_SIPI);
    assert_int_equal(r->vcpu[1].sipi_vector, 0x9a);
    assert_int_equal(r->vcpu[0].events, 0);
    rig_write(r, 0, LAPIC_BASE + 0x300, 0xc0400); /* NMI to all but self */
    assert_true(r->vcpu[1].events & VCPU_EV_NMI);
    assert_int_equal(r->vcpu[0].events, 0);
}

static void logical_flat_and_cluster(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, LAPIC_BASE + 0xd0, 1u << 24);
    rig_write(r, 1, LAPIC_BASE + 0xd0, 2u << 24);
    struct apic_msg m = {.dest = 2, .logical = true, .mode = APIC_FIXED, .vector = 0x33};
    assert_true(lapic_bus_send(r->bus, &m));
    assert_false(irq_ctrl_pending(r->ic[0]));
    assert_int_equal(irq_ctrl_ack(r->ic[1]), 0x33);
    rig_write(r, 1, LAPIC_BASE + 0xe0, 0x0fffffff);
    rig_write(r, 1, LAPIC_BASE + 0xd0, 0x34u << 24);
    m.dest = 0x34;
    m.vector = 0x66;
    assert_true(lapic_bus_send(r->bus, &m));
    assert_int_equal(irq_ctrl_ack(r->ic[1]), 0x66);
    m.dest = 0x24;
    assert_false(lapic_bus_send(r->bus, &m));
}

static void one_shot_and_periodic_count(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, LAPIC_BASE + 0x3e0, 0xb); /* by one: 1 GHz */
    rig_write(r, 0, LAPIC_BASE + 0x320, 0x31);
    rig_write(r, 0, LAPIC_BASE + 0x380, 1000);
    clock_advance(r->clock, 400);
    assert_int_equal(rig_read(r, 0, LAPIC_BASE + 0x390), 600);
    clock_advance(r->clock, 600);
    assert_int_equal(irq_ctrl_ack(r->ic[0]), 0x31);
    assert_int_equal(rig_read(r, 0, LAPIC_BASE + 0x390), 0);
    rig_write(r, 0, LAPIC_BASE + 0xb0, 0);
    rig_write(r, 0, LAPIC_BASE + 0x320, 0x20031);
    rig_write(r, 0, LAPIC_BASE + 0x380, 50000);
    for (int i = 0; i < 3; i++) {
        clock_advance(r->clock, 50000);
        assert_int_equal(irq_ctrl_ack(r->ic[0]), 0x31);
        rig_write(r, 0, LAPIC_BASE + 0xb0, 0);
    }
    rig_write(r, 0, LAPIC_BASE + 0x380, 0);
    clock_advance(r->clock, 500000);
    assert_false(irq_ctrl_pending(r->ic[0]));
}

/* A period of one tick must not keep the host busy. */
static void shortest_period_is_bounded(void **state)
{
    struct rig *r = *state;
    unsigned n = 0;
    rig_write(r, 0, LAPIC_BASE + 0x3e0, 0xb);
    rig_write(r, 0, LAPIC_BASE + 0x320, 0x20041);
    rig_write(r, 0, LAPIC_BASE + 0x380, 1);
    for (unsigned i = 0; i < 100; i++) { /* 1 ms */
        clock_advance(r->clock, 10000);
        n += irq_ctrl_ack(r->ic[0]) == 0x41;
        rig_write(r, 0, LAPIC_BASE + 0xb0, 0);
    }
    assert_in_range(n, 40, 52);
    rig_write(r, 0, LAPIC_BASE + 0x380, 0);
}

static void tsc_deadline_follows_the_offset(void **state)
{
    struct rig *r = *state;
    uint64_t val;
    rig_write(r, 0, LAPIC_BASE + 0x320, 0x40077);
    irq_ctrl_set_tsc_offset(r->ic[0], -(int64_t)clock_tsc(r->clock));
    assert_true(irq_ctrl_msr_write(r->ic[0], 0x6e0, 4000)); /* 2 GHz: 2000 ns */
    clock_advance(r->clock, 1990);
    assert_false(irq_ctrl_pending(r->ic[0]));
    assert_true(irq_ctrl_msr_read(r->ic[0], 0x6e0, &val));
    assert_int_equal(val, 4000);
    clock_advance(r->clock, 10);
    assert_int_equal(irq_ctrl_ack(r->ic[0]), 0x77);
    assert_true(irq_ctrl_msr_read(r->ic[0], 0x6e0, &val));
    assert_int_equal(val, 0);
}

static void x2apic_by_msr(void **state)
{
    struct rig *r = *state;
    uint64_t val;
    assert_false(irq_ctrl_msr_read(r->ic[1], 0x802, &val));
    assert_true(irq_ctrl_set_base(r->ic[1], irq_ctrl_get_base(r->ic[1]) | 1 << 10));
    assert_false(irq_ctrl_set_base(r->ic[1], LAPIC_BASE | 1 << 11)); /* not back to xAPIC */
    assert_true(irq_ctrl_msr_read(r->ic[1], 0x802, &val));
    assert_int_equal(val, 1);
    assert_true(irq_ctrl_msr_read(r->ic[1], 0x80d, &val));
    assert_int_equal(val, 2);
    assert_true(irq_ctrl_msr_write(r->ic[1], 0x83f, 0x99));
    assert_int_equal(irq_ctrl_ack(r->ic[1]), 0x99);
    assert_true(irq_ctrl_msr_write(r->ic[1], 0x80b, 0));
    assert_false(irq_ctrl_msr_write(r->ic[1], 0x80b, 1));
    assert_true(irq_ctrl_msr_write(r->ic[1], 0x830, 0x4044)); /* to physical ID 0 */
    assert_int_equal(irq_ctrl_ack(r->ic[0]), 0x44);
}

static void ioapic_level_pin_waits_for_eoi(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, IOAPIC_BASE, 0x10 + 2 * 9);
    rig_write(r, 0, IOAPIC_BASE + 0x10, 0x8051); /* level, vector 51 */
    ioapic_set_pin(r->io, 9, true);
    assert_int_equal(irq_ctrl_ack(r->ic[0]), 0x51);
    assert_true(rig_read(r, 0, IOAPIC_BASE + 0x10) & 1 << 14);
    rig_write(r, 0, LAPIC_BASE + 0xb0, 0);
    assert_int_equal(irq_ctrl_ack(r->ic[0]), 0x51); /* still asserted */
    ioapic_set_pin(r->io, 9, false);
    rig_write(r, 0, LAPIC_BASE + 0xb0, 0);
    assert_false(irq_ctrl_pending(r->ic[0]));
    rig_write(r, 0, IOAPIC_BASE + 0x10, 0x18051); /* masked */
    ioapic_set_pin(r->io, 9, true);
    assert_false(irq_ctrl_pending(r->ic[0]));
    rig_write(r, 0, IOAPIC_BASE + 0x10, 0x8051);
    assert_true(irq_ctrl_pending(r->ic[0]));
}

static void errors_are_latched_by_a_write(void **state)
{
    struct rig *r = *state;
    self_ipi(r, 5);
    assert_int_equal(rig_read(r, 0, LAPIC_BASE + 0x280), 0);
    rig_write(r, 0, LAPIC_BASE + 0x280, 0);
    assert_int_equal(rig_read(r, 0, LAPIC_BASE + 0x280), 0x20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(priorities_nest_and_eoi_unnests, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(task_priority_holds_back, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(init_and_sipi_reach_the_other, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(logical_flat_and_cluster, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(one_shot_and_periodic_count, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(shortest_period_is_bounded, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(tsc_deadline_follows_the_offset, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(x2apic_by_msr, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(ioapic_level_pin_waits_for_eoi, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(errors_are_latched_by_a_write, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
