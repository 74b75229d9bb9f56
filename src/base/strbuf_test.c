#include "base/strbuf.h"

#include "base/unit_test.h"

static void grows_and_clears(void **state)
{
    struct strbuf sb = {0};
    assert_string_equal(strbuf_text(&sb), "");
    for (int i = 0; i < 1000; i++) {
        strbuf_add(&sb, "%d,", i % 10);
    }
    assert_int_equal(sb.len, 2000);
    strbuf_clear(&sb);
    strbuf_add_bytes(&sb, "a\0b", 3);
    assert_int_equal(sb.len, 3);
    strbuf_free(&sb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(grows_and_clears)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
