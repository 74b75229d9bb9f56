/* What a disk does when its image fails, with the image's loop on a thread of its own. */
#include "dev/storage/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/keyval.h"
#include "base/unit_test.h"
#include "block/block.h"
#include "core/device.h"
#include "core/machine.h"
#include "loop/loop.h"

struct rig {
    struct machine machine;
    struct dev dev;
    struct loop *loop;
    struct block_graph *graph;
    struct block *block;
    pthread_t thread;
    int fd;
    struct disk disk;
    struct disk_job job;
    uint8_t buf[512];
    int ret;
};

static void *run_loop(void *opaque)
{
    loop_run(opaque);
    return NULL;
}

static void no_park(struct machine *m)
{
}

static const struct machine_cpus no_cpus = {.park = no_park};

/* Two writes fail. */
static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct keyval kv = {0};
    char path[32];
    struct err err;
    r->machine.loop = loop_new(&err);
    r->machine.cpus = &no_cpus;
    r->dev.machine = &r->machine;
    r->loop = loop_new(&err);
    r->graph = block_graph_new(r->loop);
    r->fd = memfd_create("disk", MFD_CLOEXEC);
    assert_false(ftruncate(r->fd, 65536));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", r->fd);
    keyval_add(&kv, "driver", "blkdebug");
    keyval_add(&kv, "image.driver", "file");
    keyval_add(&kv, "image.filename", path);
    for (unsigned i = 0; i < 2; i++) {
        char key[40];
        snprintf(key, sizeof(key), "inject-error.%u.iotype", i);
        keyval_add(&kv, key, "write");
        snprintf(key, sizeof(key), "inject-error.%u.errno", i);
        keyval_add(&kv, key, "28");
        snprintf(key, sizeof(key), "inject-error.%u.once", i);
        keyval_add(&kv, key, "on");
    }
    r->block = block_open(r->graph, &kv, BLOCK_RDWR, &err);
    if (!r->block) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    keyval_free(&kv);
    disk_init(&r->disk, &r->dev, r->block);
    pthread_create(&r->thread, NULL, run_loop, r->loop);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    disk_fini(&r->disk);
    loop_stop(r->loop);
    pthread_join(r->thread, NULL);
    block_close(r->block);
    close(r->fd);
    block_graph_free(r->graph);
    loop_free(r->loop);
    loop_free(r->machine.loop);
    free(r);
    return 0;
}

static void write_job(void *opaque)
{
    struct rig *r = opaque;
    r->ret = disk_write(&r->disk, 512, r->buf, sizeof(r->buf), 0);
}

static void start(struct rig *r, enum on_error policy)
{
    r->disk.on_write = policy;
    r->ret = 1;
    disk_start(&r->disk, &r->job, write_job, r);
}

/* The machine's loop, until it has been told to stop. */
static void wait_for_stop(struct rig *r)
{
    r->machine.io_stopped = false;
    while (!r->machine.io_stopped) {
        loop_step(r->machine.loop, true);
    }
}

static void errors_are_reported_or_not(void **state)
{
    struct rig *r = *state;
    start(r, ON_ERROR_REPORT);
    disk_quiesce(&r->disk);
    assert_int_equal(r->ret, -ENOSPC);
    start(r, ON_ERROR_IGNORE);
    disk_quiesce(&r->disk);
    assert_int_equal(r->ret, 0);
}

static void it_waits_and_tries_again(void **state)
{
    struct rig *r = *state;
    uint8_t back[512];
    memset(r->buf, 0x77, sizeof(r->buf));
    start(r, ON_ERROR_ENOSPC);
    wait_for_stop(r);
    disk_quiesce(&r->disk); /* what waits is no work */
    assert_true(disk_busy(&r->disk));
    assert_int_equal(r->ret, 1);
    disk_resume(&r->disk);
    wait_for_stop(r); /* the second error */
    assert_int_equal(r->ret, 1);
    disk_resume(&r->disk);
    while (disk_busy(&r->disk)) {
        usleep(100);
    }
    assert_int_equal(r->ret, 0);
    assert_int_equal(pread(r->fd, back, 512, 512), 512);
    assert_memory_equal(back, r->buf, 512);
}

static void a_reset_drops_what_waits(void **state)
{
    struct rig *r = *state;
    start(r, ON_ERROR_STOP);
    wait_for_stop(r);
    disk_drain(&r->disk);
    assert_false(disk_busy(&r->disk));
    assert_int_equal(r->ret, -ENOSPC);
    start(r, ON_ERROR_REPORT);
    disk_drain(&r->disk);
    assert_int_equal(r->ret, -ENOSPC);
    start(r, ON_ERROR_STOP);
    disk_drain(&r->disk);
    assert_int_equal(r->ret, 0);
}

static void outside_is_never_waited_for(void **state)
{
    struct rig *r = *state;
    disk_set_block(&r->disk, NULL);
    start(r, ON_ERROR_STOP);
    disk_drain(&r->disk);
    assert_int_equal(r->ret, -ENOMEDIUM);
    disk_set_block(&r->disk, r->block);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(errors_are_reported_or_not),
        T(it_waits_and_tries_again),
        T(a_reset_drops_what_waits),
        T(outside_is_never_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
