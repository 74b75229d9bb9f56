/* For tests: a whole board whose processors run nothing, with firmware of 128 KiB in which each
 * page is filled with its number, counted from 1. */
#ifndef BOARD_TEST_BOARD_H
#define BOARD_TEST_BOARD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/keyval.h"
#include "board/boards.h"
#include "core/irq_ctrl.h"
#include "core/machine.h"
#include "core/vcpu.h"
#include "dev/pci/pci.h"
#include "display/display.h"
#include "loop/clock.h"
#include "loop/loop.h"

enum { TEST_BOARD_RAM = 8 << 20, TEST_BOARD_BIOS = 128 << 10 };

static inline int test_board_add(struct machine *m, unsigned index, struct err *err)
{
    struct vcpu *v = calloc(1, sizeof(*v));
    vcpu_init(v, index);
    v->env = calloc(1, 4096); /* an event sets its exit word, nothing else is looked at */
    v->machine = m;
    v->ic = m->ic[index];
    m->vcpu[index] = v;
    return 0;
}

static inline void test_board_free_cpus(struct machine *m)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        free(m->vcpu[i]->env);
        vcpu_fini(m->vcpu[i]);
        free(m->vcpu[i]);
    }
}

static inline int test_board_firmware(void)
{
    int fd = memfd_create("firmware", MFD_CLOEXEC);
    uint8_t page[4096];
    for (unsigned i = 0; i < TEST_BOARD_BIOS / sizeof(page); i++) {
        memset(page, (int)i + 1, sizeof(page));
        if (write(fd, page, sizeof(page)) != sizeof(page)) {
            abort();
        }
    }
    return fd;
}

static inline void test_board_need(int ret, const struct err *err)
{
    if (ret) {
        fprintf(stderr, "%s\n", err->text);
        abort();
    }
}

/* `args` as behind -machine, perhaps "". `before`, if not NULL, adds what the board is to find.
 * Devices, then the first reset, are still to come. */
static inline struct machine *test_board_new_with(const struct board_type *board, const char *args,
                                                  unsigned vcpus,
                                                  void (*before)(struct machine *, void *),
                                                  void *opaque)
{
    static const struct machine_cpus cpus = {.add = test_board_add, .free = test_board_free_cpus};
    char path[32];
    int fd = test_board_firmware();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct machine_config config = {
        .board = board, .ram_size = TEST_BOARD_RAM, .vcpus = vcpus, .firmware = path};
    struct err err;
    test_board_need(keyval_parse(&config.board_args, args, NULL, &err), &err);
    struct machine *m = machine_new(&config, loop_new(&err), clock_new_virtual(), &cpus);
    if (before) {
        before(m, opaque);
    }
    test_board_need(machine_build(m, &err), &err);
    close(fd);
    m->config.firmware = NULL;
    return m;
}

static inline struct machine *test_board_new(const struct board_type *board, const char *args,
                                             unsigned vcpus)
{
    return test_board_new_with(board, args, vcpus, NULL, NULL);
}

static inline struct dev *test_board_device(struct machine *m, const struct dev_type *type,
                                            const char *args)
{
    struct err err;
    struct keyval kv = {0};
    test_board_need(keyval_parse(&kv, args, NULL, &err), &err);
    struct dev *d = dev_new(m, type, &kv, &err);
    test_board_need(!d, &err);
    keyval_free(&kv);
    return d;
}

/* As at the start, and as when the guest or the user asks for a reset. */
static inline void test_board_reset(struct machine *m)
{
    struct err err;
    m->request = MACHINE_REQ_NONE;
    dev_reset_all(m, DEV_RESET_POWER);
    test_board_need(machine_load(m, &err), &err);
}

static inline void test_board_free(struct machine *m)
{
    struct loop *loop = m->loop;
    struct clock *clock = m->clock;
    struct display *display = m->display;
    struct keyval args = m->config.board_args;
    irq_ctrl_enter(NULL);
    machine_free(m);
    display_free(display); /* has a timer */
    keyval_free(&args);
    loop_free(loop);
    clock_free(clock);
}

/* ---- What a guest does ---- */

static inline uint64_t test_board_in(struct machine *m, unsigned port, unsigned size)
{
    uint64_t v = 0;
    mem_read(m->io, port, size, &v);
    return v;
}

static inline void test_board_out(struct machine *m, unsigned port, unsigned size, uint64_t v)
{
    mem_write(m->io, port, size, v);
}

static inline uint64_t test_board_read(struct machine *m, gpa_t at, unsigned size)
{
    uint64_t v = 0;
    mem_read(m->mem, at, size, &v);
    return v;
}

static inline void test_board_write(struct machine *m, gpa_t at, unsigned size, uint64_t v)
{
    mem_write(m->mem, at, size, v);
}

/* `where`: bus << 16 | devfn << 8. */
static inline uint32_t test_board_config(struct machine *m, uint32_t where, unsigned off,
                                         unsigned size)
{
    test_board_out(m, 0xcf8, 4, 0x80000000u | where | (off & 0xfc));
    return (uint32_t)test_board_in(m, 0xcfc + (off & 3), size);
}

static inline void test_board_config_set(struct machine *m, uint32_t where, unsigned off,
                                         unsigned size, uint32_t v)
{
    test_board_out(m, 0xcf8, 4, 0x80000000u | where | (off & 0xfc));
    test_board_out(m, 0xcfc + (off & 3), size, v);
}

#endif
