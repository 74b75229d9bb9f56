/* Field tables: saving and loading. The format is in field.h. What is loaded may be hostile: each
 * number is looked at before it is used, and the tables, not the bytes, say how deep it goes. */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "state/field.h"

enum { TYPE_BOOL = 'b', TYPE_SET = 's' };

/* ---- Saving ---- */

static void put_u8(struct strbuf *out, unsigned v)
{
    uint8_t b = (uint8_t)v;
    strbuf_add_bytes(out, &b, 1);
}

static void put_u32(struct strbuf *out, uint32_t v)
{
    uint8_t b[4];
    store_le32(b, v);
    strbuf_add_bytes(out, b, 4);
}

static void put_name(struct strbuf *out, const char *name)
{
    put_u8(out, (unsigned)strlen(name));
    strbuf_add_bytes(out, name, strlen(name));
}

static unsigned field_type(const struct field *f)
{
    return f->sub ? TYPE_SET : f->flags & FIELD_BOOL ? TYPE_BOOL : f->size;
}

static void save_field(const struct field *f, const void *obj, struct strbuf *out)
{
    uint32_t count = field_count(f, obj);
    put_name(out, f->name);
    put_u8(out, field_type(f));
    put_u32(out, count);
    for (uint32_t n = 0; f->sub && n < count; n++) {
        field_save(f->sub, field_at(f, obj, n), out);
    }
    if (!f->sub && count) { /* the host is little endian, as the format is */
        strbuf_add_bytes(out, field_at(f, obj, 0), (size_t)f->size * count);
    }
}

void field_save(const struct field_set *set, const void *obj, struct strbuf *out)
{
    uint32_t saved = 0;
    for (size_t i = 0; i < set->count; i++) {
        saved += !(set->fields[i].flags & FIELD_NOT_SAVED);
    }
    put_name(out, set->name);
    put_u32(out, set->version);
    put_u32(out, saved);
    for (size_t i = 0; i < set->count; i++) {
        if (!(set->fields[i].flags & FIELD_NOT_SAVED)) {
            save_field(&set->fields[i], obj, out);
        }
    }
}

/* ---- Loading ---- */

struct reader {
    const uint8_t *at, *end;
    const struct field_set *set; /* for sentences */
    struct err *err;
};

static const uint8_t *take(struct reader *r, uint64_t len)
{
    const uint8_t *at = r->at;
    if (len > (uint64_t)(r->end - r->at)) {
        err_set(r->err, EINVAL, "state of %s ends too early", r->set->name);
        return NULL;
    }
    r->at += len;
    return at;
}

static bool take_u32(struct reader *r, uint32_t *v)
{
    const uint8_t *at = take(r, 4);
    *v = at ? load_le32(at) : 0;
    return at;
}

static bool take_name(struct reader *r, char name[FIELD_NAME_MAX + 1])
{
    const uint8_t *len = take(r, 1), *text;
    if (!len) {
        return false;
    }
    if (*len > FIELD_NAME_MAX) {
        err_set(r->err, EINVAL, "state of %s: a name of %u characters", r->set->name, *len);
        return false;
    }
    text = take(r, *len);
    if (!text) {
        return false;
    }
    for (unsigned i = 0; i < *len; i++) { /* it may go to a terminal */
        name[i] = text[i] > ' ' && text[i] < 0x7f ? (char)text[i] : '?';
    }
    name[*len] = 0;
    return true;
}

static int load_set(struct reader *r, const struct field_set *set, void *obj);

static int bad_value(const struct reader *r, const struct field *f, uint32_t index, uint64_t v,
                     const char *what)
{
    return err_set(r->err, EINVAL, "state of %s: %s, element %u: %#llx %s", r->set->name, f->name,
                   index, (unsigned long long)v, what);
}

