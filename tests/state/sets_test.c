/* The standard test of field tables: each byte of each struct is claimed, and what is saved of
 * random values is the same when it was loaded. */
#include <stdio.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "base/unit_test.h"
#include "sets.h"
#include "shape.h"

#define SEED 0x9e3779b97f4a7c15ull
#define PADDING_MAX 8 /* bytes: nothing is aligned to more */

static void each(void (*fn)(const struct field_set *set))
{
    struct sets sets;
    sets_all(&sets);
    for (size_t i = 0; i < sets.count; i++) {
        fn(sets.set[i]);
    }
}

static void types_have_tables(void **state)
{
    unsigned without = 0;
    for (size_t i = 0; dev_types[i]; i++) {
        const struct dev_type *t = dev_types[i];
        if (!t->state) {
            print_error("%s has no table of its state\n", t->name);
            without++;
        } else if (t->state->size != t->size) {
            fail_msg("%s: the table is of another struct", t->name);
        }
    }
    assert_int_equal(without, 0);
}

/* ---- Tables make sense ---- */

static void check_number(const struct field_set *set, const struct field *f)
{
    bool fits = f->size == 1 || f->size == 2 || f->size == 4 || f->size == 8;
    if (!fits) {
        fail_msg("%s.%s: %u bytes are no number", set->name, f->name, f->size);
    }
    if (f->size < 8 && f->max >> 8 * f->size) {
        fail_msg("%s.%s: its limit is larger than itself", set->name, f->name);
    }
    if (f->max && f->min > f->max) {
        fail_msg("%s.%s: nothing is in its range", set->name, f->name);
    }
}

static void check_field(const struct field_set *set, const struct field *f)
{
    unsigned kind = f->flags & (FIELD_GUEST | FIELD_CONFIG | FIELD_HOST | FIELD_DERIVED);
    if (__builtin_popcount(kind) != 1) {
        fail_msg("%s.%s: GUEST, CONFIG, HOST or DERIVED?", set->name, f->name);
    }
    if (strlen(f->name) > FIELD_NAME_MAX || field_find(set, f->name) != f) {
        fail_msg("%s.%s: its name is too long, or there twice", set->name, f->name);
    }
    size_t size = f->flags & FIELD_EACH ? sizeof(void *) : f->sub ? f->sub->size : 0;
    if (f->sub && f->size && f->size != size) {
        fail_msg("%s.%s: %s describes another struct", set->name, f->name, f->sub->name);
    }
    if (!f->sub && !(f->flags & FIELD_NOT_SAVED)) {
        check_number(set, f);
    }
    if (f->since > set->version) {
        fail_msg("%s.%s: is newer than its set", set->name, f->name);
    }
}

static void check_counts(const struct field_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        bool config = f->flags & FIELD_CONFIG && f->size == sizeof(unsigned) && f->count == 1;
        if (shape_is_count(set, f) && !config) {
            fail_msg("%s.%s counts elements, and must be CONFIG", set->name, f->name);
        }
    }
}

static void check_set(const struct field_set *set)
{
    struct sets sets;
    sets_all(&sets);
    for (size_t i = 0; i < sets.count; i++) {
        if (sets.set[i] != set && !strcmp(sets.set[i]->name, set->name)) {
            fail_msg("two sets are called %s", set->name);
        }
    }
    if (set->count > FIELD_SET_MAX || !set->version || strlen(set->name) > FIELD_NAME_MAX) {
        fail_msg("%s: too many fields, no version, or too long a name", set->name);
    }
    for (size_t i = 0; i < set->count; i++) {
        check_field(set, &set->fields[i]);
    }
    check_counts(set);
}

static void tables_make_sense(void **state)
{
    each(check_set);
}

/* ---- Every byte ---- */

static void claim(const struct field_set *set, const struct field *f, uint8_t *claimed)
{
    size_t bytes = f->flags & FIELD_POINTER ? sizeof(void *) : (size_t)f->size * f->count;
    if (f->offset + bytes > set->size) {
        fail_msg("%s.%s is outside", set->name, f->name);
    }
    for (size_t i = f->offset; i < f->offset + bytes; i++) {
        if (claimed[i]) {
            fail_msg("%s.%s: another field is there, too", set->name, f->name);
        }
        claimed[i] = 1;
    }
}

/* Members by name are the business of tools/lint.py; what is left over here must be padding. */
static void check_claims(const struct field_set *set)
{
    uint8_t *claimed = calloc(1, set->size);
    size_t gap = 0;
    for (size_t i = 0; i < set->count; i++) {
        claim(set, &set->fields[i], claimed);
    }
    for (size_t i = 0; i < set->size; i++) {
        gap = claimed[i] ? 0 : gap + 1;
        if (gap >= PADDING_MAX) {
            fail_msg("%s: nobody claims byte %zu", set->name, i);
        }
    }
    free(claimed);
}

