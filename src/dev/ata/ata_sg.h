/*
 * A list of pieces of guest memory, walked once: the PRD tables of bus masters and AHCI. The
 * cursor is a plain value; a copy of it remembers a place.
 */
#ifndef DEV_ATA_ATA_SG_H
#define DEV_ATA_ATA_SG_H

#include <sys/uio.h>

#include "core/mem.h"

struct ata_sg;
/* The entry `index`: false if it cannot be read. Length 0 is none. */
typedef bool ata_sg_entry_fn(const struct ata_sg *sg, uint32_t index, gpa_t *gpa, uint32_t *len,
                             bool *last);

struct ata_sg {
    struct mem_map *mem;
    ata_sg_entry_fn *entry;
    gpa_t table;
    uint32_t index, count; /* next entry; how many there may be at most */
    bool last;             /* the entry at hand said so */
    gpa_t gpa;
    uint32_t len; /* what is left of it */
};

enum { SG_SPANS = 64 };

struct ata_sg_spans {
    struct iovec iov[SG_SPANS];
    struct gmem_span span[SG_SPANS];
    unsigned n;
};

/* 0, -EFAULT: not RAM, -ENOBUFS: the list is too short. `done` gets what was moved. */
int ata_sg_copy(struct ata_sg *sg, uint8_t *buf, uint64_t len, bool to_guest, uint64_t *done);
/* The next `len` bytes as host memory; false: not in that few pieces, or not all RAM. */
bool ata_sg_map(struct ata_sg *sg, uint64_t len, struct ata_sg_spans *spans);
void ata_sg_wrote(const struct ata_sg_spans *spans);
bool ata_sg_ended(const struct ata_sg *sg); /* nothing left */

#endif
