/* For tests of field tables: structs of a set that belong to no machine, with random values. */
#ifndef TESTS_STATE_SHAPE_H
#define TESTS_STATE_SHAPE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "state/field.h"

static inline uint64_t shape_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static inline bool shape_is_count(const struct field_set *set, const struct field *f)
{
    for (size_t i = 0; i < set->count; i++) {
        if ((set->fields[i].flags & FIELD_COUNTED) && set->fields[i].count_at == f->offset) {
            return true;
        }
    }
    return false;
}

/* Gives the pointers of a struct of zeroes something to point to, here and inside. */
static inline void shape_make(const struct field_set *set, void *obj)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        unsigned n = 3;
        if (f->flags & FIELD_COUNTED) {
            memcpy((char *)obj + f->count_at, &n, sizeof(n));
        }
        for (unsigned k = 0; (f->flags & FIELD_EACH) && k < n; k++) {
            void *at = calloc(1, f->sub->size);
            memcpy((char *)obj + f->offset + k * sizeof(at), &at, sizeof(at));
        }
        if (f->flags & FIELD_POINTER) {
            void *at = calloc(n, f->sub ? f->sub->size : f->size);
            memcpy((char *)obj + f->offset, &at, sizeof(at));
        }
        for (uint32_t k = 0; f->sub && k < field_count(f, obj); k++) {
            shape_make(f->sub, field_at(f, obj, k));
        }
    }
}

static inline void shape_free(const struct field_set *set, void *obj)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        for (uint32_t k = 0; f->sub && k < field_count(f, obj); k++) {
            shape_free(f->sub, field_at(f, obj, k));
            if (f->flags & FIELD_EACH) {
                free(field_at(f, obj, k));
            }
        }
        if (f->flags & FIELD_POINTER) {
            free(field_at(f, obj, 0));
        }
    }
}

static inline uint64_t shape_value(const struct field *f, uint64_t *seed)
{
    uint64_t v = shape_random(seed);
    uint64_t most = f->size < 8 ? (1ull << 8 * f->size) - 1 : UINT64_MAX;
    uint64_t max = f->flags & FIELD_BOOL ? 1 : f->max ? f->max : most;
    return max - f->min == UINT64_MAX ? v : f->min + v % (max - f->min + 1);
}

/* Random values that loading accepts, in all that has one of the flags. */
static inline void shape_fill(const struct field_set *set, void *obj, unsigned flags,
                              uint64_t *seed)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        if ((f->flags & FIELD_NOT_SAVED) || shape_is_count(set, f)) {
            continue;
        }
        for (uint32_t k = 0; k < field_count(f, obj); k++) {
            if (f->sub) {
                shape_fill(f->sub, field_at(f, obj, k), flags, seed);
            } else if (f->flags & flags) {
                field_put(f, obj, k, shape_value(f, seed));
            }
        }
    }
}

/* What both sides of a transfer are made with. */
static inline void shape_same_config(const struct field_set *set, void *to, const void *from)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        for (uint32_t k = 0; k < field_count(f, to); k++) {
            if (f->sub) {
                shape_same_config(f->sub, field_at(f, to, k), field_at(f, from, k));
            } else if (f->flags & FIELD_CONFIG) {
                field_put(f, to, k, field_get(f, from, k));
            }
        }
    }
}

#endif
