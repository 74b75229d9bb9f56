/* Edit distance (Levenshtein, transposition counts as one); words are cut at 48 bytes. */
#include "base/near.h"

#include <stdint.h>
#include <string.h>

#define NEAR_MAX 48

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

size_t near_distance(const char *a, const char *b)
{
    size_t la = strnlen(a, NEAR_MAX), lb = strnlen(b, NEAR_MAX);
    size_t row[3][NEAR_MAX + 1];
    size_t *before = row[0], *prev = row[1], *cur = row[2];
    for (size_t j = 0; j <= lb; j++) {
        prev[j] = j;
        before[j] = j;
    }
    for (size_t i = 1; i <= la; i++) {
        cur[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            cur[j] = min3(prev[j] + 1, cur[j - 1] + 1, prev[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < cur[j]) {
                cur[j] = before[j - 2] + 1;
            }
        }
        size_t *oldest = before;
        before = prev;
        prev = cur;
        cur = oldest;
    }
    return prev[lb];
}

/* A word cut short counts as one change per three letters that are missing. */
static size_t distance(const char *word, const char *name)
{
    size_t n = strlen(word);
    return n > 2 && !strncmp(word, name, n) ? (strlen(name) - n + 2) / 3
                                            : near_distance(word, name);
}

const char *near_pick(const char *word, const char *const *names, size_t count)
{
    const char *best = "";
    size_t best_d = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, names[i]);
        if (d < best_d) {
            best_d = d;
            best = names[i];
        }
    }
    return best;
}
