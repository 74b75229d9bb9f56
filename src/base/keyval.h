/*
 * Option lists as users of emulators write them: "first,key=value,flag,other=a,,b".
 * Two commas are one comma inside a value. A word without '=' that is not the first is a
 * boolean: "key" is key=on, "nokey" is key=off where the caller asks for that.
 */
#ifndef BASE_KEYVAL_H
#define BASE_KEYVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

struct keyval_pair {
    char *key, *value;
    bool bare; /* written without '=' */
};

struct keyval {
    struct keyval_pair *pairs;
    size_t count;
};

/* `first_key`: the key of a first word without '=', or NULL if it is like the others. */
int keyval_parse(struct keyval *kv, const char *text, const char *first_key, struct err *err);
void keyval_free(struct keyval *kv);
const char *keyval_get(const struct keyval *kv, const char *key); /* the last one wins; or NULL */
void keyval_add(struct keyval *kv, const char *key, const char *value);
void keyval_remove(struct keyval *kv, const char *key);
bool keyval_wants_help(const struct keyval *kv); /* "help" or "?" as a bare word */

/* Values. `what` is the name for the error sentence ("-m", "-device x: iobase"). */
int value_bool(const char *what, const char *text, bool *out, struct err *err);
int value_u64(const char *what, const char *text, uint64_t max, uint64_t *out, struct err *err);
/* With suffix b k M G T P E; a number without suffix is multiplied by `unit`. */
int value_size(const char *what, const char *text, uint64_t unit, uint64_t *out, struct err *err);

#endif
