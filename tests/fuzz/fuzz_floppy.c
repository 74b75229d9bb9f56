/*
 * The floppy controller with its DMA controllers, driven by a guest that means no good: register
 * accesses, whole commands with DMA or without, memory writes, media taken out and put in. The loop
 * is turned by the input, so that accesses fall into the middle of commands.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "block/block.h"
#include "dev/dma/i8237.h"
#include "dev/floppy/fdc.h"
#include "loop/loop.h"
#include "tests/fuzz/fuzz.h"

enum { RAM_SIZE = 0x40000, CHANNEL = 2, DRIVES = 2, REG_MSR = 4, REG_FIFO = 5 };

static const uint32_t sizes[DRIVES] = {2880 * FDD_SECTOR, 320 * FDD_SECTOR};

struct fuzz {
    struct fuzz_in in;
    struct loop *loop;
    struct block_graph *graph;
    struct ram_set rams;
    struct mem_map *mem, *io;
    struct block *block[DRIVES];
    int fd[DRIVES];
    struct fdd drive[DRIVES];
    struct i8237_pair *dma;
    struct fdc fdc;
};

static void open_block(struct fuzz *f, unsigned n)
{
    char path[32];
    struct err err;
    f->fd[n] = memfd_create("floppy", MFD_CLOEXEC);
    if (f->fd[n] < 0 || ftruncate(f->fd[n], sizes[n])) {
        abort();
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd[n]);
    f->block[n] = block_open_name(f->graph, path, "raw", NULL, n ? 0 : BLOCK_RDWR, &err);
    if (!f->block[n]) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

static void set_up(struct fuzz *f)
{
    struct err err;
    f->loop = loop_new(&err);
    f->graph = block_graph_new(f->loop);
    f->mem = mem_map_new("mem", 0);
    f->io = mem_map_new("io", 0x10000);
    mem_map_add_ram(f->mem, 0, ram_set_add(&f->rams, "ram", RAM_SIZE, &err), 0, RAM_SIZE);
    f->dma = i8237_new(f->mem);
    i8237_map(f->dma, f->io);
    fdc_init(&f->fdc);
    f->fdc.dma = f->dma;
    f->fdc.dma_channel = CHANNEL;
    i8237_connect(f->dma, CHANNEL, fdc_dma_ready, &f->fdc);
    mem_map_add_mmio(f->io, 0x3f0, 6, &fdc_ports, &f->fdc);
    mem_map_add_mmio(f->io, 0x3f7, 1, &fdc_port7, &f->fdc);
    for (unsigned n = 0; n < DRIVES; n++) {
        open_block(f, n);
        disk_init(&f->drive[n].disk, NULL, f->block[n]);
        fdd_init(&f->drive[n], FDD_NONE);
        fdc_attach(&f->fdc, n, &f->drive[n]);
    }
}

static bool busy(struct fuzz *f)
{
    return disk_busy(&f->drive[0].disk) || disk_busy(&f->drive[1].disk);
}

static void settle(struct fuzz *f)
{
    while (busy(f)) {
        loop_step(f->loop, true);
    }
}

static void tear_down(struct fuzz *f)
{
    settle(f);
    fdc_reset(&f->fdc);
    for (unsigned n = 0; n < DRIVES; n++) {
        fdc_attach(&f->fdc, n, NULL);
        disk_fini(&f->drive[n].disk);
        block_close(f->block[n]);
        close(f->fd[n]);
    }
    fdc_fini(&f->fdc);
    i8237_free(f->dma);
    block_graph_free(f->graph);
    loop_free(f->loop);
    mem_map_free(f->mem);
    mem_map_free(f->io);
    ram_set_free(&f->rams);
}

/* ---- What the program can do ---- */

static void out8(struct fuzz *f, unsigned port, unsigned val)
{
    mem_write(f->io, port, 1, val & 0xff);
}

static uint8_t in8(struct fuzz *f, unsigned port)
{
    uint64_t v = 0;
    mem_read(f->io, port, 1, &v);
    return (uint8_t)v;
}

static void access_fdc(struct fuzz *f)
{
    unsigned how = fuzz_u8(&f->in), port = 0x3f0 + (how >> 1 & 7);
    if (how & 1) {
        out8(f, port, fuzz_u8(&f->in));
    } else {
        in8(f, port);
    }
}

