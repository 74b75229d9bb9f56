/* Options: JSON to dotted names, parts of lists, values with types. */
#include "block/opts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/near.h"
#include "block/core.h"

enum { MAX_NESTING = 64 };

const char *const block_prealloc_names[] = {"off", "metadata", "falloc", "full", NULL};

static int flatten(struct keyval *kv, const char *name, json_t *value, int depth, struct err *err)
{
    const char *key;
    json_t *sub;
    size_t i;
    int ret = depth > MAX_NESTING ? err_set(err, EINVAL, "JSON options nested too deeply") : 0;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        json_object_foreach(value, key, sub)
        {
            AUTO_FREE char *full = *name ? alloc_printf("%s.%s", name, key) : alloc_text(key);
            ret = ret ? ret : flatten(kv, full, sub, depth + 1, err);
        }
        break;
    case JSON_ARRAY:
        json_array_foreach(value, i, sub)
        {
            AUTO_FREE char *full = alloc_printf("%s.%zu", name, i);
            ret = ret ? ret : flatten(kv, full, sub, depth + 1, err);
        }
        break;
    case JSON_STRING: keyval_add(kv, name, json_string_value(value)); break;
    case JSON_INTEGER: {
        AUTO_FREE char *text = alloc_printf("%lld", (long long)json_integer_value(value));
        keyval_add(kv, name, text);
        break;
    }
    case JSON_TRUE: keyval_add(kv, name, "on"); break;
    case JSON_FALSE: keyval_add(kv, name, "off"); break;
    case JSON_NULL: keyval_add(kv, name, ""); break;
    default: ret = err_set(err, EINVAL, "JSON option '%s' is neither text nor whole number", name);
    }
    return ret;
}

int block_opts_from_json(struct keyval *kv, const char *text, struct err *err)
{
    json_error_t why;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (!root || !json_is_object(root)) {
        json_decref(root);
        return err_set(err, EINVAL, "cannot parse the JSON options '%.80s': %s", text,
                       root ? "not an object" : why.text);
    }
    int ret = flatten(kv, "", root, 0, err);
    json_decref(root);
    return ret;
}

void opts_part(struct keyval *out, const struct keyval *kv, const char *prefix)
{
    size_t n = strlen(prefix);
    for (size_t i = 0; i < kv->count; i++) {
        const char *key = kv->pairs[i].key;
        if (!strncmp(key, prefix, n) && key[n] == '.') {
            keyval_add(out, key + n + 1, kv->pairs[i].value);
        }
    }
}

bool opts_has_part(const struct keyval *kv, const char *prefix)
{
    size_t n = strlen(prefix);
    for (size_t i = 0; i < kv->count; i++) {
        if (!strncmp(kv->pairs[i].key, prefix, n) &&
            (kv->pairs[i].key[n] == '.' || !kv->pairs[i].key[n])) {
            return true;
        }
    }
    return false;
}

void opts_set(struct keyval *kv, const char *key, const char *value)
{
    keyval_remove(kv, key);
    keyval_add(kv, key, value);
}

void opts_copy(struct keyval *out, const struct keyval *kv)
{
    for (size_t i = 0; kv && i < kv->count; i++) {
        opts_set(out, kv->pairs[i].key, kv->pairs[i].value);
    }
}

static const struct block_opt *opt_find(const struct block_opt *list, const char *key)
{
    for (; list && list->name; list++) {
        size_t n = strlen(list->name);
        if (!strcmp(list->name, key)) {
            return list;
        }
        if (!strncmp(list->name, key, n) && key[n] == '.' && !strcmp(list->type, "node")) {
            return list;
        }
        if (n && list->name[n - 1] == '*' && !strncmp(list->name, key, n - 1)) {
            return list;
        }
    }
    return NULL;
}

static size_t opts_names(const struct block_opt *list, const char **names, size_t room)
{
    size_t n = 0;
    for (; list && list->name && n < room; list++) {
        names[n++] = list->name;
    }
    return n;
}

int opts_check(const struct keyval *kv, const struct block_opt *list, const struct block_opt *more,
               const char *what, struct err *err)
{
    for (size_t i = 0; i < kv->count; i++) {
        const char *key = kv->pairs[i].key, *names[96];
        if (opt_find(list, key) || opt_find(more, key)) {
            continue;
        }
        size_t n = opts_names(list, names, 96);
        n += opts_names(more, names + n, 96 - n);
        return n ? err_set(err, EINVAL, "%s has no option '%s'; the nearest is '%s'", what, key,
                           near_pick(key, names, n))
                 : err_set(err, EINVAL, "%s has no options, also not '%s'", what, key);
    }
    return 0;
}

const char *block_opt_text(const struct keyval *opts, const char *name)
{
    return keyval_get(opts, name);
}

int block_opt_size(const struct keyval *opts, const char *name, uint64_t *out, struct err *err)
{
    const char *text = keyval_get(opts, name);
    return text ? value_size(name, text, 1, out, err) : 0;
}

int block_opt_bool(const struct keyval *opts, const char *name, bool *out, struct err *err)
{
    const char *text = keyval_get(opts, name);
    return text ? value_bool(name, text, out, err) : 0;
}

int block_opt_prealloc(const struct keyval *opts, enum block_prealloc *out, struct err *err)
{
    const char *text = keyval_get(opts, "preallocation");
    *out = PREALLOC_OFF;
    for (int i = 0; text && block_prealloc_names[i]; i++) {
        if (!strcmp(block_prealloc_names[i], text)) {
            *out = (enum block_prealloc)i;
            return 0;
        }
    }
    return text ? err_set(err, EINVAL, "preallocation is off, metadata, falloc or full, not '%s'",
                          text)
                : 0;
}

void *block_alloc(size_t bytes)
{
    void *at = NULL;
    return posix_memalign(&at, 4096, bytes ? bytes : 1) ? NULL : at;
}
