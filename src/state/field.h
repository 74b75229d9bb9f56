/*
 * Field tables: what a struct consists of, by name. One table per struct is read by whatever
 * shows, compares, saves or loads it. Formats are name plus type, never memory layout.
 * Not yet here: save and load.
 */
#ifndef STATE_FIELD_H
#define STATE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf;

enum field_flag {
    FIELD_GUEST = 1,   /* the guest can see it */
    FIELD_HOST = 2,    /* means something on this host only: never saved */
    FIELD_DERIVED = 4, /* computed again from the others after loading */
    FIELD_BOOL = 8,
    FIELD_BYTES = 16, /* shown as a row of bytes */
};

struct field {
    const char *name;
    uint32_t offset;
    uint16_t size; /* of one element: 1, 2, 4 or 8 */
    uint16_t flags;
    uint32_t count;
    uint32_t since; /* version of the set that first has it */
};

struct field_set {
    const char *name;
    const struct field *fields;
    size_t count;
    size_t size; /* of the struct */
    uint32_t version;
};

#define FIELD_ELEM(s, m) sizeof(((s *)0)->m)
#define FIELD(s, m, fl)                                                                            \
    {                                                                                              \
#m, offsetof(s, m), FIELD_ELEM(s, m), fl, 1, 1                                             \
    }
#define FIELD_ARRAY(s, m, fl)                                                                      \
    {                                                                                              \
#m, offsetof(s, m), FIELD_ELEM(s, m[0]), fl, FIELD_ELEM(s, m) / FIELD_ELEM(s, m[0]), 1     \
    }

const struct field *field_find(const struct field_set *set, const char *name);
uint64_t field_get(const struct field *f, const void *obj, uint32_t index);
void field_put(const struct field *f, void *obj, uint32_t index, uint64_t value);
/* "name=value" words, one line per struct. */
void field_print(const struct field_set *set, const void *obj, struct strbuf *out);
/* The first field in which a and b differ (HOST fields aside), or NULL. */
const struct field *field_compare(const struct field_set *set, const void *a, const void *b);

#endif
