/*
 * An image as a disk's device sees it: taking the backend, coroutines on the image's loop, the
 * policy for errors (werror, rerror), pauses and resets. For ATA and SCSI drives.
 *
 * A device starts jobs from any thread. A job reads and writes with disk_io(), which waits inside
 * while the machine is paused because of an error, and tries again when it goes on.
 */
#ifndef DEV_STORAGE_DISK_H
#define DEV_STORAGE_DISK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/iovs.h"
#include "dev/virtio/drive_policy.h"
#include "loop/co.h"

struct block;
struct dev;
struct err;
struct loop;

struct disk {
    pthread_mutex_t lock; /* the last to be taken: below the device's */
    pthread_cond_t idle;
    struct dev *dev;     /* NULL in tests: then errors are always reported */
    struct block *block; /* NULL: no medium. Changes only with no job running */
    struct loop *loop;   /* the image's, or that of the last one */
    const char *name;    /* of the drive */
    enum on_error on_read, on_write;
    unsigned running; /* jobs started and not ended; by `lock`, as all below */
    unsigned kept;    /* those of them that wait for the machine to go on */
    bool stopped;     /* the machine is paused, or will be, because of those */
    bool dropping;    /* a reset: nobody waits */
    int stop_error;
    bool stop_write;
    struct co_queue waiting; /* the kept ones; loop's thread */
};

struct disk_job {
    struct disk *disk;
    co_fn *fn;
    void *opaque;
};

/* What -device says of the drive; texts may be NULL. */
struct disk_opts {
    const char *owner; /* for messages: "ide-hd" */
    const char *drive, *werror, *rerror;
    bool share, readonly; /* others may write it; the device never writes */
};

/* `block` may be NULL, then `loop` too. */
void disk_init(struct disk *d, struct dev *dev, struct block *block);
/* Takes the backend "drive" or "blockdev" of that name, after disk_init(). */
int disk_take(struct disk *d, const struct disk_opts *opts, struct err *err);
void disk_fini(struct disk *d); /* waits for what runs */

/* Runs fn(opaque) in a coroutine on the image's loop. Any thread; there is or was a medium. The
 * job's memory may be used again as soon as fn has told its device so. */
void disk_start(struct disk *d, struct disk_job *job, co_fn *fn, void *opaque);

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZERO };

/* In a job. `q` for READ and WRITE; 0 or -errno: -ENOMEDIUM, -EIO outside of the image. */
int disk_io(struct disk *d, enum disk_op op, uint64_t off, uint64_t len, const struct iovs *q,
            unsigned flags);
int disk_read(struct disk *d, uint64_t off, void *buf, uint32_t len);
int disk_write(struct disk *d, uint64_t off, void *buf, uint32_t len, unsigned flags);

uint64_t disk_size(const struct disk *d); /* 0: no medium */
bool disk_readonly(const struct disk *d);

/* None of these on the image's loop while a job runs. No lock held. */
void disk_quiesce(struct disk *d); /* returns when nothing runs but what is kept */
void disk_resume(struct disk *d);  /* what is kept is tried again */
void disk_drain(struct disk *d);   /* reset: what is kept fails; returns when nothing runs */
bool disk_busy(struct disk *d);
/* Nothing runs, and the device's lock is held. */
void disk_set_block(struct disk *d, struct block *block);

#endif
