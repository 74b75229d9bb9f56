/*
 * Field tables: what a struct consists of, by name. One table per struct is read by whatever
 * shows, compares, saves or loads it. Formats are name plus type, never memory layout.
 *
 * Every member of a struct is claimed by a field: `tools/lint.py fields` checks it, so that one
 * that has to be saved cannot be forgotten. docs/decisions/028-state-tables.md says more.
 */
#ifndef STATE_FIELD_H
#define STATE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct field_set;
struct strbuf;

enum field_flag {
    /* One of these four. */
    FIELD_GUEST = 1,   /* state of the guest's machine: saved */
    FIELD_CONFIG = 2,  /* from options or the board: saved, and must be the same when loaded */
    FIELD_HOST = 4,    /* means something in this process only, or is not at work while the
                        * machine is quiet: never saved; any size */
    FIELD_DERIVED = 8, /* computed again from the others by `loaded`: not saved; any size */

    /* Set by the macros. */
    FIELD_BOOL = 16,
    FIELD_POINTER = 32, /* the member points to what is described; NULL: there is none */
    FIELD_COUNTED = 64, /* there are as many elements as the member at `count_at` says */
    FIELD_EACH = 128,   /* an array of pointers to one struct each, as many as `count_at` says */
    FIELD_NOT_SAVED = FIELD_HOST | FIELD_DERIVED,
};

struct field {
    const char *name;
    const struct field_set *sub; /* a struct, or several; NULL: numbers */
    uint32_t offset;
    uint32_t size;     /* of one element; of numbers that are saved 1, 2, 4 or 8 */
    uint32_t count;    /* of elements; with FIELD_POINTER see there */
    uint32_t count_at; /* offset of an unsigned */
    uint16_t flags;
    uint16_t since;    /* version of the set that first has it; 0: the first */
    uint64_t min, max; /* loading takes only these, both included; max 0: whatever fits */
};

struct field_set {
    const char *name;
    const struct field *fields;
    size_t count;
    size_t size; /* of the struct */
    uint32_t version;
    /*
     * The machine's clock stands where it stood when it was saved, memory and all state of the
     * whole machine have been loaded, and the parts of this struct had their turn: checks what
     * fields must be to each other, computes what is DERIVED, sets timers and lines again
     * (core/fields.h). The board's struct comes first, then the devices as they were made. Machine
     * not running; takes the locks it needs. May fail with a sentence: the machine cannot be used
     * then. NULL: nothing to do.
     */
    int (*loaded)(void *obj, struct err *err);
};

#define FIELD_ELEM(s, m) sizeof(((s *)0)->m)
#define FIELD_IS_BOOL(s, m) _Generic(((s *)0)->m, bool : FIELD_BOOL, default : 0)
/* A member. What follows may be `.max = 15`, `.min`, `.since`, `.sub = &other_fields`. */
#define FIELD(s, m, fl, ...)                                                                       \
    {                                                                                              \
        .name = #m, .offset = offsetof(s, m), .size = FIELD_ELEM(s, m), .count = 1,                \
        .flags = (fl) | FIELD_IS_BOOL(s, m), ##__VA_ARGS__                                         \
    }
#define FIELD_ELEMS(s, m, elem, fl, ...)                                                           \
    {                                                                                              \
        .name = #m, .offset = offsetof(s, m), .size = FIELD_ELEM(s, elem),                         \
        .count = FIELD_ELEM(s, m) / FIELD_ELEM(s, elem), .flags = (fl) | FIELD_IS_BOOL(s, elem),   \
        ##__VA_ARGS__                                                                              \
    }
