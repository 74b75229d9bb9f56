/* A driver's rings over saving and loading: the second device goes on where the first stopped. */
#include <errno.h>

#include "base/strbuf.h"
#include "base/unit_test.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_test_rig.h"
#include "state/field.h"

struct side {
    struct vrig *r;
    struct dev *dev;
};

static struct side side_new(void)
{
    struct err err = {""};
    struct side s = {.r = vrig_new()};
    s.dev = vrig_add(s.r, &virtio_rng_type, "", &err);
    assert_non_null(s.dev);
    return s;
}

static void part_copy(const struct field_set *set, void *to, const void *from)
{
    struct strbuf sb = {0};
    struct err err = {""};
    field_save(set, from, &sb);
    if (field_load(set, to, sb.text, sb.len, &err)) {
        fail_msg("%s", err.text);
    }
    strbuf_free(&sb);
}

/* Memory, the transport and the device; what became of it. */
static int side_copy(struct side *to, const struct side *from, struct err *err)
{
    memcpy(to->r->ram, from->r->ram, VRIG_RAM);
    memcpy(to->r->idx, from->r->idx, sizeof(to->r->idx));
    memcpy(to->r->seen, from->r->seen, sizeof(to->r->seen));
    part_copy(&virtio_mmio_fields, to->r->t, from->r->t);
    part_copy(to->dev->type->state, to->dev, from->dev);
    int ret = field_loaded(&virtio_mmio_fields, to->r->t, err);
    return ret ? ret : field_loaded(to->dev->type->state, to->dev, err);
}

static void rings_go_on(void **state)
{
    struct side a = side_new(), b = side_new();
    struct err err = {""};
    vrig_start(a.r, 0, 1);
    for (unsigned i = 0; i < 11; i++) { /* once around, and some */
        vrig_offer(a.r, 0, VRIG_DATA, 16, true);
        assert_int_equal(vrig_used(a.r, 0), 16);
    }
    assert_int_equal(side_copy(&b, &a, &err), 0);
    assert_int_equal(vrig_read(b.r, 0x70), 15);
    assert_int_equal(vrig_used(b.r, 0), -1);
    vrig_offer(b.r, 0, VRIG_DATA, 32, true);
    assert_int_equal(vrig_used(b.r, 0), 32);
    assert_int_equal(vrig_used(b.r, 0), -1);
    vrig_free(a.r);
    vrig_free(b.r);
}

static void rings_must_be_in_memory(void **state)
{
    struct side a = side_new(), b = side_new();
    struct err err = {""};
    vrig_start(a.r, 0, 1);
    struct virtio *v = a.r->t->bus.vdev;
    v->queue[0].used = 1ull << 40;
    assert_int_equal(side_copy(&b, &a, &err), -EINVAL);
    assert_non_null(strstr(err.text, "virtqueue"));
    v->queue[0].used = VRIG_RINGS;
    v->queue[0].packed = true;
    v->queue[0].last_avail = VRIG_SIZE;
    assert_int_equal(side_copy(&b, &a, &err), -EINVAL);
    vrig_free(a.r);
    vrig_free(b.r);
}

static void features_must_be_there(void **state)
{
    struct side a = side_new(), b = side_new();
    struct err err = {""};
    vrig_start(a.r, 0, 1);
    a.r->t->bus.vdev->accepted |= 1ull << 50;
    assert_int_equal(side_copy(&b, &a, &err), -EINVAL);
    assert_non_null(strstr(err.text, "features"));
    vrig_free(a.r);
    vrig_free(b.r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rings_go_on),
        cmocka_unit_test(rings_must_be_in_memory),
        cmocka_unit_test(features_must_be_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
