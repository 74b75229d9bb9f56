/*
 * What every PC has, driven by a guest that means no good, on a whole board whose processors run
 * nothing: fw_cfg, flash, keyboard controller, CMOS, PIT, HPET, PICs, APICs, power management, PCI
 * configuration with bridges, serial and parallel port, DMA controllers, reset ports, devices for
 * debugging. Input: which board, then a program of accesses, time, keys and resets.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "board/test_board.h"
#include "chardev/chardev.h"
#include "dev/misc/isa_debug_exit.h"
#include "dev/misc/isa_debugcon.h"
#include "dev/misc/misc_devices.h"
#include "dev/misc/pvpanic.h"
#include "dev/pci/pci_bridge.h"
#include "dev/virtio/drive_policy.h"
#include "display/display.h"
#include "tests/fuzz/fuzz.h"

enum { FLASH = 64 << 10, MAX_STEPS = 400 };
#define FLASH_BASE (0x100000000ull - FLASH)

/* The flash's image, whose loop has a thread of its own. */
struct flash {
    struct loop *loop;
    struct block_graph *graph;
    struct block *block;
    pthread_t thread;
    int fd;
};

struct rig {
    struct machine *m;
    struct display *display;
    struct drive_policy policy;
};

static void *run_loop(void *opaque)
{
    loop_run(opaque);
    return NULL;
}

