/* For the tests of this folder: guest memory, an image, and a loop that the test turns by hand. */
#ifndef DEV_ATA_TEST_RIG_H
#define DEV_ATA_TEST_RIG_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/err.h"
#include "block/block.h"
#include "dev/ata/ata.h"
#include "loop/loop.h"

enum { RIG_RAM = 4 << 20, RIG_DISK = 2 << 20, RIG_CD = 1 << 20 };

struct rig_medium {
    int fd;
    struct block *block;
};

struct rig_base {
    struct loop *loop;
    struct block_graph *graph;
    struct ram_set rams;
    struct mem_map *mem;
    struct rig_medium disk, cd;
};

static inline void rig_open_fd(struct rig_base *r, struct rig_medium *m)
{
    char path[32];
    struct err err;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
    m->block = block_open_name(r->graph, path, "raw", NULL, BLOCK_RDWR, &err);
    if (!m->block) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

/* Sector n of `unit` bytes is filled with words of its number; unit 0: with nothing. */
static inline void rig_open(struct rig_base *r, struct rig_medium *m, uint64_t size, unsigned unit,
                            const char *name)
{
    uint8_t *at;
    m->fd = memfd_create(name, MFD_CLOEXEC);
    if (m->fd < 0 || ftruncate(m->fd, (off_t)size)) {
        abort();
    }
    if (!unit) {
        rig_open_fd(r, m);
        return;
    }
    at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
    for (uint64_t i = 0; i < size; i += 4) {
        store_le32(at + i, (uint32_t)(i / unit));
    }
    munmap(at, size);
    rig_open_fd(r, m);
}

static inline struct mem_map *rig_dma(void *base)
{
    return ((struct rig_base *)base)->mem;
}

static inline void rig_base_up(struct rig_base *r)
{
    struct err err;
    memset(r, 0, sizeof(*r));
    r->loop = loop_new(&err);
    r->graph = block_graph_new(r->loop);
    r->mem = mem_map_new("mem", 0);
    struct ram *ram = ram_set_add(&r->rams, "ram", RIG_RAM, &err);
    mem_map_add_ram(r->mem, 0, ram, 0, RIG_RAM);
    rig_open(r, &r->disk, RIG_DISK, 512, "disk");
    rig_open(r, &r->cd, RIG_CD, 2048, "cd");
}

static inline void rig_base_down(struct rig_base *r)
{
    block_close(r->disk.block);
    block_close(r->cd.block);
    close(r->disk.fd);
    close(r->cd.fd);
    block_graph_free(r->graph);
    loop_free(r->loop);
    mem_map_free(r->mem);
    ram_set_free(&r->rams);
}

/* Until the drive's jobs have ended. */
static inline void rig_settle(struct rig_base *r, struct disk *d)
{
    while (disk_busy(d)) {
        loop_step(r->loop, true);
    }
}

struct rig_call {
    void (*fn)(void *opaque);
    void *opaque;
    _Atomic bool done;
};

static inline void *rig_call_run(void *opaque)
{
    struct rig_call *c = opaque;
    c->fn(c->opaque);
    c->done = true;
    return NULL;
}

/* As the monitor does: on another thread than the image's, which goes on meanwhile. */
static inline void rig_beside(struct rig_base *r, void (*fn)(void *opaque), void *opaque)
{
    struct rig_call c = {.fn = fn, .opaque = opaque};
    pthread_t thread;
    if (pthread_create(&thread, NULL, rig_call_run, &c)) {
        abort();
    }
    while (!c.done) {
        loop_step(r->loop, false);
    }
    pthread_join(thread, NULL);
}

static inline void rig_poke32(struct rig_base *r, gpa_t at, uint32_t v)
{
    uint8_t b[4];
    store_le32(b, v);
    gmem_write(r->mem, at, b, 4);
}

static inline uint32_t rig_peek32(struct rig_base *r, gpa_t at)
{
    uint8_t b[4] = {0};
    gmem_read(r->mem, at, b, 4);
    return load_le32(b);
}

static inline uint32_t rig_disk32(const struct rig_medium *m, uint64_t at)
{
    uint8_t b[4] = {0};
    return pread(m->fd, b, 4, (off_t)at) == 4 ? load_le32(b) : UINT32_MAX;
}

#endif
