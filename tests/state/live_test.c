/*
 * Two machines of one kind without processors: one is driven by random accesses to its registers,
 * its state is saved and loaded into the other. Both must then have the same state, also after
 * more accesses and some time: what `loaded` functions compute and arm again is right.
 *
 * Disks have a thread, as in the program. After each access the devices are quiesced and go on, so
 * that no request is at work when the next one comes.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "base/unit_test.h"
#include "block/block.h"
#include "board/boards.h"
#include "board/microvm.h"
#include "core/irq_ctrl.h"
#include "core/machine.h"
#include "dev/irqchip/lapic.h"
#include "dev/timer/hpet.h"
#include "dev/virtio/drive_policy.h"
#include "loop/clock.h"
#include "loop/loop.h"
#include "shape.h"
#include "vmm/drive_thread.h"

enum {
    RAM = 16 << 20,
    BIOS = 0x10000,
    DISKS = 6,
    DISK = 1440 << 10,
    DEVICES = 32,
    BARS = 64,
    ROUNDS = 24,
    ACCESSES = 3000, /* before the copy */
    STEPS = 40,      /* after it, each with as many accesses */
    STEP_ACCESSES = 60,
    HOSTILE_ROUNDS = 300,
    HOSTILE_ACCESSES = 300,
    SELDOM = 3,
    FIRST_PORTS = 0xc000,
    FIRST_MEM = 0xd0000000u,
    MEM_STEP = 16 << 20,
};

struct live {
    struct machine *m;
    int disk[DISKS];
    struct dev *dev[DEVICES]; /* in the order in which they were made */
    unsigned devs;
    struct {
        uint64_t at;
        bool io;
    } bar[BARS];
    unsigned bars;
    uint16_t fn[BARS]; /* PCI functions that there are */
    unsigned fns;
    uint64_t seen; /* a sum of all that was read */
};

struct kind {
    const char *board;
    const char *devices[DEVICES][2]; /* type and options */
};

static const struct kind kinds[] = {
    {"pc",
     {{"edu", ""},
      {"i6300esb", ""},
      {"isa-debug-exit", ""},
      {"isa-parallel", ""},
      {"isa-serial", "index=1"},
      {"pc-testdev", ""},
      {"pci-testdev", ""},
      {"pvpanic-pci", ""},
      {"pci-bridge", "id=bridge,chassis_nr=1"},
      {"VGA", "romfile="},
      {"ich9-ahci", ""},
      {"virtio-rng-pci", "bus=bridge"},
      {"virtio-balloon-pci", "guest-stats-polling-interval=1"},
      {"virtio-serial-pci", ""},
      {"virtserialport", ""},
      {"virtio-scsi-pci", ""},
      {"scsi-hd", "drive=d0"},
      {"ide-hd", "drive=d1"},
      {"ide-cd", "drive=d2"},
      {"floppy", "drive=d3"},
      {"nvme", "drive=d4,serial=1"},
      {"virtio-blk-pci", "drive=d5"}}},
    {"q35",
     {{"edu", ""},
      {"isa-parallel", ""},
      {"pvpanic", ""},
      {"pcie-root-port", "id=port,chassis=1"},
      {"bochs-display", ""},
      {"secondary-vga", ""},
      {"virtio-gpu-pci", ""},
      {"ramfb", ""},
      {"virtio-rng-pci", "bus=port"},
      {"virtio-serial-pci", "max_ports=1"},
      {"virtconsole", ""},
      {"ide-hd", "drive=d0"},
      {"ide-cd", "drive=d1"}}},
    {"microvm",
     {{"virtio-rng-device", ""}, {"virtio-balloon-device", ""}, {"virtio-serial-device", ""}}},
};

/* ---- Machines ---- */

static const struct board_type *board_named(const char *name)
{
    size_t i = 0;
    while (strcmp(boards[i]->name, name)) {
        i++;
    }
    return boards[i];
}

static void live_close(void *block)
{
    block_close(block);
}

