/* Views of iovec arrays. */
#include "block/iovs.h"

#include <assert.h>
#include <string.h>

struct iovs iovs_of(const struct iovec *v, unsigned n)
{
    struct iovs q = {v, n, 0, 0};
    for (unsigned i = 0; i < n; i++) {
        q.len += v[i].iov_len;
    }
    return q;
}

struct iovs iovs_buf(struct iovec *hold, void *buf, size_t len)
{
    *hold = (struct iovec){buf, len};
    return (struct iovs){hold, 1, 0, len};
}

struct iovs iovs_part(const struct iovs *q, uint64_t off, uint64_t len)
{
    assert(off <= q->len && len <= q->len - off);
    struct iovs part = {q->v, q->n, q->skip, len};
    off += part.skip;
    while (part.n && off >= part.v->iov_len) {
        off -= part.v->iov_len;
        part.v++;
        part.n--;
    }
    part.skip = off;
    return part;
}

unsigned iovs_list(const struct iovs *q, struct iovec *out, unsigned max, uint64_t *bytes)
{
    unsigned n = 0;
    uint64_t left = q->len;
    size_t skip = q->skip;
    for (unsigned i = 0; i < q->n && left && n < max; i++) {
        size_t piece = q->v[i].iov_len - skip;
        piece = piece < left ? piece : left;
        if (piece) {
            out[n++] = (struct iovec){(char *)q->v[i].iov_base + skip, piece};
        }
        left -= piece;
        skip = 0;
    }
    *bytes = q->len - left;
    return n;
}

/* Calls fn for each contiguous piece until it says false. */
static void iovs_each(const struct iovs *q, bool (*fn)(void *opaque, void *at, size_t len),
                      void *opaque)
{
    uint64_t left = q->len;
    size_t skip = q->skip;
    for (unsigned i = 0; i < q->n && left; i++) {
        size_t piece = q->v[i].iov_len - skip;
        piece = piece < left ? piece : left;
        if (piece && !fn(opaque, (char *)q->v[i].iov_base + skip, piece)) {
            return;
        }
        left -= piece;
        skip = 0;
    }
}

static bool piece_get(void *opaque, void *at, size_t len)
{
    char **to = opaque;
    memcpy(*to, at, len);
    *to += len;
    return true;
}

static bool piece_put(void *opaque, void *at, size_t len)
{
    const char **from = opaque;
    memcpy(at, *from, len);
    *from += len;
    return true;
}

static bool piece_zero(void *opaque, void *at, size_t len)
{
    memset(at, 0, len);
    return true;
}

static bool piece_is_zero(void *opaque, void *at, size_t len)
{
    return *(bool *)opaque = mem_is_zero(at, len);
}

void iovs_get(const struct iovs *q, uint64_t off, void *buf, size_t len)
{
    struct iovs part = iovs_part(q, off, len);
    iovs_each(&part, piece_get, &buf);
}

void iovs_put(const struct iovs *q, uint64_t off, const void *buf, size_t len)
{
    struct iovs part = iovs_part(q, off, len);
    iovs_each(&part, piece_put, &buf);
}

void iovs_zero(const struct iovs *q, uint64_t off, uint64_t len)
{
    struct iovs part = iovs_part(q, off, len);
    iovs_each(&part, piece_zero, NULL);
}

bool iovs_is_zero(const struct iovs *q)
{
    bool zero = true;
    iovs_each(q, piece_is_zero, &zero);
    return zero;
}

void *iovs_flat(const struct iovs *q)
{
    unsigned i = 0;
    size_t skip = q->skip;
    while (i < q->n && q->v[i].iov_len == skip) {
        skip = 0;
        i++;
    }
    return i < q->n && q->v[i].iov_len - skip >= q->len ? (char *)q->v[i].iov_base + skip : NULL;
}

/* Overlapping memcmp: as fast as the C library's. */
bool mem_is_zero(const void *at, size_t len)
{
    const uint8_t *p = at;
    size_t head = len < 16 ? len : 16;
    for (size_t i = 0; i < head; i++) {
        if (p[i]) {
            return false;
        }
    }
    return len <= 16 || !memcmp(p, p + 16, len - 16);
}
