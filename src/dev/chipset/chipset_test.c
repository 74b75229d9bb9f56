/* Parts of the bridges: PCI's lines by route registers, ACPI's fixed hardware. */
#include "base/bits.h"
#include "base/unit_test.h"
#include "dev/chipset/acpi_pm.h"
#include "dev/chipset/ich9_lpc.h"
#include "dev/chipset/piix3.h"
#include "dev/chipset/pirq.h"
#include "dev/misc/test_pc.h"

enum { PM = 0x600, GPE = 0x640, S5 = 5, GPE_LEN = 4 };

struct rig {
    struct test_pc *t;
    struct acpi_pm pm;
    unsigned smis;
};

static void see_smi(void *opaque)
{
    ((struct rig *)opaque)->smis++;
}

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    r->t = test_pc_new();
    acpi_pm_init(&r->pm, r->t->m, S5, GPE_LEN);
    irq_connect(&r->pm.sci, &r->t->lines[9]);
    r->pm.smi = see_smi;
    r->pm.smi_opaque = r;
    mem_map_add_mmio(r->t->m->io, PM, ACPI_PM_BLOCK, &acpi_pm_block, &r->pm);
    mem_map_add_mmio(r->t->m->io, GPE, GPE_LEN, &acpi_pm_gpe, &r->pm);
    mem_map_add_mmio(r->t->m->io, ACPI_PM_SMI_CMD, 2, &acpi_pm_apm, &r->pm);
    acpi_pm_reset(&r->pm);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    acpi_pm_fini(&r->pm);
    test_pc_free(r->t);
    free(r);
    return 0;
}

static unsigned in(struct rig *r, unsigned port, unsigned size)
{
    uint64_t v = 0;
    mem_read(r->t->m->io, port, size, &v);
    return (unsigned)v;
}

static void out(struct rig *r, unsigned port, unsigned size, unsigned val)
{
    mem_write(r->t->m->io, port, size, val);
}

/* ---- ACPI ---- */

static void button_by_the_sci(void **state)
{
    struct rig *r = *state;
    acpi_pm_power_button(&r->pm);
    assert_int_equal(in(r, PM, 2), 0x100);
    assert_false(r->t->line[9]); /* not enabled, no SCI */
    out(r, PM + 2, 2, 0xffff);
    assert_int_equal(in(r, PM + 2, 2), 0x521);
    assert_false(r->t->line[9]);
    out(r, 0xb2, 1, 0xf1);
    assert_true(r->t->line[9]);
    assert_int_equal(in(r, PM + 4, 2), 1);
    out(r, PM + 1, 1, 1); /* the high byte alone clears it */
    assert_int_equal(in(r, PM, 2), 0);
    assert_false(r->t->line[9]);
    acpi_pm_power_button(&r->pm);
    assert_true(r->t->line[9]);
    out(r, 0xb2, 1, 0xf0);
    assert_false(r->t->line[9]);
    assert_int_equal(r->smis, 2);
    acpi_pm_reset(&r->pm);
    assert_int_equal(in(r, PM, 4), 0);
}

static void general_purpose_events(void **state)
{
    struct rig *r = *state;
    out(r, PM + 4, 2, 1);
    for (unsigned i = 0; i < GPE_LEN + 4; i++) { /* behind its end, too */
        out(r, GPE + i, 1, 0xff);
        in(r, GPE + i, 4);
    }
    assert_int_equal(in(r, GPE, 4), 0xffff0000); /* status is not set by writes */
    r->pm.gpe[0] = 2;
    out(r, GPE + 2, 1, 2);
    assert_true(r->t->line[9]);
    out(r, GPE, 1, 2);
    assert_false(r->t->line[9]);
}

