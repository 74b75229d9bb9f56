/*
 * Devices and buses. A device type is a constant table; a device embeds `struct dev` first.
 *
 * Life: dev_new() allocates, fills in the properties, attaches to the bus, calls init(); then
 * reset(DEV_RESET_POWER); the machine runs; fini() with all vcpus and the loop stopped.
 */
#ifndef CORE_DEVICE_H
#define CORE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/keyval.h"
#include "base/log.h"

struct bus;
struct dev;
struct err;
struct field_set;
struct machine;
struct strbuf;

enum prop_kind { PROP_TEXT, PROP_BOOL, PROP_U32, PROP_U64, PROP_SIZE };

/* One typed option. TEXT fields are `char *`, owned by the device. */
struct prop {
    const char *name;
    enum prop_kind kind;
    size_t offset;
    const char *preset; /* as it would be written; NULL: zero or no text */
    const char *help;
    const char *const *choices; /* TEXT only: NULL-terminated list of valid words, or NULL */
};

enum dev_reset {
    DEV_RESET_POWER, /* first start, or system reset */
};

struct dev_type {
    const char *name, *summary, *spec; /* spec: key from docs/specs.md */
    const char *alias;                 /* another name; or NULL */
    const char *bus; /* name of the bus type it needs; NULL: built in by a board */
    size_t size;
    const struct prop *props; /* ends with a NULL name; NULL: none */
    /* A device that it makes in its init(), by dev->child_args: options it has not are the
     * child's. */
    const struct dev_type *child;
    /* All of its struct, by fields: what is saved, and what is checked and computed after loading
     * (`loaded` in state/field.h, which has the contract). Every type has one. */
    const struct field_set *state;
    /* Loop thread, machine not running. May fail with a sentence. */
    int (*init)(struct dev *, struct err *);
    /* Any one thread; vcpus are parked; timers and backends may still call. */
    void (*reset)(struct dev *, enum dev_reset);
    /* vcpus are parked: finish own work (requests in flight), start none. */
    void (*quiesce)(struct dev *);
    /* The machine goes on: what was kept when it stopped may be tried again. Loop thread. */
    void (*resume)(struct dev *);
    /* Firmware's name for it in the order of booting; adds nothing if there is none. Goes with an
     * option "bootindex" of kind U32, UINT32_MAX: not given. NULL: nothing to boot from. */
    void (*boot_name)(const struct dev *, struct strbuf *);
    /* Nothing runs any more. Also called after a failed init(). */
    void (*fini)(struct dev *);
};

struct dev {
    const struct dev_type *type;
    struct machine *machine;
    struct bus *bus;
    char *id; /* NULL: none given */
    struct keyval child_args;
    struct log_rate rate;
    struct dev *next;
};

struct bus_type {
    const char *name;
    int (*attach)(struct bus *, struct dev *, struct err *);
};

/* A bus is owned by the board or device that made it. */
struct bus {
    const struct bus_type *type;
    const char *id;
    void *owner;
    bool full; /* takes no further device */
    struct bus *next;
};

void bus_add(struct machine *machine, struct bus *bus);
struct bus *bus_find(struct machine *machine, const char *id);
/* The first of a type that is not full; a full one if all are; NULL if there is none. */
struct bus *bus_find_free(struct machine *machine, const char *type);

/* `args` may be NULL; keys "id" and "bus" are taken here, the rest are properties. */
struct dev *dev_new(struct machine *machine, const struct dev_type *type, const struct keyval *args,
                    struct err *err);
void dev_reset_all(struct machine *machine, enum dev_reset how);
void dev_free_all(struct machine *machine); /* last made, first gone */

/* What -global says about `name` or its `alias` (may be NULL). Also for what boards build in. */
int dev_set_globals(const struct machine *machine, const char *name, const char *alias,
                    const struct prop *props, void *obj, struct err *err);

/* Properties on any struct, also for boards and backends. */
void prop_presets(const struct prop *props, void *obj);
int prop_set(const struct prop *props, void *obj, const char *owner, const char *name,
             const char *value, struct err *err);
void prop_free(const struct prop *props, void *obj);
void prop_help(const struct prop *props, void *out_FILE);

#endif
