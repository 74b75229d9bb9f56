/* Words, expressions and formats; everything is bounded, as whoever types may be hostile. */
#include "monitor/parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

/* ---- Words ---- */

static char unescape(char c)
{
    return c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
}

/* From behind the opening quote; NULL: there is no closing one. */
static const char *take_quoted(const char *p, char **to)
{
    while (*p != '"') {
        if (*p == '\\' && p[1]) {
            *(*to)++ = unescape(p[1]);
            p += 2;
        } else if (*p) {
            *(*to)++ = *p++;
        } else {
            return NULL;
        }
    }
    return p + 1;
}

int words_split(struct words *w, const char *text, struct err *err)
{
    w->count = 0;
    w->text = alloc_zero(strlen(text) * 2 + 1);
    char *to = w->text;
    for (const char *p = text + strspn(text, " \t"); *p; p += strspn(p, " \t")) {
        if (w->count == PARSE_WORDS) {
            return err_set(err, EINVAL, "a command has at most %u words", PARSE_WORDS);
        }
        w->word[w->count++] = to;
        while (p && *p && *p != ' ' && *p != '\t') {
            if (*p == '"') {
                p = take_quoted(p + 1, &to);
            } else {
                *to++ = *p++;
            }
        }
        if (!p) {
            return err_set(err, EINVAL, "a quote is not closed");
        }
        *to++ = 0;
    }
    return 0;
}

void words_free(struct words *w)
{
    free(w->text);
    *w = (struct words){0};
}

/* ---- Expressions ---- */

enum { EXPR_DEPTH = 64 };

struct expr {
    const char *p;
    unsigned depth;
    bool (*reg)(void *, const char *, uint64_t *);
    void *opaque;
    struct err *err;
    int ret; /* the first error */
};

static void fail(struct expr *e, const char *why)
{
    if (!e->ret) {
        e->ret = err_set(e->err, EINVAL, "%s", why);
    }
}

static void skip(struct expr *e)
{
    e->p += strspn(e->p, " \t");
}

static bool eat(struct expr *e, char c)
{
    if (*e->p != c) {
        return false;
    }
    e->p++;
    skip(e);
    return true;
}

static uint64_t expr_sum(struct expr *e);

static uint64_t expr_register(struct expr *e)
{
    char name[32];
    size_t n = strspn(e->p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.");
    uint64_t val = 0;
    if (n >= sizeof(name)) {
        fail(e, "unknown register");
        return 0;
    }
    memcpy(name, e->p, n);
    name[n] = 0;
    e->p += n;
    if (!e->reg || !e->reg(e->opaque, name, &val)) {
        fail(e, "unknown register");
    }
    return val;
}

static uint64_t expr_char(struct expr *e)
{
    char c = *e->p ? *e->p++ : 0;
    if (c == '\\' && *e->p) {
        c = unescape(*e->p++);
    }
    if (*e->p++ != '\'') {
        e->p--;
        fail(e, "character constant expected");
    }
    return (unsigned char)c;
}

static uint64_t expr_number(struct expr *e)
{
    char *end;
    errno = 0;
    uint64_t val = strtoull(e->p, &end, 0);
    if (end == e->p || *e->p == '+' || *e->p == '-') {
        fail(e, *e->p ? "invalid char in expression" : "unexpected end of expression");
        return 0;
    }
    if (errno == ERANGE) {
        fail(e, "number too large");
    }
    e->p = end;
    return val;
}

static uint64_t expr_unary(struct expr *e)
{
    uint64_t val = 0;
    if (e->depth == EXPR_DEPTH) {
        fail(e, "the expression is nested too deeply");
    }
    if (e->ret) {
        return 0;
    }
    e->depth++;
    if (eat(e, '+')) {
        val = expr_unary(e);
    } else if (eat(e, '-')) {
        val = 0 - expr_unary(e);
    } else if (eat(e, '~')) {
        val = ~expr_unary(e);
    } else if (eat(e, '(')) {
        val = expr_sum(e);
        if (!eat(e, ')')) {
            fail(e, "')' expected");
        }
    } else if (*e->p == '\'') {
        e->p++;
        val = expr_char(e);
    } else if (*e->p == '$') {
        e->p++;
        val = expr_register(e);
    } else {
        val = expr_number(e);
    }
    e->depth--;
    skip(e);
    return val;
}

static uint64_t expr_product(struct expr *e)
{
    uint64_t val = expr_unary(e);
    while (!e->ret && *e->p && strchr("*/%", *e->p)) {
        char op = *e->p;
        eat(e, op);
        uint64_t by = expr_unary(e);
        if (op == '*') {
            val *= by;
        } else if (!by) {
            fail(e, "division by zero");
        } else {
            val = op == '/' ? val / by : val % by;
        }
    }
    return val;
}

static uint64_t expr_bits(struct expr *e)
{
    uint64_t val = expr_product(e);
    while (!e->ret && *e->p && strchr("&|^", *e->p)) {
        char op = *e->p;
        eat(e, op);
        uint64_t by = expr_product(e);
        val = op == '&' ? val & by : op == '|' ? val | by : val ^ by;
    }
    return val;
}

/* As published, & | and ^ bind more tightly than + and -. */
static uint64_t expr_sum(struct expr *e)
{
    uint64_t val = expr_bits(e);
    while (!e->ret && (*e->p == '+' || *e->p == '-')) {
        char op = *e->p;
        eat(e, op);
        uint64_t by = expr_bits(e);
        val = op == '+' ? val + by : val - by;
    }
    return val;
}

int parse_expr(const char *text, bool (*reg)(void *, const char *, uint64_t *), void *opaque,
               uint64_t *val, struct err *err)
{
    struct expr e = {.p = text, .reg = reg, .opaque = opaque, .err = err};
    skip(&e);
    *val = expr_sum(&e);
    if (!e.ret && *e.p) {
        fail(&e, "invalid char in expression");
    }
    return e.ret;
}

/* ---- Formats ---- */

enum { FORMAT_MAX = 65536 };

static unsigned format_size(char c)
{
    return c == 'b' ? 1 : c == 'h' ? 2 : c == 'w' ? 4 : c == 'g' ? 8 : 0;
}

int parse_format(const char *text, struct parse_format *f, struct err *err)
{
    const char *p = text ? text : "";
    unsigned count = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        count = count * 10 + (unsigned)(*p - '0');
        if (count > FORMAT_MAX) {
            return err_set(err, EINVAL, "at most %u items are shown at once", FORMAT_MAX);
        }
    }
    f->count = count ? count : f->count;
    for (; *p; p++) {
        if (strchr("xduoci", *p)) {
            f->letter = *p;
        } else if (format_size(*p)) {
            f->size = format_size(*p);
        } else {
            return err_set(err, EINVAL, "invalid char in format: '%c'", *p);
        }
    }
    return 0;
}
