#include "base/keyval.h"

#include <string.h>

#include "base/err.h"
#include "base/near.h"
#include "base/unit_test.h"

static void lists_with_escapes_and_bare_words(void **state)
{
    struct keyval kv = {0};
    struct err err;
    assert_int_equal(keyval_parse(&kv, "file,path=/a,,b,append,n=", "backend", &err), 0);
    assert_int_equal(kv.count, 4);
    assert_string_equal(keyval_get(&kv, "backend"), "file");
    assert_string_equal(keyval_get(&kv, "path"), "/a,b");
    assert_string_equal(keyval_get(&kv, "append"), "on");
    assert_string_equal(keyval_get(&kv, "n"), "");
    assert_null(keyval_get(&kv, "x"));
    assert_false(keyval_wants_help(&kv));
    keyval_free(&kv);
    assert_int_equal(keyval_parse(&kv, "name,help", "driver", &err), 0);
    assert_true(keyval_wants_help(&kv));
    keyval_free(&kv);
    assert_true(keyval_parse(&kv, "=x", NULL, &err) < 0);
    keyval_free(&kv);
}

static void sizes_and_numbers(void **state)
{
    struct err err;
    uint64_t v;
    assert_int_equal(value_size("-m", "512", 1 << 20, &v, &err), 0);
    assert_int_equal(v, 512ull << 20);
    assert_int_equal(value_size("-m", "2G", 1 << 20, &v, &err), 0);
    assert_int_equal(v, 2ull << 30);
    assert_true(value_size("-m", "2X", 1, &v, &err) < 0);
    assert_true(value_size("-m", "-1", 1, &v, &err) < 0);
    assert_true(value_size("-m", "99999999E", 1, &v, &err) < 0);
    assert_true(value_size("-m", "", 1, &v, &err) < 0);
    assert_int_equal(value_u64("x", "0x1f", 31, &v, &err), 0);
    assert_true(value_u64("x", "32", 31, &v, &err) < 0);
    assert_non_null(strstr(err.text, "31"));
}

static void nearest_word(void **state)
{
    static const char *const words[] = {"kernel", "initrd", "append"};
    assert_string_equal(near_pick("kernle", words, 3), "kernel");
    assert_string_equal(near_pick("apend", words, 3), "append");
    assert_int_equal(near_distance("abcd", "abdc"), 1);
    assert_int_equal(near_distance("", "abc"), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_with_escapes_and_bare_words),
        cmocka_unit_test(sizes_and_numbers),
        cmocka_unit_test(nearest_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
