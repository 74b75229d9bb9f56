/*
 * A run of bytes that lies in several places: a view of an iovec array. Parts of it are views,
 * too, and cost nothing.
 */
#ifndef BLOCK_IOVS_H
#define BLOCK_IOVS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct iovs {
    const struct iovec *v;
    unsigned n;
    size_t skip; /* bytes of v[0] that are not part of it */
    uint64_t len;
};

struct iovs iovs_of(const struct iovec *v, unsigned n); /* all of them */
/* A view of one buffer; `hold` has to live as long as the view. */
struct iovs iovs_buf(struct iovec *hold, void *buf, size_t len);
struct iovs iovs_part(const struct iovs *q, uint64_t off, uint64_t len);

/* Fills at most `max` vectors from the front; returns how many, their bytes in *bytes. */
unsigned iovs_list(const struct iovs *q, struct iovec *out, unsigned max, uint64_t *bytes);

void iovs_get(const struct iovs *q, uint64_t off, void *buf, size_t len); /* out of it */
void iovs_put(const struct iovs *q, uint64_t off, const void *buf, size_t len);
void iovs_zero(const struct iovs *q, uint64_t off, uint64_t len);
bool iovs_is_zero(const struct iovs *q);
/* The bytes if they lie in one piece, else NULL. */
void *iovs_flat(const struct iovs *q);

bool mem_is_zero(const void *at, size_t len);

#endif
