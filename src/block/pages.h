/*
 * Tables of an image, read where they are looked at: memory is bounded whatever length an image
 * gives its tables. Drivers keep one for each file. In coroutines.
 */
#ifndef BLOCK_PAGES_H
#define BLOCK_PAGES_H

#include <stdint.h>

#include "loop/co.h"

struct block;

enum {
    PAGE_BYTES = 16 << 10,
    PAGES_KEPT = 16,
    /* Entries that one call of a driver's extent() looks at: a guest or client waits for it. */
    EXTENT_STEPS = 16 << 10,
};

struct page {
    uint64_t number, used; /* used 0: empty */
    uint8_t *bytes;
};

struct pages { /* all zero but for the file */
    struct block *file;
    struct page kept[PAGES_KEPT];
    uint64_t clock;
    struct co_lock lock;
};

void pages_free(struct pages *p);
int pages_read(struct pages *p, uint64_t off, void *buf, unsigned len);
/* To the file, and to what is kept of it. */
int pages_write(struct pages *p, uint64_t off, const void *buf, unsigned len);

int pages_le32(struct pages *p, uint64_t off, uint32_t *val);
int pages_le64(struct pages *p, uint64_t off, uint64_t *val);
int pages_be32(struct pages *p, uint64_t off, uint32_t *val);

#endif
