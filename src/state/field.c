/* Field tables: reading, writing, showing, comparing. Saving and loading: field_wire.c. */
#include "state/field.h"

#include <string.h>

#include "base/strbuf.h"

const struct field *field_find(const struct field_set *set, const char *name)
{
    for (size_t i = 0; i < set->count; i++) {
        if (!strcmp(set->fields[i].name, name)) {
            return &set->fields[i];
        }
    }
    return NULL;
}

static char *pointer_at(const char *at)
{
    char *to;
    memcpy(&to, at, sizeof(to));
    return to;
}

uint32_t field_count(const struct field *f, const void *obj)
{
    unsigned n = f->count;
    if (f->flags & FIELD_POINTER) {
        n = pointer_at((const char *)obj + f->offset) != NULL;
    }
    if (n && (f->flags & FIELD_COUNTED)) {
        memcpy(&n, (const char *)obj + f->count_at, sizeof(n));
    }
    return n;
}

void *field_at(const struct field *f, const void *obj, uint32_t index)
{
    char *at = (char *)obj + f->offset;
    if (f->flags & FIELD_EACH) {
        return pointer_at(at + index * sizeof(char *));
    }
    if (f->flags & FIELD_POINTER) {
        at = pointer_at(at);
    }
    return at + index * (f->sub ? f->sub->size : f->size);
}

uint64_t field_get(const struct field *f, const void *obj, uint32_t index)
{
    uint64_t v = 0; /* the host is little endian: see docs/decisions */
    memcpy(&v, field_at(f, obj, index), f->size);
    return v;
}

void field_put(const struct field *f, void *obj, uint32_t index, uint64_t value)
{
    memcpy(field_at(f, obj, index), &value, f->size);
}

static void field_print_numbers(const struct field *f, const void *obj, struct strbuf *out)
{
    uint32_t count = field_count(f, obj);
    bool row = f->size == 1 && count > 1;
    strbuf_add(out, " %s=", f->name);
    for (uint32_t n = 0; n < count; n++) {
        unsigned long long v = field_get(f, obj, n);
        strbuf_add(out, row ? "%s%02llx" : "%s%llx", n && !row ? "," : "", v);
    }
}

void field_print(const struct field_set *set, const void *obj, struct strbuf *out)
{
    strbuf_add(out, "%s:", set->name);
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        if (!f->sub && !(f->flags & FIELD_NOT_SAVED)) {
            field_print_numbers(f, obj, out);
        }
    }
    strbuf_add(out, "\n");
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        for (uint32_t n = 0; f->sub && n < field_count(f, obj); n++) {
            field_print(f->sub, field_at(f, obj, n), out);
        }
    }
}

static const struct field *field_compare_one(const struct field *f, const void *a, const void *b,
                                             unsigned skip)
{
    uint32_t count = field_count(f, a);
    if (count != field_count(f, b)) {
        return f;
    }
    for (uint32_t n = 0; f->sub && n < count; n++) {
        const struct field *in = field_compare(f->sub, field_at(f, a, n), field_at(f, b, n), skip);
        if (in) {
            return in;
        }
    }
    if (!f->sub && count && memcmp(field_at(f, a, 0), field_at(f, b, 0), (size_t)f->size * count)) {
        return f;
    }
    return NULL;
}

const struct field *field_compare(const struct field_set *set, const void *a, const void *b,
                                  unsigned skip)
{
    const struct field *found = NULL;
    for (size_t i = 0; i < set->count && !found; i++) {
        if (!(set->fields[i].flags & skip)) {
            found = field_compare_one(&set->fields[i], a, b, skip);
        }
    }
    return found;
}

int field_loaded(const struct field_set *set, void *obj, struct err *err)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        for (uint32_t n = 0; f->sub && n < field_count(f, obj); n++) {
            int ret = field_loaded(f->sub, field_at(f, obj, n), err);
            if (ret) {
                return ret;
            }
        }
    }
    return set->loaded ? set->loaded(obj, err) : 0;
}