static void flash_open(struct flash *f)
{
    struct err err;
    char path[32];
    f->loop = loop_new(&err);
    f->graph = block_graph_new(f->loop);
    f->fd = memfd_create("flash", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
    test_board_need(ftruncate(f->fd, FLASH), &err);
    f->block = block_open_name(f->graph, path, "raw", NULL, BLOCK_RDWR, &err);
    test_board_need(!f->block, &err);
    pthread_create(&f->thread, NULL, run_loop, f->loop);
}

static void flash_close(struct flash *f)
{
    loop_stop(f->loop);
    pthread_join(f->thread, NULL);
    block_close(f->block);
    block_graph_free(f->graph);
    loop_free(f->loop);
    close(f->fd);
}

static void add_chardev(struct machine *m, const char *id, const char *args)
{
    struct keyval kv = {0};
    struct err err;
    test_board_need(keyval_parse(&kv, args, "backend", &err), &err);
    struct chardev *c = chardev_new(m->loop, &kv, &err);
    test_board_need(!c, &err);
    keyval_free(&kv);
    machine_add_backend(m, "chardev", id, c, chardev_free);
}

/* Backends come between the machine and what the board builds. */
static void before_build(struct machine *m, void *opaque)
{
    struct flash *f = ((void **)opaque)[0];
    struct rig *r = ((void **)opaque)[1];
    r->display = m->display = display_new(m->clock);
    machine_add_backend(m, "drive", "pflash0", f->block, NULL);
    machine_add_backend(m, "drive-policy", "pflash0", &r->policy, NULL);
    add_chardev(m, "serial0", "ringbuf,id=serial0,size=16");
    add_chardev(m, "parallel0", "ringbuf,id=parallel0,size=16");
    add_chardev(m, "debug", "null,id=debug");
}

static void rig_up(struct rig *r, struct flash *f, bool q35, bool smm)
{
    void *both[] = {f, r};
    memset(r, 0, sizeof(*r));
    struct machine *m = test_board_new_with(q35 ? &board_q35 : &board_pc, smm ? "smm=on" : "", 2,
                                            before_build, both);
    r->m = m;
    test_board_device(m, &isa_debug_exit_type, "");
    test_board_device(m, &isa_debugcon_type, "chardev=debug");
    test_board_device(m, &pvpanic_isa_type, "");
    test_board_device(m, &edu_type, "addr=4,dma_mask=0xffffffffffffffff");
    test_board_device(m, &pci_bridge_type, "addr=5,id=outer");
    test_board_device(m, &pci_bridge_type, "addr=1,id=inner,bus=outer");
    test_board_device(m, &pvpanic_pci_type, "addr=2,bus=inner");
    if (q35) {
        test_board_device(m, &pcie_root_port_type, "addr=6,id=port");
        test_board_device(m, &i6300esb_type, "bus=port");
    }
    test_board_reset(m);
    m->state = MACHINE_RUNNING;
}

static void rig_down(struct rig *r)
{
    test_board_free(r->m);
}

/* ---- Steps ---- */

static unsigned some_size(uint8_t op)
{
    return 1u << (op >> 6);
}

/* Ports that mean something, and those near them. */
static unsigned some_port(struct fuzz_in *in)
{
    static const uint16_t known[] = {
        0x00,  0x08,  0x0a,  0x80,  0xc0,  0xd0,   0x20,   0xa0,   0x40,  0x43,  0x60,  0x61,
        0x64,  0x70,  0x71,  0x92,  0xb2,  0xe9,   0xf0,   0x170,  0x1f0, 0x278, 0x378, 0x3bc,
        0x3f0, 0x3f8, 0x400, 0x402, 0x480, 0x4d0,  0x501,  0x505,  0x510, 0x514, 0x600, 0x620,
        0x630, 0x660, 0xcf8, 0xcf9, 0xcfc, 0xafe0, 0xb000, 0xc000, 0xe0,  0x2000};
    uint8_t which = fuzz_u8(in);
    unsigned n = which % (sizeof(known) / sizeof(known[0]) + 1);
    unsigned near = which >> 7 ? fuzz_u8(in) & 63 : 0;
    return n < sizeof(known) / sizeof(known[0]) ? known[n] + near : fuzz_u16(in);
}

static gpa_t some_address(struct fuzz_in *in)
{
    static const gpa_t known[] = {
        0xfee00000, 0xfec00000,         0xfed00000, 0xfed00100, 0xfed01400, 0xe0000000,
        0xc0000000, FLASH_BASE,         0xa0000,    0xc0000,    0xe0000,    0xf0000,
        0x100000,   TEST_BOARD_RAM - 8, 0xb0000000, 0xff000000, 0x4000,     0x0};
    uint8_t which = fuzz_u8(in);
    unsigned n = which % (sizeof(known) / sizeof(known[0]) + 1);
    return n < sizeof(known) / sizeof(known[0]) ? known[n] + fuzz_u16(in) : fuzz_u64(in);
}

static uint64_t some_value(struct fuzz_in *in)
{
    static const uint64_t known[] = {0xffffffff, 0x80000000,        0xe0000000, 0xc0000001,
                                     0x8000,     0xfee00000,        0x4000,     0xf4,
                                     0xd0,       TEST_BOARD_RAM - 4};
    uint8_t which = fuzz_u8(in);
    return which < sizeof(known) / sizeof(known[0]) ? known[which]
           : which & 1                              ? fuzz_u64(in)
                                                    : fuzz_u8(in);
}

static void config(struct machine *m, struct fuzz_in *in, unsigned size, bool write)
{
    static const uint16_t where[] = {0x0000, 0x0800, 0x0900, 0x0b00, 0x2000, 0x2800,
                                     0x3000, 0xf800, 0xfa00, 0xfb00, 0x0800, 0x1000};
    uint32_t at = where[fuzz_u8(in) % 12], bus = fuzz_u8(in) & 7;
    unsigned off = fuzz_u8(in);
    size = size > 4 ? 4 : size;
    if (write) {
        test_board_config_set(m, bus << 16 | at, off, size, (uint32_t)some_value(in));
    } else {
        test_board_config(m, bus << 16 | at, off, size);
    }
}

/* A DMA structure, as firmware has it, with the guest's numbers. */
static void fw_cfg(struct machine *m, struct fuzz_in *in)
{
    uint8_t d[16] = {0, fuzz_u8(in) & 0x3f, 0, fuzz_u8(in) & 0x1f};
    for (unsigned i = 4; i < sizeof(d); i++) {
        d[i] = i == 7 || i == 11 || i > 13 ? fuzz_u8(in) : 0;
    }
    gmem_write(m->mem, 0x4000, d, sizeof(d));
    test_board_out(m, 0x514, 4, 0);
    test_board_out(m, 0x518, 4, 0x00400000);
}

static void input(struct rig *r, struct fuzz_in *in)
{
    uint8_t kind = fuzz_u8(in);
    switch (kind & 3) {
    case 0: input_key(r->display, fuzz_u16(in) & 0x3ff, kind & 4); break;
    case 1: input_move(r->display, (int)fuzz_u32(in), (int)fuzz_u32(in)); break;
    case 2: input_buttons(r->display, fuzz_u8(in)); break;
    default: r->m->board->power_button(r->m);
    }
}

static void let_time_pass(struct machine *m, struct fuzz_in *in)
{
    clock_advance(m->clock, (uint64_t)fuzz_u16(in) << (fuzz_u8(in) & 15));
    loop_step(m->loop, false);
}

/* What a processor does when it is interrupted. */
static void acknowledge(struct machine *m)
{
    struct irq_ctrl *ic = irq_ctrl_current();
    while (irq_ctrl_pending(ic) && irq_ctrl_ack(ic) >= 0) {
    }
    m->vcpu[0]->events = m->vcpu[1]->events = 0;
}

static void step(struct rig *r, struct fuzz_in *in)
{
    struct machine *m = r->m;
    uint8_t op = fuzz_u8(in);
    unsigned size = some_size(op), port;
    gpa_t at;
    switch (op % 16) {
    case 0:
    case 1:
    case 2:
        port = some_port(in);
        test_board_out(m, port, size > 4 ? 4 : size, some_value(in));
        break;
    case 3:
    case 4: test_board_in(m, some_port(in), size > 4 ? 4 : size); break;
    case 5:
    case 6:
        at = some_address(in);
        test_board_write(m, at, size, some_value(in));
        break;
    case 7: test_board_read(m, some_address(in), size); break;
    case 8:
    case 9: config(m, in, size, true); break;
    case 10: config(m, in, size, false); break;
    case 11: fw_cfg(m, in); break;
    case 12: input(r, in); break;
    case 13: let_time_pass(m, in); break;
    case 14: acknowledge(m); break;
    default:
        irq_ctrl_enter(m->ic[size & 1]);
        if (size == 8 && !fuzz_u8(in)) {
            test_board_reset(m);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, data + size};
    struct flash flash;
    struct rig r;
    uint8_t which = fuzz_u8(&in);
    flash_open(&flash);
    rig_up(&r, &flash, which & 1, which & 2);
    irq_ctrl_enter(r.m->ic[0]);
    for (unsigned steps = 0; in.p < in.end && steps < MAX_STEPS; steps++) {
        step(&r, &in);
    }
    rig_down(&r);
    flash_close(&flash);
    return 0;
}
