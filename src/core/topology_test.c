/* APIC IDs of arrangements of processors. */
#include "core/topology.h"

#include "base/unit_test.h"

static void powers_of_two_have_no_gaps(void **state)
{
    const struct topology t = {2, 2, 4, 4, 64};
    for (unsigned i = 0; i < t.max; i++) {
        assert_int_equal(topology_apic_id(&t, i), i);
    }
    assert_int_equal(topology_core_shift(&t), 2);
    assert_int_equal(topology_die_shift(&t), 4);
    assert_int_equal(topology_socket_shift(&t), 5);
}

static void other_counts_have(void **state)
{
    const struct topology t = {2, 1, 3, 2, 12};
    static const unsigned ids[12] = {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13};
    for (unsigned i = 0; i < t.max; i++) {
        assert_int_equal(topology_apic_id(&t, i), ids[i]);
    }
}

/* One byte in ACPI's tables, and ffh means all. */
static void ids_fit(void **state)
{
    for (unsigned s = 1; s <= 64; s++) {
        for (unsigned d = 1; s * d <= 64; d++) {
            for (unsigned c = 1; s * d * c <= 64; c++) {
                for (unsigned n = 1; s * d * c * n <= 64; n++) {
                    const struct topology t = {s, d, c, n, s * d * c * n};
                    assert_in_range(topology_apic_id(&t, t.max - 1), t.max - 1, 254);
                }
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(powers_of_two_have_no_gaps),
        cmocka_unit_test(other_counts_have),
        cmocka_unit_test(ids_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
