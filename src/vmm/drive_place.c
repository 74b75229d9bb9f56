/*
 * Interfaces of -drive, with numbers and ids as published: ide has two units on a bus of board pc
 * ("ide1-cd0" is index 2), one on q35; floppy has units 0 and 1; virtio and none just count. -cdrom
 * is index 2 of ide.
 */
#include "vmm/drive_place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/near.h"
#include "board/boards.h"
#include "core/device.h"
#include "core/machine.h"
#include "dev/ata/ide_dev.h"
#include "dev/floppy/isa_fdc.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_pci.h"
#include "vmm/options.h"

enum { MAX_INDEX = 255, CDROM_INDEX = 2 };

static const char *const names[] = {"ide", "scsi", "virtio", "floppy", "pflash", "none"};

static int place_interface(const struct machine *m, const struct keyval *kv, const char **interface,
                           struct err *err)
{
    const char *want = keyval_get(kv, "if"), *first = m->board->ide_units ? "ide" : "virtio";
    *interface = want ? want : first;
    const char *near = near_pick(*interface, names, ARRAY_LEN(names));
    if (strcmp(near, *interface)) {
        return err_set(err, EINVAL, "-drive: there is no interface '%s'; the nearest is '%s'", want,
                       near);
    }
    if (!strcmp(*interface, "scsi")) {
        return err_set(err, EINVAL,
                       "-drive: if=scsi: machine '%s' has no SCSI adapter of its own; use if=none,"
                       "id=D with -device virtio-scsi-pci -device scsi-hd,drive=D",
                       m->board->name);
    }
    if (!strcmp(*interface, "ide") && !m->board->ide_units) {
        return err_set(err, EINVAL, "-drive: if=ide: machine '%s' has no IDE; use if=virtio",
                       m->board->name);
    }
    if (!strcmp(*interface, "floppy") && !m->board->pci) {
        return err_set(err, EINVAL, "-drive: if=floppy: machine '%s' has no floppy controller",
                       m->board->name);
    }
    return 0;
}

/* index=, or bus= and unit= instead; -1: none is given. */
static int place_given(const struct machine *m, const struct keyval *kv, const char *interface,
                       int *index, struct err *err)
{
    const char *text = keyval_get(kv, "index"), *bus = keyval_get(kv, "bus"),
               *unit = keyval_get(kv, "unit");
    uint64_t n = 0, b = 0, u = 0;
    unsigned units = !strcmp(interface, "ide") ? m->board->ide_units : 1;
    int ret = text ? value_u64("-drive: index", text, MAX_INDEX, &n, err) : 0;
    ret = !ret && bus ? value_u64("-drive: bus", bus, MAX_INDEX, &b, err) : ret;
    ret = !ret && unit ? value_u64("-drive: unit", unit, units - 1, &u, err) : ret;
    *index = text ? (int)n : bus || unit ? (int)(b * units + u) : -1;
    return ret;
}

static bool place_used(const struct machine *m, const struct option_list *drives, unsigned but,
                       const char *interface, int index)
{
    struct err err;
    for (unsigned i = 0; i < drives->count; i++) {
        const char *other;
        int at;
        if (i != but && !place_interface(m, &drives->items[i], &other, &err) &&
            !strcmp(other, interface) && !place_given(m, &drives->items[i], other, &at, &err) &&
            at == index) {
            return true;
        }
    }
    return false;
}

/* The first place free for drive n, counting those before it that give none either. */
static unsigned place_free(const struct machine *m, const struct option_list *drives, unsigned n,
                           const char *interface)
{
    struct err err;
    int at = -1;
    for (unsigned i = 0; i <= n; i++) {
        const char *other;
        int given;
        if (place_interface(m, &drives->items[i], &other, &err) || strcmp(other, interface) ||
            place_given(m, &drives->items[i], other, &given, &err) || given >= 0) {
            continue;
        }
        do {
            at++;
        } while (place_used(m, drives, i, interface, at));
    }
    return (unsigned)at;
}

static void place_id(const struct machine *m, const struct keyval *kv, struct drive_place *p)
{
    const char *given = keyval_get(kv, "id");
    unsigned units = m->board->ide_units;
    if (given) {
        snprintf(p->id, sizeof(p->id), "%s", given);
    } else if (!strcmp(p->interface, "ide")) {
        snprintf(p->id, sizeof(p->id), "ide%u-%s%u", p->index / units, p->cdrom ? "cd" : "hd",
                 p->index % units);
    } else {
        snprintf(p->id, sizeof(p->id), "%s%u", p->interface, p->index);
    }
}

