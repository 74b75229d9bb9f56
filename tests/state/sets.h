/* All field sets there are: what -device can make, what boards are built of, and what is inside. */
#ifndef TESTS_STATE_SETS_H
#define TESTS_STATE_SETS_H

#include <stdlib.h>

#include "board/boards.h"
#include "core/device.h"
#include "core/machine.h"
#include "dev/firmware/pflash.h"
#include "state/field.h"

enum { SETS_MAX = 256 };

struct sets {
    const struct field_set *set[SETS_MAX];
    size_t count;
};

static inline void sets_add(struct sets *s, const struct field_set *set)
{
    for (size_t i = 0; set && i < s->count; i++) {
        if (s->set[i] == set) {
            return;
        }
    }
    if (!set) {
        return;
    }
    if (s->count == SETS_MAX) {
        abort();
    }
    s->set[s->count++] = set;
    for (size_t i = 0; i < set->count; i++) {
        if (set->fields[i].sub) {
            sets_add(s, set->fields[i].sub);
        }
    }
}

static inline void sets_all(struct sets *s)
{
    s->count = 0;
    for (size_t i = 0; boards[i]; i++) {
        sets_add(s, boards[i]->state);
    }
    for (size_t i = 0; dev_types[i]; i++) {
        sets_add(s, dev_types[i]->state);
    }
    sets_add(s, pflash_type.state);
}

#endif
