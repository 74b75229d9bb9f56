/* The line editor: bytes in, lines and bytes out. */
#include "monitor/line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "base/unit_test.h"

struct rig {
    struct line line;
    struct strbuf out;
    char last[LINE_MAX_LEN + 1];
    unsigned lines;
};

static void rig_put(void *opaque, const char *bytes, size_t len)
{
    strbuf_add_bytes(&((struct rig *)opaque)->out, bytes, len);
}

static void rig_entered(void *opaque, const char *line)
{
    struct rig *r = opaque;
    strcpy(r->last, line);
    r->lines++;
    line_prompt(&r->line);
}

static void rig_complete(void *opaque, const char *text, struct line_matches *m)
{
    static const char *const words[] = {"stop", "status", "system_reset"};
    const char *space = strrchr(text, ' '), *word = space ? space + 1 : text;
    for (unsigned i = 0; i < 3; i++) {
        if (!strncmp(words[i], word, strlen(word))) {
            line_add_match(m, words[i]);
        }
    }
}

static const struct line_user rig_user = {rig_put, rig_entered, rig_complete};

static struct rig *rig_new(void)
{
    struct rig *r = calloc(1, sizeof(*r));
    line_init(&r->line, "> ", &rig_user, r);
    return r;
}

static void rig_free(struct rig *r)
{
    line_free(&r->line);
    strbuf_free(&r->out);
    free(r);
}

static void type(struct rig *r, const char *keys)
{
    line_rx(&r->line, keys, strlen(keys));
}

static void gives(const char *keys, const char *line)
{
    struct rig *r = rig_new();
    type(r, keys);
    assert_string_equal(r->last, line);
    rig_free(r);
}

static void echoes(void **state)
{
    struct rig *r = rig_new();
    type(r, "ab\r");
    assert_string_equal(strbuf_text(&r->out), "ab\r\n> ");
    assert_string_equal(r->last, "ab");
    rig_free(r);
}

static void ends_of_line(void **state)
{
    struct rig *r = rig_new();
    type(r, "a\r\nb\nc\r\r");
    assert_int_equal(r->lines, 4);
    rig_free(r);
}

static void edits(void **state)
{
    gives("abc\x7f\x08x\r", "ax");
    gives("bc\x01"
          "a\x05"
          "d\r",
          "abcd");
    gives("abc\033[D\033[DX\r", "aXbc");
    gives("abc\033[H\033[3~\033[F!\r", "bc!");
    gives("abc\x02\x02\x0b\r", "a");
    gives("abc\x02\x15\r", "c");
    gives("one two  \x17three\r", "one three");
    gives("abc\033OHx\033OFy\r", "xabcy");
    gives("ab\x01\x04\r", "b");
    gives("a\033[1;5Cb\r", "ab");
    gives("a\x07"
          "b\r",
          "ab");
}

static void keeps_history(void **state)
{
    gives("one\rtwo\r\033[A\033[A\r", "one");
    gives("one\rtwo\r\033[A\033[A\033[B\r", "two");
    gives("one\rdraft\x10\x0e!\r", "draft!");
    gives("one\r\033[A\033[A\033[A2\r", "one2");
    gives("\033[A\033[Bx\r", "x");
    struct rig *r = rig_new();
    for (unsigned i = 0; i < 3 * LINE_HISTORY; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%u\r%u\r", i, i);
        type(r, text);
    }
    assert_int_equal(r->line.history_count, LINE_HISTORY);
    assert_string_equal(r->line.history[LINE_HISTORY - 1], "191");
    rig_free(r);
}

static void completes(void **state)
{
    gives("sy\t\r", "system_reset ");
    gives("sto\tx\r", "stop x");
    gives("x st\t\r", "x st");
    gives("q\t\r", "q");
    struct rig *r = rig_new();
    type(r, "st\t");
    assert_non_null(strstr(strbuf_text(&r->out), "stop  status\r\n> st"));
    rig_free(r);
}

static void bounds_lines(void **state)
{
    struct rig *r = rig_new();
    for (unsigned i = 0; i < 3 * LINE_MAX_LEN; i++) {
        type(r, "x");
    }
    type(r, "\x01y\r");
    assert_int_equal(strlen(r->last), LINE_MAX_LEN);
    assert_int_equal(r->last[0], 'x');
    rig_free(r);
}

static void secrets_are_stars(void **state)
{
    struct rig *r = rig_new();
    type(r, "stop\r");
    strbuf_clear(&r->out);
    line_ask(&r->line, "Password: ");
    line_prompt(&r->line);
    type(r, "xyw\033[D");
    type(r, "z\t\020\r"); /* no completion, no history */
    assert_string_equal(r->last, "xyzw");
    assert_null(strstr(strbuf_text(&r->out), "x"));
    assert_non_null(strstr(strbuf_text(&r->out), "Password: ***"));
    assert_null(strstr(strbuf_text(&r->out), "stop"));
    type(r, "\020\r"); /* what was before it */
    assert_string_equal(r->last, "stop");
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echoes),
        cmocka_unit_test(ends_of_line),
        cmocka_unit_test(edits),
        cmocka_unit_test(keeps_history),
        cmocka_unit_test(completes),
        cmocka_unit_test(bounds_lines),
        cmocka_unit_test(secrets_are_stars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
