/* Words and expressions of commands. */
#ifndef MONITOR_PARSE_H
#define MONITOR_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define PARSE_WORDS 32

struct words {
    char *text; /* that `word` points into */
    char *word[PARSE_WORDS];
    unsigned count;
};

/* Divides at blanks. A word in double quotes may have blanks; there \n, \r, \t, \\, \" and \' are
 * as in C. -EINVAL with a sentence: a quote is open, or there are too many words. */
int words_split(struct words *w, const char *text, struct err *err);
void words_free(struct words *w);

/* "0x10 + (2 * $rax) - 'a'" with the operators of C; `reg` gives a register's value, false: there
 * is none of that name. All of `text` must be one expression. */
int parse_expr(const char *text, bool (*reg)(void *opaque, const char *name, uint64_t *val),
               void *opaque, uint64_t *val, struct err *err);

/* "/10xw": how many, how shown (x d u o c i), how large: 1, 2, 4 or 8 bytes. */
struct parse_format {
    unsigned count, size;
    char letter;
};
/* `f` has the presets; size 0: it says none, and letters that imply one set it. `text` may be NULL.
 */
int parse_format(const char *text, struct parse_format *f, struct err *err);

#endif