/* Backends "d0" and so on. */
static void live_disks(struct live *l)
{
    struct err err = {""};
    struct drive_thread *t = drive_thread_new(l->m, &err);
    for (unsigned i = 0; i < DISKS; i++) {
        char path[32], id[8];
        l->disk[i] = memfd_create("disk", MFD_CLOEXEC);
        assert_int_equal(ftruncate(l->disk[i], DISK), 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", l->disk[i]);
        snprintf(id, sizeof(id), "d%u", i);
        struct block *b =
            block_open_name(drive_thread_graph(t), path, "raw", NULL, BLOCK_RDWR, &err);
        if (!b) {
            fail_msg("%s", err.text);
        }
        machine_add_backend(l->m, "drive", id, b, live_close);
        machine_add_backend(l->m, "drive-policy", id, alloc_zero(sizeof(struct drive_policy)),
                            free);
    }
    assert_int_equal(drive_thread_start(t, l->m, &err), 0);
}

static void live_devices(struct live *l, const struct kind *k)
{
    struct err err = {""};
    struct dev *made[DEVICES];
    unsigned n = 0;
    for (unsigned i = 0; k->devices[i][0]; i++) {
        struct keyval args = {0};
        assert_int_equal(keyval_parse(&args, k->devices[i][1], NULL, &err), 0);
        if (!dev_new(l->m, dev_type_find(k->devices[i][0]), &args, &err)) {
            fail_msg("%s: %s", k->devices[i][0], err.text);
        }
        keyval_free(&args);
    }
    for (struct dev *d = l->m->devs; d; d = d->next) {
        assert_true(n < DEVICES);
        made[n++] = d;
    }
    while (n) {
        l->dev[l->devs++] = made[--n];
    }
}

static void live_init(struct live *l, const struct kind *k)
{
    struct err err = {""};
    char bios[32];
    int fd = memfd_create("bios", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, BIOS), 0);
    snprintf(bios, sizeof(bios), "/proc/self/fd/%d", fd);
    const struct board_type *board = board_named(k->board);
    const struct machine_config config = {
        .board = board, .ram_size = RAM, .vcpus = 1, .firmware = board->pci ? bios : NULL};
    memset(l, 0, sizeof(*l));
    l->m = machine_new(&config, loop_new(&err), clock_new_virtual(), NULL);
    live_disks(l);
    if (machine_build(l->m, &err)) {
        fail_msg("%s: %s", k->board, err.text);
    }
    live_devices(l, k);
    dev_reset_all(l->m, DEV_RESET_POWER);
    if (board->pci && machine_load(l->m, &err)) {
        fail_msg("%s: %s", k->board, err.text);
    }
    close(fd);
}

static void live_fini(struct live *l)
{
    struct loop *loop = l->m->loop;
    struct clock *clock = l->m->clock;
    irq_ctrl_enter(NULL);
    machine_free(l->m);
    for (unsigned i = 0; i < DISKS; i++) {
        close(l->disk[i]);
    }
    loop_free(loop);
    clock_free(clock);
}

static void part_load(const struct field_set *set, void *to, const void *from)
{
    struct strbuf sb = {0};
    struct err err = {""};
    field_save(set, from, &sb);
    if (field_load(set, to, sb.text, sb.len, &err)) {
        fail_msg("%s", err.text);
    }
    strbuf_free(&sb);
}

static void part_loaded(const struct field_set *set, void *obj)
{
    struct err err = {""};
    if (field_loaded(set, obj, &err)) {
        fail_msg("%s", err.text);
    }
}

static void disk_copy(int to, int from)
{
    char *buf = malloc(DISK);
    assert_int_equal(pread(from, buf, DISK, 0), DISK);
    assert_int_equal(pwrite(to, buf, DISK, 0), DISK);
    free(buf);
}

