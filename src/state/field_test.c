#include "state/field.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "base/unit_test.h"

struct part {
    uint16_t a;
    bool on;
    void *host;
};

struct whole {
    unsigned model, count;
    uint64_t reg;
    uint8_t fifo[4], head;
    struct part part[2];
    uint8_t *bytes; /* `count` */
    struct part *maybe;
    struct part *each[3]; /* `count` */
    uint32_t later;       /* since version 2 */
    uint32_t sum;
};

static const struct field part_list[] = {
    FIELD(struct part, a, FIELD_GUEST),
    FIELD(struct part, on, FIELD_GUEST),
    FIELD(struct part, host, FIELD_HOST),
};
FIELD_SET(part_fields, "part", struct part, part_list, 1);

static const struct field whole_list[] = {
    FIELD(struct whole, model, FIELD_CONFIG),
    FIELD(struct whole, count, FIELD_CONFIG),
    FIELD(struct whole, reg, FIELD_GUEST),
    FIELD_ARRAY(struct whole, fifo, FIELD_GUEST),
    FIELD(struct whole, head, FIELD_GUEST, .min = 1, .max = 3),
    FIELD_ARRAY(struct whole, part, FIELD_GUEST, .sub = &part_fields),
    FIELD_AT(struct whole, bytes, count, FIELD_GUEST),
    FIELD_ONE(struct whole, maybe, part_fields),
    FIELD_EACH_OF(struct whole, each, count, part_fields),
    FIELD(struct whole, later, FIELD_GUEST, .since = 2),
    FIELD(struct whole, sum, FIELD_DERIVED),
};

static int whole_loaded(void *obj, struct err *err)
{
    struct whole *w = obj;
    w->sum = w->part[0].a + w->part[1].a;
    return w->reg == 13 ? err_set(err, EINVAL, "state of whole: 13") : 0;
}

FIELD_SET(whole_fields, "whole", struct whole, whole_list, 2, .loaded = whole_loaded);

/* Both hold memory of the caller. */
struct rig {
    struct whole w;
    uint8_t bytes[2];
    struct part maybe, each[2];
};

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    r->w.model = 7;
    r->w.count = 2;
    r->w.head = 1;
    r->w.bytes = r->bytes;
    r->w.maybe = &r->maybe;
    r->w.each[0] = &r->each[0];
    r->w.each[1] = &r->each[1];
}

static void rig_values(struct rig *r)
{
    rig_init(r);
    r->w.reg = 0x1122334455667788;
    memcpy(r->w.fifo, "abcd", 4);
    r->w.part[0].a = 1;
    r->w.part[1] = (struct part){0xffff, true, r};
    r->bytes[1] = 9;
    r->maybe.a = 3;
    r->each[1].on = true;
    r->w.later = 5;
}

static int load(struct rig *to, const struct strbuf *sb, struct err *err)
{
    err->text[0] = 0;
    return field_load(&whole_fields, &to->w, sb->text, sb->len, err);
}

static void round_trip(void **state)
{
    struct rig from, to;
    struct strbuf sb = {0};
    struct err err;
    rig_values(&from);
    rig_init(&to);
    field_save(&whole_fields, &from.w, &sb);
    assert_int_equal(load(&to, &sb, &err), 0);
    assert_null(field_compare(&whole_fields, &from.w, &to.w, FIELD_NOT_SAVED));
    assert_int_equal(to.w.reg, 0x1122334455667788);
    assert_int_equal(to.bytes[1], 9);
    assert_int_equal(to.maybe.a, 3);
    assert_true(to.each[1].on);
    assert_null(to.w.part[1].host);
    assert_int_equal(field_loaded(&whole_fields, &to.w, &err), 0);
    assert_int_equal(to.w.sum, 0x10000);
    to.w.reg = 13;
    assert_int_equal(field_loaded(&whole_fields, &to.w, &err), -EINVAL);
    strbuf_free(&sb);
}

static void difference_is_found(void **state)
{
    struct rig a, b;
    rig_values(&a);
    rig_values(&b);
    b.each[1].a = 1;
    assert_string_equal(field_compare(&whole_fields, &a.w, &b.w, FIELD_NOT_SAVED)->name, "a");
    b.each[1].a = 0;
    b.w.sum = 1;
    assert_null(field_compare(&whole_fields, &a.w, &b.w, FIELD_NOT_SAVED));
    assert_string_equal(field_compare(&whole_fields, &a.w, &b.w, FIELD_HOST)->name, "sum");
}

/* What is wrong in the sender's struct, and a word of the sentence. */
static void refused(void (*change)(struct rig *from), const char *word)
{
    struct rig from, to;
    struct strbuf sb = {0};
    struct err err;
    rig_values(&from);
    rig_init(&to);
    change(&from);
    field_save(&whole_fields, &from.w, &sb);
    assert_true(load(&to, &sb, &err) < 0);
    if (!strstr(err.text, "whole") || !strstr(err.text, word)) {
        fail_msg("'%s' says nothing of '%s'", err.text, word);
    }
    strbuf_free(&sb);
}

