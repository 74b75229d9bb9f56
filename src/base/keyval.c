/* Option lists and the values in them. */
#include "base/keyval.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"

static void keyval_push(struct keyval *kv, char *key, char *value, bool bare)
{
    kv->pairs = alloc_resize(kv->pairs, kv->count + 1, sizeof(*kv->pairs));
    kv->pairs[kv->count++] = (struct keyval_pair){key, value, bare};
}

void keyval_add(struct keyval *kv, const char *key, const char *value)
{
    keyval_push(kv, alloc_text(key), alloc_text(value), false);
}

/* One word up to a single comma, with double commas folded; *text moves past it. */
static char *keyval_word(const char **text)
{
    char *word = alloc_zero(strlen(*text) + 1);
    size_t n = 0;
    const char *p = *text;
    while (*p) {
        if (*p == ',') {
            if (p[1] != ',') {
                break;
            }
            p++;
        }
        word[n++] = *p++;
    }
    *text = *p ? p + 1 : p;
    return word;
}

int keyval_parse(struct keyval *kv, const char *text, const char *first_key, struct err *err)
{
    bool first = true;
    while (*text) {
        char *word = keyval_word(&text);
        char *eq = strchr(word, '=');
        if (eq == word) {
            int ret = err_set(err, EINVAL, "'%s' has no name before the '='", word);
            free(word);
            return ret;
        }
        if (eq) {
            *eq = 0;
            keyval_push(kv, alloc_text(word), alloc_text(eq + 1), false);
        } else if (first && first_key) {
            keyval_push(kv, alloc_text(first_key), alloc_text(word), true);
        } else if (*word) {
            keyval_push(kv, alloc_text(word), alloc_text("on"), true);
        }
        free(word);
        first = false;
    }
    return 0;
}

void keyval_free(struct keyval *kv)
{
    for (size_t i = 0; i < kv->count; i++) {
        free(kv->pairs[i].key);
        free(kv->pairs[i].value);
    }
    free(kv->pairs);
    *kv = (struct keyval){0};
}

const char *keyval_get(const struct keyval *kv, const char *key)
{
    for (size_t i = kv->count; i > 0; i--) {
        if (!strcmp(kv->pairs[i - 1].key, key)) {
            return kv->pairs[i - 1].value;
        }
    }
    return NULL;
}

void keyval_remove(struct keyval *kv, const char *key)
{
    size_t kept = 0;
    for (size_t i = 0; i < kv->count; i++) {
        if (strcmp(kv->pairs[i].key, key)) {
            kv->pairs[kept++] = kv->pairs[i];
        } else {
            free(kv->pairs[i].key);
            free(kv->pairs[i].value);
        }
    }
    kv->count = kept;
}

static bool is_help(const char *word)
{
    return !strcmp(word, "help") || !strcmp(word, "?");
}

bool keyval_wants_help(const struct keyval *kv)
{
    for (size_t i = 0; i < kv->count; i++) {
        const struct keyval_pair *p = &kv->pairs[i];
        if (p->bare && (is_help(p->key) || is_help(p->value))) {
            return true;
        }
    }
    return false;
}

int value_bool(const char *what, const char *text, bool *out, struct err *err)
{
    static const char *const yes[] = {"on", "yes", "true", "y"};
    static const char *const no[] = {"off", "no", "false", "n"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (!strcmp(text, yes[i]) || !strcmp(text, no[i])) {
            *out = !strcmp(text, yes[i]);
            return 0;
        }
    }
    return err_set(err, EINVAL, "%s: '%s' is neither 'on' nor 'off'", what, text);
}

int value_u64(const char *what, const char *text, uint64_t max, uint64_t *out, struct err *err)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (end == text || *end || errno || strchr(text, '-')) {
        return err_set(err, EINVAL, "%s: '%s' is not a number", what, text);
    }
    if (v > max) {
        return err_set(err, ERANGE, "%s: %s is too large, the most is %llu", what, text,
                       (unsigned long long)max);
    }
    *out = v;
    return 0;
}

static int size_shift(char c)
{
    static const char suffixes[] = "bkmgtpe";
    if (c >= 'A' && c <= 'Z') {
        c = (char)(c - 'A' + 'a');
    }
    const char *at = c ? strchr(suffixes, c) : NULL;
    return at ? (int)(at - suffixes) * 10 : -1;
}

int value_size(const char *what, const char *text, uint64_t unit, uint64_t *out, struct err *err)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (end == text || errno || strchr(text, '-')) {
        return err_set(err, EINVAL, "%s: '%s' is not a size such as 512M", what, text);
    }
    uint64_t factor = unit;
    if (*end) {
        int shift = size_shift(*end);
        if (shift < 0 || end[1]) {
            return err_set(err, EINVAL,
                           "%s: '%s' is not a size; valid suffixes are b, k, M, G, T, P and E",
                           what, text);
        }
        factor = 1ull << shift;
    }
    if (!mul_ok(v, factor, out)) {
        return err_set(err, ERANGE, "%s: '%s' is too large", what, text);
    }
    return 0;
}
