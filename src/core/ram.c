/* RAM blocks: anonymous host memory with large pages where the host gives them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "core/mem.h"

#define RAM_ALIGN (2ull << 20)
#define HOST_PAGE 4096ull

/* Aligned to 2 MiB, so that the host can use large pages. */
static uint8_t *ram_map(uint64_t size)
{
    uint64_t room;
    if (!add_ok(size, RAM_ALIGN, &room) || room > SIZE_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    uint8_t *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    uint64_t skip = round_up((uintptr_t)p, RAM_ALIGN) - (uintptr_t)p;
    if (skip) {
        munmap(p, skip);
    }
    if (RAM_ALIGN - skip) {
        munmap(p + skip + size, RAM_ALIGN - skip);
    }
    return p + skip;
}

struct ram *ram_set_add(struct ram_set *set, const char *name, uint64_t size, struct err *err)
{
    if (!size || size > 1ull << 46) {
        err_set(err, EINVAL, "cannot make guest memory '%s' of %llu bytes", name,
                (unsigned long long)size);
        return NULL;
    }
    size = round_up(size, 4096);
    uint8_t *host = ram_map(size);
    if (!host) {
        err_set(err, errno, "cannot get %llu MiB for guest memory '%s': %s",
                (unsigned long long)((size + (1 << 20) - 1) >> 20), name, strerror(errno));
        return NULL;
    }
    if (size > RAM_ALIGN) { /* the first piece holds little but is written at every start */
        madvise(host + RAM_ALIGN, size - RAM_ALIGN, MADV_HUGEPAGE);
    }
    madvise(host, size, MADV_DONTDUMP);
    struct ram *ram = alloc_zero(sizeof(*ram));
    ram->name = name;
    ram->host = host;
    ram->size = size;
    ram->base = set->next_base;
    set->next_base += round_up(size, RAM_ALIGN);
    struct ram **at = &set->first;
    while (*at) {
        at = &(*at)->next;
    }
    *at = ram;
    return ram;
}

void ram_set_free(struct ram_set *set)
{
    while (set->first) {
        struct ram *ram = set->first;
        set->first = ram->next;
        munmap(ram->host, ram->size);
        free(ram);
    }
}

struct ram *ram_set_find(const struct ram_set *set, ram_off_t off)
{
    struct ram *ram = set->first;
    while (ram && off - ram->base >= ram->size) {
        ram = ram->next;
    }
    return ram;
}

void ram_clear(struct ram *ram)
{
    if (madvise(ram->host, ram->size, MADV_DONTNEED)) {
        memset(ram->host, 0, ram->size);
    }
    if (ram->code_pages) {
        ram->code_written(ram->code_opaque, ram->base, ram->size);
    }
}

void ram_discard(struct ram *ram, uint64_t off, uint64_t len)
{
    uint64_t first = round_up(off, HOST_PAGE), end = round_down(off + len, HOST_PAGE);
    if (first >= end) {
        return;
    }
    uint8_t *host = ram->host + first;
    if (madvise(host, end - first, MADV_DONTNEED)) {
        memset(host, 0, end - first);
    }
    struct gmem_span span = {host, end - first, ram, first};
    gmem_wrote(&span); /* code that was translated from there is no more */
}
