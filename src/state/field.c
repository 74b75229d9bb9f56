/* Field tables: reading, writing, showing, comparing. */
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

uint64_t field_get(const struct field *f, const void *obj, uint32_t index)
{
    uint64_t v = 0; /* the host is little endian: see docs/decisions */
    memcpy(&v, (const char *)obj + f->offset + (size_t)index * f->size, f->size);
    return v;
}

void field_put(const struct field *f, void *obj, uint32_t index, uint64_t value)
{
    memcpy((char *)obj + f->offset + (size_t)index * f->size, &value, f->size);
}

void field_print(const struct field_set *set, const void *obj, struct strbuf *out)
{
    strbuf_add(out, "%s:", set->name);
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        strbuf_add(out, " %s=", f->name);
        for (uint32_t n = 0; n < f->count; n++) {
            strbuf_add(out, "%s%llx", n && !(f->flags & FIELD_BYTES) ? "," : "",
                       (unsigned long long)field_get(f, obj, n));
        }
    }
    strbuf_add(out, "\n");
}

const struct field *field_compare(const struct field_set *set, const void *a, const void *b)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        if (f->flags & FIELD_HOST) {
            continue;
        }
        if (memcmp((const char *)a + f->offset, (const char *)b + f->offset,
                   (size_t)f->size * f->count)) {
            return f;
        }
    }
    return NULL;
}
