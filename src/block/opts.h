/* Lists of options with dotted names. */
#ifndef BLOCK_OPTS_H
#define BLOCK_OPTS_H

#include <jansson.h>

#include "block/driver.h"

/* All "prefix.x" as "x". */
void opts_part(struct keyval *out, const struct keyval *kv, const char *prefix);
bool opts_has_part(const struct keyval *kv, const char *prefix); /* or "prefix" itself */
void opts_set(struct keyval *kv, const char *key, const char *value);
void opts_copy(struct keyval *out, const struct keyval *kv); /* kv NULL: nothing */
/* Every key must be in one of the lists (type "node": and what is below; "x.*": all below). */
int opts_check(const struct keyval *kv, const struct block_opt *list, const struct block_opt *more,
               const char *what, struct err *err);

#endif
