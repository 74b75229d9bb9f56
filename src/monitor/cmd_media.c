/*
 * Media and images: eject, change, block_resize, info block. Images belong to the thread of their
 * loop: work on them is done there, in a coroutine, while we wait.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/keyval.h"
#include "block/block.h"
#include "core/device.h"
#include "core/machine.h"
#include "dev/ata/ide_dev.h"
#include "dev/floppy/isa_fdc.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "monitor/internal.h"

/* ---- On the images' thread ---- */

struct errand {
    struct loop *loop;
    co_fn *fn;
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
};

static void errand_work(void *opaque)
{
    struct errand *e = opaque;
    e->fn(e->arg);
    AUTO_LOCK(&e->lock);
    e->done = true;
    pthread_cond_signal(&e->ended);
}

static void errand_start(void *opaque)
{
    struct errand *e = opaque;
    co_start(e->loop, errand_work, e);
}

void errand_run(struct block_graph *g, co_fn *fn, void *arg)
{
    struct errand e = {.loop = block_graph_loop(g), .fn = fn, .arg = arg};
    pthread_mutex_init(&e.lock, NULL);
    pthread_cond_init(&e.ended, NULL);
    loop_post(e.loop, errand_start, &e);
    pthread_mutex_lock(&e.lock);
    while (!e.done) {
        pthread_cond_wait(&e.ended, &e.lock);
    }
    pthread_mutex_unlock(&e.lock);
    pthread_cond_destroy(&e.ended);
    pthread_mutex_destroy(&e.lock);
}

struct image_job {
    struct block_graph *graph;
    struct block *block;
    const char *file, *format;
    bool writable; /* if the file is */
    uint64_t size;
    int ret;
    struct err *err;
};

static void job_open(void *opaque)
{
    struct image_job *j = opaque;
    struct keyval opts = {0};
    if (j->writable) {
        unsigned flags = BLOCK_RDWR | BLOCK_EXCLUSIVE;
        j->block = block_open_name(j->graph, j->file, j->format, &opts, flags, j->err);
    } else {
        keyval_add(&opts, "read-only", "on");
        j->block = block_open_name(j->graph, j->file, j->format, &opts, 0, j->err);
    }
    j->ret = j->block ? 0 : -EINVAL;
    keyval_free(&opts);
}

static void job_close(void *opaque)
{
    struct image_job *j = opaque;
    j->ret = block_sync_close(j->block, j->err);
}

static void job_resize(void *opaque)
{
    struct image_job *j = opaque;
    j->ret = block_truncate(j->block, j->size, PREALLOC_OFF, j->err);
}

/* ---- Finding ---- */

/* A drive whose medium can be changed: one of these. */
struct removable {
    struct ide_dev *cd;
    struct floppy_dev *floppy;
};

/* As published: "ide1-cd0", also of a drive that nobody has named. */
static char *ide_name(const struct ide_dev *d)
{
    const char *dot = strchr(d->dev.bus->id, '.');
    return d->drive_id ? alloc_text(d->drive_id)
                       : alloc_printf("ide%s-cd%u", dot ? dot + 1 : "0", d->unit);
}

static struct ide_dev *as_ide(struct dev *dev)
{
    return dev->type == &ide_cd_type || dev->type == &ide_hd_type
               ? container_of(dev, struct ide_dev, dev)
               : NULL;
}

static struct floppy_dev *as_floppy(struct dev *dev)
{
    return dev->type == &floppy_type ? container_of(dev, struct floppy_dev, dev) : NULL;
}

/* "floppy0", also of a drive that nobody has named. */
static char *floppy_name(const struct floppy_dev *d)
{
    return d->drive_id ? alloc_text(d->drive_id) : alloc_printf("floppy%u", d->unit);
}

static struct floppy_dev *floppy_find(struct machine *m, const char *name)
{
    for (struct dev *d = m->devs; d; d = d->next) {
        struct floppy_dev *floppy = as_floppy(d);
        AUTO_FREE char *own = floppy ? floppy_name(floppy) : NULL;
        if (floppy && (!strcmp(own, name) || (d->id && !strcmp(d->id, name)))) {
            return floppy;
        }
    }
    return NULL;
}

