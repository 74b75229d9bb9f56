/* Accesses through the flat view: loads and stores, DMA, lookups for translators. */
#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "base/endian.h"
#include "core/mem_internal.h"

/* In one view, which may be in the middle of being made anew: what is found is used only if it was
 * not. `e` is the extent, or with false the hole. */
static bool mem_search(const struct mem_map *map, const struct mem_view *view, gpa_t gpa,
                       struct mem_ext *e)
{
    size_t count = view->count <= view->room ? view->count : 0, lo = 0, hi = count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (view->ext[mid].last < gpa) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lo < count && view->ext[lo].start <= gpa) {
        *e = view->ext[lo];
        return true;
    }
    e->start = lo ? view->ext[lo - 1].last + 1 : 0;
    e->last = lo < count ? view->ext[lo].start - 1 : map->last;
    return false;
}

/* A copy of the extent that holds gpa; false: of the hole (start and last only). */
static bool mem_find(struct mem_map *map, gpa_t gpa, struct mem_ext *e)
{
    for (;;) {
        const struct mem_view *view = atomic_load_explicit(&map->view, memory_order_acquire);
        uint64_t turn = atomic_load_explicit(&view->turn, memory_order_acquire);
        bool found = mem_search(map, view, gpa, e);
        atomic_thread_fence(memory_order_acquire);
        if (!(turn & 1) && atomic_load_explicit(&view->turn, memory_order_relaxed) == turn) {
            return found;
        }
    }
}

bool mem_lookup(struct mem_map *map, gpa_t gpa, struct mem_hit *hit)
{
    struct mem_ext found, *e = &found;
    memset(hit, 0, sizeof(*hit));
    bool there = mem_find(map, gpa, e);
    hit->start = e->start;
    hit->last = e->last;
    if (!there) {
        return false;
    }
    uint64_t off = e->off + (gpa - e->start);
    if (e->node == MEM_NODE_MMIO) {
        hit->kind = MEM_KIND_MMIO;
        hit->ops = e->ops;
        hit->dev = e->dev;
        hit->dev_off = off;
        return true;
    }
    hit->kind = e->node == MEM_NODE_RAM ? MEM_KIND_RAM : MEM_KIND_ROM;
    hit->writable = e->node == MEM_NODE_RAM;
    hit->ram = e->ram;
    hit->host = e->ram->host + off;
    hit->off = e->ram->base + off;
    return true;
}

static uint64_t host_load(const uint8_t *p, unsigned size)
{
    switch (size) {
    case 1: return *p;
    case 2: return load_le16(p);
    case 4: return load_le32(p);
    default: return load_le64(p);
    }
}

static void host_store(uint8_t *p, unsigned size, uint64_t val)
{
    switch (size) {
    case 1: *p = (uint8_t)val; break;
    case 2: store_le16(p, (uint16_t)val); break;
    case 4: store_le32(p, (uint32_t)val); break;
    default: store_le64(p, val);
    }
}

