/* Code memory; see codemem.h. Where double mapping is refused, one mapping changes protection. */
#include "jit/codemem.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"

static uint8_t *map_view(uint8_t *want, size_t size, int prot, int fd)
{
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED | MAP_NORESERVE;
    void *p = mmap(want, size, prot, flags, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

static bool map_twice(struct codemem *cm)
{
    int fd = memfd_create("jit", MFD_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    if (ftruncate(fd, (off_t)cm->size) == 0) {
        cm->rw = map_view(NULL, cm->size, PROT_READ | PROT_WRITE, fd);
        cm->rx = map_view(NULL, cm->size, PROT_READ | PROT_EXEC, fd);
    }
    close(fd);
    if (cm->rw && cm->rx) {
        return true;
    }
    codemem_close(cm);
    return false;
}

static uint8_t *page_down(uint8_t *p)
{
    return p - ((uintptr_t)p & (RT_PAGE_SIZE - 1));
}

static void enter_arena(struct codemem *cm, unsigned arena)
{
    uint8_t *base = cm->rw + (size_t)arena * CODEMEM_ARENA;
    size_t hot = arena == 0 ? cm->keep_hot : 0;
    size_t cold = arena == 0 ? cm->keep_cold : 0;
    cm->arena = arena;
    cm->cur = (struct ir_codebuf){
        .hot = base + hot,
        .hot_end = base + CODEMEM_HOT,
        .cold = base + CODEMEM_HOT + cold,
        .cold_end = base + CODEMEM_ARENA,
        .data = cm->data + (size_t)arena * CODEMEM_DATA,
        .data_end = cm->data + (size_t)(arena + 1) * CODEMEM_DATA,
        .data_base = cm->data,
        .to_rx = cm->rx - cm->rw,
    };
    cm->data_ready = cm->cur.data;
    cm->hot_ready = page_down(cm->cur.hot);
    cm->cold_ready = page_down(cm->cur.cold);
}

/* One call instead of a fault per page and view; may fail, no matter. */
static void populate(uint8_t **ready, const uint8_t *at, const uint8_t *end, ptrdiff_t to_rx,
                     size_t chunk)
{
#ifdef MADV_POPULATE_WRITE
    while (*ready < end && at + CODEMEM_AHEAD > *ready) {
        size_t n = (size_t)(end - *ready);
        n = n < chunk ? n : chunk;
        madvise(*ready, n, MADV_POPULATE_WRITE);
        if (to_rx) {
            madvise(*ready + to_rx, n, MADV_POPULATE_READ);
        }
        *ready += n;
    }
#endif
}

static size_t data_bytes(const struct codemem *cm)
{
    return (size_t)cm->narenas * CODEMEM_DATA;
}

int codemem_open(struct codemem *cm, size_t size, struct err *err)
{
    assert(size >= 2 * CODEMEM_ARENA && size % CODEMEM_ARENA == 0);
    *cm = (struct codemem){.size = size, .narenas = (unsigned)(size / CODEMEM_ARENA)};
    if (!map_twice(cm)) {
        cm->size = size;
        cm->rw = cm->rx = map_view(NULL, size, PROT_READ | PROT_WRITE, -1);
    }
    cm->data = map_view(NULL, data_bytes(cm), PROT_READ | PROT_WRITE, -1);
    if (!cm->rw || !cm->data) {
        int e = errno;
        codemem_close(cm);
        return err_set(err, e, "cannot get %zu MiB of memory for generated code: %s", size >> 20,
                       strerror(e));
    }
    cm->nused = cm->narenas < CODEMEM_FIRST ? cm->narenas : CODEMEM_FIRST;
    cm->next = 1;
    enter_arena(cm, 0);
    return 0;
}

void codemem_close(struct codemem *cm)
{
    if (cm->rx && cm->rx != cm->rw) {
        munmap(cm->rx, cm->size);
    }
    if (cm->rw) {
        munmap(cm->rw, cm->size);
    }
    if (cm->data) {
        munmap(cm->data, data_bytes(cm));
    }
    cm->rw = cm->rx = cm->data = NULL;
}

bool codemem_has_room(const struct codemem *cm)
{
    return cm->cur.hot_end - cm->cur.hot >= (ptrdiff_t)IR_HOT_ROOM &&
           cm->cur.cold_end - cm->cur.cold >= (ptrdiff_t)IR_COLD_ROOM &&
           cm->cur.data_end - cm->cur.data >= (ptrdiff_t)IR_DATA_ROOM;
}

unsigned codemem_next(const struct codemem *cm)
{
    return cm->grew ? cm->nused - 1 : cm->next;
}

void codemem_grow(struct codemem *cm)
{
    if (cm->nused < cm->narenas && !cm->grew) {
        cm->nused++;
        cm->grew = true;
    }
}

void codemem_advance(struct codemem *cm)
{
    unsigned to = codemem_next(cm);
    if (!cm->grew) {
        cm->next = (cm->next + 1) % cm->nused;
    }
    cm->grew = false;
    enter_arena(cm, to);
}

void codemem_keep(struct codemem *cm)
{
    assert(cm->arena == 0 && cm->next == 1);
    cm->keep_hot = (size_t)(cm->cur.hot - cm->rw);
    cm->keep_cold = (size_t)(cm->cur.cold - cm->rw) - CODEMEM_HOT;
    cm->cold_ready = page_down(cm->cur.cold); /* what is kept there is for later */
}

unsigned codemem_arena_of(const struct codemem *cm, const void *rw)
{
    return (unsigned)((size_t)((const uint8_t *)rw - cm->rw) / CODEMEM_ARENA);
}

void codemem_begin_write(struct codemem *cm)
{
    struct ir_codebuf *c = &cm->cur;
    bool first = !cm->keep_hot; /* stubs come first, and are more than a chunk, all hot */
    populate(&cm->hot_ready, c->hot, c->hot_end, c->to_rx, CODEMEM_CHUNK << 2 * first);
    if (!first) {
        populate(&cm->cold_ready, c->cold, c->cold_end, c->to_rx, CODEMEM_CHUNK);
        populate(&cm->data_ready, c->data, c->data_end, 0, CODEMEM_CHUNK);
    }
    if (cm->rx == cm->rw) {
        mprotect(cm->rw, cm->size, PROT_READ | PROT_WRITE);
    }
}

void codemem_end_write(struct codemem *cm)
{
    if (cm->rx == cm->rw) {
        mprotect(cm->rw, cm->size, PROT_READ | PROT_EXEC);
    }
}
