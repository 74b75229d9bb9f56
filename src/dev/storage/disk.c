/*
 * A drive's image: see disk.h. The lock guards the counts; the image itself belongs to its loop's
 * thread. Does not do: resizing while running.
 */
#include "dev/storage/disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/block.h"
#include "core/device.h"
#include "core/machine.h"
#include "loop/loop.h"

/* ---- Errors: pause, and try again ---- */

/* On the machine's loop. */
static void disk_stop_machine(void *opaque)
{
    struct disk *d = opaque;
    pthread_mutex_lock(&d->lock);
    bool still = d->stopped; /* no reset came between */
    int error = d->stop_error;
    bool write = d->stop_write;
    pthread_mutex_unlock(&d->lock);
    if (still) {
        AUTO_FREE char *why = alloc_printf("drive '%s': %s failed: %s", d->name,
                                           write ? "writing" : "reading", strerror(-error));
        machine_pause_for_io(d->dev->machine, why);
    }
}

static bool disk_keeps(const struct disk *d, enum on_error what, int error)
{
    return d->dev && (what == ON_ERROR_STOP || (what == ON_ERROR_ENOSPC && error == -ENOSPC));
}

/* In a job: sleeps until the machine goes on. False: a reset, give up. */
static bool disk_wait(struct disk *d, int error, bool write)
{
    pthread_mutex_lock(&d->lock);
    bool again = !d->dropping;
    if (again) {
        d->kept++;
        if (!d->stopped) {
            d->stopped = true;
            d->stop_error = error;
            d->stop_write = write;
            loop_post(d->dev->machine->loop, disk_stop_machine, d);
        }
        pthread_cond_broadcast(&d->idle);
        pthread_mutex_unlock(&d->lock);
        co_queue_wait(&d->waiting);
        pthread_mutex_lock(&d->lock);
        d->kept--;
        again = !d->dropping;
    }
    pthread_mutex_unlock(&d->lock);
    return again;
}

static void disk_wake(void *opaque)
{
    struct disk *d = opaque;
    co_queue_all(&d->waiting);
}

/* ---- I/O ---- */

/* What is not the host's fault: never waited for, never ignored. */
static int disk_check(const struct disk *d, enum disk_op op, uint64_t off, uint64_t len)
{
    if (!d->block) {
        return -ENOMEDIUM;
    }
    uint64_t size = block_size(d->block);
    if (op != DISK_FLUSH && (off > size || len > size - off)) {
        return -EIO;
    }
    bool changes = op != DISK_READ && op != DISK_FLUSH;
    return changes && block_readonly(d->block) ? -EROFS : 0;
}

static int disk_try(struct block *b, enum disk_op op, uint64_t off, uint64_t len,
                    const struct iovs *q, unsigned flags)
{
    switch (op) {
    case DISK_READ: return block_preadv(b, off, q);
    case DISK_WRITE: return block_pwritev(b, off, q, flags);
    case DISK_FLUSH: return block_flush(b);
    case DISK_DISCARD: return block_discard(b, off, len);
    case DISK_ZERO: return block_zero(b, off, len, flags);
    }
    return -EINVAL;
}

int disk_io(struct disk *d, enum disk_op op, uint64_t off, uint64_t len, const struct iovs *q,
            unsigned flags)
{
    bool write = op != DISK_READ;
    enum on_error what = write ? d->on_write : d->on_read;
    int ret;
    do {
        ret = disk_check(d, op, off, len);
        if (ret) {
            return ret;
        }
        ret = disk_try(d->block, op, off, len, q, flags);
    } while (ret && disk_keeps(d, what, ret) && disk_wait(d, ret, write));
    return what == ON_ERROR_IGNORE ? 0 : ret;
}

int disk_read(struct disk *d, uint64_t off, void *buf, uint32_t len)
{
    struct iovec hold;
    struct iovs q = iovs_buf(&hold, buf, len);
    return disk_io(d, DISK_READ, off, len, &q, 0);
}

int disk_write(struct disk *d, uint64_t off, void *buf, uint32_t len, unsigned flags)
{
    struct iovec hold;
    struct iovs q = iovs_buf(&hold, buf, len);
    return disk_io(d, DISK_WRITE, off, len, &q, flags);
}