static struct ide_dev *ide_find(struct machine *m, const char *name)
{
    for (struct dev *d = m->devs; d; d = d->next) {
        struct ide_dev *ide = as_ide(d);
        AUTO_FREE char *own = ide ? ide_name(ide) : NULL;
        if (ide && (!strcmp(own, name) || (d->id && !strcmp(d->id, name)))) {
            return ide;
        }
    }
    return NULL;
}

static struct backend *drive_find(struct machine *m, const char *name)
{
    struct backend *b = machine_find_backend(m, "drive", name);
    return b ? b : machine_find_backend(m, "blockdev", name);
}

static bool removable_find(struct monitor *mon, const char *name, struct removable *r,
                           struct err *err)
{
    struct ide_dev *d = ide_find(mon->machine, name);
    *r = (struct removable){.floppy = floppy_find(mon->machine, name)};
    if (r->floppy) {
        return true;
    }
    if (d && d->dev.type == &ide_cd_type) {
        r->cd = d;
        return true;
    }
    if (d || drive_find(mon->machine, name)) {
        err_set(err, ENOTSUP, "Device '%s' is not removable", name);
    } else {
        err_set(err, ENODEV, "Device '%s' not found", name);
    }
    return false;
}

static struct block *medium_of(const struct removable *r)
{
    return r->cd ? r->cd->drive.disk.block : r->floppy->fdd.disk.block;
}

static struct block *media_find_node(struct monitor *mon, const char *name, struct err *err)
{
    struct block_graph *g = mon->control->graph ? mon->control->graph(mon->opaque, err) : NULL;
    struct block *b = g ? block_find(g, name) : NULL;
    if (!b) {
        err_set(err, ENODEV, "Device '%s' not found", name);
    }
    return b;
}

struct block *media_find(struct monitor *mon, const char *name, struct err *err)
{
    const struct backend *b = drive_find(mon->machine, name);
    const struct removable r = {ide_find(mon->machine, name), floppy_find(mon->machine, name)};
    bool drive = r.cd || r.floppy;
    struct block *found = drive ? medium_of(&r) : b ? b->obj : NULL;
    if (!found && (drive || b)) {
        err_set(err, ENOMEDIUM, "Device '%s' has no medium", name);
    }
    return found || drive || b ? found : media_find_node(mon, name, err);
}

void media_complete(struct monitor *mon, const char *word, struct line_matches *m)
{
    for (const struct backend *b = mon->machine->backends; b; b = b->next) {
        if (!strcmp(b->kind, "drive") && !strncmp(b->id, word, strlen(word))) {
            line_add_match(m, b->id);
        }
    }
    for (struct dev *d = mon->machine->devs; d; d = d->next) {
        struct ide_dev *ide = as_ide(d);
        AUTO_FREE char *own = ide ? ide_name(ide) : NULL;
        AUTO_FREE char *floppy = as_floppy(d) ? floppy_name(as_floppy(d)) : NULL;
        const char *name = own ? own : floppy;
        if (name && !strncmp(name, word, strlen(word))) {
            line_add_match(m, name);
        }
    }
}

/* ---- Media ---- */

/* Whoever was to close it at the end does so no more. */
static void medium_forget(struct machine *m, const struct block *block)
{
    for (struct backend *b = m->backends; b; b = b->next) {
        if (b->obj == block) {
            b->obj = NULL;
            b->free = NULL;
        }
    }
}

static int medium_close(struct machine *m, struct block *block, struct err *err)
{
    struct image_job j = {.block = block, .err = err};
    if (block) {
        medium_forget(m, block);
        errand_run(block_graph_of(block), job_close, &j);
    }
    return j.ret;
}

static int medium_release(const struct removable *r, bool force)
{
    if (r->cd) {
        return ide_dev_eject(r->cd, force);
    }
    floppy_dev_change(r->floppy, NULL);
    return 0;
}

