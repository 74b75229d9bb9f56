/*
 * The floppy controller and the DMA controllers, driven by a guest that means no good: any port
 * with any value, commands cut short or followed by too much, channels set up while a command
 * waits, media that go in the middle. The loop is turned by the input. Input: a program.
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

enum { RAM_SIZE = 0x40000, FLOPPY_SIZE = 160 << 10, PORT = 0x3f0, CHANNEL = 2 };

struct fuzz {
    struct fuzz_in in;
    struct loop *loop;
    struct block_graph *graph;
    struct ram_set rams;
    struct mem_map *mem, *io;
    struct block *block;
    int fd;
    struct irq_pin pin;
    struct i8237_pair *dma;
    struct fdd fdd;
    struct fdc fdc;
};

static void see_irq(void *opaque, unsigned n, bool level)
{
}

static void set_up(struct fuzz *f)
{
    char path[32];
    struct err err;
    f->loop = loop_new(&err);
    f->graph = block_graph_new(f->loop);
    f->mem = mem_map_new("mem", 0);
    f->io = mem_map_new("io", 0x10000);
    mem_map_add_ram(f->mem, 0, ram_set_add(&f->rams, "ram", RAM_SIZE, &err), 0, RAM_SIZE);
    f->fd = memfd_create("floppy", MFD_CLOEXEC);
    if (f->fd < 0 || ftruncate(f->fd, FLOPPY_SIZE)) {
        abort();
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
    f->block = block_open_name(f->graph, path, "raw", NULL, BLOCK_RDWR, &err);
    if (!f->block) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    irq_pin_init(&f->pin);
    irq_pin_add(&f->pin, see_irq, f, 0);
    f->dma = i8237_new(f->mem);
    i8237_map(f->dma, f->io);
    disk_init(&f->fdd.disk, NULL, f->block);
    fdd_init(&f->fdd, FDD_NONE);
    fdc_init(&f->fdc);
    irq_connect(&f->fdc.irq, &f->pin);
    f->fdc.dma = f->dma;
    f->fdc.dma_channel = CHANNEL;
    i8237_connect(f->dma, CHANNEL, fdc_dma_ready, &f->fdc);
    mem_map_add_mmio(f->io, PORT, 6, &fdc_ports, &f->fdc);
    mem_map_add_mmio(f->io, PORT + 7, 1, &fdc_port7, &f->fdc);
    fdc_attach(&f->fdc, 0, &f->fdd);
}

static void settle(struct fuzz *f)
{
    while (disk_busy(&f->fdd.disk)) {
        loop_step(f->loop, true);
    }
}

static void out8(struct fuzz *f, unsigned port, unsigned val)
{
    mem_write(f->io, port, 1, val);
}

static unsigned in8(struct fuzz *f, unsigned port)
{
    uint64_t v = 0;
    mem_read(f->io, port, 1, &v);
    return (unsigned)v;
}

static void tear_down(struct fuzz *f)
{
    out8(f, PORT + 2, 0); /* what ends begins nothing more */
    settle(f);
    fdc_attach(&f->fdc, 0, NULL);
    fdc_fini(&f->fdc);
    disk_fini(&f->fdd.disk);
    block_close(f->block);
    close(f->fd);
    i8237_free(f->dma);
    irq_pin_fini(&f->pin);
    block_graph_free(f->graph);
    loop_free(f->loop);
    mem_map_free(f->mem);
    mem_map_free(f->io);
    ram_set_free(&f->rams);
}

/* Invariants 1 to 3 of fdc.h. */
static void check(const struct fuzz *f)
{
    const struct fdc *c = &f->fdc;
    if (c->cmd_len > c->cmd_need || c->cmd_need > sizeof(c->cmd) || c->result_pos > c->result_len ||
        c->result_len > sizeof(c->result) || c->pos > c->len || c->len > sizeof(c->buf)) {
        abort();
    }
}

/* ---- What the program can do ---- */

static void bytes(struct fuzz *f)
{
    for (unsigned n = fuzz_u8(&f->in) & 15; n; n--) {
        out8(f, PORT + 5, fuzz_u8(&f->in));
    }
}

/* A command of the kinds that move data, mostly right. */
static void data_command(struct fuzz *f)
{
    static const uint8_t codes[] = {0xe6, 0x46, 0xc5, 0x45, 0x66, 0xf6, 0x76, 0x42, 0x4c, 0x49};
    unsigned how = fuzz_u8(&f->in), wrong = fuzz_u8(&f->in);
    uint8_t cmd[9] = {codes[how % sizeof(codes)], 0, f->fdd.cylinder, 0, 1, 2, 8, 0x1b, 0xff};
    if (wrong & 0x80) {
        cmd[wrong % sizeof(cmd)] = fuzz_u8(&f->in);
    } else {
        cmd[4] = (uint8_t)(wrong % 9);
    }
    for (unsigned i = 0; i < sizeof(cmd); i++) {
        out8(f, PORT + 5, cmd[i]);
    }
}

static void channel(struct fuzz *f)
{
    static const uint8_t modes[] = {0x44, 0x48, 0x40, 0x54, 0x58, 0x64};
    unsigned how = fuzz_u8(&f->in), count = fuzz_u16(&f->in);
    out8(f, 0x0c, 0);
    out8(f, 0x0b, modes[how % sizeof(modes)] | CHANNEL);
    out8(f, 0x05, count & 0xff);
    out8(f, 0x05, count >> 8);
    out8(f, 0x81, how >> 4);
    out8(f, 0x0a, CHANNEL);
}

static void dma_port(struct fuzz *f)
{
    static const uint8_t bases[] = {0, 0xc0, 0xd0, 0x80};
    unsigned port = fuzz_u8(&f->in);
    unsigned at = bases[port >> 4 & 3] + (port & 15);
    if (port & 0x80) {
        in8(f, at);
    } else {
        out8(f, at, fuzz_u8(&f->in));
    }
}

static void pump(struct fuzz *f)
{
    unsigned how = fuzz_u8(&f->in), n = (how & 7) * 128 + 1;
    for (; n; n--) {
        if (how & 8) {
            out8(f, PORT + 5, how >> 4);
        } else {
            in8(f, PORT + 5);
        }
    }
}

static void wake_up(struct fuzz *f)
{
    out8(f, PORT + 2, 0);
    settle(f);
    out8(f, PORT + 2, 0x1c);
    out8(f, PORT + 7, 2);
}

static void program(struct fuzz *f)
{
    for (unsigned steps = 0; f->in.p < f->in.end && steps < 300; steps++) {
        switch (fuzz_u8(&f->in) % 12) {
        case 0: out8(f, PORT + fuzz_u8(&f->in) % 8, fuzz_u8(&f->in)); break;
        case 1: in8(f, PORT + fuzz_u8(&f->in) % 8); break;
        case 2: bytes(f); break;
        case 3:
        case 4: data_command(f); break;
        case 5: channel(f); break;
        case 6: dma_port(f); break;
        case 7: pump(f); break;
        case 8: wake_up(f); break;
        case 9:
            settle(f);
            fdc_change_medium(&f->fdc, &f->fdd, fuzz_u8(&f->in) & 1 ? f->block : NULL);
            break;
        default: loop_step(f->loop, false); break;
        }
        check(f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz *f = calloc(1, sizeof(*f));
    f->in = (struct fuzz_in){data, data + size};
    set_up(f);
    wake_up(f);
    program(f);
    tear_down(f);
    free(f);
    return 0;
}
