/* The balloon: pages that go and come, code on them, statistics, and drivers that mean no good. */
#include "dev/virtio/virtio_balloon.h"

#include <stdio.h>
#include <sys/mman.h>

#include "base/strbuf.h"
#include "base/unit_test.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_test_rig.h"

enum { STATS_VQ = 2, POISON = 16, REPORTING = 32, PFNS = VRIG_DATA, PAGES = 0x50000 };

static int rig_up(void **state)
{
    struct err err;
    struct vrig *r = vrig_new();
    assert_non_null(vrig_add(r, &virtio_balloon_type,
                             "free-page-reporting=on,guest-stats-polling-interval=2", &err));
    assert_null(vrig_add(r, &virtio_balloon_type, "", &err));
    vrig_start(r, STATS_VQ | REPORTING, 4);
    memset(r->ram + PAGES, 0xaa, 0x10000);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    vrig_free(*state);
    return 0;
}

static void inflate(struct vrig *r, const uint32_t *pfns, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        store_le32(r->ram + PFNS + 4 * i, pfns[i]);
    }
    vrig_offer(r, 0, PFNS, 4 * n, false);
    assert_int_equal(vrig_used(r, 0), 0);
}

static bool resident(struct vrig *r, gpa_t at)
{
    unsigned char in = 0;
    assert_int_equal(mincore(r->ram + at, 4096, &in), 0);
    return in & 1;
}

static void inflated_pages_go_to_the_host(void **state)
{
    struct vrig *r = *state;
    static const uint32_t pfns[] = {PAGES >> 12, (PAGES >> 12) + 2, (PAGES >> 12) + 2};
    assert_true(resident(r, PAGES));
    inflate(r, pfns, 3);
    assert_false(resident(r, PAGES));
    assert_true(resident(r, PAGES + 0x1000));
    assert_false(resident(r, PAGES + 0x2000));
    assert_int_equal(r->ram[PAGES], 0);
    assert_int_equal(r->ram[PAGES + 0x1000], 0xaa);
    vrig_offer(r, 1, PFNS, 4, false); /* out again: nothing to do */
    assert_int_equal(vrig_used(r, 1), 0);
}

struct noted {
    ram_off_t off;
    uint64_t len;
    unsigned count;
};

static void note(void *opaque, ram_off_t off, uint64_t len)
{
    struct noted *n = opaque;
    *n = (struct noted){off, len, n->count + 1};
}

/* Or the guest would go on to run what was translated from a page that is gone. */
static void code_on_a_page_is_told_of(void **state)
{
    struct vrig *r = *state;
    struct noted noted = {0};
    static _Atomic uint8_t pages[VRIG_RAM >> 12];
    uint32_t pfn = PAGES >> 12;
    memset((void *)pages, 0, sizeof(pages));
    r->block->code_pages = pages;
    r->block->code_stride = 1;
    r->block->code_written = note;
    r->block->code_opaque = &noted;
    inflate(r, &pfn, 1);
    assert_int_equal(noted.count, 0);
    pages[pfn] = 1;
    inflate(r, &pfn, 1);
    assert_int_equal(noted.count, 1);
    assert_int_equal(noted.off, r->block->base + PAGES);
    assert_int_equal(noted.len, 4096);
    vrig_offer(r, 3, PAGES - 0x800, 0x2000, true); /* reported as free: one whole page inside */
    assert_int_equal(noted.count, 2);
    assert_int_equal(noted.len, 4096);
    r->block->code_pages = NULL;
}

static void reported_pages_keep_their_poison(void **state)
{
    struct vrig *r = *state;
    vrig_offer(r, 3, PAGES + 0x800, 0x1800, true);
    assert_int_equal(vrig_used(r, 3), 0);
    assert_true(resident(r, PAGES)); /* part of it was not reported */
    assert_false(resident(r, PAGES + 0x1000));
    memset(r->ram + PAGES, 0xaa, 0x10000);
    vrig_start(r, STATS_VQ | REPORTING | POISON, 4);
    vrig_reg(r, 0x100 + 12, 0xaaaaaaaa);
    vrig_offer(r, 3, PAGES, 0x2000, true);
    assert_int_equal(vrig_used(r, 3), 0);
    assert_int_equal(r->ram[PAGES], 0xaa);
}