/* The contract of state/field.h: memory and time, all state, then what is computed. */
static void live_copy(struct live *to, const struct live *from)
{
    struct ram *a = from->m->ram.first, *b = to->m->ram.first;
    for (; a; a = a->next, b = b->next) {
        memcpy(b->host, a->host, a->size);
    }
    for (unsigned i = 0; i < DISKS; i++) {
        disk_copy(to->disk[i], from->disk[i]);
    }
    machine_set_a20(to->m, !from->m->a20_off);
    clock_advance(to->m->clock, clock_ns(from->m->clock) - clock_ns(to->m->clock));
    part_load(to->m->board->state, to->m->board_data, from->m->board_data);
    for (unsigned i = 0; i < to->devs; i++) {
        part_load(to->dev[i]->type->state, to->dev[i], from->dev[i]);
    }
    part_loaded(to->m->board->state, to->m->board_data);
    for (unsigned i = 0; i < to->devs; i++) {
        part_loaded(to->dev[i]->type->state, to->dev[i]);
    }
}

static const struct field *live_compare(const struct live *a, const struct live *b)
{
    const struct field *f =
        field_compare(a->m->board->state, a->m->board_data, b->m->board_data, FIELD_NOT_SAVED);
    for (unsigned i = 0; i < a->devs && !f; i++) {
        f = field_compare(a->dev[i]->type->state, a->dev[i], b->dev[i], FIELD_NOT_SAVED);
    }
    return f;
}

static void live_print(const struct live *l, struct strbuf *out)
{
    field_print(l->m->board->state, l->m->board_data, out);
    for (unsigned i = 0; i < l->devs; i++) {
        field_print(l->dev[i]->type->state, l->dev[i], out);
    }
}

/* The line in which they differ, of both. */
static void live_tell(const struct live *a, const struct live *b)
{
    struct strbuf sa = {0}, sb = {0};
    live_print(a, &sa);
    live_print(b, &sb);
    const char *la = strbuf_text(&sa), *lb = strbuf_text(&sb);
    size_t n = strcspn(la, "\n") + 1;
    while (*la && !strncmp(la, lb, n)) {
        la += n;
        lb += n;
        n = strcspn(la, "\n") + 1;
    }
    print_error("%.*s%.*s", (int)n, la, (int)strcspn(lb, "\n") + 1, lb);
    strbuf_free(&sa);
    strbuf_free(&sb);
}

static void live_same(struct live *a, struct live *b, const char *when, uint64_t seed)
{
    const struct field *f = live_compare(a, b);
    if (f) {
        live_tell(a, b);
        fail_msg("%s, seed %llx: %s differs", when, (unsigned long long)seed, f->name);
    }
    if (a->seen != b->seen) {
        fail_msg("%s, seed %llx: something else was read", when, (unsigned long long)seed);
    }
}

/* ---- Accesses ---- */

static void live_read(struct live *l, struct mem_map *map, uint64_t at, unsigned size)
{
    uint64_t v = 0;
    mem_read(map, at, size, &v);
    l->seen = l->seen * 31 + v;
}

static uint32_t config_read(struct live *l, unsigned fn, unsigned off)
{
    uint64_t v = 0;
    mem_write(l->m->io, 0xcf8, 4, 0x80000000u | fn << 8 | off);
    mem_read(l->m->io, 0xcfc, 4, &v);
    return (uint32_t)v;
}

static void config_write(struct live *l, unsigned fn, unsigned off, uint32_t v)
{
    mem_write(l->m->io, 0xcf8, 4, 0x80000000u | fn << 8 | off);
    mem_write(l->m->io, 0xcfc, 4, v);
}

