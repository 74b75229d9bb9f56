/*
 * The monitor's line editor and the parsers of its commands. Input: bytes as a client types them;
 * each line that comes out is divided into words, taken as an expression and as a format.
 */
#include <string.h>

#include "base/err.h"
#include "monitor/line.h"
#include "monitor/parse.h"
#include "tests/fuzz/fuzz.h"

static void put(void *opaque, const char *bytes, size_t len)
{
    *(size_t *)opaque += len;
}

static bool reg(void *opaque, const char *name, uint64_t *val)
{
    *val = strlen(name);
    return *val < 4;
}

static void entered(void *opaque, const char *text)
{
    struct err err;
    struct words w;
    struct parse_format f = {.count = 1, .letter = 'x'};
    uint64_t val;
    words_split(&w, text, &err);
    for (unsigned i = 0; i < w.count; i++) {
        *(size_t *)opaque += strlen(w.word[i]);
    }
    words_free(&w);
    parse_expr(text, reg, NULL, &val, &err);
    parse_format(text, &f, &err);
}

static void complete(void *opaque, const char *text, struct line_matches *m)
{
    const char *space = strrchr(text, ' ');
    static const char *const words[] = {"stop", "status", "system_reset", "sendkey"};
    for (unsigned i = 0; i < 4; i++) {
        const char *word = space ? space + 1 : text;
        if (!strncmp(words[i], word, strlen(word))) {
            line_add_match(m, words[i]);
        }
    }
}

static const struct line_user user = {put, entered, complete};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct line line;
    size_t seen = 0;
    line_init(&line, "> ", &user, &seen);
    line_rx(&line, (const char *)data, size);
    line_free(&line);
    return 0;
}