static void access_dma(struct fuzz *f)
{
    static const uint8_t bases[] = {0x00, 0x80, 0xc0, 0xd0};
    unsigned how = fuzz_u8(&f->in), port = bases[how >> 1 & 3] + (how >> 3 & 15);
    if (how & 1) {
        out8(f, port, fuzz_u8(&f->in));
    } else {
        in8(f, port);
    }
}

/* Channel 2 as software programs it, the mode of any kind. */
static void program_dma(struct fuzz *f)
{
    unsigned mode = fuzz_u8(&f->in), page = fuzz_u8(&f->in) & 7, at = fuzz_u16(&f->in),
             count = fuzz_u16(&f->in);
    out8(f, 0x0c, 0);
    out8(f, 0x0b, (mode & 0xfc) | CHANNEL);
    out8(f, 0x04, at);
    out8(f, 0x04, at >> 8);
    out8(f, 0x81, page);
    out8(f, 0x05, count);
    out8(f, 0x05, count >> 8);
    out8(f, 0x0a, CHANNEL);
}

static void start_fdc(struct fuzz *f)
{
    unsigned how = fuzz_u8(&f->in);
    out8(f, 0x3f2, how & 3);
    out8(f, 0x3f2, 0x30 | (how & 0xb) | 4);
    out8(f, 0x3f7, how >> 4 & 3);
}

/* Plausible: the sector is likely to be there. */
static void data_command(struct fuzz *f)
{
    static const uint8_t codes[] = {0xe6, 0xc5, 0x46, 0x45, 0x4d, 0x42, 0x56, 0x4c, 0x4a, 0xf6};
    unsigned how = fuzz_u8(&f->in), head = how >> 1 & 1, unit = how & 1;
    uint8_t code = codes[fuzz_u8(&f->in) % sizeof(codes)];
    const uint8_t rest[] = {(uint8_t)(head << 2 | unit | (how & 0x80)),
                            f->drive[unit].cylinder,
                            (uint8_t)head,
                            (uint8_t)(fuzz_u8(&f->in) % 20),
                            2,
                            (uint8_t)(fuzz_u8(&f->in) % 20),
                            0x1b,
                            0xff};
    out8(f, 0x3f5, code);
    for (unsigned i = 0; i < sizeof(rest); i++) {
        out8(f, 0x3f5, rest[i]);
    }
}

static void any_command(struct fuzz *f)
{
    for (unsigned n = fuzz_u8(&f->in) % 12 + 1; n; n--) {
        out8(f, 0x3f5, fuzz_u8(&f->in));
    }
}

/* The FIFO, the way it says, or against it. */
static void pump(struct fuzz *f)
{
    unsigned how = fuzz_u8(&f->in);
    for (unsigned n = (how >> 1) * 16; n; n--) {
        bool to_host = in8(f, 0x3f0 + REG_MSR) & 0x40;
        if (to_host != (bool)(how & 1)) {
            in8(f, 0x3f0 + REG_FIFO);
        } else {
            out8(f, 0x3f0 + REG_FIFO, n);
        }
    }
}

static void change_medium(struct fuzz *f)
{
    unsigned how = fuzz_u8(&f->in);
    struct block *block = how & 2 ? f->block[how >> 2 & 1] : NULL;
    settle(f);
    fdc_change_medium(&f->fdc, &f->drive[how & 1], block);
}

static void program(struct fuzz *f)
{
    for (unsigned steps = 0; f->in.p < f->in.end && steps < 200; steps++) {
        switch (fuzz_u8(&f->in) % 12) {
        case 0: access_dma(f); break;
        case 1: program_dma(f); break;
        case 2: start_fdc(f); break;
        case 3:
        case 4: data_command(f); break;
        case 5: any_command(f); break;
        case 6: pump(f); break;
        case 7: change_medium(f); break;
        case 8: settle(f); break;
        case 9: loop_step(f->loop, false); break;
        default: access_fdc(f); break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz *f = calloc(1, sizeof(*f));
    f->in = (struct fuzz_in){data, data + size};
    set_up(f);
    program(f);
    tear_down(f);
    free(f);
    return 0;
}
