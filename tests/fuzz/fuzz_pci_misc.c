/*
 * Small PCI devices (edu, i6300esb, pci-testdev) and the TCO timer, driven by a guest that means no
 * good: configuration space, registers of any size, DMA to anywhere, memory, time. Input: which
 * device, then a program.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/chipset/ich9_tco.h"
#include "dev/misc/misc_devices.h"
#include "dev/misc/test_pc.h"
#include "tests/fuzz/fuzz.h"

static const struct {
    const struct dev_type *type;
    const char *args;
} devices[] = {
    {&edu_type, "dma_mask=0xffffffffffffffff"}, {&edu_type, ""},        {&i6300esb_type, ""},
    {&pci_testdev_type, "membar=1M"},           {&pc_testdev_type, ""},
};

enum { DEVICES = sizeof(devices) / sizeof(devices[0]) };

/* Registers near each other: most of what is written means something then. */
static gpa_t some_register(struct fuzz_in *in)
{
    uint8_t where = fuzz_u8(in);
    return TEST_PC_BAR + (where == 0xff ? fuzz_u32(in) % 0x100000 : where);
}

static uint64_t some_value(struct fuzz_in *in)
{
    static const uint64_t known[] = {
        TEST_PC_BAR, TEST_PC_BAR + 0x98, 0x40000, 0x40fff, 0x1000, TEST_PC_RAM - 4, 3, 0x80, 0x86,
        0x100};
    uint8_t which = fuzz_u8(in);
    return which < sizeof(known) / sizeof(known[0]) ? known[which]
           : which & 1                              ? fuzz_u64(in)
                                                    : fuzz_u8(in);
}

static void step(struct test_pc *t, struct ich9_tco *tco, struct fuzz_in *in)
{
    static const uint16_t ports[] = {0xe0, 0xe4, 0xe8, 0x2000};
    uint8_t op = fuzz_u8(in);
    unsigned size = 1u << (op >> 6);
    uint64_t v;
    gpa_t at;
    switch (op % 10) {
    case 0:
        at = some_register(in);
        test_pc_write(t, at, size, some_value(in));
        break;
    case 1: mem_read(t->m->mem, some_register(in), size, &v); break;
    case 2:
        at = fuzz_u8(in);
        test_pc_config(t, (unsigned)at, size > 4 ? 4 : size, (uint32_t)some_value(in));
        break;
    case 3: test_pc_config_read(t, fuzz_u8(in), size > 4 ? 4 : size); break;
    case 4:
        at = TEST_PC_PORTS + fuzz_u8(in);
        mem_write(t->m->io, at, size > 4 ? 4 : size, fuzz_u32(in));
        break;
    case 5:
        at = ports[fuzz_u8(in) & 3] + (fuzz_u8(in) & 31);
        mem_write(t->m->io, at, size > 4 ? 4 : size, fuzz_u32(in));
        mem_read(t->m->io, at, size > 4 ? 4 : size, &v);
        break;
    case 6:
        at = fuzz_u8(in) & 31;
        size = size > 2 || at & 1 ? 1 : size;
        ich9_tco_ports.write(tco, at, size, fuzz_u16(in) & ((1u << size * 8) - 1));
        ich9_tco_ports.read(tco, at, size, &v);
        break;
    case 7:
        clock_advance(t->m->clock, (uint64_t)fuzz_u16(in) << 20);
        loop_step(t->m->loop, false);
        break;
    case 8: test_pc_enable(t); break;
    default:
        test_pc_write(t, 0xff000000 + fuzz_u16(in), size, fuzz_u64(in));
        dev_reset_all(t->m, DEV_RESET_POWER);
        ich9_tco_reset(tco);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, data + size};
    struct ich9_tco tco = {0};
    struct test_pc *t = test_pc_new();
    struct err err;
    unsigned which = fuzz_u8(&in) % DEVICES;
    if (!test_pc_add(t, devices[which].type, devices[which].args, &err)) {
        abort();
    }
    ich9_tco_init(&tco, t->m);
    ich9_tco_reset(&tco);
    test_pc_enable(t);
    t->m->state = MACHINE_RUNNING;
    for (unsigned steps = 0; in.p < in.end && steps < 500; steps++) {
        step(t, &tco, &in);
    }
    ich9_tco_fini(&tco);
    test_pc_free(t);
    return 0;
}