/* As firmware does, roughly: functions of buses 0 and 1 get places for their BARs. */
static void live_place_bars(struct live *l)
{
    for (unsigned fn = 0; fn < 512; fn++) {
        bool bridge = (config_read(l, fn, 0xc) >> 16 & 0x7f) == 1;
        if ((config_read(l, fn, 0) & 0xffff) == 0xffff || l->fns == BARS) {
            continue;
        }
        l->fn[l->fns++] = (uint16_t)fn;
        if (bridge) {
            config_write(l, fn, 0x18, 0x010100);
        }
        for (unsigned n = 0; n < (bridge ? 2 : 6) && l->bars < BARS; n++) {
            config_write(l, fn, 0x10 + 4 * n, ~0u);
            uint32_t mask = config_read(l, fn, 0x10 + 4 * n);
            unsigned k = l->bars;
            if (!mask) {
                continue;
            }
            l->bar[k].io = mask & 1;
            l->bar[k].at = mask & 1 ? FIRST_PORTS + 0x100 * k : FIRST_MEM + (uint64_t)MEM_STEP * k;
            config_write(l, fn, 0x10 + 4 * n, (uint32_t)l->bar[k].at);
            n += (mask & 7) == 4;
            l->bars++;
        }
        config_write(l, fn, 4, 7);
    }
    for (unsigned reg = 0x60; reg <= 0x68; reg += 8) { /* PIIX3, ICH9: interrupt routes */
        config_write(l, 1 << 3, reg, 0x0b0a0b0a);
        config_write(l, 0x1f << 3, reg, 0x0b0a0b0a);
    }
}

/* What random accesses would hardly find: timers that run, lines that are high. */
static void live_program(struct live *l)
{
    static const struct {
        uint64_t at; /* below 10000h: a port */
        uint32_t val;
    } writes[] = {{0x70, 0x0b}, /* the clock: periodic and update interrupts */
                  {0x71, 0x52},
                  {0x43, 0x34}, /* PIT: 1 kHz */
                  {0x40, 0xa9},
                  {0x40, 0x04},
                  {0x3f9, 0x0f},
                  {0x3fc, 0x08},
                  {0x3f2, 0x1c}, /* floppy: seek to cylinder 5 */
                  {0x3f5, 0x0f},
                  {0x3f5, 0x00},
                  {0x3f5, 0x05},
                  {0x1f6, 0xa0}, /* disk: SET MULTIPLE MODE, 8 sectors */
                  {0x1f2, 0x08},
                  {0x1f7, 0xc6},
                  {HPET_BASE + 0x120, 5 << 9 | 0x4e}, /* level, periodic, line 5 */
                  {HPET_BASE + 0x128, 30000},
                  {HPET_BASE + 0x10, 1},
                  {LAPIC_BASE + 0xf0, 0x1ff},
                  {LAPIC_BASE + 0x320, 0x20040}, /* periodic */
                  {LAPIC_BASE + 0x3e0, 0xb},
                  {LAPIC_BASE + 0x380, 1000000}};
    for (unsigned i = 0; i < ARRAY_LEN(writes); i++) {
        bool port = writes[i].at < 0x10000;
        mem_write(port ? l->m->io : l->m->mem, writes[i].at, port ? 1 : 4, writes[i].val);
    }
}

static void random_port(struct live *l, uint64_t *seed)
{
    static const uint16_t ports[] = {
        0x20,  0x21,  0xa0,  0xa1,  0x4d0, 0x40,  0x42,  0x43,  0x61,   0x60,  0x64,  0x70,
        0x71,  0x71,  0x00,  0x08,  0x0f,  0x81,  0xd4,  0x378, 0x37a,  0x3f2, 0x3f4, 0x3f5,
        0x3f8, 0x3f9, 0x3fa, 0x3fc, 0x2f8, 0x2f9, 0x1f0, 0x1f0, 0x1f2,  0x1f6, 0x1f7, 0x1f7,
        0x170, 0x176, 0x177, 0x3f6, 0x3c0, 0x3c4, 0x3c5, 0x3ce, 0x3cf,  0x3d4, 0x3d5, 0x3c8,
        0x3c9, 0x1ce, 0x1d0, 0xb2,  0x510, 0x514, 0x600, 0x660, 0xafe0, 0xf4,  0xe0};
    uint64_t r = shape_random(seed);
    unsigned size = 1u << (r >> 8 & 3) % 3;
    uint16_t port = ports[(r >> 16) % ARRAY_LEN(ports)] + (r >> 32 & 1);
    if (r & 1) {
        live_read(l, l->m->io, port, size);
    } else {
        mem_write(l->m->io, port, size, shape_random(seed) >> (r >> 40 & 31));
    }
}