#define FIELD_ARRAY(s, m, fl, ...) FIELD_ELEMS(s, m, m[0], fl, ##__VA_ARGS__)
#define FIELD_ROWS(s, m, fl, ...)                                                                  \
    FIELD_ELEMS(s, m, m[0][0], fl, ##__VA_ARGS__) /* two-dimensional */
#define FIELD_COUNT_AT(s, n)                                                                       \
    (offsetof(s, n) + 0 * sizeof(char[FIELD_ELEM(s, n) == sizeof(unsigned) ? 1 : -1]))
/* A pointer to as many as member `n`, an unsigned, says; that one is CONFIG. */
#define FIELD_AT(s, m, n, fl, ...)                                                                 \
    {                                                                                              \
        .name = #m, .offset = offsetof(s, m), .size = FIELD_ELEM(s, m[0]),                         \
        .count_at = FIELD_COUNT_AT(s, n), .flags = (fl) | FIELD_POINTER | FIELD_COUNTED,           \
        ##__VA_ARGS__                                                                              \
    }
/* An array of pointers to one struct each, of which the first `n` are there; `n` as above. */
#define FIELD_EACH_OF(s, m, n, set)                                                                \
    {                                                                                              \
        .name = #m, .offset = offsetof(s, m), .size = FIELD_ELEM(s, m[0]),                         \
        .count = FIELD_ELEM(s, m) / FIELD_ELEM(s, m[0]), .count_at = FIELD_COUNT_AT(s, n),         \
        .sub = &(set), .flags = FIELD_GUEST | FIELD_EACH | FIELD_COUNTED                           \
    }
/* An array in the struct, of which the first `n` are used; `n` as above, at most that many. */
#define FIELD_FIRST(s, m, n, fl, ...)                                                              \
    {                                                                                              \
        .name = #m, .offset = offsetof(s, m), .size = FIELD_ELEM(s, m[0]),                         \
        .count = FIELD_ELEM(s, m) / FIELD_ELEM(s, m[0]), .count_at = FIELD_COUNT_AT(s, n),         \
        .flags = (fl) | FIELD_COUNTED, ##__VA_ARGS__                                               \
    }
/* A pointer to one struct, or NULL: on both sides, or on none. */
#define FIELD_ONE(s, m, set)                                                                       \
    {                                                                                              \
        .name = #m, .offset = offsetof(s, m), .sub = &(set), .flags = FIELD_GUEST | FIELD_POINTER  \
    }

#define FIELD_SET_(storage, symbol, label, s, list, vers, ...)                                     \
    storage const struct field_set symbol = {.name = (label),                                      \
                                             .fields = (list),                                     \
                                             .count = sizeof(list) / sizeof((list)[0]),            \
                                             .size = sizeof(s),                                    \
                                             .version = (vers),                                    \
                                             ##__VA_ARGS__}
/* Defines a field_set; after `vers` may come `.loaded = fn`. SHARED: a header declares it. */
#define FIELD_SET(...) FIELD_SET_(static, __VA_ARGS__)
#define FIELD_SET_SHARED(...) FIELD_SET_(, __VA_ARGS__)

enum { FIELD_SET_MAX = 128, FIELD_NAME_MAX = 63 }; /* fields; characters of a name */

const struct field *field_find(const struct field_set *set, const char *name);
/* How many elements there are in `obj`, and where number `index` is. */
uint32_t field_count(const struct field *f, const void *obj);
void *field_at(const struct field *f, const void *obj, uint32_t index);
/* Numbers only: as unsigned, whatever they are. */
uint64_t field_get(const struct field *f, const void *obj, uint32_t index);
void field_put(const struct field *f, void *obj, uint32_t index, uint64_t value);
/* "name=value" words of what is saved, one line per struct. */
void field_print(const struct field_set *set, const void *obj, struct strbuf *out);
/* The first field, also of a struct inside, in which a and b differ; those with a flag of `skip`
 * aside. NULL: none. */
const struct field *field_compare(const struct field_set *set, const void *a, const void *b,
                                  unsigned skip);

/*
 * Appends the state to `out`; nothing of `obj` may change meanwhile. Little endian:
 *
 *   set    u8 length and name, u32 version, u32 number of fields
 *   field  u8 length and name, u8 type (1, 2, 4, 8 bytes a number; 'b' a bool; 's' sets), u32 count
 *          of elements, which follow
 */
void field_save(const struct field_set *set, const void *obj, struct strbuf *out);
/*
 * Reads one set, which must be all of the bytes. They may be anything: a sentence, with a
 * negative error number, says what is wrong; `obj` is then in part loaded and of no
 * use. What a newer version of us has added keeps its value. Memory is never allocated.
 */
int field_load(const struct field_set *set, void *obj, const void *bytes, size_t len,
               struct err *err);
/* Calls `loaded` of all structs, those inside first. */
int field_loaded(const struct field_set *set, void *obj, struct err *err);

#endif
