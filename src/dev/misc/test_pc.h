/* For tests: a machine without processors that has RAM, one PCI bus, an ISA bus and a virtual
 * clock. BARs go where the test puts them. */
#ifndef DEV_MISC_TEST_PC_H
#define DEV_MISC_TEST_PC_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/keyval.h"
#include "core/machine.h"
#include "dev/isa/isa_bus.h"
#include "dev/pci/pci.h"
#include "loop/clock.h"
#include "loop/loop.h"

enum { TEST_PC_RAM = 0x20000, TEST_PC_BAR = 0x40000000, TEST_PC_PORTS = 0xc000 };

struct test_pc {
    struct machine *m;
    struct mem_node *pci_mem, *pci_io;
    struct pci_root pci;
    struct isa_bus isa;
    struct irq_pin intx, lines[16];
    bool level, line[16];
    unsigned messages;
    uint32_t message;
};

static inline void test_pc_intx(void *opaque, unsigned n, bool level)
{
    ((struct test_pc *)opaque)->level = level;
}

static inline void test_pc_line(void *opaque, unsigned n, bool level)
{
    ((struct test_pc *)opaque)->line[n] = level;
}

static inline struct irq_pin *test_pc_route(void *opaque, unsigned slot, unsigned pin)
{
    return &((struct test_pc *)opaque)->intx;
}

static inline void test_pc_msi(void *opaque, gpa_t addr, uint32_t data)
{
    struct test_pc *t = opaque;
    t->messages++;
    t->message = data;
}

static inline int test_pc_init(struct machine *m, struct err *err)
{
    struct test_pc *t = m->board_data;
    t->m = m;
    t->pci_mem = mem_map_add_container(m->mem, 0, 1ull << 52);
    t->pci_io = mem_map_add_container(m->io, 0, 0x10000);
    struct ram *ram = ram_set_add(&m->ram, "ram", TEST_PC_RAM, err);
    mem_map_add_ram(m->mem, 0, ram, 0, TEST_PC_RAM);
    irq_pin_init(&t->intx);
    irq_pin_add(&t->intx, test_pc_intx, t, 0);
    for (unsigned i = 0; i < 16; i++) {
        irq_pin_init(&t->lines[i]);
        irq_pin_add(&t->lines[i], test_pc_line, t, i);
    }
    t->isa = (struct isa_bus){.bus = {.type = &isa_bus_type, .id = "isa.0", .owner = &t->isa},
                              .io = m->io,
                              .pins = t->lines};
    bus_add(m, &t->isa.bus);
    t->pci.mem = t->pci_mem;
    t->pci.io = t->pci_io;
    t->pci.route = test_pc_route;
    t->pci.opaque = t->pci.msi_opaque = t;
    t->pci.msi = test_pc_msi;
    pci_root_init(&t->pci, m, "pci.0", false);
    mem_map_add_mmio(m->io, 0xcf8, 8, &pci_host_ports, &t->pci);
    return 0;
}

static inline void test_pc_fini(struct machine *m)
{
    pci_root_fini(&((struct test_pc *)m->board_data)->pci);
}

static inline struct test_pc *test_pc_new(void)
{
    static const struct prop no_props[] = {{0}};
    static const struct board_type board = {.name = "test",
                                            .max_vcpus = 1,
                                            .pci = true,
                                            .props = no_props,
                                            .size = sizeof(struct test_pc),
                                            .init = test_pc_init,
                                            .fini = test_pc_fini};
    struct machine_config config = {.board = &board, .ram_size = TEST_PC_RAM, .vcpus = 1};
    struct err err;
    struct loop *loop = loop_new(&err);
    struct machine *m = machine_new(&config, loop, clock_new_virtual(), NULL);
    if (machine_build(m, &err)) {
        abort();
    }
    return m->board_data;
}

static inline void test_pc_free(struct test_pc *t)
{
    struct loop *loop = t->m->loop;
    struct clock *clock = t->m->clock;
    machine_free(t->m);
    loop_free(loop);
    clock_free(clock);
}

/* NULL: it was refused, and `err` says why. */
static inline struct dev *test_pc_add(struct test_pc *t, const struct dev_type *type,
                                      const char *args, struct err *err)
{
    struct keyval kv = {0};
    struct dev *d = keyval_parse(&kv, args, NULL, err) ? NULL : dev_new(t->m, type, &kv, err);
    keyval_free(&kv);
    if (d) {
        dev_reset_all(t->m, DEV_RESET_POWER);
    }
    return d;
}

static inline uint32_t test_pc_read(struct test_pc *t, gpa_t at, unsigned size)
{
    uint64_t v = 0;
    mem_read(t->m->mem, at, size, &v);
    return (uint32_t)v;
}

static inline void test_pc_write(struct test_pc *t, gpa_t at, unsigned size, uint64_t v)
{
    mem_write(t->m->mem, at, size, v);
}

/* Configuration space of slot 0. */
static inline void test_pc_config(struct test_pc *t, unsigned off, unsigned size, uint32_t v)
{
    mem_write(t->m->io, 0xcf8, 4, 0x80000000u | (off & ~3u));
    mem_write(t->m->io, 0xcfc + (off & 3), size, v);
}

static inline uint32_t test_pc_config_read(struct test_pc *t, unsigned off, unsigned size)
{
    uint64_t v = 0;
    mem_write(t->m->io, 0xcf8, 4, 0x80000000u | (off & ~3u));
    mem_read(t->m->io, 0xcfc + (off & 3), size, &v);
    return (uint32_t)v;
}

/* BAR 0 to TEST_PC_BAR, BAR 1 to TEST_PC_PORTS, all decoding on. */
static inline void test_pc_enable(struct test_pc *t)
{
    test_pc_config(t, PCI_BASE_ADDRESS_0, 4, TEST_PC_BAR);
    test_pc_config(t, PCI_BASE_ADDRESS_0 + 4, 4, TEST_PC_PORTS);
    test_pc_config(t, PCI_COMMAND, 2, 7);
}

#endif
