/*
 * A machine: one guest and all that belongs to it. Two machines can run in one process.
 *
 * The program (src/vmm) fills in a machine_config and calls machine_new(), which lets the board
 * build everything; machine_start() lets the vcpus go; the loop runs on the main thread until
 * somebody requests an end.
 */
#ifndef CORE_MACHINE_H
#define CORE_MACHINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/keyval.h"
#include "core/mem.h"
#include "core/topology.h"
#include "core/watchdog.h"
#include "core/x86_boot.h"

struct board_type;
struct bus;
struct clock;
struct debug;
struct dev;
struct display;
struct err;
struct field_set;
struct irq_ctrl;
struct loop;
struct machine;
struct numa;
struct strbuf;
struct vcpu;

#define MACHINE_MAX_VCPUS 64
#define MACHINE_SMRAMS 2 /* behind the VGA's window, TSEG */

/* What the user asked for. Texts are borrowed and live as long as the machine. */
struct machine_config {
    const struct board_type *board;
    struct keyval board_args; /* -machine, without the type */
    struct keyval rtc_args;   /* -rtc */
    uint64_t ram_size;
    unsigned vcpus;
    struct topology topology; /* zeros: all vcpus are cores of one socket */
    const struct numa *numa;  /* NULL: no nodes */
    const char *cpu;          /* -cpu MODEL,...; NULL: the board's */
    const char *accel_args;   /* -accel tcg,...: what follows the name; or NULL */
    const char *kernel, *initrd, *append;
    const char *firmware, *firmware_dir; /* -bios, -L; NULL: the board's, the usual folders */
    const char *boot_order, *boot_once;  /* -boot order=, once=; or NULL */
    char *boot_order_devices;            /* by bootindex: firmware's names, a line each; or NULL.
                                          * Freed with the machine. */
    const struct keyval *fw_cfgs;        /* -fw_cfg: name, and file or string */
    size_t fw_cfg_count;
    const struct keyval *globals; /* -global: driver, property, value */
    size_t global_count;
    bool boot_menu;
    bool boot_strict; /* nothing else than boot_order_devices */
    uint32_t boot_splash_ms;
    const char *name, *uuid;
    bool no_reboot, no_shutdown;
    enum watchdog_action watchdog; /* when the guest's expires */
};

/*
 * How vcpus are made and run: an ISA and an accelerator put together by the program. All on the
 * loop's thread.
 */
struct machine_cpus {
    /* Makes m->vcpu[index]; m->ic[index] exists. */
    int (*add)(struct machine *m, unsigned index, struct err *err);
    /* All to the reset state; vcpu 0 to m->boot. Not started yet, or parked. */
    void (*reset)(struct machine *m);
    int (*start)(struct machine *m, struct err *err); /* one thread each, parked */
    void (*park)(struct machine *m);                  /* returns when none runs guest code */
    void (*unpark)(struct machine *m);
    void (*debug_changed)(struct machine *m);            /* parked: m->debug, or its points */
    void (*info)(struct machine *m, struct strbuf *out); /* parked: statistics; may be NULL */
    void (*leave)(struct machine *m); /* the process ends: parks all, reports, frees nothing */
    void (*free)(struct machine *m);  /* ends the threads, frees m->vcpu[] */
};

enum machine_state { MACHINE_PAUSED, MACHINE_RUNNING, MACHINE_ENDED };

enum machine_request {
    MACHINE_REQ_NONE,
    MACHINE_REQ_RESET,    /* guest or user; ends the process under -no-reboot */
    MACHINE_REQ_POWEROFF, /* the guest switched itself off: status 0 */
    MACHINE_REQ_EXIT,     /* isa-debug-exit and the like: status in `exit_status` */
    MACHINE_REQ_QUIT,     /* user, signal: status 0 */
    MACHINE_REQ_CRASH,    /* triple fault: a reset, kept apart for messages */
};

/* A named thing devices refer to by text: chardevs, drives. `free` may be NULL. */
struct backend {
    const char *kind; /* "chardev", "drive" */
    char *id;
    void *obj;
    void (*free)(void *obj);
    bool taken; /* by a device */
    struct backend *next;
};

struct machine {
    struct machine_config config;
    const struct machine_cpus *cpus; /* NULL: a machine without processors, in tests */
    struct loop *loop;
    struct clock *clock;
    struct ram_set ram;
    struct mem_map *mem; /* physical memory */
    struct mem_map *io;  /* port I/O, 64 KiB */
    struct dev *devs;    /* last made first */
    struct bus *buses;
    struct backend *backends;
    struct display *display; /* screens and input; NULL: none, in tests */