int drive_place(const struct machine *m, const struct option_list *drives, unsigned n,
                struct drive_place *p, struct err *err)
{
    const struct keyval *kv = &drives->items[n];
    const char *media = keyval_get(kv, "media");
    int index, ret = place_interface(m, kv, &p->interface, err);
    ret = ret ? ret : place_given(m, kv, p->interface, &index, err);
    if (ret) {
        return ret;
    }
    p->cdrom = media && !strcmp(media, "cdrom");
    if (index >= 0 && strcmp(p->interface, "none") &&
        place_used(m, drives, n, p->interface, index)) {
        return err_set(err, EBUSY, "-drive: index=%d of interface '%s' is used twice", index,
                       p->interface);
    }
    p->index = index >= 0 ? (unsigned)index : place_free(m, drives, n, p->interface);
    place_id(m, kv, p);
    return 0;
}

/* ---- Devices ---- */

static struct dev *place_add_ide(struct machine *m, struct keyval *args, unsigned index, bool cdrom,
                                 struct err *err)
{
    char bus[16], unit[16];
    snprintf(bus, sizeof(bus), "ide.%u", index / m->board->ide_units);
    snprintf(unit, sizeof(unit), "%u", index % m->board->ide_units);
    keyval_add(args, "bus", bus);
    keyval_add(args, "unit", unit);
    return dev_new(m, cdrom ? &ide_cd_type : &ide_hd_type, args, err);
}

/* With the controller, where the board has none. */
static struct dev *place_add_floppy(struct machine *m, struct keyval *args, unsigned index,
                                    struct err *err)
{
    char unit[16];
    snprintf(unit, sizeof(unit), "%u", index);
    keyval_add(args, "unit", unit);
    if (!bus_find(m, ISA_FDC_BUS) && !dev_new(m, &isa_fdc_type, NULL, err)) {
        return NULL;
    }
    return dev_new(m, &floppy_type, args, err);
}

static struct dev *place_add_other(struct machine *m, struct keyval *args,
                                   const struct drive_place *p, struct err *err)
{
    if (!strcmp(p->interface, "ide")) {
        return place_add_ide(m, args, p->index, p->cdrom, err);
    }
    if (!strcmp(p->interface, "floppy")) {
        return place_add_floppy(m, args, p->index, err);
    }
    return dev_new(m, m->board->pci ? &virtio_blk_pci_type : &virtio_blk_type, args, err);
}

static int place_add(struct machine *m, const struct keyval *kv, const struct drive_place *p,
                     struct err *err)
{
    const char *serial = keyval_get(kv, "serial");
    struct keyval args = {0};
    keyval_add(&args, "drive", p->id);
    if (serial && strcmp(p->interface, "floppy")) {
        keyval_add(&args, "serial", serial);
    }
    struct dev *d = place_add_other(m, &args, p, err);
    keyval_free(&args);
    return d ? 0 : err_prefix(err, -EINVAL, "-drive");
}

/* As published: a drive without a medium, where the board has a controller and nobody a drive. */
static int place_add_default_floppy(struct machine *m, struct err *err)
{
    struct keyval args = {0};
    for (const struct dev *d = m->devs; d; d = d->next) {
        if (d->type == &floppy_type) {
            return 0;
        }
    }
    struct dev *d = bus_find(m, ISA_FDC_BUS) ? place_add_floppy(m, &args, 0, err) : NULL;
    int ret = d || !bus_find(m, ISA_FDC_BUS) ? 0 : -EINVAL;
    keyval_free(&args);
    return ret;
}

static int place_add_default_cd(struct machine *m, struct err *err)
{
    struct keyval args = {0};
    struct dev *d = place_add_ide(m, &args, CDROM_INDEX, true, err);
    keyval_free(&args);
    return d ? 0 : -EINVAL;
}

int drives_add_devices(struct machine *m, const struct option_list *drives,
                       const struct drive_defaults *defaults, struct err *err)
{
    bool cd_place = false;
    for (unsigned i = 0; i < drives->count; i++) {
        struct drive_place p;
        int ret = drive_place(m, drives, i, &p, err);
        bool other =
            !strcmp(p.interface, "none") || !strcmp(p.interface, "pflash"); /* the board's */
        ret = ret || other ? ret : place_add(m, &drives->items[i], &p, err);
        if (ret) {
            return ret;
        }
        cd_place |= !strcmp(p.interface, "ide") && p.index == CDROM_INDEX;
    }
    int ret = 0;
    if (defaults->cd && m->board->ide_units && !cd_place) {
        ret = place_add_default_cd(m, err);
    }
    return ret || !defaults->floppy ? ret : place_add_default_floppy(m, err);
}
