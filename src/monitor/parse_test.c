/* Words, expressions and formats of commands. */
#include "monitor/parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/unit_test.h"

static void splits(void **state)
{
    struct err err;
    struct words w;
    assert_int_equal(words_split(&w, "  a \"b c\\n\\\"\" d\\e f\"g h\"i", &err), 0);
    assert_int_equal(w.count, 4);
    assert_string_equal(w.word[0], "a");
    assert_string_equal(w.word[1], "b c\n\"");
    assert_string_equal(w.word[2], "d\\e");
    assert_string_equal(w.word[3], "fg hi");
    words_free(&w);
    assert_int_equal(words_split(&w, "", &err), 0);
    assert_int_equal(w.count, 0);
    words_free(&w);
    assert_int_equal(words_split(&w, "a \"b", &err), -EINVAL);
    words_free(&w);
    char many[2 * PARSE_WORDS + 3];
    for (unsigned i = 0; i < PARSE_WORDS + 1; i++) {
        memcpy(many + 2 * i, "x ", 3);
    }
    assert_int_equal(words_split(&w, many, &err), -EINVAL);
    words_free(&w);
}

static bool reg(void *opaque, const char *name, uint64_t *val)
{
    *val = 0x1000;
    return !strcmp(name, "sp");
}

static uint64_t value(const char *text)
{
    struct err err;
    uint64_t val;
    assert_int_equal(parse_expr(text, reg, NULL, &val, &err), 0);
    return val;
}

static void fails(const char *text, const char *why)
{
    struct err err;
    uint64_t val;
    assert_int_equal(parse_expr(text, reg, NULL, &val, &err), -EINVAL);
    assert_string_equal(err.text, why);
}

static void computes(void **state)
{
    assert_int_equal(value("1 + 2*3"), 7);
    assert_int_equal(value("(1+2)*3"), 9);
    assert_int_equal(value("0x10-010"), 8);
    assert_int_equal(value("-1"), UINT64_MAX);
    assert_int_equal(value("~0 & 0xff"), 0xff);
    assert_int_equal(value("'A' + '\\n'"), 75);
    assert_int_equal(value("$sp + 4"), 0x1004);
    assert_int_equal(value("7 % 4 ^ 1"), 2);
    fails("1/0", "division by zero");
    fails("", "unexpected end of expression");
    fails("$foo", "unknown register");
    fails("(1", "')' expected");
    fails("1 x", "invalid char in expression");
    fails("'ab'", "character constant expected");
    fails("99999999999999999999", "number too large");
    char deep[300];
    memset(deep, '(', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = 0;
    fails(deep, "the expression is nested too deeply");
}

static void formats(void **state)
{
    struct err err;
    struct parse_format f = {.count = 1, .letter = 'x'};
    assert_int_equal(parse_format(NULL, &f, &err), 0);
    assert_int_equal(parse_format("10dh", &f, &err), 0);
    assert_int_equal(f.count, 10);
    assert_int_equal(f.letter, 'd');
    assert_int_equal(f.size, 2);
    assert_int_equal(parse_format("s", &f, &err), -EINVAL);
    assert_int_equal(parse_format("99999999999x", &f, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits),
        cmocka_unit_test(computes),
        cmocka_unit_test(formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