static void every_byte_is_claimed(void **state)
{
    each(check_claims);
}

/* ---- Round trip ---- */

struct pair {
    void *from, *to;
    struct strbuf saved;
};

static struct pair pair_new(const struct field_set *set, uint64_t seed)
{
    struct pair p = {.from = calloc(1, set->size), .to = calloc(1, set->size)};
    shape_make(set, p.from);
    shape_make(set, p.to);
    shape_fill(set, p.from, FIELD_GUEST | FIELD_CONFIG, &seed);
    shape_same_config(set, p.to, p.from);
    field_save(set, p.from, &p.saved);
    return p;
}

static void pair_free(const struct field_set *set, struct pair *p)
{
    shape_free(set, p->from);
    shape_free(set, p->to);
    free(p->from);
    free(p->to);
    strbuf_free(&p->saved);
}

static void check_round_trip(const struct field_set *set)
{
    for (uint64_t seed = SEED; seed < SEED + 20; seed++) {
        struct pair p = pair_new(set, seed);
        struct err err = {""};
        if (field_load(set, p.to, p.saved.text, p.saved.len, &err)) {
            fail_msg("%s", err.text);
        }
        const struct field *f = field_compare(set, p.from, p.to, FIELD_NOT_SAVED);
        if (f) {
            fail_msg("%s: %s is not what was saved", set->name, f->name);
        }
        pair_free(set, &p);
    }
}

static void what_is_saved_is_loaded(void **state)
{
    each(check_round_trip);
}

/* ---- What is not right ---- */

static void check_truncated(const struct field_set *set)
{
    struct pair p = pair_new(set, SEED);
    size_t step = 1 + p.saved.len / 3000;
    for (size_t len = 0; len < p.saved.len; len += len < 600 ? 1 : step) {
        struct err err = {""};
        char *bytes = malloc(len + !len); /* of that size: a sanitizer sees what is behind it */
        memcpy(bytes, p.saved.text, len);
        if (!field_load(set, p.to, bytes, len, &err) || !err.text[0]) {
            fail_msg("%s: the first %zu of %zu bytes do", set->name, len, p.saved.len);
        }
        free(bytes);
    }
    pair_free(set, &p);
}

static void truncated_is_refused(void **state)
{
    each(check_truncated);
}

/* Whatever is accepted is what the struct has afterwards. */
static void check_flipped(const struct field_set *set)
{
    struct pair p = pair_new(set, SEED);
    uint64_t seed = SEED;
    for (unsigned i = 0; i < 400; i++) {
        struct err err = {""};
        size_t at = shape_random(&seed) % p.saved.len;
        char old = p.saved.text[at];
        p.saved.text[at] = (char)(old ^ (1 + shape_random(&seed) % 255));
        if (field_load(set, p.to, p.saved.text, p.saved.len, &err)) {
            assert_true(strstr(err.text, "state of "));
        } else {
            struct strbuf again = {0};
            field_save(set, p.to, &again);
            assert_int_equal(again.len, p.saved.len);
            assert_memory_equal(again.text, p.saved.text, again.len);
            strbuf_free(&again);
        }
        p.saved.text[at] = old;
    }
    pair_free(set, &p);
}

static void flipped_is_refused_or_loaded(void **state)
{
    each(check_flipped);
}

static void check_limits(const struct field_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        struct err err = {""};
        if (!f->max || f->sub) {
            continue;
        }
        struct pair p = pair_new(set, SEED);
        field_put(f, p.from, 0, f->max + 1);
        strbuf_clear(&p.saved);
        field_save(set, p.from, &p.saved);
        bool room = f->size == 8 ? f->max < UINT64_MAX : f->max + 1 < 1ull << 8 * f->size;
        if (room && (!field_load(set, p.to, p.saved.text, p.saved.len, &err) ||
                     !strstr(err.text, f->name) || !strstr(err.text, set->name))) {
            fail_msg("%s.%s: a value that is too large is taken, or '%s'", set->name, f->name,
                     err.text);
        }
        pair_free(set, &p);
    }
}

static void limits_hold(void **state)
{
    each(check_limits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_have_tables),     cmocka_unit_test(tables_make_sense),
        cmocka_unit_test(every_byte_is_claimed), cmocka_unit_test(what_is_saved_is_loaded),
        cmocka_unit_test(truncated_is_refused),  cmocka_unit_test(flipped_is_refused_or_loaded),
        cmocka_unit_test(limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
