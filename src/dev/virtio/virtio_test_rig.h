/* For tests: one virtio device behind the MMIO transport, with split rings, and a driver's hands.
 */
#ifndef DEV_VIRTIO_VIRTIO_TEST_RIG_H
#define DEV_VIRTIO_VIRTIO_TEST_RIG_H

#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/err.h"
#include "base/keyval.h"
#include "core/machine.h"
#include "dev/virtio/virtio_mmio.h"
#include "display/display.h"
#include "loop/clock.h"
#include "loop/loop.h"

enum {
    VRIG_RAM = 0x80000,
    VRIG_RINGS = 0x1000, /* for each queue: descriptors, available at 200h, used at 400h */
    VRIG_SIZE = 8,
    VRIG_QUEUES = 20,
    VRIG_DATA = 0x40000,
};

struct vrig {
    struct machine *m;
    struct virtio_mmio *t;
    uint8_t *ram;
    struct ram *block;
    uint16_t idx[VRIG_QUEUES], seen[VRIG_QUEUES];
};

struct vrig_board {
    struct virtio_mmio slot;
};

static inline int vrig_board_init(struct machine *m, struct err *err)
{
    struct vrig_board *b = m->board_data;
    struct ram *ram = ram_set_add(&m->ram, "ram", VRIG_RAM, err);
    mem_map_add_ram(m->mem, 0, ram, 0, VRIG_RAM);
    virtio_mmio_init(&b->slot, 0, m->mem);
    bus_add(m, &b->slot.bus.bus);
    return 0;
}

static inline struct vrig *vrig_new(void)
{
    static const struct prop no_props[] = {{0}};
    static const struct board_type board = {.name = "test",
                                            .max_vcpus = 1,
                                            .props = no_props,
                                            .size = sizeof(struct vrig_board),
                                            .init = vrig_board_init};
    struct machine_config config = {.board = &board, .ram_size = VRIG_RAM, .vcpus = 1};
    struct vrig *r = calloc(1, sizeof(*r));
    struct err err;
    r->m = machine_new(&config, loop_new(&err), clock_new_virtual(), NULL);
    if (machine_build(r->m, &err)) {
        abort();
    }
    r->t = &((struct vrig_board *)r->m->board_data)->slot;
    r->block = r->m->ram.first;
    r->ram = r->block->host;
    return r;
}

static inline void vrig_free(struct vrig *r)
{
    struct loop *loop = r->m->loop;
    struct clock *clock = r->m->clock;
    struct display *display = r->m->display;
    machine_free(r->m);
    display_free(display);
    loop_free(loop);
    clock_free(clock);
    free(r);
}

static inline struct dev *vrig_add(struct vrig *r, const struct dev_type *type, const char *args,
                                   struct err *err)
{
    struct keyval kv = {0};
    struct dev *d = keyval_parse(&kv, args, NULL, err) ? NULL : dev_new(r->m, type, &kv, err);
    keyval_free(&kv);
    return d;
}

static inline void vrig_reg(struct vrig *r, uint64_t off, uint32_t val)
{
    virtio_mmio_regs.write(r->t, off, 4, val);
}

static inline uint32_t vrig_read(struct vrig *r, uint64_t off)
{
    uint64_t v = 0;
    virtio_mmio_regs.read(r->t, off, 4, &v);
    return (uint32_t)v;
}

/* What a driver does first; `features` are bits 0 to 31. */
static inline void vrig_start(struct vrig *r, uint32_t features, unsigned queues)
{
    vrig_reg(r, 0x70, 0);
    vrig_reg(r, 0x70, 3);
    vrig_reg(r, 0x24, 0);
    vrig_reg(r, 0x20, features);
    vrig_reg(r, 0x24, 1);
    vrig_reg(r, 0x20, 1);
    vrig_reg(r, 0x70, 11);
    for (unsigned q = 0; q < queues; q++) {
        gpa_t at = VRIG_RINGS + 0x1000 * q;
        memset(r->ram + at, 0, 0x1000);
        vrig_reg(r, 0x30, q);
        vrig_reg(r, 0x38, VRIG_SIZE);
        vrig_reg(r, 0x80, (uint32_t)at);
        vrig_reg(r, 0x90, (uint32_t)at + 0x200);
        vrig_reg(r, 0xa0, (uint32_t)at + 0x400);
        vrig_reg(r, 0x44, 1);
        r->idx[q] = r->seen[q] = 0;
    }
    vrig_reg(r, 0x70, 15);
}

/* One buffer, and the kick. */
static inline void vrig_offer(struct vrig *r, unsigned q, gpa_t at, uint32_t len, bool write)
{
    uint8_t *ring = r->ram + VRIG_RINGS + 0x1000 * q;
    unsigned n = r->idx[q]++ % VRIG_SIZE;
    store_le64(ring + 16 * n, at);
    store_le32(ring + 16 * n + 8, len);
    store_le16(ring + 16 * n + 12, write ? 2 : 0);
    store_le16(ring + 0x204 + 2 * n, (uint16_t)n);
    store_le16(ring + 0x202, r->idx[q]);
    vrig_reg(r, 0x50, q);
}

/* The bytes written to the next used buffer; -1: there is none. */
static inline long vrig_used(struct vrig *r, unsigned q)
{
    const uint8_t *ring = r->ram + VRIG_RINGS + 0x1000 * q + 0x400;
    if (load_le16(ring + 2) == r->seen[q]) {
        return -1;
    }
    return load_le32(ring + 8 + 8 * (r->seen[q]++ % VRIG_SIZE));
}

#endif