static void other_model(struct rig *r)
{
    r->w.model++;
}

static void large_head(struct rig *r)
{
    r->w.head = 4;
}

static void small_head(struct rig *r)
{
    r->w.head = 0;
}

static void other_count(struct rig *r)
{
    r->w.count = 1;
}

static void no_maybe(struct rig *r)
{
    r->w.maybe = NULL;
}

static void wrong_values_are_refused(void **state)
{
    refused(other_model, "model");
    refused(large_head, "head");
    refused(small_head, "head");
    refused(other_count, "count");
    refused(no_maybe, "maybe");
}

/* A set as some other version has it, of the same struct. */
static int load_as(const struct field_set *sender, struct rig *to, struct err *err)
{
    struct rig from;
    struct strbuf sb = {0};
    rig_values(&from);
    field_save(sender, &from.w, &sb);
    int ret = load(to, &sb, err);
    strbuf_free(&sb);
    return ret;
}

static void versions(void **state)
{
    struct field list[ARRAY_LEN(whole_list)];
    struct field_set other = whole_fields;
    struct rig to;
    struct err err;
    memcpy(list, whole_list, sizeof(list));
    other.fields = list;

    rig_init(&to);
    other.version = 3;
    assert_int_equal(load_as(&other, &to, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "version 3"));
    other.version = 0;
    assert_int_equal(load_as(&other, &to, &err), -ENOTSUP);

    /* Version 1 had no `later`: what is there stays. */
    list[9].flags = FIELD_HOST;
    other.version = 1;
    to.w.later = 77;
    assert_int_equal(load_as(&other, &to, &err), 0);
    assert_int_equal(to.w.later, 77);
    other.version = 2;
    assert_int_equal(load_as(&other, &to, &err), -EINVAL);
    assert_non_null(strstr(err.text, "later"));
}

static void names_and_types(void **state)
{
    struct field list[ARRAY_LEN(whole_list)];
    struct field_set other = whole_fields;
    struct rig to;
    struct err err;
    memcpy(list, whole_list, sizeof(list));
    other.fields = list;
    rig_init(&to);

    list[2].name = "reg\033";
    assert_int_equal(load_as(&other, &to, &err), -EINVAL);
    assert_non_null(strstr(err.text, "reg?"));
    list[2] = list[9];
    assert_int_equal(load_as(&other, &to, &err), -EINVAL);
    assert_non_null(strstr(err.text, "twice"));
    list[2] = whole_list[2];
    list[2].size = 4;
    assert_int_equal(load_as(&other, &to, &err), -EINVAL);
    assert_non_null(strstr(err.text, "type"));
    list[2] = whole_list[2];
    other.name = "hole";
    assert_int_equal(load_as(&other, &to, &err), -EINVAL);
}

static void bools_are_0_or_1(void **state)
{
    struct rig from, to;
    struct strbuf sb = {0};
    struct err err;
    rig_values(&from);
    rig_init(&to);
    memset(&from.w.part[0].on, 2, 1);
    field_save(&whole_fields, &from.w, &sb);
    assert_int_equal(load(&to, &sb, &err), -EINVAL);
    assert_non_null(strstr(err.text, "on"));
    assert_non_null(strstr(err.text, "part"));
    strbuf_free(&sb);
}

static void every_length_but_the_right_one(void **state)
{
    struct rig from, to;
    struct strbuf sb = {0};
    struct err err;
    rig_values(&from);
    rig_init(&to);
    field_save(&whole_fields, &from.w, &sb);
    size_t all = sb.len;
    for (size_t len = 0; len < all; len++) {
        sb.len = len;
        assert_true(load(&to, &sb, &err) < 0);
    }
    sb.len = all;
    strbuf_add(&sb, "x");
    assert_int_equal(load(&to, &sb, &err), -EINVAL);
    strbuf_free(&sb);
}

static void printed(void **state)
{
    struct rig r;
    struct strbuf sb = {0};
    rig_values(&r);
    field_print(&whole_fields, &r.w, &sb);
    assert_non_null(strstr(strbuf_text(&sb), "whole: model=7 count=2 reg=1122334455667788 "
                                             "fifo=61626364 head=1 bytes=0009 later=5\n"
                                             "part: a=1 on=0\npart: a=ffff on=1\n"));
    strbuf_free(&sb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(difference_is_found),
        cmocka_unit_test(wrong_values_are_refused),
        cmocka_unit_test(versions),
        cmocka_unit_test(names_and_types),
        cmocka_unit_test(bools_are_0_or_1),
        cmocka_unit_test(every_length_but_the_right_one),
        cmocka_unit_test(printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
