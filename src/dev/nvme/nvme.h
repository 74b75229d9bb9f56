/* An NVM Express controller with one namespace: the core, and "nvme" as a PCI device. */
#ifndef DEV_NVME_NVME_H
#define DEV_NVME_NVME_H

#include <pthread.h>

#include "core/device.h"
#include "core/mem.h"
#include "dev/storage/disk.h"

enum {
    NVME_QUEUES = 17, /* the admin queue is 0 */
    NVME_QUEUE_ENTRIES = 1024,
    NVME_REGS_SIZE = 0x2000,
    NVME_AERS = 4,
    NVME_FEATURES = 12,
};

struct nvme_req;

/* What the controller is wired to. Any device lock may be held. */
struct nvme_wires {
    struct mem_map *(*dma)(void *opaque); /* NULL while the controller may not use memory */
    bool (*msix)(void *opaque);
    void (*notify)(void *opaque, unsigned vector);
    void (*set_line)(void *opaque, bool level);
};

struct nvme_sq {
    bool on;
    gpa_t base;
    uint32_t size, head, tail; /* entries */
    unsigned cq;
    unsigned flying;
    struct nvme_req *deleter; /* the command that waits until nothing of this queue flies */
};

struct nvme_cq {
    bool on, interrupts, phase;
    gpa_t base;
    uint32_t size, head, tail;
    uint16_t vector;
    unsigned users;                          /* submission queues */
    struct nvme_req *waiting, **waiting_end; /* completions that there is no room for */
};

struct nvme {
    const struct nvme_wires *wires;
    void *opaque;
    const char *serial;
    unsigned max_queues; /* I/O queues of each kind */
    struct disk disk;
    pthread_mutex_t lock; /* all below */
    uint32_t intms, cc, csts, aqa;
    uint64_t asq, acq;
    bool resetting, quiet, level, fetching;
    struct nvme_sq sq[NVME_QUEUES];
    struct nvme_cq cq[NVME_QUEUES];
    unsigned next_sq;
    uint32_t feature[NVME_FEATURES];
    uint32_t interrupt_config; /* a bit for each vector: coalescing disabled */
    uint16_t aer[NVME_AERS];   /* command identifiers */
    unsigned aers;
    unsigned flying, requests; /* jobs at work; requests that are not free */
    struct nvme_req *spares;   /* made when first needed */
    uint64_t read_units, written_units, reads, writes; /* for the log */
};

void nvme_init(struct nvme *n, const struct nvme_wires *wires, void *opaque, const char *serial,
               unsigned max_queues);
void nvme_reset(struct nvme *n); /* nothing flies afterwards */
void nvme_quiesce(struct nvme *n);
void nvme_resume(struct nvme *n);
void nvme_fini(struct nvme *n); /* after disk_fini() */

extern const struct mmio nvme_regs; /* dev: struct nvme */
extern const struct dev_type nvme_type;

extern const struct field_set nvme_fields; /* struct nvme */

#endif