static int medium_eject(struct monitor *mon, const struct removable *r, const char *name,
                        bool force, struct err *err)
{
    struct block *old = medium_of(r);
    int ret = medium_release(r, force);
    if (ret == -EBUSY) {
        return err_set(err, EBUSY,
                       "Device '%s' is locked and force was not specified, wait for tray to open "
                       "and try again",
                       name);
    }
    return ret ? err_set(err, -ret, "Device '%s' cannot be ejected: %s", name, strerror(-ret))
               : medium_close(mon->machine, old, err);
}

int cmd_eject(struct monitor *mon, struct command_args *a, struct err *err)
{
    bool force = args_flag(a, "-f");
    const char *name = args_need(a, 0, "device", err);
    struct removable r;
    bool found = name && removable_find(mon, name, &r, err);
    return found ? medium_eject(mon, &r, name, force, err) : -EINVAL;
}

/* A floppy disk that the drive can take. */
static int medium_fits(const struct removable *r, const struct block *b, const char *file,
                       struct err *err)
{
    const struct fdd_geometry *g = r->floppy ? fdd_geometry_of(block_size(b)) : NULL;
    if (r->floppy && (!g || !fdd_fits(r->floppy->fdd.type, g))) {
        return err_set(
            err, EINVAL,
            "image '%s' of %llu bytes does not fit the floppy drive; the largest disk has "
            "2949120",
            file, (unsigned long long)block_size(b));
    }
    return 0;
}

/* A floppy drive's image that is given again is closed first: its lock would be in the way. */
static int medium_again(struct monitor *mon, const struct removable *r, const char *name,
                        const char *file, struct err *err)
{
    struct block *old = r->floppy ? medium_of(r) : NULL;
    return old && !strcmp(block_filename(old), file) ? medium_eject(mon, r, name, false, err) : 0;
}

/* The new image is opened first: if that fails, the old one stays where it is. */
int cmd_change(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct image_job j = {.format = args_word(a, 2), .err = err};
    const char *name = args_need(a, 0, "device", err);
    if (name && !strcmp(name, "vnc")) {
        return cmd_change_vnc(mon, a, err);
    }
    j.file = name ? args_need(a, 1, "filename", err) : NULL;
    struct removable r;
    if (!j.file || !removable_find(mon, name, &r, err)) {
        return -EINVAL;
    }
    j.writable = r.floppy && !access(j.file, W_OK);
    j.graph = mon->control->graph ? mon->control->graph(mon->opaque, err) : NULL;
    if (!j.graph) {
        return mon->control->graph ? -EINVAL : err_set(err, ENOTSUP, "images cannot be opened");
    }
    int ret = medium_again(mon, &r, name, j.file, err);
    if (ret) {
        return ret;
    }
    errand_run(j.graph, job_open, &j);
    ret = j.ret ? j.ret : medium_fits(&r, j.block, j.file, err);
    ret = ret ? ret : medium_eject(mon, &r, name, false, err);
    if (ret) {
        struct image_job undo = {.block = j.block, .err = &(struct err){""}};
        if (j.block) {
            errand_run(j.graph, job_close, &undo);
        }
        return ret;
    }
    mon->control->keep_medium(mon->opaque, j.block);
    if (r.cd) {
        ide_dev_insert(r.cd, j.block);
    } else {
        floppy_dev_change(r.floppy, j.block);
    }
    return 0;
}

int cmd_block_resize(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct image_job j = {.err = err};
    const char *name = args_need(a, 0, "device", err);
    const char *size = name ? args_need(a, 1, "size", err) : NULL;
    if (!size || value_size("size", size, 1 << 20, &j.size, err)) {
        return -EINVAL;
    }
    struct backend *b = drive_find(mon->machine, name);
    if (!b || !b->obj) {
        return err_set(err, ENODEV, "Device '%s' not found", name);
    }
    j.block = b->obj;
    errand_run(block_graph_of(j.block), job_resize, &j);
    return j.ret;
}

/* ---- info block ---- */

struct show {
    struct monitor *mon;
    const char *name;
    struct block *block;
    bool details;
    struct strbuf text;
};

static void show_chain(struct show *s)
{
    for (const struct block *b = block_backing(s->block); b; b = block_backing(b)) {
        strbuf_add(&s->text, "    Backing file:     %s (%s)\n", block_filename(b), block_format(b));
    }
}