static int load_number(struct reader *r, const struct field *f, void *obj, uint32_t index)
{
    const uint8_t *at = take(r, f->size);
    uint64_t v = 0;
    if (!at) {
        return -EINVAL;
    }
    memcpy(&v, at, f->size);
    if (f->flags & FIELD_CONFIG) {
        return v == field_get(f, obj, index)
                   ? 0
                   : bad_value(r, f, index, v, "is not what this machine was made with");
    }
    uint64_t max = f->flags & FIELD_BOOL ? 1 : f->max ? f->max : UINT64_MAX;
    if (v < f->min || v > max) {
        return bad_value(r, f, index, v, "is out of range");
    }
    field_put(f, obj, index, v);
    return 0;
}

static int load_field(struct reader *r, const struct field *f, void *obj)
{
    const struct field_set *set = r->set;
    const uint8_t *type = take(r, 1);
    uint32_t count;
    int ret = 0;
    if (!type || !take_u32(r, &count)) {
        return -EINVAL;
    }
    if (*type != field_type(f)) {
        return err_set(r->err, EINVAL, "state of %s: %s is of another type", set->name, f->name);
    }
    if (count != field_count(f, obj)) {
        return err_set(r->err, EINVAL, "state of %s: %s has %u elements, here %u", set->name,
                       f->name, count, field_count(f, obj));
    }
    for (uint32_t n = 0; n < count && !ret; n++) {
        ret = f->sub ? load_set(r, f->sub, field_at(f, obj, n)) : load_number(r, f, obj, n);
        r->set = set;
    }
    return ret;
}

/* Name and type of one field, then its elements. `seen` has a mark for each field of the set. */
static int load_named(struct reader *r, void *obj, bool seen[FIELD_SET_MAX])
{
    char name[FIELD_NAME_MAX + 1];
    if (!take_name(r, name)) {
        return -EINVAL;
    }
    const struct field *f = field_find(r->set, name);
    if (!f || (f->flags & FIELD_NOT_SAVED)) {
        return err_set(r->err, EINVAL, "state of %s: unknown field %s", r->set->name, name);
    }
    if (seen[f - r->set->fields]) {
        return err_set(r->err, EINVAL, "state of %s: %s is there twice", r->set->name, name);
    }
    seen[f - r->set->fields] = true;
    return load_field(r, f, obj);
}

static int check_head(struct reader *r, uint32_t *version, uint32_t *fields)
{
    const struct field_set *set = r->set;
    char name[FIELD_NAME_MAX + 1];
    if (!take_name(r, name) || !take_u32(r, version) || !take_u32(r, fields)) {
        return -EINVAL;
    }
    if (strcmp(name, set->name)) {
        return err_set(r->err, EINVAL, "state of %s where that of %s should be", name, set->name);
    }
    if (!*version || *version > set->version) {
        return err_set(r->err, ENOTSUP, "state of %s has version %u, at most %u is known here",
                       name, *version, set->version);
    }
    return 0;
}

static int check_all_there(const struct reader *r, const bool *seen, uint32_t version)
{
    for (size_t i = 0; i < r->set->count; i++) {
        const struct field *f = &r->set->fields[i];
        if (!seen[i] && !(f->flags & FIELD_NOT_SAVED) && f->since <= version) {
            return err_set(r->err, EINVAL, "state of %s has no %s", r->set->name, f->name);
        }
    }
    return 0;
}

static int load_set(struct reader *r, const struct field_set *set, void *obj)
{
    bool seen[FIELD_SET_MAX] = {false};
    uint32_t version, fields;
    r->set = set;
    int ret = check_head(r, &version, &fields);
    for (uint32_t i = 0; i < fields && !ret; i++) { /* none is there twice: it ends */
        ret = load_named(r, obj, seen);
    }
    return ret ? ret : check_all_there(r, seen, version);
}

int field_load(const struct field_set *set, void *obj, const void *bytes, size_t len,
               struct err *err)
{
    struct reader r = {.at = bytes, .end = (const uint8_t *)bytes + len, .set = set, .err = err};
    int ret = load_set(&r, set, obj);
    if (!ret && r.at != r.end) {
        return err_set(err, EINVAL, "state of %s: %zu bytes too many", set->name,
                       (size_t)(r.end - r.at));
    }
    return ret;
}