static bool ram_page_has_code(const struct ram *ram, uint64_t page)
{
    const _Atomic uint8_t *at = ram->code_pages + page * ram->code_stride;
    for (unsigned i = 0; i < ram->code_stride; i++) {
        if (atomic_load_explicit(&at[i], memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

void ram_wrote(struct ram *ram, uint64_t off, uint64_t len)
{
    if (!ram->code_pages || !len) {
        return;
    }
    /* Who is about to translate sets its bit, then reads the bytes (C2): one of both is seen. */
    atomic_thread_fence(memory_order_seq_cst);
    for (uint64_t page = off >> 12; page <= (off + len - 1) >> 12; page++) {
        if (ram_page_has_code(ram, page)) {
            ram->code_written(ram->code_opaque, ram->base + off, len);
            return;
        }
    }
}

static uint64_t ones(unsigned size)
{
    return size >= 8 ? ~0ull : (1ull << size * 8) - 1;
}

/* The largest naturally aligned piece at `off`, at most `left` and `max` bytes. */
static unsigned piece_size(uint64_t off, unsigned left, unsigned max)
{
    unsigned n = max;
    while (n > left || (off & (n - 1))) {
        n >>= 1;
    }
    return n;
}

static enum mem_result mmio_read_piece(const struct mem_ext *e, uint64_t off, unsigned n,
                                       uint64_t *val)
{
    uint64_t v = 0;
    if (n >= e->ops->min) {
        enum mem_result res = e->ops->read(e->dev, off, n, &v);
        *val = (res == MEM_OK ? v : ~0ull) & ones(n);
        return res;
    }
    uint64_t at = off & ~(uint64_t)(e->ops->min - 1);
    enum mem_result res = e->ops->read(e->dev, at, e->ops->min, &v);
    *val = (res == MEM_OK ? v >> (off - at) * 8 : ~0ull) & ones(n);
    return res;
}

static enum mem_result mmio_read(const struct mem_ext *e, uint64_t off, unsigned size,
                                 uint64_t *val)
{
    enum mem_result all = MEM_OK;
    uint64_t sum = 0;
    for (unsigned done = 0, n; done < size; done += n) {
        uint64_t v;
        n = piece_size(off + done, size - done, e->ops->max);
        enum mem_result res = mmio_read_piece(e, off + done, n, &v);
        sum |= v << done * 8;
        all = res == MEM_OK ? all : res;
    }
    *val = sum;
    return all;
}

static enum mem_result mmio_write(const struct mem_ext *e, uint64_t off, unsigned size,
                                  uint64_t val)
{
    enum mem_result all = MEM_OK;
    for (unsigned done = 0, n; done < size; done += n) {
        n = piece_size(off + done, size - done, e->ops->max);
        enum mem_result res = MEM_REFUSED;
        if (n >= e->ops->min) {
            res = e->ops->write(e->dev, off + done, n, (val >> done * 8) & ones(n));
        }
        all = res == MEM_OK ? all : res;
    }
    return all;
}

/* An access that leaves its extent, or its hole: byte by byte. */
static enum mem_result mem_read_bytes(struct mem_map *map, gpa_t gpa, unsigned size, uint64_t *val)
{
    enum mem_result all = MEM_OK;
    uint64_t sum = 0;
    for (unsigned i = 0; i < size; i++) {
        uint64_t v = 0xff;
        enum mem_result res = mem_read(map, gpa + i, 1, &v);
        sum |= (v & 0xff) << i * 8;
        all = res == MEM_OK ? all : res;
    }
    *val = sum;
    return all;
}

enum mem_result mem_read(struct mem_map *map, gpa_t gpa, unsigned size, uint64_t *val)
{
    struct mem_ext found, *e = &found;
    bool there = mem_find(map, gpa, e);
    if (e->last - gpa < size - 1) {
        return mem_read_bytes(map, gpa, size, val);
    }
    if (!there) {
        *val = ones(size);
        return MEM_NONE;
    }
    uint64_t off = e->off + (gpa - e->start);
    if (e->node == MEM_NODE_MMIO) {
        return mmio_read(e, off, size, val);
    }
    *val = host_load(e->ram->host + off, size);
    return MEM_OK;
}

static enum mem_result mem_write_bytes(struct mem_map *map, gpa_t gpa, unsigned size, uint64_t val)
{
    enum mem_result all = MEM_OK;
    for (unsigned i = 0; i < size; i++) {
        enum mem_result res = mem_write(map, gpa + i, 1, (val >> i * 8) & 0xff);
        all = res == MEM_OK ? all : res;
    }
    return all;
}

enum mem_result mem_write(struct mem_map *map, gpa_t gpa, unsigned size, uint64_t val)
{
    struct mem_ext found, *e = &found;
    bool there = mem_find(map, gpa, e);
    if (e->last - gpa < size - 1) {
        return mem_write_bytes(map, gpa, size, val);
    }
    if (!there) {
        return MEM_NONE;
    }
    uint64_t off = e->off + (gpa - e->start);
    if (e->node == MEM_NODE_MMIO) {
        return mmio_write(e, off, size, val);
    }
    if (e->node == MEM_NODE_ROM) {
        return e->ops ? mmio_write(e, off - e->ram_off, size, val) : MEM_READONLY;
    }
    host_store(e->ram->host + off, size, val);
    ram_wrote(e->ram, off, size);
    return MEM_OK;
}

/* ---- Bulk ---- */

bool gmem_span(struct mem_map *map, gpa_t gpa, uint64_t len, struct gmem_span *span)
{
    struct mem_ext found, *e = &found;
    if (!mem_find(map, gpa, e) || e->node != MEM_NODE_RAM || !len) {
        return false;
    }
    uint64_t off = e->off + (gpa - e->start);
    span->host = e->ram->host + off;
    span->len = e->last - gpa < len - 1 ? e->last - gpa + 1 : len;
    span->ram = e->ram;
    span->off = off;
    return true;
}

void gmem_wrote(const struct gmem_span *span)
{
    ram_wrote(span->ram, span->off, span->len);
}

/* Whether all of gpa..gpa+len-1 is RAM (or ROM, if allowed). */
static bool gmem_check(struct mem_map *map, gpa_t gpa, uint64_t len, bool rom_too)
{
    if (len && gpa + (len - 1) < gpa) {
        return false;
    }
    while (len) {
        struct mem_ext found, *e = &found;
        if (!mem_find(map, gpa, e) ||
            !(e->node == MEM_NODE_RAM || (rom_too && e->node == MEM_NODE_ROM))) {
            return false;
        }
        if (e->last - gpa >= len - 1) {
            return true;
        }
        uint64_t n = e->last - gpa + 1;
        gpa += n;
        len -= n;
    }
    return true;
}

bool gmem_read(struct mem_map *map, gpa_t gpa, void *buf, uint64_t len)
{
    if (!gmem_check(map, gpa, len, true)) {
        return false;
    }
    uint8_t *to = buf;
    while (len) {
        struct mem_ext found, *e = &found;
        if (!mem_find(map, gpa, e) || e->node == MEM_NODE_MMIO) {
            return false; /* the map changed in between */
        }
        uint64_t n = e->last - gpa < len - 1 ? e->last - gpa + 1 : len;
        memcpy(to, e->ram->host + e->off + (gpa - e->start), n);
        to += n;
        gpa += n;
        len -= n;
    }
    return true;
}

bool gmem_write(struct mem_map *map, gpa_t gpa, const void *buf, uint64_t len)
{
    if (!gmem_check(map, gpa, len, false)) {
        return false;
    }
    const uint8_t *from = buf;
    struct gmem_span span;
    for (; len; from += span.len, gpa += span.len, len -= span.len) {
        if (!gmem_span(map, gpa, len, &span)) {
            return false;
        }
        memcpy(span.host, from, span.len);
        gmem_wrote(&span);
    }
    return true;
}

bool gmem_fill(struct mem_map *map, gpa_t gpa, uint8_t byte, uint64_t len)
{
    if (!gmem_check(map, gpa, len, false)) {
        return false;
    }
    struct gmem_span span;
    for (; len; gpa += span.len, len -= span.len) {
        if (!gmem_span(map, gpa, len, &span)) {
            return false;
        }
        memset(span.host, byte, span.len);
        gmem_wrote(&span);
    }
    return true;
}

bool gmem_discard(struct mem_map *map, gpa_t gpa, uint64_t len)
{
    struct gmem_span span;
    if (!gmem_span(map, gpa, len, &span) || span.len != len) {
        return false;
    }
    ram_discard(span.ram, span.off, len);
    return true;
}
