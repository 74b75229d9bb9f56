/*
 * The NVMe controller, driven by a guest that means no good: registers, doorbells, commands with
 * any fields, memory changed meanwhile. The loop is turned by the input, so that accesses fall into
 * the middle of commands. Input: a program.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/err.h"
#include "block/block.h"
#include "dev/nvme/nvme.h"
#include "loop/loop.h"
#include "tests/fuzz/fuzz.h"

enum {
    RAM_SIZE = 0x20000,
    DISK_SIZE = 0x40000,
    SQ = 0x1000, /* 1000h for each queue: submission, then completion */
    DATA = 0x8000,
    QUEUES = 3,
    ENTRIES = 16,
};

struct fuzz {
    struct fuzz_in in;
    struct loop *loop;
    struct block_graph *graph;
    struct ram_set rams;
    struct mem_map *mem;
    struct block *block;
    int fd;
    struct nvme n;
    bool msix;
    unsigned tail[QUEUES];
};

static struct mem_map *see_dma(void *opaque)
{
    return ((struct fuzz *)opaque)->mem;
}

static bool see_msix(void *opaque)
{
    return ((struct fuzz *)opaque)->msix;
}

static void see_notify(void *opaque, unsigned vector)
{
    if (vector >= NVME_QUEUES) {
        abort();
    }
}

static void see_line(void *opaque, bool level)
{
}

static const struct nvme_wires wires = {see_dma, see_msix, see_notify, see_line};

static void set_up(struct fuzz *f)
{
    char path[32];
    struct err err;
    f->loop = loop_new(&err);
    f->graph = block_graph_new(f->loop);
    f->mem = mem_map_new("mem", 0);
    mem_map_add_ram(f->mem, 0, ram_set_add(&f->rams, "ram", RAM_SIZE, &err), 0, RAM_SIZE);
    f->fd = memfd_create("drive", MFD_CLOEXEC);
    if (f->fd < 0 || ftruncate(f->fd, DISK_SIZE)) {
        abort();
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
    f->block = block_open_name(f->graph, path, "raw", NULL, BLOCK_RDWR, &err);
    if (!f->block) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    disk_init(&f->n.disk, NULL, f->block);
    nvme_init(&f->n, &wires, f, "fuzz", NVME_QUEUES - 1);
}

static void settle(struct fuzz *f)
{
    while (disk_busy(&f->n.disk)) {
        loop_step(f->loop, true);
    }
}

static void tear_down(struct fuzz *f)
{
    f->n.quiet = true; /* what ends begins nothing more */
    settle(f);
    nvme_reset(&f->n);
    disk_fini(&f->n.disk);
    nvme_fini(&f->n);
    block_close(f->block);
    close(f->fd);
    block_graph_free(f->graph);
    loop_free(f->loop);
    mem_map_free(f->mem);
    ram_set_free(&f->rams);
}

/* ---- What the program can do ---- */

static void wr(struct fuzz *f, uint32_t off, uint32_t val)
{
    nvme_regs.write(&f->n, off, 4, val);
}

static gpa_t sq_at(unsigned q)
{
    return SQ + 0x2000 * q;
}

static uint64_t address(struct fuzz *f)
{
    uint32_t v = fuzz_u32(&f->in);
    uint64_t page = v >> 8 & 0x1f;
    return v & 1 ? fuzz_u64(&f->in) : page << 12 | (v & 2 ? v >> 16 & 0xffc : 0);
}

static void submit(struct fuzz *f, unsigned q, const uint8_t *e)
{
    gmem_write(f->mem, sq_at(q) + 64 * f->tail[q], e, 64);
    f->tail[q] = (f->tail[q] + 1) % ENTRIES;
    wr(f, 0x1000 + 8 * q, f->tail[q]);
}

static void enable(struct fuzz *f)
{
    memset(f->tail, 0, sizeof(f->tail));
    wr(f, 0x24, (ENTRIES - 1) << 16 | (ENTRIES - 1));
    wr(f, 0x28, sq_at(0));
    wr(f, 0x30, sq_at(0) + 0x1000);
    wr(f, 0x14, 0x460001);
    for (unsigned q = 1; q < QUEUES; q++) {
        uint8_t e[64] = {5};
        store_le64(e + 24, sq_at(q) + 0x1000);
        store_le32(e + 40, (ENTRIES - 1) << 16 | q);
        store_le32(e + 44, q << 16 | 3);
        submit(f, 0, e);
        e[0] = 1;
        store_le64(e + 24, sq_at(q));
        submit(f, 0, e);
    }
}

static void command(struct fuzz *f)
{
    static const uint8_t io[] = {0, 1, 2, 5, 8, 9}, admin[] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12};
    unsigned q = fuzz_u8(&f->in) % QUEUES, op = fuzz_u8(&f->in);
    uint8_t e[64] = {0};
    e[0] = op & 0x80 ? (uint8_t)op : q ? io[op % sizeof(io)] : admin[op % sizeof(admin)];
    e[1] = op == 0x7f ? fuzz_u8(&f->in) : 0;
    e[2] = (uint8_t)op;
    store_le32(e + 4, op & 0x40 ? fuzz_u32(&f->in) : 1);
    store_le64(e + 24, address(f));
    store_le64(e + 32, address(f));
    for (unsigned at = 40; at < 56; at += 4) {
        store_le32(e + at, op & 0x20 ? fuzz_u32(&f->in) : fuzz_u8(&f->in));
    }
    submit(f, q, e);
}

static void scribble(struct fuzz *f)
{
    gpa_t at = fuzz_u16(&f->in) * 2;
    for (unsigned n = fuzz_u8(&f->in) & 31; n; n--) {
        uint8_t b = fuzz_u8(&f->in);
        gmem_write(f->mem, at++, &b, 1);
    }
}

static void take(struct fuzz *f)
{
    unsigned how = fuzz_u8(&f->in);
    wr(f, 0x1004 + 8 * (how % QUEUES), how >> 2 & (ENTRIES - 1));
}

static void program(struct fuzz *f)
{
    uint64_t v;
    for (unsigned steps = 0; f->in.p < f->in.end && steps < 300; steps++) {
        switch (fuzz_u8(&f->in) % 10) {
        case 0: enable(f); break;
        case 1:
        case 2:
        case 3: command(f); break;
        case 4: scribble(f); break;
        case 5: take(f); break;
        case 6: wr(f, fuzz_u8(&f->in) % 0x40 & ~3u, fuzz_u32(&f->in)); break;
        case 7: wr(f, 0x1000 + (fuzz_u8(&f->in) % 160) * 4, fuzz_u16(&f->in)); break;
        case 8:
            nvme_regs.read(&f->n, fuzz_u16(&f->in) & 0x1ffc, 4, &v);
            f->msix = v & 1;
            break;
        default: loop_step(f->loop, false); break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz *f = calloc(1, sizeof(*f));
    f->in = (struct fuzz_in){data, data + size};
    set_up(f);
    enable(f);
    program(f);
    tear_down(f);
    free(f);
    return 0;
}
