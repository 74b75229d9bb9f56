/*
 * Loading of state: the input is one saved set, which begins with its name; without the name of a
 * set that there is, it goes to the first one. What is accepted must be what the struct has then:
 * saved again, it loads again.
 */
#include <stdio.h>

#include "../state/sets.h"
#include "../state/shape.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "fuzz.h"

static const struct field_set *fuzz_set(const struct sets *sets, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < sets->count && size; i++) {
        const char *name = sets->set[i]->name;
        if (strlen(name) == data[0] && data[0] < size && !memcmp(data + 1, name, data[0])) {
            return sets->set[i];
        }
    }
    return sets->set[0];
}

static void fuzz_accepted(const struct field_set *set, void *obj)
{
    struct strbuf sb = {0};
    struct err err;
    field_save(set, obj, &sb);
    if (field_load(set, obj, sb.text, sb.len, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    strbuf_free(&sb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sets sets; /* the same for all inputs */
    struct err err = {""};
    if (!sets.count) {
        sets_all(&sets);
    }
    const struct field_set *set = fuzz_set(&sets, data, size);
    void *obj = calloc(1, set->size);
    shape_make(set, obj);
    if (!field_load(set, obj, data, size, &err)) {
        fuzz_accepted(set, obj);
    } else if (!err.text[0]) {
        abort();
    }
    shape_free(set, obj);
    free(obj);
    return 0;
}
