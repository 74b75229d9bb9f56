/*
 * The IDE channel and AHCI, each with a disk and a CD drive, driven by a guest that means no good:
 * register accesses, memory writes, packets, command slots, media taken out and put in. The loop is
 * turned by the input, so that accesses fall into the middle of commands. Input: which adapter,
 * then a program.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/err.h"
#include "block/block.h"
#include "dev/ata/ahci.h"
#include "dev/ata/ide_channel.h"
#include "loop/loop.h"
#include "tests/fuzz/fuzz.h"

enum {
    RAM_SIZE = 0x20000,
    DISK_SIZE = 0x40000,
    LIST = 0x1000,
    FIS = 0x2000,
    TABLES = 0x4000, /* 256 bytes each */
    PRDS = 0x3000,
    DATA = 0x8000,
};

struct fuzz {
    struct fuzz_in in;
    struct loop *loop;
    struct block_graph *graph;
    struct ram_set rams;
    struct mem_map *mem;
    struct block *block[2];
    int fd[2];
    struct ata_drive hd, cd;
    bool use_ahci;
    struct ide_channel ch;
    struct ahci ahci;
};

static struct mem_map *dma(void *opaque)
{
    return ((struct fuzz *)opaque)->mem;
}

static void no_irq(void *opaque, bool level)
{
}

static const struct ahci_wires wires = {no_irq, dma};

