/* Making devices from tables: properties, buses, life cycle. */
#include "core/device.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/keyval.h"
#include "base/near.h"
#include "core/machine.h"

static const struct prop *prop_find(const struct prop *props, const char *name)
{
    for (; props && props->name; props++) {
        if (!strcmp(props->name, name)) {
            return props;
        }
    }
    return NULL;
}

static int prop_check_choice(const struct prop *p, const char *owner, const char *value,
                             struct err *err)
{
    size_t n = 0;
    for (; p->choices && p->choices[n]; n++) {
        if (!strcmp(p->choices[n], value)) {
            return 0;
        }
    }
    if (!n) {
        return 0;
    }
    return err_set(err, EINVAL, "%s: '%s' is no value of '%s'; the nearest is '%s'", owner, value,
                   p->name, near_pick(value, p->choices, n));
}

static int prop_store(const struct prop *p, void *field, const char *owner, const char *value,
                      struct err *err)
{
    char what[128];
    snprintf(what, sizeof(what), "%s: %s", owner, p->name);
    uint64_t v = 0;
    int ret = 0;
    switch (p->kind) {
    case PROP_TEXT:
        ret = prop_check_choice(p, owner, value, err);
        if (!ret) {
            free(*(char **)field);
            *(char **)field = alloc_text(value);
        }
        return ret;
    case PROP_BOOL: return value_bool(what, value, field, err);
    case PROP_U32:
        ret = value_u64(what, value, UINT32_MAX, &v, err);
        *(uint32_t *)field = ret ? *(uint32_t *)field : (uint32_t)v;
        return ret;
    case PROP_U64: return value_u64(what, value, UINT64_MAX, field, err);
    case PROP_SIZE: return value_size(what, value, 1, field, err);
    }
    return ret;
}

int prop_set(const struct prop *props, void *obj, const char *owner, const char *name,
             const char *value, struct err *err)
{
    const struct prop *p = prop_find(props, name);
    if (p) {
        return prop_store(p, (char *)obj + p->offset, owner, value, err);
    }
    const char *names[32];
    size_t n = 0;
    for (const struct prop *q = props; q && q->name && n < 32; q++) {
        names[n++] = q->name;
    }
    if (!n) {
        return err_set(err, EINVAL, "%s has no option '%s'", owner, name);
    }
    return err_set(err, EINVAL, "%s has no option '%s'; the nearest is '%s'", owner, name,
                   near_pick(name, names, n));
}

void prop_presets(const struct prop *props, void *obj)
{
    struct err err;
    for (const struct prop *p = props; p && p->name; p++) {
        if (p->preset) {
            int ret = prop_store(p, (char *)obj + p->offset, "preset", p->preset, &err);
            assert(!ret);
            (void)ret;
        }
    }
}

void prop_free(const struct prop *props, void *obj)
{
    for (const struct prop *p = props; p && p->name; p++) {
        if (p->kind == PROP_TEXT) {
            char **text = (char **)((char *)obj + p->offset);
            free(*text);
            *text = NULL;
        }
    }
}

void prop_help(const struct prop *props, void *out_FILE)
{
    static const char *const kinds[] = {"text", "on|off", "number", "number", "size"};
    for (const struct prop *p = props; p && p->name; p++) {
        fprintf(out_FILE, "  %s=<%s>", p->name, kinds[p->kind]);
        fprintf(out_FILE, "%*s %s", (int)(24 - strlen(p->name) - strlen(kinds[p->kind])), "",
                p->help ? p->help : "");
        fprintf(out_FILE, p->preset ? " (default: %s)\n" : "\n", p->preset);
    }
}

void bus_add(struct machine *machine, struct bus *bus)
{
    struct bus **at = &machine->buses;
    while (*at) {
        at = &(*at)->next;
    }
    *at = bus;
    bus->next = NULL;
}

struct bus *bus_find(struct machine *machine, const char *id)
{
    struct bus *b = machine->buses;
    while (b && !(b->id && !strcmp(b->id, id))) {
        b = b->next;
    }
    return b;
}