static void sleep_types(void **state)
{
    struct rig *r = *state;
    for (unsigned type = 0; type < 8; type++) {
        r->t->m->request = MACHINE_REQ_NONE;
        out(r, PM + 4, 2, type << 10 | 1 << 13);
        assert_int_equal(r->t->m->request, type == S5 ? MACHINE_REQ_POWEROFF : MACHINE_REQ_NONE);
        assert_int_equal(in(r, PM + 4, 2), type << 10); /* SLP_EN reads as 0 */
    }
    r->t->m->request = MACHINE_REQ_NONE;
    out(r, PM + 5, 1, 0x20 | S5 << 2); /* by bytes */
    assert_int_equal(r->t->m->request, MACHINE_REQ_POWEROFF);
}

/* Bit 23 of the timer changes every 2.34 s; a guest that does not clear the status gets no more. */
static void timer_overflows(void **state)
{
    struct rig *r = *state;
    unsigned before = in(r, PM + 8, 4);
    clock_advance(r->t->m->clock, 1000000000);
    assert_int_equal(in(r, PM + 8, 4) - before, 3579545);
    out(r, PM + 2, 2, 1);
    out(r, PM + 4, 2, 1);
    assert_false(r->t->line[9]);
    clock_advance(r->t->m->clock, 2400000000);
    loop_step(r->t->m->loop, false);
    clock_run(r->t->m->clock);
    assert_true(r->t->line[9]);
    out(r, PM, 2, 1);
    assert_false(r->t->line[9]);
    out(r, PM + 8, 4, 0); /* read only */
    for (unsigned off = 0; off < ACPI_PM_BLOCK; off++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            uint64_t v;
            mem_read(r->t->m->io, PM + off, size, &v);
        }
    }
}

/* ---- Interrupt routes ---- */

static void routes_of_lines(void **state)
{
    struct rig *r = *state;
    struct test_pc *t = r->t;
    struct pirq p = {0};
    struct irq source = {0};
    pirq_init(&p, t->lines, NULL);
    irq_connect(&source, &p.pin);
    irq_set(&source, true);
    for (unsigned reg = 0; reg < 256; reg++) {
        pirq_route(&p, (uint8_t)reg);
        unsigned line = reg & 15;
        bool none = reg & PIRQ_OFF || line < 3 || line == 8 || line == 13;
        for (unsigned i = 0; i < 16; i++) {
            assert_int_equal(t->line[i], !none && i == line); /* and none is left high */
        }
    }
    pirq_route(&p, 11);
    assert_true(t->line[11]);
    irq_set(&source, false);
    assert_false(t->line[11]);
    pirq_route(&p, PIRQ_OFF);
    pirq_fini(&p);
}

static void piix3_lines_by_slot(void **state)
{
    struct rig *r = *state;
    struct test_pc *t = r->t;
    struct piix3 p = {0};
    struct irq source[4] = {0};
    piix3_init_lines(&p, t->lines);
    piix3_init(&p, &t->pci.bus0);
    piix3_reset(&p);
    for (unsigned pin = 0; pin < 4; pin++) {
        irq_connect(&source[pin], piix3_route(&p, 3, pin));
        irq_set(&source[pin], true);
    }
    mem_write(t->m->io, 0xcf8, 4, 0x80000860);
    mem_write(t->m->io, 0xcfc, 4, 0x0b0a0580); /* PIRQA# nowhere */
    assert_false(t->line[0]);
    assert_true(t->line[5] && t->line[10] && t->line[11]);
    piix3_reset(&p);
    assert_false(t->line[5] || t->line[10] || t->line[11]);
    for (unsigned pin = 0; pin < 4; pin++) {
        irq_set(&source[pin], false);
    }
    for (unsigned slot = 0; slot < 32; slot++) {
        assert_ptr_equal(piix3_route(&p, slot, 1), piix3_route(&p, slot + 1, 0));
        assert_true(ich9_lpc_pirq(slot, 3) < ICH9_PIRQS);
    }
    piix3_fini(&p);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(button_by_the_sci), T(general_purpose_events), T(sleep_types),
        T(timer_overflows),   T(routes_of_lines),        T(piix3_lines_by_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
