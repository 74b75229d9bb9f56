/* Options of a command. The C library's getopt finds them; what it finds is kept in order. */
#include "img/args.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/near.h"

#define ROWS_MAX 48

struct parser {
    struct option longs[ROWS_MAX + 1];
    char letters[2 * ROWS_MAX + 2];
    size_t count;
};

static void parser_fill(struct parser *p, const struct arg_row *rows)
{
    char *at = p->letters;
    *at++ = ':';
    for (; rows[p->count].name && p->count < ROWS_MAX; p->count++) {
        const struct arg_row *r = &rows[p->count];
        p->longs[p->count] = (struct option){
            .name = r->name,
            .has_arg = r->arg ? required_argument : no_argument,
            .val = 256 + (int)p->count,
        };
        if (r->letter) {
            *at++ = r->letter;
            if (r->arg) {
                *at++ = ':';
            }
        }
    }
    *at = 0;
}

static const struct arg_row *row_found(const struct arg_row *rows, int c)
{
    if (c >= 256) {
        return &rows[c - 256];
    }
    while (rows->name && rows->letter != c) {
        rows++;
    }
    return rows->name ? rows : NULL;
}

static int args_unknown(const struct arg_row *rows, size_t count, const char *word, struct err *err)
{
    const char *names[ROWS_MAX];
    if (strncmp(word, "--", 2) || !word[2]) {
        return err_set(err, EINVAL, "unknown option -%c; --help lists those there are", optopt);
    }
    for (size_t i = 0; i < count; i++) {
        names[i] = rows[i].name;
    }
    char *bare = alloc_text(word + 2);
    bare[strcspn(bare, "=")] = 0;
    int ret = err_set(err, EINVAL, "unknown option '--%s'; the nearest is '--%s'", bare,
                      near_pick(bare, names, count));
    free(bare);
    return ret;
}

static int args_refuse(const struct arg_row *rows, const struct parser *p, int c, char **argv,
                       struct err *err)
{
    const struct arg_row *r = optopt ? row_found(rows, optopt) : NULL;
    if (c == ':' && r) {
        return err_set(err, EINVAL, "option %s needs a value: %s", argv[optind - 1], r->arg);
    }
    if (r && !r->arg) {
        return err_set(err, EINVAL, "option '%s' takes no value", argv[optind - 1]);
    }
    return args_unknown(rows, p->count, argv[optind - 1], err);
}

int args_parse(struct args *a, const struct arg_row *rows, int argc, char **argv, struct err *err)
{
    struct parser p = {.count = 0};
    int c;
    *a = (struct args){NULL};
    parser_fill(&p, rows);
    opterr = 0;
    optind = 0; /* starts anew */
    while ((c = getopt_long(argc, argv, p.letters, p.longs, NULL)) != -1) {
        if (c == '?' || c == ':') {
            return args_refuse(rows, &p, c, argv, err);
        }
        const struct arg_row *r = row_found(rows, c);
        a->given = alloc_resize(a->given, a->count + 1, sizeof(*a->given));
        a->given[a->count++] = (struct arg_given){.row = r, .value = r->arg ? optarg : NULL};
    }
    a->operands = argv + optind;
    a->operand_count = (size_t)(argc - optind);
    return 0;
}

void args_free(struct args *a)
{
    free(a->given);
    *a = (struct args){NULL};
}

static const struct arg_given *args_find(const struct args *a, const char *name)
{
    for (size_t i = a->count; i--;) {
        if (!strcmp(a->given[i].row->name, name)) {
            return &a->given[i];
        }
    }
    return NULL;
}

bool args_has(const struct args *a, const char *name)
{
    return args_find(a, name) != NULL;
}

const char *args_text(const struct args *a, const char *name)
{
    const struct arg_given *g = args_find(a, name);
    return g ? g->value : NULL;
}

void args_print(FILE *out, const struct arg_row *rows)
{
    for (const struct arg_row *r = rows; r->name; r++) {
        char head[96];
        char letter[8] = "    ";
        if (r->letter) {
            snprintf(letter, sizeof(letter), "-%c, ", r->letter);
        }
        snprintf(head, sizeof(head), "%s--%s%s%s", letter, r->name, r->arg ? " " : "",
                 r->arg ? r->arg : "");
        fprintf(out, "  %-28s %s\n", head, r->help);
    }
}