struct bus *bus_find_free(struct machine *machine, const char *type)
{
    struct bus *full = NULL;
    for (struct bus *b = machine->buses; b; b = b->next) {
        if (strcmp(b->type->name, type)) {
            continue;
        }
        if (!b->full) {
            return b;
        }
        full = b;
    }
    return full;
}

static int dev_set_args(struct dev *dev, const struct keyval *args, struct err *err)
{
    for (size_t i = 0; args && i < args->count; i++) {
        const struct keyval_pair *p = &args->pairs[i];
        if (!strcmp(p->key, "id")) {
            free(dev->id);
            dev->id = alloc_text(p->value);
            continue;
        }
        if (!strcmp(p->key, "bus") || !strcmp(p->key, "driver")) {
            continue;
        }
        if (dev->type->child && !prop_find(dev->type->props, p->key)) {
            keyval_add(&dev->child_args, p->key, p->value);
            continue;
        }
        int ret = prop_set(dev->type->props, dev, dev->type->name, p->key, p->value, err);
        if (ret) {
            return ret;
        }
    }
    return 0;
}

int dev_set_globals(const struct machine *machine, const char *name, const char *alias,
                    const struct prop *props, void *obj, struct err *err)
{
    int ret = 0;
    for (size_t i = 0; !ret && i < machine->config.global_count; i++) {
        const struct keyval *g = &machine->config.globals[i];
        const char *driver = keyval_get(g, "driver");
        if (!strcmp(driver, name) || (alias && !strcmp(driver, alias))) {
            ret = prop_set(props, obj, driver, keyval_get(g, "property"), keyval_get(g, "value"),
                           err);
        }
    }
    return ret;
}

static int dev_attach(struct dev *dev, const struct keyval *args, struct err *err)
{
    const char *want = args ? keyval_get(args, "bus") : NULL;
    if (!dev->type->bus) {
        return 0;
    }
    struct bus *bus = bus_find_free(dev->machine, dev->type->bus);
    if (want) {
        bus = bus_find(dev->machine, want);
        if (!bus || strcmp(bus->type->name, dev->type->bus)) {
            return err_set(err, ENOENT, "there is no bus '%s' for a device '%s'", want,
                           dev->type->name);
        }
    }
    if (!bus) {
        return err_set(err, ENOENT, "a device '%s' needs a bus of type '%s', there is none",
                       dev->type->name, dev->type->bus);
    }
    dev->bus = bus;
    return bus->type->attach(bus, dev, err);
}

static void dev_free(struct dev *dev)
{
    if (dev->type->fini) {
        dev->type->fini(dev);
    }
    prop_free(dev->type->props, dev);
    keyval_free(&dev->child_args);
    free(dev->id);
    free(dev);
}

/* Also those that it has made. */
static void dev_drop(struct machine *machine, const struct dev *last)
{
    for (bool more = true; more;) {
        struct dev *dev = machine->devs;
        more = dev != last;
        machine->devs = dev->next;
        dev_free(dev);
    }
}

struct dev *dev_new(struct machine *machine, const struct dev_type *type, const struct keyval *args,
                    struct err *err)
{
    assert(type->size >= sizeof(struct dev));
    struct dev *dev = alloc_zero(type->size);
    dev->type = type;
    dev->machine = machine;
    dev->next = machine->devs;
    machine->devs = dev;
    prop_presets(type->props, dev);
    if (dev_set_globals(machine, type->name, type->alias, type->props, dev, err) ||
        dev_set_args(dev, args, err) || dev_attach(dev, args, err) ||
        (type->init && type->init(dev, err))) {
        dev_drop(machine, dev);
        return NULL;
    }
    return dev;
}

void dev_reset_all(struct machine *machine, enum dev_reset how)
{
    for (struct dev *d = machine->devs; d; d = d->next) {
        if (d->type->reset) {
            d->type->reset(d, how);
        }
    }
}

void dev_free_all(struct machine *machine)
{
    while (machine->devs) {
        dev_drop(machine, machine->devs);
    }
}
