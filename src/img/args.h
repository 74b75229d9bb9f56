/*
 * Options of a command: one table each, from which the parser, the help and the check of the
 * manual are made. Options and operands may come in any order, as users of the published tools
 * expect; long names may be cut short.
 */
#ifndef IMG_ARGS_H
#define IMG_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct err;

struct arg_row {
    const char *name; /* long, without dashes; what the code asks for */
    char letter;      /* 0: has none */
    const char *arg;  /* NULL: takes none */
    const char *help;
};

struct arg_given {
    const struct arg_row *row;
    const char *value; /* NULL: takes none */
};

struct args {
    struct arg_given *given; /* in order */
    size_t count;
    char **operands;
    size_t operand_count;
};

/* argv[0] is not looked at. */
int args_parse(struct args *a, const struct arg_row *rows, int argc, char **argv, struct err *err);
void args_free(struct args *a);
bool args_has(const struct args *a, const char *name);
const char *args_text(const struct args *a, const char *name); /* the last one; or NULL */
void args_print(FILE *out, const struct arg_row *rows);

#endif