    const struct board_type *board;
    void *board_data; /* freed by the board's fini */

    /* ic[i] is made by the board and belongs to vcpu[i]. */
    void *cpus_data; /* of `cpus` */
    unsigned vcpu_count;
    struct vcpu *vcpu[MACHINE_MAX_VCPUS];
    struct irq_ctrl *ic[MACHINE_MAX_VCPUS];
    struct debug *debug;        /* NULL: no debugger */
    struct x86_boot_state boot; /* of vcpu 0; the others wait for SIPI */

    /* Memory that only vcpus in system management mode see, by the chipset: [start, end) is RAM at
     * the same offset of smram_ram. Empty ranges: none. */
    struct smram_range {
        _Atomic uint64_t start, end;
    } smram[MACHINE_SMRAMS];
    struct ram *smram_ram; /* set before any vcpu runs */

    _Atomic bool a20_off; /* processors' addresses lose bit 20; machine_set_a20() */

    pthread_mutex_t lock;
    enum machine_request request; /* by `lock`; the first one wins */
    int exit_status;
    enum machine_state state; /* loop thread */
    bool io_stopped;          /* paused because a disk failed; loop thread, as the others */
    bool was_run;             /* since the process started */
    bool watchdog_stopped;    /* paused because a watchdog expired */
    bool powered_off;         /* paused because the guest switched itself off: needs a reset */
};

struct board_type {
    const char *name, *summary;
    const char *version; /* another name, which stays what it is; or NULL */
    const char *default_cpu;
    uint64_t default_ram;
    unsigned max_vcpus;
    bool pci;                                    /* short options make PCI devices */
    unsigned ide_units;                          /* on each IDE bus; 0: no IDE */
    const struct prop *props;                    /* on the board's own data */
    size_t size;                                 /* of board_data */
    const struct field_set *state;               /* of board_data, with all chips */
    int (*init)(struct machine *, struct err *); /* memory, chips; vcpus too */
    int (*load)(struct machine *,
                struct err *); /* devices are there: tables, kernel; also at reset */
    void (*fini)(struct machine *);
    /* Both on the loop's thread, and may be NULL. */
    void (*power_button)(struct machine *);
    /* Interrupt controllers, or how many interrupts came on their lines. */
    void (*print_irqs)(struct machine *, bool counts, struct strbuf *out);
};

/*
 * In this order: machine_new(), backends, machine_build() (the board's memory, chips, vcpus),
 * -device devices, machine_load() (tables and kernel), cpus->reset() and cpus->start().
 */
struct machine *machine_new(const struct machine_config *config, struct loop *loop,
                            struct clock *clock, const struct machine_cpus *cpus);
int machine_build(struct machine *m, struct err *err);
int machine_load(struct machine *m, struct err *err);
void machine_free(struct machine *m);
/* In place of machine_free() when the process ends: devices, disks and chardevs are closed, memory
 * and threads are left to the host's kernel. */
void machine_leave(struct machine *m);

/* For boards: m->ic[m->vcpu_count] is set; counts one up. */
int machine_add_vcpu(struct machine *m, struct err *err);

/* Loop thread. Both may be called in either state. */
void machine_pause(struct machine *m);
/* A disk does not work and its policy is to stop: says so. Devices try again at the resume. */
void machine_pause_for_io(struct machine *m, const char *why);
void machine_resume(struct machine *m);

void machine_set_smram(struct machine *m, unsigned n, uint64_t start, uint64_t end);
/* An SMI for the vcpu whose thread this is, or for every one. */
void machine_smi(struct machine *m, bool all);

/* Whether the vcpu whose thread this is is in system management mode. */
bool machine_in_smm(const struct machine *m);

/* PCs' address line 20. Any thread; each vcpu acts on it before its next block. */
void machine_set_a20(struct machine *m, bool on);

/* Any thread, also a vcpu's own. The loop acts on it; the asking vcpu goes on until parked. */
void machine_ask(struct machine *m, enum machine_request request, int exit_status);

struct backend *machine_add_backend(struct machine *m, const char *kind, const char *id, void *obj,
                                    void (*free_fn)(void *));
struct backend *machine_find_backend(struct machine *m, const char *kind, const char *id);

#endif