static void random_memory(struct live *l, uint64_t *seed)
{
    static const struct {
        uint64_t at;
        uint32_t registers; /* bits of their offsets */
    } places[] = {{HPET_BASE, 0x1f8},
                  {0xfec00000, 0x10},
                  {LAPIC_BASE, 0x3f0},
                  {MICROVM_VIRTIO_BASE, 0xffc},
                  {0xa0000, 0x3ffc}};
    uint64_t r = shape_random(seed);
    unsigned n = (r >> 8) % ARRAY_LEN(places);
    uint64_t at = places[n].at + (r >> 16 & places[n].registers);
    if (r & 1) {
        live_read(l, l->m->mem, at, 4);
    } else {
        mem_write(l->m->mem, at, 4, shape_random(seed) >> (r >> 32 & 31));
    }
}

static void random_bar(struct live *l, uint64_t *seed)
{
    uint64_t r = shape_random(seed), v = shape_random(seed);
    if (!l->bars) {
        return;
    }
    unsigned k = (r >> 8) % l->bars, size = 1u << (r >> 4 & 3) % 3;
    uint64_t off = (r >> 16 & (l->bar[k].io || r & 2 ? 0x3f : 0x33ff)) & ~(uint64_t)(size - 1);
    struct mem_map *map = l->bar[k].io ? l->m->io : l->m->mem;
    if (r & 1) {
        live_read(l, map, l->bar[k].at + off, size);
    } else {
        mem_write(map, l->bar[k].at + off, size, v >> (r >> 32 & 63));
    }
}

/* Not those that place BARs: they would lie over each other. */
static void random_config(struct live *l, uint64_t *seed)
{
    uint64_t r = shape_random(seed);
    unsigned off = 0x40 + (r >> 16 & 0xbc);
    if (l->fns) {
        config_write(l, l->fn[(r >> 8) % l->fns], off, (uint32_t)shape_random(seed));
    }
}

static void live_settle(struct live *l)
{
    for (unsigned i = 0; i < l->devs; i++) {
        if (l->dev[i]->type->quiesce) {
            l->dev[i]->type->quiesce(l->dev[i]);
        }
    }
    for (unsigned i = 0; i < l->devs; i++) {
        if (l->dev[i]->type->resume) {
            l->dev[i]->type->resume(l->dev[i]);
        }
    }
}

/* Reads what there is: what a table calls HOST and a guest can see is found here. */
static void live_look(struct live *l)
{
    irq_ctrl_enter(l->m->ic[0]);
    for (unsigned port = 0; port < 0x800; port++) {
        live_read(l, l->m->io, port, 1);
    }
    for (unsigned i = 0; i < l->bars; i++) {
        struct mem_map *map = l->bar[i].io ? l->m->io : l->m->mem;
        for (unsigned off = 0; off < (l->bar[i].io ? 0x40 : 0x2100); off += 4) {
            live_read(l, map, l->bar[i].at + off, 4);
        }
    }
    for (unsigned i = 0; i < 256 * l->fns; i += 4) {
        l->seen = l->seen * 31 + config_read(l, l->fn[i / 256], i % 256);
    }
    for (unsigned off = 0; off < 0x1000; off += 4) {
        live_read(l, l->m->mem, HPET_BASE + off % HPET_SIZE, 4);
        live_read(l, l->m->mem, LAPIC_BASE + off / 4 * 16 % LAPIC_SIZE, 4);
        live_read(l, l->m->mem, MICROVM_VIRTIO_BASE + off, 4);
    }
    live_settle(l);
}

/* A command in the middle of its data would not come along. */
static void live_reset_ide(struct live *l)
{
    for (unsigned port = 0x376; port <= 0x3f6; port += 0x80) {
        mem_write(l->m->io, port, 1, 4);
        mem_write(l->m->io, port, 1, 0);
    }
    live_settle(l);
}

static void live_drive(struct live *l, unsigned count, uint64_t *seed)
{
    static void (*const access[])(struct live *, uint64_t *) = {random_port, random_port,
                                                                random_memory, random_bar};
    irq_ctrl_enter(l->m->ic[0]);
    for (unsigned i = 0; i < count; i++) {
        uint64_t r = shape_random(seed);
        if (r % 64 == 0) {
            random_config(l, seed);
        } else if (r % 32 == 1) {
            clock_advance(l->m->clock, shape_random(seed) % 3000000);
        } else {
            access[r >> 8 & 3](l, seed);
        }
        live_settle(l);
    }
}

