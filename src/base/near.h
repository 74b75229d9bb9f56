/* The nearest word, for error sentences: "unknown X; the nearest is Y". */
#ifndef BASE_NEAR_H
#define BASE_NEAR_H

#include <stddef.h>

/* Smallest edit distance; the first of equals. "" when the list is empty. */
const char *near_pick(const char *word, const char *const *names, size_t count);
size_t near_distance(const char *a, const char *b);

#endif