static void hostile_page_numbers(void **state)
{
    struct vrig *r = *state;
    static const uint32_t pfns[] = {VRIG_RAM >> 12, 0xffffffff, 0x80000000, 0xfee00};
    inflate(r, pfns, 4);
    vrig_offer(r, 0, PFNS, 3, false); /* less than a number */
    assert_int_equal(vrig_used(r, 0), 0);
    vrig_offer(r, 0, 0, VRIG_RAM, false); /* more than are taken at once */
    assert_int_equal(vrig_used(r, 0), 0);
    assert_int_equal(vrig_read(r, 0x70) & VIRTIO_STATUS_NEEDS_RESET, 0);
}

static void target_and_actual(void **state)
{
    struct vrig *r = *state;
    struct virtio_balloon *b = virtio_balloon_find(r->m);
    assert_int_equal(virtio_balloon_actual(b), VRIG_RAM);
    virtio_balloon_set_target(b, VRIG_RAM - 0x10000);
    assert_int_equal(vrig_read(r, 0x60), VIRTIO_INT_CONFIG);
    assert_int_equal(vrig_read(r, 0x100), 16);
    vrig_reg(r, 0x104, 10);
    assert_int_equal(virtio_balloon_actual(b), VRIG_RAM - 0xa000);
    vrig_reg(r, 0x100, 99); /* not the driver's */
    assert_int_equal(vrig_read(r, 0x100), 16);
    vrig_reg(r, 0x104, 0xffffffff);
    assert_int_equal(virtio_balloon_actual(b), 0);
    virtio_balloon_set_target(b, ~0ull);
    assert_int_equal(vrig_read(r, 0x100), 0);
    virtio_mmio_reset(r->t);
    assert_int_equal(virtio_balloon_actual(b), VRIG_RAM);
}

static void expect_stats(struct vrig *r, const char *want)
{
    struct strbuf sb = {0};
    virtio_balloon_print_stats(virtio_balloon_find(r->m), &sb);
    assert_string_equal(strbuf_text(&sb), want);
    strbuf_free(&sb);
}

static void statistics_by_the_clock(void **state)
{
    struct vrig *r = *state;
    uint8_t *at = r->ram + VRIG_DATA;
    expect_stats(r, "");
    store_le16(at, 4);
    store_le64(at + 2, 1234);
    store_le16(at + 10, 999); /* nobody knows */
    store_le16(at + 20, 5);
    store_le64(at + 22, 5678);
    vrig_offer(r, 2, VRIG_DATA, 30, false);
    assert_int_equal(vrig_used(r, 2), -1); /* it is kept */
    expect_stats(r, "stat-free-memory=1234\nstat-total-memory=5678\n");
    clock_advance(r->m->clock, 2100000000);
    assert_int_equal(vrig_used(r, 2), 0); /* asked for anew */
    store_le64(at + 2, 4321);
    vrig_offer(r, 2, VRIG_DATA, 15, false);
    expect_stats(r, "stat-free-memory=4321\nstat-total-memory=5678\n");
    for (unsigned i = 0; i < 3; i++) { /* more than one: the older ones go back */
        vrig_offer(r, 2, VRIG_DATA, 10, false);
    }
    assert_int_equal(vrig_used(r, 2), 0);
    vrig_reg(r, 0x70, 0);
    clock_advance(r->m->clock, 5000000000); /* nothing is there to be given back */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(inflated_pages_go_to_the_host, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(code_on_a_page_is_told_of, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(reported_pages_keep_their_poison, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(hostile_page_numbers, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(target_and_actual, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(statistics_by_the_clock, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