static void open_block(struct fuzz *f, unsigned n)
{
    char path[32];
    struct err err;
    f->fd[n] = memfd_create("drive", MFD_CLOEXEC);
    if (f->fd[n] < 0 || ftruncate(f->fd[n], DISK_SIZE)) {
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
    static const struct ata_ident ident = {.serial = NULL};
    struct err err;
    f->loop = loop_new(&err);
    f->graph = block_graph_new(f->loop);
    f->mem = mem_map_new("mem", 0);
    mem_map_add_ram(f->mem, 0, ram_set_add(&f->rams, "ram", RAM_SIZE, &err), 0, RAM_SIZE);
    open_block(f, 0);
    open_block(f, 1);
    disk_init(&f->hd.disk, NULL, f->block[0]);
    disk_init(&f->cd.disk, NULL, f->block[1]);
    ata_drive_init(&f->hd, false, &ident);
    ata_drive_init(&f->cd, true, &ident);
    ide_channel_init(&f->ch, dma, f);
    ahci_init(&f->ahci, &wires, f);
    if (f->use_ahci) {
        ahci_attach(&f->ahci, 0, &f->hd);
        ahci_attach(&f->ahci, 1, &f->cd);
    } else {
        ide_channel_attach(&f->ch, 0, &f->hd);
        ide_channel_attach(&f->ch, 1, &f->cd);
    }
}

static void settle(struct fuzz *f)
{
    while (disk_busy(&f->hd.disk) || disk_busy(&f->cd.disk)) {
        loop_step(f->loop, true);
    }
}

static void tear_down(struct fuzz *f)
{
    settle(f);
    ide_channel_fini(&f->ch);
    ahci_fini(&f->ahci);
    disk_fini(&f->hd.disk);
    disk_fini(&f->cd.disk);
    block_close(f->block[0]);
    block_close(f->block[1]);
    close(f->fd[0]);
    close(f->fd[1]);
    block_graph_free(f->graph);
    loop_free(f->loop);
    mem_map_free(f->mem);
    ram_set_free(&f->rams);
}

/* ---- What the program can do ---- */

static void put_bytes(struct fuzz *f, gpa_t at, unsigned n)
{
    for (; n; n--) {
        uint8_t b = fuzz_u8(&f->in);
        gmem_write(f->mem, at++, &b, 1);
    }
}

static void scribble(struct fuzz *f)
{
    gpa_t at = fuzz_u16(&f->in);
    put_bytes(f, at, fuzz_u8(&f->in) & 31);
}

static void poke(struct fuzz *f, gpa_t at, uint32_t v)
{
    uint8_t b[4];
    store_le32(b, v);
    gmem_write(f->mem, at, b, 4);
}

/* One byte chooses between somewhere in RAM and anywhere at all. */
static uint32_t address(struct fuzz *f)
{
    uint32_t v = fuzz_u32(&f->in);
    return v & 1 ? v : (v >> 8) % RAM_SIZE;
}

static void ide_access(struct fuzz *f, const struct mmio *block, unsigned ports)
{
    unsigned how = fuzz_u8(&f->in), off = fuzz_u8(&f->in) % ports, size = 1u << (how >> 1 & 3);
    uint64_t v;
    size = size > block->max ? block->max : size;
    off &= ~(size - 1);
    if (how & 1) {
        block->write(&f->ch, off, size, fuzz_u32(&f->in));
    } else {
        block->read(&f->ch, off, size, &v);
    }
}

static void ide_out(struct fuzz *f, unsigned reg, unsigned v)
{
    ide_command_block.write(&f->ch, reg, 1, v);
}

static void ide_command(struct fuzz *f)
{
    unsigned device = fuzz_u8(&f->in), count = fuzz_u8(&f->in), lba = fuzz_u16(&f->in);
    ide_out(f, 6, device);
    ide_out(f, 2, count);
    ide_out(f, 3, lba & 0xff);
    ide_out(f, 4, lba >> 8);
    ide_out(f, 5, device & 8 ? lba & 1 : 0);
    ide_out(f, 1, fuzz_u8(&f->in));
    ide_out(f, 7, fuzz_u8(&f->in));
}

static void ide_packet(struct fuzz *f)
{
    ide_out(f, 6, 0xb0);
    ide_out(f, 1, fuzz_u8(&f->in));
    ide_out(f, 4, fuzz_u8(&f->in));
    ide_out(f, 5, fuzz_u8(&f->in));
    ide_out(f, 7, 0xa0);
    for (unsigned i = 0; i < 6; i++) {
        ide_command_block.write(&f->ch, 0, 2, fuzz_u16(&f->in));
    }
}

/* Through the data port, both ways, until it is all through or the count is at its end. */
static void ide_pump(struct fuzz *f)
{
    uint64_t v;
    for (unsigned n = fuzz_u8(&f->in) * 64; n; n--) {
        ide_command_block.read(&f->ch, 0, 4, &v);
        ide_command_block.write(&f->ch, 0, 4, v);
    }
}

static void ide_dma(struct fuzz *f)
{
    unsigned n = fuzz_u8(&f->in) % 8 + 1;
    for (unsigned i = 0; i < n; i++) {
        poke(f, PRDS + 8 * i, address(f));
        poke(f, PRDS + 8 * i + 4, fuzz_u16(&f->in) | (i + 1 == n ? 1u << 31 : 0));
    }
    ide_bus_master.write(&f->ch, 4, 4, PRDS);
    ide_bus_master.write(&f->ch, 0, 1, fuzz_u8(&f->in) & 9);
}

static void ahci_access(struct fuzz *f)
{
    unsigned how = fuzz_u8(&f->in), off = fuzz_u8(&f->in) * 4 % 0x80;
    uint64_t v;
    off += how & 2 ? 0 : 0x100 + (how >> 2) % 3 * 0x80u;
    if (how & 1) {
        ahci_abar.write(&f->ahci, off, 4, fuzz_u32(&f->in));
    } else {
        ahci_abar.read(&f->ahci, off, 4, &v);
    }
}

static void ahci_start(struct fuzz *f)
{
    for (unsigned n = 0; n < 2; n++) {
        unsigned at = 0x100 + 0x80 * n;
        ahci_abar.write(&f->ahci, at, 4, LIST + 0x400 * n);
        ahci_abar.write(&f->ahci, at + 8, 4, FIS + 0x100 * n);
        ahci_abar.write(&f->ahci, at + 0x18, 4, 0x10);
        ahci_abar.write(&f->ahci, at + 0x18, 4, 0x11);
    }
}

static void ahci_command(struct fuzz *f)
{
    unsigned slot = fuzz_u8(&f->in) % 32, port = fuzz_u8(&f->in) & 1, n = fuzz_u8(&f->in) % 6;
    gpa_t table = TABLES + 256 * slot, head = LIST + 0x400 * port + 32 * slot;
    uint8_t command = fuzz_u8(&f->in);
    poke(f, head, n << 16 | 5);
    poke(f, head + 8, (uint32_t)table);
    poke(f, head + 12, 0);
    poke(f, table, 0x8027 | (uint32_t)command << 16 | (uint32_t)fuzz_u8(&f->in) << 24);
    poke(f, table + 4, fuzz_u16(&f->in) | 0x40000000);
    poke(f, table + 8, 0);
    poke(f, table + 12, command == 0x60 || command == 0x61 ? slot << 3 : fuzz_u8(&f->in));
    put_bytes(f, table + 0x40, command == 0xa0 ? 12 : 0);
    for (unsigned i = 0; i < n; i++) {
        poke(f, table + 0x80 + 16 * i, address(f));
        poke(f, table + 0x84 + 16 * i, 0);
        poke(f, table + 0x8c + 16 * i, fuzz_u16(&f->in));
    }
    ahci_abar.write(&f->ahci, 0x134 + 0x80 * port, 4, 1u << slot);
    ahci_abar.write(&f->ahci, 0x138 + 0x80 * port, 4, 1u << slot);
}

static void change_medium(struct fuzz *f)
{
    unsigned how = fuzz_u8(&f->in);
    struct block *block = how & 2 ? f->block[1] : NULL;
    settle(f);
    if (f->use_ahci) {
        ahci_eject(&f->ahci, &f->cd, how & 1);
        ahci_insert(&f->ahci, &f->cd, block);
    } else {
        ide_channel_eject(&f->ch, &f->cd, how & 1);
        ide_channel_insert(&f->ch, &f->cd, block);
    }
}

static void ide_step(struct fuzz *f, unsigned what)
{
    switch (what) {
    case 0: ide_access(f, &ide_command_block, 8); break;
    case 1: ide_access(f, &ide_control_block, 1); break;
    case 2: ide_access(f, &ide_bus_master, 8); break;
    case 3: ide_command(f); break;
    case 4: ide_packet(f); break;
    case 5: ide_pump(f); break;
    default: ide_dma(f); break;
    }
}

static void ahci_step(struct fuzz *f, unsigned what)
{
    switch (what) {
    case 0:
    case 1: ahci_access(f); break;
    case 2: ahci_start(f); break;
    default: ahci_command(f); break;
    }
}

static void program(struct fuzz *f)
{
    for (unsigned steps = 0; f->in.p < f->in.end && steps < 200; steps++) {
        unsigned what = fuzz_u8(&f->in) % 12;
        switch (what) {
        case 11: change_medium(f); break;
        case 10: scribble(f); break;
        case 9: settle(f); break;
        case 8: loop_step(f->loop, false); break;
        default:
            if (f->use_ahci) {
                ahci_step(f, what);
            } else {
                ide_step(f, what);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz *f = calloc(1, sizeof(*f));
    f->in = (struct fuzz_in){data, data + size};
    f->use_ahci = fuzz_u8(&f->in) & 1;
    set_up(f);
    program(f);
    tear_down(f);
    free(f);
    return 0;
}
