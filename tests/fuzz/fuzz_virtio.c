/*
 * Virtio devices behind the MMIO transport, driven by a guest that means no good, with split and
 * packed rings. Input: which device, then a program: register writes, memory writes, queue set-up,
 * kicks, time that passes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/keyval.h"
#include "block/block.h"
#include "chardev/chardev.h"
#include "core/machine.h"
#include "dev/scsi/scsi_bus.h"
#include "dev/virtio/drive_policy.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_mmio.h"
#include "display/display.h"
#include "loop/clock.h"
#include "loop/loop.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/drive_thread.h"

#define RAM_SIZE 0x10000
enum { DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, DATA = 0x4000, QUEUES = 8 };

struct fuzz_board {
    struct virtio_mmio slot[3];
};

static int board_init(struct machine *m, struct err *err)
{
    struct fuzz_board *b = m->board_data;
    struct ram *ram = ram_set_add(&m->ram, "ram", RAM_SIZE, err);
    mem_map_add_ram(m->mem, 0, ram, 0, RAM_SIZE);
    for (unsigned i = 0; i < 3; i++) {
        virtio_mmio_init(&b->slot[i], i, m->mem);
        b->slot[i].bus.packed = true;
        bus_add(m, &b->slot[i].bus.bus);
    }
    return 0;
}

static const struct prop no_props[] = {{0}};
static const struct board_type board = {
    .name = "fuzz",
    .max_vcpus = 1,
    .props = no_props,
    .size = sizeof(struct fuzz_board),
    .init = board_init,
};

static void add_device(struct machine *m, const struct dev_type *type, const char *key,
                       const char *value)
{
    struct keyval kv = {0};
    struct err err;
    if (key) {
        keyval_add(&kv, key, value);
    }
    if (!dev_new(m, type, &kv, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    keyval_free(&kv);
}

static void free_drive(void *b)
{
    block_close(b);
}

/* A drive of 64 KiB in memory. */
static void add_drive(struct machine *m, int *fd)
{
    char path[32];
    struct err err;
    *fd = memfd_create("drive", MFD_CLOEXEC);
    if (*fd < 0 || ftruncate(*fd, 0x10000)) {
        abort();
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
    struct drive_thread *t = drive_thread_new(m, &err);
    struct block *b =
        t ? block_open_name(drive_thread_graph(t), path, "raw", NULL, BLOCK_RDWR, &err) : NULL;
    if (!b) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    machine_add_backend(m, "drive", "d", b, free_drive);
    machine_add_backend(m, "drive-policy", "d", alloc_zero(sizeof(struct drive_policy)), free);
    if (drive_thread_start(t, m, &err)) {
        abort();
    }
}

static struct chardev *new_ringbuf(struct loop *loop)
{
    struct keyval kv = {0};
    struct err err;
    if (keyval_parse(&kv, "ringbuf,id=r", "backend", &err)) {
        abort();
    }
    struct chardev *c = chardev_new(loop, &kv, &err);
    keyval_free(&kv);
    return c;
}

static void add_balloon(struct machine *m)
{
    struct keyval kv = {0};
    struct err err;
    if (keyval_parse(&kv, "free-page-reporting=on,guest-stats-polling-interval=1", NULL, &err) ||
        !dev_new(m, &virtio_balloon_type, &kv, &err)) {
        abort();
    }
    keyval_free(&kv);
}

static struct machine *new_machine(struct loop *loop, struct clock *clock, unsigned which, int *fd)
{
    struct machine_config config = {.board = &board, .ram_size = RAM_SIZE, .vcpus = 1};
    struct err err;
    struct machine *m = machine_new(&config, loop, clock, NULL);
    machine_build(m, &err);
    if (which == 0) {
        add_drive(m, fd);
        add_device(m, &virtio_blk_type, "drive", "d");
    } else if (which == 1) {
        machine_add_backend(m, "chardev", "c", chardev_new_legacy(loop, "null", &err),
                            chardev_free);
        machine_add_backend(m, "chardev", "r", new_ringbuf(loop), chardev_free);
        add_device(m, &virtio_serial_type, "max_ports", "5");
        add_device(m, &virtconsole_type, "chardev", "c");
        add_device(m, &virtserialport_type, "chardev", "r");
        add_device(m, &virtserialport_type, "name", "org.fuzz");
    } else if (which == 3) {
        add_drive(m, fd);
        add_device(m, &virtio_scsi_type, NULL, NULL);
        add_device(m, &scsi_hd_type, "drive", "d");
        add_device(m, &scsi_cd_dev_type, NULL, NULL);
    } else if (which == 4) {
        add_balloon(m);
    } else if (which == 5) {
        m->display = display_new(clock);
        add_device(m, &virtio_gpu_type, "max_hostmem", "1M");
    } else {
        add_device(m, &virtio_rng_type, NULL, NULL);
    }
    return m;
}

static struct virtio_mmio *used_slot(struct machine *m)
{
    struct fuzz_board *b = m->board_data;
    for (unsigned i = 0; i < 3; i++) {
        if (b->slot[i].bus.vdev) {
            return &b->slot[i];
        }
    }
    abort();
}

static void reg(struct virtio_mmio *t, uint64_t off, uint32_t val)
{
    virtio_mmio_regs.write(t, off, 4, val);
}

/* What a driver does first, with queues at fixed places. `high`: features from bit 32 on. */
static void set_up(struct virtio_mmio *t, unsigned size, uint32_t features, uint32_t high)
{
    reg(t, 0x70, 0);
    reg(t, 0x70, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    reg(t, 0x24, 0);
    reg(t, 0x20, features);
    reg(t, 0x24, 1);
    reg(t, 0x20, high);
    reg(t, 0x70, 11);
    for (unsigned q = 0; q < QUEUES; q++) {
        reg(t, 0x30, q);
        reg(t, 0x38, size);
        reg(t, 0x80, DESC);
        reg(t, 0x90, AVAIL);
        reg(t, 0xa0, USED);
        reg(t, 0x44, 1);
    }
    reg(t, 0x70, 15);
}

static void put_desc(struct machine *m, struct fuzz_in *in)
{
    unsigned n = fuzz_u8(in);
    uint64_t addr = DATA + fuzz_u16(in);
    uint32_t len = fuzz_u16(in);
    uint16_t tail[2] = {(uint16_t)(fuzz_u8(in) & 7), fuzz_u8(in)};
    gmem_write(m->mem, DESC + 16 * n, &addr, 8);
    gmem_write(m->mem, DESC + 16 * n + 8, &len, 4);
    gmem_write(m->mem, DESC + 16 * n + 12, tail, 4);
}

static void put_bytes(struct machine *m, struct fuzz_in *in)
{
    gpa_t at = fuzz_u16(in);
    for (unsigned n = fuzz_u8(in) & 31; n; n--) {
        uint8_t b = fuzz_u8(in);
        gmem_write(m->mem, at++, &b, 1);
    }
}

/* One more entry of the available ring, and the kick. */
static void offer(struct machine *m, struct virtio_mmio *t, struct fuzz_in *in, unsigned size)
{
    uint16_t head = fuzz_u8(in), idx = 0;
    gmem_read(m->mem, AVAIL + 2, &idx, 2);
    gmem_write(m->mem, AVAIL + 4 + 2u * (idx % size), &head, 2);
    idx++;
    gmem_write(m->mem, AVAIL + 2, &idx, 2);
    reg(t, 0x50, fuzz_u8(in) & 3);
}

/* One packed descriptor, which may be the next one, and the kick. */
static void put_packed(struct machine *m, struct virtio_mmio *t, struct fuzz_in *in)
{
    unsigned n = fuzz_u8(in);
    uint64_t addr = DATA + fuzz_u16(in);
    uint32_t len = fuzz_u16(in);
    uint16_t tail[2] = {fuzz_u8(in), 0};
    uint8_t flags = fuzz_u8(in);
    tail[1] = (uint16_t)((flags & 7) | (flags & 8 ? 0x80 : 0) | (flags & 16 ? 0x8000 : 0));
    gmem_write(m->mem, DESC + 16 * n, &addr, 8);
    gmem_write(m->mem, DESC + 16 * n + 8, &len, 4);
    gmem_write(m->mem, DESC + 16 * n + 12, tail, 4);
    reg(t, 0x50, flags >> 5);
}

static void use_nothing(void *opaque, const struct surface *s)
{
}

/* A GPU's command of 16 small words, with an answer, in descriptors 0 and 1; then a refresh. */
static void gpu_command(struct machine *m, struct virtio_mmio *t, struct fuzz_in *in, unsigned size)
{
    uint8_t request[24 + 64] = {fuzz_u8(in) % 12, 1}, desc[32] = {0};
    for (unsigned i = 24; i < sizeof(request); i += 4) {
        store_le32(request + i, fuzz_u8(in));
    }
    uint8_t high = fuzz_u8(in); /* one word is a large one */
    store_le32(request + 24 + high % 16 * 4, 1u << high / 16 * 2);
    store_le64(desc, DATA);
    store_le32(desc + 8, sizeof(request));
    desc[12] = desc[14] = 1;
    store_le64(desc + 16, DATA + 0x1000);
    store_le32(desc + 24, 0x800);
    desc[28] = 2;
    gmem_write(m->mem, DATA, request, sizeof(request));
    gmem_write(m->mem, DESC, desc, sizeof(desc));
    uint16_t head = 0, idx = 0;
    gmem_read(m->mem, AVAIL + 2, &idx, 2);
    gmem_write(m->mem, AVAIL + 4 + 2u * (idx % size), &head, 2);
    idx++;
    gmem_write(m->mem, AVAIL + 2, &idx, 2);
    reg(t, 0x50, 0);
    if (m->display) {
        display_want_size(m->display, 64 + high * 4, 64 + high);
        display_look(m->display, use_nothing, NULL);
    }
}

static void program(struct machine *m, struct virtio_mmio *t, struct fuzz_in *in)
{
    unsigned size = 8;
    uint64_t v;
    for (unsigned steps = 0; in->p < in->end && steps < 200; steps++) {
        switch (fuzz_u8(in) % 12) {
        case 0:
            size = 1u << (fuzz_u8(in) % 9);
            set_up(t, size, fuzz_u32(in), 1);
            break;
        case 1: put_desc(m, in); break;
        case 2: put_bytes(m, in); break;
        case 3: offer(m, t, in, size); break;
        case 4:
            v = fuzz_u8(in);
            reg(t, v * 4 % 0x200, fuzz_u32(in));
            break;
        case 5:
            v = fuzz_u16(in);
            virtio_mmio_regs.write(t, v % 0x200, 1u << (v >> 14), fuzz_u8(in));
            break;
        case 6: virtio_mmio_regs.read(t, fuzz_u16(in) % 0x200, 4, &v); break;
        case 8:
            size = 1 + fuzz_u8(in);
            set_up(t, size, fuzz_u32(in), 5);
            break;
        case 9: put_packed(m, t, in); break;
        case 10:
            clock_advance(m->clock, (uint64_t)fuzz_u8(in) << 25);
            loop_step(m->loop, false);
            break;
        case 11: gpu_command(m, t, in, size); break;
        default: reg(t, 0x50, fuzz_u8(in)); break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, data + size};
    struct err err;
    int fd = -1;
    struct loop *loop = loop_new(&err);
    struct clock *clock = clock_new_virtual();
    struct machine *m = new_machine(loop, clock, fuzz_u8(&in) % 6, &fd);
    struct virtio_mmio *t = used_slot(m);
    dev_reset_all(m, DEV_RESET_POWER);
    set_up(t, 8, 0x30000000 | (in.p < in.end ? *in.p & 0x36 : 0), 1);
    program(m, t, &in);
    struct display *display = m->display;
    machine_free(m);
    display_free(display);
    loop_free(loop);
    clock_free(clock);
    if (fd >= 0) {
        close(fd);
    }
    return 0;
}