/* ---- Tests ---- */

/* Where `from` has its functions and BARs: the copy will have them there, too. */
static void live_know(struct live *to, const struct live *from)
{
    memcpy(to->bar, from->bar, sizeof(to->bar));
    memcpy(to->fn, from->fn, sizeof(to->fn));
    to->bars = from->bars;
    to->fns = from->fns;
    to->seen = from->seen;
}

static void one_round(const struct kind *k, uint64_t seed)
{
    struct live a, b;
    uint64_t start = seed, again;
    live_init(&a, k);
    live_init(&b, k);
    if (a.m->board->pci) {
        live_place_bars(&a);
    }
    irq_ctrl_enter(a.m->ic[0]);
    live_program(&a);
    live_drive(&a, ACCESSES, &seed);
    live_reset_ide(&a);
    live_copy(&b, &a);
    live_know(&b, &a);
    live_same(&a, &b, "loaded", start);
    live_look(&a);
    live_look(&b);
    live_same(&a, &b, "looked at", start);
    clock_advance(a.m->clock, seed % 50000000);
    clock_advance(b.m->clock, seed % 50000000);
    live_same(&a, &b, "with time", start);
    for (unsigned i = 0; i < STEPS; i++) {
        again = seed;
        live_drive(&a, STEP_ACCESSES, &seed);
        live_drive(&b, STEP_ACCESSES, &again);
        live_same(&a, &b, "later", start);
    }
    live_fini(&a);
    live_fini(&b);
}

static void a_loaded_machine_goes_on_as_the_first(void **state)
{
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        for (uint64_t n = 1; n <= ROUNDS; n++) {
            one_round(&kinds[i], n * 0x9e3779b97f4a7c15ull);
        }
    }
}

/* Some values of a struct become others that a field may have. */
static void scribble(const struct field_set *set, void *obj, uint64_t *seed)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        for (uint32_t k = 0; !(f->flags & FIELD_NOT_SAVED) && k < field_count(f, obj); k++) {
            if (f->sub) {
                scribble(f->sub, field_at(f, obj, k), seed);
            } else if ((f->flags & FIELD_GUEST) && !(shape_random(seed) >> 7 & SELDOM)) {
                field_put(f, obj, k, shape_value(f, seed));
            }
        }
    }
}

/* What state a sender may make up: it is refused, or the machine runs with it. */
static bool hostile_round(const struct kind *k, uint64_t seed)
{
    struct live l;
    struct err err = {""};
    live_init(&l, k);
    irq_ctrl_enter(l.m->ic[0]);
    if (l.m->board->pci) {
        live_place_bars(&l);
    }
    unsigned n = shape_random(&seed) % (l.devs + 1);
    const struct field_set *set = n < l.devs ? l.dev[n]->type->state : l.m->board->state;
    void *obj = n < l.devs ? (void *)l.dev[n] : l.m->board_data;
    scribble(set, obj, &seed);
    bool taken = !field_loaded(set, obj, &err);
    if (taken) {
        live_drive(&l, HOSTILE_ACCESSES, &seed);
        live_look(&l);
    } else if (!err.text[0]) {
        fail_msg("%s: refused without a sentence", set->name);
    }
    live_fini(&l);
    return taken;
}

static void made_up_state_is_refused_or_runs(void **state)
{
    unsigned taken = 0;
    for (uint64_t n = 1; n <= HOSTILE_ROUNDS; n++) {
        taken += hostile_round(&kinds[n % ARRAY_LEN(kinds)], n * 0x9e3779b97f4a7c15ull);
    }
    assert_in_range(taken, HOSTILE_ROUNDS / 4, HOSTILE_ROUNDS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loaded_machine_goes_on_as_the_first),
        cmocka_unit_test(made_up_state_is_refused_or_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
