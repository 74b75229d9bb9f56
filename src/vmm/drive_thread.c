/*
 * The thread that does the I/O of all disks: it runs the loop of their graph. Images are opened
 * before it starts and closed after it has ended, on the main thread.
 */
#include "vmm/drive_thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "block/block.h"
#include "core/machine.h"
#include "loop/loop.h"

struct drive_thread {
    struct loop *loop;
    struct block_graph *graph;
    pthread_t thread;
    bool running;
};

static void *drive_thread_main(void *opaque)
{
    struct drive_thread *t = opaque;
    loop_run(t->loop);
    return NULL;
}

static void drive_thread_stop(void *opaque)
{
    struct drive_thread *t = opaque;
    if (t->running) {
        loop_stop(t->loop);
        pthread_join(t->thread, NULL);
        t->running = false;
    }
}

static void drive_thread_free(void *opaque)
{
    struct drive_thread *t = opaque;
    block_graph_free(t->graph);
    loop_free(t->loop);
    free(t);
}

/* Backends are freed last made first: this one after the images. */
struct drive_thread *drive_thread_new(struct machine *m, struct err *err)
{
    struct drive_thread *t = alloc_zero(sizeof(*t));
    t->loop = loop_new(err);
    if (!t->loop) {
        free(t);
        return NULL;
    }
    t->graph = block_graph_new(t->loop);
    machine_add_backend(m, "drive-loop", "drives", t, drive_thread_free);
    return t;
}

struct block_graph *drive_thread_graph(struct drive_thread *t)
{
    return t->graph;
}

/* This one before them. */
int drive_thread_start(struct drive_thread *t, struct machine *m, struct err *err)
{
    sigset_t all, old;
    machine_add_backend(m, "drive-thread", "drives", t, drive_thread_stop);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int ret = pthread_create(&t->thread, NULL, drive_thread_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    t->running = !ret;
    return ret ? err_set(err, ret, "cannot start the disks' thread: %s", strerror(ret)) : 0;
}