static void show_details(struct show *s)
{
    struct block_info info = {0};
    struct err err;
    if (!s->details || block_get_info(s->block, &info, &err)) {
        return;
    }
    strbuf_add(&s->text, "\nImages:\nimage: %s\nfile format: %s\nvirtual size: %llu bytes\n",
               block_filename(s->block), block_format(s->block), (unsigned long long)info.size);
    block_info_free(&info);
}

static void show_image(void *opaque)
{
    struct show *s = opaque;
    const char *node = block_node_name(s->block);
    strbuf_add(&s->text, "%s (%s): %s (%s%s)\n", s->name, node ? node : "",
               block_filename(s->block), block_format(s->block),
               block_readonly(s->block) ? ", read-only" : "");
}

static void show_rest(void *opaque)
{
    struct show *s = opaque;
    strbuf_add(&s->text, "    Cache mode:       writeback\n");
    show_chain(s);
    show_details(s);
}

static void show_drive(struct show *s, const struct ide_dev *cd, const struct floppy_dev *floppy)
{
    const struct dev *dev = cd ? &cd->dev : floppy ? &floppy->dev : NULL;
    if (s->block) {
        errand_run(block_graph_of(s->block), show_image, s);
    } else {
        strbuf_add(&s->text, "%s: [not inserted]\n", s->name);
    }
    if (dev) {
        strbuf_add(&s->text, "    Attached to:      %s\n", dev->id ? dev->id : s->name);
    }
    if (floppy) {
        strbuf_add(&s->text, "    Removable device: not locked, tray closed\n");
    }
    if (cd && cd->drive.cd) {
        strbuf_add(&s->text, "    Removable device: %s, tray %s\n",
                   cd->drive.lu.locked ? "locked" : "not locked",
                   cd->drive.lu.tray_open ? "open" : "closed");
    }
    if (s->block) {
        errand_run(block_graph_of(s->block), show_rest, s);
    }
    monitor_put(s->mon, "%s\n", strbuf_text(&s->text));
    strbuf_free(&s->text);
}

static bool show_backend(struct monitor *mon, struct backend *b, const char *only, bool details)
{
    bool drive = !strcmp(b->kind, "drive") || !strcmp(b->kind, "blockdev");
    if (!drive || ide_find(mon->machine, b->id) || floppy_find(mon->machine, b->id) ||
        (only && strcmp(b->id, only))) {
        return false;
    }
    struct show s = {.mon = mon, .name = b->id, .block = b->obj, .details = details};
    show_drive(&s, NULL, NULL);
    return true;
}

static bool show_device(struct monitor *mon, struct dev *d, const char *only, bool details)
{
    struct ide_dev *ide = as_ide(d);
    struct floppy_dev *floppy = as_floppy(d);
    AUTO_FREE char *name = ide ? ide_name(ide) : floppy ? floppy_name(floppy) : NULL;
    if (!name || (only && strcmp(name, only))) {
        return false;
    }
    const struct removable r = {.cd = ide, .floppy = floppy};
    struct show s = {.mon = mon, .name = name, .block = medium_of(&r), .details = details};
    show_drive(&s, ide, floppy);
    return true;
}

/* Both lists begin with what was made last; they are shown in the order of making. */
static bool show_backends(struct monitor *mon, struct backend *b, const char *only, bool details)
{
    bool found = b->next && show_backends(mon, b->next, only, details);
    return show_backend(mon, b, only, details) || found;
}

static bool show_devices(struct monitor *mon, struct dev *d, const char *only, bool details)
{
    bool found = d->next && show_devices(mon, d->next, only, details);
    return show_device(mon, d, only, details) || found;
}

int info_block(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct machine *m = mon->machine;
    args_flag(a, "-n"); /* all nodes: no list of them */
    bool details = args_flag(a, "-v");
    const char *only = args_word(a, 0);
    bool found = m->devs && show_devices(mon, m->devs, only, details);
    found |= m->backends && show_backends(mon, m->backends, only, details);
    return found || !only ? 0 : err_set(err, ENODEV, "Device '%s' not found", only);
}