uint64_t disk_size(const struct disk *d)
{
    return d->block ? block_size(d->block) : 0;
}

bool disk_readonly(const struct disk *d)
{
    return d->block && block_readonly(d->block);
}

/* ---- Jobs ---- */

/* The job's memory is not ours any more when its function has returned. */
static void disk_job_run(void *opaque)
{
    struct disk_job *job = opaque;
    struct disk *d = job->disk;
    job->fn(job->opaque);
    AUTO_LOCK(&d->lock);
    d->running--;
    pthread_cond_broadcast(&d->idle);
}

static void disk_job_start(void *opaque)
{
    struct disk_job *job = opaque;
    co_start(job->disk->loop, disk_job_run, job);
}

void disk_start(struct disk *d, struct disk_job *job, co_fn *fn, void *opaque)
{
    assert(d->loop);
    *job = (struct disk_job){d, fn, opaque};
    pthread_mutex_lock(&d->lock);
    d->running++;
    pthread_mutex_unlock(&d->lock);
    loop_post(d->loop, disk_job_start, job);
}

void disk_quiesce(struct disk *d)
{
    AUTO_LOCK(&d->lock);
    while (d->running > d->kept) {
        pthread_cond_wait(&d->idle, &d->lock);
    }
}

void disk_resume(struct disk *d)
{
    AUTO_LOCK(&d->lock);
    if (d->stopped) {
        d->stopped = false;
        loop_post(d->loop, disk_wake, d);
    }
}

void disk_drain(struct disk *d)
{
    AUTO_LOCK(&d->lock);
    d->dropping = true;
    if (d->kept) {
        loop_post(d->loop, disk_wake, d);
    }
    while (d->running) {
        pthread_cond_wait(&d->idle, &d->lock);
    }
    d->dropping = d->stopped = false;
}

bool disk_busy(struct disk *d)
{
    AUTO_LOCK(&d->lock);
    return d->running;
}

/* ---- Life ---- */

void disk_set_block(struct disk *d, struct block *block)
{
    AUTO_LOCK(&d->lock);
    d->block = block;
    d->loop = block ? block_graph_loop(block_graph_of(block)) : d->loop;
}

void disk_init(struct disk *d, struct dev *dev, struct block *block)
{
    *d = (struct disk){.dev = dev, .name = "?"};
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->idle, NULL);
    disk_set_block(d, block);
}

static enum on_error disk_on_error(const char *name, enum on_error preset)
{
    for (unsigned i = 0; name && on_error_names[i]; i++) {
        preset = strcmp(name, on_error_names[i]) ? preset : (enum on_error)i;
    }
    return preset;
}

int disk_take(struct disk *d, const struct disk_opts *opts, struct err *err)
{
    struct machine *m = d->dev->machine;
    struct backend *b = machine_find_backend(m, "drive", opts->drive);
    b = b ? b : machine_find_backend(m, "blockdev", opts->drive);
    struct backend *policy = machine_find_backend(m, "drive-policy", opts->drive);
    if (!b || !policy) {
        return err_set(err, ENOENT, "%s: drive '%s' does not exist", opts->owner, opts->drive);
    }
    struct drive_policy *p = policy->obj;
    bool alone = !opts->share && !opts->readonly && !block_readonly(b->obj);
    if (p->used && (alone || !p->shared)) {
        return err_set(err, EBUSY,
                       "%s: drive '%s' is in use; share-rw=on on all its devices lets them share "
                       "it",
                       opts->owner, opts->drive);
    }
    if (alone && block_has_parents(b->obj)) {
        return err_set(err, EBUSY,
                       "%s: drive '%s' is part of another node; share-rw=on lets both write it",
                       opts->owner, opts->drive);
    }
    p->used = b->taken = true;
    p->shared = !alone;
    d->name = b->id;
    d->on_read = disk_on_error(opts->rerror, p->read);
    d->on_write = disk_on_error(opts->werror, p->write);
    disk_set_block(d, b->obj);
    return 0;
}

void disk_fini(struct disk *d)
{
    disk_drain(d);
    pthread_cond_destroy(&d->idle);
    pthread_mutex_destroy(&d->lock);
}
